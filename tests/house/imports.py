"""The layout's own rules: who may import whom."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from tests.house.rules import OURS, Module, modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GROUND = frozenset({"lane", "errors"})
"""Every room stands on these."""

BELOW_CLI = GROUND | {
    *("console", "fcst", "kafka", "integrations", "propagate", "data", "metrics"),
    *("gate", "config", "headers", "events"),
}

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "testing": BELOW_CLI | {"cli", OURS},
    "__main__": BELOW_CLI | {"cli", OURS},
    "cli": BELOW_CLI | {OURS},
    OURS: BELOW_CLI,
    "console": GROUND | {"fcst", "metrics", "config"},
    "fcst": GROUND | {"kafka", "propagate", "metrics", "config", "headers", "gate"},
    "integrations": GROUND | {"kafka", "propagate", "gate", "config", "headers", "events"},
    "kafka": GROUND | {"gate", "config", "headers", "events"},
    "propagate": GROUND | {"headers", "config", "events", "gate"},
    "data": GROUND | {"config", "events"},
    "metrics": GROUND | {"events"},
    "gate": GROUND | {"config", "events"},
    "config": GROUND | {"headers"},
    "headers": GROUND,
    "events": GROUND,
    "lane": frozenset(),
    "errors": frozenset(),
}
"""The column "may import" of the design's section 4; the doorplate goes by the package's own name."""

PUBLIC_MODULES = ("shadowstream.testing", "shadowstream.metrics", "shadowstream.propagate", "shadowstream.integrations")
"""What users may import besides the front door."""


def imported(module: Module, *, types: bool) -> Iterator[tuple[ast.stmt, str, str]]:
    """Give each import as (statement, module, name); name is empty for a plain ``import``."""
    skipped = set() if types else typing_only(module.tree)
    for node in ast.walk(module.tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, absolute(module, node), alias.name) for alias in node.names)


def typing_only(tree: ast.Module) -> set[ast.AST]:
    """Return everything below ``if TYPE_CHECKING:``."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the module that an import names, relative or not."""
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    if not module.path.endswith("__init__.py"):
        package = package[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def import_cycles(root: Path) -> list[str]:
    """Find imports that go in a circle, those inside functions included, those for types only not."""
    ours = {module.name: module for module in modules(root, OURS)}
    places: dict[tuple[str, str], str] = {}
    graph: dict[str, set[str]] = {name: set() for name in ours}
    for module in ours.values():
        for node, source, name in imported(module, types=False):
            target = f"{source}.{name}" if f"{source}.{name}" in ours else source
            if target in ours and target != module.name:
                graph[module.name].add(target)
                places[module.name, target] = module.at(node, "")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        place = places[circle[0], circle[1]]
        return [f"{place}an import cycle: {' > '.join(circle)}; move what both need one floor down"]
    return []


def room_of(root: Path, source: str, name: str) -> str:
    """Return the room that an import leads to; the doorplate goes by the package's own name."""
    parts = source.split(".")
    if len(parts) > 1:
        return parts[1]
    place = root / OURS / name
    return name if name and (place.is_dir() or place.with_suffix(".py").exists()) else OURS


def off_the_floor_plan(root: Path) -> list[str]:
    """Find imports that the design's "may import" column does not have."""
    findings = []
    for module in modules(root, OURS):
        room = module.name.split(".")[1] if "." in module.name else OURS
        if room not in MAY_IMPORT:
            findings.append(
                module.at(None, f"room {room!r} is not on the floor plan; put it there (design, section 4)")
            )
            continue
        allowed = MAY_IMPORT[room] | {room}
        for node, source, name in imported(module, types=True):
            target = room_of(root, source, name)
            if source.split(".")[0] == OURS and target not in allowed:
                known = ", ".join(sorted(MAY_IMPORT[room])) or "nothing"
                findings.append(
                    module.at(node, f"{room} imports {target}, and may import only: {known}; pass it in from above")
                )
    return findings


def front_door(root: Path) -> frozenset[str]:
    """Return the names in ``shadowstream.__all__``, read and not imported."""
    path = root / OURS / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def past_the_front_door(root: Path) -> list[str]:
    """Find places where the example services use what users are not promised."""
    door = front_door(root) | {"__version__"}
    findings = []
    for module in modules(root, "producers", "consumers"):
        aliases = set()
        for node, source, name in imported(module, types=True):
            if source.split(".")[0] != OURS:
                continue
            if (source, name) == (OURS, ""):
                aliases |= {alias.asname or alias.name for alias in getattr(node, "names", ())}
            elif not is_public(source, name, door):
                findings.append(module.at(node, f"{source} {name} is not public; use a name in shadowstream.__all__"))
        findings += [
            module.at(node, f"{ast.unparse(node)} is not public; use a name in shadowstream.__all__")
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
            if not is_public(OURS, node.attr, door)
        ]
    return findings


def is_public(source: str, name: str, door: frozenset[str]) -> bool:
    """Tell whether users are promised this name."""
    if source in PUBLIC_MODULES:
        return not name.startswith("_")
    return source == OURS and (name in door or f"{source}.{name}" in PUBLIC_MODULES)
