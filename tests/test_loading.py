"""Data by its config: from a folder, made anew, or recorded; pictures scaled, actions found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl import data
from jumpy_mbrl.data.loading import actions_ahead, as_frames, load_data
from jumpy_mbrl.envs.config import TableConfig


def test_trajectories_are_kept_in_the_folder(tmp_path: Path) -> None:
    config = data.DatasetConfig(TableConfig(num_frames=9, lead_in=2), num_trajectories=6)
    found: Any = load_data(config, tmp_path)
    np.testing.assert_array_equal(found.obs, data.make_dataset(config).obs)
    assert found.config == config and found.context_frames == 3
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    np.testing.assert_array_equal(load_data(config, tmp_path).obs, found.obs)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_tasks_are_made_anew_and_leave_no_file(tmp_path: Path) -> None:
    config = data.TaskConfig("billiards1d", 4, seed=2, split="validation")
    found: Any = load_data(config, tmp_path / "data")
    np.testing.assert_array_equal(found.obs, data.make_task(config).obs)
    assert found.config == config and not (tmp_path / "data").exists()


def test_recordings_lie_where_they_were_saved(tmp_path: Path) -> None:
    obs, action = np.ones((2, 5, 3), np.float32), np.zeros((2, 5, 1), np.float32)
    made = data.Recording(obs, action, np.zeros((2, 4)), context_frames=2)
    config = made.save(tmp_path / "two.npz")
    found = load_data(config, tmp_path / "data")
    np.testing.assert_array_equal(found.obs, obs)
    assert found.context_frames == 2 and not (tmp_path / "data").exists()
    data.Recording(obs + 1.0, action, np.zeros((2, 4))).save(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="changed or recorded anew"):
        load_data(config, tmp_path)


@pytest.mark.parametrize(
    ("given", "frames"),
    [
        (torch.tensor([0, 51, 255], dtype=torch.uint8), [0.0, 0.2, 1.0]),
        (np.array([0, 51, 255], np.uint8), [0.0, 0.2, 1.0]),
        # Other whole numbers are taken as they are, and types that torch lacks are read too.
        *((np.array([0, 1, 1], kind)[::-1], [1.0, 1.0, 0.0]) for kind in (np.int64, np.int8, bool)),
        *((np.array([0.25, 2.0]).astype(kind), [0.25, 2.0]) for kind in ("O", ">f4", "g")),
    ],
)
def test_frames_are_read_as_numbers(given: Any, frames: list[float]) -> None:
    found = as_frames(given)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(frames, abs=1e-8)
    like = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(as_frames(given, like), found.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coordinates_stay_as_they_are(dtype: torch.dtype) -> None:
    frames = torch.tensor([-3.0, 255.0], dtype=dtype)
    assert as_frames(frames) is frames


@pytest.mark.parametrize("frames", [{"coords": [0.5]}, [["a"]]])
def test_what_is_no_number_is_no_frame(frames: Any) -> None:
    with pytest.raises(ValueError, match="expected frames of numbers, got"):
        as_frames(frames)


def test_actions_ahead_are_those_of_any_row() -> None:
    action = torch.zeros(2, 8, 2)
    action[0, 1], action[:, 4], action[1, 6, 1], action[:, 7] = 1.0, 2.0, 3.0, 4.0
    taken, times = actions_ahead(action, 2)
    assert times == [0, 2, 4], "now, and where someone acts, but for the last frame"
    assert taken is not None and torch.equal(taken, action[:, [2, 4, 6]])
    assert actions_ahead(action, 7)[1] == [0], "now, even if nothing follows"
    assert actions_ahead(action[:, :, :0], 2)[0] is None
