"""State estimation: the velocities whose motion, played through the model, fits the frames.

A difference of two frames is a velocity only if nothing happened between them. So every interval
proposes one: the model is started there and played to the last frame, through whatever events it
foresees, and the proposal that fits the later frames best is kept.

In few rows every interval holds an event of some ball, or all but the last one, whose proposal no
later frame confirms. They alone are searched for: from proposals that are changed ball by ball,
velocities are fitted to the frames, and to the film played backwards.

Letters: B batch, R rows of it that are searched for, T frames, N balls, D observation size,
S starts of a search, M numbers in the frames to be fitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined
from jumpy_mbrl.models.networks import gauss_newton

if TYPE_CHECKING:
    from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel, EventState

_FITS = 2e-3
"""A later frame is fitted if every coordinate is this near, in sides of the table."""
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

_MAY_PLAY: ContextVar[Callable[[int], bool]] = ContextVar("may_play", default=lambda rollouts: True)


@contextmanager
def bounded(may_play: Callable[[int], bool]) -> Iterator[None]:
    """Bounds what is played within a block to estimate states.

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


def estimate(model: EventDrivenModel, obs: Tensor, action: Tensor | None = None) -> EventState:
    """The state at the last of the frames ``obs`` (B, T, D), T >= 2.

    Differentiable, but for the velocities that had to be searched for: they are constants.
    ``action`` (B, T, A) was taken at the frames; the last one is ignored.
    """
    T = obs.shape[1]
    if action is not None and not bool(action[:, 1:-1].any()):
        action = None
    may_play = _MAY_PLAY.get()
    film = _Film(model, obs, action)
    proposals = {}
    for start in (T - 2, *range(T - 2)):
        if may_play(len(obs)) or start == T - 2:
            proposals[start] = film.propose(start)
    # The last interval's proposal is contradicted by no later frame: it must not win a tie.
    error, velocity = proposals.pop(T - 2)
    proposals[T - 2] = error.clamp_min(_FITS), velocity
    best = torch.stack([error for error, _ in proposals.values()], dim=1).min(dim=1)
    proposed = torch.stack([velocity for _, velocity in proposals.values()], dim=1)
    velocity = _pick(proposed, best.indices.unsqueeze(1)).squeeze(1)
    unfitted = best.values >= _FITS
    if T > 2 and bool(unfitted.any()):
        for rows in unfitted.nonzero().squeeze(1).split(_AT_ONCE):
            if not may_play(len(rows)):
                break
            found, found_velocity = film.last_frames(rows).search()
            velocity = velocity.index_copy(0, rows[found], found_velocity[found])
    return model.state_from(obs[:, -1], velocity)


