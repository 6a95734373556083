"""The world model as a vector environment: with the true physics inside it is the real one."""

from __future__ import annotations

from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from jumpy_mbrl.adapters.model_env import StepBy, WorldModelVectorEnv
from jumpy_mbrl.envs import TableConfig
from jumpy_mbrl.models import (
    RNN,
    FoldJump,
    FoldJumpConfig,
    Imagined,
    RNNConfig,
)
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel

PLANE = "Billiards2D-v0"
AnyVectorEnv = VectorEnv[Any, Any, Any]


def real(name: str, count: int, **arguments: Any) -> AnyVectorEnv:
    return gym.make_vec(name, count, vectorization_mode="vector_entry_point", **arguments)


def nothing(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 2), dtype=np.float32)


def actions_of(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.uniform(-1, 1, (count, 2)).astype(np.float32)


def assert_plays_alike(theirs: AnyVectorEnv, ours: AnyVectorEnv, steps: int) -> int:
    """Plays both with the same seeds and actions; returns how many episodes ended."""
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    mode = ours.metadata["autoreset_mode"]
    wanted, found = theirs.reset(seed=3), ours.reset(seed=3)
    np.testing.assert_array_equal(found[0], wanted[0])
    assert_alike(found, wanted)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(steps):
        actions = actions_of(rng, ours.num_envs)
        step, ours_step = theirs.step(actions), ours.step(actions)
        assert_alike(ours_step, step)
        over = step[2] | step[3]
        ended += int(over.sum())
        if over.any() and mode == AutoresetMode.SAME_STEP:
            final, ours_final = step[4], ours_step[4]
            for name in ("_final_obs", "_final_info"):
                np.testing.assert_array_equal(ours_final[name], final[name])
            for row in np.flatnonzero(over):
                close(ours_final["final_obs"][row], final["final_obs"][row])
            assert_alike([ours_final["final_info"]], [final["final_info"]])
        if over.any() and mode == AutoresetMode.DISABLED:
            mask: dict[str, Any] = {"reset_mask": over}
            assert_alike(ours.reset(options=mask), theirs.reset(options=mask))
    return ended


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, atol=5e-3)


def assert_alike(found: Any, wanted: Any) -> None:
    """What a reset or a step returned: the same flags, nearly the same numbers."""
    for mine, its in zip(found[:-1], wanted[:-1], strict=True):
        assert mine.dtype == its.dtype
        close(mine, its)
    mine, its = found[-1], wanted[-1]
    for name in ("is_success", "_is_success", "_positions", "_time"):
        np.testing.assert_array_equal(mine[name], its[name])
    for name in {"positions", "time", "frames_played", "duration"} & its.keys():
        close(mine[name], its[name])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reward": "dense", "success": "last"},
        {"reward": "dense", "random_target": True},
        {"max_shots": 3},
        {"max_shots": None, "reward": "dense"},
        {"config": {"num_frames": 12, "lead_in": 2}},
    ],
)
def test_with_the_simulator_inside_it_is_the_real_environment(arguments: dict[str, Any]) -> None:
    # From rest, so that no velocity has to be inferred to the last digit.
    arguments = {"start": "rest", **arguments}
    table = TableConfig().replace(**arguments.get("config", {}))
    theirs = real(PLANE, 12, max_episode_steps=table.num_frames - 1, **arguments)
    ours = WorldModelVectorEnv(SimulatorModel(table), 12, **arguments)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert assert_plays_alike(theirs, ours, 95) > 12


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize(
    ("step_by", "success"), [("frame", "any"), ("shot", "any"), ("shot", "last")]
)
def test_episodes_go_over_as_in_the_real_environment(
    step_by: Any, success: str, mode: AutoresetMode
) -> None:
    arguments: dict[str, Any] = {"start": "rest", "reward": "dense", "success": success}
    arguments["autoreset_mode"] = mode
    ours = WorldModelVectorEnv(SimulatorModel(), 24, step_by, **arguments)
    if step_by == "frame":
        theirs = real(PLANE, 24, max_episode_steps=44, **arguments)
    else:
        theirs = real("Billiards2DShot-v0", 24, **arguments)
    assert theirs.metadata["autoreset_mode"] == mode
    ended = assert_plays_alike(theirs, ours, 95 if step_by == "frame" else 8)
    if step_by == "shot":  # In NEXT_STEP every other step is a reset.
        assert ended == 24 * (4 if mode == AutoresetMode.NEXT_STEP else 8)
    assert ended > 24


def test_infos_are_numbers_and_flat_and_skrl_knows_the_class() -> None:
    assert VectorEnv in WorldModelVectorEnv.__bases__
    for legacy in (False, True):
        env = WorldModelVectorEnv(SimulatorModel(), 3, "shot", legacy_info=legacy)
        for info in (env.reset(seed=0)[1], env.step(nothing(3))[4]):
            told = {name for name in info if not name.startswith("_")}
            wanted = {"positions", "time", "is_success", "frames_played", "duration"}
            assert told == wanted | ({"frames"} if legacy else set())
            assert all(isinstance(value, np.ndarray) for value in info.values())


