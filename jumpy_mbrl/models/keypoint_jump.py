"""KeypointJump: a jumpy model of pictures that finds keypoints by itself and knows of no balls.

A convolutional network turns a picture into K maps, of which each has its centre at a keypoint
(Jakab et al. 2018, "Unsupervised Learning of Object Landmarks through Conditional Image
Generation"). A painter that is told nothing but the keypoints must give the picture back, so they
come to lie on what moves, always at the same point of it. A ``RelationalJump`` learns how they
move. Its state is read, and its future painted, in pictures; places of balls, which objectives ask
for, are read from the keypoints by a linear head that some labelled pictures teach.

Letters: B batch, T frames, K keypoints, K' query times, P pixels, C channels, D = P * C.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import check_flag, check_number
from jumpy_mbrl.data.loading import SequenceData, as_frames
from jumpy_mbrl.data.sampling import KeypointSampler, Seen, StartSampler
from jumpy_mbrl.models.base import Imagined, State, WorldModel, WrappedModel, check_frames
from jumpy_mbrl.models.networks import check_sizes
from jumpy_mbrl.models.relational_jump import RelationalJump, RelationalJumpConfig

_AT_ONCE = 64
"""Pictures read or painted together."""
_REACH = 0.1
"""Unit of the painter's offsets, in sides."""
_PAINTER = 32
_ATTENTION = 1e-3
"""Weight of looking for what is not painted yet."""
_SAMPLED = 5
"""One pixel in so many says which colour most have; prime to the usual sizes."""
_FLAT = 1e-4
"""Least mean square of the contrast of a picture."""
_SWAPPED = 0.05
"""How near the mean colour's channels are to the background's, if red and blue changed places."""


@dataclass(frozen=True)
class KeypointJumpConfig(RelationalJumpConfig):
    """Sizes of a ``KeypointJump``; see ``RelationalJumpConfig``, whose bodies are keypoints.

    Attributes:
        size: height and width of the pictures, in pixels.
        channels: C, 1 (grey) or 3 (colour).
        width: channels of the network that finds keypoints.
        looking_steps: first updates of the weights, in which pictures teach it. After them it stays
            as it is, and how keypoints move is learned.
        joining: share of these updates in which keypoints join one by one, in (0, 1].
        spoilt: whether these pictures are spoilt, so that other cameras do not mislead it. Not
            where a grey is all that tells bodies apart.
        labelled: pictures whose balls are told, from which the head learns. The first frames of the
            first sequences.
    """

    size: int = 64
    channels: int = 3
    width: int = 8
    looking_steps: int = 2000
    labelled: int = 300
    spoilt: bool = True
    joining: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("size", "channels", "width", "looking_steps", "labelled"))
        check_flag("spoilt", self.spoilt)
        check_number("joining", self.joining, 0.0, 1.0, open_low=True)
        if self.body_size != 2:
            raise ValueError(
                f"expected body_size=2, as keypoints lie in pictures, got {self.body_size}"
            )


