"""The examples run, in a small form, and show what they claim."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Runs an example as a user does; returns what it defined."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r"\w+\.py", Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def test_the_model_foretells_the_real_shot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run("world_model_in_ten_lines.py", monkeypatch)
    real = made["info"]["positions"][1].tolist()
    assert made["future"].obs[0, -1, 2:].tolist() == pytest.approx(real, abs=0.1)
    assert "the model ticked" in capsys.readouterr().out


def test_random_shooting_wins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tables", "20", "--candidates", "32", "--rounds", "2"]
    run("plan_with_your_own_search.py", monkeypatch, *arguments)
    won = re.search(r"won ([\d.]+)% of 20 tables", capsys.readouterr().out)
    assert won is not None and float(won[1]) > 60.0


def test_ppo_trains_on_imagined_shots(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ppo_inside_the_model.py", monkeypatch, "--timesteps", "2048", "--tables", "100")
    printed = capsys.readouterr().out
    assert "before training" in printed and "after 2048 imagined shots" in printed
