"""Smooth shapes on pygame surfaces in memory: each pixel is coloured by how much of it is covered.

Positions and lengths are in table sides where a `Canvas` is asked to draw, and in pixels, columns
to the right and rows downwards, in the functions below it. Masks are indexed [column][row].
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.envs.pixels import Color
from jumpy_mbrl.envs.scene import Path

# Before the import, which prints a greeting otherwise.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

PHASES = 8
"""Positions between two pixels at which sprites are drawn."""

RIM: Color = (20, 28, 26)
"""The dark around what lies over the table."""

_LONGEST_PIECE = 40.0

Doubles = NDArray[np.float64]
Point = tuple[float, float]
Phase = tuple[int, int]


class Place(NamedTuple):
    """Where the table lies in a picture, in pixels."""

    left: int
    top: int
    side: int
    width: int
    height: int

    def to_pixels(self, where: Point) -> Point:
        """Returns the (column, row) of a table position."""
        return self.left + where[0] * self.side, self.top + (1.0 - where[1]) * self.side


class Canvas:
    """A surface with a table on it, to draw on in table coordinates.

    Args:
        surface: what to draw on.
        left: first column of the table.
        top: first row of the table.
        side: height and width of the table, in pixels.
    """

    def __init__(self, surface: pygame.Surface, left: int, top: int, side: int) -> None:
        self.surface = surface
        self.place = Place(left, top, side, *surface.get_size())

    @property
    def side(self) -> int:
        """Height and width of the table, in pixels."""
        return self.place.side

    def stamp(self, sprite: Callable[[Phase], pygame.Surface], where: Point) -> None:
        """Draws a sprite with its middle at a position, to an eighth of a pixel.

        Args:
            sprite: makes the picture, with its middle a `Phase` right of and below its own.
            where: the position.
        """
        (column, right), (row, down) = (
            divmod(round(value * PHASES), PHASES) for value in self.place.to_pixels(where)
        )
        picture = sprite((right, down))
        half = picture.get_width() // 2
        self.surface.blit(picture, (column - half, row - half))

    def path(self, path: Path) -> None:
        """Draws a line, its dots, or both."""
        points = check_points("path points", path.points)
        if len(points) >= 2 and path.width > 0.0:
            style = path.color, path.width, path.dash, path.opacity, path.fade
            layer, corner = _line(tuple(points), *style, self.place)
            self.surface.blit(layer, corner)
        if path.dots:
            for where in points:
                self.dot(where, path.dot_radius, path.color, path.opacity)

    def dot(self, where: Point, radius: float, color: Color, opacity: float = 1.0) -> None:
        """Draws a disc with a dark rim around it."""
        center = self.place.to_pixels(where)
        size = radius * self.side
        rim = max(1.0, 0.28 * size)
        for reach, ink, strength in ((size + rim, RIM, 0.75), (size, color, 1.0)):
            mask, corner = empty_mask(self.place, [center], reach + 1.0)
            add_capsule(mask, corner, center, center, reach)
            self.blend(mask, corner, ink, strength * opacity)

    def ring(self, where: Point, radius: float, width: float, color: Color, opacity: float) -> None:
        """Draws a circle."""
        column, row = self.place.to_pixels(where)
        size, half = radius * self.side, 0.5 * width * self.side
        mask, corner = empty_mask(self.place, [(column, row)], size + half + 1.0)
        x, y = _centres(mask, corner)
        beyond = np.abs(np.hypot(x - column, y - row) - size) - half
        self.blend(np.clip(0.5 - beyond, 0.0, 1.0), corner, color, opacity)

    def arrow(self, start: Point, tip: Point, color: Color, opacity: float) -> None:
        """Draws an arrow with a dark rim around it."""
        (x0, y0), (x1, y1) = self.place.to_pixels(start), self.place.to_pixels(tip)
        length = math.hypot(x1 - x0, y1 - y0)
        if length == 0.0:
            return
        head = min(0.052 * self.side, length)
        half = 0.0085 * self.side
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        neck = x1 - head * dx, y1 - head * dy
        barbs = [(neck[0] - s * head * dy, neck[1] + s * head * dx) for s in (0.55, -0.55)]
        corners = [(x1, y1), *barbs]
        for rim, ink, strength in ((0.005 * self.side, RIM, 0.45), (0.0, color, 1.0)):
            mask, corner = empty_mask(self.place, [(x0, y0), *corners], half + rim + 2.0)
            add_capsule(mask, corner, (x0, y0), neck, half + rim)
            _add_polygon(mask, corner, corners, rim)
            self.blend(mask, corner, ink, strength * opacity)

    def blend(
        self, mask: Doubles, corner: tuple[int, int], color: Color, opacity: float = 1.0
    ) -> None:
        """Lays a colour over the surface, as thick as the mask (0 to 1) says."""
        self.surface.blit(_layer(mask, color, opacity), corner)


def sprite(color: Doubles, alpha: Doubles) -> pygame.Surface:
    """Returns a picture from its colours (w, h, 3) and opacities (w, h), both 0 to 255."""
    surface = pygame.Surface(alpha.shape, pygame.SRCALPHA, 32)
    pygame.surfarray.pixels3d(surface)[:] = np.clip(color, 0.0, 255.0).astype(np.uint8)
    pygame.surfarray.pixels_alpha(surface)[:] = np.clip(alpha, 0.0, 255.0).astype(np.uint8)
    return surface


def grid(reach: float, phase: Phase) -> tuple[Doubles, Doubles]:
    """Distances of pixel centres from a point, along both axes, on a square that holds `reach`.

    The point lies phase / PHASES pixels right of and below the middle of the square.
    """
    half = math.ceil(reach) + 1
    pixels = np.arange(-half, half, dtype=np.float64) + 0.5
    return (pixels - phase[0] / PHASES)[:, None], (pixels - phase[1] / PHASES)[None, :]


def covered(low: float, high: float, size: int) -> Doubles:
    """How much of each of `size` pixels in a row lies between low and high."""
    pixels = np.arange(size)
    inside = np.minimum(high, pixels + 1.0) - np.maximum(low, pixels)
    return np.asarray(np.clip(inside, 0.0, 1.0), dtype=np.float64)


def as_array(surface: pygame.Surface) -> NDArray[np.uint8]:
    """Returns the pixels of a surface, (h, w, 3), row 0 at the top."""
    rows = np.frombuffer(pygame.image.tobytes(surface, "RGB"), dtype=np.uint8)
    return rows.reshape(surface.get_height(), surface.get_width(), 3).copy()


def check_points(name: str, points: ArrayLike) -> list[Point]:
    """Returns given points as pairs of floats, or refuses them.

    Raises:
        ValueError: for another shape than (K, 2), or points that are not finite.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return []
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"expected {name} of shape (K, 2), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite {name}, got {array.tolist()}")
    return [(float(x), float(y)) for x, y in array]


