"""The game, once: what is played, how it starts, what players see, and who wins.

A `Task` is a game with its settings. Its methods and the functions beside it change nothing, and
serve one table as well as many. Of one table, positions and velocities are flat lists of floats,
[x0, y0, x1, y1, ...], and all else is a number; of B tables they are arrays (B, 2N), and all else
is an array (B,). The operations are the same, in the same order, and so are the bits. `billiards`
plays one table by these rules, and `vector` many.

The game on a line is played by the same physics with all x at 0.5 and no velocity along x; what
its players see and give is y only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_choice, check_flag, check_names, is_integer
from jumpy_mbrl.envs import starts
from jumpy_mbrl.envs.config import LINE_CONFIG, STARTS, Start, TableConfig, Target, check_target
from jumpy_mbrl.envs.pixels import (
    USUAL,
    Look,
    PixelConfig,
    Rasterizer,
    make_pixel_config,
    rasterizer,
)
from jumpy_mbrl.envs.variation import VariationSpace

ObsType = Literal["coords", "state", "pixels", "dict"]
Reward = Literal["sparse", "dense"]
Success = Literal["any", "last"]
Floats = NDArray[np.float32]
Observation = Any
"""Floats, a frame, or a dictionary of both, as the `obs_type` says."""

OBS_TYPES: tuple[ObsType, ...] = ("coords", "state", "pixels", "dict")
REWARDS: tuple[Reward, ...] = ("sparse", "dense")
SUCCESSES: tuple[Success, ...] = ("any", "last")
RESET_OPTIONS = ("positions", "velocities", "target")

_MIDDLE = 0.5


def on_target(x: Any, y: Any, target: Any) -> Any:
    """Whether a point lies in a target, (x_low, x_high, y_low, y_high), its border included: of
    floats a bool, of arrays (B,) and (4, B) an array (B,)."""
    x_low, x_high, y_low, y_high = target
    return (x_low <= x) & (x <= x_high) & (y_low <= y) & (y <= y_high)


def distance(x: Any, y: Any, target: Any, root: Callable[[Any], Any] = math.sqrt) -> Any:
    """Distance of a point from a target, 0 inside; `root` of arrays, as in `on_target`, is to be
    `np.sqrt`."""
    x_low, x_high, y_low, y_high = target
    dx = (x_low - x) * (x < x_low) + (x - x_high) * (x > x_high)
    dy = (y_low - y) * (y < y_low) + (y - y_high) * (y > y_high)
    # Not hypot, whose last bit is another in NumPy.
    return root(dx * dx + dy * dy)


@dataclass(frozen=True)
class Task:
    """A game with its settings; made by `plane_task` or `line_task`.

    Attributes:
        config: the table.
        pixels: the format of pixel observations.
        obs_type: "coords", "state", "pixels" or "dict".
        start: "moving" or "rest".
        max_shots: number of shots, or None for one at every frame from `lead_in` on.
        random_target: whether each episode draws its own target.
        dense: whether progress towards the target is rewarded.
        success: at which frames the target counts: "any" after the shot, the first of which ends
            the episode, or only the "last".
        line: whether the game is that on a line: the shot puts the cue ball somewhere.
        legacy_info: whether infos hold the keys of earlier releases too.
        truncate_lost: whether a game that is lost is truncated, so that only those won terminate.
        look: the colours of the table.
    """

    config: TableConfig
    pixels: PixelConfig
    obs_type: ObsType = "coords"
    start: Start = "moving"
    max_shots: int | None = 1
    random_target: bool = False
    dense: bool = False
    success: Success = "any"
    line: bool = False
    legacy_info: bool = False
    truncate_lost: bool = False
    look: Look = USUAL

    @cached_property
    def last_frame(self) -> int:
        """Number of the last frame of an episode."""
        return self.config.num_frames - 1

    @cached_property
    def steps_to_win(self) -> int:
        """How many frames an episode has to have for one of them to win it."""
        return self.last_frame if self.success == "last" else 1

    @cached_property
    def shots_end(self) -> float:
        """The first frame after `lead_in` at which no shot can be played any more."""
        return math.inf if self.max_shots is None else self.config.lead_in + self.max_shots

    @cached_property
    def object_ball(self) -> int:
        """Place of the object ball's x in a flat list of positions."""
        return 2 * min(1, self.config.num_balls - 1)

    @cached_property
    def roomy(self) -> bool:
        """Whether random starts surely find room: no place of the other balls takes more than nine
        tenths of it from one."""
        return self._has_room(self.config.radius)

    def _has_room(self, radius: float) -> bool:
        taken = 4.0 * radius if self.line else math.pi * 4.0 * radius**2
        whole = (1.0 - 2.0 * radius) ** (2 - self.line)
        return (self.config.num_balls - 1) * taken <= 0.9 * whole

    @cached_property
    def painter(self) -> Rasterizer:
        """Draws the balls of pixel observations."""
        return rasterizer(self.pixels, self.config.radius, self.look)

    @cached_property
    def has_pixels(self) -> bool:
        """Whether observations hold pictures."""
        return self.obs_type in ("pixels", "dict")

    @cached_property
    def _known(self) -> tuple[Any, Any]:
        """What players know of positions and velocities, and of a target, and the shape of the
        former on a table: of many tables, and of one."""
        seen = slice(1, None, 2) if self.line else slice(None)
        goal = slice(2 * self.line, None)
        shape = self.config.num_balls, 2
        return ((slice(None), seen), (slice(None), goal), (-1, *shape)), (seen, goal, shape)

    # Variation

    def variation_space(self) -> VariationSpace:
        """Returns the space of the factors that an episode may change."""
        radius = self.config.radius
        largest = min(1.25 * radius, max(radius, 0.25))
        return VariationSpace(self.config, largest if self._has_room(largest) else radius)

    def varied(self, factors: Mapping[str, Any]) -> Task:
        """Returns the task with factors of its variation space; `ValueError` for a table that
        cannot be."""
        if not factors:
            return self
        given = {name: value.tolist() for name, value in factors.items()}
        felt, balls = given.pop("felt_color", None), given.pop("ball_colors", ())
        config = self.config.replace(**given)
        if self.line:
            _check_line(config)
        look = Look(felt and tuple(felt), tuple(map(tuple, balls)))
        return replace(self, config=config, look=look)

    # Starts

    def start_table(
        self, rng: np.random.Generator, options: Mapping[str, Any] | None = None
    ) -> tuple[list[float], list[float], Target]:
        """Draws one table: flat positions, flat velocities and the target, as `options` say;
        `ValueError` for an unknown option, or an impossible table or target."""
        config = self.config
        options = options or {}
        check_names("reset option", options, RESET_OPTIONS)
        # All that is given is checked before anything is drawn, so that what is refused leaves the
        # generator as it was.
        positions = velocities = target = None
        if "velocities" in options:
            given = self._lift("velocities", options["velocities"], 0.0)
            velocities = starts.check_velocities(given, config).ravel().tolist()
        if "target" in options:
            target = self._given_target(options["target"])
        if "positions" in options:
            given = self._lift("positions", options["positions"], _MIDDLE)
            positions = starts.check_positions(given, config).ravel().tolist()
            starts.check_room(positions, config)
        # Positions come last: they may take any number of draws, and a crowded table, which only
        # given positions can fill, must not need them. The rest of a seed stays what it was.
        drawn = starts.draw_velocities(config, rng, self.start, self.line)
        usual = self._draw_target(rng) if self.random_target else config.target
        if positions is None:
            positions = starts.draw_positions(config, rng.random, self.line)
        return positions, velocities or drawn, target or usual

    def start_tables(
        self, rngs: Sequence[np.random.Generator]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Draws a table from each generator: positions (B, 2N), velocities (B, 2N) and targets
        (B, 4), what `start_table` gives."""
        velocities = starts.draw_many_velocities(self.config, rngs, self.start, self.line)
        if self.random_target:
            targets = np.array([self._draw_target(rng) for rng in rngs])
        else:
            targets = np.tile(np.array(self.config.target), (len(rngs), 1))
        return starts.draw_many_positions(self.config, rngs, self.line), velocities, targets

    def _draw_target(self, rng: np.random.Generator) -> Target:
        x_low, x_high, y_low, y_high = self.config.target
        width, height = x_high - x_low, y_high - y_low
        x, y = rng.random() * (1.0 - width), rng.random() * (1.0 - height)
        return x, min(x + width, 1.0), y, min(y + height, 1.0)

    def _lift(self, name: str, values: Any, x: float) -> Any:
        """Returns values on the line as values on the table, all with the same x."""
        if not self.line:
            return values
        balls = self.config.num_balls
        expected = f"expected {name} of shape ({balls},), one finite y for each ball"
        try:
            array = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{expected}, got {values!r}") from None
        if array.shape != (balls,):
            raise ValueError(f"{expected}, got shape {array.shape}")
        return np.stack([np.full(balls, x), array], axis=1)

    def _given_target(self, values: Any) -> Target:
        if not self.line:
            return check_target(values)
        try:
            low, high = (float(value) for value in values)
        except (TypeError, ValueError):
            raise ValueError(f"expected target=(y_low, y_high), got {values!r}") from None
        return check_target((0.0, 1.0, low, high))

    # Observations

    def observation_space(self, frames: int = 1) -> spaces.Space[Any]:
        """Returns the space of `frames` observations in one (see `stack`)."""
        if self.obs_type == "pixels":
            return self._picture_space(frames)
        if self.obs_type == "state":
            return self._state_space(frames)
        size = 2 * self.config.num_balls + 4 * self.random_target
        coords = spaces.Box(0.0, 1.0, (frames * size // (1 + self.line),), np.float32)
        if self.obs_type == "coords":
            return coords
        return spaces.Dict({"coords": coords, "pixels": self._picture_space(frames)})

    def _picture_space(self, frames: int) -> spaces.Box:
        height, width, channels = self.pixels.shape
        return spaces.Box(0, 255, (height, width, frames * channels), np.uint8)

    def _state_space(self, frames: int) -> spaces.Box:
        config = self.config
        balls = (2 - self.line) * config.num_balls
        shots = self.max_shots or self.last_frame - config.lead_in
        fastest = 1.001 * config.max_speed * math.sqrt(2.0 * (config.num_balls + shots))
        ones = np.ones(balls, dtype=np.float32)
        rest = np.ones(4 - 2 * self.line + 2, dtype=np.float32)
        low = np.concatenate([0 * ones, -fastest * ones, 0 * rest])
        high = np.concatenate([ones, fastest * ones, rest])
        return spaces.Box(np.tile(low, frames), np.tile(high, frames), dtype=np.float32)

    def observe(self, x: Any, v: Any, target: Any, frame: Any, backgrounds: Any) -> Observation:
        """Returns the observation of one table, or (B, ...) of many: of flat positions and
        velocities, or (B, 2N); the target, or (B, 4); the number of the frame, or (B,); and, needed
        by pictures only, the table without balls, or B of them."""
        one = isinstance(x, list)
        numbers = None
        if self.obs_type != "pixels":
            seen, goal, _ = self._known[one]
            if self.obs_type == "state":
                numbers = _joined(x[seen], v[seen], target[goal], self._left(frame, one))
            elif self.random_target:
                numbers = _joined(x[seen], target[goal])
            else:
                numbers = np.array(x[seen], dtype=np.float32)
        if not self.has_pixels:
            return numbers
        pictures = np.empty((1 if one else len(x), *self.pixels.shape), dtype=np.uint8)
        if one:
            self.painter.draw([x], [backgrounds], pictures)
            pictures = pictures[0]
        else:
            self.painter.draw(x.tolist(), backgrounds, pictures)
        return pictures if numbers is None else {"coords": numbers, "pixels": pictures}

    def _left(self, frame: Any, one: bool) -> Any:
        """The shots and the time that are left, as fractions: two, or (B, 2)."""
        larger: Any = max if one else np.maximum
        played = larger(0, frame - self.config.lead_in)
        shots = larger(0.0, 1.0 - played / (self.max_shots or math.inf))
        left = shots, larger(0.0, 1.0 - frame / self.last_frame)
        return left if one else np.stack(left, axis=1)

    def stack(self, observations: Sequence[Observation]) -> Observation:
        """Joins the observations of some frames in one, the earliest first: vectors one after the
        other, pictures channel after channel."""
        if self.obs_type == "dict":
            return {
                name: np.concatenate([observation[name] for observation in observations], axis=-1)
                for name in ("coords", "pixels")
            }
        return np.concatenate(observations, axis=-1)

    # Play

    def judge(self, shot: Any, frame: Any, inside: Any) -> tuple[Any, Any]:
        """Tells whether the game is won, and whether it is over: `shot` says whether the frame
        comes after the first shot, and `inside` whether the object ball is in the target. All are
        of one table, or (B,)."""
        if self.success == "any":
            success = shot & inside
            return success, success
        over = frame >= self.last_frame
        return shot & inside & over, over

    def info(
        self, x: Any, v: Any, frame: Any, success: Any, walls: Any, hits: Any, played: Any = None
    ) -> dict[str, Any]:
        """Returns what environments tell beside the observation, of one table or of many: of
        positions and velocities as in `observe`, the number of the frame, whether this step reached
        the target, contacts with walls and between balls so far, and, where steps play many frames,
        how many this one played. Arrays of counts are handed on, all else is copied."""
        seen, _, shape = self._known[isinstance(x, list)]
        positions, velocities = np.array(x[seen]), np.array(v[seen])
        if not self.line:
            positions, velocities = positions.reshape(shape), velocities.reshape(shape)
        info: dict[str, Any] = {
            "positions": positions,
            "velocities": velocities,
            "time": np.float64(frame * self.config.dt),
            # An array: Gymnasium's vector environments take a NumPy bool for an object.
            "is_success": np.array(success),
            "wall_hits": np.int64(walls),
            "ball_hits": np.int64(hits),
        }
        if played is not None:
            frames = np.int64(played)
            info |= {"frames_played": frames, "duration": frames * self.config.dt}
        if self.legacy_info:
            info["collisions"] = {"wall": info["wall_hits"], "ball": info["ball_hits"]}
            if played is not None:
                info["frames"] = info["frames_played"]
        return info


def _joined(first: Any, *others: Any) -> Floats:
    """One vector of numbers, the first of them in a list that may be used up; or rows (B, D) of
    arrays, side by side."""
    if isinstance(first, list):
        for other in others:
            first += other
        return np.array(first, dtype=np.float32)
    return np.concatenate([first, *others], axis=1, dtype=np.float32)


def plane_task(
    num_balls: int | None = None,
    obs_type: ObsType = "coords",
    start: Start = "moving",
    max_shots: int | None = 1,
    random_target: bool = False,
    reward: Reward = "sparse",
    success: Success = "any",
    config: TableConfig | Mapping[str, Any] | None = None,
    pixels: PixelConfig | Mapping[str, Any] | str | None = None,
    size: int | None = None,
    channels: int | None = None,
    legacy_info: bool = False,
    truncate_lost: bool = False,
) -> Task:
    """Returns the task that the arguments of `Billiards2DEnv` stand for; `ValueError` for a bad
    one, by name."""
    if max_shots is not None and (not is_integer(max_shots) or max_shots < 1):
        raise ValueError(
            f"expected max_shots to be an integer of at least 1, or None for a shot at every "
            f"frame, got {max_shots!r}"
        )
    return Task(
        config=_make_config(config, num_balls, TableConfig()),
        obs_type=check_choice("obs_type", obs_type, OBS_TYPES),
        start=check_choice("start", start, STARTS),
        max_shots=None if max_shots is None else int(max_shots),
        random_target=check_flag("random_target", random_target),
        dense=check_choice("reward", reward, REWARDS) == "dense",
        success=check_choice("success", success, SUCCESSES),
        pixels=_check_pixels(obs_type, pixels, size, channels),
        legacy_info=check_flag("legacy_info", legacy_info),
        truncate_lost=check_flag("truncate_lost", truncate_lost),
    )


def line_task(config: TableConfig | Mapping[str, Any] | None = None, **arguments: Any) -> Task:
    """Returns the task that the arguments of `Billiards1DEnv` stand for; `ValueError` for a bad
    one, by name."""
    for name in ("num_balls", "start", "max_shots", "success"):
        if name in arguments:
            raise TypeError(f"the game on a line got an unexpected keyword argument {name!r}")
    table = _make_config(config, None, LINE_CONFIG)
    _check_line(table)
    return replace(plane_task(config=table, success="last", **arguments), line=True)


def _check_line(table: TableConfig) -> None:
    if table.num_balls != 2:
        raise ValueError(f"expected num_balls to be 2 on a line, got {table.num_balls}")
    if table.radius > 0.25:
        raise ValueError(
            f"expected radius to be at most 0.25, so that two balls fit on a line, "
            f"got {table.radius}"
        )
    starts.check_room([_MIDDLE, table.radius, _MIDDLE, 1.0 - table.radius], table)
    if table.target[:2] != (0.0, 1.0):
        raise ValueError(
            f"expected target to be (0, 1, y_low, y_high) on a line, got {table.target}"
        )


def _make_config(
    config: TableConfig | Mapping[str, Any] | None, num_balls: int | None, default: TableConfig
) -> TableConfig:
    changes = {} if num_balls is None else {"num_balls": num_balls}
    if config is None or isinstance(config, Mapping):
        return default.replace(**{**(config or {}), **changes})
    if not isinstance(config, TableConfig):
        raise ValueError(f"expected config to be a TableConfig or a dictionary, got {config!r}")
    return config.replace(**changes)


def _check_pixels(
    obs_type: str,
    pixels: PixelConfig | Mapping[str, Any] | str | None,
    size: int | None,
    channels: int | None,
) -> PixelConfig:
    if obs_type not in ("pixels", "dict"):
        given = {"pixels": pixels, "size": size, "channels": channels}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"expected no {name} with obs_type={obs_type!r}, which has no picture, got "
                    f"{value!r}; use obs_type='pixels' or 'dict'"
                )
    return make_pixel_config(pixels, size, channels)
