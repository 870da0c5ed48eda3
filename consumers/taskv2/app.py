"""taskv2: runs the task that uses a dispatched voucher.

Run it from the repository: ``shadowstream worker consumers.taskv2.app:worker``.
"""

from __future__ import annotations

import shadowstream as ss
from consumers.chain import DISPATCHED, USED, settings_file, watched
from consumers.downstream import Downstream
from consumers.state import Vouchers

settings = ss.load(settings_file(__file__))
worker = ss.Worker(settings, hooks=lambda lane: watched(lane.worker.metrics_port))
producer = ss.Producer(settings)
vouchers = Vouchers(settings)
shops = Downstream(settings, "voucher.use")


@worker.handles(DISPATCHED, command="voucher.use")
def use(message: ss.Message) -> None:
    """Use a dispatched voucher in its shop."""
    shops.call()
    vouchers.reach(message.json(), "used")
    producer.produce(USED, key=message.key(), value=message.value())
