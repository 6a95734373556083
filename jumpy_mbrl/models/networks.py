"""Building blocks shared by the recurrent models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import check_count

_FEW = 32


class ResidualMLP(nn.Module):
    """Residual multilayer perceptron: with ReLU, the papers' encoder and decoder (section 3).

    The first of at least 2 linear ``layers`` changes the width, each inner layer adds to what it
    reads, the last has no ``activation``. Inputs are first divided, and outputs multiplied last, by
    one positive number or one for each. Under autocast, layers that read or write only a few
    numbers keep their precision.
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
    kind, few = inputs.device.type, min(layer.in_features, layer.out_features) <= _FEW
    if not few or not torch.is_autocast_enabled(kind):
        return nn.functional.linear(inputs, layer.weight, layer.bias)
    with torch.autocast(kind, enabled=False):
        return nn.functional.linear(inputs.to(layer.weight.dtype), layer.weight, layer.bias)


def _factors(factors: tuple[float, ...]) -> Tensor | None:
    """None if they change nothing."""
    return None if set(factors) == {1.0} else torch.tensor(factors)


def gauss_newton(slope: Tensor, miss: Tensor, damping: float) -> Tensor:
    """The damped step (..., n) that takes most off the misses (..., M), given their slopes
    (..., n, M) with respect to n numbers; to be subtracted from these.

    Never raises: where there is none, it is not finite. Half precision, in which torch solves
    nothing, is solved in float32.
    """
    kind = torch.promote_types(slope.dtype, torch.float32)
    ridge = damping * torch.eye(slope.shape[-2], dtype=kind, device=slope.device)
    square, right = slope @ slope.mT, slope @ miss.unsqueeze(-1)
    solved, _ = torch.linalg.solve_ex(square.to(kind) + ridge, right.to(kind))
    step: Tensor = solved.squeeze(-1).to(slope.dtype)
    return step


def gru_update(input_gates: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A new hidden state (B, H), as of ``nn.GRUCell``, by its recurrent weights (3H, H) and bias.

    The gates' part of the inputs, W_i x + b_i, is already known: (B, 3H).
    """
    size = hidden.shape[1]
    gates = torch.addmm(bias, hidden, weight.t())
    opened = (input_gates[:, : 2 * size] + gates[:, : 2 * size]).sigmoid()
    reset, update = opened.chunk(2, dim=1)
    candidate = torch.addcmul(input_gates[:, 2 * size :], reset, gates[:, 2 * size :]).tanh()
    kind = hidden.dtype  # What is carried on keeps its precision where the gates have a lower one.
    return torch.lerp(candidate.to(kind), hidden, update.to(kind))


def check_sizes(config: object, names: Iterable[str], low: int = 1) -> None:
    """Raises ``ValueError`` unless the named fields of ``config`` are integers from ``low`` on."""
    for name in names:
        check_count(name, getattr(config, name), low)


def check_tuple(config: Any, name: str, positive: bool = False) -> None:
    """Makes a field a tuple of finite numbers, as JSON gives lists: one for all observations, or D.

    `ValueError` for other counts, or numbers that are not finite, or not ``positive``.
    """
    values = tuple(float(value) for value in getattr(config, name))
    object.__setattr__(config, name, values)
    if len(values) not in (1, config.obs_size):
        raise ValueError(f"expected {name} to have 1 or {config.obs_size} numbers, got {values}")
    if not all(math.isfinite(value) and (value > 0.0 or not positive) for value in values):
        kind = "positive and finite" if positive else "finite"
        raise ValueError(f"expected {name} to be {kind}, got {values}")