class Keypoints(nn.Module):
    """Finds K keypoints in square pictures, row 0 at the top, and paints pictures from them.

    Keypoints have x to the right and y upwards, in sides of the picture. Each is the mean place of
    a map, which is as it is whatever the place. Each paints, over a background and over those
    before it, a colour and how much it covers, by a network of the offset from it.
    """

    def __init__(self, count: int, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.maps = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, count, 1),
        )
        self.painter = nn.Sequential(
            nn.Linear(2, _PAINTER), nn.SiLU(), nn.Linear(_PAINTER, _PAINTER), nn.SiLU()
        )
        self.paint = nn.Parameter(torch.zeros(count, _PAINTER, channels + 1))
        self.tint = nn.Parameter(torch.tensor([0.5] * channels + [-2.0]).repeat(count, 1))
        self.background = nn.Parameter(torch.full((size * size, channels), 0.5))
        along = (torch.arange(size) + 0.5) / size
        y, x = torch.meshgrid(1.0 - along, along, indexing="ij")
        self.register_buffer("pixels", torch.stack([x, y], dim=2).flatten(0, 1), persistent=False)
        self.pixels: Tensor

    def attend(self, pictures: Tensor) -> Tensor:
        """Maps (B, K, P), each of sum 1, of pictures (B, D), in whatever light."""
        seen = pictures.unflatten(1, (-1, self.channels))
        seen = seen - seen[:, ::_SAMPLED].median(dim=1, keepdim=True).values
        contrast = seen.square().mean(dim=(1, 2), keepdim=True).clamp_min(_FLAT).sqrt()
        square = (seen / contrast).mT.unflatten(2, (self.size, self.size))
        maps = nn.functional.softplus(self.maps(square).flatten(2))
        return maps / maps.sum(dim=2, keepdim=True)

    def read(self, pictures: Tensor) -> Tensor:
        """Keypoints (B, K, 2) in pictures (B, D)."""
        return torch.cat([self.attend(part) @ self.pixels for part in pictures.split(_AT_ONCE)])

    def draw(self, keypoints: Tensor) -> Tensor:
        """Pictures (B, D) of keypoints (B, K, 2)."""
        everywhere = torch.arange(len(self.pixels), device=keypoints.device)
        parts = keypoints.split(_AT_ONCE)
        count = keypoints.shape[1]
        return torch.cat([self.color(part, everywhere[None], count).flatten(1) for part in parts])

    def color(self, keypoints: Tensor, at: Tensor, count: int) -> Tensor:
        """Colours (B, p, C) at the pixels numbered ``at`` (B or 1, p), by the first ``count``."""
        offset = (self.pixels[at].unsqueeze(2) - keypoints[:, None, :count]) / _REACH
        layers = torch.einsum("bpkh,khc->bpkc", self.painter(offset), self.paint[:count])
        color = self.background[at].expand(len(keypoints), -1, -1)
        for layer in (layers + self.tint[:count]).unbind(dim=2):
            color = torch.lerp(color, layer[..., :-1], layer[..., -1:].sigmoid())
        return color


