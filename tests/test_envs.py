"""The contracts with Gymnasium and SB3, for every registered environment, single and many."""

import copy
import doctest
import importlib
import math
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS, Billiards2DEnv, TableConfig

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
    ("Billiards2DShot-v0", {"num_balls": 5, "start": "rest"}),
    (PLANE, {"num_balls": 3, "random_target": True, "max_shots": 7}),
    (PLANE, {"num_balls": 8, "obs_type": "pixels", "size": 48}),
    (PLANE, {"success": "last"}),
    (PLANE, {"config": {"radius": 0.05, "restitution": 0.9}, "render_mode": "rgb_array"}),
]
MANY: list[tuple[str, dict[str, Any]]] = [
    (name, {"count": 3, "obs_type": kind, "random_target": True, "autoreset_mode": mode, **more})
    for name in ENV_IDS
    for mode in ("NextStep", "SameStep")
    for kind, more in (("state", {}), ("dict", {"size": 16}))
]
NONE = np.zeros(2, dtype=np.float32)
each_id = pytest.mark.parametrize("name", ENV_IDS)
each_case = pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
each_form = pytest.mark.parametrize(("name", "arguments"), CASES + MANY, ids=str)


def make(name: str, count: int | None = None, **arguments: Any) -> Any:
    """The bare environment, or `count` in one."""
    if count is None:
        return gym.make(name, **arguments).unwrapped
    return gym.make_vec(name, count, vectorization_mode="vector_entry_point", **arguments)


