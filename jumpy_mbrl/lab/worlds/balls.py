"""Balls that gravity, drag or bumpers act on: a vector environment of one shot, simulated exactly.

Nothing of it is known to a model, which learns from what ``jumpy_mbrl.data.record`` sees.

Letters: n tables, N balls, P pairs of balls, K bumpers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_count, check_number

Floats = NDArray[np.float64]
_MOST_EVENTS = 10_000


@dataclass(frozen=True)
class BallsConfig:
    """A square room of side 1, equal balls in it, and what acts on them. All contacts are elastic.

    `ValueError` for impossible values, or gravity with drag or bumpers, which is not exact here.

    Attributes:
        num_balls: N; ball 0 is shot.
        radius: of every ball.
        gravity: acceleration downwards (along the second axis), in sides per time unit squared.
        drag: a ball's velocity falls by this share of it per time unit.
        bumpers: (x, y, radius) of round obstacles, which do not move and are not observed.
        goal: the ball whose centre must come into ``target``, (x_low, x_high, y_low, y_high), at a
            frame after the shot.
        dt: time between two frames.
        lead_in: frames before the shot is played.
        num_frames: of an episode.
        speed_std: standard deviation of a component of a ball's first velocity.
        max_impulse: velocity that an action of 1 adds to ball 0, per axis.
    """

    num_balls: int = 2
    radius: float = 0.1
    gravity: float = 0.0
    drag: float = 0.0
    bumpers: tuple[tuple[float, float, float], ...] = ()
    goal: int = 1
    target: tuple[float, float, float, float] = (0.8, 1.0, 0.0, 0.2)
    dt: float = 0.05
    lead_in: int = 3
    num_frames: int = 45
    speed_std: float = 0.75
    max_impulse: float = 1.2

    def __post_init__(self) -> None:
        check_count("goal", self.goal, 0)
        check_count("num_balls", self.num_balls, self.goal + 1)
        check_number("radius", self.radius, 0.0, 0.5, open_low=True)
        check_number("gravity", self.gravity, 0.0)
        check_number("drag", self.drag, 0.0)
        if self.gravity and (self.drag or self.bumpers):
            raise ValueError(
                "expected gravity without drag and bumpers: balls then move in parabolas, got "
                f"drag={self.drag} and bumpers={self.bumpers}"
            )

    @property
    def frame_time(self) -> float:
        """How long a frame would take at the velocity that balls have at its beginning."""
        return -math.expm1(-self.drag * self.dt) / self.drag if self.drag else self.dt


class BallsVectorEnv(VectorEnv[Any, Any, Any]):
    """n tables with one shot each, played at frame ``lead_in``; other actions count for nothing.

    Observations are the centres, (n, 2 N). The reward is 1 in the step in which the goal is first
    reached. Episodes go on to their last frame, and there are truncated.
    """

    def __init__(self, num_envs: int, config: BallsConfig | None = None) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs = num_envs
        self.config = BallsConfig() if config is None else config
        self.single_observation_space = Box(0.0, 1.0, (2 * self.config.num_balls,), np.float64)
        self.single_action_space = Box(-1.0, 1.0, (2,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._frame = 0

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Places balls apart from each other and from bumpers, with velocities at random."""
        super().reset(seed=seed)
        self._frame, self._won = 0, np.zeros(self.num_envs, dtype=bool)
        config, waiting = self.config, np.arange(self.num_envs)
        self.places = np.empty((self.num_envs, config.num_balls, 2))
        while len(waiting):
            shape = len(waiting), config.num_balls, 2
            self.places[waiting] = self.np_random.uniform(config.radius, 1 - config.radius, shape)
            waiting = waiting[(_gaps(self.places[waiting], config) <= 0.0).any(axis=1)]
        shape = self.places.shape
        self.velocities = config.speed_std * self.np_random.standard_normal(shape).clip(-1.6, 1.6)
        return self._observe(), {}

    def step(
        self, actions: Floats
    ) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays a frame; after the last one it begins new episodes, whatever the actions."""
        config, none = self.config, np.zeros(self.num_envs, dtype=bool)
        if self._frame == config.num_frames - 1:
            return self.reset()[0], np.zeros(self.num_envs), none, none.copy(), {}
        if self._frame == config.lead_in:
            shot = np.asarray(actions, dtype=np.float64)
            if shot.shape != (self.num_envs, 2) or not np.isfinite(shot).all():
                raise ValueError(f"expected finite actions ({self.num_envs}, 2), got {actions}")
            self.velocities[:, 0] += config.max_impulse * shot.clip(-1.0, 1.0)
        self.places, self.velocities = advance(self.places, self.velocities, config)
        self._frame += 1
        low, high = np.reshape(config.target, (2, 2)).T
        place = self.places[:, config.goal]
        inside = ((place >= low) & (place <= high)).all(axis=1) & (self._frame > config.lead_in)
        reward = (inside & ~self._won).astype(np.float64)
        self._won |= inside
        ended = np.full(self.num_envs, self._frame == config.num_frames - 1)
        return self._observe(), reward, none, ended, {}

    def _observe(self) -> Floats:
        return self.places.reshape(self.num_envs, -1).copy()


def advance(places: Floats, velocities: Floats, config: BallsConfig) -> tuple[Floats, Floats]:
    """Places and velocities (n, N, 2) a frame later: from contact to contact, each solved for.

    Drag is the same for all balls, so their paths are those without it, run through more slowly.
    """
    x, v = places.copy(), velocities.copy()
    left = np.full(len(x), config.frame_time)
    rows = np.arange(len(x))
    for _ in range(_MOST_EVENTS):
        times = _times(x[rows], v[rows], config)
        event = times.argmin(axis=1)
        step = times[np.arange(len(rows)), event]
        happens = step < left[rows]
        step = np.where(happens, step, left[rows])[:, None]
        x[rows] += v[rows] * step[..., None]
        x[rows, :, 1] -= 0.5 * config.gravity * step**2
        v[rows, :, 1] -= config.gravity * step
        left[rows] -= step[:, 0]
        rows, event = rows[happens], event[happens]
        if not len(rows):
            return x, v * math.exp(-config.drag * config.dt)
        v[rows] += _changes(x[rows], v[rows], event, config)
    raise RuntimeError(f"more than {_MOST_EVENTS} contacts in a frame")


def _contacts(x: Floats, v: Floats, config: BallsConfig) -> tuple[Floats, Floats, Floats]:
    """Offsets and relative velocities (n, P + N K, 2) of pairs, then of balls and bumpers, and the
    distances (P + N K,) at which they touch."""
    first, second = np.triu_indices(config.num_balls, 1)
    bumpers = np.reshape(config.bumpers, (-1, 3))
    apart = (x[:, :, None] - bumpers[:, :2]).reshape(len(x), -1, 2)
    moving = np.repeat(v, len(bumpers), axis=1)
    reach = np.tile(config.radius + bumpers[:, 2], config.num_balls)
    return (
        np.concatenate([x[:, first] - x[:, second], apart], axis=1),
        np.concatenate([v[:, first] - v[:, second], moving], axis=1),
        np.concatenate([np.full(len(first), 2.0 * config.radius), reach]),
    )


def _gaps(x: Floats, config: BallsConfig) -> Floats:
    offset, _, reach = _contacts(x, np.zeros_like(x), config)
    gaps: Floats = np.linalg.norm(offset, axis=2) - reach
    return gaps


def _times(x: Floats, v: Floats, config: BallsConfig) -> Floats:
    """When each ball meets a wall of each axis, (n, 2 N), and what `_contacts` lists meets."""
    low, high, g = config.radius, 1.0 - config.radius, config.gravity
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.where(v == 0.0, np.inf, (np.where(v > 0.0, high, low) - x) / v)
        if g:
            up, height = v[..., 1], x[..., 1]
            floor = (up + np.sqrt((up**2 + 2.0 * g * (height - low)).clip(0.0))) / g
            enough = up**2 - 2.0 * g * (high - height)
            ceiling = (up - np.sqrt(enough.clip(0.0))) / g
            walls[..., 1] = np.where((up > 0.0) & (enough >= 0.0), ceiling, floor)
        offset, moving, reach = _contacts(x, v, config)
        nearing = (offset * moving).sum(axis=2)
        speed = (moving**2).sum(axis=2)
        gap = (offset**2).sum(axis=2) - reach**2
        root = nearing**2 - speed * gap
        meets = (nearing < 0.0) & (root >= 0.0)
        pairs = np.where(meets, gap / (np.sqrt(root.clip(0.0)) - nearing), np.inf)
    return np.concatenate([walls.reshape(len(x), -1), pairs], axis=1).clip(0.0)


def _changes(x: Floats, v: Floats, event: NDArray[np.intp], config: BallsConfig) -> Floats:
    """What an event of each table changes of its velocities, (n, N, 2)."""
    N, n = config.num_balls, np.arange(len(x))
    change = np.zeros_like(v)
    wall = event < 2 * N
    row, ball, axis = n[wall], event[wall] // 2, event[wall] % 2
    change[row, ball, axis] = -2.0 * v[row, ball, axis]
    row, number = n[~wall], event[~wall] - 2 * N
    offset, moving, _ = (
        part[row, number] if part.ndim == 3 else part for part in _contacts(x, v, config)
    )
    square = (offset**2).sum(axis=1, keepdims=True)
    impulse = -(offset * moving).sum(axis=1, keepdims=True) * offset / square
    first, second = np.triu_indices(N, 1)
    of_pair = number < len(first)
    pair, hit = number[of_pair], row[of_pair]
    change[hit, first[pair]] = impulse[of_pair]
    change[hit, second[pair]] = -impulse[of_pair]
    bumper = (number[~of_pair] - len(first)) // max(len(config.bumpers), 1)
    change[row[~of_pair], bumper] = 2.0 * impulse[~of_pair]
    return change
