"""One shot, open loop: the truth against the environment, models against `imagine` itself."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.data.seeds import EVALUATION_SEEDS_FROM
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.lab.rollouts import Shot, imagined_rollout, real_rollout, watch_shot
from jumpy_mbrl.models import RNN, RNNConfig, WorldModel, from_pretrained
from jumpy_mbrl.models.bodies.simulator import SimulatorModel

SEED = 23
WHOLE = np.arange(3.0, 45.0)


@pytest.fixture(scope="module")
def shot() -> Shot:
    return watch_shot(SEED, load_agent("random", seed=SEED))


def played(shot: Shot, seed: int = SEED, num_balls: int = 2) -> tuple[NDArray[Any], list[Any]]:
    """What `Billiards2D-v0` shows of the same episode: frames (T, N, 2), and every `info`."""
    env = gym.make("Billiards2D-v0", num_balls=num_balls)
    obs, info = env.reset(seed=seed)
    frames, infos = [obs], [info]
    over = False
    while not over:
        obs, _, terminated, truncated, info = env.step(shot.action)
        frames.append(obs)
        infos.append(info)
        over = terminated or truncated
    return np.stack(frames).reshape(len(frames), -1, 2), infos


def trained(name: str) -> WorldModel:
    return from_pretrained(f"{name}-billiards2d")


# -- watching ------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_environment(shot: Shot) -> None:
    frames, infos = played(shot)
    assert shot.now == 3
    np.testing.assert_array_equal(shot.frames.reshape(4, 2, 2), frames[:4])
    np.testing.assert_array_equal(shot.positions, infos[3]["positions"])
    np.testing.assert_array_equal(shot.velocities, infos[3]["velocities"])


def test_the_same_seed_gives_the_same_shot_and_another_one_another(shot: Shot) -> None:
    again, other = (watch_shot(seed, load_agent("random", seed=seed)) for seed in (SEED, 24))
    np.testing.assert_array_equal(again.frames, shot.frames)
    np.testing.assert_array_equal(again.action, shot.action)
    assert not np.array_equal(other.frames, shot.frames)
    assert not np.array_equal(other.action, shot.action)


def test_the_agent_is_shown_the_lead_in_and_its_shot_is_taken() -> None:
    seen = []

    class Recorder:
        def predict(self, observation: Any, *rest: Any, **more: Any) -> tuple[Any, Any]:
            seen.append(observation)
            return torch.tensor([0.25, -0.5], requires_grad=True) * 1.0, None

    shot = watch_shot(5, Recorder())
    assert [frames.shape for frames in seen] == [(4, 4)]
    assert shot.action.dtype == np.float32 and shot.action.tolist() == [0.25, -0.5]


@pytest.mark.parametrize("seed", [-1, EVALUATION_SEEDS_FROM, 2**60, True])
def test_tables_kept_for_evaluation_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=r"a seed in \[0, 2251799813685248\).*evaluation"):
        watch_shot(seed, load_agent("random"))


# -- the truth -----------------------------------------------------------------------------------


def test_the_truth_is_what_the_environment_plays(shot: Shot) -> None:
    frames, infos = played(shot)
    real = real_rollout(shot, WHOLE)
    assert len(frames) == 45
    np.testing.assert_allclose(real.way, frames[3:], atol=1e-6)
    hits = [int(info["wall_hits"] + info["ball_hits"]) for info in infos]
    assert len(real.ticks) == hits[-1] - hits[3] > 5
    for frame in range(3, 45):
        assert (real.ticks <= frame).sum() == hits[frame] - hits[3]


def test_the_truth_between_two_frames_is_exact(shot: Shot) -> None:
    real = real_rollout(shot, np.array([3.0, 6.3, 19.75]))
    x, v = shot.positions.ravel().tolist(), shot.velocities.ravel().tolist()
    ax, ay = shot.action.tolist()
    shoot(v, ax, ay, shot.config.max_impulse, shot.config.max_speed)
    np.testing.assert_allclose(real.way[0], shot.positions)
    for frames, way in ((3.3, real.way[1]), (13.45, real.way[2])):
        advance(x, v, frames * shot.config.dt, shot.config.radius)
        np.testing.assert_allclose(way.ravel(), x, atol=1e-9)


def test_balls_touch_something_at_every_collision(shot: Shot) -> None:
    real = real_rollout(shot, WHOLE)
    for balls in real.marks:
        wall = np.minimum(balls, 1.0 - balls).min() - shot.config.radius
        pair = np.linalg.norm(balls[0] - balls[1]) - 2.0 * shot.config.radius
        assert min(abs(wall), abs(pair)) < 1e-9


def test_balls_at_rest_have_no_collisions() -> None:
    still = np.zeros((1, 2))
    frames = np.full((4, 2), 0.5, dtype=np.float32)
    config = TableConfig(num_balls=1)
    real = real_rollout(
        Shot(frames, np.zeros(2, dtype=np.float32), still + 0.5, still, config), WHOLE
    )
    assert real.ticks.shape == (0,)
    assert real.marks.shape == (0, 1, 2)
    np.testing.assert_array_equal(real.way, np.full((42, 1, 2), 0.5))


# -- imagination ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "jumpy-rnn", "jumpy", "fold"])
def test_models_are_shown_the_frames_and_the_shot(shot: Shot, name: str) -> None:
    model = trained(name)
    found = imagined_rollout(model, shot, WHOLE)
    state = model.observe(torch.from_numpy(shot.frames[None]))
    action = torch.from_numpy(shot.action[None])
    expected = model.imagine(state, torch.arange(42.0), action)
    np.testing.assert_allclose(found.way.reshape(42, 4), expected.obs[0].detach(), atol=1e-5)
    np.testing.assert_allclose(found.ticks, expected.tick_times[0].detach() + 3.0, atol=1e-4)
    assert found.ticks[0] == 3.0
    assert found.marks.shape == (len(found.ticks), 2, 2)
    assert found.way.dtype == found.ticks.dtype == np.float64


def test_more_times_show_the_same_future(shot: Shot) -> None:
    model = trained("jumpy")
    coarse = imagined_rollout(model, shot, WHOLE)
    fine = imagined_rollout(model, shot, 3.0 + np.arange(411) / 10.0)
    np.testing.assert_allclose(fine.way[::10], coarse.way, atol=1e-5)
    np.testing.assert_allclose(fine.ticks, coarse.ticks, atol=1e-4)
    # Between two frames balls move on: nothing is held.
    assert np.abs(np.diff(fine.way, axis=0)).max(axis=(1, 2)).min() > 1e-3


def test_marks_lie_on_the_way(shot: Shot) -> None:
    found = imagined_rollout(trained("jumpy"), shot, 3.0 + np.arange(4101) / 100.0)
    for tick, mark in zip(found.ticks, found.marks, strict=True):
        nearest = np.abs(found.times - tick).argmin()
        np.testing.assert_allclose(mark, found.way[nearest], atol=0.002)


def test_a_perfect_model_imagines_what_happens(shot: Shot) -> None:
    class Fitting(SimulatorModel):
        """With a parameter, as `sample` looks at where a model's parameters are."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(()))

    real, found = real_rollout(shot, WHOLE), imagined_rollout(Fitting(), shot, WHOLE)
    np.testing.assert_allclose(found.way, real.way, atol=1e-3)
    np.testing.assert_allclose(found.ticks[1:], real.ticks, atol=1e-2)


