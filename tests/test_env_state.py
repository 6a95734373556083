"""States that tables go back to, and factors of variation."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS, draw_pixels
from jumpy_mbrl.envs.pixels import TAN
from jumpy_mbrl.envs.rules import OBS_TYPES

PLANE, LINE, SHOT, LINE_SHOT = ENV_IDS
FACTORS = {
    "ball_colors": [[1, 2, 3], [250, 0, 9]],
    "felt_color": [90, 80, 70],
    "radius": 0.07,
    "restitution": 0.8,
}
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (60, 2)).astype(np.float32)


def make(name: str, **arguments: Any) -> Any:
    limit = {"max_episode_steps": 9, "max_shots": None} if name == PLANE else {}
    return gym.make(name, **{**limit, **arguments})


def raw(told: Any) -> Any:
    """Nested results as types, shapes and bytes."""
    if isinstance(told, dict):
        return [(key, raw(value)) for key, value in told.items()]
    if isinstance(told, (list, tuple)):
        return [raw(value) for value in told]
    return np.asarray(told).dtype.str, np.shape(told), np.asarray(told).tobytes()


def play(env: Any, first: int = 0, episodes: int = 2) -> Any:
    """All that is told and shown of the rest of an episode, and of those after it."""
    told: list[Any] = []
    for action in ACTIONS[first:]:
        told.append([*env.step(action), env.render()])
        if told[-1][2] or told[-1][3]:
            told.append([*env.reset(), env.render()])
            episodes -= 1
        if not episodes:
            break
    return raw([told, env.np_random.random(), env.np_random_seed])


def play_elsewhere(name: str, arguments: dict[str, Any], state: Any, first: int = 0) -> Any:
    env = make(name, **arguments)
    env.set_state(state)
    return play(env, first)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("name", ENV_IDS)
def test_branches_are_the_same(name: str, obs_type: str) -> None:
    arguments: dict[str, Any] = {"obs_type": obs_type, "reward": "dense", "random_target": True}
    arguments["render_mode"] = "rgb_array"
    for played in (0,) if name in (SHOT, LINE_SHOT) else (0, 3, 6):
        env = make(name, **arguments)
        env.reset(seed=3, options=FACTORS if played != 3 else None)
        for action in ACTIONS[:played]:
            env.step(action)
        state = env.get_state()
        env.close()
        kept, first = pickle.dumps(state), play(env, played)
        env.reset(seed=77)
        for each in (state, pickle.loads(kept)):
            env.set_state(each)
            assert play(env, played) == first
        assert play_elsewhere(name, arguments, pickle.loads(kept), played) == first


def test_states_go_to_other_processes_and_other_views() -> None:
    shown = {"obs_type": "dict", "render_mode": "rgb_array"}
    env, plain = make(SHOT, **shown), make(SHOT)
    env.reset(seed=1, options={"variation": ["all"]})
    state, felt = env.get_state(), env.render()[40, 40]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        there = pool.submit(play_elsewhere, SHOT, shown, state)
        assert there.result() == play(env)
    plain.set_state(state)
    env.set_state(plain.get_state())  # without trails
    assert (env.render()[40, 40] == felt).all()
    seen, expected = plain.step(ACTIONS[0]), env.step(ACTIONS[0])
    assert raw([expected[0]["coords"], *expected[1:]]) == raw(seen)
    plain.reset()
    plain.set_state(env.get_state())
    with pytest.raises(ResetNeeded):
        plain.step(ACTIONS[0])


def test_a_search_in_the_true_table_wins() -> None:
    env, rng, won = make(PLANE, max_episode_steps=44, max_shots=1), np.random.default_rng(0), 0
    for seed in range(10):
        env.reset(seed=seed)
        for _ in range(3):
            env.step(np.zeros(2))
        root, shots = env.get_state(), rng.uniform(-1, 1, (60, 2))
        values: list[float] = []
        for shot in [*shots, None]:
            env.set_state(root)
            action, over, value = shots[np.argmax(values)] if shot is None else shot, False, 0.0
            while not over:
                _, reward, terminated, truncated, _ = env.step(action)
                over, value = terminated or truncated, value + float(reward)
            values.append(value)
        assert values[-1] == max(values[:-1])
        won += int(values[-1])
    assert won >= 9


def test_other_states_are_refused() -> None:
    env = make(PLANE)
    with pytest.raises(ResetNeeded, match="before get_state"):
        env.get_state()
    env.reset(seed=0)
    state = env.get_state()
    ((x, v, frame),) = state["moments"]
    shot, lossy = make(SHOT), make(PLANE, config={"restitution": 0.9})
    for other in (shot, lossy):
        other.reset(seed=0)
    for bad, message in (
        (None, "expected a state of get_state.*got None"),
        ({"game": 1}, r"expected a state of get_state.*got \['game'\]"),
        (shot.get_state(), "this game, got .*by_shots=True instead.*max_shots=1 instead of None"),
        (lossy.get_state(), "this game, got.*config.restitution=0.9 instead of 1.0"),
        ({**state, "game": 3}, "this game"),
        ({**state, "moments": []}, "moments of the state"),
        ({**state, "moments": [(x[:2], v, frame)]}, "moments of the state"),
        ({**state, "moments": [(x, [np.nan] * 4, frame)]}, "moments of the state"),
        ({**state, "moments": [([2.0] * 4, v, frame)]}, "moments of the state"),
        ({**state, "moments": [(x, v, -1)]}, "moments of the state"),
        ({**state, "target": (1, 0, 0, 1)}, "target of the state"),
        ({**state, "hits": 3}, "hits of the state"),
        ({**state, "running": "x"}, "running of the state"),
        ({**state, "rng": {"bit_generator": "seed"}}, "rng of the state"),
        ({**state, "rng": {**state["rng"], "state": {}}}, "rng of the state"),
        ({**state, "seed": 0.5}, "seed of the state"),
        ({**state, "scene": 1}, "scene of the state"),
        ({**state, "factors": {"radius": 3}}, r"radius to be in Box\(0.05.*got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            env.set_state(bad)
        assert env.get_state() == state


@pytest.mark.parametrize("name", ENV_IDS)
def test_an_episode_has_the_factors_that_were_asked_for(name: str) -> None:
    shown = {"obs_type": "pixels", "render_mode": "rgb_array"}
    env = make(name, **shown)
    usual, picture = env.reset(seed=0)[0], env.render()
    for factor in ("radius", "restitution"):
        env.reset(seed=0, options={factor: FACTORS[factor]})
        made = make(name, **shown, config={factor: FACTORS[factor]})
        made.reset(seed=0)
        # All but the next episode, which has no such factor.
        assert play(env, episodes=1)[0][:-1] == play(made, episodes=1)[0][:-1]
    obs, info = env.reset(seed=0, options=FACTORS)
    places = info["positions"].reshape(2, -1)
    for x, y in np.c_[np.full(2, 0.5), places][:, -2:]:
        row, column = int(64 * (1 - y)), int(64 * x)
        assert obs[row, column, -3:].tolist() in FACTORS["ball_colors"]  # type: ignore[operator]
    assert obs[0, 0, -3:].tolist() == FACTORS["felt_color"] == env.render()[40, 40].tolist()
    assert [np.array(v).tolist() for v in FACTORS.values()] == [
        factor.value.tolist() for factor in env.unwrapped.variation_space.values()
    ]
    assert raw([env.reset(seed=0)[0], env.render()]) == raw([usual, picture])
    assert env.unwrapped.variation_space["ball_colors"].value[0].tolist() == list(TAN)


def test_factors_are_drawn_or_sampled() -> None:
    env = make(SHOT, obs_type="dict", channels=1, num_balls=5, start="rest")
    places = [[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8], [0.5, 0.5]]
    space = env.unwrapped.variation_space
    usual = env.reset(seed=5)[0]
    grey = env.reset(seed=5, options={"variation_values": {"felt_color": [10, 20, 30]}})[0]
    assert grey["pixels"][0, 0, 0] == round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    assert usual["coords"].tobytes() == grey["coords"].tobytes()
    for names in (["felt_color", "ball_colors"], ["all"]):
        obs, _ = env.reset(seed=5, options={"variation": names})
        first = {name: space[name].value for name in space}
        assert (obs["coords"].tobytes() == usual["coords"].tobytes()) == (names != ["all"])
        env.reset(seed=5, options={"variation": names, "positions": places})
        env.reset(options={"variation": names, "positions": places})
        assert (first["felt_color"] != space["felt_color"].value).any()
        env.reset(seed=5, options={"variation": names})
        assert raw(first) == raw({name: space[name].value for name in space})
    for _ in range(5):
        sample = space.sample()
        env.reset(options=sample)
        assert env.unwrapped.config.radius == sample["radius"] and space.contains(sample)
    pixels = gym.make(PLANE, obs_type="pixels")
    obs, info = pixels.reset(seed=0, options={"radius": 0.06})
    expected = draw_pixels(info["positions"], (0.8, 1, 0, 0.2), radius=0.06)
    assert obs.tobytes() == expected.tobytes()


def test_bad_factors_are_refused() -> None:
    env = make(PLANE)
    for options, message in (
        ({"radius": 0.3}, r"radius to be in Box\(0.05, 0.125, \(\), float64\), got 0.3"),
        ({"radius": "wide"}, "radius to be in.*got 'wide'"),
        ({"felt_color": [1, 2]}, r"felt_color to be in.*got \[1, 2\]"),
        ({"felt_color": [1, 2, 0.5]}, "felt_color to be in.*got"),
        ({"felt_color": [1, 2, 256]}, "felt_color to be in.*got"),
        ({"ball_colors": [[1, 2, 3]]}, "ball_colors to be in"),
        ({"drag": 0.1}, "unknown reset option 'drag'"),
        ({"variation": "radius"}, "variation to be a list.*got 'radius'"),
        ({"variation": ["radii"]}, "unknown factor of variation 'radii'.*'radius'"),
        ({"variation_values": 3}, "variation_values to map names.*got 3"),
        ({"variation_values": {"drag": 3}}, "unknown factor of variation 'drag'"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
    many = gym.make_vec(PLANE, 2, vectorization_mode="vector_entry_point")
    with pytest.raises(ValueError, match=r"no reset option 'radius' of many.*'sync'"):
        many.reset(options={"radius": 0.06})
    gym.make_vec(PLANE, 2, vectorization_mode="sync").reset(options={"radius": 0.06})
