"""Infers velocities from frames: the motion that, played through the model, explains them.

A difference of two frames is a velocity only if nothing happened between them. So every interval
proposes one: the model is started there and played to the last frame, through whatever events it
foresees, and the proposal that explains the later frames best is kept.

In few rows every interval holds an event of some ball, or all but the last one, whose proposal no
later frame confirms. They alone are searched for: from proposals that are changed ball by ball,
velocities are fitted to the frames, and to the film played backwards.

Letters: B batch, R rows of it that are searched for, T frames, N balls, D observation size,
S starts of a search, M numbers in the frames to be explained.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State
from jumpy_mbrl.models.networks import solve_damped

_EXPLAINED = 2e-3
"""A later frame is explained if every coordinate is this near, in sides of the table."""
_BETTER_THAN_NOTHING = 1e-2
"""Velocities that miss some frame by more are believed less than the last displacement."""

_WINDOW = 4
"""The search looks at so many of the last frames."""
_STARTS = 16
"""How many starts of a search are followed: those that miss the frames least."""
_STEPS = 3
_NUDGE = 1e-4
"""Change of a velocity, in sides per frame, from which a slope is read."""
_DAMPING = 1e-3
_LONGEST_STEP = 0.1
"""Of a velocity, along each axis, in sides per frame; wild velocities are costly to play."""
_AT_ONCE = 256
"""Rows searched for together, which bounds the memory."""
_SMOOTHING_STEPS = 2
_SMOOTHING_DAMPING = 1e-6

S_co = TypeVar("S_co", bound=State, covariant=True)

_MAY_PLAY: ContextVar[Callable[[int], bool]] = ContextVar("may_play", default=lambda rollouts: True)


@contextmanager
def bounded(may_play: Callable[[int], bool]) -> Iterator[None]:
    """Bounds what is played within a block to explain frames.

    The models whose ``observe`` is called there, and those that wrap them, need not know of it.
    Where no more may be played, the best velocities so far are taken.

    Args:
        may_play: asked before each turn of so many rollouts. The first, which plays the last
            interval, is made whatever the answer.
    """
    token = _MAY_PLAY.set(may_play)
    try:
        yield
    finally:
        _MAY_PLAY.reset(token)


class StatedModel(Protocol[S_co]):
    """A world model whose states can be made from positions and velocities."""

    obs_size: int
    axes: int

    def state_from(self, positions: Tensor, velocities: Tensor) -> S_co: ...

    def velocities_of(self, state: State) -> Tensor: ...

    def imagine(
        self,
        state: State,
        times: Tensor | Sequence[float],
        action: Tensor | None = None,
        action_times: Sequence[float] = ...,
    ) -> Imagined: ...


def explain(model: StatedModel[S_co], obs: Tensor, action: Tensor | None = None) -> S_co:
    """The state at the last of the frames ``obs`` (B, T, D), T >= 2.

    Differentiable, but for the velocities that had to be searched for: they are constants.

    Args:
        action: actions taken at the frames, (B, T, A), or None; the last one is ignored.
    """
    T = obs.shape[1]
    if action is not None and not bool(action[:, 1:-1].any()):
        action = None
    may_play = _MAY_PLAY.get()
    proposals = {}
    for start in (T - 2, *range(T - 2)):
        if may_play(len(obs)) or start == T - 2:
            proposals[start] = _propose(model, obs, action, start)
    # The last interval's proposal is contradicted by no later frame: it must not win a tie.
    error, velocity = proposals.pop(T - 2)
    proposals[T - 2] = error.clamp_min(_EXPLAINED), velocity
    best = torch.stack([error for error, _ in proposals.values()], dim=1).min(dim=1)
    index = best.indices.view(-1, 1, 1).expand(-1, 1, model.obs_size)
    proposed = torch.stack([velocity for _, velocity in proposals.values()], dim=1)
    velocity = proposed.gather(1, index).squeeze(1)
    unexplained = best.values >= _EXPLAINED
    if T > 2 and bool(unexplained.any()):
        for rows in unexplained.nonzero().squeeze(1).split(_AT_ONCE):
            if not may_play(len(rows)):
                break
            actions = None if action is None else action[rows, -_WINDOW:]
            found, velocity_found = _search(model, obs[rows, -_WINDOW:].detach(), actions)
            velocity = velocity.index_copy(0, rows[found], velocity_found[found])
    return model.state_from(obs[:, -1], velocity)


def _propose(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int
) -> tuple[Tensor, Tensor]:
    """Largest error on later frames (B,), and velocities at the last frame (B, D)."""
    imagined = _play(model, obs, action, start, obs[:, start + 1] - obs[:, start])
    error = _largest(imagined.obs - obs[:, start + 1 :], (1, 2))
    return error, model.velocities_of(imagined.state)


def _play(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int, velocity: Tensor
) -> Imagined:
    """The frames after ``start``, with ``velocity`` (B, D) right after the action taken there."""
    T = obs.shape[1]
    state = model.state_from(obs[:, start], velocity)
    times = [float(t) for t in range(1, T - start)]
    later = list(range(start + 1, T - 1))
    if action is None or not later:
        return model.imagine(state, times)
    return model.imagine(state, times, action[:, later], [float(t - start) for t in later])


# -- the search: for the few rows that no proposal explains --------------------------------------


@torch.no_grad()
def _search(model: StatedModel[S_co], obs: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which rows (R,) have better velocities than the last displacement, and those (R, D)."""
    left = torch.arange(obs.shape[0], device=obs.device)
    error = obs.new_full(left.shape, _BETTER_THAN_NOTHING)
    velocity = torch.zeros_like(obs[:, 0])
    if action is None:
        # Most often the last displacement is right, and the film played backwards tells.
        backwards, _ = _propose(model, obs.flip(1), None, 0)
        left = left[backwards >= _EXPLAINED]
    for start in range(obs.shape[1] - 2):
        if left.numel() == 0:
            break
        actions = None if action is None else action[left]
        fitted = _fit_both_ways(model, obs[left], actions, start)
        if fitted is None:
            break
        errors, velocities = fitted
        better = errors < error[left]
        error = error.index_copy(0, left[better], errors[better])
        velocity = velocity.index_copy(0, left[better], velocities[better])
        left = left[errors >= _EXPLAINED]
    return error < _BETTER_THAN_NOTHING, velocity


