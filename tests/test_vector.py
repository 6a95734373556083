"""The native vector environments: the bits of `SyncVectorEnv`, and the contract of Gymnasium."""

import functools
import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jumpy_mbrl import envs
from jumpy_mbrl.envs import physics
from jumpy_mbrl.envs.config import TableConfig

PLANE, LINE, SHOT, LINE_SHOT = envs.ENV_IDS
FRAMES = (PLANE, LINE)
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
BACKENDS: tuple[physics.Backend, ...] = ("python", "numba")
STILL = np.zeros((3, 2), dtype=np.float32)

each_id = pytest.mark.parametrize("name", envs.ENV_IDS)
each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def _numba(request: pytest.FixtureRequest) -> None:
    if "numba" in request.node.name:
        pytest.importorskip("numba")


def native(name: str, count: int, **arguments: Any) -> Any:
    return gym.make_vec(name, num_envs=count, vectorization_mode="vector_entry_point", **arguments)


def sync(name: str, count: int, mode: Any = AutoresetMode.NEXT_STEP, **arguments: Any) -> Any:
    return SyncVectorEnv([lambda: gym.make(name, **arguments)] * count, autoreset_mode=mode)


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


@each_mode
@pytest.mark.parametrize(
    ("name", "backend", "more"),
    [
        *((name, backend, {}) for name in FRAMES for backend in BACKENDS),
        *((name, "auto", {"obs_type": "state", "random_target": True}) for name in envs.ENV_IDS),
        *((name, "auto", {"obs_type": "pixels", "size": 20}) for name in envs.ENV_IDS),
        *(
            (name, "auto", {"obs_type": "dict", "random_target": True, "size": 20})
            for name in envs.ENV_IDS
        ),
        (PLANE, "python", {"num_balls": 5, "reward": "dense", "max_shots": None, "start": "rest"}),
        (PLANE, "python", {"num_balls": 8, "random_target": True, "max_shots": 3}),
        (PLANE, "python", {"num_balls": 1, "config": {"restitution": 0.7, "lead_in": 0}}),
        (PLANE, "python", {"config": {"radius": 0.2, "dt": 0.2}}),
        (PLANE, "python", {"max_episode_steps": 4, "obs_type": "state"}),
        (PLANE, "python", {"success": "last", "reward": "dense", "config": {"num_frames": 30}}),
        (PLANE, "python", {"success": "last", "legacy_info": True}),
        (LINE, "python", {"reward": "dense", "random_target": True}),
        (LINE, "python", {"config": {"lead_in": 0, "radius": 0.24}, "max_episode_steps": 20}),
        (SHOT, "python", {"reward": "dense", "num_balls": 3}),
        (SHOT, "python", {"success": "last", "random_target": True}),
        (SHOT, "python", {"legacy_info": True}),
        (SHOT, "auto", {"truncate_lost": True}),
        (LINE, "python", {"truncate_lost": True}),
        (SHOT, "python", {"config": {"lead_in": 0}, "max_episode_steps": 1}),
        (LINE_SHOT, "python", {"reward": "dense", "config": {"lead_in": 5}}),
    ],
    ids=str,
)
def test_all_is_as_in_the_sync_vector_env(
    name: str, backend: str, more: Any, mode: AutoresetMode
) -> None:
    ours = native(name, 11, autoreset_mode=mode, backend=backend, **more)
    theirs = sync(name, 11, mode, **more)
    for space in ("single_observation_space", "observation_space", "action_space"):
        assert getattr(ours, space) == getattr(theirs, space)
    assert flat(ours.reset(seed=3)) == flat(theirs.reset(seed=3))
    rng = np.random.default_rng(0)
    steps = 80 if name not in FRAMES else 300 if more else 2000
    ended = np.zeros(2, dtype=int)
    for step in range(steps):
        actions = rng.uniform(-1.1, 1.1, (11, 2)).astype(np.float32)
        result = ours.step(actions)
        assert flat(result) == flat(theirs.step(actions))
        objects = [k for k, v in result[4].items() if getattr(v, "dtype", None) == np.object_]
        assert objects in ([], ["final_obs"])
        ended += result[2].sum(), result[3].sum()
        if step == steps // 2:
            assert flat(ours.reset()) == flat(theirs.reset())
        if step == 2 * steps // 3:
            seeds = [*range(100, 110), None]
            assert flat(ours.reset(seed=seeds)) == flat(theirs.reset(seed=seeds))
    assert ended.sum() > 20
    assert ended[1] > 10 or more or name != PLANE
    assert [rng.random() for rng in ours.np_random] == [rng.random() for rng in theirs.np_random]


