"""The torch engine against closed forms, the scalar kernel and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from jumpy_mbrl.envs import physics, starts, torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.torch_physics import advance, next_event, resolve, simulate

R = 0.1
F64 = torch.float64


def table(*rows: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Positions and velocities (1, N, 2) from one (x, y, vx, vy) a ball."""
    values = torch.tensor(rows, dtype=F64)[None]
    return values[..., :2], values[..., 2:]


def random_tables(seed: int, batch: int, balls: int) -> tuple[Tensor, Tensor]:
    """Valid random positions and velocities (B, N, 2)."""
    drawn = starts.sample_tables(TableConfig(num_balls=balls), np.random.default_rng(seed), batch)
    return torch.tensor(drawn[0]), torch.tensor(drawn[1])


def play_scalar(
    positions: Any, velocities: Any, duration: float, restitution: float = 1.0
) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """The scalar kernel on every table; also the numbers of wall and ball hits."""
    places, speeds = (each.flatten(1).tolist() for each in (positions, velocities))
    counts = [
        physics.advance(x, v, duration, R, restitution) for x, v in zip(places, speeds, strict=True)
    ]
    p, v = (torch.tensor(each, dtype=F64).view_as(positions) for each in (places, speeds))
    return p, v, counts


# --- Closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [1.1e-3, 9e-4, 1e-7, 1e-12])
@pytest.mark.parametrize("restitution", [0.05, 0.5, 0.96, 1.0])
def test_slow_contacts_give_back_what_the_scalar_kernel_says(
    speed: float, restitution: float
) -> None:
    rows = (0.3, 0.3, 0.0, 0.7), (0.42, 0.46, -0.6 * speed, 0.7 - 0.8 * speed), (0.9, 0.5, speed, 0)
    p, v = table(*rows)
    expected, turned, counts = play_scalar(p, v, 1e-3, restitution)
    assert counts == [(1, 1)]
    found = advance(p, v, 1e-3, R, restitution)
    torch.testing.assert_close(found, (expected, turned), atol=1e-15, rtol=0)
    half = resolve(p, v, torch.tensor([4]), restitution, slow_contact=0.5e-3)
    share = restitution if speed > 0.5e-3 else max(restitution, 0.95)
    assert half[0, 2, 0].item() == pytest.approx(-share * speed, rel=1e-14)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("restitution", [0.01, 0.3])
def test_tables_that_lose_energy_can_always_be_played(
    restitution: float, dtype: torch.dtype
) -> None:
    p, v = (each.to(dtype) for each in random_tables(0, 64, 8))
    moving = v.clone().requires_grad_()
    q, w = advance(p, moving, 2.0, R, restitution)
    x = q.detach()
    distances = (x[:, :, None] - x[:, None]).square().sum(-1).sqrt() + torch.eye(8, dtype=dtype)
    assert float(distances.min()) > 2 * R - (1e-12 if dtype == F64 else 1e-5)
    assert float(w.detach().square().sum()) < 0.5 * float(v.square().sum())
    (gradient,) = torch.autograd.grad(q.sum(), moving)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("speed", [10.0**-k for k in range(0, 15, 2)])
@pytest.mark.parametrize("radius", [0.1, 0.01])
def test_contacts_at_tiny_speeds_are_found(speed: float, radius: float) -> None:
    p, v = table((0.3, 0.5, 0.6 * speed, 0.1 * speed), (0.5, 0.5, -0.4 * speed, 0.1 * speed))
    p[:, 1, 0] = 0.301 + 2 * radius
    time, event = next_event(p, v, radius)
    assert event.item() == 4
    x, u = p[0].flatten().tolist(), v[0].flatten().tolist()
    duration = 1.5 * time.item()
    assert physics.advance(x, u, duration, radius) == (0, 1)
    q, w = advance(p, v, duration, radius)
    assert q[0].flatten().tolist() == pytest.approx(x, abs=1e-13)
    assert w[0].flatten().tolist() == pytest.approx(u, abs=1e-13 * speed)


@pytest.mark.parametrize(
    ("ball", "axis", "sign"), [(i, a, s) for i in range(3) for a in range(2) for s in (-1, 1)]
)
def test_wall_events_are_numbered_by_ball_and_axis(ball: int, axis: int, sign: int) -> None:
    p, v = table((0.2, 0.2, 0, 0), (0.5, 0.5, 0, 0), (0.8, 0.8, 0, 0))
    v[0, ball, axis] = 0.5 * sign
    time, event = next_event(p, v, R)
    assert event.item() == 2 * ball + axis and event.dtype == torch.int64
    wall = 0.9 if sign > 0 else 0.1
    assert time.item() == pytest.approx(abs(wall - p[0, ball, axis].item()) / 0.5, abs=1e-15)
    after = resolve(p + v * time, v, event)
    assert torch.equal(after, -v)


