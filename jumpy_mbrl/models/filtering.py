"""Infers velocities from frames: the motion that, played through the model, explains them.

A difference of two frames is a velocity only if nothing happened between them. So every interval
proposes one: the model is started there and played to the last frame, through whatever events it
foresees, and the proposal that explains the later frames best is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State

_EXPLAINED = 2e-3
"""A later frame is explained if every coordinate is this near, in sides of the table."""

S_co = TypeVar("S_co", bound=State, covariant=True)


class StatedModel(Protocol[S_co]):
    """A world model whose states can be made from positions and velocities."""

    obs_size: int

    def state_from(self, positions: Tensor, velocities: Tensor) -> S_co: ...

    def velocities_of(self, state: State) -> Tensor: ...

    def imagine(
        self,
        state: State,
        times: Tensor | Sequence[float],
        action: Tensor | None = None,
        action_times: Sequence[float] = ...,
    ) -> Imagined: ...


def explain(model: StatedModel[S_co], obs: Tensor, action: Tensor | None = None) -> S_co:
    """The state at the last of the frames ``obs`` (B, T, D), T >= 2.

    Args:
        action: actions taken at the frames, (B, T, A), or None; the last one is ignored.
    """
    T = obs.shape[1]
    if action is not None and not bool(action[:, 1:-1].any()):
        action = None
    errors, velocities = [], []
    for start in range(T - 1):
        error, velocity = _propose(model, obs, action, start)
        # The last interval's proposal is contradicted by no later frame: it must not win a tie.
        errors.append(error if start < T - 2 else error.clamp_min(_EXPLAINED))
        velocities.append(velocity)
    best = torch.stack(errors, dim=1).argmin(dim=1)
    index = best.view(-1, 1, 1).expand(-1, 1, model.obs_size)
    velocity = torch.stack(velocities, dim=1).gather(1, index).squeeze(1)
    return model.state_from(obs[:, -1], velocity)


def _propose(
    model: StatedModel[S_co], obs: Tensor, action: Tensor | None, start: int
) -> tuple[Tensor, Tensor]:
    """Largest error on later frames (B,), and velocities at the last frame (B, D)."""
    T = obs.shape[1]
    state = model.state_from(obs[:, start], obs[:, start + 1] - obs[:, start])
    times = [float(t) for t in range(1, T - start)]
    later = list(range(start + 1, T - 1))
    if action is None or not later:
        imagined = model.imagine(state, times)
    else:
        at = [float(t - start) for t in later]
        imagined = model.imagine(state, times, action[:, later], at)
    error = (imagined.obs - obs[:, start + 1 :]).abs().amax(dim=(1, 2))
    return error, model.velocities_of(imagined.state)
