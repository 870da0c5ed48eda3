"""The images: official ones where they can be pulled, else the same programs built here from package registries.

One set of KAFKA_* variables serves both Kafka images: the local one starts through `kafka.docker.KafkaDockerWrapper`,
which is inside Kafka's own jar. A tag carries a hash of the recipe, so a changed recipe is a new image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tempfile
import time
from pathlib import Path

import requests

from containers.daemon import DockerException, ImageNotFound, connected, ensure_daemon
from containers.host import ContainerGroundError, cache, installed, locked, may_install, run, say, step

KAFKA_OFFICIAL = "apache/kafka:4.3.1"
REDIS_OFFICIAL = "redis:7"
PYTHON_OFFICIAL = "python:3.11-slim"

# The newest one that the Go of Debian 12 builds.
TOXIPROXY_VERSION = "2.7.0"
TOXIPROXY_MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{TOXIPROXY_VERSION}"

RECIPES = Path(__file__).parent
PROBE_TIMEOUT_S = 20
PULL_TIMEOUT_S = 1800
NOT_PULLABLE_FOR_S = 24 * 3600.0


def ensure_kafka_image() -> str:
    """Give the name of a Kafka image that stands on this machine: $KAFKA_IMAGE, the official one, or one built here."""
    return ensured("KAFKA_IMAGE", KAFKA_OFFICIAL, "kafka")


def ensure_redis_image() -> str:
    """Give the name of a Redis image that stands on this machine: $REDIS_IMAGE, the official one, or one built here."""
    return ensured("REDIS_IMAGE", REDIS_OFFICIAL, "redis")


def ensure_python_image() -> str:
    """Give the name of a Python image for the services' image: $SERVICES_BASE, the official one, or one built here."""
    return ensured("SERVICES_BASE", PYTHON_OFFICIAL, "python")


def ensure_toxiproxy_image() -> str:
    """Give the name of a Toxiproxy image that stands on this machine: $TOXIPROXY_IMAGE, or one built here."""
    ensure_daemon()
    named = os.environ.get("TOXIPROXY_IMAGE")
    if named:
        return named
    local = f"shadowstream/toxiproxy:{TOXIPROXY_VERSION}-{fingerprint(RECIPES / 'toxiproxy')}"
    if not present(local):
        with locked("images"):
            if not present(local):
                build_toxiproxy(local)
    return local


def ensured(variable: str, official: str, recipe: str) -> str:
    """Give the image that the variable names, else the official one if it can be had, else the one built here."""
    ensure_daemon()
    named = os.environ.get(variable)
    if named:
        return named
    if present(official):
        return official
    local = f"shadowstream/{recipe}:{official.partition(':')[2]}-{fingerprint(RECIPES / recipe)}"
    if refused_lately(official) and present(local):
        return local
    with locked("images"):
        if pulled(official):
            return official
        if not present(local):
            build(local, recipe)
    return local


# --- the official image --------------------------------------------------------------------------------------------


def present(image: str) -> bool:
    """Say whether the daemon has this image."""
    with connected(PROBE_TIMEOUT_S) as daemon:
        try:
            daemon.images.get(image)
        except ImageNotFound:
            return False
        return True


def pulled(image: str) -> bool:
    """Pull the image where its registry can be reached; a refusal is remembered for a day."""
    if present(image):
        return True
    if refused_lately(image):
        return False
    if not reachable(image):
        remembered(image).touch()
        say(f"{image} cannot be pulled here, so it is built here; remembered for a day in {remembered(image)}")
        return False
    with step(f"pulling {image}"), connected(PULL_TIMEOUT_S) as daemon:
        daemon.images.pull(image)
    return True


def reachable(image: str) -> bool:
    """Ask the image's registry for its description, which is small, within a short bound."""
    with step(f"asking for {image}"), connected(PROBE_TIMEOUT_S) as daemon:
        try:
            daemon.images.get_registry_data(image)
        except (DockerException, requests.RequestException):
            return False
        return True


def remembered(image: str) -> Path:
    """Give the file whose age says when this image was last refused."""
    folder = cache() / "not-pullable"
    folder.mkdir(exist_ok=True)
    return folder / image.replace("/", "_").replace(":", "_")


def refused_lately(image: str) -> bool:
    """Say whether a pull of this image was refused within the last day."""
    try:
        return time.time() - remembered(image).stat().st_mtime < NOT_PULLABLE_FOR_S
    except FileNotFoundError:
        return False


# --- the image built here ------------------------------------------------------------------------------------------


def fingerprint(folder: Path) -> str:
    """Give a short hash of every file of a recipe and of what it stands on."""
    digest = hashlib.sha256(suite().encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:10]


