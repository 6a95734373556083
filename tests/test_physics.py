"""The scalar physics, against closed forms, conservation laws and itself."""

import importlib.util
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpy_mbrl.envs import physics, torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, resolve_backend, shoot, simulate
from jumpy_mbrl.envs.starts import sample_tables

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba (the extra 'fast') is not installed"
)
tables = st.tuples(st.integers(1, 6), st.integers(0, 10_000))
repeatable = settings(deadline=None, derandomize=True, max_examples=60)


def random_table(
    num_balls: int, seed: int, **changes: Any
) -> tuple[TableConfig, list[float], list[float]]:
    config = TableConfig(num_balls=num_balls, **changes)
    x, v = sample_tables(config, np.random.default_rng(seed), 1)
    return config, x.ravel().tolist(), v.ravel().tolist()


def energy(v: Any) -> float:
    return math.fsum(speed * speed for speed in v)


def smallest_gap(x: Any, radius: float) -> float:
    """Smallest room between two balls, or between a ball and a wall; negative for an overlap."""
    points = np.reshape(x, (-1, 2))
    gaps = [points.min() - radius, 1.0 - radius - points.max()]
    gaps += [np.hypot(*(a - b)) - 2 * radius for a, b in itertools.combinations(points, 2)]
    return float(min(gaps))


def play(
    engine: str, x: Any, v: Any, duration: float, radius: float, restitution: float = 1.0
) -> Any:
    """Positions, velocities and contacts (None of tensors) after some time, flat."""
    if engine == "python":
        counts: Any = advance(
            x := list(map(float, x)), v := list(map(float, v)), duration, radius, restitution
        )
        return x, v, counts
    if engine == "numba":
        xs, vs = np.array([x], dtype=float), np.array([v], dtype=float)
        walls, hits = np.zeros((2, 1), dtype=np.int64)
        moved = xs, vs, np.arange(1), walls, hits, duration, radius, restitution, 1000
        physics.compiled("advance_rows")(*moved)
        return xs[0].tolist(), vs[0].tolist(), (walls[0], hits[0])
    p, w = (torch.tensor(np.array(each), dtype=torch.float64).reshape(1, -1, 2) for each in (x, v))
    p, w = torch_physics.advance(p, w, duration, radius, restitution)
    return p.flatten().tolist(), w.flatten().tolist(), None


each_engine = pytest.mark.parametrize(
    "engine", ["python", pytest.param("numba", marks=needs_numba), "torch"]
)


# Problems with exact answers


class Problem(NamedTuple):
    """A start, and after `duration` the numbers of wall and ball hits, positions and velocities."""

    x: Any
    v: Any
    duration: float
    contacts: tuple[int, int]
    ends: Any
    turned: Any
    radius: float = 0.1
    restitution: float = 1.0
    within: float = 0.0


def unfolded(duration: float) -> Problem:
    """One ball among walls follows a straight line through tables unfolded."""
    start, speed, side = np.array([0.23, 0.61]), np.array([1.7, -2.9]), 0.8
    crossings = (start - 0.1 + speed * duration) / side
    cell = np.floor(crossings)
    inside, flipped = crossings - cell, cell % 2 == 1
    ends = 0.1 + side * np.where(flipped, 1 - inside, inside)
    contacts = (int(np.abs(cell).sum()), 0)
    turned = np.where(flipped, -speed, speed)
    return Problem(start, speed, duration, contacts, ends, turned, within=1e-12)


def oblique(offset: float) -> Problem:
    """A hit on a ball at rest: they part at a right angle."""
    speed, gap = 1.3, 0.45
    along = math.sqrt(0.04 - offset**2)  # distance of the centres along x at contact
    meeting = (gap - along) / speed
    normal = np.array([along, offset]) / 0.2
    struck = speed * normal[0] * normal
    left = np.array([speed, 0.0]) - struck
    x, v = [0.2, 0.5, 0.2 + gap, 0.5 + offset], [speed, 0.0, 0.0, 0.0]
    first = np.array([0.2 + speed * meeting, 0.5]) + 0.05 * left
    second = x[2:] + 0.05 * struck
    ends, turned = [*first, *second], [*left, *struck]
    return Problem(x, v, meeting + 0.05, (0, 1), ends, turned, within=1e-8)


