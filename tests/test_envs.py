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
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS

PLANE, LINE = "Billiards2D-v0", "Billiards1D-v0"
LIMITS = dict(zip(ENV_IDS, (44, 20, 1, 1), strict=True))
LATE = {"config": {"num_frames": 90}}
INFO = {
    "positions": np.float64,
    "velocities": np.float64,
    "time": np.float64,
    "is_success": np.bool_,
    "wall_hits": np.int64,
    "ball_hits": np.int64,
}
SHOT_INFO = {**INFO, "frames_played": np.int64, "duration": np.float64}
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
each_id = pytest.mark.parametrize("name", ENV_IDS)
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


@each_id
def test_specs_make_the_like(name: str) -> None:
    env: Any = gym.make(name)
    spec = env.spec
    assert gym.spec(name).max_episode_steps == spec.max_episode_steps == LIMITS[name]
    alike = [
        spec.make(),
        gym.make(EnvSpec.from_json(spec.to_json())),
        gym.make(pickle.loads(pickle.dumps(spec))),
        gym.make_vec(name, 2, vectorization_mode="sync").envs[1],  # type: ignore[attr-defined]
        gym.make(gym.wrappers.TimeAwareObservation(env).spec).env,  # type: ignore
    ]
    inside = f"<OrderEnforcing<PassiveEnvChecker<{type(env.unwrapped).__name__}<{name}>>>>"
    assert {str(other) for other in [env, *alike]} == {f"<OneEnd<TimeLimit{inside}>>"}
    assert str(gym.make(name, max_episode_steps=-1)) == f"<OneEnd{inside}>"
    assert "VectorEnv" in str(gym.make_vec(spec, 2)) and "Sync" not in str(gym.make_vec(spec, 2))


@pytest.mark.parametrize(
    ("name", "arguments", "last"),
    [
        *((name, {}, limit) for name, limit in LIMITS.items() if name != PLANE),
        (PLANE, {"start": "rest"}, 44),
        (PLANE, {"success": "last"}, 44),
        (PLANE, {"success": "last", **LATE}, 89),
        (LINE, LATE, 89),
    ],
)
def test_an_episode_ends_in_one_way(name: str, arguments: Any, last: int) -> None:
    more = {"max_episode_steps": last, **arguments} if last == 89 else arguments
    single, many = gym.make(name, **more), gym.make_vec(name, 3, **more)
    aware = gym.wrappers.TimeAwareObservation(single)
    ends = []
    for seed in range(3):
        aware.reset(seed=seed)
        seen = [aware.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(last)]
        ends.append(seen[-1])
        assert not any(map(any, seen[:-1]))
    lost = arguments == {"start": "rest"}
    assert ends == [(not lost, lost)] * 3
    many.reset(seed=0)
    for _ in range(last):
        flags = many.step(np.zeros((3, 2), dtype=np.float32))[2:4]
    assert list(zip(*(flag.tolist() for flag in flags), strict=True)) == ends


@pytest.mark.parametrize(
    ("name", "arguments"), [(LINE, LATE), (PLANE, {"success": "last", **LATE})], ids=str
)
def test_a_limit_under_which_nothing_is_decided_is_refused(name: str, arguments: Any) -> None:
    message = f"at least 89, .* got {LIMITS[name]}: no episode .*; pass max_episode_steps=89"
    env = gym.make(name, **arguments)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        gym.make_vec(name, 2, **arguments)
    gym.make(name, max_episode_steps=-1, **arguments).reset()
    gym.make_vec(name, 2, max_episode_steps=None, **arguments).reset()


@each_id
def test_skrl_knows_them_by_their_direct_bases(name: str) -> None:
    for env in (make(name), gym.make_vec(name, 2)):
        modules = [base.__module__ for base in type(env).__bases__]
        assert any(module.startswith("gymnasium.") for module in modules)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ENV_IDS)
def test_actions_may_be_tensors_with_a_graph(name: str, kind: torch.dtype) -> None:
    action = torch.tensor([0.5, -0.25], dtype=kind, requires_grad=True)
    for env in (gym.make(name), gym.make_vec(name, 2, vectorization_mode="vector_entry_point")):
        given = action if isinstance(env, gym.Env) else torch.stack([action, action])
        env.reset(seed=0)
        found = env.step(given)
        env.reset(seed=0)
        assert same(found, env.step(given.detach().float().numpy()))


@each_case
def test_infos_have_the_same_flat_keys_and_types_everywhere(name: str, arguments: Any) -> None:
    env = make(name, **arguments)
    wanted = SHOT_INFO if "Shot" in name else INFO
    start, step = env.reset(seed=0)[1], env.step(np.array([0.3, -0.4]))[4]
    for info in (start, step):
        assert {key: value.dtype.type for key, value in info.items()} == wanted
        assert [np.shape(value) for value in info.values()] == [
            *[(env.config.num_balls, 2)[: 1 if "1D" in name else 2]] * 2,
            *[()] * (len(wanted) - 2),
        ]


@each_id
def test_the_keys_of_earlier_releases_are_told_where_asked_for(name: str) -> None:
    old, new = make(name, legacy_info=True), make(name)
    for mine, info in zip(
        *([e.reset(seed=1)[1], e.step([0, 1])[4]] for e in (old, new)), strict=True
    ):
        more: dict[str, Any] = {
            "collisions": {"wall": info["wall_hits"], "ball": info["ball_hits"]}
        }
        if "Shot" in name:
            more["frames"] = info["frames_played"]
        assert same(mine, info | more)


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


@each_id
def test_the_examples_of_the_docstrings_work(name: str) -> None:
    module, _, kind = str(gym.spec(name).entry_point).partition(":")
    runner = doctest.DocTestRunner(verbose=False)
    env_class = getattr(importlib.import_module(module), kind)
    for example in doctest.DocTestFinder(recurse=False).find(env_class, "env"):
        runner.run(example)
    failed, tried = runner.summarize()
    assert (failed, tried > 2) == (0, True)


@each_id
def test_every_argument_stands_in_the_docstring(name: str) -> None:
    """Those of the first one in its table, and in the other pages which of them are not taken."""
    env, first = make(name), make(PLANE)
    taken, known = (each.__init__.__annotations__.keys() - {"return"} for each in (env, first))
    assert all(f"| `{argument}`" in first.__doc__ for argument in known)
    assert taken <= known
    assert all(f"`{argument}`" in env.__doc__ for argument in known - taken)


@each_id
def test_unknown_arguments_are_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match="gravity"):
        gym.make(name, gravity=9.81)
