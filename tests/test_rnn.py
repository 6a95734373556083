"""The frame-by-frame baseline."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.networks import ResidualMLP, gru_update
from jumpy_mbrl.models.rnn import RNN, RNNConfig

SMALL = RNNConfig(obs_size=2, action_size=2, hidden_size=8, mlp_size=8)


def make_model(config: RNNConfig = SMALL) -> RNN:
    torch.manual_seed(0)
    model: RNN = RNN(config).double()
    return model


def frames(batch: int = 3, length: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    obs = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64)
    action = torch.rand(batch, length, 2, generator=generator, dtype=torch.float64) - 0.5
    return obs, action


def decaying_model(residual: bool) -> RNN:
    """h goes to tanh(0.8 + a) with the factor sigmoid(0.4) a tick; f reads it, whatever x is."""
    model = RNN(
        RNNConfig(obs_size=1, action_size=1, hidden_size=1, mlp_size=1, residual=residual)
    ).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        input_weight, _, input_bias, bias = model.gru.all_weights[0]
        bias[1] = 0.4
        input_bias[2] = 0.8
        input_weight[2, 1] = 1.0
        model.decoder.first.weight.fill_(1.0)
        model.decoder.last.weight.fill_(1.0)
    return model


# -- rollouts with a known answer ------------------------------------------------------------


def test_rollout_equals_the_closed_form() -> None:
    model = decaying_model(residual=False)
    state = model.observe(torch.tensor([[[0.3]]], dtype=torch.float64))
    action = torch.tensor([[-0.2]], dtype=torch.float64)
    imagined = model.imagine(state, [1.0, 2.0, 3.0], action)
    keep = 1 / (1 + math.exp(-0.4))
    first = (1 - keep) * math.tanh(0.6)
    expected = [first]
    for _ in range(2):
        expected.append(keep * expected[-1] + (1 - keep) * math.tanh(0.8))
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=1e-14)
    assert imagined.tick_times.tolist() == [[0.0, 1.0, 2.0]]


def test_residual_rollout_sums_the_changes() -> None:
    model = decaying_model(residual=True)
    state = model.observe(torch.tensor([[[0.3]]], dtype=torch.float64))
    imagined = model.imagine(state, [0.0, 1.0, 2.0])
    keep = 1 / (1 + math.exp(-0.4))
    hidden = [(1 - keep**k) * math.tanh(0.8) for k in (1, 2)]
    expected = [0.3, 0.3 + hidden[0], 0.3 + sum(hidden)]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("residual", [True, False])
def test_between_frames_predictions_are_interpolated(residual: bool) -> None:
    model = make_model(replace(SMALL, residual=residual))
    obs, action = frames()
    state = model.observe(obs, action)
    whole = model.imagine(state, [0.0, 1.0, 2.0, 3.0], action[:, -1]).obs
    at = model.imagine(state, [0.25, 1.5, 2.0, 2.75], action[:, -1])
    expected = torch.stack(
        [
            0.75 * whole[:, 0] + 0.25 * whole[:, 1],
            0.5 * whole[:, 1] + 0.5 * whole[:, 2],
            whole[:, 2],
            0.25 * whole[:, 2] + 0.75 * whole[:, 3],
        ],
        dim=1,
    )
    torch.testing.assert_close(at.obs, expected)
    assert at.ticks.tolist() == [3, 3, 3]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("cut", [0.0, 1.0, 1.4, 3.0])
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


# -- filtering -------------------------------------------------------------------------------


def test_observing_equals_ticking_with_the_real_frames() -> None:
    model = make_model()
    obs, action = frames()
    state = model.initial_state(3)
    for t in range(4):
        state = replace(state, obs=obs[:, t])
        state = model.imagine(state, [1.0], action[:, t]).state
    observed = model.observe(obs, action)
    torch.testing.assert_close(observed.hidden, state.hidden)
    assert torch.equal(observed.obs, obs[:, -1])
    assert observed.remaining.tolist() == [0.0, 0.0, 0.0]


def test_observing_what_was_imagined_changes_nothing() -> None:
    """Teacher forcing (fused) and imagining (cell by cell) are one network."""
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
    assert torch.equal(
        model.observe(obs).hidden, model.observe(obs, torch.zeros_like(action)).hidden
    )


# -- gradients and the loss ------------------------------------------------------------------


def test_gradient_with_respect_to_the_action_equals_finite_differences() -> None:
    model = make_model()
    obs, action = frames(batch=1)
    state = model.observe(obs, action)

    def prediction(shot: Tensor) -> Tensor:
        return model.imagine(state, [6.5], shot).obs

    shot = action[:, -1].clone().requires_grad_()
    assert torch.autograd.gradcheck(prediction, (shot,), atol=1e-8)
    assert prediction(shot).sum().requires_grad


@pytest.mark.parametrize(("weight", "burn_in"), [(1.0, 1), (3.0, 1), (1.0, 2), (3.0, 3)])
def test_loss_is_the_error_of_one_frame_predictions(weight: float, burn_in: int) -> None:
    model = make_model(replace(SMALL, action_weight=weight, burn_in=burn_in))
    obs, action = frames()
    action[0], action[1, 1:] = 0.0, 0.0
    loss, log = model.loss({"obs": obs, "action": action})
    errors = []
    for t in range(1, 5):
        state = model.observe(obs[:, :t], action[:, :t])
        predicted = model.imagine(state, [1.0], action[:, t - 1]).obs[:, 0]
        errors.append((predicted - obs[:, t]).square().mean(dim=1))
    weights = torch.tensor([[1.0] * 4, [weight, 1.0, 1.0, 1.0], [weight] * 4]).double()
    weights[:, : burn_in - 1] = 0.0
    found = torch.stack(errors, dim=1)
    torch.testing.assert_close(loss, (weights * found).sum() / weights.sum())
    torch.testing.assert_close(log["prediction"], found.mean())
    assert float(log["mean_jump"]) == 1.0
    real = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0] * 4, [1.0, 1.0, 1.0, 0.0]]) * weights
    loss, _ = model.loss({"obs": obs, "action": action, "length": torch.tensor([2, 5, 4])})
    torch.testing.assert_close(loss, (real * found).sum() / real.sum())


@pytest.mark.parametrize("residual", [True, False])
def test_learns_to_continue_lines(residual: bool) -> None:
    """Points that all move with one speed (paper, section 3.1), seen for 4 frames of 13."""
    torch.manual_seed(0)
    model = RNN(RNNConfig(2, 0, hidden_size=32, mlp_size=32, residual=residual))
    generator = torch.Generator().manual_seed(2)

    def lines(batch: int) -> Tensor:
        across = torch.arange(13.0).view(1, 13, 1) / 13
        start = torch.rand(batch, 1, 2, generator=generator)
        return start + across * torch.tensor([1.0, 0.0])

    still = torch.zeros(64, 13, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 250)
        optimizer.zero_grad()
        loss, _ = model.loss({"obs": lines(64), "action": still})
        loss.backward()
        optimizer.step()
    test = lines(64)
    with torch.no_grad():
        imagined = model.imagine(model.observe(test[:, :4]), [float(t) for t in range(1, 10)])
    error = (imagined.obs - test[:, 4:]).square().mean()
    standing_still = (test[:, 3:4] - test[:, 4:]).square().mean()
    assert error < 0.02 * standing_still


# -- parts -----------------------------------------------------------------------------------


def test_gru_update_equals_torch() -> None:
    torch.manual_seed(0)
    cell = nn.GRUCell(5, 7).double()
    inputs = torch.randn(4, 5, dtype=torch.float64)
    hidden = torch.randn(4, 7, dtype=torch.float64)
    gates = nn.functional.linear(inputs, cell.weight_ih, cell.bias_ih)
    ours = gru_update(gates, hidden, cell.weight_hh, cell.bias_hh)
    torch.testing.assert_close(ours, cell(inputs, hidden), rtol=0, atol=1e-14)


def test_residual_mlp_with_zero_inner_layers_is_a_two_layer_network() -> None:
    torch.manual_seed(0)
    network = ResidualMLP(3, 2, hidden=5)
    for layer in network.inner:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    inputs = torch.randn(4, 3)
    expected = network.last(network.first(inputs).relu())
    torch.testing.assert_close(network(inputs), expected)
    assert len(network.inner) == 2
    with pytest.raises(ValueError, match="layers must be at least 2"):
        ResidualMLP(3, 2, layers=1)


# -- refusals --------------------------------------------------------------------------------


def test_action_between_frames_is_refused() -> None:
    model = make_model()
    obs, action = frames()
    state = model.observe(obs, action)
    with pytest.raises(ValueError, match=r"only at whole frames, got one 0\.5 frames before"):
        model.imagine(state, [3.0], action[:, :1], action_times=[1.5])


def test_rows_at_different_phases_are_refused() -> None:
    model = make_model()
    obs, action = frames()
    state = model.observe(obs, action)
    mixed = State.cat([model.imagine(state, [0.5]).state, state])
    with pytest.raises(ValueError, match=r"as far from the next one, got from 0 to 0\.5 frames"):
        model.imagine(mixed, [1.0])


def test_bad_frames_and_actions_are_refused() -> None:
    model = make_model()
    obs, action = frames()
    with pytest.raises(ValueError, match=r"obs must have shape \(B, T, 2\)"):
        model.observe(torch.zeros(3, 5, 4))
    with pytest.raises(ValueError, match=r"action must have shape \(3, 5, 2\).*got \(3, 4, 2\)"):
        model.observe(obs, action[:, :4])
    with pytest.raises(ValueError, match="NaN or infinity in rows"):
        model.observe(obs / 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1, got 0"),
        ({"obs_size": 2.5}, "obs_size must be an integer of at least 1, got 2.5"),
        ({"action_size": -1}, "action_size must not be negative, got -1"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_world_without_actions() -> None:
    model = make_model(replace(SMALL, action_size=0))
    obs, _ = frames()
    state = model.observe(obs)
    assert model.imagine(state, [1.0]).obs.shape == (3, 1, 2)
