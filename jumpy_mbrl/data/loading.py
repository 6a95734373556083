"""Data by its config: trajectories of a table, sequences of a task, or recorded episodes."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.dataset import DatasetConfig, DrawnDataset, load_or_make
from jumpy_mbrl.data.recording import Recording, RecordingConfig
from jumpy_mbrl.data.tasks import TaskConfig, make_task

Batch = dict[str, Tensor]
DataConfig = DatasetConfig | TaskConfig | RecordingConfig


class SequenceData(Protocol):
    """Sequences of n times T frames. Where some of them end early, `Recording` says so by `length`.

    Attributes:
        obs: (n, T, D) float32, or uint8 for pictures.
        action: (n, T, A) float32.
        context_frames: how many frames are shown before prediction begins, at least 1.
    """

    @property
    def obs(self) -> NDArray[Any]: ...

    @property
    def action(self) -> NDArray[np.float32]: ...

    @property
    def context_frames(self) -> int: ...


def load_data(config: DataConfig, folder: str | os.PathLike[str]) -> SequenceData:
    """The data of a config: trajectories are kept in ``folder``, tasks are made anew each time,
    recordings lie where they were saved.

    `FileNotFoundError` for a missing recording; `ValueError` for one that was changed, or a weather
    file that is missing or malformed.
    """
    if isinstance(config, TaskConfig):
        return make_task(config)
    if isinstance(config, RecordingConfig):
        return Recording.load(config.path, config.sha256)
    if config.pixels is None:
        return load_or_make(config, folder)
    return DrawnDataset(load_or_make(replace(config, pixels=None), folder), config)


def lengths(data: SequenceData) -> NDArray[np.int64]:
    """How many frames of each sequence are real, (n,): T unless the data say otherwise."""
    n, T = data.obs.shape[:2]
    found: NDArray[np.int64] = getattr(data, "length", np.full(n, T, np.int64))
    return found


def as_frames(obs: Any, like: Tensor | None = None) -> Tensor:
    """Frames as a model reads them: bytes are pictures, 0 to 255 meaning 0 to 1.

    All other numbers are taken as they are, whole ones too. The frames get the type and device of
    `like`; without it they stay where they are, and what is not floating becomes float32.
    `ValueError` for what is no array of numbers.
    """
    if not isinstance(obs, Tensor):
        obs = np.asarray(obs)
        if obs.dtype not in (np.uint8, np.float64):  # torch does not know all types of NumPy
            try:
                obs = obs.astype(np.float32, copy=False)
            except (TypeError, ValueError):
                raise ValueError(f"expected frames of numbers, got {obs.dtype}: {obs!r}") from None
    frames = as_tensor(obs, device=None if like is None else like.device)
    if not frames.is_floating_point():
        frames = frames.to(torch.float32) / (255.0 if frames.dtype == torch.uint8 else 1.0)
    return frames if like is None else frames.to(like.dtype)


def actions_ahead(action: Tensor, now: int) -> tuple[Tensor | None, list[float]]:
    """The part of ``action`` (B, T, A), zeros where nothing is done, for ``WorldModel.imagine``.

    Those are the actions (B, M, A) at frame ``now`` and at later ones where any of the B rows acts,
    or None for a world without actions; and their M times in frames from now.
    """
    if action.shape[2] == 0:
        return None, [0.0]
    acts = (action[:, now:] != 0.0).any(dim=2).any(dim=0)
    acts[0] = True
    # The last frame has no future.
    frames = acts[: max(len(acts) - 1, 1)].nonzero().flatten()
    return action[:, now + frames], frames.tolist()
