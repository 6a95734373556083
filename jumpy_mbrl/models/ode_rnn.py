"""The 2021 post's baseline: a recurrent network whose latent follows an ODE between its ticks.

ODE-RNNs are from Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series"
(2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import check_choice, check_number
from jumpy_mbrl.models.base import Imagined, State, check_frames, like_of, own_state
from jumpy_mbrl.models.networks import check_sizes
from jumpy_mbrl.models.recurrent import RecurrentConfig, RecurrentModel, frame_actions, mean_where
from jumpy_mbrl.pieces import Pieces

FIXED_STEP_SOLVERS = ("euler", "midpoint", "rk4")
ADAPTIVE_SOLVERS = ("dopri5",)

_MOST_STEPS = 10_000


@dataclass(frozen=True)
class ODERNNConfig(RecurrentConfig):
    """Sizes of an ``ODERNN``, and how its differential equation is solved.

    Attributes:
        dynamics_size: width of the network that gives dh/dt.
        dynamics_layers: its linear layers, with tanh between them; with 1 the equation is linear.
        solver: how torchdiffeq solves it, one of ``FIXED_STEP_SOLVERS`` or ``ADAPTIVE_SOLVERS``.
        solver_steps: steps of a fixed-step solver, for a frame or any part of one.
        rtol, atol: relative and absolute error of the latent that an adaptive solver allows. It
            chooses its steps for a whole batch, so within this error a row depends on the others.
        residual: decode the change since the last tick (True), or the observation itself.
        scale: as of ``RNNConfig``.
    """

    dynamics_size: int = 128
    dynamics_layers: int = 2
    solver: str = "rk4"
    solver_steps: int = 1
    rtol: float = 1e-4
    atol: float = 1e-5
    residual: bool = True
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("dynamics_size", "dynamics_layers", "solver_steps"))
        check_choice("solver", self.solver, (*FIXED_STEP_SOLVERS, *ADAPTIVE_SOLVERS))
        for name in ("rtol", "atol"):
            check_number(name, getattr(self, name), 0.0, open_low=True)


@dataclass(frozen=True)
class ODEState(State):
    """A state that knows where its curve began.

    Attributes:
        anchor: latent right after the last tick, (B, H).
        origin: observation that the last tick read, (B, D).
    """

    anchor: Tensor
    origin: Tensor


class ODERNN(RecurrentModel):
    """h_t = GRU(h_t^-, [phi(x_t), a_t]); then dh/ds = g(h); x(t+s) = x_t + s f(h(t+s)).

    Here h_t^- is the latent that arrives at time t, and g a tanh network. The latent is a curve
    between ticks, so it can be decoded at any time; ``residual=False`` is x(t+s) = f(h(t+s)). A
    tick is due one frame after the last. An action in between makes the model tick there, reading
    what it decoded, and its frames count from that moment on; rows need not tick together.

    A curve is always solved from the tick where it began, in one go: what lies at a time depends
    neither on the other query times nor on where a rollout was cut. In a ``State``, ``velocity``
    is the slope dh/ds at its moment.
    """

    config: ODERNNConfig

    def __init__(self, config: ODERNNConfig) -> None:
        super().__init__(config, config.scale)
        self.cell = nn.GRUCell(config.mlp_size + config.action_size, config.hidden_size)
        inner = [config.dynamics_size] * (config.dynamics_layers - 1)
        layers: list[nn.Module] = []
        for sizes in pairwise([config.hidden_size, *inner, config.hidden_size]):
            layers += [nn.Linear(*sizes), nn.Tanh()]
        self.dynamics = nn.Sequential(*layers[:-1])
        self.decoder = self._decoder(config.hidden_size)

    def initial_state(self, batch_size: int) -> ODEState:
        hidden = like_of(self).new_zeros(batch_size, self.config.hidden_size)
        obs = hidden.new_full((batch_size, self.obs_size), 0.5)
        remaining = hidden.new_zeros(batch_size)
        return ODEState(hidden, self.dynamics(hidden), remaining, obs, anchor=hidden, origin=obs)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> ODEState:
        """See ``WorldModel.observe``. Reads all frames but the last, which waits in ``obs``."""
        check_frames(obs, self.obs_size, self.min_frames)
        action = frame_actions(obs, action, self.action_size)
        state = self.initial_state(obs.shape[0])
        if obs.shape[1] == 1:
            return replace(state, obs=obs[:, 0])
        ticked, arrived = self._teacher_forced(obs[:, :-1], action[:, :-1])
        return ODEState(
            hidden=arrived[-1],
            velocity=self.dynamics(arrived[-1]),
            remaining=state.remaining,
            obs=obs[:, -1],
            anchor=ticked[-1],
            origin=obs[:, -2],
        )

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the decoder under teacher forcing, at both ends of every curve.

        The end is the one-frame prediction, which is logged. At the beginning too the decoder
        should give the change over the frame or, without ``residual``, the frame that was read:
        no data lie in between, and a curve tied at its end alone wanders on its way there.
        """
        obs, action, real, weight = self._frames_of(batch)
        ticked, arrived = self._teacher_forced(obs[:, :-1], action[:, :-1])
        before, after = obs.transpose(0, 1)[:-1], obs.transpose(0, 1)[1:]
        first = after if self.config.residual else before
        real, weight = (None if part is None else part.t() for part in (real, weight))

        def error(latents: list[Tensor], wanted: Tensor) -> Tensor:
            missed = self.decoder.relative(self._decode(torch.stack(latents), before) - wanted)
            return missed.square()

        end, start = error(arrived, after), error(ticked, first)
        prediction = mean_where(end, real)
        log = {"prediction": prediction, "mean_jump": torch.ones_like(prediction)}
        return 0.5 * (mean_where(end, weight) + mean_where(start, weight)), log

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        now = own_state(self, state, ODEState)
        rows = torch.arange(now.batch_size, device=now.hidden.device)
        final, since = now, torch.zeros_like(now.remaining)
        clock = since
        curves, arrivals = Pieces(now.remaining - 1.0, now), Pieces(clock, now)

        def record(pieces: Pieces) -> None:
            nonlocal final, since
            pieces.add(rows, clock, now)
            whole = rows.numel() == len(since)
            final = now if whole else final.update_rows(rows, now)
            since = clock if whole else since.index_copy(0, rows, clock)

        if action is not None:
            now = self._tick(now, action)
            record(curves)
        while True:
            clock = clock + now.remaining
            rows, clock, now = _keep(clock <= end, rows, clock, now)
            if rows.numel() == 0:
                break
            now = self._arrive(now)
            record(arrivals)
            rows, clock, now = _keep(clock < end, rows, clock, now)
            if rows.numel() == 0:
                break
            now = self._tick(now)
            record(curves)
        under_way = (since < end).nonzero().squeeze(1)
        if under_way.numel():
            advanced = self._advance(final[under_way], end - since[under_way])
            final = final.update_rows(under_way, advanced)
        final = replace(final, velocity=self.dynamics(final.hidden))
        return Imagined(self._read(curves, arrivals, times), curves.starts[:, 1:], final)

    def _read(self, curves: Pieces, arrivals: Pieces, times: Tensor) -> Tensor:
        """Observations (B, K, D) at ``times`` (K,). At a tick's moment it is what the tick read."""
        starts = arrivals.starts
        asked = times.expand(len(starts), -1).contiguous()
        nearest = torch.searchsorted(starts, asked).clamp_max(starts.shape[1] - 1)
        known = torch.cat([state.obs for state in arrivals.contents])
        obs = known[arrivals.numbers.gather(1, nearest)]
        between = (starts.gather(1, nearest) != asked).nonzero(as_tuple=True)
        if between[0].numel() == 0:
            return obs
        number, elapsed = (part[between] for part in curves.find(times))
        anchor, origin = (
            torch.cat([vars(state)[name] for state in curves.contents]).index_select(0, number)
            for name in ("anchor", "origin")
        )
        latent = self._flow(anchor, elapsed)
        return obs.index_put(between, self._decode(latent, origin, elapsed))

    def _teacher_forced(self, obs: Tensor, action: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Latents after reading each real frame (B, T, D) and one frame later, T times (B, H)."""
        inputs = torch.cat([self.encoder(obs), action], dim=-1).transpose(0, 1)
        gates = nn.functional.linear(inputs, self.cell.weight_ih, self.cell.bias_ih)
        hidden = gates.new_zeros(obs.shape[0], self.config.hidden_size)
        ticked, arrived = list[Tensor](), list[Tensor]()
        for frame_gates in gates:
            ticked.append(self._update(frame_gates, hidden))
            hidden = self._flow(ticked[-1])
            arrived.append(hidden)
        return ticked, arrived

    def _tick(self, state: ODEState, action: Tensor | None = None) -> ODEState:
        """Reads ``state.obs`` and the action, or none, at the state's moment: a curve begins."""
        hidden = self._update(self._input_gates(state.obs, action), state.hidden)
        whole = torch.ones_like(state.remaining)
        return replace(state, hidden=hidden, remaining=whole, anchor=hidden, origin=state.obs)

    def _arrive(self, state: ODEState) -> ODEState:
        """The state when its next tick is due."""
        rows = (state.remaining > 0.0).nonzero().squeeze(1)
        if rows.numel() == 0:
            return state
        if rows.numel() < state.batch_size:
            return state.update_rows(rows, self._arrive(state[rows]))
        hidden = self._flow(state.anchor)
        obs = self._decode(hidden, state.origin)
        return replace(state, hidden=hidden, remaining=torch.zeros_like(state.remaining), obs=obs)

    def _advance(self, state: ODEState, frames: Tensor) -> ODEState:
        """The state ``frames`` (B,) later, before its next tick is due."""
        elapsed = (1.0 - state.remaining) + frames
        hidden = self._flow(state.anchor, elapsed)
        remaining = (state.remaining - frames).clamp_min(0.0)
        obs = self._decode(hidden, state.origin, elapsed)
        return replace(state, hidden=hidden, remaining=remaining, obs=obs)

    def _flow(self, hidden: Tensor, frames: Tensor | None = None) -> Tensor:
        """Where the latents (B, H) are after ``frames`` (B,), or one frame, without a tick.

        torchdiffeq solves over one interval for all rows, so each has its own time scale in it.
        `RuntimeError` if an adaptive solver gives up.
        """
        # Imported here because it brings SciPy, which the other models do without.
        from torchdiffeq import odeint

        if hidden.shape[0] == 0:
            return hidden
        config, scale = self.config, None if frames is None else frames.unsqueeze(1)

        def slope(_: Tensor, latent: Tensor) -> Tensor:
            change: Tensor = self.dynamics(latent)
            return change if scale is None else change * scale

        interval = hidden.new_tensor([0.0, 1.0])
        if config.solver in FIXED_STEP_SOLVERS:
            steps = config.solver_steps + 1
            grid = torch.linspace(0.0, 1.0, steps, dtype=hidden.dtype, device=hidden.device)
            options: dict[str, Any] = {"grid_constructor": lambda *_: grid}
        else:
            # A step that ends at the end: to interpolate inside a longer one is less accurate.
            options = {"max_num_steps": _MOST_STEPS, "step_t": interval}
        settings = {"method": config.solver, "rtol": config.rtol, "atol": config.atol}
        try:
            curve = odeint(slope, hidden, interval, **settings, options=options)
        except AssertionError as error:
            raise RuntimeError(
                f"the solver {config.solver!r} found no curve within rtol={config.rtol} and "
                f"atol={config.atol}: {error}; the latent may have diverged, else raise them or "
                "choose a fixed-step solver such as 'rk4'"
            ) from None
        end: Tensor = curve[-1]
        return end

    def _decode(self, hidden: Tensor, origin: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Observations (..., D) of latents (..., H), ``elapsed`` (...) frames, or one, after
        ``origin``."""
        out: Tensor = self.decoder(hidden)
        if not self.config.residual:
            return out
        return origin + (out if elapsed is None else out * elapsed.unsqueeze(-1))


def _keep(
    keep: Tensor, rows: Tensor, clock: Tensor, state: ODEState
) -> tuple[Tensor, Tensor, ODEState]:
    """The rollouts where ``keep`` (B,) holds."""
    if bool(keep.all()):
        return rows, clock, state
    return rows[keep], clock[keep], state[keep]
