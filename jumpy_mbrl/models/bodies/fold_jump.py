"""FoldJump: an EventJump whose latent goes straight through walls, and whose decoder folds it back.

A ball in a room with mirroring walls moves as its image does in an endless row of mirrored rooms:
straight on. So the latent is the position in that row of rooms, the decoder folds it into the room
that is seen (a triangle wave), and no tick is needed at a wall. What is left are the meetings of
balls. The next one is looked for in all stretches between foldings at once, by the same learned
surface as in ``EventJump``, so a tick costs one wide evaluation instead of many narrow ones.

Where the walls are is learned; that they mirror is assumed. For rooms that swallow speed, use
``EventJump``.

Letters: B batch, N balls, P pairs, K stretches. Time in frames, velocities per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jumpy_mbrl.models.bodies.event_jump import Alignment, EventJump, EventJumpConfig
from jumpy_mbrl.models.networks import check_sizes

_STILL = 1e-6
_SLACK = 1e-3
"""How far beyond a stretch, in frames, a meeting in it may lie: surfaces are learned."""

_FEW = 1024
"""So many pairs in stretches are asked when they meet sooner than which of them might."""

_Apart = tuple[Tensor, Tensor, Tensor, Tensor]
"""Offsets of pairs along x and along y, and their relative velocities."""


@dataclass(frozen=True)
class FoldJumpConfig(EventJumpConfig):
    """Sizes of a ``FoldJump``; see ``EventJumpConfig``.

    Attributes:
        max_folds: K, most foldings in one jump, all balls and axes together.
        axis_folds: most of them by one ball along one axis.
    """

    max_folds: int = 12
    axis_folds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("max_folds", "axis_folds"))


class FoldJump(EventJump):
    """Learned meetings of balls in an unfolded room."""

    config: FoldJumpConfig
    built_in = (*EventJump.built_in, "walls that mirror without loss")

    def __init__(self, config: FoldJumpConfig) -> None:
        super().__init__(config)
        del self.single_level, self.single_jump
        self.reach = nn.Parameter(torch.tensor(0.5))
        self._known_contact: tuple[Any, tuple[float, float, float]] | None = None

    # -- the unfolded room -----------------------------------------------------------------

    def decode(self, hidden: Tensor) -> Tensor:
        return self._observed(self._fold(hidden.chunk(2, dim=-1)[0])[0])

    def _in_room(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        positions, velocities = hidden.chunk(2, dim=-1)
        folded, side = self._fold(positions)
        return folded, velocities * side

    def _fold(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Where a coordinate of the row of rooms is seen, and 1 or -1, the way it seems to run."""
        room, side = self._room(place)
        return 0.5 + side * (place - 0.5 - 2.0 * self.reach * room), side

    @torch.no_grad()
    def _room(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Which room of the row it is, 0 being the real one; and -1 if it is mirrored, else 1."""
        room = ((place - 0.5 + self.reach) / (2.0 * self.reach)).floor_()
        odd = torch.add(room, (0.5 * room).floor_(), alpha=-2.0)
        return room, odd.mul_(-2.0).add_(1.0)

    # -- when two balls meet ---------------------------------------------------------------

    def next_event(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        """See ``EventDrivenModel.next_event``. -1 means: fold, nothing else."""
        begin, end = self._stretches(positions, velocities)
        if self.config.num_balls == 1:
            return end[-1] + _SLACK, torch.full_like(end[-1], -1, dtype=torch.int64)
        # No size of a graph may depend on what is in it.
        if torch.compiler.is_compiling() or begin.numel() * len(self._first) <= _FEW:
            return self._first_meeting(positions, velocities, begin, end)
        near = self._near(positions, velocities, begin, end)
        # Nearly all balls that come near meet, and then no later stretch need be asked.
        soonest = torch.where(near.any(dim=1), begin, torch.inf).amin(dim=0)
        asked = (near & (begin == soonest).unsqueeze(1)).flatten().nonzero().squeeze(1)
        time, event = self._first_meeting(positions, velocities, begin, end, asked)
        rows = (near & (event < 0)).flatten(0, 1).any(dim=0).nonzero().squeeze(1)
        if len(rows):
            p, v = (part.index_select(0, rows) for part in (positions, velocities))
            begin, end = (part.index_select(1, rows) for part in (begin, end))
            asked = near.index_select(2, rows).flatten().nonzero().squeeze(1)
            later = self._first_meeting(p, v, begin, end, asked)
            time, event = time.index_copy(0, rows, later[0]), event.index_copy(0, rows, later[1])
        return time, event

    def _first_meeting(
        self,
        positions: Tensor,
        velocities: Tensor,
        begin: Tensor,
        end: Tensor,
        asked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As ``next_event``, of the pairs and stretches numbered ``asked``, in rising order, among
        (K, P, B); by default of all."""
        (K, B), P, N = begin.shape, len(self._first), self.config.num_balls
        # Just behind the last folding, where it is clear on which side of it the latent is.
        folding = end[-1] + _SLACK
        if asked is None:
            frame = Alignment.of(*self._apart(positions, velocities, begin, end))
            begin, end = begin.unsqueeze(1), end.unsqueeze(1)
        elif len(asked):
            stretch = asked // (P * B) * B + asked % B
            begin, end = (part.flatten().index_select(0, stretch) for part in (begin, end))
            frame = Alignment.of(*self._some_apart(positions, velocities, begin, end, asked))
        else:
            return folding, torch.full_like(folding, -1, dtype=torch.int64)
        length, logit = self._pair_surface(frame.along, frame.across)
        meeting = begin + (length * frame.pace).clamp_min(0.0)
        meets = (logit > 0) & (frame.speed > _STILL) & (meeting <= end + _SLACK)
        times = torch.where(meets, meeting.detach(), torch.inf)
        if asked is not None:
            times = times.new_full((K * P * B,), torch.inf).index_copy(0, asked, times)
        earliest = times.view(K * P, B).min(dim=0)
        first = earliest.indices * B + torch.arange(B, device=times.device)
        if asked is not None:
            first = torch.searchsorted(asked, first).clamp_max(len(asked) - 1)
        parts = torch.stack([meeting, length, frame.pace, frame.along, frame.across]).flatten(1)
        meeting, length, pace, along, across = parts.index_select(1, first).unbind()
        meeting = meeting + self._pair_surface(along - length, across)[0] * pace
        meets = earliest.values < torch.inf
        time = torch.where(meets, meeting.clamp_min(0.0), folding)
        return time, torch.where(meets, 2 * N + earliest.indices % P, -1)

    def _unfolded(
        self, place: Tensor, way: Tensor, begin: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Places at the begin of stretches and velocities, as they are seen in the room that is
        passed then; 0 is its middle."""
        room, side = self._room(torch.addcmul(place, way, 0.5 * (begin + end)))
        place = torch.addcmul(place - 0.5, way, begin) - 2.0 * self.reach * room
        return side * place, side * way

    def _apart(self, positions: Tensor, velocities: Tensor, begin: Tensor, end: Tensor) -> _Apart:
        """Of all pairs at the begin of all stretches, (K, P, B) each."""
        p, v = (part.permute(1, 2, 0).contiguous() for part in (positions, velocities))
        seen = self._unfolded(p, v, begin[:, None, None], end[:, None, None])
        (x, y), (u, w) = (
            (part.index_select(1, self._second) - part.index_select(1, self._first)).unbind(2)
            for part in seen
        )
        return x, y, u, w

    def _some_apart(
        self, positions: Tensor, velocities: Tensor, begin: Tensor, end: Tensor, asked: Tensor
    ) -> _Apart:
        """Of the pairs and stretches numbered ``asked``, (Q,) each."""
        B, N, _ = positions.shape
        row, pair = asked % B, asked // B % len(self._first)
        balls = torch.cat([self._second[pair], self._first[pair]]) + N * row.repeat(2)
        place, way = (
            part.flatten(0, 1).index_select(0, balls).unflatten(0, (2, -1))
            for part in (positions, velocities)
        )
        seen = self._unfolded(place, way, begin.unsqueeze(1), end.unsqueeze(1))
        (x, y), (u, w) = ((part[0] - part[1]).unbind(1) for part in seen)
        return x, y, u, w

    @torch.no_grad()
    def _near(self, positions: Tensor, velocities: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Whether a pair might meet in a stretch, (K, P, B)."""
        x, y, u, w = self._apart(positions, velocities, begin, end)
        speed = torch.addcmul(u * u, w, w).sqrt_()
        across = torch.addcmul(x * w, y, u, value=-1.0).abs_()
        along = torch.addcmul(x * u, y, w).neg_()
        gone = speed * (end - begin + _SLACK).unsqueeze(1)
        aside, behind, ahead = self._contact()
        near = (across < aside * speed) & (along > behind * speed) & (speed > _STILL)
        return near & (along < (ahead + gone) * speed)

    @torch.no_grad()
    def _contact(self) -> tuple[float, float, float]:
        """Where the learned surface tells of meetings, in sides: at most so far across, at least so
        far along, and at most so far before two balls are abreast."""
        weights = list(self.pair_level.parameters())
        version = [(id(w), 0 if w.is_inference() else w._version) for w in weights]
        if self._known_contact is None or self._known_contact[0] != version:
            unit, like = self.config.pair_scale, weights[0]
            along = torch.linspace(-1.0, 8.0, 181, dtype=like.dtype, device=like.device) * unit
            across = torch.linspace(0.0, 4.0, 161, dtype=like.dtype, device=like.device) * unit
            along, across = torch.meshgrid(along, across, indexing="ij")
            length, logit = self._pair_surface(along, across)
            near = torch.stack([across, -along, along - length])[:, logit > 0]
            # Without any, no pair ever meets.
            most = near.amax(dim=1) + 0.05 * unit if near.numel() else near.new_full((3,), -1e9)
            aside, before, ahead = most.tolist()
            self._known_contact = version, (aside, -before, ahead)
        return self._known_contact[1]

    @torch.no_grad()
    def _stretches(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        """Begin and end of the K stretches between foldings, (K, B) frames from now."""
        p, v = positions.flatten(1), velocities.flatten(1)
        speed = v.abs().clamp_min(_STILL)  # What is slower folds at the horizon or not at all.
        first = torch.addcmul(self.reach, p - 0.5, v.sign(), value=-1.0)
        later = torch.arange(self.config.axis_folds, device=p.device) * (2.0 * self.reach)
        times = (first.unsqueeze(2) + later) / speed.unsqueeze(2)
        # Beyond the last folding that was computed for some ball, nothing is known.
        limit = times[..., -1].min(dim=1, keepdim=True).values.clamp_max(self.horizon)
        times = torch.minimum(times.flatten(1).clamp_min(0.0), limit)
        count = min(self.config.max_folds, times.shape[1])
        end = times.topk(count, dim=1, largest=False, sorted=True).values.t().contiguous()
        return torch.cat([torch.zeros_like(end[:1]), end[:-1]]), end

    def after_event(self, positions: Tensor, velocities: Tensor, event: Tensor) -> Tensor:
        if self.config.num_balls == 1:
            return velocities
        return self._on_axes(self._after_pair(positions, velocities, event))

    # -- learning --------------------------------------------------------------------------

    def _single_losses(self, event: Tensor, u: Tensor) -> dict[str, Tensor]:
        """The walls are where single balls turn around."""
        position, before, after = event.unbind(1)
        axis = (after - before).abs().argmax(dim=1, keepdim=True)
        distance = (position - 0.5).abs().gather(1, axis)
        return {"wall": F.huber_loss(self.reach.expand_as(distance), distance, delta=0.01)}
