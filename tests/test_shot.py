"""The shot forms: one step is what the frame by frame form does in all its steps."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import jumpy_mbrl  # noqa: F401  (registers the environments)

FORMS = {"Billiards2DShot-v0": "Billiards2D-v0", "Billiards1DShot-v0": "Billiards1D-v0"}
LAST = {"Billiards2DShot-v0": 44, "Billiards1DShot-v0": 20}
each_form = pytest.mark.parametrize("name", FORMS)


def flat(obs: Any, part: Any = None) -> Any:
    return obs if part is None else obs[part]


@each_form
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"obs_type": "state", "reward": "dense"},
        {"obs_type": "pixels", "size": 40},
        {"obs_type": "dict", "random_target": True, "pixels": "paper", "reward": "dense"},
        {"config": {"lead_in": 1, "restitution": 0.8}},
        {"config": {"lead_in": 0}},
    ],
    ids=str,
)
def test_one_step_is_all_steps_of_the_frame_by_frame_form(name: str, arguments: Any) -> None:
    shots = gym.make(name, **arguments)
    frames: Any = gym.make(FORMS[name], **arguments).unwrapped
    lead_in = frames.config.lead_in
    rng = np.random.default_rng(0)
    parts = ["coords", "pixels"] if arguments.get("obs_type") == "dict" else [None]
    wins = 0
    for seed in range(25):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        obs, info = shots.reset(seed=seed)
        seen = [frames.reset(seed=seed)[0]]
        for _ in range(lead_in):
            seen.append(frames.step(action)[0])
        assert info["frames_played"] == lead_in
        assert info["duration"] == lead_in * 0.05 == info["time"]
        for part in parts:
            expected = np.concatenate([flat(frame, part) for frame in seen], -1)
            np.testing.assert_array_equal(flat(obs, part), expected, strict=True)
        obs, reward, terminated, truncated, info = shots.step(action)
        total, over = 0.0, False
        while not over and len(seen) <= LAST[name]:
            frame, part_reward, over, _, last = frames.step(action)
            seen.append(frame)
            total += part_reward
        for part in parts:
            kept = seen[-lead_in - 1 :]
            expected = np.concatenate([flat(frame, part) for frame in kept], -1)
            np.testing.assert_array_equal(flat(obs, part), expected, strict=True)
        assert (reward, terminated, truncated) == (total, True, False)
        assert info.pop("frames_played") == len(seen) - 1 - lead_in
        assert info.pop("duration") == (len(seen) - 1 - lead_in) * 0.05
        np.testing.assert_equal(info, last)
        wins += info["is_success"]
    assert 0 < wins < 25


def test_where_only_the_last_frame_counts_every_shot_lasts_to_it() -> None:
    shots: Any = gym.make("Billiards2DShot-v0", success="last")
    wins = 0
    for seed in range(40):
        shots.reset(seed=seed)
        _, reward, terminated, _, info = shots.step([0.4, -0.7])
        x, y = info["positions"][1]
        assert info["is_success"] == (x >= 0.8 and y <= 0.2) == (reward == 1.0)
        assert terminated and info["frames_played"] == 41
        wins += info["is_success"]
    assert 0 < wins < 20


@each_form
def test_observations_have_the_shapes_of_the_docstring(name: str) -> None:
    balls = 4 if name.startswith("Billiards2D") else 2
    target = balls
    shapes = {"coords": (4 * balls,), "state": (4 * (2 * balls + target + 2),)}
    for kind, shape in shapes.items():
        assert gym.make(name, obs_type=kind).observation_space.shape == shape
        assert f"({shape[0]},)" in str(gym.make(name).unwrapped.__doc__)
    assert gym.make(name, obs_type="pixels").observation_space.shape == (64, 64, 12)
    coords, _ = gym.make(name).reset(seed=3)
    state, _ = gym.make(name, obs_type="state").reset(seed=3)
    np.testing.assert_array_equal(state.reshape(4, -1)[:, :balls], coords.reshape(4, -1))
    np.testing.assert_allclose(state.reshape(4, -1)[:, -1], 1 - np.arange(4) / LAST[name])


@each_form
def test_a_second_shot_needs_a_reset(name: str) -> None:
    env: Any = gym.make(name).unwrapped
    with pytest.raises(ResetNeeded):
        env.step([0.0, 0.0])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step([np.nan, 0.0])
    env.step([0.0, 0.0])
    with pytest.raises(ResetNeeded):
        env.step([0.0, 0.0])


def test_a_shot_that_wins_at_once_shows_part_of_the_lead_in() -> None:
    env = gym.make("Billiards2DShot-v0")
    obs, _ = env.reset(
        options={"positions": [[0.2, 0.8], [0.85, 0.15]], "velocities": np.zeros((2, 2))}
    )
    after, reward, _, _, info = env.step(np.array([1.0, 0.0], dtype=np.float32))
    assert (reward, info["frames_played"], info["is_success"]) == (1.0, 1, True)
    np.testing.assert_array_equal(after[:12], obs[4:])
    np.testing.assert_allclose(after[12:], [0.26, 0.8, 0.85, 0.15], atol=1e-7)


def test_the_arguments_pass_through() -> None:
    env: Any = gym.make("Billiards2DShot-v0", num_balls=5, start="rest").unwrapped
    obs, info = env.reset(seed=0)
    assert obs.shape == (40,)
    assert not info["velocities"].any()
    with pytest.raises(TypeError, match="max_shots"):
        gym.make("Billiards2DShot-v0", max_shots=2)
    with pytest.raises(ValueError, match="unknown start 'move'"):
        gym.make("Billiards2DShot-v0", start="move")


@each_form
def test_rendering_shows_the_frame_after_the_last(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    before: Any = env.render()
    env.step(np.array([1.0, 1.0], dtype=np.float32))
    after: Any = env.render()
    assert before.shape == (608, 560, 3)
    assert (before != after).any()


@each_form
def test_pictures_of_a_shot_are_those_of_all_its_frames(name: str) -> None:
    shots: Any = gym.make(name, render_mode="rgb_array_list")
    frames: Any = gym.make(FORMS[name], render_mode="rgb_array")
    action = np.array([0.5, -0.5], dtype=np.float32)
    for seed in range(2):
        frames.reset(seed=seed)
        expected, over = [frames.render()], False
        while not over:
            _, _, terminated, truncated, _ = frames.step(action)
            over = terminated or truncated
            expected.append(frames.render())
        assert len(expected) > 5
        shots.reset(seed=7)  # whose pictures nobody asks for
        shots.reset(seed=seed)
        watched = shots.render() if seed else []
        shots.step(action)
        pictures = [*watched, *shots.render()]
        np.testing.assert_array_equal(pictures, expected)
        assert shots.render() == []


def test_human_mode_shows_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    from jumpy_mbrl.envs import rendering

    shown = []
    monkeypatch.setattr(rendering.Window, "show", lambda self, frame: shown.append(frame))
    env = gym.make("Billiards1DShot-v0", render_mode="human")
    env.reset(seed=0)
    assert len(shown) == 4
    env.step(np.array([0.0, 1.0], dtype=np.float32))
    assert len(shown) == 21
    env.close()


@each_form
def test_sb3_ppo_trains_on_shots(name: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", gym.make(name), n_steps=32, batch_size=32, seed=0)
    model.learn(64)
    assert model.num_timesteps == 64
