"""Moving pictures as GIF files, with nothing but Pillow.

For MP4 files there is `gymnasium.wrappers.RecordVideo` (the `video` extra), and for whole shots
`RecordShots`.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray
from PIL import Image

from jumpy_mbrl.files import atomic_write

MIN_GIF_FPS, MAX_GIF_FPS = 0.01, 50.0
"""Slower ones the format cannot hold; faster ones viewers slow down."""

_COLORS = 255
_UNCHANGED = 255
"""The colour, a transparent one, of pixels that are as in the picture before."""
_PALETTE_PIXELS = 6_000_000


def save_gif(
    frames: Iterable[NDArray[np.uint8]], path: str | os.PathLike[str], fps: float = 20.0
) -> None:
    """Writes pictures as a GIF that repeats for ever, atomically.

    All pictures share one palette of 255 colours, chosen from many of them, so nothing flickers.
    Of each picture only what changes is written.

    Args:
        frames: pictures of one size, (h, w, 3), (h, w, 1) or (h, w) uint8, as `render` gives them.
        path: the file to write; an existing one is replaced.
        fps: pictures a second, from 0.01 to 50. GIFs know hundredths of a second only: each picture
            begins at the nearest one.

    `ValueError` for no frames, frames of unequal or wrong shape or type, or an impossible `fps`.
    """
    if not (math.isfinite(fps) and MIN_GIF_FPS <= fps <= MAX_GIF_FPS):
        raise ValueError(f"expected fps in [{MIN_GIF_FPS:g}, {MAX_GIF_FPS:g}], got {fps}")
    pictures = [_read(index, frame) for index, frame in enumerate(frames)]
    if not pictures:
        raise ValueError("expected at least one frame, got none")
    for index, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"expected frames of one size, got {pictures[0].shape[:2]} for frame 0 and "
                f"{picture.shape[:2]} for frame {index}"
            )
    palette = _palette(pictures)
    images = [
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    ]
    images = [images[0], *map(_changes, images, images[1:])]
    begins = [round(100.0 * index / fps) for index in range(len(images) + 1)]
    durations = [10 * (end - begin) for begin, end in itertools.pairwise(begins)]
    with atomic_write(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
            disposal=1,
            transparency=_UNCHANGED,
            optimize=False,
        )


class RecordShots(RecordVideo):
    """Gymnasium's `RecordVideo` with all frames of a step, not its last one alone.

    Args:
        env: with `render_mode="rgb_array_list"`; another is a `ValueError`.
        video_folder: where the MP4 files go.
        options: the other arguments of `RecordVideo`.
    """

    def __init__(self, env: gym.Env[Any, Any], video_folder: str, **options: Any) -> None:
        if env.render_mode != "rgb_array_list":
            raise ValueError(
                f"expected an environment with render_mode='rgb_array_list', got "
                f"{env.render_mode!r}; pass it to gym.make"
            )
        super().__init__(env, video_folder, **options)

    def _capture_frame(self) -> None:
        pictures: Any = self.env.render()
        self.recorded_frames += pictures


def _read(index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a frame as a fresh (h, w, 3) array, or refuses it."""
    picture = np.array(frame)
    if picture.dtype != np.uint8:
        raise ValueError(f"expected frames of uint8, got {picture.dtype} for frame {index}")
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.size == 0:
        raise ValueError(
            f"expected frames of shape (h, w, 3), (h, w, 1) or (h, w), got {np.shape(frame)} for "
            f"frame {index}"
        )
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _changes(before: Image.Image, after: Image.Image) -> Image.Image:
    """The later of two pictures with one palette, transparent where it is as the earlier one."""
    same = np.asarray(before) == np.asarray(after)
    changes = after.copy()
    changes.paste(_UNCHANGED, mask=Image.fromarray(same))
    return changes


def _palette(pictures: list[NDArray[np.uint8]]) -> Image.Image:
    """The colours of all pictures, from some of them evenly spread in time."""
    most = max(1, _PALETTE_PIXELS * 3 // pictures[0].size)
    count = min(len(pictures), most)
    chosen = np.linspace(0, len(pictures) - 1, count).round().astype(int)
    together = np.concatenate([pictures[index] for index in chosen])
    return Image.fromarray(together).quantize(colors=_COLORS, method=Image.Quantize.MEDIANCUT)
