"""The papers' jumpy network: equations 4-6 by hand, the line search (eq. 7) by a slow loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.models import jumpy_rnn
from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN, JumpyRNNConfig, JumpyState

SMALL = JumpyRNNConfig(obs_size=2, action_size=2, hidden_size=8, mlp_size=8, horizon=9.0)


def make_model(config: JumpyRNNConfig = SMALL, seed: int = 0) -> JumpyRNN:
    """Random weights, with durations that vary from 1 to some frames."""
    torch.manual_seed(seed)
    model = JumpyRNN(config).double()
    with torch.no_grad():
        model.duration.weight.mul_(6.0)
        model.duration.bias.fill_(0.7)
    return model


def frames(batch: int = 5, length: int = 12) -> tuple[Tensor, Tensor]:
    """Smooth motion, with an action at frame 3 of every sequence but the last."""
    generator = torch.Generator().manual_seed(1)
    start = torch.rand(batch, 1, 2, generator=generator, dtype=torch.float64)
    speed = torch.rand(batch, 1, 2, generator=generator, dtype=torch.float64) - 0.5
    obs = start + 0.1 * speed * torch.arange(length).view(1, length, 1)
    action = torch.zeros(batch, length, 2, dtype=torch.float64)
    action[:-1, 3] = torch.rand(batch - 1, 2, generator=generator, dtype=torch.float64) - 0.5
    return obs, action


def by_hand(duration: float, horizon: float = 50.0) -> JumpyRNN:
    """h_i = tanh(x), h'_i = tanh(0.1 + a), D_i = ``duration``, x(t) = h(t), for x not negative."""
    config = JumpyRNNConfig(1, 1, 2, 1, horizon=horizon, residual=False)
    model = JumpyRNN(config).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        for network in (model.encoder, model.decoder):
            network.first.weight.fill_(1.0)
            network.last.weight.fill_(1.0)
        # Rows of the gates: reset (0, 1), update (2, 3), candidate (4, 5) of h and h'.
        model.cell.bias_ih[2:4] = -1000.0
        model.cell.weight_ih[4, 0] = 1.0
        model.cell.weight_ih[5, 1] = 1.0
        model.cell.bias_ih[5] = 0.1
        excess = duration - 1.0
        model.duration.bias.fill_(excess if excess >= 0 else 100.0 * excess)
    return model


# -- rollouts with a known answer ------------------------------------------------------------


def test_rollout_equals_the_closed_form() -> None:
    model = by_hand(duration=2.5)
    state = model.observe(torch.tensor([[[0.4]]], dtype=torch.float64))
    action = torch.tensor([[0.2]], dtype=torch.float64)
    imagined = model.imagine(state, [0.5, 2.5, 3.1, 5.0, 6.0], action)
    first, later = math.tanh(0.3), math.tanh(0.1)
    h0 = math.tanh(0.4)
    h1 = math.tanh(h0 + 2.5 * first)
    h2 = math.tanh(h1 + 2.5 * later)
    expected = [
        h0 + 0.5 * first,
        h0 + 2.5 * first,
        h1 + 0.6 * later,
        h1 + 2.5 * later,
        h2 + 1.0 * later,
    ]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=1e-14)
    assert imagined.tick_times.tolist() == [[0.0, 2.5, 5.0]]
    assert imagined.state.remaining.tolist() == pytest.approx([1.5])


@pytest.mark.parametrize(("predicted", "used"), [(0.2, 1.0), (-4.0, 1.0), (3.5, 3.5), (80.0, 6.0)])
def test_durations_are_held_between_one_frame_and_the_horizon(
    predicted: float, used: float
) -> None:
    model = by_hand(duration=predicted, horizon=6.0)
    hidden = torch.zeros(1, 1, dtype=torch.float64)
    assert model._duration(hidden).item() == pytest.approx(predicted)
    state = model.tick(model.observe(torch.zeros(1, 1, 1, dtype=torch.float64)))
    assert state.remaining.item() == pytest.approx(used)