@each_mode
def test_options_and_reset_masks_are_those_of_the_sync_vector_env(mode: AutoresetMode) -> None:
    ours, theirs = native(PLANE, 4, autoreset_mode=mode), sync(PLANE, 4, mode)
    options = {"positions": [[0.2, 0.3], [0.7, 0.5]], "target": (0.0, 0.5, 0.5, 1.0)}
    assert flat(ours.reset(seed=1, options=options)) == flat(theirs.reset(seed=1, options=options))
    actions = np.full((4, 2), -0.5, dtype=np.float32)
    mask = {"reset_mask": np.array([True, False, False, True])}
    for step in range(100):
        assert flat(ours.step(actions)) == flat(theirs.step(actions))
        if step % 17 == 0:
            seen = ours.reset(seed=step, options=mask)
            assert flat(seen) == flat(theirs.reset(seed=step, options=mask))


@pytest.mark.parametrize("name", FRAMES)
def test_options_for_each_table(name: str) -> None:
    env = native(name, 3)
    positions = np.array([[0.1, 0.3], [0.75, 0.25], [0.6, 0.9]])
    targets = np.array([[0.0, 0.25, 0.5, 0.75], [0.5, 1.0, 0.0, 0.25], [0.0, 1.0, 0.5, 1.0]])
    if name == PLANE:
        positions = np.stack([positions[:, ::-1], positions], 2)
    else:
        targets = targets[:, 2:]
    velocities = np.zeros(positions.shape[1:])
    options = {"positions": positions, "velocities": velocities, "target": targets}
    _, infos = env.reset(seed=0, options=options)
    np.testing.assert_array_equal(infos["positions"], positions)
    assert not infos["velocities"].any()
    np.testing.assert_array_equal(env._tables.target[:, 4 - targets.shape[1] :], targets)
    for bad, message in (
        ({"positions": positions[:2]}, r"for all 3 environments, or one for each.*2"),
        ({"positions": [[0.5], [0.5, 0.5]]}, "expected positions of shape"),
        ({"velocity": velocities}, "unknown reset option 'velocity'"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=bad)


def test_without_autoreset_the_user_resets() -> None:
    env = native(PLANE, 3, autoreset_mode="Disabled", max_episode_steps=5)
    env.reset(seed=0)
    for _ in range(5):
        *_, terminations, truncations, _ = env.step(STILL)
    assert (terminations ^ truncations).all()
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1, 2\] have ended"):
        env.step(STILL)
    env.reset(options={"reset_mask": np.ones(3, dtype=bool)})
    env.step(STILL)


@each_id
@each_mode
def test_metadata_and_spec(name: str, mode: AutoresetMode) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = native(name, 2, autoreset_mode=mode.value)
        default: Any = gym.make_vec(name, num_envs=2)
    assert env.metadata["autoreset_mode"] is mode
    for usual in (default, type(env)):
        assert usual.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert type(env) is type(default) and env.unwrapped is env
    assert (env.spec.id, env.num_envs, env.render_mode) == (name, 2, None)
    assert gym.make_vec(env.spec).spec == env.spec


def test_the_last_frame_may_decide_within_the_limit() -> None:
    table = {"success": "last", "config": {"num_frames": 90}}
    assert native(PLANE, 2, success="last").max_episode_steps == 44
    longer = native(PLANE, 2, max_episode_steps=89, **table)
    assert longer.max_episode_steps == 89
    with pytest.raises(ValueError, match=r"at least 89.*got 88: no episode"):
        longer.max_episode_steps = 88
    native(SHOT, 2, max_episode_steps=1, **table)
    for never in (None, -1):
        assert native(PLANE, 2, success="last", max_episode_steps=never).max_episode_steps is None


def test_misuse_of_reset_is_refused() -> None:
    env = native(PLANE, 3)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(STILL)
    with pytest.raises(ResetNeeded, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ValueError, match="a list of num_envs=3, got 2"):
        env.reset(seed=[1, 2])
    for mask in ([True, True, True], np.ones(2, dtype=bool), np.ones(3), np.zeros(3, dtype=bool)):
        with pytest.raises(ValueError, match=r"reset_mask.*at least one of them True"):
            env.reset(options={"reset_mask": mask})


def test_seeds_are_reported_as_by_the_sync_vector_env() -> None:
    ours, theirs = native(PLANE, 2), sync(PLANE, 2)
    ours.reset(seed=8)
    theirs.reset(seed=8)
    assert ours.np_random_seed == theirs.np_random_seed == (8, 9)
    assert len(set(native(PLANE, 3).np_random_seed)) == 3


# The physics of many tables


