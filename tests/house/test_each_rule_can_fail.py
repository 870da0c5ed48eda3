"""A rule that cannot fail keeps nothing: each finds its bad example, names the place, and lets the good one pass."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import imports, places, rules

Rule = Callable[[Path], list[str]]

DOC = '"""Doc."""\n'
ROOM = "shadowstream/gate/rate.py"
DOOR = "shadowstream/__init__.py"
SERVICE = "consumers/uservoucher.py"
LONG = "\n".join(f"    step_{number} = {number}" for number in range(60))


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(root).parents:
            if package.parts and not (root / package / "__init__.py").exists() and path.suffix == ".py":
                (root / package / "__init__.py").write_text(DOC)
        path.write_text(text)
    return root


def in_git(root: Path) -> Path:
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    return root


LAYOUT: list[tuple[str, Rule, dict[str, str], str]] = [
    ("no Python", rules.unreadable, {ROOM: "a = 1\ndef:"}, f"{ROOM}:2:"),
    ("a function of 61 lines", rules.long_functions, {ROOM: f"def f():\n{LONG}"}, f"{ROOM}:1:"),
    (
        "an async method of 61 lines",
        rules.long_functions,
        {ROOM: f"class A:\n  async def f(self):\n{LONG}"},
        f"{ROOM}:2:",
    ),
    ("a trap without a guard", places.unguarded_traps, {ROOM: '"""A trap (``test_it``)."""\n'}, f"{ROOM}:1:"),
    ("a fault without a test", places.unguarded_traps, {"docs/faults.md": "F1: ``test_it``\n"}, "docs/faults.md:1:"),
    ("no short function", rules.too_few_short_functions, {ROOM: f"def f():\n{LONG}"}, f"{ROOM}:1:"),
    ("a module of 401 lines", rules.long_modules, {ROOM: "a = 1\n" * 401}, f"{ROOM}:401:"),
    (
        "a package of 9 modules",
        rules.crowded_packages,
        {f"shadowstream/gate/m{number}.py": DOC for number in range(9)},
        "shadowstream/gate/__init__.py:1:",
    ),
    ("7 arguments", rules.wide_signatures, {ROOM: "def f(a, b, c, /, d, e, *, g, h): ..."}, f"{ROOM}:1:"),
    (
        "self and 7 arguments",
        rules.wide_signatures,
        {ROOM: "class A:\n def f(self, a, b, c, d, e, g, h): ..."},
        f"{ROOM}:2:",
    ),
    (
        "7 arguments, excused without a reason",
        rules.wide_signatures,
        {ROOM: "def f(a, b, c, d, e, g, h): ...  # noqa: PLR0913"},
        f"{ROOM}:1:",
    ),
    ("utils.py", rules.vague_modules, {"shadowstream/gate/utils.py": DOC}, "shadowstream/gate/utils.py:1:"),
    ("a package helpers", rules.vague_modules, {"tests/helpers/clock.py": DOC}, "tests/helpers/clock.py:1:"),
    ("a Manager", rules.vague_classes, {ROOM: "class RateManager: ..."}, f"{ROOM}:1:"),
    ("an inner Base", rules.vague_classes, {ROOM: "def f():\n    class BaseRate: ..."}, f"{ROOM}:2:"),
    ("a module without a docstring", rules.undocumented, {ROOM: "a = 1"}, f"{ROOM}:1:"),
    ("a class without", rules.undocumented, {ROOM: f"{DOC}class Rate: ..."}, f"{ROOM}:2:"),
    ("a function without", rules.undocumented, {ROOM: f"{DOC}async def rate(): ..."}, f"{ROOM}:2:"),
    ("a method without", rules.undocumented, {ROOM: f"{DOC}class Rate:\n  {DOC}  def f(self): ..."}, f"{ROOM}:4:"),
    ("a function under an if without", rules.undocumented, {ROOM: f"{DOC}if a:\n  def f(): ..."}, f"{ROOM}:3:"),
    ("a print", rules.prints, {"shadowstream/cli/run.py": "def f():\n    print(1)"}, "shadowstream/cli/run.py:2:"),
    *(
        (f"state: {text}", rules.module_state, {ROOM: f"{text}\n"}, f"{ROOM}:1:")
        for text in (
            "seen = {}",
            "seen: list[int] = []",
            "seen = set()",
            "seen = dict[str, int]()",
            "seen = ((), [])",
            "seen = {key: 1 for key in 'ab'}",
            "seen = collections.defaultdict(list)",
            "lock = threading.Lock()",
            "stop = threading.Event()",
            "numbers = itertools.count()",
            "lane = ContextVar('lane')",
        )
    ),
    ("state under an if", rules.module_state, {ROOM: "if True:\n    seen = {}"}, f"{ROOM}:2:"),
    (
        "a record that can be changed",
        rules.module_state,
        {ROOM: "@dataclass(slots=True)\nclass Ticket: ...\nADMITTED = Ticket()"},
        f"{ROOM}:3:",
    ),
    (
        "a circle of three",
        imports.import_cycles,
        {
            "shadowstream/gate/a.py": "from shadowstream.gate import b",
            "shadowstream/gate/b.py": "def f():\n    import shadowstream.gate.c",
            "shadowstream/gate/c.py": "from .a import x",
        },
        "an import cycle: shadowstream.gate.",
    ),
    ("gate imports kafka", imports.off_the_floor_plan, {ROOM: f"{DOC}import shadowstream.kafka.engine"}, f"{ROOM}:2:"),
    (
        "config imports gate for a type",
        imports.off_the_floor_plan,
        {
            "shadowstream/gate/a.py": DOC,
            "shadowstream/config/a.py": "if TYPE_CHECKING:\n    from shadowstream import gate",
        },
        "shadowstream/config/a.py:2:",
    ),
    ("a relative way round", imports.off_the_floor_plan, {ROOM: "from ..kafka import engine"}, f"{ROOM}:1:"),
    (
        "a room imports the doorplate",
        imports.off_the_floor_plan,
        {ROOM: "from shadowstream import Worker"},
        f"{ROOM}:1:",
    ),
    ("an unknown room", imports.off_the_floor_plan, {"shadowstream/attic/a.py": DOC}, "shadowstream/attic/a.py:1:"),
    *(
        (
            f"a service: {text}",
            imports.past_the_front_door,
            {DOOR: '__all__ = ["Worker"]', SERVICE: text},
            f"{SERVICE}:1:",
        )
        for text in (
            "from shadowstream import Engine",
            "import shadowstream.kafka",
            "from shadowstream.kafka.engine import Engine",
            "import shadowstream as ss; ss.kafka.engine",
            "from shadowstream.testing import _secret",
        )
    ),
    (
        "a name on the door that does not resolve",
        places.front_door_problems,
        {DOOR: f'{DOC}__all__ = ["Worker"]'},
        f"{DOOR}:1: Worker is in __all__ and does not resolve",
    ),
    (
        "a name on the door without a docstring",
        places.front_door_problems,
        {DOOR: f'{DOC}from dataclasses import dataclass as _d\n__all__ = ["A"]\n@_d\nclass A:\n    x: int'},
        f"{DOOR}:1: A has no docstring",
    ),
    (
        "a public name not on the door",
        places.front_door_problems,
        {DOOR: f"{DOC}__all__ = []\ndef f():\n    {DOC}"},
        f"{DOOR}:1: f is public and not in __all__",
    ),
    ("a door that does not open", places.front_door_problems, {DOOR: "1 / 0"}, f"{DOOR}:1: it cannot be imported"),
    ("an extra imported", places.extras_imported, {DOOR: "import redis"}, f"{DOOR}:1: `import shadowstream` imports"),
    (
        "an extra tried by a room",
        places.extras_imported,
        {DOOR: "import shadowstream.gate.rate", ROOM: "\ntry:\n    from redis import Redis\nexcept ImportError: ..."},
        f"{ROOM}:3: `import shadowstream` imports",
    ),
    (
        "a dependency not locked",
        places.unlocked,
        {
            "pyproject.toml": '[project]\ndependencies = ["a>=1"]\noptional-dependencies.x = ["B_c[d]>=2"]\n',
            "requirements.lock": "a==1.0\n",
        },
        "requirements.lock:1: b-c is named",
    ),
    (
        "no lock at all",
        places.unlocked,
        {"pyproject.toml": '[dependency-groups]\ndev = ["a"]'},
        "requirements.lock:1: a ",
    ),
]


@pytest.mark.parametrize(("rule", "files", "expected"), [case[1:] for case in LAYOUT], ids=[case[0] for case in LAYOUT])
def test_each_rule_finds_its_bad_example(rule: Rule, files: dict[str, str], expected: str, tmp_path: Path) -> None:
    findings = rule(written(tmp_path, files))
    assert any(expected in finding for finding in findings), findings
    assert all("; " in finding for finding in findings), "each finding names a cure"


GOOD = {
    DOOR: f'{DOC}from shadowstream.gate.rate import Rate\n__all__ = ["Rate"]\n',
    "shadowstream/lane.py": f'{DOC}from contextvars import ContextVar\n_current = ContextVar("lane")\n',
    "shadowstream/errors.py": DOC,
    ROOM: f"""{DOC}
