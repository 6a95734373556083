"""Data by its config, whatever kind it is: trajectories of a table, or sequences of a task."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, load_or_make
from jumpy_mbrl.data.tasks import TaskConfig, make_task

DataConfig = DatasetConfig | TaskConfig


class SequenceData(Protocol):
    """Sequences of n times T frames.

    Attributes:
        obs: (n, T, D) float32, or uint8 for pictures.
        action: (n, T, A) float32.
        warm_up: how many frames are shown before prediction begins, at least 1.
        config: what made them.
    """

    @property
    def obs(self) -> NDArray[Any]: ...

    @property
    def action(self) -> NDArray[np.float32]: ...

    @property
    def warm_up(self) -> int: ...

    @property
    def config(self) -> DataConfig: ...


def load_data(config: DataConfig, folder: str | os.PathLike[str]) -> SequenceData:
    """The data of a config: trajectories are kept in ``folder``, tasks are made anew each time.

    Raises:
        ValueError: for a weather file that is missing or malformed.
    """
    if isinstance(config, TaskConfig):
        return make_task(config)
    return load_or_make(config, folder)


def as_frames(obs: Tensor) -> Tensor:
    """Frames as a model reads them: pictures (uint8) from 0 to 1, anything else as it is."""
    return obs.to(torch.float32) / 255.0 if obs.dtype == torch.uint8 else obs
