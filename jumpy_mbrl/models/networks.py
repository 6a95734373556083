"""Building blocks shared by the recurrent models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_FEW = 32


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
