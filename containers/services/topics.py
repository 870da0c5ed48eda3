"""Create the topics of the voucher chain, each with the side topics that its lanes may need.

Run again, it does no harm.
"""
# ruff: noqa: INP001 - the image runs it by path, beside the services

from __future__ import annotations

import os
import sys

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.chain import CANCELLED, CLAIMED, DISPATCHED, SETTLED, USED

TIMEOUT_S = 30.0
CHAIN = (CLAIMED, DISPATCHED, USED, SETTLED, CANCELLED)
SIDES = ("{}.quarantine", "{}.dlq", "{}.shadow.dlq", "{}.shadow.parked", "shadow.{}")
PRESENT = KafkaError.TOPIC_ALREADY_EXISTS


def main() -> None:
    """Create what is missing and say what there is now."""
    bootstrap, partitions = os.environ["BOOTSTRAP"], int(os.environ.get("PARTITIONS", "3"))
    names = [*CHAIN, *(side.format(topic) for topic in CHAIN for side in SIDES)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    asked = admin.create_topics([NewTopic(name, partitions, 1) for name in names], operation_timeout=TIMEOUT_S)
    created = sum(fresh(answer.exception(timeout=TIMEOUT_S)) for answer in asked.values())
    sys.stderr.write(f"topics: {created} created, {len(names) - created} were there, {partitions} partitions each\n")


def fresh(error: BaseException | None) -> bool:
    """Say whether a topic was created now; raise where it could not be."""
    if error is None:
        return True
    if isinstance(error, KafkaException) and error.args[0].code() == PRESENT:
        return False
    raise error


if __name__ == "__main__":
    main()
