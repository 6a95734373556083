"""The interface every world model shares: what a state is, and how the future is imagined.

Letters: B batch, T frames, D observation size, A action size, H hidden size,
K query times, M ticks. Time is in frames, counted from the state's own moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.sampling import Sampler, SequenceSampler


@dataclass(frozen=True)
class State:
    """B world-model states at one moment, "now".

    Attributes:
        hidden: latent at this moment, (B, H).
        velocity: change of the latent per frame until the next tick, (B, H).
        remaining: frames until the next tick, (B,); 0 when a tick is due.
        obs: observation at this moment, (B, D): the real one after ``observe``, else decoded.

    Models may subclass it with further tensors whose first dimension is B.
    """

    hidden: Tensor
    velocity: Tensor
    remaining: Tensor
    obs: Tensor

    @property
    def batch_size(self) -> int:
        return self.hidden.shape[0]

    def map(self, function: Any) -> Self:
        """The same state with ``function`` applied to every tensor."""
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The chosen rows (a slice, a boolean mask or an index tensor)."""
        return self.map(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Self:
        """Each row ``times`` times in succession: (B, ...) -> (B * times, ...)."""
        return self.map(lambda tensor: tensor.repeat_interleave(times, dim=0))

    def update_rows(self, rows: Tensor, other: State) -> Self:
        """This state with the rows numbered ``rows`` (int64) replaced by those of ``other``."""
        return replace(
            self,
            **{
                f.name: getattr(self, f.name).index_copy(0, rows, getattr(other, f.name))
                for f in fields(self)
            },
        )

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """The states one after the other along the batch."""
        tensors = {f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(cls)}
        return replace(states[0], **tensors)


@dataclass(frozen=True)
class Imagined:
    """An open-loop prediction.

    Attributes:
        obs: predicted observations at the query times, (B, K, D); without an action at 0, that
            of the state at 0.
        tick_times: when the model ticked, in frames, (B, M); rows with fewer ticks end in ``inf``.
        state: the state at the last query time.
    """

    obs: Tensor
    tick_times: Tensor
    state: State

    @property
    def ticks(self) -> Tensor:
        """Number of ticks of each rollout, (B,) int64."""
        return self.tick_times.isfinite().sum(dim=1)

    def lines(self, now: float = 0.0) -> Tensor:
        """Number of lines of each rollout that began at ``now``, (B,) int64.

        Each tick begins one; without a tick at ``now``, a line that the state had goes on first.
        """
        begun = (self.tick_times <= now).any(dim=1)
        return self.ticks + (~begun).long()

    def until(self, end: Tensor) -> Imagined:
        """The same prediction without the ticks at or after ``end`` (B,)."""
        ticks = self.tick_times.masked_fill(self.tick_times >= end.unsqueeze(1), torch.inf)
        return replace(self, tick_times=ticks)

    @property
    def durations(self) -> Tensor:
        """Frames from each tick to the next one, (B, M - 1); ``inf`` after the last tick."""
        return torch.where(
            self.tick_times[:, 1:].isfinite(),
            self.tick_times[:, 1:] - self.tick_times[:, :-1],
            torch.inf,
        )


class WorldModel(nn.Module, ABC):
    """A differentiable model of the world: filter real frames, then imagine what follows.

    Nothing here switches gradients off: a planner differentiates through ``imagine``.

    Attributes:
        obs_size: D.
        action_size: A; 0 for a model without actions.
        batch_kind: what the batches are made of that ``loss`` learns from, in a word.
        built_in: what it knows of its world before it has learned anything, in words.
        record: of a model that was loaded, what its folder says of ``data``, ``training`` and
            ``metrics``.
    """

    obs_size: int
    action_size: int
    batch_kind: str = "sequences"
    built_in: tuple[str, ...] = ()
    record: Mapping[str, Any] = MappingProxyType({})

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> Sampler:
        """What draws the batches for ``loss`` from data."""
        return SequenceSampler(data, device)

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before anything has been seen, for ``batch_size`` rollouts."""

    @abstractmethod
    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """Filters real frames.

        Args:
            obs: (B, T, D), one frame apart, the last one being "now".
            action: (B, T, A), the action taken at each frame; the last one is ignored, because
                what is done now is given to ``imagine``. None means no action.

        Returns:
            The state at the last frame, before any action taken there.

        Raises:
            TypeError: for what is no tensor.
            ValueError: wrong shape, too few frames, whole numbers (pictures lie between 0 and 1),
                or NaN.
        """

    @abstractmethod
    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        """``imagine`` for one action (B, A) taken now, with the state returned at ``end``."""

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss of a batch from ``sampler``, and scalars to log."""

    def imagine(
        self,
        state: State,
        times: Tensor | Sequence[float],
        action: Tensor | None = None,
        action_times: Sequence[float] = (0.0,),
    ) -> Imagined:
        """Predicts, open loop, the observations at any real times.

        Args:
            state: B states.
            times: (K,) query times in frames from now, ascending, not negative.
            action: (B, A) one action, or (B, M, A) one for each of ``action_times``. A jump
                under way is cut short by an action, and the model ticks.
            action_times: M ascending times in frames from now. Actions after the last of
                ``times`` change nothing.

        Raises:
            ValueError: times that descend or lie before now, or a wrong action shape.
        """
        times = torch.as_tensor(times, dtype=state.hidden.dtype, device=state.hidden.device)
        check_times(times)
        if action is None:
            return self._without_action(state, times, float(times[-1]))
        if not len(action_times):
            raise ValueError("expected a time for each action, got none; else give no action")
        actions = action.unsqueeze(1) if action.ndim == 2 else action
        expected = (state.batch_size, len(action_times), self.action_size)
        if tuple(actions.shape) != expected:
            raise ValueError(
                f"action must have shape {expected} (B, actions, A), got {tuple(actions.shape)}; "
                "give one action for each row of the state and each of action_times"
            )
        if float(action_times[0]) == 0.0 and len(action_times) == 1:
            return self._rollout(state, times, float(times[-1]), actions[:, 0])
        return self._imagine_pieces(state, times, actions, list(action_times))

    def _without_action(self, state: State, times: Tensor, end: float) -> Imagined:
        """``_rollout``; at 0 it gives what the state holds, which may be a real frame."""
        imagined = self._rollout(state, times, end, None)
        known = (times == 0.0).unsqueeze(-1)
        obs = torch.where(known, state.obs.unsqueeze(1), imagined.obs)
        return replace(imagined, obs=obs)

    def _imagine_pieces(
        self, state: State, times: Tensor, actions: Tensor, action_times: list[float]
    ) -> Imagined:
        check_times(as_tensor(action_times))
        last = float(times[-1])
        starts = [0.0, *action_times] if action_times[0] > 0 else list(action_times)
        first_action = len(starts) - len(action_times)
        pieces: list[Imagined] = []
        for index, start in enumerate(starts):
            if start > last:
                break
            final = index + 1 == len(starts) or starts[index + 1] > last
            stop = last if final else starts[index + 1]
            mask = (times >= start) & ((times <= stop) if final else (times < stop))
            ahead = times[mask] - start
            if index < first_action:
                piece = self._without_action(state, ahead, stop)
            else:
                action = actions[:, index - first_action]
                piece = self._rollout(state, ahead, stop - start, action)
            pieces.append(replace(piece, tick_times=piece.tick_times + start))
            state = piece.state
        ticks = torch.cat([piece.tick_times for piece in pieces], dim=1).sort(dim=1).values
        width = int(ticks.isfinite().sum(dim=1).max()) if ticks.numel() else 0
        obs = torch.cat([piece.obs for piece in pieces], dim=1)
        return Imagined(obs, ticks[:, :width], state)


def like_of(model: nn.Module) -> Tensor:
    """A tensor of the type and on the device of a model's weights: float32 on the CPU for none."""
    nothing = torch.zeros((), dtype=torch.float32, device="cpu")
    return next((part for part in model.parameters() if part.is_floating_point()), nothing)


def check_times(times: Tensor) -> None:
    """Raises ``ValueError`` unless ``times`` is a non-empty ascending vector from 0 on."""
    if times.ndim != 1 or times.numel() == 0:
        raise ValueError(f"times must be a non-empty vector (K,), got shape {tuple(times.shape)}")
    if not bool(times.isfinite().all()) or float(times[0]) < 0:
        raise ValueError(
            f"times must be finite and not lie before the state's moment (0), got {times.tolist()}"
        )
    if bool((times[1:] < times[:-1]).any()):
        raise ValueError(f"times must be in ascending order, got {times.tolist()}")


def check_frames(obs: Tensor, obs_size: int, min_frames: int) -> None:
    """Raises ``ValueError`` unless ``obs`` is finite, real, (B, T >= min_frames, D)."""
    if not isinstance(obs, Tensor):
        raise TypeError(
            f"obs must be a torch.Tensor, got {type(obs).__name__}; torch.as_tensor makes one"
        )
    if not obs.is_floating_point():
        raise ValueError(
            f"obs must be of a floating type, got {obs.dtype}; models see pictures from 0 to 1, "
            "so divide those of 0 to 255 by 255"
        )
    if obs.ndim != 3 or obs.shape[2] != obs_size:
        raise ValueError(
            f"obs must have shape (B, T, {obs_size}), got {tuple(obs.shape)}; "
            "the model was made for observations of that size"
        )
    if obs.shape[1] < min_frames:
        raise ValueError(f"obs must hold at least {min_frames} frames, got {obs.shape[1]}")
    if torch.compiler.is_exporting():
        return  # A graph cannot raise by the values that it is given.
    if not bool(obs.isfinite().all()):
        rows = (~obs.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"obs must be finite, got NaN or infinity in rows {rows[:8]}")
