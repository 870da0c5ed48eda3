"""The layout's own rules: sizes, words and state.

Each rule is a function of a root folder and returns its findings, ``file:line: what is wrong; the cure``. They read
the source and import nothing, so that each can be tried on a bad example (``test_each_rule_can_fail.py``).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OURS = "shadowstream"
CONTEXTS = (f"{OURS}.lane", f"{OURS}.kafka.offsets.piece")
"""Modules that may hold a ContextVar: it has one value for each piece of work, not one for all."""
CODE = (OURS, "producers", "consumers", "containers")

FUNCTION_LINES = 60
SHORT_BODY_LINES = 8
MODULE_LINES = 400
PACKAGE_MODULES = 8
ARGUMENTS = 6

EXCUSED = re.compile(r"noqa: [\w, ]*PLR0913[\w, ]* - \w+")

VAGUE_MODULES = frozenset({"util", "utils", "helper", "helpers", "common", "misc"})
VAGUE_WORDS = ("Manager", "Helper", "Base")

MUTABLE_LITERALS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp, ast.GeneratorExp)
MUTABLE_CALLS = frozenset(
    (
        *("dict", "list", "set", "bytearray", "iter", "open", "count", "cycle", "SimpleNamespace"),
        *("defaultdict", "OrderedDict", "Counter", "deque", "ChainMap"),
        *("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "local", "ContextVar"),
        *("Thread", "ThreadPoolExecutor", "Queue", "SimpleQueue", "LifoQueue", "PriorityQueue", "Random"),
        *("WeakKeyDictionary", "WeakValueDictionary", "WeakSet"),
    )
)

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed source file."""

    path: str
    """Relative to the root."""
    name: str
    """Dotted, as it is imported."""
    tree: ast.Module
    """Empty when the file cannot be parsed: one rule says so, and the others go on."""
    lines: tuple[str, ...]
    broken: str = ""

    def at(self, node: ast.AST | None, what: str) -> str:
        """Return a finding at a node, or at the first line."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {what}"

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Give every function, methods and inner ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))

    def classes(self) -> Iterator[ast.ClassDef]:
        """Give every class."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))


@cache
def parsed(root: Path, path: Path) -> Module:
    """Read and parse one file; once only, as a dozen rules look at each."""
    text = path.read_text(encoding="utf-8")
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        tree = ast.parse(text, str(path))
    except SyntaxError as error:
        broken = f"{relative}:{error.lineno}: {error.msg}; this Python cannot read it"
        return Module(str(relative), name, ast.Module([], []), (), broken)
    return Module(str(relative), name, tree, tuple(text.splitlines()))


