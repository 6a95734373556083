"""What the losses of the recurrent models share: weights of frames, and their own rollouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.data.loading import actions_ahead
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.networks import ResidualMLP, check_sizes, frame_actions


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What the losses of recurrent models weigh, and what they learn from their own rollouts.

    Attributes:
        burn_in: predictions from fewer real frames than this count for nothing, at least 1. A
            velocity cannot be known from one frame, and what cannot be known drowns what can.
        action_weight: how many times as much the squared errors count that follow from a tick which
            reads an action, up to the next tick on real frames.
        rollout_weight: of the mean squared error of rollouts, beside the model's own loss; 0 for
            none. They see ``rollout_shown`` real frames and go on from their own predictions.
        rollout_frames: how many frames they imagine.
        rollout_shown: how many real frames they see first.
        rollout_start: the last frame at which those may begin: it is drawn, from 0 on, once for
            each batch. With 0 rollouts begin as those of planners do.
        rollout_share: the part of a batch that is rolled out, in (0, 1], at least one sequence.
    """

    burn_in: int = 1
    action_weight: float = 1.0
    rollout_weight: float = 0.0
    rollout_frames: int = 12
    rollout_shown: int = 4
    rollout_start: int = 0
    rollout_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.action_weight < math.inf:
            raise ValueError(
                f"action_weight must be positive and finite, got {self.action_weight}; 1 counts "
                "all errors alike"
            )
        if not 0.0 <= self.rollout_weight < math.inf:
            raise ValueError(
                f"rollout_weight must be finite and not negative, got {self.rollout_weight}; 0 "
                "learns from no rollouts"
            )
        check_sizes(self, ("burn_in", "rollout_frames", "rollout_shown"))
        start = self.rollout_start
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise ValueError(f"rollout_start must be an integer of at least 0, got {start!r}")
        if not 0.0 < self.rollout_share <= 1.0:
            raise ValueError(f"rollout_share must lie in (0, 1], got {self.rollout_share}")


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


def with_rollouts(
    model: Any, batch: dict[str, Tensor], loss: Tensor, log: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds to a model's loss what its config asks for of its own rollouts, open loop.

    Gradients pass through all of a rollout, through predicted durations too.

    Args:
        model: a `WorldModel` with a ``decoder`` and, as ``config``, a `LossConfig`.
        batch: ``obs`` (B, T, D), ``action`` (B, T, A) and, if it says so, the ``length`` (B,) of
            the sequences. With a ``rollout_start`` also ``u`` (B, T) uniform in [0, 1), of which
            the last number of the first row draws it, as nothing else reads that.
        loss: without rollouts.
        log: likewise; with rollouts their error, "rollout", is added.

    Raises:
        ValueError: for sequences that are too short, or without ``u``.
    """
    config: LossConfig = model.config
    if not config.rollout_weight:
        return loss, log
    error = _rollout_error(model, model.decoder, config, batch)
    return loss + config.rollout_weight * error, {**log, "rollout": error}


def _rollout_error(
    model: WorldModel, decoder: ResidualMLP, config: LossConfig, batch: dict[str, Tensor]
) -> Tensor:
    """Mean squared error of rollouts of a part of a batch."""
    shown, frames = config.rollout_shown, config.rollout_frames
    B, T = batch["obs"].shape[:2]
    latest = T - shown - frames
    if latest < 0:
        raise ValueError(
            f"rollouts of {shown} frames that are shown and {frames} that are imagined need "
            f"sequences of {shown + frames}, got {T}; lower rollout_frames or rollout_shown"
        )
    start = 0
    if config.rollout_start:
        if "u" not in batch:
            raise ValueError(
                "rollout_start draws by the batch's uniform numbers u, but there are none; give "
                "them, as SequenceSampler does, or set rollout_start=0"
            )
        choices = min(config.rollout_start, latest) + 1
        start = min(int(batch["u"][0, -1] * choices), choices - 1)
    rows, now = math.ceil(config.rollout_share * B), start + shown
    obs = batch["obs"][:rows, start : now + frames]
    action = frame_actions(batch["obs"], batch.get("action"), model.action_size)
    action = action[:rows, start : now + frames]
    state = model.observe(obs[:, :shown], action[:, :shown])
    times = [float(t) for t in range(1, frames + 1)]
    imagined = model.imagine(state, times, *actions_ahead(action, shown - 1))
    missed = decoder.relative(imagined.obs - obs[:, shown:]).square()
    if "length" not in batch:
        return missed.mean()
    ends = batch["length"][:rows].unsqueeze(1)
    real = torch.arange(now, now + frames, device=obs.device) < ends
    # All of the part may have ended before.
    return (missed.mean(dim=-1) * real).sum() / real.sum().clamp_min(1)
