"""The exact event-driven table as batched, differentiable PyTorch operations.

The same physics as the scalar kernel in `physics.py` for many tables at once, on any device, in
float32 or float64. Gradients flow through positions, velocities and the *times* of the collisions,
so a planner may differentiate where a ball ends up with respect to the shot. No operation loops
over tables or balls; one round of operations plays one event on every table.

Letters: B tables, N balls, P = N (N - 1) / 2 pairs, E = 2 N + P possible events, K query times.
Times are in time units, lengths in sides of the unit table. Balls have equal mass and one radius;
walls stand at 0 and 1.

An event is one number: `2 * i + a` when ball i meets a wall along axis a; `2 * N + k` when the
balls of pair k (in the order of `torch.triu_indices(N, N, 1)`) meet; -1 for no event. Of
simultaneous events the one with the smallest number comes first, the others follow at time zero.
What counts as an event, in which order, and what slow contacts give back, is as `physics.py` says.
An argument of another shape, dtype or range than is said is a `ValueError`.
"""

# Inside, tables are the last dimension, and choices are made by arithmetic on 0 and 1 in the place
# of masks: torch.where, masked_fill and min-with-index branch on every element, which on a CPU
# costs 10 to 30 multiplications. Every divisor and every argument of a square root is kept away
# from zero also where the result is thrown away, so that no gradient is NaN.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jumpy_mbrl.envs.physics import SLOW_CONTACT, SLOW_RESTITUTION
from jumpy_mbrl.pieces import Pieces

__all__ = ["DEFAULT_MAX_EVENTS", "advance", "next_event", "resolve", "simulate"]

DEFAULT_MAX_EVENTS = 10_000
"""Events that one table may have in one call before it is refused."""

_NEVER = 1e12  # Time units; a later event does not exist, and no run may last longer.
_COMPACT_FROM = 4096  # With fewer tables, dropping finished ones costs more than it saves.
_COMPACT_BELOW = 0.6  # Share of tables still playing at which the others are dropped.


