"""The papers' jumpy recurrent network (2020 paper, equations 4-7, appendix A.1).

The paper prints ``x(t) = f(h(t))`` (eq. 3 and 6). The authors' programs predict the displacement
since the tick instead, from the latent and its velocity, so that a line begins exactly at the frame
which the tick read: ``x(t) = x(tau) + f(h(t), h')``, where a term of the loss draws
``f(h(tau), h')`` to zero. Here that is subtracted, so no term is needed. ``residual`` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import check_number
from jumpy_mbrl.models.base import State, check_frames, like_of, own_state
from jumpy_mbrl.models.networks import check_sizes
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.models.recurrent import (
    RecurrentConfig,
    RecurrentModel,
    foreseen,
    frame_actions,
    loss_weights,
    mean_where,
)

_AT_ONCE = 4096
"""Frames that are decoded at once where no gradient is asked for, so that they fit in the cache."""


@dataclass(frozen=True)
class JumpyRNNConfig(RecurrentConfig):
    """Sizes of a ``JumpyRNN`` and settings of its training; see also ``RecurrentConfig``.

    Attributes:
        hidden_size: H of the GRU, half latent and half its velocity.
        horizon: longest jump, in frames; the shortest is one frame.
        epsilon: squared error (mean over coordinates) up to which a line is accurate, eq. 7.
            (Paper: about the final training loss of the baseline.)
        first_epsilon: what epsilon falls from as training goes on, along half a cosine on a
            logarithmic scale, or 0 if it does not fall. Lines are long from the first steps on
            then, which also makes these cheap. (Paper: 0; considered in A.2.)
        forced_jumps: how often in training a jump goes on although it is not accurate, to learn
            what long lines are. (Paper, A.2: 0.01.)
        own_jumps: how often in training a sequence is jumped through as the model itself predicts,
            not as far as it is accurate (eq. 7), so that it learns from where its jumps will end at
            use. Such sequences teach no durations. (Paper: 0.)
        duration_weight: weight of the durations' squared error in the loss. (Paper: 1e-5.)
        context_frames: in training the model ticks at each of the first so many frames, as it does
            when it observes real frames.
        constant_jump: frames of every jump (section 2.1, equations 1-3), or 0 for learned ones.
        whole_jumps: whether predicted jumps are rounded to whole frames, as all are in training;
            gradients pass as if they were not.
        residual: decode the displacement since the tick (True), or the frame itself (equations 3
            and 6 as they are printed).
        scale: as of ``RNNConfig``; epsilon too is that of numbers so divided.
    """

    horizon: float = 44.0
    epsilon: float = 2e-4
    first_epsilon: float = 0.0
    forced_jumps: float = 0.01
    own_jumps: float = 0.0
    duration_weight: float = 1e-5
    context_frames: int = 4
    constant_jump: int = 0
    whole_jumps: bool = False
    residual: bool = True
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("context_frames",))
        check_sizes(self, ("constant_jump",), low=0)
        if self.hidden_size % 2:
            raise ValueError(
                f"expected hidden_size to be even, half latent and half velocity, got "
                f"{self.hidden_size}"
            )
        check_number("horizon", self.horizon, 1.0)
        for name in ("epsilon", "duration_weight"):
            check_number(name, getattr(self, name), 0.0)
        for name in ("forced_jumps", "own_jumps"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        if self.first_epsilon and not 0.0 < self.epsilon <= self.first_epsilon < math.inf:
            raise ValueError(
                "expected first_epsilon to be 0, or at least epsilon, which must be positive then, "
                f"got {self.first_epsilon} and {self.epsilon}"
            )

    @property
    def latent_size(self) -> int:
        """Size L of the latent h: one half of the GRU's state, the other being its velocity."""
        return self.hidden_size // 2


@dataclass(frozen=True)
class JumpyState(State):
    """A state that knows where its line began.

    Attributes:
        anchor: h_i, the latent at the last tick, (B, L). The next tick reads it together with
            ``h(t) - anchor``, which is h'_i times the time since (eq. 4).
    """

    anchor: Tensor


