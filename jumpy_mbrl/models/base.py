"""The contract of world models: what a state is, and how the future is imagined.

Letters: B batch, T frames, D observation size, A action size, H hidden size,
K query times, M ticks. Time is in frames, counted from the state's own moment.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.sampling import Sampler, SequenceSampler

S = TypeVar("S", bound="State")


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

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same state with ``function`` applied to every tensor."""
        return replace(self, **{name: function(value) for name, value in vars(self).items()})

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The chosen rows (a slice, a boolean mask or an index tensor)."""
        return self.map(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Self:
        """Each row ``times`` times in succession: (B, ...) -> (B * times, ...)."""
        return self.map(lambda tensor: tensor.repeat_interleave(times, dim=0))

    def take(self, rows: Tensor) -> Self:
        """The rows numbered ``rows`` (int64): as ``[rows]``, with a faster gradient."""
        return self.map(lambda tensor: tensor.index_select(0, rows))

    def update_rows(self, rows: Tensor, other: State) -> Self:
        """This state with the rows numbered ``rows`` (int64) replaced by those of ``other``."""
        new = vars(other)
        copied = {name: part.index_copy(0, rows, new[name]) for name, part in vars(self).items()}
        return replace(self, **copied)

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """The states one after the other along the batch."""
        names = vars(states[0])
        return replace(states[0], **{n: torch.cat([vars(s)[n] for s in states]) for n in names})


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

    @property
    def durations(self) -> Tensor:
        """Frames from each tick to the next one, (B, M - 1); ``inf`` after the last tick."""
        return self.tick_times.diff(dim=1).nan_to_num(nan=torch.inf, posinf=torch.inf)

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


class WorldModel(nn.Module, ABC):
    """A differentiable model of the world: filter real frames, then imagine what follows.

    Nothing here switches gradients off: a planner differentiates through ``imagine``.

    Attributes:
        obs_size: D.
        action_size: A; 0 for a model without actions.
        min_frames: how many frames ``observe`` needs at least.
        batch_kind: what the batches are made of that ``loss`` learns from, in a word.
        built_in: what it knows of its world before it has learned anything, in words.
        record: of a model that was loaded, what its folder says of ``data``, ``training`` and
            ``metrics``.
        precisions: in which ``loss`` can be computed.
        compiles: whether torch.compile can make ``loss`` faster.
        on_line: whether its bodies move on a line; None for a model that does not say.
        for_balls: gives the same physics for so many balls; None for a model that cannot.
    """

    obs_size: int
    action_size: int
    min_frames: int = 2
    batch_kind: str = "sequences"
    built_in: tuple[str, ...] = ()
    record: Mapping[str, Any] = MappingProxyType({})
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    compiles: bool = True
    on_line: bool | None = None
    for_balls: Callable[[int], WorldModel] | None = None

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> Sampler:
        """The sampler that draws the batches for ``loss`` from data."""
        return SequenceSampler(data, device)

    def calibrate(self, data: SequenceData) -> None:
        """Takes what it needs from the data, such as units, before a new model learns from them."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before anything has been seen, for ``batch_size`` rollouts."""

    @abstractmethod
    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """Filters real frames; gives the state at the last one, before any action taken there.

        `TypeError` for what is no tensor, and `ValueError` for a wrong shape, too few frames,
        whole numbers (pictures lie between 0 and 1), or NaN.

        Args:
            obs: (B, T, D), one frame apart, the last one being "now".
            action: (B, T, A), the action taken at each frame; the last one is ignored, because
                what is done now is given to ``imagine``. None means no action.
        """

    @abstractmethod
    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        """``imagine`` for one action (B, A) taken now, with the state returned at ``end``."""

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss of a batch from ``sampler``, and scalars to log."""

    def parts(self) -> dict[str, Callable[..., Any]]:
        """The functions that ``jumpy_mbrl.export`` can record, by their names there."""
        return {}

    def imagine(
        self,
        state: State,
        times: Tensor | Sequence[float],
        action: Tensor | None = None,
        action_times: Sequence[float] = (0.0,),
    ) -> Imagined:
        """Predicts, open loop, the observations at any real times.

        `ValueError` for times that descend or lie before now, or a wrong action shape.

        Args:
            state: B states.
            times: (K,) query times in frames from now, ascending, not negative.
            action: (B, A) one action, or (B, M, A) one for each of ``action_times``. A jump
                under way is cut short by an action, and the model ticks.
            action_times: M ascending times in frames from now. Actions after the last of
                ``times`` change nothing.
        """
        times = torch.as_tensor(times, dtype=state.hidden.dtype, device=state.hidden.device)
        check_times(times)
        last = float(times[-1])
        if action is None:
            return self._without_action(state, times, last)
        if not len(action_times):
            raise ValueError("expected a time for each action, got none; else give no action")
        actions = action.unsqueeze(1) if action.ndim == 2 else action
        expected = (state.batch_size, len(action_times), self.action_size)
        if tuple(actions.shape) != expected:
            raise ValueError(
                f"action must have shape {expected} (B, actions, A), got {tuple(actions.shape)}; "
                "give one action for each row of the state and each of action_times"
            )
        if len(action_times) == 1 and float(action_times[0]) == 0.0:
            return self.rollout(state, times, last, actions[:, 0])
        check_times(as_tensor(action_times))
        return self._in_pieces(state, times, last, actions, list(action_times))

    def _without_action(self, state: State, times: Tensor, end: float) -> Imagined:
        """``rollout``; at 0 it gives what the state holds, which may be a real frame."""
        imagined = self.rollout(state, times, end, None)
        known = (times == 0.0).unsqueeze(-1)
        obs = torch.where(known, state.obs.unsqueeze(1), imagined.obs)
        return replace(imagined, obs=obs)

    def _in_pieces(
        self, state: State, times: Tensor, last: float, actions: Tensor, starts: list[float]
    ) -> Imagined:
        """Rollouts one after the other, each from an action to the next."""
        taken: list[Tensor | None] = list(actions.unbind(dim=1))
        if starts[0] > 0:
            starts, taken = [0.0, *starts], [None, *taken]
        obs, ticks = [], []
        for start, stop, action in zip(starts, [*starts[1:], torch.inf], taken, strict=True):
            if start > last:
                break
            final = stop > last
            stop = last if final else stop
            ahead = times[(times >= start) & ((times <= stop) if final else (times < stop))] - start
            if action is None:
                piece = self._without_action(state, ahead, stop - start)
            else:
                piece = self.rollout(state, ahead, stop - start, action)
            state = piece.state
            obs.append(piece.obs)
            ticks.append(piece.tick_times + start)
        sorted_ticks = torch.cat(ticks, dim=1).sort(dim=1).values
        width = int(sorted_ticks.isfinite().sum(dim=1).max()) if sorted_ticks.numel() else 0
        return Imagined(torch.cat(obs, dim=1), sorted_ticks[:, :width], state)


class WrappedModel(WorldModel):
    """A world model around another one, which does all that is not overridden."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model
        self.obs_size, self.action_size = model.obs_size, model.action_size
        self.min_frames, self.built_in = model.min_frames, model.built_in

    def initial_state(self, batch_size: int) -> State:
        return self.model.initial_state(batch_size)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        return self.model.observe(obs, action)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        return self.model.rollout(state, times, end, action)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.loss(batch)


def like_of(model: nn.Module) -> Tensor:
    """A tensor of the type and on the device of a model's weights: float32 on the CPU for none."""
    nothing = torch.zeros((), dtype=torch.float32, device="cpu")
    return next((part for part in model.parameters() if part.is_floating_point()), nothing)


def check_times(times: Tensor) -> None:
    """Raises ``ValueError`` unless ``times`` is a non-empty ascending vector from 0 on."""
    if times.ndim != 1 or times.numel() == 0:
        raise ValueError(f"times must be a non-empty vector (K,), got shape {tuple(times.shape)}")
    given = times.tolist()
    if not all(map(math.isfinite, given)) or given[0] < 0:
        raise ValueError(
            f"times must be finite and not lie before the state's moment (0), got {given}"
        )
    if any(later < time for time, later in pairwise(given)):
        raise ValueError(f"times must be in ascending order, got {given}")


def own_state(model: WorldModel, state: State, kind: type[S]) -> S:
    """The state, or a ``ValueError`` unless it is of the ``kind`` that the model makes."""
    if not isinstance(state, kind):
        raise ValueError(
            f"expected a {kind.__name__} from observe or initial_state of a "
            f"{type(model).__name__}, got {type(state).__name__}"
        )
    return state


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
