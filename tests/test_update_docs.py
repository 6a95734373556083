"""The pages tell what the results in the repository say."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
    assert "| 50.0 % | 40.0 to 60.0 | - | - | - |" in changed
    assert "| 70.0 % | 40.0 to 60.0 | 12.3 | - | 9,000 |" in changed, "a policy has no ticks"
    assert "old" not in changed
    command = "plan_eval.py --episodes 10 --seed 3 --agents none sac --env Billiards1D-v0"
    assert f"{command} --out results/x` (default search, cpu)" in changed


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
