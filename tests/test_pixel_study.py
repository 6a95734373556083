"""What agents win and see that are shown pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.evaluation import evaluate_agent, make_tables
from jumpy_mbrl.lab import pixel_study


@pytest.mark.parametrize("name", ["jumpy-pixels", "jumpy-keypoints"])
def test_places_and_velocities_are_read(name: str) -> None:
    tables = make_tables(40, 0, split="validation")
    places, velocities = pixel_study.reading(load_agent(name), tables)
    assert np.median(np.abs(places - tables.positions)) < 1e-3
    assert np.median(np.abs(velocities - tables.velocities * tables.config.dt)) < 1e-3


def test_the_oracle_wins_from_what_is_true_and_not_from_what_is_false() -> None:
    tables = make_tables(40, 0, split="validation")
    motion = tables.velocities * tables.config.dt
    won = pixel_study.won_from(tables, tables.positions, motion)
    assert won == evaluate_agent(load_agent("simulator"), tables).successes
    assert pixel_study.won_from(tables, tables.positions[::-1], motion) < won / 2


def test_parts_are_kept_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--episodes", "3", "--out", str(tmp_path))
    assert pixel_study.main(["--parts", "reading", "--agents", "jumpy-pixels", *few]) == 0
    assert pixel_study.main(["--parts", "decoding", *few]) == 0
    text = capsys.readouterr().out
    assert "**reading**, 3 tables" in text and "| jumpy-keypoints | 41 |" in text
    assert (tmp_path / "study.md").read_text(encoding="utf-8") in text
    parts = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["parts"]
    columns = parts["decoding"]["columns"]
    apart = [row[columns.index("between them, median")] for row in parts["decoding"]["rows"]]
    assert len(apart) == 5 and 0.0 < max(apart) < 5e-3


def test_unknown_parts_and_agents_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="colours"):
        pixel_study.main(["--parts", "colours", "--out", str(tmp_path)])
    with pytest.raises(ValueError, match="jumpy-pixel"):
        pixel_study.main(["--agents", "rnn", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
