"""The adapter for Stable-Baselines3: what `DummyVecEnv` gives, and algorithms train on it."""

import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from jumpy_mbrl.adapters.sb3 import SB3VecEnv, make_vec_env
from jumpy_mbrl.envs import ENV_IDS

PLANE, SHOT = "Billiards2D-v0", "Billiards2DShot-v0"
needs_statistics = pytest.mark.skipif(
    tuple(map(int, gym.__version__.split(".")[:2])) < (1, 4),
    reason="before 1.4 Gymnasium's RecordEpisodeStatistics miscounts in the mode SAME_STEP",
)


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, (tuple, list)):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, strict=True)
    else:
        assert type(first) is type(second) and first == second


def assert_plays_alike(ours: Any, theirs: Any, actions: Any, steps: int) -> tuple[int, int]:
    """Plays both with the same seeds; how many episodes ended, and were truncated."""
    done = cut = 0
    for env in (ours, theirs):
        env.seed(5)
    assert_same(ours.reset(), theirs.reset())
    for _ in range(steps):
        assert_same(ours.reset_infos, theirs.reset_infos)
        taken = actions()
        found, wanted = (env.step(taken) for env in (ours, theirs))
        for info in [*found[3], *wanted[3]]:
            info.get("episode", {}).pop("t", None)
        assert_same(found, wanted)
        done += found[2].sum()
        cut += sum(info["TimeLimit.truncated"] for info in found[3])
    return done, cut


@pytest.mark.parametrize("kind", ["coords", "state", "pixels", "dict"])
@pytest.mark.parametrize("name", ENV_IDS)
def test_steps_are_those_of_the_dummy_vec_env(name: str, kind: str) -> None:
    more: dict[str, Any] = {"size": 16} if kind in ("pixels", "dict") else {}
    ours = make_vec_env(name, 4, seed=5, monitor=False, obs_type=kind, **more)
    theirs = DummyVecEnv([lambda: gym.make(name, obs_type=kind, **more)] * 4)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    steps = 150 if name.startswith("Billiards2D-") else 60
    done, cut = assert_plays_alike(
        ours, theirs, lambda: rng.uniform(-1, 1, (4, 2)).astype(np.float32), steps
    )
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
    with pytest.raises(AttributeError, match="no single environments"):
        env.env_method("reset")
    assert not env.has_attr("nonsense")
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=8)
    assert np.isfinite(mean)
    env.close()


def test_other_environments_and_modes_are_refused() -> None:
    single: Any = gym.make(PLANE)
    with pytest.raises(ValueError, match=r"made by gym\.make_vec"):
        SB3VecEnv(single)
    with pytest.raises(ValueError, match=r"SAME_STEP, got AutoresetMode\.NEXT_STEP"):
        SB3VecEnv(gym.make_vec(PLANE, num_envs=2))
    for mode in ("SameStep", AutoresetMode.SAME_STEP):
        assert make_vec_env(PLANE, 2, autoreset_mode=mode).num_envs == 2
    for other in ("NextStep", AutoresetMode.DISABLED):
        with pytest.raises(ValueError, match=r"expected no autoreset_mode, .*\.SAME_STEP itself"):
            make_vec_env(PLANE, 2, autoreset_mode=other)


def test_attributes_of_native_environments_are_set_where_they_have_an_effect() -> None:
    env = make_vec_env(PLANE, 2, seed=0)
    env.reset()
    env.set_attr("max_episode_steps", 3)
    dones = [env.step(np.zeros((2, 2), dtype=np.float32))[2].all() for _ in range(3)]
    assert dones == [False, False, True]
    with pytest.raises(ValueError, match="max_episode_steps to be set for all environments"):
        env.set_attr("max_episode_steps", 4, indices=[1])
    for name in ("target", "task", "label"):
        with pytest.raises(
            ValueError, match=rf"\['max_episode_steps', 'render_mode'\], got '{name}'"
        ):
            env.set_attr(name, (0.0, 0.2, 0.0, 0.2))
        with pytest.raises(ValueError, match=f"got '{name}'"):
            wrapped("vector_entry_point").set_attr(name, None)
    with pytest.raises(ValueError, match="expected the same options for all of"):
        SB3VecEnv(Native()).set_options([{"low": 0.0}, {"low": 0.1}])