def _fit_both_ways(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int
) -> tuple[Tensor, Tensor] | None:
    """Error (R,) of the best fit from frame ``start``, and its velocities (R, D) at the last frame.
    None where no fit may be played.

    From the first frame, the film played backwards is fitted too: where what happens to the balls
    can be undone, and so far as no action comes between, its first velocities are the last ones.
    """
    R = obs.shape[0]
    both = start == 0 and action is None
    fitted = _fit(model, torch.cat([obs, obs.flip(1)]) if both else obs, action, start)
    if fitted is None:
        return None
    error, velocity = fitted
    last = model.velocities_of(_play(model, obs, action, start, velocity[:R]).state)
    if not both:
        return error, last
    undone = (error[R:] < error[:R]).unsqueeze(1)
    return torch.minimum(error[:R], error[R:]), torch.where(undone, -velocity[R:], last)


def _fit(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int
) -> tuple[Tensor, Tensor] | None:
    """Gauss-Newton from several starts, with as many steps as may be played.

    Returns the largest error on later frames, (R,), and the velocities at frame ``start`` that
    leave it, (R, D), the best of all that were tried.
    """
    velocity = _starts(obs, start, model.axes)
    may_play = _MAY_PLAY.get()
    if not may_play(velocity.shape[:2].numel()):
        return None
    first_miss = _misses(model, obs, action, start, velocity)
    total = first_miss.square().sum(dim=2)
    kept = total.topk(min(_STARTS, velocity.shape[1]), largest=False).indices
    velocity = _pick(velocity, kept)
    errors, tried = [], []
    rollouts = velocity.shape[:2].numel()
    for _ in range(_STEPS):
        if not may_play(rollouts * (1 + velocity.shape[2])):
            break
        miss, slope = _linearise(model, obs, action, start, velocity)
        errors.append(_largest(miss, 2))
        tried.append(velocity)
        right = (slope @ miss.unsqueeze(-1)).squeeze(-1)
        step = solve_damped(slope @ slope.mT, right, _DAMPING)
        velocity = velocity - step.nan_to_num().clamp(-_LONGEST_STEP, _LONGEST_STEP)
    if not errors:
        errors, tried = [_largest(first_miss, 2).gather(1, kept)], [velocity]
    elif may_play(rollouts):
        errors.append(_largest(_misses(model, obs, action, start, velocity), 2))
        tried.append(velocity)
    best = torch.cat(errors, dim=1).min(dim=1)
    return best.values, _pick(torch.cat(tried, dim=1), best.indices.unsqueeze(1)).squeeze(1)


