"""The papers' table beside ours, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.lab.reproduce import table

STORED = Path(__file__).parents[1] / "results" / "tasks"
FAILED: dict[str, Any] = {"error": "OSError: disk |\nfull"}


def entry_of(sample_mse: float | None) -> dict[str, Any]:
    scaled = {"sample_se": 0.1, "sample_mse": 1.0, "all_frames_mse": 0.5}
    errors = {name: None if sample_mse is None else k * sample_mse for name, k in scaled.items()}
    config = {"batch_size": 256, "model": {"name": "rnn"}}  # An older run, without a precision.
    known = {"weights": 9, "steps": 10, "training_seconds": 1.5, "training_frames": 20}
    test = {"n": 10, "one_step_mse": 2e-4, "mean_jump": 12.345, "ticks": 2.0, **errors}
    known |= {"mean_sequence_mse": 0.5}
    return {"error": None, "config": config, "built_in": [], "test": test, **known}


def by_seed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {str(seed): entry for seed, entry in enumerate(entries)}


def page_of(tasks: dict[str, Any], quick: bool = False) -> str:
    return table.format_report({"quick": quick, "tasks": tasks})


def test_the_stored_page_is_what_the_stored_results_say() -> None:
    """Several seeds, pictures, precisions, what is built in, and seconds that are not known."""
    report = json.loads((STORED / "table1.json").read_text(encoding="utf-8"))
    assert table.format_report(report) == (STORED / "table1.md").read_text(encoding="utf-8")
    assert (report["papers"], report["definitions"]) == (table.PAPERS, table.DEFINITIONS)
    assert set(table.PAPERS) == set(TASKS) - {"synthetic-weather"}


def test_what_failed_and_what_is_not_finite_is_told() -> None:
    tasks: dict[str, dict[str, Any]] = {
        "synthetic-weather": {"ours": by_seed(entry_of(None))},
        "circles": {"ours": by_seed(entry_of(5.25e-4)), "rnn-tuned": by_seed(FAILED)},
        "pixel-billiards1d": {"ours": {"10": entry_of(4e-4), "2": entry_of(2e-4), "3": FAILED}},
    }
    text = page_of(tasks)
    assert "mean nothing" not in text and "figures mean nothing" in page_of(tasks, quick=True)
    assert "Nothing of this has been run yet." in text
    assert "| failed | 5.25e-04 (12.3) | 0 to 1 |" in text
    assert "| - | not finite (12.3) | 1 |" in text and "| 3.00e-04 [0.0006] (12.3) | 2 |" in text
    assert "| circles | rnn-tuned | failed: seed 0: OSError: disk \\| full |" in text
    assert "| circles | ours | 1 | 2.00e-04 | 5.25e-04 ± 5.3e-05 | 2.62e-04 | 0.00105 |" in text
    seeds = "2 | 2.00e-04 (2.00e-04 to 2.00e-04) | 3.00e-04 (2.00e-04 to 4.00e-04)"
    assert f"| pixel-billiards1d | ours | {seeds} | 1.50e-04" in text
    assert {line.count(" | ") for line in text.splitlines() if line[:6] == "| circ"} == {6, 12}
    # One that is not finite leaves no mean.
    tasks["pixel-billiards1d"]["ours"]["11"] = entry_of(None)
    assert "| not finite [not finite] (12.3) | 3 |" in page_of(tasks)
