"""Pictures of a few bodies, drawn from positions and read back: learned sprites.

Every body has one sprite, a colour times a cover that depends on the distance from its centre
alone, on a background. Drawing is differentiable in the positions. Reading is drawing turned
around: the place of the grid whose sprite explains the picture best, body by body, then a few
Gauss-Newton steps on all positions at once, which find them to a small fraction of a pixel. So
there is nothing to learn but what the bodies look like, and pictures alone teach it.

Letters: B pictures, N bodies, P pixels, C channels, G places of the grid, D = 2N.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jumpy_mbrl.models.networks import gauss_newton

_REACH = 0.25
"""Farthest that a sprite reaches from its centre, in sides of the picture."""
_KNOTS = 51
"""Distances from 0 to `_REACH` at which its cover is learned; between them it is interpolated."""
_KNOTS_PER_SIDE = (_KNOTS - 1) / _REACH
_FIRST_WIDTH = 0.1
"""Of the blobs that sprites begin as, in sides."""
_MAX_PLACES = 28
"""Of the grid, along a side."""
_STEPS = 3
_LONGEST_STEP = 0.03
"""Of a position along each axis, in sides: about a place of the grid."""
_DAMPING = 1e-4
_TINY = 1e-12
_AT_ONCE = 256
"""Pictures read together: more do not fit the processor's cache."""


