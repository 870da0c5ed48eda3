"""uservoucher: dispatches a claimed voucher to its user.

Run it from the repository: ``shadowstream worker consumers.uservoucher.app:worker``.
"""

from __future__ import annotations

import shadowstream as ss
from consumers.chain import CLAIMED, DISPATCHED, settings_file, watched
from consumers.downstream import Downstream
from consumers.state import Vouchers

settings = ss.load(settings_file(__file__))
worker = ss.Worker(settings, hooks=lambda lane: watched(lane.worker.metrics_port))
producer = ss.Producer(settings)
vouchers = Vouchers(settings)
users = Downstream(settings, "voucher.dispatch")


@worker.handles(CLAIMED, command="voucher.dispatch")
def dispatch(message: ss.Message) -> None:
    """Give a claimed voucher to its user; one that comes again goes on again, in case it never got so far."""
    users.call()
    vouchers.reach(message.json(), "dispatched")
    producer.produce(DISPATCHED, key=message.key(), value=message.value())
