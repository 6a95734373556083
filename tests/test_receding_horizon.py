"""Sequences of actions, planned at once by every planner, and played decision by decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import agents
from jumpy_mbrl.agents import CEMPlanner, FunctionObjective, GradientPlanner, RecedingHorizon
from jumpy_mbrl.models import RNN, ActionSequence, JumpyRNN, JumpyRNNConfig, RNNConfig, State
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel

PLANNERS: dict[str, Any] = {
    "gradient": (GradientPlanner, agents.PlannerConfig(learning_rate=0.1, finalists=0)),
    "cem": (CEMPlanner, agents.CEMConfig(finalists=0)),
}


class Glide(PiecewiseLinearModel):
    """A point whose velocity is a tenth of the last action; it ticks at actions alone."""

    def __init__(self, action_size: int = 1) -> None:
        super().__init__()
        self.obs_size = self.action_size = action_size
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.zeros(batch_size, 1, self.obs_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        self.seen.append((obs, action))
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.full_like(last[:, 0], 1e6), last)

    def tick(self, state: State, action: Tensor | None = None) -> State:
        assert action is not None
        return State(state.hidden, 0.1 * action, torch.full_like(state.remaining, 1e6), state.obs)

    def decode(self, hidden: Tensor) -> Tensor:
        return hidden

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


def there_and_back(obs: Tensor) -> Tensor:
    """Best at 0.3 at the first of the times and at -0.1 at the second: (B, S, 2, 1) to (B, S)."""
    return -(obs[..., 0] - obs.new_tensor([0.3, -0.1])).square().sum(dim=-1)


OBJECTIVE = FunctionObjective(there_and_back, [5.0, 10.0])


@pytest.mark.parametrize("kind", ["glide", "jumpy-rnn"])
def test_a_sequence_is_its_actions_one_by_one(kind: str) -> None:
    torch.manual_seed(0)
    model = Glide(2) if kind == "glide" else JumpyRNN(JumpyRNNConfig(2, 2, hidden_size=8))
    times = [0.5, 3.0, 4.0, 9.5]
    sequence = ActionSequence(model, (0, 3, 6))
    assert (sequence.obs_size, sequence.action_size) == (2, 6)
    frames, actions = torch.rand(5, 4, 2), (torch.rand(5, 6) * 2.0 - 1.0).requires_grad_()
    state = sequence.observe(frames)
    found = sequence.imagine(state, times, actions)
    wanted = model.imagine(model.observe(frames), times, actions.view(5, 3, 2), (0.0, 3.0, 6.0))
    torch.testing.assert_close(found.obs, wanted.obs)
    torch.testing.assert_close(found.tick_times, wanted.tick_times)
    torch.testing.assert_close(found.state.hidden, wanted.state.hidden)
    (gradient,) = torch.autograd.grad(found.obs[:, -1].sum(), actions)
    assert bool((gradient != 0.0).all())


def test_sequences_follow_each_other() -> None:
    model = Glide()
    sequence = ActionSequence(model, (0, 2))
    state, actions = model.initial_state(3), torch.rand(3, 4)
    found = sequence.imagine(state, [1.0, 9.0], actions.view(3, 2, 2), (0.0, 5.0))
    wanted = model.imagine(state, [1.0, 9.0], actions.view(3, 4, 1), (0.0, 2.0, 5.0, 7.0))
    torch.testing.assert_close(found.obs, wanted.obs)
    torch.testing.assert_close(found.tick_times, wanted.tick_times)


def test_sequences_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="with actions, got RNN with action_size=0"):
        ActionSequence(RNN(RNNConfig(action_size=0)), (0, 1))
    for times in ((1, 2), (0, 2, 2)):
        with pytest.raises(ValueError, match="begin at 0 and differ from each other"):
            ActionSequence(Glide(), times)
    for wrong in ([0, 2, 1], []):
        with pytest.raises(ValueError, match="times must be"):
            ActionSequence(Glide(), wrong)
    sequence = ActionSequence(Glide(), (0, 2))
    state = sequence.observe(torch.rand(3, 1, 1))
    with pytest.raises(ValueError, match=r"must have shape \(3, 1, 2\)"):
        sequence.imagine(state, [4.0], torch.zeros(3, 1))
    idle = sequence.imagine(state, [4.0])
    torch.testing.assert_close(idle.obs[:, 0], state.obs)


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_plans_sequences(name: str) -> None:
    planner, config = PLANNERS[name]
    plan = planner(ActionSequence(Glide(), (0, 5)), OBJECTIVE, config).plan(torch.zeros(2, 1, 1))
    wanted = torch.tensor([[0.6, -0.8]]).expand(2, -1)
    torch.testing.assert_close(plan.action, wanted, atol=0.1, rtol=0.0)
    assert plan.ticks.tolist() == [2, 2]


def test_the_first_action_of_a_plan_is_played() -> None:
    model = Glide()
    planner = GradientPlanner(ActionSequence(model, (0, 5)), OBJECTIVE, PLANNERS["gradient"][1])
    rng = np.random.default_rng(0)
    obs = rng.uniform(-0.1, 0.1, (4, 7, 1)).astype(np.float32)
    taken = rng.uniform(-1, 1, (4, 7, 1)).astype(np.float32)
    action = RecedingHorizon(planner, context_frames=3)(obs, taken)
    assert action.shape == (4, 1) and action.dtype == np.float32
    np.testing.assert_allclose(action, (0.3 - obs[:, -1]) / 0.5, atol=0.1)
    frames, actions = model.seen[-1]
    assert actions is not None
    assert np.array_equal(frames.numpy(), obs[:, -3:])
    assert np.array_equal(actions.numpy(), taken[:, -3:])
    assert RecedingHorizon(planner).context_frames == 4


def test_decisions_are_aimed_at_the_target_that_is_shown() -> None:
    objective = agents.ReachPointAtTime(None, 5.0, 0.0, [0])
    planner = GradientPlanner(ActionSequence(Glide(), (0,)), objective, PLANNERS["gradient"][1])
    obs = np.zeros((2, 3, 3), dtype=np.float32)
    obs[..., 1:] = np.array([[0.1, 0.3], [-0.4, -0.2]])[:, None]
    action = RecedingHorizon(planner)(obs, np.zeros((2, 3, 1), np.float32))
    np.testing.assert_allclose(action, [[0.4], [-0.6]], atol=0.05)


def test_pictures_are_scaled_before_the_model_reads_them() -> None:
    model = Glide()
    objective = FunctionObjective(lambda obs: -obs[..., -1, 0].abs(), [1.0])
    planner = CEMPlanner(ActionSequence(model, (0,)), objective, PLANNERS["cem"][1])
    RecedingHorizon(planner)(np.full((1, 2, 1), 51, np.uint8), np.zeros((1, 2, 1), np.float32))
    torch.testing.assert_close(model.seen[-1][0], torch.full((1, 2, 1), 0.2))


def test_planners_of_single_actions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"with the model Glide; .*ActionSequence"):
        RecedingHorizon(CEMPlanner(Glide(), OBJECTIVE))
    with pytest.raises(ValueError, match="context_frames to be an integer of at least 1, got 0"):
        RecedingHorizon(CEMPlanner(ActionSequence(Glide(), (0,)), OBJECTIVE), 0)
