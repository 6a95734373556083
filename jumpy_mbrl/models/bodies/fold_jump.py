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

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.bodies.event_driven import EventState
from jumpy_mbrl.models.bodies.event_jump import Alignment, EventJump, EventJumpConfig
from jumpy_mbrl.models.networks import check_sizes

_STILL = 1e-6
_SLACK = 1e-3
"""How far beyond a stretch, in frames, a meeting in it may lie: surfaces are learned."""


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

    # -- the unfolded room -----------------------------------------------------------------

    def decode(self, hidden: Tensor) -> Tensor:
        return self._observed(self._fold(hidden.chunk(2, dim=-1)[0])[0])

    def velocities_of(self, state: State) -> Tensor:
        positions, velocities = state.hidden.chunk(2, dim=-1)
        return self._observed(velocities * self._fold(positions)[1])

    def tick(self, state: State, action: Tensor | None = None) -> EventState:
        """See ``EventDrivenModel.tick``; the latent is folded into the room first."""
        positions, velocities = state.hidden.chunk(2, dim=-1)
        folded, side = self._fold(positions)
        hidden = torch.cat([folded, velocities * side], dim=-1)
        return super().tick(replace(state, hidden=hidden), action)

    def _fold(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Where a coordinate of the row of rooms is seen, and 1 or -1, the way it seems to run."""
        width = 2.0 * self.reach
        phase = torch.remainder(place - 0.5 + self.reach, 2.0 * width)
        ahead = phase < width
        return 0.5 + self.reach - (phase - width).abs(), torch.where(ahead, 1.0, -1.0).to(place)

    # -- when two balls meet ---------------------------------------------------------------

    def next_event(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        """See ``EventDrivenModel.next_event``. -1 means: fold, nothing else."""
        begin, end = self._stretches(positions, velocities)
        if self.config.num_balls == 1:
            return end[:, -1] + _SLACK, end.new_full((len(end),), -1, dtype=torch.int64)
        middle = (0.5 * (begin + end))[..., None, None]
        places, ways = positions.unsqueeze(1), velocities.unsqueeze(1)
        now = self._fold(places + ways * begin[..., None, None])[0]
        seen = ways * self._fold(places + ways * middle)[1]
        time, pair = self._first_meeting(begin, end, self._pairs(now), self._pairs(seen))
        meets = time.isfinite()
        event = torch.where(meets, 2 * self.config.num_balls + pair, -1)
        # Just behind the last folding, where it is clear on which side of it the latent is.
        return torch.where(meets, time, end[:, -1] + _SLACK), event

    def _first_meeting(
        self, begin: Tensor, end: Tensor, offset: Tensor, relative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Frames (B,) until the first meeting, ``inf`` for none, and the pair (B,) that meets.

        In stretches with these times of ``begin`` and ``end``, (B, K), and these differences of the
        second ball to the first of each pair, (B, K, P, 2): of places at the beginning, and of
        velocities.
        """
        frame = Alignment.of(offset, relative)
        length, logit = self._pair_surface(frame.along, frame.across)
        possible = (logit > 0) & (frame.speed > _STILL)
        speed = torch.where(possible, frame.speed, 1.0)
        times = begin.unsqueeze(2) + (length / speed).clamp_min(0.0)
        possible = possible & (times <= end.unsqueeze(2) + _SLACK)
        earliest = torch.where(possible, times, torch.inf).flatten(1).min(dim=1)

        def chosen(values: Tensor) -> Tensor:
            return values.flatten(1).gather(1, earliest.indices.unsqueeze(1)).squeeze(1)

        rest = chosen(frame.along - length), chosen(frame.across)
        correction = self._pair_surface(*rest)[0] / chosen(speed)
        time = (earliest.values + correction).clamp_min(0.0)
        return time, earliest.indices % offset.shape[2]

    def _stretches(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        """Begin and end of the K stretches between foldings, (B, K) frames from now."""
        p, v = positions.flatten(1), velocities.flatten(1)
        moving = v.abs() > _STILL
        speed = torch.where(moving, v.abs(), 1.0)
        first = (self.reach - (p - 0.5) * v.sign()) / speed
        later = torch.arange(self.config.axis_folds, device=p.device) * (2.0 * self.reach)
        times = first.unsqueeze(2) + later / speed.unsqueeze(2)
        times = torch.where(moving.unsqueeze(2), times, self.horizon)
        # Beyond the last folding that was computed for some ball, nothing is known.
        limit = times[..., -1].min(dim=1, keepdim=True).values.clamp_max(self.horizon)
        times = torch.minimum(times.flatten(1).clamp_min(0.0), limit)
        count = min(self.config.max_folds, times.shape[1])
        end = times.topk(count, dim=1, largest=False, sorted=True).values
        return torch.cat([torch.zeros_like(end[:, :1]), end[:, :-1]], dim=1), end

    def after_event(self, positions: Tensor, velocities: Tensor, event: Tensor) -> Tensor:
        if self.config.num_balls == 1:
            return velocities
        met = (event >= 0).view(-1, 1, 1)
        after = torch.where(met, self._after_pair(positions, velocities, event), velocities)
        return self._on_axes(after)

    # -- learning --------------------------------------------------------------------------

    def _single_losses(self, event: Tensor, u: Tensor) -> dict[str, Tensor]:
        """The walls are where single balls turn around."""
        position, before, after = event.unbind(1)
        axis = (after - before).abs().argmax(dim=1, keepdim=True)
        distance = (position - 0.5).abs().gather(1, axis)
        return {"wall": F.huber_loss(self.reach.expand_as(distance), distance, delta=0.01)}
