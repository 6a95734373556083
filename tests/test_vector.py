"""The native vector environments: the bits of `SyncVectorEnv`, and the contract of Gymnasium."""

import copy
import functools
import re
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS, physics
from jumpy_mbrl.envs import vector as rules
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rendering import draw_table
from jumpy_mbrl.envs.starts import sample_tables

PLANE, LINE = "Billiards2D-v0", "Billiards1D-v0"
FRAMES = (PLANE, LINE)
OBS_TYPES = ("coords", "state", "pixels", "dict")
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
BACKENDS: tuple[physics.Backend, ...] = ("python", "numba")

each_id = pytest.mark.parametrize("name", ENV_IDS)
each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def native(name: str, count: int, **arguments: Any) -> Any:
    return gym.make_vec(name, num_envs=count, vectorization_mode="vector_entry_point", **arguments)


def sync(name: str, count: int, mode: AutoresetMode, **arguments: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gym.make(name, **arguments)] * count, autoreset_mode=mode)


def assert_same(first: Any, second: Any, path: str = "") -> None:
    """Asserts that nested results are equal bit for bit, in type, and in the entries they have."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for name in first:
            assert_same(first[name], second[name], f"{path}.{name}")
    elif isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for k, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{path}[{k}]")
    elif isinstance(first, np.ndarray) and first.dtype == object:
        assert second.dtype == object
        assert_same(list(first), list(second), path)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, strict=True, err_msg=path)
    else:
        assert type(first) is type(second), path
        assert first == second, path


def compare(
    name: str, mode: AutoresetMode, steps: int, count: int, backend: physics.Backend, **more: Any
) -> tuple[int, int]:
    """Plays both for some steps, resetting all now and then; returns how many episodes ended."""
    ours = native(name, count, autoreset_mode=mode, backend=backend, **more)
    theirs = sync(name, count, mode, **more)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    rng = np.random.default_rng(0)
    terminated = truncated = 0
    for step in range(steps):
        actions = rng.uniform(-1.1, 1.1, (count, 2)).astype(np.float32)
        result = ours.step(actions)
        assert_same(result, theirs.step(actions))
        objects = [k for k, v in result[4].items() if getattr(v, "dtype", None) == np.object_]
        assert objects in ([], ["final_obs"])
        terminated += result[2].sum()
        truncated += result[3].sum()
        if step == steps // 2:
            assert_same(ours.reset(), theirs.reset())
        if step == 2 * steps // 3:
            seeds = [*range(100, 99 + count), None]
            assert_same(ours.reset(seed=seeds), theirs.reset(seed=seeds))
    assert_same(
        [rng.random() for rng in ours.np_random], [rng.random() for rng in theirs.np_random]
    )
    return terminated, truncated


@each_mode
@each_backend
@pytest.mark.parametrize("name", FRAMES)
def test_2000_steps_are_those_of_the_sync_vector_env(
    name: str, mode: AutoresetMode, backend: physics.Backend
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    terminated, truncated = compare(name, mode, 2000, 10, backend)
    assert terminated > 30
    assert truncated > 30 or name == LINE


@each_mode
@pytest.mark.parametrize("kind", OBS_TYPES[1:])
@each_id
def test_all_kinds_of_observation_are_those_of_the_sync_vector_env(
    name: str, kind: str, mode: AutoresetMode
) -> None:
    more = {"size": 20} if kind in ("pixels", "dict") else {}
    steps = 400 if name in FRAMES else 120
    ended = compare(name, mode, steps, 11, "auto", obs_type=kind, random_target=True, **more)
    assert ended[0] > 20


@each_mode
@pytest.mark.parametrize(
    ("name", "more"),
    [
        (PLANE, {"num_balls": 5, "reward": "dense", "max_shots": None, "start": "rest"}),
        (PLANE, {"num_balls": 8, "random_target": True, "reward": "dense", "max_shots": 3}),
        (PLANE, {"num_balls": 1, "config": {"restitution": 0.7, "lead_in": 0}}),
        (PLANE, {"config": {"radius": 0.2, "dt": 0.2}}),
        (PLANE, {"max_episode_steps": 4, "obs_type": "state"}),
        (PLANE, {"success": "last", "reward": "dense", "config": {"num_frames": 30}}),
        (PLANE, {"success": "last", "legacy_info": True}),
        (LINE, {"reward": "dense", "random_target": True}),
        (LINE, {"config": {"lead_in": 0, "radius": 0.24}, "max_episode_steps": 20}),
        ("Billiards2DShot-v0", {"reward": "dense", "num_balls": 3}),
        ("Billiards2DShot-v0", {"success": "last", "random_target": True}),
        ("Billiards2DShot-v0", {"legacy_info": True}),
        ("Billiards2DShot-v0", {"config": {"lead_in": 0}, "max_episode_steps": 1}),
        ("Billiards1DShot-v0", {"reward": "dense", "config": {"lead_in": 5}}),
    ],
    ids=str,
)
def test_all_settings_are_those_of_the_sync_vector_env(
    name: str, more: Any, mode: AutoresetMode
) -> None:
    steps = 300 if name in FRAMES else 80
    ended = compare(name, mode, steps, 12, "python", **more)
    assert sum(ended) > 20


def test_options_for_all_tables_are_those_of_the_sync_vector_env() -> None:
    ours, theirs = native(PLANE, 3), sync(PLANE, 3, AutoresetMode.NEXT_STEP)
    options = {"positions": [[0.2, 0.3], [0.7, 0.5]], "target": (0.0, 0.5, 0.5, 1.0)}
    assert_same(ours.reset(seed=1, options=options), theirs.reset(seed=1, options=options))
    for _ in range(60):
        actions = np.full((3, 2), 0.5, dtype=np.float32)
        assert_same(ours.step(actions), theirs.step(actions))


@pytest.mark.parametrize("name", [PLANE, LINE])
def test_options_for_each_table(name: str) -> None:
    env = native(name, 3)
    shape = (3, 2, 2) if name == PLANE else (3, 2)
    positions = np.array([0.1, 0.3, 0.75, 0.25, 0.6, 0.9])
    if name == PLANE:
        positions = np.stack([np.flip(positions), positions], 1)
    positions = positions.reshape(shape)
    targets = np.array([[0.0, 0.25, 0.5, 0.75], [0.5, 1.0, 0.0, 0.25], [0.0, 1.0, 0.5, 1.0]])
    targets = targets if name == PLANE else targets[:, 2:]
    velocities = np.zeros(shape[1:])
    options = {"positions": positions, "velocities": velocities, "target": targets}
    _, infos = env.reset(seed=0, options=options)
    np.testing.assert_array_equal(infos["positions"], positions)
    assert not infos["velocities"].any()
    np.testing.assert_array_equal(env._tables.target[:, 4 - targets.shape[1] :], targets)
    with pytest.raises(ValueError, match=r"for all 3 environments, or one for each.*2"):
        env.reset(options={"positions": positions[:2]})
    with pytest.raises(ValueError, match="expected positions of shape"):
        env.reset(options={"positions": [[0.5], [0.5, 0.5]]})
    with pytest.raises(ValueError, match="unknown reset option 'velocity'"):
        env.reset(options={"velocity": velocities})


@each_mode
def test_a_reset_mask_resets_some(mode: AutoresetMode) -> None:
    ours, theirs = native(PLANE, 4, autoreset_mode=mode), sync(PLANE, 4, mode)
    assert_same(ours.reset(seed=0), theirs.reset(seed=0))
    actions = np.full((4, 2), -0.5, dtype=np.float32)
    mask = np.array([True, False, False, True])
    for step in range(100):
        assert_same(ours.step(actions), theirs.step(actions))
        if step % 17 == 0:
            seen = ours.reset(seed=step, options={"reset_mask": mask})
            expected = theirs.reset(seed=step, options={"reset_mask": mask})
            assert_same(seen, expected)


def test_without_autoreset_the_user_resets() -> None:
    env = native(PLANE, 2, autoreset_mode="Disabled", max_episode_steps=5)
    env.reset(seed=0)
    actions = np.zeros((2, 2), dtype=np.float32)
    for _ in range(5):
        *_, terminations, truncations, _ = env.step(actions)
    assert (terminations ^ truncations).all()
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1\] have ended"):
        env.step(actions)
    env.reset(options={"reset_mask": np.array([True, True])})
    env.step(actions)


@each_id
@each_mode
def test_metadata_and_spec(name: str, mode: AutoresetMode) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = native(name, 2, autoreset_mode=mode.value)
        default: Any = gym.make_vec(name, num_envs=2)
    assert env.metadata["autoreset_mode"] is mode
    assert default.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert type(env).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert type(env) is type(default)
    assert env.spec.id == name
    assert (env.num_envs, env.render_mode) == (2, None)
    assert gym.make_vec(env.spec).spec == env.spec
    assert env.unwrapped is env


def test_gymnasium_vector_wrappers_work() -> None:
    env = gym.wrappers.vector.RecordEpisodeStatistics(native(PLANE, 4, reward="dense"))
    env.reset(seed=0)
    lengths: list[int] = []
    for _ in range(120):
        infos = env.step(env.action_space.sample())[4]
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert len(lengths) >= 8
    assert max(lengths) == 44


def test_pictures_for_people() -> None:
    env = native(LINE, 2, render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="before render"):
        env.render()
    env.reset(seed=0)
    pictures = env.render()
    single: Any = gym.make(LINE).unwrapped
    _, info = single.reset(seed=1)
    positions = np.stack([np.full(2, 0.5), info["positions"]], axis=1)
    radius = single.config.radius
    expected = draw_table(positions, single.target, radius=radius)
    np.testing.assert_array_equal(pictures[1], expected)
    assert native(LINE, 2).render() is None


def test_the_last_frame_may_decide_within_the_limit() -> None:
    table = {"num_frames": 90}
    assert native(PLANE, 2, success="last").max_episode_steps == 44
    longer = native(PLANE, 2, success="last", config=table, max_episode_steps=89)
    assert longer.max_episode_steps == 89
    with pytest.raises(ValueError, match=r"at least 89.*got 88: no episode"):
        longer.max_episode_steps = 88
    native("Billiards2DShot-v0", 2, success="last", config=table, max_episode_steps=1)
    for never in (None, -1):
        assert native(PLANE, 2, success="last", max_episode_steps=never).max_episode_steps is None


def test_misuse_of_reset_is_refused() -> None:
    env = native(PLANE, 3)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(np.zeros((3, 2)))
    with pytest.raises(ResetNeeded, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ValueError, match="a list of num_envs=3, got 2"):
        env.reset(seed=[1, 2])
    for mask in ([True, True, True], np.ones(2, dtype=bool), np.ones(3), np.zeros(3, dtype=bool)):
        with pytest.raises(ValueError, match=r"reset_mask.*at least one of them True"):
            env.reset(options={"reset_mask": mask})


def test_seeds_are_reported_as_by_the_sync_vector_env() -> None:
    ours, theirs = native(PLANE, 2), sync(PLANE, 2, AutoresetMode.NEXT_STEP)
    ours.reset(seed=8)
    theirs.reset(seed=8)
    assert ours.np_random_seed == theirs.np_random_seed == (8, 9)
    assert len(set(native(PLANE, 3).np_random_seed)) == 3


# The physics of many tables


@pytest.mark.parametrize("balls", [1, 2, 5, 8])
@pytest.mark.parametrize("restitution", [1.0, 0.8])
def test_many_tables_move_as_each_alone(balls: int, restitution: float) -> None:
    config = TableConfig(num_balls=balls, restitution=restitution)
    positions, velocities = sample_tables(config, np.random.default_rng(balls), 60)
    size = 2 * balls
    xs, vs = positions.reshape(60, size), velocities.reshape(60, size)
    vs[:5] = 0.0
    xs[5, 0], vs[5, :2] = 0.1, [-0.0, 0.3]  # along a wall
    ours: dict[str, Any] = {
        name: (xs.copy(), vs.copy(), *np.zeros((2, 60), dtype=np.int64)) for name in BACKENDS
    }
    lists = [(x.tolist(), v.tolist()) for x, v in zip(xs, vs, strict=True)]
    counts = np.zeros((2, 60), dtype=np.int64)
    pytest.importorskip("numba")
    for frame in range(80):
        rows = None if frame % 3 else np.arange(0, 60, 2)
        for row in range(60) if rows is None else rows.tolist():
            counts[:, row] += physics.advance(*lists[row], config.dt, 0.1, restitution)
        for backend in BACKENDS:
            x, v, walls, hits = ours[backend]
            physics.advance_many(x, v, walls, hits, config, rows, backend)
            np.testing.assert_array_equal(ours[backend][0], [x for x, _ in lists])
            np.testing.assert_array_equal(ours[backend][1], [v for _, v in lists])
            np.testing.assert_array_equal(ours[backend][2:], counts)
    assert counts.min(axis=1).tolist() == [0, 0]
    assert (counts.sum(axis=1) > 0).tolist() == [True, balls > 1]


def test_hardly_a_table_is_moved_alone_without_need() -> None:
    config = TableConfig(num_balls=3)
    positions, velocities = sample_tables(config, np.random.default_rng(0), 4000)
    x, v = positions.reshape(4000, 6), velocities.reshape(4000, 6)
    suspected = physics._may_meet(x, v, x + v * config.dt, config)
    walls, hits = np.zeros((2, 4000), dtype=np.int64)
    physics.advance_many(x, v, walls, hits, config, backend="python")
    happened = (walls + hits) > 0
    assert (suspected >= happened).all()
    assert suspected.sum() <= happened.sum() + 5


@each_backend
@pytest.mark.parametrize("moving", [False, True])
def test_contacts_at_tiny_speeds_are_found(backend: physics.Backend, moving: bool) -> None:
    """Twenty pairs that close in at 1 to 1e-14: those far apart in frames that last long enough,
    those that touch, or nearly so, also in ordinary ones, as they fly through the room together."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 20)
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across = normal[:, ::-1] * [-1, 1]
    centre, drift = rng.uniform(0.4, 0.6, (20, 2)), rng.normal(size=(20, 2))
    gaps = np.repeat([0.0, 1e-11, 1e-4, 0.05], 5)[:, None]
    for speed in (10.0 ** -np.arange(15.0)).tolist():
        config = TableConfig(initial_speed_max=0.0, max_speed=2 * speed, dt=0.5 / speed)
        config = config.replace(max_speed=9.0, dt=0.05) if moving else config
        toward = speed * (normal + 0.5 * across) / 2
        common = drift if moving else speed * drift / 8
        x = np.concatenate(
            [centre - (0.1 + gaps / 2) * normal, centre + (0.1 + gaps / 2) * normal], 1
        )
        v = np.concatenate([common + toward, common - toward], axis=1)
        alone = [(a.tolist(), b.tolist()) for a, b in zip(x, v, strict=True)]
        expected = [physics.advance(a, b, config.dt, 0.1) for a, b in alone]
        walls, hits = np.zeros((2, 20), dtype=np.int64)
        physics.advance_many(x, v, walls, hits, config, backend=backend)
        np.testing.assert_array_equal(np.stack([walls, hits], axis=1), expected)
        np.testing.assert_array_equal(x, [a for a, _ in alone])
        np.testing.assert_array_equal(v, [b for _, b in alone])
        assert hits.sum() >= (5 if moving else 20)


