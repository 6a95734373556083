"""Pictures of a table, drawn with pygame on a surface in memory: no display is needed.

`pygame.display` is touched by `Window` alone, which only `render_mode="human"` makes. Shapes are
smooth: each pixel is coloured by how much of it is covered. Positions and lengths are in table
sides where a `Canvas` is asked to draw, and in pixels, columns to the right and rows downwards, in
the functions below it. Masks are indexed [column][row].
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

from jumpy_mbrl.envs.config import Target
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN, TARGET, Color
from jumpy_mbrl.envs.scene import ARROW_LENGTH, Arrow, Layout, Path, View

# Before the import, which prints a greeting otherwise.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

__all__ = [
    "FRAME_SIZE",
    "Canvas",
    "Layout",
    "Path",
    "Point",
    "View",
    "Window",
    "as_array",
    "draw_table",
    "draw_view",
]

Doubles = NDArray[np.float64]
Point = tuple[float, float]
Phase = tuple[int, int]

FRAME_SIZE = 512

_BORDER = 0.816  # its share of the felt's light
_RIM: Color = (20, 28, 26)  # the dark around what lies over the table
ROOM: Color = (24, 26, 28)
_WOOD: Color = (96, 62, 40)
_WOOD_EDGE: Color = (70, 44, 28)
_SIGHT: Color = (222, 208, 182)
TEXT: Color = (236, 232, 222)
FAINT: Color = (142, 146, 148)
_ARROW: Color = (255, 246, 224)
YELLOW: Color = (255, 205, 96)

_SHADOW_OFFSET = (0.010, -0.014)
_SHADOW_SOFTNESS = 0.030
_SHADOW_STRENGTH = 110.0
_EDGE_WIDTH = 0.010
_TRAIL_OPACITY = 0.5
_TRAIL_WIDTH = 1.1  # at the ball, in radii
_ARROW_GAP = 0.012

_PHASES = 8  # positions between two pixels at which sprites are drawn
_LONGEST_PIECE = 40.0


def draw_table(
    positions: ArrayLike,
    target: Target | None = None,
    size: int = FRAME_SIZE,
    paths: Sequence[Path] | None = None,
    radius: float = 0.1,
) -> NDArray[np.uint8]:
    """Draws a bare table from above, x to the right and y upwards.

    Args:
        positions: (N, 2) centres of the balls, in table sides. Ball 0 is tan (the cue ball), ball 1
            blue (the object ball), further balls are grey. N may be 0.
        target: (x_low, x_high, y_low, y_high), drawn black, or None.
        size: height and width of the picture, in pixels.
        paths: lines to draw over the balls, the later over the earlier.
        radius: of the balls, in table sides.

    Returns:
        The picture, (size, size, 3) uint8, row 0 at the top. `ValueError` for a size below 1, or
        positions or points of another shape or not finite.
    """
    if size < 1:
        raise ValueError(f"expected size to be at least 1 pixel, got {size}")
    view = View(np.asarray(positions, dtype=np.float64), target, radius, paths=tuple(paths or ()))
    surface = pygame.Surface((size, size), 0, 32)
    _draw_table(Canvas(surface, 0, 0, size), view)
    return as_array(surface)


def draw_view(view: View, width: int | None = None, height: int | None = None) -> NDArray[np.uint8]:
    """Draws all of a view, the table in its rails and the score line below: (height, width, 3)
    uint8, row 0 at the top, by default 608 x 560, or 632 x 560 with a hint. What the table leaves
    of it is dark. Errors are those of `draw_table`."""
    natural = Layout.natural(view.hint is not None)
    size = natural.width if width is None else width, natural.height if height is None else height
    if min(size) < 1:
        raise ValueError(f"expected a picture of at least 1 x 1 pixel, got {size[0]} x {size[1]}")
    return as_array(_paint(view, *size))


class Window:
    """A window on the screen that shows views, at most `fps` a second, and can be resized. Someone
    may close it: then `is_open` is False, and it shows nothing more."""

    def __init__(self, fps: float, title: str = "Billiards2D") -> None:
        self.fps = fps
        self.title = title
        self.is_open = True
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, view: View) -> float:
        """Shows a view, waiting until it is due, and returns the seconds since the view before, 0
        for the first, which opens the window."""
        if not self.is_open:
            return 0.0
        first = self._screen is None
        if first:
            pygame.display.init()
            natural = Layout.natural(view.hint is not None)
            size = natural.width, natural.height
            self._screen = pygame.display.set_mode(size, pygame.RESIZABLE)
            pygame.display.set_caption(self.title)
        # Keys and buttons stay in the queue: they may be for someone else.
        kept = pygame.KEYDOWN, pygame.KEYUP, pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP
        if any(event.type == pygame.QUIT for event in pygame.event.get(exclude=kept)):
            self.close()
            return 0.0
        screen = pygame.display.get_surface()
        screen.blit(_paint(view, *screen.get_size()), (0, 0))
        pygame.display.flip()
        milliseconds = self._clock.tick(self.fps)
        return 0.0 if first else milliseconds / 1000.0

    def events(self) -> list[pygame.event.Event]:
        """Returns what has happened in the window since the last call, and closes it if asked to;
        to miss no motion of the mouse, call it right before `show`."""
        if self._screen is None:
            return []
        events = list(pygame.event.get())
        if any(event.type == pygame.QUIT for event in events):
            self.close()
        return events

    def layout(self, view: View) -> Layout:
        """Returns where things are in the window."""
        has_hint = view.hint is not None
        if self._screen is None:
            return Layout.natural(has_hint)
        return Layout(*pygame.display.get_surface().get_size(), has_hint)

    def close(self) -> None:
        """Closes the window; calling it again changes nothing."""
        self.is_open = False
        if self._screen is not None:
            self._screen = None
            pygame.display.quit()


def _paint(view: View, width: int, height: int) -> pygame.Surface:
    layout = Layout(width, height, view.hint is not None)
    surface = _room(layout).copy()
    _draw_table(Canvas(surface, layout.left, layout.top, layout.side), view)
    _draw_texts(surface, view, layout)
    return surface


def _draw_table(canvas: Canvas, view: View) -> None:
    """Draws the felt and what lies on it; lines and the arrow may reach beyond."""
    side = canvas.side
    centres = _check_points("positions", view.positions)
    colors = [*(view.look.balls or (TAN, BLUE)), *[GREY] * max(len(centres), len(view.trails))]
    felt = _felt(view.target, side, view.is_success, view.look.felt or FELT)
    canvas.surface.blit(felt, canvas.place[:2])
    for ball, trail in enumerate(view.trails):
        width = _TRAIL_WIDTH * view.radius
        canvas.path(Path(trail, colors[ball], width, opacity=_TRAIL_OPACITY, fade=True))
    if view.arrow is not None and _length(view.arrow) > 0.0:
        canvas.ring(view.arrow.centre, view.radius, 0.006, _ARROW, 0.5 * view.arrow.opacity)
    for x, y in centres:
        where = x + _SHADOW_OFFSET[0], y + _SHADOW_OFFSET[1]
        canvas.stamp(functools.partial(_shadow, view.radius * side, side), where)
    for ball, where in enumerate(centres):
        canvas.stamp(functools.partial(_ball, colors[ball], view.radius * side), where)
    for path in view.paths:
        canvas.path(path)
    if view.arrow is not None and _length(view.arrow) > 0.0:
        _draw_arrow(canvas, view.arrow, view.radius)


def _draw_arrow(canvas: Canvas, arrow: Arrow, radius: float) -> None:
    """Draws an arrow that begins at the rim of its ball."""
    (x, y), (ax, ay) = arrow.centre, arrow.impulse
    strength = math.hypot(ax, ay)
    start, tip = (
        (x + far * ax / strength, y + far * ay / strength)
        for far in (radius + _ARROW_GAP, radius + _ARROW_GAP + _length(arrow))
    )
    canvas.arrow(start, tip, _ARROW, arrow.opacity)


def _length(arrow: Arrow) -> float:
    """Length of an arrow, in table sides; 0 for an impulse that is too small to be seen."""
    length = ARROW_LENGTH * math.hypot(*arrow.impulse)
    return length if length > 1e-3 else 0.0


# -- what stays the same from picture to picture ---------------------------------------------------


@functools.lru_cache(maxsize=4)
def _room(layout: Layout) -> pygame.Surface:
    """The rails with their sights, and the dark around them."""
    surface = pygame.Surface((layout.width, layout.height), 0, 32)
    surface.fill(ROOM)
    rail, side = layout.rail, layout.side
    if rail < 2:
        return surface
    outer = pygame.Rect(layout.left - rail, layout.top - rail, side + 2 * rail, side + 2 * rail)
    corner = max(1, round(0.5 * rail))
    edge = max(1, round(0.1 * rail))
    pygame.draw.rect(surface, _WOOD_EDGE, outer, border_radius=corner)
    inner = outer.inflate(-2 * edge, -2 * edge)
    pygame.draw.rect(surface, _WOOD, inner, border_radius=corner - edge)
    cushion = pygame.Rect(layout.left, layout.top, side, side).inflate(4 * edge, 4 * edge)
    pygame.draw.rect(surface, _WOOD_EDGE, cushion)
    canvas = Canvas(surface, layout.left, layout.top, side)
    out = 0.55 * rail / side
    for quarter in (0.25, 0.5, 0.75):
        for where in ((quarter, -out), (quarter, 1.0 + out), (-out, quarter), (1.0 + out, quarter)):
            canvas.dot(where, 0.11 * rail / side, _SIGHT)
    return surface


@functools.lru_cache(maxsize=4)
def _felt(target: Target | None, side: int, is_success: bool, felt: Color) -> pygame.Surface:
    """The empty table: felt, a slightly darker border, and the target, edged once it is reached."""
    surface = pygame.Surface((side, side), 0, 32)
    surface.fill([round(_BORDER * part) for part in felt])
    margin = max(1, round(0.008 * side))
    surface.fill(felt, pygame.Rect(margin, margin, side - 2 * margin, side - 2 * margin))
    if target is not None:
        x_low, x_high, y_low, y_high = (value * side for value in target)
        edge = _EDGE_WIDTH * side if is_success else 0.0
        for color, inset in ((YELLOW, 0.0), (TARGET, edge))[not is_success :]:
            columns = _covered(x_low + inset, x_high - inset, side)
            rows = _covered(side - y_high + inset, side - y_low - inset, side)
            surface.blit(_layer(columns[:, None] * rows[None, :], color), (0, 0))
    return surface


@functools.lru_cache(maxsize=512)
def _ball(color: Color, radius: float, phase: Phase) -> pygame.Surface:
    """A ball lit from the upper left, on a transparent square."""
    x, y = _grid(radius, phase)
    distance = np.hypot(x, y)
    x, y = x / radius, y / radius
    light = np.clip(1.0 - np.hypot(x + 0.35, y + 0.40) / 1.6, 0.0, 1.0)
    shine = np.exp(-((x + 0.36) ** 2 + (y + 0.42) ** 2) / 0.045)
    shade = 0.72 + 0.40 * light
    picture = np.array(color) * shade[..., None] + 120.0 * shine[..., None]
    return _sprite(picture, 255.0 * np.clip(radius - distance + 0.5, 0.0, 1.0))


@functools.lru_cache(maxsize=256)
def _shadow(radius: float, side: int, phase: Phase) -> pygame.Surface:
    """A dark disc whose edge fades out, on a transparent square."""
    softness = _SHADOW_SOFTNESS * side
    x, y = _grid(radius + 2.0 * softness, phase)
    distance = np.hypot(x, y)
    alpha = _SHADOW_STRENGTH / (1.0 + np.exp(4.0 * (distance - radius) / softness))
    alpha *= np.clip((radius + 2.0 * softness - distance) / (0.4 * softness), 0.0, 1.0)
    return _sprite(np.zeros((*alpha.shape, 3)), alpha)


# -- text ------------------------------------------------------------------------------------------


def _draw_texts(surface: pygame.Surface, view: View, layout: Layout) -> None:
    """Draws the score line and the hint, each text to the left of its point by a share of it."""
    first, middle = max(0, layout.left - layout.rail // 2), layout.width / 2
    for text, size, color, x, share, row in (
        (view.left, 21, TEXT, first, 0.0, layout.score_row),
        (view.middle, 21, FAINT, middle, 0.5, layout.score_row),
        (view.right, 21, TEXT, layout.width - first, 1.0, layout.score_row),
        (view.hint, 16, FAINT, middle, 0.5, layout.hint_row),
    ):
        pixels = round(size * layout.unit)
        if text and pixels >= 4:
            picture, ascent = _text(text, pixels, color)
            corner = x - share * picture.get_width(), row - 0.6 * ascent
            surface.blit(picture, (round(corner[0]), round(corner[1])))


@functools.lru_cache(maxsize=64)
def _text(text: str, size: int, color: Color) -> tuple[pygame.Surface, int]:
    """A line of text, and how far its letters reach above its base line."""
    # Fonts are not kept: `pygame.quit()`, which other programs call, would break them.
    pygame.font.init()
    font = pygame.font.Font(None, size)
    return font.render(text, True, color), font.get_ascent()


# -- shapes ----------------------------------------------------------------------------------------


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
    """A surface with a table on it, to draw on in table coordinates: the table's first column and
    row, and its height and width, are in pixels."""

    def __init__(self, surface: pygame.Surface, left: int, top: int, side: int) -> None:
        self.surface = surface
        self.place = Place(left, top, side, *surface.get_size())

    @property
    def side(self) -> int:
        """Height and width of the table, in pixels."""
        return self.place.side

    def stamp(self, sprite: Callable[[Phase], pygame.Surface], where: Point) -> None:
        """Draws a sprite with its middle at a position, to an eighth of a pixel. `sprite` makes the
        picture, with its middle a `Phase` right of and below its own."""
        (column, right), (row, down) = (
            divmod(round(value * _PHASES), _PHASES) for value in self.place.to_pixels(where)
        )
        picture = sprite((right, down))
        half = picture.get_width() // 2
        self.surface.blit(picture, (column - half, row - half))

    def path(self, path: Path) -> None:
        """Draws a line, its dots, or both."""
        points = _check_points("path points", path.points)
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
        for reach, ink, strength in ((size + rim, _RIM, 0.75), (size, color, 1.0)):
            mask = _Mask(self.place, [center], reach + 1.0)
            mask.add_capsule(center, center, reach)
            self.surface.blit(mask.layer(ink, strength * opacity), mask.corner)

    def ring(self, where: Point, radius: float, width: float, color: Color, opacity: float) -> None:
        """Draws a circle."""
        column, row = self.place.to_pixels(where)
        size, half = radius * self.side, 0.5 * width * self.side
        mask = _Mask(self.place, [(column, row)], size + half + 1.0)
        x, y = mask.centres()
        mask.add(np.abs(np.hypot(x - column, y - row) - size) - half)
        self.surface.blit(mask.layer(color, opacity), mask.corner)

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
        for rim, ink, strength in ((0.005 * self.side, _RIM, 0.45), (0.0, color, 1.0)):
            mask = _Mask(self.place, [(x0, y0), *corners], half + rim + 2.0)
            mask.add_capsule((x0, y0), neck, half + rim)
            mask.add_polygon(corners, rim)
            self.surface.blit(mask.layer(ink, strength * opacity), mask.corner)


def _sprite(color: Doubles, alpha: Doubles) -> pygame.Surface:
    """A picture from its colours (w, h, 3) and opacities (w, h), both 0 to 255."""
    surface = pygame.Surface(alpha.shape, pygame.SRCALPHA, 32)
    pygame.surfarray.pixels3d(surface)[:] = np.clip(color, 0.0, 255.0).astype(np.uint8)
    pygame.surfarray.pixels_alpha(surface)[:] = np.clip(alpha, 0.0, 255.0).astype(np.uint8)
    return surface


def _grid(reach: float, phase: Phase) -> tuple[Doubles, Doubles]:
    """Distances of pixel centres, along both axes, on a square that holds `reach`, from a point
    phase / _PHASES pixels right of and below its middle."""
    half = math.ceil(reach) + 1
    pixels = np.arange(-half, half, dtype=np.float64) + 0.5
    return (pixels - phase[0] / _PHASES)[:, None], (pixels - phase[1] / _PHASES)[None, :]


def _covered(low: float, high: float, size: int) -> Doubles:
    """How much of each of `size` pixels in a row lies between low and high."""
    pixels = np.arange(size)
    inside = np.minimum(high, pixels + 1.0) - np.maximum(low, pixels)
    return np.asarray(np.clip(inside, 0.0, 1.0), dtype=np.float64)


def as_array(surface: pygame.Surface) -> NDArray[np.uint8]:
    """Returns the pixels of a surface, (h, w, 3), row 0 at the top."""
    rows = np.frombuffer(pygame.image.tobytes(surface, "RGB"), dtype=np.uint8)
    return rows.reshape(surface.get_height(), surface.get_width(), 3).copy()


def _check_points(name: str, points: ArrayLike) -> list[Point]:
    """Given points as pairs of floats; `ValueError` unless they are (K, 2) and finite."""
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return []
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"expected {name} of shape (K, 2), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite {name}, got {array.tolist()}")
    return [(float(x), float(y)) for x, y in array]


class _Mask:
    """How much of each pixel shapes cover, from 0 to 1, in a rectangle of the picture that holds
    some points and `reach` pixels around them."""

    def __init__(self, place: Place, points: Sequence[Point], reach: float) -> None:
        xs, ys = zip(*points, strict=True)
        left, right = _span(min(xs), max(xs), reach, place.width)
        top, bottom = _span(min(ys), max(ys), reach, place.height)
        self.corner = left, top
        self.shares = np.zeros((max(0, right - left), max(0, bottom - top)))

    def centres(self) -> tuple[Doubles, Doubles]:
        """Columns and rows of the centres of the pixels."""
        x, y = (
            np.arange(size, dtype=np.float64) + 0.5 + first
            for size, first in zip(self.shares.shape, self.corner, strict=True)
        )
        return x[:, None], y[None, :]

    def add(self, beyond: Doubles) -> None:
        """Adds a shape by how far each centre lies beyond its edge."""
        np.maximum(self.shares, np.clip(0.5 - beyond, 0.0, 1.0), out=self.shares)

    def add_capsule(
        self, start: Point, end: Point, half: float, shares: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        """Adds a straight line with round ends, of half a width and with shares of width and
        opacity at both ends."""
        x0, y0 = start[0] - self.corner[0], start[1] - self.corner[1]
        x1, y1 = end[0] - self.corner[0], end[1] - self.corner[1]
        left, right = _span(x0, x1, half + 1.0, self.shares.shape[0])
        top, bottom = _span(y0, y1, half + 1.0, self.shares.shape[1])
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
        part = self.shares[left:right, top:bottom]
        np.maximum(part, covered, out=part)

    def add_polygon(self, points: Sequence[Point], rim: float) -> None:
        """Adds a convex polygon, grown by a rim."""
        x, y = self.centres()
        beyond = np.full(self.shares.shape, -np.inf)
        middle = np.mean(points, axis=0)
        for (x0, y0), (x1, y1) in itertools.pairwise([*points, points[0]]):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = (y1 - y0) / length, (x0 - x1) / length
            if (middle[0] - x0) * nx + (middle[1] - y0) * ny > 0.0:
                nx, ny = -nx, -ny
            np.maximum(beyond, (x - x0) * nx + (y - y0) * ny, out=beyond)
        np.maximum(self.shares, np.clip(0.5 + rim - beyond, 0.0, 1.0), out=self.shares)

    def layer(self, color: Color, opacity: float) -> pygame.Surface:
        return _layer(self.shares, color, opacity)


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
    mask = _Mask(place, points, half + 1.0)
    pieces = list(_pieces(_corners(points), dash * place.side))
    total = pieces[-1][1][1]
    for (start, low), (end, high) in pieces:
        mask.add_capsule(
            start, end, half, (low / total, high / total) if fade and total else (1, 1)
        )
    return mask.layer(color, opacity), mask.corner


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
    """Cuts a line into short straight pieces, leaving out the gaps of a dashed one. Yields both
    ends of each, with their distances from the beginning along the line, in pixels."""
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


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    return max(0, math.floor(min(a, b) - reach)), min(size, math.ceil(max(a, b) + reach))


def _layer(mask: Doubles, color: Color, opacity: float = 1.0) -> pygame.Surface:
    layer = pygame.Surface(mask.shape, pygame.SRCALPHA, 32)
    if mask.size:
        layer.fill((*color, 0))
        pygame.surfarray.pixels_alpha(layer)[:] = (255.0 * opacity * mask + 0.5).astype(np.uint8)
    return layer
