"""The recurrent models: rollouts in closed form, their losses and searches by slow loops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.models import (
    ODERNN,
    JumpyRNN,
    JumpyRNNConfig,
    ODERNNConfig,
    RNNConfig,
    jumpy_rnn,
    make_model,
)
from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.jumpy_rnn import JumpyState
from jumpy_mbrl.models.ode_rnn import ADAPTIVE_SOLVERS, FIXED_STEP_SOLVERS, ODEState

SIZES: Any = {"obs_size": 2, "action_size": 2, "hidden_size": 8, "mlp_size": 8}
SMALL_RNN = RNNConfig(**SIZES)
SMALL_ODE = ODERNNConfig(**SIZES, dynamics_size=8)
SMALL = JumpyRNNConfig(**SIZES, horizon=9.0)
RATE = -0.7
KEEP = 1 / (1 + math.exp(-0.4))


def made(config: Any, seed: int = 0) -> Any:
    """A model of random weights in double precision; of a jumpy one with durations that vary."""
    torch.manual_seed(seed)
    model: Any = make_model(config).double()
    if isinstance(model, JumpyRNN):
        with torch.no_grad():
            model.duration.weight.mul_(6.0)
            model.duration.bias.fill_(0.7)
    return model


def seen(*values: float) -> Tensor:
    """Frames of one sequence of single numbers."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def noise(batch: int = 3, length: int = 5) -> tuple[Tensor, Tensor]:
    """Random frames, with an action at each."""
    generator = torch.Generator().manual_seed(1)
    obs = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64)
    action = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64) - 0.5
    return obs, action


# -- the RNN and the ODE-RNN ---------------------------------------------------------------------


def decaying(rate: float | None = None, **settings: Any) -> Any:
    """A tick moves h to tanh(0.8 + a), KEEP of it stays; then dh/ds = rate * h; f reads it."""
    kind: Any = RNNConfig if rate is None else ODERNNConfig
    settings = settings if rate is None else {"dynamics_layers": 1, **settings}
    model: Any = make_model(kind(1, 1, 1, 1, **settings)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        input_weight, _, input_bias, bias = model._gru()
        bias[1], input_bias[2], input_weight[2, 1] = 0.4, 0.8, 1.0
        model.decoder.first.weight.fill_(1.0)
        model.decoder.last.weight.fill_(1.0)
        if rate is not None:
            model.dynamics[0].weight.fill_(rate)
    return model


def decaying_latent(time: float, action: float = 0.0, rate: float = 0.0) -> float:
    """What ``decaying`` has at ``time``, its action read at 0 and the latent 0 before."""
    hidden = 0.0
    for tick in range(max(math.ceil(time), 1)):
        goal = math.tanh(0.8 + (action if tick == 0 else 0.0))
        hidden = KEEP * hidden + (1 - KEEP) * goal
        hidden *= math.exp(rate * min(1.0, time - tick))
    return hidden


@pytest.mark.parametrize(
    ("solver", "error"),
    [("", 1e-14), ("euler", 1e-2), ("midpoint", 1e-4), ("rk4", 1e-6), ("dopri5", 5e-5)],
)
def test_a_rollout_equals_the_closed_form(solver: str, error: float) -> None:
    times, rate = [1.0, 2.0, 3.0], 0.0
    model = decaying(residual=False)
    if solver:
        times, rate = [0.125, 1.0, 1.7, 2.0], RATE
        settings = {"solver": solver, "solver_steps": 32, "rtol": 1e-6, "atol": 1e-8}
        model = decaying(rate, residual=False, **settings)
    imagined = model.imagine(model.observe(seen(0.3)), times, seen(-0.2)[0])
    expected = [decaying_latent(time, -0.2, rate) for time in times]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=error)
    assert imagined.tick_times.tolist() == [[0.0, 1.0, 2.0][: math.ceil(times[-1])]]


def test_the_solvers_are_those_of_the_closed_form() -> None:
    assert (FIXED_STEP_SOLVERS, ADAPTIVE_SOLVERS) == (("euler", "midpoint", "rk4"), ("dopri5",))


