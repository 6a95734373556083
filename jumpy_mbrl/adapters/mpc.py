"""World models for planners that sample: the cost of many candidates at once.

Libraries of such planners (CEM, MPPI and their kin) ask a model for ``get_cost(info, candidates)``
and look for the least.

```python
from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.agents import ReachRegion

objective = ReachRegion((0.8, 1.0, 0.0, 0.2), times=range(1, 42))
costs = CostModel(from_pretrained("fold-billiards2d"), objective)
cost = costs.get_cost({"frames": frames}, candidates)  # (B, T, D), (B, S, A) -> (B, S)
```

Letters: B episodes, S candidates of each, M actions of a candidate, T frames, D observation size,
A action size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.models.base import State, WorldModel, check_times, like_of
from jumpy_mbrl.objectives import Bound, Objective, action_bounds, scores_of


class CostModel:
    """A world model and an objective as the cost of actions: minus the objective's score.

    Costs below 0 are believed successes. A rollout that blew up costs infinity.

    `ValueError` for a model without actions, bad times, or bounds that leave no room for actions.

    Args:
        model: any world model with actions.
        objective: what to reach; one that differs from episode to episode has B of them.
        action_times: M ascending times in frames from now, at which a candidate acts, no two alike
            and all before the last of the objective's times: later actions would change no cost.
        action_low: least action, as the model learned it: a number, or one for each of the A
            entries. Candidates are clipped to it.
        action_high: greatest action, likewise.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        action_times: Sequence[float] = (0.0,),
        action_low: Bound = -1.0,
        action_high: Bound = 1.0,
    ) -> None:
        self.model = model
        self.objective = objective
        self._low, self._high = bounds_of(model, action_low, action_high)
        self._own_state = _described(model.initial_state(1))
        self.action_times = times = tuple(action_times)
        check_times(as_tensor(objective.times))
        last = float(objective.times[-1])
        if not times or not times[0] >= 0.0 or not all(a < b for a, b in pairwise((*times, last))):
            raise ValueError(
                f"expected action_times to be ascending times in frames from now, at least one, no "
                f"two alike, and before {last}, the last of the objective's times, got {times}; "
                f"actions from {last} on would change no cost"
            )

    def get_cost(self, info_dict: Mapping[str, Any], action_candidates: Any) -> Tensor:
        """The cost of each candidate, (B, S).

        Differentiable if ``action_candidates`` asks for gradients; else no graph is built.
        `ValueError` for neither frames nor a state of this model, wrong shapes, no candidates, NaN
        among them, or an objective that returns scores of another shape.

        Args:
            info_dict: ``frames``, what has been seen up to now, (B, T, D), or (B, S, T, D) repeated
                for every candidate, of which the first is read; bytes are pictures, 0 to 255
                meaning 0 to 1. Or ``state``, what the model's ``observe`` made of them, which saves
                doing so for every batch of candidates. Where there is neither, ``observation`` is
                read as ``frames``; (B, S, 1, T, D), as stable-worldmodel has it, will do. Other
                entries are ignored.
            action_candidates: (B, S, M, A), or (B, S, A) for M = 1, clipped to the bounds.
        """
        actions = self._actions(as_tensor(action_candidates))
        B, S = actions.shape[:2]
        with graph_for(actions):
            state = self._state(info_dict, S)
            if state.batch_size != B:
                raise ValueError(
                    f"expected candidates for each of {state.batch_size} episodes, got {B}"
                )
            acting = actions.flatten(0, 1).to(state.hidden), self.action_times
            imagined = self.model.imagine(state.repeat(S), self.objective.times, *acting)
            score = scores_of(self.objective, imagined.obs.unflatten(0, (B, S)))
            return -score.nan_to_num(nan=-torch.inf, neginf=-torch.inf)

    criterion = get_cost
    """Another name, which stable-worldmodel's protocol of costs asks for."""

    def _actions(self, candidates: Tensor) -> Tensor:
        """(B, S, M, A) within the bounds."""
        M, A = len(self.action_times), self.model.action_size
        actions = candidates.unsqueeze(2) if candidates.ndim == 3 else candidates
        if actions.ndim != 4 or actions.shape[2:] != (M, A):
            raise ValueError(
                f"expected action_candidates of shape (B, S, {M}, {A}), an action for each of "
                f"action_times={self.action_times}, got {tuple(candidates.shape)}"
            )
        if not actions.numel():
            raise ValueError(
                f"expected at least one candidate for each of at least one episode, got "
                f"action_candidates of shape {tuple(candidates.shape)}"
            )
        # Some models leave out what is NaN, and would find such a candidate as good as no action.
        lost = actions.isnan().flatten(2).any(dim=2)
        if bool(lost.any()):
            raise ValueError(
                f"expected action_candidates of numbers, got NaN in {int(lost.sum())} of "
                f"{lost.numel()}"
            )
        return actions.clamp(self._low.to(actions.device), self._high.to(actions.device))

    def _state(self, info: Mapping[str, Any], S: int) -> State:
        state = info.get("state")
        if isinstance(state, State):
            if (found := _described(state)) != self._own_state:
                raise ValueError(
                    f"expected a state of this {type(self.model).__name__}, {self._own_state} for "
                    f"each episode, got {found}"
                )
            return state
        seen = info.get("frames", info.get("observation"))
        if seen is None:
            raise ValueError(
                "expected info to hold 'frames' or 'observation', (B, T, D), or 'state', a State "
                f"of the model, got {sorted(info)}"
            )
        frames = as_frames(seen, like_of(self.model))
        if frames.ndim == 5 and frames.shape[2] == 1:
            frames = frames.squeeze(2)
        if frames.ndim == 4 and frames.shape[1] != S:
            raise ValueError(
                f"expected frames (B, T, D), or (B, S, T, D) for the {S = } candidates, got "
                f"{tuple(frames.shape)}"
            )
        return self.model.observe(frames[:, 0] if frames.ndim == 4 else frames)


def bounds_of(model: WorldModel, low: Bound, high: Bound) -> tuple[Tensor, Tensor]:
    """Least and greatest action, (A,) each; `ValueError` for a model without actions, or bounds
    that leave no room for them."""
    if model.action_size < 1:
        raise ValueError(
            f"expected a model with actions, got {type(model).__name__} with "
            f"action_size={model.action_size}"
        )
    return action_bounds(low, high, model.action_size)


def graph_for(*given: Tensor) -> AbstractContextManager[None]:
    """Within it a graph is built if one of the tensors asks for gradients, as the caller decides.

    A model's weights ask for them too, and would give one to everything that is imagined.
    """
    asked = any(tensor.requires_grad for tensor in given)
    return torch.set_grad_enabled(torch.is_grad_enabled() and asked)


def _described(state: State) -> str:
    """Of which kind and size a state is."""
    sizes = {name: tuple(part.shape[1:]) for name, part in vars(state).items()}
    return f"{type(state).__name__} with {sizes}"
