"""The layout's own rules: what lies in the repository's files, and what the tools say about them."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.house.rules import CODE, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

# None of these patterns matches its own spelling, so this file needs no exception.
MACHINE_PATH = re.compile(r"(?<![\w.~})\]*$-])/(?:work|root|home|Users)/")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|rubygems\.org"
    r"|(?:\.docker|ghcr|quay|gcr|k8s)\.io|docker\.io[/:]"  # bare, it is also a Debian package
    r"|(?:proxy|sum)\.golang\.org|repo1?\.maven\.|mcr\.microsoft\.com|public\.ecr\.aws"
)
INDEX_SETTING = re.compile(r"(?:INDEX|FIND_LINKS|REGISTRY|GOPROXY|TRUSTED_HOST)", re.IGNORECASE)

EXTRAS = ("prometheus_client", "redis", "rich", "faust", "faststream", "grpc", "httpx", "requests", "opentelemetry")
"""What `import shadowstream` must not import: each comes with an extra, or not at all."""

DOOR = """
import json, shadowstream, types
names, found = set(shadowstream.__all__), []
for name in sorted(names):
    try:
        thing = getattr(shadowstream, name)
    except Exception as error:
        found.append(f"{name} is in __all__ and does not resolve ({error!r}); export it or take it out")
        continue
    text = getattr(thing, "__doc__", None) or ""
    if not text.strip() or text.startswith(f"{name}("):  # a dataclass without a docstring gets its signature
        found.append(f"{name} has no docstring; say in one plain sentence what it is or does")
for name, thing in vars(shadowstream).items():
    plumbing = isinstance(thing, types.ModuleType) or name in ("annotations", "TYPE_CHECKING")
    if not name.startswith("_") and not plumbing and name not in names:
        found.append(f"{name} is public and not in __all__; add it, or begin its name with _")
print(json.dumps(found))
"""

WITHOUT_EXTRAS = """
import json, sys
asked = []
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            asked.append((frame.f_code.co_filename, frame.f_lineno, name))
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
try:
    import shadowstream
except ModuleNotFoundError as error:
    if not asked or asked[-1][2] != str(error):
        raise
print(json.dumps(asked))
"""

GUARD = re.compile(r"``(test_\w+)``")


def run(root: Path, *command: str) -> tuple[int, str]:
    """Run a command of this interpreter in the root folder; return its exit code and what it wrote."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def tool(root: Path, *command: str) -> list[str]:
    """Return what a tool found, line by line; nothing when it is content."""
    code, text = run(root, "-m", *command)
    return text.splitlines() or [f"`python -m {' '.join(command)}` failed ({code})"] if code else []


def type_errors(root: Path) -> list[str]:
    """Return what mypy says about the folders it is set to, those left out that hold no Python yet."""
    return tool(root, "mypy", *(folder for folder in CODE if any((root / folder).rglob("*.py"))))


def broken_floors(root: Path) -> list[str]:
    """Return what import-linter says about the contract in ``.importlinter``."""
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    code, text = run(root, "-c", script, "--config", str(root / ".importlinter"), "--no-cache")
    return text.splitlines() if code else []


def front_door_problems(root: Path) -> list[str]:
    """Find names in ``shadowstream.__all__`` that do not resolve or say nothing, and public ones missing there."""
    code, text = run(root, "-c", DOOR)
    place = f"{OURS}/__init__.py:1"
    if code:
        return [f"{place}: it cannot be imported; {text.splitlines()[-1]}"]
    return [f"{place}: {problem}" for problem in json.loads(text)]


def extras_imported(root: Path) -> list[str]:
    """Find extras that a plain ``import shadowstream`` asks for; what its dependencies look for is their affair."""
    code, text = run(root, "-c", WITHOUT_EXTRAS, *EXTRAS)
    if code:
        return [f"{OURS}/__init__.py:1: it cannot be imported; {text.splitlines()[-1]}"]
    return [
        f"{Path(path).relative_to(root)}:{line}: `import {OURS}` imports the extra {name}; import it where it is used"
        for path, line, name in json.loads(text)
        if Path(path).is_relative_to(root / OURS)
    ]


# --- text -------------------------------------------------------------------------------------------------------------


def text_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Give every text file that git has or would take, with its lines."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in sorted(filter(None, listed.stdout.split("\0"))):
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):  # not text, or deleted and not yet committed
            continue
        if "\0" not in text:
            yield name, text.splitlines()


def machine_paths(root: Path) -> list[str]:
    """Find absolute paths that exist on one machine only."""
    return [
        f"{name}:{number}: a path of one machine ({found[0]}...); make it relative, or read it from a setting"
        for name, lines in text_files(root)
        for number, line in enumerate(lines, 1)
        if (found := MACHINE_PATH.search(line))
    ]


def registries(root: Path) -> list[str]:
    """Find the host names of package and image registries, well known ones and this machine's own."""
    own = index_hosts()
    findings = []
    for name, lines in text_files(root):
        for number, line in enumerate(lines, 1):
            found = REGISTRY.search(line)
            # This machine's own hosts are not named in the message: they are nobody else's business.
            if found or any(host in line for host in own):
                what = found[0] if found else "the package index of this machine"
                findings.append(
                    f"{name}:{number}: names a registry ({what}); leave the choice to the reader's settings"
                )
    return findings


def index_hosts() -> frozenset[str]:
    """Return the hosts this machine's package tools are set to."""
    values = [value for name, value in os.environ.items() if INDEX_SETTING.search(name)]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        settings = configparser.RawConfigParser()
        settings.read(path)
        values += [value for section in settings.sections() for _, value in settings.items(section)]
    hosts = {urlsplit(word).hostname or "" for value in values for word in re.split(r"[\s,|]+", value) if "//" in word}
    return frozenset(host for host in hosts if "." in host and not host.startswith("127."))


def unlocked(root: Path) -> list[str]:
    """Find dependencies named in pyproject.toml that requirements.lock does not pin."""
    document = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = document.get("project", {})
    groups = [*project.get("optional-dependencies", {}).values(), *document.get("dependency-groups", {}).values()]
    asked = [*project.get("dependencies", ()), *document.get("build-system", {}).get("requires", ())]
    asked += [entry for group in groups for entry in group if isinstance(entry, str)]
    lock = root / "requirements.lock"
    pinned = lock.read_text(encoding="utf-8") if lock.exists() else ""
    locked = {normal(name) for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", pinned, re.MULTILINE)}
    return [
        f"requirements.lock:1: {name} is named in pyproject.toml and not pinned here; lock the dependencies again"
        for name in sorted({normal(re.split(r"[^\w.-]", entry, maxsplit=1)[0]) for entry in asked} - locked)
    ]


def normal(name: str) -> str:
    """Return a distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def unguarded_traps(root: Path) -> list[str]:
    """Find tests that a docstring or a document names as a guard and that do not exist."""
    tests = "\n".join(path.read_text() for path in (root / "tests").rglob("*.py"))
    findings = []
    for path in sorted([*(root / "shadowstream").rglob("*.py"), *(root / "docs").rglob("*.md")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            findings += [
                f"{path.relative_to(root)}:{number}: there is no {name}; write it, or name the test that guards this"
                for name in GUARD.findall(line)
                if f"def {name}(" not in tests
            ]
    return findings
