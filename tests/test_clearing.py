"""Tables cleared with several shots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jumpy_mbrl.data.seeds import validation_table_seeds
from jumpy_mbrl.lab import clearing


def test_balls_that_have_been_inside_stay_cleared() -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def shots(
        number: int, frames: NDArray[Any], info: dict[str, Any], reached: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        asked.append((number, frames.shape))
        if number:
            before.append(reached.copy())
            last = info["positions"]
            assert np.abs(frames[:, -1].reshape(last.shape) - last).max() < 1e-6
        return np.zeros((len(frames), 2), np.float32)

    before: list[NDArray[np.bool_]] = []
    reached = clearing.play(validation_table_seeds(0, 200), 3, (0, 20), shots)
    assert asked == [(0, (200, 4, 6)), (1, (200, 4, 6))]
    assert reached.shape == (200, 2) and bool((reached | ~before[0]).all())
    assert before[0].sum() < reached.sum() < reached.size / 2


def test_planned_shots_clear_more_than_random_ones(tmp_path: Path) -> None:
    few = ["--balls", "3", "--candidates", "256", "--episodes", "8", "--out", str(tmp_path)]
    assert clearing.main(["--agents", "random", "jumpy", "simulator", *few]) == 0
    report = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    shares = {
        (row["agent"], row["planned"]): float(row["cleared"].split()[0]) for row in report["rows"]
    }
    assert [key for key in shares if key[0] == "jumpy"] == [("jumpy", way) for way in clearing.WAYS]
    assert shares["random", "-"] < 30 < 60 < shares["jumpy", "together"]
    assert shares["simulator", "together, once"] <= shares["simulator", "together"]
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert text == "\n".join(clearing.page(report)) + "\n" and "| 3 | jumpy | together |" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--agents", "sac"], "sac"),
        (["--balls", "1"], "at least 2, so one to clear"),
        (["--shot-times", "3", "20"], "ascend from 0 to less than 41, got .3, 20"),
        (["--shot-times", "0", "20", "20"], "ascend"),
        (["--shot-times", "0", "41"], "ascend"),
        (["--episodes", "0"], "episodes"),
    ],
)
def test_games_that_cannot_be_are_refused(words: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        clearing.main([*words, "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
