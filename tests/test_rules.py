"""The rules: shots, the target, rewards and the end, on a table, on a line, and by whole shots."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpy_mbrl import envs
from jumpy_mbrl.data.seeds import data_rng
from jumpy_mbrl.envs import physics, rendering, starts
from jumpy_mbrl.envs.config import TableConfig

PLANE, LINE, SHOT, LINE_SHOT = envs.ENV_IDS
FORMS = {SHOT: PLANE, LINE_SHOT: LINE}
LAST = {SHOT: 44, LINE_SHOT: 20}
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
    assert left == pytest.approx(
        [max(0, 1 - max(0, k) / (max_shots or 1e99)) for k in range(-3, 9)]
    )
    assert obs[-1] == pytest.approx(1 - 11 / 44)


@pytest.mark.parametrize("action", [[1.0, 0.25], [77.0, 0.25]])
def test_the_shot_is_clipped_to_the_speed_limit_and_the_action_to_its_box(action: Any) -> None:
    env = make(num_balls=1)
    env.reset(options={"positions": [[0.4, 0.6]], "velocities": [[1.2, -1.0]]})
    steps = play(env, [action] * 4)
    np.testing.assert_allclose(steps[-1][4]["velocities"], [[1.8, -0.7]], atol=1e-15)


@pytest.mark.parametrize("arguments", [{}, {"start": "rest", "num_balls": 4}])
def test_an_episode_is_the_simulation_that_makes_the_data(arguments: Any) -> None:
    """Replaying a start and its action in the environment gives the frames of `simulate`."""
    env = make(**arguments, config={"target": (0.0, 1e-9, 0.0, 1e-9)})
    rng = data_rng(0, "validation")
    positions, velocities = starts.sample_tables(env.config, rng, 20, env.task.start)
    shots = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
    frames = physics.simulate(positions, velocities, shots.astype(float), env.config, "python")
    actions = np.zeros((44, 2), dtype=np.float32)
    for row in range(20):
        actions[3] = shots[row]
        obs, _ = env.reset(options={"positions": positions[row], "velocities": velocities[row]})
        seen = [obs, *(step[0] for step in play(env, actions))]
        np.testing.assert_array_equal(np.array(seen), frames[row], strict=True)


@pytest.mark.parametrize(
    ("frame", "more", "steps", "won"),
    [
        *((frame, {}, frame, True) for frame in (4, 5, 17)),
        *((frame, {}, 4, True) for frame in (1, 3)),  # still inside at the first that counts
        (17, {"max_episode_steps": 17}, 17, True),  # and not truncated
        *((k, {"success": "last", "max_episode_steps": -1}, 19, k == 17) for k in (5, 17, 20)),
    ],
)
def test_a_ball_that_first_reaches_the_target_at_some_frame(
    frame: int, more: Any, steps: int, won: bool
) -> None:
    """It stays inside for 8 frames."""
    config = {"num_frames": 20} if "success" in more else None
    env = gym.make(PLANE, config=config, **more)
    x = 0.8 - 0.5 * 0.05 * (frame - 0.5)
    env.reset(options={"positions": [[0.2, 0.8], [x, 0.15]], "velocities": [[0, 0], [0.5, 0]]})
    seen = play(env, [NONE] * 44)
    quiet = steps - 1
    assert [step[1] for step in seen] == [0.0] * quiet + [float(won)]
    assert [step[2:4] for step in seen] == [(False, False)] * quiet + [(True, False)]
    assert [step[4]["is_success"] for step in seen] == [False] * quiet + [won]


WON, LOST = (4, 1.0, True, False), (44, 0.0, False, True)


@pytest.mark.parametrize(
    ("positions", "ends"),
    [
        ([[0.5, 0.5], [0.8, 0.2]], WON),  # its border belongs to the target
        ([[0.5, 0.5], [math.nextafter(0.8, 0), 0.2]], LOST),
        ([[0.85, 0.15], [0.5, 0.5]], LOST),  # the cue ball does not count
        ([[0.85, 0.15]], WON),  # unless it is alone
        ([[0.2, 0.8], [0.5, 0.8], [0.9, 0.1], [0.8, 0.8]], LOST),
        ([[0.2, 0.8], [0.9, 0.1], [0.5, 0.8], [0.8, 0.8]], WON),
    ],
)
def test_the_object_ball_alone_wins(positions: Any, ends: Any) -> None:
    env = gym.make(PLANE, num_balls=len(positions), start="rest")
    env.reset(options={"positions": positions})
    steps = play(env, [NONE] * 50)
    assert (len(steps), *steps[-1][1:4]) == ends


def test_a_ball_that_left_the_target_before_the_shot_has_not_won() -> None:
    env = make()
    env.reset(options={"positions": [[0.2, 0.8], [0.85, 0.1]], "velocities": [[0, 0], [0, 1.6]]})
    assert not play(env, [NONE] * 10)[-1][2]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (LINE, {"random_target": True}),
        (PLANE, {"start": "rest"}),
        *(
            (PLANE, {"num_balls": n, "start": start, "max_shots": None, "random_target": True})
            for n in range(2, 9)
            for start in ("moving", "rest")
        ),
    ],
)
def test_dense_rewards_are_the_progress_from_the_shot_on(name: str, more: Any) -> None:
    env = make(name, reward="dense", **more)
    rng = np.random.default_rng(0)
    for seed in range(20):
        env.reset(seed=seed)
        corner = np.array(env.target).reshape(2, 2)[0 if name == PLANE else 1 :]
        steps = play(env, rng.uniform(-1, 1, (44, 2)))
        points = np.array([np.atleast_1d(step[4]["positions"][1]) for step in steps])
        far = np.linalg.norm(points - np.clip(points, *corner.T), axis=1)
        won = [step[4]["is_success"] for step in steps]
        rewards = [step[1] for step in steps]
        assert rewards[:3] == [0.0] * 3
        assert rewards[3:] == pytest.approx(far[2:-1] - far[3:] + won[3:], abs=1e-12)


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


@pytest.mark.parametrize(("y", "won"), [(0.25, True), (0.5, True), (0.2499, False), (0.51, False)])
def test_the_ends_of_the_target_belong_to_it(y: float, won: bool) -> None:
    env = make(LINE, config={"lead_in": 19, "target": (0, 1, 0.25, 0.5)})
    env.reset(options={"positions": [0.85, y], "velocities": [0, 0]})
    steps = play(env, [[1.0, 1.0]] * 40)
    assert (len(steps), *steps[-1][1:3], steps[-1][4]["is_success"]) == (20, float(won), True, won)


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
    physics.place(x, v, position, direction, radius)
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
    x, v = [0.5, 0.25, 0.5, 0.74999], [0.0, 1.0, 0.0, 1.0]
    physics.place(x, v, 0.0, 1.0, 0.25)
    assert (x[1], v[1]) == (0.25, 1.0)


def test_config_keeps_what_it_does_not_change() -> None:
    config = make(LINE, config={"radius": 0.05}).config
    assert config == TableConfig(radius=0.05, num_frames=21, target=(0.0, 1.0, 0.23, 0.43))


# By whole shots


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

    def joined(seen: Any) -> Any:
        if isinstance(seen[0], dict):
            return {part: joined([each[part] for each in seen]) for part in ("coords", "pixels")}
        return np.concatenate(seen, axis=-1)

    wins = 0
    for seed in range(25):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        obs, info = shots.reset(seed=seed)
        seen = [frames.reset(seed=seed)[0]]
        for _ in range(lead_in):
            seen.append(frames.step(action)[0])
        assert info["frames_played"] == lead_in
        assert info["duration"] == lead_in * 0.05 == info["time"]
        np.testing.assert_equal(obs, joined(seen))
        obs, reward, terminated, truncated, info = shots.step(action)
        total, over = 0.0, False
        while not over and len(seen) <= LAST[name]:
            frame, part_reward, over, _, last = frames.step(action)
            seen.append(frame)
            total += part_reward
        np.testing.assert_equal(obs, joined(seen[-lead_in - 1 :]))
        assert (reward, terminated, truncated) == (total, True, False)
        played = len(seen) - 1 - lead_in
        assert (info.pop("frames_played"), info.pop("duration")) == (played, played * 0.05)
        np.testing.assert_equal(info, last)
        wins += info["is_success"]
    assert 0 < wins < 25


@each_form
def test_observations_have_the_shapes_of_the_docstring(name: str) -> None:
    balls = 4 if name == SHOT else 2
    shapes = {"coords": (4 * balls,), "state": (4 * (3 * balls + 2),)}
    for kind, shape in shapes.items():
        assert gym.make(name, obs_type=kind).observation_space.shape == shape
        assert f"({shape[0]},)" in str(gym.make(name).unwrapped.__doc__)
    assert gym.make(name, obs_type="pixels").observation_space.shape == (64, 64, 12)
    coords, _ = gym.make(name).reset(seed=3)
    state, _ = gym.make(name, obs_type="state").reset(seed=3)
    np.testing.assert_array_equal(state.reshape(4, -1)[:, :balls], coords.reshape(4, -1))
    np.testing.assert_allclose(state.reshape(4, -1)[:, -1], 1 - np.arange(4) / LAST[name])


@each_form
def test_pictures_of_a_shot_are_those_of_all_its_frames(name: str) -> None:
    shots: Any = gym.make(name, render_mode="rgb_array_list")
    ends: Any = gym.make(name, render_mode="rgb_array")
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
        np.testing.assert_array_equal([*watched, *shots.render()], expected)
        assert shots.render() == []
        ends.reset(seed=seed)
        ends.step(action)
        np.testing.assert_array_equal(ends.render(), expected[-1])


def test_human_mode_shows_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = []
    monkeypatch.setattr(rendering.Window, "show", lambda self, frame: shown.append(frame))
    env = gym.make(LINE_SHOT, render_mode="human")
    env.reset(seed=0)
    assert len(shown) == 4
    env.step(np.array([0.0, 1.0], dtype=np.float32))
    assert len(shown) == 21
    env.close()
