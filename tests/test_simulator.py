"""The oracle behind the world-model interface, and shots that put a ball somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs.config import LINE_CONFIG, TableConfig
from jumpy_mbrl.envs.physics import place
from jumpy_mbrl.models import EventJump, EventJumpConfig, WorldModel, from_pretrained
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel


def test_it_foretells_whole_shots_from_four_frames() -> None:
    data = make_dataset(DatasetConfig(num_trajectories=500, seed=5, split="validation"))
    obs, action = torch.from_numpy(data.obs), torch.from_numpy(data.action)
    model = SimulatorModel()
    state = model.observe(obs[:, :4])
    imagined = model.imagine(state, torch.arange(1.0, 42.0), action[:, 3])
    error = (imagined.obs - obs[:, 4:]).abs().amax(dim=(1, 2))
    assert float((error < 1e-2).float().mean()) > 0.97


def test_ticks_are_collisions() -> None:
    model = SimulatorModel(TableConfig(num_balls=1))
    state = model.state_from(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1, 0.0]]))
    imagined = model.imagine(state, [30.0])
    torch.testing.assert_close(imagined.tick_times, torch.tensor([[4.0, 12.0, 20.0, 28.0]]))


def test_slow_contacts_are_slow_in_time_units() -> None:
    """A contact is slow below 1e-3 sides per time unit, which are 5e-5 sides per frame."""
    model = SimulatorModel(TableConfig(num_balls=1, restitution=0.5))
    for speed, share in ((0.9e-3, 0.95), (1.1e-3, 0.5)):
        state = model.state_from(torch.tensor([[0.9, 0.5]]), torch.tensor([[speed * 0.05, 0.0]]))
        after = model.tick(state).hidden[0, 2]
        torch.testing.assert_close(float(after), -share * speed * 0.05, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("balls", "understood"), [(1, 0.98), (3, 0.9), (5, 0.7)])
def test_any_number_of_balls(balls: int, understood: float) -> None:
    config = DatasetConfig(
        table=TableConfig(num_balls=balls), num_trajectories=50, split="validation", shot="none"
    )
    obs = torch.from_numpy(make_dataset(config).obs)
    model = SimulatorModel(config.table)
    imagined = model.imagine(model.observe(obs[:, :4]), [1.0, 2.0, 3.0])
    error = (imagined.obs - obs[:, 4:7]).abs().amax(dim=(1, 2)).numpy()
    assert np.mean(error < 1e-4) > understood


def test_many_collisions_are_all_played() -> None:
    table = TableConfig(num_balls=8)
    env = gym.make("Billiards2D-v0", config=table, success="last")
    _, info = env.reset(seed=0)
    positions, velocities = (torch.from_numpy(info[key]) for key in ("positions", "velocities"))
    really = np.stack([env.step(np.zeros(2))[4]["positions"].ravel() for _ in range(44)])
    model = SimulatorModel(table)
    state = model.state_from(positions.view(1, -1), velocities.view(1, -1) * table.dt)
    imagined = model.imagine(state, torch.arange(1.0, 45.0))
    assert imagined.ticks.item() > 64
    # Rounding grows with every collision.
    np.testing.assert_allclose(imagined.obs[0, :20], really[:20], atol=1e-6)
    assert float(imagined.obs.min()) > table.radius - 1e-9
    assert float(imagined.obs.max()) < 1.0 - table.radius + 1e-9


@pytest.mark.parametrize(("balls", "frames", "most"), [(2, 41, 64), (2, 300, 450), (8, 41, 738)])
def test_models_that_learn_may_tick_as_often_as_tables_need(
    balls: int, frames: int, most: int
) -> None:
    class Restless(SimulatorModel):
        """Sees an event at every moment, as a model may before it has learned."""

        _most_ticks = EventDrivenModel._most_ticks

        def next_event(
            self, positions: torch.Tensor, velocities: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            time, event = super().next_event(positions, velocities)
            return 0.0 * time.nan_to_num(posinf=0.0), event

        def _out_of_ticks(self) -> None:
            pass

    model = Restless(TableConfig(num_balls=balls))
    assert model.imagine(model.initial_state(3), [float(frames)]).ticks.tolist() == [most] * 3


def test_more_events_than_allowed_are_refused() -> None:
    model = SimulatorModel(TableConfig(num_balls=1))
    state = model.state_from(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1, 0.0]]))
    model.max_ticks = 3
    assert model.imagine(state, [25.0]).ticks.tolist() == [3]
    with pytest.raises(RuntimeError, match="max_ticks=3 events"):
        model.imagine(state, [30.0])


# -- shots that place a ball ---------------------------------------------------------------------


def simulator(table: TableConfig = LINE_CONFIG) -> PlacementModel:
    return PlacementModel(LineSimulator(table), table)


def learned() -> PlacementModel:
    return PlacementModel(from_pretrained("jumpy-billiards1d-task"), LINE_CONFIG)


def lines(count: int) -> tuple[Any, Any, Any]:
    """Context frames (B, 4, 2) of the environment, actions (B, 2), and what followed (B, 17, 2)."""
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
    moving = model.model.velocities_of(imagined.state)
    for row in range(count):
        x, v = starts[row].ravel().tolist(), velocities[row].ravel().tolist()
        place(x, v, float(actions[row, 0]), float(actions[row, 1]), radius)
        np.testing.assert_allclose(imagined.obs[row, 0], x[1::2], atol=1e-12)
        np.testing.assert_allclose(moving[row] / table.dt, v[1::2], atol=1e-12)


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
    assert (model.obs_size, model.action_size) == (2, 2)


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
