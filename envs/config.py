"""The table: its sizes and speeds, random starts, and the checks on given ones.

Distances are in table sides (the table is the unit square), times in time units.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Start = Literal["moving", "rest"]
Target = tuple[float, float, float, float]

STARTS: tuple[Start, ...] = ("moving", "rest")

CONTACT_TOLERANCE = 1e-6
"""Overlap that is still taken for contact in given positions, so that a float32
observation can be handed back to `reset`."""

LINE_SPEED = 1.0
"""Speed of the balls of the game on a line, in sides per time unit."""

MAX_EVENTS = 100_000
"""Most contacts of one table between two frames, or in one call of `physics.advance`."""

_MAX_TRIES = 200
_MAX_RESTARTS = 100


@dataclass(frozen=True)
class TableConfig:
    """Everything that defines a table and an episode on it.

    The defaults are the benchmark's task; "paper" is its source, "Jumpy Recurrent Neural Networks"
    (ICLR 2021 submission).

    Attributes:
        num_balls: number of balls N, at least 1. Ball 0 is the cue ball, ball 1 the object ball.
            (Paper, section 3.2: two.)
        radius: radius of every ball, in table sides. (Benchmark.)
        dt: time between two frames, in time units. (Benchmark: five steps of 0.01 of the papers'
            simulator.)
        restitution: ratio of normal speeds after and before a collision, in (0, 1]; at least 0.95
            in contacts slower than `physics.SLOW_CONTACT`. (Paper, section 3.2: perfectly elastic,
            1.)
        initial_speed_std: standard deviation of a start velocity component, in sides per time unit.
            (Benchmark.)
        initial_speed_max: start velocity components are clipped to this. (Benchmark.)
        max_impulse: velocity that an action of 1 adds to the cue ball, per axis. (Benchmark.)
        max_speed: the cue ball's velocity components are clipped to this right after a shot.
            (Benchmark.)
        lead_in: number of first steps in which the player only watches; the first shot is played at
            this frame. (Benchmark.)
        num_frames: frames of one episode, the first one included. (Paper, section 3.2: 45.)
        target: (x_low, x_high, y_low, y_high), the closed rectangle that the centre of the object
            ball has to reach. (Benchmark.)

    Raises:
        ValueError: if a value is impossible, naming the field, what was expected and the value.
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
        _check_integer("num_balls", self.num_balls, 1)
        _check_integer("lead_in", self.lead_in, 0)
        _check_integer("num_frames", self.num_frames, self.lead_in + 2)
        _check_real("radius", self.radius, 0.0, 0.5, closed_low=False)
        _check_real("dt", self.dt, 0.0, math.inf, closed_low=False)
        _check_real("restitution", self.restitution, 0.0, 1.0, closed_low=False)
        _check_real("max_speed", self.max_speed, 0.0, math.inf, closed_low=False)
        _check_real("max_impulse", self.max_impulse, 0.0, math.inf)
        _check_real("initial_speed_std", self.initial_speed_std, 0.0, math.inf)
        _check_real("initial_speed_max", self.initial_speed_max, 0.0, self.max_speed)
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
        """Builds a config from a mapping of field names, as a JSON manifest holds it.

        Raises:
            ValueError: for an unknown field, with the nearest known one, or a value that is no
                mapping.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"expected a mapping of table settings, got {values!r}")
        return cls().replace(**values)

    def replace(self, **changes: Any) -> TableConfig:
        """Returns a copy with some fields changed (and all of them checked again).

        Raises:
            ValueError: for an unknown field, with the nearest known one.
        """
        check_names("table setting", changes, [field.name for field in dataclasses.fields(self)])
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        values = dataclasses.asdict(self)
        values["target"] = list(self.target)
        return values


def sample_tables(
    config: TableConfig, rng: np.random.Generator, count: int, start: Start = "moving"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draws start tables: positions first, then velocities.

    Args:
        config: the table.
        rng: the source of all randomness.
        count: number of tables B.
        start: "moving" or "rest".

    Returns:
        Positions and velocities, each (B, N, 2) float64.

    Raises:
        ValueError: for an unknown start, or if the balls find no room.
    """
    check_start(start)
    positions = sample_positions(config, rng, count)
    return positions, sample_velocities(config, rng, count, start)


def sample_positions(
    config: TableConfig, rng: np.random.Generator, count: int
) -> NDArray[np.float64]:
    """Draws positions without overlap, (B, N, 2) float64.

    Balls are placed one after the other, each uniformly over the room that the earlier ones leave
    (by rejection); a table on which some ball finds none is begun again.

    Raises:
        ValueError: if the balls find no room.
    """
    placed = np.empty((count, config.num_balls, 2))
    waiting = np.arange(count)
    for _ in range(_MAX_RESTARTS):
        tables, stuck = _try_to_place(config, rng, len(waiting))
        placed[waiting] = tables
        waiting = waiting[stuck]
        if not len(waiting):
            return placed
    raise _no_room(config)


