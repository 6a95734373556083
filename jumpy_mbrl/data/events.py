"""Finds the events in observed trajectories: where straight lines break, and into what.

A jumpy model leaps along straight lines, so its data are the breaks between them. They are read
off the observed positions alone. An interval between two frames is *straight* for a ball if the
ball moves as far in it as in a neighbouring interval. Where exactly one interval is not straight,
the line before and the line after meet in one point: the event, to a small fraction of a frame.
Two balls whose lines break at the same instant had the event together.

Letters: n trajectories, T frames, N balls, E events. Velocities are per frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import Batch, SequenceData, lengths

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_STRAIGHT = 2e-6
"""Two displacements this close are equal: a few roundings of a float32 coordinate. Where positions
are less exact, the data themselves say by how much; all that follows from it scales with it."""
_STRAIGHT_SIGMAS = 4.0
_LOWER_QUARTILE = 0.3186
"""Of the size of a normal number."""
_BOUNDS_SLACK = 2e-3
"""Balls are seen at frames, not at the wall itself: how far beyond it may be."""
_CHUNK = 4096


@dataclass(frozen=True)
class EventTable:
    """The events of a dataset, one row each.

    Attributes:
        single: events of one ball, (E, 3, 2): position, velocity before, velocity after.
        pair: events of two balls, (E, 5, 2): position of the second relative to the first,
            velocities of first and second before, then after.
        passing: straight runs of two balls that did not meet although their closest approach
            lies in the run or before it, (E, 2, 2): relative position and velocity at the start.
        passing_frames: how long each of those runs is known to be straight, (E,) frames.
        shot: actions, (E, 3, 2): the cue ball's velocity before, the action, velocity after.
    """

    single: Array
    pair: Array
    passing: Array
    passing_frames: Array
    shot: Array

    @classmethod
    def from_dataset(cls, dataset: SequenceData, on_line: bool = False) -> EventTable:
        """Segments every trajectory of a dataset; see ``from_arrays``.

        Balls on a line, of which y alone is seen, are at x = 0.5 of a table.
        """
        obs, length = dataset.obs, lengths(dataset)
        if (length < obs.shape[1]).any():
            real = np.arange(obs.shape[1]) < length[:, None]
            obs = np.where(real[..., None], obs, np.float32(np.nan))
        if on_line:
            obs = np.stack([np.full_like(obs, 0.5), obs], axis=-1).reshape(*obs.shape[:2], -1)
        return cls.from_arrays(obs, dataset.action)

    @classmethod
    def from_arrays(cls, obs: NDArray[Any], action: NDArray[Any]) -> EventTable:
        """Segments trajectories ``obs`` (n, T, 2N) with actions (n, T, A), A = 2 or 0.

        Frames that are NaN hold no line and no event. `ValueError` if the trajectories are too
        short to show a line on both sides of an event.
        """
        if obs.shape[1] < 6:
            raise ValueError(
                f"trajectories need at least 6 frames to be segmented, got {obs.shape[1]}"
            )
        balls = obs.reshape(-1, 2)
        bounds = np.nanmin(balls, axis=0) - _BOUNDS_SLACK, np.nanmax(balls, axis=0) + _BOUNDS_SLACK
        tolerance = _tolerance(obs)
        parts = [slice(start, start + _CHUNK) for start in range(0, len(obs), _CHUNK)]
        chunks = [
            _segment(obs[part].astype(float), action[part].astype(float), bounds, tolerance)
            for part in parts
        ]
        return cls(
            **{f.name: np.concatenate([getattr(c, f.name) for c in chunks]) for f in fields(cls)}
        )


class EventSampler:
    """Draws batches of events, as many of each kind; see `EventTable.from_dataset`.

    `ValueError` if a kind of event does not occur in the dataset.
    """

    def __init__(
        self, dataset: SequenceData, device: torch.device | None = None, on_line: bool = False
    ) -> None:
        kinds = vars(EventTable.from_dataset(dataset, on_line))
        self._kinds: dict[str, Tensor] = {}
        for name, rows in kinds.items():
            if name == "shot" and dataset.action.shape[2] == 0:
                continue
            if len(rows) == 0:
                raise ValueError(
                    f"the dataset holds no event of kind {name!r}; make more trajectories, "
                    "of at least two balls and with shots"
                )
            self._kinds[name] = as_tensor(rows, dtype=torch.float32, device=device)
        self._device = device

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``batch_size`` events of each kind, and uniform numbers ``u`` (batch_size, 4)."""
        u = torch.rand(batch_size, 4, generator=generator, dtype=torch.float32, device="cpu")
        batch = {"u": u.to(self._device)}
        for kind, events in self._kinds.items():
            if kind != "passing_frames":  # which are those of the passings
                rows = torch.randint(len(events), (batch_size,), generator=generator, device="cpu")
                rows = rows.to(self._device)
            batch[kind] = events[rows]
        return batch


def _tolerance(obs: NDArray[Any]) -> float:
    """Up to which difference two displacements are equal, in sides of the table per frame."""
    bends = np.abs(np.diff(obs[:_CHUNK].astype(np.float64), n=2, axis=1))
    bends = bends[bends > 0.0]  # A coordinate may not move at all.
    if bends.size == 0:
        return _STRAIGHT
    # Most bends are noise, which is normal enough; where many are events, few of the least are.
    noise = float(np.quantile(bends, 0.25)) / _LOWER_QUARTILE
    return max(_STRAIGHT, _STRAIGHT_SIGMAS * noise)


