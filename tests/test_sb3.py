"""The adapter for Stable-Baselines3: what `DummyVecEnv` gives, and algorithms train on it."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from jumpy_mbrl.adapters.sb3 import SB3VecEnv, make_vec_env
from jumpy_mbrl.envs import ENV_IDS

PLANE = "Billiards2D-v0"


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, strict=True)
    else:
        assert type(first) is type(second)
        assert first == second


@pytest.mark.parametrize("kind", ["coords", "state", "pixels", "dict"])
@pytest.mark.parametrize("name", ENV_IDS)
def test_steps_are_those_of_the_dummy_vec_env(name: str, kind: str) -> None:
    more: dict[str, Any] = {"size": 16} if kind in ("pixels", "dict") else {}
    ours = make_vec_env(name, 4, seed=5, monitor=False, obs_type=kind, **more)
    theirs = DummyVecEnv([lambda: gym.make(name, obs_type=kind, **more)] * 4)
    theirs.seed(5)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(), theirs.reset())
    assert_same(ours.reset_infos, theirs.reset_infos)
    rng = np.random.default_rng(0)
    done = cut = 0
    for _ in range(150 if name.startswith("Billiards2D-") else 60):
        actions = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
        result = ours.step(actions)
        assert_same(result, theirs.step(actions))
        assert_same(ours.reset_infos, theirs.reset_infos)
        done += result[2].sum()
        cut += sum(info["TimeLimit.truncated"] for info in result[3])
    assert done > 5
    assert (cut > 2) == (name == PLANE)


def test_seeds_and_options() -> None:
    env: Any = make_vec_env(PLANE, 3, seed=0)
    first = env.reset()
    assert not np.array_equal(first, env.reset())
    env.seed(0)
    assert_same(first, env.reset())
    positions = [[[0.2, 0.2], [0.5 + 0.1 * k, 0.7]] for k in range(3)]
    env.set_options([{"positions": table} for table in positions])
    np.testing.assert_allclose(env.reset(), np.reshape(positions, (3, 4)), atol=1e-7)
    env.set_options({"positions": positions[0]})
    np.testing.assert_allclose(env.reset(), [np.ravel(positions[0])] * 3, atol=1e-7)
    assert not np.allclose(env.reset()[0], env.reset()[1])
    with pytest.raises(ValueError, match="options for each of 3 environments"):
        env.set_options([{}, {}])
    with pytest.raises(ValueError, match="same names"):
        env.set_options([{}, {}, {"target": (0, 1, 0, 1)}])


def test_monitor_evaluation_and_attributes() -> None:
    env = make_vec_env(PLANE, 4, seed=0, reward="dense", render_mode="rgb_array")
    assert isinstance(env, VecMonitor)
    env.reset()
    episodes = []
    for _ in range(100):
        infos = env.step(np.zeros((4, 2), dtype=np.float32))[3]
        episodes += [info["episode"] for info in infos if "episode" in info]
    assert len(episodes) > 5
    assert max(episode["l"] for episode in episodes) == 44
    assert env.get_attr("max_episode_steps") == [44] * 4
    assert env.get_attr("task", [0, 2])[1].dense
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 4
    picture = env.render()
    assert picture is not None
    assert picture.shape == (1024, 1024, 3)
    inner: Any = env.unwrapped
    env.set_attr("label", 3)
    assert inner.venv.label == 3
    with pytest.raises(ValueError, match="label to be set for all environments"):
        env.set_attr("label", 4, indices=[1])
    with pytest.raises(AttributeError, match="no single environments"):
        env.env_method("reset")
    assert not env.has_attr("nonsense")
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=8)
    assert np.isfinite(mean)
    env.close()


def test_attributes_are_those_of_the_dummy_vec_env() -> None:
    ours = make_vec_env(PLANE, 3, seed=5)
    theirs = DummyVecEnv([lambda: gym.make(PLANE)] * 3)
    theirs.seed(5)
    for env in (ours, theirs):
        env.reset()
    for name in ("action_space", "observation_space", "np_random_seed", "render_mode"):
        for indices in (None, 1, [2, 0]):
            assert ours.get_attr(name, indices) == theirs.get_attr(name, indices)
    first, second = (env.get_attr("np_random", [2])[0] for env in (ours, theirs))
    assert first.random() == second.random()


def test_other_environments_are_refused() -> None:
    single: Any = gym.make(PLANE)
    with pytest.raises(ValueError, match=r"made by gym\.make_vec"):
        SB3VecEnv(single)
    with pytest.raises(ValueError, match=r"SAME_STEP, got AutoresetMode\.NEXT_STEP"):
        SB3VecEnv(gym.make_vec(PLANE, num_envs=2))


def test_any_vector_environment_in_the_right_mode_will_do() -> None:
    kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    venv = gym.make_vec("CartPole-v1", 3, vectorization_mode="sync", vector_kwargs=kwargs)
    env = SB3VecEnv(venv)
    theirs = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3)
    for each in (env, theirs):
        each.seed(0)
    assert_same(env.reset(), theirs.reset())
    for _ in range(60):
        actions = np.ones(3, dtype=np.int64)
        assert_same(env.step(actions), theirs.step(actions))


def test_wrappers_tell_of_the_episodes_that_end() -> None:
    kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    venv = gym.make_vec("CartPole-v1", 3, vectorization_mode="sync", vector_kwargs=kwargs)
    env = SB3VecEnv(RecordEpisodeStatistics(venv))
    theirs = DummyVecEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))] * 3
    )
    for each in (env, theirs):
        each.seed(0)
        each.reset()
    ended = 0
    for _ in range(60):
        infos, wanted = (each.step(np.ones(3, dtype=np.int64))[3] for each in (env, theirs))
        for info in [*infos, *wanted]:
            ended += info.get("episode", {}).pop("t", None) is not None
        assert_same(infos, wanted)
        assert_same(env.reset_infos, theirs.reset_infos)
    assert ended > 20


def test_returns_of_a_wrapper_reach_the_algorithm() -> None:
    venv = gym.make_vec(
        "Billiards2DShot-v0",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    model = PPO("MlpPolicy", SB3VecEnv(RecordEpisodeStatistics(venv)), n_steps=8, batch_size=16)
    model.learn(16)
    assert model.ep_info_buffer is not None
    assert [episode["l"] for episode in model.ep_info_buffer] == [1] * 16


def test_infos_of_the_next_episode_stay_with_it() -> None:
    class Numbered(gym.Wrapper[Any, Any, Any, Any]):
        episode = 0

        def reset(self, **kwargs: Any) -> Any:
            self.episode += 1
            return self.env.reset(**kwargs)[0], {"episode": self.episode}

    def make() -> Numbered:
        return Numbered(gym.make("CartPole-v1"))

    env = SB3VecEnv(gym.vector.SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    theirs = DummyVecEnv([make] * 2)
    for each in (env, theirs):
        each.seed(0)
        each.reset()
    for _ in range(30):
        actions = np.ones(2, dtype=np.int64)
        assert_same(env.step(actions), theirs.step(actions))
        assert_same(env.reset_infos, theirs.reset_infos)
    assert env.reset_infos[0]["episode"] > 2


def test_ppo_learns_to_push_a_ball_to_the_right() -> None:
    """A ball at rest and nearly the right half as the target: only a push to the right wins."""
    torch.manual_seed(0)
    config = {"target": (0.55, 1.0, 0.0, 1.0), "num_frames": 12}
    arguments: dict[str, Any] = {
        "start": "rest",
        "num_balls": 1,
        "config": config,
        "obs_type": "state",
    }
    env = make_vec_env("Billiards2DShot-v0", 32, seed=0, **arguments)
    model = PPO(
        "MlpPolicy", env, n_steps=16, batch_size=128, learning_rate=3e-3, seed=0, device="cpu"
    )
    before: Any = evaluate_policy(model, env, n_eval_episodes=200, deterministic=False)[0]
    model.learn(6000)
    after: Any = evaluate_policy(model, env, n_eval_episodes=200)[0]
    assert before < 0.8
    assert after > 0.95


@pytest.mark.parametrize(
    ("kind", "policy"),
    [("coords", "MlpPolicy"), ("pixels", "CnnPolicy"), ("dict", "MultiInputPolicy")],
)
def test_ppo_trains_on_all_kinds_of_observation(kind: str, policy: str) -> None:
    env = make_vec_env(PLANE, 4, seed=0, obs_type=kind)
    model = PPO(policy, env, n_steps=4, batch_size=16, n_epochs=1, seed=0, device="cpu")
    model.learn(16)
    assert model.num_timesteps == 16


def test_off_policy_algorithms_see_the_last_observation() -> None:
    env = make_vec_env("Billiards1DShot-v0", 4, seed=0)
    model = SAC("MlpPolicy", env, learning_starts=8, buffer_size=100, seed=0, device="cpu")
    model.learn(24)
    assert model.replay_buffer is not None
    assert model.replay_buffer.dones[:6].all()


def test_the_package_does_not_load_sb3() -> None:
    program = "import sys, jumpy_mbrl; print('stable_baselines3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ,
    )
    assert done.stdout.strip() == "False"