@pytest.mark.parametrize("restitution", [0.01, 0.05, 0.3])
def test_tables_that_lose_energy_can_always_be_played(restitution: float) -> None:
    pytest.importorskip("numba")
    config = {"restitution": restitution}
    env = native(PLANE, 300, num_balls=8, max_shots=None, config=config, success="last")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(44):
        infos = env.step(rng.uniform(-1, 1, (300, 2)))[4]
    x = infos["positions"]
    gaps = np.hypot(*np.moveaxis(x[:, :, None] - x[:, None], -1, 0)) - 0.2 + np.eye(8)
    assert min(gaps.min(), x.min() - 0.1, 0.9 - x.max()) > -1e-12


def everything(env: Any) -> dict[str, Any]:
    """All that a vector environment holds and could change."""
    state = {**vars(env), **{f"tables.{k}": v for k, v in vars(env._tables).items()}}
    kept = {k: copy.deepcopy(v) for k, v in state.items() if isinstance(v, (np.ndarray, list))}
    rngs = [rng and rng.bit_generator.state for rng in env._rngs]
    return {**kept, "_rngs": rngs}


def assert_unchanged(env: Any, before: dict[str, Any]) -> None:
    after = everything(env)
    assert after.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_equal(after[name], value, err_msg=name)


@each_backend
@each_id
@each_mode
def test_a_step_is_all_or_nothing(
    name: str, mode: AutoresetMode, backend: physics.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With at most one contact a frame, some tables cannot go on: they are named, and once they
    may, everything goes on as if nothing had been tried."""
    pytest.importorskip("numba")
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
            patch.setattr(rules, "advance_many", strict)
            try:
                result = env.step(actions)
            except RuntimeError as error:
                assert re.search(r"got more on the tables \[\d+", str(error))
                assert_unchanged(env, before)
                result = None
                failures += 1
        if result is None:
            result = env.step(actions)
        assert_same(result, other.step(actions))
    assert failures > 1


@each_backend
def test_a_reset_is_all_or_nothing(
    backend: physics.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    env = native("Billiards2DShot-v0", 3, backend=backend)
    env.reset(seed=0)
    before = everything(env)
    wedged = [[[0.3, 0.5], [0.7, 0.5]]] * 2 + [[[0.1, 0.1], [0.1, 0.1]]]
    for bad in ({"positions": wedged}, {"target": [[0, 1, 0, 1]] * 2 + [[1, 0, 1, 0]]}):
        for seed in (None, 5, [1, None, 2]):
            with pytest.raises(ValueError, match="expected"):
                env.reset(seed=seed, options=bad)
            assert_unchanged(env, before)
    with pytest.raises(Exception, match="-1"):
        env.reset(seed=[1, 2, -1])
    assert_unchanged(env, before)
    strict = functools.partial(physics.advance_many, max_events=0)
    monkeypatch.setattr(rules, "advance_many", strict)
    with pytest.raises(RuntimeError, match=r"on the tables"):
        for seed in range(20):
            env.reset(seed=[None, None, seed])
            before = everything(env)
    assert_unchanged(env, before)


def test_a_crowded_start_without_room_changes_nothing() -> None:
    env = native(PLANE, 2, num_balls=25, config={"radius": 0.099})
    spots = (np.arange(5) + 0.5) / 5
    grid = np.stack(np.meshgrid(spots, spots), -1).reshape(-1, 2)
    env.reset(seed=0, options={"positions": grid})
    before = everything(env)
    with pytest.raises(ValueError, match="leave room for random starts"):
        env.reset(options={"reset_mask": np.array([False, True])})
    assert_unchanged(env, before)


@pytest.mark.parametrize(("backend", "least"), [("python", 150_000), ("numba", 1_000_000)])
def test_frames_a_second(backend: str, least: int) -> None:
    """The goals on a quiet core are 300,000 and 3 million; the tests may share theirs."""
    if backend == "numba":
        pytest.importorskip("numba")
    env = native(PLANE, 4096, backend=backend)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (4096, 2))
    env.step(actions)
    rates = []
    for _ in range(3):
        started = time.process_time()
        for _ in range(15):
            env.step(actions)
        rates.append(15 * 4096 / (time.process_time() - started))
    assert max(rates) >= least
