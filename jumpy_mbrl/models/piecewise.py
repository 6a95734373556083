"""Rollouts of models whose latent moves in straight lines between ticks (2021 paper, eq. 4-6)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State, WorldModel
from jumpy_mbrl.pieces import Pieces


class PiecewiseLinearModel(WorldModel):
    """A jumpy world model: tick, leap along a straight latent line, tick again.

    A subclass gives ``tick`` (new latent, latent velocity and duration) and ``decode``.

    Attributes:
        max_ticks: bound on the ticks of one rollout; the last line is then followed to the end,
            unless ``_out_of_ticks`` refuses.
    """

    max_ticks: int = 4096

    @abstractmethod
    def tick(self, state: State, action: Tensor | None = None) -> State:
        """One recurrent update at the state's moment.

        Returns the state at the same moment with a new line: ``hidden``, ``velocity`` and, in
        ``remaining``, the duration (at least 0 frames) for which it holds.
        """

    @abstractmethod
    def decode(self, hidden: Tensor) -> Tensor:
        """Latents (..., H) to observations (..., D)."""

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        if action is not None:
            state = self.tick(state, action)
        lines = Pieces(torch.zeros_like(state.remaining), state)
        rows, clock = lines.last, lines.last_start
        for _ in range(self._most_ticks(end)):
            going = (clock + state.remaining < end).nonzero().squeeze(1)
            if not len(going):
                break
            if len(going) < len(rows):
                rows, clock = rows.index_select(0, going), clock.index_select(0, going)
                state = state.take(going)
            clock = clock + state.remaining
            state = self.tick(self._arrive(state))
            lines.add(rows, clock, state)
        else:
            if bool((clock + state.remaining < end).any()):
                self._out_of_ticks()
        number, elapsed = lines.find(times)
        all_lines = type(state).cat(lines.contents)
        obs = self.decode_lines(all_lines, number.flatten(), elapsed.flatten())
        return Imagined(
            obs=obs.unflatten(0, number.shape),
            tick_times=lines.starts[:, 0 if action is not None else 1 :],
            state=self.leap(all_lines.take(lines.last), end - lines.last_start),
        )

    def _most_ticks(self, frames: float) -> int:
        """Bound on the ticks of a rollout of so many frames."""
        return self.max_ticks

    def _out_of_ticks(self) -> None:
        """Called where a rollout has had so many and would tick on."""

    def _arrive(self, state: State) -> State:
        """``leap`` to the end of the line, where the model ticks."""
        return self.leap(state, state.remaining)

    def leap(self, state: State, duration: Tensor) -> State:
        """Follows the state's line for ``duration`` (B,) frames, without ticking."""
        hidden = state.hidden + state.velocity * duration.unsqueeze(-1)
        # Where no time passes, what was observed stays: it may be a real frame, not a decoded one.
        stays = (duration == 0.0).unsqueeze(-1)
        return replace(
            state,
            hidden=hidden,
            remaining=state.remaining - duration,
            obs=torch.where(stays, state.obs, self.decode(hidden)),
        )

    def decode_lines(self, state: State, rows: Tensor, elapsed: Tensor) -> Tensor:
        """Observations (Q, D) on the lines of the rows numbered ``rows`` (Q,) of a state,
        ``elapsed`` (Q,) frames after its moment."""
        hidden = state.hidden.index_select(0, rows)
        velocity = state.velocity.index_select(0, rows)
        return self.decode(torch.addcmul(hidden, velocity, elapsed.unsqueeze(1)))

    def parts(self) -> dict[str, Callable[..., Any]]:
        return {"act": self.tick, "leap": self.leap, "tick": self.tick, "decoder": self.decode}
