"""The studies of the planner, from their definitions to their files and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.agents import CEMConfig, CEMPlanner, GradientPlanner, PlannerConfig
from jumpy_mbrl.commands import main
from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab.planner import figures, study
from jumpy_mbrl.lab.planner.study import Entry

SMALL = PlannerConfig(candidates=4, refined=2, gradient_steps=1, finalists=2, perturbations=4)
OURS, RNN = "#2f7d5e", "#b5483a"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small searches in place of the ablation, and small ones in the frontier."""
    small = [Entry("small", search=SMALL), Entry("CEM", search=CEMConfig(4, 2, 1))]
    monkeypatch.setattr(study, "ablation", lambda: small)
    monkeypatch.setattr(study, "FULL", SMALL)


def run(out: Path, *options: str) -> int:
    usual = ("--out", str(out), "--episodes", "4", "--seed", "4242")
    return main.run("study-planner", [*usual, *options])


def read(out: Path, name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return report


@pytest.mark.usefixtures("quick")
def test_both_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--agents", "jumpy", "simulator", "--budgets", "30", "5")
    assert run(tmp_path, *options) == 0
    page = (tmp_path / "studies.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert "| small |" in page and "| CEM |" in page and "| simulator, 5 ms |" in page
    report = read(tmp_path, "frontier")
    parts = ("no gradient", "candidates alone")
    assert set(report["lines"]) == {"jumpy", "simulator", *(f"jumpy, {part}" for part in parts)}
    quick, slow = report["lines"]["simulator"]
    assert (quick["search"]["budget_ms"], slow["search"]["budget_ms"]) == (5.0, 30.0)
    assert report["commands"] == [
        "python scripts/study_planner.py --studies frontier --episodes 4 --seed 4242 "
        "--agents jumpy simulator --budgets 30.0 5.0"
    ]
    assert quick["n"] == 4 and 0 <= quick["successes"] <= 4
    assert report["lines"]["jumpy, no gradient"][0]["search"]["gradient_steps"] == 0
    rows = read(tmp_path, "ablation")["lines"]["jumpy"]
    assert [row["search"]["kind"] for row in rows] == ["PlannerConfig", "CEMConfig"]
    assert (tmp_path / "frontier.png").is_file()


@pytest.mark.usefixtures("quick")
def test_what_is_there_is_kept_if_it_was_measured_alike(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refusals: Callable[..., int],
) -> None:
    def lines(*options: str) -> tuple[dict[str, Any], list[str]]:
        assert run(tmp_path, "--studies", "frontier", *options) == 0
        report = read(tmp_path, "frontier")
        return report["lines"], report["commands"]

    assert run(tmp_path, "--studies", "ablation") == 0
    path = tmp_path / "ablation.json"
    before = path.read_bytes()
    first, (command,) = lines("--agents", "simulator", "--budgets", "5")
    both, commands = lines("--agents", "jumpy", "--budgets", "5")
    assert both["simulator"] == first["simulator"] and "jumpy" in both
    assert commands[0] == command and len(commands) == 2
    page = (tmp_path / "studies.md").read_text()
    assert all(f"`{each}`" in page for each in commands) and "| small |" in page
    others, commands = lines("--agents", "simulator", "--budgets", "8")
    assert list(others) == ["simulator"] and len(commands) == 1  # other budgets
    assert path.read_bytes() == before
    # A file that cannot be is named before anything is measured.
    assert refusals(path, study.kept_in(tmp_path, "ablation").read) > 80
    path.write_text('{"lines": {}}')
    monkeypatch.setattr(study, "make_tables", lambda *_: pytest.fail("measured"))
    capsys.readouterr()
    assert run(tmp_path, "--studies", "frontier") == 2
    message = f"expected {path} as it was written, but there is no 'commands'; choose another --out"
    assert message in capsys.readouterr().err


def test_every_search_can_be_made() -> None:
    entries = [*study.ablation(), *study.frontier(["jumpy"], [2.0])["jumpy"]]
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        planner = entry.make(seed=5)
        by_cem = isinstance(entry.search, CEMConfig)
        assert planner.config == replace(entry.search, seed=5)
        assert isinstance(planner, CEMPlanner if by_cem else GradientPlanner)
        assert len(planner.ensemble) == len(entry.ensemble)
    assert {entry.search.finalists > 0 for entry in study.ablation()} == {True, False}
    with pytest.raises(ValueError, match="expected an agent that plans, got 'random'"):
        Entry("x", agent="random").make(0)


# -- pictures --------------------------------------------------------------------------------------


def entry(successes: int, ms: float, n: int = 100) -> dict[str, Any]:
    interval = list(wilson_interval(successes, n))
    return {"n": n, "success": successes / n, "ci95": interval, "ms_per_shot": ms}


def believer(*bins: tuple[float, float, int]) -> dict[str, Any]:
    names = ("belief", "success", "n")
    return {"calibration": [dict(zip(names, part, strict=True)) for part in bins]}


def test_only_those_with_beliefs_are_drawn(
    tmp_path: Path, has_color: Callable[[Path, str], bool]
) -> None:
    path, none = tmp_path / "calibration.png", {"none": {"calibration": None}}
    rnn = {**none, "rnn": believer((0.6, 0.3, 40), (0.95, 0.5, 60))}
    figures.save_calibration_figure(rnn, path)
    assert has_color(path, RNN) and not has_color(path, OURS)
    figures.save_calibration_figure({**rnn, "jumpy": believer((1.0, 1.0, 100))}, path)
    assert has_color(path, OURS)
    with pytest.raises(ValueError, match="expected an agent with beliefs, got none"):
        figures.save_calibration_figure(none, tmp_path / "x.png")
    assert [each.name for each in tmp_path.iterdir()] == ["calibration.png"]
