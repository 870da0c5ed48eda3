"""One line of what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Diagnosis", "State", "bad", "good", "poor"]


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    """A test may run; what it shows or does may not be what was meant."""
    FAIL = "fail"
    """No test should be started."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    about: str
    """``config``, ``keys``, ``topic voucher.claimed``, ``group uservoucher`` ..."""
    state: State
    told: str
    """What was found."""
    cure: str = ""
    """What to do about it; empty when there is nothing to do."""


def good(about: str, told: str) -> Diagnosis:
    """Return that something is as it should be."""
    return Diagnosis(about, State.OK, told)


def poor(about: str, told: str, cure: str) -> Diagnosis:
    """Return that something should be looked at."""
    return Diagnosis(about, State.WARN, told, cure)


def bad(about: str, told: str, cure: str) -> Diagnosis:
    """Return that something must be mended before a test."""
    return Diagnosis(about, State.FAIL, told, cure)