def head_on() -> Problem:
    after = 0.4 - 0.4 / 1.5
    ends = [0.2 + 0.4 / 1.5 - 0.5 * after, 0.5, 0.8 - 0.2 / 1.5 + after, 0.5]
    turned = [-0.5, 0.0, 1.0, 0.0]
    start = [0.2, 0.5, 0.8, 0.5], [1.0, 0.0, -0.5, 0.0]
    return Problem(*start, 0.4, (0, 1), ends, turned, within=1e-15)


def struck_at_once() -> Problem:
    """The cue meets balls 1 and 2, which touch: first with 1, then with what is left with 2."""
    height = math.sqrt(3) * 0.1
    x = np.array([0.3, 0.5, 0.6 + height, 0.6, 0.6 + height, 0.4])
    cue, pushed = np.array([1.0, 0.0]), []
    for towards in (np.array([height, 0.1]) / 0.2, np.array([height, -0.1]) / 0.2):
        pushed += [(cue @ towards) * towards]
        cue = cue - pushed[-1]
    turned = np.concatenate([cue, *pushed])
    met = x + np.eye(6)[0] * 0.3
    v = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    return Problem(x, v, 0.35, (0, 2), met + 0.05 * turned, turned, within=1e-12)


def touching(v: list[float], hits: int) -> Problem:
    x = [0.375, 0.5, 0.625, 0.5]
    turned = [v[2], v[1], v[0], v[3]] if hits else v
    ends = np.array(x) + 0.1 * np.array(turned)
    return Problem(x, v, 0.1, (0, hits), ends, turned, 0.125, within=1e-15)


PLACES = [0.3, 0.3, 0.5, 0.3, 0.9, 0.9]  # two touch, and one rests in a corner
COUNTED = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
PAIR, FAST = [0.3, 0.5, 0.6, 0.5], [1.0, 0.0, 0.0, 0.0]
GRAZING = [0.125, 0.25, 0.5, 0.5]
FOUR = [0.25, 0.25, 0.75, 0.25, 0.25, 0.75, 0.75, 0.75]
ROW = [0.125, 0.5, 0.5, 0.5, 0.75, 0.5]

