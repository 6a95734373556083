"""`Billiards2D-v0`: the contract with Gymnasium and SB3, the rules, and bad input."""

import math
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.data.seeds import data_rng
from jumpy_mbrl.envs.config import Start, TableConfig
from jumpy_mbrl.envs.physics import advance, simulate
from jumpy_mbrl.envs.starts import (
    draw_positions,
    draw_velocities,
    sample_positions,
    sample_tables,
    sample_velocities,
)

ID = "Billiards2D-v0"
CORNER = (0.8, 1.0, 0.0, 0.2)
NONE = np.zeros(2, dtype=np.float32)


def make(**arguments: Any) -> Any:
    """The bare environment."""
    return gym.make(ID, **arguments).unwrapped


def play(env: gym.Env[Any, Any], actions: Any) -> list[Any]:
    """Steps until the end: what `step` returned each time."""
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def assert_same(first: Any, second: Any) -> None:
    """Asserts that two lists of what `step` returned are equal bit for bit."""
    assert len(first) == len(second)
    for (obs, *rest, info), (other_obs, *other_rest, other_info) in zip(first, second, strict=True):
        np.testing.assert_array_equal(obs, other_obs, strict=True)
        assert rest == other_rest
        assert info.keys() == other_info.keys()
        for name in info:
            np.testing.assert_array_equal(info[name], other_info[name])


# The contracts


def test_both_forms_of_gym_make_and_the_vector_form() -> None:
    spec = gym.make("jumpy_mbrl:Billiards2D-v0").spec
    assert spec is not None
    assert spec.id == ID
    vector = gym.make_vec("jumpy_mbrl:Billiards2D-v0", num_envs=2, vectorization_mode="sync")
    single = gym.make(ID)
    obs, _ = vector.reset(seed=3)
    np.testing.assert_array_equal(obs[1], single.reset(seed=4)[0])
    actions = np.full((2, 2), 0.5, dtype=np.float32)
    for _ in range(10):
        obs = vector.step(actions)[0]
        expected, _, terminated, _, _ = single.step(actions[1])
        np.testing.assert_array_equal(obs[1], expected)
        if terminated:
            break


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
    np.testing.assert_array_equal(obs[0], make().reset(seed=0)[0])


def test_at_least_20_000_steps_a_second_through_gym_make() -> None:
    env = gym.make(ID)
    env.reset(seed=0)
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2000):
            _, _, terminated, truncated, _ = env.step(NONE)
            if terminated or truncated:
                env.reset()
        rates.append(2000 / (time.perf_counter() - started))
    assert max(rates) >= 20_000


# Reset


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


@pytest.mark.parametrize("balls", [1, 2, 3, 8, 12])
def test_one_table_is_drawn_as_the_first_of_many_would_be(balls: int) -> None:
    config = TableConfig(num_balls=balls)
    for seed in range(60):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        starts: tuple[Start, ...] = ("moving", "rest")
        for start in starts:
            given = draw_velocities(config, first, start)
            expected = sample_velocities(config, second, 1, start).ravel()
            np.testing.assert_array_equal(given, expected)
            given = draw_positions(config, first.random)
            np.testing.assert_array_equal(given, sample_positions(config, second, 1).ravel())
        assert first.random() == second.random()


def test_options_set_the_table_exactly() -> None:
    env = make(obs_type="state")
    positions, velocities = [[0.1, 0.9], [0.3, 0.9]], [[0.5, -1.7], [0.0, 0.25]]
    target = [0.25, 0.5, 0.0, 0.125]
    obs, info = env.reset(
        seed=0,
        options={"positions": positions, "velocities": velocities, "target": target},
    )
    assert info["positions"].tolist() == positions
    assert info["velocities"].tolist() == velocities
    expected = [*np.ravel(positions), *np.ravel(velocities), *target, 1.0, 1.0]
    np.testing.assert_array_equal(obs, np.array(expected, dtype=np.float32))
    assert (
        env.reset()[0][8:12].tolist() == np.array(CORNER, dtype=np.float32).tolist()
    )  # for one episode only


def test_one_option_leaves_the_rest_of_the_seed_alone() -> None:
    env = make(random_target=True)
    _, plain = env.reset(seed=9)
    target = env.target
    _, given = env.reset(seed=9, options={"positions": [[0.2, 0.2], [0.8, 0.8]]})
    np.testing.assert_array_equal(given["velocities"], plain["velocities"])
    assert env.target == target
    _, given = env.reset(seed=9, options={"velocities": np.zeros((2, 2))})
    np.testing.assert_array_equal(given["positions"], plain["positions"])


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