def test_rollouts_of_changes_sum_them() -> None:
    model, ode = decaying(), decaying(RATE, solver_steps=32)
    found = model.imagine(model.observe(seen(0.3)), [0.0, 1.0, 2.0]).obs
    first, second = decaying_latent(1.0), decaying_latent(2.0)
    assert found.flatten().tolist() == pytest.approx([0.3, 0.3 + first, 0.3 + first + second])
    found = ode.imagine(ode.observe(seen(0.3)), [0.0, 0.25, 1.0, 1.5]).obs
    quarter, first, half = (decaying_latent(time, rate=RATE) for time in (0.25, 1.0, 1.5))
    expected = [0.3, 0.3 + 0.25 * quarter, 0.3 + first, 0.3 + first + 0.5 * half]
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("residual", [True, False])
def test_between_frames_predictions_of_an_rnn_are_interpolated(residual: bool) -> None:
    model = made(replace(SMALL_RNN, residual=residual))
    obs, action = noise()
    state = model.observe(obs, action)
    whole = model.imagine(state, [0.0, 1.0, 2.0, 3.0], action[:, -1]).obs
    at = model.imagine(state, [0.25, 1.5, 2.0, 2.75], action[:, -1])
    left, right = whole[:, [0, 1, 2, 2]], whole[:, [1, 2, 3, 3]]
    share = torch.tensor([0.25, 0.5, 0.0, 0.75]).double().view(1, 4, 1)
    torch.testing.assert_close(at.obs, torch.lerp(left, right, share))
    assert at.ticks.tolist() == [3, 3, 3]


def test_rows_of_an_rnn_at_different_phases_are_refused() -> None:
    model = made(SMALL_RNN)
    state = model.observe(*noise())
    mixed = State.cat([model.imagine(state, [0.5]).state, state])
    with pytest.raises(ValueError, match=r"as far from the next one, got from 0 to 0\.5 frames"):
        model.imagine(mixed, [1.0])


def test_velocity_is_the_slope_of_the_latent_of_an_ode_rnn() -> None:
    model, (obs, action) = made(replace(SMALL_ODE, solver_steps=16)), noise()
    state = model.observe(obs, action)
    now, later = (model.imagine(state, [time], action[:, -1]).state for time in (0.4, 0.401))
    slope = (later.hidden - now.hidden) / 0.001
    torch.testing.assert_close(slope, now.velocity, rtol=0, atol=1e-3)
    assert now.velocity.abs().max() > 0.1


def out_of_phase(model: ODERNN) -> ODEState:
    """Three rows that tick now, in 0.7 and in 0.45 frames."""
    state = model.observe(*noise())
    parts: Any = [state[:1], *(model.imagine(state[k : k + 1], [t]).state for k, t in LATE)]
    return ODEState.cat(parts)


LATE = ((1, 0.3), (2, 0.55))


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_rows_of_an_ode_rnn_at_different_phases_are_as_if_alone(solver: str) -> None:
    model = made(replace(SMALL_ODE, solver=solver, rtol=1e-9, atol=1e-11))
    state, times = out_of_phase(model), [0.0, 0.3, 0.7, 1.0, 2.5]
    together = model.imagine(state, times)
    alone = [model.imagine(state[row : row + 1], times) for row in range(3)]
    torch.testing.assert_close(together.obs, torch.cat([a.obs for a in alone]), rtol=0, atol=1e-8)
    for name in ("hidden", "remaining", "obs"):
        wanted = torch.cat([vars(a.state)[name] for a in alone])
        torch.testing.assert_close(vars(together.state)[name], wanted, rtol=0, atol=1e-8)
    ticks = [[0.0, 1.0, 2.0], [0.7, 1.7, torch.inf], [0.45, 1.45, 2.45]]
    torch.testing.assert_close(together.tick_times, torch.tensor(ticks).double())
    for cut in (0.2, 0.45, 0.6, 1.0, 2.3):
        first = model.imagine(state, [cut])
        second = model.imagine(first.state, [2.5 - cut])
        torch.testing.assert_close(second.obs, together.obs[:, -1:], rtol=1e-6, atol=1e-8)
        assert torch.equal(first.ticks + second.ticks, together.ticks)


@pytest.mark.parametrize(("weight", "burn_in"), [(1.0, 1), (3.0, 1), (1.0, 2), (3.0, 3)])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("small", [SMALL_RNN, SMALL_ODE], ids=["RNN", "ODE-RNN"])
def test_the_loss_is_the_error_of_one_frame_predictions(
    small: Any, residual: bool, weight: float, burn_in: int
) -> None:
    """And of an ODE-RNN, whose curves are tied at both ends, that of their beginnings too."""
    model = made(replace(small, residual=residual, action_weight=weight, burn_in=burn_in))
    obs, action = noise()
    action[0], action[1, 1:] = 0.0, 0.0
    errors, prediction = [], []
    for t in range(1, 5):
        state = model.observe(obs[:, :t], action[:, :t])
        predicted = model.imagine(state, [1.0], action[:, t - 1]).obs[:, 0]
        prediction.append((predicted - obs[:, t]).square().mean(dim=1))
        errors.append(prediction[-1])
        if small is SMALL_ODE:
            ticked = model.imagine(state, [0.0], action[:, t - 1]).state
            goal = obs[:, t] - obs[:, t - 1] if residual else obs[:, t - 1]
            start = (model.decoder(ticked.hidden) - goal).square().mean(dim=1)
            errors[-1] = 0.5 * (errors[-1] + start)
    weights = torch.tensor([[1.0] * 4, [weight, 1.0, 1.0, 1.0], [weight] * 4]).double()
    weights[:, : burn_in - 1] = 0.0
    found = torch.stack(errors, dim=1)
    loss, log = model.loss({"obs": obs, "action": action})
    torch.testing.assert_close(loss, (weights * found).sum() / weights.sum())
    torch.testing.assert_close(log["prediction"], torch.stack(prediction).mean())
    assert float(log["mean_jump"]) == 1.0
    real = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0] * 4, [1.0, 1.0, 1.0, 0.0]]) * weights
    loss, _ = model.loss({"obs": obs, "action": action, "length": torch.tensor([2, 5, 4])})
    torch.testing.assert_close(loss, (real * found).sum() / real.sum())