PROBLEMS = {
    "free": Problem(
        [0.3, 0.4], [0.5, -0.25], 0.5, (0, 0), [0.55, 0.275], [0.5, -0.25], within=1e-15
    ),
    "corner": Problem([0.5, 0.5], [1, 1], 0.6, (2, 0), [0.7, 0.7], [-1, -1], within=2e-15),
    "along a wall": Problem([0.5, 0.1], [1, 0], 0.25, (0, 0), [0.75, 0.1], [1, 0]),
    "into it from contact": Problem([0.5, 0.1], [0, -1], 0.25, (1, 0), [0.5, 0.35], [0, 1]),
    "leaving a wall": Problem([0.75, 0.5], [-1, 0], 0.25, (0, 0), [0.5, 0.5], [-1, 0], 0.25),
    "at rest": Problem(PLACES, [0.0] * 6, 100.0, (0, 0), PLACES, [0.0] * 6),
    "no time": Problem(PLACES, COUNTED, 0.0, (0, 0), PLACES, COUNTED),
    "at the very end": Problem([0.5, 0.5], [1, 0], 0.25, (0, 0), [0.75, 0.5], [1, 0], 0.25),
    "in the next call": Problem([0.75, 0.5], [1, 0], 0.25, (1, 0), [0.5, 0.5], [-1, 0], 0.25),
    "head-on": head_on(),
    "grazing": Problem(GRAZING, FAST, 0.75, (0, 0), [0.875, *GRAZING[1:]], FAST, 0.125),
    "lossy wall": Problem(
        [0.5, 0.5], [1.0, 0.4], 0.5, (1, 0), [0.85, 0.7], [-0.5, 0.4], restitution=0.5, within=1e-15
    ),
    "lossy pair": Problem(  # the sum kept, the difference halved
        PAIR, FAST, 0.2, (0, 1), [0.425, 0.5, 0.675, 0.5], [0.25, 0, 0.75, 0], 0.1, 0.5, 1e-15
    ),
    "simultaneous": Problem(  # two balls meet the wall and two others each other, after 0.25
        FOUR,
        [0.0, -0.5, 0.0, -0.5, 0.5, 0.0, -0.5, 0.0],
        0.375,
        (2, 1),
        [0.25, 0.1875, 0.75, 0.1875, 0.3125, 0.75, 0.6875, 0.75],
        [0.0, 0.5, 0.0, 0.5, -0.5, 0.0, 0.5, 0.0],
        0.125,
    ),
    "struck at once": struck_at_once(),
    "cradle": Problem(
        ROW,
        [1, 0, 0, 0, 0, 0],
        0.1875,
        (0, 2),
        [0.25, 0.5, 0.5, 0.5, 0.8125, 0.5],
        [0, 0, 0, 0, 1, 0],
        0.125,
    ),
    **{f"unfolded {duration}": unfolded(duration) for duration in (0.3, 2.0, 17.7)},
    **{f"oblique {offset}": oblique(offset) for offset in (0.0, 0.03, -0.11, 0.19, 0.1999999)},
    "touching at rest": touching([0.0, 0.0, 0.0, 0.0], 0),
    "touching and parting": touching([-0.1, 0.0, 0.1, 0.0], 0),
    "touching and parallel": touching([0.3, 0.2, 0.3, 0.2], 0),
    "touching and sliding past": touching([0.0, 1.0, 0.0, 0.0], 0),
    "touching and closing": touching([0.2, 0.0, -0.2, 0.0], 1),
    "touching and pushing": touching([0.2, 0.3, 0.0, 0.0], 1),
}


@each_engine
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_with_an_exact_answer(name: str, engine: str) -> None:
    problem = PROBLEMS[name]
    settings = problem.duration, problem.radius, problem.restitution
    x, v, contacts = play(engine, problem.x, problem.v, *settings)
    within = max(problem.within, 1e-14 if engine == "torch" else 0.0)
    assert contacts in (problem.contacts, None)
    assert x == pytest.approx(np.asarray(problem.ends, dtype=float), abs=within, rel=0)
    assert v == pytest.approx(np.asarray(problem.turned, dtype=float), abs=within, rel=0)


@pytest.mark.parametrize("depth", [1e-17, 1e-16, 1e-15, 1e-14, 1e-12, 1e-9])
def test_nearly_grazing_hits_end_and_keep_the_energy(depth: float) -> None:
    x, v = [0.125, 0.25 + depth, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]
    walls, hits = advance(x, v, 0.7, 0.125)
    assert walls == 0
    assert hits <= 1
    assert energy(v) == pytest.approx(1.0, rel=1e-15)
    # The impulse grows with the square root of the depth, from nothing.
    assert abs(v[3]) < 4 * math.sqrt(depth / 0.25) + 1e-12


def test_a_hit_too_weak_to_change_the_velocities_is_not_repeated() -> None:
    """The balls move together but for the last bit: the impulse is lost in rounding."""
    x = [0.25, 0.25, 0.25 + 3 / 32, 0.25 + 4 / 32]
    v = [1.0, 1.0, 1.0 - 2**-53, 1.0]
    assert advance(x, v, 0.25, 5 / 64) == (0, 1)
    assert v == [1.0, 1.0, 1.0 - 2**-53, 1.0]