class KeypointJump(WorldModel):
    """Learned keypoints around a ``RelationalJump``.

    Observes pictures (B, T, D) of numbers from 0 to 1, rows from the top, channels last and red
    first (`ValueError` if blue comes first), and imagines such. `SeenPlaces` imagines places.
    """

    batch_kind = "picture-starts"
    precisions = ("float32",)
    compiles = False

    def __init__(self, config: KeypointJumpConfig) -> None:
        super().__init__()
        self.config, K = config, config.num_bodies
        inner = {field.name: getattr(config, field.name) for field in fields(RelationalJumpConfig)}
        self.bodies = RelationalJump(RelationalJumpConfig(**inner))
        self.eyes = Keypoints(K, config.size, config.channels, config.width)
        self.obs_size = config.size**2 * config.channels
        self.action_size, self.min_frames = config.action_size, self.bodies.min_frames
        self.built_in = (
            f"pictures show a background that stands still, and {K} things that move and look the "
            "same everywhere",
            *self.bodies.built_in,
        )
        self.register_buffer("order", torch.arange(K))
        self.register_buffer("head", torch.eye(2 * K + 1, 2 * K))
        self.order: Tensor
        self.head: Tensor

    def calibrate(self, data: SequenceData) -> None:
        """See ``WorldModel.calibrate``: takes the first background, a mean, from the data."""
        some = as_frames(torch.from_numpy(data.obs[:500, :1])).flatten(0, 1)
        self.eyes.background.data.copy_(some.mean(dim=0).view_as(self.eyes.background))

    def sampler(self, data: SequenceData, device: torch.device | None = None) -> KeypointSampler:
        """Draws pictures while keypoints are learned, then starts among the keypoints it sees."""
        places = getattr(data, "places", None)
        told = None if places is None else places[: self.config.labelled, 0]

        def settle(seen: Seen) -> StartSampler:
            return self.bodies.sampler(self.settle(seen, told), device)

        config = self.config
        return KeypointSampler(
            data,
            device,
            read=self.read,
            size=config.size,
            looking_steps=config.looking_steps,
            settle=settle,
            spoils=config.spoilt,
        )

    def read(self, obs: Tensor) -> Tensor:
        """Keypoints (..., 2K) in pictures (..., D), those that are acted on where they belong."""
        found = self.eyes.read(obs.flatten(0, -2))[:, self.order]
        return found.view(*obs.shape[:-1], -1)

    def settle(self, seen: Seen, told: np.ndarray | None = None) -> Seen:
        """The keypoints of sequences in their final order, by which actions act on the actors.

        Takes units from them, and, where they are told, the head from places (n, 2K) of balls in
        the first frames of the first n sequences; `ValueError` if these are other than K balls.
        """
        order = torch.tensor(_actors_first(seen, self.config))
        self.order.copy_(self.order[order.to(self.order.device)])
        obs = seen.obs.reshape(*seen.obs.shape[:2], len(order), 2)[:, :, order.numpy()]
        seen = seen._replace(obs=obs.reshape(seen.obs.shape))
        self.bodies.calibrate(seen)
        if told is not None:
            if told.shape[1] != self.head.shape[1]:
                raise ValueError(
                    f"expected as many keypoints as balls are told, got {len(order)} and "
                    f"{told.shape[1] // 2}; set num_bodies to the latter"
                )
            keypoints = np.pad(seen.obs[: len(told), 0], ((0, 0), (0, 1)), constant_values=1.0)
            head = np.linalg.lstsq(keypoints.astype(np.float64), told, rcond=None)[0]
            self.head.copy_(torch.from_numpy(head))
        return seen

    def places_of(self, keypoints: Tensor) -> Tensor:
        """Centres of balls (..., 2K) by keypoints (..., 2K), in sides of the table."""
        return keypoints @ self.head[:-1] + self.head[-1]

    # -- the contract ------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> State:
        """Keypoints at rest in the middle, where nothing has been seen yet."""
        state = self.bodies.initial_state(batch_size)
        return replace(state, obs=self.decode(state.hidden))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``. Reads the last ``window`` frames."""
        check_frames(obs, self.obs_size, self.min_frames)
        self._check_colors(obs)
        return replace(self.bodies.observe(self.read(obs), action), obs=obs[:, -1])

    def tick(self, state: State, action: Tensor | None = None) -> State:
        """See ``PiecewiseLinearModel.tick``."""
        ticked = self.bodies.tick(self._told(state), action)
        return replace(ticked, obs=self.paint(ticked.obs))

    def decode(self, hidden: Tensor) -> Tensor:
        """Latents (..., H) to pictures (..., D)."""
        return self.paint(self.bodies.decode(hidden))

    def imagine_keypoints(
        self, state: State, times: Tensor, end: float, action: Tensor | None
    ) -> Imagined:
        """``rollout`` without painting: ``obs`` are keypoints (B, K', 2K)."""
        return self.bodies.rollout(self._told(state), times, end, action)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        """See ``WorldModel.rollout``."""
        found = self.imagine_keypoints(state, times, end, action)
        last = replace(found.state, obs=self.paint(found.state.obs))
        return replace(found, obs=self.paint(found.obs), state=last)

    def _told(self, state: State) -> State:
        return replace(state, obs=self.bodies.decode(state.hidden))

    def paint(self, keypoints: Tensor) -> Tensor:
        """Pictures (..., D) of keypoints (..., 2K)."""
        found = keypoints.unflatten(-1, (-1, 2))[..., self.order.argsort(), :]
        drawn = self.eyes.draw(found.flatten(0, -3))
        return drawn.view(*keypoints.shape[:-1], self.obs_size)

    def _check_colors(self, obs: Tensor) -> None:
        """Raises ``ValueError`` for pictures that show blue first."""
        learned = self.eyes.background.detach().mean(dim=0)
        mean = obs.detach()[:, -1].unflatten(1, (-1, len(learned))).mean(dim=1)
        swapped = (mean.flip(1) - learned).norm(dim=1) < 0.5 * (mean - learned).norm(dim=1)
        swapped &= (mean - learned).norm(dim=1) > _SWAPPED
        if bool(swapped.any()):
            raise ValueError(
                "expected pictures whose channels are red, green and blue, got blue first in rows "
                f"{swapped.nonzero().flatten().tolist()[:8]}; turn them around, [..., ::-1]"
            )

    # -- learning ----------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """That of the ``RelationalJump``, or of looking at ``pictures`` (B, D).

        Keypoints join one by one: first as a map, which is drawn to pixels where the painting so
        far is wrong, then as paint. From there on the error of painting alone teaches, at the
        ``pixels`` (B, p) that were drawn by lot. Keypoints are found in the same pictures
        ``spoilt`` (B, D), if they are given. ``looked`` (B,) is how much of looking is over.
        """
        if "pictures" not in batch:
            return self.bodies.loss(batch)
        eyes, at, K = self.eyes, batch["pixels"], self.config.num_bodies
        pictures = batch["pictures"]
        rows = torch.arange(len(at), device=at.device).unsqueeze(1)
        wanted = pictures.unflatten(1, (-1, eyes.channels))[rows, at]
        maps = eyes.attend(batch.get("spoilt", pictures))
        joined = min(K, int(float(batch["looked"][0]) / self.config.joining * K))
        missed = (eyes.color(maps @ eyes.pixels, at, joined) - wanted).square()
        loss = error = missed.mean()
        if joined < K:
            rest = missed.detach().sum(dim=2) + 1e-9
            looks = maps[:, joined].gather(1, at) + 1e-9
            rest = rest / rest.sum(dim=1, keepdim=True)
            # Of logarithms of what is positive, the softmax are shares.
            loss = loss + _ATTENTION * nn.functional.cross_entropy(looks.log(), rest)
        return loss, {"redrawn": error.detach()}


class SeenPlaces(WrappedModel):
    """Observes pictures (B, T, D), and imagines places of balls, (B, K', 2K), as objectives ask.

    Gradients flow from these to the pictures.

    Attributes:
        picture: height, width and channels of the pictures.
        num_balls: K.
    """

    model: KeypointJump

    def __init__(self, model: KeypointJump) -> None:
        super().__init__(model)
        config = model.config
        self.picture = config.size, config.size, config.channels
        self.num_balls, self.record = config.num_bodies, model.record
        self.built_in = (
            *model.built_in,
            f"places of balls, from {config.labelled} labelled pictures",
        )

    def initial_state(self, batch_size: int) -> State:
        return self._told(self.model.bodies.initial_state(batch_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        """See ``WorldModel.observe``; what the state holds as ``obs`` are places."""
        return self._told(self.model.observe(obs, action))

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        found = self.model.imagine_keypoints(state, times, end, action)
        obs = self.model.places_of(found.obs)
        return replace(found, obs=obs, state=self._told(found.state))

    def velocities_of(self, state: State) -> Tensor:
        """Velocities of balls (B, 2K) per frame."""
        return self.model.bodies.velocities_of(state) @ self.model.head[:-1]

    def _told(self, state: State) -> State:
        keypoints = self.model.bodies.decode(state.hidden)
        return replace(state, obs=self.model.places_of(keypoints))


def _actors_first(seen: Seen, config: RelationalJumpConfig) -> list[int]:
    """Numbers of keypoints, so that each actor's is the one whose change of velocity at actions
    follows its part of the action best."""
    left, size = [*range(config.num_bodies)], config.part_size
    if not config.action_size:
        return left
    row, frame = np.nonzero(seen.action[:, 1:-1].any(axis=2))
    around = seen.obs.reshape(*seen.obs.shape[:2], -1, 2)
    before, now, after = (around[row, frame + k] for k in range(3))
    kink = (after - 2.0 * now + before).astype(np.float64)  # (n, K, 2)
    found: dict[int, int] = {}
    for number, actor in enumerate(config.actors):
        part = seen.action[row, frame + 1, number * size : (number + 1) * size]
        part = np.pad(part, ((0, 0), (0, 1)), constant_values=1.0).astype(np.float64)
        rest = [np.linalg.lstsq(part, kink[:, body], rcond=None)[1].sum() for body in left]
        found[actor] = left.pop(int(np.argmin(rest / kink.var(axis=(0, 2))[left])))
    return [found[body] if body in found else left.pop(0) for body in range(config.num_bodies)]
