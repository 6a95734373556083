"""The folder of results; damaged files and figures are tested through the command line too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.lab.reproduce import table
from jumpy_mbrl.lab.reproduce.results import CAPACITY, SAMPLES, TABLE, Results


def result_of(drawn: float | None = None, seed: int = 0, **entry: Any) -> dict[str, Any]:
    """What a run gave; nothing but an error if nothing is drawn."""
    error = "OSError: disk full" if drawn is None else None
    samples = None if drawn is None else {"truth": [[drawn]]}
    return {"entry": {"error": error, "seed": seed, **entry}, "samples": samples}


FAILED, GOOD, BETTER = result_of(), result_of(0.5), result_of(0.25, n=9)


def test_results_are_added_to(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    one, two = (Results(out, quick=False) for _ in range(2))  # As of two processes.
    assert not out.exists()
    one.add("lines", "rnn", GOOD)
    assert {path.name for path in out.iterdir()} == {TABLE, SAMPLES}
    two.add("circles", "rnn", FAILED)
    two.add_capacity("ours", "8", GOOD)
    one.add("circles", "ours", GOOD)
    one.add_capacity("ours", "16", FAILED)
    assert {path.name for path in out.iterdir()} == {TABLE, SAMPLES, CAPACITY}

    found = Results(out)
    report, capacity = found.table.read(), found.capacity.read()
    assert report["tasks"] == {
        "lines": {"rnn": {"0": GOOD["entry"]}},
        "circles": {"rnn": {"0": FAILED["entry"]}, "ours": {"0": GOOD["entry"]}},
    }
    assert capacity["models"] == {"ours": {"8": GOOD["entry"], "16": FAILED["entry"]}}
    ours = {"ours": GOOD["samples"], "rnn": None}
    assert found.samples.read() == {"lines": {"rnn": GOOD["samples"]}, "circles": ours}
    assert (report["papers"], report["definitions"]) == (table.PAPERS, table.DEFINITIONS)
    assert report["note"] is None and capacity["note"] is None


def test_a_failed_run_never_replaces_a_good_one(tmp_path: Path) -> None:
    results = Results(tmp_path, quick=False)
    again = {"entry": {"error": "ValueError: another", "seed": 0}, "samples": None}
    # Failures give way to anything, good results only to good ones.
    steps = [(FAILED, FAILED), (again, again), (GOOD, GOOD), (FAILED, GOOD), (BETTER, BETTER)]
    for result, kept in steps:
        results.add("lines", "rnn", result)
        results.add_capacity("ours", "8", result)
        assert results.table.read()["tasks"]["lines"]["rnn"] == {"0": kept["entry"]}
        assert results.samples.read()["lines"]["rnn"] == kept["samples"]
        assert results.capacity.read()["models"]["ours"]["8"] == kept["entry"]


def test_every_seed_is_kept_and_the_first_good_one_is_drawn(tmp_path: Path) -> None:
    results = Results(tmp_path, quick=False)
    for seed, good, drawn in [(10, 1, 10), (3, 0, 10), (9, 1, 9), (12, 1, 9), (9, 0, 9), (3, 1, 3)]:
        results.add("lines", "rnn", result_of(seed if good else None, seed))
        assert results.samples.read()["lines"]["rnn"] == {"truth": [[drawn]]}
    entries = results.table.read()["tasks"]["lines"]["rnn"]
    assert entries == {str(seed): result_of(seed, seed)["entry"] for seed in (3, 9, 10, 12)}


@pytest.mark.parametrize("name", [TABLE, CAPACITY, SAMPLES])
def test_entries_that_cannot_be_are_named(
    name: str, tmp_path: Path, refusals: Callable[..., int]
) -> None:
    results = Results(tmp_path, quick=False)
    results.add("lines", "rnn", GOOD)
    results.add_capacity("ours", "8", GOOD)

    def read() -> None:
        found = Results(tmp_path, quick=False)
        found.add("lines", "rnn", FAILED)
        found.add_capacity("ours", "8", FAILED)
        if name == TABLE:
            found.write_page()

    assert refusals(tmp_path / name, read, every=2) >= 8


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", [TABLE, CAPACITY])
def test_quick_and_real_results_never_mix(tmp_path: Path, name: str, quick: bool) -> None:
    results = Results(tmp_path, quick)
    other = Results(tmp_path, not quick)
    add = results.add if name == TABLE else results.add_capacity
    add("lines", "rnn", FAILED)
    kind = f"{name} as it was written, but it holds results of "
    kind += "a quick run; choose another" if quick else "real runs; choose another"
    with pytest.raises(ValueError, match=kind):
        Results(tmp_path, not quick)
    with pytest.raises(ValueError, match=kind):
        (other.add if name == TABLE else other.add_capacity)("lines", "rnn", GOOD)
    found = Results(tmp_path)
    report = found.table if name == TABLE else found.capacity
    assert report.read()["quick"] is quick
    assert ("mean nothing" in (report.read()["note"] or "")) is quick
