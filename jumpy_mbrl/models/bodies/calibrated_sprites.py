"""Sprites that are read quickly, in the colours of the picture at hand.

A coarse picture says where each body is to a pixel or so, and the pixels around it where exactly.
The felt has the colour that most of a picture has, and each body that of its middle: so light and
felt may be others than those that were learned.

Letters: B pictures, N bodies, P pixels, C channels, G places of the grid, W pixels of a patch.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from jumpy_mbrl.models.bodies.sprites import _KNOTS_PER_SIDE, Sprites, _centres
from jumpy_mbrl.models.networks import gauss_newton

_COARSE = 16
"""Most pixels along a side of the coarse picture."""
_PLACES = 36
"""Of the grid, along a side."""
_MIDDLE = 0.05
"""Radius of the middle of a body, in sides."""
_NEAR = 0.135
"""Half a side of the patch around a body, in sides."""
_FINE = 32
"""Pixels along a side by which places are refined: what was seen less sharply is read as well."""
_BLURRED = 0.1
"""Of a picture without detail finer than blocks, what is left differs that much less by blocks."""
_STEPS = 3
_LONGEST_STEP = 0.03
_DAMPING = 1e-4
_AT_ONCE = 256
_SAMPLED = 5
"""One pixel in so many says which colour the felt has; prime to the usual sizes."""
_FLAT = 0.01
"""Least square of the contrast between felt and target."""
_SWAPPED = 0.03
"""How near the felt's channels are to those learned, if red and blue have changed places."""