@dataclass(frozen=True)
class _Film:
    """Frames (R, T, D) and the actions (R, T, A) taken at them, which a model has to fit."""

    model: EventDrivenModel
    obs: Tensor
    action: Tensor | None

    def __getitem__(self, rows: Tensor) -> _Film:
        action = None if self.action is None else self.action[rows]
        return _Film(self.model, self.obs[rows], action)

    def last_frames(self, rows: Tensor) -> _Film:
        """The frames of some rows that a search looks at."""
        action = None if self.action is None else self.action[rows, -_WINDOW:]
        return _Film(self.model, self.obs[rows, -_WINDOW:].detach(), action)

    def play(self, start: int, velocity: Tensor) -> Imagined:
        """The frames after ``start``, with ``velocity`` (R, D) right after the action there."""
        T = self.obs.shape[1]
        state = self.model.state_from(self.obs[:, start], velocity)
        times = [float(t) for t in range(1, T - start)]
        later = list(range(start + 1, T - 1))
        if self.action is None or not later:
            return self.model.imagine(state, times)
        return self.model.imagine(
            state, times, self.action[:, later], [float(t - start) for t in later]
        )

    def propose(self, start: int) -> tuple[Tensor, Tensor]:
        """Largest error on later frames (R,), and velocities at the last frame (R, D)."""
        imagined = self.play(start, self.obs[:, start + 1] - self.obs[:, start])
        error = _largest(imagined.obs - self.obs[:, start + 1 :], (1, 2))
        return error, self.model.velocities_of(imagined.state)

    @torch.no_grad()
    def search(self) -> tuple[Tensor, Tensor]:
        """Which rows (R,) have better velocities than the last displacement, and those (R, D)."""
        left = torch.arange(len(self.obs), device=self.obs.device)
        error = self.obs.new_full(left.shape, _BETTER_THAN_NOTHING)
        velocity = torch.zeros_like(self.obs[:, 0])
        if self.action is None:
            # Most often the last displacement is right, and the film played backwards tells.
            backwards, _ = replace(self, obs=self.obs.flip(1)).propose(0)
            left = left[backwards >= _FITS]
        for start in range(self.obs.shape[1] - 2):
            fitted = self[left].fit_both_ways(start) if left.numel() else None
            if fitted is None:
                break
            errors, velocities = fitted
            better = errors < error[left]
            error = error.index_copy(0, left[better], errors[better])
            velocity = velocity.index_copy(0, left[better], velocities[better])
            left = left[errors >= _FITS]
        return error < _BETTER_THAN_NOTHING, velocity

    def fit_both_ways(self, start: int) -> tuple[Tensor, Tensor] | None:
        """Error (R,) of the best fit from frame ``start``, and velocities (R, D) at the last frame.

        None where no fit may be played. From the first frame, the film played backwards is fitted
        too: where what happens can be undone, its first velocities are the last ones.
        """
        R = len(self.obs)
        both = start == 0 and self.action is None
        film = replace(self, obs=torch.cat([self.obs, self.obs.flip(1)])) if both else self
        fitted = film.fit(start)
        if fitted is None:
            return None
        error, velocity = fitted
        last = self.model.velocities_of(self.play(start, velocity[:R]).state)
        if not both:
            return error, last
        undone = (error[R:] < error[:R]).unsqueeze(1)
        return torch.minimum(error[:R], error[R:]), torch.where(undone, -velocity[R:], last)

    def fit(self, start: int) -> tuple[Tensor, Tensor] | None:
        """By Gauss-Newton from several starts, the velocities (R, D) at frame ``start`` that leave
        the smallest error (R,) on later frames, after as many steps as may be played."""

        def misses(velocity: Tensor) -> Tensor:
            """By how much velocities (R, ..., D) miss the later frames, (R, ..., M)."""
            S = velocity.shape[1:-1].numel()
            actions = None if self.action is None else self.action.repeat_interleave(S, dim=0)
            film = _Film(self.model, self.obs.repeat_interleave(S, dim=0), actions)
            imagined = film.play(start, velocity.flatten(0, -2))
            return (imagined.obs - film.obs[:, start + 1 :]).view(*velocity.shape[:-1], -1)

        velocity = self.starts(start)
        may_play = _MAY_PLAY.get()
        if not may_play(velocity.shape[:2].numel()):
            return None
        first_miss = misses(velocity)
        total = first_miss.square().sum(dim=2)
        kept = total.topk(min(_STARTS, velocity.shape[1]), largest=False).indices
        velocity = _pick(velocity, kept)
        errors, tried = [], []
        rollouts = velocity.shape[:2].numel()
        for _ in range(_STEPS):
            if not may_play(rollouts * (1 + velocity.shape[2])):
                break
            miss, slope = _with_slopes(misses, velocity)
            errors.append(_largest(miss, 2))
            tried.append(velocity)
            step = gauss_newton(slope, miss, _DAMPING).nan_to_num()
            velocity = velocity - step.clamp(-_LONGEST_STEP, _LONGEST_STEP)
        if not errors:
            errors, tried = [_largest(first_miss, 2).gather(1, kept)], [velocity]
        elif may_play(rollouts):
            errors.append(_largest(misses(velocity), 2))
            tried.append(velocity)
        best = torch.cat(errors, dim=1).min(dim=1)
        return best.values, _pick(torch.cat(tried, dim=1), best.indices.unsqueeze(1)).squeeze(1)

    def starts(self, start: int) -> Tensor:
        """Displacements after ``start``, and these with another velocity of one ball, (R, S, D).

        A ball's other velocities are its displacements in every interval and the largest of the row
        along each axis, all of them turned either way along each axis.
        """
        axes = self.model.axes
        moves = self.obs.diff(dim=1).unflatten(2, (-1, axes))
        fastest = moves.abs().amax(dim=(1, 2), keepdim=True).expand_as(moves[:, :1])
        signs = moves.new_tensor(list(itertools.product((1.0, -1.0), repeat=axes)))
        other = torch.cat([moves, fastest], dim=1).unsqueeze(2) * signs.view(1, 1, -1, 1, axes)
        usual = moves[:, start].view(moves.shape[0], 1, 1, -1, axes)
        N = moves.shape[2]
        changed = torch.eye(N, dtype=torch.bool, device=moves.device).view(1, N, 1, N, 1)
        one_other = torch.where(changed, other.flatten(1, 2).unsqueeze(1), usual)
        return torch.cat([usual.flatten(2), one_other.flatten(3).flatten(1, 2)], dim=1)