def modules(root: Path, *folders: str) -> list[Module]:
    """Return every module below these folders."""
    return [parsed(root, path) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def unreadable(root: Path) -> list[str]:
    """Find files that are no Python."""
    return [module.broken for module in modules(root, *CODE, "tests", "benchmarks") if module.broken]


# --- sizes ------------------------------------------------------------------------------------------------------------


def long_functions(root: Path) -> list[str]:
    """Find functions that do not fit on a page."""
    return [
        module.at(function, f"{function.name}() has {lines} lines (at most {FUNCTION_LINES}); give its steps names")
        for module in modules(root, *CODE)
        for function in module.functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES
    ]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body without its docstring."""
    first = 1 if ast.get_docstring(function, clean=False) is not None else 0
    body = function.body[first:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def too_few_short_functions(root: Path) -> list[str]:
    """Find out whether fewer than half of our functions are short."""
    sizes = sorted(
        (
            (body_lines(function), module.at(function, function.name))
            for module in modules(root, OURS)
            for function in module.functions()
        ),
        reverse=True,
    )
    short = sum(size < SHORT_BODY_LINES for size, _ in sizes)
    if 2 * short >= len(sizes):
        return []
    return [
        f"{place}() has a body of {size} lines, and only {short} of {len(sizes)} functions have less than "
        f"{SHORT_BODY_LINES}; split the longest ones"
        for size, place in sizes[:5]
    ]


def long_modules(root: Path) -> list[str]:
    """Find modules that hold more than one concept can need."""
    return [
        f"{module.path}:{lines}: {lines} lines (at most {MODULE_LINES}); one concept, one module"
        for module in modules(root, *CODE)
        if (lines := len(module.lines)) > MODULE_LINES
    ]


def crowded_packages(root: Path) -> list[str]:
    """Find packages with too many modules to see at a glance."""
    found: dict[Path, list[str]] = {}
    for module in modules(root, *CODE):
        path = Path(module.path)
        if path.name != "__init__.py":
            found.setdefault(path.parent, []).append(path.stem)
    return [
        f"{package}/__init__.py:1: {len(names)} modules (at most {PACKAGE_MODULES}): {', '.join(names)}; open a room"
        for package, names in found.items()
        if len(names) > PACKAGE_MODULES
    ]


def wide_signatures(root: Path) -> list[str]:
    """Find functions that ask for too much; ``noqa: PLR0913 - why`` excuses one that copies a foreign signature."""
    findings = []
    for module in modules(root, *CODE):
        for function in module.functions():
            given = function.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > ARGUMENTS and not EXCUSED.search(module.lines[function.lineno - 1]):
                findings.append(
                    module.at(function, f"{function.name}() takes {count} arguments (at most {ARGUMENTS}); group them")
                )
    return findings


# --- words ------------------------------------------------------------------------------------------------------------


def vague_modules(root: Path) -> list[str]:
    """Find modules whose name says nothing."""
    return [
        module.at(None, f"the name {Path(module.path).stem!r} says nothing; name the module after what it holds")
        for module in modules(root, *CODE, "tests", "benchmarks")
        if {Path(module.path).stem, Path(module.path).parent.name} & VAGUE_MODULES
    ]


def vague_classes(root: Path) -> list[str]:
    """Find classes whose name says nothing."""
    return [
        module.at(node, f"class {node.name} says {word}; name what it is")
        for module in modules(root, *CODE)
        for node in module.classes()
        for word in VAGUE_WORDS
        if word in node.name
    ]


def undocumented(root: Path) -> list[str]:
    """Find public names without a docstring."""
    findings = []
    for module in modules(root, *CODE):
        if ast.get_docstring(module.tree) is None and not module.broken:
            findings.append(module.at(None, "the module has no docstring; say in one sentence what it is for"))
        findings += [
            module.at(node, f"{node.name} has no docstring; say in one plain sentence what it is or does")
            for node in public_names(module.tree)
            if ast.get_docstring(node) is None
        ]
    return findings


def public_names(
    place: ast.Module | ast.ClassDef,
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give the public classes, functions and methods; what is inside a function is nobody else's."""
    for node in statements(place.body):
        if not isinstance(node, (ast.ClassDef, *FUNCTIONS)) or node.name.startswith("_"):
            continue
        # A setter shares its getter's docstring, an overload that of the function it is a view of.
        spoken_for = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if not spoken_for & {"overload", "setter", "deleter"}:
            yield node
        if isinstance(node, ast.ClassDef):
            yield from public_names(node)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a body, also those inside ``if``, ``try`` and ``with``."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner = [*node.body, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            yield from statements(inner)
            for handler in getattr(node, "handlers", ()):
                yield from statements(handler.body)


def prints(root: Path) -> list[str]:
    """Find prints."""
    return [
        module.at(node, "print(); log it, or in cli/ write it with sys.stdout.write")
        for module in modules(root, OURS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "pprint"}
    ]


# --- state ------------------------------------------------------------------------------------------------------------


def module_state(root: Path) -> list[str]:
    """Find objects at module level that can be changed; only what follows the work at hand may be."""
    ours = modules(root, OURS)
    mutable = frozenset(node.name for module in ours for node in module.classes() if is_mutable_record(node))
    findings = []
    for module in ours:
        for node in statements(module.tree.body):
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            names = [
                ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            ]
            what = changeable(node.value, mutable)
            if what is None or names == ["__all__"] or (what == "ContextVar" and module.name in CONTEXTS):
                continue
            cure = "give it an owner, or make it a tuple, a frozenset, a MappingProxyType or a frozen dataclass"
            findings.append(module.at(node, f"{', '.join(names)} is state at module level ({what}); {cure}"))
    return findings


def changeable(value: ast.expr, mutable: frozenset[str]) -> str | None:
    """Name the kind of an expression's value if that can be changed."""
    if isinstance(value, MUTABLE_LITERALS):
        return type(value).__name__
    if isinstance(value, ast.Tuple):
        return next((kind for part in value.elts if (kind := changeable(part, mutable))), None)
    if not isinstance(value, ast.Call):
        return None
    function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    name = ast.unparse(function).rpartition(".")[2]
    # events.Event is frozen, threading.Event is not: only the first is called by its bare name here.
    known = MUTABLE_CALLS - {"Event"} if isinstance(function, ast.Name) else MUTABLE_CALLS
    return name if name in known or name in mutable else None


def is_mutable_record(node: ast.ClassDef) -> bool:
    """Tell whether a class is a dataclass that is not frozen."""
    decorators = [ast.unparse(decorator).replace(" ", "") for decorator in node.decorator_list]
    return any(
        decorator.partition("(")[0].endswith("dataclass") and "frozen=True" not in decorator for decorator in decorators
    )
