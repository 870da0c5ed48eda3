"""Every error that shadowstream raises.

::

    ShadowstreamError
    ├── ConfigError            the configuration is wrong; ``problems`` lists all of it at once
    ├── MarkError              a mark cannot be written as asked (also a ValueError)
    ├── SetupError             the program is put together wrongly: a handler, a lane, a topic (exit code 2)
    ├── BrokerError            the cluster cannot be reached, or a topic on it is missing (exit code 3)
    ├── NotAllowedError        a shadow call to a place that the configuration does not list
    └── RefusedError           the shadow lane is off, or a gate said no where a value cannot say it

A refusal inside a worker is a verdict, not an exception: it is the expected case.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BrokerError",
    "ConfigError",
    "MarkError",
    "NotAllowedError",
    "Problem",
    "RefusedError",
    "SetupError",
    "ShadowstreamError",
]


class ShadowstreamError(Exception):
    """The root: catch this to catch all of ours."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: where, what, and the cure."""

    place: str
    """``file:line`` or the name of the environment variable."""
    key: str
    """The key as the user spelled it, sections joined by spaces: ``rate_limit voucher.claim hard``."""
    message: str
    """What is wrong, naming the value."""
    cure: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.message}. {self.cure}"


class ConfigError(ShadowstreamError):
    """The configuration is wrong."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class MarkError(ShadowstreamError, ValueError):
    """A mark cannot be written as asked."""


class SetupError(ShadowstreamError):
    """The program is put together wrongly."""


class BrokerError(ShadowstreamError):
    """The cluster cannot be reached, or a topic on it is missing."""


class NotAllowedError(ShadowstreamError):
    """A shadow call to a place that the configuration does not list."""


class RefusedError(ShadowstreamError):
    """The shadow lane is off, or a gate said no where a value cannot say it."""

    def __init__(self, message: str, *, command: str, lane: str, by: str, retry_after_s: float) -> None:
        self.command = command
        self.lane = lane
        self.by = by
        """What refused: ``rate``, ``keys``, ``breaker``, ``cap``, or ``off``: the shadow lane."""
        self.retry_after_s = retry_after_s
        """Seconds until asking again can make a difference."""
        super().__init__(message)
