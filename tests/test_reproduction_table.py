"""The papers' table beside ours, as Markdown."""

from __future__ import annotations

from typing import Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.lab.reproduce import table

FAILED: dict[str, Any] = {"error": "OSError: disk |\nfull"}


def entry_of(
    sample_mse: float | None, mean_jump: float = 12.345, kind: str = "rnn", **changes: Any
) -> dict[str, Any]:
    scaled = {"sample_se": 0.1, "sample_mse": 1.0, "all_frames_mse": 0.5}
    errors = {name: None if sample_mse is None else k * sample_mse for name, k in scaled.items()}
    return {
        "error": None,
        "test": {"n": 10, "one_step_mse": 2e-4, "mean_jump": mean_jump, "ticks": 2.0, **errors},
        "mean_sequence_mse": 0.5,
        "weights": 190_659,
        "steps": 10_000,
        "training_seconds": 1234.5,
        "training_frames": 225_000,
        "built_in": [],
        "config": {"precision": "float32", "batch_size": 256, "model": {"name": kind}},
        **changes,
    }


def by_seed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {str(seed): entry for seed, entry in enumerate(entries)}


def page_of(tasks: dict[str, Any], quick: bool = False) -> str:
    return table.format_report({"quick": quick, "tasks": tasks})


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_figures_of_the_papers() -> None:
    assert table.PAPERS["billiards2d"]["rnn"]["sample_mse"] == 2.1e-2
    errors = {"train_mse": 3.55e-5, "test_mse": 3.73e-5, "sample_mse": 1.76e-2}
    assert table.PAPERS["billiards2d"]["jumpy-rnn"] == {**errors, "mean_jump": 4.5}
    assert table.PAPERS["lines"]["jumpy-rnn"]["mean_jump"] == 20
    assert table.PAPERS["weather"]["jump-2"]["sample_mse"] == 1.38e-2
    assert set(table.PAPERS) == set(TASKS) - {"synthetic-weather"}


def test_the_table_in_markdown() -> None:
    config = {"precision": "bfloat16", "batch_size": 256, "model": {"name": "fold-jump"}}
    known: dict[str, Any] = {"built_in": ["straight lines", "walls"], "config": config}
    tasks = {
        "synthetic-weather": {"ours": by_seed(entry_of(None, training_seconds=None, **known))},
        "circles": {"ours": by_seed(entry_of(5.25e-4)), "rnn-tuned": by_seed(FAILED)},
    }
    text = page_of(tasks)
    rows = rows_of(text)
    header = ["task", "papers' RNN", "papers' jumpy RNN", "mean", "rnn-tuned", "ours", "seeds"]
    assert rows[0] == header
    papers = ["3.98e-04 (1)", "5.25e-04 (17)"]
    assert rows[2] == ["circles", *papers, "5.00e-01", "failed", "5.25e-04 (12.3)", "0 to 1"]
    assert rows[3] == ["synthetic-weather", "-", "-", "5.00e-01", "-", "not finite (12.3)", "1"]
    assert "Nothing of this has been run yet." in text
    full = rows[4:]
    header = ["task", "model", "seeds", "test MSE", "sample MSE", "all-frames MSE", "of mean"]
    assert full[0][:8] == [*header, "mean jump"]
    figures = ["*3.00e-06*", "*3.98e-04*", "*3.98e-04*", "", "*1*", *[""] * 5]
    assert full[2] == ["circles", "*papers' rnn*", "", *figures]
    assert full[4][:3] == ["circles", "rnn-tuned", "failed: seed 0: OSError: disk \\| full"]
    row = ["circles", "ours", "1", "2.00e-04", "5.25e-04 ± 5.3e-05", "2.62e-04", "0.00105", "12.3"]
    assert full[5] == [*row, "190,659", "2,560,000", "225,000", "1,234", "-"]
    assert full[6][:2] == ["synthetic-weather", "ours"]
    assert full[6][-4:] == ["2,560,000 in bfloat16", "225,000", "-", "fold-jump"]
    assert "* **built into the fold-jump**: straight lines; walls.\n" in text
    circles = [line for line in text.splitlines() if line.startswith("| circles")]
    assert {line.count(" | ") for line in circles} == {6, 12}
    assert "mean nothing" not in text and "figures mean nothing" in page_of(tasks, quick=True)


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    two, four = entry_of(2e-4, 10.0, steps=100), entry_of(4e-4, 12.0, steps=200)
    entries = {"10": four, "2": two, "3": FAILED}
    tasks = {"pixel-billiards1d": {"ours": entries}}
    assert table.succeeded(entries) == [two, four]
    assert table.summary(tasks)[2].endswith("| 3.00e-04 [0.0006] (11) | 2 |")
    good, failed = (row for row in rows_of(page_of(tasks)) if row[1:2] == ["ours"])
    assert good[2:8] == [
        "2",
        "2.00e-04 (2.00e-04 to 2.00e-04)",
        "3.00e-04 (2.00e-04 to 4.00e-04)",
        "1.50e-04 (1.00e-04 to 2.00e-04)",
        "0.0006 (0.0004 to 0.0008)",
        "11 (10 to 12)",
    ]
    assert good[9] == "25,600 to 51,200"
    assert failed[2] == "failed: seed 3: OSError: disk \\| full"
    # One that is not finite leaves no mean.
    entries["11"] = entry_of(None)
    assert "| not finite [not finite] (11.4) | 3 |" in table.summary(tasks)[2]


