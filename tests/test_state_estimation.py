"""Inferring velocities from frames, with the true physics as the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.starts import sample_tables
from jumpy_mbrl.models.base import Imagined, State
from jumpy_mbrl.models.bodies.placement import LineSimulator
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.bodies.state_estimation import bounded, smooth


def line() -> SimulatorModel:
    """Two balls on a line."""
    return LineSimulator(TableConfig())


class Counting(SimulatorModel):
    """Remembers how many tables each rollout was of."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[int] = []

    def imagine(self, state: State, *given: Any) -> Imagined:
        self.played.append(state.batch_size)
        return super().imagine(state, *given)


def turns(most: int) -> Callable[[int], bool]:
    """Allows so many turns."""
    left = iter(range(most))
    return lambda rollouts: next(left, None) is not None


def film(
    model: SimulatorModel, positions: Tensor, velocities: Tensor, action: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Four frames, and the velocities at the last; ``action`` (B, 2) is taken at frame 2."""
    state = model.state_from(positions, velocities)
    actions = None if action is None else action.unsqueeze(1)
    imagined = model.imagine(state, [0.0, 1.0, 2.0, 3.0], actions, [2.0])
    return imagined.obs, model.velocities_of(imagined.state)


def moving(config: TableConfig, count: int) -> tuple[Tensor, Tensor]:
    """Four frames of random tables, and the velocities at the last."""
    positions, velocities = sample_tables(config, np.random.default_rng(0), count)
    start = [torch.from_numpy(values).float().flatten(1) for values in (positions, velocities)]
    return film(SimulatorModel(config), start[0], start[1] * config.dt)


def hard_table() -> tuple[Tensor, Tensor]:
    """A ball meets a wall, the other ball, and the other a wall, one in each interval."""
    positions = torch.tensor([[0.351, 0.883, 0.682, 0.796]])
    return film(SimulatorModel(), positions, torch.tensor([[0.023, 0.06, -0.06, 0.032]]))


def easy_table() -> tuple[Tensor, Tensor]:
    """Nothing happens in the first two intervals, and much in the last."""
    positions = torch.tensor([[0.4, 0.5, 0.8, 0.75]])
    return film(SimulatorModel(), positions, torch.tensor([[0.05, 0.0, 0.04, 0.06]]))


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


# -- when something happens in every interval ----------------------------------------------------


@pytest.mark.parametrize(
    ("model", "positions", "velocities"),
    [
        (SimulatorModel(), [0.351, 0.883, 0.682, 0.796], [0.023, 0.06, -0.06, 0.032]),
        (
            SimulatorModel(TableConfig(restitution=0.8)),
            [0.872, 0.127, 0.586, 0.139],
            [0.001, 0.014, 0.049, -0.041],
        ),
        (
            SimulatorModel(TableConfig(num_balls=3)),
            [0.889, 0.839, 0.102, 0.117, 0.756, 0.389],
            [-0.052, 0.046, -0.011, 0.04, 0.054, 0.016],
        ),
        (line(), [0.8706, 0.5781], [0.05, 0.05]),
    ],
    ids=["two balls", "walls that take", "three balls", "on a line"],
)
def test_velocities_are_found_where_no_difference_of_frames_is_one(
    model: SimulatorModel, positions: list[float], velocities: list[float]
) -> None:
    obs, expected = film(model, torch.tensor([positions]), torch.tensor([velocities]))
    assert bool(((obs.diff(dim=1) - expected).abs().amax(dim=2) > 5e-3).all()), "too easy"
    found = model.velocities_of(model.observe(obs))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_they_are_found_with_a_shot_on_the_way() -> None:
    model = SimulatorModel()
    shot = torch.tensor([[0.2, -0.6]])
    obs, expected = film(
        model,
        torch.tensor([[0.163, 0.148, 0.486, 0.226]]),
        torch.tensor([[-0.041, -0.06, -0.06, 0.0]]),
        shot,
    )
    action = torch.zeros(1, 4, 2)
    action[:, 2] = shot
    found = model.velocities_of(model.observe(obs, action))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "count", "misread"),
    [
        (TableConfig(), 4000, 2),
        (TableConfig(restitution=0.8), 8000, 3),
        (TableConfig(num_balls=5), 500, 8),
        (TableConfig(num_balls=8, radius=0.05), 100, 2),
    ],
)
def test_few_tables_are_misread(config: TableConfig, count: int, misread: int) -> None:
    obs, expected = moving(config, count)
    model = SimulatorModel(config)
    error = (model.velocities_of(model.observe(obs)) - expected).abs().amax(dim=1)
    assert int((error > 1e-3).sum()) <= misread


def test_only_unexplained_rows_are_searched_for() -> None:
    model = Counting()
    easy, _ = easy_table()
    model.observe(easy.expand(50, -1, -1))
    assert model.played == [50, 50, 50]
    hard, _ = hard_table()
    model.played.clear()
    model.observe(torch.cat([easy.expand(50, -1, -1), hard]))
    assert model.played[:4] == [51, 51, 51, 1]


def test_a_row_is_read_alike_alone_and_among_others() -> None:
    model = SimulatorModel()
    obs, _ = moving(TableConfig(), 300)
    hard, _ = hard_table()
    among = model.observe(torch.cat([obs, hard, obs])).hidden[300]
    torch.testing.assert_close(among, model.observe(hard).hidden[0], atol=1e-6, rtol=0)


def test_gradients_reach_the_frames_but_of_rows_searched_for() -> None:
    model = SimulatorModel()
    obs = torch.cat([easy_table()[0], hard_table()[0]]).requires_grad_(True)
    model.velocities_of(model.observe(obs)).sum().backward()
    assert obs.grad is not None
    assert bool(obs.grad[0].any())
    assert not bool(obs.grad[1].any())
    with torch.no_grad():
        without = model.observe(obs)
    torch.testing.assert_close(without.hidden, model.observe(obs).hidden)
    assert not without.hidden.requires_grad


def test_frames_that_no_motion_explains_leave_the_last_displacement() -> None:
    generator = torch.Generator().manual_seed(0)
    # The balls tremble about two places where they touch nothing.
    obs = torch.tensor([0.3, 0.3, 0.6, 0.6]) + 0.1 * torch.rand(20, 4, 4, generator=generator)
    model = SimulatorModel()
    found = model.velocities_of(model.observe(obs))
    torch.testing.assert_close(found, obs[:, 3] - obs[:, 2])


@pytest.mark.parametrize("frames_seen", [3, 7])
def test_any_number_of_frames(frames_seen: int) -> None:
    model = SimulatorModel()
    positions = torch.tensor([[0.351, 0.883, 0.682, 0.796]])
    state = model.state_from(positions, torch.tensor([[0.023, 0.06, -0.06, 0.032]]))
    imagined = model.imagine(state, torch.arange(7.0))
    found = model.observe(imagined.obs[:, -frames_seen:])
    expected = model.velocities_of(imagined.state)
    torch.testing.assert_close(model.velocities_of(found), expected, atol=1e-5, rtol=0)


def test_the_search_is_bounded_and_keeps_what_it_has_found() -> None:
    model, played, errors = Counting(), [], []
    obs, expected = hard_table()
    for most in (0, 3, 7, 8, 1000):
        with bounded(turns(most)):
            found = model.observe(obs)
        errors.append(float((model.velocities_of(found) - expected).abs().max()))
        played.append(len(model.played))
        model.played.clear()
    assert played[0] == 1 and played == sorted(set(played))
    assert errors[0] > 1e-2 and errors[-1] == min(errors) < 1e-5
    model.observe(obs)
    assert len(model.played) == played[-1], "nothing is bounded any more"


# -- smoothing -----------------------------------------------------------------------------------


def noisy(frames: Tensor, size: float) -> Tensor:
    return frames + size * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))


def velocity_errors(state: State, true: Tensor) -> Tensor:
    return (SimulatorModel().velocities_of(state) - true).abs().amax(dim=1)


def test_smoothing_halves_what_noise_does_to_velocities() -> None:
    frames, true = moving(TableConfig(), 400)
    seen, model = noisy(frames, 2e-4), SimulatorModel()
    state = model.observe(seen)
    plain = velocity_errors(state, true)
    smoothed = smooth(model, seen, state)
    better = velocity_errors(smoothed, true)
    assert better.median() < 0.5 * plain.median()
    assert better.quantile(0.9) < 0.6 * plain.quantile(0.9)
    assert (smoothed.hidden[:, :4] - frames[:, -1]).abs().mean() < 2e-4


def test_smoothing_leaves_exact_frames_and_the_difference_of_two() -> None:
    frames, true = moving(TableConfig(), 400)
    model = SimulatorModel()
    smoothed = smooth(model, frames, model.observe(frames))
    assert (smoothed.hidden[:, :4] - frames[:, -1]).abs().max() < 1e-4
    assert velocity_errors(smoothed, true).median() < 1e-6
    seen = noisy(frames[:50, :2], 1e-3)
    smoothed = smooth(model, seen, model.observe(seen))
    torch.testing.assert_close(smoothed.hidden[:, :4], seen[:, 1], rtol=0, atol=1e-4)


def test_smoothing_is_bounded() -> None:
    frames, _ = moving(TableConfig(), 5)
    model, state = Counting(), SimulatorModel().observe(frames)
    for most in range(3):
        with bounded(turns(most)):
            smoothed = smooth(model, noisy(frames, 1e-3), state)
        assert len(model.played) == most
        assert (most < 2) == torch.equal(smoothed.hidden[:, 4:], state.hidden[:, 4:])
        model.played.clear()


def test_gradients_reach_the_frames_through_smoothing() -> None:
    frames, _ = moving(TableConfig(), 5)
    seen = noisy(frames, 1e-4).requires_grad_()
    model = SimulatorModel()
    smooth(model, seen, model.observe(seen)).velocity.sum().backward()
    assert seen.grad is not None and bool(seen.grad.isfinite().all())
    assert bool((seen.grad != 0.0).flatten(1).any(dim=1).all())
