"""Model-predictive control: at every decision a sequence is planned, and its first action played.

Letters: n episodes, T frames, D observation size, A action size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_count
from jumpy_mbrl.models.action_sequence import ActionSequence


class RecedingHorizon:
    """A policy for ``jumpy_mbrl.data.recording.record``: receding horizon control (MPC).

    Every decision is planned anew from what has been seen, so the plans' own errors are corrected
    as they come true. `ValueError` for a planner with another model, or no context frames.

    Args:
        planner: plans with an ``ActionSequence``.
        context_frames: how many of the last frames are shown to the model.
    """

    def __init__(self, planner: Planner[Any], context_frames: int = 4) -> None:
        if not isinstance(planner.model, ActionSequence):
            raise ValueError(
                "expected a planner of action sequences, got one with the model "
                f"{type(planner.model).__name__}; give it ActionSequence(model, action_times)"
            )
        self.planner = planner
        self.model = planner.model
        self.context_frames = check_count("context_frames", context_frames)

    def __call__(self, obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The actions (n, A) for frames (n, T, D), after the actions (n, T, A) at them.

        Where frames show a target behind the D numbers, a planner's objective that can be aimed
        (``aimed_at``) is aimed there.
        """
        last = slice(-self.context_frames, None)
        plan = self.planner.plan(obs[:, last], taken=action[:, last])
        return as_array(self.model.split(plan.action)[:, 0]).astype(np.float32)
