"""The baseline whose latent follows a differential equation between its ticks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq._impl.odeint import SOLVERS

from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.ode_rnn import (
    ADAPTIVE_SOLVERS,
    FIXED_STEP_SOLVERS,
    ODERNN,
    ODERNNConfig,
    ODEState,
)
from jumpy_mbrl.models.rnn import RNN, RNNConfig

SMALL = ODERNNConfig(obs_size=2, action_size=2, hidden_size=8, mlp_size=8, dynamics_size=8)

RATE = -0.7
KEEP = 1 / (1 + math.exp(-0.4))


def make_model(config: ODERNNConfig = SMALL) -> ODERNN:
    torch.manual_seed(0)
    model: ODERNN = ODERNN(config).double()
    return model


def frames(batch: int = 3, length: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    obs = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64)
    action = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64) - 0.5
    return obs, action


def out_of_phase(model: ODERNN) -> ODEState:
    """Three rows that tick now, in 0.7 and in 0.45 frames."""
    obs, action = frames()
    state = model.observe(obs, action)
    second = model.imagine(state[1:2], [0.3]).state
    third = model.imagine(state[2:], [0.55]).state
    return ODEState.cat([state[:1], second, third])  # type: ignore[list-item]


def decaying_model(residual: bool = False, **settings: Any) -> ODERNN:
    """A tick moves h to tanh(0.8 + a), KEEP of it stays; dh/ds = RATE * h; f reads it."""
    model: ODERNN = ODERNN(
        ODERNNConfig(1, 1, 1, 1, dynamics_layers=1, residual=residual, **settings)
    ).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        model.cell.bias_hh[1] = 0.4
        model.cell.bias_ih[2] = 0.8
        model.cell.weight_ih[2, 1] = 1.0
        model.decoder.first.weight.fill_(1.0)
        model.decoder.last.weight.fill_(1.0)
        for parameter in model.dynamics.parameters():
            parameter.fill_(RATE if parameter.ndim == 2 else 0.0)
    return model


def decaying_latent(time: float, action: float) -> float:
    """What ``decaying_model`` has at ``time``, its action read at 0 and the latent 0 before."""
    ticks = max(math.ceil(time), 1)
    hidden = 0.0
    for tick in range(ticks):
        goal = math.tanh(0.8 + (action if tick == 0 else 0.0))
        hidden = KEEP * hidden + (1 - KEEP) * goal
        hidden *= math.exp(RATE * min(1.0, time - tick))
    return hidden


# -- rollouts with a known answer ------------------------------------------------------------


TOLERANCES = {
    **dict.fromkeys(FIXED_STEP_SOLVERS, 1e-6),
    **dict.fromkeys(ADAPTIVE_SOLVERS, 5e-5),
    "euler": 1e-2,
    "midpoint": 1e-4,
    "heun2": 1e-4,
    "explicit_adams": 1e-3,
    "bosh3": 1e-6,
    "dopri8": 1e-8,
}
"""Error after a few frames of 32 steps each, or of steps with a relative error of 1e-6."""


@pytest.mark.parametrize("solver", [*FIXED_STEP_SOLVERS, *ADAPTIVE_SOLVERS])
def test_every_solver_comes_to_the_closed_form(solver: str) -> None:
    model = decaying_model(
        solver=solver,
        solver_steps=32,
        rtol=1e-6,
        atol=1e-8,
        adjoint=solver == "scipy_solver",
    )
    state = model.observe(torch.tensor([[[0.3]]], dtype=torch.float64))
    times = [0.125, 1.0, 1.7, 2.0]
    imagined = model.imagine(state, times, torch.tensor([[-0.2]], dtype=torch.float64))
    expected = [decaying_latent(time, -0.2) for time in times]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=TOLERANCES[solver])
    assert imagined.tick_times.tolist() == [[0.0, 1.0]]


def test_residual_rollout_sums_the_changes() -> None:
    model = decaying_model(residual=True, solver_steps=32)
    state = model.observe(torch.tensor([[[0.3]]], dtype=torch.float64))
    imagined = model.imagine(state, [0.0, 0.25, 1.0, 1.5])
    first = 0.3 + decaying_latent(1.0, 0.0)
    expected = [
        0.3,
        0.3 + 0.25 * decaying_latent(0.25, 0.0),
        first,
        first + 0.5 * decaying_latent(1.5, 0.0),
    ]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=1e-8)


def test_more_steps_of_a_fixed_step_solver_are_more_accurate() -> None:
    """Halving the steps of a method of fourth order divides its error by about 16."""
    errors = []
    for steps in (1, 2, 4):
        model = decaying_model(solver_steps=steps)
        state = model.observe(torch.tensor([[[0.3]]], dtype=torch.float64))
        imagined = model.imagine(state, [0.9])
        errors.append(abs(float(imagined.obs.detach()) - decaying_latent(0.9, 0.0)))
    assert 10 < errors[0] / errors[1] < 25
    assert 10 < errors[1] / errors[2] < 25


def test_velocity_is_the_slope_of_the_latent() -> None:
    model = make_model(replace(SMALL, solver_steps=16))
    obs, action = frames()
    state = model.observe(obs, action)
    now, later = (model.imagine(state, [time], action[:, -1]).state for time in (0.4, 0.401))
    slope = (later.hidden - now.hidden) / 0.001
    torch.testing.assert_close(slope, now.velocity, rtol=0, atol=1e-3)
    assert now.velocity.abs().max() > 0.1


# -- queries, cuts and phases ----------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("cut", [0.0, 0.25, 1.0, 1.4, 3.0])
def test_rollout_cut_anywhere_goes_on_the_same(cut: float, residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.observe(obs, action)
    times = torch.tensor([3.0, 3.5, 4.0, 6.0], dtype=torch.float64)
    whole = model.imagine(state, times, action[:, -1])
    first = model.imagine(state, [cut], action[:, -1])
    second = model.imagine(first.state, times - cut)
    torch.testing.assert_close(second.obs, whole.obs)
    torch.testing.assert_close(second.state.hidden, whole.state.hidden)
    assert torch.equal(first.ticks + second.ticks, whole.ticks)


def test_two_half_frames_equal_one() -> None:
    """Although a single Euler step over a frame is far from two over its halves."""
    model = make_model(replace(SMALL, solver="euler"))
    obs, action = frames()
    state = model.observe(obs, action)
    half = model.imagine(state, [0.5], action[:, -1])
    one = model.imagine(half.state, [0.5])
    whole = model.imagine(state, [1.0], action[:, -1])
    torch.testing.assert_close(one.obs, whole.obs)
    torch.testing.assert_close(one.state.hidden, whole.state.hidden)
    assert half.state.remaining.tolist() == [0.5] * 3
    assert one.state.remaining.tolist() == [0.0] * 3
    assert (half.ticks.tolist(), one.ticks.tolist()) == ([1] * 3, [0] * 3)


@pytest.mark.parametrize("residual", [True, False])
def test_imagining_at_times_equals_going_step_by_step(residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state: State = model.observe(obs, action)
    times = [0.0, 0.2, 0.2, 0.75, 1.0, 1.6, 2.0, 4.3]
    together = model.imagine(state, times, action[:, -1])
    shot: Tensor | None = action[:, -1]
    clock = 0.0
    for k, time in enumerate(times):
        step = model.imagine(state, [time - clock], shot)
        state, shot, clock = step.state, None, time
        torch.testing.assert_close(step.obs[:, 0], together.obs[:, k])
        torch.testing.assert_close(step.state.obs, together.obs[:, k])
    assert torch.equal(together.obs[:, 0], obs[:, -1])


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_rows_at_different_phases_are_as_if_alone(solver: str) -> None:
    model = make_model(replace(SMALL, solver=solver, rtol=1e-9, atol=1e-11))
    state = out_of_phase(model)
    times = [0.0, 0.3, 0.7, 1.0, 2.5]
    together = model.imagine(state, times)
    for row in range(3):
        rows = slice(row, row + 1)
        alone = model.imagine(state[rows], times)
        mine = together.state[rows]
        torch.testing.assert_close(together.obs[rows], alone.obs, rtol=0, atol=1e-8)
        torch.testing.assert_close(mine.hidden, alone.state.hidden, rtol=0, atol=1e-8)
        torch.testing.assert_close(mine.remaining, alone.state.remaining)
    ticks = torch.tensor(
        [[0.0, 1.0, 2.0], [0.7, 1.7, torch.inf], [0.45, 1.45, 2.45]], dtype=torch.float64
    )
    torch.testing.assert_close(together.tick_times, ticks)
    assert together.ticks.tolist() == [3, 2, 3]


def test_a_state_from_a_mixed_rollout_goes_on() -> None:
    model = make_model()
    state = out_of_phase(model)
    whole = model.imagine(state, [3.1])
    for cut in (0.2, 0.45, 0.6, 1.0, 2.8):
        first = model.imagine(state, [cut])
        second = model.imagine(first.state, [3.1 - cut])
        torch.testing.assert_close(second.obs, whole.obs)
        assert torch.equal(first.ticks + second.ticks, whole.ticks)


# -- actions ---------------------------------------------------------------------------------


def test_later_action_is_read_at_its_frame() -> None:
    model = make_model()
    obs, action = frames()
    state = model.observe(obs, action)
    imagined = model.imagine(state, [1.0, 2.0, 3.0], action[:, :1], action_times=[2.0])
    to_action = model.imagine(state, [1.0, 2.0])
    after = model.imagine(to_action.state, [1.0], action[:, 0])
    torch.testing.assert_close(imagined.obs[:, :2], to_action.obs)
    torch.testing.assert_close(imagined.obs[:, 2:], after.obs)
    assert imagined.tick_times.tolist() == [[0.0, 1.0, 2.0]] * 3


@pytest.mark.parametrize("residual", [True, False])
def test_an_action_between_frames_makes_the_model_tick_there(residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.observe(obs, action)
    imagined = model.imagine(state, [1.0, 1.5, 2.5, 3.0], action[:, :1], action_times=[1.5])
    assert imagined.tick_times.tolist() == [[0.0, 1.0, 1.5, 2.5]] * 3
    assert imagined.state.remaining.tolist() == [0.5] * 3
    cut = model.imagine(state, [1.0, 1.5])
    torch.testing.assert_close(imagined.obs[:, :2], cut.obs)
    # A tick reads the latent and the observation it finds; a state of these two tells it nothing
    # of the curve that led there.
    found = replace(
        model.initial_state(3), hidden=cut.state.hidden, obs=cut.state.obs, velocity=state.velocity
    )
    after = model.imagine(found, [1.0, 1.5], action[:, 0])
    torch.testing.assert_close(imagined.obs[:, 2:], after.obs)


def test_an_action_restarts_the_frames_of_rows_at_different_phases() -> None:
    model = make_model()
    _, action = frames()
    imagined = model.imagine(out_of_phase(model), [2.25], action[:, 0])
    assert imagined.tick_times.tolist() == [[0.0, 1.0, 2.0]] * 3
    assert imagined.state.remaining.tolist() == [0.75] * 3


def test_an_action_alone_changes_nothing_yet() -> None:
    model = make_model()
    obs, action = frames()
    state = model.observe(obs, action)
    imagined = model.imagine(state, [0.0], action[:, -1])
    assert torch.equal(imagined.obs[:, 0], obs[:, -1])
    assert imagined.state.remaining.tolist() == [1.0] * 3
    assert not torch.equal(imagined.state.hidden, state.hidden)


# -- filtering -------------------------------------------------------------------------------


def test_observing_equals_ticking_with_the_real_frames() -> None:
    model = make_model()
    obs, action = frames()
    state = model.initial_state(3)
    for t in range(4):
        state = replace(state, obs=obs[:, t])
        imagined = model.imagine(state, [1.0], action[:, t]).state
        assert isinstance(imagined, ODEState)
        state = imagined
    observed = model.observe(obs, action)
    torch.testing.assert_close(observed.hidden, state.hidden)
    torch.testing.assert_close(observed.velocity, state.velocity)
    torch.testing.assert_close(observed.anchor, state.anchor)
    assert torch.equal(observed.origin, state.origin)
    assert torch.equal(observed.obs, obs[:, -1])
    assert observed.remaining.tolist() == [0.0, 0.0, 0.0]


def test_observing_what_was_imagined_changes_nothing() -> None:
    """Teacher forcing (all inputs at once) and imagining (tick by tick) are one network."""
    model = make_model()
    obs, action = frames()
    state = model.observe(obs, action)
    imagined = model.imagine(state, [1.0, 2.0, 3.0], action[:, -1])
    all_obs = torch.cat([obs, imagined.obs], dim=1)
    all_action = torch.cat([action, torch.zeros(3, 3, 2, dtype=torch.float64)], dim=1)
    again = model.observe(all_obs, all_action)
    torch.testing.assert_close(again.hidden, imagined.state.hidden)


def test_the_last_action_seen_is_not_used() -> None:
    model = make_model()
    obs, action = frames()
    other = action.clone()
    other[:, -1] = 5.0
    assert torch.equal(model.observe(obs, action).hidden, model.observe(obs, other).hidden)
    other[:, -2] = 5.0
    assert not torch.equal(model.observe(obs, action).hidden, model.observe(obs, other).hidden)


def test_one_frame_is_enough_and_no_action_means_zero() -> None:
    model = make_model()
    obs, action = frames()
    single = model.observe(obs[:, :1])
    assert torch.equal(single.hidden, torch.zeros(3, 8, dtype=torch.float64))
    assert torch.equal(single.obs, obs[:, 0])
    assert torch.equal(
        model.observe(obs).hidden, model.observe(obs, torch.zeros_like(action)).hidden
    )


# -- gradients and the loss ------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "implicit_adams"])
def test_gradient_with_respect_to_the_action_equals_finite_differences(solver: str) -> None:
    config = replace(SMALL, solver=solver, solver_steps=2, rtol=1e-9, atol=1e-11)
    model = make_model(config)
    obs, action = frames(batch=1)
    state = model.observe(obs, action)

    def prediction(shot: Tensor) -> Tensor:
        return model.imagine(state, [1.0, 2.5], shot).obs

    shot = action[:, -1].clone().requires_grad_()
    assert torch.autograd.gradcheck(prediction, (shot,), atol=1e-7)
    (gradient,) = torch.autograd.grad(prediction(shot).sum(), shot)
    assert gradient.abs().min() > 1e-4


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "scipy_solver"])
def test_the_adjoint_gives_the_same_gradients(solver: str) -> None:
    settings: dict[str, Any] = {"solver_steps": 8, "rtol": 1e-9, "atol": 1e-11}
    obs, action = frames()
    gradients = []
    for config in (
        replace(SMALL, solver="rk4", **settings),
        replace(SMALL, solver=solver, adjoint=True, **settings),
    ):
        model = make_model(config)
        shot = action[:, -1].clone().requires_grad_()
        imagined = model.imagine(model.observe(obs, action), [0.3, 1.0, 1.8], shot)
        weights = [shot, *model.parameters()]
        gradients.append(torch.autograd.grad(imagined.obs.square().sum(), weights))
    for plain, adjoint in zip(*gradients, strict=True):
        torch.testing.assert_close(adjoint, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("weight", "burn_in"), [(1.0, 1), (3.0, 1), (1.0, 3)])
@pytest.mark.parametrize("residual", [True, False])
def test_loss_is_the_error_at_both_ends_of_every_frame(
    residual: bool, weight: float, burn_in: int
) -> None:
    model = make_model(replace(SMALL, residual=residual, action_weight=weight, burn_in=burn_in))
    obs, action = frames()
    action[0], action[1, 1:] = 0.0, 0.0
    loss, log = model.loss({"obs": obs, "action": action})
    ends, starts = [], []
    for t in range(1, 5):
        state = model.observe(obs[:, :t], action[:, :t])
        ticked = model.imagine(state, [0.0], action[:, t - 1]).state
        predicted = model.imagine(state, [1.0], action[:, t - 1]).obs[:, 0]
        decoded = model.decoder(ticked.hidden)
        goal = obs[:, t] - obs[:, t - 1] if residual else obs[:, t - 1]
        ends.append((predicted - obs[:, t]).square().mean(dim=1))
        starts.append((decoded - goal).square().mean(dim=1))
    end, start = torch.stack(ends, dim=1), torch.stack(starts, dim=1)
    weights = torch.tensor([[1.0] * 4, [weight, 1.0, 1.0, 1.0], [weight] * 4]).double()
    weights[:, : burn_in - 1] = 0.0
    torch.testing.assert_close(log["prediction"], end.mean())
    torch.testing.assert_close(loss, (weights * (end + start)).sum() / (2.0 * weights.sum()))
    assert float(log["mean_jump"]) == 1.0


def test_loss_logs_what_the_other_baseline_logs() -> None:
    obs, action = frames()
    other = RNN(RNNConfig(2, 2, 8, 8)).double()
    batch = {"obs": obs, "action": action}
    assert make_model().loss(batch)[1].keys() == other.loss(batch)[1].keys()


@pytest.mark.parametrize(("residual", "steps"), [(True, 60), (False, 200)])
def test_learns_to_continue_lines_between_frames_too(residual: bool, steps: int) -> None:
    """Points that all move with one speed (paper, section 3.1), seen for 4 frames of 13."""
    torch.manual_seed(0)
    model = ODERNN(
        ODERNNConfig(2, 0, hidden_size=32, mlp_size=32, dynamics_size=32, residual=residual)
    )
    generator = torch.Generator().manual_seed(2)

    def lines(batch: int, times: Tensor) -> Tensor:
        start = torch.rand(batch, 1, 2, generator=generator)
        return start + times.view(1, -1, 1) / 13 * torch.tensor([1.0, 0.0])

    still = torch.zeros(32, 13, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss, _ = model.loss({"obs": lines(32, torch.arange(13.0)), "action": still})
        loss.backward()
        optimizer.step()
    later = torch.arange(3.5, 12.5, 0.5)
    test = lines(64, torch.cat([torch.arange(4.0), later]))
    with torch.no_grad():
        imagined = model.imagine(model.observe(test[:, :4]), later - 3.0)
    error = (imagined.obs - test[:, 4:]).square().mean()
    standing_still = (test[:, 3:4] - test[:, 4:]).square().mean()
    assert error < 0.02 * standing_still


# -- sizes -----------------------------------------------------------------------------------


def test_a_world_without_actions() -> None:
    model = make_model(replace(SMALL, action_size=0))
    obs, _ = frames()
    state = model.observe(obs)
    assert model.imagine(state, [1.0, 1.5]).obs.shape == (3, 2, 2)
    loss, _ = model.loss({"obs": obs, "action": obs.new_zeros(3, 5, 0)})
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("size", [1, 784])
def test_observations_of_any_size(size: int) -> None:
    model = make_model(replace(SMALL, obs_size=size)).float()
    obs = torch.rand(2, 4, size, generator=torch.Generator().manual_seed(3))
    imagined = model.imagine(model.observe(obs), [0.5, 1.0], torch.zeros(2, 2))
    assert imagined.obs.shape == (2, 2, size)
    assert imagined.obs.dtype == torch.float32
    assert bool(model.loss({"obs": obs, "action": torch.zeros(2, 4, 2)})[0].isfinite())


def test_actions_of_a_batch_may_be_left_out() -> None:
    model = make_model()
    obs, action = frames()
    loss, _ = model.loss({"obs": obs})
    assert torch.equal(loss, model.loss({"obs": obs, "action": torch.zeros_like(action)})[0])


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_an_empty_batch(solver: str) -> None:
    model = make_model(replace(SMALL, solver=solver))
    empty = torch.zeros(0, 3, 2, dtype=torch.float64)
    imagined = model.imagine(model.observe(empty), [0.5, 1.0], empty[:, 0])
    assert imagined.obs.shape == (0, 2, 2)
    assert imagined.state.batch_size == 0


# -- refusals --------------------------------------------------------------------------------


def test_all_solvers_of_torchdiffeq_are_known() -> None:
    assert {*FIXED_STEP_SOLVERS, *ADAPTIVE_SOLVERS} == set(SOLVERS)


def test_bad_frames_and_actions_are_refused() -> None:
    model = make_model()
    obs, action = frames()
    with pytest.raises(ValueError, match=r"obs must have shape \(B, T, 2\)"):
        model.observe(torch.zeros(3, 5, 4))
    with pytest.raises(ValueError, match=r"action must have shape \(3, 5, 2\).*got \(3, 4, 2\)"):
        model.observe(obs, action[:, :4])
    with pytest.raises(ValueError, match="NaN or infinity in rows"):
        model.observe(obs / 0.0)
    with pytest.raises(ValueError, match=r"action must have shape \(3, 5, 2\).*got \(3, 5, 1\)"):
        model.loss({"obs": obs, "action": action[..., :1]})
    with pytest.raises(ValueError, match=r"action must have shape \(3, 1, 2\)"):
        model.imagine(model.observe(obs), [1.0], action[:2, 0])


def test_the_state_of_another_model_is_refused() -> None:
    obs, _ = frames()
    other = RNN(RNNConfig(2, 2, 8, 8)).double()
    with pytest.raises(ValueError, match="ODERNN needs its own ODEState, got State"):
        make_model().imagine(other.observe(obs), [1.0])


def test_an_adaptive_solver_that_gives_up_says_so() -> None:
    model = make_model(replace(SMALL, solver="dopri5"))
    obs, _ = frames()
    with torch.no_grad():
        model.cell.bias_ih.fill_(torch.nan)
    with pytest.raises(RuntimeError, match=r"'dopri5' found no curve.*the latent may have div"):
        model.imagine(model.observe(obs[:, :1]), [1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1, got 0"),
        ({"obs_size": 2.5}, "obs_size must be an integer of at least 1, got 2.5"),
        ({"action_size": -1}, "action_size must not be negative, got -1"),
        ({"dynamics_layers": 0}, "dynamics_layers must be an integer of at least 1, got 0"),
        ({"solver_steps": 0}, "solver_steps must be an integer of at least 1, got 0"),
        ({"solver": "dopri6"}, "unknown solver 'dopri6'.*did you mean 'dopri"),
        ({"solver": "RK4"}, "unknown solver 'RK4', expected one of .*'rk4'"),
        ({"solver": "scipy_solver"}, "gives no gradients by itself; set adjoint=True"),
        ({"rtol": 0.0}, "rtol must be positive and finite, got 0.0"),
        ({"atol": math.nan}, "atol must be positive and finite, got nan"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