@pytest.mark.parametrize("residual", [True, False])
def test_tick_reads_the_last_latent_and_how_far_it_moved(residual: bool) -> None:
    """Equation 4, written out with torch's own GRU cell."""
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.tick(model.observe(obs[:, :3], action[:, :3]), action[:, 3])
    leapt = model.imagine(state, [0.6]).state
    assert isinstance(leapt, JumpyState)
    ticked = model.tick(leapt)
    latent, moved = state.hidden[:, :4], 0.6 * state.velocity[:, :4]
    features = model.encoder(model.decode(state.hidden + 0.6 * state.velocity))
    inputs = torch.cat([features, torch.zeros(5, 2)], dim=1)
    both = model.cell(inputs, torch.cat([latent, moved], dim=1))
    torch.testing.assert_close(ticked.hidden[:, :4], both[:, :4])
    torch.testing.assert_close(ticked.velocity[:, :4], both[:, 4:])


def test_lines_begin_at_the_frame_that_the_tick_read() -> None:
    """x(t) = x(tau) + f(h(t), h') - f(h(tau), h'), written out."""
    model = make_model()
    obs, action = frames()
    state = model.tick(model.observe(obs[:, :3], action[:, :3]), action[:, 3])
    assert state.hidden.shape == (5, 4 + 4 + 2)
    latent, velocity = state.hidden[:, :4], state.velocity[:, :4]
    assert torch.equal(state.hidden[:, 4:8], velocity) and not state.velocity[:, 4:].any()

    def shape(elapsed: float) -> Tensor:
        out: Tensor = model.decoder(torch.cat([latent + elapsed * velocity, velocity], dim=1))
        return out

    times = [0.0, 0.4, 0.9]
    seen = model.imagine(state, times).obs
    for k, elapsed in enumerate(times):
        torch.testing.assert_close(seen[:, k], obs[:, 2] + shape(elapsed) - shape(0.0))
    torch.testing.assert_close(model.decode(state.hidden), obs[:, 2])


