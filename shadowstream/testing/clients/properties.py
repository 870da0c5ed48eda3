"""The librdkafka properties that the clients in memory understand; the others change nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shadowstream.testing.clients.reader import Manner
from shadowstream.testing.groups import Application

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Properties"]

NO = (False, "false", "0", 0)


class Properties:
    """One client's properties, with librdkafka's defaults."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def text(self, name: str, default: str = "") -> str:
        """Return a property as text."""
        return str(self._given.get(name, default))

    def number(self, name: str, default: int) -> int:
        """Return a property as a number."""
        return int(self._given.get(name, default))

    def seconds(self, name: str, default_ms: float) -> float:
        """Return a property that is given in milliseconds."""
        return float(self._given.get(name, default_ms)) / 1000

    def on(self, name: str, *, default: bool) -> bool:
        """Tell whether a property is true."""
        return self._given.get(name, default) not in NO

    def callback(self, name: str) -> Any:  # noqa: ANN401 - a function of the user's
        """Return a callback, or None."""
        return self._given.get(name)

    def required(self, name: str, why: str) -> str:
        """Return a property that must be given.

        Raises:
            ValueError: it is missing or empty.
        """
        value = self.text(name)
        if not value:
            raise ValueError(f"{name} is missing; {why}")
        return value

    def manner(self, client: str, group: str) -> Manner:
        """Return how a consumer with these properties reads."""
        return Manner(
            client=client,
            group=group,
            reset=self.text("auto.offset.reset", "largest"),
            committed=self.text("isolation.level", "read_committed") == "read_committed",
            stores=self.on("enable.auto.offset.store", default=True),
            eof=self.on("enable.partition.eof", default=False),
        )

    def application(self, client: str, topics: Iterable[str]) -> Application:
        """Return what a consumer with these properties says of itself when it joins."""
        return Application(
            topics=tuple(sorted(topics)),
            session_s=self.seconds("session.timeout.ms", 45_000),
            rebalance_s=self.seconds("max.poll.interval.ms", 300_000),
            cooperative=self.text("partition.assignment.strategy").startswith("cooperative"),
            instance=self.text("group.instance.id") or None,
            name=client,
        )
