"""Configuration of a table: its sizes, ranges, target and start.

Distances are in table sides (the table is the unit square), times in time units.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jumpy_mbrl.checks import check_choice, check_count, check_names, check_number

Start = Literal["moving", "rest"]
Target = tuple[float, float, float, float]

STARTS: tuple[Start, ...] = ("moving", "rest")

LINE_SPEED = 1.0
"""Speed of the balls of the game on a line, in sides per time unit."""

MAX_EVENTS = 100_000
"""Most contacts of one table between two frames, or in one call of `physics.advance`."""


@dataclass(frozen=True)
class TableConfig:
    """Everything that defines a table and an episode on it.

    The defaults are the benchmark's task; those of "Jumpy Recurrent Neural Networks" (ICLR 2021
    submission) name the paper. `ValueError` for an impossible value, naming the field, what was
    expected and the value.

    Attributes:
        num_balls: number of balls N, at least 1. Ball 0 is the cue ball, ball 1 the object ball.
            (Paper, section 3.2: two.)
        radius: radius of every ball, in table sides.
        dt: time between two frames, in time units: five steps of 0.01 of the papers' simulator.
        restitution: ratio of normal speeds after and before a collision, in (0, 1]; at least 0.95
            in contacts slower than `physics.SLOW_CONTACT`. (Paper, section 3.2: perfectly elastic,
            1.)
        initial_speed_std: standard deviation of a start velocity component, in sides per time unit.
        initial_speed_max: start velocity components are clipped to this.
        max_impulse: velocity that an action of 1 adds to the cue ball, per axis.
        max_speed: the cue ball's velocity components are clipped to this right after a shot.
        lead_in: number of first steps in which the player only watches; the first shot is played at
            this frame. The frames until then, its own included, are the context frames: one more.
        num_frames: frames of one episode, the first one included. (Paper, section 3.2: 45.)
        target: (x_low, x_high, y_low, y_high), the closed rectangle that the centre of the object
            ball has to reach.
    """

    num_balls: int = 2
    radius: float = 0.1
    dt: float = 0.05
    restitution: float = 1.0
    initial_speed_std: float = 0.75
    initial_speed_max: float = 1.2
    max_impulse: float = 1.2
    max_speed: float = 1.8
    lead_in: int = 3
    num_frames: int = 45
    target: Target = (0.8, 1.0, 0.0, 0.2)

    def __post_init__(self) -> None:
        check_count("num_balls", self.num_balls)
        check_count("lead_in", self.lead_in, 0)
        check_count("num_frames", self.num_frames, self.lead_in + 2)
        check_number("radius", self.radius, 0.0, 0.5, open_low=True)
        check_number("dt", self.dt, 0.0, open_low=True)
        check_number("restitution", self.restitution, 0.0, 1.0, open_low=True)
        check_number("max_speed", self.max_speed, 0.0, open_low=True)
        check_number("max_impulse", self.max_impulse, 0.0)
        check_number("initial_speed_std", self.initial_speed_std, 0.0)
        check_number("initial_speed_max", self.initial_speed_max, 0.0, self.max_speed)
        per_side = math.floor(0.5 / self.radius + 1e-9)
        if self.num_balls > per_side**2:
            raise ValueError(
                f"expected at most {per_side**2} balls of radius {self.radius} on the unit square "
                f"({per_side} a side), got num_balls={self.num_balls}; use fewer or smaller balls"
            )
        # Up to six a side, a square number of balls fits best in rows and columns. Two balls that
        # fill a side meet without end if they lose energy where they squeeze past each other.
        packed = self.num_balls == per_side**2 and per_side <= 6
        packed |= self.num_balls > 1 and per_side == 2 and self.restitution < 1.0
        room = max(1.0 - 2.0 * self.radius * (per_side if packed else 1), 0.0)
        # The contacts that all balls at max_speed on both axes would have with walls alone.
        if 2 * self.num_balls * self.max_speed * self.dt > 0.1 * MAX_EVENTS * room:
            raise ValueError(
                f"expected balls that meet walls at most {MAX_EVENTS // 10} times in a frame, got "
                f"num_balls={self.num_balls} of radius={self.radius}, whose rows have {room:.3g} "
                f"of the side to move in, at max_speed={self.max_speed} with dt={self.dt}; use "
                "fewer, smaller or slower balls, or a shorter dt"
            )
        # Plain numbers only, so that equal configs are also equal as JSON.
        for field in dataclasses.fields(self):
            if field.name != "target":
                kind = int if isinstance(field.default, int) else float
                object.__setattr__(self, field.name, kind(getattr(self, field.name)))
        object.__setattr__(self, "target", check_target(self.target))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableConfig:
        """Builds a config from a mapping of field names, as a JSON manifest holds it; errors are
        those of `replace`."""
        if not isinstance(values, Mapping):
            raise ValueError(f"expected a mapping of table settings, got {values!r}")
        return cls().replace(**values)

    @property
    def context_frames(self) -> int:
        """How many frames an agent or a model is shown before the first shot."""
        return self.lead_in + 1

    def replace(self, **changes: Any) -> TableConfig:
        """Returns a copy with some fields changed and all checked again; `ValueError` for an
        unknown one, with the nearest known."""
        check_names("table setting", changes, [field.name for field in dataclasses.fields(self)])
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        values = dataclasses.asdict(self)
        values["target"] = list(self.target)
        return values


def check_target(target: Iterable[float]) -> Target:
    """Returns a target as four floats; `ValueError` unless it is (x_low, x_high, y_low, y_high),
    finite, inside the unit square and with low < high on both axes."""
    expected = (
        "expected target=(x_low, x_high, y_low, y_high) with 0 <= low < high <= 1 on both axes"
    )
    try:
        values = [float(value) for value in target]
    except (TypeError, ValueError):
        raise ValueError(f"{expected}, got {target!r}") from None
    if len(values) != 4:
        raise ValueError(f"{expected}, got {len(values)} values: {values}")
    x_low, x_high, y_low, y_high = values
    if not (0.0 <= x_low < x_high <= 1.0 and 0.0 <= y_low < y_high <= 1.0):
        raise ValueError(f"{expected}, got {tuple(values)}")
    return x_low, x_high, y_low, y_high


def check_start(start: str) -> None:
    """`ValueError` for an unknown start."""
    check_choice("start", start, STARTS)


LINE_CONFIG = TableConfig(num_frames=21, target=(0.0, 1.0, 0.23, 0.43))
"""The papers' planning task in one dimension: y = 0.33 +- 0.1 at frame 20."""
