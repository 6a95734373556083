"""Models whose latent is every ball's position and velocity, and whose ticks are events.

Balls on a line (``axes = 1``, D = N) are balls in the plane that stay at x = 0.5.

Letters: B batch, N balls, P pairs, D = 2N or N. Time in frames, velocities per frame.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.models.base import State, check_frames, like_of, own_state
from jumpy_mbrl.models.bodies.state_estimation import estimate
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel

_LEAST_BOUND = 64


@dataclass(frozen=True)
class EventState(State):
    """A state that knows which event ends its line.

    Attributes:
        event: (B,) int64: ``2 * ball + axis`` for an event of one ball, ``2 * N + pair`` for two
            (pairs in the order of ``torch.triu_indices``), -1 for none within the horizon.
    """

    event: Tensor


class EventDrivenModel(PiecewiseLinearModel):
    """Straight lines between events; a subclass says when the next one is and what follows it.

    Attributes:
        horizon: longest jump, in frames.
        max_ticks: as for any jumpy model. A rollout has also at most one tick in two frames for
            each ball and each pair of balls, or 64 if that is more: real tables stay far below.
        axes: coordinates of a ball in an observation: 2, or 1 (y alone) for balls on a line.
    """

    horizon: float = 100.0
    axes: int = 2

    @property
    def on_line(self) -> bool:  # type: ignore[override]
        return self.axes == 1

    def _most_ticks(self, frames: float) -> int:
        """Few enough for a model that, before it has learned, sees events at every moment."""
        N = self.obs_size // self.axes
        surfaces = N + N * (N - 1) // 2
        return min(self.max_ticks, max(_LEAST_BOUND, math.ceil(0.5 * surfaces * frames)))

    @abstractmethod
    def next_event(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B,) until the next event, ``inf`` for none, and which it is, (B,) int64.

        Args:
            positions: (B, N, 2).
            velocities: (B, N, 2) per frame.
        """

    @abstractmethod
    def after_event(self, positions: Tensor, velocities: Tensor, event: Tensor) -> Tensor:
        """Velocities (B, N, 2) right after the event (B,), which may be -1 for none."""

    @abstractmethod
    def after_shot(self, velocity: Tensor, action: Tensor) -> Tensor:
        """The cue ball's velocity (B, 2) after an action (B, 2)."""

    def initial_state(self, batch_size: int) -> EventState:
        """Balls at rest in the middle of the table, where nothing has been seen yet."""
        positions = like_of(self).new_full((batch_size, self.obs_size), 0.5)
        return self.state_from(positions, torch.zeros_like(positions))

    def state_from(self, positions: Tensor, velocities: Tensor) -> EventState:
        """The state of balls at ``positions`` (B, D) moving at ``velocities`` (B, D) per frame."""
        return self._line_from(self._in_plane(positions, 0.5), self._in_plane(velocities, 0.0))

    def velocities_of(self, state: State) -> Tensor:
        """Velocities (B, D) per frame."""
        return self._observed(self._in_room(state.hidden)[1])

    def observe(self, obs: Tensor, action: Tensor | None = None) -> EventState:
        """See ``WorldModel.observe``; the velocities are those that fit the frames best."""
        check_frames(obs, self.obs_size, self.min_frames)
        return estimate(self, obs, action)

    def decode(self, hidden: Tensor) -> Tensor:
        return self._observed(hidden.chunk(2, dim=-1)[0])

    def _in_room(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and velocities (B, 2N) of latents (B, H)."""
        positions, velocities = hidden.chunk(2, dim=-1)
        return positions, velocities

    def _arrive(self, state: State) -> State:
        # Ticks read no observation, so none is decoded.
        path = state.velocity * state.remaining.unsqueeze(1)
        return replace(state, hidden=state.hidden + path)

    def tick(self, state: State, action: Tensor | None = None) -> EventState:
        """What follows the event that ends the line, or the action; then the next duration."""
        state = own_state(self, state, EventState)
        positions, velocities = self._in_room(state.hidden)
        if action is None:
            shape = (state.batch_size, positions.shape[1] // 2, 2)
            after = self.after_event(positions.view(shape), velocities.view(shape), state.event)
            return self._line_from(positions, after.flatten(1))
        cue = self.after_shot(velocities[:, :2], action)
        return self._line_from(positions, torch.cat([cue, velocities[:, 2:]], dim=1))

    def _line_from(self, positions: Tensor, velocities: Tensor) -> EventState:
        """The state of balls in the plane, (B, 2N) both."""
        shape = (positions.shape[0], positions.shape[1] // 2, 2)
        duration, event = self.next_event(positions.reshape(shape), velocities.reshape(shape))
        hidden = torch.cat([positions, velocities], dim=-1)
        return EventState(
            hidden=hidden,
            velocity=torch.cat([velocities, torch.zeros_like(velocities)], dim=-1),
            remaining=duration.clamp_max(self.horizon),
            obs=self._observed(positions),
            event=event.masked_fill(duration >= self.horizon, -1),
        )

    def _in_plane(self, values: Tensor, x: float) -> Tensor:
        """Values (..., D) of the coordinates with ``x`` for those not observed, (..., 2N)."""
        if self.axes == 2:
            return values
        return torch.stack([torch.full_like(values, x), values], dim=-1).flatten(-2)

    def _observed(self, planar: Tensor) -> Tensor:
        """Of values for all coordinates (..., 2N), those for the observed ones (..., D)."""
        return planar if self.axes == 2 else planar[..., 1::2]

    def parts(self) -> dict[str, Callable[..., Any]]:
        return {**super().parts(), "observe": self.observe_line}

    def observe_line(self, seen: Tensor, frames: Tensor | None = None) -> dict[str, Tensor]:
        """The state after places ``seen`` (B, T, D) between which nothing happens, as tensors.

        And ``error`` (B,), by how much they miss that line. ``frames`` (B, T, ...) are where the
        places were seen, if not themselves.
        """
        move = seen[:, -1] - seen[:, -2]
        ago = torch.arange(seen.shape[1] - 1, -1, -1, dtype=seen.dtype, device=seen.device)
        missed = seen[:, -1:] - ago.unsqueeze(1) * move.unsqueeze(1) - seen
        state = vars(self.state_from(seen[:, -1], move))
        obs = (seen if frames is None else frames)[:, -1]
        return {**state, "obs": obs, "error": missed.abs().amax(dim=(1, 2))}
