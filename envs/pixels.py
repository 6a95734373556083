"""Pixel observations: tables drawn with NumPy alone, in pixels that are exactly as full as covered.

Every ball is a disc and the target a rectangle on plain felt. A pixel at an edge takes the mean of
what it covers, by the exact area under it, so a ball that moves by a fraction of a pixel changes
the picture, and the centroid of its intensity gives its position back. The discs are computed
once, for every 1/16 of a pixel or finer (1/32 for 64 pixels, 1/64 for 28); only discs wider than
100 pixels are placed more coarsely.

The pretty pictures for people are made by `rendering`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.checks import check_choice, check_names, check_number, is_integer
from jumpy_mbrl.envs.config import Target

Color = tuple[int, int, int]
Frame = NDArray[np.uint8]

FELT: Color = (47, 125, 94)
TARGET: Color = (16, 18, 20)
TAN: Color = (214, 178, 128)
BLUE: Color = (58, 110, 196)
GREY: Color = (150, 154, 160)

MIN_SIZE = 8
MAX_SIZE = 512

# With one channel, tan, blue and felt would be nearly the same grey: another palette.
_PALETTES: dict[int, tuple[tuple[int, ...], ...]] = {
    3: (FELT, TARGET, TAN, BLUE, GREY),
    1: ((64,), (0,), (255,), (192,), (128,)),
}
_MASK_ELEMENTS = 10_000_000


class Look(NamedTuple):
    """The colours of a table; grey pictures show their luminance.

    Attributes:
        felt: None for the usual one.
        balls: one for each; none for the usual ones.
    """

    felt: Color | None = None
    balls: tuple[Color, ...] = ()


USUAL = Look()


@dataclass(frozen=True)
class PixelConfig:
    """The format of a picture; `ValueError` for an impossible one, naming the field and the value.

    Attributes:
        size: height and width, in pixels, from 8 to 512.
        channels: 3 (red, green, blue) or 1 (grey).
    """

    size: int = 64
    channels: int = 3

    def __post_init__(self) -> None:
        size, channels = self.size, self.channels
        if not is_integer(size) or not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(
                f"expected size to be an integer from {MIN_SIZE} to {MAX_SIZE} pixels, got {size!r}"
            )
        if not is_integer(channels) or channels not in _PALETTES:
            raise ValueError(f"expected channels to be 3 (colour) or 1 (grey), got {channels!r}")
        object.__setattr__(self, "size", int(size))
        object.__setattr__(self, "channels", int(channels))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.size, self.size, self.channels


PRESETS: dict[str, PixelConfig] = {
    "default": PixelConfig(),
    "paper": PixelConfig(size=28, channels=1),
}
"""Formats with a name; "paper" is that of "Jumpy Recurrent Neural Networks", section 3.2."""


def make_pixel_config(
    pixels: PixelConfig | Mapping[str, Any] | str | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> PixelConfig:
    """Returns the format that the arguments of an environment stand for: a `PixelConfig`, a mapping
    of its fields, the name of a preset, or None for the default, with another size or number of
    channels unless they are None. `ValueError` for an unknown preset or field, or an impossible
    value."""
    if pixels is None:
        pixels = PixelConfig()
    elif isinstance(pixels, str):
        pixels = PRESETS[check_choice("pixels preset", pixels, PRESETS)]
    elif isinstance(pixels, Mapping):
        check_names("pixels setting", pixels, ("size", "channels"))
        pixels = PixelConfig(**pixels)
    elif not isinstance(pixels, PixelConfig):
        raise ValueError(
            f"expected pixels to be a PixelConfig, a dictionary of its fields, or one of "
            f"{list(PRESETS)}, got {pixels!r}"
        )
    return PixelConfig(
        pixels.size if size is None else size, pixels.channels if channels is None else channels
    )


def draw_pixels(
    positions: ArrayLike,
    target: Target | None = None,
    config: PixelConfig | None = None,
    radius: float = 0.1,
) -> Frame:
    """Draws one table or many, x to the right and y upwards.

    Args:
        positions: (N, 2) or (B, N, 2) centres of the balls, in table sides. Ball 0 is the cue ball,
            ball 1 the object ball. Balls may lie outside the picture, in part or whole.
        target: (x_low, x_high, y_low, y_high), or None for a table without one.
        config: the format; `PixelConfig()` by default.
        radius: of the balls, in table sides, in (0, 0.5].

    Returns:
        (h, w, C) or (B, h, w, C) uint8, row 0 at the top. `ValueError` for positions of another
        shape or not finite, or another radius.
    """
    array = np.asarray(positions, dtype=np.float64)
    if array.ndim not in (2, 3) or array.shape[-1] != 2:
        raise ValueError(f"expected positions of shape (N, 2) or (B, N, 2), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("expected finite positions, got nan or infinity among them")
    radius = check_number("radius", radius, 0.0, 0.5, open_low=True)
    painter = rasterizer(config or PixelConfig(), radius, USUAL)
    count = len(array) if array.ndim == 3 else 1
    rows = array.reshape(count, 2 * array.shape[-2])
    frames = np.empty((len(rows), *painter.config.shape), dtype=np.uint8)
    painter.draw(rows.tolist(), [painter.background(target)] * count, frames)
    return frames if array.ndim == 3 else frames[0]


class Rasterizer:
    """Draws balls of one radius, in table sides, in one format and look; see `rasterizer`."""

    def __init__(self, config: PixelConfig, radius: float, look: Look) -> None:
        self.config = config
        self.radius = radius
        self._radius = radius * config.size
        self._width = math.ceil(2.0 * self._radius) + 1
        self._fractions = _fractions(self._radius, config.channels * self._width**2)
        felt, target, *balls = _PALETTES[config.channels]
        self.look = look
        if look == USUAL:
            masks = _disc_masks(self._radius, self._width, self._fractions)
            # A row of a patch is one run of width * channels numbers, in the frame too: much faster
            # than to repeat a mask over a last axis of length 3.
            self._masks = np.repeat(masks, config.channels, axis=-1)
        else:
            self._masks = rasterizer(config, radius, USUAL)._masks
            felt = felt if look.felt is None else _ink(look.felt, config.channels)
            balls = [_ink(color, config.channels) for color in look.balls] or balls
        self._felt = np.array(felt, dtype=np.float32)
        self._target = np.array(target, dtype=np.float32)
        self._balls = [np.array(color * self._width, dtype=np.float32) for color in balls]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy shares the discs.
        return rasterizer, (self.config, self.radius, self.look)

    def background(self, target: Target | None) -> Frame:
        """Returns the table without balls, (h, w, C) uint8."""
        size = self.config.size
        frame = np.broadcast_to(self._felt, self.config.shape)
        if target is not None:
            x_low, x_high, y_low, y_high = target
            covered = _cover(1.0 - y_high, 1.0 - y_low, size)[:, None] * _cover(x_low, x_high, size)
            frame = frame + (self._target - frame) * covered[..., None]
        return (frame + 0.5).astype(np.uint8)

    def draw(
        self, rows: Sequence[Sequence[float]], backgrounds: Sequence[Frame], out: Frame
    ) -> None:
        """Draws B tables into `out`, (B, h, w, C) and contiguous: of each, a list of centres,
        [x0, y0, x1, y1, ...], and the table without balls, (h, w, C)."""
        size, width, channels = self.config.size, self._width, self.config.channels
        parts = self._fractions
        scale = size * parts
        reach = self._radius * parts
        edge = size - width
        last = len(self._balls) - 1
        for picture, centres, background in zip(out, rows, backgrounds, strict=True):
            picture[...] = background
            frame = picture.reshape(size, size * channels)
            for ball in range(0, len(centres), 2):
                x, column = divmod(math.floor(centres[ball] * scale - reach + 0.5), parts)
                y, row = divmod(math.floor((1.0 - centres[ball + 1]) * scale - reach + 0.5), parts)
                mask = self._masks[row, column]
                color = self._balls[min(ball // 2, last)]
                if 0 <= x <= edge and 0 <= y <= edge:
                    patch = frame[y : y + width, x * channels : (x + width) * channels]
                else:
                    left, top = max(0, x), max(0, y)
                    right, low = max(left, min(x + width, size)), max(top, min(y + width, size))
                    patch = frame[top:low, left * channels : right * channels]
                    mask = mask[top - y : low - y, (left - x) * channels : (right - x) * channels]
                    color = color[: patch.shape[1]]
                mixed = color - patch
                mixed *= mask
                mixed += patch
                mixed += 0.5
                patch[...] = mixed


@functools.lru_cache(maxsize=8)
def rasterizer(config: PixelConfig, radius: float, look: Look) -> Rasterizer:
    """Returns the rasterizer for a format, a radius and a look; those last used are kept."""
    return Rasterizer(config, radius, look)


def _ink(color: Color, channels: int) -> tuple[int, ...]:
    """A colour, or its luminance."""
    return color if channels == 3 else (round(float(np.dot((0.299, 0.587, 0.114), color))),)


def _fractions(radius: float, elements: int) -> int:
    """How many places of a disc within one pixel to keep: enough for 1/250 of its radius and 1/16
    of a pixel, unless the discs, of so many elements each, become too large."""
    parts = 128
    while (parts > 16 and parts * radius > 250.0) or parts**2 * elements > _MASK_ELEMENTS:
        parts //= 2
    return parts


def _disc_masks(radius: float, width: int, parts: int) -> NDArray[np.float32]:
    """Coverage of every pixel by a disc, (parts, parts, width, width); the first two are the
    fractions of a pixel by which it lies lower and further to the right."""
    offsets = np.arange(parts) / parts
    edges = (np.arange(width + 1) - offsets[:, None] - radius) / radius
    corner = _corner_area(edges[:, None, :, None], edges[None, :, None, :])
    area = np.diff(np.diff(corner, axis=2), axis=3) * radius**2
    return np.clip(area, 0.0, 1.0).astype(np.float32)


def _corner_area(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the unit disc between the axes and the lines at x and y, with the sign of x * y."""
    a, b = np.minimum(np.abs(x), 1.0), np.minimum(np.abs(y), 1.0)
    reach = np.sqrt(1.0 - b * b)
    beyond = np.maximum(a, reach)
    curved = b * reach + _under_arc(beyond) - _under_arc(reach)
    area = np.where(a <= reach, a * b, curved)
    return np.sign(x) * np.sign(y) * area


def _under_arc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of sqrt(1 - t * t) for t from 0 to x."""
    return 0.5 * (x * np.sqrt(1.0 - x * x) + np.arcsin(x))


def _cover(low: float, high: float, size: int) -> NDArray[np.float32]:
    """How much of each of `size` pixels in a row lies between two places of the unit interval."""
    left = np.arange(size)
    covered = np.minimum(left + 1, high * size) - np.maximum(left, low * size)
    share: NDArray[np.float32] = np.clip(covered, 0.0, 1.0).astype(np.float32)
    return share
