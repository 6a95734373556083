"""Building blocks shared by the recurrent models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.data.loading import actions_ahead
from jumpy_mbrl.models.base import WorldModel

_FEW = 32


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


class ResidualMLP(nn.Module):
    """Residual multilayer perceptron: with ReLU, the papers' encoder and decoder (section 3).

    The first layer changes the width, each inner layer adds to what it reads, the last is linear.
    Under autocast, layers that read or write only a few numbers keep their precision.

    Args:
        inputs: size of the input vectors.
        outputs: size of the output vectors.
        hidden: width of the inner layers.
        layers: number of linear layers, at least 2.
        activation: between the layers.
        divide: what the inputs are divided by first, one positive number or one for each.
        multiply: what the outputs are multiplied by last, likewise.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int = 128,
        layers: int = 4,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        divide: tuple[float, ...] = (1.0,),
        multiply: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        self.divide: Tensor | None
        self.multiply: Tensor | None
        self.register_buffer("divide", _factors(divide), persistent=False)
        self.register_buffer("multiply", _factors(multiply), persistent=False)
        self.activation = activation
        if layers < 2:
            raise ValueError(f"layers must be at least 2 (first and last), got {layers}")
        self.first = nn.Linear(inputs, hidden)
        self.inner = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 2))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        if self.divide is not None:
            inputs = inputs / self.divide
        return self.after_first(_exact(self.first, inputs))

    def after_first(self, hidden: Tensor) -> Tensor:
        """What follows from what the first layer makes of the inputs, which is linear in them."""
        hidden = self.activation(hidden)
        for layer in self.inner:
            hidden = hidden + self.activation(layer(hidden))
        out = _exact(self.last, hidden)
        return out if self.multiply is None else out * self.multiply

    def relative(self, error: Tensor) -> Tensor:
        """Errors (..., outputs) of the outputs, before they are multiplied."""
        return error if self.multiply is None else error / self.multiply


def _exact(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """What the layer makes of ``inputs``, not in a lower precision if few numbers go in or out.

    Those are coordinates, for which bfloat16 is too coarse, and their layers cost next to nothing.
    """
    out: Tensor
    if min(layer.in_features, layer.out_features) > _FEW or not torch.is_autocast_enabled(
        inputs.device.type
    ):
        out = layer(inputs)
        return out
    with torch.autocast(inputs.device.type, enabled=False):
        out = layer(inputs.to(layer.weight.dtype))
    return out


def _factors(factors: tuple[float, ...]) -> Tensor | None:
    """None if they change nothing."""
    return None if set(factors) == {1.0} else torch.tensor(factors)


def solve_damped(square: Tensor, right: Tensor, damping: float) -> Tensor:
    """The solutions (..., n) of (square + damping * 1) x = right, for a step of Gauss-Newton.

    Never raises: where there is none, it is not finite. Half precision, in which torch solves
    nothing, is solved in float32.

    Args:
        square: (..., n, n).
        right: (..., n).
        damping: added on the diagonal.
    """
    kind = torch.promote_types(square.dtype, torch.float32)
    ridge = damping * torch.eye(square.shape[-1], dtype=kind, device=square.device)
    solved, _ = torch.linalg.solve_ex(square.to(kind) + ridge, right.to(kind).unsqueeze(-1))
    step: Tensor = solved.squeeze(-1).to(square.dtype)
    return step


def gru_update(input_gates: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One GRU update whose input part, W_i x + b_i, is already known.

    Args:
        input_gates: (B, 3H), rows of reset, update and candidate gates as in ``nn.GRUCell``.
        hidden: (B, H).
        weight: recurrent weights, (3H, H).
        bias: recurrent biases, (3H,).

    Returns:
        The new hidden state, (B, H).
    """
    size = hidden.shape[1]
    gates = torch.addmm(bias, hidden, weight.t())
    opened = (input_gates[:, : 2 * size] + gates[:, : 2 * size]).sigmoid()
    reset, update = opened.chunk(2, dim=1)
    candidate = torch.addcmul(input_gates[:, 2 * size :], reset, gates[:, 2 * size :]).tanh()
    kind = hidden.dtype  # What is carried on keeps its precision where the gates have a lower one.
    return torch.lerp(candidate.to(kind), hidden, update.to(kind))


def frame_actions(obs: Tensor, action: Tensor | None, action_size: int) -> Tensor:
    """The actions (B, T, A) that go with the frames ``obs`` (B, T, D): zeros if None was given.

    Raises:
        ValueError: if ``action`` has another shape.
    """
    expected = (*obs.shape[:2], action_size)
    if action is None:
        return obs.new_zeros(expected)
    if tuple(action.shape) != expected:
        raise ValueError(
            f"action must have shape {expected}, one action for each frame of obs, got "
            f"{tuple(action.shape)}; leave it out where nothing was done"
        )
    return action


def foreseen(obs: Tensor, length: Tensor | None) -> Tensor | None:
    """Which of the frames after the first of ``obs`` (B, T, D) are real, (B, T-1) bool.

    None if all are: without the ``length`` (B,) of the sequences.
    """
    if length is None:
        return None
    return torch.arange(1, obs.shape[1], device=obs.device) < length.unsqueeze(1)


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


def check_sizes(config: object, names: Iterable[str]) -> None:
    """Raises ``ValueError`` unless the named fields of ``config`` are integers of at least 1."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def check_numbers(config: Any, name: str, positive: bool = False) -> None:
    """Makes a field a tuple of numbers, as JSON gives lists: one for all observations, or D.

    Raises:
        ValueError: for other counts, or numbers that are not finite, or not positive.
    """
    values = tuple(float(value) for value in getattr(config, name))
    object.__setattr__(config, name, values)
    if len(values) not in (1, config.obs_size):
        raise ValueError(f"{name} must have 1 or {config.obs_size} numbers, got {values}")
    if not all(math.isfinite(value) and (value > 0.0 or not positive) for value in values):
        kind = "positive and finite" if positive else "finite"
        raise ValueError(f"{name} must be {kind}, got {values}")
