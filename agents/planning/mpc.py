"""Playing by plans: at every decision a whole sequence is planned, and its first action played.

Letters: n episodes, T frames, D observation size, A action size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.models.action_sequence import ActionSequence


class RecedingHorizon:
    """A policy for ``jumpy_mbrl.data.recording.record``: model-predictive control.

    Every decision is planned anew from what has been seen, so the plans' own errors are corrected
    as they come true.

    Args:
        planner: plans with an ``ActionSequence``.
        memory: how many of the last frames are shown to the model.

    Raises:
        ValueError: for a planner with another model, or a memory below 1.
    """

    def __init__(self, planner: Planner[Any], memory: int = 4) -> None:
        if not isinstance(planner.model, ActionSequence):
            raise ValueError(
                "expected a planner of action sequences, got one with the model "
                f"{type(planner.model).__name__}; give it ActionSequence(model, action_times)"
            )
        if memory < 1:
            raise ValueError(f"memory must be at least 1 frame, got {memory}")
        self.planner = planner
        self.model = planner.model
        self.memory = memory

    def __call__(self, obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The actions (n, A) for frames (n, T, D), after the actions (n, T, A) at them.

        Where frames show a target behind the D numbers, a planner's objective that can be aimed
        (``aimed_at``) is aimed there.
        """
        plan = self.planner.plan(obs[:, -self.memory :], taken=action[:, -self.memory :])
        return as_array(self.model.split(plan.action)[:, 0]).astype(np.float32)
