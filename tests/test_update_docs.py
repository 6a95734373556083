"""The pages tell what the results in the repository say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.agents import AGENTS
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.lab import docs

OUT = "results/x/results.json"
ROOT = Path(__file__).parents[1]
SETTINGS = {"env": "Billiards2D-v0", "table": "default", "protocol": "default", "device": "cpu"}
WON = {"success": 0.5, "ci95": [0.4, 0.6], "n": 80}
FIGURES: dict[str, Any] = {**WON, "ms_per_shot": 12.345, "ticks": None, "training_frames": None}
NONE, RNN = AGENTS["none"].description, AGENTS["rnn"].description


def test_every_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("update-docs", ["--root", str(ROOT), "--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in docs.TABLES:
        for name in (entry.page, entry.results):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "docs" / "performance.md"
    right = page.read_text()
    page.write_text(right.replace("CartPole-v1, unwrapped", "something else"))
    assert run("update-docs", ["--root", str(tmp_path), "--check"]) == 1
    assert "docs/performance.md: 'bench' is not what results/bench" in capsys.readouterr().out
    assert run("update-docs", ["--root", str(tmp_path)]) == 0
    assert page.read_text() == right


def test_a_table_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n"
    wanted = "before\n<!-- x:begin -->\nnew\nlines\n<!-- x:end -->\nafter\n"
    assert docs.with_table(page, "x", ["new", "lines"]) == wanted
    for wrong in ("nothing here", "<!-- x:end -->\n<!-- x:begin -->\n"):
        with pytest.raises(ValueError, match="expected the markers"):
            docs.with_table(wrong, "x", [])


def test_results_of_an_older_version_have_dashes() -> None:
    agents = {"none": FIGURES, "sac": {**FIGURES, "success": 0.7, "training_frames": 9000}}
    report = {**SETTINGS, "env": "Billiards1D-v0", "episodes": 10, "seed": 3, "agents": agents}
    lines = docs.plan_table(report, OUT)
    assert "| `none` | 50.0 % | 40.0 to 60.0 | - | - | - | - |" in lines
    assert "| `sac` | 70.0 % | 40.0 to 60.0 | - | - | 12.3 | - |" in lines, "it has no ticks"
    assert f"| `sac` | {AGENTS['sac'].description} | 9,000 | - | - | - | - |" in lines
    command = "plan_eval.py --episodes 10 --seed 3 --agents none sac --env Billiards1D-v0"
    assert f"{command} --out results/x` (default search, cpu)" in lines[0]


def test_what_agents_were_given_stands_beside_what_they_won() -> None:
    given: dict[str, Any] = {
        "samples": 2_560_000,
        "best_samples": 1_280_000,
        "training_seconds": 1234.5,
    }
    given |= {"weights": 200_068, "built_in": [], "models": 3}
    none = {**dict.fromkeys(given), "models": 0}
    simulator = {**none, "built_in": ["all", "of it"], "models": 1}
    figures = {**FIGURES, "n": 100, "ticks": 41.0, "contested": WON}
    agents = {
        "none": {**figures, "ticks": None, "given": none},
        "rnn": {**figures, "training_frames": 9000, "given": given},
        "simulator": {**figures, "given": simulator},
    }
    about = {"episodes": 100, "seed": 0, "ensemble": {"rnn": ["a", "b"]}, "agents": agents}
    lines = docs.plan_table({**SETTINGS, **about, "planner": {"search_ensemble": True}}, OUT)
    options = "--agents none rnn simulator --ensemble rnn a rnn b --search-ensemble --out"
    assert options in lines[0]
    won = "50.0 % | 40.0 to 60.0 | 50.0 % | 40.0 to 60.0 | 12.3 | 41.0"
    assert f"| `rnn` (3 models) | {won} |" in lines
    assert "Doing nothing loses 80 of 100 tables." in lines
    samples = "1,280,000 (2,560,000) | 1,234 s | 200,068"
    assert f"| `rnn` (3 models) | {RNN} | 9,000 | {samples} | nothing |" in lines
    assert f"| `none` | {NONE} | - | - | - | - | - |" in lines
    assert lines[-1].endswith("| - | - | - | - | all; of it |")


def test_tasks_stand_beside_the_papers() -> None:
    test = {"sample_mse": 6.2e-6, "mean_jump": 23.6, "n": 1000}
    entry = {"error": None, "test": test, "mean_sequence_mse": 1.15}
    entries = {"ours": {"0": entry, "1": {"error": "OSError: disk full"}}, "rnn": {"0": entry}}
    report = {"tasks": {"circles": entries}}
    first, *lines = docs.task_table(report, OUT)
    assert "on 1,000 evaluation sequences" in first
    row = "| circles | 3.98e-04 (1) | 5.25e-04 (17) | 1.15e+00 | 6.20e-06 (23.6) | 1 |"
    assert row in lines
    row = "| circles | rnn | 3.98e-04 (1) | - | 6.20e-06 (23.6) | - | - |"
    assert row in docs.settings_table(report, OUT)


def test_a_missed_target_is_told() -> None:
    row = {"name": "speed", "value": 12.345, "unit": "steps/s", "anchor": "CartPole-v1"}
    row |= {"ratio": 0.5, "target": "at least 20", "ok": False}
    lines = docs.bench_table({"device": {"cpu_cores": 2}, "rows": [row]}, "bench_envs.json")
    assert lines[-1] == "| speed | 12.35 steps/s | 0.50x CartPole-v1 | at least 20: missed |"
    assert "(cpu_cores 2)" in lines[0]
