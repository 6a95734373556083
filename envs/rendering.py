"""Pictures of a table, drawn with pygame on a surface in memory: no display is needed.

`pygame.display` is touched by `Window` alone, which only `render_mode="human"` makes.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.envs.config import Target
from jumpy_mbrl.envs.drawing import (
    Canvas,
    Phase,
    Point,
    as_array,
    check_points,
    covered,
    grid,
    sprite,
)
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN, TARGET, Color
from jumpy_mbrl.envs.scene import ARROW_LENGTH, Arrow, Layout, Path, View

# Before the import, which prints a greeting otherwise.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

__all__ = ["FRAME_SIZE", "Layout", "Path", "View", "Window", "draw_table", "draw_view"]

FRAME_SIZE = 512

_BORDER: Color = (38, 102, 77)
_ROOM: Color = (24, 26, 28)
_WOOD: Color = (96, 62, 40)
_WOOD_EDGE: Color = (70, 44, 28)
_SIGHT: Color = (222, 208, 182)
_TEXT: Color = (236, 232, 222)
_FAINT_TEXT: Color = (142, 146, 148)
_ARROW: Color = (255, 246, 224)
_EDGE: Color = (255, 205, 96)

_SHADOW_OFFSET = (0.010, -0.014)
_SHADOW_SOFTNESS = 0.030
_SHADOW_STRENGTH = 110.0
_EDGE_WIDTH = 0.010
_TRAIL_OPACITY = 0.5
_TRAIL_WIDTH = 1.1  # at the ball, in radii
_ARROW_GAP = 0.012


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
        The picture, (size, size, 3) uint8, row 0 at the top.

    Raises:
        ValueError: for a size below 1, or positions or points of another shape or not finite.
    """
    if size < 1:
        raise ValueError(f"expected size to be at least 1 pixel, got {size}")
    view = View(np.asarray(positions, dtype=np.float64), target, radius, paths=tuple(paths or ()))
    surface = pygame.Surface((size, size), 0, 32)
    _draw_table(Canvas(surface, 0, 0, size), view)
    return as_array(surface)


def draw_view(view: View, width: int | None = None, height: int | None = None) -> NDArray[np.uint8]:
    """Draws all of a view: the table in its rails, and the score line below.

    Args:
        view: what to draw.
        width: of the picture, in pixels; by default 560.
        height: of the picture, in pixels; by default 608, or 632 with a hint.

    Returns:
        The picture, (height, width, 3) uint8, row 0 at the top. What the table leaves of it is
        dark.

    Raises:
        ValueError: for a size below 1, or positions or points of another shape or not finite.
    """
    natural = Layout.natural(view.hint is not None)
    size = natural.width if width is None else width, natural.height if height is None else height
    if min(size) < 1:
        raise ValueError(f"expected a picture of at least 1 x 1 pixel, got {size[0]} x {size[1]}")
    return as_array(_paint(view, *size))


class Window:
    """A window on the screen that shows views at a steady rate, and can be resized.

    Someone may close it: then `is_open` is False, and it shows nothing more.

    Args:
        fps: most pictures a second.
        title: of the window.
    """

    def __init__(self, fps: float, title: str = "Billiards2D") -> None:
        self.fps = fps
        self.title = title
        self.is_open = True
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, view: View) -> float:
        """Shows a view, waiting until it is due; opens the window at first.

        Returns:
            The seconds since the view before was shown, 0 for the first.
        """
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
        """Returns what has happened in the window since the last call, and closes it if asked to.

        To miss no motion of the mouse, call it right before `show`.
        """
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
    centres = check_points("positions", view.positions)
    canvas.surface.blit(_felt(view.target, side, view.is_success), canvas.place[:2])
    for ball, trail in enumerate(view.trails):
        width = _TRAIL_WIDTH * view.radius
        canvas.path(Path(trail, _ball_color(ball), width, opacity=_TRAIL_OPACITY, fade=True))
    if view.arrow is not None and _length(view.arrow) > 0.0:
        canvas.ring(view.arrow.centre, view.radius, 0.006, _ARROW, 0.5 * view.arrow.opacity)
    for x, y in centres:
        where = x + _SHADOW_OFFSET[0], y + _SHADOW_OFFSET[1]
        canvas.stamp(functools.partial(_shadow, view.radius * side, side), where)
    for ball, where in enumerate(centres):
        canvas.stamp(functools.partial(_ball, _ball_color(ball), view.radius * side), where)
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


