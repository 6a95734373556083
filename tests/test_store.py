"""A file of results that several processes add to, and pages in Markdown that tell it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.lab import clearing, pixel_study, store
from jumpy_mbrl.lab.learning import study as learning
from jumpy_mbrl.lab.planner import study as planner
from jumpy_mbrl.lab.worlds import page, simb

EMPTY: dict[str, Any] = {"format": "ours", "version": 2, "entries": {}}


def report_in(folder: Path) -> store.Report:
    return store.Report(folder / "new" / "all.json", EMPTY, lambda all: all["entries"].values())


def test_all_that_several_add_is_kept(tmp_path: Path) -> None:
    report = report_in(tmp_path)
    assert report.read() == EMPTY and not report.path.parent.exists()

    def add(writer: int) -> None:
        for number in range(10):
            with report.update() as content:
                content["entries"][f"{writer} {number}"] = number

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert len(report.read()["entries"]) == 40
    assert EMPTY["entries"] == {}, "what is empty stays so"
    before = report.path.read_bytes()
    with pytest.raises(KeyError), report.update() as content:
        content["entries"].clear()
        content["nothing"]
    assert report.path.read_bytes() == before
    assert [path.name for path in report.path.parent.iterdir()] == ["all.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "it holds a list"),
        ('{"format": NaN}', "it holds NaN"),
        ("{}", "format is None instead of 'ours'"),
        ('{"format": "ours", "version": 1}', "version is 1 instead of 2"),
        ('{"format": "ours", "version": 2, "format_version": 1}', "format_version is 1 instead of"),
        ('{"format": "ours", "version": 2}', "there is no 'entries'"),
        ('{"format": "ours", "version": 2, "entries": 3}', "'int' object has no attribute"),
    ],
)
def test_what_is_damaged_or_not_ours_is_named(text: str, words: str, tmp_path: Path) -> None:
    report = report_in(tmp_path)
    report.path.parent.mkdir()
    report.path.write_text(text)
    with pytest.raises(ValueError, match=f"all.json as it was .*{words}.*; choose another --out"):
        report.read()
    with pytest.raises(ValueError, match=words), report.update():
        pass
    assert report.path.read_text() == text


def test_entries_that_cannot_be_are_named(tmp_path: Path, refusals: Callable[..., int]) -> None:
    report = report_in(tmp_path)
    with report.update() as content:
        content["entries"]["one"] = 1
    assert refusals(report.path, report.read) >= 20


def test_tables_in_markdown() -> None:
    rows = [["a", "1"], ["b", "2"]]
    lines = ["| name | n |", "|---|---|", "| a | 1 |", "| b | 2 |"]
    assert store.markdown(("name", "n"), rows) == lines
    assert store.markdown(("name", "n"), [], names=1) == ["| name | n |", "| --- | ---: |"]
    assert (store.percent(0.5), store.percents((0.4, 0.6))) == ("50.0 %", "40.0 to 60.0")


PAGES: dict[str, Callable[[Any], list[str]]] = {
    "clearing/study": clearing.page,
    "inside/learning": lambda report: [learning.page(report)],
    "learning/learning": lambda report: [learning.page(report)],
    "pixels/study": lambda report: pixel_study.page(report["parts"]),
    "planner/ablation": lambda report: planner._section("ablation", report),
    "planner/frontier": lambda report: planner._section("frontier", report),
    "worlds/simb": lambda report: simb.table(report["models"]),
    "worlds/worlds": lambda report: page.page(report["worlds"]),
}


@pytest.mark.parametrize("name", PAGES)
def test_stored_pages_are_what_the_stored_results_say(name: str) -> None:
    path = Path(__file__).parents[1] / "results" / f"{name}.json"
    text = "\n".join(PAGES[name](json.loads(path.read_text(encoding="utf-8"))))
    told = path.parent / ("studies.md" if "planner" in name else f"{path.stem}.md")
    assert len(text) > 500 and text in told.read_text(encoding="utf-8")