def test_an_adaptive_solver_that_gives_up_says_so() -> None:
    model = made(replace(SMALL_ODE, solver="dopri5"))
    nn.init.constant_(model.cell.bias_ih, torch.nan)
    with pytest.raises(RuntimeError, match=r"'dopri5' found no curve.*the latent may have div"):
        model.imagine(model.observe(noise()[0][:, :1]), [1.0])


# -- the jumpy RNN -------------------------------------------------------------------------------


def smooth(batch: int = 5, length: int = 12) -> tuple[Tensor, Tensor]:
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


def test_a_jumpy_rnn_equals_its_closed_form() -> None:
    model = by_hand(duration=2.5)
    state = model.observe(seen(0.4))
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
    model = made(replace(SMALL, residual=residual))
    obs, action = smooth()
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
    model = made(SMALL)
    obs, action = smooth()
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
    model, (obs, action) = made(SMALL), smooth()
    times = [0.5, 1.0, 4.25, 7.0]
    whole = model.imagine(model.observe(obs), times, action[:, 3]).obs
    assert whole.requires_grad
    monkeypatch.setattr(jumpy_rnn, "_AT_ONCE", 3)
    with torch.no_grad():
        pieces = model.imagine(model.observe(obs), times, action[:, 3]).obs
    torch.testing.assert_close(pieces, whole.detach(), rtol=0, atol=1e-13)


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


def slow_loss(
    model: JumpyRNN, batch: dict[str, Tensor], lines: list[SlowLine]
) -> tuple[Tensor, list[float]]:
    """The loss of such lines, and how much each of their frames counts in it."""
    obs, action, config = batch["obs"], batch["action"], model.config
    errors, durations, weights = [], [], []
    for line in lines:
        end = line.frame + line.jump
        missed = end < obs.shape[1] - 1 and not (line.cut or line.own)
        # A line that begins at the real frame is not judged there.
        for ahead in range(int(config.residual), line.jump + (2 if missed else 1)):
            predicted = model.decode(line.state.hidden + ahead * line.state.velocity)[0]
            errors.append((predicted - obs[line.row, line.frame + ahead]).square().mean())
            weight = config.action_weight if bool(action[line.row, line.frame].any()) else 1.0
            weights.append(weight * (line.frame >= config.burn_in - 1))
        if not (line.cut or line.own):
            durations.append((model._duration(line.state.anchor) - line.jump).square())
    weighted = torch.stack(errors) @ torch.tensor(weights).double() / sum(weights)
    return weighted + 1e-5 * torch.stack(durations).mean(), weights


def search_problem(
    residual: bool, epsilon: float, horizon: float, **settings: Any
) -> tuple[JumpyRNN, dict[str, Tensor]]:
    config = replace(SMALL, residual=residual, epsilon=epsilon, horizon=horizon, forced_jumps=0.1)
    model = made(replace(config, context_frames=2, **settings), seed=3)
    obs, action = smooth(batch=12, length=16)
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
        # Everything is accurate: only the 2 context frames and the action, of all but the last row.
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
    slow, weights = slow_loss(model, batch, lines)
    assert weights.count(weight) > 10 and (weight == 1.0 or weights.count(1.0) > 10)
    slow.backward()
    torch.testing.assert_close(loss, slow)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    mean_jump = sum(line.jump for line in lines) / len(lines)
    assert float(log["mean_jump"]) == pytest.approx(mean_jump)