def test_three_balls() -> None:
    shot = watch_shot(SEED, load_agent("random", seed=0), TableConfig(num_balls=3))
    model: Any = trained("jumpy")
    found = imagined_rollout(model.for_balls(3), shot, WHOLE[:6])
    real = real_rollout(shot, WHOLE[:6])
    assert found.way.shape == real.way.shape == (6, 3, 2)
    np.testing.assert_allclose(real.way[:2], played(shot, num_balls=3)[0][3:5], atol=1e-6)
    np.testing.assert_allclose(found.way, real.way, atol=0.02)


@pytest.mark.parametrize("sizes", [(4, 0), (6, 2)])
def test_models_of_another_world_are_refused(shot: Shot, sizes: tuple[int, int]) -> None:
    model = RNN(RNNConfig(obs_size=sizes[0], action_size=sizes[1], hidden_size=4, mlp_size=4))
    with pytest.raises(ValueError, match=f"4 coordinates and 2 .* got one of {sizes[0]} and"):
        imagined_rollout(model, shot, WHOLE)


@pytest.mark.parametrize("times", [[2.0, 4.0], [5.0, 4.0], [], [np.nan]])
def test_impossible_times_are_refused(shot: Shot, times: list[float]) -> None:
    for roll in (real_rollout, lambda *given: imagined_rollout(trained("rnn"), *given)):
        with pytest.raises(ValueError, match="times"):
            roll(shot, np.array(times))
