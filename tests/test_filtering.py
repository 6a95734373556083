"""Inferring velocities from frames, with the true physics as the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.models.simulator import SimulatorModel


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Tables without shots, so that the frames after the fourth tell what velocities it had."""
    config = DatasetConfig(num_trajectories=2000, seed=4, split="validation", shot="none")
    return torch.from_numpy(make_dataset(config).obs)


def test_four_frames_foretell_the_next_ones(frames: Tensor) -> None:
    model = SimulatorModel()
    imagined = model.imagine(model.observe(frames[:, :4]), [1.0, 2.0])
    error = (imagined.obs - frames[:, 4:6]).abs().amax(dim=(1, 2))
    assert float((error < 1e-5).float().mean()) > 0.985


def test_finite_differences_alone_do_not(frames: Tensor) -> None:
    model = SimulatorModel()
    state = model.state_from(frames[:, 3], frames[:, 3] - frames[:, 2])
    error = (model.imagine(state, [1.0, 2.0]).obs - frames[:, 4:6]).abs().amax(dim=(1, 2))
    assert float((error < 1e-5).float().mean()) < 0.9


def test_a_bounce_between_the_last_frames_is_understood() -> None:
    # At 0.03 a frame the ball turns at 0.9 between frames 2 and 3.
    free = 0.82 + 0.03 * torch.arange(4.0)
    x = torch.where(free > 0.9, 1.8 - free, free)
    obs = torch.stack([x, torch.full((4,), 0.5)] + [torch.full((4,), 0.2)] * 2, dim=1)
    velocity = SimulatorModel().observe(obs.unsqueeze(0)).hidden[0, 4:]
    torch.testing.assert_close(velocity, torch.tensor([-0.03, 0.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_actions_on_the_way_are_taken_into_account() -> None:
    # The cue ball rests for two frames, is then shot at, and hits the wall after the third.
    x = torch.tensor([0.84, 0.84, 0.84, 0.9 - 0.0, 0.84])
    obs = torch.full((1, 5, 4), 0.3)
    obs[0, :, 0] = x
    obs[0, :, 1] = 0.7
    action = torch.zeros(1, 5, 2)
    action[0, 2, 0] = 1.0
    state = SimulatorModel().observe(obs, action)
    torch.testing.assert_close(
        state.hidden[0, 4:], torch.tensor([-0.06, 0.0, 0.0, 0.0]), atol=1e-5, rtol=0
    )
