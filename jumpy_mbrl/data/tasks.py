"""The papers' seven prediction tasks (2020 paper, section 3 and table 1), as sequences.

A task is a family of sequences: a few frames are shown, the rest is to be predicted. There are no
actions. Sequences are a pure function of their `TaskConfig`, drawn from the streams of `seeds`, so
splits never share one. The papers draw 10,000 and keep 10 % for testing; here training has 9,000,
validation, by which weights are chosen, 1,000, and the figures come from the evaluation split,
which nothing was chosen by.

| task | frames | shown | observation |
|---|---|---|---|
| `lines` | 21 | 1 | (t, c): a flat line at a random height c in (0, 1); t goes from 0 to 2 |
| `circles` | 25 | 1 | (x, y) on a circle of random radius in (1, 2), at one speed |
| `billiards1d` | 45 | 4 | y of two balls of unit speed on a line |
| `billiards2d` | 45 | 4 | x, y of two balls, of unit speed at first |
| `pixel-billiards1d`, `pixel-billiards2d` | 45 | 4 | the same as 28 x 28 grey pictures |
| `weather` | 80 | 20 | time of day and year, temperature, pressure, density |
| `synthetic-weather` | 80 | 20 | the same of made-up weather, for where the real file is missing |

Letters: n sequences, T frames, D observation size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_choice, check_count, check_names
from jumpy_mbrl.data.seeds import Split, check_seed, check_split, data_rng
from jumpy_mbrl.data.weather import SOURCE, make_weather, read_weather, weather_sequences
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import simulate
from jumpy_mbrl.envs.pixels import PRESETS, draw_pixels
from jumpy_mbrl.envs.starts import sample_positions

Frames = NDArray[np.float32] | NDArray[np.uint8]

CIRCLE_STEP = 0.25
"""Length of the arc between two frames of `circles`: a turn of the smallest circle in 25 frames."""
WEATHER_DAYS = 8 * 365.25
"""Length of the made-up weather, that of the real file."""

_TABLE = TableConfig(num_balls=2)
_WEATHER_STRIDES: dict[Split, int] = {"train": 20, "validation": 80, "evaluation": 80}


@dataclass(frozen=True)
class TaskInfo:
    """Sizes and source of the sequences of a task.

    Attributes:
        frames: T.
        context_frames: how many frames are shown.
        obs_size: D.
        title: as the papers call it.
        source: where the sequences come from: "formula", "table", "pixels" or "weather".
    """

    frames: int
    context_frames: int
    obs_size: int
    title: str
    source: str


TASKS: dict[str, TaskInfo] = {
    "lines": TaskInfo(21, 1, 2, "Lines", "formula"),
    "circles": TaskInfo(25, 1, 2, "Circles", "formula"),
    "billiards1d": TaskInfo(45, 4, 2, "Billiards1D", "table"),
    "billiards2d": TaskInfo(45, 4, 4, "Billiards2D", "table"),
    "pixel-billiards1d": TaskInfo(45, 4, 784, "PixelBilliards1D", "pixels"),
    "pixel-billiards2d": TaskInfo(45, 4, 784, "PixelBilliards2D", "pixels"),
    "weather": TaskInfo(80, 20, 5, "Weather", "weather"),
    "synthetic-weather": TaskInfo(80, 20, 5, "SyntheticWeather", "weather"),
}
"""Every task by name, in the order of the papers' table 1."""


