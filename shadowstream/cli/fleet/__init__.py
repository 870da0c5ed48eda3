"""Commands that speak to every shadow process of a service, through Redis.

=========  ==========================================================
``runs``   arm, disarm, kill, runs: which stress tests may go on
``limit``  lays limits over the configuration while a test runs
=========  ==========================================================
"""

from __future__ import annotations

from shadowstream.cli.fleet import limit, runs

__all__ = ["limit", "runs"]
