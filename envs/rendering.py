"""Pictures of a table, drawn with pygame on a surface in memory: no display is needed.

`pygame.display` is touched by `Window` alone, which only `render_mode="human"` makes.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.envs.config import Target
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN, TARGET, Color

# Before the import, which prints a greeting otherwise.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

FRAME_SIZE = 512

_SUPERSAMPLING = 4
_BORDER: Color = (38, 102, 77)
_SHADOW_OFFSET = (0.010, -0.014)
_SHADOW_SOFTNESS = 0.030
_SHADOW_STRENGTH = 110.0


@dataclass(frozen=True, eq=False)
class Path:
    """A line over the table, such as the way of a ball.

    Attributes:
        points: (K, 2) positions, in table sides.
        color: red, green and blue, 0 to 255.
        width: of the line, in table sides; 0 for no line.
        dots: whether to mark every point with a dot.
        dot_radius: of the dots, in table sides.
    """

    points: ArrayLike
    color: Color = (255, 255, 255)
    width: float = 0.006
    dots: bool = False
    dot_radius: float = 0.011


def draw_table(
    positions: ArrayLike,
    target: Target | None = None,
    size: int = FRAME_SIZE,
    paths: Sequence[Path] | None = None,
    radius: float = 0.1,
) -> NDArray[np.uint8]:
    """Draws a table from above, x to the right and y upwards.

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
    centres = _check_points("positions", positions)
    scale = _SUPERSAMPLING * size
    surface = _background(target, scale).copy()
    shadow = _shadow(radius, scale)
    for x, y in centres:
        _stamp(surface, shadow, x + _SHADOW_OFFSET[0], y + _SHADOW_OFFSET[1], scale)
    for ball, (x, y) in enumerate(centres):
        color = (TAN, BLUE)[ball] if ball < 2 else GREY
        _stamp(surface, _ball(color, radius, scale), x, y, scale)
    for path in paths or ():
        _draw_path(surface, path, scale)
    small = pygame.transform.smoothscale(surface, (size, size))
    return np.ascontiguousarray(pygame.surfarray.array3d(small).transpose(1, 0, 2))


class Window:
    """A window on the screen that shows pictures at a steady rate.

    Args:
        fps: most pictures a second.
        title: of the window.
    """

    def __init__(self, fps: int, title: str = "Billiards2D") -> None:
        self.fps = fps
        self.title = title
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Shows an (h, w, 3) uint8 picture, waiting until it is due; opens the window at first."""
        height, width = frame.shape[:2]
        if self._screen is None:
            pygame.display.init()
            self._screen = pygame.display.set_mode((width, height))
            pygame.display.set_caption(self.title)
        pygame.surfarray.blit_array(self._screen, frame.transpose(1, 0, 2))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self.fps)

    def close(self) -> None:
        """Closes the window; calling it again changes nothing."""
        if self._screen is not None:
            self._screen = None
            pygame.display.quit()


@functools.lru_cache(maxsize=8)
def _background(target: Target | None, scale: int) -> pygame.Surface:
    """The empty table: felt, a slightly darker border, and the target."""
    surface = pygame.Surface((scale, scale), 0, 32)
    surface.fill(_BORDER)
    margin = max(1, round(0.008 * scale))
    surface.fill(FELT, pygame.Rect(margin, margin, scale - 2 * margin, scale - 2 * margin))
    if target is not None:
        left, right, bottom, top = (round(value * scale) for value in target)
        surface.fill(TARGET, pygame.Rect(left, scale - top, right - left, top - bottom))
    return surface


@functools.lru_cache(maxsize=16)
def _ball(color: Color, radius: float, scale: int) -> pygame.Surface:
    """A ball lit from the upper left, on a transparent square."""
    size = round(radius * scale)
    x, y = _grid(size, size)
    distance = np.hypot(x, y)
    light = np.clip(1.0 - np.hypot(x + 0.35, y + 0.40) / 1.6, 0.0, 1.0)
    shine = np.exp(-((x + 0.36) ** 2 + (y + 0.42) ** 2) / 0.045)
    shade = 0.72 + 0.40 * light
    picture = np.array(color) * shade[..., None] + 120.0 * shine[..., None]
    return _sprite(picture, 255.0 * np.clip((1.0 - distance) * size + 0.5, 0.0, 1.0))


@functools.lru_cache(maxsize=16)
def _shadow(radius: float, scale: int) -> pygame.Surface:
    """A dark disc whose edge fades out, on a transparent square."""
    size = round((radius + 2.0 * _SHADOW_SOFTNESS) * scale)
    x, y = _grid(size, size)
    beyond = np.hypot(x, y) * (radius + 2.0 * _SHADOW_SOFTNESS) - radius
    alpha = _SHADOW_STRENGTH / (1.0 + np.exp(4.0 * beyond / _SHADOW_SOFTNESS))
    alpha *= np.clip(1.0 - np.hypot(x, y), 0.0, 0.05) / 0.05
    return _sprite(np.zeros((*alpha.shape, 3)), alpha)


def _grid(width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in [-1, 1] of the pixel centres of a (2 width, 2 height) square, [x][y]."""
    x = (np.arange(2 * width) + 0.5) / width - 1.0
    y = (np.arange(2 * height) + 0.5) / height - 1.0
    return x[:, None], y[None, :]


def _sprite(color: NDArray[np.float64], alpha: NDArray[np.float64]) -> pygame.Surface:
    surface = pygame.Surface(alpha.shape, pygame.SRCALPHA, 32)
    pygame.surfarray.pixels3d(surface)[:] = np.clip(color, 0.0, 255.0).astype(np.uint8)
    pygame.surfarray.pixels_alpha(surface)[:] = np.clip(alpha, 0.0, 255.0).astype(np.uint8)
    return surface


def _stamp(surface: pygame.Surface, sprite: pygame.Surface, x: float, y: float, scale: int) -> None:
    """Draws a sprite with its centre at table position (x, y)."""
    width, height = sprite.get_size()
    surface.blit(sprite, (round(x * scale - width / 2), round((1.0 - y) * scale - height / 2)))


def _draw_path(surface: pygame.Surface, path: Path, scale: int) -> None:
    points = [(x * scale, (1.0 - y) * scale) for x, y in _check_points("path points", path.points)]
    thickness = round(path.width * scale)
    if thickness > 0:
        for start, end in itertools.pairwise(points):
            pygame.draw.line(surface, path.color, start, end, thickness)
        for point in points:  # round joints, which pygame's lines do not have
            pygame.draw.circle(surface, path.color, point, thickness / 2)
    if path.dots:
        for point in points:
            pygame.draw.circle(surface, path.color, point, path.dot_radius * scale)


def _check_points(name: str, points: ArrayLike) -> list[tuple[float, float]]:
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return []
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"expected {name} of shape (K, 2), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite {name}, got {array.tolist()}")
    return [(float(x), float(y)) for x, y in array]
