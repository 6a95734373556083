"""The interface of agents, Stable-Baselines3's ``predict``, and agents without a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.data.loading import as_frames

CONTEXT_FRAMES = 4
"""Frames an agent sees before it shoots: 0 to 3."""


class OtherGameError(ValueError):
    """The agent has learned other games than the one it is to play."""


@runtime_checkable
class Agent(Protocol):
    """Chooses a shot from the frames it has seen.

    ``predict`` has Stable-Baselines3's signature. ``observation`` is (B, 4, 2N) or (4, 2N) float32,
    the context frames, cue ball first; the action is (B, 2) or (2,) float32 in [-1, 1]. The agents
    here also take frames as the environments of whole shots show them, (B, 8N) or (8N,), and read
    the target where each frame shows it behind the balls, (B, 4, 2N + 4).
    """

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]: ...


def batch_of_frames(
    observation: NDArray[Any],
    obs_size: int | None = None,
    likely_sizes: Collection[int] = (),
    shown: int = 0,
) -> tuple[NDArray[Any], bool]:
    """Context frames (B, 4, D), and whether they came without a batch dimension.

    They may come flattened, (B, 4 * D) or (4 * D,), and with ``shown`` numbers of a target behind
    the D of each frame. Where any D is allowed, four rows of 4 * D numbers are four flattened
    episodes if D is one of ``likely_sizes``, and else four frames. `ValueError` for a wrong shape,
    no array, or NaN or infinity.
    """
    T = CONTEXT_FRAMES
    if isinstance(observation, Mapping):
        raise ValueError(
            f"observation must be the coordinates of balls in an array, got a dictionary with "
            f"{list(observation)}; agents read obs_type='coords'"
        )
    frames = as_frames(as_array(observation)).numpy()
    sizes = likely_sizes if obs_size is None else (obs_size, obs_size + shown)
    if frames.ndim in (1, 2) and frames.shape[-1] % T == 0:
        size = frames.shape[-1] // T
        might_be_frames = size < 2 or (frames.ndim == 2 and len(frames) == T)
        if size in sizes or not might_be_frames:
            frames = frames.reshape(*frames.shape[:-1], T, size)
    single = frames.ndim == 2
    if single:
        frames = frames[None]
    width = frames.shape[-1] if frames.ndim == 3 else 4
    if obs_size is not None and (frames.ndim != 3 or width not in sizes):
        width = obs_size
    if frames.ndim != 3 or frames.shape[1:] != (T, width) or len(frames) == 0:
        more = f"; each frame may hold the {shown} numbers of the target too" if shown else ""
        raise ValueError(
            f"observation must have shape (B, {T}, {width}) or ({T}, {width}), the context frames, "
            f"or be these flattened, (B, {T * width}) or ({T * width},); got "
            f"{np.shape(observation)}{more}; agents read obs_type='coords'"
        )
    if not np.isfinite(frames).all():
        rows = np.nonzero(~np.isfinite(frames).all(axis=(1, 2)))[0].tolist()
        raise ValueError(f"observation must be finite, got NaN or infinity in rows {rows[:8]}")
    return frames, single


def batch_of_pictures(observation: Any, picture: tuple[int, int, int]) -> tuple[NDArray[Any], bool]:
    """Pictures (B, 4, h, w, C) of the context frames, and whether they came without a batch.

    They are as the environments of pictures show them, bytes or numbers from 0 to 1, of the height,
    width and channels ``picture``; grey ones may lack the channel. `ValueError` for others.
    """
    if isinstance(observation, Mapping):
        raise ValueError(f"observation must be pictures, got a dictionary with {list(observation)}")
    pictures = as_array(observation)
    if picture[2] == 1 and pictures.shape[-2:] == picture[:2]:
        pictures = pictures[..., None]
    single = pictures.ndim == 4
    if single:
        pictures = pictures[None]
    one = (CONTEXT_FRAMES, *picture)
    if pictures.ndim != 5 or pictures.shape[1:] != one or len(pictures) == 0:
        raise ValueError(
            f"observation must have shape {('B', *one)} or {one}, {CONTEXT_FRAMES} frames of "
            f"height, width and channels, got {np.shape(observation)}; obs_type='pixels' shows them"
        )
    if pictures.dtype != np.uint8 and not np.issubdtype(pictures.dtype, np.floating):
        raise ValueError(
            f"pictures must be uint8 from 0 to 255 or floats from 0 to 1, got {pictures.dtype}"
        )
    if not (pictures.min() >= 0 and pictures.max() <= (255 if pictures.dtype == np.uint8 else 1)):
        raise ValueError(
            f"pictures of floats must lie between 0 and 1, got {pictures.min()} to "
            f"{pictures.max()}; divide those of 0 to 255 by 255"
        )
    return pictures, single


class NoShot:
    """Leaves the cue ball alone: the action is always zero.

    Args:
        likely_sizes: see ``batch_of_frames``.
    """

    def __init__(self, likely_sizes: Collection[int] = ()) -> None:
        self._likely_sizes = likely_sizes

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``; the same whatever ``deterministic`` says."""
        frames, single = batch_of_frames(observation, likely_sizes=self._likely_sizes)
        actions = self._draw(len(frames))
        return (actions[0] if single else actions), state

    def _draw(self, count: int) -> NDArray[np.float32]:
        return np.zeros((count, 2), dtype=np.float32)


class RandomShot(NoShot):
    """Shoots anywhere: every action is uniform in [-1, 1].

    Args:
        seed: of the agent's own random generator. Two agents with one seed play the same shots in
            the same order, however the episodes are cut into batches.
        likely_sizes: see ``batch_of_frames``.
    """

    def __init__(self, seed: int = 0, likely_sizes: Collection[int] = ()) -> None:
        super().__init__(likely_sizes)
        self._rng = np.random.default_rng(seed)

    def _draw(self, count: int) -> NDArray[np.float32]:
        return self._rng.uniform(-1.0, 1.0, (count, 2)).astype(np.float32)