def test_pair_events_are_numbered_as_triu_indices() -> None:
    balls = 4
    places = [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]
    for k, (i, j) in enumerate(torch.triu_indices(balls, balls, 1).T.tolist()):
        p, v = table(*[(x, y, 0.0, 0.0) for x, y in places])
        v[0, i] = p[0, j] - p[0, i]
        time, event = next_event(p, v, R)
        assert event.item() == 2 * balls + k
        _, w = advance(p, v, time + 0.02, R)
        torch.testing.assert_close(w[0, j], v[0, i], atol=1e-14, rtol=0)


def test_a_ball_just_past_a_wall_turns_only_if_it_moves_outwards() -> None:
    p, v = table((0.9 + 1e-15, 0.5, 1.0, 0.0))
    time, event = next_event(p, v, R)
    assert (time.item(), event.item()) == (0.0, 0)
    time, event = next_event(p, -v, R)
    assert time.item() == pytest.approx(0.8) and event.item() == 0


def test_overlapping_balls_part_at_once() -> None:
    p, v = table((0.4, 0.5, 1.0, 0.0), (0.55, 0.5, 0.0, 0.0))
    time, event = next_event(p, v, R)
    assert (time.item(), event.item()) == (0.0, 4)
    assert torch.equal(advance(p, v, 0.1, R)[1][0, :, 0], torch.tensor([0.0, 1.0], dtype=F64))
    assert next_event(p, -v, R)[1].item() == 0  # already parting: the wall is next


# --- Against the scalar kernel, and against itself ----------------------------------------------


