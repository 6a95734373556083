"""The picture of docs/architecture.md: which room imports which, read from the code itself."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from jumpy_mbrl.lab.style import BAD, FAINT, GRID, OURS, TITLE, new_figure

FLOORS: dict[str, tuple[str, ...]] = {
    "foundation": (
        "arrays",
        "checks",
        "devices",
        "files",
        "locks",
        "pieces",
        "processes",
    ),
    "envs": ("envs",),
    "objectives": ("objectives",),
    "data": ("data",),
    "models": ("models", "shipped"),
    "training": ("training",),
    "evaluation": ("evaluation",),
    "adapters": ("adapters", "export"),
    "agents": ("agents",),
    "play": ("play",),
    "lab": ("lab",),
    "commands": ("commands",),
}
"""Rooms of the package from the lowest floor to the highest. None imports from above its own."""
PACKAGE = Path(__file__).parents[1]
HOLDS = {
    "foundation": "files, checks, processes",
    "envs": "the table: rules, physics, pictures",
    "objectives": "what a plan is scored by",
    "data": "trajectories, events, samplers",
    "models": "WorldModel and its kinds",
    "training": "presets, loop, resume",
    "evaluation": "held-out tables, scores",
    "adapters": "SB3, torchrl, Hub, export",
    "agents": "planning, baselines, registry",
    "play": "a person against an agent",
    "lab": "reproduction, studies, films",
    "commands": "jumpy-mbrl COMMAND",
}


def rooms_imported(code: ast.AST) -> Iterator[str]:
    """The rooms that a piece of code imports, and not for annotations alone."""
    if isinstance(code, ast.If) and ast.unparse(code.test) == "TYPE_CHECKING":
        return
    whole = f"{code.module}." if isinstance(code, ast.ImportFrom) else ""
    for alias in code.names if isinstance(code, ast.Import | ast.ImportFrom) else ():
        if (whole + alias.name).startswith("jumpy_mbrl."):
            yield (whole + alias.name).split(".")[1]
    for child in ast.iter_child_nodes(code):
        yield from rooms_imported(child)


def files_of(room: str) -> list[Path]:
    """The modules of a room: a folder's, or one."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def draw(path: str | os.PathLike[str]) -> None:
    """Draws the floors, and beside each a dot for every floor that it imports."""
    floor_of = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
    floors = list(FLOORS)
    top = len(floors)
    with new_figure(path, (9.6, 7.2)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 9.6), ylim=(-0.9, top + 1.1))
        axes.axis("off")
        axes.text(0.35, top + 0.55, "Where everything lives", **TITLE)
        for height, (floor, rooms) in enumerate(FLOORS.items()):
            files = [file for room in rooms for file in files_of(room)]
            lines = sum(file.read_bytes().count(b"\n") for file in files)
            axes.axhline(height - 0.5, 0.035, 0.97, color=GRID, linewidth=1)
            axes.text(0.35, height, floor, weight="bold", va="center")
            axes.text(1.85, height, HOLDS[floor], color=FAINT, va="center", fontsize=10)
            axes.text(5.3, height, f"{lines:,}", color=FAINT, va="center", ha="right", fontsize=10)
            column = 5.8 + 0.3 * height
            axes.text(column, top - 0.35, floor, color=FAINT, rotation=55, fontsize=8)
            used = {
                floors.index(floor_of[room])
                for file in files
                for room in rooms_imported(ast.parse(file.read_text(encoding="utf-8")))
                if room in floor_of and floor_of[room] != floor
            }
            colours = [OURS if other < height else BAD for other in used]
            axes.scatter([5.8 + 0.3 * other for other in used], [height] * len(used), 30, colours)
            axes.scatter([column], [height], 30, GRID, marker="s")
        axes.text(5.3, -0.75, "lines of code", color=FAINT, ha="right", fontsize=8)
        axes.text(
            5.65,
            -0.75,
            "a dot: the row imports the column; red: from above",
            color=FAINT,
            fontsize=8,
        )
