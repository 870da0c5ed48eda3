"""The application that a command is told of: ``module:name`` of a worker."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from shadowstream.errors import SetupError
from shadowstream.gate import Guarded
from shadowstream.kafka import Worker

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["commands_of", "worker_of"]


def worker_of(app: str) -> Worker:
    """Import ``module:name`` from the working directory or the installed packages, and return the worker there.

    Raises:
        SetupError: there is no such module, or no worker of that name in it.
    """
    module_name, _, name = app.partition(":")
    worker = getattr(_imported(module_name), name or "worker", None)
    if not isinstance(worker, Worker):
        raise SetupError(f"{module_name} has no shadowstream.Worker named {name or 'worker'!r}")
    return worker


def commands_of(app: str) -> frozenset[str]:
    """Return the commands that a module's handlers and guarded functions go by.

    Raises:
        SetupError: there is no such module, or nothing of ours in it.
    """
    module = _imported(app.partition(":")[0])
    ours = [each for each in vars(module).values() if isinstance(each, Worker | Guarded)]
    if not ours:
        raise SetupError(f"{module.__name__} has neither a shadowstream.Worker nor a shadowstream.Guarded")
    return frozenset(command for each in ours for command in each.commands)


def _imported(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise SetupError(f"no module named {error.name!r}; APP is module:name, looked up from here") from error
