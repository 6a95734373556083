"""RelationalJump: a jumpy model of bodies in any world, of which nothing about balls is built in.

The world is N bodies with d observed numbers each; a plain vector is one body (N = 1). Two things
may be built in: which numbers belong to which body, so that one law holds for all, in any order
(N > 1); and that what bodies do to one another looks the same after shifts, turns and mirrorings
(``same_everywhere``), while what happens to one body may depend on where it is. All else is
learned: walls, contacts, what an action does, curved flight.

The latent of a body is where it would be on its line, and c. Both move linearly between ticks
(2021 paper, eq. 6), and ``x(t) = p(t) + o min(t - tau, 1) + g(c(t)) - g(c(tau))``: what happens
between a tick and the next frame is the offset o; g, a learned curve, is not there if c has no
numbers. Ticks come at whole frames: a learned hazard of the bodies on their line tells at each
whether the line ends there.

Letters: B batch, T frames, N bodies, d observed numbers of each, D = N d, A action size, L numbers
of c, J frames ahead, M vectors, E scalars of a body.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jumpy_mbrl.checks import check_flag, check_number
from jumpy_mbrl.data.loading import SequenceData, as_frames, lengths
from jumpy_mbrl.data.sampling import StartSampler
from jumpy_mbrl.devices import plain_defaults
from jumpy_mbrl.models.base import State, check_frames
from jumpy_mbrl.models.networks import check_sizes
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.models.recurrent import frame_actions

_TINY = 1e-12
_MODES = 2
_LOST = 10.0
"""Squared error at which a line has led far off, in epsilons."""
_AT_ONCE = 4
"""Frames of a line that are asked together whether it ends there."""


@dataclass(frozen=True)
class RelationalJumpConfig:
    """Sizes of a ``RelationalJump`` and settings of its training.

    Attributes:
        num_bodies: N; 1 for a plain vector.
        body_size: d.
        action_size: A, 0 for a world without actions. Equal parts of an action act on ``actors``.
        actors: numbers of the bodies that are acted on, from 0 on.
        same_everywhere: whether the d numbers are coordinates in space, and what bodies do to one
            another looks the same after shifts, turns and mirrorings: equal and opposite pushes, at
            every common speed. Needs N > 1.
        passes: how many laws a tick applies, one after the other, so that as many things can happen
            between two frames.
        latent_size: L; 0 where bodies move in straight lines.
        hidden_size: width of the networks of a tick.
        event_size: width of the network that tells where lines end.
        window: how many of the last frames the state is read from; 1 if a frame says all, and
            what bodies do to one another does not look the same everywhere.
        horizon: longest jump in frames, also when it learns.
        epsilon: squared error of the displacement from one frame to the next, as a share of the
            variance, up to which a line goes on. (2020 paper, eq. 7: of the frame itself.)
        first_epsilon: what epsilon falls from while it learns, at least epsilon.
        chain: ticks in succession that are learned from each start.
        own_jumps: how often in training a tick reads where the last line ended, and not the frame.
        early_ticks: how often in training it ticks before a line has ended.
        certainty: a line ends at the first frame where it does so with more than this probability.
            It learns mostly where something happens, so half is too little.
        noise: most standard deviation of noise on the frames that a start is read from, as it
            learns, as a share of a typical displacement between frames. Each start has its own.
    """

    num_bodies: int = 2
    body_size: int = 2
    action_size: int = 2
    actors: tuple[int, ...] = (0,)
    same_everywhere: bool = True
    passes: int = 1
    latent_size: int = 0
    hidden_size: int = 128
    event_size: int = 64
    window: int = 4
    horizon: int = 16
    epsilon: float = 5e-5
    first_epsilon: float = 1e-2
    chain: int = 3
    own_jumps: float = 0.0
    early_ticks: float = 0.15
    certainty: float = 0.75
    noise: float = 0.0

    def __post_init__(self) -> None:
        sizes = "num_bodies", "body_size", "passes", "hidden_size", "event_size", "horizon", "chain"
        check_sizes(self, sizes)
        check_sizes(self, ("action_size", "latent_size"), low=0)
        check_sizes(self, ("window",), low=2 if self.same_everywhere else 1)
        check_flag("same_everywhere", self.same_everywhere)
        object.__setattr__(self, "actors", tuple(self.actors))
        for actor in self.actors:
            if not (isinstance(actor, int) and 0 <= actor < self.num_bodies):
                raise ValueError(
                    f"expected actors to be numbers of bodies, 0 to {self.num_bodies - 1}, got "
                    f"{self.actors}"
                )
        if self.action_size and (not self.actors or self.action_size % len(self.actors)):
            raise ValueError(
                "expected an action of equal parts for each of the actors, got action_size="
                f"{self.action_size} for {len(self.actors)} of them"
            )
        if self.same_everywhere and self.num_bodies == 1:
            raise ValueError(
                "same_everywhere is about what bodies do to one another, got num_bodies=1; set "
                "same_everywhere=False, or say how many bodies there are"
            )
        check_number("epsilon", self.epsilon, 0.0, open_low=True)
        check_number("first_epsilon", self.first_epsilon, self.epsilon)
        check_number("noise", self.noise, 0.0)
        if not 0.0 < self.certainty < 1.0:
            raise ValueError(f"expected certainty to lie between 0 and 1, got {self.certainty}")
        for name in ("own_jumps", "early_ticks"):
            check_number(name, getattr(self, name), 0.0, 1.0)

    @property
    def part_size(self) -> int:
        """How many numbers of an action one body is given."""
        return self.action_size // len(self.actors) if self.action_size else 0


def _features(inputs: int, hidden: int) -> list[nn.Module]:
    """Two layers; ReLU, as walls and contacts have edges."""
    edges = nn.ReLU(inplace=True)
    return [nn.Linear(inputs, hidden), edges, nn.Linear(hidden, hidden), edges]


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_features(inputs, hidden), nn.Linear(hidden, outputs))


class _Gated(nn.Module):
    """Numbers that are 0 unless something happens: sums of gates times linear maps, both bent by a
    perceptron, so that where a law is linear between edges it can be exact. Begins at 0."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        size = _MODES * outputs
        self.body = nn.Sequential(*_features(inputs, hidden))
        self.value, self.gate = nn.Linear(hidden, size), nn.Linear(hidden, size)
        self.skip = nn.Linear(inputs, size, bias=False)
        for weight in (self.value.weight, self.value.bias, self.skip.weight):
            nn.init.zeros_(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs)
        gated = (self.value(hidden) + self.skip(inputs)) * (2.0 * self.gate(hidden)).sigmoid()
        out: Tensor = gated.unflatten(-1, (_MODES, -1)).sum(dim=-2)
        return out


