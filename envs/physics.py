"""Exact event-driven physics of equal balls on the unit square, for one table at a time.

Between events balls move in straight lines. `advance` finds the earliest wall or ball-ball contact
in closed form, moves everything there, resolves it, and looks again, so a step of 5 dt equals five
steps of dt, energy is conserved and no ball overlaps another, all to rounding.

**Which contacts are events.** A contact counts only if it approaches: the normal velocity (towards
the wall, or of the two balls towards each other) is strictly below zero. So balls that touch at
rest, touch while separating, or graze (the closest approach is exactly the contact) exchange
nothing. **Simultaneous events** are resolved one after the other, each with the velocities that the
one before left behind, in this order: earliest first, then walls before balls, then the lower
coordinate (x before y, ball by ball), then the lower pair (0, 1), (0, 2), (1, 2), ... A corner is
thus two wall events at the same time. An event exactly at the end of a call belongs to the next.

**Slow contacts.** With the same restitution below 1 at all speeds, balls can meet infinitely often
in a finite time: inelastic collapse (McNamara and Young, Phys. Fluids A 4, 496, 1992). So a contact
with a relative normal speed below `SLOW_CONTACT` gives back `SLOW_RESTITUTION` of it, or
`restitution` if that is more. Real balls, too, lose a smaller share the slower they meet
(Brilliantov et al., Phys. Rev. E 53, 5382, 1996), and elastic contacts below a cutoff speed are
usual in simulations (Ben-Naim et al., Phys. Rev. Lett. 83, 4069, 1999). They are not quite elastic
here, because balls that lose energy gather in rows along walls, which may fill a whole side, and
such a row comes to rest only by losing more. At 0.95 collapse takes some 88 balls in a row. Balls
keep their momentum at all speeds, and a restitution of 0.95 or more is the same at all.

The kernels (`advance`, `shoot`, `place`, `play_batch`) are plain Python on lists of floats, the
fastest form for one table of few balls, and the very same source is compiled by numba (the `fast`
extra) for many tables. Both give the same results bit for bit. Nothing here checks its input: see
`config`.

Units: positions in table sides, times in time units (one frame is `dt`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import math
import pickle
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_choice
from jumpy_mbrl.envs.config import LINE_SPEED, MAX_EVENTS, TableConfig

Backend = Literal["auto", "python", "numba"]
Vector = list[float] | NDArray[np.float64]

BACKENDS: tuple[Backend, ...] = ("auto", "python", "numba")

SLOW_CONTACT = 1e-3
"""Relative normal speed, in sides per time unit, below which a contact is a slow one."""

SLOW_RESTITUTION = 0.95
"""Least restitution of a slow contact."""

_ROUNDING = 16 * 2.0**-52
_MARGIN = 1e-9
_TINY = float(np.finfo(np.float64).tiny)
_FEW = 8


def advance(
    x: Vector,
    v: Vector,
    duration: float,
    radius: float,
    restitution: float = 1.0,
    max_events: int = MAX_EVENTS,
) -> tuple[int, int]:
    """Moves one table on by `duration`, in place, and returns the numbers of wall hits and of
    ball-ball hits.

    Args:
        x: positions [x0, y0, x1, y1, ...], a list of floats (or, compiled, a float64 array).
        v: velocities in the same order, in sides per time unit.
        duration: in time units, not negative.
        radius: of every ball.
        restitution: normal speed after / before a collision, in (0, 1].
        max_events: most contacts to resolve; more are a `RuntimeError`: balls far too fast for the
            duration, or wedged between walls.
    """
    walls, hits = _advance(x, v, duration, radius, restitution, max_events)
    if walls < 0:
        raise _too_many(max_events)
    return walls, hits


def _too_many(max_events: int, tables: list[int] | None = None) -> RuntimeError:
    where = "" if tables is None else f" on the tables {tables}"
    return RuntimeError(
        f"expected at most max_events contacts ({max_events}) of a table in one frame or call of "
        f"advance, got more{where}; use a shorter duration, slower balls, balls with more room, or "
        "a larger max_events"
    )


def _check_all_went_on(lost: NDArray[np.bool_], max_events: int) -> None:
    if lost.any():
        raise _too_many(max_events, np.flatnonzero(lost).tolist())


def _advance(
    x: Vector, v: Vector, duration: float, radius: float, restitution: float, max_events: int
) -> tuple[int, int]:
    """`advance`, which returns (-1, -1) where it gives up."""
    size = len(x)
    high = 1.0 - radius
    reach = 4.0 * radius * radius
    gentle = max(restitution, SLOW_RESTITUTION)
    remaining = duration
    walls = 0
    hits = 0
    # Two balls that have just collided cannot meet again before one of them meets something else.
    # Remembering that keeps a rounding error in the new velocities from being a second contact.
    partner = [-1] * size
    # Three touching balls can pass on a difference of velocities that is mere rounding for ever:
    # once two balls have collided, an approach below this is none.
    slack = 0.0
    for _ in range(max_events + 1):
        first = remaining
        a = -1
        b = -1
        for k in range(size):
            speed = v[k]
            if speed > 0.0:
                t = (high - x[k]) / speed
                if t < first:
                    first = t
                    a = k
            elif speed < 0.0:
                t = (radius - x[k]) / speed
                if t < first:
                    first = t
                    a = k
        for i in range(0, size - 2, 2):
            xi = x[i]
            yi = x[i + 1]
            ui = v[i]
            wi = v[i + 1]
            for j in range(i + 2, size, 2):
                dx = x[j] - xi
                dy = x[j + 1] - yi
                du = v[j] - ui
                dw = v[j + 1] - wi
                rate = dx * du + dy * dw
                if rate < -slack and (partner[i] != j or partner[j] != i):
                    cross = dx * dw - dy * du
                    root = (du * du + dw * dw) * reach - cross * cross
                    if root > 0.0:
                        # The smaller root, in the form that does not cancel.
                        t = (dx * dx + dy * dy - reach) / (math.sqrt(root) - rate)
                        if t < first:
                            first = t
                            a = i
                            b = j
        if first > 0.0:
            for k in range(size):
                x[k] += v[k] * first
            remaining -= first
        if a < 0:
            return walls, hits
        if b < 0:
            x[a] = high if v[a] > 0.0 else radius
            v[a] *= -gentle if -SLOW_CONTACT < v[a] < SLOW_CONTACT else -restitution
            partner[a - a % 2] = -1
            walls += 1
        else:
            dx = x[b] - x[a]
            dy = x[b + 1] - x[a + 1]
            rate = dx * (v[b] - v[a]) + dy * (v[b + 1] - v[a + 1])
            partner[a] = b
            partner[b] = a
            if rate < 0.0:
                square = dx * dx + dy * dy
                slow = rate * rate < SLOW_CONTACT * SLOW_CONTACT * square
                push = 0.5 * (1.0 + (gentle if slow else restitution)) * rate / square
                v[a] += push * dx
                v[a + 1] += push * dy
                v[b] -= push * dx
                v[b + 1] -= push * dy
                hits += 1
            if slack == 0.0:
                square = 0.0
                for k in range(size):
                    square += v[k] * v[k]
                slack = _ROUNDING * radius * math.sqrt(square)
    return -1, -1


def shoot(v: Vector, ax: float, ay: float, max_impulse: float, max_speed: float) -> None:
    """Plays a shot, in place: adds `max_impulse` times the action, in [-1, 1]^2, to the cue ball's
    velocity, v[:2], and then clips the two components to +-`max_speed`."""
    v[0] = min(max(v[0] + max_impulse * ax, -max_speed), max_speed)
    v[1] = min(max(v[1] + max_impulse * ay, -max_speed), max_speed)


def place(x: Vector, v: Vector, position: float, direction: float, radius: float) -> None:
    """Plays a shot of the game on a line, in place: puts the cue ball of two at a position, from -1
    for the lowest place to 1 for the highest, or where the object ball is in the way at the nearest
    free place, and sends it upwards at `LINE_SPEED`, or down with a direction below 0. Only y
    changes; all balls have the same x."""
    low = radius
    high = 1.0 - radius
    y = low + 0.5 * (position + 1.0) * (high - low)
    above = x[3] + 2.0 * radius
    below = x[3] - 2.0 * radius
    if below < y < above:
        if above <= high and (y >= x[3] or below < low):
            y = above
        elif below >= low:
            y = below
        else:  # balls that fill the line
            y = x[1]
    x[1] = y
    v[1] = LINE_SPEED if direction >= 0.0 else -LINE_SPEED


def advance_rows(
    xs: Any,
    vs: Any,
    rows: Any,
    walls: Any,
    hits: Any,
    dt: float,
    radius: float,
    restitution: float,
    max_events: int,
) -> None:
    """Moves the tables with the numbers `rows` on, in place, and tells their contacts, -1 for those
    with too many. Rows of positions (2N) and velocities (2N) are lists or array rows."""
    for row in rows:
        walls[row], hits[row] = _advance(xs[row], vs[row], dt, radius, restitution, max_events)


def place_rows(xs: Any, vs: Any, rows: Any, actions: Any, radius: float) -> None:
    """Plays a shot of the game on a line at each of the tables with the numbers `rows`, in place;
    one (2) of `actions` belongs to every table."""
    for row in rows:
        place(xs[row], vs[row], actions[row][0], actions[row][1], radius)


def play_batch(
    xs: Any,
    vs: Any,
    shots: Any,
    frames: Any,
    lost: Any,
    lead_in: int,
    dt: float,
    radius: float,
    restitution: float,
    max_impulse: float,
    max_speed: float,
    max_events: int,
) -> None:
    """Plays whole trajectories, in place: B rows of positions (2N) and velocities (2N), with a shot
    (2) each at frame `lead_in`, into rows of frames (T * 2N). Rows are lists or array rows. `lost`
    (B) tells which had too many contacts between two frames."""
    for row in range(len(xs)):
        x = xs[row]
        v = vs[row]
        out = frames[row]
        size = len(x)
        last = len(out) // size - 1
        for frame in range(last):
            for k in range(size):
                out[frame * size + k] = x[k]
            if frame == lead_in:
                shoot(v, shots[row][0], shots[row][1], max_impulse, max_speed)
            if _advance(x, v, dt, radius, restitution, max_events)[0] < 0:
                lost[row] = True
                break
        for k in range(size):
            out[last * size + k] = x[k]


def advance_many(
    x: NDArray[np.float64],
    v: NDArray[np.float64],
    walls: NDArray[np.int64],
    hits: NDArray[np.int64],
    config: TableConfig,
    rows: NDArray[np.intp] | None = None,
    backend: Backend = "auto",
    max_events: int = MAX_EVENTS,
) -> None:
    """Moves many tables on by one frame, in place: positions and velocities (B, 2N), and contacts
    with walls and between balls so far (B,), which are counted on; `rows` are the numbers of the
    tables to move, all by default. All backends give the same bits. `RuntimeError`, naming the
    tables, for more contacts than `max_events`; these, and perhaps others, have moved then."""
    settings = (config.dt, config.radius, config.restitution, max_events)
    if resolve_backend(backend) == "numba":
        if rows is None:
            rows = np.arange(len(x))
        more = np.zeros((2, len(x)), dtype=np.int64)
        compiled("advance_rows")(x, v, rows, more[0], more[1], *settings)
        _check_all_went_on(more[0] < 0, max_events)
        walls += more[0]
        hits += more[1]
        return
    rest = np.arange(len(x)) if rows is None else rows
    if len(rest) > _FEW:
        # In most frames nothing happens on most tables: these are moved all at once, the others by
        # the kernel.
        some: Any = slice(None) if rows is None else rows
        start, speed = x[some], v[some]
        moved = start + speed * config.dt
        busy = _may_meet(start, speed, moved, config)
        x[rest[~busy]] = moved[~busy]
        rest = rest[busy]
    if len(rest):
        xs, vs = x[rest].tolist(), v[rest].tolist()
        more_walls, more_hits = [0] * len(rest), [0] * len(rest)
        advance_rows(xs, vs, range(len(rest)), more_walls, more_hits, *settings)
        more = np.zeros((2, len(x)), dtype=np.int64)
        more[:, rest] = more_walls, more_hits
        _check_all_went_on(more[0] < 0, max_events)
        x[rest], v[rest] = xs, vs
        walls += more[0]
        hits += more[1]


def shoot_many(
    v: NDArray[np.float64],
    actions: NDArray[np.float64],
    config: TableConfig,
    rows: NDArray[np.intp] | slice = slice(None),
) -> None:
    """Plays shots, `shoot`, in place: velocities (B, 2N), actions (B, 2), and the numbers of the
    tables at which a shot is due."""
    pushed = v[rows, :2] + config.max_impulse * actions[rows]
    v[rows, :2] = np.clip(pushed, -config.max_speed, config.max_speed)


def place_many(
    x: NDArray[np.float64],
    v: NDArray[np.float64],
    actions: NDArray[np.float64],
    config: TableConfig,
    rows: NDArray[np.intp],
    backend: Backend = "auto",
) -> None:
    """Plays shots of the game on a line, `place`, in place: positions and velocities (B, 4),
    actions (B, 2), and the numbers of the tables at which a shot is due."""
    if resolve_backend(backend) == "numba":
        compiled("place_rows")(x, v, rows, actions, config.radius)
        return
    xs, vs = x[rows].tolist(), v[rows].tolist()
    place_rows(xs, vs, range(len(rows)), actions[rows].tolist(), config.radius)
    x[rows], v[rows] = xs, vs


def _may_meet(
    x: NDArray[np.float64],
    v: NDArray[np.float64],
    moved: NDArray[np.float64],
    config: TableConfig,
) -> NDArray[np.bool_]:
    """Tables on which `advance` may find a contact within a frame, (B,), at whose end the balls
    would be at `moved`: all on which it does, for rounding errors are far below `_MARGIN`, and
    hardly any others."""
    low, high = config.radius + _MARGIN, 1.0 - config.radius - _MARGIN
    outside = (moved < low) | (moved > high)
    reach = 4.0 * config.radius**2 + _MARGIN
    first, second = _pairs(config.num_balls)
    dx, dy = (x[:, 2 * second + k] - x[:, 2 * first + k] for k in (0, 1))
    du, dw = (v[:, 2 * second + k] - v[:, 2 * first + k] for k in (0, 1))
    rate = dx * du + dy * dw
    square = du * du + dw * dw
    # When the balls are closest, as far as this frame goes, and how close (squared).
    instant = np.minimum(-rate / np.maximum(square, _TINY), config.dt)
    closest = dx * dx + dy * dy + instant * (2.0 * rate + square * instant)
    meeting = (rate < 0.0) & (closest < reach)
    busy: NDArray[np.bool_] = np.any(outside, axis=1) | np.any(meeting, axis=1)
    return busy


@functools.cache
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(count, 1)
    return first, second


def simulate(
    positions: NDArray[np.float64],
    velocities: NDArray[np.float64],
    shots: NDArray[np.float64],
    config: TableConfig,
    backend: Backend = "auto",
    max_events: int = MAX_EVENTS,
) -> NDArray[np.float32]:
    """Plays whole trajectories of `config.num_frames` frames with one shot at `config.lead_in`.

    Args:
        positions: (B, N, 2) start positions, valid ones.
        velocities: (B, N, 2) start velocities.
        shots: (B, 2) actions in [-1, 1].
        config: the table.
        backend: as of `resolve_backend`; all give the same bits.
        max_events: most contacts between two frames; more are a `RuntimeError`, naming the tables.

    Returns:
        Positions, (B, T, 2N) float32. `ValueError` for shapes that do not fit.
    """
    count = len(positions)
    if positions.shape != (count, config.num_balls, 2) or velocities.shape != positions.shape:
        raise ValueError(
            f"expected positions and velocities of shape (B, {config.num_balls}, 2), got "
            f"{positions.shape} and {velocities.shape}"
        )
    if shots.shape != (count, 2):
        raise ValueError(f"expected shots of shape ({count}, 2), got {shots.shape}")
    size = 2 * config.num_balls
    xs = np.array(positions, dtype=np.float64).reshape(count, size)
    vs = np.array(velocities, dtype=np.float64).reshape(count, size)
    actions = np.array(shots, dtype=np.float64)
    if resolve_backend(backend) == "numba":
        fixed = config.lead_in, config.dt, config.radius, config.restitution
        settings = (*fixed, config.max_impulse, config.max_speed, max_events)
        frames = np.empty((count, config.num_frames * size), dtype=np.float32)
        lost = np.zeros(count, dtype=np.bool_)
        compiled("play_batch")(xs, vs, actions, frames, lost, *settings)
        _check_all_went_on(lost, max_events)
        return frames.reshape(count, config.num_frames, size)
    seen = np.empty((count, config.num_frames, size), dtype=np.float32)
    walls, hits = np.zeros((2, count), dtype=np.int64)
    for frame in range(config.num_frames):
        if frame > 0:
            advance_many(xs, vs, walls, hits, config, backend="python", max_events=max_events)
        if frame == config.lead_in:
            shoot_many(vs, actions, config)
        seen[:, frame] = xs
    return seen


def resolve_backend(backend: Backend) -> Literal["python", "numba"]:
    """Returns the backend that a choice stands for: "python", "numba", or "auto", which is numba
    where it is installed; `ValueError` for an unknown one, `ImportError` for a missing numba."""
    if check_choice("backend", backend, BACKENDS) == "python":
        return "python"
    if importlib.util.find_spec("numba") is not None:
        return "numba"
    if backend == "numba":
        raise ImportError(
            "expected numba for backend='numba', but it is not installed; "
            "pip install 'jumpy-mbrl[fast]', or use backend='python'"
        )
    return "python"


@functools.cache
def compiled(name: Literal["play_batch", "advance_rows", "place_rows"]) -> Callable[..., None]:
    """Returns a kernel compiled by numba, from its cache on disk where it can have one. One that
    is damaged or cannot be written costs a compilation only."""
    numba = importlib.import_module("numba")
    extending = importlib.import_module("numba.extending")
    for inner in (_advance, shoot, place):
        extending.register_jitable(inner)
    kernels = {"play_batch": play_batch, "advance_rows": advance_rows, "place_rows": place_rows}
    result: Callable[..., None] = numba.njit(nogil=True)(kernels[name])
    # No cache without a folder that can be written to, or with a numba that keeps it elsewhere.
    with contextlib.suppress(AttributeError, OSError, RuntimeError):
        result._cache = _forgiving_cache()(kernels[name])  # type: ignore[attr-defined]
    return result


@functools.cache
def _forgiving_cache() -> Any:
    """Returns numba's cache for functions, except that it checks what it loads and never raises."""
    caching = importlib.import_module("numba.core.caching")

    class Checked(caching.CompileResultCacheImpl):  # type: ignore[misc, name-defined]
        def reduce(self, data: Any) -> Any:
            payload = caching.dumps(super().reduce(data))
            return hashlib.sha256(payload).digest(), payload

        def rebuild(self, target_context: Any, reduced_data: Any) -> Any:
            digest, payload = reduced_data
            if hashlib.sha256(payload).digest() != digest:
                raise ValueError("the compiled code in the cache is damaged")
            return super().rebuild(target_context, pickle.loads(payload))

    class Forgiving(caching.FunctionCache):  # type: ignore[misc, name-defined]
        _impl_class = Checked

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception:  # whatever reading damaged files raises
                with contextlib.suppress(Exception):
                    self.flush()  # or the index would stay as it is
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(Exception):
                super().save_overload(sig, data)

    return Forgiving
