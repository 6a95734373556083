"""The papers' table beside ours, as Markdown."""

from __future__ import annotations

from typing import Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.reproduction.table import PAPERS, format_report, in_order, summary


def test_figures_of_the_papers() -> None:
    assert PAPERS["billiards2d"]["rnn"]["sample_mse"] == 2.1e-2
    assert PAPERS["billiards2d"]["jumpy-rnn"] == {
        "train_mse": 3.55e-5,
        "test_mse": 3.73e-5,
        "sample_mse": 1.76e-2,
        "mean_jump": 4.5,
    }
    assert PAPERS["lines"]["jumpy-rnn"]["mean_jump"] == 20
    assert PAPERS["weather"]["jump-2"]["sample_mse"] == 1.38e-2
    assert set(PAPERS) == set(TASKS) - {"synthetic-weather"}


def scores(sample_mse: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "n": 10,
        "sample_mse": sample_mse,
        "sample_se": None if sample_mse is None else 0.1 * sample_mse,
        "one_step_mse": 2e-4,
        "mean_jump": 12.345,
        "ticks": 2.0,
        **changes,
    }


def entry_of(sample_mse: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "error": None,
        "train": scores(sample_mse, one_step_mse=1e-4),
        "test": scores(sample_mse),
        "mean_sequence_mse": 0.5,
        "weights": 190_659,
        "steps": 10_000,
        "training_seconds": 1234.5,
        "training_frames": 225_000,
        "config": {"precision": "float32"},
        **changes,
    }


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_in_markdown() -> None:
    tasks = {
        "synthetic-weather": {"ours": entry_of(None, training_seconds=None)},
        "circles": {
            "ours": entry_of(5.25e-4),
            "rnn": {"error": "OSError: disk |\nfull"},
        },
    }
    text = format_report({"quick": False, "tasks": tasks})
    rows = rows_of(text)
    header = ["task", "papers' RNN", "papers' jumpy RNN", "mean", "rnn", "ours"]
    assert rows[0] == header
    papers = ["3.98e-04 (1)", "5.25e-04 (17)"]
    assert rows[2] == ["circles", *papers, "5.00e-01", "failed", "5.25e-04 (12.3)"]
    assert rows[3] == ["synthetic-weather", "-", "-", "5.00e-01", "-", "not finite (12.3)"]
    full = rows[4:]
    assert full[0][:6] == ["task", "model", "train MSE", "test MSE", "sample MSE", "mean jump"]
    assert full[2][:3] == ["circles", "*papers' rnn*", "*3.00e-06*"]
    assert full[4][:3] == ["circles", "rnn", "failed: OSError: disk \\| full"]
    assert full[5] == [
        "circles",
        "ours",
        "1.00e-04",
        "2.00e-04",
        "5.25e-04 ± 5.3e-05",
        "12.3",
        "190,659",
        "10,000",
        "1,234",
        "225,000",
    ]
    assert full[6][:2] == ["synthetic-weather", "ours"] and full[6][-2] == "-"
    assert {line.count(" | ") for line in text.splitlines() if line.startswith("| circles")} == {
        5,
        9,
    }
    assert "mean nothing" not in text


def test_made_up_weather_is_told_and_has_no_figures_of_the_papers() -> None:
    entries = {"rnn": entry_of(1.0), "jump-2": entry_of(1.0), "jumpy-rnn": entry_of(1.0)}
    real = format_report({"quick": False, "tasks": {"weather": entries}})
    assert "| weather | *papers' jump-2* |" in real and "made up" not in real
    made_up = format_report({"quick": False, "tasks": {"synthetic-weather": entries}})
    assert "*papers'" not in made_up and "is made up, not measured" in made_up
    assert "made up" not in "".join(summary({"weather": entries}))
    assert "is made up" in summary({"weather": entries, "synthetic-weather": entries})[-1]


def test_a_quick_table_says_so() -> None:
    text = format_report({"quick": True, "tasks": {"circles": {"rnn": entry_of(1.0)}}})
    assert "figures mean nothing" in text


def test_tasks_and_models_stand_in_the_order_of_the_papers() -> None:
    tasks = {"circles": {"ours": 1, "rnn": 2}, "lines": {"jumpy-rnn": 3, "jump-2": 4}}
    found = in_order(tasks)
    assert list(found) == ["lines", "circles"]
    assert list(found["circles"]) == ["rnn", "ours"]
    assert list(found["lines"]) == ["jump-2", "jumpy-rnn"]