def sample_velocities(
    config: TableConfig, rng: np.random.Generator, count: int, start: Start = "moving"
) -> NDArray[np.float64]:
    """Draws velocities, (B, N, 2) float64, in sides per time unit.

    Components are `initial_speed_std` * N(0, 1), clipped to +-`initial_speed_max`, or zero for
    `start="rest"`.

    Raises:
        ValueError: for an unknown start.
    """
    check_start(start)
    shape = (count, config.num_balls, 2)
    if start == "rest":
        return np.zeros(shape)
    limit = config.initial_speed_max
    return np.clip(config.initial_speed_std * rng.standard_normal(shape), -limit, limit)


def draw_positions(
    config: TableConfig, random: Callable[[], float], line: bool = False
) -> list[float]:
    """Draws the positions of one table, [x0, y0, x1, y1, ...], by the law of `sample_positions`:
    with the same generator it returns the same numbers, several times faster.

    Args:
        config: the table.
        random: the source of all randomness, `Generator.random`.
        line: whether all x are to be 0.5.

    Raises:
        ValueError: if the balls find no room.
    """
    low, side = config.radius, 1.0 - 2.0 * config.radius
    reach = 4.0 * config.radius**2
    for _ in range(_MAX_RESTARTS):
        placed: list[float] = []
        for ball in range(config.num_balls):
            for _ in range(_MAX_TRIES):
                x = 0.5 if line else low + side * random()
                y = low + side * random()
                for k in range(0, 2 * ball, 2):
                    dx, dy = placed[k] - x, placed[k + 1] - y
                    if dx * dx + dy * dy < reach:
                        break
                else:
                    placed += (x, y)
                    break
            else:
                break
        else:
            return placed
    raise _no_room(config)


def draw_velocities(
    config: TableConfig, rng: np.random.Generator, start: Start = "moving", line: bool = False
) -> list[float]:
    """Draws the velocities of one table, [vx0, vy0, ...], by the law of `sample_velocities`: with
    the same generator it returns the same numbers.

    Args:
        config: the table.
        rng: the source of all randomness.
        start: "moving" or "rest", a known one.
        line: whether the balls move along y only, at `LINE_SPEED`, either way with equal chances.
    """
    size = 2 * config.num_balls
    velocities = [0.0] * size
    if start == "rest":
        return velocities
    if line:
        for k in range(1, size, 2):
            velocities[k] = LINE_SPEED if rng.random() < 0.5 else -LINE_SPEED
        return velocities
    std, limit = config.initial_speed_std, config.initial_speed_max
    drawn: list[float] = rng.standard_normal(size).tolist()
    return [min(max(std * number, -limit), limit) for number in drawn]


def draw_many_positions(
    config: TableConfig, rngs: Sequence[np.random.Generator], line: bool = False
) -> NDArray[np.float64]:
    """Draws the positions of one table from each generator, (B, 2N), as `draw_positions` does.

    Raises:
        ValueError: if the balls find no room.
    """
    balls = config.num_balls
    if balls > 2:
        return np.array([draw_positions(config, rng.random, line) for rng in rngs])
    # Most tables need no more than one place for each ball.
    count = balls if line else 2 * balls
    drawn = np.array([rng.random(count) for rng in rngs])
    low, side = config.radius, 1.0 - 2.0 * config.radius
    placed = np.full((len(rngs), 2 * balls), 0.5)
    placed[:, 1 if line else 0 :: 2 if line else 1] = low + side * drawn
    if balls == 2:
        dx, dy = placed[:, 0] - placed[:, 2], placed[:, 1] - placed[:, 3]
        for row in np.flatnonzero(dx * dx + dy * dy < 4.0 * config.radius**2).tolist():
            numbers = itertools.chain(drawn[row].tolist(), iter(rngs[row].random, None))
            placed[row] = draw_positions(config, numbers.__next__, line)
    return placed


def draw_many_velocities(
    config: TableConfig,
    rngs: Sequence[np.random.Generator],
    start: Start = "moving",
    line: bool = False,
) -> NDArray[np.float64]:
    """Draws the velocities of one table from each generator, (B, 2N), as `draw_velocities` does."""
    size = 2 * config.num_balls
    if start == "rest":
        return np.zeros((len(rngs), size))
    if line:
        return np.array([draw_velocities(config, rng, start, line) for rng in rngs])
    drawn = np.array([rng.standard_normal(size) for rng in rngs])
    limit = config.initial_speed_max
    return np.clip(config.initial_speed_std * drawn, -limit, limit)


def _no_room(config: TableConfig) -> ValueError:
    return ValueError(
        f"expected num_balls and radius that leave room for random starts, got "
        f"num_balls={config.num_balls} and radius={config.radius}, for which {_MAX_RESTARTS} "
        f"attempts failed; use fewer or smaller balls, or give the positions"
    )