def _segment(
    obs: Array, action: Array, bounds: tuple[Array, Array], tolerance: float
) -> EventTable:
    n, T, D = obs.shape
    positions = obs.reshape(n, T, D // 2, 2)
    moves = np.diff(positions, axis=1)
    acted: Mask = (action != 0.0).any(axis=-1)
    # Which intervals (n, T-1, N) are known to hold no event.
    same = np.abs(np.diff(moves, axis=1)).max(axis=-1) < tolerance
    straight = np.zeros(moves.shape[:-1], dtype=bool)
    straight[:, 1:] |= same
    straight[:, :-1] |= same
    instants, known = _breaks(positions, moves, straight, tolerance)
    known[:, :, 0] &= ~(acted[:, :-1] | acted[:, 1:])
    # Several events in one interval can look like one, but at a place where no ball can be.
    place = positions[:, 1:-1] + moves[:, :-1] * instants[:, 1:, :, None]
    known[:, 1:] &= ((place > bounds[0]) & (place < bounds[1])).all(axis=-1)

    others_straight = straight.sum(axis=-1, keepdims=True) - straight == D // 2 - 1
    row, t, ball = np.nonzero(known & others_straight)
    before = moves[row, t - 1, ball]
    position = positions[row, t, ball] + before * instants[row, t, ball, None]
    single = np.stack([position, before, moves[row, t + 1, ball]], axis=1)

    shot = np.zeros((0, 3, 2))
    if action.shape[2]:
        row, t = np.nonzero(acted[:, 1:-1] & straight[:, :-1, 0] & straight[:, 1:, 0])
        shot = np.stack([moves[row, t, 0], action[row, t + 1], moves[row, t + 1, 0]], axis=1)

    pairs, passings, frames = [np.zeros((0, 5, 2))], [np.zeros((0, 2, 2))], [np.zeros(0)]
    for balls in combinations(range(D // 2), 2):
        two = np.s_[:, :, balls]
        pairs.append(_contacts(positions[two], moves[two], instants[two], known[two], tolerance))
        broken = np.where(0 in balls, acted[:, :-1], False)
        passing, lasting = _passings(positions[two], moves[two], straight[two], broken)
        passings.append(passing)
        frames.append(lasting)
    pair, passing, lasting = (np.concatenate(parts) for parts in (pairs, passings, frames))
    return EventTable(single, pair, passing, lasting, shot)


def _breaks(positions: Array, moves: Array, straight: Mask, tolerance: float) -> tuple[Array, Mask]:
    """When in interval t, between straight neighbours, a ball's line broke, and if that is known.

    Returns the instant as a fraction of the interval, (n, T-1, N), and a mask of the same shape.
    """
    before, after = np.zeros_like(moves), np.zeros_like(moves)
    before[:, 1:] = moves[:, :-1]
    after[:, :-1] = moves[:, 1:]
    change = after - before
    gap = positions[:, 1:] - after - positions[:, :-1]
    square = np.sum(change**2, axis=-1)
    safe = np.where(square > 0, square, 1.0)
    instants = -np.sum(gap * change, axis=-1) / safe
    miss = np.abs(gap + change * instants[..., None]).max(axis=-1)
    neighbours = np.zeros_like(straight)
    neighbours[:, 1:-1] = straight[:, :-2] & straight[:, 2:]
    known = ~straight & neighbours & (square > (10 * tolerance) ** 2) & (miss < 5 * tolerance)
    return instants, known & (instants > -1e-3) & (instants < 1 + 1e-3)


def _contacts(
    positions: Array, moves: Array, instants: Array, known: Mask, tolerance: float
) -> Array:
    """The events of two balls, given all of these two."""
    row, t = np.nonzero(known.all(axis=2))
    apart = np.abs(instants[row, t, 0] - instants[row, t, 1])
    weakest = np.linalg.norm(moves[row, t + 1] - moves[row, t - 1], axis=-1).min(axis=-1)
    together = apart < 0.5 * tolerance * (1.0 + 1.0 / weakest)
    row, t = row[together], t[together]
    instant = (instants[row, t, 0] + instants[row, t, 1]) / 2
    velocities = [moves[row, frame, ball] for frame in (t - 1, t + 1) for ball in (0, 1)]
    relative = velocities[1] - velocities[0]
    offset = positions[row, t, 1] - positions[row, t, 0] + relative * instant[:, None]
    # Two balls that did not approach each other cannot have met: several events look so.
    approached = np.sum(offset * relative, axis=-1) < -tolerance
    contacts: Array = np.stack([offset, *velocities], axis=1)[approached]
    return contacts


def _passings(positions: Array, moves: Array, straight: Mask, broken: Mask) -> tuple[Array, Array]:
    """The passings of two balls, given all of these two, and how long they last."""
    run = straight[:, :, 0] & straight[:, :, 1]
    # Straight intervals from each frame on (n, T-1), and at which frames a run begins.
    left, begins = np.zeros(run.shape), np.zeros_like(run)
    length = np.zeros(run.shape[0])
    for frame in reversed(range(run.shape[1])):
        length = np.where(run[:, frame], length + 1, 0)
        left[:, frame] = length
        begins[:, frame] = run[:, frame] & (broken[:, frame] | (not frame) | ~run[:, frame - 1])
        length = np.where(broken[:, frame], 0, length)
    row, t = np.nonzero(begins)
    offset = positions[row, t, 1] - positions[row, t, 0]
    velocity = moves[row, t, 1] - moves[row, t, 0]
    square = np.sum(velocity**2, axis=-1)
    approach = -np.sum(offset * velocity, axis=-1) / np.where(square > 0, square, np.inf)
    passed = (approach <= left[row, t]) & (square > 0)
    return np.stack([offset, velocity], axis=1)[passed], left[row, t][passed]
