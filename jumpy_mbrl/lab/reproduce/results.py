"""What the runs gave, in a folder that results can be added to at any time.

The folder holds the entries of the table, the sequences to draw, the entries of figure 4, the table
as Markdown, and the figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jumpy_mbrl.files import atomic_write, entries_of, write_json
from jumpy_mbrl.lab.reproduce.figures import save_task_figures
from jumpy_mbrl.lab.reproduce.table import (
    DEFINITIONS,
    PAPERS,
    QUICK_WARNING,
    format_report,
    in_order,
    succeeded,
)
from jumpy_mbrl.locks import take_turns

FORMAT, VERSION = "jumpy-mbrl table 1", 2

TABLE, PAGE, SAMPLES, CAPACITY = "table1.json", "table1.md", "samples.json", "capacity.json"


@dataclass
class Results:
    """The results in a folder.

    Attributes:
        out: the folder.
        report: of `TABLE`: entries in ``tasks``, by task, model and seed, and what explains them.
        samples: of `SAMPLES`: sequences to draw, by task and model, of the first seed whose run
            succeeded; None if all failed.
        capacity: of `CAPACITY`: entries in ``models``, by model and hidden size.
    """

    out: Path
    report: dict[str, Any]
    samples: dict[str, dict[str, Any]]
    capacity: dict[str, Any]
    _added: list[tuple[Callable[..., None], tuple[Any, ...]]] = field(
        default_factory=list, repr=False, compare=False
    )

    @classmethod
    def open(cls, out: Path, quick: bool) -> Results:
        """Results to add to: those in ``out``, which is made if need be.

        Raises:
            ValueError: if a file is damaged or not ours, or of the other kind, quick or not.
        """
        out.mkdir(parents=True, exist_ok=True)
        results = cls._read(out, quick)
        for name, content in ((TABLE, results.report), (CAPACITY, results.capacity)):
            if content["quick"] != quick:
                kind = "a quick run" if content["quick"] else "real runs"
                raise ValueError(f"{out / name} holds results of {kind}; choose another --out")
        return results

    @classmethod
    def load(cls, out: Path) -> Results:
        """Results to look at: those in ``out``.

        Raises:
            ValueError: if there is no table, or a file is damaged or not ours.
        """
        results = cls._read(out, quick=False)
        if not (out / TABLE).is_file():
            raise ValueError(
                f"expected {TABLE} in {out}, but there is none; run without --figures-only"
            )
        return results

    @classmethod
    def _read(cls, out: Path, quick: bool) -> Results:
        """What is in ``out``; of what is not, nothing, and ``quick`` or not."""
        empty = {"format": FORMAT, "version": VERSION, "quick": quick}
        results = cls(
            out,
            report=_read_file(out / TABLE) or {**empty, "tasks": {}},
            capacity=_read_file(out / CAPACITY) or {**empty, "models": {}},
            samples=_read_file(out / SAMPLES) or {},
        )
        _check(out / TABLE, results.report, "tasks", depth=3)
        _check(out / CAPACITY, results.capacity, "models", depth=2)
        _check(out / SAMPLES, {**empty, "samples": results.samples}, "samples", depth=2)
        return results

    def add(self, task: str, model: str, result: Mapping[str, Any]) -> None:
        """Takes what `run_job` returned for a run of the table, unless a failure is to replace a
        result."""
        entry = result["entry"]
        entries = self.report["tasks"].setdefault(task, {}).setdefault(model, {})
        if _loses(entry, entries.get(str(entry["seed"]))):
            return
        entries[str(entry["seed"])] = entry
        if succeeded(entries)[:1] in ([], [entry]):
            self.samples.setdefault(task, {})[model] = result["samples"]
        self._added.append((Results.add, (task, model, result)))

    def add_capacity(self, model: str, hidden_size: str, result: Mapping[str, Any]) -> None:
        """Takes what `run_job` returned for a run of figure 4, on the same condition as `add`."""
        entries = self.capacity["models"].setdefault(model, {})
        if _loses(result["entry"], entries.get(hidden_size)):
            return
        entries[hidden_size] = result["entry"]
        self._added.append((Results.add_capacity, (model, hidden_size, result)))

    def refresh(self) -> None:
        """Reads what others wrote to the folder since, and adds again what was not saved yet.

        Raises:
            ValueError: as `open` does.
        """
        latest = Results.open(self.out, self.report["quick"])
        for add, arguments in self._added:
            add(latest, *arguments)
        self.report, self.samples, self.capacity = latest.report, latest.samples, latest.capacity

    def save(self) -> None:
        """Writes the results, each file atomically, beside those that others wrote since.

        Raises:
            ValueError: as `open` does.
        """
        with take_turns(self.out / TABLE):
            self.refresh()
            self._write()
        self._added.clear()

    def _write(self) -> None:
        if self.report["tasks"]:
            self.report["papers"] = PAPERS
            self.report["definitions"] = DEFINITIONS
            self.report["note"] = QUICK_WARNING if self.report["quick"] else None
            self.report["tasks"] = in_order(self.report["tasks"])
            write_json(self.out / TABLE, self.report)
            text = json.dumps(self.samples, allow_nan=False, separators=(",", ":"))
            _write_text(self.out / SAMPLES, text + "\n")
        if self.capacity["models"]:
            self.capacity["note"] = QUICK_WARNING if self.capacity["quick"] else None
            write_json(self.out / CAPACITY, self.capacity)

    def write_page(self) -> str:
        """Writes the table as Markdown, and returns it."""
        with entries_of(self.out / TABLE, "run it all again with another --out"):
            text = format_report(self.report)
        _write_text(self.out / PAGE, text)
        return text

    def draw(self) -> list[Path]:
        """Draws the figures, and returns their paths.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        names = f"{TABLE}, {SAMPLES} and {CAPACITY} in {self.out}"
        with entries_of(names, "run it all again with another --out"):
            return save_task_figures(self.report, self.samples, self.capacity, self.out)


def _loses(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """Whether an entry failed where there is one of a run that did not."""
    return new["error"] is not None and old is not None and old.get("error") is None


def _check(path: Path, content: Mapping[str, Any], kind: str, depth: int) -> None:
    """Raises ``ValueError`` unless results can be added to what a file holds, under that many names
    each."""
    with entries_of(path, "choose another --out"):
        if not isinstance(content["quick"], bool):
            raise ValueError(f"quick is {content['quick']!r}")
        level = [content[kind]]
        for _ in range(depth):
            level = [inner for entries in level for inner in entries.values()]
        for entry in level:
            if entry is not None:
                entry.get("error")
        if path.name == TABLE:
            in_order(content["tasks"])


def _read_file(path: Path) -> dict[str, Any] | None:
    """What a file holds, or None if there is none.

    Raises:
        ValueError: if it is damaged or not ours.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, got something else: {error}") from None
    ours = isinstance(content, dict) and (path.name == SAMPLES or content.get("format") == FORMAT)
    if not ours:
        raise ValueError(f"expected {path} to hold format {FORMAT!r}, so it is not ours")
    version = content.get("version", 1)
    if path.name != SAMPLES and version != VERSION:
        raise ValueError(
            f"expected {path} to be of version {VERSION}, got {version!r}; results of another "
            "version cannot be added to: choose another --out, or remove them"
        )
    found: dict[str, Any] = content
    return found


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