def test_attributes_of_vector_wrappers_can_be_reached() -> None:
    env = wrapped("vector_entry_point")
    assert env.get_attr("max_episode_steps") == [44] * 2
    env.set_attr("max_episode_steps", 3)
    assert env.get_attr("max_episode_steps") == [3] * 2
    for each in (env, wrapped("sync")):
        each.set_attr("episode_count", 7)
        assert each.get_attr("episode_count") == [7, 7]
        assert vars(each.venv)["episode_count"] == 7


def wrapped(kind: str, name: str = PLANE) -> SB3VecEnv:
    mode: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    how: dict[str, Any] = mode if kind == "vector_entry_point" else {"vector_kwargs": mode}
    return SB3VecEnv(RecordEpisodeStatistics(gym.make_vec(name, 2, vectorization_mode=kind, **how)))


class Native(gym.vector.VectorEnv[Any, Any, Any]):
    """A vector environment that is none of ours and not made of single ones."""

    num_envs = 2
    single_observation_space = single_action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]


class Level(gym.Env[Any, Any]):
    """Rewards with its level, and tells the options that it was given."""

    observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    level: Any = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        first = self.np_random.random(1).astype(np.float32)
        return first, {"given": repr(options or {}), "drawn": float(first[0])}

    def step(self, action: Any) -> Any:
        level = self.level if isinstance(self.level, (int, float)) else len(self.level)
        return np.zeros(1, np.float32), float(level), False, False, {}

    def set_level(self, level: Any, rows: str = "") -> str:
        self.level = level
        return f"{rows}{level}"


def of_levels(kind: str, count: int = 3) -> VecEnv:
    """Environments of one level, in a wrapper of Gymnasium's and in SB3's `Monitor`."""

    def make() -> gym.Env[Any, Any]:
        return Monitor(gym.wrappers.TimeLimit(Level(), 50))

    if kind == "dummy":
        return DummyVecEnv([make] * count)
    many: Any = gym.vector.AsyncVectorEnv if kind == "async" else gym.vector.SyncVectorEnv
    return SB3VecEnv(many([make] * count, autoreset_mode=AutoresetMode.SAME_STEP))


def rewards_of(env: VecEnv) -> list[float]:
    rewards: list[float] = env.step(np.zeros((env.num_envs, 1), np.float32))[1].tolist()
    return rewards


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_single_environments_are_reached_as_in_the_dummy_vec_env(kind: str) -> None:
    ours, theirs = of_levels(kind), of_levels("dummy")
    for each in (ours, theirs):
        each.seed(0)
        each.reset()
    for indices in (None, 1, [2, 0]):
        for name in ("level", "render_mode", "observation_space", "np_random_seed"):
            assert ours.get_attr(name, indices) == theirs.get_attr(name, indices)
        for wrapper in (Monitor, gym.wrappers.TimeLimit, gym.wrappers.ClipAction, gym.Wrapper):
            if kind == "sync" or wrapper is not gym.Wrapper:
                wanted = theirs.env_is_wrapped(wrapper, indices)
                assert ours.env_is_wrapped(wrapper, indices) == wanted
    for each in (ours, theirs):
        assert each.env_method("set_level", 5, rows="level ") == ["level 5"] * 3
        assert rewards_of(each) == [5.0] * 3
        assert not each.has_attr("nonsense")
        with pytest.raises(AttributeError):
            each.env_method("nonsense")
        assert each.get_attr("level") == [5] * 3
    if kind == "sync":
        for each in (ours, theirs):
            assert each.env_method("set_level", 2, indices=[2, 0]) == ["2", "2"]
            assert rewards_of(each) == [2.0, 5.0, 2.0]
        ours.set_attr("level", 7, indices=1)
        assert rewards_of(ours) == [2.0, 7.0, 2.0]
    ours.set_attr("level", 3)
    assert ours.get_attr("level") == [3] * 3 and rewards_of(ours) == [3.0] * 3
    ours.set_attr("level", (1, 2))  # one value for all, though it is a tuple
    assert ours.get_attr("level", [1]) == [(1, 2)] and rewards_of(ours) == [2.0] * 3
    ours.set_attr("note", "new")
    assert ours.get_attr("note") == ["new"] * 3
    ours.close()
    theirs.close()