def empty_mask(
    place: Place, points: Sequence[Point], reach: float
) -> tuple[Doubles, tuple[int, int]]:
    """A mask that holds the points and `reach` pixels around them, and its upper left corner."""
    xs, ys = zip(*points, strict=True)
    left, right = _span(min(xs), max(xs), reach, place.width)
    top, bottom = _span(min(ys), max(ys), reach, place.height)
    return np.zeros((max(0, right - left), max(0, bottom - top))), (left, top)


def add_capsule(
    mask: Doubles,
    corner: tuple[int, int],
    start: Point,
    end: Point,
    half: float,
    shares: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Draws a straight line with round ends into a mask: the larger value stays.

    Args:
        mask: how much of each pixel is covered, [x][y].
        corner: where the mask lies in the picture.
        start: of the line.
        end: of the line.
        half: half the width of the line.
        shares: of width and opacity, at the start and at the end.
    """
    x0, y0 = start[0] - corner[0], start[1] - corner[1]
    x1, y1 = end[0] - corner[0], end[1] - corner[1]
    left, right = _span(x0, x1, half + 1.0, mask.shape[0])
    top, bottom = _span(y0, y1, half + 1.0, mask.shape[1])
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right) + 0.5 - x0)[:, None]
    y = (np.arange(top, bottom) + 0.5 - y0)[None, :]
    dx, dy = x1 - x0, y1 - y0
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
    distance = np.hypot(x - along * dx, y - along * dy)
    share = shares[0] + along * (shares[1] - shares[0])
    # Thinner than a pixel is fainter, not thinner.
    covered = np.clip(np.maximum(half * share, 0.5) + 0.5 - distance, 0.0, 1.0)
    covered *= share * np.minimum(2.0 * half * share, 1.0)
    part = mask[left:right, top:bottom]
    np.maximum(part, covered, out=part)


@functools.lru_cache(maxsize=16)  # ways stay for many pictures
def _line(
    places: tuple[Point, ...],
    color: Color,
    width: float,
    dash: float,
    opacity: float,
    fade: bool,
    place: Place,
) -> tuple[pygame.Surface, tuple[int, int]]:
    """A line on a transparent rectangle, and where its corner lies in the picture."""
    points = [place.to_pixels(where) for where in places]
    half = 0.5 * width * place.side
    mask, corner = empty_mask(place, points, half + 1.0)
    pieces = list(_pieces(_corners(points), dash * place.side))
    total = pieces[-1][1][1]
    for (start, low), (end, high) in pieces:
        shares = (low / total, high / total) if fade and total else (1.0, 1.0)
        add_capsule(mask, corner, start, end, half, shares)
    return _layer(mask, color, opacity), corner


def _corners(points: Sequence[Point]) -> list[Point]:
    """Leaves out the points at which a line goes straight on."""
    kept = [points[0]]
    for (x1, y1), (x2, y2) in itertools.pairwise(points[1:]):
        x0, y0 = kept[-1]
        beside = (x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1)
        onwards = (x1 - x0) * (x2 - x1) + (y1 - y0) * (y2 - y1)
        if onwards < 0.0 or abs(beside) > 0.02 * math.hypot(x2 - x1, y2 - y1):
            kept.append((x1, y1))
    return [*kept, points[-1]]


def _pieces(
    points: Sequence[Point], dash: float
) -> Iterable[tuple[tuple[Point, float], tuple[Point, float]]]:
    """Cuts a line into short straight pieces, leaving out the gaps of a dashed one.

    Yields:
        Both ends of a piece, each with its distance from the beginning along the line, in pixels.
    """
    done = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        for low, high in itertools.pairwise(_cuts(done, length, dash)):
            if dash and int((done + 0.5 * (low + high)) / dash) % 2:
                continue
            ends = []
            for cut in (low, high):
                share = cut / length if length else 0.0
                ends.append(((x0 + share * (x1 - x0), y0 + share * (y1 - y0)), done + cut))
            yield ends[0], ends[1]
        done += length


def _cuts(done: float, length: float, dash: float) -> list[float]:
    """Where to cut a straight line of some length that begins `done` pixels along the whole."""
    step = dash or _LONGEST_PIECE
    first = dash * (math.floor(done / dash) + 1) - done if dash else step
    count = max(0, math.ceil((length - first) / step))
    return [0.0, *(first + k * step for k in range(count)), length]


def _add_polygon(
    mask: Doubles, corner: tuple[int, int], points: Sequence[Point], rim: float
) -> None:
    """Draws a convex polygon, grown by a rim, into a mask."""
    x, y = _centres(mask, corner)
    beyond = np.full(mask.shape, -np.inf)
    middle = np.mean(points, axis=0)
    for (x0, y0), (x1, y1) in itertools.pairwise([*points, points[0]]):
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = (y1 - y0) / length, (x0 - x1) / length
        if (middle[0] - x0) * nx + (middle[1] - y0) * ny > 0.0:
            nx, ny = -nx, -ny
        np.maximum(beyond, (x - x0) * nx + (y - y0) * ny, out=beyond)
    np.maximum(mask, np.clip(0.5 + rim - beyond, 0.0, 1.0), out=mask)


def _centres(mask: Doubles, corner: tuple[int, int]) -> tuple[Doubles, Doubles]:
    """Columns and rows of the centres of a mask's pixels."""
    x = np.arange(mask.shape[0], dtype=np.float64) + 0.5 + corner[0]
    y = np.arange(mask.shape[1], dtype=np.float64) + 0.5 + corner[1]
    return x[:, None], y[None, :]


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    return max(0, math.floor(min(a, b) - reach)), min(size, math.ceil(max(a, b) + reach))


def _layer(mask: Doubles, color: Color, opacity: float) -> pygame.Surface:
    layer = pygame.Surface(mask.shape, pygame.SRCALPHA, 32)
    if mask.size:
        layer.fill((*color, 0))
        pygame.surfarray.pixels_alpha(layer)[:] = (255.0 * opacity * mask + 0.5).astype(np.uint8)
    return layer
