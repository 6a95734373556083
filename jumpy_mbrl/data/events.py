"""Finds the events in observed trajectories: where straight lines break, and into what.

A jumpy model leaps along straight lines, so its data are the breaks between them. They are read
off the observed positions alone. An interval between two frames is *straight* for a ball if the
ball moves as far in it as in a neighbouring interval. Where exactly one interval is not straight,
the line before and the line after meet in one point: the event, to a small fraction of a frame.
Two balls whose lines break at the same instant had the event together.

Letters: n trajectories, T frames, N balls, E events. Velocities are per frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import SequenceData, lengths

Array = NDArray[np.float64]

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
    """What happened in a dataset, one row an event.

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
    def from_dataset(cls, dataset: SequenceData) -> EventTable:
        """Segments every trajectory of a dataset; see ``from_arrays``."""
        return cls.from_arrays(_real_frames(dataset), dataset.action)

    @classmethod
    def from_arrays(cls, obs: NDArray[Any], action: NDArray[Any]) -> EventTable:
        """Segments trajectories ``obs`` (n, T, 2N) with actions (n, T, A), A = 2 or 0.

        Frames that are NaN hold no line and no event.

        Raises:
            ValueError: if the trajectories are too short to show a line on both sides of an event.
        """
        if obs.shape[1] < 6:
            raise ValueError(
                f"trajectories need at least 6 frames to be segmented, got {obs.shape[1]}"
            )
        # Several events in one interval can look like one, but at a place where no ball can be.
        balls = obs.reshape(-1, 2)
        bounds = np.nanmin(balls, axis=0), np.nanmax(balls, axis=0)
        tolerance = _tolerance(obs)
        chunks = [_segment(*chunk, bounds, tolerance) for chunk in _chunks(obs, action)]
        return cls(
            **{f.name: np.concatenate([getattr(c, f.name) for c in chunks]) for f in fields(cls)}
        )