def test_what_several_processes_do_not_do_is_refused() -> None:
    env = of_levels("async")
    env.reset()
    with pytest.raises(ValueError, match=r"to set 'level' in all .* got indices=\[1\]"):
        env.set_attr("level", 7, indices=[1])
    with pytest.raises(ValueError, match=r"to call 'set_level' in all .* got indices=\[0\]"):
        env.env_method("set_level", 7, indices=[0])
    with pytest.raises(ValueError, match="another method than 'reset'"):
        env.env_method("reset")
    assert rewards_of(env) == [0.0] * 3  # all of it still runs
    env.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_options_of_single_environments_are_those_of_the_dummy_vec_env(kind: str) -> None:
    ours, theirs = of_levels(kind), of_levels("dummy")
    many: list[Any] = [
        [{"k": 1}, {"k": 2}, {}],
        [{"k": np.arange(2)}, {"k": np.arange(2)}, {"other": 3}],
        [{"k": 1}] * 3,
        {"k": 4},
    ]
    for options in many:
        for env in (ours, theirs):
            env.seed(3)
            env.set_options(options)
        assert_same(ours.reset(), theirs.reset())
        assert_same(ours.reset_infos, theirs.reset_infos)
        assert_same(ours.reset(), theirs.reset())
        assert [info["given"] for info in ours.reset_infos] == ["{}"] * 3
    assert rewards_of(ours) == [0.0] * 3
    with pytest.raises(ValueError, match="options for each of 3 environments, got"):
        ours.set_options([{}, {}])
    ours.close()
    theirs.close()


def test_episodes_of_monitors_inside_count() -> None:
    env = of_levels("sync", 2)
    env.env_method("set_level", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, _ = evaluate_policy(PPO("MlpPolicy", env, seed=0), env, n_eval_episodes=2)
    assert mean == 100.0


class Numbered(gym.Wrapper[Any, Any, Any, Any]):
    """Tells at a reset how many episodes there have been."""

    episode = 0

    def reset(self, **kwargs: Any) -> Any:
        self.episode += 1
        return self.env.reset(**kwargs)[0], {"number": self.episode}


@pytest.mark.parametrize("recorded", [False, pytest.param(True, marks=needs_statistics)])
def test_any_vector_environment_will_do_and_infos_stay_with_their_episode(recorded: bool) -> None:
    def make(single: bool = False) -> gym.Env[Any, Any]:
        env = gym.make("CartPole-v1")
        return Numbered(gym.wrappers.RecordEpisodeStatistics(env) if recorded and single else env)

    venv: Any = gym.vector.SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = SB3VecEnv(RecordEpisodeStatistics(venv) if recorded else venv)
    theirs = DummyVecEnv([lambda: make(True)] * 3)
    done, _ = assert_plays_alike(ours, theirs, lambda: np.ones(3, dtype=np.int64), 60)
    assert done > 10 and ours.reset_infos[0]["number"] > 2


@needs_statistics
def test_returns_of_a_wrapper_reach_the_algorithm() -> None:
    model = PPO("MlpPolicy", wrapped("vector_entry_point", SHOT), n_steps=8, batch_size=16)
    model.learn(16)
    assert model.ep_info_buffer is not None
    assert [episode["l"] for episode in model.ep_info_buffer] == [1] * 16


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
