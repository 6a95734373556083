"""Sequences of a task as they were and as a model imagines them, kept to be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data import seeds, weather
from jumpy_mbrl.data.tasks import TASKS, WEATHER_DAYS, TaskConfig, TaskDataset
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

    ``truth`` is a list of (T, D) frames, or, of pictures, ``film`` frames as hexadecimal bytes.
    ``ways`` has for each sequence ``time`` (K,), ``obs`` (K, D) and ``tick_times`` (M,) with
    ``tick_obs`` (M, D). Of weather, D is `WEATHER_SHOWN`, in degC and mbar.
    """
    source = TASKS[data.config.task].source
    rows = range(min(SHOWN_ROWS.get(source, 2), len(data)))
    shown, end = data.context_frames, data.obs.shape[1] - 1
    ways: list[dict[str, Any]] = []
    if source == "pixels":
        film = np.linspace(shown, end, FILM_FRAMES).round()
        for row in rows:
            ticks, obs = _imagine(model, data, row, film)
            pictures = (np.nan_to_num(obs).clip(0.0, 1.0) * 255).round().astype(np.uint8)
            ways.append({"obs": _as_hex(pictures), "tick_times": _rounded(ticks)})
        truth = [_as_hex(data.obs[row, film.astype(int)]) for row in rows]
        return {"film": film.tolist(), "truth": truth, "ways": ways}

    show = _in_units(data.config) if source == "weather" else np.asarray
    times = np.linspace(shown - 1, end, (end - shown + 1) * POINTS_PER_FRAME + 1)
    for row in rows:
        ticks, obs = _imagine(model, data, row, times)
        tick_obs = _imagine(model, data, row, ticks)[1] if len(ticks) else obs[:0]
        ways.append(
            {
                "time": _rounded(times),
                "obs": _rounded(show(obs)),
                "tick_times": _rounded(ticks),
                "tick_obs": _rounded(show(tick_obs)),
            }
        )
    return {"truth": [_rounded(show(data.obs[row])) for row in rows], "ways": ways}


def _imagine(
    model: WorldModel, data: TaskDataset, row: int, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tick times (M,) and observations (K, D) of one sequence."""
    frames = torch.from_numpy(data.obs[row : row + 1])
    imagined = sample(model, frames, None, data.context_frames, times.tolist())
    ticks = imagined.tick_times[0]
    ticks = ticks[ticks.isfinite()]
    return ticks.double().cpu().numpy(), imagined.obs[0].double().cpu().numpy()


def _in_units(config: TaskConfig) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Gives `WEATHER_SHOWN` of frames in their units."""
    if config.csv is None:
        measured = weather.make_weather(WEATHER_DAYS, seeds.data_rng(config.seed, "train"))
    else:
        measured = weather.read_weather(config.csv)
    scaling = weather.weather_scaling(measured)
    columns = [weather.FEATURES.index(name) for name in WEATHER_SHOWN]
    return lambda obs: scaling.restore(obs)[..., columns]


def _rounded(values: NDArray[np.float64]) -> Any:
    """Nested lists with five digits, None for what is not finite."""
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def _as_hex(pictures: NDArray[np.uint8]) -> list[str]:
    return [picture.tobytes().hex() for picture in pictures]
