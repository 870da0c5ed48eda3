"""`python -m containers`: make sure that the daemon and the images stand, and say what stands."""

from __future__ import annotations

import argparse
import json
import sys

from containers.daemon import ensure_daemon
from containers.host import ContainerGroundError, say
from containers.images import ensure_kafka_image, ensure_python_image, ensure_redis_image, ensure_toxiproxy_image


def main() -> int:
    """Ensure everything, then write what stands to stdout, as lines, JSON or shell variables."""
    form = argparse.ArgumentParser(prog="python -m containers", description=__doc__)
    form.add_argument("--json", action="store_true", help="write one JSON object")
    form.add_argument("--env", action="store_true", help="write lines for `eval`, as docker-compose.yml reads them")
    form.add_argument("--services", action="store_true", help="the base image of the voucher services too")
    form.add_argument("--chaos", action="store_true", help="the image of the proxy that breaks links, too")
    asked = form.parse_args()
    try:
        stands = {
            "DOCKER_HOST": ensure_daemon(),
            "KAFKA_IMAGE": ensure_kafka_image(),
            "REDIS_IMAGE": ensure_redis_image(),
        }
        if asked.services:
            stands["SERVICES_BASE"] = ensure_python_image()
        if asked.chaos:
            stands["TOXIPROXY_IMAGE"] = ensure_toxiproxy_image()
    except ContainerGroundError as failure:
        say(str(failure))
        return 1
    sys.stdout.write(written(stands, as_json=asked.json, as_env=asked.env))
    return 0


def written(stands: dict[str, str], *, as_json: bool, as_env: bool) -> str:
    """Give what stands in the form that was asked for."""
    if as_json:
        return json.dumps(stands) + "\n"
    shape = "export {}={}\n" if as_env else "{:15} {}\n"
    return "".join(shape.format(name, value) for name, value in stands.items())


sys.exit(main())
