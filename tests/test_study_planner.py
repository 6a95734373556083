"""The studies of the planner, from their definitions to their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jumpy_mbrl.agents import CEMConfig, CEMPlanner, GradientPlanner, PlannerConfig
from jumpy_mbrl.lab.planner import studies
from jumpy_mbrl.lab.planner.studies import Entry, ablation, frontier

SMALL = PlannerConfig(candidates=4, refined=2, gradient_steps=1, finalists=2, perturbations=4)


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with two small searches in place of the ablation."""
    module = load_script("study_planner")
    small = [Entry("small", search=SMALL), Entry("CEM", search=CEMConfig(4, 2, 1))]
    monkeypatch.setattr(module, "ablation", lambda: small)
    monkeypatch.setattr(studies, "_FULL", SMALL)
    return module


def run(script: ModuleType, out: Path, *options: str) -> int:
    code: int = script.main(["--out", str(out), "--episodes", "4", "--seed", "4242", *options])
    return code


def test_both_studies(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--agents", "jumpy", "simulator", "--budgets", "30", "5")
    assert run(script, tmp_path, *options) == 0
    page = (tmp_path / "studies.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert "| small |" in page and "| CEM |" in page and "| simulator, 5 ms |" in page
    report: dict[str, Any] = json.loads((tmp_path / "frontier.json").read_text())
    assert set(report["lines"]) == {
        "jumpy",
        "simulator",
        "jumpy, no gradient",
        "jumpy, candidates alone",
    }
    quick, slow = report["lines"]["simulator"]
    assert (quick["search"]["budget_ms"], slow["search"]["budget_ms"]) == (5.0, 30.0)
    assert report["commands"] == [
        "python scripts/study_planner.py --studies frontier --episodes 4 --seed 4242 "
        "--agents jumpy simulator --budgets 30.0 5.0"
    ]
    assert quick["n"] == 4 and 0 <= quick["successes"] <= 4
    assert report["lines"]["jumpy, no gradient"][0]["search"]["gradient_steps"] == 0
    kinds = [
        row["search"]["kind"]
        for row in json.loads((tmp_path / "ablation.json").read_text())["lines"]["jumpy"]
    ]
    assert kinds == ["PlannerConfig", "CEMConfig"]
    assert (tmp_path / "frontier.png").is_file()


def test_the_other_study_is_kept(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, "--studies", "ablation") == 0
    before = (tmp_path / "ablation.json").read_bytes()
    options = ("--agents", "simulator", "--budgets", "5")
    assert run(script, tmp_path, "--studies", "frontier", *options) == 0
    assert (tmp_path / "ablation.json").read_bytes() == before
    assert "| small |" in (tmp_path / "studies.md").read_text()


def test_an_earlier_study_that_cannot_be_is_named_before_anything_is_measured(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refusals: Callable[..., int],
) -> None:
    assert run(script, tmp_path, "--studies", "ablation") == 0
    path = tmp_path / "ablation.json"
    assert refusals(path, lambda: script._read(path)) > 80
    path.write_text('{"lines": {}}')
    monkeypatch.setattr(script, "make_tables", lambda *_: pytest.fail("measured"))
    capsys.readouterr()
    assert run(script, tmp_path, "--studies", "frontier") == 2
    message = f"expected {path} as it was written, but there is no 'commands'; choose another --out"
    assert message in capsys.readouterr().err


def test_other_agents_are_kept_if_they_were_measured_alike(
    script: ModuleType, tmp_path: Path
) -> None:
    def lines(*options: str) -> tuple[dict[str, Any], list[str]]:
        assert run(script, tmp_path, "--studies", "frontier", *options) == 0
        report = json.loads((tmp_path / "frontier.json").read_text())
        return report["lines"], report["commands"]

    first, (command,) = lines("--agents", "simulator", "--budgets", "5")
    both, commands = lines("--agents", "jumpy", "--budgets", "5")
    assert both["simulator"] == first["simulator"] and "jumpy" in both
    assert commands[0] == command and len(commands) == 2
    assert all(f"`{each}`" in (tmp_path / "studies.md").read_text() for each in commands)
    others, _ = lines("--agents", "simulator", "--budgets", "8")
    assert list(others) == ["simulator"]  # other budgets


def test_every_search_can_be_made() -> None:
    entries = [*ablation(), *frontier(["jumpy"], [2.0])["jumpy"]]
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        planner = entry.make(seed=5)
        assert planner.config == replace(entry.search, seed=5)
        assert isinstance(
            planner, CEMPlanner if isinstance(entry.search, CEMConfig) else GradientPlanner
        )
        assert len(planner.ensemble) == len(entry.ensemble)
    stages = [(entry.search.finalists > 0) for entry in ablation()]
    assert any(stages) and not all(stages)
    with pytest.raises(ValueError, match="expected an agent that plans, got 'random'"):
        Entry("x", agent="random").make(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--studies", "ablations"], "did you mean 'ablation'?"),
        (["--agents", "none"], "--agents must be such that plan, got ['none']"),
        (["--agents", "jumpi"], "unknown agent 'jumpi'"),
        (["--budgets", "0"], "--budgets must be positive"),
        (["--threads", "-1"], "--threads must not be negative"),
        (["--threads", "100000"], "--threads must be at most"),
    ],
)
def test_bad_input_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run(script, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("study_planner: ") and message in error
    assert not (tmp_path / "out").exists()