def test_what_settings_are_worth() -> None:
    circles = {
        "jumpy-rnn-printed": by_seed(entry_of(4e-3)),
        "jumpy-rnn": by_seed(entry_of(3e-3), entry_of(1e-3)),
        "jumpy-rnn-tuned": by_seed(FAILED),
        "rnn-tuned": by_seed(entry_of(1e-3)),
    }
    lines = {"rnn-tuned": by_seed(entry_of(1e-3)), "ours": by_seed(entry_of(1e-3))}
    tasks = {"circles": circles, "lines": lines}
    header, _, *rows = rows_of("\n".join(table.settings_summary(tasks)))
    names = ["task", "network", "papers'", "printed equations", "2020", "2021", "tuned"]
    assert header == names
    errors = ["5.25e-04 (17)", "4.00e-03 (12.3)", "2.00e-03 (12.3)", "-", "failed"]
    assert rows == [["circles", "jumpy-rnn", *errors]]
    circles["rnn-2021"] = by_seed(entry_of(5e-4))
    errors = ["3.98e-04 (1)", "-", "-", "5.00e-04 (12.3)", "1.00e-03 (12.3)"]
    first = rows_of("\n".join(table.settings_summary(tasks)))[2]
    assert first == ["circles", "rnn", *errors]


def test_made_up_weather_is_told_and_has_no_figures_of_the_papers() -> None:
    entries = {name: by_seed(entry_of(1.0)) for name in ("rnn", "jump-2", "jumpy-rnn")}
    real, made_up = page_of({"weather": entries}), page_of({"synthetic-weather": entries})
    assert "| weather | *papers' jump-2* |" in real and "made up" not in real
    assert "*papers'" not in made_up and "is made up, not measured" in made_up
    assert "made up" not in "".join(table.summary({"weather": entries}))
    both = {"weather": entries, "synthetic-weather": entries}
    assert "is made up" in table.summary(both)[-1]


def test_tasks_and_models_stand_in_the_order_of_the_papers() -> None:
    tasks: dict[str, dict[str, Any]] = {
        "circles": {"ours": {"10": 1, "9": 2}, "rnn": {}},
        "lines": {"jumpy-rnn": {}, "jump-2": {}},
    }
    found = table.in_order(tasks)
    assert list(found) == ["lines", "circles"]
    assert list(found["circles"]) == ["rnn", "ours"]
    assert list(found["circles"]["ours"]) == ["9", "10"]
    assert list(found["lines"]) == ["jump-2", "jumpy-rnn"]
