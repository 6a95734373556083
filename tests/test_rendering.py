"""Pictures of the table: what there is to see, what is where, no display, and the window."""

import copy
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from numpy.typing import NDArray

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import rendering
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN, TARGET
from jumpy_mbrl.envs.rendering import draw_table, draw_view
from jumpy_mbrl.envs.scene import Layout, Path, View

CORNER = (0.8, 1.0, 0.0, 0.2)
LONE = np.array([[0.5, 0.5]])
STILL = np.zeros((2, 2))
TABLE = slice(24, 24 + 512)  # rows and columns of the felt in a picture of the natural size
FAR = 60.0  # colours nearer than this (of at most 442) are taken for the same


def played(
    frames: int,
    action: Any = (0.0, 0.0),
    mode: str = "rgb_array",
    config: Any = None,
    **options: Any,
) -> Any:
    """An environment after some frames."""
    env: Any = gym.make("Billiards2D-v0", render_mode=mode, config=config).unwrapped
    env.reset(seed=0, options=options)
    for _ in range(frames):
        env.step(action)
    return env


def view_after(*arguments: Any, **more: Any) -> Any:
    return played(*arguments, **more)._scene.view()


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
        draw_table(**{"positions": LONE, **arguments})
    with pytest.raises(ValueError, match="at least 1 x 1 pixel, got 0 x 5"):
        draw_view(View(LONE), 0, 5)


def test_the_environment_draws_what_it_holds() -> None:
    target = 0.0, 0.2, 0.8, 1.0
    for frames in (0, 1):
        env = played(frames, config={"radius": 0.05}, target=target, velocities=STILL)
        picture = env.render()
        assert (picture.shape, picture.dtype) == ((608, 560, 3), np.uint8)
        assert picture.flags.c_contiguous and picture.flags.writeable
        expected = draw_table(np.reshape(env._x, (2, 2)), target, radius=0.05)
        np.testing.assert_array_equal(picture[TABLE, TABLE], expected)
    env.close()
    env.close()


