"""SpriteJump: a jumpy model of pictures, which sees bodies and leaps as a ``FoldJump`` does.

Pictures teach what the bodies look like (``Sprites``); these then say where the bodies are in
every picture, and from the events among those places the ``FoldJump`` learns how they move. The
latent is that of the ``FoldJump``: a straight line between ticks, in a row of mirrored rooms.

Letters: B batch, T frames, N bodies, K query times, P pixels, C channels, D = P * C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.sampling import PictureEventSampler, Sampler
from jumpy_mbrl.models.base import Imagined, State, WorldModel, check_frames
from jumpy_mbrl.models.bodies.calibrated_sprites import CalibratedSprites
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel, EventState
from jumpy_mbrl.models.bodies.fold_jump import FoldJump, FoldJumpConfig
from jumpy_mbrl.models.bodies.sprites import Sprites
from jumpy_mbrl.models.bodies.state_estimation import smooth
from jumpy_mbrl.models.networks import check_sizes

S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class SpriteJumpConfig(FoldJumpConfig):
    """Sizes of a ``SpriteJump``; see ``FoldJumpConfig``.

    Attributes:
        size: height and width of the pictures, in pixels.
        channels: C, 1 (grey) or 3 (colour).
        looking_steps: first updates of the weights, in which pictures teach the sprites. After
            them the sprites stay as they are, and events are learned.
        calibrated: whether pictures are read as by ``CalibratedSprites``: faster, and in any light;
            of bodies in the plane alone.
    """

    size: int = 28
    channels: int = 1
    looking_steps: int = 400
    calibrated: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("size", "channels", "looking_steps"))
        if self.calibrated and self.axes == 1:
            raise ValueError("expected axes to be 2 with calibrated=True, got 1")


class SpriteJump(WorldModel):
    """Learned sprites around a ``FoldJump``."""

    batch_kind = "picture-events"
    precisions = ("float32",)  # It solves linear equations to see.
    built_in = (*FoldJump.built_in, *Sprites.built_in)

    def __init__(self, config: SpriteJumpConfig) -> None:
        super().__init__()
        self.config = config
        inner = {field.name: getattr(config, field.name) for field in fields(FoldJumpConfig)}
        self.bodies = FoldJump(FoldJumpConfig(**inner))
        looks = config.num_balls, config.size, config.channels
        self.sprites = (
            CalibratedSprites(*looks) if config.calibrated else Sprites(*looks, config.axes)
        )
        self.obs_size = config.size**2 * config.channels
        self.action_size = config.action_size
        self.axes = config.axes

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> Sampler:
        """Draws pictures while the sprites are learned, then events among the places they see."""
        steps, on_line = self.config.looking_steps, self.axes == 1
        return PictureEventSampler(
            data, device, read=self.read, looking_steps=steps, on_line=on_line
        )

    def initial_state(self, batch_size: int) -> EventState:
        """Bodies at rest in the middle, where nothing has been seen yet."""
        return self._with_picture(self.bodies.initial_state(batch_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> EventState:
        """See ``WorldModel.observe``; the motion is that which explains all places seen best."""
        check_frames(obs, self.obs_size, self.min_frames)
        return replace(state_of(self.bodies, self.read(obs), action), obs=obs[:, -1])

    def read(self, obs: Tensor) -> Tensor:
        """Where the bodies are in pictures (..., D): (..., axes * N), in sides of the picture."""
        places: Tensor = self.sprites.read(obs.flatten(0, -2))
        return places.view(*obs.shape[:-1], places.shape[1])

    def tick(self, state: State, action: Tensor | None = None) -> EventState:
        """See ``PiecewiseLinearModel.tick``."""
        return self._with_picture(self.bodies.tick(state, action))

    def leap(self, state: State, duration: Tensor) -> State:
        """See ``PiecewiseLinearModel.leap``."""
        return self._with_picture(self.bodies.leap(self._with_places(state), duration))

    def decode(self, hidden: Tensor) -> Tensor:
        """Latents (..., H) to pictures (..., D)."""
        return self.sprites.draw(self.bodies.decode(hidden))

    def places_of(self, state: State) -> Tensor:
        """Where the bodies are in a state, (B, axes * N)."""
        return self.bodies.decode(state.hidden)

    def imagine_places(
        self,
        state: State,
        times: Tensor | Sequence[float],
        action: Tensor | None = None,
        action_times: Sequence[float] = (0.0,),
    ) -> Imagined:
        """``imagine`` without drawing: ``obs`` are the bodies' places (B, K, axes * N)."""
        return self.bodies.imagine(self._with_places(state), times, action, action_times)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        imagined = self.bodies.rollout(self._with_places(state), times, end, action)
        return replace(
            imagined,
            obs=self.sprites.draw(imagined.obs),
            state=self._with_picture(imagined.state),
        )

    def _with_places(self, state: S) -> S:
        return replace(state, obs=self.places_of(state))

    def _with_picture(self, state: S) -> S:
        return replace(state, obs=self.decode(state.hidden))

    def parts(self) -> dict[str, Callable[..., Any]]:
        places, templates = (part.contiguous() for part in self.sprites.grid())  # Drawn once.

        def read(pictures: Tensor) -> Tensor:
            return self.sprites.find(pictures, places, templates)

        def observe(frames: Tensor) -> dict[str, Tensor]:
            seen = read(frames.flatten(0, 1)).view(*frames.shape[:2], -1)
            return self.bodies.observe_line(seen, frames)

        seen: dict[str, Any] = {"encoder": read, "decoder": self.decode, "observe": observe}
        return {**seen, "act": self.tick, "leap": self.leap, "tick": self.tick}

    # -- learning --------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of redrawn ``pictures`` (B, D), or the loss of a batch of events.

        Pictures may come with the true ``places`` (B, axes * N), which need not be found then.
        """
        if "pictures" not in batch:
            return self.bodies.loss(batch)
        pictures, places = batch["pictures"], batch.get("places")
        if places is None:
            with torch.no_grad():  # Where things are is found, not learned.
                places = self.sprites.read(pictures)
        error = (self.sprites.draw(places) - pictures).square().mean()
        return error, {"redrawn": error}


def state_of(bodies: EventDrivenModel, places: Tensor, action: Tensor | None = None) -> EventState:
    """The state of bodies seen at places (B, T, axes * N), not exactly, by all frames at once."""
    state = bodies.observe(places, action)
    if action is None or not bool(action[:, :-1].any()):
        state = smooth(bodies, places, state)
    return state
