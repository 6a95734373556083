"""One table in play: the rules, frame by frame, that all environments share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jumpy_mbrl.envs.config import Target
from jumpy_mbrl.envs.physics import advance, place, shoot
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
        """Plays one frame.

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
        if shot and self.frame < task.shots_end:
            if task.line:
                place(self.x, self.v, ax, ay, config.radius)
            else:
                shoot(self.v, ax, ay, config.max_impulse, config.max_speed)
        walls, hits = advance(self.x, self.v, config.dt, config.radius, config.restitution)
        self.walls += walls
        self.hits += hits
        self.frame += 1
        over = task.line and self.frame >= task.last_frame
        success = shot and (over or not task.line) and self._on_target()
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

    def info(self, success: bool) -> dict[str, Any]:
        """Returns what environments tell beside the observation."""
        return {
            "positions": self.task.shown(self.x),
            "velocities": self.task.shown(self.v),
            "time": self.frame * self.task.config.dt,
            "is_success": success,
            "collisions": {"wall": self.walls, "ball": self.hits},
        }

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