def test_pictures_outlive_a_quit_of_pygame() -> None:
    view = View(LONE, left="some text")
    before = draw_view(view)
    pygame.quit()
    np.testing.assert_array_equal(draw_view(view), before)
    pygame.quit()
    assert (draw_view(View(LONE, left="other text")) != before).any()


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


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[View]]:
    """Collects what windows show, on a display that is none."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    views: list[View] = []
    show = rendering.Window.show

    def record(self: rendering.Window, view: View) -> float:
        views.append(view)
        return show(self, view)

    monkeypatch.setattr(rendering.Window, "show", record)
    yield views
    pygame.display.quit()


def screen() -> NDArray[np.uint8]:
    return pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)


def test_the_window_shows_each_frame_at_its_rate_and_closes(shown: list[View]) -> None:
    env = gym.make("Billiards2D-v0", render_mode="human")
    infos = [env.reset(seed=0)[1]]
    began = time.perf_counter()
    infos += [env.step(np.zeros(2, dtype=np.float32))[4] for _ in range(5)]
    assert time.perf_counter() - began > 4.5 / env.metadata["render_fps"]
    for view, info in zip(shown, infos, strict=True):
        np.testing.assert_array_equal(view.positions, info["positions"])
    assert env.render() is None
    np.testing.assert_array_equal(screen(), draw_view(shown[-1]))
    env.close()
    assert not pygame.display.get_init()
    env.close()
    env.reset(seed=0)  # opens a new one
    assert pygame.display.get_init()
    env.close()


def test_the_window_can_be_resized(shown: list[View]) -> None:
    window = rendering.Window(fps=0)
    view = View(LONE, CORNER)
    assert window.show(view) == 0.0
    assert window.layout(view) == Layout(560, 608)
    pygame.display.set_mode((700, 900), pygame.RESIZABLE)  # as dragging its corner does
    window.show(view)
    np.testing.assert_array_equal(screen(), draw_view(view, 700, 900))
    assert window.layout(view) == Layout(700, 900)
    assert pygame.display.get_surface().get_flags() & pygame.RESIZABLE
    window.close()
    window.close()


def test_someone_may_close_the_window_and_the_episode_goes_on(shown: list[View]) -> None:
    env = played(0, mode="human")
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    for _ in range(2):
        env.step([0.0, 0.0])
        assert env.render() is None
        assert not pygame.display.get_init()
    env.close()


def test_the_window_leaves_keys_and_buttons_to_others(shown: list[View]) -> None:
    window = rendering.Window(fps=0)
    view = View(LONE)
    assert window.events() == []
    window.show(view)
    pygame.event.clear()
    for kind in (pygame.KEYDOWN, pygame.MOUSEMOTION, pygame.MOUSEBUTTONDOWN):
        pygame.event.post(pygame.event.Event(kind))
    window.show(view)
    assert [event.type for event in window.events()] == [pygame.KEYDOWN, pygame.MOUSEBUTTONDOWN]
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.events()[-1].type == pygame.QUIT
    assert not window.is_open


def test_an_environment_with_a_window_can_be_copied_and_pickled(shown: list[View]) -> None:
    env = played(1, [1.0, 1.0], "human")
    pictures = []
    for table in (env, copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        for _ in range(4):
            table.step([1.0, 1.0])
        pictures.append(draw_view(shown[-1]))
        table.close()
    np.testing.assert_array_equal(pictures[1:], [pictures[0]] * 2)


# What there is to see of an episode


@pytest.mark.parametrize("size", [(560, 608), (1120, 1216), (300, 900), (901, 303), (57, 64)])
@pytest.mark.parametrize("has_hint", [False, True])
def test_everything_lies_inside_the_picture_and_back(size: tuple[int, int], has_hint: bool) -> None:
    layout = Layout(*size, has_hint)
    for x, y in ((0.0, 0.0), (0.3, 0.8), (1.0, 1.0)):
        column, row = layout.to_picture(x, y)
        assert 0 <= column <= size[0]
        assert 0 <= row <= size[1]
        assert layout.to_table(column, row) == pytest.approx((x, y))
    assert layout.left - layout.rail >= -1
    assert layout.top - layout.rail >= 0
    assert layout.top + layout.side + layout.rail <= layout.score_row < size[1]
    if has_hint:
        assert layout.score_row < layout.hint_row < size[1]


def test_a_trail_reaches_the_wall_that_the_ball_met_between_two_frames() -> None:
    view = view_after(3, positions=[[0.8, 0.5], [0.3, 0.2]], velocities=[[1.5, 0.0], [0.0, 0.0]])
    # 0.1 sides to the wall and 0.125 back: no frame shows the ball at the wall.
    assert view.positions[0, 0] == pytest.approx(0.775)
    assert view.trails[0][:, 0].max() > 0.88
    np.testing.assert_allclose(view.trails[0][0], [0.8, 0.5])
    np.testing.assert_allclose(view.trails[0][-1], view.positions[0])
    np.testing.assert_allclose(view.trails[1], np.tile([0.3, 0.2], (len(view.trails[1]), 1)))


def test_the_score_line() -> None:
    still: Any = {"positions": [[0.3, 0.5], [0.3, 0.85]], "velocities": STILL}
    texts = {n: view_after(n, (-1.0, 0.0), **still) for n in (0, 2, 3, 4, 44)}
    rights = {n: view.right for n, view in texts.items()}
    assert rights == {0: "watch", 2: "watch", 3: "shoot", 4: "rolling", 44: "missed"}
    assert texts[4].left == "frame 4 of 44"
    assert texts[44].middle == "walls 3   balls 0"
    still["positions"] = [[0.3, 0.5], [0.9, 0.1]]
    view = view_after(4, **still)
    assert view.right == "in!"
    assert view.is_success


def test_an_environment_without_pictures_follows_nothing() -> None:
    env: Any = gym.make("Billiards2D-v0").unwrapped
    assert env._scene is None
