"""Which outputs a transaction was aborted for, and what can be done about them: pure rules.

Most aborts are nobody's fault: brokers move, members come and go, and the same outputs go into the next transaction. An
output that can never be delivered is different: with it no transaction would ever be committed again. Trap: an output
that shares its batch with one too large is refused with it, and is tried alone before it is given up
(``test_an_output_too_large_for_the_broker_dead_letters_its_source_and_no_other``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from shadowstream.kafka.labels import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.kafka.transactions.ledger import Entry
    from shadowstream.kafka.transactions.outbox import Output

__all__ = ["Findings", "findings"]

TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
ITS_OWN = frozenset({
    TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION, KafkaError.TOPIC_EXCEPTION, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError._INVALID_ARG,  # noqa: SLF001 - the client's own
})  # fmt: skip
"""Errors that an output brings upon itself: another time it would be refused again."""


@dataclass(slots=True)
class Findings:
    """What an aborted transaction's outputs come to."""

    spoilt: list[tuple[Entry, KafkaError]] = field(default_factory=list)
    """Those that cannot be delivered: their messages have failed."""
    eased: bool = False
    """Whether some go in another way now."""
    stuck: bool = False
    """Whether a copy cannot be delivered: it is tried again for as long as the process lives."""


def findings(entries: Iterable[Entry]) -> Findings:
    """Look for outputs that can never be delivered, and change those that can be in another way."""
    found = Findings()
    for entry in entries:
        refused = [(output, error) for output in entry.outputs if (error := output.error) and error.code() in ITS_OWN]
        for output, error in refused:
            if _eased(output, error):
                found.eased = True
            elif output.copy:
                found.stuck = True
            else:
                found.spoilt.append((entry, error))
                break
    return found


def _eased(output: Output, error: KafkaError) -> bool:
    """Let an output that is too large go alone, and then, if it is a copy, without its value."""
    if error.code() != TOO_LARGE:
        return False
    if not output.alone:
        output.alone = True
        return True
    if not output.copy or output.value is None:
        return False
    output.value, output.headers = None, [*(output.headers or ()), (LEFT_OUT, b"value")]
    return True
