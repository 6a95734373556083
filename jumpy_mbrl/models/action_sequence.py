"""Several actions as one, so that a planner which chooses one action plans a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.models.base import Imagined, State, WorldModel, WrappedModel, check_times


class ActionSequence(WrappedModel):
    """A world model whose action (B, M * A) is the actions (M, A) of a sequence, one by one.

    Planners that know of one action taken now then search all M actions at once, unchanged.
    ``observe`` takes single actions (B, T, A), as they were.

    `ValueError` for a model without actions, or other times.

    Args:
        model: any world model with actions.
        action_times: M ascending times in frames from now at which it acts, the first at 0.
    """

    def __init__(self, model: WorldModel, action_times: Sequence[float]) -> None:
        super().__init__(model)
        if model.action_size < 1:
            raise ValueError(
                f"expected a model with actions, got {type(model).__name__} with "
                f"action_size={model.action_size}"
            )
        times = as_tensor(action_times, dtype=torch.float32)
        check_times(times)
        if float(times[0]) != 0.0 or bool((times[1:] == times[:-1]).any()):
            raise ValueError(
                f"expected action_times that begin at 0 and differ from each other, got "
                f"{times.tolist()}"
            )
        self.action_times = [float(time) for time in action_times]
        self.action_size = len(self.action_times) * model.action_size

    def split(self, action: Tensor) -> Tensor:
        """The actions (..., M, A) of a sequence (..., M * A)."""
        parts: Tensor = action.unflatten(-1, (len(self.action_times), self.model.action_size))
        return parts

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        if action is None:
            return super().rollout(state, times, end, None)
        until = torch.cat([times, times.new_tensor([end])])
        imagined = self.model.imagine(state, until, self.split(action), self.action_times)
        return replace(imagined, obs=imagined.obs[:, :-1])
