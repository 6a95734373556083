"""The shared rollout of jumpy models, on models whose rollout is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel


class Billiard1D(PiecewiseLinearModel):
    """Points between walls at 0 and 1: at a tick the one that left turns round.

    The latent is (position, velocity), the decoder reads the position. The exact solution is a
    triangle wave, whatever the number of ticks.
    """

    obs_size = 1
    action_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.rows_ticked = 0

    def state(self, position: Tensor, velocity: Tensor) -> State:
        position, velocity = position.double(), velocity.double()
        wall = torch.where(velocity > 0, 1.0, 0.0)
        remaining = torch.where(velocity == 0, torch.inf, (wall - position) / velocity)
        return State(
            hidden=torch.stack([position, velocity], dim=1),
            velocity=torch.stack([velocity, torch.zeros_like(velocity)], dim=1),
            remaining=remaining,
            obs=position.unsqueeze(1),
        )

    def tick(self, state: State, action: Tensor | None = None) -> State:
        self.rows_ticked += state.batch_size
        position, velocity = state.hidden.unbind(dim=1)
        velocity = -velocity if action is None else velocity + action[:, 0]
        return self.state(position, velocity)

    def decode(self, hidden: Tensor) -> Tensor:
        return hidden[..., :1]

    def initial_state(self, batch_size: int) -> State:
        zeros = torch.zeros(batch_size)
        return self.state(zeros, zeros)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        return self.state(obs[:, -1, 0], obs[:, -1, 0] - obs[:, -2, 0])

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def triangle(position: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
    """Exact positions (B, K) of points reflected between 0 and 1."""
    unfolded = (position.unsqueeze(1) + velocity.unsqueeze(1) * times) % 2.0
    return 1.0 - (1.0 - unfolded).abs()


POSITION = torch.tensor([0.1, 0.5, 0.9, 0.25], dtype=torch.float64)
VELOCITY = torch.tensor([0.3, -1.1, 0.0, 0.05], dtype=torch.float64)
TIMES = torch.tensor([0.0, 0.4, 1.0, 2.7, 2.7, 6.3, 10.0], dtype=torch.float64)


def test_rollout_equals_the_closed_form_at_real_times() -> None:
    model = Billiard1D()
    imagined = model.imagine(model.state(POSITION, VELOCITY), TIMES)
    expected = triangle(POSITION, VELOCITY, TIMES)
    torch.testing.assert_close(imagined.obs.squeeze(2), expected, rtol=0, atol=1e-12)


def test_ticks_are_at_the_bounces_and_only_the_rows_that_bounce_tick() -> None:
    model = Billiard1D()
    imagined = model.imagine(model.state(POSITION, VELOCITY), TIMES)
    # Row 0 meets a wall at 3 and 6.33, row 1 at 0.4545 and every 0.909 after, row 2 rests, row 3
    # arrives at 15.
    assert imagined.ticks.tolist() == [3, 11, 0, 0]
    assert model.rows_ticked == 14
    first = imagined.tick_times[0]
    torch.testing.assert_close(
        first[:3], torch.tensor([3.0, 3 + 10 / 3, 3 + 20 / 3], dtype=torch.float64)
    )
    assert bool(first[3:].isinf().all())
    torch.testing.assert_close(imagined.durations[1, :10], torch.full((10,), 1 / 1.1).double())
    assert bool(imagined.durations[1, 10:].isinf().all())


def test_state_at_the_end_continues_the_rollout_exactly() -> None:
    model = Billiard1D()
    start = model.state(POSITION, VELOCITY)
    whole = model.imagine(start, TIMES)
    first = model.imagine(start, TIMES[:4])
    second = model.imagine(first.state, TIMES[4:] - TIMES[3])
    joined = torch.cat([first.obs, second.obs], dim=1)
    torch.testing.assert_close(joined, whole.obs, rtol=0, atol=1e-12)
    assert torch.equal(first.ticks + second.ticks, whole.ticks)
    torch.testing.assert_close(second.state.hidden, whole.state.hidden)
    torch.testing.assert_close(second.state.remaining, whole.state.remaining)


def test_action_cuts_the_jump_short_and_ticks() -> None:
    model = Billiard1D()
    action = torch.tensor([[0.2], [0.0], [-0.4], [0.3]], dtype=torch.float64)
    imagined = model.imagine(model.state(POSITION, VELOCITY), TIMES, action, action_times=[0.4])
    assert bool((imagined.tick_times == 0.4).any(dim=1).all())
    at_action = triangle(POSITION, VELOCITY, TIMES[1:2])[:, 0]
    # None of the rows has bounced before 0.4, so the velocity there is the first one.
    after = triangle(at_action, VELOCITY + action[:, 0], TIMES[1:] - 0.4)
    torch.testing.assert_close(imagined.obs[:, 1:, 0], after, rtol=0, atol=1e-12)
    assert imagined.obs[2, 0] == 0.9


def test_two_actions_at_their_times() -> None:
    model = Billiard1D()
    start = model.state(torch.zeros(1), torch.zeros(1))
    actions = torch.tensor([[[0.25], [-0.75]]], dtype=torch.float64)
    times = [0.5, 1.0, 2.0, 2.5]
    imagined = model.imagine(start, times, actions, action_times=[0.0, 2.0])
    assert imagined.obs[0, :, 0].tolist() == [0.125, 0.25, 0.5, 0.25]
    assert imagined.tick_times.tolist() == [[0.0, 2.0]]


def test_gradient_through_bounces_equals_the_slope_of_the_wave() -> None:
    model = Billiard1D()
    action = torch.tensor([[0.1]], dtype=torch.float64, requires_grad=True)
    start = model.state(torch.tensor([0.5]), torch.tensor([0.3]))
    model.imagine(start, [9.0], action).obs.sum().backward()
    # 0.5 + 0.4 * 9 = 4.1 unfolded: two whole periods, so the slope in the velocity is +9.
    assert action.grad is not None
    assert action.grad.item() == pytest.approx(9.0, abs=1e-12)


def test_rollout_of_more_ticks_than_allowed_follows_the_last_line() -> None:
    model = Billiard1D()
    model.max_ticks = 2
    imagined = model.imagine(model.state(POSITION[1:2], VELOCITY[1:2]), [10.0])
    assert imagined.ticks.tolist() == [2]
    second_bounce = 0.5 / 1.1 + 1 / 1.1
    expected = 1.0 - 1.1 * (10.0 - second_bounce)
    assert imagined.obs.item() == pytest.approx(expected, abs=1e-12)


def test_no_rows_give_no_predictions_and_take_no_time() -> None:
    model = Billiard1D()
    state = model.state(POSITION, VELOCITY)[:0]
    ticks = torch.zeros(0, 1)
    assert model.imagine(state, [1.0, 2.0]).obs.shape == (0, 2, 1)
    imagined = model.imagine(state, [1.0, 2.0], ticks)
    assert imagined.obs.shape == (0, 2, 1)
    assert imagined.tick_times.shape[1] <= 1


def test_last_line_answers_at_a_tick_s_own_moment() -> None:
    """Where a decoder is not continuous over a tick, the line that ends there is the prediction."""

    class Leaping(Billiard1D):
        def tick(self, state: State, action: Tensor | None = None) -> State:
            new = super().tick(state, action)
            return replace(new, hidden=new.hidden - new.hidden.new_tensor([0.5, 0.0]))

    model = Leaping()
    imagined = model.imagine(model.state(torch.tensor([0.5]), torch.tensor([0.5])), [1.0, 1.5])
    assert imagined.obs.flatten().tolist() == [1.0, 0.25]
