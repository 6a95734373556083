"""What the recurrent models share: sizes, networks, and how much each frame counts in a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import check_number
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.networks import ResidualMLP, check_sizes, check_tuple, gru_update


@dataclass(frozen=True)
class LossConfig:
    """Weights in the losses of recurrent models.

    Attributes:
        burn_in: predictions from fewer real frames than this count for nothing, at least 1. A
            velocity cannot be known from one frame, and what cannot be known drowns what can.
        action_weight: how many times as much the squared errors count that follow from a tick which
            reads an action, up to the next tick on real frames.
    """

    burn_in: int = field(default=1, kw_only=True)
    action_weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        check_number("action_weight", self.action_weight, 0.0, open_low=True)
        check_sizes(self, ("burn_in",))


@dataclass(frozen=True)
class RecurrentConfig(LossConfig):
    """Sizes of a recurrent model; ``LossConfig`` has the weights of its loss.

    Each kind has two more fields, its last: ``residual`` and ``scale``, as of ``RNNConfig``.

    Attributes:
        obs_size: D, for balls twice their number.
        action_size: A, 0 for a world without actions.
        hidden_size: H of the GRU. (Paper: 128.)
        mlp_size: width of encoder and decoder. (Paper: 128.)
        mlp_layers: linear layers of encoder and decoder. (Paper: 4.)
    """

    obs_size: int = 4
    action_size: int = 2
    hidden_size: int = 128
    mlp_size: int = 128
    mlp_layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("obs_size", "hidden_size", "mlp_size", "mlp_layers"))
        check_sizes(self, ("action_size",), low=0)
        check_tuple(self, "scale", positive=True)


class RecurrentModel(WorldModel):
    """An encoder, gates of a GRU, and a decoder that a subclass makes with ``_decoder``.

    Batches for ``loss`` come from ``jumpy_mbrl.data.sampling.SequenceSampler``; what is beyond the
    end of a sequence counts for nothing, and by ``LossConfig`` errors that follow from an action
    may count more than others. Logged are plain means.
    """

    min_frames = 1
    config: RecurrentConfig
    decoder: ResidualMLP

    def __init__(self, config: RecurrentConfig, scale: tuple[float, ...]) -> None:
        super().__init__()
        self.config = config
        self.obs_size = config.obs_size
        self.action_size = config.action_size
        self._sizes = config.mlp_size, config.mlp_layers
        self._scale = scale
        self.encoder = ResidualMLP(config.obs_size, config.mlp_size, *self._sizes, divide=scale)

    def _decoder(self, inputs: int) -> ResidualMLP:
        return ResidualMLP(inputs, self.obs_size, *self._sizes, multiply=self._scale)

    def _gru(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of inputs, (3H, width + A), and of the hidden state, (3H, H), and the biases."""
        cell: Any = self.cell
        return cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh

    def _input_gates(self, obs: Tensor, action: Tensor | None) -> Tensor:
        """The part of the gates that observations (..., D) and actions (..., A) decide."""
        weight, _, bias, _ = self._gru()
        width = self._sizes[0]
        gates = nn.functional.linear(self.encoder(obs), weight[:, :width], bias)
        if action is None:
            return gates
        return gates + nn.functional.linear(action, weight[:, width:])

    def _update(self, gates: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state (B, H), by the gates' part of the inputs."""
        _, weight, _, bias = self._gru()
        return gru_update(gates, hidden, weight, bias)

    def _frames_of(
        self, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Frames and actions of a batch, which frames are real, and how much predictions count."""
        obs = batch["obs"]
        action = frame_actions(obs, batch.get("action"), self.action_size)
        real = foreseen(obs, batch.get("length"))
        return obs, action, real, loss_weights(self.config, obs, action, real)

    def parts(self) -> dict[str, Callable[..., Any]]:
        return {"encoder": self.encoder, "decoder": self.decoder}


def frame_actions(obs: Tensor, action: Tensor | None, action_size: int) -> Tensor:
    """The actions (B, T, A) that go with the frames ``obs`` (B, T, D): zeros if None was given.

    `ValueError` if ``action`` has another shape.
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

    Those that are not ``real`` (see `foreseen`) count for nothing. `ValueError` if ``burn_in``
    leaves no frame.
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
