"""Episodes to plan for, in the imagination of one or several world models.

Letters: B episodes, S shots of an episode, K query times, D observation size, A action size,
H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jumpy_mbrl.models.base import State, WorldModel
from jumpy_mbrl.objectives import Objective, scores_of


@dataclass(frozen=True, eq=False)
class Episodes:
    """B episodes at the moment of the shot.

    Shots are searched for in the unit box, [-1, 1] in each of the A directions; the bounds on
    actions are known here alone.

    Attributes:
        models: M world models, the planner's own first.
        states: what each of them makes of the B episodes.
        objective: of these episodes.
        low: least action, (A,).
        high: greatest action, (A,).
    """

    models: tuple[WorldModel, ...]
    states: tuple[State, ...]
    objective: Objective
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return self.states[0].batch_size

    def __getitem__(self, rows: Tensor | slice) -> Episodes:
        """Some of the episodes (a slice or an index tensor)."""
        states = tuple(state[rows] for state in self.states)
        return replace(self, states=states, objective=self.objective.select(rows))

    @property
    def times(self) -> Tensor:
        """(K,) those of the objective."""
        times = self.objective.times  # of an objective of one's own perhaps a list
        return usable(times) if isinstance(times, Tensor) else times

    def actions(self, shots: Tensor) -> Tensor:
        """What shots (..., A) in the unit box are as actions."""
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * shots

    def score(self, shots: Tensor, member: int = 0, noise: Tensor | None = None) -> Tensor:
        """The objective's scores (B, S) of shots (B, S, A), as one of the models imagines them.

        Args:
            shots: in the unit box.
            member: the model's number.
            noise: (S, H), added to the latents from which the rollouts start.

        Raises:
            ValueError: for an objective that returns scores of another shape.
        """
        B, S, A = shots.shape
        state = self.states[member].repeat(S)
        if noise is not None:
            state = replace(state, hidden=state.hidden + noise.repeat(B, 1))
        actions = self.actions(shots).reshape(B * S, A).to(state.hidden)
        imagined = self.models[member].imagine(state, self.times, actions)
        scores = scores_of(self.objective, imagined.obs.view(B, S, *imagined.obs.shape[1:]))
        # A rollout that blew up is no success.
        return scores.to(shots.dtype).nan_to_num(nan=-torch.inf)

    def ticks(self, actions: Tensor) -> Tensor:
        """Ticks (B,) of the first model on the way of actions (B, A)."""
        state = self.states[0]
        return self.models[0].imagine(state, self.times, actions.to(state.hidden)).ticks


def usable(tensor: Tensor) -> Tensor:
    """The tensor, or, if it was made in ``torch.inference_mode``, a copy that gradients allow."""
    return tensor.clone() if tensor.is_inference() else tensor