from __future__ import annotations
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, overload
from shadowstream import lane
if TYPE_CHECKING:
    from shadowstream.gate.key import Key
__all__ = ["Rate"]
NAMES = ("a", "b")
STATES = MappingProxyType({{"closed": 0}})
WORDS = frozenset({{"a"}})
PATTERN = re.compile("a")
class Rate:
    {DOC}
    def limited(self, a: int, b: int, c: int, d: int, e: int, f: Key) -> int:
        {DOC}
        def inner() -> int:
            seen: dict[str, int] = {{}}
            return len(seen)
        return inner()
    @property
    def burst(self) -> int:
        {DOC}
        return 1
    @burst.setter
    def burst(self, value: int) -> None: ...
    def _private(self) -> None: ...
    def copied(self, a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> None:  # noqa: PLR0913 - theirs
        {DOC}
@dataclass(frozen=True)
class Level:
    {DOC}
NONE = Level()
""",
    "shadowstream/gate/key.py": f"{DOC}from shadowstream.gate.rate import Rate\nclass Key(Rate):\n    {DOC}",
    SERVICE: f"""{DOC}
import shadowstream as ss
from shadowstream import Rate, testing
from shadowstream.metrics import serve
ss.Rate()
""",
    "pyproject.toml": """
project.dependencies = ["Prometheus_Client>=1"]
dependency-groups.x = [{include-group = "y"}]
""",
    "requirements.lock": "prometheus-client==1.0 \\\n    --hash=sha256:0\n",
}


@pytest.mark.parametrize("rule", dict.fromkeys(case[1] for case in LAYOUT))
def test_each_rule_lets_the_good_example_pass(rule: Rule, tmp_path: Path) -> None:
    assert rule(written(tmp_path, GOOD)) == []


# --- text: the bad examples are put together here, or the rules would find this file ----------------------------------


@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
@pytest.mark.parametrize("before", ["", "cd ", '"', "file://", "=", ":"])
def test_a_path_of_one_machine_is_found(folder: str, before: str, tmp_path: Path) -> None:
    in_git(written(tmp_path, {"docs/how.md": f"\n{before}/{folder}/main\n"}))
    assert [finding.split(": ")[0] for finding in places.machine_paths(tmp_path)] == ["docs/how.md:2"]


def test_a_relative_path_a_url_and_an_ignored_file_are_no_machine_path(tmp_path: Path) -> None:
    home = f"/{'home'}/"
    files = {"a.md": f"docs{home}x ${{HOME}}{home}x example.org{home}", "b.log": f"{home}me", ".gitignore": "*.log"}
    assert places.machine_paths(in_git(written(tmp_path, files))) == []


@pytest.mark.parametrize(
    "host", ["files.python{}hosted.org", "py{}pi.org", "docker{}.io", "index.docker{}.io", "registry.npm{}js.org"]
)
def test_a_registry_is_found(host: str, tmp_path: Path) -> None:
    in_git(written(tmp_path, {"requirements.lock": f"# from https://{host.format('')}/simple\n"}))
    assert [finding.split(": ")[0] for finding in places.registries(tmp_path)] == ["requirements.lock:1"]


def test_the_package_index_of_this_machine_is_found_and_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://someone:secret@wheels.example.org:8443/simple")
    in_git(written(tmp_path, {"Dockerfile": "ADD http://wheels.example.org/a.whl .\n"}))
    (finding,) = places.registries(tmp_path)
    assert finding.startswith("Dockerfile:1:")
    assert "wheels.example.org" not in finding
    assert "secret" not in finding


def test_a_file_that_is_no_text_is_skipped(tmp_path: Path) -> None:
    in_git(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"\xff/root/\0")
    assert places.machine_paths(tmp_path) == []


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["from shadowstream.kafka import engine", "if TYPE_CHECKING:\n    from shadowstream.kafka import engine"]
)
def test_an_upward_import_breaks_the_floors(text: str, tmp_path: Path) -> None:
    files = {
        "shadowstream/kafka/engine.py": "",
        "shadowstream/metrics/a.py": f"from typing import TYPE_CHECKING\n{text}",
    }
    assert "shadowstream.metrics.a -> shadowstream.kafka.engine" in "\n".join(floors(tmp_path, files))


def test_a_room_that_is_not_on_the_plan_breaks_the_floors(tmp_path: Path) -> None:
    assert "shadowstream.attic" in "\n".join(floors(tmp_path, {"shadowstream/attic/a.py": ""}))


def test_rooms_that_do_not_exist_yet_break_no_floor(tmp_path: Path) -> None:
    assert floors(tmp_path, {"shadowstream/gate/a.py": "import shadowstream.lane"}) == []


def floors(root: Path, files: dict[str, str]) -> list[str]:
    contract = (rules.ROOT / ".importlinter").read_text()
    ground = {"shadowstream/lane.py": "", "shadowstream/errors.py": "", ".importlinter": contract}
    return places.broken_floors(written(root, ground | files))


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", ".")])
def test_what_ruff_finds_is_found(command: tuple[str, ...], tmp_path: Path) -> None:
    written(tmp_path, {"pyproject.toml": (rules.ROOT / "pyproject.toml").read_text(), "a.py": "import  os\n"})
    assert any("a.py" in finding for finding in places.tool(tmp_path, *command))


def test_what_mypy_finds_is_found(tmp_path: Path) -> None:
    config = (rules.ROOT / "pyproject.toml").read_text()
    written(tmp_path, {"pyproject.toml": config, ROOM: "def f(a): ...\n"})
    assert any(finding.startswith(f"{ROOM}:1: error:") for finding in places.type_errors(tmp_path))
