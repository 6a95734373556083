"""LatentJump: rollouts of hand-set weights in closed form, its window, its loss by slow loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.models.latent_jump import LatentJump, LatentJumpConfig, WindowState
from jumpy_mbrl.models.networks import ResidualMLP

SMALL = LatentJumpConfig(
    obs_size=2, action_size=2, window=3, hidden_size=5, mlp_size=8, mlp_layers=3, horizon=6
)
FAR = 30.0
"""A logit that is certain."""


def make_model(config: LatentJumpConfig = SMALL, seed: int = 0) -> LatentJump:
    """Random weights, with velocities that turn the lines and durations that vary."""
    torch.manual_seed(seed)
    model = LatentJump(config).double()
    for network in (model.encoder, model.decoder):
        nn.init.normal_(network.last.weight, std=0.4)
    with torch.no_grad():
        model.hazard.last.weight.mul_(8.0)
        model.hazard.last.bias.fill_(-1.0)
    return model


def frames(batch: int = 5, length: int = 6, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, 2, generator=generator, dtype=torch.float64)


def ends_at(model: LatentJump, duration: int) -> LatentJump:
    """Sets every jump to ``duration`` frames."""
    with torch.no_grad():
        model.hazard.last.weight.zero_()
        model.hazard.last.bias.fill_(-FAR)
        if duration < model.config.horizon:
            model.hazard.last.bias[duration - 1] = FAR
    return model


def linear(network: ResidualMLP, matrix: Tensor) -> None:
    """Makes a network of two layers a linear map: far up, its activation is the identity."""
    up = 60.0
    nn.init.eye_(network.first.weight)
    nn.init.constant_(network.first.bias, up)
    with torch.no_grad():
        network.last.weight.copy_(matrix)
        network.last.bias.copy_(-up * matrix.sum(dim=1))


def by_hand(
    keep: float = 1.0, duration: int = 3, window: int = 2, scale: float = 1.0, center: float = 0.0
) -> LatentJump:
    """One coordinate, whose velocity a tick makes ``keep`` times the last one plus the action."""
    config = LatentJumpConfig(
        *(1, 1, window, 1, window + 1, 2), horizon=8, scale=(scale,), center=(center,)
    )
    model = LatentJump(config).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    # Inputs: the frame, window - 1 moves, the action. Outputs: latent, velocity.
    matrix = torch.zeros(2, window + 1)
    matrix[0, 0] = 1.0
    matrix[1, 1], matrix[1, -1] = keep, 1.0 / scale
    linear(model.encoder, matrix)
    nn.init.ones_(model.straight.weight)
    return ends_at(model, duration)


def seen(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


# -- rollouts with a known answer ------------------------------------------------------------


def test_constant_velocity_at_any_real_time() -> None:
    model = by_hand(duration=3)
    times = [0.0, 0.3, 1.0, 2.9, 3.0, 4.25, 11.5]
    imagined = model.imagine(model.observe(seen(0.7, 0.2, 0.25)), times)
    expected = [0.25 + 0.05 * t for t in times]
    assert imagined.obs.flatten().tolist() == pytest.approx(expected, abs=1e-12)
    assert imagined.tick_times.tolist() == [[0.0, 3.0, 6.0, 9.0]]
    assert imagined.state.remaining.tolist() == [0.5]


@pytest.mark.parametrize("window", [2, 3, 5])
@pytest.mark.parametrize("duration", [1, 2, 3, 8])
def test_every_tick_reads_the_line_before_it(window: int, duration: int) -> None:
    """Each tick halves the velocity of the last frame before it, which the model imagined."""
    model = by_hand(keep=0.5, duration=duration, window=window)
    times = [0.5, 1.0, 2.75, 5.0, 9.5]
    state = model.observe(seen(*[9.0] * (window - 2), 0.0, 1.0))
    imagined = model.imagine(state, times)
    for t, value in zip(times, imagined.obs.flatten().tolist(), strict=True):
        lines = int(t // duration)
        run = sum(duration * 0.5 ** (k + 1) for k in range(lines))
        run += (t - lines * duration) * 0.5 ** (lines + 1)
        assert value == pytest.approx(1.0 + run, abs=1e-12)


def test_center_and_scale_change_what_the_networks_see_and_nothing_else() -> None:
    state, scaled = by_hand(keep=0.5), by_hand(keep=0.5, scale=4.0, center=3.0)
    obs, action, times = seen(2.0, 3.5), seen(0.3)[:, 0], [0.5, 3.0, 7.5]
    plain = state.imagine(state.observe(obs), times, action)
    other = scaled.imagine(scaled.observe(obs), times, action)
    torch.testing.assert_close(other.obs, plain.obs, atol=1e-12, rtol=0)
    hidden = scaled.tick(scaled.observe(obs)).hidden
    # The latent is (3.5 - 3) / 4; the rest of the frame is the line's constant.
    torch.testing.assert_close(hidden, torch.tensor([[0.125, 3.0]]).double(), atol=1e-12, rtol=0)


def test_a_line_is_the_decoded_straight_latent_from_the_last_frame_on() -> None:
    model = ends_at(make_model(), 6)
    obs = frames()
    state = model.tick(model.observe(obs))
    torch.testing.assert_close(model.decode(state.hidden), obs[:, -1], rtol=0, atol=1e-14)
    latent, velocity = state.hidden[:, :5], state.velocity[:, :5]
    for t in (0.0, 0.37, 2.0, 5.9):
        moved = latent + velocity * t
        change = model.straight(moved - latent) + model.decoder(moved) - model.decoder(latent)
        torch.testing.assert_close(model.imagine(state, [t]).obs[:, 0], obs[:, -1] + change)
    assert bool(((model.imagine(state, [1.0]).obs[:, 0] - obs[:, -1]).abs() > 1e-4).all())


# -- the window ------------------------------------------------------------------------------


def test_observing_waits_for_a_tick_with_the_last_frames_newest_first() -> None:
    model, obs = make_model(), frames()
    state = model.observe(obs)
    assert torch.equal(state.window, obs[:, [5, 4, 3]]) and torch.equal(state.obs, obs[:, 5])
    ticked = model.tick(state)
    assert torch.equal(ticked.window, state.window)
    assert not state.remaining.any() and bool((ticked.remaining >= 1).all())
    first = model.initial_state(3)
    assert first.window.shape == (3, 3, 2) and not first.window.any()


@pytest.mark.parametrize("now", [0.25, 1.0, 2.25, 2.75, 3.0, 3.5, 5.375, 8.625])
def test_the_window_after_leaps_is_what_was_imagined(now: float) -> None:
    model = ends_at(make_model(replace(SMALL, window=4)), 3)
    obs = frames()
    state = model.observe(obs)
    imagined = model.imagine(state, [now])
    assert isinstance(imagined.state, WindowState)
    began = (math.ceil(now / 3) - 1) * 3  # where the line that is followed now began
    assert int(imagined.ticks[0]) == began // 3 + 1

    def at(time: float) -> Tensor:
        """The film: what was seen up to frame 0, then what was imagined."""
        if time <= 0.0:
            return obs[:, 5 + int(time)]
        return model.imagine(state, [time]).obs[:, 0]

    for age in range(4):
        time = now - age
        if time >= began:
            expected = at(time)
        else:  # between the whole frames that the tick knew
            low = math.floor(time)
            expected = torch.lerp(at(low), at(min(low + 1, began)), time - low)
        torch.testing.assert_close(imagined.state.window[:, age], expected)


# -- rollouts in pieces ----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0.25, 2.75, 3.5, 5.875])
def test_rollout_cut_between_frames_goes_on_the_same(cut: float) -> None:
    """Exactly so where a straight line joins the frames of the window, as here it does."""
    model = ends_at(make_model(), 3)
    nn.init.zeros_(model.decoder.last.weight)
    state, action = model.observe(frames()), frames(seed=4)[:, 0]
    times = torch.tensor([7.5, 11.25], dtype=torch.float64)
    whole = model.imagine(state, times, action)
    first = model.imagine(state, [cut], action)
    second = model.imagine(first.state, times - cut)
    assert torch.equal(first.ticks + second.ticks, whole.ticks), "part-way nothing must tick"
    torch.testing.assert_close(second.obs, whole.obs)
    turned = model.tick(first.state).velocity - first.state.velocity
    assert bool((turned.abs() > 1e-3).any()), "a tick there would change the line"


# -- durations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantile", "chance", "duration"),
    [
        (0.5, 0.2, 4),  # 0.8^3 = 0.512 is above a half, 0.8^4 = 0.41 is not.
        (0.5, 0.6, 1),
        (0.1, 0.2, 1),
        (0.1, 0.04, 3),  # 0.96^2 = 0.92, 0.96^3 = 0.885
        (0.9, 0.4, 5),  # 0.6^4 = 0.13, 0.6^5 = 0.078
        (0.9, 0.001, 6),  # never shorter than a frame, never longer than the horizon
    ],
)
def test_a_quantile_of_a_constant_hazard(quantile: float, chance: float, duration: int) -> None:
    model = make_model(replace(SMALL, quantile=quantile))
    logits = torch.full((1, 6), math.log(chance / (1 - chance)), dtype=torch.float64)
    assert model._duration(logits).tolist() == [float(duration)]


# -- the loss --------------------------------------------------------------------------------


def loss_problem() -> tuple[LatentJump, dict[str, Tensor]]:
    config = replace(SMALL, epsilon=0.5, far_weight=0.3, noise=0.05)
    model = make_model(config, seed=2)
    future = frames(40, 8, seed=3).cumsum(dim=1) * 0.4
    length = torch.arange(40) % 8 + 1
    return model, {
        "window": frames(40, 3, seed=4) * 0.3,
        "future": future,
        "length": length,
        "action": frames(40, 2, seed=5)[:, 0],
        "noise": frames(40, 3, seed=6),
    }


def test_loss_and_its_gradient_equal_those_of_a_slow_loop() -> None:
    model, batch = loss_problem()
    loss, log = model.loss(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()

    weighted, weights, on_lines, likelihood, jumps, ends = [], [], [], [], [], []
    for row in range(40):
        one = slice(row, row + 1)
        window = batch["window"][one] + 0.05 * batch["noise"][one]
        state = model.observe(window.flip(1))
        endless = torch.full((1,), 99.0, dtype=torch.float64)
        state = replace(model.tick(state, batch["action"][one]), remaining=endless)
        logits = model._encode(window, batch["action"][one])[2][0]
        length = int(batch["length"][row])
        last = min(length, 6)
        predicted = model.imagine(state, [float(s) for s in range(1, last + 1)]).obs[0]
        errors = [(predicted[s] - batch["future"][row, s]).square().mean() for s in range(last)]
        jump = 1
        while jump < last and bool(errors[jump] < 0.5):
            jump += 1
        jumps.append(jump)
        on_lines += errors[:jump]
        for s in range(last):
            weight = 1.0 if s <= jump else 0.3
            weighted.append(weight * errors[s])
            weights.append(weight)
        for frame in range(2, jump + 1):
            likelihood.append(-torch.log(1 - logits[frame - 2].sigmoid()))
        ended = jump < length and jump < 6
        ends.append(ended)
        if ended:
            likelihood.append(-torch.log(logits[jump - 1].sigmoid()))
    assert len(set(jumps)) >= 5 and 5 < sum(ends) < 35, "the rows should be of all kinds"
    hazard = torch.stack(likelihood).mean()
    slow = torch.stack(weighted).sum() / sum(weights) + 0.5 * hazard
    slow.backward()
    torch.testing.assert_close(loss, slow)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)
    torch.testing.assert_close(log["hazard"], hazard)
    torch.testing.assert_close(log["prediction"], torch.stack(on_lines).mean())
    assert float(log["mean_jump"]) == pytest.approx(sum(jumps) / 40)


def test_unknown_frames_teach_nothing_and_noise_blurs_only_what_is_read() -> None:
    model, batch = loss_problem()
    beyond = torch.arange(8) >= batch["length"].unsqueeze(1)
    other = {**batch, "future": batch["future"].masked_fill(beyond.unsqueeze(2), 77.0)}
    assert torch.equal(model.loss(batch)[0], model.loss(other)[0])
    quiet = LatentJump(replace(model.config, noise=0.0)).double()
    quiet.load_state_dict(model.state_dict())
    shifted = {**batch, "window": batch["window"] + 0.05 * batch["noise"]}
    torch.testing.assert_close(quiet.loss(shifted)[0], model.loss(batch)[0])
    assert not torch.allclose(quiet.loss(batch)[0], model.loss(batch)[0], rtol=1e-6)


def test_the_most_likely_hazard_is_the_share_of_lines_that_end() -> None:
    """Lines of which 3 of 8 end at frame 2, 2 of the 4 then left at frame 3; one is cut off."""
    model = make_model()
    jump = torch.tensor([1, 1, 1, 1, 2, 2, 3, 5])
    length = torch.tensor([9, 9, 9, 1, 9, 9, 9, 5])
    logits = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    # At frame 4 one of two ends; the last line goes on beyond what is known.
    shares = torch.tensor([3 / 7, 2 / 4, 1 / 2, 1e-9, 0.5, 0.5], dtype=torch.float64)
    with torch.no_grad():
        logits.copy_(shares.logit())
    model._hazard_loss(logits.expand(8, 6), jump, length).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(1, 6).double(), atol=1e-9, rtol=0)


def test_lines_of_one_known_frame_have_a_finite_loss() -> None:
    model, batch = loss_problem()
    loss, log = model.loss({**batch, "length": torch.ones(40, dtype=torch.int64)})
    loss.backward()
    assert not log["hazard"].any()
    assert float(log["mean_jump"]) == 1.0
    assert bool(loss.isfinite())