def build(tag: str, recipe: str) -> None:
    """Build one image from its recipe's folder, on a Debian that is made here too."""
    if not may_install():
        raise ContainerGroundError(
            f"the official image for {recipe} cannot be pulled, and building one here takes root on Debian or Ubuntu. "
            "Give the machine a registry, or name an image that it has in KAFKA_IMAGE, REDIS_IMAGE or SERVICES_BASE"
        )
    base = ensure_base()
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f"build-{recipe}-") as made:
        context = Path(made) / recipe
        shutil.copytree(RECIPES / recipe, context)
        lay_beside(context, recipe)
        with step(f"building {tag}"):
            options = ["--force-rm", "--network", "host", "--build-arg", f"BASE={base}", "--tag", tag]
            run(["docker", "build", *options, str(context)])


def build_toxiproxy(tag: str) -> None:
    """Build the proxy's image from its one program; it stands on no system, so this takes neither root nor Debian."""
    with tempfile.TemporaryDirectory(dir=cache(), prefix="build-toxiproxy-") as made:
        context = Path(made) / "toxiproxy"
        shutil.copytree(RECIPES / "toxiproxy", context)
        shutil.copy(ensure_toxiproxy(), context / "server")
        with step(f"building {tag}"):
            run(["docker", "build", "--force-rm", "--tag", tag, str(context)])


def ensure_toxiproxy() -> Path:
    """Give Toxiproxy's program, compiled once by Go from its module."""
    kept = cache() / f"toxiproxy-{TOXIPROXY_VERSION}"
    if kept.exists():
        return kept
    installed("go", "golang-go")
    with tempfile.TemporaryDirectory(dir=cache(), prefix="go-") as made:
        with step(f"compiling Toxiproxy {TOXIPROXY_VERSION} with Go"):
            run(["go", "install", "-trimpath", TOXIPROXY_MODULE], env={"CGO_ENABLED": "0", "GOBIN": made})
        Path(made, "server").rename(kept)
    return kept


def lay_beside(context: Path, recipe: str) -> None:
    """Lay what the recipe's Dockerfile copies, and the repository does not hold, into the build context."""
    if recipe == "kafka":
        shutil.copytree(ensure_jars(), context / "libs", copy_function=os.link)
    elif recipe == "python":
        trusted = ssl.get_default_verify_paths()
        bundle = os.environ.get("SSL_CERT_FILE") or trusted.cafile or trusted.openssl_cafile
        shutil.copy(bundle, context / "ca-certificates.crt")


def ensure_jars() -> Path:
    """Give the folder with Kafka's jars, fetched once through Maven."""
    pom = RECIPES / "kafka" / "pom.xml"
    folder = cache() / f"kafka-jars-{hashlib.sha256(pom.read_bytes()).hexdigest()[:10]}"
    if folder.exists():
        return folder
    installed("mvn", "maven")
    with tempfile.TemporaryDirectory(dir=cache(), prefix="jars-") as made, step("fetching Kafka's jars through Maven"):
        # Maven writes a `target` beside the pom it reads: read a copy.
        copy = Path(shutil.copy(pom, made))
        run(["mvn", "-q", "-B", "-f", str(copy), "dependency:copy-dependencies", f"-DoutputDirectory={made}/jars"])
        Path(made, "jars").rename(folder)
    return folder


def ensure_base() -> str:
    """Give the name of the Debian image that every recipe stands on, made from this machine's own package mirror."""
    tag = f"shadowstream/base:{suite()}"
    if present(tag):
        return tag
    rootfs = ensure_rootfs()
    with step(f"importing {tag}"):
        run(["docker", "import", str(rootfs), tag])
    return tag


def ensure_rootfs() -> Path:
    """Give the tar of a minimal system of this machine's own release, made once by debootstrap."""
    kept = cache() / f"rootfs-{suite()}.tar"
    if kept.exists():
        return kept
    installed("debootstrap", "debootstrap")
    made = Path(tempfile.mkdtemp(dir=cache(), prefix="rootfs-"))
    try:
        with step(f"debootstrap of {suite()}"):
            include = "--include=ca-certificates"
            run(["debootstrap", "--variant=minbase", include, suite(), str(made / "root"), mirror()])
        # A package's script must not start its service while an image is built.
        policy = made / "root/usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        run(["tar", "-C", str(made / "root"), "-cf", str(made / "tar"), "."])
        (made / "tar").rename(kept)
    finally:
        removed(made)
    return kept


def removed(made: Path) -> None:
    """Remove a system's folder, after its mounts: a debootstrap that failed leaves the kernel's /proc inside."""
    for name in ("proc", "sys"):
        if (made / "root" / name).is_mount():
            run(["umount", str(made / "root" / name)])
    shutil.rmtree(made)


def suite() -> str:
    """Give the code name of this machine's own release, such as bookworm."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except FileNotFoundError:
        return "none"
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("VERSION_CODENAME", "none").strip('"')


def mirror() -> str:
    """Give the package mirror that this machine's own apt reads its release from."""
    listed = run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    for line in listed.splitlines():
        codename, component, address = line.split(maxsplit=2)
        if (codename, component) == (suite(), "main"):
            return address
    raise ContainerGroundError(f"apt on this machine has no source for {suite()} main: add one to its sources")