@pytest.mark.parametrize(
    ("speed", "restitution", "expected"),
    [
        (9e-4, 0.5, 0.95),
        (1.1e-3, 0.5, 0.5),
        (9e-4, 0.96, 0.96),
        (9e-4, 1.0, 1.0),
        (1e-9, 0.01, 0.95),
    ],
)
def test_slow_contacts_give_back_at_least_0_95(
    speed: float, restitution: float, expected: float
) -> None:
    x, v = [0.5, 0.9], [0.3, speed]
    assert advance(x, v, 0.1, 0.1, restitution) == (1, 0)
    assert v == pytest.approx([0.3, -expected * speed], rel=1e-15)
    x, v = [0.3, 0.3, 0.42, 0.46], [0.0, 0.7, -0.6 * speed, 0.7 - 0.8 * speed]
    assert advance(x, v, 1e-3, 0.1, restitution) == (0, 1)
    assert v[0] + v[2] == pytest.approx(-0.6 * speed, abs=1e-16)
    assert v[1] + v[3] == pytest.approx(1.4 - 0.8 * speed, abs=1e-15)
    apart = 0.6 * (v[2] - v[0]) + 0.8 * (v[3] - v[1])
    assert apart == pytest.approx(expected * speed, abs=1e-12 * speed + 1e-15)


# Several balls


@repeatable
@given(st.integers(1, 6), st.integers(0, 10_000), st.floats(0.1, 8.0))
def test_balls_in_a_row_are_points_that_pass_through_each_other(
    num_balls: int, seed: int, duration: float
) -> None:
    """Equal balls on a line, less their diameters, are points that exchange their velocities: as a
    set they move freely and are reflected by the two ends."""
    radius = 0.05
    rng = np.random.default_rng(seed)
    length = 1 - 2 * radius * num_balls
    points = np.sort(rng.uniform(0, length, num_balls))
    speeds = rng.normal(size=num_balls)
    shifts = radius * (2 * np.arange(num_balls) + 1)
    x = np.stack([points + shifts, np.full(num_balls, 0.5)], 1).ravel().tolist()
    v = np.stack([speeds, np.zeros(num_balls)], 1).ravel().tolist()
    advance(x, v, duration, radius)
    free = np.mod(points + speeds * duration, 2 * length)
    expected = np.sort(np.minimum(free, 2 * length - free)) + shifts
    assert x[::2] == pytest.approx(expected, abs=1e-12)
    assert x[1::2] == [0.5] * num_balls
    assert np.sort(np.abs(v[::2])) == pytest.approx(np.sort(np.abs(speeds)), abs=1e-12)


@pytest.mark.parametrize("restitution", [0.01, 0.05, 0.07])
def test_a_collapse_of_three_balls_ends(restitution: float) -> None:
    """The middle one is between the others: with the same restitution at all speeds it would meet
    them infinitely often (below 0.0718)."""
    x = [0.2, 0.5, 0.5, 0.5, 0.8, 0.5]
    v = [1.0, 0.0, 0.1, 0.0, -1.0, 0.0]
    for _ in range(40):
        before = sum(v[::2])
        walls, hits = advance(x, v, 0.05, 0.1, restitution)
        assert walls + hits < 60
        assert sum(v[::2]) == pytest.approx(before, abs=1e-15)
        assert smallest_gap(x, 0.1) > -1e-12
    assert max(v[::2]) - min(v[::2]) < 1e-3


def test_a_row_that_fills_a_side_comes_to_rest() -> None:
    """Five balls along a wall, struck by a sixth, with no room but what rounding leaves."""
    x = [0.1, 0.1, 0.1, 0.3, 0.1, 0.5, 0.1, 0.7, 0.1, 0.9 - 1e-15, 0.5, 0.42]
    v = [0.0] * 10 + [-1.5, 0.1]
    contacts = sum(sum(advance(x, v, 0.05, 0.1, 0.3)) for _ in range(3))
    assert 1000 < contacts < 2000
    assert max(abs(speed) for speed in v[1:10:2]) < 1e-8


# Laws


@repeatable
@given(tables, st.sampled_from([1.0, 0.9]))
def test_nothing_overlaps_and_hits_keep_momentum_and_energy(
    table: tuple[int, int], restitution: float
) -> None:
    config, x, v = random_table(*table)
    for duration in np.random.default_rng(table[1]).exponential(0.02, 100).tolist():
        before = np.reshape(v, (-1, 2))
        walls, hits = advance(x, v, duration, config.radius, restitution)
        assert smallest_gap(x, config.radius) > -1e-12
        if hits and not walls:
            assert np.reshape(v, (-1, 2)).sum(0) == pytest.approx(before.sum(0), abs=1e-13)
        if restitution == 1.0:
            assert energy(v) == pytest.approx(energy(before.ravel()), rel=1e-13)


