"""A model of bodies that is shown pictures: one model sees, and one imagines.

Letters: B batch, T frames, N bodies, D numbers in a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

from jumpy_mbrl.models.base import State, WorldModel, WrappedModel, check_frames
from jumpy_mbrl.models.bodies.calibrated_sprites import CalibratedSprites
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJump, state_of
from jumpy_mbrl.models.world import learned_a_line

MOST_BALLS = 6


class SeeingModel(WrappedModel):
    """Observes pictures (B, T, D), and imagines the places of the bodies, (B, K, 2N).

    So objectives are those of coordinates. Gradients flow from what is imagined to the pictures.
    `ValueError` for eyes that are not calibrated, more than 6 balls, or a model of a line, of other
    observations, or of another number of balls that cannot be carried over.

    Args:
        eyes: reads where the bodies are.
        num_balls: N; by default as many as the eyes learned. Balls beyond these look like the last.
        model: imagines from the places that were read; carried over to N balls if it can be. One of
            events takes the motion that fits them all. By default the events that the eyes learned.

    Attributes:
        picture: height, width and channels of the pictures.
    """

    def __init__(
        self,
        eyes: SpriteJump,
        num_balls: int | None = None,
        model: WorldModel | None = None,
    ) -> None:
        seen, config = eyes.sprites, eyes.config
        N = config.num_balls if num_balls is None else num_balls
        if not isinstance(seen, CalibratedSprites) or N > MOST_BALLS:
            raise ValueError(
                f"expected a SpriteJump with calibrated=True and at most {MOST_BALLS} balls, got "
                f"calibrated={config.calibrated} and {N} balls"
            )
        imagines = model or eyes.bodies
        if imagines.for_balls is not None:
            imagines = imagines.for_balls(N)
        on_line = learned_a_line(imagines)
        if on_line or imagines.obs_size != 2 * N:
            raise ValueError(
                f"expected a model of {N} balls in the plane, {2 * N} coordinates, to imagine "
                f"with, got {type(imagines).__name__} of {imagines.obs_size}"
                f"{' on a line' * on_line}; 'fold-billiards2d' fits any number of balls"
            )
        super().__init__(imagines)
        self.num_balls, self.eyes, self.sprites = N, eyes, seen.for_bodies(N)
        self.picture = config.size, config.size, config.channels
        self.obs_size, self.record = eyes.obs_size, eyes.record
        self.built_in = tuple(dict.fromkeys((*imagines.built_in, *seen.built_in)))

    @property
    def for_balls(self) -> Callable[[int], SeeingModel] | None:  # type: ignore[override]
        return None if self.model.for_balls is None else self._for_balls

    def _for_balls(self, num_balls: int) -> SeeingModel:
        return SeeingModel(self.eyes, num_balls, self.model)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``; what the state holds as ``obs`` are places."""
        check_frames(obs, self.obs_size, self.min_frames)
        places = self._followed(self.sprites.read(obs.flatten(0, 1)).unflatten(0, obs.shape[:2]))
        if isinstance(self.model, EventDrivenModel):
            return state_of(self.model, places, action)
        return self.model.observe(places, action)

    def _followed(self, places: Tensor) -> Tensor:
        """Places (B, T, 2N), of bodies that look alike in the order in which they moved least."""
        learned = self.eyes.config.num_balls
        if self.num_balls <= learned:
            return places
        told, alike = places.unflatten(2, (-1, 2)).tensor_split([learned - 1], dim=2)
        orders = torch.tensor([*permutations(range(alike.shape[2]))], device=places.device)
        frames = [alike[:, 0]]
        for now in alike[:, 1:].unbind(dim=1):
            moved = (now[:, orders] - frames[-1].unsqueeze(1)).square().sum(dim=(2, 3))
            order = orders[moved.argmin(dim=1)].unsqueeze(2).expand(-1, -1, 2)
            frames.append(now.gather(1, order))
        return torch.cat([told, torch.stack(frames, dim=1)], dim=2).flatten(2)