def _try_to_place(
    config: TableConfig, rng: np.random.Generator, count: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One attempt for `count` tables; the mask marks those that found no room for some ball."""
    low, side = config.radius, 1.0 - 2.0 * config.radius
    reach = 4.0 * config.radius**2
    tables = np.empty((count, config.num_balls, 2))
    stuck = np.zeros(count, dtype=bool)
    for ball in range(config.num_balls):
        rows = np.flatnonzero(~stuck)
        for _ in range(_MAX_TRIES):
            tables[rows, ball] = low + side * rng.random((len(rows), 2))
            if ball == 0:
                rows = rows[:0]
                break
            offsets = tables[rows, :ball] - tables[rows, ball : ball + 1]
            rows = rows[((offsets**2).sum(-1) < reach).any(-1)]
            if not len(rows):
                break
        stuck[rows] = True
    return tables, stuck


def check_positions(positions: ArrayLike, config: TableConfig) -> NDArray[np.float64]:
    """Returns given positions as a fresh (N, 2) float64 array, or refuses them.

    Raises:
        ValueError: if they have another shape, are not finite, or if a ball lies outside the table
            or overlaps another by more than `CONTACT_TOLERANCE`, naming the balls.
    """
    array = _check_pairs("positions", positions, config.num_balls)
    low, high = config.radius, 1.0 - config.radius
    for ball, (x, y) in enumerate(array.tolist()):
        if not all(low - CONTACT_TOLERANCE <= c <= high + CONTACT_TOLERANCE for c in (x, y)):
            raise ValueError(
                f"expected every ball inside the table, its centre in [{low:g}, {high:g}] on both "
                f"axes, got ball {ball} at ({x:g}, {y:g}); move it"
            )
    for first in range(config.num_balls):
        for second in range(first + 1, config.num_balls):
            distance = float(np.hypot(*(array[first] - array[second])))
            if distance < 2.0 * config.radius - CONTACT_TOLERANCE:
                raise ValueError(
                    f"expected balls that do not overlap, their centres {2 * config.radius:g} or "
                    f"more apart, got balls {first} and {second} at distance {distance:g}; "
                    f"move them apart"
                )
    return array


def check_velocities(velocities: ArrayLike, config: TableConfig) -> NDArray[np.float64]:
    """Returns given velocities as a fresh (N, 2) float64 array, or refuses them.

    Raises:
        ValueError: if they have another shape, are not finite, or hold more energy than all balls
            at `max_speed` on both axes would: sum of squares above 2 * N * max_speed ** 2.
    """
    array = _check_pairs("velocities", velocities, config.num_balls)
    total = float((array**2).sum())
    most = 2.0 * config.num_balls * config.max_speed**2
    if total > most * (1.0 + CONTACT_TOLERANCE):
        fastest = int(np.argmax((array**2).sum(1)))
        raise ValueError(
            f"expected velocities whose squares sum to at most {most:g} (all balls at max_speed="
            f"{config.max_speed:g} on both axes), got {total:g}, ball {fastest} being the fastest; "
            f"slow the balls down or raise max_speed"
        )
    return array


def check_target(target: Iterable[float]) -> Target:
    """Returns a target as four floats, or refuses it.

    Raises:
        ValueError: unless it is (x_low, x_high, y_low, y_high), finite, inside the unit square and
            with low < high on both axes.
    """
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
    """Raises a `ValueError` unless `start` is one of `STARTS`."""
    if start not in STARTS:
        raise ValueError(unknown_name("start", start, STARTS))


def check_names(what: str, names: Iterable[object], known: Collection[str]) -> None:
    """Raises a `ValueError` for the first of `names` that is not `known`."""
    for name in names:
        if name not in known:
            raise ValueError(unknown_name(what, name, known))


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """Returns the message for a name outside a list of choices, with the nearest of them."""
    choices = list(known)
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}, expected one of {choices}{hint}"


def _check_pairs(name: str, values: ArrayLike, num_balls: int) -> NDArray[np.float64]:
    expected = f"expected {name} of shape ({num_balls}, 2), one finite (x, y) for each ball"
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{expected}, got {values!r}") from None
    if array.shape != (num_balls, 2):
        raise ValueError(f"{expected}, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(f"{expected}, got {array[bad[0]].tolist()} for ball {bad[0]}")
    return array


def _check_integer(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"expected {name} to be an integer of at least {low}, got {value!r}")


def _check_real(
    name: str, value: object, low: float, high: float, *, closed_low: bool = True
) -> None:
    span = f"{'[' if closed_low else '('}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or not math.isfinite(value)
        or not low <= value <= high
        or (value == low and not closed_low)
    ):
        raise ValueError(f"expected {name} to be a number in {span}, got {value!r}")
