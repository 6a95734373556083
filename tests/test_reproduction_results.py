"""The folder of results; damaged files and figures are tested through the command line too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.reproduction.results import CAPACITY, PAGE, SAMPLES, TABLE, Results
from jumpy_mbrl.reproduction.table import DEFINITIONS, PAPERS

FAILED: dict[str, Any] = {"entry": {"error": "OSError: disk full"}, "samples": None}


GOOD: dict[str, Any] = {"entry": {"error": None, "seed": 0}, "samples": {"truth": [[0.5]]}}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_results_are_added_to(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    first = Results.open(out, quick=False)
    first.add("circles", "ours", FAILED)
    first.add("circles", "rnn", {**FAILED, "samples": {"truth": [[0.5]]}})
    first.save()
    assert names_in(out) == {TABLE, SAMPLES}

    second = Results.open(out, quick=False)
    second.add("lines", "rnn", FAILED)
    second.add_capacity("ours", "64", FAILED)
    second.save()
    assert names_in(out) == {TABLE, SAMPLES, CAPACITY}
    assert list(second.report["tasks"]) == ["lines", "circles"]
    assert list(second.report["tasks"]["circles"]) == ["rnn", "ours"]

    found = Results.load(out)
    assert found == second
    assert found.report["papers"] == PAPERS and found.report["definitions"] == DEFINITIONS
    assert found.report["note"] is None and found.capacity["note"] is None
    assert found.samples["circles"] == {"ours": None, "rnn": {"truth": [[0.5]]}}
    assert found.capacity["models"] == {"ours": {"64": FAILED["entry"]}}


def test_a_failed_run_never_replaces_a_good_one(tmp_path: Path) -> None:
    results = Results.open(tmp_path, quick=False)
    better = {"entry": {"error": None, "seed": 1}, "samples": {"truth": [[0.25]]}}
    # Failures give way to anything, good results only to good ones.
    for result, kept in [(FAILED, FAILED), (GOOD, GOOD), (FAILED, GOOD), (better, better)]:
        results.add("lines", "rnn", result)
        results.add_capacity("ours", "8", result)
        assert results.report["tasks"]["lines"]["rnn"] == kept["entry"]
        assert results.samples["lines"]["rnn"] == kept["samples"]
        assert results.capacity["models"]["ours"]["8"] == kept["entry"]
    failed_again = {"entry": {"error": "ValueError: another"}, "samples": None}
    for result in (FAILED, failed_again):
        results.add("lines", "ours", result)
        assert results.report["tasks"]["lines"]["ours"] == result["entry"]


@pytest.mark.parametrize("name", [TABLE, CAPACITY, SAMPLES])
def test_entries_that_cannot_be_are_named(
    name: str, tmp_path: Path, refusals: Callable[..., int]
) -> None:
    results = Results.open(tmp_path, quick=False)
    results.add("lines", "rnn", GOOD)
    results.add_capacity("ours", "8", GOOD)
    results.save()

    def read() -> None:
        found = Results.open(tmp_path, quick=False)
        found.add("lines", "rnn", FAILED)
        found.add_capacity("ours", "8", FAILED)
        if name == TABLE:
            found.write_page()

    assert refusals(tmp_path / name, read, every=2) >= 8


def test_nothing_is_written_of_no_results(tmp_path: Path) -> None:
    Results.open(tmp_path, quick=True).save()
    assert names_in(tmp_path) == set()
    with pytest.raises(ValueError, match=r"expected table1\.json in .*, but there is none"):
        Results.load(tmp_path)
    with pytest.raises(ValueError, match="there is none"):
        Results.load(tmp_path / "nowhere")
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", [TABLE, CAPACITY])
def test_quick_and_real_results_never_mix(tmp_path: Path, name: str, quick: bool) -> None:
    results = Results.open(tmp_path, quick)
    results.add("lines", "rnn", FAILED)
    results.add_capacity("ours", "8", FAILED)
    results.save()
    for other in {TABLE, CAPACITY} - {name}:
        (tmp_path / other).unlink()
    kind = "a quick run" if quick else "real runs"
    with pytest.raises(ValueError, match=f"{name} holds results of {kind}; choose another"):
        Results.open(tmp_path, not quick)
    assert Results.open(tmp_path, quick).report["quick"] is quick


def test_the_page_is_the_text(tmp_path: Path) -> None:
    results = Results.open(tmp_path, quick=True)
    results.add("lines", "rnn", FAILED)
    text = results.write_page()
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == text
    assert "| lines | rnn | failed: OSError: disk full |" in text
    assert "figures mean nothing" in text
