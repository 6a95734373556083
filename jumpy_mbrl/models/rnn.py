"""The papers' baseline: a recurrent network that ticks once every frame (section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jumpy_mbrl.models.base import Imagined, State, WorldModel, check_frames
from jumpy_mbrl.models.losses import LossConfig, loss_weights, mean_where
from jumpy_mbrl.models.networks import (
    ResidualMLP,
    check_numbers,
    check_sizes,
    foreseen,
    frame_actions,
    gru_update,
)


@dataclass(frozen=True)
class RNNConfig(LossConfig):
    """Sizes of an ``RNN``; what its loss can weigh is told by ``LossConfig``.

    Attributes:
        obs_size: D, twice the number of balls.
        action_size: A, 0 for a world without actions.
        hidden_size: H of the GRU. (Paper: 128.)
        mlp_size: width of encoder and decoder. (Paper: 128.)
        mlp_layers: linear layers of encoder and decoder. (Paper: 4.)
        residual: decode the change since the last frame (True), or the frame itself (the paper).
        scale: what networks divide observations by, and multiply what they predict by, one
            positive number or D; the loss is that of numbers so divided.
    """

    obs_size: int = 4
    action_size: int = 2
    hidden_size: int = 128
    mlp_size: int = 128
    mlp_layers: int = 4
    residual: bool = True
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("obs_size", "hidden_size", "mlp_size", "mlp_layers"))
        if self.action_size < 0:
            raise ValueError(f"action_size must not be negative, got {self.action_size}")
        check_numbers(self, "scale", positive=True)


class RNN(WorldModel):
    """h_t = GRU(h_{t-1}, [phi(x_t), a_t]), x_{t+1} = f(h_t), or x_t + f(h_t).

    In a ``State``, ``hidden`` is the GRU's after its last tick, ``velocity`` is zero (the latent
    rests between ticks) and ``obs`` is the frame that the next tick will read. Between two frames
    predictions are interpolated.
    """

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.config = config
        self.obs_size = config.obs_size
        self.action_size = config.action_size
        width, layers, scale = config.mlp_size, config.mlp_layers, config.scale
        self.encoder = ResidualMLP(config.obs_size, width, width, layers, divide=scale)
        self.gru = nn.GRU(width + config.action_size, config.hidden_size)
        self.decoder = ResidualMLP(
            config.hidden_size, config.obs_size, width, layers, multiply=scale
        )

    def initial_state(self, batch_size: int) -> State:
        like = next(self.parameters())
        hidden = like.new_zeros(batch_size, self.config.hidden_size)
        return State(
            hidden=hidden,
            velocity=torch.zeros_like(hidden),
            remaining=like.new_zeros(batch_size),
            obs=like.new_full((batch_size, self.obs_size), 0.5),
        )

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``. Reads all frames but the last, which waits in ``obs``."""
        check_frames(obs, self.obs_size, min_frames=1)
        action = frame_actions(obs, action, self.action_size)
        state = self.initial_state(obs.shape[0])
        hidden = state.hidden
        if obs.shape[1] > 1:
            hidden = self._teacher_forced(obs[:, :-1], action[:, :-1])[:, -1]
        return State(hidden, state.velocity, state.remaining, obs[:, -1])

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of all one-frame predictions under teacher forcing.

        By the config (see ``LossConfig``), those right after an action may count more than others.
        Logged is the plain mean.

        ``batch`` comes from ``jumpy_mbrl.data.sampling.SequenceSampler``. What is beyond the end of
        a sequence counts for nothing.
        """
        obs, action = batch["obs"], batch["action"]
        hidden = self._teacher_forced(obs[:, :-1], action[:, :-1])
        predicted = self._next_frame(hidden, obs[:, :-1])
        error = self.decoder.relative(predicted - obs[:, 1:]).square()
        real = foreseen(obs, batch.get("length"))
        prediction = mean_where(error, real)
        loss = mean_where(error, loss_weights(self.config, obs, action, real))
        log = {"prediction": prediction, "mean_jump": torch.ones_like(prediction)}
        return loss, log

    def _teacher_forced(self, obs: Tensor, action: Tensor) -> Tensor:
        """Hidden states (B, T, H) after reading real frames (B, T, D) and actions (B, T, A)."""
        inputs = torch.cat([self.encoder(obs), action], dim=-1)
        hidden: Tensor = self.gru(inputs.transpose(0, 1))[0]
        return hidden.transpose(0, 1)

    def _tick(self, hidden: Tensor, obs: Tensor, action: Tensor | None) -> Tensor:
        input_weight, weight, input_bias, bias = self.gru.all_weights[0]
        width = self.config.mlp_size
        gates = nn.functional.linear(self.encoder(obs), input_weight[:, :width], input_bias)
        if action is not None:
            gates = gates + nn.functional.linear(action, input_weight[:, width:])
        return gru_update(gates, hidden, weight, bias)

    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        clock = _frames_to_tick(state)
        if action is not None and clock > 0.0:
            raise ValueError(
                f"an RNN takes actions only at whole frames, got one {clock:g} frames before the "
                "next; give it there, or use a jumpy model"
            )
        hidden, obs = state.hidden, state.obs
        nodes, frames, ticks = [0.0], [obs], list[float]()
        if clock > 0.0:
            obs = self._next_frame(hidden, obs, clock)
            nodes.append(clock)
            frames.append(obs)
        while clock < end or action is not None:
            hidden = self._tick(hidden, obs, action)
            obs = self._next_frame(hidden, obs)
            action = None
            ticks.append(clock)
            clock += 1.0
            nodes.append(clock)
            frames.append(obs)
        wanted = torch.cat([times, times.new_tensor([end])])
        read = _interpolate(times.new_tensor(nodes), torch.stack(frames, dim=1), wanted)
        final = State(
            hidden=hidden,
            velocity=state.velocity,
            remaining=torch.full_like(state.remaining, clock - end),
            obs=read[:, -1],
        )
        tick_times = times.new_tensor(ticks).expand(state.batch_size, len(ticks))
        return Imagined(read[:, :-1], tick_times, final)

    def _next_frame(self, hidden: Tensor, obs: Tensor, ahead: float = 1.0) -> Tensor:
        """The next whole frame, which lies ``ahead`` (at most 1) of the prediction ``obs``."""
        change: Tensor = self.decoder(hidden)
        return torch.add(obs, change, alpha=ahead) if self.config.residual else change


def _frames_to_tick(state: State) -> float:
    """Frames until the next tick, which must be the same for all rows."""
    if state.batch_size == 0:
        return 0.0
    remaining = state.remaining.detach()
    first = float(remaining[0])
    if bool((remaining != remaining[0]).any()):
        raise ValueError(
            "an RNN ticks at whole frames, so all rows of its state must be as far from the next "
            f"one, got from {float(remaining.min()):g} to {float(remaining.max()):g} frames; "
            "imagine them apart"
        )
    return first


def _interpolate(nodes: Tensor, values: Tensor, times: Tensor) -> Tensor:
    """Linear interpolation: nodes (M,), values (B, M, D), times (K,) -> (B, K, D)."""
    if nodes.numel() == 1:
        return values.expand(-1, times.numel(), -1)
    right = torch.searchsorted(nodes, times).clamp(1, nodes.numel() - 1)
    left = right - 1
    weight = (times - nodes[left]) / (nodes[right] - nodes[left])
    return torch.lerp(values[:, left], values[:, right], weight.unsqueeze(-1))
