"""Who reads in both lanes' groups, and whether they know marks: whoever does not, handles shadow messages as real ones.

Our consumers say so by their client's id, which ends with their lane; Kafka tells nothing else of a member that could
be asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException

from shadowstream.errors import BrokerError
from shadowstream.fcst.doctor.diagnosis import bad, good
from shadowstream.kafka.clients import explained
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka.admin import AdminClient

    from shadowstream.config import Settings
    from shadowstream.fcst.doctor.diagnosis import Diagnosis

__all__ = ["groups"]

ANSWER_S: Final = 10.0
AGAIN_S: Final = 0.2
LATER: Final = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"})


def groups(settings: Settings, admin: AdminClient) -> Iterator[Diagnosis]:
    """Look at the members of each lane's group.

    Raises:
        BrokerError: the brokers do not say.
    """
    for lane in Lane:
        if lane is Lane.SHADOW and settings.shadow is None:
            continue
        ours = settings.of(lane)
        group = str(ours.kafka["group.id"])
        found = _described(admin, group)
        members = [] if found is None else found.members
        granted = set() if found is None else {each.name for each in found.authorized_operations or ()}
        if granted and not granted & {"READ", "ALL"}:
            yield bad(f"group {group}", "this service may not READ as a member of it", "Grant it READ on the group.")
        deaf = sorted({each.client_id for each in members if not each.client_id.endswith(f".{lane}")})
        shared = any(topic.shared for topic in ours.topics.values())
        if deaf and (shared or lane is Lane.SHADOW):
            told = f"{len(deaf)} members do not say that they know marks: {', '.join(deaf)}"
            cure = (
                "Upgrade or stop them before a test, or write `route: topic`: they handle shadow messages as real ones."
            )
            yield bad(f"group {group}", told, cure)
        else:
            yield good(f"group {group}", f"{len(members)} members" + (", all of which know marks" if members else ""))


def _described(admin: AdminClient, group: str) -> Any:  # noqa: ANN401 - the client's own
    """Return what the brokers say of a group; None when it was never there."""
    until = time.monotonic() + ANSWER_S
    while True:
        try:
            asked = admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=ANSWER_S
            )
            return asked[group].result()
        except KafkaException as error:
            told = error.args[0]
            if told.name() == "GROUP_ID_NOT_FOUND":
                return None
            # A coordinator that has just begun says so for a moment.
            if (not told.retriable() and told.name() not in LATER) or time.monotonic() > until:
                raise BrokerError(f"the members of {group} cannot be read: {explained(told)}") from error
            time.sleep(AGAIN_S)
