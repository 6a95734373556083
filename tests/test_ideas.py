"""What agents have in mind, on any table: shots, imagined ways, ticks."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.agents import NoShot, PlannerConfig, load_agent
from jumpy_mbrl.agents.model_free import PolicyAgent
from jumpy_mbrl.agents.planning.trace import Idea, think
from jumpy_mbrl.envs.config import TableConfig

QUICK = PlannerConfig(candidates=64, refined=2, gradient_steps=2, finalists=2, perturbations=4)


def lead_in(config: TableConfig, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    env = gym.make("Billiards2D-v0", config=config)
    obs, info = env.reset(seed=seed)
    frames = [obs]
    for _ in range(config.lead_in):
        obs, _, _, _, info = env.step(np.zeros(2, dtype=np.float32))
        frames.append(obs)
    return env, np.stack(frames), info


def play(env: Any, idea: Idea) -> tuple[list[Any], bool]:
    """The true ways after an idea's shot, frame by frame, and whether it succeeded."""
    ways = []
    while True:
        _, _, terminated, truncated, info = env.step(idea.action)
        ways.append(info["positions"])
        if terminated or truncated:
            return ways, info["is_success"]


@pytest.mark.parametrize(
    "config",
    [
        TableConfig(),
        TableConfig(target=(0.0, 0.2, 0.7, 1.0)),
        TableConfig(num_balls=3),
    ],
    ids=["default", "other target", "three balls"],
)
@pytest.mark.parametrize("name", ["simulator", "jumpy"])
def test_the_imagined_way_is_what_happens_and_ends_in_the_target(
    name: str, config: TableConfig
) -> None:
    agent = load_agent(name, config=QUICK, device="cpu")
    env, frames, info = lead_in(config, seed=1)
    idea = think(agent, frames, info["positions"], info["velocities"], config)
    assert idea.belief is not None
    assert idea.belief > 0.5
    low_x, high_x, low_y, high_y = config.target
    assert low_x <= idea.way[-1, 1, 0] <= high_x
    assert low_y <= idea.way[-1, 1, 1] <= high_y
    np.testing.assert_allclose(idea.way[0], info["positions"], atol=1e-5)
    ways, success = play(env, idea)
    assert success
    assert (len(idea.way) - 1) / 4 == len(ways)
    tolerance = 1e-3 if name == "simulator" else 0.05
    np.testing.assert_allclose(idea.way[4::4], np.array(ways), atol=tolerance)


def test_ticks_lie_on_the_imagined_way() -> None:
    env, frames, info = lead_in(TableConfig(), seed=2)
    agent = load_agent("simulator", config=QUICK, device="cpu")
    idea = think(agent, frames, info["positions"], info["velocities"], TableConfig())
    assert idea.ticks.shape[1:] == (2, 2)
    assert 1 <= len(idea.ticks) < len(idea.way)
    for ball in range(2):
        steps = np.diff(idea.way[:, ball], axis=0)
        reach = np.hypot(steps[:, 0], steps[:, 1]).max()
        for tick in idea.ticks[:, ball]:
            assert np.hypot(*(idea.way[:, ball] - tick).T).min() <= reach
    env.close()


def test_an_agent_without_a_model_has_only_a_shot() -> None:
    config = TableConfig(num_balls=3)
    _, frames, info = lead_in(config, seed=0)
    idea = think(NoShot(), frames, info["positions"], info["velocities"], config)
    np.testing.assert_array_equal(idea.action, np.zeros(2, dtype=np.float32))
    assert idea.way.shape == idea.ticks.shape == (0, 3, 2)
    assert idea.belief is None


def test_a_policy_that_reads_targets_is_shown_that_of_the_table() -> None:
    class Recorder:
        def predict(self, observation: Any, deterministic: bool) -> tuple[Any, None]:
            self.shown = observation
            return np.zeros((len(observation), 2), dtype=np.float32), None

    config = TableConfig(target=(0.0, 0.25, 0.5, 1.0))
    _, frames, info = lead_in(config, seed=0)
    for random_target, size in ((True, 8), (False, 4)):
        policy = Recorder()
        agent = PolicyAgent(policy, {"obs_type": "coords", "random_target": random_target})
        think(agent, frames, info["positions"], info["velocities"], config)
        shown = policy.shown.reshape(4, size)
        np.testing.assert_array_equal(shown[:, :4], frames)
        np.testing.assert_array_equal(shown[:, 4:], [config.target[: size - 4]] * 4)


def test_a_shot_may_be_a_tensor_with_a_graph() -> None:
    class Learner(NoShot):
        def predict(self, *args: Any, **options: Any) -> tuple[Any, Any]:
            return torch.tensor([0.5, -0.5], requires_grad=True) * 1.0, None

    config = TableConfig(num_balls=2)
    _, frames, info = lead_in(config, seed=0)
    idea = think(Learner(), frames, info["positions"], info["velocities"], config)
    assert idea.action.dtype == np.float32 and idea.action.tolist() == [0.5, -0.5]


def test_a_model_for_other_tables_is_refused() -> None:
    config = TableConfig(num_balls=3)
    _, frames, info = lead_in(config, seed=0)
    agent = load_agent("rnn", config=QUICK, device="cpu")
    with pytest.raises(ValueError, match="expected 2 balls, which the RNN was made for, got 3"):
        think(agent, frames, info["positions"], info["velocities"], config)