def test_lost_shots_are_truncated_where_asked_for() -> None:
    env = WorldModelVectorEnv(SimulatorModel(), 24, "shot", truncate_lost=True)
    env.reset(seed=0)
    _, _, won, lost, info = env.step(nothing(24))
    assert won.any() and np.array_equal(won, info["is_success"]) and np.array_equal(lost, ~won)


def test_jumps_end_at_ticks_and_add_up_to_the_shot() -> None:
    arguments: dict[str, Any] = {"start": "rest", "reward": "dense"}
    jumps = WorldModelVectorEnv(SimulatorModel(), 24, "jump", **arguments)
    shots = WorldModelVectorEnv(SimulatorModel(), 24, "shot", **arguments)
    for env in (jumps, shots):
        env.reset(seed=5)
    actions = actions_of(np.random.default_rng(1), 24)
    last, reward, _, _, shot_info = shots.step(actions)
    total, frames = np.zeros(24), np.zeros(24)
    lengths = set()
    running = np.ones(24, dtype=bool)
    for step in range(60):
        obs, rewards, terminated, truncated, info = jumps.step(actions if step == 0 else -actions)
        total[running] += rewards[running]
        frames[running] += info["frames_played"][running]
        lengths |= set(info["frames_played"][running].tolist())
        np.testing.assert_allclose(info["duration"], 0.05 * info["frames_played"])
        ending = running & (terminated | truncated)
        np.testing.assert_allclose(obs[ending], last[ending], atol=1e-6)
        assert (info["is_success"] == terminated)[running].all()
        running &= ~ending
        if not running.any():
            break
    assert not running.any()
    np.testing.assert_allclose(total, reward, atol=1e-9)
    np.testing.assert_array_equal(frames, shot_info["frames_played"])
    assert max(lengths) > 5


class EveryThreeAndAHalf(RNN):
    """Ticks at 0, 3.5, 7, ... after a shot."""

    def rollout(self, state: Any, times: Any, end: float, action: Any) -> Imagined:
        imagined = super().rollout(state, times, end, action)
        ticks = torch.arange(0.0, end, 3.5).expand(state.batch_size, -1)
        return Imagined(imagined.obs, ticks, imagined.state)


def test_a_jump_lasts_until_the_first_frame_after_the_tick() -> None:
    env = WorldModelVectorEnv(EveryThreeAndAHalf(RNNConfig()), 2, "jump", success="last")
    env.reset(seed=0)
    taken = [env.step(nothing(2))[4]["frames_played"][0] for _ in range(12)]
    assert taken == [4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 2]
    assert env.step(nothing(2))[4]["frames_played"].tolist() == [3, 3]  # the next episode


@pytest.mark.parametrize("step_by", ["frame", "shot"])
def test_balls_on_a_line(step_by: Any) -> None:
    name = "Billiards1D-v0"
    env: Any = real(name if step_by == "frame" else "Billiards1DShot-v0", 16, reward="dense")
    table = env.config
    model = PlacementModel(LineSimulator(table), table)
    ours = WorldModelVectorEnv(model, 16, step_by, env_id=name, reward="dense")
    assert assert_plays_alike(env, ours, 45 if step_by == "frame" else 6) >= 32


def test_pixels_are_drawn_from_what_is_imagined() -> None:
    arguments: dict[str, Any] = {"start": "rest", "obs_type": "pixels", "size": 16}
    theirs = real(PLANE, 3, **arguments)
    ours = WorldModelVectorEnv(SimulatorModel(), 3, **arguments)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for _ in range(20):
        actions = actions_of(rng, 3)
        wanted, found = theirs.step(actions)[0], ours.step(actions)[0]
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 2
    rendered = WorldModelVectorEnv(SimulatorModel(), 2, render_mode="rgb_array")
    rendered.reset(seed=0)
    pictures = rendered.render()
    assert pictures is not None and pictures[1].shape == (512, 512, 3)


class Blind(RNN):
    """Loses the object ball four frames after each moment at which it is asked."""

    def rollout(self, state: Any, times: Any, end: float, action: Any) -> Imagined:
        imagined = super().rollout(state, times, end, action)
        imagined.obs[:, 4:, 2:] = torch.nan
        return imagined


@pytest.mark.parametrize("step_by", ["frame", "jump", "shot"])
@pytest.mark.parametrize("kind", [RNN, Blind])
def test_untrained_models_stay_in_the_observation_space(kind: type[RNN], step_by: Any) -> None:
    torch.manual_seed(0)
    model = kind(RNNConfig(residual=False))  # imagines balls beside the table too
    torch.nn.init.constant_(model.decoder.last.bias, 1.2)
    model.to(torch.bfloat16 if kind is Blind else torch.float32)
    env = WorldModelVectorEnv(model, 5, step_by, reward="dense")
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert obs in env.observation_space
        obs, rewards = env.step(actions_of(rng, 5))[:2]
        assert np.isfinite(rewards).all()


