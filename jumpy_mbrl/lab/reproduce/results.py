"""Results of runs, in a folder that several processes may add to at the same time.

The files there are those of the table's entries, of the sequences to draw and of figure 4's
entries; the table as Markdown and the figures are made of these three.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jumpy_mbrl.files import entries_of
from jumpy_mbrl.lab.reproduce import figures, table
from jumpy_mbrl.lab.store import Report, write_text

FORMAT, VERSION = "jumpy-mbrl table 1", 2
TABLE, PAGE, SAMPLES, CAPACITY = "table1.json", "table1.md", "samples.json", "capacity.json"
REMEDY = "choose another --out"


class Results:
    """The results in a folder: all quick ones or all real ones, or as they are if None is said.

    ``table`` holds ``tasks``: entries by task, model and seed. ``samples`` holds what to draw by
    task and model, of the first seed whose run succeeded, or None. ``capacity`` holds ``models``:
    entries by model and hidden size. `ValueError` for files that are damaged, or hold others.
    """

    def __init__(self, out: Path, quick: bool | None = None) -> None:
        self.out = out
        empty = {"format": FORMAT, "version": VERSION, "quick": bool(quick)}
        check_table = partial(_check, quick=quick, kind="tasks", depth=3)
        check_capacity = partial(_check, quick=quick, kind="models", depth=2)
        self.table = Report(out / TABLE, {**empty, "tasks": {}}, check_table, REMEDY)
        self.capacity = Report(out / CAPACITY, {**empty, "models": {}}, check_capacity, REMEDY)
        self.samples = Report(out / SAMPLES, {}, _check_samples, REMEDY, _write_compactly)
        for report in (self.table, self.capacity, self.samples):
            report.read()

    def add(self, task: str, model: str, result: Mapping[str, Any]) -> None:
        """Keeps what `run_job` returned for a run of the table; no failure replaces a result."""
        entry = result["entry"]
        with self.table.update() as report:
            note = table.QUICK_WARNING if report["quick"] else None
            report.update(note=note, papers=table.PAPERS, definitions=table.DEFINITIONS)
            entries = report["tasks"].setdefault(task, {}).setdefault(model, {})
            kept = _put(entries, str(entry["seed"]), entry)
            if kept and table.succeeded(entries)[:1] in ([], [entry]):
                with self.samples.update() as samples:
                    samples.setdefault(task, {})[model] = result["samples"]

    def add_capacity(self, model: str, hidden_size: str, result: Mapping[str, Any]) -> None:
        """The same for a run of figure 4."""
        with self.capacity.update() as report:
            report["note"] = table.QUICK_WARNING if report["quick"] else None
            _put(report["models"].setdefault(model, {}), hidden_size, result["entry"])

    def write_page(self) -> str:
        """Writes the table as Markdown, and returns it."""
        with entries_of(self.table.path, REMEDY):
            text = table.format_report(self.table.read())
        write_text(self.out / PAGE, text)
        return text

    def draw(self) -> list[Path]:
        """Draws the figures, and returns their paths. Raises ImportError without matplotlib."""
        with entries_of(f"{TABLE}, {SAMPLES} and {CAPACITY} in {self.out}", REMEDY):
            return figures.save_task_figures(
                self.table.read(), self.samples.read(), self.capacity.read(), self.out
            )


def _put(entries: dict[str, Any], key: str, entry: Mapping[str, Any]) -> bool:
    """Puts an entry in its place, unless it is of a failure where there is one of a result."""
    loses = entry["error"] is not None and key in entries and entries[key]["error"] is None
    if not loses:
        entries[key] = entry
    return not loses


def _check(content: Mapping[str, Any], quick: bool | None, kind: str, depth: int) -> None:
    if not isinstance(content["quick"], bool):
        raise ValueError(f"quick is {content['quick']!r}")
    if quick not in (None, content["quick"]):
        raise ValueError(f"it holds results of {'real runs' if quick else 'a quick run'}")
    if kind == "tasks":
        table.in_order(content[kind])
    for entry in _inside(content[kind], depth):
        entry["error"]


def _check_samples(content: Mapping[str, Any]) -> None:
    for entry in _inside(content, depth=2):
        if entry is not None:
            entry.keys()


def _inside(content: Mapping[str, Any], depth: int) -> list[Any]:
    """What there is under so many names each; raises where there are no names."""
    level: list[Any] = [content]
    for _ in range(depth):
        level = [inner for mapping in level for inner in mapping.values()]
    return level


def _write_compactly(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n")
