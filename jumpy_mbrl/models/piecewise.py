"""Rollouts of models whose latent moves in straight lines between ticks (2021 paper, eq. 4-6)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State, WorldModel


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

    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        if action is not None:
            state = self.tick(state, action)
        lines = _Lines(state, ticked=action is not None)
        rows = torch.arange(state.batch_size, device=state.hidden.device)
        clock = torch.zeros_like(state.remaining)
        for _ in range(self._most_ticks(end)):
            arrival = clock + state.remaining
            going = arrival < end
            left = int(going.sum())
            if left == 0:
                break
            if left < rows.numel():
                rows, clock, state = rows[going], clock[going], state[going]
            clock = clock + state.remaining
            state = self.tick(self.leap(state, state.remaining))
            lines.add(rows, clock, state)
        else:
            if bool((clock + state.remaining < end).any()):
                self._out_of_ticks()
        return lines.read(self, times, end)

    def _most_ticks(self, frames: float) -> int:
        """Bound on the ticks of a rollout of so many frames."""
        return self.max_ticks

    def _out_of_ticks(self) -> None:
        """Called where a rollout has had so many and would tick on."""

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


class _Lines:
    """The lines of B rollouts as they grow, and their values at any time."""

    def __init__(self, state: State, ticked: bool) -> None:
        number = torch.arange(state.batch_size, device=state.hidden.device)
        self._blocks = [state]
        self._count = state.batch_size
        self._starts = [torch.zeros_like(state.remaining)]
        self._numbers = [number]  # Of the lines, in the order of the blocks.
        self._last_start = self._starts[0]
        self._ticked = ticked

    def add(self, rows: Tensor, start: Tensor, state: State) -> None:
        """A new line for the rollouts numbered ``rows``, from their time ``start`` on."""
        number = torch.arange(self._count, self._count + len(rows), device=rows.device)
        self._blocks.append(state)
        self._count += len(rows)
        last = self._numbers[-1]
        if len(rows) == len(last):
            self._last_start = start
            self._starts.append(start)
            self._numbers.append(number)
            return
        self._last_start = self._last_start.index_copy(0, rows, start)
        nowhere = torch.full_like(self._last_start, torch.inf)
        self._starts.append(nowhere.index_copy(0, rows, start))
        self._numbers.append(last.index_copy(0, rows, number))

    def read(self, model: PiecewiseLinearModel, times: Tensor, end: float) -> Imagined:
        starts, numbers = torch.stack(self._starts, dim=1), torch.stack(self._numbers, dim=1)
        lines = type(self._blocks[0]).cat(self._blocks)
        B, K = len(starts), len(times)
        # At a tick's own moment the line before it answers.
        query = times.expand(B, K).contiguous()
        place = (torch.searchsorted(starts.detach(), query) - 1).clamp_min(0)
        elapsed = query - starts.gather(1, place)
        obs = model.decode_lines(lines, numbers.gather(1, place).flatten(), elapsed.flatten())
        final = lines.map(lambda part: part.index_select(0, numbers[:, -1]))
        return Imagined(
            obs=obs.unflatten(0, (B, K)),
            tick_times=starts[:, 0 if self._ticked else 1 :],
            state=model.leap(final, end - self._last_start),
        )