class Law(nn.Module):
    """What happens to each body, by itself and because of the others: scalars and vectors.

    Reads where bodies are, (B, N, d), M vectors of each, (B, N, M, d), and E scalars, (B, N, E),
    which two bodies do not know of one another where what they do looks the same everywhere.
    Gives S scalars (B, N, S) and V vectors (B, N, V, d). ``hazard``: the scalars are positive, as
    those of competing risks, and no vectors are asked for.
    """

    def __init__(
        self,
        config: RelationalJumpConfig,
        vectors: int,
        scalars: int,
        outputs: tuple[int, int],
        hidden: int,
        hazard: bool = False,
    ) -> None:
        super().__init__()
        self.body_size, self.outputs, self.hazard = config.body_size, outputs, hazard
        self.relative = config.same_everywhere
        d, (S, V) = config.body_size, outputs
        own, out = d + vectors * d + scalars, S + V * d
        self.is_alone = config.num_bodies == 1
        network: Any = _mlp if hazard else _Gated
        if self.relative or self.is_alone:
            self.alone = network(own, hidden, out)
        if self.relative:
            seen = vectors + 1
            features = seen + seen * (seen - 1) // 2 + 1
            # What it remembers of others would bend lines along axes that are not theirs.
            self.told = S if hazard else 0
            self.pair = network(features, hidden, self.told + V * seen)
        elif not self.is_alone:
            self.mine = nn.Linear(own, hidden)
            self.other = nn.Linear(own, hidden, bias=False)
            self.between = nn.Linear(d + vectors * d, hidden, bias=False)
            self.message = nn.Linear(hidden, hidden)
            self.alone = network(own + hidden, hidden, out)

    def forward(self, place: Tensor, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        moving = torch.cat([place.unsqueeze(2), vectors], dim=2)
        own = torch.cat([moving.flatten(2), scalars], dim=2)
        N = own.shape[1]
        if not self.relative and not self.is_alone:
            own = torch.cat([own, self._messages(own, moving.flatten(2))], dim=2)
        single = self._split(self.alone(own), self.outputs[0], self.body_size)
        if not self.relative or N == 1:
            return single
        # Both of a pair see the same, so it is asked once: pushes are equal and opposite.
        first, second = torch.triu_indices(N, N, offset=1, device=own.device)
        between = moving.index_select(1, second) - moving.index_select(1, first)
        tiny = max(_TINY, torch.finfo(between.dtype).tiny)
        lengths = (between.square().sum(dim=-1) + tiny).sqrt()
        out = self.pair(torch.cat([lengths, _angles(between, lengths)], dim=-1))
        found, weights = self._split(out, self.told, moving.shape[2])
        # The offset as it is, so that forces may vanish with it; of others the direction.
        units = torch.cat([between[:, :, :1], between[:, :, 1:] / lengths[:, :, 1:, None]], dim=2)
        pushed = weights @ units
        scalars, vectors = single
        if self.told:
            scalars = scalars.index_add(1, first, found).index_add(1, second, found)
        return scalars, vectors.index_add(1, first, pushed).index_add(1, second, -pushed)

    def _messages(self, own: Tensor, moving: Tensor) -> Tensor:
        """What each body is told by all others, (B, N, hidden)."""
        N = own.shape[1]
        first, second = _others(N, own.device)
        between = self.between(moving)
        mine, other = self.mine(own) - between, self.other(own) + between
        heard = torch.relu(mine[:, first] + other[:, second])
        heard = torch.relu(self.message(heard))
        told: Tensor = heard.unflatten(1, (N, N - 1)).sum(dim=2)
        return told

    def _split(self, out: Tensor, S: int, size: int) -> tuple[Tensor, Tensor]:
        V = self.outputs[1]
        scalars = F.softplus(_floored(out[..., :S])) if self.hazard else out[..., :S]
        return scalars, out[..., S:].unflatten(-1, (V, size))


def _floored(out: Tensor) -> Tensor:
    """Falls ever more slowly below -6, so that a risk that was ruled out can still be learned."""
    return torch.where(out < -6.0, -6.0 - torch.log1p((-6.0 - out).clamp_min(0.0)), out)


def _others(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each body with each of the others: two lists of numbers, the first one's in succession."""
    numbers = torch.arange(count, device=device)
    apart = numbers.unsqueeze(0) != numbers.unsqueeze(1)
    first, second = apart.nonzero().unbind(dim=1)
    return first, second


def _angles(between: Tensor, lengths: Tensor) -> Tensor:
    """Each vector's part along each later one, (..., M (M-1) / 2), and the first's across the
    second: what turns and mirrorings leave as it is."""
    M = between.shape[-2]
    one, two = torch.triu_indices(M, M, offset=1, device=between.device)
    along = (between[..., one, :] * between[..., two, :]).sum(dim=-1) / lengths[..., two]
    across = lengths[..., 0].square() - along[..., 0].square()
    tiny = max(_TINY, torch.finfo(across.dtype).tiny)
    return torch.cat([along, across.clamp_min(tiny).sqrt().unsqueeze(-1)], dim=-1)


class _Line(NamedTuple):
    """What bodies are on: ``hidden`` is that of a state, part by part."""

    place: Tensor  # (B, N, d) where it would have begun, less g(c)
    velocity: Tensor  # (B, N, d) per frame
    offset: Tensor  # (B, N, d)
    curve: Tensor  # (B, N, L) c
    turn: Tensor  # (B, N, L) its change per frame
    phase: Tensor  # (B, 1) frames since the tick


def _known(config: RelationalJumpConfig) -> tuple[str, ...]:
    known: tuple[str, ...] = ()
    if config.num_bodies > 1:
        known = "which numbers belong to which body", "one law for all bodies, in any order"
    if config.same_everywhere:
        known += (
            "what bodies do to one another looks the same after shifts, turns and mirrorings",
            "two bodies push each other equally and oppositely, at every common speed",
        )
    return known


class RelationalJump(PiecewiseLinearModel):
    """Bodies on lines, in learned coordinates; see the module."""

    batch_kind = "starts"
    precisions = ("float32",)
    compiles = False

    def __init__(self, config: RelationalJumpConfig) -> None:
        super().__init__()
        self.config = config
        self.obs_size = config.num_bodies * config.body_size
        self.action_size = config.action_size
        self.min_frames = config.window
        L, hidden = config.latent_size, config.hidden_size
        past = config.window - 1
        taken = past * config.part_size
        self.reader = Law(config, past, taken, (2 * L, 1), hidden)
        if config.action_size:
            inputs = 2 * config.body_size + 2 * L + config.part_size
            self.act = _Gated(inputs, hidden // 2, config.body_size + 2 * L)
        self.update = Law(config, 1, 2 * L, (2 * L, 2), hidden)
        further = (Law(config, 2, 2 * L, (2 * L, 2), hidden) for _ in range(config.passes - 1))
        self.further = nn.ModuleList(further)
        self.event = Law(config, 1, 2 * L, (1, 0), config.event_size, hazard=True)
        if L:
            smooth = nn.Linear(L, hidden // 4), nn.SiLU(), nn.Linear(hidden // 4, hidden // 4)
            self.bend = nn.Sequential(*smooth, nn.SiLU(), nn.Linear(hidden // 4, config.body_size))
        d = config.body_size
        self.register_buffer("center", torch.full((d,), 0.5))
        self.register_buffer("scale", torch.full((d,), 0.25))
        self.register_buffer("pace", torch.full((d,), 0.04))
        self.built_in = _known(config)
        self.center: Tensor
        self.scale: Tensor
        self.pace: Tensor

    @property
    def for_balls(self) -> Callable[[int], Self] | None:  # type: ignore[override]
        return None if self.config.num_bodies == 1 else self.for_bodies

    def for_bodies(self, num_bodies: int) -> Self:
        """The same law for another number of bodies (shares weights).

        `ValueError` for a model of a plain vector, or a number that leaves out an actor.
        """
        if self.config.num_bodies == 1:
            raise ValueError(
                f"a model of one plain vector has no other bodies, got num_bodies={num_bodies}"
            )
        everywhere = self.config.same_everywhere and num_bodies > 1
        config = replace(self.config, num_bodies=num_bodies, same_everywhere=everywhere)
        with plain_defaults():
            other = type(self)(config)
        for name, part in self.named_children():
            setattr(other, name, part)
        for name, buffer in self.named_buffers(recurse=False):
            setattr(other, name, buffer)
        other.built_in, other.record = self.built_in, self.record
        return other

    def calibrate(self, data: SequenceData) -> None:
        """See ``WorldModel.calibrate``: takes the units from the data."""
        obs = as_frames(torch.from_numpy(data.obs[:10_000]))
        real = torch.arange(obs.shape[1], device=obs.device) < torch.from_numpy(
            lengths(data)[: len(obs), None]
        )
        numbers = obs.unflatten(2, (self.config.num_bodies, self.config.body_size))
        moves = numbers.diff(dim=1)[real[:, 1:]].flatten(0, 1)
        numbers = numbers[real].flatten(0, 1)
        center, scale = numbers.mean(dim=0), numbers.std(dim=0, correction=0)
        pace = moves.square().mean(dim=0).sqrt()
        if self.config.same_everywhere:
            center, scale, pace = center.mean(), scale.mean(), pace.mean()
        self.center.copy_(center)
        self.scale.copy_(torch.where(scale > 0.0, scale, 1.0))
        self.pace.copy_(torch.where(pace > 0.0, pace, 1.0))

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> StartSampler:
        """See ``WorldModel.sampler``."""
        config = self.config
        return StartSampler(
            data,
            device,
            config.window,
            bodies=config.num_bodies,
            draws=4 * config.chain,
            noisy=config.noise > 0.0,
        )

    # -- the contract ------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> State:
        """Bodies at rest in the middle, where nothing has been seen yet."""
        obs = self.center.expand(batch_size, self.config.num_bodies, -1)
        nothing = obs.new_zeros(*obs.shape[:2], self.config.latent_size)
        return self._due(obs, torch.zeros_like(obs), nothing, nothing)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``. Reads the last ``window`` frames; a tick is due."""
        check_frames(obs, self.obs_size, self.min_frames)
        action = frame_actions(obs, action, self.action_size)
        W = self.config.window
        frames = obs[:, -W:].unflatten(2, (self.config.num_bodies, -1))
        return self._due(frames[:, -1], *self._read(frames, action[:, -W:]))

    def _read(self, frames: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Velocity, c and its change at the last of frames (B, W, N, d), by those and the actions
        (B, W, A) at all but the last: the last displacement, unless something happened."""
        now, before = frames[:, -1], frames[:, :-1].flip(1)
        last = now - before[:, 0] if self.config.window > 1 else torch.zeros_like(now)
        moves = (now.unsqueeze(1) - before).transpose(1, 2) / self.pace
        taken = self._by_body(action[:, :-1].flatten(0, 1))
        taken = taken.unflatten(0, (len(frames), -1)).transpose(1, 2).flatten(2)
        latent, vectors = self.reader(self._scaled(now), moves, taken)
        curve, turn = latent.chunk(2, dim=2)
        return last + vectors[:, :, 0] * self.pace, curve, turn

    def tick(self, state: State, action: Tensor | None = None) -> State:
        """See ``PiecewiseLinearModel.tick``; reads ``state.obs`` and the action, or none."""
        N = self.config.num_bodies
        now = self._line_of(state)
        parts = None if action is None else self._by_body(action)
        obs = state.obs.unflatten(1, (N, -1))
        moving = self._moving(now.velocity, now.curve, now.turn)
        velocity = torch.where(now.phase.unsqueeze(1) > 0.0, moving, now.velocity)
        line = self._tick(obs, velocity, now.curve, now.turn, parts)
        return self._state(line, self._duration(line), state.obs)

    def decode(self, hidden: Tensor) -> Tensor:
        N, d, L = self.config.num_bodies, self.config.body_size, self.config.latent_size
        phase = hidden[..., -1:]
        place, offset, curve = hidden[..., :-1].unflatten(-1, (N, -1)).split([d, d, L], dim=-1)
        obs = place + offset * phase.unsqueeze(-1).clamp(max=1.0) + self._bent(curve)
        out: Tensor = obs.flatten(-2)
        return out

    def velocities_of(self, state: State) -> Tensor:
        """Displacements a frame (B, D) at the end of the line that led to the state."""
        return self._line_of(state).velocity.flatten(1)

    # -- one tick ----------------------------------------------------------------------------

    def _tick(
        self, obs: Tensor, velocity: Tensor, curve: Tensor, turn: Tensor, action: Tensor | None
    ) -> _Line:
        """The line from ``obs`` (B, N, d) on, by what was before and actions (B, N, A').

        First come the actions, each of which changes its body's velocity and c alone and at once;
        an action of zeros changes nothing.
        """
        latent = torch.cat([curve, turn], dim=2)
        if action is not None and self.config.action_size:
            read = torch.cat([self._scaled(obs), velocity / self.pace, latent, action], dim=2)
            acted = (action != 0.0).any(dim=2, keepdim=True)
            change = torch.where(acted, self.act(read), 0.0)
            d = self.config.body_size
            velocity, latent = velocity + change[..., :d] * self.pace, latent + change[..., d:]
        moving, offset = (velocity / self.pace).unsqueeze(2), torch.zeros_like(velocity)
        for law in (self.update, *self.further):
            change, vectors = law(self._scaled(obs), moving, latent)
            later, faster = (vectors * self.pace).unbind(dim=2)
            velocity, offset, latent = velocity + faster, offset + later, latent + change
            moving = torch.stack([velocity, offset], dim=2) / self.pace
        curve, turn = latent.chunk(2, dim=2)
        place = obs - self._bent(curve)
        return _Line(place, velocity, offset, curve, turn, obs.new_zeros(len(obs), 1))

    def _along(self, line: _Line, ahead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``ahead`` (J,) successive whole frames after the tick: observations (B, J, N, d), the
        displacements of the frames that end there, and c, (B, J, N, L)."""
        since = torch.cat([ahead[:1] - 1, ahead]).view(1, -1, 1, 1)
        begin = (line.place + line.offset).unsqueeze(1)
        velocity = line.velocity.unsqueeze(1)
        curve = line.curve.unsqueeze(1) + line.turn.unsqueeze(1) * since
        obs, moves = begin + velocity * since[:, 1:], velocity.expand(-1, len(ahead), -1, -1)
        if self.config.latent_size:
            bent = self._bent(curve)
            obs, moves = obs + bent[:, 1:], moves + bent.diff(dim=1)
        return obs, moves, curve[:, 1:]

    def _hazard(self, obs: Tensor, moves: Tensor, curve: Tensor, turn: Tensor) -> Tensor:
        """Hazards (B, J) of a line's end where ``_along`` leads, c changing by ``turn`` (B, N, L) a
        frame: it ends there with probability 1 - exp(-hazard)."""
        turn = turn.unsqueeze(1).expand_as(curve)
        hazards, _ = self.event(
            self._scaled(obs).flatten(0, 1),
            (moves / self.pace).flatten(0, 1).unsqueeze(2),
            torch.cat([curve, turn], dim=3).flatten(0, 1),
        )
        out: Tensor = hazards.sum(dim=(1, 2)).unflatten(0, obs.shape[:2])
        return out

    def _duration(self, line: _Line) -> Tensor:
        """Whole frames (B,) until the line ends, at most the horizon."""
        bound = -math.log1p(-self.config.certainty)
        frames = torch.full_like(line.phase[:, 0], float(self.config.horizon))
        rows = torch.arange(len(frames), device=frames.device)
        some = _Line(*(part.detach() for part in line))
        for begin in range(1, self.config.horizon, _AT_ONCE):
            last = min(begin + _AT_ONCE, self.config.horizon)
            ahead = torch.arange(begin, last, device=frames.device).to(frames.dtype)
            over = self._hazard(*self._along(some, ahead), some.turn) > bound
            first = ahead[over.to(torch.uint8).argmax(dim=1)]
            ended = over.any(dim=1)
            frames = frames.index_copy(0, rows, torch.where(ended, first, frames[rows]))
            going = (~ended).nonzero()[:, 0]
            if not len(going) or last == self.config.horizon:
                break
            rows, some = rows[going], _Line(*(part[going] for part in some))
        return frames

    def _bent(self, curve: Tensor) -> Tensor:
        """g (..., d) at c = ``curve`` (..., L)."""
        if not self.config.latent_size:
            return torch.zeros((), dtype=curve.dtype, device=curve.device)
        out: Tensor = self.bend(curve) * self.pace
        return out

    def _moving(self, velocity: Tensor, curve: Tensor, turn: Tensor) -> Tensor:
        """The displacement of the last frame (B, N, d) on a line that is at c = ``curve``."""
        if not self.config.latent_size:
            return velocity
        before, now = self._bent(torch.stack([curve - turn, curve])).unbind()
        return velocity + now - before

    # -- states ------------------------------------------------------------------------------

    def _scaled(self, obs: Tensor) -> Tensor:
        return (obs - self.center) / self.scale

    def _by_body(self, action: Tensor) -> Tensor:
        """Actions (B, A) as what each body is given, (B, N, A')."""
        config = self.config
        given = action.new_zeros(len(action), config.num_bodies, config.part_size)
        if not config.action_size:
            return given
        actors = torch.tensor(config.actors, device=action.device)
        return given.index_copy(1, actors, action.unflatten(1, (len(actors), -1)))

    def _due(self, obs: Tensor, velocity: Tensor, curve: Tensor, turn: Tensor) -> State:
        """The state at ``obs`` (B, N, d), where a tick is due."""
        offset, phase = torch.zeros_like(obs), obs.new_zeros(len(obs), 1)
        line = _Line(obs - self._bent(curve), velocity, offset, curve, turn, phase)
        return self._state(line, phase[:, 0], obs.flatten(1))

    def _state(self, line: _Line, remaining: Tensor, obs: Tensor) -> State:
        """A state at the beginning of a line."""
        parts = [line.place, line.offset, line.curve]
        rates = [line.velocity, torch.zeros_like(line.offset), line.turn]
        return State(
            hidden=torch.cat([torch.cat(parts, dim=2).flatten(1), line.phase], dim=1),
            velocity=torch.cat(
                [torch.cat(rates, dim=2).flatten(1), torch.ones_like(line.phase)], dim=1
            ),
            remaining=remaining,
            obs=obs,
        )

    def _line_of(self, state: State) -> _Line:
        """The line that a state is on."""
        N, d, L = self.config.num_bodies, self.config.body_size, self.config.latent_size
        hidden, rates = (
            part[:, :-1].unflatten(1, (N, -1)).split([d, d, L], dim=2)
            for part in (state.hidden, state.velocity)
        )
        return _Line(hidden[0], rates[0], hidden[1], hidden[2], rates[2], state.hidden[:, -1:])

    def parts(self) -> dict[str, Callable[..., Any]]:
        return {**super().parts(), "observe": self.observe}

    # -- learning ----------------------------------------------------------------------------

    def epsilon_at(self, progress: Tensor | None = None) -> float:
        """The tolerance of lines at a moment of training, from 0 to 1, or after it."""
        last, first = self.config.epsilon, self.config.first_epsilon
        share = 1.0 if progress is None else min(1.0, float(progress) / 0.8)
        return float(last * (first / last) ** (0.5 * (1.0 + math.cos(math.pi * share))))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Error along the lines of ``chain`` ticks, and cross-entropy of where they end.

        A line ends where the bodies no longer move on as it does: where the displacement to the
        next frame has a squared error above epsilon. It ends at an action too. It is judged at all
        frames up to its end and at the next one, which it misses: by that, curved lines grow. Once
        a line has led far off, the ticks after it teach no more: what was real says nothing of
        where they are.

        ``batch`` comes from ``jumpy_mbrl.data.sampling.StartSampler``; by ``progress``, from 0 at
        the first step of training to 1, epsilon falls.
        """
        config = self.config
        epsilon = self.epsilon_at(batch.get("progress"))
        film = _Film.of(batch, config.num_bodies)
        frame, ago = batch["start"], torch.arange(1 - config.window, 1, device=film.obs.device)
        shown = film.rows.unsqueeze(1), frame.unsqueeze(1) + ago
        seen = film.obs[shown]
        if config.noise:
            seen = seen + config.noise * self.pace * batch["noise"].view_as(seen)
        velocity, curve, turn = self._read(seen, film.action[shown])
        now = seen[:, -1]
        learned, lost = [], torch.zeros_like(film.rows, dtype=torch.bool)
        for u in batch["u"].unflatten(1, (config.chain, 4)).unbind(dim=1):
            line = self._tick(
                now, velocity, curve, turn, self._by_body(film.action[film.rows, frame])
            )
            lesson, jump, path = self._judge(now, line, film, frame, epsilon, u[:, 0], lost)
            learned.append(lesson)
            early = torch.where(u[:, 1] < config.early_ticks, (u[:, 3] * jump).long() + 1, jump)
            step = torch.minimum(early, jump).clamp_min(1)
            frame = torch.minimum(frame + step, film.last.clamp_min(0))
            own, now = path[film.rows, step - 1], film.obs[film.rows, frame]
            missed = ((own.detach() - now) / self.scale).square().mean(dim=2).amax(dim=1)
            lost = lost | (missed > _LOST * epsilon)
            now = torch.where((u[:, 2] < config.own_jumps)[:, None, None], own, now)
            turn, curve = line.turn, line.curve + line.turn * step[:, None, None]
            velocity = self._moving(line.velocity, curve, turn)
        errors, judged, entropy, counts, jumps, failed = map(
            torch.stack, zip(*learned, strict=True)
        )
        accuracy = (errors * judged).sum() / judged.sum().clamp_min(1)
        event = (entropy * counts).sum() / counts.sum().clamp_min(1)
        mean_jump = (jumps * failed).sum() / failed.sum().clamp_min(1)
        log = {"accuracy": accuracy, "event": event, "mean_jump": mean_jump}
        return accuracy + event, {name: value.detach() for name, value in log.items()}

    def _judge(
        self,
        now: Tensor,
        line: _Line,
        film: _Film,
        frame: Tensor,
        epsilon: float,
        u: Tensor,
        lost: Tensor,
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """What is learned from lines that begin at ``now`` (B, N, d), at ``frame`` (B,), where they
        are not ``lost`` (B,); how many frames they hold, (B,); and where they lead,
        (B, J, N, d)."""
        ahead = torch.arange(1, self.config.horizon + 1, device=frame.device)
        imagined = self._along(line, ahead.to(line.place))
        path = imagined[0]
        real, known = film.after(frame, ahead)
        known = known & ~lost.unsqueeze(1)
        missed = ((path - real) / self.scale).square().mean(dim=3).amax(dim=2)
        begin = now.unsqueeze(1)
        moves, mine = (torch.cat([begin, to], dim=1).diff(dim=1) for to in (real, path.detach()))
        surprise = ((mine - moves) / self.scale).square().mean(dim=3).amax(dim=2)
        holds = (surprise < epsilon) & known
        holds[:, 0] = known[:, 0]
        jump = holds.long().cumprod(dim=1).sum(dim=1)
        failed = (jump < known.sum(dim=1)) & known[:, 0]
        judged = (ahead <= (jump + failed).unsqueeze(1)) & known
        missed = _softened(missed, ahead <= jump.unsqueeze(1), epsilon)
        # Hazards: where it ends, the frame before that, and one earlier, which counts for them all.
        earlier = (jump - 2).clamp_min(0)
        asked = torch.stack([jump, jump - 1, 1 + (u * earlier).long()], dim=1)
        counts = torch.stack([failed.long(), (jump > 1).long(), earlier], dim=1) * known[:, :1]
        there = film.rows[:, None], (asked - 1).clamp_min(0)
        places, last, curve = (part.detach()[there] for part in imagined)
        hazard = self._hazard(places, last, curve, line.turn.detach()).clamp_min(1e-6)
        entropy = torch.cat([-(-torch.expm1(-hazard[:, :1])).log(), hazard[:, 1:]], dim=1)
        return (missed, judged, entropy, counts, jump, failed), jump, path


class _Film(NamedTuple):
    """Sequences to learn from."""

    obs: Tensor  # (B, T, N, d)
    action: Tensor  # (B, T, A)
    acted: Tensor  # (B, T) whether there was an action
    last: Tensor  # (B,) the last real frame
    rows: Tensor  # (B,) their numbers

    @classmethod
    def of(cls, batch: dict[str, Tensor], num_bodies: int) -> _Film:
        obs, action = batch["obs"].unflatten(2, (num_bodies, -1)), batch["action"]
        rows = torch.arange(len(obs), device=obs.device)
        return cls(obs, action, (action != 0.0).any(dim=2), batch["length"] - 1, rows)

    def after(self, frame: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, J, N, d) ``ahead`` (J,) of ``frame`` (B,), and which are real and come no
        later than the next action."""
        at = frame.unsqueeze(1) + ahead
        known = at <= self.last.unsqueeze(1)
        place = self.rows.unsqueeze(1), at.clamp_max(self.obs.shape[1] - 1)
        stopped = (self.acted[place] & known).long()
        return self.obs[place], known & (stopped.cumsum(dim=1) == stopped)


def _softened(error: Tensor, inside: Tensor, epsilon: float) -> Tensor:
    """Where a line holds, the root of its squared error: small errors count too. Where it does not,
    errors that are hopeless count less."""
    near = (error + 1e-9).sqrt()
    far = error / (error + 10.0 * epsilon) * math.sqrt(10.0 * epsilon)
    return 25.0 * torch.where(inside, near, far)
