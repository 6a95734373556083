"""Pictures of planners: what is drawn, and what cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab.planner.figures import save_calibration_figure, save_frontier_figure

OURS, RNN = "#2f7d5e", "#b5483a"


def has_color(path: Path, color: str) -> bool:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    picture: NDArray[np.float32] = imread(path)[..., :3]
    return bool((np.abs(picture - np.array(to_rgb(color))) < 0.02).all(axis=-1).any())


def entry(successes: int, ms: float, n: int = 100) -> dict[str, Any]:
    interval = list(wilson_interval(successes, n))
    return {"n": n, "success": successes / n, "ci95": interval, "ms_per_shot": ms}


def believer(*bins: tuple[float, float, int]) -> dict[str, Any]:
    names = ("belief", "success", "n")
    return {"calibration": [dict(zip(names, part, strict=True)) for part in bins]}


def test_a_line_for_each_model(tmp_path: Path) -> None:
    lines = {
        "rnn": [entry(20, 2.1), entry(40, 20.0)],
        "jumpy, no gradient": [entry(70, 2.0)],
    }
    save_frontier_figure(lines, tmp_path / "frontier.png")
    assert has_color(tmp_path / "frontier.png", RNN) and has_color(tmp_path / "frontier.png", OURS)
    save_frontier_figure({"rnn": lines["rnn"]}, tmp_path / "rnn.png")
    assert not has_color(tmp_path / "rnn.png", OURS)


def test_only_those_with_beliefs_are_drawn(tmp_path: Path) -> None:
    results = {
        "none": {"calibration": None},
        "rnn": believer((0.6, 0.3, 40), (0.95, 0.5, 60)),
    }
    save_calibration_figure(results, tmp_path / "one.png")
    both = {**results, "jumpy": believer((1.0, 1.0, 100))}
    save_calibration_figure(both, tmp_path / "two.png")
    assert has_color(tmp_path / "one.png", RNN) and not has_color(tmp_path / "one.png", OURS)
    assert has_color(tmp_path / "two.png", OURS)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected searches to draw, got none"):
        save_frontier_figure({"rnn": []}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="expected an agent with beliefs, got none"):
        save_calibration_figure({"none": {"calibration": None}}, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[viz\]'"):
        save_frontier_figure({"rnn": [entry(20, 2.1)]}, tmp_path / "x.png")
