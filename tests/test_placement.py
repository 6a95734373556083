"""Shots that put a ball somewhere, against those of the environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs.config import LINE_CONFIG, TableConfig
from jumpy_mbrl.envs.physics import place
from jumpy_mbrl.models import EventJump, EventJumpConfig, WorldModel, from_pretrained
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel


def simulator(table: TableConfig = LINE_CONFIG) -> PlacementModel:
    return PlacementModel(LineSimulator(table), table)


def learned() -> PlacementModel:
    return PlacementModel(from_pretrained("jumpy-billiards1d-task"), LINE_CONFIG)


def lines(count: int) -> tuple[Any, Any, Any]:
    """Lead-in frames (B, 4, 2) of the environment, actions (B, 2), and what followed (B, 17, 2)."""
    env = gym.make("Billiards1D-v0")
    actions = np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32)
    frames = []
    for seed, action in enumerate(actions):
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(action)[0] for _ in range(20)]
        frames.append(np.stack(seen))
    obs = torch.from_numpy(np.stack(frames))
    return obs[:, :4], torch.from_numpy(actions), obs[:, 4:]


@pytest.mark.parametrize(("make", "error"), [(simulator, 1e-5), (learned, 1e-3)])
def test_what_follows_a_shot_is_what_the_environment_shows(
    make: Callable[[], PlacementModel], error: float
) -> None:
    frames, actions, after = lines(100)
    model = make()
    with torch.no_grad():
        imagined = model.imagine(model.observe(frames), range(1, 18), actions)
    assert float((imagined.obs - after).abs().max()) < error
    assert bool((imagined.tick_times[:, 0] == 0.0).all())  # the shot is a tick


@pytest.mark.parametrize("radius", [0.1, 0.24, 0.25])  # two balls of the last size fill the line
def test_the_ball_is_put_where_the_environment_puts_it(radius: float) -> None:
    table = LINE_CONFIG.replace(radius=radius)
    rng = np.random.default_rng(1)
    count = 300
    actions = rng.uniform(-1, 1, (count, 2))
    actions[:10, 1] = 0.0
    starts = np.full((count, 2, 2), 0.5)
    starts[:, :, 1] = rng.uniform(radius, 1.0 - radius, (count, 2))
    velocities = np.zeros((count, 2, 2))
    velocities[:, 1, 1] = rng.choice([-1.0, 1.0], count)
    model = simulator(table)
    state = model.state_from(
        torch.from_numpy(starts[:, :, 1]), torch.from_numpy(velocities[:, :, 1] * table.dt)
    )
    imagined = model.imagine(state, [0.0], torch.from_numpy(actions))
    for row in range(count):
        x, v = starts[row].ravel().tolist(), velocities[row].ravel().tolist()
        place(x, v, float(actions[row, 0]), float(actions[row, 1]), radius)
        np.testing.assert_allclose(imagined.obs[row, 0], x[1::2], atol=1e-12)


def test_gradients_flow_through_the_position_alone() -> None:
    model = simulator()
    state = model.state_from(torch.tensor([[0.5, 0.8]]), torch.tensor([[0.05, 0.05]]))
    action = torch.tensor([[-0.5, 1.0]], requires_grad=True)
    imagined = model.imagine(state, [1.0], action)
    (gradient,) = torch.autograd.grad(imagined.obs[0, 0, 0], action)
    torch.testing.assert_close(gradient, torch.tensor([[0.4, 0.0]]))


def test_without_a_shot_it_is_the_passive_model() -> None:
    model, passive = simulator(), LineSimulator(LINE_CONFIG)
    frames, _, _ = lines(5)
    alone = passive.imagine(passive.observe(frames), [3.5, 40.0])
    same = model.imagine(model.observe(frames, torch.zeros(5, 4, 2)), [3.5, 40.0])
    torch.testing.assert_close(same.obs, alone.obs)
    torch.testing.assert_close(same.tick_times, alone.tick_times)
    assert model.initial_state(3).batch_size == 3
    assert (model.obs_size, model.action_size) == (2, 2)


def test_earlier_shots_are_refused() -> None:
    frames, _, _ = lines(2)
    action = torch.zeros(2, 4, 2)
    action[1, -1] = 0.5  # what is done now is no past
    simulator().observe(frames, action)
    action[1, 1] = 0.5
    with pytest.raises(ValueError, match="no shot was played"):
        simulator().observe(frames, action)


@pytest.mark.parametrize(
    "model",
    [
        SimulatorModel(),
        EventJump(EventJumpConfig(axes=2, action_size=0)),
        EventJump(EventJumpConfig(axes=1, num_balls=3, action_size=0)),
        EventJump(EventJumpConfig(axes=1, action_size=2)),
    ],
    ids=["a table", "a plane", "three balls", "shots"],
)
def test_other_models_are_refused(model: WorldModel) -> None:
    with pytest.raises(ValueError, match=r"model of two balls on a line .*without actions"):
        PlacementModel(model, LINE_CONFIG)