class Sprites(nn.Module):
    """What N bodies look like in square pictures, row 0 at the top.

    Args:
        num_bodies: N, told apart by their looks. Body 0 is looked for first.
        size: height and width, in pixels.
        channels: C.
        axes: 2, or 1 for bodies on a vertical line, at one x that is learned too.
    """

    built_in = ("pictures of round bodies on a background",)

    def __init__(self, num_bodies: int, size: int, channels: int = 1, axes: int = 2) -> None:
        super().__init__()
        self.num_bodies = num_bodies
        self.axes = axes
        blob = torch.exp(-((torch.linspace(0.0, _REACH, _KNOTS)[1:-1] / _FIRST_WIDTH) ** 2))
        self.profile = nn.Parameter(blob.repeat(num_bodies, 1))
        # Bright to dim, so that the first one settles on the body that stands out most.
        bright = torch.linspace(1.0, 0.5, num_bodies)
        self.color = nn.Parameter(bright.unsqueeze(1).repeat(1, channels))
        self.background = nn.Parameter(torch.full((size * size, channels), 0.3))
        self.line = nn.Parameter(torch.tensor(0.5)) if axes == 1 else None
        self.register_buffer("_pixels", _centres(size), persistent=False)
        self.register_buffer("_places", _centres(min(size, _MAX_PLACES)), persistent=False)
        self.register_buffer("_bodies", torch.arange(num_bodies), persistent=False)
        self._pixels: Tensor
        self._places: Tensor
        self._bodies: Tensor

    def draw(self, positions: Tensor) -> Tensor:
        """Pictures (..., P * C) of bodies at ``positions`` (..., axes * N), from 0 to 1 each."""
        cover, _ = self._cover(self._distance(self._in_plane(positions)), self._bodies)
        return self._compose(cover).flatten(-2)

    def read(self, pictures: Tensor) -> Tensor:
        """The positions (B, axes * N) at which the sprites explain ``pictures`` (B, P * C) best."""
        places, templates = self.grid()
        return torch.cat([self.find(part, places, templates) for part in pictures.split(_AT_ONCE)])

    def grid(self) -> tuple[Tensor, Tensor]:
        """Places (G, 2) and what each body adds to a picture there, (N, G, P * C), for `find`."""
        places = self._places if self.line is None else self._places_on_line()
        return places, self._templates(places)

    def find(self, pictures: Tensor, places: Tensor, templates: Tensor) -> Tensor:
        """`read` of a few pictures, with what `grid` gives: a fixed course of operations."""
        return self._refine(pictures, self._match(pictures, places, templates)).flatten(1)

    # -- drawing ---------------------------------------------------------------------------

    def _in_plane(self, positions: Tensor) -> Tensor:
        """Centres (..., N, 2)."""
        if self.line is None:
            return positions.view(*positions.shape[:-1], self.num_bodies, 2)
        return torch.stack([self.line.expand_as(positions), positions], dim=-1)

    def _distance(self, centres: Tensor) -> Tensor:
        """Of every pixel from the centres (..., 2): (..., P), never 0."""
        x = centres[..., :1] - self._pixels[:, 0]
        y = centres[..., 1:] - self._pixels[:, 1]
        return (x * x + y * y + _TINY).sqrt()

    def _cover(self, distance: Tensor, bodies: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the pixels at a distance (..., n, P) the bodies numbered (n,) cover, and how
        fast that changes with the distance."""
        end = torch.ones_like(self.profile[:, :1])
        table = torch.cat([end, self._profile(), 0.0 * end], dim=1).flatten()
        place = (distance * _KNOTS_PER_SIDE).clamp_max(_KNOTS - 1.001)
        # A body that is nowhere is drawn as NaN; half precision rounds up to the last knot.
        knot = place.detach().nan_to_num().long().clamp_max(_KNOTS - 2)
        index = knot + _KNOTS * bodies.unsqueeze(1)
        here = table[index]
        rise = table[index + 1] - here
        return here + rise * (place - knot), rise * _KNOTS_PER_SIDE

    def _profile(self) -> Tensor:
        """Cover of each body at the distances between 0 and the farthest, (N, knots)."""
        return self.profile

    def _contrast(self) -> Tensor:
        """Colour of each body against the background, (N, P, C)."""
        return self.color.unsqueeze(1) - self.background

    def _compose(self, cover: Tensor) -> Tensor:
        """Pictures (..., P, C) of covers (..., N, P)."""
        return self.background + (cover.unsqueeze(-1) * self._contrast()).sum(dim=-3)

    # -- reading ---------------------------------------------------------------------------

    def _places_on_line(self) -> Tensor:
        """The grid (G, 2) along the line."""
        y = self._places[:, 1].unique()
        line = self._in_plane(y.unsqueeze(1).expand(-1, self.num_bodies))
        return line[:, 0]

    def _templates(self, places: Tensor) -> Tensor:
        """What each body adds to the background at each place, (N, G, P * C)."""
        distance = self._distance(places).unsqueeze(1)
        covers = [self._cover(distance, body)[0] for body in self._bodies.split(1)]
        return (
            torch.stack(covers).squeeze(2).unsqueeze(-1) * self._contrast().unsqueeze(1)
        ).flatten(2)

    def _match(self, pictures: Tensor, places: Tensor, templates: Tensor) -> Tensor:
        """Centres (B, N, 2) on the grid: each body where it explains most of what is left."""
        rest = pictures - self.background.flatten()
        centres = []
        for template in templates:
            best = (2.0 * rest @ template.T - template.square().sum(dim=1)).argmax(dim=1)
            rest = rest - template[best]
            centres.append(places[best])
        return torch.stack(centres, dim=1)

    def _refine(self, pictures: Tensor, centres: Tensor) -> Tensor:
        """Positions (B, N, axes) by Gauss-Newton steps from ``centres`` (B, N, 2).

        In float32 at least: sums over pixels overflow in half precision.
        """
        first = 2 - self.axes
        contrast = self._contrast()
        positions = centres[..., first:].to(torch.promote_types(centres.dtype, torch.float32))
        for _ in range(_STEPS):
            centres = self._in_plane(positions.flatten(1))
            distance = self._distance(centres)
            cover, slope = self._cover(distance, self._bodies)
            miss = pictures - self._compose(cover).flatten(1)
            offset = centres.unsqueeze(2) - self._pixels
            direction = (offset * (slope / distance).unsqueeze(-1))[..., first:].mT
            jacobian = (direction.unsqueeze(-1) * contrast.unsqueeze(1)).flatten(3).flatten(1, 2)
            step = gauss_newton(jacobian, miss, _DAMPING)
            positions = positions + step.clamp(-_LONGEST_STEP, _LONGEST_STEP).view_as(positions)
        return positions.to(pictures.dtype)


def _centres(size: int, device: torch.device | None = None) -> Tensor:
    """Centres (size * size, 2) of pixels, x to the right and y upwards, row 0 at the top."""
    along = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
    y, x = torch.meshgrid(1.0 - along, along, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)