@repeatable
@given(tables, st.sampled_from(["python", "torch"]))
def test_running_backwards_returns_to_the_start(table: tuple[int, int], engine: str) -> None:
    config, x, v = random_table(*table)
    there, speeds, _ = play(engine, x, v, 0.8, config.radius)
    back, slowed, _ = play(engine, there, [-speed for speed in speeds], 0.8, config.radius)
    assert back == pytest.approx(x, abs=1e-8)
    assert [-speed for speed in slowed] == pytest.approx(v, abs=1e-8)


@repeatable
@given(tables, st.integers(2, 20), st.sampled_from(["python", "torch"]))
def test_one_big_step_equals_many_small_ones(
    table: tuple[int, int], pieces: int, engine: str
) -> None:
    config, y, w = random_table(*table)
    x, v, counts = play(engine, y, w, 0.8, config.radius)
    small = []
    for _ in range(pieces):
        y, w, more = play(engine, y, w, 0.8 / pieces, config.radius)
        small.append(more)
    assert y == pytest.approx(x, abs=1e-8)
    assert w == pytest.approx(v, abs=1e-8)
    assert counts is None or np.sum(small, axis=0).tolist() == list(counts)


# Limits


def test_too_many_events_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"at most max_events contacts .* got more"):
        advance([0.3, 0.3], [1e9, 0.0], 1.0, 0.1)
    with pytest.raises(RuntimeError, match="max_events"):
        advance([0.5, 0.5], [1.0, 0.3], 0.05, 0.5)  # jammed
    x, v = [0.5, 0.5], [1.0, 0.0]
    with pytest.raises(RuntimeError, match="max_events"):
        advance(x, v, 9.9, 0.1, 1.0, 11)  # hits after 0.4, 1.2, ... 9.2: twelve
    x, v = [0.5, 0.5], [1.0, 0.0]
    assert advance(x, v, 9.9, 0.1, 1.0, 12) == (12, 0)


@pytest.mark.parametrize("backend", ["python", pytest.param("numba", marks=needs_numba)])
def test_tables_with_too_many_contacts_are_named(backend: physics.Backend) -> None:
    config = TableConfig(num_balls=1, num_frames=10)
    speeds = np.zeros((6, 1, 2))
    speeds[[1, 4]] = 60.0, 0.0  # meets walls every 1/75 time units: three or four times a frame
    places, shots = np.full((6, 1, 2), 0.5), np.zeros((6, 2))
    with pytest.raises(RuntimeError, match=r"max_events contacts \(2\).*on the tables \[1, 4\]"):
        simulate(places, speeds, shots, config, backend, 2)
    x, v, (walls, hits) = places[:, 0], speeds[:, 0], np.zeros((2, 6), dtype=np.int64)
    rows = np.array([0, 2, 4, 5])
    with pytest.raises(RuntimeError, match=r"on the tables \[4\]"):
        physics.advance_many(x, v, walls, hits, config, rows, backend, 2)


def test_a_shot_adds_an_impulse_and_clips_the_cue_ball_only() -> None:
    v = [0.5, -1.1, 3.0, -3.0]
    shoot(v, 0.5, -1.0, 1.2, 1.8)
    assert v == [0.5 + 0.6, -1.8, 3.0, -3.0]


# Whole trajectories


@pytest.mark.parametrize("backend", ["python", pytest.param("numba", marks=needs_numba)])
def test_simulate_plays_the_shot_at_the_end_of_the_lead_in(backend: physics.Backend) -> None:
    config = TableConfig(num_balls=1, lead_in=2, num_frames=6)
    frames = simulate(
        np.array([[[0.3, 0.5]]]), np.array([[[0.4, 0.0]]]), np.array([[0.0, 1.0]]), config, backend
    )
    x = 0.3 + 0.4 * 0.05 * np.arange(6)
    y = 0.5 + 1.2 * 0.05 * np.array([0, 0, 0, 1, 2, 3])
    assert frames.shape == (1, 6, 2)
    assert frames.dtype == np.float32
    assert frames[0] == pytest.approx(np.stack([x, y], 1), abs=1e-7)


