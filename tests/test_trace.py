"""Plan traces on any table: actions, imagined ways, ticks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from jumpy_mbrl.agents import NoShot, PlannerConfig, load_agent
from jumpy_mbrl.agents.model_free import PolicyAgent
from jumpy_mbrl.agents.planning.trace import PlanTrace, trace_plan
from jumpy_mbrl.envs import TableConfig

QUICK = PlannerConfig(candidates=64, refined=2, gradient_steps=2, finalists=2, perturbations=4)

OTHER_TARGET = {"target": (0.0, 0.2, 0.7, 1.0)}


class Table:
    """A table at the moment of the shot."""

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        self.config = TableConfig(**settings)
        self.env: Any = gym.make("Billiards2D-v0", config=self.config)
        obs, self.info = self.env.reset(seed=seed)
        shown = [obs]
        for _ in range(self.config.lead_in):
            obs, _, _, _, self.info = self.env.step(np.zeros(2, dtype=np.float32))
            shown.append(obs)
        self.frames = np.stack(shown)

    def trace(self, agent: Any) -> PlanTrace:
        truth = self.info["positions"], self.info["velocities"]
        return trace_plan(agent, self.frames, *truth, self.config)


SEEN = [(n, s) for n in ("simulator", "jumpy") for s in ({}, OTHER_TARGET, {"num_balls": 3})]


# Of pictures one alone: what is read less exactly grows from contact to contact.
@pytest.mark.parametrize(("name", "settings"), [*SEEN, ("jumpy-pixels", {})])
def test_the_imagined_way_is_what_happens_and_ends_in_the_target(name: str, settings: Any) -> None:
    table = Table(seed=3, **settings)
    trace = table.trace(load_agent(name, config=QUICK, device="cpu"))
    assert trace.belief is not None and trace.belief > 0.5
    low_x, high_x, low_y, high_y = table.config.target
    assert low_x <= trace.imagined[-1, 1, 0] <= high_x
    assert low_y <= trace.imagined[-1, 1, 1] <= high_y
    seen = 2e-3 if name == "jumpy-pixels" else 1e-5
    np.testing.assert_allclose(trace.imagined[0], table.info["positions"], atol=seen)
    ways, over = [], False
    while not over:
        _, _, terminated, truncated, info = table.env.step(trace.action)
        ways.append(info["positions"])
        over = terminated or truncated
    assert info["is_success"] and (len(trace.imagined) - 1) / 8 == len(ways)
    tolerance = {"simulator": 1e-3, "jumpy": 0.05, "jumpy-pixels": 0.1}[name]
    np.testing.assert_allclose(trace.imagined[8::8], np.array(ways), atol=tolerance)


def test_ticks_lie_on_the_imagined_way() -> None:
    trace = Table(seed=2).trace(load_agent("simulator", config=QUICK, device="cpu"))
    assert trace.ticks.shape[1:] == (2, 2)
    assert 1 <= len(trace.ticks) < len(trace.imagined)
    for way, ticks in zip(trace.imagined.swapaxes(0, 1), trace.ticks.swapaxes(0, 1), strict=True):
        reach = np.hypot(*np.diff(way, axis=0).T).max()
        for tick in ticks:
            assert np.hypot(*(way - tick).T).min() <= reach


def test_an_agent_without_a_model_has_only_an_action() -> None:
    trace = Table(num_balls=3).trace(NoShot())
    np.testing.assert_array_equal(trace.action, np.zeros(2, dtype=np.float32))
    assert trace.imagined.shape == trace.ticks.shape == (0, 3, 2) and trace.belief is None


class Recorder:
    """A policy that keeps what it is shown."""

    observation_space = Box(0, 255, (64, 64, 12), np.uint8)

    def predict(self, observation: Any, deterministic: bool) -> tuple[Any, None]:
        self.shown = observation
        return np.zeros((len(observation), 2), dtype=np.float32), None


def test_a_policy_that_reads_targets_is_shown_that_of_the_table() -> None:
    table = Table(target=(0.0, 0.25, 0.5, 1.0))
    for random_target, size in ((True, 8), (False, 4)):
        policy = Recorder()
        table.trace(PolicyAgent(policy, {"obs_type": "coords", "random_target": random_target}))
        shown = policy.shown.reshape(4, size)
        np.testing.assert_array_equal(shown[:, :4], table.frames)
        np.testing.assert_array_equal(shown[:, 4:], [table.config.target[: size - 4]] * 4)


def test_a_policy_of_pixels_is_shown_pictures_of_the_table() -> None:
    table, policy = Table(target=(0.0, 0.25, 0.5, 1.0)), Recorder()
    table.trace(PolicyAgent(policy, {"obs_type": "pixels", "random_target": False}))
    env = gym.make("Billiards2DShot-v0", config=table.config, obs_type="pixels")
    wanted, _ = env.reset(seed=0)
    assert np.abs(policy.shown[0].astype(int) - wanted).max() <= 1  # places were float32


def test_a_model_for_other_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 balls, which the RNN was made for, got 3"):
        Table(num_balls=3).trace(load_agent("rnn", config=QUICK, device="cpu"))