def test_frames_decoded_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (obs, action) = make_model(), frames()
    times = [0.5, 1.0, 4.25, 7.0]
    whole = model.imagine(model.observe(obs), times, action[:, 3]).obs
    assert whole.requires_grad
    monkeypatch.setattr(jumpy_rnn, "_AT_ONCE", 3)
    with torch.no_grad():
        pieces = model.imagine(model.observe(obs), times, action[:, 3]).obs
    torch.testing.assert_close(pieces, whole.detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("residual", [True, False])
def test_observing_equals_ticking_at_every_real_frame(residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.initial_state(5)
    for t in range(6):
        state = model.tick(replace(state, obs=obs[:, t]), action[:, t])
        state = replace(state, hidden=state.hidden + state.velocity)
    observed = model.observe(obs[:, :7], action[:, :7])
    torch.testing.assert_close(observed.hidden[:, :4], state.hidden[:, :4])
    torch.testing.assert_close(observed.anchor, state.anchor)
    assert torch.equal(observed.obs, obs[:, 6])
    assert bool((observed.remaining == 0).all())


def test_two_jumps_of_one_frame_equal_one_of_two() -> None:
    model = by_hand(duration=3.0)
    obs = torch.tensor([[[0.2]], [[0.7]]], dtype=torch.float64)
    start = model.imagine(model.observe(obs), [0.0], torch.full((2, 1), 0.3).double()).state
    one = model.imagine(start, [1.0])
    two = model.imagine(one.state, [1.0])
    once = model.imagine(start, [2.0])
    assert one.ticks.tolist() == two.ticks.tolist() == once.ticks.tolist() == [0, 0]
    torch.testing.assert_close(two.obs, once.obs, rtol=0, atol=1e-15)
    torch.testing.assert_close(two.state.hidden, once.state.hidden, rtol=0, atol=1e-15)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("cut", [0.0, 0.3, 1.0, 4.7])
def test_rollout_cut_anywhere_goes_on_the_same(cut: float, residual: bool) -> None:
    """Ticks in between included: the state holds all that the next tick reads."""
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.observe(obs[:, :4], action[:, :4])
    times = torch.tensor([4.7, 6.2, 9.0, 14.3], dtype=torch.float64)
    whole = model.imagine(state, times, action[:, 3])
    first = model.imagine(state, [cut], action[:, 3])
    second = model.imagine(first.state, times - cut)
    assert torch.equal(first.ticks + second.ticks, whole.ticks)
    assert int(whole.ticks.min()) > 4
    torch.testing.assert_close(second.obs, whole.obs)
    torch.testing.assert_close(second.state.hidden, whole.state.hidden)


def test_decoding_between_frames_follows_the_latent_line() -> None:
    model = make_model()
    obs, action = frames()
    state = model.imagine(model.observe(obs[:, :4], action[:, :4]), [0.0], action[:, 3]).state
    times = torch.tensor([0.1, 0.37, 0.9], dtype=torch.float64)
    imagined = model.imagine(state, times)
    latents = state.hidden.unsqueeze(1) + state.velocity.unsqueeze(1) * times.view(1, 3, 1)
    torch.testing.assert_close(imagined.obs, model.decode(latents))


@pytest.mark.parametrize("residual", [True, False])
def test_gradient_with_respect_to_the_shot_equals_finite_differences(residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames(batch=2)
    state = model.observe(obs[:, :4], action[:, :4])

    def prediction(shot: Tensor) -> Tensor:
        return model.imagine(state, [3.3, 7.0], shot).obs

    shot = torch.tensor([[0.3, -0.5], [0.1, 0.8]], dtype=torch.float64, requires_grad=True)
    imagined = model.imagine(state, [7.0], shot)
    assert bool((imagined.ticks > 1).all())
    # Some durations are inside their bounds: the gradient flows through the tick times too.
    assert imagined.tick_times.requires_grad
    assert torch.autograd.gradcheck(prediction, (shot,), eps=1e-7, atol=1e-6)


# -- the line search -------------------------------------------------------------------------


@dataclass(frozen=True)
class SlowLine:
    """A line found by the slow loop."""

    row: int
    frame: int
    jump: int
    state: JumpyState
    cut: bool
    own: bool


def slow_lines(
    model: JumpyRNN,
    obs: Tensor,
    action: Tensor,
    due: Tensor,
    u: Tensor,
    lengths: list[int] | None = None,
) -> list[SlowLine]:
    """Equation 7 word for word: one sequence at a time, one jump at a time, growing it by one."""
    go_on, own = u < model.config.forced_jumps, u[:, -1] < model.config.own_jumps
    found = []
    for row in range(obs.shape[0]):
        last = (obs.shape[1] if lengths is None else lengths[row]) - 1
        state = model.initial_state(1)
        frame = 0
        while frame < last:
            state = replace(state, obs=obs[row : row + 1, frame])
            state = model.tick(state, action[row : row + 1, frame])
            jump, predicted = 1, int(state.remaining + u[row, frame])
            while frame + jump < last:
                now = frame + jump
                ahead = model.decode(state.hidden + (jump + 1) * state.velocity)
                accurate = (ahead - obs[row, now + 1]).square().mean() < model.config.epsilon
                keep = jump + 1 <= predicted if own[row] else accurate or go_on[row, now]
                if due[row, now] or not keep:
                    break
                if jump + 1 > model.config.horizon:
                    break
                jump += 1
            end = frame + jump
            cut = bool(due[row, end]) if end < last else end < obs.shape[1] - 1
            found.append(SlowLine(row, frame, jump, state, cut, bool(own[row])))
            state = replace(state, hidden=state.hidden + jump * state.velocity)
            frame += jump
    return found


def search_problem(
    residual: bool, epsilon: float, horizon: float, **settings: Any
) -> tuple[JumpyRNN, dict[str, Tensor]]:
    config = replace(
        SMALL, residual=residual, epsilon=epsilon, horizon=horizon, forced_jumps=0.1, priming=2
    )
    model = make_model(replace(config, **settings), seed=3)
    obs, action = frames(batch=12, length=16)
    # Lines that start near the frames, as those of a trained model do.
    with torch.no_grad():
        model.decoder.last.weight.mul_(0.5)
        model.decoder.last.bias.copy_(obs.mean(dim=(0, 1)))
    u = torch.rand(12, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return model, {"obs": obs, "action": action, "u": u}


@pytest.mark.parametrize("own", [0.0, 0.5])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("epsilon", "horizon"), [(0.0, 40.0), (0.03, 40.0), (0.1, 4.0), (9.0, 40)])
def test_line_search_equals_the_slow_loop(
    residual: bool, epsilon: float, horizon: float, own: float
) -> None:
    model, batch = search_problem(residual, epsilon, horizon, own_jumps=own)
    obs, action, u = batch["obs"], batch["action"], batch["u"]
    due = model._ticks_due(action)
    ticks = model.search_ticks(obs, action, due, u)
    expected = torch.zeros_like(ticks)
    lines = slow_lines(model, obs, action, due, u)
    for line in lines:
        expected[line.row, line.frame] = True
    assert torch.equal(ticks, expected)
    assert len({line.row for line in lines if line.own}) == int((u[:, -1] < own).sum())
    if own:
        # As predicted, whatever the error: up to a frame more or less than it says.
        mine = [line for line in lines if line.own]
        assert len(mine) < len(lines)
        assert len({line.jump for line in mine if not line.cut}) >= 3
        lines = [line for line in lines if not line.own]
    longest = max(line.jump for line in lines)
    assert longest <= horizon
    if epsilon == 0.0:
        assert 1 < longest < 5  # forced jumps only
    if epsilon == 9.0:
        # Everything is accurate: only priming (2 frames) and the action, of all but the last row.
        assert {line.jump for line in lines if line.row != 11} == {1, 2, 12}
        assert all(line.jump in (1, 14) for line in lines if line.row == 11)
    if epsilon in (0.03, 0.1):
        assert len({line.jump for line in lines if not line.cut}) >= 3


@pytest.mark.parametrize("lengths", [None, [16, 2, 3, 4, 5, 7, 9, 10, 12, 14, 15, 16]])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(
    ("weight", "burn_in", "own"), [(1.0, 1, 0.0), (4.0, 1, 0.0), (4.0, 3, 0.0), (4.0, 3, 0.5)]
)
def test_loss_and_its_gradient_equal_those_of_the_slow_loop(
    residual: bool, lengths: list[int] | None, weight: float, burn_in: int, own: float
) -> None:
    model, batch = search_problem(residual, epsilon=0.03, horizon=6.0, own_jumps=own)
    model.config = replace(model.config, action_weight=weight, burn_in=burn_in)
    obs, action = batch["obs"], batch["action"]
    if lengths is not None:
        batch["length"] = torch.tensor(lengths)
    loss, log = model.loss(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()

    lines = slow_lines(model, obs, action, model._ticks_due(action), batch["u"], lengths)
    assert any(line.own for line in lines) == bool(own)
    errors, durations, weights = [], [], []
    for line in lines:
        end = line.frame + line.jump
        missed = end < obs.shape[1] - 1 and not (line.cut or line.own)
        # A line that begins at the real frame is not judged there.
        for ahead in range(int(residual), line.jump + (2 if missed else 1)):
            predicted = model.decode(line.state.hidden + ahead * line.state.velocity)[0]
            errors.append((predicted - obs[line.row, line.frame + ahead]).square().mean())
            acted = bool(action[line.row, line.frame].any())
            weights.append((weight if acted else 1.0) * (line.frame >= burn_in - 1))
        if not (line.cut or line.own):
            durations.append((model._duration(line.state.anchor) - line.jump).square())
    weighted = torch.stack(errors) @ torch.tensor(weights).double() / sum(weights)
    assert weights.count(weight) > 10 and (weight == 1.0 or weights.count(1.0) > 10)
    slow = weighted + 1e-5 * torch.stack(durations).mean()
    slow.backward()
    torch.testing.assert_close(loss, slow)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    mean_jump = sum(line.jump for line in lines) / len(lines)
    assert float(log["mean_jump"]) == pytest.approx(mean_jump)


# -- whole jumps -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "whole"), [(1.2, 1.0), (2.6, 3.0), (3.4, 3.0), (0.2, 1.0), (6.2, 6.0), (7.4, 6.0)]
)
def test_whole_jumps_last_whole_frames_within_the_horizon(predicted: float, whole: float) -> None:
    model = by_hand(predicted, horizon=6.7)
    model.config = replace(model.config, whole_jumps=True)
    state = model.observe(torch.tensor([[[0.4]]], dtype=torch.float64))
    imagined = model.imagine(state, [2.0 * whole + 0.5], torch.full((1, 1), 0.3).double())
    assert imagined.tick_times.tolist() == [[0.0, whole, 2.0 * whole]]


def test_whole_jumps_pass_the_gradients_of_what_was_rounded() -> None:
    gradients = list[Tensor]()
    for predicted, whole_jumps in ((3.0, False), (2.7, True)):
        model = by_hand(predicted)
        model.config = replace(model.config, whole_jumps=whole_jumps)
        state = model.observe(torch.tensor([[[0.4]]], dtype=torch.float64))
        imagined = model.imagine(state, [5.2], torch.full((1, 1), 0.3).double())
        imagined.obs.sum().backward()
        gradient = model.duration.bias.grad
        assert gradient is not None
        gradients.append(gradient)
    assert float(gradients[0].abs()) > 1e-3
    torch.testing.assert_close(gradients[1], gradients[0])


def test_training_knows_no_whole_jumps() -> None:
    """All of its jumps are whole already, and durations are taught as they are predicted."""
    model, batch = search_problem(True, epsilon=1e-2, horizon=9.0)
    loss = model.loss(batch)[0]
    model.config = replace(model.config, whole_jumps=True)
    assert torch.equal(model.loss(batch)[0], loss)


# -- constant jumps --------------------------------------------------------------------------


@pytest.mark.parametrize("predicted", [0.2, 2.0, 80.0])
def test_constant_jumps_tick_at_multiples_whatever_the_durations(predicted: float) -> None:
    model, free = by_hand(predicted, horizon=2.0), by_hand(duration=3.0)
    model.config = replace(model.config, constant_jump=3)
    state = model.observe(torch.tensor([[[0.4]], [[0.1]]], dtype=torch.float64))
    imagined = model.imagine(state, [0.5, 9.0, 10.0], torch.full((2, 1), 0.3).double())
    assert imagined.tick_times.tolist() == [[0.0, 3.0, 6.0, 9.0]] * 2
    assert imagined.state.remaining.tolist() == [2.0, 2.0]
    same = free.imagine(state, [0.5, 9.0, 10.0], torch.full((2, 1), 0.3).double())
    torch.testing.assert_close(imagined.obs, same.obs, rtol=0, atol=1e-14)


def test_an_action_cuts_a_constant_jump_and_the_next_begin_there() -> None:
    model = by_hand(duration=1.0)
    model.config = replace(model.config, constant_jump=4)
    state = model.observe(torch.tensor([[[0.4]]], dtype=torch.float64))
    action = torch.tensor([[[0.2]]], dtype=torch.float64)
    imagined = model.imagine(state, [12.0], action, action_times=[5.5])
    assert imagined.tick_times.tolist() == [[0.0, 4.0, 5.5, 9.5]]


@pytest.mark.parametrize("residual", [True, False])
def test_constant_jumps_are_trained_on_their_own_lines(residual: bool) -> None:
    """Ticks at the frames of priming, every third frame from the last of them, and at actions."""
    model, batch = search_problem(residual, epsilon=0.0, horizon=2.0)
    model.config = replace(model.config, constant_jump=3, horizon=2.0)
    obs, action = batch["obs"], batch["action"]
    due = model._ticks_due(action)
    assert due[-1].nonzero().flatten().tolist() == [0, 1, 4, 7, 10, 13]
    assert due[0].nonzero().flatten().tolist() == [0, 1, 3, 4, 7, 10, 13]
    loss, log = model.loss(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()

    model.config = replace(model.config, horizon=99.0)
    lines = slow_lines(model, obs, action, due, torch.zeros_like(batch["u"]))
    errors = [
        (model.decode(line.state.hidden + ahead * line.state.velocity)[0] - real).square()
        for line in lines
        for ahead, real in enumerate(obs[line.row, line.frame : line.frame + line.jump + 1])
        if ahead or not residual
    ]
    durations = [
        (model._duration(line.state.anchor) - line.jump).square() for line in lines if not line.cut
    ]
    slow = torch.stack(errors).mean() + 1e-5 * torch.stack(durations).mean()
    slow.backward()
    torch.testing.assert_close(loss, slow)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    assert float(log["mean_jump"]) == pytest.approx(12 * 15 / len(lines))
    # No search: neither the tolerance nor chance has a say.
    model.config = replace(model.config, epsilon=9.0, horizon=2.0)
    torch.testing.assert_close(model.loss({**batch, "u": torch.zeros_like(batch["u"])})[0], loss)


# -- learning --------------------------------------------------------------------------------


def test_the_tolerance_falls_along_a_cosine() -> None:
    model = make_model(replace(SMALL, epsilon=1e-4, first_epsilon=1.0))
    steps = torch.tensor([0.0, 1.0 / 3.0, 0.5, 2.0 / 3.0, 1.0], dtype=torch.float64)
    tolerances = [float(model.epsilon_at(step)) for step in steps]
    assert tolerances == pytest.approx([1.0, 1e-1, 1e-2, 1e-3, 1e-4])
    assert model.epsilon_at() == 1e-4, "once trained, it has fallen"
    assert make_model(replace(SMALL, epsilon=1e-4)).epsilon_at(steps[0]) == 1e-4


def test_lines_are_long_while_the_tolerance_is_large() -> None:
    model, batch = search_problem(
        True, epsilon=1e-12, horizon=40.0, first_epsilon=9.0, forced_jumps=0.0
    )
    quiet = {"obs": batch["obs"]}  # without actions, which end lines
    jumps = [
        float(model.loss({**quiet, "progress": torch.tensor(progress)})[1]["mean_jump"])
        for progress in (0.0, 0.3, 0.9)
    ]
    assert jumps[0] == 15.0 / 2.0 and jumps[0] >= jumps[1] > jumps[2] == 1.0
    assert float(model.loss(quiet)[1]["mean_jump"]) == 1.0


def test_own_jumps_need_a_number_below_their_rate() -> None:
    model, batch = search_problem(True, epsilon=0.0, horizon=40.0, own_jumps=0.5, forced_jumps=0.0)
    for last, jumps in ((0.5, False), (0.49, True)):
        batch["u"][:, -1] = last
        assert (float(model.loss(batch)[1]["mean_jump"]) > 1.5) == jumps
    del batch["u"]
    assert float(model.loss(batch)[1]["mean_jump"]) == 1.0


def test_forced_jumps_need_a_number_below_their_rate() -> None:
    model, batch = search_problem(True, epsilon=0.0, horizon=40.0)
    never, always = torch.ones_like(batch["u"]), torch.zeros_like(batch["u"])
    without = {name: batch[name] for name in ("obs", "action")}
    assert float(model.loss({**batch, "u": never})[1]["mean_jump"]) == 1.0
    assert float(model.loss(without)[1]["mean_jump"]) == 1.0
    assert float(model.loss({**batch, "u": always})[1]["mean_jump"]) > 3.0


def test_search_ticks_leaves_no_gradient_and_no_random_trace() -> None:
    model, batch = search_problem(True, epsilon=0.03, horizon=6.0)
    before = torch.get_rng_state()
    model.loss(batch)
    assert torch.equal(before, torch.get_rng_state())


def test_learns_to_jump_along_lines() -> None:
    """The papers' first task (section 3.1): one speed, a random height, to be jumped over."""
    torch.manual_seed(0)
    model = JumpyRNN(JumpyRNNConfig(2, 0, hidden_size=32, mlp_size=32, epsilon=1e-3))
    generator = torch.Generator().manual_seed(2)

    def lines(batch: int) -> dict[str, Tensor]:
        across = (torch.arange(13.0) / 13).expand(batch, 13)
        height = torch.rand(batch, 1, generator=generator).expand(batch, 13)
        u = torch.rand(batch, 13, generator=generator)
        return {"obs": torch.stack([across, height], dim=2), "u": u}

    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 400)
        optimizer.zero_grad()
        loss, log = model.loss(lines(64))
        loss.backward()
        optimizer.step()
    # Ticks at the 4 frames of priming, then one jump to the end: 12 frames in 4 ticks are 3.
    assert float(log["mean_jump"]) > 2.5
    test = lines(128)["obs"]
    with torch.no_grad():
        imagined = model.imagine(model.observe(test[:, :4]), [float(t) for t in range(1, 10)])
    error = (imagined.obs - test[:, 4:]).square().mean()
    standing_still = (test[:, 3:4] - test[:, 4:]).square().mean()
    assert error < 0.1 * standing_still
    assert 9 * 128 / float(imagined.ticks.sum()) > 3.0


# -- refusals --------------------------------------------------------------------------------


def test_a_foreign_state_is_refused() -> None:
    model = make_model()
    state = model.initial_state(2)
    plain = State(state.hidden, state.velocity, state.remaining, state.obs)
    with pytest.raises(ValueError, match="needs its own JumpyState, got State"):
        model.imagine(plain, [1.0])


def test_bad_frames_and_actions_are_refused() -> None:
    model = make_model()
    obs, action = frames()
    with pytest.raises(ValueError, match=r"obs must have shape \(B, T, 2\)"):
        model.observe(torch.zeros(3, 5, 4))
    with pytest.raises(ValueError, match=r"action must have shape \(5, 4, 2\)"):
        model.observe(obs[:, :4], action[:, :3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 7}, "even, half latent and half velocity, got 7"),
        ({"horizon": 0.5}, "horizon must be at least one frame, got 0.5"),
        ({"epsilon": -1.0}, "must not be negative"),
        ({"epsilon": float("nan")}, "must not be negative, got nan"),
        ({"first_epsilon": 1e-5}, "first_epsilon must be 0, or at least epsilon"),
        ({"first_epsilon": 1.0, "epsilon": 0.0}, "which must be positive then, got 1.0 and 0.0"),
        ({"first_epsilon": math.nan}, "first_epsilon must be 0, or at least epsilon"),
        ({"forced_jumps": 1.5}, r"forced_jumps must lie in \[0, 1\], got 1.5"),
        ({"own_jumps": -0.1}, r"own_jumps must lie in \[0, 1\], got -0.1"),
        ({"priming": 0}, "priming must be an integer of at least 1, got 0"),
        ({"constant_jump": -1}, "constant_jump must be an integer of at least 0, got -1"),
        ({"constant_jump": 2.0}, "constant_jump must be an integer of at least 0, got 2.0"),
        ({"constant_jump": True}, "constant_jump must be an integer of at least 0, got True"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
