"""How tables begin: drawn, given, and refused."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from jumpy_mbrl.envs import starts
from jumpy_mbrl.envs.config import Start, TableConfig

PLANE, LINE = "Billiards2D-v0", "Billiards1D-v0"
CORNER = (0.8, 1.0, 0.0, 0.2)
NONE = np.zeros(2, dtype=np.float32)


def make(name: str = PLANE, **arguments: Any) -> Any:
    """The bare environment."""
    return gym.make(name, **arguments).unwrapped


def test_random_starts_follow_the_configured_law() -> None:
    env = make(num_balls=3)
    infos = [env.reset(seed=seed)[1] for seed in range(300)]
    positions = np.array([info["positions"] for info in infos])
    velocities = np.array([info["velocities"] for info in infos])
    assert positions.min() >= 0.1
    assert positions.max() <= 0.9
    assert positions.mean() == pytest.approx(0.5, abs=0.02)
    gaps = np.linalg.norm(positions[:, [0, 0, 1]] - positions[:, [1, 2, 2]], axis=-1)
    assert 0.2 <= gaps.min() < 0.22
    clipped = 2 * (1 - 0.5 * (1 + math.erf(1.2 / 0.75 / math.sqrt(2))))  # of N(0, 0.75)
    assert np.abs(velocities).max() == 1.2
    assert (np.abs(velocities) == 1.2).mean() == pytest.approx(clipped, abs=0.03)
    assert infos[0]["time"] == 0.0
    assert [infos[0][name] for name in ("is_success", "wall_hits", "ball_hits")] == [False, 0, 0]
    assert not make(start="rest").reset(seed=0)[1]["velocities"].any()


def test_random_starts_on_a_line_leave_room_and_go_either_way() -> None:
    config = TableConfig()
    rng = np.random.default_rng(0)
    x = np.array([starts.draw_positions(config, rng.random, line=True) for _ in range(500)])
    v = np.array([starts.draw_velocities(config, rng, line=True) for _ in range(500)])
    assert (x[:, ::2] == 0.5).all()
    assert (v[:, ::2] == 0.0).all()
    assert set(v[:, 1::2].ravel()) == {-1.0, 1.0}
    assert abs(v[:, 1::2].mean()) < 0.1
    assert x.min() >= 0.1
    assert x.max() <= 0.9
    assert 0.2 <= np.abs(x[:, 1] - x[:, 3]).min() < 0.22
    assert not any(starts.draw_velocities(config, rng, "rest", line=True))


@pytest.mark.parametrize("balls", [1, 2, 3, 8, 12])
def test_one_table_is_drawn_as_the_first_of_many_would_be(balls: int) -> None:
    config = TableConfig(num_balls=balls)
    for seed in range(60):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        kinds: tuple[Start, ...] = ("moving", "rest")
        for kind in kinds:
            v = starts.sample_velocities(config, second, 1, kind).ravel().tolist()
            assert starts.draw_velocities(config, first, kind) == v
            x = starts.sample_positions(config, second, 1).ravel().tolist()
            assert starts.draw_positions(config, first.random) == x
        assert first.random() == second.random()


def test_options_set_the_table_exactly_for_one_episode() -> None:
    env = make(obs_type="state")
    positions, velocities = [[0.1, 0.9], [0.3, 0.9]], [[0.5, -1.7], [0.0, 0.25]]
    target = [0.25, 0.5, 0.0, 0.125]
    options = {"positions": positions, "velocities": velocities, "target": target}
    obs, info = env.reset(seed=0, options=options)
    assert info["positions"].tolist() == positions
    assert info["velocities"].tolist() == velocities
    expected = [*np.ravel(positions), *np.ravel(velocities), *target, 1.0, 1.0]
    np.testing.assert_array_equal(obs, np.array(expected, dtype=np.float32))
    assert env.reset()[0][8:12].tolist() == np.array(CORNER, dtype=np.float32).tolist()


def test_one_option_leaves_the_rest_of_the_seed_alone() -> None:
    env = make(random_target=True)
    plain, target = env.reset(seed=9)[1], env.target
    for given, other in (("positions", "velocities"), ("velocities", "positions")):
        info = env.reset(seed=9, options={given: [[0.2, 0.2], [0.8, 0.8]]})[1]
        np.testing.assert_array_equal(info[other], plain[other])
        assert env.target == target


def test_a_float32_observation_can_be_handed_back() -> None:
    """Also where balls touch: rounding to float32 may make them overlap by 1e-8."""
    env = make(num_balls=3)
    rng = np.random.default_rng(0)
    for _ in range(200):
        angle = rng.uniform(0, 2 * math.pi)
        step = 0.2 * np.array([math.cos(angle), math.sin(angle)])
        centres = 0.5 + np.stack([-step, 0 * step, step])
        obs, _ = env.reset(options={"positions": centres.astype(np.float32)})
        env.reset(options={"positions": obs.reshape(3, 2)})


@pytest.mark.parametrize(("way", "balls"), [("x", 2), ("y", 3), ("x", 4), ("diagonal", 3)])
@pytest.mark.parametrize("room", [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_a_row_that_fills_the_table_is_refused_and_all_others_can_be_played(
    room: float, balls: int, way: str
) -> None:
    """Rows between walls, or between corners, with some room in all, the same between any two."""
    course = np.array({"x": (1, 0), "y": (0, 1), "diagonal": (1, 1)}[way])
    length = math.hypot(*course)
    radius = (1 - room) * length / (2 * (balls - 1) + 2 * length)
    places = np.linspace(radius, 1 - radius, balls)[:, None]
    speeds = 1.2 * (-1.0) ** np.arange(balls)[:, None]
    options = {"positions": np.where(course, places, 0.5), "velocities": speeds * course}
    env = make(num_balls=balls, config={"radius": radius}, max_shots=None, success="last")
    if room <= 1e-6:
        with pytest.raises(ValueError, match=r"expected balls with room to move.*wedged between"):
            env.reset(options=options)
        return
    try:
        env.reset(options=options)
    except ValueError:
        assert room == 1e-5
        return
    for _ in range(10):
        env.step(course.astype(np.float32))


@pytest.mark.parametrize(
    "positions",
    [
        [[0.1, 0.1], [0.3, 0.1], [0.5, 0.1], [0.7, 0.1]],  # a row with room for one more
        [[0.1, 0.1], [0.3, 0.1], [0.1, 0.3], [0.3, 0.3]],  # a block in a corner
        [[0.1, 0.5], [0.4, 0.5], [0.7, 0.5], [0.9, 0.5]],  # walls touched, room in the row
        [[0.1, 0.5], [0.28, 0.5 + math.sqrt(0.0076)], [0.46, 0.5], [0.9, 0.5]],
    ],
)
def test_balls_that_merely_touch_can_be_played(positions: list[list[float]]) -> None:
    env = make(num_balls=4, max_shots=None, success="last")
    env.action_space.seed(0)
    env.reset(seed=0, options={"positions": positions})
    for _ in range(20):
        env.step(env.action_space.sample())


def test_a_wedged_row_that_loses_energy_comes_to_rest() -> None:
    row = [[0.125 + 0.25 * k, 0.5] for k in range(4)]
    env = make(num_balls=4, config={"radius": 0.125, "restitution": 0.5})
    env.reset(options={"positions": row, "velocities": [[0.6, 0.0]] * 4})
    info = env.step(NONE)[4]
    assert np.abs(info["velocities"]).max() < 1e-6
    np.testing.assert_allclose(info["positions"], row, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_balls": 1, "radius": 0.5},
        {"num_balls": 1, "radius": 0.5 - 1e-9},
        {"num_balls": 25, "radius": 0.1},
        {"num_balls": 2, "radius": 0.25, "restitution": 0.96},
        {"dt": 1e6},
        {"max_speed": 1e9},
    ],
)
def test_what_a_table_cannot_carry_is_refused_before_it_is_made(changes: Any) -> None:
    with pytest.raises(ValueError, match=r"meet walls at most 10000 times in a frame.*use"):
        TableConfig(**changes)


@pytest.mark.parametrize("radius", [0.25, 0.25 - 1e-9])
def test_balls_that_fill_a_line_are_refused(radius: float) -> None:
    assert TableConfig(radius=radius).restitution == 1.0
    with pytest.raises(ValueError, match="expected balls with room to move"):
        gym.make(LINE, config={"radius": radius})


def test_what_is_refused_leaves_the_generator_alone() -> None:
    env, other = make(random_target=True), make(random_target=True)
    for one in (env, other):
        one.reset(seed=1)
    for bad in ({"positions": [[0.1, 0.1]] * 2}, {"target": (0, 0, 0, 0)}, {"velocities": 1}):
        with pytest.raises(ValueError, match="expected"):
            env.reset(options=bad)
    assert env.reset()[0].tolist() == other.reset()[0].tolist()


@pytest.mark.parametrize("name", [PLANE, LINE])
@pytest.mark.parametrize("obs_type", ["coords", "state", "dict"])
def test_random_targets_vary_fit_on_the_table_and_are_shown(name: str, obs_type: str) -> None:
    env = make(name, random_target=True, obs_type=obs_type)
    targets = []
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        vector = obs["coords"] if obs_type == "dict" else obs
        known = env.target if name == PLANE else env.target[2:]
        shown = vector[-2 - len(known) : -2] if obs_type == "state" else vector[-len(known) :]
        np.testing.assert_array_equal(shown, np.array(known, dtype=np.float32))
        targets.append(env.target)
    x_low, x_high, y_low, y_high = np.array(targets).T
    np.testing.assert_allclose(y_high - y_low, 0.2, atol=1e-12)
    assert min(targets)[0] >= 0.0 and max(map(max, targets)) <= 1.0
    assert y_low.min() < 0.05 and y_low.max() > 0.75
    assert y_low.std() == pytest.approx(0.8 / math.sqrt(12), rel=0.15)
    if name == LINE:
        assert not x_low.any() and (x_high == 1.0).all()
    else:
        np.testing.assert_allclose(x_high - x_low, 0.2, atol=1e-12)
        assert x_low.min() < 0.02 and x_high.max() > 0.98


BAD_ON_A_TABLE: list[tuple[dict[str, Any], str]] = [
    ({"positions": [[0.3, 0.3], [0.4, 0.35]]}, r"balls 0 and 1 at distance 0.1118"),
    ({"positions": [[0.3, 0.3], [0.95, 0.5]]}, r"inside the table.*ball 1 at \(0.95, 0.5\)"),
    ({"positions": [[0.3, 0.3], [math.nan, 0.5]]}, r"got \[nan, 0.5\] for ball 1"),
    ({"positions": [[0.3, 0.3]]}, r"positions of shape \(2, 2\).*got shape \(1, 2\)"),
    ({"positions": "here"}, r"positions of shape \(2, 2\).*got 'here'"),
    ({"velocities": [[0, 0], [0, math.inf]]}, r"velocities.*got \[0.0, inf\] for ball 1"),
    ({"velocities": [[0, 0, 0], [0, 0, 0]]}, r"velocities of shape \(2, 2\)"),
    ({"velocities": [[0, 0], [5, 0]]}, r"at most 12.96 .*, got 25, ball 1 being the fastest"),
    ({"target": [0.5, 0.4, 0, 1]}, r"0 <= low < high <= 1.*got \(0.5, 0.4, 0.0, 1.0\)"),
    ({"target": [0.5, 0.6]}, "got 2 values"),
    ({"target": [math.nan, 0.6, 0, 1]}, "low < high"),
    ({"target": 3}, "got 3"),
    ({"position": [[0.3, 0.3]]}, "unknown reset option 'position'.*did you mean 'positions'"),
]
BAD_ON_A_LINE: list[tuple[dict[str, Any], str]] = [
    ({"positions": [[0.5, 0.2], [0.5, 0.8]]}, r"positions of shape \(2,\).*got shape \(2, 2\)"),
    ({"positions": [0.5, 0.6]}, "balls 0 and 1 at distance 0.1"),
    ({"positions": [0.5, 0.95]}, r"inside the table.*ball 1 at \(0.5, 0.95\)"),
    ({"velocities": [1.0]}, r"velocities of shape \(2,\).*got shape \(1,\)"),
    ({"velocities": "fast"}, r"velocities of shape \(2,\).*got 'fast'"),
    ({"velocities": [np.nan, 0.0]}, "for ball 0"),
    ({"target": (0.0, 1.0, 0.2, 0.4)}, r"target=\(y_low, y_high\)"),
    ({"target": (0.4, 0.2)}, "low < high"),
    ({"target": None}, r"target=\(y_low, y_high\), got None"),
    ({"position": [0.1, 0.5]}, "unknown reset option 'position'"),
]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [*((PLANE, *row) for row in BAD_ON_A_TABLE), *((LINE, *row) for row in BAD_ON_A_LINE)],
)
def test_impossible_starts_are_refused(name: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name).reset(options=options)