@given(balls=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_scalar_kernel(balls: int, seed: int) -> None:
    """To 1e-9 over 1 time unit (20 frames; up to 35 events), except where the table itself is so
    chaotic that a change of 1e-10 in its start grows a hundred-thousandfold: there no two ways of
    rounding need to agree."""
    p, v = random_tables(seed, 4, balls)
    expected = play_scalar(p, v, 1.0)[:2]
    size = 1e-10
    signs = torch.tensor(np.random.default_rng(seed).choice([-size, size], p.shape))
    nudged = play_scalar(p + signs, v, 1.0)[:2]
    growth = max(float((a - b).abs().max()) for a, b in zip(nudged, expected, strict=True)) / size
    assume(growth < 1e5)
    torch.testing.assert_close(advance(p, v, 1.0, R), expected, atol=1e-9, rtol=0)


def test_simulate_reads_what_advance_reaches_at_any_times_in_any_order() -> None:
    p, v = random_tables(1, 10, 3)
    times = torch.tensor([0.77, 0.0, 0.1, 1.2, 0.1], dtype=F64)
    q, w = simulate(p, v, times, R)
    assert q.shape == w.shape == (10, 5, 3, 2)
    assert torch.equal(q[:, 1], p) and torch.equal(w[:, 1], v)
    for k, time in enumerate(times.tolist()):
        expected_q, expected_w = advance(p, v, time, R)
        torch.testing.assert_close(q[:, k], expected_q, atol=1e-10, rtol=0)
        torch.testing.assert_close(w[:, k], expected_w, atol=1e-10, rtol=0)


def test_every_table_may_have_its_own_duration() -> None:
    p, v = random_tables(2, 4, 2)
    durations = torch.tensor([0.0, 0.3, 1.0, 0.6], dtype=F64)
    q, w = advance(p, v, durations, R)
    for i in range(4):
        alone = advance(p[i : i + 1], v[i : i + 1], durations[i].item(), R)
        torch.testing.assert_close((q[i : i + 1], w[i : i + 1]), alone, atol=1e-12, rtol=0)


def test_dropping_finished_tables_changes_neither_results_nor_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, v = random_tables(3, 64, 2)
    times = torch.linspace(0, 2, 5, dtype=F64)

    def play() -> list[Tensor]:
        shot = v.clone().requires_grad_()
        end = advance(p, shot, 2.0, R)[0]
        frames = simulate(p, shot, times, R)[0]
        return [end, frames, *torch.autograd.grad(end.sum() + frames.sum(), shot)]

    whole = play()
    monkeypatch.setattr(torch_physics, "_COMPACT_FROM", 1)
    monkeypatch.setattr(torch_physics, "_COMPACT_BELOW", 1.0)
    torch.testing.assert_close(play(), whole, atol=1e-9, rtol=1e-9)


def test_an_empty_batch_and_inference_mode_work() -> None:
    empty = torch.zeros(0, 3, 2)
    assert advance(empty, empty, 1.0, R)[0].shape == (0, 3, 2)
    assert simulate(empty, empty, torch.tensor([0.5, 1.0]), R)[0].shape == (0, 2, 3, 2)
    p, v = table((0.3, 0.5, 1.0, 0.2), (0.7, 0.5, 0.0, 0.0))
    with torch.inference_mode():
        inferred = advance(p, v, 1.0, R)
    torch.testing.assert_close(inferred, advance(p, v, 1.0, R))


def test_float32_stays_close_to_float64_over_one_shot() -> None:
    p, v = random_tables(5, 500, 2)
    exact, _ = advance(p, v, 1.0, R)
    rough, speed = advance(p.float(), v.float(), 1.0, R)
    assert rough.dtype == speed.dtype == torch.float32
    assert (rough - exact).abs().median() < 1e-6
    energy, before = speed.square().sum((1, 2)), v.float().square().sum((1, 2))
    torch.testing.assert_close(energy, before, rtol=1e-5, atol=0)


def test_rounding_never_makes_endless_contacts() -> None:
    """Rows of touching balls whose velocities differ by a few units in the last place."""
    for dtype in (torch.float32, torch.float64):
        eps = torch.finfo(dtype).eps
        steps = torch.randint(-3, 4, (200, 4, 2), generator=torch.Generator().manual_seed(0))
        p = torch.tensor([[0.2, 0.4], [0.4, 0.4], [0.6, 0.4], [0.6, 0.6]], dtype=dtype)
        p = p.expand(200, 4, 2) + steps * eps / 4
        v = torch.tensor([0.3, 0.7], dtype=dtype) * (1 + steps.flip(0) * eps)
        q, _ = advance(p, v, 2.0, R, max_events=100)
        assert q.min() >= R - 1e-5 and q.max() <= 1 - R + 1e-5


# --- Gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hits", [1, 2, 3])
@pytest.mark.parametrize("balls", [2, 3])
def test_gradcheck_of_final_positions_with_respect_to_the_shot(balls: int, hits: int) -> None:
    p, v = random_tables(10 + balls, 3000, balls)
    counts = play_scalar(p, v, 0.8)[2]
    chosen = [i for i, count in enumerate(counts) if count[1] == hits][:3]
    assert len(chosen) == 3
    positions, velocities = p[chosen], v[chosen]

    def end(shot: Tensor) -> tuple[Tensor, Tensor]:
        moving = torch.cat([shot[:, None], velocities[:, 1:]], 1)
        return advance(positions, moving, 0.8, R)

    shot = velocities[:, 0].clone().requires_grad_()
    assert torch.autograd.gradcheck(end, (shot,), eps=1e-7, atol=1e-4, rtol=1e-4)


def test_gradcheck_of_simulate_in_every_argument() -> None:
    p, v = table((0.2, 0.42, 1.1, 0.1), (0.6, 0.5, -0.1, 0.2))
    times = torch.tensor([0.1, 0.35, 0.9], dtype=F64)
    inputs = [x.clone().requires_grad_() for x in (p, v, times)]

    def play(p: Tensor, v: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        return simulate(p, v, times, R)

    assert torch.autograd.gradcheck(play, inputs, eps=1e-7, atol=1e-5)


def test_corners_have_the_gradient_of_two_folds() -> None:
    """Both walls at one time, and, in some of these tables, the second one past by rounding."""
    start, speed = torch.rand(2, 50, 1, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    p = torch.cat([torch.full((1, 1, 2), 0.7, dtype=F64), (0.2 + 0.6 * start).expand(50, 1, 2)])
    v = torch.cat([torch.ones((1, 1, 2), dtype=F64), (0.5 + speed).expand(50, 1, 2)]).clone()
    duration = ((0.9 - p) / v)[:, 0, 0] + 0.3
    q = advance(p, v.requires_grad_(), duration, R)[0]
    for axis in range(2):
        (gradient,) = torch.autograd.grad(q[:, 0, axis].sum(), v, retain_graph=True)
        expected = torch.zeros_like(v)
        expected[:, 0, axis] = -duration
        torch.testing.assert_close(gradient, expected, atol=1e-13, rtol=0)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "play",
    [
        pytest.param(lambda p, v: advance(p, v, 1.0, R), id="advance"),
        pytest.param(lambda p, v: simulate(p, v, torch.tensor([0.0, 0.5, 1.0]), R), id="simulate"),
        pytest.param(lambda p, v: [next_event(p, v, R)[0].nan_to_num(posinf=0)], id="next_event"),
        pytest.param(lambda p, v: [resolve(p, v, torch.tensor([4] * len(p)))], id="resolve"),
    ],
)
def test_gradients_are_finite_in_degenerate_cases(
    play: Callable[[Tensor, Tensor], list[Tensor]], dtype: torch.dtype
) -> None:
    cases = [
        table((0.3, 0.5, 0, 0), (0.7, 0.5, 0, 0)),  # all at rest
        table((0.3, 0.5, 0, 0), (0.5, 0.5, 0, 0)),  # touching at rest
        table((0.1, 0.1, 0, 0), (0.9, 0.9, 0, 0)),  # resting in corners
        table((0.3, 0.5, 0.4, 0.3), (0.5, 0.5, 0.4, 0.3)),  # touching, same velocity
        table((0.3, 0.5, 1, 0), (0.3, 0.7, 1, 0)),  # sliding side by side
        table((0.2, 0.3, 1, 0), (0.6, 0.5, 0, 0)),  # grazing
        table((0.2, 0.5, 1, 0), (0.6, 0.5, 0, 0)),  # head-on
        table((0.3, 0.5, 0, 0), (0.3, 0.5, 0, 0)),  # one inside the other
        table((0.7, 0.7, 1, 1), (0.3, 0.3, -1, -1)),  # two corners at once
        table((0.9, 0.5, 0, 1), (0.1, 0.5, 0, -1)),  # along walls
        table((0.3, 0.5, 1e-30, 0), (0.7, 0.5, -1e-14, 1e-20)),  # slower than time tells
    ]
    p, v = (torch.cat(part).to(dtype).requires_grad_() for part in zip(*cases, strict=True))
    with torch.autograd.detect_anomaly(check_nan=True):
        total = sum(values.sum() for values in play(p, v))
        assert isinstance(total, Tensor)
        gradients = torch.autograd.grad(total, (p, v))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


# --- Bad input ----------------------------------------------------------------------------------


def test_more_events_than_allowed_is_a_clear_error() -> None:
    p, v = table((0.5, 0.5, 100.0, 0.0))
    with pytest.raises(RuntimeError, match=r"more than max_events=50 events.*shorter duration"):
        advance(p, v, 1.0, R, max_events=50)
    advance(p, v, 1.0, R, max_events=125)
    with pytest.raises(RuntimeError, match="max_events=124"):
        advance(p, v, 1.0, R, max_events=124)


def test_a_table_that_is_not_a_number_ends_and_harms_no_other() -> None:
    p, v = random_tables(7, 3, 2)
    expected = advance(p, v, 1.0, R)[0]
    v[1, 0, 0] = torch.nan
    q, _ = advance(p, v, 1.0, R)
    assert q[1].isnan().any()
    torch.testing.assert_close(q[[0, 2]], expected[[0, 2]], atol=1e-10, rtol=0)


P2 = torch.zeros(3, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: next_event(torch.zeros(2, 2), torch.zeros(2, 2), R), r"\(B, N, 2\).*\(2, 2\)"),
        (lambda: next_event(torch.zeros(3, 0, 2), torch.zeros(3, 0, 2), R), "at least one"),
        (lambda: next_event(P2, torch.zeros(3, 1, 2), R), r"shape of positions.*\(3, 1, 2\)"),
        (lambda: next_event(P2, P2.double(), R), r"float32 and torch\.float64"),
        (lambda: next_event(P2.long(), P2.long(), R), "float32 or both float64"),
        (lambda: next_event(P2, P2, 0.5), "radius must lie between 0 and 0.5.*got 0.5"),
        (lambda: next_event(P2, P2, math.nan), "radius"),
        (lambda: resolve(P2, P2, torch.zeros(2)), r"event must have shape \(3,\).*\(2,\)"),
        (lambda: resolve(P2, P2, torch.zeros(3), 1.5), r"restitution must lie in \(0, 1\].*1.5"),
        (lambda: advance(P2, P2, -0.1, R), r"duration must lie in \[0.*got -0.1.*negate"),
        (lambda: advance(P2, P2, math.inf, R), "duration.*got inf"),
        (lambda: advance(P2, P2, torch.tensor([1.0, math.nan, 1.0]), R), "duration.*got nan"),
        (lambda: advance(P2, P2, torch.ones(2), R), r"duration.*\(3,\).*got shape \(2,\)"),
        (lambda: simulate(P2, P2, torch.tensor(1.0), R), r"times must have shape \(K,\)"),
        (lambda: simulate(P2, P2, torch.tensor([1.0, -2.0]), R), "times must lie in.*got -2"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same_table() -> None:
    p, v = random_tables(8, 50, 4)
    here = advance(p, v, 0.8, R)
    there = advance(p.cuda(), v.cuda(), 0.8, R)
    torch.testing.assert_close(tuple(x.cpu() for x in there), here, atol=1e-9, rtol=0)
