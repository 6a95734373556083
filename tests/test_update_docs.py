"""The pages tell what the results in the repository say."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jumpy_mbrl.agents import AGENTS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("update_docs")


def test_every_page_is_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--root", str(ROOT), "--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_written_again(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in script.TABLES:
        for name in (table.page, table.results):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "docs" / "performance.md"
    right = page.read_text()
    page.write_text(right.replace("CartPole-v1, unwrapped", "something else"))
    assert script.main(["--root", str(tmp_path), "--check"]) == 1
    assert "docs/performance.md: 'bench' is not what results/bench" in capsys.readouterr().out
    assert script.main(["--root", str(tmp_path)]) == 0
    assert page.read_text() == right


def test_figures_are_replaced_and_nothing_else(script: ModuleType) -> None:
    page = "before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n"
    figures: dict[str, Any] = {
        "success": 0.5,
        "ci95": [0.4, 0.6],
        "ms_per_shot": 12.345,
        "ticks": None,
        "training_frames": None,
    }
    report = {
        "episodes": 10,
        "seed": 3,
        "env": "Billiards1D-v0",
        "table": "default",
        "protocol": "default",
        "device": "cpu",
        "agents": {"none": figures, "sac": {**figures, "success": 0.7, "training_frames": 9000}},
    }
    changed = script.with_table(page, "results", script.plan_table(report, "results/x"))
    assert changed.startswith("before\n<!-- results:begin -->\n")
    assert changed.endswith("<!-- results:end -->\nafter\n")
    assert "| `none` | 50.0 % | 40.0 to 60.0 | - | - | - | - |" in changed
    assert "| `sac` | 70.0 % | 40.0 to 60.0 | - | - | 12.3 | - |" in changed, "it has no ticks"
    assert f"| `sac` | {AGENTS['sac'].description} | 9,000 | - | - | - | - |" in changed
    assert "old" not in changed
    command = "plan_eval.py --episodes 10 --seed 3 --agents none sac --env Billiards1D-v0"
    assert f"{command} --out results/x` (default search, cpu)" in changed


def test_what_agents_were_given_stands_beside_what_they_won(script: ModuleType) -> None:
    won = {"success": 0.5, "ci95": [0.4, 0.6], "n": 80}
    figures = {**won, "ms_per_shot": 12.345, "ticks": 41.0, "contested": won}
    given = {
        "samples": 2_560_000,
        "best_samples": 1_280_000,
        "training_seconds": 1234.5,
        "weights": 200_068,
        "built_in": [],
        "models": 3,
    }
    none = {**dict.fromkeys(given), "models": 0}
    simulator = {**none, "built_in": ["all", "of it"], "models": 1}
    agents = {
        "none": {**figures, "ticks": None, "training_frames": None, "given": none},
        "rnn": {**figures, "n": 100, "training_frames": 9000, "given": given},
        "simulator": {**figures, "n": 100, "training_frames": None, "given": simulator},
    }
    agents["none"]["n"] = 100
    settings = {"env": "Billiards2D-v0", "table": "default", "protocol": "default"}
    about = {"episodes": 100, "seed": 0, "device": "cpu", "ensemble": {"rnn": ["a", "b"]}}
    planner = {"search_ensemble": True}
    text = script.plan_table({**settings, **about, "planner": planner, "agents": agents})
    assert "--agents none rnn simulator --ensemble rnn a rnn b --search-ensemble --out" in text
    assert "| `rnn` (3 models) | 50.0 % | 40.0 to 60.0 | 50.0 % | 40.0 to 60.0 | 12.3 | 41.0 |" in (
        text
    )
    assert "\nDoing nothing loses 80 of 100 tables.\n" in text
    what = AGENTS["rnn"].description
    assert (
        f"| `rnn` (3 models) | {what} | 9,000 | 1,280,000 (2,560,000) | 1,234 s | 200,068 | "
        "nothing |"
    ) in text
    assert f"| `none` | {AGENTS['none'].description} | - | - | - | - | - |" in text
    assert text.endswith("| - | - | - | - | all; of it |\n")


def test_tasks_stand_beside_the_papers(script: ModuleType) -> None:
    entry = {
        "error": None,
        "test": {"sample_mse": 6.2e-6, "mean_jump": 23.6, "n": 1000},
        "mean_sequence_mse": 1.15,
    }
    failed = {"error": "OSError: disk full"}
    report = {"tasks": {"circles": {"ours": {"0": entry, "1": failed}, "rnn": {"0": entry}}}}
    text = script.task_table(report)
    assert "on 1,000 evaluation sequences" in text
    assert "| circles | 3.98e-04 (1) | 5.25e-04 (17) | 1.15e+00 | 6.20e-06 (23.6) | 1 |" in text
    row = "| circles | rnn | 3.98e-04 (1) | - | 6.20e-06 (23.6) | - | - |"
    assert row in script.settings_table(report)


def test_a_missed_target_is_told(script: ModuleType) -> None:
    row = {
        "name": "speed",
        "value": 12.345,
        "unit": "steps/s",
        "anchor": "CartPole-v1",
        "ratio": 0.5,
        "target": "at least 20",
        "ok": False,
    }
    text = script.bench_table({"device": {"cpu_cores": 2}, "rows": [row]})
    assert "| speed | 12.35 steps/s | 0.50x CartPole-v1 | at least 20: missed |" in text
    assert "(cpu_cores 2)" in text


@pytest.mark.parametrize("page", ["nothing here", "<!-- results:end -->\n<!-- results:begin -->\n"])
def test_a_page_without_markers_is_refused(script: ModuleType, page: str) -> None:
    with pytest.raises(ValueError, match="expected the markers"):
        script.with_table(page, "results", "")
