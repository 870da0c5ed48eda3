"""ss_business: settles a used voucher in its order, or cancels it.

Run it from the repository: ``shadowstream worker consumers.ss_business.app:worker``.
"""

from __future__ import annotations

from zlib import crc32

import shadowstream as ss
from consumers.chain import CANCELLED, SETTLED, USED, settings_file, watched
from consumers.downstream import Downstream
from consumers.state import Vouchers

settings = ss.load(settings_file(__file__))
worker = ss.Worker(settings, hooks=lambda lane: watched(lane.worker.metrics_port))
producer = ss.Producer(settings)
vouchers = Vouchers(settings)
orders = Downstream(settings, "voucher.settle")


@worker.handles(USED, command="voucher.settle")
def settle(message: ss.Message) -> None:
    """Close a voucher: one in so many is cancelled, always the same ones, so that a second delivery decides alike."""
    voucher = message.json()
    orders.call()
    cancelled = crc32(voucher["voucher_id"].encode()) % one_in() == 0
    vouchers.reach(voucher, "cancelled" if cancelled else "settled")
    producer.produce(CANCELLED if cancelled else SETTLED, key=message.key(), value=message.value())


def one_in() -> int:
    """Return this lane's share of cancellations: one voucher in how many."""
    lane = ss.Lane.SHADOW if ss.is_shadow() else ss.Lane.NORMAL
    return int(str(settings.of(lane).tasks["voucher.cancel"]["one_in"]))
