"""Episodes that others stored with Minari (extra ``minari``), as a recording."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data.recording import Recording, flat


def from_minari(
    dataset: str | os.PathLike[str], *, context_frames: SupportsIndex = 1, download: bool = False
) -> Recording:
    """Reads a Minari dataset as what `record` gives.

    Observations of any shape are laid flat, (n, T, D), bytes as they are and other numbers as
    float32. T is the longest episode's; shorter ones are padded, with their `length`. Actions keep
    their units: planners search between -1 and 1 unless told other bounds.

    Args:
        dataset: an id, such as "mujoco/hopper/expert-v0", or the folder of a dataset.
        context_frames: frames that are shown before prediction begins. Actions within them stay.
        download: whether to fetch a dataset of that id if it is not on this machine.

    `ImportError` without Minari, its `FileNotFoundError` for an unknown id, `ValueError` for a
    dataset without episodes, or with other observations than of a `Box` or other actions than real
    numbers of a `Box`, and what `Recording` refuses.
    """
    try:
        import minari
    except ImportError as error:
        raise ImportError("expected Minari; pip install 'jumpy-mbrl[minari]'") from error
    folder = Path(dataset)
    if folder.is_dir():
        inner = folder / "data"
        stored = minari.MinariDataset(inner if inner.is_dir() else folder)
    else:
        stored = minari.load_dataset(os.fspath(dataset), download=download)
    _check_spaces(stored.observation_space, stored.action_space)
    episodes = list(stored.iterate_episodes())
    if not episodes:
        raise ValueError(f"expected at least one episode in {dataset}, got none; collect some")
    length = np.array([len(episode.rewards) + 1 for episode in episodes])
    T = int(length.max())
    return Recording(
        np.stack([_padded(flat(episode.observations), T, mode="edge") for episode in episodes]),
        np.stack([_padded(_numbers(episode.actions), T) for episode in episodes]),
        np.stack([_padded(np.asarray(e.rewards, np.float64), T - 1) for e in episodes]),
        check_count("context_frames", context_frames),
        length,
    )


def _check_spaces(seen: Any, acts: Any) -> None:
    if not isinstance(seen, Box):
        raise ValueError(
            f"expected observations in a Box, got {type(seen).__name__}; collect the dataset from "
            "an environment in gymnasium.wrappers.FlattenObservation, or choose one of several"
        )
    if not isinstance(acts, Box) or not np.issubdtype(acts.dtype, np.floating):
        raise ValueError(
            f"expected actions that are real numbers in a Box, got {acts}; planners search "
            "continuous spaces, so collect the dataset from an environment where a number "
            "chooses, as docs/your_own_environment.md shows"
        )


def _numbers(actions: NDArray[Any]) -> NDArray[np.float32]:
    return actions.reshape(len(actions), -1).astype(np.float32)


def _padded(rows: NDArray[Any], count: int, **how: Any) -> NDArray[Any]:
    """The rows and, up to so many, zeros or what else `how` tells NumPy's `pad`."""
    return np.pad(rows, [(0, count - len(rows)), *((0, 0),) * (rows.ndim - 1)], **how)
