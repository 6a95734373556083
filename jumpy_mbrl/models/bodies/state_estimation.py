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

_FITS = (3e-4, 2e-3)
"""A later frame is fitted if every coordinate is this near, in sides of the table: the one for
exact frames, the other for those that are not."""
_NOISE = 20.0
"""Frames are as exact as the coordinates in the middle, which few events touch: misses are fitted
that are so many times as large."""
_BETTER_THAN_NOTHING = 1e-2
"""Velocities that miss some frame by more are believed less than the last displacement."""

_WINDOW = 4
"""The search looks at so many of the last frames."""
_STARTS = 16
"""How many starts of a search are followed at first: those that miss the frames least."""
_ROUNDS = 4
"""Where that does not do, all are, and what fits best is changed ball by ball so many times."""
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
    proposals = []
    for start in (T - 2, *range(T - 2)):
        if may_play(len(obs)) or start == T - 2:
            proposals.append(film.propose(start))
    proposals = [*proposals[1:], proposals[0]]
    error, noise, proposed = (torch.stack(part, dim=1) for part in zip(*proposals, strict=True))
    fits = (_NOISE * noise[:, 0]).clamp(*_FITS)
    # The last interval's proposal is contradicted by no later frame: it must not win a tie.
    error[:, -1] = _FITS[1]
    unfitted = (error.amin(dim=1) >= fits).nonzero().squeeze(1)
    searched = []
    for rows in unfitted.split(_AT_ONCE) if T > 2 and len(unfitted) else ():
        if not may_play(len(rows)):
            break
        error[rows, -1], left, least = film.last_frames(rows).doubts(error[rows], fits[rows])
        rows = rows[left]
        if len(rows):
            searched.append((rows, *film.last_frames(rows).search(fits[rows], least)))
    velocity = _pick(proposed, error.argmin(dim=1, keepdim=True)).squeeze(1)
    for rows, found, found_velocity in searched:
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

    def propose(self, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Largest and median error on later frames (R,), and velocities at the last (R, D)."""
        imagined = self.play(start, self.obs[:, start + 1] - self.obs[:, start])
        miss = (imagined.obs - self.obs[:, start + 1 :]).detach().flatten(1)
        noise = miss.abs().nan_to_num(nan=torch.inf).median(dim=1).values
        return _largest(miss, 1), noise, self.model.velocities_of(imagined.state)

    @torch.no_grad()
    def doubts(self, error: Tensor, fits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The error of the last displacement (R,), which of the rows (R,) no proposal fits, and of
        these the error that is to be beaten; of the proposals' errors (R, T - 1)."""
        if self.action is None:
            # Most often the last displacement is right, and the film played backwards tells.
            backwards, *_ = replace(self, obs=self.obs.flip(1)).propose(0)
            error[:, -1] = backwards.clamp_max(_FITS[1])
        best = error.min(dim=1)
        left = best.values >= fits
        # Of the last displacement nothing is known.
        unknown = best.indices == error.shape[1] - 1
        return error[:, -1], left, best.values.masked_fill(unknown, _BETTER_THAN_NOTHING)[left]

    @torch.no_grad()
    def search(self, fits: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows (R,) have velocities whose error is below ``least`` (R,), and those (R, D).

        Rows with an error below ``fits`` (R,) are searched no further.
        """
        left = torch.arange(len(self.obs), device=self.obs.device)
        error, velocity = least, torch.zeros_like(self.obs[:, 0])
        starts = range(self.obs.shape[1] - 2)
        turns = [(1, start) for start in starts] + [(_ROUNDS, start) for start in reversed(starts)]
        for rounds, start in turns:
            fitted = self[left].fit_both_ways(start, rounds, fits[left]) if left.numel() else None
            if fitted is None:
                break
            errors, velocities = fitted
            better = errors < error[left]
            error = error.index_copy(0, left[better], errors[better])
            velocity = velocity.index_copy(0, left[better], velocities[better])
            left = left[errors >= fits[left]]
        return error < least, velocity

    def fit_both_ways(self, start: int, rounds: int, fits: Tensor) -> tuple[Tensor, Tensor] | None:
        """Error (R,) of the best fit from frame ``start``, and velocities (R, D) at the last frame.

        None where no fit may be played. From the first frame, what is not fitted is fitted to the
        film played backwards too: where what happens can be undone, its first velocities are the
        last ones.
        """
        fitted = self.fit(start, rounds, fits)
        if fitted is None:
            return None
        error, velocity = fitted
        velocity = self.model.velocities_of(self.play(start, velocity).state)
        left = (error >= fits).nonzero().squeeze(1)
        if start or self.action is not None or not left.numel():
            return error, velocity
        undone = replace(self, obs=self.obs[left].flip(1)).fit(0, rounds, fits[left])
        if undone is not None:
            better = undone[0] < error[left]
            error = error.index_copy(0, left[better], undone[0][better])
            velocity = velocity.index_copy(0, left[better], -undone[1][better])
        return error, velocity

    def fit(self, start: int, rounds: int, fits: Tensor) -> tuple[Tensor, Tensor] | None:
        """Velocities (R, D) at frame ``start`` that leave the smallest error (R,) on later frames,
        after as many rounds, each from near the best so far, as may be played and help."""
        velocity = self.obs[:, start + 1] - self.obs[:, start]
        error = torch.full_like(fits, torch.inf)
        left = torch.arange(len(error), device=error.device)
        for number in range(rounds):
            near = self[left].fit_near(start, velocity[left], _STARTS if rounds == 1 else None)
            if near is None:
                return (error, velocity) if number else None
            better = near[0] < error[left]
            error = error.index_copy(0, left[better], near[0][better])
            velocity = velocity.index_copy(0, left[better], near[1][better])
            left = left[better & (near[0] >= fits[left])]
            if not left.numel():
                break
        return error, velocity

    def fit_near(self, start: int, near: Tensor, most: int | None) -> tuple[Tensor, Tensor] | None:
        """The same by Gauss-Newton from ``most`` starts near velocities (R, D)."""

        def misses(velocity: Tensor) -> Tensor:
            """By how much velocities (R, ..., D) miss the later frames, (R, ..., M)."""
            S = velocity.shape[1:-1].numel()
            actions = None if self.action is None else self.action.repeat_interleave(S, dim=0)
            film = _Film(self.model, self.obs.repeat_interleave(S, dim=0), actions)
            imagined = film.play(start, velocity.flatten(0, -2))
            return (imagined.obs - film.obs[:, start + 1 :]).view(*velocity.shape[:-1], -1)

        velocity = self.starts(near)
        may_play = _MAY_PLAY.get()
        if not may_play(velocity.shape[:2].numel()):
            return None
        first_miss = misses(velocity)
        total = first_miss.square().sum(dim=2)
        kept = total.topk(min(most or total.shape[1], total.shape[1]), largest=False).indices
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

    def starts(self, near: Tensor) -> Tensor:
        """Velocities (R, D), and these with another velocity of one ball, (R, S, D).

        A ball's other velocities are its displacements in every interval and the largest of the row
        along each axis, all of them turned either way along each axis.
        """
        axes = self.model.axes
        moves = self.obs.diff(dim=1).unflatten(2, (-1, axes))
        fastest = moves.abs().amax(dim=(1, 2), keepdim=True).expand_as(moves[:, :1])
        signs = moves.new_tensor(list(itertools.product((1.0, -1.0), repeat=axes)))
        other = torch.cat([moves, fastest], dim=1).unsqueeze(2) * signs.view(1, 1, -1, 1, axes)
        usual = near.view(len(near), 1, 1, -1, axes)
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
