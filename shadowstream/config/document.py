"""One YAML text becomes a tree of values that know their place; what cannot be read becomes a problem.

Traps:

* Plain scalars are read more strictly than YAML 1.1 does: ``0123``, ``1:30`` and dates stay text instead of turning
  into 83, 90 and a date (guarded by ``test_a_scalar_that_yaml_would_twist_stays_text``).
* A problem never quotes the text around it: the next line of the file may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from shadowstream.errors import Problem
from shadowstream.lane import Lane

__all__ = ["Findings", "Node", "Scalar", "content_of", "from_mapping", "from_text", "from_value", "read"]

Scalar = str | int | float | bool | None

TAG = "tag:yaml.org,2002:"
TEXT_TAGS = frozenset({"str", "timestamp", "value"})
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)", re.ASCII)
QUOTED = re.compile(r"""(['"])(?!<)[^'"]{2,}\1""")
"""Words of the document inside PyYAML's messages: they may be a password that began with ``*``."""
DOCUMENT = "(document)"
CURE = "Make it a readable UTF-8 text file."
DIGITS = 300
"""The longest number read as a number: longer ones overflow a float."""
DEPTH = 50
"""The deepest nesting that is read."""
VALUES = 100_000
"""The most values one document may hold: aliases of aliases grow without end."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document and where it stands."""

    content: Scalar | tuple[Node, ...] | Mapping[str, Node] = field(repr=False)
    place: str
    duplicates: tuple[tuple[str, str], ...] = ()
    """Keys of this mapping that came twice: each with the place of the later one."""

    def plain(self) -> object:
        """Return the value without its places."""
        if isinstance(self.content, tuple):
            return [item.plain() for item in self.content]
        if isinstance(self.content, Mapping):
            return {key: node.plain() for key, node in self.content.items()}
        return self.content


class Findings:
    """All that is wrong, each problem with the lane whose part of the configuration it stands in."""

    def __init__(self) -> None:
        self._found: list[tuple[Lane, Problem]] = []

    def add(self, blame: Lane, problem: Problem) -> None:
        """Keep one problem, once."""
        if (blame, problem) not in self._found:
            self._found.append((blame, problem))

    def of(self, lane: Lane) -> tuple[Problem, ...]:
        """Return the problems of one lane, in the order found."""
        return tuple(problem for blame, problem in self._found if blame is lane)


class _UnreadableError(Exception):
    """A document that YAML accepts and we do not."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def content_of(path: str | Path, findings: Findings) -> bytes | None:
    """Return what the configuration file holds; None when it cannot be read, and then the findings say why."""
    first = f"{path}:1"
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        cure = "Write the file, or name another one with --config FILE or load(path)."
        _refuse(findings, first, "the file does not exist", cure)
    except (OSError, ValueError) as error:
        _refuse(findings, first, f"the file cannot be read ({_reason(error)})", CURE)
    return None


def read(path: str | Path, content: bytes, findings: Findings) -> Node | None:
    """Read what the file at ``path`` holds; None when it cannot be used, and then the findings say why."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeError:
        _refuse(findings, f"{path}:1", "the file is not UTF-8 text", CURE)
        return None
    node = from_text(text, lambda line: f"{path}:{line}", findings)
    if node is None or isinstance(node.content, Mapping):
        return node
    found = "the file is empty" if node.content is None else "the file is not a mapping of sections"
    _refuse(findings, node.place, found, "Start with `service: NAME` and `kafka: {...}`.")
    return None


def from_text(
    text: str, place: Callable[[int], str], findings: Findings, key: str = DOCUMENT, blame: Lane = Lane.NORMAL
) -> Node | None:
    """Read YAML text; ``place`` names a line of it, ``key`` what the text is the value of."""
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        return Node(None, place(1)) if root is None else _Conversion(loader, place).node(root, root, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        message, where = f"is not valid YAML ({QUOTED.sub('...', str(error.problem))})", place(line)
    except yaml.YAMLError:
        message, where = "is not valid YAML (it holds a character that YAML does not allow)", place(1)
    except RecursionError:
        message, where = f"is nested more than {DEPTH} deep", place(1)
    except _UnreadableError as error:
        message, where = str(error), place(error.line)
    finally:
        if loader is not None:
            loader.dispose()
    cure = "Correct the YAML there; text that begins with one of *&!%@`[{ needs quotes."
    findings.add(blame, Problem(where, key, message, cure))
    return None


def from_value(text: str, place: str, findings: Findings, key: str, blame: Lane) -> Node | None:
    """Read the value of an environment variable: a flow collection, a quoted text, or one plain scalar."""
    if text.startswith(("{", "[", '"', "'")):
        return from_text(text, lambda _line: place, findings, key, blame)
    # A plain value is never parsed as a document: `p@ss #1` is a password and not a comment.
    loader = yaml.SafeLoader("")
    try:
        tag: str = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    finally:
        loader.dispose()
    return Node(_scalar(tag.removeprefix(TAG), text), place)


def from_mapping(value: object, place: str, depth: int = 0) -> Node:
    """Read values that a program hands over, such as the live layer."""
    if depth > DEPTH:
        return Node(f"nested more than {DEPTH} deep", place)
    if isinstance(value, Mapping):
        return Node({str(key): from_mapping(item, place, depth + 1) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node(tuple(from_mapping(item, place, depth + 1) for item in value), place)
    return Node(value if isinstance(value, str | int | float | bool | None) else str(value), place)


def _refuse(findings: Findings, where: str, message: str, cure: str) -> None:
    findings.add(Lane.NORMAL, Problem(where, DOCUMENT, message, cure))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


class _Conversion:
    """Turns the nodes of one YAML document into ours."""

    def __init__(self, loader: yaml.SafeLoader, place: Callable[[int], str]) -> None:
        self._loader = loader
        self._place = place
        self._twice: dict[int, tuple[tuple[str, str], ...]] = {}
        self._count = 0

    def node(self, node: yaml.Node, key: yaml.Node, trail: tuple[int, ...]) -> Node:
        """Convert one value, placed at its key."""
        line = key.start_mark.line + 1
        if id(node) in trail or len(trail) > DEPTH:
            raise _UnreadableError(line, f"contains itself, or is nested more than {DEPTH} deep")
        self._count += 1
        if self._count > VALUES:
            raise _UnreadableError(line, f"holds more than {VALUES} values")
        trail = (*trail, id(node))
        kind = node.tag.removeprefix(TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, line, trail)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return Node(tuple(self.node(item, item, trail) for item in node.value), self._place(line))
        if isinstance(node, yaml.ScalarNode) and kind in TEXT_TAGS | {"null", "bool", "int", "float"}:
            return Node(_scalar(kind, node.value), self._place(line))
        raise _UnreadableError(line, "holds a YAML tag that means nothing here")

    def _mapping(self, node: yaml.MappingNode, line: int, trail: tuple[int, ...]) -> Node:
        if id(node) not in self._twice:  # an alias brings the node back, with its merges already laid in
            self._twice[id(node)] = tuple(self._repeated(node))
            self._loader.flatten_mapping(node)
        entries = {self._key(key)[0]: self.node(value, key, trail) for key, value in node.value}
        return Node(entries, self._place(line), self._twice[id(node)])

    def _repeated(self, node: yaml.MappingNode) -> Iterator[tuple[str, str]]:
        seen = set()
        for text, line in (self._key(key) for key, _ in node.value if key.tag != f"{TAG}merge"):
            if text in seen:
                yield text, self._place(line)
            seen.add(text)

    def _key(self, key: yaml.Node) -> tuple[str, int]:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _UnreadableError(line, "holds a key that is not one word")
        return key.value, line


def _scalar(kind: str, text: str) -> Scalar:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in {"true", "yes", "on"}
    if kind == "int" and INTEGER.fullmatch(text) and len(text) <= DIGITS:
        return int(text.replace("_", ""))
    if kind == "float" and len(text) <= DIGITS:
        try:
            return float(text.replace("_", ""))
        except ValueError:
            return text
    return text
