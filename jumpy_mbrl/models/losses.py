"""What the losses of the recurrent models share: how much each frame counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpy_mbrl.models.networks import check_sizes


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What the losses of recurrent models weigh.

    Attributes:
        burn_in: predictions from fewer real frames than this count for nothing, at least 1. A
            velocity cannot be known from one frame, and what cannot be known drowns what can.
        action_weight: how many times as much the squared errors count that follow from a tick which
            reads an action, up to the next tick on real frames.
    """

    burn_in: int = 1
    action_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.action_weight < math.inf:
            raise ValueError(
                f"action_weight must be positive and finite, got {self.action_weight}; 1 counts "
                "all errors alike"
            )
        check_sizes(self, ("burn_in",))


def mean_where(error: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of ``error`` (..., D) weighted by ``weight`` (...), or plain; 0 without weight."""
    if weight is None:
        return error.mean()
    total = weight.sum().clamp_min(torch.finfo(error.dtype).tiny)
    return (error.mean(dim=-1) * weight).sum() / total


def loss_weights(
    config: LossConfig, obs: Tensor, action: Tensor, real: Tensor | None = None
) -> Tensor | None:
    """How much the predictions of the frames after the first count, (B, T-1); None if all alike.

    Args:
        config: what is weighed.
        obs: (B, T, D).
        action: (B, T, A), those at the frames.
        real: the frames that count at all, see `foreseen`.

    Raises:
        ValueError: if ``burn_in`` leaves no frame.
    """
    T = obs.shape[1]
    if config.burn_in >= T:
        raise ValueError(
            f"expected sequences of more than burn_in={config.burn_in} frames, got {T}; lower "
            "burn_in, or take longer sequences"
        )
    if config.action_weight == 1.0 and config.burn_in == 1:
        return real
    acted = (action[:, :-1] != 0.0).any(dim=-1)
    weights = torch.ones_like(obs[:, 1:, 0]).masked_fill(acted, config.action_weight)
    weights[:, : config.burn_in - 1] = 0.0
    return weights if real is None else weights * real
