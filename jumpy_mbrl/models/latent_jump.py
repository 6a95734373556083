"""LatentJump: a jumpy model for any sequence, trained on all its moments at once.

The papers' recurrent model has to be run through a sequence tick by tick before it can be taught
where its lines end. This one ticks on the last few frames alone, its own predictions included, so
every moment of every sequence is a training example by itself: no loop over time, and a training
step costs about as much as the baseline's. What a tick gives is the papers': a latent, its
velocity, and for how long the line holds; the last as a discrete-time hazard (survival analysis)
instead of a regressed number, because lines end at events, and events are not averages.

Letters: B batch, T frames, D observation size, A action size, L latent, W window, S frames ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jumpy_mbrl.checks import check_number
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.sampling import WindowSampler
from jumpy_mbrl.models.base import State, check_frames, like_of, own_state
from jumpy_mbrl.models.networks import ResidualMLP, check_sizes, check_tuple
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.models.recurrent import frame_actions


@dataclass(frozen=True)
class LatentJumpConfig:
    """Sizes of a ``LatentJump`` and settings of its training.

    Attributes:
        obs_size: D.
        action_size: A, 0 for a world without actions.
        window: W, how many of the last frames a tick reads; one more than the order of the
            dynamics (1 if a frame says all).
        hidden_size: L.
        mlp_size: width of encoder and decoder.
        mlp_layers: linear layers of encoder and decoder.
        horizon: S, longest jump, in frames; the shortest is one frame.
        epsilon: squared error (mean over coordinates) up to which a line is accurate (eq. 7).
        far_weight: weight of the frames after a line has ended, in the loss: how much the line is
            pulled to become longer. Between 0 and 1.
        noise: standard deviation of what is added to the frames that a tick reads in training, so
            that it forgives its own errors.
        quantile: a jump lasts until the line has ended with this probability.
        center: what the networks subtract from observations, one number or D.
        scale: what they then divide by, one positive number or D.
    """

    obs_size: int = 4
    action_size: int = 0
    window: int = 4
    hidden_size: int = 128
    mlp_size: int = 128
    mlp_layers: int = 4
    horizon: int = 24
    epsilon: float = 1e-4
    far_weight: float = 0.1
    noise: float = 0.0
    quantile: float = 0.5
    center: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        sizes = ("obs_size", "window", "hidden_size", "mlp_size", "mlp_layers", "horizon")
        check_sizes(self, sizes)
        check_sizes(self, ("action_size",), low=0)
        for name in ("epsilon", "noise"):
            check_number(name, getattr(self, name), 0.0)
        check_number("far_weight", self.far_weight, 0.0, 1.0)
        check_tuple(self, "center")
        check_tuple(self, "scale", positive=True)
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"expected quantile to lie between 0 and 1, got {self.quantile}")


@dataclass(frozen=True)
class WindowState(State):
    """A state that remembers the last frames.

    Attributes:
        window: observations now, one frame ago, ... and W - 1 frames ago, (B, W, D).
    """

    window: Tensor


class LatentJump(PiecewiseLinearModel):
    """``h, h', D = tick(last W frames, a)``, ``x(t) = x + f(h + h' (t - tau)) - f(h)``.

    The latent of a ``State`` is h and, beside it, the constant x - f(h) of the line, so that a line
    begins exactly at the frame that the tick read.
    """

    batch_kind = "windows"

    def __init__(self, config: LatentJumpConfig) -> None:
        super().__init__()
        self.config = config
        self.obs_size = config.obs_size
        self.action_size = config.action_size
        self.min_frames = config.window
        inputs = config.window * config.obs_size + config.action_size
        sizes = config.mlp_size, config.mlp_layers
        self.encoder = ResidualMLP(inputs, 2 * config.hidden_size, *sizes, activation=F.silu)
        # Apart from the encoder, whose lines must not be disturbed by when they end.
        self.hazard = ResidualMLP(inputs, config.horizon, *sizes, activation=F.silu)
        self.decoder = ResidualMLP(config.hidden_size, config.obs_size, *sizes, activation=F.silu)
        # Lines are straight and all alike until data tell otherwise.
        nn.init.zeros_(self.decoder.last.weight)
        nn.init.zeros_(self.encoder.last.weight)
        self.register_buffer("_center", torch.tensor(config.center), persistent=False)
        self.register_buffer("_scale", torch.tensor(config.scale), persistent=False)
        self._center: Tensor
        self._scale: Tensor
        self.straight = nn.Linear(config.hidden_size, config.obs_size, bias=False)

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> WindowSampler:
        """See ``WorldModel.sampler``."""
        return WindowSampler(data, device, self.config.window)

    def initial_state(self, batch_size: int) -> WindowState:
        return self._due(like_of(self).new_zeros(batch_size, self.config.window, self.obs_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> WindowState:
        """See ``WorldModel.observe``. Reads the last W frames; a tick is due."""
        check_frames(obs, self.obs_size, self.min_frames)
        frame_actions(obs, action, self.action_size)
        return self._due(obs[:, -self.config.window :].flip(1))

    def tick(self, state: State, action: Tensor | None = None) -> WindowState:
        """See ``PiecewiseLinearModel.tick``; reads the window and the action, or none."""
        state = own_state(self, state, WindowState)
        hidden, velocity, logits = self._encode(state.window, action)
        return replace(
            state,
            hidden=torch.cat([hidden, state.window[:, 0] - self._shape(hidden)], dim=1),
            velocity=torch.cat([velocity, torch.zeros_like(state.obs)], dim=1),
            remaining=self._duration(logits),
        )

    def decode(self, hidden: Tensor) -> Tensor:
        size = self.config.hidden_size
        return self._shape(hidden[..., :size]) + hidden[..., size:]

    def leap(self, state: State, duration: Tensor) -> WindowState:
        """See ``PiecewiseLinearModel.leap``; the window moves on too."""
        state = own_state(self, state, WindowState)
        leapt = super().leap(state, duration)
        window = [leapt.obs]
        for age in range(1, self.config.window):
            ahead = (duration - age).unsqueeze(1)
            new = self.decode(torch.addcmul(state.hidden, state.velocity, ahead.clamp_min(0.0)))
            old = _at_age(state.window, (age - duration).clamp_min(0.0))
            window.append(torch.where(ahead >= 0.0, new, old))
        return WindowState(**{**vars(leapt), "window": torch.stack(window, dim=1)})

    def parts(self) -> dict[str, Callable[..., Any]]:
        return {**super().parts(), "observe": self.observe}

    # -- one tick --------------------------------------------------------------------------

    def _due(self, window: Tensor) -> WindowState:
        """The state of frames that no line leads on from yet."""
        obs = window[:, 0]
        latent = obs.new_zeros(obs.shape[0], self.config.hidden_size)
        hidden = torch.cat([latent, obs - self._shape(latent)], dim=1)
        return WindowState(
            hidden=hidden,
            velocity=torch.zeros_like(hidden),
            remaining=obs.new_zeros(obs.shape[0]),
            obs=obs,
            window=window,
        )

    def _encode(self, window: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Latent and velocity (B, L), and logits (B, S) that the line ends at frame 2, ..., S + 1.

        A line that ends at frame s does not reach it: the jump lasts s - 1 frames. It always
        reaches frame 1.
        """
        now = (window[:, 0] - self._center) / self._scale
        moves = (window[:, :-1] - window[:, 1:]) / self._scale
        inputs = [now, moves.flatten(1)]
        if self.action_size:
            inputs.append(
                now.new_zeros(now.shape[0], self.action_size) if action is None else action
            )
        read = torch.cat(inputs, dim=1)
        hidden, velocity = self.encoder(read).chunk(2, dim=1)
        return hidden, velocity, self.hazard(read)

    def _shape(self, latent: Tensor) -> Tensor:
        """f, (..., L) to (..., D)."""
        out: Tensor = self._scale * (self.straight(latent) + self.decoder(latent))
        return out

    def _duration(self, logits: Tensor) -> Tensor:
        """Whole frames until the line has ended with probability ``quantile``, (B,)."""
        holds = F.logsigmoid(-logits).cumsum(dim=1) > torch.log1p(
            logits.new_tensor(-self.config.quantile)
        )
        return 1.0 + holds[:, :-1].to(logits.dtype).sum(dim=1)

    # -- training --------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error along the lines, and the likelihood of where they end.

        Args:
            batch: ``window`` (B, W, D) frames now and before, ``future`` (B, S', D) the frames that
                follow, of which ``length`` (B,) are known, ``action`` (B, A), and ``noise``
                (B, W, D) standard normal, from ``jumpy_mbrl.data.sampling.WindowSampler``.
        """
        config = self.config
        window = batch["window"] + config.noise * batch["noise"]
        future = batch["future"][:, : config.horizon]
        hidden, velocity, logits = self._encode(window, batch["action"])
        ahead = torch.arange(1, future.shape[1] + 1, device=future.device)
        known = ahead <= batch["length"].unsqueeze(1)
        line = hidden.unsqueeze(1) + velocity.unsqueeze(1) * ahead.view(-1, 1).to(hidden.dtype)
        anchor = window[:, 0] - self._shape(hidden)
        error = (self._shape(line) + anchor.unsqueeze(1) - future).square().mean(dim=2)
        accurate = (error.detach() < config.epsilon) & known
        accurate[:, 0] = known[:, 0]
        holds = accurate.cumprod(dim=1).bool()
        jump = holds.sum(dim=1)
        near = ahead <= jump.unsqueeze(1) + 1
        weight = torch.where(near, 1.0, config.far_weight).to(error.dtype) * known
        prediction = (weight * error).sum() / weight.sum()
        hazard = self._hazard_loss(logits, jump, batch["length"])
        return prediction + config.epsilon * hazard, {
            "prediction": (error * holds).sum() / holds.sum(),
            "hazard": hazard,
            "mean_jump": jump.to(torch.float32).mean(),
        }

    def _hazard_loss(self, logits: Tensor, jump: Tensor, length: Tensor) -> Tensor:
        """Negative log-likelihood of the ends of lines, those not seen to end being censored."""
        end = torch.arange(2, logits.shape[1] + 2, device=logits.device)
        survived = end <= jump.unsqueeze(1)
        died = (end == jump.unsqueeze(1) + 1) & (jump < length).unsqueeze(1)
        died &= (jump < self.config.horizon).unsqueeze(1)
        loss = torch.where(survived, F.softplus(logits), 0.0)
        loss = loss + torch.where(died, F.softplus(-logits), 0.0)
        return loss.sum() / (survived | died).sum().clamp_min(1)


def _at_age(window: Tensor, age: Tensor) -> Tensor:
    """The window (B, W, D) some real number of frames ago, (B,) from 0 to W - 1: (B, D)."""
    last = window.shape[1] - 1
    age = age.clamp_max(float(last))
    younger = age.floor().long().clamp_max(max(last - 1, 0))
    older = (younger + 1).clamp_max(last)
    rows = torch.arange(window.shape[0], device=window.device)
    share = (age - younger).unsqueeze(1)
    return torch.lerp(window[rows, younger], window[rows, older], share)
