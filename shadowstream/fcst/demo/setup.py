"""Sets a run of the demo up, and takes it down.

Nothing is left behind, however it ends: processes, the broker, the topics of a run on a real cluster (those are kept
when a law was broken, to be looked at).
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml
from confluent_kafka import KafkaException

from shadowstream.config import load as load_settings
from shadowstream.fcst.demo.phases import STUCK_SERVICE, Chain, Phases, Plan
from shadowstream.fcst.embedded import EmbeddedBroker
from shadowstream.fcst.load import Load
from shadowstream.fcst.services import SERVICES, Services, checkout
from shadowstream.fcst.topics import RunTopics
from shadowstream.fcst.verdict import Figures, Finding, judged
from shadowstream.lane import Lane, Mark, entered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shadowstream.config import Settings
    from shadowstream.fcst.demo.table import Screen
    from shadowstream.fcst.load import OnDelivery

__all__ = ["Demo", "Result"]

SHADOW_LIMITS = MappingProxyType(
    {
        "uservoucher": ("SHADOWSTREAM__DEFAULT_RATE_LIMIT__SHADOW_HARD_RATE_LIMIT", 7.5),
        "taskv2": ("SHADOWSTREAM__RATE_LIMIT__SHADOW.VOUCHER.USE__HARD", 12.0),
        "ss_business": ("SHADOWSTREAM__RATE_LIMIT__SHADOW.VOUCHER.SETTLE__HARD", 12.0),
    }
)
"""Each service's shadow limit, in times the normal rate: below the ramp's peak for the first, so that shadow must wait
there, and enough for the others to catch up."""
CLAIMER = "ss_distribution"
PROMOTION = "p-2026"
SECURITY = ("security.", "sasl.", "ssl.")


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    figures: Figures
    findings: tuple[Finding, ...]
    seconds: float
    """From start to verdict."""

    @property
    def ok(self) -> bool:
        """Whether every law held."""
        return all(finding.ok for finding in self.findings)

    def as_json(self) -> str:
        """Return the figures and the verdict as JSON."""
        return json.dumps(
            {"ok": self.ok, "seconds": round(self.seconds, 1), "laws": list(map(asdict, self.findings))}
            | {"figures": asdict(self.figures)},
            indent=2,
        )


class Demo:
    """One run; what it starts it also ends."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._run = f"demo-{secrets.token_hex(3)}"
        self._began = time.monotonic()
        self._keep_topics = False
        self._busy = busy()

    def run(self) -> Result:
        """Run all of it.

        Raises:
            SetupError: it cannot run here.
            BrokerError: the cluster or a service failed us.
        """
        home = checkout()
        if self._busy:
            self._screen.say(self._busy)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadowstream-demo-")))
            topics = self._cluster(stack, home)
            services = Services(folder)
            stack.callback(services.stop)
            self._screen.say(f"starting {', '.join(SERVICES)}: a process for each lane")
            switch = folder / "stuck"
            # Nobody can be asked to drain while he hangs.
            stack.callback(switch.unlink, missing_ok=True)
            services.start(home, {name: environment(home, name, topics, self._plan, switch) for name in SERVICES})
            chain = Chain(topics, services, self._loads(stack, home, topics))
            stack.callback(chain.stop)
            figures = Phases(self._plan, self._screen, chain, switch).run()
            findings = judged(figures)
            self._keep_topics = not all(finding.ok for finding in findings)
            self._tell(findings, services, topics)
        return Result(figures, findings, time.monotonic() - self._began)

    def _cluster(self, stack: ExitStack, home: Path) -> RunTopics:
        if self._plan.bootstrap is None:
            broker = stack.enter_context(EmbeddedBroker())
            self._screen.say("embedded broker: up")
            topics = RunTopics(broker.bootstrap)
            topics.appear()
            return topics
        told = {"SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS": self._plan.bootstrap}
        kafka = claimer_settings(home, told).normal.kafka
        security = {name: value for name, value in kafka.items() if name.startswith(SECURITY)}
        topics = RunTopics(self._plan.bootstrap, f"{self._run}.", security)
        self._screen.say(f"reaching {self._plan.bootstrap}")
        topics.reach()
        stack.callback(self._clean_up, topics)
        topics.create()
        self._screen.say(f"topics and groups of this run begin with {topics.prefix}")
        return topics

    def _clean_up(self, topics: RunTopics) -> None:
        if self._keep_topics:
            return
        with suppress(KafkaException):
            topics.delete(f"{topics.prefix}{name}{lane}" for name in SERVICES for lane in ("", ".shadow"))

    def _loads(self, stack: ExitStack, home: Path, topics: RunTopics) -> Mapping[Lane, Load]:
        """Build each lane's load on the service that claims vouchers."""
        told = shared_environment(settings_of(home), CLAIMER, topics)
        settings = claimer_settings(home, told)
        settings.of(Lane.SHADOW)  # an error now, where shadow is off, and not at the first shadow message
        service = importlib.import_module(f"producers.{CLAIMER}.service")
        distribution = stack.enter_context(service.Distribution(settings, topic=topics.chain[0], max_block_s=5.0))
        marks = {Lane.NORMAL: None, Lane.SHADOW: Mark(run=self._run, expires_at=int(time.time()) + 3600)}
        return {lane: Load(lane.value[0], sender(distribution, mark)) for lane, mark in marks.items()}

    def _tell(self, findings: tuple[Finding, ...], services: Services, topics: RunTopics) -> None:
        self._screen.say("")
        self._screen.verdict(findings)
        if not all(finding.ok for finding in findings):
            if words := services.last_words():
                self._screen.say(f"\nlast words of the services:\n{words}")
            if self._busy:
                self._screen.say(self._busy)
            if topics.prefix:
                self._screen.say(f"the topics {topics.prefix}* are kept, to be looked at")
        took_s = time.monotonic() - self._began
        self._screen.say(f"\n{sum(not finding.ok for finding in findings)} laws broken; it took {took_s:.0f} s")


