"""What an agent is: anything with Stable-Baselines3's ``predict``."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

LEAD_IN_FRAMES = 4
"""Frames an agent sees before it shoots: 0 to 3."""


class OtherGameError(ValueError):
    """An agent that has learned other games than the one it is to play."""


@runtime_checkable
class Agent(Protocol):
    """Chooses a shot from the frames it has seen.

    ``predict`` has Stable-Baselines3's signature. ``observation`` is (B, 4, 2N) or (4, 2N) float32,
    the lead-in frames, cue ball first; the action is (B, 2) or (2,) float32 in [-1, 1].
    """

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]: ...


def batch_of_frames(
    observation: NDArray[Any], obs_size: int | None = None
) -> tuple[NDArray[np.float32], bool]:
    """Checks lead-in frames and gives them a batch dimension.

    Returns:
        The frames (B, 4, D) in float32, and whether a batch dimension was added.

    Raises:
        ValueError: wrong shape, or NaN or infinity.
    """
    frames = np.asarray(observation, dtype=np.float32)
    single = frames.ndim == 2
    if single:
        frames = frames[None]
    width = obs_size if obs_size is not None else (frames.shape[-1] if frames.ndim == 3 else 4)
    if frames.ndim != 3 or frames.shape[1:] != (LEAD_IN_FRAMES, width) or len(frames) == 0:
        raise ValueError(
            f"observation must have shape (B, {LEAD_IN_FRAMES}, {width}) or "
            f"({LEAD_IN_FRAMES}, {width}), the lead-in frames; got {np.shape(observation)}"
        )
    if not np.isfinite(frames).all():
        rows = np.nonzero(~np.isfinite(frames).all(axis=(1, 2)))[0].tolist()
        raise ValueError(f"observation must be finite, got NaN or infinity in rows {rows[:8]}")
    return frames, single
