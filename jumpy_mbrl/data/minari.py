"""Datasets of Minari (extra ``minari``): shots that others learn from, and recordings of theirs."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.recording import Recording, flat
from jumpy_mbrl.data.seeds import TABLE_SEEDS, data_rng
from jumpy_mbrl.envs import (
    BILLIARDS_1D,
    BILLIARDS_1D_SHOT,
    BILLIARDS_2D,
    BILLIARDS_2D_SHOT,
    register_envs,
)


def to_minari(
    dataset: str,
    config: DatasetConfig | None = None,
    *,
    by_shots: bool = False,
    progress: Callable[[int], object] | None = None,
    **about: Any,
) -> Any:
    """Plays episodes of an environment of this package, and returns them as a Minari dataset.

    It is `Billiards2D-v0`, or `Billiards1D-v0` for `shot="place"`, with the table, start and
    pictures of the config, and `recover_environment` makes it again. An episode has one action, at
    frame `lead_in`, and zeros before and after, which do nothing. Episode k begins with the k-th
    reset seed of the config's seed and split. Pictures are stored as bytes, without JPEG.

    Args:
        dataset: an id with a version, such as "billiards2d/random-v0". It is made in the folder
            `MINARI_DATASETS_PATH`, or in Minari's own.
        config: what is played; 10,000 random shots by default.
        by_shots: whether a step is a whole shot, as in `Billiards2DShot-v0`.
        progress: called with the number of episodes that just were written.
        about: what else `minari.create_dataset_from_buffers` takes, such as `author`,
            `ref_min_score` and `ref_max_score`.

    `ImportError` without Minari; `ValueError` for an id without a version or of a dataset that is
    there already, a seed beyond those of tables, or a table without room. Nothing is left of a
    dataset that could not be written to its end.
    """
    minari, config, place = _minari(), config or DatasetConfig(), new_place(dataset)
    env = make_env(config, by_shots)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`|env_spec is None", UserWarning)  # none is needed
            return minari.create_dataset_from_buffers(
                dataset,
                _episodes(env, config, by_shots, progress),
                env=env,
                jpeg_encoding=False,
                requirements=["jumpy-mbrl"],
                **about,
            )
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def new_place(dataset: str) -> Path:
    """The folder that a new dataset of this id is to have; `ValueError` unless there can be one."""
    if not re.fullmatch(r"([\w-][\w/-]*[\w-]/)?[\w-]+-v\d+", dataset):
        raise ValueError(
            f"expected the id of a Minari dataset, such as 'billiards2d/random-v0', got {dataset!r}"
        )
    place = Path(_minari().storage.get_dataset_path(dataset))
    if place.exists():
        raise ValueError(f"expected a new dataset, but there is {place}; choose another version")
    return place


def make_env(config: DatasetConfig, by_shots: bool = False) -> gym.Env[Any, Any]:
    """The environment of a config; `ValueError` for one that it refuses."""
    register_envs()
    ids = (BILLIARDS_1D, BILLIARDS_1D_SHOT) if config.on_line else (BILLIARDS_2D, BILLIARDS_2D_SHOT)
    arguments: dict[str, Any] = {"config": config.table.to_dict()}
    if not config.on_line:
        arguments["start"] = config.start
    if config.pixels is not None:
        arguments |= {"obs_type": "pixels", "pixels": config.pixels}
    steps = 1 if by_shots else config.table.num_frames - 1
    return gym.make(ids[by_shots], max_episode_steps=steps, **arguments)


def _episodes(
    env: gym.Env[Any, Any],
    config: DatasetConfig,
    by_shots: bool,
    progress: Callable[[int], object] | None,
) -> Iterator[Any]:
    """Minari's buffer of each episode, one after the other."""
    count, shot_at = config.num_trajectories, 0 if by_shots else config.table.lead_in
    shots = np.zeros((count, 2), np.float32)
    if config.shot != "none":
        rng = data_rng(config.seed, config.split)
        shots = rng.uniform(-1.0, 1.0, shots.shape).astype(np.float32)
    for k, seed in enumerate(TABLE_SEEDS[config.split](config.seed, count)):
        steps: list[tuple[Any, ...]] = []
        seen, over = [env.reset(seed=seed)[0]], False
        while not over:
            action = shots[k] if len(steps) == shot_at else np.zeros(2, np.float32)
            obs, reward, terminated, truncated, _ = env.step(action)
            seen.append(obs)
            steps.append((action, float(reward), terminated, truncated))
            over = terminated or truncated
        names = ("actions", "rewards", "terminations", "truncations")
        columns = dict(zip(names, map(list, zip(*steps, strict=True)), strict=True))
        yield _minari().data_collector.EpisodeBuffer(seed=seed, observations=seen, **columns)
        if progress is not None:
            progress(1)


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise ImportError("expected Minari; pip install 'jumpy-mbrl[minari]'") from error
    return minari


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
    minari, folder = _minari(), Path(dataset)
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