@needs_numba
@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([1.0, 0.8]), st.floats(0.01, 0.2))
def test_python_and_numba_agree_bit_for_bit(
    num_balls: int, seed: int, restitution: float, dt: float
) -> None:
    config = TableConfig(num_balls=num_balls, restitution=restitution, dt=dt)
    rng = np.random.default_rng(seed)
    positions, velocities = sample_tables(config, rng, 20)
    shots = rng.uniform(-1, 1, (20, 2))
    frames = simulate(positions, velocities, shots, config, "python")
    compiled = simulate(positions, velocities, shots, config, "numba")
    assert frames.tobytes() == compiled.tobytes()


@needs_numba
def test_a_bad_cache_costs_a_compilation_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caching = importlib.import_module("numba.core.caching")
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))

    def loaded() -> bool:
        """Whether the kernel came from the cache."""
        physics.compiled.cache_clear()
        kernel: Any = physics.compiled("place_rows")
        x, v = np.array([[0.5, 0.3, 0.5, 0.7]]), np.zeros((1, 4))
        kernel(x, v, np.arange(1), np.array([[-1.0, 1.0]]), 0.1)
        assert (x[0, 1], v[0, 1]) == (0.1, 1.0)
        return bool(kernel.stats.cache_hits)

    assert (loaded(), loaded()) == (False, True)
    for kind in ("nbi", "nbc"):
        for damage in (lambda old: old[: len(old) // 2], lambda old: b"", flip):
            for path in tmp_path.rglob(f"*.{kind}"):
                path.write_bytes(damage(path.read_bytes()))
            assert (loaded(), loaded()) == (False, True)

    def full(self: Any, name: str, data: Any) -> None:
        raise OSError(28, "No space left on device")

    for path in tmp_path.rglob("*.nbi"):
        path.write_bytes(b"")
    code = (
        "import numpy as np; from jumpy_mbrl.envs import config, physics\n"
        "x = np.full((1, 4), 0.5)\n"
        "places = x, 0 * x, x[:, :2], config.TableConfig(), np.arange(1)\n"
        "physics.place_many(*places, backend='numba')\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
    assert loaded()
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(b"")
    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert (loaded(), loaded()) == (False, False)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"")  # no folder, and none can be made
    loaded()
    physics.compiled.cache_clear()


def flip(data: bytes) -> bytes:
    """Data with one bit flipped in the middle."""
    middle = len(data) // 2
    return (
        data[:middle] + bytes(byte ^ 1 for byte in data[middle : middle + 1]) + data[middle + 1 :]
    )


def test_simulate_refuses_wrong_shapes_and_leaves_its_input_alone() -> None:
    config = TableConfig()
    positions, velocities = sample_tables(config, np.random.default_rng(0), 3)
    kept = positions.copy(), velocities.copy()
    simulate(positions, velocities, np.ones((3, 2)), config, "python")
    np.testing.assert_array_equal((positions, velocities), kept)
    with pytest.raises(ValueError, match=r"shots of shape \(3, 2\), got \(2, 2\)"):
        simulate(positions, velocities, np.ones((2, 2)), config)
    with pytest.raises(ValueError, match=r"shape \(B, 2, 2\), got \(3, 1, 2\)"):
        simulate(positions[:, :1], velocities, np.ones((3, 2)), config)


def test_the_backend_is_python_where_numba_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert resolve_backend("auto") == "python"
    with pytest.raises(ImportError, match=r"jumpy-mbrl\[fast\]"):
        resolve_backend("numba")
    with pytest.raises(ValueError, match=r"unknown backend 'numbas'.*did you mean 'numba'"):
        resolve_backend(cast(Any, "numbas"))
