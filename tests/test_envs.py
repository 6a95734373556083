"""The contracts with Gymnasium and SB3, for every registered environment."""

import copy
import doctest
import importlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS

PLANE = "Billiards2D-v0"
OBS_TYPES = ("coords", "state", "pixels", "dict")

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"obs_type": kind}) for name in ENV_IDS for kind in OBS_TYPES),
    *((name, {"random_target": True, "reward": "dense"}) for name in ENV_IDS),
    *((name, {"obs_type": "dict", "random_target": True, "channels": 1}) for name in ENV_IDS),
    (PLANE, {"obs_type": "state", "max_shots": None, "random_target": True, "reward": "dense"}),
    (PLANE, {"num_balls": 1, "start": "rest"}),
    (PLANE, {"num_balls": 3, "random_target": True, "max_shots": 7}),
    (PLANE, {"num_balls": 8, "obs_type": "pixels", "size": 48}),
    (PLANE, {"success": "last"}),
    (PLANE, {"config": {"radius": 0.05, "restitution": 0.9}, "render_mode": "rgb_array"}),
]
each_case = pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
Clone = Callable[[Any], Any]


def make(name: str, **arguments: Any) -> Any:
    """The bare environment."""
    return gym.make(name, **arguments).unwrapped


def same(first: Any, second: Any) -> bool:
    """Whether two things, nested as they may be, are equal bit for bit and of one type."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (tuple, list)):
        pairs = zip(first, second, strict=True)
        return len(first) == len(second) and all(same(a, b) for a, b in pairs)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    return type(first) is type(second) and first == second


def play(env: Any, actions: Any) -> list[Any]:
    """What `step` returned each time, and `reset` where an episode ended."""
    seen: list[Any] = []
    for action in actions:
        seen.append(env.step(action))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


def some_actions(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


def test_every_environment_is_registered_with_strings_only() -> None:
    assert len(set(ENV_IDS)) == len(ENV_IDS)
    for name in ENV_IDS:
        spec = gym.spec(name)
        assert isinstance(spec.entry_point, str)
        assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec
        assert gym.make(f"jumpy_mbrl:{name}").spec.id == name  # type: ignore[union-attr]


@each_case
def test_gymnasium_checker_has_nothing_to_say(
    name: str, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(name, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@each_case
def test_sb3_checker_has_nothing_to_say(name: str, arguments: Any) -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(name, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_env(env, warn=True)
        env_checker.check_env(env.unwrapped, warn=True)


@each_case
def test_twins_with_one_seed_are_identical(name: str, arguments: Any) -> None:
    first, second, other = (gym.make(name, **arguments) for _ in range(3))
    start = first.reset(seed=5)
    assert same(start, second.reset(seed=5))
    assert not same(start, other.reset(seed=6))
    actions = some_actions(100)
    assert same(play(first, actions), play(second, actions))


@each_case
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_in_mid_episode_goes_on_alike(name: str, arguments: Any, clone: Clone) -> None:
    env = make(name, **arguments)
    env.reset(seed=1)
    play(env, some_actions(3))
    other = clone(env)
    actions = some_actions(60, 1)
    assert same(play(env, actions), play(other, actions))


@each_case
def test_observations_stay_in_the_space_and_do_not_alias(name: str, arguments: Any) -> None:
    env = make(name, **arguments)
    actions = np.random.default_rng(0).choice([-1.0, 1.0], (150, 2))
    env.reset(seed=0)
    seen = play(env, actions)
    kept = copy.deepcopy(seen)
    play(env, actions)
    assert same(seen, kept)
    for entry in seen:
        assert env.observation_space.contains(entry[0])
        if len(entry) == 5:
            assert [type(value) for value in entry[1:4]] == [float, bool, bool]


@pytest.mark.parametrize("name", ENV_IDS)
def test_the_examples_of_the_docstrings_work(name: str) -> None:
    module, _, kind = str(gym.spec(name).entry_point).partition(":")
    runner = doctest.DocTestRunner(verbose=False)
    env_class = getattr(importlib.import_module(module), kind)
    for example in doctest.DocTestFinder(recurse=False).find(env_class, "env"):
        runner.run(example)
    failed, tried = runner.summarize()
    assert (failed, tried > 2) == (0, True)


@pytest.mark.parametrize("name", ENV_IDS)
def test_every_argument_stands_in_the_docstring(name: str) -> None:
    env = make(name)
    arguments = env.__init__.__annotations__.keys() - {"return"}
    for argument in arguments:
        assert f"| `{argument}`" in env.__doc__, argument


@pytest.mark.parametrize("name", ENV_IDS)
def test_unknown_arguments_are_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match="gravity"):
        gym.make(name, gravity=9.81)
