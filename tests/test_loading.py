"""Data by its config: from a folder, made anew, or recorded; pictures scaled, actions found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl.data.dataset import DatasetConfig, TrajectoryDataset, make_dataset
from jumpy_mbrl.data.loading import actions_ahead, as_frames, load_data
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.envs.config import TableConfig


def test_trajectories_are_kept_in_the_folder(tmp_path: Path) -> None:
    config = DatasetConfig(TableConfig(num_frames=9, lead_in=2), num_trajectories=6)
    data = load_data(config, tmp_path)
    assert isinstance(data, TrajectoryDataset)
    assert np.array_equal(data.obs, make_dataset(config).obs)
    assert data.config == config
    assert data.warm_up == 3, "the lead-in, and the frame of the shot"
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    assert np.array_equal(load_data(config, tmp_path).obs, data.obs)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_tasks_are_made_anew_and_leave_no_file(tmp_path: Path) -> None:
    config = TaskConfig("billiards1d", 4, seed=2, split="validation")
    data = load_data(config, tmp_path / "data")
    assert isinstance(data, TaskDataset)
    assert np.array_equal(data.obs, make_task(config).obs)
    assert data.config == config
    assert not (tmp_path / "data").exists()


def test_pictures_are_scaled_from_0_to_1() -> None:
    frames = as_frames(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, torch.tensor([0.0, 0.2, 1.0]), rtol=0, atol=1e-7)
    assert float(frames[2]) == 1.0


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.bool_])
def test_other_whole_numbers_are_taken_as_they_are(kind: type[Any]) -> None:
    frames = as_frames(np.array([0, 1, 1], kind)[::-1])
    assert frames.dtype == torch.float32 and frames.tolist() == [1.0, 1.0, 0.0]
    like = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(as_frames(frames.long(), like), frames.double())


@pytest.mark.parametrize("kind", ["O", ">f4", "g"])
def test_numbers_of_types_that_torch_lacks_are_read_too(kind: str) -> None:
    frames = as_frames(np.array([0.25, 2.0]).astype(kind))
    assert frames.dtype == torch.float32 and frames.tolist() == [0.25, 2.0]


@pytest.mark.parametrize("frames", [{"coords": [0.5]}, [["a"]]])
def test_what_is_no_number_is_no_frame(frames: Any) -> None:
    with pytest.raises(ValueError, match="expected frames of numbers, got"):
        as_frames(frames)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coordinates_stay_as_they_are(dtype: torch.dtype) -> None:
    frames = torch.tensor([-3.0, 255.0], dtype=dtype)
    assert as_frames(frames) is frames


def test_recordings_lie_where_they_were_saved(tmp_path: Path) -> None:
    obs, action = np.ones((2, 5, 3), np.float32), np.zeros((2, 5, 1), np.float32)
    config = Recording(obs, action, np.zeros((2, 4)), warm_up=2).save(tmp_path / "two.npz")
    data = load_data(config, tmp_path / "data")
    assert isinstance(data, Recording) and data.warm_up == 2
    assert np.array_equal(data.obs, obs)
    assert not (tmp_path / "data").exists()
    Recording(obs + 1.0, action, np.zeros((2, 4))).save(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="changed or recorded anew"):
        load_data(config, tmp_path)


def test_actions_ahead_are_those_of_any_row() -> None:
    action = torch.zeros(2, 8, 2)
    action[0, 1], action[:, 4], action[1, 6, 1], action[:, 7] = 1.0, 2.0, 3.0, 4.0
    taken, times = actions_ahead(action, 2)
    assert times == [0, 2, 4], "now, and where someone acts, but for the last frame"
    assert taken is not None and torch.equal(taken, action[:, [2, 4, 6]])
    assert actions_ahead(action, 7)[1] == [0], "now, even if nothing follows"
    assert actions_ahead(action[:, :, :0], 2)[0] is None
