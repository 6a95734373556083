"""Unfolded motion: walls cost no tick, and everything else is as in EventJump."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.sampling import make_sampler
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.models.bodies.fold_jump import FoldJump, FoldJumpConfig
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.training.loop import validate

WALL = 0.4
"""Distance of a ball's turning point from the middle of the table."""


class TruePairs(FoldJump):
    """The true surface and outcome of two balls, so that only the folding is in question."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FoldJumpConfig(**settings))
        self.double()
        with torch.no_grad():
            self.reach.fill_(WALL)

    def _pair_surface(self, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        square = 0.04 - across.square()
        touch = square.clamp_min(0.0).sqrt()
        coming = (square > 0) & (along > -1e-9)
        return along - touch, torch.where(coming, 1.0, -1.0).to(along)

    def pair_outcome(self, offset: Tensor, relative: Tensor) -> Tensor:
        normal = offset / offset.norm(dim=-1, keepdim=True)
        change: Tensor = (relative * normal).sum(dim=-1, keepdim=True) * normal
        return change


def table(seed: int, count: int, balls: int = 2) -> tuple[Tensor, Tensor]:
    """Random positions without overlap, and velocities per frame, (B, 2N) float64."""
    rng = np.random.default_rng(seed)
    positions = np.empty((count, 2 * balls))
    for row in positions:
        while True:
            row[:] = rng.uniform(0.11, 0.89, 2 * balls)
            gaps = [
                math.dist(row[2 * i : 2 * i + 2], row[2 * j : 2 * j + 2])
                for i in range(balls)
                for j in range(i)
            ]
            if all(gap > 0.21 for gap in gaps):
                break
    velocities = rng.normal(0.0, 0.04, positions.shape)
    return torch.from_numpy(positions), torch.from_numpy(velocities)


@pytest.mark.parametrize("balls", [1, 2, 3])
def test_folded_motion_is_the_motion_with_walls(balls: int) -> None:
    model = TruePairs(num_balls=balls)
    positions, velocities = table(1, 200, balls)
    state = model.state_from(positions, velocities)
    times = [0.0, 0.4, 3.0, 7.7, 20.0]
    with torch.no_grad():
        imagined = model.imagine(state, times)
    for k, time in enumerate(times):
        shape = (len(positions), balls, 2)
        true, _ = torch_physics.advance(
            positions.view(shape), velocities.view(shape), time, radius=0.1
        )
        torch.testing.assert_close(imagined.obs[:, k], true.flatten(1), rtol=0.0, atol=1e-6)


def test_walls_cost_no_tick() -> None:
    model = TruePairs()
    simulator = SimulatorModel()
    positions, velocities = table(2, 300)
    with torch.no_grad():
        folded = model.imagine(model.state_from(positions, velocities), [40.0])
        ticked = simulator.imagine(simulator.state_from(positions, velocities), [40.0])
    assert folded.ticks.sum() < 0.5 * ticked.ticks.sum()
    alone = velocities.abs().amax(dim=1) < 0.02  # slow balls that hardly meet
    assert (folded.ticks[alone] <= ticked.ticks[alone]).all()


def test_a_ball_by_itself_bounces_to_and_fro() -> None:
    model = TruePairs(num_balls=1, horizon=1000.0)
    state = model.state_from(
        torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.1, 0.0]]).double()
    )
    times = [0.0, 4.0, 8.0, 12.0, 16.0, 20.5]
    with torch.no_grad():
        x = model.imagine(state, times).obs[0, :, 0]
    expected = torch.tensor([0.5, 0.9, 0.5, 0.1, 0.5, 0.85]).double()
    torch.testing.assert_close(x, expected)


def test_velocities_are_those_that_are_seen() -> None:
    model = TruePairs(num_balls=1)
    state = model.state_from(
        torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.1, 0.03]]).double()
    )
    with torch.no_grad():
        later = model.imagine(state, [6.0]).state
    torch.testing.assert_close(model.velocities_of(later), torch.tensor([[-0.1, 0.03]]).double())


def test_few_folds_a_jump_change_ticks_and_nothing_else() -> None:
    positions, velocities = table(3, 100)
    narrow, wide = TruePairs(max_folds=1, axis_folds=1), TruePairs()
    with torch.no_grad():
        few = narrow.imagine(narrow.state_from(positions, velocities), [5.0, 15.0])
        many = wide.imagine(wide.state_from(positions, velocities), [5.0, 15.0])
    torch.testing.assert_close(few.obs, many.obs, rtol=0.0, atol=1e-6)
    assert few.ticks.sum() > many.ticks.sum()


def test_the_shot_has_a_gradient_through_folds() -> None:
    torch.manual_seed(0)
    model = TruePairs(num_balls=2)
    state = model.state_from(
        torch.tensor([[0.3, 0.3, 0.7, 0.75]]).double(),
        torch.tensor([[0.02, 0.01, -0.03, 0.02]]).double(),
    )
    action = torch.tensor([[0.3, -0.2]], dtype=torch.float64, requires_grad=True)

    def place(action: Tensor) -> Tensor:
        return model.imagine(state, [9.5], action).obs[0, 0]

    assert torch.autograd.gradcheck(place, (action,), eps=1e-6, atol=1e-5)


def test_it_learns_the_line_in_seconds() -> None:
    data = make_task(TaskConfig("billiards1d", 1500))
    held_out = make_task(TaskConfig("billiards1d", 200, split="validation"))
    torch.manual_seed(0)
    model = FoldJump(FoldJumpConfig(axes=1, action_size=0, hidden_size=32))
    sampler = make_sampler(model.batch_kind, data)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1.0 - step / 300)
        loss, _ = model.loss(sampler.sample(256, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    figures = validate(model, held_out)
    assert figures["mse"] < 5e-4
    assert figures["mean_jump"] > 8.0  # walls and meetings together would allow 4
    assert abs(model.reach.item() - WALL) < 1e-5