def flat(value: Any) -> Any:
    """All that nested results hold: keys, types, dtypes, shapes and bytes."""
    if isinstance(value, dict):
        return {key: flat(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(each) for each in value]
    if not isinstance(value, (np.ndarray, np.generic)):
        return type(value), value
    content = flat(value.tolist()) if value.dtype == object else value.tobytes()
    return type(value), value.dtype, value.shape, content


def play(env: Any, actions: Any) -> list[Any]:
    """What `step` returned each time, and `reset` where a single episode ended."""
    seen: list[Any] = []
    for action in actions:
        if isinstance(env, gym.Env):
            seen.append(env.step(action[0]))
            if seen[-1][2] or seen[-1][3]:
                seen.append(env.reset())
        else:
            seen.append(env.step(action))
    return seen


def some_actions(count: int, seed: int = 0) -> Any:
    """Actions of three tables; a single one takes the first."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, 2)).astype(np.float32)


def test_every_environment_is_registered_with_strings_only() -> None:
    assert len(set(ENV_IDS)) == len(ENV_IDS)
    for name in ENV_IDS:
        spec = gym.spec(name)
        assert isinstance(spec.entry_point, str)
        assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec
        assert gym.make(f"jumpy_mbrl:{name}").spec.id == name  # type: ignore[union-attr]


def test_workers_that_import_nothing_find_the_module_form() -> None:
    env = gym.make_vec(
        "jumpy_mbrl:Billiards2D-v0",
        num_envs=1,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
    )
    try:
        obs, _ = env.reset(seed=0)
    finally:
        env.close()
    np.testing.assert_array_equal(obs[0], make(PLANE).reset(seed=0)[0])


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
        assert flat(found) == flat(env.step(given.detach().float().numpy()))


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
def test_a_lost_game_is_truncated_where_asked_for(name: str) -> None:
    env, usual = gym.make(name, truncate_lost=True), gym.make(name)
    ends = set()
    for seed in range(30):
        for each in (env, usual):
            each.reset(seed=seed)
        over = False
        while not over:
            action = env.action_space.sample()
            obs, reward, terminated, truncated, info = env.step(action)
            same = usual.step(action)
            assert flat((obs, reward, terminated or truncated, info)) == flat(
                (same[0], same[1], same[2] or same[3], same[4])
            )
            over = terminated or truncated
            assert isinstance(truncated, bool) and terminated == info["is_success"]
        assert terminated != truncated
        ends.add(terminated)
    assert ends == {True, False}
    with pytest.raises(ValueError, match="truncate_lost"):
        gym.make(name, truncate_lost="yes")


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


@each_form
def test_twins_and_copies_go_on_alike(name: str, arguments: Any) -> None:
    first, second, other = (make(name, **arguments) for _ in range(3))
    start = flat(first.reset(seed=5))
    assert start == flat(second.reset(seed=5)) != flat(other.reset(seed=9))
    actions = some_actions(40)
    for env in (first, second):
        play(env, actions[:3])
    copies = second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))
    story = flat(play(first, actions))
    for env in copies:
        assert flat(play(env, actions)) == story


@each_form
def test_observations_stay_in_the_space_and_do_not_alias(name: str, arguments: Any) -> None:
    env = make(name, **arguments)
    actions = np.random.default_rng(0).choice([-1.0, 1.0], (100, 3, 2))
    given = actions.copy()
    seen = [env.reset(seed=0), *play(env, actions)]
    kept = flat(seen)
    play(env, actions)
    assert flat(seen) == kept and flat(actions) == flat(given)
    for entry in seen:
        assert env.observation_space.contains(entry[0])
        if len(entry) == 5 and "count" not in arguments:
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
    taken = make(name).__init__.__annotations__
    for argument in {"gravity", "num_balls", "start", "max_shots", "success"} - taken.keys():
        for count in (None, 2):
            with pytest.raises(TypeError, match=argument):
                make(name, count, **{argument: 2})


PIXELS = {"obs_type": "pixels"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"obs_type": "coord"}, r"unknown obs_type 'coord'.*'coords', 'state'.*; did you mean"),
    ({"random_target": "yes"}, "random_target to be True or False, got 'yes'"),
    ({"random_target": 1}, "random_target to be True or False, got 1"),
    ({"reward": "denser"}, "unknown reward 'denser'.*did you mean 'dense'"),
    ({"config": {"radius": 0.6}}, r"radius to be a number in \(0, 0.5\], got 0.6"),
    ({"config": {"restitution": 1.1}}, r"restitution.*\(0, 1\], got 1.1"),
    ({"config": {"num_frames": 4}}, "num_frames to be an integer of at least 5, got 4"),
    ({"config": {"initial_speed_max": 2.0}}, r"initial_speed_max.*\[0, 1.8\], got 2.0"),
    ({"config": {"target": (0, 0, 0, 1)}}, r"target=\(x_low, x_high, y_low, y_high\)"),
    ({"config": {"radios": 0.1}}, "unknown table setting 'radios'.*did you mean 'radius'"),
    ({"config": 7}, "config to be a TableConfig or a dictionary, got 7"),
    ({"obs_type": "coords", "size": 32}, "no size with obs_type='coords'.*got 32"),
    ({"obs_type": "state", "pixels": "paper"}, "no pixels with obs_type='state'"),
    ({**PIXELS, "size": 7}, "size to be an integer from 8 to 512 pixels, got 7"),
    ({**PIXELS, "channels": 2}, r"channels to be 3 \(colour\) or 1 \(grey\), got 2"),
    ({**PIXELS, "channels": True}, "channels.*got True"),
    ({**PIXELS, "pixels": "papers"}, "unknown pixels preset 'papers'.*did you mean 'paper'"),
    ({**PIXELS, "pixels": {"sizes": 3}}, "unknown pixels setting 'sizes'.*did you mean 'size'"),
    ({**PIXELS, "pixels": 64}, "pixels to be a PixelConfig.*got 64"),
]
BAD_ON_A_TABLE: list[tuple[dict[str, Any], str]] = [
    ({"success": "lost"}, "unknown success 'lost'.*did you mean 'last'"),
    ({"start": "move"}, "unknown start 'move'.*did you mean 'moving'"),
    ({"num_balls": 0}, "num_balls to be an integer of at least 1, got 0"),
    ({"num_balls": 26}, r"at most 25 balls of radius 0.1.*got num_balls=26"),
]
BAD_ON_A_LINE: list[tuple[dict[str, Any], str]] = [
    ({"config": {"num_balls": 3}}, "num_balls to be 2 on a line, got 3"),
    ({"config": {"radius": 0.3, "num_balls": 1}}, "num_balls to be 2 on a line, got 1"),
    ({"config": TableConfig()}, r"target to be \(0, 1, y_low, y_high\)"),
    ({"config": {"target": (0.1, 1, 0, 1)}}, r"target to be \(0, 1, y_low, y_high\)"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (PLANE, {"max_shots": 0}, "max_shots to be an integer of at least 1, or None.*got 0"),
        (PLANE, {"max_shots": 1.5}, "max_shots.*got 1.5"),
        *((name, *row) for row in BAD for name in ENV_IDS),
        *((name, *row) for row in BAD_ON_A_TABLE for name in ENV_IDS[::2]),
        *((name, *row) for row in BAD_ON_A_LINE for name in ENV_IDS[1::2]),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: Any, message: str) -> None:
    for count in (None, 2):
        with pytest.raises(ValueError, match=message):
            make(name, count, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs to be an integer of at least 1, got 0"),
        ({"num_envs": 2.0}, "num_envs.*got 2.0"),
        ({"max_episode_steps": 0}, "max_episode_steps.*got 0"),
        ({"success": "last", "max_episode_steps": 43}, "at least 44.*got 43: no episode"),
        ({"success": "last", "config": {"num_frames": 90}}, "at least 89.*got 44"),
        ({"autoreset_mode": "next"}, "unknown autoreset_mode 'next', expected one of"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
        ({"backend": "cuda"}, "unknown backend 'cuda'"),
    ],
)
def test_bad_arguments_of_many_are_refused(arguments: Any, message: str) -> None:
    count = arguments.pop("num_envs", 2)
    with pytest.raises(ValueError, match=message):
        make(PLANE, count, **arguments)


def test_a_bad_render_mode_is_refused_and_none_only_warns() -> None:
    with pytest.raises(ValueError, match="unknown render_mode 'rgb'"):
        Billiards2DEnv(render_mode="rgb")
    env = Billiards2DEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


@each_id
def test_step_needs_a_running_episode(name: str) -> None:
    last: dict[str, Any] = {"success": "last"} if name == PLANE else {}
    env = make(name, **last)
    for _ in range(2):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before step.*terminated"):
            env.step(NONE)
        env.reset(seed=0)
        while not env.step(NONE)[2]:
            pass


@pytest.mark.parametrize(
    ("count", "action", "message"),
    [
        (None, [math.nan, 0.0], r"two finite numbers, got \[nan, 0.0\]"),
        (None, [0.0, math.inf], r"two finite numbers, got \[0.0, inf\]"),
        (None, [0.0], r"shape \(2,\), got \[0.0\] of shape \(1,\)"),
        (None, np.zeros((1, 2)), r"of shape \(1, 2\)"),
        (None, 0.5, r"shape \(2,\), got 0.5"),
        (None, None, r"shape \(2,\), got None"),
        (None, "left", r"shape \(2,\), got 'left'"),
        (None, [[1.0], [1.0, 2.0]], r"shape \(2,\)"),
        (3, np.zeros(2), r"actions of shape \(3, 2\), got.* of shape \(2,\)"),
        (3, np.zeros((2, 2)), r"of shape \(2, 2\)"),
        (3, None, r"shape \(3, 2\), got None"),
        (3, [[0, 0], [0, np.nan], [0, 0]], r"got \[0.0, nan\] for environment 1"),
        (3, [[0, 0], [0, 0], [np.inf, 5]], r"got \[inf, 5.0\] for environment 2"),
    ],
)
@each_id
def test_bad_actions_are_refused_and_change_nothing(
    name: str, count: Any, action: Any, message: str
) -> None:
    env, twin = make(name, count), make(name, count)
    env.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    still = NONE if count is None else np.zeros((3, 2))
    assert flat(env.step(still)) == flat(twin.step(still))