class JumpyRNN(RecurrentModel, PiecewiseLinearModel):
    """A GRU that predicts a line in latent space and for how long it holds.

    ``[h_i, h'_i] = GRU([h_{i-1}, h'_{i-1} D_{i-1}], [phi(x), a])``,
    ``D_i = LeakyReLU(w h_i + b) + 1``, ``h(t) = h_i + h'_i (t - tau_i)``, and
    ``x(t) = x(tau_i) + f(h(t), h'_i) - f(h_i, h'_i)`` or, without ``residual``, ``x(t) = f(h(t))``.
    At inference D is held in [1, horizon], and rounded if ``whole_jumps``.

    With ``residual`` the latent of a ``State`` is h(t), and beside it what stays the same along a
    line: h'_i and ``x(tau_i) - f(h_i, h'_i)``.
    """

    compiles = False

    config: JumpyRNNConfig

    def __init__(self, config: JumpyRNNConfig) -> None:
        super().__init__(config, config.scale)
        self.cell = nn.GRUCell(config.mlp_size + config.action_size, config.hidden_size)
        self.duration = nn.Linear(config.latent_size, 1)
        self.decoder = self._decoder(config.hidden_size if config.residual else config.latent_size)

    def initial_state(self, batch_size: int) -> JumpyState:
        latent = self._no_latent(batch_size)
        obs = latent.new_full((batch_size, self.obs_size), 0.5)
        return self._line(latent, torch.zeros_like(latent), obs, latent.new_zeros(batch_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> JumpyState:
        """See ``WorldModel.observe``. Ticks at every frame but the last, where a tick is due."""
        check_frames(obs, self.obs_size, self.min_frames)
        action = frame_actions(obs, action, self.action_size)
        gates = self._input_gates(obs[:, :-1], action[:, :-1])
        anchor = velocity = self._no_latent(obs.shape[0])
        for t in range(obs.shape[1] - 1):
            anchor, velocity = self._next_line(gates[:, t], anchor, velocity)
        state = self._line(anchor + velocity, velocity, obs[:, -1], torch.zeros_like(anchor[:, 0]))
        return replace(state, anchor=anchor)

    def tick(self, state: State, action: Tensor | None = None) -> JumpyState:
        """See ``PiecewiseLinearModel.tick``; reads ``state.obs`` and the action, or none."""
        state = own_state(self, state, JumpyState)
        gates = self._input_gates(state.obs, action)
        moved = state.hidden[:, : self.config.latent_size] - state.anchor
        latent, velocity = self._next_line(gates, state.anchor, moved)
        return self._line(latent, velocity, state.obs, self._next_duration(latent))

    def decode(self, hidden: Tensor) -> Tensor:
        if not self.config.residual:
            out: Tensor = self.decoder(hidden)
            return out
        size = self.config.hidden_size
        shape: Tensor = self.decoder(hidden[..., :size])
        return shape + hidden[..., size:]

    def decode_lines(self, state: State, rows: Tensor, elapsed: Tensor) -> Tensor:
        latent = self.config.latent_size
        entered = self._enter(state.hidden[:, :latent], state.velocity[:, :latent])
        shape = self._at(entered, rows, elapsed)
        if not self.config.residual:
            return shape
        return shape + state.hidden[:, self.config.hidden_size :].index_select(0, rows)

    def _enter(self, latent: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder's first layer makes of P lines (P, L): at their beginning, and its
        change per frame, (P, width) each. As it is linear, these tell all that it makes of them."""
        first = self.decoder.first
        moving = torch.cat([latent, velocity], dim=1) if self.config.residual else latent
        with torch.autocast(latent.device.type, enabled=False):
            rate = nn.functional.linear(velocity, first.weight[:, : latent.shape[1]])
            return nn.functional.linear(moving, first.weight, first.bias), rate

    def _at(self, entered: tuple[Tensor, Tensor], rows: Tensor, elapsed: Tensor) -> Tensor:
        """The decoder's outputs (Q, D) on the lines ``rows`` (Q,), ``elapsed`` (Q,) frames on."""
        # Each piece of a graph would have a gradient of all lines.
        size = len(rows) if any(part.requires_grad for part in entered) else _AT_ONCE
        pieces = []
        for some, ahead in zip(rows.split(size), elapsed.unsqueeze(1).split(size), strict=True):
            begin, rate = (part.index_select(0, some) for part in entered)
            pieces.append(self.decoder.after_first(torch.addcmul(begin, rate, ahead)))
        return torch.cat(pieces)

    def _no_latent(self, batch_size: int) -> Tensor:
        """The latent (B, L), and its velocity, before anything has been seen."""
        return like_of(self).new_zeros(batch_size, self.config.latent_size)

    def _line(self, latent: Tensor, velocity: Tensor, obs: Tensor, remaining: Tensor) -> JumpyState:
        """The state of a line that begins at ``latent`` and ``obs``."""
        if not self.config.residual:
            return JumpyState(latent, velocity, remaining, obs, anchor=latent)
        moving = torch.cat([latent, velocity], dim=1)
        hidden = torch.cat([moving, obs - self.decoder(moving)], dim=1)
        return JumpyState(
            hidden=hidden,
            velocity=nn.functional.pad(velocity, (0, hidden.shape[1] - velocity.shape[1])),
            remaining=remaining,
            obs=obs,
            anchor=latent,
        )

    def parts(self) -> dict[str, Callable[..., Any]]:
        lines = PiecewiseLinearModel.parts(self)
        return {**super().parts(), **lines, "observe": self.observe}

    def _next_line(self, gates: Tensor, anchor: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 4: latent and velocity (B, L) from the last latent and how far it has moved since."""
        both = self._update(gates, torch.cat([anchor, moved], dim=1))
        latent, velocity = both.chunk(2, dim=1)
        return latent, velocity

    def _next_duration(self, hidden: Tensor) -> Tensor:
        """Frames to jump at inference, (B, L) to (B,)."""
        if self.config.constant_jump:
            return torch.full_like(hidden[:, 0], float(self.config.constant_jump))
        duration = self._duration(hidden).clamp(1.0, self.config.horizon)
        if self.config.whole_jumps:
            whole = duration.round().clamp(max=math.floor(self.config.horizon))
            duration = duration + (whole - duration).detach()
        return duration

    def _duration(self, hidden: Tensor) -> Tensor:
        """Eq. 5, in frames, (..., L) to (...)."""
        return nn.functional.leaky_relu(self.duration(hidden).squeeze(-1)) + 1.0

    # -- training --------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error along the lines of largest accurate jumps, and of their durations.

        First the ticks are searched for without gradients (``search_ticks``), then the model is
        run over them, tick by tick rather than frame by frame. A line is judged at every frame
        from its first to its last (eq. 6), and at the next one if it ended because it would have
        missed it: that is the error which A.1 compares with epsilon, and lines grow by it. A
        duration is taught unless the line was cut short by the context frames, by an action, or
        because its sequence ends before the others, and unless its length was predicted
        (``own_jumps``).

        By ``LossConfig``, lines that begin at an action may count more than others and those of the
        first frames not at all, with all their frames. Logged is the plain mean.

        ``batch`` comes from ``jumpy_mbrl.data.sampling.SequenceSampler``; its ``u`` (B, T) draws
        forced jumps and own jumps. By ``progress``, from 0 at the first step of training to 1,
        epsilon falls; without it, it has fallen.
        """
        obs = batch["obs"]
        check_frames(obs, self.obs_size, min_frames=2)
        action = frame_actions(obs, batch.get("action"), self.action_size)
        due = self._ticks_due(action)
        u = batch.get("u")
        constant = self.config.constant_jump > 0
        epsilon = self.epsilon_at(batch.get("progress"))
        ticks = due if constant else self.search_ticks(obs, action, due, u, epsilon)
        own = due.new_zeros(len(obs)) if u is None or constant else self._own(u)
        lines = _Jumps(ticks, due | (ticks & own.unsqueeze(1)), foreseen(obs, batch.get("length")))
        hidden, velocity = self._run_ticks(lines, obs, action)
        accuracy, prediction = self._accuracy(lines, hidden, velocity, obs, action)
        taught = ~(lines.cut | own[lines.row])
        error = torch.where(taught, self._duration(hidden) - lines.jump, 0.0)
        duration = error.square().sum() / taught.sum().clamp_min(1)
        loss = accuracy + self.config.duration_weight * duration
        mean_jump = lines.jump.mean()
        return loss, {"prediction": prediction, "duration": duration, "mean_jump": mean_jump}

    def epsilon_at(self, progress: Tensor | None = None) -> Tensor | float:
        """The tolerance of lines at a moment of training, from 0 to 1, or after it."""
        last, first = self.config.epsilon, self.config.first_epsilon
        if progress is None or not first:
            return last
        return last * (first / last) ** (0.5 * (1.0 + torch.cos(math.pi * progress)))

    def _accuracy(
        self, lines: _Jumps, hidden: Tensor, velocity: Tensor, obs: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean squared error of the lines (P, L) where they are judged, weighted after an action,
        and at each frame once, plain."""
        failed = lines.failed.nonzero().squeeze(1)
        every = torch.arange(len(hidden), device=hidden.device)
        line = torch.cat([lines.line_at, failed, every])
        jump = lines.jump.to(hidden.dtype)
        elapsed = torch.cat([lines.elapsed.to(hidden.dtype), jump[failed] + 1.0, 0.0 * jump])
        shapes = self._at(self._enter(hidden, velocity), line, elapsed)
        begin = obs[lines.row, lines.frame]
        real = torch.cat(
            [
                obs[:, 1:].flatten(0, 1)[lines.spanned],
                obs[lines.row[failed], lines.end[failed] + 1],
                begin,
            ]
        )
        predicted = shapes
        if self.config.residual:
            known = len(line) - len(every)
            predicted = shapes[:known] + (begin - shapes[known:]).index_select(0, line[:known])
            real = real[:known]
        errors = self.decoder.relative(predicted - real).square()
        weight = loss_weights(self.config, obs, action)
        if weight is not None:
            of_lines = weight[lines.row, lines.frame]  # That of the frame after the tick.
            # The lines' first frames come last, and are left out where they are exact.
            weight = torch.cat([of_lines[lines.line_at], of_lines[failed], of_lines])[: len(errors)]
        return mean_where(errors, weight), errors[: len(lines.line_at)].mean()

    def _ticks_due(self, action: Tensor) -> Tensor:
        """Where a tick is due, (B, T-1): at the context frames, and at every action."""
        due = (action[:, :-1] != 0.0).any(dim=-1)
        due[:, : self.config.context_frames] = True
        if self.config.constant_jump:
            due[:, self.config.context_frames - 1 :: self.config.constant_jump] = True
        return due

    @torch.no_grad()
    def search_ticks(
        self,
        obs: Tensor,
        action: Tensor,
        due: Tensor,
        u: Tensor | None = None,
        epsilon: Tensor | float | None = None,
    ) -> Tensor:
        """Forward line search for the largest jumps (eq. 7) in one pass over the frames (A.1).

        At each frame a sequence keeps its line if that predicts the next frame with a squared
        error below epsilon; otherwise it ticks, reading the true frame. So every line is as
        long as it is accurate, at least one frame. Some sequences (``own_jumps``) instead keep
        their lines as long as these predict, rounded up or down at random to whole frames.

        Gives where the model ticks, (B, T-1) bool; everywhere at frame 0, and where a tick is
        ``due`` whatever the error. Numbers ``u`` (B, T), uniform in [0, 1), draw forced jumps and
        own jumps; None for neither.
        """
        B, T = obs.shape[:2]
        epsilon = self.config.epsilon if epsilon is None else epsilon
        anchor, velocity = self._no_latent(B), self._no_latent(B)
        start = torch.zeros_like(anchor[:, 0])
        offset = torch.zeros_like(obs[:, 0])
        begin, rate = self._enter(anchor, velocity)
        length = torch.zeros_like(start)
        ticks = due.clone()
        ticks[:, 0] = True
        own = None if u is None or self.config.own_jumps == 0.0 else self._own(u)
        all_due = due.all(dim=0).tolist()
        for t in range(T - 1):
            elapsed = (t - start).unsqueeze(1)
            if t > 0 and not all_due[t]:
                shape = self.decoder.after_first(torch.addcmul(begin, rate, elapsed + 1.0))
                missed = self.decoder.relative(shape + offset - obs[:, t + 1])
                keep = missed.square().mean(dim=1) < epsilon
                if u is not None:
                    keep = keep | (u[:, t] < self.config.forced_jumps)
                if own is not None:
                    keep = torch.where(own, elapsed.squeeze(1) + 1.0 <= length, keep)
                keep = keep & (elapsed.squeeze(1) + 1.0 <= self.config.horizon)
                ticks[:, t] |= ~keep
            rows = ticks[:, t].nonzero().squeeze(1)
            if rows.numel() == 0:
                continue
            gates = self._input_gates(obs[rows, t], action[rows, t])
            latent, speed = self._next_line(gates, anchor[rows], (velocity * elapsed)[rows])
            entered, turned = self._enter(latent, speed)
            for part, new in (
                (anchor, latent),
                (velocity, speed),
                (begin, entered),
                (rate, turned),
                (start, torch.full_like(latent[:, 0], t)),
            ):
                part.index_copy_(0, rows, new)
            if u is not None and own is not None:
                whole = (self._next_duration(latent) + u[rows, t]).floor()
                length.index_copy_(0, rows, whole.to(length))
            if self.config.residual:
                shape = self.decoder.after_first(entered)
                offset.index_copy_(0, rows, (obs[rows, t] - shape).to(offset))
        return ticks

    def _own(self, u: Tensor) -> Tensor:
        """Which sequences make jumps of their own, (B,) bool; nothing else reads these numbers."""
        return u[:, -1] < self.config.own_jumps

    def _run_ticks(self, lines: _Jumps, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Latent and velocity (P, L) of every line, given where they begin."""
        read, done = obs[lines.row, lines.frame], action[lines.row, lines.frame]
        gates = self._input_gates(read, done)
        anchor = moved = self._no_latent(obs.shape[0])
        hidden, velocity = list[Tensor](), list[Tensor]()
        jumps = lines.jump.unsqueeze(1).split(lines.counts)
        for step_gates, jump in zip(gates.split(lines.counts), jumps, strict=True):
            count = len(step_gates)
            anchor, speed = self._next_line(step_gates, anchor[:count], moved[:count])
            moved = speed * jump
            hidden.append(anchor)
            velocity.append(speed)
        return torch.cat(hidden), torch.cat(velocity)


class _Jumps:
    """The P lines of B sequences of T frames, packed tick by tick, longest sequences first.

    First come the first lines of all sequences, then the second lines of those that have one, and
    so on; sequences with more ticks come earlier, so that each block is the head of the last.

    Attributes:
        row, frame: (P,) sequence and frame where a line begins.
        end: (P,) frame where it ends and the next one begins; T - 1 for the last.
        jump: (P,) frames that it spans.
        cut: (P,) bool, it ends because a tick was due there, or its sequence ends early.
        failed: (P,) bool, it ends because it would have missed the next frame.
        counts: number of lines in each block.
        spanned: which of the B * (T-1) frames after the first are real; all as a slice.
        line_at, elapsed: which line spans each of these, and how long it has gone on there.
    """

    def __init__(self, ticks: Tensor, due: Tensor, real: Tensor | None = None) -> None:
        B, steps = ticks.shape
        device = ticks.device
        self.spanned: Tensor | slice = slice(None) if real is None else real.flatten()
        ends = torch.full((B,), steps, device=device) if real is None else real.sum(dim=1)
        ticks = ticks if real is None else ticks & real
        totals = ticks.sum(dim=1)
        rank = totals.argsort(descending=True, stable=True).argsort()
        longest = int(totals.max())
        counts = (totals.unsqueeze(1) > torch.arange(longest, device=device)).sum(dim=0)
        first = counts.cumsum(dim=0) - counts
        self.line_at = (first[ticks.cumsum(dim=1) - 1] + rank.unsqueeze(1)).flatten()
        sequence, begin = ticks.nonzero(as_tuple=True)
        place = self.line_at[sequence * steps + begin]
        self.row = torch.empty_like(place).index_copy_(0, place, sequence)
        self.frame = torch.empty_like(place).index_copy_(0, place, begin)
        self.line_at = self.line_at[self.spanned]
        spans = torch.bincount(self.line_at)
        self.jump = spans.to(torch.float32)
        self.end = self.frame + spans
        last = self.end == ends[self.row]
        self.failed = ~(due[self.row, self.end.clamp_max(steps - 1)] | last)
        # Where the longest sequences end, so do their lines; an early end says nothing of them.
        self.cut = ~self.failed & ~(self.end == steps)
        self.counts = counts.tolist()
        after = torch.arange(1, steps + 1, device=device).repeat(B)[self.spanned]
        self.elapsed = after - self.frame[self.line_at]
