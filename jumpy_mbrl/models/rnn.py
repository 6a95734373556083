"""The papers' baseline: a recurrent network that ticks once every frame (section 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.models.base import Imagined, State, check_frames, like_of
from jumpy_mbrl.models.recurrent import RecurrentConfig, RecurrentModel, frame_actions, mean_where


@dataclass(frozen=True)
class RNNConfig(RecurrentConfig):
    """Sizes of an ``RNN``; see ``RecurrentConfig``.

    Attributes:
        residual: decode the change since the last frame (True), or the frame itself (the paper).
        scale: what networks divide observations by, and multiply what they predict by, one
            positive number or D; the loss is that of numbers so divided.
    """

    residual: bool = True
    scale: tuple[float, ...] = (1.0,)


class RNN(RecurrentModel):
    """h_t = GRU(h_{t-1}, [phi(x_t), a_t]), x_{t+1} = f(h_t), or x_t + f(h_t).

    In a ``State``, ``hidden`` is the GRU's after its last tick, ``velocity`` is zero (the latent
    rests between ticks) and ``obs`` is the frame that the next tick will read. Between two frames
    predictions are interpolated.
    """

    config: RNNConfig

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config, config.scale)
        self.gru = nn.GRU(config.mlp_size + config.action_size, config.hidden_size)
        self.decoder = self._decoder(config.hidden_size)

    def _gru(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weights: Any = self.gru.all_weights[0]
        return (*weights,)

    def initial_state(self, batch_size: int) -> State:
        hidden = like_of(self).new_zeros(batch_size, self.config.hidden_size)
        obs = hidden.new_full((batch_size, self.obs_size), 0.5)
        return State(hidden, torch.zeros_like(hidden), hidden.new_zeros(batch_size), obs)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``. Reads all frames but the last, which waits in ``obs``."""
        check_frames(obs, self.obs_size, self.min_frames)
        action = frame_actions(obs, action, self.action_size)
        state = replace(self.initial_state(obs.shape[0]), obs=obs[:, -1])
        if obs.shape[1] == 1:
            return state
        return replace(state, hidden=self._teacher_forced(obs[:, :-1], action[:, :-1])[:, -1])

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of all one-frame predictions under teacher forcing."""
        obs, action, real, weight = self._frames_of(batch)
        hidden = self._teacher_forced(obs[:, :-1], action[:, :-1])
        predicted = self._next_frame(hidden, obs[:, :-1])
        error = self.decoder.relative(predicted - obs[:, 1:]).square()
        prediction = mean_where(error, real)
        log = {"prediction": prediction, "mean_jump": torch.ones_like(prediction)}
        return mean_where(error, weight), log

    def _teacher_forced(self, obs: Tensor, action: Tensor) -> Tensor:
        """Hidden states (B, T, H) after reading real frames (B, T, D) and actions (B, T, A)."""
        inputs = torch.cat([self.encoder(obs), action], dim=-1)
        hidden: Tensor = self.gru(inputs.transpose(0, 1))[0]
        return hidden.transpose(0, 1)

    def _tick(self, hidden: Tensor, obs: Tensor, action: Tensor | None) -> Tensor:
        return self._update(self._input_gates(obs, action), hidden)

    def _next(self, state: State, action: Tensor | None = None) -> State:
        """Reads the frame and the action, or none, and goes on to the next frame."""
        hidden = self._tick(state.hidden, state.obs, action)
        return replace(state, hidden=hidden, obs=self._next_frame(hidden, state.obs))

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        clock = _frames_to_tick(state)
        if action is not None and clock > 0.0:
            raise ValueError(
                f"an RNN takes actions only at whole frames, got one {clock:g} frames before the "
                "next; give it there, or use a jumpy model"
            )
        nodes, frames, ticks = [0.0], [state.obs], list[float]()
        if clock > 0.0:
            state = replace(state, obs=self._next_frame(state.hidden, state.obs, clock))
            nodes.append(clock)
            frames.append(state.obs)
        while clock < end or action is not None:
            state = self._next(state, action)
            action = None
            ticks.append(clock)
            clock += 1.0
            nodes.append(clock)
            frames.append(state.obs)
        wanted = torch.cat([times, times.new_tensor([end])])
        read = _interpolate(times.new_tensor(nodes), torch.stack(frames, dim=1), wanted)
        remaining = torch.full_like(state.remaining, clock - end)
        tick_times = times.new_tensor(ticks).expand(state.batch_size, len(ticks))
        final = replace(state, remaining=remaining, obs=read[:, -1])
        return Imagined(read[:, :-1], tick_times, final)

    def _next_frame(self, hidden: Tensor, obs: Tensor, ahead: float = 1.0) -> Tensor:
        """The next whole frame, which lies ``ahead`` (at most 1) of the prediction ``obs``."""
        change: Tensor = self.decoder(hidden)
        return torch.add(obs, change, alpha=ahead) if self.config.residual else change

    def parts(self) -> dict[str, Callable[..., Any]]:
        parts = super().parts()
        return {**parts, "observe": self._observe_by_ticks, "act": self._next, "tick": self._next}

    def _observe_by_ticks(self, frames: Tensor) -> State:
        """``observe`` without ``nn.GRU``, which cannot be recorded as a whole."""
        state = self.initial_state(frames.shape[0])
        for frame in frames[:, :-1].unbind(dim=1):
            state = replace(state, hidden=self._tick(state.hidden, frame, None))
        return replace(state, obs=frames[:, -1])


def _frames_to_tick(state: State) -> float:
    """Frames until the next tick, which must be the same for all rows."""
    if state.batch_size == 0:
        return 0.0
    remaining = state.remaining.detach()
    if bool((remaining != remaining[0]).any()):
        raise ValueError(
            "an RNN ticks at whole frames, so all rows of its state must be as far from the next "
            f"one, got from {float(remaining.min()):g} to {float(remaining.max()):g} frames; "
            "imagine them apart"
        )
    return float(remaining[0])


def _interpolate(nodes: Tensor, values: Tensor, times: Tensor) -> Tensor:
    """Linear interpolation: nodes (M,), values (B, M, D), times (K,) -> (B, K, D)."""
    if nodes.numel() == 1:
        return values.expand(-1, times.numel(), -1)
    right = torch.searchsorted(nodes, times).clamp(1, nodes.numel() - 1)
    left = right - 1
    weight = (times - nodes[left]) / (nodes[right] - nodes[left])
    return torch.lerp(values[:, left], values[:, right], weight.unsqueeze(-1))