class CalibratedSprites(Sprites):
    """`Sprites` of bodies in the plane.

    Reading raises `ValueError` for pictures whose felt has the learned colour but for red and blue,
    which have changed places.
    """

    def __init__(self, num_bodies: int, size: int, channels: int = 1) -> None:
        super().__init__(num_bodies, size, channels)
        self.size = size
        self._templates_of: tuple[object, Tensor] | None = None

    def read(self, pictures: Tensor) -> Tensor:
        return torch.cat([self._find(part) for part in pictures.split(_AT_ONCE)])

    def for_bodies(self, count: int) -> CalibratedSprites:
        """The same looks for so many bodies; those beyond the last one look as it does."""
        other = CalibratedSprites(count, self.size, self.color.shape[1]).to(self.color)
        rows = self._bodies.new_tensor(range(count)).clamp_max(self.num_bodies - 1)
        kept = {"profile": self.profile[rows], "color": self.color[rows]}
        other.load_state_dict({**self.state_dict(), **kept})
        return other

    def _profile(self) -> Tensor:
        # The colour of a body is that of its middle.
        middle = self.profile[:, : int(_MIDDLE * _KNOTS_PER_SIDE)].mean(dim=1, keepdim=True)
        return self.profile / middle

    def _find(self, pictures: Tensor) -> Tensor:
        seen = pictures.view(len(pictures), -1, self.color.shape[1])
        felt = seen.detach()[:, ::_SAMPLED].median(dim=1).values
        background = self._background(felt)
        with torch.no_grad():
            clearest = (self.color - felt.unsqueeze(1)).square().sum(dim=2).argsort(1, True)
            looked_for = self.color[clearest]
            positions = self._look(self._coarse(seen), self._coarse(background), looked_for)
            positions, color = self._told_apart(positions, self._middle(seen, positions))
        for _ in range(_STEPS):
            positions = positions + self._step(seen, background, color, positions, False)[0]
        step, is_sharp = self._step(seen, background, color, positions, True)
        positions = positions + is_sharp * step
        return positions.flatten(1)

    def _background(self, felt: Tensor) -> Tensor:
        """The learned one with felt of another colour (B, C): (B, P, C)."""
        learned = self.background.median(dim=0).values
        swapped = ((felt.flip(1) - learned).abs() < _SWAPPED).all(dim=1)
        swapped &= ((felt - learned).abs() > 2.0 * _SWAPPED).any(dim=1)
        if not torch.compiler.is_exporting() and bool(swapped.any()):
            raise ValueError(
                "expected pictures whose channels are red, green and blue, got blue first in rows "
                f"{swapped.nonzero().flatten().tolist()[:8]}; turn them around, [..., ::-1]"
            )
        far = (self.background - learned).square().sum(dim=1).argmax()
        target, way = self.background[far], learned - self.background[far]
        share = ((self.background - target) @ way / way.square().sum().clamp_min(_FLAT)).clamp(0, 1)
        share = torch.where(way.square().sum() > _FLAT, share, 1.0)
        return self.background + share[:, None] * (felt - learned).unsqueeze(1)

    def _coarse(self, pictures: Tensor) -> Tensor:
        """Of (B, P, C), with few pixels (B, p, C)."""
        squares = pictures.mT.unflatten(2, (self.size, self.size))
        return F.adaptive_avg_pool2d(squares, min(self.size, _COARSE)).flatten(2).mT

    def _look(self, seen: Tensor, background: Tensor, colors: Tensor) -> Tensor:
        """Positions (B, N, 2) on the grid of coarse pictures (B, p, C): each of the colours
        (B, N, C), one after the other, where it covers most of what is left."""
        places = _centres(_PLACES, seen.device).to(seen.dtype)
        templates = self._coarse_covers(places)
        length, rest, found = templates.norm(dim=1), seen - background, []
        for color in colors.split(1, dim=1):
            contrast = color - background
            # The share of a pixel that the body covers, if nothing else does.
            share = (rest * contrast).sum(dim=2) / contrast.square().sum(dim=2).clamp_min(_FLAT)
            most, best = (share.clamp(-1.0, 1.0) @ templates.T / length).max(dim=1)
            drawn = templates[best] * (most / length[best]).unsqueeze(1)
            rest = rest - drawn.unsqueeze(2) * contrast
            found.append(places[best])
        return torch.stack(found, dim=1)

    def _told_apart(self, positions: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, N, 2), and colours seen there (B, N, C), in the order of the bodies whose
        colours are likest: whatever the light, as it is the same for all."""
        bodies = self._bodies.tolist()
        orders = torch.tensor(list(permutations(bodies)), device=color.device)  # body by body
        like = color @ self.color.T  # (B, place, body)
        order = orders[like[:, orders, bodies].sum(dim=2).argmax(dim=1)]
        rows = torch.arange(len(order), device=color.device).unsqueeze(1)
        return positions[rows, order], color[rows, order]

    def _coarse_covers(self, places: Tensor) -> Tensor:
        """How much a body at each place (G, 2) covers of coarse pixels (G, p); once per weights."""
        made_of = (self.profile._version, self.profile.device, self.profile.dtype)
        if self._templates_of is None or self._templates_of[0] != made_of:
            covers = [
                self._coarse(self._cover(self._distance(part).unsqueeze(1), self._bodies[:1])[0].mT)
                for part in places.split(_AT_ONCE)
            ]
            self._templates_of = made_of, torch.cat(covers).squeeze(2)
        return self._templates_of[1]

    def _middle(self, seen: Tensor, positions: Tensor) -> Tensor:
        """The colours (B, N, C) of the middle of each body."""
        reach = int(_MIDDLE * self.size)
        offsets = torch.arange(-reach, reach + 1, device=seen.device)
        row, column = torch.meshgrid(offsets, offsets, indexing="ij")
        near = row.square() + column.square() <= (_MIDDLE * self.size) ** 2
        at = self._pixel_of(positions).unsqueeze(2)
        at = at + torch.stack([row[near], column[near]], dim=1).to(at)
        return self._gather(seen, at.round().clamp(0, self.size - 1)).mean(dim=2)

    def _pixel_of(self, positions: Tensor) -> Tensor:
        """Row and column of the pixel at positions (..., 2), as real numbers."""
        return torch.stack([1.0 - positions[..., 1], positions[..., 0]], dim=-1) * self.size - 0.5

    def _gather(self, pictures: Tensor, at: Tensor) -> Tensor:
        """Of (B, P, C) the pixels at rows and columns (B, N, W, 2): (B, N, W, C)."""
        row, column = at.long().unbind(dim=-1)  # Half precision cannot count pixels.
        index = row * self.size + column
        rows = torch.arange(len(pictures), device=index.device).view(-1, 1, 1)
        return pictures[rows, index]

    def _step(
        self, seen: Tensor, background: Tensor, color: Tensor, positions: Tensor, sharp: bool
    ) -> tuple[Tensor, Tensor]:
        """A Gauss-Newton step (B, N, 2) of each body, by the pixels around it or blocks of these;
        and whether these differ from what is drawn as much as their blocks do, (B, N, 1)."""
        block = max(self.size // _FINE, 1)
        width = min(2 * round(_NEAR * self.size), self.size) // block * block
        along = torch.arange(width, device=seen.device)
        row, column = torch.meshgrid(along, along, indexing="ij")
        corner = (self._pixel_of(positions.detach()) - 0.5 * (width - 1)) / block
        corner = block * corner.round().clamp(0, (self.size - width) // block).unsqueeze(2)
        at = corner + torch.stack([row.flatten(), column.flatten()], dim=1)
        behind = self._gather(background, at)
        x = (at[..., 1] + 0.5) / self.size
        y = 1.0 - (at[..., 0] + 0.5) / self.size
        centres = positions[:, None, :, None]
        offset = centres - torch.stack([x, y], dim=-1).unsqueeze(2)  # (B, patch, body, W, 2)
        tiny = max(1e-12, torch.finfo(seen.dtype).tiny)
        distance = (offset.square().sum(dim=-1) + tiny).sqrt()
        cover, slope = self._cover(distance, self._bodies)
        drawn = behind * (1.0 - cover.sum(dim=2)).unsqueeze(-1) + cover.mT @ color.unsqueeze(1)
        miss = self._gather(seen, at) - drawn
        contrast = color.unsqueeze(2) - behind
        # Along one direction of colour: the normal equations are the same.
        size = (contrast.square().sum(dim=-1) + tiny).sqrt()
        own = torch.arange(self.num_bodies, device=seen.device)
        way = offset[:, own, own] * (slope[:, own, own] * size / distance[:, own, own]).unsqueeze(
            -1
        )
        both = torch.cat(
            [way, (contrast * miss).sum(dim=-1, keepdim=True) / size.unsqueeze(-1)], -1
        )
        blocks = both.unflatten(2, (width // block, block, -1, block)).mean(dim=(3, 5))
        blocks = blocks.flatten(2, 3)
        fine, coarse = (part[..., 2].square().mean(dim=2) for part in (both, blocks))
        chosen = both if sharp else blocks
        step = gauss_newton(chosen[..., :2].mT, chosen[..., 2], _DAMPING)
        is_sharp = (coarse > _BLURRED * fine).unsqueeze(2)
        return step.clamp(-_LONGEST_STEP, _LONGEST_STEP), is_sharp
