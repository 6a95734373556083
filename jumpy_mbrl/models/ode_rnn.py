"""The 2021 post's baseline: a recurrent network whose latent follows an ODE between its ticks.

ODE-RNNs are from Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series"
(2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.models.base import Imagined, State, WorldModel, check_frames
from jumpy_mbrl.models.losses import LossConfig, loss_weights, mean_where
from jumpy_mbrl.models.networks import (
    ResidualMLP,
    check_numbers,
    check_sizes,
    foreseen,
    frame_actions,
    gru_update,
)

FIXED_STEP_SOLVERS = (
    "euler",
    "midpoint",
    "heun2",
    "heun3",
    "rk4",
    "explicit_adams",
    "implicit_adams",
    "fixed_adams",
)
ADAPTIVE_SOLVERS = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "scipy_solver")

_MOST_STEPS = 10_000


@dataclass(frozen=True)
class ODERNNConfig(LossConfig):
    """Sizes of an ``ODERNN``, and how its differential equation is solved.

    What its loss can weigh is told by ``LossConfig``.

    Attributes:
        obs_size: D, twice the number of balls.
        action_size: A, 0 for a world without actions.
        hidden_size: H of the GRU. (Paper: 128.)
        mlp_size: width of encoder and decoder. (Paper: 128.)
        mlp_layers: linear layers of encoder and decoder. (Paper: 4.)
        dynamics_size: width of the network that gives dh/dt.
        dynamics_layers: its linear layers, with tanh between them; with 1 the equation is linear.
        solver: how torchdiffeq solves it, one of ``FIXED_STEP_SOLVERS`` or ``ADAPTIVE_SOLVERS``.
        solver_steps: steps of a fixed-step solver, for a frame or any part of one.
        rtol, atol: relative and absolute error of the latent that an adaptive solver allows. It
            chooses its steps for a whole batch, so within this error a row depends on the others.
        adjoint: find gradients by solving the adjoint equation backwards: less memory for many
            steps, but gradients only as accurate as that solution.
        residual: decode the change since the last tick (True), or the observation itself.
        scale: what networks divide observations by, and multiply what they predict by, one
            positive number or D; the loss is that of numbers so divided.
    """

    obs_size: int = 4
    action_size: int = 2
    hidden_size: int = 128
    mlp_size: int = 128
    mlp_layers: int = 4
    dynamics_size: int = 128
    dynamics_layers: int = 2
    solver: str = "rk4"
    solver_steps: int = 1
    rtol: float = 1e-4
    atol: float = 1e-5
    adjoint: bool = False
    residual: bool = True
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("obs_size", "hidden_size", "mlp_size", "mlp_layers")
        check_sizes(self, (*sizes, "dynamics_size", "dynamics_layers", "solver_steps"))
        if self.action_size < 0:
            raise ValueError(f"action_size must not be negative, got {self.action_size}")
        check_numbers(self, "scale", positive=True)
        solvers = (*FIXED_STEP_SOLVERS, *ADAPTIVE_SOLVERS)
        if self.solver not in solvers:
            raise ValueError(unknown_name("solver", self.solver, solvers))
        if self.solver == "scipy_solver" and not self.adjoint:
            raise ValueError(
                "solver 'scipy_solver' gives no gradients by itself; set adjoint=True, or choose "
                "another"
            )
        for name in ("rtol", "atol"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")


@dataclass(frozen=True)
class ODEState(State):
    """A state that knows where its curve began.

    Attributes:
        anchor: latent right after the last tick, (B, H).
        origin: observation that the last tick read, (B, D).
    """

    anchor: Tensor
    origin: Tensor


class ODERNN(WorldModel):
    """h_t = GRU(h_t^-, [phi(x_t), a_t]); then dh/ds = g(h); x(t+s) = x_t + s f(h(t+s)).

    Here h_t^- is the latent that arrives at time t, and g a tanh network. The latent is a curve
    between ticks, so it can be decoded at any time; ``residual=False`` is x(t+s) = f(h(t+s)). A
    tick is due one frame after the last. An action in between makes the model tick there, reading
    what it decoded, and its frames count from that moment on; rows need not tick together.

    A curve is always solved from the tick where it began, in one go: what lies at a time depends
    neither on the other query times nor on where a rollout was cut. In a ``State``, ``velocity``
    is the slope dh/ds at its moment.
    """

    def __init__(self, config: ODERNNConfig) -> None:
        super().__init__()
        self.config = config
        self.obs_size = config.obs_size
        self.action_size = config.action_size
        width, layers, scale = config.mlp_size, config.mlp_layers, config.scale
        self.encoder = ResidualMLP(config.obs_size, width, width, layers, divide=scale)
        self.cell = nn.GRUCell(width + config.action_size, config.hidden_size)
        self.dynamics = _tanh_network(
            config.hidden_size, config.dynamics_size, config.dynamics_layers
        )
        self.decoder = ResidualMLP(
            config.hidden_size, config.obs_size, width, layers, multiply=scale
        )

    # -- the interface ---------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> ODEState:
        like = next(self.parameters())
        hidden = like.new_zeros(batch_size, self.config.hidden_size)
        obs = like.new_full((batch_size, self.obs_size), 0.5)
        return ODEState(
            hidden=hidden,
            velocity=self.dynamics(hidden),
            remaining=like.new_zeros(batch_size),
            obs=obs,
            anchor=hidden,
            origin=obs,
        )

    def observe(self, obs: Tensor, action: Tensor | None = None) -> ODEState:
        """See ``WorldModel.observe``. Reads all frames but the last, which waits in ``obs``."""
        check_frames(obs, self.obs_size, min_frames=1)
        action = frame_actions(obs, action, self.action_size)
        state = self.initial_state(obs.shape[0])
        if obs.shape[1] == 1:
            return replace(state, obs=obs[:, 0])
        ticked, arrived = self._teacher_forced(obs[:, :-1], action[:, :-1])
        hidden = arrived[-1]
        return ODEState(
            hidden=hidden,
            velocity=self.dynamics(hidden),
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

        By the config (see ``LossConfig``), curves that begin at an action may count more than
        others. Logged is the plain mean.

        ``batch`` comes from ``jumpy_mbrl.data.sampling.SequenceSampler``. What is beyond the end of
        a sequence counts for nothing.
        """
        obs = batch["obs"]
        action = frame_actions(obs, batch.get("action"), self.action_size)
        ticked, arrived = self._teacher_forced(obs[:, :-1], action[:, :-1])
        before, after = obs.transpose(0, 1)[:-1], obs.transpose(0, 1)[1:]
        first = after if self.config.residual else before
        real = foreseen(obs, batch.get("length"))
        weight = loss_weights(self.config, obs, action, real)
        real, weight = (None if part is None else part.t() for part in (real, weight))

        def error(latents: list[Tensor], wanted: Tensor) -> Tensor:
            missed = self.decoder.relative(self._decode(torch.stack(latents), before) - wanted)
            return missed.square()

        end, start = error(arrived, after), error(ticked, first)
        prediction = mean_where(end, real)
        log = {"prediction": prediction, "mean_jump": torch.ones_like(prediction)}
        loss = 0.5 * (mean_where(end, weight) + mean_where(start, weight))
        return loss, log

    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        if not isinstance(state, ODEState):
            raise ValueError(f"ODERNN needs its own ODEState, got {type(state).__name__}")
        path = _Path(state)
        rows = torch.arange(state.batch_size, device=state.hidden.device)
        clock = torch.zeros_like(state.remaining)
        if action is not None:
            state = self._tick(state, action)
            path.tick(rows, clock, state)
        while True:
            clock = clock + state.remaining
            rows, clock, state = _keep(clock <= end, rows, clock, state)
            if rows.numel() == 0:
                break
            state = self._arrive(state)
            path.arrive(rows, clock, state)
            rows, clock, state = _keep(clock < end, rows, clock, state)
            if rows.numel() == 0:
                break
            state = self._tick(state)
            path.tick(rows, clock, state)
        final = path.final(self, end)
        final = replace(final, velocity=self.dynamics(final.hidden))
        return Imagined(path.read(self, times), path.tick_times, final)

    # -- the recurrent update and the curve after it -----------------------------------------

    def _teacher_forced(self, obs: Tensor, action: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Latents after reading each real frame (B, T, D) and one frame later, T times (B, H)."""
        inputs = torch.cat([self.encoder(obs), action], dim=-1).transpose(0, 1)
        gates = nn.functional.linear(inputs, self.cell.weight_ih, self.cell.bias_ih)
        hidden = gates.new_zeros(obs.shape[0], self.config.hidden_size)
        ticked, arrived = list[Tensor](), list[Tensor]()
        for frame_gates in gates:
            ticked.append(gru_update(frame_gates, hidden, self.cell.weight_hh, self.cell.bias_hh))
            hidden = self._flow(ticked[-1])
            arrived.append(hidden)
        return ticked, arrived

    def _tick(self, state: ODEState, action: Tensor | None = None) -> ODEState:
        """Reads ``state.obs`` and the action, or none, at the state's moment: a curve begins."""
        cell, width = self.cell, self.config.mlp_size
        gates = nn.functional.linear(
            self.encoder(state.obs), cell.weight_ih[:, :width], cell.bias_ih
        )
        if action is not None:
            gates = gates + nn.functional.linear(action, cell.weight_ih[:, width:])
        hidden = gru_update(gates, state.hidden, cell.weight_hh, cell.bias_hh)
        return replace(
            state,
            hidden=hidden,
            remaining=torch.ones_like(state.remaining),
            anchor=hidden,
            origin=state.obs,
        )

    def _arrive(self, state: ODEState) -> ODEState:
        """The state when its next tick is due."""
        moving = state.remaining > 0.0
        if not bool(moving.any()):
            return state
        if not bool(moving.all()):
            rows = moving.nonzero().squeeze(1)
            return state.update_rows(rows, self._arrive(state[rows]))
        hidden = self._flow(state.anchor)
        return replace(
            state,
            hidden=hidden,
            remaining=torch.zeros_like(state.remaining),
            obs=self._decode(hidden, state.origin),
        )

    def _advance(self, state: ODEState, frames: Tensor) -> ODEState:
        """The state ``frames`` (B,) later, before its next tick is due."""
        elapsed = (1.0 - state.remaining) + frames
        hidden = self._flow(state.anchor, elapsed)
        return replace(
            state,
            hidden=hidden,
            remaining=(state.remaining - frames).clamp_min(0.0),
            obs=self._decode(hidden, state.origin, elapsed),
        )

    def _flow(self, hidden: Tensor, frames: Tensor | None = None) -> Tensor:
        """Where the latents (B, H) are after ``frames`` (B,), or one frame, without a tick.

        torchdiffeq solves over one interval for all rows, so each has its own time scale in it.

        Raises:
            RuntimeError: if an adaptive solver gives up.
        """
        # Imported here because it brings SciPy, which the other models do without.
        from torchdiffeq import odeint, odeint_adjoint

        if hidden.shape[0] == 0:
            return hidden
        scale = None if frames is None else frames.unsqueeze(1)

        def slope(_: Tensor, latent: Tensor) -> Tensor:
            change: Tensor = self.dynamics(latent)
            return change if scale is None else change * scale

        interval = hidden.new_tensor([0.0, 1.0])
        settings = self._solver_settings(interval)
        try:
            if self.config.adjoint:
                weights = tuple(self.dynamics.parameters())
                curve = odeint_adjoint(slope, hidden, interval, adjoint_params=weights, **settings)
            else:
                curve = odeint(slope, hidden, interval, **settings)
        except AssertionError as error:
            raise RuntimeError(
                f"the solver {self.config.solver!r} found no curve within rtol={self.config.rtol} "
                f"and atol={self.config.atol}: {error}; the latent may have diverged, else raise "
                "them or choose a fixed-step solver such as 'rk4'"
            ) from None
        end: Tensor = curve[-1]
        return end

    def _solver_settings(self, interval: Tensor) -> dict[str, Any]:
        """Keyword arguments of ``torchdiffeq.odeint``."""
        config = self.config
        options: dict[str, Any] = {}
        if config.solver in FIXED_STEP_SOLVERS:
            options["grid_constructor"] = self._grid
        elif config.solver != "scipy_solver":
            options["max_num_steps"] = _MOST_STEPS
            # A step that ends at the end: to interpolate inside a longer one is less accurate.
            options["step_t"] = interval
        return {
            "method": config.solver,
            "rtol": config.rtol,
            "atol": config.atol,
            "options": options,
        }

    def _grid(self, _slope: Any, _hidden: Tensor, interval: Tensor) -> Tensor:
        """The times between which a fixed-step solver steps; the adjoint's interval descends."""
        parts = torch.linspace(
            0.0, 1.0, self.config.solver_steps + 1, dtype=interval.dtype, device=interval.device
        )
        return torch.lerp(interval[0], interval[-1], parts)

    def _decode(self, hidden: Tensor, origin: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Observations (..., D) of latents (..., H), ``elapsed`` (...) frames after ``origin``.

        None means one frame.
        """
        out: Tensor = self.decoder(hidden)
        if not self.config.residual:
            return out
        return origin + (out if elapsed is None else out * elapsed.unsqueeze(-1))


class _Path:
    """The curves of B rollouts as they grow, and the observations where they end.

    Attributes:
        state: the last state of each rollout that was recorded.
        clock: the time of that state, (B,).
    """

    def __init__(self, state: ODEState) -> None:
        self.state = state
        self.clock = torch.zeros_like(state.remaining)
        self._starts = [state.remaining - 1.0]
        self._anchors = [state.anchor]
        self._origins = [state.origin]
        self._known_times = [self.clock]
        self._known = [state.obs]

    @property
    def tick_times(self) -> Tensor:
        """(B, M); see ``Imagined``."""
        return torch.stack(self._starts, dim=1)[:, 1:]

    def tick(self, rows: Tensor, clock: Tensor, state: ODEState) -> None:
        """A new curve for the rollouts numbered ``rows``, from their time ``clock`` on."""
        self._starts.append(self._record(rows, clock, state))
        self._anchors.append(self.state.anchor)
        self._origins.append(self.state.origin)

    def arrive(self, rows: Tensor, clock: Tensor, state: ODEState) -> None:
        """What the rollouts numbered ``rows`` see at the end of a curve, at ``clock``."""
        self._known_times.append(self._record(rows, clock, state))
        self._known.append(self.state.obs)

    def _record(self, rows: Tensor, clock: Tensor, state: ODEState) -> Tensor:
        """Keeps the states; their times (B,), ``inf`` for the other rollouts."""
        if rows.numel() == self.state.batch_size:
            self.state, self.clock = state, clock
            return clock
        self.state = self.state.update_rows(rows, state)
        self.clock = self.clock.index_copy(0, rows, clock)
        return torch.full_like(self.clock, torch.inf).index_copy(0, rows, clock)

    def final(self, model: ODERNN, end: float) -> ODEState:
        """The state at ``end``."""
        rows = (self.clock < end).nonzero().squeeze(1)
        if rows.numel() == 0:
            return self.state
        return self.state.update_rows(
            rows, model._advance(self.state[rows], end - self.clock[rows])
        )

    def read(self, model: ODERNN, times: Tensor) -> Tensor:
        """Observations (B, K, D) at ``times`` (K,). At a tick's moment it is what the tick read."""
        query = times.expand(self.state.batch_size, -1).contiguous()
        known_times = torch.stack(self._known_times, dim=1)
        nearest = torch.searchsorted(known_times, query).clamp_max(known_times.shape[1] - 1)
        index = nearest.unsqueeze(-1).expand(-1, -1, self.state.obs.shape[1])
        obs = torch.stack(self._known, dim=1).gather(1, index)
        unknown = known_times.gather(1, nearest) != query
        rows, columns = unknown.nonzero(as_tuple=True)
        if rows.numel() == 0:
            return obs
        return obs.index_put((rows, columns), self._solve(model, rows, query[rows, columns]))

    def _solve(self, model: ODERNN, rows: Tensor, times: Tensor) -> Tensor:
        """Observations (P, D) of the rollouts numbered ``rows`` (P,) at ``times`` (P,)."""
        starts = torch.stack(self._starts, dim=1)
        count = starts.shape[1]
        curve = torch.searchsorted(starts[rows], times.unsqueeze(1)).squeeze(1) - 1
        chosen = rows * count + curve.clamp_min(0)
        anchor = torch.stack(self._anchors, dim=1).flatten(0, 1).index_select(0, chosen)
        origin = torch.stack(self._origins, dim=1).flatten(0, 1).index_select(0, chosen)
        elapsed = times - starts.flatten().index_select(0, chosen)
        return model._decode(model._flow(anchor, elapsed), origin, elapsed)


def _keep(
    keep: Tensor, rows: Tensor, clock: Tensor, state: ODEState
) -> tuple[Tensor, Tensor, ODEState]:
    """The rollouts where ``keep`` (B,) holds."""
    if bool(keep.all()):
        return rows, clock, state
    return rows[keep], clock[keep], state[keep]


def _tanh_network(size: int, width: int, layers: int) -> nn.Sequential:
    """A network from R^size to itself, of ``layers`` linear layers with tanh between them."""
    sizes = [size, *[width] * (layers - 1), size]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*parts[:-1])
