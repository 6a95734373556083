"""How a table begins: positions and velocities, drawn or given.

Two orders of drawing stay apart, for the same seeds are to give the same tables: `sample_*` draw
many tables from one generator, as datasets do, and `draw_*` one from each, as resets do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.envs.config import LINE_SPEED, MAX_EVENTS, Start, TableConfig, check_start
from jumpy_mbrl.envs.physics import advance

CONTACT_TOLERANCE = 1e-6
"""Overlap that is still taken for contact in given positions, so that a float32
observation can be handed back to `reset`."""

_MAX_TRIES = 200
_MAX_RESTARTS = 100


def sample_tables(
    config: TableConfig, rng: np.random.Generator, count: int, start: Start = "moving"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draws start tables, positions first: positions and velocities, each (B, N, 2) float64;
    `ValueError` for an unknown start, or if the balls find no room."""
    check_start(start)
    positions = sample_positions(config, rng, count)
    return positions, sample_velocities(config, rng, count, start)


def sample_positions(
    config: TableConfig, rng: np.random.Generator, count: int
) -> NDArray[np.float64]:
    """Draws positions without overlap, (B, N, 2) float64: ball after ball, each uniformly over the
    room that the earlier ones leave, by rejection; a table on which some ball finds none is begun
    again. `ValueError` if that never ends."""
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
    """Draws velocities, (B, N, 2) float64, in sides per time unit: components are
    `initial_speed_std` * N(0, 1), clipped to +-`initial_speed_max`, or zero for `start="rest"`."""
    check_start(start)
    shape = (count, config.num_balls, 2)
    if start == "rest":
        return np.zeros(shape)
    return _speeds(config, rng.standard_normal(shape))


def draw_velocities(
    config: TableConfig, rng: np.random.Generator, start: Start = "moving", line: bool = False
) -> list[float]:
    """Draws the velocities of one table, [vx0, vy0, ...], by the law of `sample_velocities`: with
    the same generator it returns the same numbers. On a line, balls move along y only, at
    `LINE_SPEED`, either way with equal chances."""
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


def draw_many_velocities(
    config: TableConfig,
    rngs: Sequence[np.random.Generator],
    start: Start = "moving",
    line: bool = False,
) -> NDArray[np.float64]:
    """Draws the velocities of one table from each generator, (B, 2N), as `draw_velocities` does."""
    if line or start == "rest":
        return np.array([draw_velocities(config, rng, start, line) for rng in rngs])
    size = 2 * config.num_balls
    return _speeds(config, np.array([rng.standard_normal(size) for rng in rngs]))


def draw_positions(
    config: TableConfig, random: Callable[[], float], line: bool = False
) -> list[float]:
    """Draws the positions of one table, [x0, y0, x1, y1, ...], by the law of `sample_positions`:
    with the same generator, whose `random` it takes, it returns the same numbers, several times
    faster. On a line all x are 0.5. `ValueError` if the balls find no room."""
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


def draw_many_positions(
    config: TableConfig, rngs: Sequence[np.random.Generator], line: bool = False
) -> NDArray[np.float64]:
    """Draws the positions of one table from each generator, (B, 2N), as `draw_positions` does."""
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


def check_positions(positions: ArrayLike, config: TableConfig) -> NDArray[np.float64]:
    """Returns given positions as a fresh (N, 2) float64 array; `ValueError`, naming the balls, for
    another shape, what is not finite, a ball outside the table, or an overlap of more than
    `CONTACT_TOLERANCE`."""
    array = _check_pairs("positions", positions, config.num_balls)
    low, high = config.radius, 1.0 - config.radius
    for ball, (x, y) in enumerate(array.tolist()):
        if not all(low - CONTACT_TOLERANCE <= c <= high + CONTACT_TOLERANCE for c in (x, y)):
            raise ValueError(
                f"expected every ball inside the table, its centre in [{low:g}, {high:g}] on both "
                f"axes, got ball {ball} at ({x:g}, {y:g}); move it"
            )
    for first, second in itertools.combinations(range(config.num_balls), 2):
        distance = float(np.hypot(*(array[first] - array[second])))
        if distance < 2.0 * config.radius - CONTACT_TOLERANCE:
            raise ValueError(
                f"expected balls that do not overlap, their centres {2 * config.radius:g} or "
                f"more apart, got balls {first} and {second} at distance {distance:g}; "
                f"move them apart"
            )
    return array


def check_velocities(velocities: ArrayLike, config: TableConfig) -> NDArray[np.float64]:
    """Returns given velocities as a fresh (N, 2) float64 array; `ValueError` for another shape,
    what is not finite, or more energy than all balls at `max_speed` on both axes would have: a sum
    of squares above 2 * N * max_speed ** 2."""
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


def check_room(x: list[float], config: TableConfig) -> None:
    """`ValueError` for balls wedged between walls, which would meet without end as soon as they
    move, or so nearly wedged that one frame could have more contacts than a table may have.

    Each table of flat positions `x` that might be so is shaken for one frame, along the axes and
    the diagonals, in which rows between walls or corners lie, and may not have more than a tenth of
    `MAX_EVENTS` contacts.
    """
    # Walls can only hold balls that touch opposite ones.
    span = 1.0 - 2.0 * config.radius - config.max_speed * config.dt
    if all(max(x[axis::2]) - min(x[axis::2]) < span for axis in (0, 1)):
        return
    most = MAX_EVENTS // 10
    for course in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0)):
        # Neighbours move against each other, and no two at the same speed.
        speeds = [(-1.0) ** ball * (1.0 - 0.618 * ball % 0.5) for ball in range(len(x) // 2)]
        v = [config.max_speed * speed * part for speed in speeds for part in course]
        try:
            advance(list(x), v, config.dt, config.radius, config.restitution, most)
        except RuntimeError:
            raise ValueError(
                f"expected balls with room to move, got balls of radius {config.radius:g} "
                f"wedged between walls, so that they would meet more than {most} times in one "
                "frame; move them apart, or use a smaller radius"
            ) from None


def _speeds(config: TableConfig, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
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