@dataclass(frozen=True)
class TaskConfig:
    """Everything that defines a set of sequences; `ValueError` for an impossible value.

    Attributes:
        task: one of `TASKS`.
        num_sequences: how many, at least 1; for weather, at most this many. But for
            lines, another number gives other sequences from the first on.
        seed: of the random streams, in [0, 2**63). The weather file ignores it.
        split: "train", "validation" or "evaluation"; splits never share a sequence.
        csv: path of `jena_climate_2009_2016.csv`, for the task "weather" only.
    """

    task: str = "billiards2d"
    num_sequences: int = 9000
    seed: int = 0
    split: Split = "train"
    csv: str | None = None

    def __post_init__(self) -> None:
        check_choice("task", self.task, TASKS)
        check_split(self.split)
        number = check_count("num_sequences", self.num_sequences)
        object.__setattr__(self, "num_sequences", number)
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.csv is not None and self.task != "weather":
            raise ValueError(f"expected csv for the task 'weather' only, got it for {self.task!r}")
        if self.csv is None and self.task == "weather":
            raise ValueError(
                "the task 'weather' needs csv, the path of jena_climate_2009_2016.csv; without it, "
                f"take the task 'synthetic-weather'; {SOURCE}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskConfig:
        """Builds a config from what `to_dict` gave; `ValueError` for unknown fields too."""
        check_names("task setting", values, [entry.name for entry in dataclasses.fields(cls)])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class TaskDataset:
    """Sequences of a task.

    Attributes:
        obs: (n, T, D) float32, or uint8 for pictures (row by row, 255 is 1.0 for a model).
        config: what made them.
    """

    obs: Frames
    config: TaskConfig

    def __post_init__(self) -> None:
        task = TASKS[self.config.task]
        if self.obs.ndim != 3 or self.obs.shape[1:] != (task.frames, task.obs_size):
            raise ValueError(
                f"expected sequences of shape (n, {task.frames}, {task.obs_size}) for "
                f"{self.config.task!r}, got {self.obs.shape}"
            )
        if self.obs.dtype not in (np.float32, np.uint8):
            raise ValueError(f"expected float32 or uint8 frames, got {self.obs.dtype}")
        bad = np.flatnonzero(~np.isfinite(self.obs).all(axis=(1, 2)))
        if len(bad):
            raise ValueError(f"expected finite frames, got NaN or infinity in rows {bad[:8]}")

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def action(self) -> NDArray[np.float32]:
        """No actions, (n, T, 0)."""
        return np.zeros((*self.obs.shape[:2], 0), dtype=np.float32)

    @property
    def context_frames(self) -> int:
        """How many frames are shown before prediction begins."""
        return TASKS[self.config.task].context_frames


def make_task(config: TaskConfig) -> TaskDataset:
    """Makes the sequences of a config; `ValueError` for a missing or malformed weather file."""
    rng, count = data_rng(config.seed, config.split), config.num_sequences
    obs: Frames
    if config.task == "lines":
        obs = _lines(rng, count)
    elif config.task == "circles":
        obs = _circles(rng, count)
    elif TASKS[config.task].source == "weather":
        obs = _weather(config)
    else:
        play = _billiards1d if config.task.endswith("1d") else _billiards2d
        balls = play(rng, count)  # (n, T, 2, 2)
        if config.task.startswith("pixel"):
            places = balls.reshape(-1, 2, 2)
            obs = draw_pixels(places, None, PRESETS["paper"], _TABLE.radius)
        else:
            obs = balls[..., 1] if play is _billiards1d else balls
        obs = obs.reshape(*balls.shape[:2], -1)
    return TaskDataset(obs, config)


def _lines(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    time = np.broadcast_to(np.arange(21.0) / 10.0, (count, 21))
    height = np.broadcast_to(rng.uniform(0.0, 1.0, (count, 1)), (count, 21))
    return np.stack([time, height], axis=-1).astype(np.float32)


def _circles(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    radius = rng.uniform(1.0, 2.0, (count, 1))
    angle = rng.uniform(0.0, 2.0 * np.pi, (count, 1)) + np.arange(25) * (CIRCLE_STEP / radius)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return points.astype(np.float32)


def _billiards1d(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Ball A anywhere on the line x = 0.5, and ball B anywhere it has room; (n, T, 2, 2)."""
    low, high, apart = _TABLE.radius, 1.0 - _TABLE.radius, 2.0 * _TABLE.radius
    a = rng.uniform(low, high, count)
    below, above = np.maximum(a - apart - low, 0.0), np.maximum(high - a - apart, 0.0)
    room = rng.uniform(0.0, below + above)
    b = np.where(room < below, low + room, a + apart + room - below)
    positions, velocities = np.full((count, 2, 2), 0.5), np.zeros((count, 2, 2))
    positions[:, :, 1] = np.stack([a, b], axis=1)
    velocities[:, :, 1] = rng.choice([-1.0, 1.0], (count, 2))
    return _play(positions, velocities)


def _billiards2d(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Balls anywhere apart, in any direction; (n, T, 2, 2)."""
    positions = sample_positions(_TABLE, rng, count)
    angle = rng.uniform(0.0, 2.0 * np.pi, (count, 2))
    return _play(positions, np.stack([np.cos(angle), np.sin(angle)], axis=-1))


def _play(positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> NDArray[np.float32]:
    frames = simulate(positions, velocities, np.zeros((len(positions), 2)), _TABLE)
    return frames.reshape(*frames.shape[:2], 2, 2)


def _weather(config: TaskConfig) -> NDArray[np.float32]:
    stride = _WEATHER_STRIDES[config.split]
    if config.csv is None:
        weather = make_weather(WEATHER_DAYS, data_rng(config.seed, "train"))
    else:
        weather = read_weather(config.csv)
    try:
        return weather_sequences(weather, config.split, stride=stride)[: config.num_sequences]
    except ValueError as error:
        raise ValueError(f"cannot cut {config.csv} into sequences: {error}; {SOURCE}") from None
