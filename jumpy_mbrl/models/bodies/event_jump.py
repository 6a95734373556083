"""EventJump: a jumpy model of bodies that move in straight lines between events.

The latent is every ball's position and velocity; between ticks it moves in a straight line
(2021 paper, eq. 6). What is learned, from observed positions alone, is *when* a line ends (a
learned function whose zero set is the event surface, solved for along the line, so that the
duration is a real number and differentiable) and *what follows* (a learned jump of the velocity).

The form of the networks carries symmetries and no mechanics: where the walls are, how large and
how heavy the balls are, how they bounce and what a shot does are all learned. Assumed are: the
room looks the same after reflections and quarter turns; two bodies look the same from every side
and at every common speed; identical bodies may be swapped; the film may be played slower.

Letters: B batch, N balls, P pairs, D = 2N. Time in frames, velocities per frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jumpy_mbrl.checks import check_number
from jumpy_mbrl.data.events import EventSampler
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.devices import plain_defaults
from jumpy_mbrl.models.base import State, own_state
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel, EventState
from jumpy_mbrl.models.networks import check_sizes

_TINY = 1e-9
_STILL = 1e-6
"""Speeds below this, in sides of the table per frame, count as rest."""
_AT_ONCE = 1e-4
"""What happens again within so many frames happens again at once: rounding is less."""
_NEAR = 0.02
"""How near to where a mirroring sign turns, in units of what is asked, an outcome fades to zero."""


@dataclass(frozen=True)
class EventJumpConfig:
    """Sizes of an ``EventJump``.

    Attributes:
        num_balls: N. The weights do not depend on it (``EventJump.for_balls``).
        axes: 2, or 1 for balls on a line, of which y alone is observed.
        action_size: 2 (a shot at the cue ball), or 0 for a world without actions.
        hidden_size: width of the two-layer networks.
        horizon: longest jump, in frames.
        velocity_scale: a typical displacement per frame, in sides of the table.
        pair_scale: a typical distance of two balls that meet, in sides of the table.
    """

    num_balls: int = 2
    axes: int = 2
    action_size: int = 2
    hidden_size: int = 64
    horizon: float = 100.0
    velocity_scale: float = 0.05
    pair_scale: float = 0.2

    def __post_init__(self) -> None:
        check_sizes(self, ("num_balls", "hidden_size"))
        if self.axes not in (1, 2):
            raise ValueError(f"expected axes to be 1 (a line) or 2 (a table), got {self.axes}")
        if self.action_size not in (0, 2):
            raise ValueError(
                f"expected action_size to be 0 (no shots) or 2, got {self.action_size}"
            )
        for name in ("horizon", "velocity_scale", "pair_scale"):
            check_number(name, getattr(self, name), 0.0, open_low=True)


class _Net(nn.Module):
    """A linear map plus a two-layer perceptron."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, curve: type[nn.Module] = nn.SiLU
    ) -> None:
        super().__init__()
        self.skip = nn.Linear(inputs, outputs)
        inner = nn.Linear(inputs, hidden), curve(), nn.Linear(hidden, hidden), curve()
        self.body = nn.Sequential(*inner, nn.Linear(hidden, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.flatten(end_dim=-2)
        outputs = torch.add(self.skip(rows), self.body(rows))
        return outputs.view(*inputs.shape[:-1], outputs.shape[-1])


class EventJump(EventDrivenModel):
    """Learned event times and learned consequences, between straight lines."""

    built_in: tuple[str, ...] = (
        "straight lines",
        "events of one body or of two",
        "a square room, the same after mirroring and quarter turns",
        "identical bodies, whose contacts look the same from every side and at every common speed",
        "conserved momentum",
    )

    def __init__(self, config: EventJumpConfig) -> None:
        super().__init__()
        self.config = config
        self.axes = config.axes
        self.batch_kind = "events" if config.axes == 2 else "line-events"
        self.obs_size = config.axes * config.num_balls
        self.action_size = config.action_size
        self.horizon = config.horizon
        hidden = config.hidden_size
        self.single_level = _Net(2, hidden // 2, 1)
        self.single_jump = _Net(4, hidden, 2)
        self.pair_level = _Net(2, hidden, 2)
        self.pair_jump = _Net(2, hidden, 2)
        self.shot_jump = _Net(2, hidden, 1, nn.ReLU)
        first, second = torch.triu_indices(config.num_balls, config.num_balls, offset=1)
        self.register_buffer("_first", first.clone(), persistent=False)
        self.register_buffer("_second", second.clone(), persistent=False)
        self._first: Tensor
        self._second: Tensor
        numbers = torch.arange(config.num_balls)
        sides = (numbers == second.unsqueeze(1)).char() - (numbers == first.unsqueeze(1)).char()
        self.register_buffer("_sides", sides, persistent=False)
        self._sides: Tensor  # (P, N): 1 for the second ball of a pair, -1 for the first

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> EventSampler:
        """See ``WorldModel.sampler``."""
        return EventSampler(data, device, on_line=self.axes == 1)

    def for_balls(self, num_balls: int) -> Self:
        """The same learned physics for a table with another number of balls (shares weights)."""
        with plain_defaults():
            other = type(self)(replace(self.config, num_balls=num_balls))
        for name, part in (*self.named_children(), *self.named_parameters(recurse=False)):
            setattr(other, name, part)
        other.record = self.record
        return other.to(next(self.parameters()).device)

    def tick(self, state: State, action: Tensor | None = None) -> EventState:
        """See ``EventDrivenModel.tick``. What happens again at once has happened: it waits a frame.

        Otherwise two balls that touch and hardly move to one another might never part.
        """
        line, before = super().tick(state, action), own_state(self, state, EventState)
        if action is not None:
            return line
        again = (line.remaining < _AT_ONCE) & (line.event == before.event) & (line.event >= 0)
        return replace(
            line,
            remaining=line.remaining + again,
            event=line.event.masked_fill(again, -1),
        )

    # -- when: the learned event surfaces --------------------------------------------------

    def next_event(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        times = self._single_times(positions, velocities).flatten(1)
        if self.config.num_balls > 1:
            offset, relative = self._pairs(positions), self._pairs(velocities)
            times = torch.cat([times, self._pair_times(offset, relative)], dim=1)
        earliest = times.min(dim=1)
        return earliest.values, earliest.indices

    def _pairs(self, per_ball: Tensor) -> Tensor:
        """Second minus first ball of each pair, (..., N, 2) -> (..., P, 2)."""
        return per_ball[..., self._second, :] - per_ball[..., self._first, :]

    def _single_times(self, p: Tensor, v: Tensor) -> Tensor:
        """Frames until each ball's own event in the direction of each axis, (B, N, 2)."""
        z, dz, _ = _canonical(p, v)
        here = self._single_surface(z)
        slope = here - self._single_surface(z + dz)
        coming = slope > _TINY
        if self.axes == 1:  # Nothing happens across the line; the surface never learned what does.
            coming = coming & coming.new_tensor([False, True])
        slope = torch.where(coming, slope, 1.0)
        time = torch.where(coming, here / slope, 0.0).clamp(0.0, self.config.horizon)
        time = time + self._single_surface(z + dz * time.unsqueeze(-1)) / slope
        return torch.where(coming, time.clamp_min(0.0), torch.inf)

    def _single_surface(self, z: Tensor) -> Tensor:
        """Distance to the event, (..., 2) to (...): positive before it, in sides of the table."""
        return torch.squeeze(self.single_level(z), -1)

    def _pair_times(self, offset: Tensor, relative: Tensor) -> Tensor:
        """Frames until each pair meets, (B, P)."""
        frame = Alignment.of(*offset.unbind(-1), *relative.unbind(-1))
        length, logit = self._pair_surface(frame.along, frame.across)
        correction, _ = self._pair_surface(frame.along - length, frame.across)
        meets = (logit > 0) & (frame.speed > _STILL)
        time = (length + correction) * frame.pace
        return torch.where(meets, time.clamp_min(0.0), torch.inf)

    def _pair_surface(self, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        """Path length until two balls meet, and the logit that they do."""
        z = torch.stack([along, across], dim=-1) / self.config.pair_scale
        length, logit = self.pair_level(z).unbind(-1)
        return length * self.config.pair_scale, logit

    # -- what: the learned consequences ----------------------------------------------------

    def after_event(self, positions: Tensor, velocities: Tensor, event: Tensor) -> Tensor:
        after = self._after_single(positions, velocities, event)
        if self.config.num_balls > 1:
            after = self._after_pair(positions, after, event)
        return self._on_axes(after)

    def _on_axes(self, velocities: Tensor) -> Tensor:
        """Velocities (..., 2) without what leads away from the line, if there is one."""
        return velocities if self.axes == 2 else velocities * velocities.new_tensor([0.0, 1.0])

    def _after_single(self, p: Tensor, v: Tensor, event: Tensor) -> Tensor:
        B, N, _ = p.shape
        single = (event >= 0) & (event < 2 * N)
        index = torch.where(single, event, 0)
        ball = (index // 2).view(B, 1, 1).expand(B, 1, 2)
        changed = self.single_outcome(
            p.gather(1, ball).squeeze(1), v.gather(1, ball).squeeze(1), index % 2
        )
        return torch.where(single.view(B, 1, 1), v.scatter(1, ball, changed.unsqueeze(1)), v)

    def single_outcome(self, p: Tensor, v: Tensor, axis: Tensor) -> Tensor:
        """Velocity (B, 2) after an event of one ball at ``p`` with ``v``, along ``axis`` (B,)."""
        z, dz, sign = _canonical(p, v)
        rows = torch.arange(p.shape[0], device=p.device)
        z, dz = z[rows, axis], dz[rows, axis]
        speed = _norm(dz).unsqueeze(-1)
        after = self.single_jump(torch.cat([z, dz / speed], dim=-1)) * speed
        after = torch.where((axis == 1).unsqueeze(-1), after.flip(-1), after)
        return after * sign

    def _after_pair(self, p: Tensor, v: Tensor, event: Tensor) -> Tensor:
        """Velocities (B, N, 2) after the event, if it is of two balls."""
        pair = event - 2 * p.shape[1]
        sides = self._sides.index_select(0, pair.clamp_min(0)).unsqueeze(2).to(v.dtype)
        change = self.pair_outcome((sides * p).sum(dim=1), (sides * v).sum(dim=1))
        return torch.where((pair >= 0).view(-1, 1, 1), v - sides * change.unsqueeze(1), v)

    def pair_outcome(self, offset: Tensor, relative: Tensor) -> Tensor:
        """Change of the first ball's velocity (..., 2) when two meet; the second's is opposite."""
        frame = Alignment.of(*offset.unbind(-1), *relative.unbind(-1))
        ahead, aside = (part / self.config.pair_scale for part in (frame.along, frame.across))
        asked = torch.stack([ahead, aside, ahead, torch.zeros_like(aside)], dim=-1)
        outcome = self.pair_jump(asked.unflatten(-1, (2, 2))).flatten(-2)
        along, across, _, head_on = outcome.unbind(-1)
        across = across - head_on * torch.exp(aside / -_NEAR)
        return frame.restore(along * frame.speed, across * frame.speed)

    def after_shot(self, velocity: Tensor, action: Tensor) -> Tensor:
        """See ``EventDrivenModel.after_shot``; each axis is shot at by itself."""
        sign = torch.where(action >= 0, 1.0, -1.0).to(velocity.dtype)
        scale = self.config.velocity_scale
        z = torch.stack([velocity * sign / scale, action * sign], dim=-1)
        remnant = self.shot_jump(torch.zeros_like(z[..., :1, :])).squeeze(-1)
        fading = torch.exp(-z.abs().sum(dim=-1) / _NEAR)
        change: Tensor = self.shot_jump(z).squeeze(-1) - remnant * fading
        return self._on_axes(velocity + sign * scale * change)

    # -- learning from events ----------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared errors of event surfaces and outcomes, and the cross-entropy of meeting.

        ``batch`` comes from ``jumpy_mbrl.data.events.EventSampler``; ``u`` (B, 4) in [0, 1) says
        where on each line the surfaces are asked.
        """
        u = batch["u"]
        losses = {
            **self._single_losses(batch["single"], u[:, 0]),
            **self._pair_losses(batch["pair"], u[:, 1], u[:, 2]),
            **self._passing_losses(batch["passing"], batch["passing_frames"], u[:, 3]),
        }
        if self.action_size:
            losses["shot"] = self._shot_loss(batch["shot"])
        return torch.stack(list(losses.values())).sum(), losses

    def _single_losses(self, event: Tensor, u: Tensor) -> dict[str, Tensor]:
        position, before, after = event.unbind(1)
        change = after - before
        axis = change.abs().argmax(dim=1)
        normal = change / _norm(change).unsqueeze(-1)
        elapsed = (0.05 - 0.5 * u**2) / _norm(before)
        z, dz, _ = _canonical(position, before)
        rows = torch.arange(len(u), device=u.device)
        asked = (z + dz * elapsed.view(-1, 1, 1))[rows, axis]
        target = elapsed * (before * normal).sum(dim=-1)
        outcome = self.single_outcome(position, before, axis)
        return {
            "single_time": _relative(self._single_surface(asked) - target, target),
            "single_jump": self._velocity_loss(outcome - after, before),
        }

    def _pair_losses(self, event: Tensor, u: Tensor, shift: Tensor) -> dict[str, Tensor]:
        offset, first, second, first_after, second_after = event.unbind(1)
        relative = second - first
        frame = Alignment.of(*offset.unbind(-1), *relative.unbind(-1))
        length = 1.2 * u**3 - 0.02
        predicted, logit = self._pair_surface(frame.along + length, frame.across)
        direction = relative / frame.speed.unsqueeze(-1)
        early = offset - direction * (0.01 * (shift - 0.5)).unsqueeze(-1)
        change = self.pair_outcome(early, relative)
        error = torch.cat([change - (first_after - first), -change - (second_after - second)])
        ahead = length > 0
        return {
            "pair_time": _relative(predicted - length, length),
            "pair_jump": self._velocity_loss(error, torch.cat([relative, relative])),
            "pair_meets": F.softplus(-logit[ahead]).sum() / ahead.sum().clamp_min(1),
        }

    def _passing_losses(self, run: Tensor, frames: Tensor, u: Tensor) -> dict[str, Tensor]:
        offset, relative = run.unbind(1)
        offset = offset + relative * (u * frames).unsqueeze(-1)
        frame = Alignment.of(*offset.unbind(-1), *relative.unbind(-1))
        _, logit = self._pair_surface(frame.along, frame.across)
        return {"pair_passes": F.softplus(logit).mean()}

    def _shot_loss(self, shot: Tensor) -> Tensor:
        before, action, after = shot.unbind(1)
        error = (self.after_shot(before, action) - after) / self.config.velocity_scale
        return error.square().mean()

    def _velocity_loss(self, error: Tensor, before: Tensor) -> Tensor:
        speed = _norm(before).clamp_min(0.1 * self.config.velocity_scale)
        return _robust(error / speed.unsqueeze(-1))


def _relative(error: Tensor, size: Tensor) -> Tensor:
    """Error that counts most near the event, where it decides."""
    return _robust(error / (0.02 + size.detach().abs()))


def _robust(error: Tensor) -> Tensor:
    """Mean squared error, but linear in the few segments that were misread."""
    return F.huber_loss(error, torch.zeros_like(error), delta=0.1)


def _norm(vector: Tensor) -> Tensor:
    """Length along the last dimension, with a finite gradient at 0."""
    return (vector.square().sum(dim=-1) + _TINY**2).sqrt()


def _canonical(p: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrors and turns the room so that every ball moves up both axes.

    Positions and velocities (..., 2) become (..., 2, 2), as seen along each of the two axes (that
    axis first, the other second); and the mirroring signs.
    """
    sign = torch.where(v >= 0, 1.0, -1.0).to(v.dtype)
    z, dz = (p - 0.5) * sign, v * sign
    return torch.stack([z, z.flip(-1)], dim=-2), torch.stack([dz, dz.flip(-1)], dim=-2), sign


@dataclass(frozen=True)
class Alignment:
    """A pair seen in coordinates along and across its relative velocity, mirrored to one side.

    The second ball still has to go ``along`` to be abreast of the first, and they then are
    ``across`` apart, not negative. The relative velocity has the direction ``x``, ``y`` and a
    ``speed``, of which ``pace`` is the inverse; ``side`` is the mirroring sign.
    """

    along: Tensor
    across: Tensor
    speed: Tensor
    pace: Tensor
    x: Tensor
    y: Tensor
    side: Tensor

    @classmethod
    def of(cls, right: Tensor, up: Tensor, u: Tensor, v: Tensor) -> Alignment:
        """Of an offset ``right`` and ``up``, and a relative velocity ``u`` and ``v``."""
        square = u * u + v * v + _TINY**2
        pace = square.rsqrt()
        x, y = u * pace, v * pace
        across = right * y - up * x
        side = torch.where(across < 0, -1.0, 1.0).to(across.dtype)
        return cls(-(right * x + up * y), across * side, square.sqrt(), pace, x, y, side)

    def restore(self, along: Tensor, across: Tensor) -> Tensor:
        """The vector (..., 2) with these coordinates along and across."""
        across = across * self.side
        right, up = along * self.x + across * self.y, along * self.y - across * self.x
        return torch.stack([right, up], dim=-1)
