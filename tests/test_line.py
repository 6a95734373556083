"""`Billiards1D-v0`: the papers' planning task on a line."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import place
from jumpy_mbrl.envs.starts import draw_positions, draw_velocities

ID = "Billiards1D-v0"
R = 0.1


def make(**arguments: Any) -> Any:
    """The bare environment."""
    return gym.make(ID, **arguments).unwrapped


def play(env: Any, action: Any) -> list[Any]:
    """Steps with one action until the end."""
    steps = [env.step(action)]
    while not steps[-1][2]:
        steps.append(env.step(action))
    return steps


def bounced(y: Any, v: Any, time: float) -> Any:
    """Both balls after `time`: equal balls are points that pass through each other and bounce in a
    line that is shorter by their widths."""
    side = 1.0 - 4.0 * R
    unfolded = np.mod(y + v * time, 2.0 * side)
    return np.sort(np.minimum(unfolded, 2.0 * side - unfolded)) + np.array([R, 3.0 * R])


def test_shot_and_outcome_against_the_closed_form() -> None:
    env = make()
    rng = np.random.default_rng(0)
    wins = 0
    for seed in range(300):
        env.reset(seed=seed)
        action = rng.uniform(-1, 1, 2)
        for _ in range(3):
            info = env.step(action)[4]
        below = info["positions"][1]
        way = info["velocities"][1]
        steps = play(env, action)
        wanted = 0.1 + 0.4 * (action[0] + 1.0)
        if abs(wanted - below) < 2 * R:
            wanted = below + 2 * R if wanted >= below else below - 2 * R
            if not R <= wanted <= 1 - R:
                wanted = 2 * below - wanted
        y = np.array([wanted, below])
        v = np.array([1.0 if action[1] >= 0 else -1.0, way])
        order = np.argsort(y)
        end = bounced(y[order] - [R, 3 * R], v[order], 17 * 0.05)
        expected = np.empty(2)
        expected[order] = end
        np.testing.assert_allclose(steps[-1][4]["positions"], expected, atol=1e-12)
        won = abs(expected[1] - 0.33) <= 0.1
        assert steps[-1][1:4] == (float(won), True, False)
        wins += won
    assert 0.2 < wins / 300 < 0.4


def test_the_literal_paper_form_sets_the_initial_conditions() -> None:
    env = make(config={"lead_in": 0}, obs_type="state")
    obs, _ = env.reset(options={"positions": [0.5, 0.8], "velocities": [1, -1]})
    np.testing.assert_allclose(obs, [0.5, 0.8, 1, -1, 0.23, 0.43, 1, 1], rtol=1e-6)
    steps = play(env, [-1.0, 1.0])
    assert len(steps) == 20
    np.testing.assert_allclose(steps[0][4]["positions"], [0.15, 0.75], atol=1e-15)
    end = bounced(np.array([0.1 - R, 0.8 - 3 * R]), np.array([1.0, -1.0]), 1.0)
    np.testing.assert_allclose(steps[-1][4]["positions"], end, atol=1e-12)


def test_all_balls_go_at_unit_speed_and_the_lead_in_ignores_actions() -> None:
    first, second = make(), make()
    for seed in range(20):
        first.reset(seed=seed)
        second.reset(seed=seed)
        for _ in range(3):
            info = first.step([0.9, -0.3])[4]
            other = second.step([-0.5, 0.2])[4]
            np.testing.assert_array_equal(info["positions"], other["positions"])
        steps = play(first, [0.3, 0.0])
        for step in steps:
            np.testing.assert_allclose(np.abs(step[4]["velocities"]), 1.0, atol=1e-14)


def test_only_the_last_frame_decides() -> None:
    env = make()
    passed = 0
    for seed in range(50):
        env.reset(seed=seed)
        steps = play(env, [0.7, 1.0])
        inside = [abs(step[4]["positions"][1] - 0.33) <= 0.1 for step in steps]
        assert [step[1] for step in steps] == [0.0] * 19 + [float(inside[-1])]
        assert [step[2] for step in steps] == [False] * 19 + [True]
        assert [step[4]["is_success"] for step in steps] == [False] * 19 + [inside[-1]]
        passed += any(inside[4:]) and not inside[-1]
    assert passed > 10
    with pytest.raises(ResetNeeded):
        env.step([0.0, 0.0])


@pytest.mark.parametrize(("y", "won"), [(0.25, True), (0.5, True), (0.2499, False), (0.51, False)])
def test_the_ends_of_the_target_belong_to_it(y: float, won: bool) -> None:
    env = make(config={"lead_in": 19, "target": (0, 1, 0.25, 0.5)})
    env.reset(options={"positions": [0.85, y], "velocities": [0, 0]})
    steps = play(env, [1.0, 1.0])
    assert len(steps) == 20
    assert steps[-1][1:3] == (float(won), True)
    assert steps[-1][4]["is_success"] == won


def test_time_limit_of_the_user() -> None:
    env = gym.make(ID, config={"num_frames": 41}, max_episode_steps=45)
    env.reset(seed=0)
    assert [env.step([0.0, 0.0])[2:4] for _ in range(40)][-2:] == [(False, False), (True, False)]


def test_dense_rewards_add_up_to_the_progress_from_the_shot_on() -> None:
    env = make(reward="dense", random_target=True)
    rng = np.random.default_rng(0)
    for seed in range(30):
        env.reset(seed=seed)
        low, high = env.target[2:]
        steps = play(env, rng.uniform(-1, 1, 2))
        y = np.array([step[4]["positions"][1] for step in steps])
        far = np.abs(y - np.clip(y, low, high))
        rewards = [step[1] for step in steps]
        assert rewards[:3] == [0.0] * 3
        assert sum(rewards) == pytest.approx(far[2] - far[-1] + steps[-1][4]["is_success"])


@settings(max_examples=300, deadline=None)
@given(
    st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.booleans(), st.sampled_from([0.1, 0.2])
)
def test_the_cue_ball_is_placed_where_asked_or_next_to_it(
    position: float, direction: float, other: float, above: bool, radius: float
) -> None:
    low, high = (3 * radius, 1 - radius) if above else (radius, 1 - 3 * radius)
    other = low + other * (high - low)
    x, v = [0.5, radius if above else 1 - radius, 0.5, other], [0.0, 0.3, 0.0, -0.7]
    place(x, v, position, direction, radius)
    assert x[::2] == [0.5, 0.5]
    assert x[3] == other
    assert v == [0.0, 1.0 if direction >= 0 else -1.0, 0.0, -0.7]
    wanted = radius + (position + 1) / 2 * (1 - 2 * radius)
    free = [y for y in (other - 2 * radius, other + 2 * radius) if radius <= y <= 1 - radius]
    if abs(wanted - other) >= 2 * radius:
        free.append(wanted)
    nearest = min(abs(y - wanted) for y in free)
    assert abs(x[1] - wanted) == pytest.approx(nearest, abs=1e-12)
    assert abs(x[1] - other) >= 2 * radius - 1e-12
    assert radius - 1e-12 <= x[1] <= 1 - radius + 1e-12


def test_balls_that_fill_the_line_stay() -> None:
    x, v = [0.5, 0.25, 0.5, 0.75 - 1e-17], [0.0, 1.0, 0.0, 1.0]
    x[3] = 0.74999
    place(x, v, 0.0, 1.0, 0.25)
    assert x[1] == 0.25
    assert v[1] == 1.0


def test_random_starts_leave_room_and_go_either_way() -> None:
    config = TableConfig()
    rng = np.random.default_rng(0)
    x = np.array([draw_positions(config, rng.random, line=True) for _ in range(500)])
    v = np.array([draw_velocities(config, rng, line=True) for _ in range(500)])
    assert (x[:, ::2] == 0.5).all()
    assert (v[:, ::2] == 0.0).all()
    assert set(v[:, 1::2].ravel()) == {-1.0, 1.0}
    assert abs(v[:, 1::2].mean()) < 0.1
    assert x.min() >= R
    assert x.max() <= 1 - R
    assert 2 * R <= np.abs(x[:, 1] - x[:, 3]).min() < 2.2 * R
    assert not any(draw_velocities(config, rng, "rest", line=True))


@pytest.mark.parametrize("obs_type", ["coords", "state", "dict"])
def test_random_targets_are_shown(obs_type: str) -> None:
    env = make(random_target=True, obs_type=obs_type)
    lows = []
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        vector = obs["coords"] if obs_type == "dict" else obs
        x_low, x_high, y_low, y_high = env.target
        assert (x_low, x_high) == (0.0, 1.0)
        assert y_high - y_low == pytest.approx(0.2)
        shown = vector[4:6] if obs_type == "state" else vector[2:]
        np.testing.assert_array_equal(shown, np.array([y_low, y_high], dtype=np.float32))
        lows.append(y_low)
    assert min(lows) < 0.05
    assert max(lows) > 0.75


def test_a_picture_of_the_line() -> None:
    picture, _ = make(obs_type="pixels", channels=1).reset(
        seed=0, options={"positions": [0.75, 0.5], "target": (0.125, 0.25)}
    )
    assert picture[16, 32, 0] == 255
    assert picture[32, 32, 0] == 192
    assert (picture[48:56] == 0).all()
    assert (picture[:, :25] == picture[:, :1]).all()
    assert make(render_mode="rgb_array").reset(seed=0)[0].shape == (2,)
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (608, 560, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
    ],
)
def test_impossible_lines_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "coord"}, "unknown obs_type 'coord'"),
        ({"reward": "denser"}, "unknown reward 'denser'"),
        ({"random_target": 1}, "random_target to be True or False, got 1"),
        ({"config": {"num_balls": 3}}, "num_balls to be 2 on a line, got 3"),
        ({"config": {"radius": 0.3, "num_balls": 1}}, "num_balls to be 2 on a line, got 1"),
        ({"config": TableConfig()}, r"target to be \(0, 1, y_low, y_high\)"),
        ({"config": {"target": (0.1, 1, 0, 1)}}, r"target to be \(0, 1, y_low, y_high\)"),
        ({"config": 7}, "config to be a TableConfig or a dictionary"),
        ({"size": 64}, "no size with obs_type='coords'"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_config_keeps_what_it_does_not_change() -> None:
    config = make(config={"radius": 0.05}).config
    assert config == TableConfig(radius=0.05, num_frames=21, target=(0.0, 1.0, 0.23, 0.43))