def _largest(miss: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """The largest of the misses along some dimensions; NaN, which no motion explains, is worst."""
    return miss.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(dim=dims)


def _starts(obs: Tensor, start: int, axes: int) -> Tensor:
    """The displacements after ``start``, and these with another velocity of one ball, (R, S, D).

    A ball's other velocities are its displacements in every interval and the largest of the row
    along each axis, all of them turned either way along each axis.
    """
    moves = obs.diff(dim=1).unflatten(2, (-1, axes))
    fastest = moves.abs().amax(dim=(1, 2), keepdim=True).expand_as(moves[:, :1])
    signs = moves.new_tensor(list(itertools.product((1.0, -1.0), repeat=axes)))
    other = torch.cat([moves, fastest], dim=1).unsqueeze(2) * signs.view(1, 1, -1, 1, axes)
    usual = moves[:, start].view(moves.shape[0], 1, 1, -1, axes)
    N = moves.shape[2]
    changed = torch.eye(N, dtype=torch.bool, device=obs.device).view(1, N, 1, N, 1)
    one_other = torch.where(changed, other.flatten(1, 2).unsqueeze(1), usual)
    return torch.cat([usual.flatten(2), one_other.flatten(3).flatten(1, 2)], dim=1)


def _linearise(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int, velocity: Tensor
) -> tuple[Tensor, Tensor]:
    """The misses (R, S, M) of velocities (R, S, D), and their slopes (R, S, D, M)."""
    R, S, D = velocity.shape
    nudge = _NUDGE * torch.eye(D, dtype=obs.dtype, device=obs.device)
    nearby = velocity.unsqueeze(2) + torch.cat([torch.zeros_like(nudge[:1]), nudge])
    misses = _misses(model, obs, action, start, nearby.flatten(1, 2)).view(R, S, D + 1, -1)
    return misses[:, :, 0], (misses[:, :, 1:] - misses[:, :, :1]) / _NUDGE


def _misses(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int, velocity: Tensor
) -> Tensor:
    """By how much velocities (R, S, D) at frame ``start`` miss the later frames, (R, S, M)."""
    S = velocity.shape[1]
    frames = obs.repeat_interleave(S, dim=0)
    actions = None if action is None else action.repeat_interleave(S, dim=0)
    imagined = _play(model, frames, actions, start, velocity.flatten(0, 1))
    return (imagined.obs - frames[:, start + 1 :]).view(*velocity.shape[:2], -1)


def _pick(velocity: Tensor, index: Tensor) -> Tensor:
    """Of (R, S, D) those numbered (R, K)."""
    return velocity.gather(1, index.unsqueeze(-1).expand(-1, -1, velocity.shape[2]))


# -- smoothing: for frames that are not exact ----------------------------------------------------


def smooth(model: StatedModel[S_co], obs: Tensor, state: State) -> S_co:
    """The state at the last of the frames (B, T, D) that misses none of them more than it must.

    Positions and velocities are fitted to all frames at once, by Gauss-Newton steps from those of
    ``state``, in the film played backwards: so what happens to the balls has to be such that it
    can be undone. Where a step makes the misses larger, it is not made, nor where no more may be
    played.
    """
    moving = torch.cat([obs[:, -1], model.velocities_of(state)], dim=1)
    backwards = obs.flip(1)
    may_play, rollouts = _MAY_PLAY.get(), len(obs) * (1 + moving.shape[1])
    if not may_play(rollouts):
        return model.state_from(*moving.chunk(2, dim=1))
    miss, slope = _linearise_backwards(model, backwards, moving)
    for _ in range(_SMOOTHING_STEPS):
        if not may_play(rollouts):
            break
        right = (slope @ miss.unsqueeze(-1)).squeeze(-1)
        step = solve_damped(slope @ slope.mT, right, _SMOOTHING_DAMPING)
        tried = moving - step.nan_to_num()
        tried_miss, tried_slope = _linearise_backwards(model, backwards, tried)
        better = tried_miss.square().sum(dim=1) < miss.square().sum(dim=1)
        moving = torch.where(better.unsqueeze(1), tried, moving)
        miss = torch.where(better.unsqueeze(1), tried_miss, miss)
        slope = torch.where(better.view(-1, 1, 1), tried_slope, slope)
    positions, velocities = moving.chunk(2, dim=1)
    return model.state_from(positions, velocities)


def _linearise_backwards(
    model: StatedModel[S_co], backwards: Tensor, moving: Tensor
) -> tuple[Tensor, Tensor]:
    """The misses (B, M) of positions and velocities (B, 2D), and their slopes (B, 2D, M)."""
    B, T, D = backwards.shape
    nudge = _NUDGE * torch.eye(2 * D, dtype=moving.dtype, device=moving.device)
    nearby = moving.unsqueeze(1) + torch.cat([torch.zeros_like(nudge[:1]), nudge])
    positions, velocities = nearby.flatten(0, 1).chunk(2, dim=1)
    imagined = model.imagine(model.state_from(positions, -velocities), [float(t) for t in range(T)])
    misses = (imagined.obs.view(B, 2 * D + 1, T, D) - backwards.unsqueeze(1)).flatten(2)
    return misses[:, 0], ((misses[:, 1:] - misses[:, :1]) / _NUDGE).detach()