def _ball_color(ball: int) -> Color:
    return (TAN, BLUE)[ball] if ball < 2 else GREY


# -- what stays the same from picture to picture ---------------------------------------------------


@functools.lru_cache(maxsize=4)
def _room(layout: Layout) -> pygame.Surface:
    """The rails with their sights, and the dark around them."""
    surface = pygame.Surface((layout.width, layout.height), 0, 32)
    surface.fill(_ROOM)
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
def _felt(target: Target | None, side: int, is_success: bool) -> pygame.Surface:
    """The empty table: felt, a slightly darker border, and the target, edged once it is reached."""
    surface = pygame.Surface((side, side), 0, 32)
    surface.fill(_BORDER)
    margin = max(1, round(0.008 * side))
    surface.fill(FELT, pygame.Rect(margin, margin, side - 2 * margin, side - 2 * margin))
    if target is not None:
        canvas = Canvas(surface, 0, 0, side)
        x_low, x_high, y_low, y_high = (value * side for value in target)
        edge = _EDGE_WIDTH * side if is_success else 0.0
        for color, inset in ((_EDGE, 0.0), (TARGET, edge))[not is_success :]:
            columns = covered(x_low + inset, x_high - inset, side)
            rows = covered(side - y_high + inset, side - y_low - inset, side)
            canvas.blend(columns[:, None] * rows[None, :], (0, 0), color)
    return surface


@functools.lru_cache(maxsize=512)
def _ball(color: Color, radius: float, phase: Phase) -> pygame.Surface:
    """A ball lit from the upper left, on a transparent square."""
    x, y = grid(radius, phase)
    distance = np.hypot(x, y)
    x, y = x / radius, y / radius
    light = np.clip(1.0 - np.hypot(x + 0.35, y + 0.40) / 1.6, 0.0, 1.0)
    shine = np.exp(-((x + 0.36) ** 2 + (y + 0.42) ** 2) / 0.045)
    shade = 0.72 + 0.40 * light
    picture = np.array(color) * shade[..., None] + 120.0 * shine[..., None]
    return sprite(picture, 255.0 * np.clip(radius - distance + 0.5, 0.0, 1.0))


@functools.lru_cache(maxsize=256)
def _shadow(radius: float, side: int, phase: Phase) -> pygame.Surface:
    """A dark disc whose edge fades out, on a transparent square."""
    softness = _SHADOW_SOFTNESS * side
    x, y = grid(radius + 2.0 * softness, phase)
    distance = np.hypot(x, y)
    alpha = _SHADOW_STRENGTH / (1.0 + np.exp(4.0 * (distance - radius) / softness))
    alpha *= np.clip((radius + 2.0 * softness - distance) / (0.4 * softness), 0.0, 1.0)
    return sprite(np.zeros((*alpha.shape, 3)), alpha)


# -- text ------------------------------------------------------------------------------------------


def _draw_texts(surface: pygame.Surface, view: View, layout: Layout) -> None:
    first = max(0, layout.left - layout.rail // 2)
    last = layout.width - first
    size = round(21 * layout.unit)
    row = layout.score_row
    for text, color, x, anchor in (
        (view.left, _TEXT, first, 0.0),
        (view.middle, _FAINT_TEXT, layout.width / 2, 0.5),
        (view.right, _TEXT, last, 1.0),
    ):
        _draw_text(surface, text, size, color, (x, row), anchor)
    if view.hint is not None:
        where = layout.width / 2, layout.hint_row
        _draw_text(surface, view.hint, round(16 * layout.unit), _FAINT_TEXT, where, 0.5)


def _draw_text(
    surface: pygame.Surface, text: str, size: int, color: Color, where: Point, anchor: float
) -> None:
    """Draws text, vertically in the middle of a point, and to the left of it by a share."""
    if not text or size < 4:
        return
    picture, ascent = _text(text, size, color)
    corner = where[0] - anchor * picture.get_width(), where[1] - 0.6 * ascent
    surface.blit(picture, (round(corner[0]), round(corner[1])))


@functools.lru_cache(maxsize=64)
def _text(text: str, size: int, color: Color) -> tuple[pygame.Surface, int]:
    """A line of text, and how far its letters reach above its base line."""
    # Fonts are not kept: `pygame.quit()`, which other programs call, would break them.
    pygame.font.init()
    font = pygame.font.Font(None, size)
    return font.render(text, True, color), font.get_ascent()
