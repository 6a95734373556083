"""Pictures of the table: what is where, no display, and the window."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from numpy.typing import NDArray

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import rendering
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN, TARGET
from jumpy_mbrl.envs.rendering import Path, draw_table

CORNER = (0.8, 1.0, 0.0, 0.2)
FAR = 60.0  # colours nearer than this (of at most 442) are taken for the same


def pixel(picture: Any, x: Any, y: float) -> NDArray[np.float64]:
    """The colour at a table position."""
    size = len(picture)
    row, column = min(int((1 - y) * size), size - 1), min(int(x * size), size - 1)
    return np.asarray(picture[row, column], dtype=np.float64)


def assert_color(picture: Any, x: Any, y: float, color: Any) -> None:
    assert np.linalg.norm(pixel(picture, x, y) - color) < FAR, pixel(picture, x, y)


@pytest.mark.parametrize("size", [64, 512])
def test_balls_and_target_are_where_they_should_be(size: int) -> None:
    places = [[0.2, 0.3], [0.5, 0.8], [0.75, 0.55], [0.3, 0.6]]
    picture = draw_table(places, CORNER, size=size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    for (x, y), color in zip(places, [TAN, BLUE, GREY, GREY], strict=True):
        assert_color(picture, x + 0.03, y - 0.03, color)
        assert_color(picture, x - 0.08, y + 0.08, FELT)  # just outside, away from the shadow
    assert_color(picture, 0.9, 0.1, TARGET)
    assert_color(picture, 0.9, 0.9, FELT)
    assert_color(picture, 0.1, 0.1, FELT)


def test_the_ball_is_as_large_as_its_radius() -> None:
    for radius in (0.05, 0.1, 0.2):
        picture = draw_table([[0.5, 0.5]], None, radius=radius).astype(float)
        red, green, blue = np.moveaxis(picture, 2, 0)
        ball = (red > green) | (blue > 150)  # tan, or the light on it; the felt is neither
        assert ball.mean() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_the_object_ball_lies_over_the_target_and_shades_the_felt() -> None:
    assert_color(draw_table([[0.3, 0.3], [0.9, 0.1]], CORNER), 0.93, 0.07, BLUE)
    shaded = draw_table([[0.5, 0.5]])
    assert pixel(shaded, 0.59, 0.43).sum() < pixel(shaded, 0.1, 0.1).sum() - 20


def test_motion_by_a_fraction_of_a_pixel_is_visible() -> None:
    pictures = [draw_table([[0.5 + k / (4 * 64), 0.5]], size=64) for k in range(4)]
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert np.array_equal(pictures[0], draw_table([[0.5, 0.5]], size=64))


def test_paths_lie_over_the_balls() -> None:
    line = Path([[0.1, 0.5], [0.9, 0.5]], color=(250, 0, 250), width=0.02)
    dots = Path([[0.2, 0.2], [0.8, 0.8]], color=(255, 255, 0), width=0, dots=True, dot_radius=0.03)
    picture = draw_table([[0.5, 0.5]], CORNER, paths=[line, dots])
    for x in (0.15, 0.5, 0.85):
        assert_color(picture, x, 0.5, line.color)
    assert_color(picture, 0.2, 0.2, dots.color)
    assert_color(picture, 0.8, 0.8, dots.color)
    assert_color(picture, 0.7, 0.7, FELT)
    empty = draw_table([], None, paths=[Path([])])
    assert_color(empty, 0.5, 0.5, FELT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size to be at least 1 pixel, got 0"),
        ({"positions": [0.5, 0.5]}, r"positions of shape \(K, 2\), got \(2,\)"),
        ({"positions": [[0.5, np.nan]]}, "finite positions"),
        ({"paths": [Path([[0.5, 0.5, 0.5]])]}, r"path points of shape \(K, 2\), got \(1, 3\)"),
    ],
)
def test_nonsense_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_table(**{"positions": [[0.5, 0.5]], **arguments})


def test_the_environment_draws_what_it_holds() -> None:
    env = gym.make("Billiards2D-v0", render_mode="rgb_array", config={"radius": 0.05})
    _, info = env.reset(seed=0, options={"target": (0.0, 0.2, 0.8, 1.0)})
    expected = draw_table(info["positions"], (0.0, 0.2, 0.8, 1.0), radius=0.05)
    np.testing.assert_array_equal(env.render(), expected)
    info = env.step(np.zeros(2, dtype=np.float32))[4]
    expected = draw_table(info["positions"], (0.0, 0.2, 0.8, 1.0), radius=0.05)
    np.testing.assert_array_equal(env.render(), expected)
    env.close()
    env.close()


def test_render_needs_a_table() -> None:
    env = gym.make("Billiards2D-v0", render_mode="rgb_array").unwrapped
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) before render"):
        env.render()


def test_pictures_need_no_display_and_no_greeting() -> None:
    program = (
        "import gymnasium, jumpy_mbrl\n"
        "env = gymnasium.make('Billiards2D-v0', render_mode='rgb_array')\n"
        "env.reset(seed=0)\n"
        "assert env.render().any()\n"
        "import pygame\n"
        "assert not pygame.display.get_init() and not pygame.get_init()\n"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_the_window_shows_each_frame_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown: list[NDArray[np.uint8]] = []
    show = rendering.Window.show

    def record(self: rendering.Window, frame: NDArray[np.uint8]) -> None:
        shown.append(frame)
        show(self, frame)

    monkeypatch.setattr(rendering.Window, "show", record)
    env = gym.make("Billiards2D-v0", render_mode="human")
    _, info = env.reset(seed=0)
    np.testing.assert_array_equal(shown[-1], draw_table(info["positions"], CORNER))
    env.step(np.zeros(2, dtype=np.float32))
    assert len(shown) == 2
    assert env.render() is None
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    np.testing.assert_array_equal(screen, shown[-1])
    env.close()
    assert not pygame.display.get_init()
    env.close()
