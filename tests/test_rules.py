"""The rules: shots, the target, rewards and the end, on a table, on a line, and by whole shots."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.data.seeds import data_rng
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, place, simulate
from jumpy_mbrl.envs.starts import sample_tables

PLANE, LINE = "Billiards2D-v0", "Billiards1D-v0"
FORMS = {"Billiards2DShot-v0": PLANE, "Billiards1DShot-v0": LINE}
LAST = {"Billiards2DShot-v0": 44, "Billiards1DShot-v0": 20}
NONE = np.zeros(2, dtype=np.float32)
R = 0.1
each_form = pytest.mark.parametrize("name", FORMS)


def make(name: str = PLANE, **arguments: Any) -> Any:
    """The bare environment."""
    return gym.make(name, **arguments).unwrapped


def play(env: gym.Env[Any, Any], actions: Any) -> list[Any]:
    """Steps until the end: what `step` returned each time."""
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


# On a table


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


def rolling(frame: int, **arguments: Any) -> gym.Env[Any, Any]:
    """An episode in which the object ball, rolling freely, first reaches the target at `frame`."""
    env = gym.make(PLANE, **arguments)
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
    env = gym.make(PLANE, start="rest")
    env.reset(options={"positions": [[0.2, 0.2], [0.5, 0.5]]})
    steps = play(env, [NONE] * 50)
    assert len(steps) == 44
    assert steps[-1][2:4] == (False, True)


def test_a_win_in_the_last_step_is_not_truncated() -> None:
    steps = play(rolling(17, max_episode_steps=17), [NONE] * 17)
    assert len(steps) == 17
    assert steps[-1][2:4] == (True, False)


@pytest.mark.parametrize(
    ("name", "more"), [(PLANE, {"num_balls": 3}), (LINE, {"random_target": True})]
)
def test_dense_rewards_add_up_to_the_progress_from_the_shot_on(name: str, more: Any) -> None:
    env = make(name, reward="dense", **more)
    rng = np.random.default_rng(0)
    for seed in range(30):
        env.reset(seed=seed)
        corner = np.array(env.target).reshape(2, 2)[0 if name == PLANE else 1 :]
        steps = play(env, rng.uniform(-1, 1, (44, 2)))
        points = np.array([np.atleast_1d(step[4]["positions"][1]) for step in steps])
        far = np.linalg.norm(points - np.clip(points, *corner.T), axis=1)
        rewards = [step[1] for step in steps]
        assert rewards[:3] == [0.0] * 3
        won = steps[-1][4]["is_success"]
        assert sum(rewards) == pytest.approx(far[2] - far[-1] + won, abs=1e-12)


def test_about_one_random_shot_in_five_wins() -> None:
    env = gym.make(PLANE)
    rng = np.random.default_rng(0)
    wins = 0
    for seed in range(400):
        env.reset(seed=seed)
        wins += play(env, rng.uniform(-1, 1, (44, 2)))[-1][2]
    assert 0.12 < wins / 400 < 0.28


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


def test_config_may_be_a_table_config_and_num_balls_wins() -> None:
    config = TableConfig(num_balls=4, radius=0.05)
    assert make(config=config).config == config
    assert make(config=config, num_balls=3).config == config.replace(num_balls=3)
    assert TableConfig.from_dict(config.to_dict()) == config
    spec = gym.spec(PLANE).to_json()
    assert gym.envs.registration.EnvSpec.from_json(spec) == gym.spec(PLANE)


# On a line


def bounced(y: Any, v: Any, time: float) -> Any:
    """Both balls after `time`: equal balls are points that pass through each other and bounce in a
    line that is shorter by their widths."""
    side = 1.0 - 4.0 * R
    unfolded = np.mod(y + v * time, 2.0 * side)
    return np.sort(np.minimum(unfolded, 2.0 * side - unfolded)) + np.array([R, 3.0 * R])


def test_shot_and_outcome_against_the_closed_form() -> None:
    env = make(LINE)
    rng = np.random.default_rng(0)
    wins = 0
    for seed in range(300):
        env.reset(seed=seed)
        action = rng.uniform(-1, 1, 2)
        for _ in range(3):
            info = env.step(action)[4]
        below = info["positions"][1]
        way = info["velocities"][1]
        steps = play(env, [action] * 40)
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
    env = make(LINE, config={"lead_in": 0}, obs_type="state")
    obs, _ = env.reset(options={"positions": [0.5, 0.8], "velocities": [1, -1]})
    np.testing.assert_allclose(obs, [0.5, 0.8, 1, -1, 0.23, 0.43, 1, 1], rtol=1e-6)
    steps = play(env, [[-1.0, 1.0]] * 40)
    assert len(steps) == 20
    np.testing.assert_allclose(steps[0][4]["positions"], [0.15, 0.75], atol=1e-15)
    end = bounced(np.array([0.1 - R, 0.8 - 3 * R]), np.array([1.0, -1.0]), 1.0)
    np.testing.assert_allclose(steps[-1][4]["positions"], end, atol=1e-12)


def test_all_balls_go_at_unit_speed_and_the_lead_in_ignores_actions() -> None:
    first, second = make(LINE), make(LINE)
    for seed in range(20):
        first.reset(seed=seed)
        second.reset(seed=seed)
        for _ in range(3):
            info = first.step([0.9, -0.3])[4]
            other = second.step([-0.5, 0.2])[4]
            np.testing.assert_array_equal(info["positions"], other["positions"])
        steps = play(first, [[0.3, 0.0]] * 40)
        for step in steps:
            np.testing.assert_allclose(np.abs(step[4]["velocities"]), 1.0, atol=1e-14)


def test_only_the_last_frame_decides() -> None:
    env = make(LINE)
    passed = 0
    for seed in range(50):
        env.reset(seed=seed)
        steps = play(env, [[0.7, 1.0]] * 40)
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
    env = make(LINE, config={"lead_in": 19, "target": (0, 1, 0.25, 0.5)})
    env.reset(options={"positions": [0.85, y], "velocities": [0, 0]})
    steps = play(env, [[1.0, 1.0]] * 40)
    assert len(steps) == 20
    assert steps[-1][1:3] == (float(won), True)
    assert steps[-1][4]["is_success"] == won


def test_time_limit_of_the_user() -> None:
    env = gym.make(LINE, config={"num_frames": 41}, max_episode_steps=45)
    env.reset(seed=0)
    assert [env.step([0.0, 0.0])[2:4] for _ in range(40)][-2:] == [(False, False), (True, False)]


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


def test_a_picture_of_the_line() -> None:
    picture, _ = make(LINE, obs_type="pixels", channels=1).reset(
        seed=0, options={"positions": [0.75, 0.5], "target": (0.125, 0.25)}
    )
    assert picture[16, 32, 0] == 255
    assert picture[32, 32, 0] == 192
    assert (picture[48:56] == 0).all()
    assert (picture[:, :25] == picture[:, :1]).all()
    assert make(LINE, render_mode="rgb_array").reset(seed=0)[0].shape == (2,)
    env = make(LINE, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (608, 560, 3)


def test_config_keeps_what_it_does_not_change() -> None:
    config = make(LINE, config={"radius": 0.05}).config
    assert config == TableConfig(radius=0.05, num_frames=21, target=(0.0, 1.0, 0.23, 0.43))


# By whole shots


def flat(obs: Any, part: Any = None) -> Any:
    return obs if part is None else obs[part]


@each_form
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"obs_type": "state", "reward": "dense"},
        {"obs_type": "pixels", "size": 40},
        {"obs_type": "dict", "random_target": True, "pixels": "paper", "reward": "dense"},
        {"config": {"lead_in": 1, "restitution": 0.8}},
        {"config": {"lead_in": 0}},
    ],
    ids=str,
)
def test_one_step_is_all_steps_of_the_frame_by_frame_form(name: str, arguments: Any) -> None:
    shots = gym.make(name, **arguments)
    frames: Any = gym.make(FORMS[name], **arguments).unwrapped
    lead_in = frames.config.lead_in
    rng = np.random.default_rng(0)
    parts = ["coords", "pixels"] if arguments.get("obs_type") == "dict" else [None]
    wins = 0
    for seed in range(25):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        obs, info = shots.reset(seed=seed)
        seen = [frames.reset(seed=seed)[0]]
        for _ in range(lead_in):
            seen.append(frames.step(action)[0])
        assert info["frames_played"] == lead_in
        assert info["duration"] == lead_in * 0.05 == info["time"]
        for part in parts:
            expected = np.concatenate([flat(frame, part) for frame in seen], -1)
            np.testing.assert_array_equal(flat(obs, part), expected, strict=True)
        obs, reward, terminated, truncated, info = shots.step(action)
        total, over = 0.0, False
        while not over and len(seen) <= LAST[name]:
            frame, part_reward, over, _, last = frames.step(action)
            seen.append(frame)
            total += part_reward
        for part in parts:
            kept = seen[-lead_in - 1 :]
            expected = np.concatenate([flat(frame, part) for frame in kept], -1)
            np.testing.assert_array_equal(flat(obs, part), expected, strict=True)
        assert (reward, terminated, truncated) == (total, True, False)
        assert info.pop("frames_played") == len(seen) - 1 - lead_in
        assert info.pop("duration") == (len(seen) - 1 - lead_in) * 0.05
        np.testing.assert_equal(info, last)
        wins += info["is_success"]
    assert 0 < wins < 25


def test_where_only_the_last_frame_counts_every_shot_lasts_to_it() -> None:
    shots: Any = gym.make("Billiards2DShot-v0", success="last")
    wins = 0
    for seed in range(40):
        shots.reset(seed=seed)
        _, reward, terminated, _, info = shots.step([0.4, -0.7])
        x, y = info["positions"][1]
        assert info["is_success"] == (x >= 0.8 and y <= 0.2) == (reward == 1.0)
        assert terminated and info["frames_played"] == 41
        wins += info["is_success"]
    assert 0 < wins < 20


@each_form
def test_observations_have_the_shapes_of_the_docstring(name: str) -> None:
    balls = 4 if name.startswith("Billiards2D") else 2
    target = balls
    shapes = {"coords": (4 * balls,), "state": (4 * (2 * balls + target + 2),)}
    for kind, shape in shapes.items():
        assert gym.make(name, obs_type=kind).observation_space.shape == shape
        assert f"({shape[0]},)" in str(gym.make(name).unwrapped.__doc__)
    assert gym.make(name, obs_type="pixels").observation_space.shape == (64, 64, 12)
    coords, _ = gym.make(name).reset(seed=3)
    state, _ = gym.make(name, obs_type="state").reset(seed=3)
    np.testing.assert_array_equal(state.reshape(4, -1)[:, :balls], coords.reshape(4, -1))
    np.testing.assert_allclose(state.reshape(4, -1)[:, -1], 1 - np.arange(4) / LAST[name])


@each_form
def test_a_second_shot_needs_a_reset(name: str) -> None:
    env: Any = gym.make(name).unwrapped
    with pytest.raises(ResetNeeded):
        env.step([0.0, 0.0])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step([np.nan, 0.0])
    env.step([0.0, 0.0])
    with pytest.raises(ResetNeeded):
        env.step([0.0, 0.0])


def test_a_shot_that_wins_at_once_shows_part_of_the_lead_in() -> None:
    env = gym.make("Billiards2DShot-v0")
    obs, _ = env.reset(
        options={"positions": [[0.2, 0.8], [0.85, 0.15]], "velocities": np.zeros((2, 2))}
    )
    after, reward, _, _, info = env.step(np.array([1.0, 0.0], dtype=np.float32))
    assert (reward, info["frames_played"], info["is_success"]) == (1.0, 1, True)
    np.testing.assert_array_equal(after[:12], obs[4:])
    np.testing.assert_allclose(after[12:], [0.26, 0.8, 0.85, 0.15], atol=1e-7)


def test_the_arguments_pass_through() -> None:
    env: Any = gym.make("Billiards2DShot-v0", num_balls=5, start="rest").unwrapped
    obs, info = env.reset(seed=0)
    assert obs.shape == (40,)
    assert not info["velocities"].any()


@each_form
def test_rendering_shows_the_frame_after_the_last(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    before: Any = env.render()
    env.step(np.array([1.0, 1.0], dtype=np.float32))
    after: Any = env.render()
    assert before.shape == (608, 560, 3)
    assert (before != after).any()


@each_form
def test_pictures_of_a_shot_are_those_of_all_its_frames(name: str) -> None:
    shots: Any = gym.make(name, render_mode="rgb_array_list")
    frames: Any = gym.make(FORMS[name], render_mode="rgb_array")
    action = np.array([0.5, -0.5], dtype=np.float32)
    for seed in range(2):
        frames.reset(seed=seed)
        expected, over = [frames.render()], False
        while not over:
            _, _, terminated, truncated, _ = frames.step(action)
            over = terminated or truncated
            expected.append(frames.render())
        assert len(expected) > 5
        shots.reset(seed=7)  # whose pictures nobody asks for
        shots.reset(seed=seed)
        watched = shots.render() if seed else []
        shots.step(action)
        pictures = [*watched, *shots.render()]
        np.testing.assert_array_equal(pictures, expected)
        assert shots.render() == []


def test_human_mode_shows_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    from jumpy_mbrl.envs import rendering

    shown = []
    monkeypatch.setattr(rendering.Window, "show", lambda self, frame: shown.append(frame))
    env = gym.make("Billiards1DShot-v0", render_mode="human")
    env.reset(seed=0)
    assert len(shown) == 4
    env.step(np.array([0.0, 1.0], dtype=np.float32))
    assert len(shown) == 21
    env.close()


@each_form
def test_sb3_ppo_trains_on_shots(name: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", gym.make(name), n_steps=32, batch_size=32, seed=0)
    model.learn(64)
    assert model.num_timesteps == 64
