"""States, predictions, and the rollouts that world models inherit, on worlds in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State, WorldModel
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.pieces import Pieces

inf = torch.inf


@dataclass(frozen=True)
class MarkedState(State):
    """A state with one more field."""

    mark: Tensor


def make_state(batch: int = 4) -> MarkedState:
    rows = torch.arange(batch, dtype=torch.float32)
    hidden = rows.unsqueeze(1) * torch.ones(3)
    return MarkedState(hidden, -hidden, rows, hidden[:, :2], rows.long() * 10)


# -- states, predictions and pieces --------------------------------------------------------------


def test_state_rows_are_chosen_in_every_field() -> None:
    state = make_state()
    for rows in (slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])):
        part = state[rows]
        assert isinstance(part, MarkedState) and part.batch_size == 2
        assert part.mark.tolist() == [10, 20] and part.hidden[:, 0].tolist() == [1.0, 2.0]
    assert make_state(2).repeat(3).mark.tolist() == [0, 0, 0, 10, 10, 10]
    assert state.map(lambda tensor: tensor + 1).mark.tolist() == [1, 11, 21, 31]


def test_update_rows_keeps_the_old_state_and_passes_gradients_to_both() -> None:
    state = make_state()
    new = state.update_rows(torch.tensor([3, 0]), state[torch.tensor([1, 2])])
    assert new.mark.tolist() == [20, 10, 20, 10] and new.remaining.tolist() == [2.0, 1.0, 2.0, 1.0]
    assert state.mark.tolist() == [0, 10, 20, 30]
    hidden, other = torch.ones(4, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    part = replace(state[:1], hidden=other)
    replace(state, hidden=hidden).update_rows(torch.tensor([2]), part).hidden.sum().backward()
    assert hidden.grad is not None and other.grad is not None
    assert hidden.grad[:, 0].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert other.grad.tolist() == [[1.0, 1.0, 1.0]]


def test_a_line_that_was_there_before_the_first_tick_counts() -> None:
    times = torch.tensor([[0.0, 2.0, 5.0], [0.5, 2.0, inf], [inf, inf, inf], [0.0, inf, inf]])
    whole = Imagined(torch.zeros(4, 1, 2), times, make_state())
    assert whole.ticks.tolist() == [3, 2, 0, 1]
    assert whole.lines().tolist() == [3, 3, 1, 1]
    assert whole.durations.tolist() == [[2.0, 3.0], [1.5, inf], [inf, inf], [inf, inf]]
    assert replace(whole, tick_times=times + 7.0).lines(7.0).tolist() == [3, 3, 1, 1]
    assert replace(whole, tick_times=times[:, :0]).lines().tolist() == [1, 1, 1, 1]


def test_ticks_from_an_end_on_are_left_out() -> None:
    times = torch.tensor([[0.0, 2.0, 5.0], [0.5, 2.0, inf], [1.0, 2.0, 3.0]])
    whole = Imagined(torch.zeros(3, 1, 2), times, make_state(3))
    found = whole.until(torch.tensor([5, 9, 0]))
    assert found.tick_times.tolist() == [[0.0, 2.0, inf], [0.5, 2.0, inf], [inf, inf, inf]]
    assert found.ticks.tolist() == [2, 2, 0] and whole.ticks.tolist() == [3, 2, 3]


def test_pieces_are_found_by_time() -> None:
    pieces = Pieces(torch.tensor([0.0, -0.5, 0.0]), "first")
    assert pieces.add(torch.tensor([0, 2]), torch.tensor([1.0, 2.0]), "second") == 1
    assert pieces.add(torch.tensor([2]), torch.tensor([2.5]), "third") == 2
    assert pieces.contents == ["first", "second", "third"]
    assert pieces.starts.tolist() == [[0.0, 1.0, inf], [-0.5, inf, inf], [0.0, 2.0, 2.5]]
    assert pieces.last.tolist() == [3, 1, 5] and pieces.last_start.tolist() == [1.0, -0.5, 2.5]
    number, elapsed = pieces.find(torch.tensor([0.0, 1.0, 2.25, 9.0]))
    # At its very start a piece does not hold yet, unless it is the first.
    assert number.tolist() == [[0, 0, 3, 3], [1, 1, 1, 1], [2, 2, 4, 5]]
    assert elapsed.tolist() == [[0, 1, 1.25, 8], [0.5, 1.5, 2.75, 9.5], [0, 1, 0.25, 6.5]]


# -- actions at times ----------------------------------------------------------------------------


class Drift(WorldModel):
    """Moves by one a frame, plus an action at once; ticks at every action. Logs its rollouts."""

    obs_size = 1
    action_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[list[float], float, bool]] = []

    def initial_state(self, batch_size: int) -> State:
        zeros = torch.zeros(batch_size, 1)
        return State(zeros, zeros + 1.0, torch.full((batch_size,), inf), zeros)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        self.calls.append((times.tolist(), end, action is not None))
        start = state.hidden if action is None else state.hidden + action
        width = 0 if action is None else 1
        final = State(start + end, state.velocity, state.remaining, start + end)
        obs = start.unsqueeze(1) + times.view(1, -1, 1)
        return Imagined(obs, torch.zeros(state.batch_size, width), final)


def test_actions_later_cut_the_rollout_into_pieces() -> None:
    model = Drift()
    actions = torch.tensor([[[10.0], [100.0], [1000.0]]])
    times = [0.0, 1.0, 2.0, 3.5]
    imagined = model.imagine(model.initial_state(1), times, actions, [1.0, 3.0, 4.0])
    assert model.calls == [([0.0], 1.0, False), ([0.0, 1.0], 2.0, True), ([0.5], 0.5, True)]
    assert imagined.obs[0, :, 0].tolist() == [0.0, 11.0, 12.0, 113.5]
    assert imagined.tick_times.tolist() == [[1.0, 3.0]], "later actions are not played"
    assert imagined.state.hidden.item() == pytest.approx(113.5)
    early = model.imagine(model.initial_state(1), [2.0], torch.ones(1, 1, 1), [0.5])
    assert early.obs.item() == pytest.approx(3.0)


def test_bad_action_times_are_refused() -> None:
    model = Drift()
    for action_times in ([1.0, 0.5], [-1.0, 0.5]):
        with pytest.raises(ValueError, match="times must"):
            model.imagine(model.initial_state(1), [2.0], torch.zeros(1, 2, 1), action_times)
    with pytest.raises(ValueError, match="a time for each action, got none"):
        model.imagine(model.initial_state(1), [2.0], torch.zeros(1, 0, 1), [])


# -- straight lines ------------------------------------------------------------------------------


class Billiard1D(PiecewiseLinearModel):
    """Points between walls at 0 and 1: at a tick the one that left turns round.

    The latent is (position, velocity), the decoder reads the position. The exact solution is a
    triangle wave, whatever the number of ticks.
    """

    obs_size = 1
    action_size = 1
    rows_ticked = 0

    def state(self, position: Tensor, velocity: Tensor) -> State:
        position, velocity = position.double(), velocity.double()
        wall = torch.where(velocity > 0, 1.0, 0.0)
        hidden = torch.stack([position, velocity], dim=1)
        remaining = torch.where(velocity == 0, inf, (wall - position) / velocity)
        rate = torch.stack([velocity, torch.zeros_like(velocity)], dim=1)
        return State(hidden, rate, remaining, position.unsqueeze(1))

    def tick(self, state: State, action: Tensor | None = None) -> State:
        self.rows_ticked += state.batch_size
        position, velocity = state.hidden.unbind(dim=1)
        return self.state(position, -velocity if action is None else velocity + action[:, 0])

    def decode(self, hidden: Tensor) -> Tensor:
        return hidden[..., :1]

    def initial_state(self, batch_size: int) -> State:
        raise NotImplementedError

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def triangle(position: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
    """Exact positions (B, K) of points reflected between 0 and 1."""
    unfolded = (position.unsqueeze(1) + velocity.unsqueeze(1) * times) % 2.0
    return 1.0 - (1.0 - unfolded).abs()


POSITION = torch.tensor([0.1, 0.5, 0.9, 0.25], dtype=torch.float64)
VELOCITY = torch.tensor([0.3, -1.1, 0.0, 0.05], dtype=torch.float64)
TIMES = torch.tensor([0.0, 0.4, 1.0, 2.7, 2.7, 6.3, 10.0], dtype=torch.float64)


def test_a_rollout_equals_the_closed_form_and_only_rows_that_bounce_tick() -> None:
    model = Billiard1D()
    imagined = model.imagine(model.state(POSITION, VELOCITY), TIMES)
    expected = triangle(POSITION, VELOCITY, TIMES)
    torch.testing.assert_close(imagined.obs.squeeze(2), expected, rtol=0, atol=1e-12)
    # Row 0 meets a wall at 3 and 6.33, row 1 at 0.4545 and every 0.909 after, row 2 rests, row 3
    # arrives at 15.
    assert imagined.ticks.tolist() == [3, 11, 0, 0] and model.rows_ticked == 14
    assert imagined.tick_times[0].tolist() == pytest.approx([3.0, 19 / 3, 29 / 3, *[inf] * 8])
    torch.testing.assert_close(imagined.tick_times[1].diff(), torch.full((10,), 1 / 1.1).double())
    first = model.imagine(model.state(POSITION, VELOCITY), TIMES[:4])
    second = model.imagine(first.state, TIMES[4:] - TIMES[3])
    joined = torch.cat([first.obs, second.obs], dim=1)
    torch.testing.assert_close(joined, imagined.obs, rtol=0, atol=1e-12)
    assert torch.equal(first.ticks + second.ticks, imagined.ticks)
    torch.testing.assert_close(second.state.remaining, imagined.state.remaining)


def test_actions_cut_jumps_short_and_tick() -> None:
    model = Billiard1D()
    action = torch.tensor([[0.2], [0.0], [-0.4], [0.3]], dtype=torch.float64)
    imagined = model.imagine(model.state(POSITION, VELOCITY), TIMES, action, action_times=[0.4])
    assert bool((imagined.tick_times == 0.4).any(dim=1).all())
    at_action = triangle(POSITION, VELOCITY, TIMES[1:2])[:, 0]
    # None of the rows has bounced before 0.4, so the velocity there is the first one.
    after = triangle(at_action, VELOCITY + action[:, 0], TIMES[1:] - 0.4)
    torch.testing.assert_close(imagined.obs[:, 1:, 0], after, rtol=0, atol=1e-12)
    assert imagined.obs[2, 0] == 0.9
    start = model.state(torch.zeros(1), torch.zeros(1))
    actions = torch.tensor([[[0.25], [-0.75]]], dtype=torch.float64)
    imagined = model.imagine(start, [0.5, 1.0, 2.0, 2.5], actions, action_times=[0.0, 2.0])
    assert imagined.obs[0, :, 0].tolist() == [0.125, 0.25, 0.5, 0.25]
    assert imagined.tick_times.tolist() == [[0.0, 2.0]]


def test_gradient_through_bounces_equals_the_slope_of_the_wave() -> None:
    model = Billiard1D()
    action = torch.tensor([[0.1]], dtype=torch.float64, requires_grad=True)
    start = model.state(torch.tensor([0.5]), torch.tensor([0.3]))
    model.imagine(start, [9.0], action).obs.sum().backward()
    # 0.5 + 0.4 * 9 = 4.1 unfolded: two whole periods, so the slope in the velocity is +9.
    assert action.grad is not None and action.grad.item() == pytest.approx(9.0, abs=1e-12)


def test_a_rollout_of_more_ticks_than_allowed_follows_the_last_line() -> None:
    model = Billiard1D()
    model.max_ticks = 2
    imagined = model.imagine(model.state(POSITION[1:2], VELOCITY[1:2]), [10.0])
    assert imagined.ticks.tolist() == [2]
    expected = 1.0 - 1.1 * (10.0 - (0.5 / 1.1 + 1 / 1.1))
    assert imagined.obs.item() == pytest.approx(expected, abs=1e-12)


def test_the_last_line_answers_at_a_tick_s_own_moment() -> None:
    """Where a decoder is not continuous over a tick, the line that ends there is the prediction."""

    class Leaping(Billiard1D):
        def tick(self, state: State, action: Tensor | None = None) -> State:
            new = super().tick(state, action)
            return replace(new, hidden=new.hidden - new.hidden.new_tensor([0.5, 0.0]))

    model = Leaping()
    imagined = model.imagine(model.state(torch.tensor([0.5]), torch.tensor([0.5])), [1.0, 1.5])
    assert imagined.obs.flatten().tolist() == [1.0, 0.25]
