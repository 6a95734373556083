"""The folder of results; damaged files and figures are tested through the command line too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.lab.reproduce.results import CAPACITY, PAGE, SAMPLES, TABLE, Results
from jumpy_mbrl.lab.reproduce.table import DEFINITIONS, PAPERS

FAILED: dict[str, Any] = {"entry": {"error": "OSError: disk full", "seed": 0}, "samples": None}
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


def test_processes_add_to_one_folder_side_by_side(tmp_path: Path) -> None:
    one, two = (Results.open(tmp_path, quick=False) for _ in range(2))
    one.add("lines", "rnn", GOOD)
    two.add("circles", "rnn", FAILED)
    two.add("lines", "rnn", FAILED)
    one.save()
    two.save()
    two.add_capacity("ours", "8", GOOD)
    one.add("circles", "ours", GOOD)
    one.add_capacity("ours", "16", GOOD)
    two.save()
    one.save()
    found = Results.load(tmp_path)
    assert found == one
    assert found.report["tasks"] == {
        # A failure replaces no result of another process either.
        "lines": {"rnn": {"0": GOOD["entry"]}},
        "circles": {"rnn": {"0": FAILED["entry"]}, "ours": {"0": GOOD["entry"]}},
    }
    assert found.samples["lines"] == {"rnn": GOOD["samples"]}
    assert found.capacity["models"] == {"ours": {"8": GOOD["entry"], "16": GOOD["entry"]}}
    # What one has saved is no longer its own: others may have replaced it.
    newer = {"entry": {"error": None, "seed": 0, "n": 9}, "samples": {"truth": [[0.25]]}}
    two.add("lines", "rnn", newer)
    two.save()
    one.add("lines", "ours", GOOD)
    one.save()
    assert Results.load(tmp_path).report["tasks"]["lines"]["rnn"] == {"0": newer["entry"]}
    two.refresh()
    assert two == one
    with pytest.raises(ValueError, match="holds results of real runs; choose another"):
        other = Results.open(tmp_path / "new", quick=True)
        other.out = tmp_path  # As if the real ones had been written after it was opened.
        other.save()


def test_a_failed_run_never_replaces_a_good_one(tmp_path: Path) -> None:
    results = Results.open(tmp_path, quick=False)
    better = {"entry": {"error": None, "seed": 0, "n": 9}, "samples": {"truth": [[0.25]]}}
    # Failures give way to anything, good results only to good ones.
    for result, kept in [(FAILED, FAILED), (GOOD, GOOD), (FAILED, GOOD), (better, better)]:
        results.add("lines", "rnn", result)
        results.add_capacity("ours", "8", result)
        assert results.report["tasks"]["lines"]["rnn"] == {"0": kept["entry"]}
        assert results.samples["lines"]["rnn"] == kept["samples"]
        assert results.capacity["models"]["ours"]["8"] == kept["entry"]
    failed_again = {"entry": {"error": "ValueError: another", "seed": 0}, "samples": None}
    for result in (FAILED, failed_again):
        results.add("lines", "ours", result)
        assert results.report["tasks"]["lines"]["ours"] == {"0": result["entry"]}


def test_every_seed_is_kept_and_the_first_good_one_is_drawn(tmp_path: Path) -> None:
    def of(seed: int, good: bool = True) -> dict[str, Any]:
        error = None if good else "OSError: disk full"
        entry = {"error": error, "seed": seed}
        return {"entry": entry, "samples": {"truth": [[seed]]} if good else None}

    order = [(of(10), 10), (of(3, good=False), 10), (of(9), 9), (of(12), 9), (of(9, good=False), 9)]
    order += [(of(3), 3)]
    for result, drawn in order:
        results = Results.open(tmp_path, quick=False)
        results.add("lines", "rnn", result)
        results.save()
        assert results.samples["lines"]["rnn"] == {"truth": [[drawn]]}
    entries = Results.load(tmp_path).report["tasks"]["lines"]["rnn"]
    assert entries == {str(seed): of(seed)["entry"] for seed in (3, 9, 10, 12)}
    assert list(Results.load(tmp_path).report["tasks"]["lines"]["rnn"]) == ["10", "12", "3", "9"]


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
    assert "| lines | rnn | failed: seed 0: OSError: disk full |" in text
    assert "figures mean nothing" in text