def test_a_full_table_needs_given_positions() -> None:
    spots = (np.arange(5) + 0.5) / 5
    grid = np.stack(np.meshgrid(spots, spots), -1).reshape(-1, 2)
    env = make(num_balls=25, start="rest", config={"radius": 0.099})
    env.reset(seed=0, options={"positions": grid})
    with pytest.raises(ValueError, match=r"num_balls=25 and radius=0.099.*give the positions"):
        env.reset(seed=0)


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


def test_what_a_table_cannot_carry_is_refused_before_it_is_made() -> None:
    tables: list[dict[str, Any]] = [
        {"num_balls": 1, "radius": 0.5},
        {"num_balls": 1, "radius": 0.5 - 1e-9},
        {"num_balls": 25, "radius": 0.1},
        {"num_balls": 2, "radius": 0.25, "restitution": 0.96},
        {"dt": 1e6},
        {"max_speed": 1e9},
    ]
    for changes in tables:
        with pytest.raises(ValueError, match=r"meet walls at most 10000 times in a frame.*use"):
            TableConfig(**changes)
    assert TableConfig(radius=0.25).restitution == 1.0
    for radius in (0.25, 0.25 - 1e-9):
        with pytest.raises(ValueError, match="expected balls with room to move"):
            gym.make("Billiards1D-v0", config={"radius": radius})


def test_what_is_refused_leaves_the_generator_alone() -> None:
    env, other = make(random_target=True), make(random_target=True)
    for one in (env, other):
        one.reset(seed=1)
    for bad in ({"positions": [[0.1, 0.1]] * 2}, {"target": (0, 0, 0, 0)}, {"velocities": 1}):
        with pytest.raises(ValueError, match="expected"):
            env.reset(options=bad)
    assert env.reset()[0].tolist() == other.reset()[0].tolist()


def test_random_targets_vary_fit_on_the_table_and_are_shown() -> None:
    env = make(random_target=True)
    targets = np.array([env.reset(seed=seed)[0][4:] for seed in range(200)])
    assert targets.min() >= 0.0
    assert targets.max() <= 1.0
    np.testing.assert_allclose(targets[:, 1] - targets[:, 0], 0.2, atol=1e-6)
    np.testing.assert_allclose(targets[:, 3] - targets[:, 2], 0.2, atol=1e-6)
    assert targets[:, 0].min() < 0.02
    assert targets[:, 1].max() > 0.98
    assert targets[:, 2].std() == pytest.approx(0.8 / math.sqrt(12), rel=0.1)


# Steps


