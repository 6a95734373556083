"""How the source hangs together: who may import whom, how large all is, and what pickles name."""

from __future__ import annotations

import ast
from pathlib import Path

from jumpy_mbrl.agents import model_free
from jumpy_mbrl.lab.architecture import FLOORS, files_of, rooms_imported

ROOT = Path(__file__).parents[1]
MOST_LINES = {"source": 31_024, "tests": 23_034}
"""To be lowered whenever there are fewer."""
UPWARDS: set[tuple[str, str]] = set()
"""Rooms that import from above. None may be added."""


def test_every_module_has_a_room() -> None:
    rooms = [room for floor in FLOORS.values() for room in floor]
    known = {path for room in rooms for path in files_of(room)}
    assert set((ROOT / "jumpy_mbrl").rglob("*.py")) - known == {ROOT / "jumpy_mbrl/__init__.py"}


def test_no_room_imports_from_above() -> None:
    height = {room: n for n, rooms in enumerate(FLOORS.values()) for room in rooms}
    found = {
        (room, other)
        for room in height
        for path in files_of(room)
        for other in rooms_imported(ast.parse(path.read_text(encoding="utf-8")))
        if height.get(other, 0) > height[room]
    }
    assert found == UPWARDS


def test_it_grows_no_larger() -> None:
    tests = set((ROOT / "tests").rglob("*.py"))
    here = (ROOT / room for room in ("agents", "envs", "examples", "jumpy_mbrl", "scripts"))
    source = {path.resolve() for folder in here for path in folder.rglob("*.py")}
    for what, files in {"source": source, "tests": tests}.items():
        lines = sum(path.read_bytes().count(b"\n") for path in files)
        assert lines <= MOST_LINES[what], f"{lines} lines of {what}"


def test_pickles_find_what_they_name() -> None:
    # Saved policies, shipped ones and those of users, name this module.
    assert {"MotionFeatures", "RelativeFeatures"} <= vars(model_free).keys()
