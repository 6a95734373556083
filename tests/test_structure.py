"""How the source hangs together: who may import whom, how large all is, and what pickles name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from jumpy_mbrl.agents import model_free

ROOT = Path(__file__).parents[1]
FLOORS = """arrays checks console devices files locks processes cluster
envs
shipped
data
models
training
evaluation
adapters export
agents
game
benchmarks figures reproduction videos
examples scripts"""
"""From below: rooms import from their own floor and those beneath it, but for ``UPWARDS``."""
UPWARDS = """adapters/mpc.py adapters/torchrl.py
evaluation/learning.py evaluation/sharding.py evaluation/tables.py"""
"""Files that still import agents from above. None may be added."""
MOST_LINES = {"source": 28_117, "tests": 26_790}
"""To be lowered whenever there are fewer."""
SOURCE = {p.resolve() for room in FLOORS.split() for p in (ROOT / room).rglob("*.py")}
SOURCE |= {p.resolve() for p in (ROOT / "jumpy_mbrl").rglob("*.py")}


def imported(node: ast.AST) -> Iterator[str]:
    """The rooms of the package that code imports, and not for annotations alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    whole = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
        if (whole + alias.name).startswith("jumpy_mbrl."):
            yield (whole + alias.name).split(".")[1]
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def test_no_room_imports_from_above() -> None:
    floor = {room: n for n, rooms in enumerate(FLOORS.splitlines()) for room in rooms.split()}
    found = set()
    for path in SOURCE - {ROOT / "jumpy_mbrl/__init__.py"}:
        name = path.relative_to(ROOT).as_posix().removeprefix("jumpy_mbrl/")
        own = floor[name.removesuffix(".py").split("/")[0]]
        rooms = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        found |= {(name, room) for room in rooms if floor.get(room, 0) > own}
    assert found == {(name, "agents") for name in UPWARDS.split()}


def test_it_grows_no_larger() -> None:
    for what, files in {"source": SOURCE, "tests": (ROOT / "tests").glob("*.py")}.items():
        lines = sum(path.read_bytes().count(b"\n") for path in files)
        assert lines <= MOST_LINES[what], f"{lines} lines of {what}"


def test_pickles_find_what_they_name() -> None:
    # Saved policies, shipped ones and those of users, name this module.
    assert {"MotionFeatures", "RelativeFeatures"} <= vars(model_free).keys()
