"""Pictures of an episode: beside the balls where they came from, the shot and the score.

Nothing here draws, and nothing needs pygame: `rendering` turns a `View` into pixels. Positions and
lengths are in table sides, x to the right and y upwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.envs.config import TableConfig, Target
from jumpy_mbrl.envs.physics import advance
from jumpy_mbrl.envs.pixels import USUAL, Color, Look

TRAIL_FRAMES = 5
"""How long a ball's trail is, in frames."""
ARROW_FRAMES = 8
"""How long a shot's arrow stays, in frames."""
ARROW_LENGTH = 0.34
"""Length of the arrow of a shot along one axis with all its strength."""

_SUBSTEPS = 6
_SAME_PLACE = 1e-3

_RAIL = 24
_SCORE = 48
_HINT = 24
_FELT = 512


@dataclass(frozen=True, eq=False)
class Path:
    """A line over the table, such as the way of a ball.

    Attributes:
        points: (K, 2) positions.
        color: red, green and blue, 0 to 255.
        width: of the line; 0 for no line.
        dots: whether to mark every point with a dot.
        dot_radius: of the dots.
        dash: length of the dashes and of the gaps between them; 0 for an unbroken line.
        opacity: 0 to 1.
        fade: whether the line grows from nothing, at its first point, to its full width and
            opacity at the last.
    """

    points: ArrayLike
    color: Color = (255, 255, 255)
    width: float = 0.006
    dots: bool = False
    dot_radius: float = 0.011
    dash: float = 0.0
    opacity: float = 1.0
    fade: bool = False


@dataclass(frozen=True)
class Arrow:
    """An impulse on a ball.

    Attributes:
        centre: of the ball.
        impulse: (ax, ay), each in [-1, 1]; for nothing at all no arrow is drawn.
        opacity: 0 to 1.
    """

    centre: tuple[float, float]
    impulse: tuple[float, float]
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class View:
    """All that a picture shows.

    Attributes:
        positions: (N, 2) centres of the balls; ball 0 is the cue ball, ball 1 the object ball.
        target: (x_low, x_high, y_low, y_high), or None.
        radius: of the balls.
        trails: for each ball the (K, 2) positions it came from, oldest first.
        paths: lines over the balls.
        arrow: the shot, if there is one to show.
        left: text at the left of the score line.
        middle: text in the middle of it.
        right: text at the right of it.
        hint: a line of smaller text below it; where it is None, there is no such line.
        is_success: whether the target has been reached.
        look: the colours of felt and balls.
    """

    positions: NDArray[np.float64]
    target: Target | None = None
    radius: float = 0.1
    trails: Sequence[NDArray[np.float64]] = ()
    paths: Sequence[Path] = ()
    arrow: Arrow | None = None
    left: str = ""
    middle: str = ""
    right: str = ""
    hint: str | None = None
    is_success: bool = False
    look: Look = USUAL


@dataclass(frozen=True)
class Layout:
    """Where things are in a picture: the felt inside its rails, and the score line below.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        has_hint: whether there is a second line of text below the score line.
    """

    width: int
    height: int
    has_hint: bool = False

    @classmethod
    def natural(cls, has_hint: bool = False) -> Layout:
        """The size at which the felt has 512 x 512 pixels."""
        height = _FELT + 2 * _RAIL + _SCORE + _HINT * has_hint
        return cls(_FELT + 2 * _RAIL, height, has_hint)

    @property
    def unit(self) -> float:
        """Pixels of this picture for one of the natural size."""
        natural = Layout.natural(self.has_hint)
        return min(self.width / natural.width, self.height / natural.height)

    @property
    def side(self) -> int:
        """Height and width of the felt, in pixels."""
        return max(1, round(_FELT * self.unit))

    @property
    def rail(self) -> int:
        """Width of the rails, in pixels."""
        return round(_RAIL * self.unit)

    @property
    def left(self) -> int:
        """First column of the felt."""
        return (self.width - self.side) // 2

    @property
    def top(self) -> int:
        """First row of the felt."""
        natural = Layout.natural(self.has_hint)
        return max(0, round((self.height - natural.height * self.unit) / 2)) + self.rail

    @property
    def score_row(self) -> int:
        """Row of the middle of the score line."""
        return self.top + self.side + self.rail + round(_SCORE * self.unit / 2)

    @property
    def hint_row(self) -> int:
        """Row of the middle of the hint."""
        return self.score_row + round((_SCORE + _HINT - 12) * self.unit / 2)

    def to_table(self, column: float, row: float) -> tuple[float, float]:
        """Returns the table position at a point of the picture, which may lie off the table."""
        return (column - self.left) / self.side, 1.0 - (row - self.top) / self.side

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Returns the (column, row) of a table position."""
        return self.left + x * self.side, self.top + (1.0 - y) * self.side


class Trail:
    """Where balls have been lately, in the last few frames."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, list[float]]] = deque()

    def clear(self) -> None:
        """Forgets everything."""
        self._moments.clear()

    def add(self, time: float, x: Sequence[float]) -> None:
        """Notes flat positions at a time, in frames, later than all before."""
        self._moments.append((time, list(x)))
        while self._moments[0][0] < time - TRAIL_FRAMES:
            self._moments.popleft()

    def lines(self) -> list[NDArray[np.float64]]:
        """Returns the (K, 2) positions of each ball, oldest first."""
        if not self._moments:
            return []
        moments = np.array([x for _, x in self._moments])
        return list(moments.reshape(len(moments), -1, 2).transpose(1, 0, 2))