def assert_as_alone(
    config: TableConfig, x: Any, v: Any, backend: physics.Backend, rows: Any = None
) -> Any:
    """Moves many tables for a frame, in place, as the kernel moves each, and returns the contacts
    (B, 2)."""
    alone = [(a.tolist(), b.tolist(), (0, 0)) for a, b in zip(x, v, strict=True)]
    for row in range(len(x)) if rows is None else rows:
        a, b, _ = alone[row]
        moved = physics.advance(a, b, config.dt, config.radius, config.restitution)
        alone[row] = a, b, moved
    walls, hits = np.zeros((2, len(x)), dtype=np.int64)
    physics.advance_many(x, v, walls, hits, config, rows, backend)
    counts = np.stack([walls, hits], axis=1)
    for found, expected in zip((x, v, counts), zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(found, expected)
    return counts


@each_backend
@pytest.mark.parametrize("moving", [False, True])
def test_contacts_at_tiny_speeds_are_found(backend: physics.Backend, moving: bool) -> None:
    """Twenty pairs that close in at 1 to 1e-14: those far apart in frames that last long enough,
    those that touch, or nearly so, also in ordinary ones, as they fly through the room together."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 20)
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across = normal[:, ::-1] * [-1, 1]
    centre, drift = rng.uniform(0.4, 0.6, (20, 2)), rng.normal(size=(20, 2))
    apart = (0.1 + np.repeat([0.0, 1e-11, 1e-4, 0.05], 5)[:, None] / 2) * normal
    for speed in (10.0 ** -np.arange(15.0)).tolist():
        config = TableConfig(initial_speed_max=0.0, max_speed=2 * speed, dt=0.5 / speed)
        config = config.replace(max_speed=9.0, dt=0.05) if moving else config
        toward = speed * (normal + 0.5 * across) / 2
        common = drift if moving else speed * drift / 8
        x = np.concatenate([centre - apart, centre + apart], axis=1)
        v = np.concatenate([common + toward, common - toward], axis=1)
        assert assert_as_alone(config, x, v, backend)[:, 1].sum() >= (5 if moving else 20)


# Errors leave all as it was


def everything(env: Any) -> Any:
    """All that a vector environment holds and could change, bit for bit."""
    held = {**vars(env), **{f"tables.{name}": each for name, each in vars(env._tables).items()}}
    rngs = [rng and rng.bit_generator.state for rng in held.pop("_rngs")]
    kept = {name: each for name, each in held.items() if isinstance(each, (np.ndarray, list))}
    return flat([kept, rngs])


@each_backend
@each_id
@each_mode
def test_a_step_is_all_or_nothing(
    name: str, mode: AutoresetMode, backend: physics.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With at most one contact a frame, some tables cannot go on: they are named, and once they
    may, everything goes on as if nothing had been tried."""
    limit = {"max_episode_steps": 20} if name == PLANE else {}
    more = {"autoreset_mode": mode, "backend": backend, "obs_type": "state", **limit}
    env, other = (native(name, 30, **more) for _ in range(2))
    for one in (env, other):
        one.reset(seed=0)
    rng = np.random.default_rng(0)
    failures = 0
    strict = functools.partial(physics.advance_many, max_events=1)
    for _ in range(60 if name in FRAMES else 4):
        actions = rng.uniform(-1, 1, (30, 2))
        before = everything(env)
        with monkeypatch.context() as patch:
            patch.setattr(physics, "advance_many", strict)
            try:
                result = env.step(actions)
            except RuntimeError as error:
                assert re.search(r"got more on the tables \[\d+", str(error))
                assert everything(env) == before
                result = None
                failures += 1
        if result is None:
            result = env.step(actions)
        assert flat(result) == flat(other.step(actions))
    assert failures > 1


@each_backend
def test_a_reset_is_all_or_nothing(
    backend: physics.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = native(SHOT, 3, backend=backend)
    env.reset(seed=0)
    before = everything(env)
    wedged = [[[0.3, 0.5], [0.7, 0.5]]] * 2 + [[[0.1, 0.1], [0.1, 0.1]]]
    for bad in ({"positions": wedged}, {"target": [[0, 1, 0, 1]] * 2 + [[1, 0, 1, 0]]}):
        for seed in (None, 5, [1, None, 2]):
            with pytest.raises(ValueError, match="expected"):
                env.reset(seed=seed, options=bad)
            assert everything(env) == before
    with pytest.raises(Exception, match="-1"):
        env.reset(seed=[1, 2, -1])
    assert everything(env) == before
    strict = functools.partial(physics.advance_many, max_events=0)
    monkeypatch.setattr(physics, "advance_many", strict)
    with pytest.raises(RuntimeError, match=r"on the tables"):
        for seed in range(20):
            env.reset(seed=[None, None, seed])
            before = everything(env)
    assert everything(env) == before


def test_a_crowded_start_without_room_changes_nothing() -> None:
    env = native(PLANE, 2, num_balls=25, config={"radius": 0.099})
    spots = (np.arange(5) + 0.5) / 5
    grid = np.stack(np.meshgrid(spots, spots), -1).reshape(-1, 2)
    env.reset(seed=0, options={"positions": grid})
    before = everything(env)
    with pytest.raises(ValueError, match="leave room for random starts"):
        env.reset(options={"reset_mask": np.array([False, True])})
    assert everything(env) == before