def next_event(positions: Tensor, velocities: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Finds the earliest contact of approaching bodies on every table.

    Args:
        positions: (B, N, 2) ball centres.
        velocities: (B, N, 2) in sides per time unit.
        radius: Radius of every ball, in (0, 0.5).

    Returns:
        `time` (B,) to the contact, `inf` without one, differentiable; and `event` (B,), int64,
        numbered as the module says. Balls that rest against each other or a wall, move along it or
        away from it, or pass each other grazing, make no event. A ball already past a wall (or
        into another ball) and still moving on has its event at time zero.
    """
    _check(positions, velocities, radius)
    velocities = _tables_last(velocities)
    time, event = _next_event(_tables_last(positions), velocities, radius, _rest(velocities))
    never = time > _NEVER
    return time.masked_fill(never, torch.inf), event.masked_fill(never, -1).long()


def resolve(
    positions: Tensor,
    velocities: Tensor,
    event: Tensor,
    restitution: float = 1.0,
    slow_contact: float = SLOW_CONTACT,
) -> Tensor:
    """Returns the velocities right after an event that happens at these positions.

    Args:
        positions: (B, N, 2) ball centres at the time of the event.
        velocities: (B, N, 2) right before it.
        event: (B,) integers, as `next_event` returns them; -1 changes nothing.
        restitution: Share of the approach speed that is given back, in (0, 1].
        slow_contact: Approach speed below which this share is at least
            `physics.SLOW_RESTITUTION`, in the unit of the velocities.

    Returns:
        (B, N, 2) velocities, differentiable with respect to positions and velocities.
    """
    _check(positions, velocities, restitution=restitution)
    if event.shape != positions.shape[:1]:
        raise ValueError(
            f"event must have shape ({positions.shape[0]},), one number per table, got "
            f"{tuple(event.shape)}; pass what next_event returned"
        )
    event = event.to(positions.dtype)
    state = _tables_last(positions), _tables_last(velocities)
    return _tables_first(_resolve(*state, event, restitution, slow_contact))


def advance(
    positions: Tensor,
    velocities: Tensor,
    duration: float | Tensor,
    radius: float,
    restitution: float = 1.0,
    max_events: int = DEFAULT_MAX_EVENTS,
) -> tuple[Tensor, Tensor]:
    """Moves every table forward by its duration, playing every collision on the way.

    Args:
        positions: (B, N, 2) ball centres.
        velocities: (B, N, 2).
        duration: One number or (B,), in time units, in [0, 1e12]; may require gradients.
        radius: Radius of every ball, in (0, 0.5).
        restitution: Share of the approach speed that a contact gives back, in (0, 1].
        max_events: Events that one table may have; more are a `RuntimeError`.

    Returns:
        Positions and velocities, both (B, N, 2). An event at the very end belongs to the next call.
    """
    _check(positions, velocities, radius, restitution)
    length = _check_duration(duration, positions)
    return _run(positions, velocities, length, radius, restitution, max_events)


def simulate(
    positions: Tensor,
    velocities: Tensor,
    times: Tensor,
    radius: float,
    restitution: float = 1.0,
    max_events: int = DEFAULT_MAX_EVENTS,
) -> tuple[Tensor, Tensor]:
    """Plays every table once, with the arguments of `advance`, and reads positions and velocities,
    both (B, K, N, 2), at the query times (K,), which are not negative and in any order. They are
    differentiable in every argument tensor. The cost grows with the number of events, not with that
    of query times."""
    _check(positions, velocities, radius, restitution)
    times = _check_times(times, positions)
    length = times.detach().max().expand(positions.shape[0])
    pieces: list[Pieces] = []

    def record(tables: Tensor, remaining: Tensor, *moving: Tensor) -> None:
        start = length[tables] - remaining
        content = torch.cat([part.flatten(0, 1) for part in moving]).T
        if pieces:
            pieces[0].add(tables, start, content)
        else:
            pieces.append(Pieces(start, content))

    _run(positions, velocities, length, radius, restitution, max_events, record)
    numbers, elapsed = pieces[0].find(times)
    piece = torch.cat(pieces[0].contents).index_select(0, numbers.flatten())
    before, after = piece.view(*numbers.shape, 2, *positions.shape[1:]).unbind(2)
    return torch.addcmul(before, after, elapsed[..., None, None]), after


def _run(
    positions: Tensor,
    velocities: Tensor,
    remaining: Tensor,
    radius: float,
    restitution: float,
    max_events: int,
    record: Callable[..., None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Plays every table for its remaining (B,) time, one event each a round.

    Before each `record` is given the numbers of the tables, the time that remains, positions and
    velocities."""
    positions, velocities = _tables_last(positions), _tables_last(velocities)
    rest = _rest(velocities)
    tables = torch.arange(len(remaining), device=remaining.device)
    finished: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(max_events + 1):
        if record is not None:
            record(tables, remaining, positions, velocities)
        time, event = _next_event(positions, velocities, radius, rest)
        step = torch.minimum(time, remaining.clamp(min=0))
        positions = torch.addcmul(positions, velocities, step)
        remaining = remaining - time  # not positive from now on where the table has ended
        playing = remaining > 0
        count = int(playing.count_nonzero())
        if count == 0:
            break
        event = (event + 1) * playing - 1
        velocities = _resolve(positions, velocities, event, restitution)
        if len(tables) >= _COMPACT_FROM and count < _COMPACT_BELOW * len(tables):
            ended, on = (~playing).nonzero().squeeze(1), playing.nonzero().squeeze(1)
            finished.append((tables[ended], positions[..., ended], velocities[..., ended]))
            tables, remaining, rest = tables[on], remaining[on], rest[on]
            positions, velocities = positions[..., on], velocities[..., on]
    else:
        raise RuntimeError(
            f"the tables {tables[playing].tolist()} had more than max_events={max_events} events "
            f"and {float(remaining.detach().max()):.3g} time units were left; play a shorter "
            "duration, slow the balls or raise max_events"
        )
    if finished:
        finished.append((tables, positions, velocities))
        order = torch.cat([part[0] for part in finished]).argsort()
        positions = torch.cat([part[1] for part in finished], -1)[..., order]
        velocities = torch.cat([part[2] for part in finished], -1)[..., order]
    return _tables_first(positions), _tables_first(velocities)


def _next_event(
    positions: Tensor, velocities: Tensor, radius: float, rest: Tensor
) -> tuple[Tensor, Tensor]:
    """Time (B,) and event (B,) as a float, for (N, 2, B) tensors; `rest` as of `_rest`.

    Without any event the time is later than `_NEVER` and the event has no meaning.
    """
    times = _wall_times(positions, velocities, radius)
    if positions.shape[0] > 1:
        times = torch.cat([times, _pair_times(positions, velocities, radius, rest)])
    with torch.no_grad():
        numbers = _numbers(times.shape[0], times)
        later = (times - times.amin(0)).sign_()
        event = numbers.addcmul(later, _numbers(1, times) + len(times)).amin(0)
        chosen = _one_hot(event, len(times))
    time = (times * chosen).sum(0)
    # A contact that is past by rounding happens now; its gradient is that of its true time.
    return time - time.detach().clamp(max=0), event


def _wall_times(positions: Tensor, velocities: Tensor, radius: float) -> Tensor:
    """Times (2N, B) until each ball touches, along each axis, the wall that it moves to."""
    position, velocity = positions.flatten(0, 1) - 0.5, velocities.flatten(0, 1)
    gap = (0.5 - radius) - position * velocity.detach().sign()
    return gap / velocity.abs().clamp(min=_least_square(velocity) ** 0.5)


def _pair_times(positions: Tensor, velocities: Tensor, radius: float, rest: Tensor) -> Tensor:
    """Times (P, B) until each pair touches; beyond `_NEVER` if it does not."""
    dx, dy = _differences(positions).unbind(1)
    du, dw = _differences(velocities).unbind(1)
    reach = 4.0 * radius * radius
    # With d and w the relative position and velocity, contact is the smaller root t of
    # |d + w t|^2 = reach. Its discriminant is written with the cross product of d and w,
    # which loses fewer digits than squares of dot products. An approach slower than rounding is
    # none, or balls that touch could hit each other without end.
    approach = torch.addcmul(dx * du, dy, dw)
    cross = torch.addcmul(dx * dw, dy, du, value=-1)
    square = torch.addcmul(du * du, dw, dw)
    gap = torch.addcmul(dx * dx, dy, dy) - reach
    bite = torch.addcmul(square * reach, cross, cross, value=-1)
    with torch.no_grad():
        slow = torch.add(approach, rest, alpha=2 * radius)
        misses = torch.minimum(slow.neg_(), bite).sign_().clamp_(min=0).neg_().add_(1)
    root = bite.clamp(min=_least_square(bite)).sqrt()
    return gap / (root - approach.clamp(max=0) + misses) + misses * _NEVER * 2


def _rest(velocities: Tensor) -> Tensor:
    """Speed (B,) that rounding cannot tell from rest, for velocities (N, 2, B)."""
    eps = torch.finfo(velocities.dtype).eps
    return velocities.detach().square().sum((0, 1)).sqrt() * (8 * eps)


def _least_square(like: Tensor) -> float:
    """The least number whose inverse, and that of whose root's square, is finite in this dtype."""
    return torch.finfo(like.dtype).tiny


def _resolve(
    positions: Tensor,
    velocities: Tensor,
    event: Tensor,
    restitution: float,
    slow_contact: float = SLOW_CONTACT,
) -> Tensor:
    """`resolve` for (N, 2, B) tensors and the event as a float."""
    balls = positions.shape[0]
    chosen = _one_hot(event, balls * (balls + 3) // 2)
    walls = chosen[: 2 * balls].reshape(balls, 2, -1)
    turned = torch.addcmul(velocities, velocities, walls, value=-1 - restitution)
    more = max(SLOW_RESTITUTION - restitution, 0)  # what slow contacts give back beyond it
    if more:
        slow = (velocities.detach().abs() < slow_contact) * walls
        turned = torch.addcmul(turned, velocities, slow, value=-more)
    if balls == 1:
        return turned
    first, second = _pairs(balls, event.device)
    if balls == 2:
        sign = torch.cat([chosen[4:], -chosen[4:]]).unsqueeze(1)
        (dx, dy), (du, dw) = (positions[0] - positions[1]), (velocities[0] - velocities[1])
    else:
        numbers = torch.arange(balls, device=event.device)[:, None]
        incidence = (numbers == first).to(positions) - (numbers == second).to(positions)
        sign = (incidence @ chosen[2 * balls :]).unsqueeze(1)
        dx, dy = (sign * positions).sum(0)
        du, dw = (sign * velocities).sum(0)
    distance = torch.addcmul(dx * dx, dy, dy).clamp(min=1e-12)
    rate = torch.addcmul(dx * du, dy, dw)
    push = rate / distance * (-0.5 * (1 + restitution))
    if more:
        slow = rate.detach().square() < slow_contact**2 * distance.detach()
        push = torch.addcmul(push, push, slow.to(push), value=more / (1 + restitution))
    return torch.addcmul(turned, torch.stack([dx * push, dy * push]), sign)


def _differences(values: Tensor) -> Tensor:
    """First minus second ball of every pair: (N, 2, B) to (P, 2, B)."""
    if values.shape[0] == 2:
        return values[:1] - values[1:]
    first, second = _pairs(values.shape[0], values.device)
    return values.index_select(0, first) - values.index_select(0, second)


def _pairs(balls: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers (P,) of the first and of the second ball of every pair."""
    first, second = torch.triu_indices(balls, balls, 1, device=device)
    return first, second


def _numbers(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device).unsqueeze(1)


def _one_hot(event: Tensor, events: int) -> Tensor:
    """(E, B) with 1 at the event of each table and 0 elsewhere; all 0 for event -1."""
    return (_numbers(events, event) - event).abs_().neg_().add_(1).clamp_(min=0)


def _tables_last(values: Tensor) -> Tensor:
    """(B, N, 2) to (N, 2, B), laid out so; free of cost for what this module returned."""
    return values.permute(1, 2, 0).contiguous()


def _tables_first(values: Tensor) -> Tensor:
    return values.permute(2, 0, 1)


def _check(
    positions: Tensor, velocities: Tensor, radius: float = 0.1, restitution: float = 1.0
) -> None:
    if positions.ndim != 3 or positions.shape[1] < 1 or positions.shape[2] != 2:
        raise ValueError(
            "positions must have shape (B, N, 2): tables, balls (at least one), x and y; got "
            f"{tuple(positions.shape)}; add a batch dimension to a single table"
        )
    if velocities.shape != positions.shape:
        raise ValueError(
            f"velocities must have the shape of positions, {tuple(positions.shape)}, got "
            f"{tuple(velocities.shape)}"
        )
    dtypes = (positions.dtype, velocities.dtype)
    if dtypes not in ((torch.float32, torch.float32), (torch.float64, torch.float64)):
        raise ValueError(
            "positions and velocities must both be float32 or both float64, got "
            f"{dtypes[0]} and {dtypes[1]}; convert them with .to()"
        )
    if not 0 < radius < 0.5:
        raise ValueError(f"radius must lie between 0 and 0.5 (the table's side is 1), got {radius}")
    if not 0 < restitution <= 1:
        raise ValueError(f"restitution must lie in (0, 1] (1 keeps all energy), got {restitution}")


def _check_duration(duration: float | Tensor, positions: Tensor) -> Tensor:
    length = torch.as_tensor(duration, dtype=positions.dtype, device=positions.device)
    if length.shape not in ((), positions.shape[:1]):
        raise ValueError(
            f"duration must be one number or have shape ({positions.shape[0]},), one per table, "
            f"got shape {tuple(length.shape)}"
        )
    _check_span("duration", length, "; to run backwards, negate the velocities")
    return length.expand(positions.shape[0])


def _check_times(times: Tensor, positions: Tensor) -> Tensor:
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(
            f"times must have shape (K,), one or more query times, got {tuple(times.shape)}"
        )
    times = times.to(positions)
    _check_span("times", times)
    return times


def _check_span(name: str, times: Tensor, advice: str = "") -> None:
    good = (times >= 0) & (times <= _NEVER)  # NaN is not
    if not bool(good.all()):
        worst = float(times.detach()[~good][0])
        raise ValueError(f"{name} must lie in [0, {_NEVER:g}] time units, got {worst}{advice}")