def _largest(miss: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """The largest of the misses along some dimensions; NaN, which no motion leaves, is worst."""
    return miss.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(dim=dims)


def _with_slopes(misses: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """The misses (..., M) at (..., n) numbers, and their slopes (..., n, M), as constants."""
    nudge = _NUDGE * torch.eye(at.shape[-1], dtype=at.dtype, device=at.device)
    nearby = misses(at.unsqueeze(-2) + torch.cat([torch.zeros_like(nudge[:1]), nudge]))
    slopes = (nearby[..., 1:, :] - nearby[..., :1, :]) / _NUDGE
    return nearby[..., 0, :], slopes.detach()


def _pick(velocity: Tensor, index: Tensor) -> Tensor:
    """Of (R, S, D) those numbered (R, K)."""
    return velocity.gather(1, index.unsqueeze(-1).expand(-1, -1, velocity.shape[2]))


def smooth(model: EventDrivenModel, obs: Tensor, state: EventState) -> EventState:
    """The state at the last of the frames (B, T, D) that misses none of them more than it must.

    For frames that are not exact. Positions and velocities are fitted to all frames at once, by
    Gauss-Newton steps from those of ``state``, in the film played backwards: so what happens to the
    balls has to be such that it can be undone. Where a step makes the misses larger, it is not
    made, nor where no more may be played.
    """
    backwards, times = obs.flip(1), [float(t) for t in range(obs.shape[1])]

    def misses(moving: Tensor) -> Tensor:
        """By how much positions and velocities (B, n, 2D) miss the frames, (B, n, M)."""
        positions, velocities = moving.flatten(0, 1).chunk(2, dim=1)
        imagined = model.imagine(model.state_from(positions, -velocities), times)
        seen = imagined.obs.view(*moving.shape[:2], *backwards.shape[1:])
        return (seen - backwards.unsqueeze(1)).flatten(2)

    moving = torch.cat([obs[:, -1], model.velocities_of(state)], dim=1)
    may_play, rollouts = _MAY_PLAY.get(), len(obs) * (1 + moving.shape[1])
    if may_play(rollouts):
        miss, slope = _with_slopes(misses, moving)
        for _ in range(_SMOOTHING_STEPS):
            if not may_play(rollouts):
                break
            step = gauss_newton(slope, miss, _SMOOTHING_DAMPING)
            tried = moving - step.nan_to_num()
            new_miss, new_slope = _with_slopes(misses, tried)
            better = new_miss.square().sum(dim=1) < miss.square().sum(dim=1)
            moving = torch.where(better.unsqueeze(1), tried, moving)
            miss = torch.where(better.unsqueeze(1), new_miss, miss)
            slope = torch.where(better.view(-1, 1, 1), new_slope, slope)
    return model.state_from(*moving.chunk(2, dim=1))