class Scene:
    """Follows an episode frame by frame, and says what there is to see of it."""

    def __init__(self, config: TableConfig) -> None:
        self.config = config
        self.look = USUAL
        self._trail = Trail()
        self.start([], config.target)

    def start(
        self, x: Sequence[float], target: Target, frame: int = 0, walls: int = 0, hits: int = 0
    ) -> None:
        """An episode begins, or goes on, with balls at the flat positions `x`."""
        self._x = list(x)
        self._target = target
        self._frame, self._walls, self._hits = frame, walls, hits
        self._success = False
        self._shot: tuple[int, Arrow] | None = None
        self._trail.clear()
        self._trail.add(frame, x)

    def step(
        self,
        x: Sequence[float],
        v: Sequence[float],
        action: tuple[float, float] | None = None,
        success: bool = False,
        walls: int = 0,
        hits: int = 0,
    ) -> None:
        """One more frame has been played: positions and velocities at its end, flat, the shot at
        its start, if there was one, and the score so far."""
        if action is not None:
            self._shot = self._frame, Arrow((self._x[0], self._x[1]), action)
        self._follow(x, v)
        self._frame += 1
        self._trail.add(self._frame, x)
        self._x = list(x)
        self._success = success
        self._walls = walls
        self._hits = hits

    def view(self) -> View:
        """Returns what there is to see now."""
        return View(
            positions=np.array(self._x).reshape(-1, 2),
            target=self._target,
            radius=self.config.radius,
            trails=self._trail.lines(),
            arrow=self._arrow(),
            left=f"frame {self._frame} of {self.config.num_frames - 1}",
            middle=f"walls {self._walls}   balls {self._hits}",
            right=self._status(),
            is_success=self._success,
            look=self.look,
        )

    def _follow(self, x: Sequence[float], v: Sequence[float]) -> None:
        """Adds where the balls were since the last frame: exactly, by playing it backwards.

        With restitution below 1 there is no way back, and the trail goes straight to the new frame.
        """
        config = self.config
        if config.restitution != 1.0:
            return
        back = list(x)
        speeds = [-speed for speed in v]
        moments = []
        for _ in range(_SUBSTEPS):
            advance(back, speeds, config.dt / _SUBSTEPS, config.radius)
            moments.append(back.copy())
        start = moments.pop()
        if max(abs(a - b) for a, b in zip(start, self._x, strict=True)) > _SAME_PLACE:
            self._trail.clear()  # a ball was put somewhere else
        for index, moment in enumerate(reversed(moments), start=1):
            self._trail.add(self._frame + index / _SUBSTEPS, moment)

    def _arrow(self) -> Arrow | None:
        if self._shot is None:
            return None
        frame, arrow = self._shot
        age = (self._frame - frame - 1) / ARROW_FRAMES
        return Arrow(arrow.centre, arrow.impulse, 1.0 - age) if age < 1.0 else None

    def _status(self) -> str:
        if self._success:
            return "in!"
        if self._frame >= self.config.num_frames - 1:
            return "missed"
        if self._frame < self.config.lead_in:
            return "watch"
        return "shoot" if self._shot is None else "rolling"
