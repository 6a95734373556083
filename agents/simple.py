"""Agents that do not think: the rows every other agent has to beat."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.agents.base import batch_of_frames

_ACTION_SIZE = 2


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
        """See ``Agent.predict``."""
        frames, single = batch_of_frames(observation, likely_sizes=self._likely_sizes)
        action = np.zeros((len(frames), _ACTION_SIZE), dtype=np.float32)
        return (action[0] if single else action), state


class RandomShot:
    """Shoots anywhere: every action is uniform in [-1, 1].

    Args:
        seed: of the agent's own random generator. Two agents with one seed play the same shots in
            the same order, however the episodes are cut into batches.
        likely_sizes: see ``batch_of_frames``.
    """

    def __init__(self, seed: int = 0, likely_sizes: Collection[int] = ()) -> None:
        self._rng = np.random.default_rng(seed)
        self._likely_sizes = likely_sizes

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``; random whatever ``deterministic`` says."""
        frames, single = batch_of_frames(observation, likely_sizes=self._likely_sizes)
        action = self._rng.uniform(-1.0, 1.0, (len(frames), _ACTION_SIZE)).astype(np.float32)
        return (action[0] if single else action), state