@pytest.mark.parametrize(
    ("predicted", "whole"), [(1.2, 1.0), (2.6, 3.0), (3.4, 3.0), (0.2, 1.0), (6.2, 6.0), (7.4, 6.0)]
)
def test_whole_jumps_last_whole_frames_within_the_horizon(predicted: float, whole: float) -> None:
    model = by_hand(predicted, horizon=6.7)
    model.config = replace(model.config, whole_jumps=True)
    state = model.observe(seen(0.4))
    imagined = model.imagine(state, [2.0 * whole + 0.5], torch.full((1, 1), 0.3).double())
    assert imagined.tick_times.tolist() == [[0.0, whole, 2.0 * whole]]


def test_whole_jumps_pass_the_gradients_of_what_was_rounded() -> None:
    gradients = list[Tensor]()
    for predicted, whole_jumps in ((3.0, False), (2.7, True)):
        model = by_hand(predicted)
        model.config = replace(model.config, whole_jumps=whole_jumps)
        state = model.observe(seen(0.4))
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
    state = model.observe(seen(0.4))
    action = torch.tensor([[[0.2]]], dtype=torch.float64)
    imagined = model.imagine(state, [12.0], action, action_times=[5.5])
    assert imagined.tick_times.tolist() == [[0.0, 4.0, 5.5, 9.5]]


@pytest.mark.parametrize("residual", [True, False])
def test_constant_jumps_are_trained_on_their_own_lines(residual: bool) -> None:
    """Ticks at the context frames, every third frame from the last of them, and at actions."""
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
    slow, _ = slow_loss(model, batch, lines)
    slow.backward()
    torch.testing.assert_close(loss, slow)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    assert float(log["mean_jump"]) == pytest.approx(12 * 15 / len(lines))
    # No search: neither the tolerance nor chance has a say.
    model.config = replace(model.config, epsilon=9.0, horizon=2.0)
    torch.testing.assert_close(model.loss({**batch, "u": torch.zeros_like(batch["u"])})[0], loss)


def test_the_tolerance_falls_along_a_cosine() -> None:
    model = made(replace(SMALL, epsilon=1e-4, first_epsilon=1.0))
    steps = torch.tensor([0.0, 1.0 / 3.0, 0.5, 2.0 / 3.0, 1.0], dtype=torch.float64)
    tolerances = [float(model.epsilon_at(step)) for step in steps]
    assert tolerances == pytest.approx([1.0, 1e-1, 1e-2, 1e-3, 1e-4])
    assert model.epsilon_at() == 1e-4, "once trained, it has fallen"
    assert made(replace(SMALL, epsilon=1e-4)).epsilon_at(steps[0]) == 1e-4


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


# -- all of them ---------------------------------------------------------------------------------

JUMPY: Any = {"epsilon": 0.05, "context_frames": 1}
CONFIGS: dict[str, Any] = {
    "RNN": RNNConfig(2, 2, 16, 16),
    "RNN of frames": RNNConfig(2, 2, 16, 16, residual=False),
    "ODE-RNN": ODERNNConfig(2, 2, 16, 16),
    "ODE-RNN of frames": ODERNNConfig(2, 2, 16, 16, residual=False),
    "JumpyRNN": JumpyRNNConfig(2, 2, 16, 16, **JUMPY),
    "JumpyRNN as printed": JumpyRNNConfig(2, 2, 16, 16, residual=False, **JUMPY),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_scale_is_a_change_of_units(name: str) -> None:
    plain, units = made(CONFIGS[name]), torch.tensor([10.0, 0.5]).double()
    scaled = made(replace(CONFIGS[name], scale=(10.0, 0.5)))
    scaled.load_state_dict(plain.state_dict())
    obs, action = noise(6, 12)
    times, still = [0.5, 1.0, 3.7, 6.0], torch.zeros_like(action)
    expected = plain.imagine(plain.observe(obs[:, :4]), times).obs * units
    shown = scaled.imagine(scaled.observe(obs[:, :4] * units), times).obs
    torch.testing.assert_close(shown, expected)
    assert not torch.allclose(shown, expected / units)
    batch = {"obs": obs, "action": still, "u": torch.rand(6, 12).double()}
    loss, log = plain.loss(batch)
    other, other_log = scaled.loss({**batch, "obs": obs * units})
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(other_log["mean_jump"], log["mean_jump"])


@pytest.mark.parametrize("name", ["RNN", "ODE-RNN", "JumpyRNN"])
def test_a_burn_in_has_to_leave_frames(name: str) -> None:
    model = made(replace(CONFIGS[name], burn_in=5))
    with pytest.raises(ValueError, match="more than burn_in=5 frames, got 5; lower burn_in"):
        model.loss({"obs": torch.zeros(3, 5, 2).double()})


def test_sequences_that_end_within_the_burn_in_teach_nothing() -> None:
    model = made(RNNConfig(2, 0, 8, 8, burn_in=3))
    loss, _ = model.loss({"obs": noise()[0], "length": torch.tensor([2, 3, 1])})
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
