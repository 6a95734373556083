"""Data by its config: trajectories from a folder, tasks made anew, pictures scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jumpy_mbrl.data.dataset import DatasetConfig, TrajectoryDataset, make_dataset
from jumpy_mbrl.data.loading import as_frames, load_data
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coordinates_stay_as_they_are(dtype: torch.dtype) -> None:
    frames = torch.tensor([-3.0, 255.0], dtype=dtype)
    assert as_frames(frames) is frames
