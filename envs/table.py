"""Tables in play: the rules, frame by frame, that all environments share.

They stand here twice, for one table (`Table`, plain Python on floats) and for many (`Tables`, NumPy
on arrays), with the same operations in the same order, so that both give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.envs.config import Target
from jumpy_mbrl.envs.physics import (
    Backend,
    advance,
    advance_many,
    place,
    place_many,
    shoot,
    shoot_many,
)
from jumpy_mbrl.envs.pixels import Frame
from jumpy_mbrl.envs.task import Observation, Task

Moment = tuple[list[float], list[float], int]
"""Flat positions, flat velocities and the number of the frame."""


class Table:
    """The state of one table and the rules by which it goes on.

    Attributes:
        task: what is played.
        x: flat positions, in table sides.
        v: flat velocities, in sides per time unit.
        target: of this episode.
        frame: number of the frame, 0 at the start.
        walls: contacts with walls so far.
        hits: contacts between balls so far.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.x: list[float] = []
        self.v: list[float] = []
        self.target: Target = task.config.target
        self.frame = 0
        self.walls = 0
        self.hits = 0
        self._background: Frame = np.empty((0, 0, 0), dtype=np.uint8)
        self._painted: Target | None = None

    def start(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> None:
        """Starts an episode; errors are those of `Task.start_table`, and leave the table alone."""
        self.x, self.v, self.target = self.task.start_table(rng, options)
        self.frame = self.walls = self.hits = 0
        if self.task.has_pixels and self._painted != self.target:
            self._background = self.task.painter.background(self.target)
            self._painted = self.target

    def play(self, ax: float, ay: float) -> tuple[float, bool, bool]:
        """Plays one frame; an error of `advance` leaves the table alone.

        Args:
            ax: first component of the action, in [-1, 1].
            ay: second component of the action, in [-1, 1].

        Returns:
            The reward, whether the object ball reached the target, and whether the game is over.
        """
        task = self.task
        config = task.config
        shot = self.frame >= config.lead_in
        dense = shot and task.dense
        before = self._distance() if dense else 0.0
        x, v = self.x.copy(), self.v.copy()
        if shot and self.frame < task.shots_end:
            if task.line:
                place(x, v, ax, ay, config.radius)
            else:
                shoot(v, ax, ay, config.max_impulse, config.max_speed)
        walls, hits = advance(x, v, config.dt, config.radius, config.restitution)
        self.x, self.v = x, v
        self.walls += walls
        self.hits += hits
        self.frame += 1
        over = task.success == "last" and self.frame >= task.last_frame
        success = shot and (over or task.success == "any") and self._on_target()
        reward = 1.0 if success else 0.0
        if dense:
            reward += before - self._distance()
        return reward, success, success or over

    def moment(self) -> Moment:
        """Returns a copy of what changes from frame to frame, for `observe`."""
        return self.x.copy(), self.v.copy(), self.frame

    def observe(self, moment: Moment | None = None) -> Observation:
        """Returns the observation of this frame, or of an earlier one of this episode."""
        x, v, frame = moment or (self.x, self.v, self.frame)
        return self.task.observe(x, v, self.target, frame, self._background)

    def info(self, success: bool, played: int | None = None) -> dict[str, Any]:
        """Returns what environments tell beside the observation, and where a step plays many
        frames, how many it played."""
        info = {
            "positions": self.task.shown(self.x),
            "velocities": self.task.shown(self.v),
            "time": np.float64(self.frame * self.task.config.dt),
            # An array: Gymnasium's vector environments take a NumPy bool for an object.
            "is_success": np.array(success),
            "wall_hits": np.int64(self.walls),
            "ball_hits": np.int64(self.hits),
        }
        return _complete(info, self.task, None if played is None else np.int64(played))

    def _on_target(self) -> bool:
        x_low, x_high, y_low, y_high = self.target
        ball = self.task.object_ball
        x, y = self.x[ball], self.x[ball + 1]
        return x_low <= x <= x_high and y_low <= y <= y_high

    def _distance(self) -> float:
        """Distance from the object ball's centre to the target, 0 inside."""
        x_low, x_high, y_low, y_high = self.target
        ball = self.task.object_ball
        x, y = self.x[ball], self.x[ball + 1]
        dx, dy = max(x_low - x, 0.0, x - x_high), max(y_low - y, 0.0, y - y_high)
        # Not math.hypot, whose last bit NumPy's differs from.
        return math.sqrt(dx * dx + dy * dy)


def _complete(
    info: dict[str, Any], task: Task, played: np.int64 | NDArray[np.int64] | None
) -> dict[str, Any]:
    """Adds what whole shots tell, and the keys of earlier releases where they are asked for."""
    if played is not None:
        info |= {"frames_played": played, "duration": played * task.config.dt}
    if task.legacy_info:
        info["collisions"] = {"wall": info["wall_hits"], "ball": info["ball_hits"]}
        if played is not None:
            info["frames"] = played
    return info


Rows = NDArray[np.intp]


class Tables:
    """The state of B tables and the rules by which they go on; see `Table`.

    Attributes:
        task: what is played.
        x: (B, 2N) positions.
        v: (B, 2N) velocities.
        target: (B, 4).
        frame: (B,) numbers of the frames.
        walls: (B,) contacts with walls so far.
        hits: (B,) contacts between balls so far.
    """

    def __init__(self, task: Task, count: int, backend: Backend = "auto") -> None:
        self.task = task
        self.backend: Backend = backend
        size = 2 * task.config.num_balls
        self.x = np.zeros((count, size))
        self.v = np.zeros((count, size))
        self.target = np.tile(np.array(task.config.target), (count, 1))
        self.frame = np.zeros(count, dtype=np.int64)
        self.walls = np.zeros(count, dtype=np.int64)
        self.hits = np.zeros(count, dtype=np.int64)
        self._background: Frame = np.empty((0, 0, 0), dtype=np.uint8)
        if task.has_pixels:
            self._background = task.painter.background(task.config.target)
        self._backgrounds = [self._background] * count

    def start(
        self,
        rows: Rows,
        rngs: Sequence[np.random.Generator],
        options: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Starts episodes on the tables with the numbers `rows`, with one generator, and one set of
        options if any, for each; errors are those of `Task.start_table`, and leave all alone."""
        started: tuple[Any, ...]
        if options is None:
            started = self.task.start_tables(rngs)
        else:
            pairs = zip(rngs, options, strict=True)
            started = tuple(zip(*(self.task.start_table(*pair) for pair in pairs), strict=True))
        self.x[rows], self.v[rows], self.target[rows] = started
        for counter in (self.frame, self.walls, self.hits):
            counter[rows] = 0
        if self.task.has_pixels:
            for row in rows.tolist():
                shown = tuple(self.target[row].tolist())
                usual = shown == self.task.config.target
                self._backgrounds[row] = (
                    self._background if usual else self.task.painter.background(shown)
                )

    def play(
        self, actions: NDArray[np.float64], rows: Rows | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Plays one frame.

        Args:
            actions: (B, 2), in [-1, 1].
            rows: numbers of the tables to play on, all by default; the others stay as they are.

        Returns:
            Of all tables, (B,) each: the reward, whether the object ball reached the target, and
            whether the game is over; zero and False for those not played on.

        Raises:
            RuntimeError: as `advance_many`; shots have been played, and tables have moved, then.
        """
        task = self.task
        config = task.config
        shot = self.frame >= config.lead_in
        due = shot & (self.frame < task.shots_end)
        played = np.ones(len(shot), dtype=bool)
        if rows is not None:
            played[:] = False
            played[rows] = True
            shot &= played
            due &= played
        before = self._distance() if task.dense else None
        if due.any():
            pushed = np.flatnonzero(due)
            if task.line:
                place_many(self.x, self.v, actions, config, pushed, self.backend)
            else:
                shoot_many(self.v, actions, config, pushed)
        advance_many(self.x, self.v, self.walls, self.hits, config, rows, self.backend)
        self.frame += played
        over = np.zeros_like(shot)
        success = shot & self._on_target()
        if task.success == "last":
            over = played & (self.frame >= task.last_frame)
            success &= over
        reward = success.astype(np.float64)
        if before is not None:
            reward[shot] += (before - self._distance())[shot]
        return reward, success, success | over

    def observe(self, rows: Rows | None = None) -> Observation:
        """Returns the observations of the tables with the numbers `rows`, of all by default."""
        if rows is None:
            state = (self.x, self.v, self.target, self.frame)
            return self.task.observe_many(*state, self._backgrounds)
        return self.observe_at(self.x[rows], self.v[rows], self.frame[rows], rows)

    def observe_at(
        self,
        x: NDArray[np.float64],
        v: NDArray[np.float64],
        frame: NDArray[np.int64],
        rows: Rows,
    ) -> Observation:
        """Returns the observations of other frames of the episodes on the tables `rows`."""
        backgrounds = [self._backgrounds[row] for row in rows.tolist()]
        return self.task.observe_many(x, v, self.target[rows], frame, backgrounds)

    def info(
        self,
        success: NDArray[np.bool_],
        rows: Rows | None = None,
        played: NDArray[np.int64] | None = None,
    ) -> dict[str, Any]:
        """Returns what environments tell beside the observations, copies of shape (B, ...), or only
        of the tables with the numbers `rows`; see `Table.info`."""
        some: Any = slice(None) if rows is None else rows
        info = {
            "positions": self.task.many_shown(self.x[some]),
            "velocities": self.task.many_shown(self.v[some]),
            "time": self.frame[some] * self.task.config.dt,
            "is_success": success[some].copy(),
            "wall_hits": self.walls[some].copy(),
            "ball_hits": self.hits[some].copy(),
        }
        return _complete(info, self.task, None if played is None else played[some].copy())

    def _on_target(self) -> NDArray[np.bool_]:
        x_low, x_high, y_low, y_high = self.target.T
        ball = self.task.object_ball
        x, y = self.x[:, ball], self.x[:, ball + 1]
        inside: NDArray[np.bool_] = (x_low <= x) & (x <= x_high) & (y_low <= y) & (y <= y_high)
        return inside

    def _distance(self) -> NDArray[np.float64]:
        x_low, x_high, y_low, y_high = self.target.T
        ball = self.task.object_ball
        x, y = self.x[:, ball], self.x[:, ball + 1]
        dx = np.maximum(np.maximum(x_low - x, 0.0), x - x_high)
        dy = np.maximum(np.maximum(y_low - y, 0.0), y - y_high)
        distance: NDArray[np.float64] = np.sqrt(dx * dx + dy * dy)
        return distance