def test_rewards_of_ones_own() -> None:
    seen = []

    def to_the_right(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[Any]:
        seen.append(before)
        return after[:, 2] - before[:, 2]

    env = WorldModelVectorEnv(SimulatorModel(), 8, "shot", reward=to_the_right, random_target=True)
    obs, _ = env.reset(seed=0)
    last, reward, _, _, _ = env.step(actions_of(np.random.default_rng(0), 8))
    assert seen[0].shape == (8 * 41, 8)
    np.testing.assert_array_equal(seen[0].reshape(8, 41, 8)[:, 0], obs[:, 24:])
    np.testing.assert_allclose(reward, last[:, 26] - obs[:, 26], atol=1e-6)
    with np.errstate(invalid="ignore"):
        for function, words in (
            (lambda _, after: after, r"one reward for each of 328 frames.*got shape"),
            (lambda _, after: np.log(after[:, 0] - 2.0), "NaN or infinity for 328 of 328"),
        ):
            bad = WorldModelVectorEnv(SimulatorModel(), 8, "shot", reward=function)
            bad.reset(seed=0)
            with pytest.raises(ValueError, match=words):
                bad.step(nothing(8))


TABLE = np.array([0.2, 0.3, 0.7, 0.6], dtype=np.float32)
FRAMES = np.stack([np.tile(TABLE + 0.01 * k, (6, 1)) for k in range(3)])


LIFTED = {
    number: np.where(np.arange(18 * 4).reshape(3, 6, 4) == 35, number, FRAMES)
    for number in (-0.01, 1.5)
}
LIMIT = "no max_episode_steps, got 10: .*'num_frames'"
SHAPE = r"shape \(n, T, 4\) with T at least 4"


def test_starts_from_given_frames() -> None:
    env = WorldModelVectorEnv(SimulatorModel(), 16, "shot", frames=FRAMES)
    obs, _ = env.reset(seed=0)
    assert {float(row[0]) for row in obs} == {float(row[0, 0]) for row in FRAMES}
    np.testing.assert_array_equal(obs.reshape(16, 4, 4)[:, 0], obs.reshape(16, 4, 4)[:, 3])
    np.testing.assert_array_equal(env.reset(seed=0)[0], obs)
    last, _, _, _, _ = env.step(nothing(16))
    np.testing.assert_allclose(last, obs, atol=1e-6)  # at rest, and not shot at
    pictures = (255 * FRAMES).astype(np.uint8)
    read = WorldModelVectorEnv(SimulatorModel(), 16, "shot", frames=pictures / np.float32(255))
    given = WorldModelVectorEnv(SimulatorModel(), 16, "shot", frames=pictures)
    np.testing.assert_array_equal(given.reset(seed=0)[0], read.reset(seed=0)[0])
    env.reset(options={"target": (0.0, 0.5, 0.5, 1.0)})
    with pytest.raises(ValueError, match="unknown reset option for given frames 'positions'"):
        env.reset(options={"positions": [[0.2, 0.2], [0.6, 0.6]]})


def test_no_graph_is_built_and_bad_actions_are_refused() -> None:
    env = WorldModelVectorEnv(RNN(RNNConfig()), 2, max_shots=None)
    env.reset(seed=0)
    for _ in range(6):
        env.step(nothing(2))
    assert not env._state.hidden.requires_grad
    with pytest.raises(ValueError, match=r"actions of shape \(2, 2\)"):
        env.step(np.zeros(2, dtype=np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "fold-billiards2d"}, r"a WorldModel, got 'fold-billiards2d'; .*from_pretr"),
        *(({"step_by": form, "max_episode_steps": 10}, LIMIT) for form in get_args(StepBy)),
        ({"step_by": "jumps"}, "unknown step_by 'jumps'.*did you mean 'jump'"),
        ({"env_id": "Billiards2DShot-v0"}, "unknown env_id 'Billiards2DShot-v0'"),
        ({"obs_type": "state"}, "imagines no velocities"),
        ({"step_by": "jump", "max_shots": None}, "max_shots=1 with step_by='jump', got None"),
        (
            {"model": FoldJump(FoldJumpConfig()), "config": {"lead_in": 0}},
            "the 1 context frames of lead_in=0, got FoldJump: .*2 fr",
        ),
        ({"num_balls": 3}, r"obs_size=6 \(positions of 3 balls\).*obs_size=4"),
        ({"model": RNN(RNNConfig(action_size=0))}, "action_size=2 .*RNN with .*action_size=0"),
        ({"reward": "sparce"}, "unknown reward 'sparce'"),
        ({"frames": FRAMES[:, :3]}, SHAPE),
        ({"frames": FRAMES[:, :, :3]}, SHAPE),
        ({"frames": FRAMES[0]}, SHAPE),
        ({"frames": FRAMES[:0]}, SHAPE),
        ({"frames": np.full((2, 4, 4), np.nan)}, "finite"),
        ({"frames": LIFTED[-0.01]}, r"on the table, in \[0, 1\], got -0.01 to"),
        ({"frames": LIFTED[1.5]}, r"on the table, in \[0, 1\], got .* to 1.5$"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldModelVectorEnv(**{"model": SimulatorModel(), **arguments})
