"""Films of one shot: the simulator beside world models that imagine what follows.

Models are open loop: they are shown the frames before the shot, and nothing after it. A picture has
tables side by side; on the time lines below them bars are the ticks of a model, and dots the true
collisions. No display is needed.

Times in frames of the episode, positions in table sides. Letters: N balls, h and w height and width
of a picture in pixels.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_choice, check_count
from jumpy_mbrl.envs import rendering, scene
from jumpy_mbrl.envs.pixels import Color, PixelConfig, draw_pixels
from jumpy_mbrl.envs.rendering import FAINT, ROOM, TEXT, YELLOW, Canvas, Point
from jumpy_mbrl.envs.rules import on_target
from jumpy_mbrl.envs.video import save_gif
from jumpy_mbrl.files import atomic_write
from jumpy_mbrl.lab.rollouts import Rollout, Shot, imagined_rollout, real_rollout
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.keypoint_jump import KeypointJump

# Before the import, which prints a greeting otherwise.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

Picture = NDArray[np.uint8]
Doubles = NDArray[np.float64]
Ring = tuple[Point, float, float, Color, float]
"""A circle on a table: its centre, radius, width, colour and opacity; see `Canvas.ring`."""
Strip = tuple[Doubles, Doubles]
"""What is on a time line: when a model ticks, and when balls really collide."""

FORMATS = (".gif", ".mp4")
"""Endings of the files that `Film.save` writes."""
SIZE = 280
"""Width of a table with its rails, in pixels, if nothing else is asked for."""
MIN_SIZE = 160
"""Least width of a table: on smaller ones nobody could read the text."""
MAX_MODELS = 3
"""Most models beside the simulator."""
MAX_GIF_RATE = 20
"""Most pictures a frame of an interpolation that is to be a GIF, which has at most 50 a second."""

_SLOW, _FAST = 0.4, 0.16  # seconds for which a frame lasts
_FLASH = 0.36  # seconds for which a tick flashes
_END = 1.6  # seconds for which the end stays

_NATURAL = 300.0
"""Width of a table with its rails at which the lengths below are pixels."""
_MARGIN, _GAP, _HEADER, _CAPTION, _STRIP, _FOOTER = 10.0, 12.0, 32.0, 24.0, 40.0, 30.0
_LINE, _BAR, _BELOW, _DOT, _THICK = 22.0, 12.0, 9.0, 3.0, 2.0
_TITLE, _NOTE = 23.0, 19.0
_FINE = 4  # how much larger text is drawn at first

_RULE: Color = (78, 82, 84)
_TICK: Color = (255, 255, 255)
_WAYS: tuple[Color, ...] = ((244, 214, 168), (150, 192, 255), (206, 210, 214))


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures, (h, w, 3) uint8 of one even size, drawn as they are asked for, `fps` a second."""

    pictures: Iterator[Picture]
    fps: float

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a GIF or an MP4 film, atomically; the ending says which.

        `ValueError` for another ending, or more than 50 pictures a second in a GIF; `ImportError`
        for MP4 without moviepy.
        """
        if check_choice("ending", Path(path).suffix, FORMATS) == ".gif":
            save_gif(self.pictures, path, self.fps)
            return
        try:
            clips = importlib.import_module("moviepy.video.io.ImageSequenceClip")
        except ImportError:
            raise ImportError(
                "MP4 files need moviepy, which is not installed; pip install 'jumpy-mbrl[video]', "
                "or write a .gif"
            ) from None
        clip = clips.ImageSequenceClip(list(self.pictures), fps=self.fps)
        with atomic_write(path) as temporary:
            clip.write_videofile(str(temporary), codec="libx264", audio=False, logger=None)


def film_interpolation(
    model: WorldModel,
    shot: Shot,
    name: str = "model",
    frames: int = 20,
    rate: int = 10,
    size: int = SIZE,
) -> Film:
    """The simulator, seen at its frames alone, beside a model that is asked far more often.

    The model, with its `name`, is asked for `rate` pictures a frame, for `frames` frames after the
    shot; a table with its rails is `size` pixels wide. `ValueError` for a model that does not fit
    the table, or impossible numbers.
    """
    times = _times(shot, frames, rate, size)
    truth, imagined = real_rollout(shot, times), imagined_rollout(model, shot, times)

    def boards(k: int) -> list[_Board]:
        last = k - k % rate
        stops = _dots(truth.way[: last + 1 : rate], _WAYS, 0.007)
        real = _Board(_view(shot, truth, last, stops), "simulator", "1 picture a frame")
        asked = f"{_count(rate, 'picture')} a frame"
        return [real, _imagined_board(shot, name, imagined, k, _FLASH / _SLOW, asked)]

    sheet = _Sheet(("simulator", name), [(imagined.ticks, truth.ticks)], times[-1], size)
    return _film(shot, sheet, times, boards, rate / _SLOW)


def film_panels(
    models: Mapping[str, WorldModel],
    shot: Shot,
    frames: int = 41,
    rate: int = 2,
    size: int = SIZE,
) -> Film:
    """The simulator beside models by name, and how many ticks each has needed so far.

    The pale circles on a model's table are where the balls really are. `rate` pictures a frame, for
    `frames` frames after the shot; a table with its rails is `size` pixels wide. `ValueError` for
    another number of models than 1 to `MAX_MODELS`, one that does not fit the table, or impossible
    numbers.
    """
    if not 1 <= len(models) <= MAX_MODELS:
        raise ValueError(f"expected from 1 to {MAX_MODELS} models, got {len(models)}")
    times = _times(shot, frames, rate, size)
    truth = real_rollout(shot, times)
    imagined = {name: imagined_rollout(model, shot, times) for name, model in models.items()}

    def boards(k: int) -> list[_Board]:
        collisions = _count(_so_far(truth.ticks, times[k]), "collision")
        drawn = [_Board(_way_view(shot, truth, k), "simulator", collisions)]
        for name, rollout in imagined.items():
            ticks = _count(_so_far(rollout.ticks, times[k]), "tick")
            board = _imagined_board(shot, name, rollout, k, _FLASH / _FAST, ticks)
            drawn.append(_beside_truth(board, rollout, truth, k))
        return drawn

    ticks = (np.zeros(0), *(rollout.ticks for rollout in imagined.values()))
    strips = [(each, truth.ticks) for each in ticks]
    sheet = _Sheet(("simulator", *models), strips, times[-1], size)
    return _film(shot, sheet, times, boards, rate / _FAST)


def film_keypoints(
    model: KeypointJump, shot: Shot, frames: int = 41, rate: int = 2, size: int = SIZE
) -> Film:
    """What the environment shows, beside the pictures that a model paints, with its keypoints.

    The model is shown the pictures up to the shot, whose keypoints it finds. Then it paints `rate`
    pictures a frame, for `frames` frames, of the future that it imagines. A picture is about `size`
    wide. `ValueError` for a model of other pictures or balls, or impossible numbers.
    """
    config, table = model.config, shot.config
    times = _times(shot, frames, rate, size)
    look = PixelConfig(size=config.size, channels=config.channels)
    balls = shot.frames.shape[1] // 2
    if balls != config.num_bodies:
        raise ValueError(f"expected a model of {balls} keypoints, got {config.num_bodies}")
    shown = shot.frames.astype(np.float64).reshape(-1, balls, 2)
    way = np.concatenate([shown[:-1], real_rollout(shot, times).way[::rate]])
    real = draw_pixels(way, table.target, look, table.radius)
    seen = torch.from_numpy(real[: len(shown)]).flatten(1).unsqueeze(0) / 255.0
    with torch.no_grad():
        state, action = model.observe(seen), torch.from_numpy(shot.action).unsqueeze(0)
        ahead = torch.from_numpy(times - shot.now).float()
        found = model.imagine_keypoints(state, ahead, float(ahead[-1]), action).obs
        keypoints = torch.cat([model.read(seen)[:, :-1].repeat_interleave(rate, dim=1), found], 1)
        painted = model.paint(found)
    drawn = (255.0 * painted[0].clamp(0.0, 1.0)).round().byte().numpy().reshape(-1, *look.shape)
    drawn = np.concatenate([real[: shot.now].repeat(rate, axis=0), drawn])
    marks = keypoints[0].unflatten(1, (-1, 2)).numpy()

    def pictures() -> Iterator[Picture]:
        scale = max(1, round(size / config.size))
        for k, (picture, points) in enumerate(zip(drawn, marks, strict=True)):
            two = [p.repeat(scale, 0).repeat(scale, 1) for p in (real[k // rate], picture)]
            for x, y in scale * config.size * points:
                row, column = round(scale * config.size - y), round(x)
                two[1][max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = _TICK
            sheet = np.concatenate([np.pad(p, ((0, 0), (0, 4), (0, 0))) for p in two], axis=1)
            yield np.broadcast_to(sheet, (*sheet.shape[:2], 3))
        yield from itertools.repeat(
            np.broadcast_to(sheet, (*sheet.shape[:2], 3)), round(_END * rate / _FAST)
        )

    return Film(pictures(), rate / _FAST)


def _times(shot: Shot, frames: int, rate: int, size: int) -> Doubles:
    """The times of the pictures from the shot on."""
    for name, value, low in (("frames", frames, 1), ("rate", rate, 1), ("size", size, MIN_SIZE)):
        check_count(name, value, low)
    return shot.now + np.arange(frames * rate + 1) / rate


def _film(
    shot: Shot, sheet: _Sheet, times: Doubles, boards: Callable[[int], list[_Board]], fps: float
) -> Film:
    """The frames before the shot, as long as any other; `boards` at all times; and a while more."""
    rate = round(1.0 / (times[1] - times[0]))

    def pictures() -> Iterator[Picture]:
        for f in range(shot.now):
            positions = shot.frames[f].astype(np.float64).reshape(-1, 2)
            view = scene.View(positions, shot.config.target, shot.config.radius)
            told = f"shown frame {f + 1} of {shot.now + 1}"
            shown = [_Board(view, name, told) for name in sheet.names]
            yield from itertools.repeat(sheet.draw(shown, float(f)), rate)
        for k, time in enumerate(times.tolist()):
            picture = sheet.draw(boards(k), time)
            yield picture
        yield from itertools.repeat(picture, round(_END * fps))

    return Film(pictures(), fps)


# -- what a table shows ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Board:
    """A table, its title above it, and what is written below it at the left and at the right."""

    view: scene.View
    title: str
    left: str = ""
    right: str = ""
    rings: Sequence[Ring] = ()


def _way_view(shot: Shot, rollout: Rollout, k: int) -> scene.View:
    """The balls at the time numbered `k`, and how they came there."""
    count = _so_far(rollout.ticks, rollout.times[k])
    times = np.concatenate([rollout.times[: k + 1], rollout.ticks[:count]])
    # Ways bend at ticks, which may lie between two pictures.
    way = np.concatenate([rollout.way[: k + 1], rollout.marks[:count]])[times.argsort()]
    lines = [
        scene.Path(way[:, ball], _WAYS[min(ball, 2)], width=0.008, opacity=0.85)
        for ball in range(way.shape[1])
    ]
    return _view(shot, rollout, k, lines)


def _imagined_board(
    shot: Shot, name: str, rollout: Rollout, k: int, flash: float, left: str
) -> _Board:
    """What a model imagines: a dot wherever it has ticked, and for `flash` frames rings."""
    view = _way_view(shot, rollout, k)
    count = _so_far(rollout.ticks, rollout.times[k])
    dots = _dots(rollout.marks[:count], [_TICK], 0.010)
    age = (rollout.times[k] - rollout.ticks[count - 1]) / flash if count else 1.0
    rings = [
        ((x, y), shot.config.radius * (1.12 + 0.45 * age), 0.014, _TICK, 0.9 * (1.0 - age))
        for x, y in rollout.way[k].tolist()
        if age < 1.0
    ]
    return _Board(replace(view, paths=[*view.paths, *dots]), name, left, rings=rings)


def _beside_truth(board: _Board, rollout: Rollout, truth: Rollout, k: int) -> _Board:
    """The same with circles where the balls really are, and how far off the farthest is."""
    circles = [
        ((x, y), board.view.radius, 0.010, _WAYS[min(ball, 2)], 0.9)
        for ball, (x, y) in enumerate(truth.way[k].tolist())
    ]
    distance = np.linalg.norm(rollout.way[k] - truth.way[k], axis=1).max()
    return replace(board, right=f"off by {distance:.2f}", rings=[*circles, *board.rings])


def _view(shot: Shot, rollout: Rollout, k: int, paths: Sequence[scene.Path]) -> scene.View:
    """A table at the time numbered `k`, with the arrow of the shot as long as it is fresh."""
    age = (rollout.times[k] - shot.now) / scene.ARROW_FRAMES
    (x, y), (ax, ay) = shot.positions[0].tolist(), shot.action.tolist()
    return scene.View(
        positions=rollout.way[k],
        target=shot.config.target,
        radius=shot.config.radius,
        paths=paths,
        arrow=scene.Arrow((x, y), (ax, ay), 1.0 - age) if age < 1.0 else None,
        is_success=_has_arrived(shot, rollout, k),
    )


def _has_arrived(shot: Shot, rollout: Rollout, k: int) -> bool:
    """Whether the object ball has been in the target at a frame after the shot."""
    times = rollout.times[: k + 1]
    frames = rollout.way[: k + 1][(times % 1.0 == 0.0) & (times > shot.now)]
    x, y = frames[:, min(1, frames.shape[1] - 1)].T
    return bool(on_target(x, y, shot.config.target).any())


def _dots(places: Doubles, colors: Sequence[Color], radius: float) -> list[scene.Path]:
    """A dot at each of the places (K, N, 2), in the colour of the ball or the last one."""
    last = len(colors) - 1
    return [
        scene.Path(way, colors[min(ball, last)], width=0.0, dots=True, dot_radius=radius)
        for ball, way in enumerate(places.swapaxes(0, 1))
    ]


def _so_far(moments: Doubles, time: float) -> int:
    """How many of ascending moments have come."""
    return int(np.searchsorted(moments, time, side="right"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# -- pictures --------------------------------------------------------------------------------------


class _Sheet:
    """Draws named tables side by side, with a time line below each of them or one below all.

    The last picture is at the time `end`; a table is `size` pixels wide.
    """

    def __init__(self, names: Sequence[str], strips: Sequence[Strip], end: float, size: int):
        self.names = names
        self._strips, self._end, self._size = strips, float(end), size
        self._unit = size / _NATURAL
        natural = scene.Layout.natural()
        self._layout = scene.Layout(size, round(size * natural.height / natural.width))
        left, step = self._pixels(_MARGIN), size + self._pixels(_GAP)
        self._lefts = [left + index * step for index in range(len(names))]
        self._right = self._lefts[-1] + size
        self._top = self._pixels(_HEADER)
        self._bottom = self._top + self._layout.top + self._layout.side + self._layout.rail
        width, height = self._right + left, self._bottom + self._pixels(_CAPTION + _STRIP + _FOOTER)
        self._shape = width + width % 2, height + height % 2  # MP4 needs even numbers

    def draw(self, boards: Sequence[_Board], time: float) -> Picture:
        """Returns the picture, (h, w, 3) uint8."""
        surface = pygame.Surface(self._shape, 0, 32)
        surface.fill(ROOM)
        for left, board in zip(self._lefts, boards, strict=True):
            self._draw_board(surface, left, board)
        one_for_all = len(self._strips) == 1
        for left, strip in zip(self._lefts, self._strips, strict=not one_for_all):
            right = self._right if one_for_all else left + self._size
            self._draw_strip(surface, left, right, strip, time)
        self._draw_footer(surface, time)
        return rendering.as_array(surface)

    def _pixels(self, length: float) -> int:
        return round(length * self._unit)

    def _draw_board(self, surface: pygame.Surface, left: int, board: _Board) -> None:
        layout = self._layout
        table = rendering.draw_view(board.view, layout.width, layout.height)
        table = table[: self._bottom - self._top]  # without its score line
        height, width = table.shape[:2]
        picture = pygame.image.frombuffer(table.tobytes(), (width, height), "RGB")
        surface.blit(picture, (left, self._top))
        canvas = Canvas(surface, left + layout.left, self._top + layout.top, layout.side)
        for ring in board.rings:
            canvas.ring(*ring)
        caption = self._bottom + 0.55 * self._pixels(_CAPTION)
        self._write(surface, board.title, _TITLE, TEXT, (left, 0.5 * self._top))
        self._write(surface, board.left, _NOTE, TEXT, (left, caption))
        self._write(surface, board.right, _NOTE, FAINT, (left + self._size, caption), 1.0)

    def _draw_strip(
        self, surface: pygame.Surface, left: int, right: int, strip: Strip, time: float
    ) -> None:
        """A line from the first frame to the last, bars on it, dots below it, and a hand."""
        row = self._bottom + self._pixels(_CAPTION + _LINE)
        first, last = left + self._pixels(_DOT), right - self._pixels(_DOT)

        def column(moment: float) -> int:
            return round(first + (last - first) * moment / self._end)

        for moment, color in ((self._end, _RULE), (time, FAINT)):
            length = column(moment) - first
            surface.fill(color, pygame.Rect(first, row, length, self._pixels(_THICK)))
        ticks, events = (moments.tolist() for moments in strip)
        for tick in ticks:
            self._draw_bar(surface, column(tick), row, _TICK if tick <= time else _RULE)
        for event in events:
            canvas, centre = _on_pixels(surface, column(event), row + self._pixels(_BELOW))
            canvas.dot(centre, _DOT * self._unit, YELLOW if event <= time else _RULE)
        here, tip, half = column(time), row - self._pixels(_BAR + 2.0), self._pixels(4.0)
        hand = [(here, tip), (here - half, tip - half), (here + half, tip - half)]
        pygame.draw.polygon(surface, TEXT, hand)

    def _draw_footer(self, surface: pygame.Surface, time: float) -> None:
        """The time at the left; at the right what the marks mean."""
        row = self._shape[1] - 0.55 * self._pixels(_FOOTER)
        text = f"frame {time:.1f} of {self._end:.0f}"
        self._write(surface, text, _NOTE, TEXT, (self._lefts[0], row))
        right = self._right
        legend = ("tick", "collision", "real ball")[: 2 if len(self._strips) == 1 else 3]
        for what in reversed(legend):
            right -= self._write(surface, what, _NOTE, FAINT, (right, row), 1.0)
            right -= self._pixels(11.0)
            canvas, centre = _on_pixels(surface, right, round(row))
            if what == "tick":
                self._draw_bar(surface, right, round(row) + self._pixels(0.5 * _BAR), _TICK)
            elif what == "collision":
                canvas.dot(centre, _DOT * self._unit, YELLOW)
            else:
                canvas.ring(centre, 5.5 * self._unit, 1.8 * self._unit, _WAYS[0], 0.9)
            right -= self._pixels(20.0)

    def _draw_bar(self, surface: pygame.Surface, column: int, foot: int, color: Color) -> None:
        thick, height = self._pixels(_THICK), self._pixels(_BAR)
        surface.fill(color, pygame.Rect(column - thick // 2, foot - height, thick, height))

    def _write(
        self,
        surface: pygame.Surface,
        text: str,
        size: float,
        color: Color,
        where: Point,
        anchor: float = 0.0,
    ) -> int:
        """Draws text, vertically in the middle of a point, and to the left of it by a share.

        Returns the width of the text, in pixels.
        """
        # Fonts are not kept: `pygame.quit()`, which other programs call, would break them.
        pygame.font.init()
        # Made smaller, letters keep their distances; drawn small, they are moved to whole pixels.
        font = pygame.font.Font(None, round(_FINE * size * self._unit))
        large = font.render(text, True, color)
        width, height = (round(length / _FINE) for length in large.get_size())
        picture = pygame.transform.smoothscale(large, (width, height))
        corner = where[0] - anchor * width, where[1] - 0.6 * font.get_ascent() / _FINE
        surface.blit(picture, (round(corner[0]), round(corner[1])))
        return width


def _on_pixels(surface: pygame.Surface, column: int, row: int) -> tuple[Canvas, Point]:
    """A canvas whose lengths are pixels, and on it the middle of the pixel at (column, row)."""
    return Canvas(surface, 0, 0, 1), (column + 0.5, 0.5 - row)