class EventSampler:
    """Draws batches of events, as many of each kind.

    Raises:
        ValueError: if a kind of event does not occur in the dataset.
    """

    def __init__(self, dataset: SequenceData, device: torch.device | None = None) -> None:
        table = self._table(dataset)
        kinds = {f.name: getattr(table, f.name) for f in fields(table)}
        if dataset.action.shape[2] == 0:
            del kinds["shot"]
        for name, rows in kinds.items():
            if len(rows) == 0:
                raise ValueError(
                    f"the dataset holds no event of kind {name!r}; make more trajectories, "
                    "of at least two balls and with shots"
                )
        self._kinds = {
            name: as_tensor(rows, dtype=torch.float32, device=device)
            for name, rows in kinds.items()
        }
        self._device = device

    def _table(self, dataset: SequenceData) -> EventTable:
        return EventTable.from_dataset(dataset)

    def sample(self, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``batch_size`` events of each kind, and uniform numbers ``u`` (batch_size, 4)."""
        u = torch.rand(batch_size, 4, generator=generator, dtype=torch.float32, device="cpu")
        batch = {"u": u.to(self._device)}
        for kind in self._kinds:
            if kind == "passing_frames":
                continue
            count = len(self._kinds[kind])
            rows = torch.randint(count, (batch_size,), generator=generator, device="cpu")
            rows = rows.to(self._device)
            batch[kind] = self._kinds[kind][rows]
            if kind == "passing":
                batch["passing_frames"] = self._kinds["passing_frames"][rows]
        return batch


class LineEventSampler(EventSampler):
    """The same for balls on a line, of which y alone is seen: they are at x = 0.5 of a table."""

    def _table(self, dataset: SequenceData) -> EventTable:
        obs = _real_frames(dataset)
        planar = np.stack([np.full_like(obs, 0.5), obs], axis=-1)
        return EventTable.from_arrays(planar.reshape(*planar.shape[:2], -1), dataset.action)


def _real_frames(dataset: SequenceData) -> NDArray[Any]:
    """The frames of a dataset, NaN where a trajectory has ended."""
    obs, length = dataset.obs, lengths(dataset)
    if (length == obs.shape[1]).all():
        return obs
    real = np.arange(obs.shape[1]) < length[:, None]
    return np.where(real[..., None], obs, np.float32(np.nan))


def _chunks(obs: NDArray[Any], action: NDArray[Any]) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(obs), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield obs[part].astype(np.float64), action[part].astype(np.float64)


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
    straight = _straight(moves, tolerance)
    instants, known = _break_instants(positions, moves, straight, action, tolerance)
    known &= _within(positions, moves, instants, bounds)
    passing, passing_frames = _passing(positions, moves, straight, action)
    return EventTable(
        single=_single_events(positions, moves, straight, instants, known),
        pair=_pair_events(positions, moves, instants, known, tolerance),
        passing=passing,
        passing_frames=passing_frames,
        shot=_shots(moves, straight, action) if action.shape[2] else np.zeros((0, 3, 2)),
    )


def _straight(moves: Array, tolerance: float) -> NDArray[np.bool_]:
    """Which intervals (n, T-1, N) are known to hold no event."""
    same = np.abs(np.diff(moves, axis=1)).max(axis=-1) < tolerance
    straight = np.zeros(moves.shape[:-1], dtype=bool)
    straight[:, 1:] |= same
    straight[:, :-1] |= same
    return straight


def _acted(action: Array) -> NDArray[np.bool_]:
    """At which frames (n, T) an action was taken."""
    acted: NDArray[np.bool_] = np.any(action != 0.0, axis=-1)
    return acted


def _break_instants(
    positions: Array,
    moves: Array,
    straight: NDArray[np.bool_],
    action: Array,
    tolerance: float,
) -> tuple[Array, NDArray[np.bool_]]:
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
    known &= (instants > -1e-3) & (instants < 1 + 1e-3)
    acted = _acted(action)
    known[:, :, 0] &= ~(acted[:, :-1] | acted[:, 1:])
    return instants, known


def _within(
    positions: Array, moves: Array, instants: Array, bounds: tuple[Array, Array]
) -> NDArray[np.bool_]:
    """Whether the line before interval t, followed to the break, stays where balls are seen."""
    place = positions[:, 1:-1] + moves[:, :-1] * instants[:, 1:, :, None]
    within = np.zeros(instants.shape, dtype=bool)
    low, high = bounds[0] - _BOUNDS_SLACK, bounds[1] + _BOUNDS_SLACK
    within[:, 1:] = ((place > low) & (place < high)).all(axis=-1)
    return within


def _single_events(
    positions: Array,
    moves: Array,
    straight: NDArray[np.bool_],
    instants: Array,
    known: NDArray[np.bool_],
) -> Array:
    others_straight = straight.sum(axis=-1, keepdims=True) - straight == straight.shape[-1] - 1
    row, t, ball = np.nonzero(known & others_straight)
    before = moves[row, t - 1, ball]
    position = positions[row, t, ball] + before * instants[row, t, ball, None]
    return np.stack([position, before, moves[row, t + 1, ball]], axis=1)


def _pair_events(
    positions: Array,
    moves: Array,
    instants: Array,
    known: NDArray[np.bool_],
    tolerance: float,
) -> Array:
    found = [np.zeros((0, 5, 2))]
    for first in range(positions.shape[2]):
        for second in range(first + 1, positions.shape[2]):
            row, t = np.nonzero(known[:, :, first] & known[:, :, second])
            apart = np.abs(instants[row, t, first] - instants[row, t, second])
            changes = (moves[row, t + 1] - moves[row, t - 1])[:, [first, second]]
            weakest = np.linalg.norm(changes, axis=-1).min(axis=-1)
            together = apart < 0.5 * tolerance * (1.0 + 1.0 / weakest)
            row, t = row[together], t[together]
            instant = (instants[row, t, first] + instants[row, t, second]) / 2
            velocities = [
                moves[row, frame, ball] for frame in (t - 1, t + 1) for ball in (first, second)
            ]
            relative = velocities[1] - velocities[0]
            offset = positions[row, t, second] - positions[row, t, first]
            offset = offset + relative * instant[:, None]
            # Two balls that did not approach each other cannot have met: several events look so.
            approached = np.sum(offset * relative, axis=-1) < -tolerance
            found.append(np.stack([offset, *velocities], axis=1)[approached])
    return np.concatenate(found)


def _passing(
    positions: Array, moves: Array, straight: NDArray[np.bool_], action: Array
) -> tuple[Array, Array]:
    found, lengths = [np.zeros((0, 2, 2))], [np.zeros(0)]
    acted = _acted(action)[:, :-1]
    for first in range(positions.shape[2]):
        for second in range(first + 1, positions.shape[2]):
            run = straight[:, :, first] & straight[:, :, second]
            left, begins = _run_lengths(run, acted if first == 0 else np.zeros_like(acted))
            row, t = np.nonzero(begins)
            offset = positions[row, t, second] - positions[row, t, first]
            velocity = moves[row, t, second] - moves[row, t, first]
            square = np.sum(velocity**2, axis=-1)
            approach = -np.sum(offset * velocity, axis=-1) / np.where(square > 0, square, np.inf)
            passed = (approach <= left[row, t]) & (square > 0)
            found.append(np.stack([offset, velocity], axis=1)[passed])
            lengths.append(left[row, t][passed])
    return np.concatenate(found), np.concatenate(lengths)


def _run_lengths(
    run: NDArray[np.bool_], broken: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.bool_]]:
    """Straight intervals from each frame on (n, T-1), and at which frames a run begins."""
    left = np.zeros(run.shape)
    begins = np.zeros_like(run)
    length = np.zeros(run.shape[0])
    for t in reversed(range(run.shape[1])):
        length = np.where(run[:, t], length + 1, 0)
        left[:, t] = length
        begins[:, t] = run[:, t] & (broken[:, t] | (not t) | ~run[:, t - 1])
        length = np.where(broken[:, t], 0, length)
    return left, begins


def _shots(moves: Array, straight: NDArray[np.bool_], action: Array) -> Array:
    acted = _acted(action)[:, 1:-1]
    row, t = np.nonzero(acted & straight[:, :-1, 0] & straight[:, 1:, 0])
    return np.stack([moves[row, t, 0], action[row, t + 1], moves[row, t + 1, 0]], axis=1)