def busy() -> str:
    """Say that others keep this machine busy before we begin, empty when they do not."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= cores:
        return ""
    return (
        f"note: before the demo began, other work kept this machine busy (load {load:.1f} on {cores} cores);"
        " the times are a busy machine's, and the law about them may break for that alone: run it again when quiet"
    )


def sender(distribution: Any, mark: Mark | None) -> Callable[[str, OnDelivery], None]:  # noqa: ANN401 - from a checkout
    """Return what claims one voucher in the lane of a mark."""

    def send(voucher_id: str, on_delivery: OnDelivery) -> None:
        with entered(mark):
            distribution.claim(voucher_id, f"u{voucher_id[-3:]}", PROMOTION, on_delivery=on_delivery)

    return send


def settings_of(home: Path) -> Path:
    """Return where the settings of the service are that claims vouchers."""
    return home / "producers" / CLAIMER / "shadowstream.yaml"


def claimer_settings(home: Path, told: Mapping[str, str]) -> Settings:
    """Return the settings of the service that claims vouchers; it has no data, so no sink is for it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SHADOWSTREAM__DATA__")}
    return load_settings(settings_of(home), environ={**ours, **told})


def shared_environment(settings: Path, name: str, topics: RunTopics) -> dict[str, str]:
    """Return what every service of a run is told, over its own file."""
    told = {
        "SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS": topics.bootstrap,
        "SHADOWSTREAM__KAFKA__GROUP.ID": f"{topics.prefix}{name}",
        "VOUCHER_TOPIC_PREFIX": topics.prefix,
    }
    if not topics.prefix:
        # The embedded broker answers a fetch that finds nothing only when its time is up.
        return told | {
            "SHADOWSTREAM__KAFKA__FETCH.WAIT.MAX.MS": "10",
            "SHADOWSTREAM__SHADOW.KAFKA__FETCH.WAIT.MAX.MS": "25",
        }
    configured = yaml.safe_load(settings.read_text(encoding="utf-8"))["topics"]
    rules = {f"{topics.prefix}{topic}": json.dumps(rule) for topic, rule in configured.items()}
    return told | {f"SHADOWSTREAM__TOPICS__{topic}": rule for topic, rule in rules.items()}


def environment(home: Path, name: str, topics: RunTopics, plan: Plan, switch: Path) -> dict[str, str]:
    """Return what a consuming service of a run is told, over its own file."""
    variable, times_normal = SHADOW_LIMITS[name]
    told = shared_environment(home / "consumers" / name / "shadowstream.yaml", name, topics) | {
        "SHADOWSTREAM__WORKER__DRAIN": "5s",
        variable: f"{plan.normal_per_s * times_normal:g}/s",
    }
    for sink in ("REDIS", "SHADOW.REDIS"):
        if f"SHADOWSTREAM__DATA__{sink}__URL" not in os.environ:
            told[f"SHADOWSTREAM__DATA__{sink}__URL"] = "memory://"
    if name == STUCK_SERVICE:
        told["SHADOWSTREAM__TASKS__SHADOW.VOUCHER.USE__HANGS_WHILE"] = str(switch)
    return told
