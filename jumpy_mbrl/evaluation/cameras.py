"""What cameras do to pictures of tables: noise, light, another felt, a loss of sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAMERAS = {
    "plain": "as the environment draws them",
    "noise-2": "Gaussian noise of 2 % of the range",
    "noise-5": "Gaussian noise of 5 % of the range",
    "dark": "30 % darker",
    "bright": "30 % brighter",
    "blue-felt": "a table with blue felt",
    "32": "reduced to 32 x 32 and enlarged again",
}
"""Every camera by name."""

_NOISE = {"noise-2": 0.02, "noise-5": 0.05}
_LIGHT = {"dark": 0.7, "bright": 1.3}
_BLUE = (40.0, 70.0, 130.0)
_GREY = 100.0
_SMALL = 32


def recolour(table: NDArray[np.uint8], camera: str) -> NDArray[np.uint8]:
    """The table without balls (h, w, C), with the felt that a camera sees."""
    if camera != "blue-felt":
        return table
    felt, target = table[0, 0].astype(float), table.min(axis=(0, 1)).astype(float)
    other = np.array(_BLUE if table.shape[2] == 3 else _GREY)
    share = (table - target) / (felt - target)
    seen: NDArray[np.uint8] = np.round(target + share * (other - target)).astype(np.uint8)
    return seen


def photograph(pictures: NDArray[np.uint8], camera: str, seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Pictures (B, T, h, w, C) as a camera shows them; the noise of each table has its own seed."""
    seen: NDArray[Any] = pictures
    if camera in _NOISE:
        noise = [np.random.default_rng(s).standard_normal(pictures.shape[1:]) for s in seeds]
        seen = pictures + 255.0 * _NOISE[camera] * np.stack(noise)
    elif camera in _LIGHT:
        seen = pictures * _LIGHT[camera]
    elif camera == "32":
        size = pictures.shape[2]
        blur = _resizing(_SMALL, size) @ _resizing(size, _SMALL)
        seen = np.einsum("ij,btjkc,lk->btilc", blur, pictures.astype("f4"), blur, optimize=True)
    else:
        return pictures
    seen = np.clip(np.round(seen), 0, 255).astype(np.uint8)
    return seen


def _resizing(before: int, after: int) -> NDArray[np.float32]:
    """The matrix (after, before) that resizes a row by the areas of its pixels."""
    low = np.arange(after)[:, None] * before / after
    left = np.maximum(low, np.arange(before))
    right = np.minimum(low + before / after, np.arange(before) + 1.0)
    shares: NDArray[np.float32] = (np.maximum(right - left, 0.0) * after / before).astype("f4")
    return shares
