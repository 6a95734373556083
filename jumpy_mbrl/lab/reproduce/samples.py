"""Sequences of a task as they were and as a model imagines them, kept to be drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data.seeds import data_rng
from jumpy_mbrl.data.tasks import TASKS, WEATHER_DAYS, TaskConfig, TaskDataset
from jumpy_mbrl.data.weather import FEATURES, Scaling, make_weather, read_weather, weather_scaling
from jumpy_mbrl.evaluation.sequences import sample
from jumpy_mbrl.models.base import WorldModel

SHOWN_ROWS = {"pixels": 1, "weather": 3}
"""How many evaluation sequences are kept to be drawn, by the source of the task; 2 of others."""
POINTS_PER_FRAME = 4
FILM_FRAMES = 9
WEATHER_SHOWN = ("temperature", "pressure")


@torch.no_grad()
def record_samples(model: WorldModel, data: TaskDataset) -> dict[str, Any]:
    """The first sequences as they were and as the model imagines them, finely enough to draw.

    Returns:
        ``truth``, a list of (T, D) frames, or, of pictures, ``film`` frames as hexadecimal bytes;
        ``ways``, for each sequence ``time`` (K,), ``obs`` (K, D) and ``tick_times`` (M,) with
        ``tick_obs`` (M, D). Of weather, D is `WEATHER_SHOWN`, in degC and mbar.
    """
    source = TASKS[data.config.task].source
    T = data.obs.shape[1]
    rows = range(min(SHOWN_ROWS.get(source, 2), len(data)))
    if source == "pixels":
        film = np.linspace(data.warm_up, T - 1, FILM_FRAMES).round()
        return {
            "film": film.tolist(),
            "truth": [_as_hex(data.obs[row, film.astype(int)]) for row in rows],
            "ways": [_film(model, data, row, film) for row in rows],
        }
    scaling = _scaling(data.config) if source == "weather" else None
    start, end = data.warm_up - 1, T - 1
    fine = np.linspace(start, end, (end - start) * POINTS_PER_FRAME + 1)
    return {
        "truth": [_rounded(_in_units(data.obs[row], scaling)) for row in rows],
        "ways": [_way(model, data, row, fine, scaling) for row in rows],
    }


def _way(
    model: WorldModel,
    data: TaskDataset,
    row: int,
    times: NDArray[np.float64],
    scaling: Scaling | None,
) -> dict[str, Any]:
    ticks, obs = _imagine(model, data, row, times)
    at_ticks = _imagine(model, data, row, ticks)[1] if len(ticks) else obs[:0]
    return {
        "time": _rounded(times),
        "obs": _rounded(_in_units(obs, scaling)),
        "tick_times": _rounded(ticks),
        "tick_obs": _rounded(_in_units(at_ticks, scaling)),
    }


def _film(
    model: WorldModel, data: TaskDataset, row: int, times: NDArray[np.float64]
) -> dict[str, Any]:
    ticks, obs = _imagine(model, data, row, times)
    pictures = (np.nan_to_num(obs).clip(0.0, 1.0) * 255).round().astype(np.uint8)
    return {"obs": _as_hex(pictures), "tick_times": _rounded(ticks)}


def _imagine(
    model: WorldModel, data: TaskDataset, row: int, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tick times (M,) and observations (K, D) of one sequence."""
    obs = torch.from_numpy(data.obs[row : row + 1])
    imagined = sample(model, obs, None, data.warm_up, times.tolist())
    ticks = imagined.tick_times[0]
    return (
        ticks[ticks.isfinite()].double().cpu().numpy(),
        imagined.obs[0].double().cpu().numpy(),
    )


def _scaling(config: TaskConfig) -> Scaling:
    if config.csv is not None:
        return weather_scaling(read_weather(config.csv))
    return weather_scaling(make_weather(WEATHER_DAYS, data_rng(config.seed, "train")))


def _in_units(obs: NDArray[Any], scaling: Scaling | None) -> NDArray[np.float64]:
    if scaling is None:
        return obs.astype(np.float64)
    return scaling.restore(obs)[..., [FEATURES.index(name) for name in WEATHER_SHOWN]]


def _rounded(values: NDArray[np.float64]) -> Any:
    """Nested lists with five digits, None for what is not finite."""
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def _as_hex(pictures: NDArray[np.uint8]) -> list[str]:
    return [picture.tobytes().hex() for picture in pictures]
