"""The papers' prediction tasks: their formulas, their physics, and that splits are apart."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.data.seeds import SPLITS
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, TaskDataset, make_task
from jumpy_mbrl.data.weather import Weather, make_weather, weather_sequences
from jumpy_mbrl.envs.pixels import PRESETS, draw_pixels

# Frames, frames shown, size of an observation: table 1 and section 3 of the papers.
SHAPES = {
    "lines": (21, 1, 2),
    "circles": (25, 1, 2),
    "billiards1d": (45, 4, 2),
    "billiards2d": (45, 4, 4),
    "pixel-billiards1d": (45, 4, 784),
    "pixel-billiards2d": (45, 4, 784),
    "weather": (80, 20, 5),
    "synthetic-weather": (80, 20, 5),
}
QUICK = [name for name, task in TASKS.items() if task.source != "weather"]


def made(task: str, number: int = 200, **settings: Any) -> np.ndarray:
    return make_task(TaskConfig(task, number, **settings)).obs


# -- what every task has -------------------------------------------------------------------------


@pytest.mark.parametrize("task", QUICK)
def test_shapes_and_types_and_that_the_config_alone_decides(task: str) -> None:
    data, (frames, shown, size) = make_task(TaskConfig(task, 5)), SHAPES[task]
    assert data.obs.shape == (5, frames, size) and len(data) == 5
    assert data.obs.dtype == (np.uint8 if task.startswith("pixel") else np.float32)
    assert data.context_frames == shown
    assert data.action.shape == (5, frames, 0) and data.action.dtype == np.float32
    assert np.array_equal(data.obs, made(task, 5))
    assert not np.array_equal(data.obs, made(task, 5, seed=1))


def test_every_task_is_that_of_the_papers() -> None:
    found = {name: (t.frames, t.context_frames, t.obs_size) for name, t in TASKS.items()}
    assert found == SHAPES and list(found) == list(SHAPES)


@pytest.mark.parametrize("task", QUICK)
def test_no_sequence_is_in_two_splits(task: str) -> None:
    number = 20 if task.startswith("pixel") else 500
    rows = np.concatenate([made(task, number, split=split) for split in SPLITS])
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == 3 * number


# -- formulas ------------------------------------------------------------------------------------


def test_lines_are_flat_and_run_from_0_to_2() -> None:
    obs = made("lines", 4000)
    assert np.array_equal(obs[:, :, 0], np.tile(np.float32(np.arange(21) / 10), (4000, 1)))
    height = obs[:, 0, 1]
    assert np.array_equal(obs[:, :, 1], np.repeat(height[:, None], 21, axis=1))
    assert 0.0 < height.min() < 0.01 and 0.99 < height.max() < 1.0
    assert height.mean() == pytest.approx(0.5, abs=0.02)


def test_circles_have_one_radius_and_a_quarter_of_it_is_run_in_a_frame() -> None:
    obs = made("circles", 4000).astype(np.float64)
    radius = np.hypot(obs[..., 0], obs[..., 1])
    np.testing.assert_allclose(radius, np.repeat(radius[:, :1], 25, axis=1), atol=3e-7)
    assert 1.0 - 1e-6 < radius.min() < 1.01 and 1.99 < radius.max() < 2.0 + 1e-6
    angle = np.unwrap(np.arctan2(obs[..., 1], obs[..., 0]), axis=1)
    np.testing.assert_allclose(np.diff(angle, axis=1) * radius[:, 1:], 0.25, atol=2e-6)
    # All phases alike: their mean direction is nowhere.
    assert np.abs(np.exp(1j * angle[:, 0]).mean()) < 0.05


# -- billiards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [1, 2])
def test_pictures_show_the_balls_of_the_same_seed(axes: int) -> None:
    pictures = made(f"pixel-billiards{axes}d", 4, seed=7)
    places = made(f"billiards{axes}d", 4, seed=7)
    if axes == 1:
        places = np.stack([np.full_like(places, 0.5), places], axis=-1)
    for row, frame in ((0, 0), (1, 13), (3, 44)):
        picture = draw_pixels(places[row, frame].reshape(2, 2), None, PRESETS["paper"])
        assert picture.shape == (28, 28, 1)
        assert np.array_equal(pictures[row, frame], picture.ravel())


# -- weather -------------------------------------------------------------------------------------


def test_synthetic_weather_is_one_series_cut_in_three() -> None:
    train, validation, evaluation = splits = [
        made("synthetic-weather", 10**6, split=split) for split in SPLITS
    ]
    assert all(obs.shape[1:] == (80, 5) and obs.dtype == np.float32 for obs in splits)
    # Training overlaps by 60 of 80 steps; the other splits do not, and are a tenth each.
    assert np.array_equal(train[0, 20:], train[1, :60])
    assert len(evaluation) == pytest.approx(len(validation), abs=1)
    assert len(train) == pytest.approx(8 * 4 * len(validation), rel=0.01)
    # Standardised by training; the time of day is the same for all.
    assert np.abs(train.mean(axis=(0, 1))).max() < 0.02
    assert np.abs(train.std(axis=(0, 1)) - 1).max() < 0.02
    few = made("synthetic-weather", 30, split="validation")
    assert np.array_equal(few, validation[:30])
    assert not np.array_equal(few, made("synthetic-weather", 30, split="validation", seed=1))


def write_csv(weather: Weather, path: Path) -> str:
    lines = ['"Date Time","p (mbar)","T (degC)","rho (g/m**3)"']
    for moment, (temperature, pressure, density) in zip(weather.time, weather.values, strict=True):
        date = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        text = date.strftime("%d.%m.%Y %H:%M:%S")
        lines.append(f"{text},{float(pressure)!r},{float(temperature)!r},{float(density)!r}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_measured_weather_is_read_from_its_file(tmp_path: Path) -> None:
    weather = make_weather(20, np.random.default_rng(3))
    path = write_csv(weather, tmp_path / "weather.csv")
    data = make_task(TaskConfig("weather", 1000, csv=path))
    assert np.array_equal(data.obs, weather_sequences(weather, "train", stride=20))
    assert data.context_frames == 20
    assert np.array_equal(data.obs, make_task(TaskConfig("weather", 1000, seed=5, csv=path)).obs)
    assert len(make_task(TaskConfig("weather", 2, csv=path))) == 2


# -- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        TaskConfig(),
        TaskConfig("lines", 3, seed=2**63 - 1, split="evaluation"),
        TaskConfig("weather", 7, csv="folder/jena.csv"),
        TaskConfig("circles", np.int64(4), seed=np.int64(9)),  # type: ignore[arg-type]
    ],
)
def test_configs_survive_json(config: TaskConfig) -> None:
    assert TaskConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "line"}, "unknown task 'line'.*did you mean 'lines'"),
        ({"num_sequences": True}, "of at least 1, got True"),
        ({"task": "weather"}, "needs csv, .*take the task 'synthetic-weather'; .* https://"),
        ({"task": "lines", "csv": "a.csv"}, "csv for the task 'weather' only, got it for 'lines'"),
        ({"sequences": 4}, "unknown task setting 'sequences'.*did you mean 'num_sequences'"),
    ],
)
def test_impossible_configs_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskConfig.from_dict(settings)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros((3, 20, 2), np.float32), r"shape \(n, 21, 2\) for 'lines', got \(3, 20, 2\)"),
        (np.zeros((21, 2), np.float32), r"shape \(n, 21, 2\)"),
        (np.zeros((3, 21, 2)), "float32 or uint8 frames, got float64"),
        (np.array([0, np.nan, 0, np.inf], np.float32), r"NaN or infinity in rows \[1 3\]"),
    ],
)
def test_frames_of_another_kind_are_refused(obs: Any, message: str) -> None:
    data = make_task(TaskConfig("lines", 4))
    frames = data.obs + obs[:, None, None] if obs.ndim == 1 else obs
    with pytest.raises(ValueError, match=message):
        replace(data, obs=frames)
    with pytest.raises(ValueError, match=message):
        TaskDataset(frames, TaskConfig("lines"))