def test_the_lead_in_ignores_actions_and_the_shot_is_at_frame_three() -> None:
    config = TableConfig()
    env = make(start="rest")
    positions = [[0.3, 0.5], [0.7, 0.2]]
    env.reset(options={"positions": positions})
    for _ in range(3):
        info = env.step([1.0, 1.0])[4]
        assert info["positions"].tolist() == positions
    info = env.step([0.5, -0.25])[4]
    shot = np.array([0.5, -0.25]) * config.max_impulse
    np.testing.assert_allclose(info["velocities"], [[*shot], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(info["positions"][0], [0.3, 0.5] + shot * 0.05, atol=1e-15)
    assert info["time"] == pytest.approx(4 * 0.05)
    info = env.step([-1.0, -1.0])[4]
    np.testing.assert_allclose(info["velocities"], [[*shot], [0, 0]], atol=1e-15)


@pytest.mark.parametrize(("max_shots", "pushes"), [(1, 1), (2, 2), (5, 5), (None, 8)])
def test_the_number_of_shots(max_shots: int | None, pushes: int) -> None:
    env = make(num_balls=1, obs_type="state", max_shots=max_shots)
    obs, _ = env.reset(options={"positions": [[0.5, 0.5]], "velocities": [[0.0, 0.0]]})
    left = [obs[-2]]
    for _ in range(11):
        obs, *_, info = env.step([0.1, 0.0])
        left.append(obs[-2])
    assert info["velocities"][0] == pytest.approx([pushes * 0.1 * 1.2, 0.0])
    count = max_shots or math.inf
    expected = [1.0] * 4 + [max(0.0, 1 - k / count) for k in range(1, 9)]
    assert left == pytest.approx(expected)
    assert obs[-1] == pytest.approx(1 - 11 / 44)


def test_the_shot_is_clipped_to_the_speed_limit_and_the_action_to_its_box() -> None:
    first, second = make(num_balls=1), make(num_balls=1)
    start = {"positions": [[0.4, 0.6]], "velocities": [[1.2, -1.0]]}
    for env, action in ((first, [1.0, 0.25]), (second, [77.0, 0.25])):
        env.reset(options=start)
        steps = play(env, [action] * 4)
        np.testing.assert_allclose(steps[-1][4]["velocities"], [[1.8, -0.7]], atol=1e-15)


@pytest.mark.parametrize("arguments", [{}, {"start": "rest", "num_balls": 4}])
def test_an_episode_is_the_simulation_that_makes_the_data(arguments: Any) -> None:
    """Replaying a start and its action in the environment gives the frames of `simulate`."""
    env = make(**arguments, config={"target": (0.0, 1e-9, 0.0, 1e-9)})
    config = env.config
    rng = data_rng(0, "validation")
    positions, velocities = sample_tables(config, rng, 20, env.task.start)
    shots = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
    frames = simulate(positions, velocities, shots.astype(float), config, "python")
    for row in range(20):
        options = {"positions": positions[row], "velocities": velocities[row]}
        obs, _ = env.reset(options=options)
        actions = np.zeros((44, 2), dtype=np.float32)
        actions[3] = shots[row]
        seen = [obs, *(step[0] for step in play(env, actions))]
        np.testing.assert_array_equal(np.array(seen), frames[row], strict=True)


def test_collisions_are_counted_by_kind() -> None:
    env = make(num_balls=5)
    total = np.zeros(2, dtype=int)
    for seed in range(10):
        _, info = env.reset(seed=seed)
        x, v = info["positions"].ravel().tolist(), info["velocities"].ravel().tolist()
        counts = np.zeros(2, dtype=int)
        for _ in range(3):
            counts += advance(x, v, 0.05, 0.1)
            info = env.step(NONE)[4]
            assert [info["wall_hits"], info["ball_hits"]] == counts.tolist()
        total += counts
    assert total.min() > 5


# Success, rewards and the end


def rolling(frame: int, **arguments: Any) -> gym.Env[Any, Any]:
    """An episode in which the object ball, rolling freely, first reaches the target at `frame`."""
    env = gym.make(ID, **arguments)
    speed = 0.5
    x = 0.8 - speed * 0.05 * (frame - 0.5)
    env.reset(options={"positions": [[0.2, 0.8], [x, 0.15]], "velocities": [[0, 0], [speed, 0]]})
    return env


@pytest.mark.parametrize("frame", [4, 5, 17])
def test_success_terminates_at_the_first_frame_inside_the_target(frame: int) -> None:
    steps = play(rolling(frame), [NONE] * 44)
    assert len(steps) == frame
    assert [step[1] for step in steps] == [0.0] * (frame - 1) + [1.0]
    assert [step[2] for step in steps] == [False] * (frame - 1) + [True]
    assert [step[4]["is_success"] for step in steps] == [step[2] for step in steps]
    assert not any(step[3] for step in steps)


@pytest.mark.parametrize("frame", [1, 3])
def test_before_the_shot_the_target_does_not_count(frame: int) -> None:
    steps = play(rolling(frame), [NONE] * 44)
    assert len(steps) == 4  # still inside at the first frame that counts


def test_a_ball_that_left_the_target_before_the_shot_has_not_won() -> None:
    env = make()
    env.reset(options={"positions": [[0.2, 0.8], [0.85, 0.1]], "velocities": [[0, 0], [0, 1.6]]})
    assert not play(env, [NONE] * 10)[-1][2]


def test_the_border_of_the_target_belongs_to_it_and_the_cue_ball_does_not_count() -> None:
    env = make(start="rest")
    env.reset(options={"positions": [[0.5, 0.5], [0.8, 0.2]]})
    assert play(env, [NONE] * 4)[-1][1:3] == (1.0, True)
    env.reset(options={"positions": [[0.5, 0.5], [math.nextafter(0.8, 0), 0.2]]})
    assert play(env, [NONE] * 4)[-1][1:3] == (0.0, False)
    env.reset(options={"positions": [[0.85, 0.15], [0.5, 0.5]]})
    assert play(env, [NONE] * 44)[-1][1:3] == (0.0, False)


def test_a_lone_ball_is_its_own_object_ball() -> None:
    env = make(num_balls=1, start="rest")
    env.reset(options={"positions": [[0.85, 0.15]]})
    assert play(env, [NONE] * 4)[-1][2]


@pytest.mark.parametrize(("frame", "won"), [(5, False), (17, True), (20, False)])
def test_where_only_the_last_frame_counts_it_ends_the_episode(frame: int, won: bool) -> None:
    env = rolling(frame, success="last", config={"num_frames": 20}).unwrapped
    steps = play(env, [NONE] * 20)  # the ball is inside for 8 frames
    assert [step[1] for step in steps] == [0.0] * 18 + [float(won)]
    assert [step[2] for step in steps] == [False] * 18 + [True]
    assert [step[4]["is_success"] for step in steps] == [False] * 18 + [won]
    with pytest.raises(ResetNeeded):
        env.step(NONE)


def test_the_registered_time_limit_truncates_after_44_steps() -> None:
    env = gym.make(ID, start="rest")
    env.reset(options={"positions": [[0.2, 0.2], [0.5, 0.5]]})
    steps = play(env, [NONE] * 50)
    assert len(steps) == 44
    assert steps[-1][2:4] == (False, True)


def test_a_win_in_the_last_step_is_not_truncated() -> None:
    steps = play(rolling(17, max_episode_steps=17), [NONE] * 17)
    assert len(steps) == 17
    assert steps[-1][2:4] == (True, False)


def test_dense_rewards_add_up_to_the_progress_from_the_shot_on() -> None:
    env = gym.make(ID, reward="dense", num_balls=3)
    x_low, x_high, y_low, y_high = CORNER
    for seed in range(20):
        env.reset(seed=seed)
        steps = play(env, np.random.default_rng(seed).uniform(-1, 1, (44, 2)))
        points = np.array([step[4]["positions"][1] for step in steps])
        off = points - np.clip(points, [x_low, y_low], [x_high, y_high])
        far = np.linalg.norm(off, axis=1)
        rewards = [step[1] for step in steps]
        assert rewards[:3] == [0.0, 0.0, 0.0]
        assert sum(rewards) == pytest.approx(far[2] - far[-1] + steps[-1][2], abs=1e-12)


def test_about_one_random_shot_in_five_wins() -> None:
    env = gym.make(ID)
    rng = np.random.default_rng(0)
    wins = 0
    for seed in range(400):
        env.reset(seed=seed)
        wins += play(env, rng.uniform(-1, 1, (44, 2)))[-1][2]
    assert 0.12 < wins / 400 < 0.28


# Misuse


def test_step_needs_a_running_episode() -> None:
    env = make()
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(NONE)
    env = make(start="rest")
    env.reset(options={"positions": [[0.5, 0.5], [0.85, 0.15]]})
    play(env, [NONE] * 4)
    with pytest.raises(ResetNeeded, match="terminated"):
        env.step(NONE)
    env.reset()
    env.step(NONE)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([math.nan, 0.0], r"two finite numbers, got \[nan, 0.0\]"),
        ([0.0, math.inf], r"two finite numbers, got \[0.0, inf\]"),
        ([0.0], r"shape \(2,\), got \[0.0\] of shape \(1,\)"),
        (np.zeros((1, 2)), r"of shape \(1, 2\)"),
        (0.5, r"shape \(2,\), got 0.5"),
        (None, r"shape \(2,\), got None"),
        ("left", r"shape \(2,\), got 'left'"),
        ([[1.0], [1.0, 2.0]], r"shape \(2,\)"),
    ],
)
def test_bad_actions_are_refused_and_change_nothing(action: Any, message: str) -> None:
    env, twin = make(), make()
    env.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert_same([env.step(NONE)], [twin.step(NONE)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
    ],
)
def test_impossible_tables_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "coord"}, r"unknown obs_type 'coord'.*'coords', 'state'.*; did you mean"),
        ({"random_target": "yes"}, "random_target to be True or False, got 'yes'"),
        ({"reward": "denser"}, "unknown reward 'denser'.*did you mean 'dense'"),
        ({"success": "lost"}, "unknown success 'lost'.*did you mean 'last'"),
        ({"start": "move"}, "unknown start 'move'.*did you mean 'moving'"),
        ({"max_shots": 0}, "max_shots to be an integer of at least 1, or None.*got 0"),
        ({"max_shots": 1.5}, "max_shots.*got 1.5"),
        ({"num_balls": 0}, "num_balls to be an integer of at least 1, got 0"),
        ({"num_balls": 2.0}, "num_balls.*got 2.0"),
        ({"num_balls": 26}, r"at most 25 balls of radius 0.1.*got num_balls=26"),
        ({"config": {"dt": -0.05}}, r"dt to be a number in \(0, inf\), got -0.05"),
        ({"config": {"radius": 0.6}}, r"radius to be a number in \(0, 0.5\], got 0.6"),
        ({"config": {"radius": math.nan}}, "radius.*got nan"),
        ({"config": {"restitution": 1.1}}, r"restitution.*\(0, 1\], got 1.1"),
        ({"config": {"num_frames": 4}}, "num_frames to be an integer of at least 5, got 4"),
        ({"config": {"initial_speed_max": 2.0}}, r"initial_speed_max.*\[0, 1.8\], got 2.0"),
        ({"config": {"target": (0, 0, 0, 1)}}, r"target=\(x_low, x_high, y_low, y_high\)"),
        ({"config": {"radios": 0.1}}, "unknown table setting 'radios'.*did you mean 'radius'"),
        ({"config": 7}, "config to be a TableConfig or a dictionary, got 7"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_a_bad_render_mode_is_refused_and_none_only_warns() -> None:
    from jumpy_mbrl.envs import Billiards2DEnv

    with pytest.raises(ValueError, match="unknown render_mode 'rgb'"):
        Billiards2DEnv(render_mode="rgb")
    env = Billiards2DEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


def test_config_may_be_a_table_config_and_num_balls_wins() -> None:
    config = TableConfig(num_balls=4, radius=0.05)
    assert make(config=config).config == config
    assert make(config=config, num_balls=3).config == config.replace(num_balls=3)
    assert TableConfig.from_dict(config.to_dict()) == config
    spec = gym.spec(ID).to_json()
    assert gym.envs.registration.EnvSpec.from_json(spec) == gym.spec(ID)


# Many balls


@pytest.mark.parametrize("balls", range(2, 9))
@pytest.mark.parametrize("start", ["moving", "rest"])
def test_every_number_of_balls_with_all_that_can_be_asked_for(balls: int, start: str) -> None:
    env = make(
        num_balls=balls,
        start=start,
        obs_type="state",
        max_shots=None,
        random_target=True,
        reward="dense",
    )
    assert env.observation_space.shape == (4 * balls + 6,)
    rng = np.random.default_rng(balls)
    pairs = np.triu_indices(balls, 1)
    for seed in range(4):
        obs, info = env.reset(seed=seed)
        assert info["velocities"].any() == (start == "moving")
        for frame in range(44):
            positions, velocities = info["positions"], info["velocities"]
            action = rng.uniform(-1, 1, 2)
            obs, reward, over, _, info = env.step(action)
            gaps = np.linalg.norm(info["positions"][pairs[0]] - info["positions"][pairs[1]], axis=1)
            assert gaps.min() >= 0.2 - 1e-12
            assert abs(info["positions"] - 0.5).max() <= 0.4 + 1e-12
            if frame >= 3:
                velocities = velocities.copy()
                velocities[0] = np.clip(velocities[0] + 1.2 * action, -1.8, 1.8)
            energy = (velocities**2).sum()
            assert (info["velocities"] ** 2).sum() == pytest.approx(energy, rel=1e-12, abs=1e-12)
            corner = np.array(env.target).reshape(2, 2)
            far, near = (
                float(np.linalg.norm(place - np.clip(place, *corner.T)))
                for place in (positions[1], info["positions"][1])
            )
            expected = (far - near + over) if frame >= 3 else 0.0
            assert reward == pytest.approx(expected, abs=1e-12)
            assert over == (near == 0.0 and frame >= 3)
            np.testing.assert_array_equal(obs[4 * balls : -2], np.array(env.target, np.float32))
            assert obs[-2] == 1.0
            if over:
                break


def test_the_object_ball_alone_wins_among_many() -> None:
    env = make(num_balls=4, start="rest")
    places = [[0.2, 0.8], [0.5, 0.8], [0.9, 0.1], [0.8, 0.8]]
    env.reset(options={"positions": places})
    assert not play(env, [NONE] * 10)[-1][2]
    places[1], places[2] = places[2], places[1]
    env.reset(options={"positions": places})
    assert play(env, [NONE] * 10)[-1][1:3] == (1.0, True)
