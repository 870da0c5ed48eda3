"""Claims vouchers: one message on ``voucher.claimed`` for each."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import shadowstream as ss
from consumers.chain import CLAIMED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage

    OnDelivery = Callable[[KafkaError | None, RawMessage], None]

__all__ = ["Distribution"]

POLL_EVERY_S = 0.005
FLUSH_S = 10.0


class Distribution:
    """Claims vouchers in the lane of the work at hand; use it in a ``with`` block, which delivers the last ones."""

    def __init__(self, settings: ss.Settings, *, topic: str = CLAIMED, max_block_s: float = 60.0) -> None:
        self._topic = topic
        self._producer = ss.Producer(settings, max_block_s=max_block_s)
        self._claimed = threading.Event()
        self._ended = threading.Event()
        self._reports = threading.Thread(target=self._serve_reports, name="delivery-reports", daemon=True)

    def claim(
        self,
        voucher_id: str,
        user_id: str,
        promotion_id: str,
        *,
        on_delivery: OnDelivery | None = None,
        mark_headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        """Claim one voucher for a user; whoever comes from another wire passes the mark headers that came with it.

        Raises:
            BufferError: too many claims wait to be delivered.
            ValueError: the mark headers cannot be trusted, or contradict the lane of the work at hand.
            shadowstream.ConfigError: this is shadow traffic and the shadow lane is off.
        """
        voucher = {"voucher_id": voucher_id, "user_id": user_id, "promotion_id": promotion_id}
        self._producer.produce(
            self._topic, json.dumps(voucher), key=voucher_id, on_delivery=on_delivery, headers=mark_headers or None
        )
        self._claimed.set()

    def __enter__(self) -> Self:
        """Begin to take delivery reports."""
        self._reports.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deliver what waits, then end."""
        self._producer.flush(FLUSH_S)
        self._ended.set()
        self._claimed.set()
        self._reports.join()
        # The clients end with their last reference, and should before their brokers do.
        del self._producer

    def _serve_reports(self) -> None:
        # Never waiting inside poll(): it waits for one lane's reports, and the other lane's would wait with it.
        while not self._ended.wait(POLL_EVERY_S):
            self._producer.poll(0)
            if len(self._producer) == 0:
                self._claimed.wait()
                self._claimed.clear()
