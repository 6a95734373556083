"""Films of a shot: their pictures, their pace, what is marked on them, and the files."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.envs.pixels import TAN
from jumpy_mbrl.lab import films as videos
from jumpy_mbrl.lab.films import MAX_MODELS, MIN_SIZE, Film, film_interpolation, film_panels
from jumpy_mbrl.lab.rollouts import Shot, imagined_rollout, real_rollout, watch_shot
from jumpy_mbrl.models import RNN, RNNConfig, WorldModel, from_pretrained

SEED = 23
SIZE = 200
GOLD, WHITE = (255, 205, 96), (255, 255, 255)


@pytest.fixture(scope="module")
def shot() -> Shot:
    return watch_shot(SEED, load_agent("random", seed=SEED))


@pytest.fixture(scope="module")
def models() -> dict[str, WorldModel]:
    return {name: from_pretrained(f"{name}-billiards2d") for name in ("rnn", "jumpy")}


@pytest.fixture(scope="module")
def interpolation(shot: Shot, models: dict[str, WorldModel]) -> list[NDArray[np.uint8]]:
    return list(film_interpolation(models["jumpy"], shot, frames=6, rate=5, size=SIZE).pictures)


@pytest.fixture(scope="module")
def panels(shot: Shot, models: dict[str, WorldModel]) -> list[NDArray[np.uint8]]:
    return list(film_panels(models, shot, frames=6, rate=2, size=SIZE).pictures)


def tables(picture: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """The felts with their rails, which lie side by side below the titles."""
    margin, gap, header = (round(length * SIZE / 300) for length in (10, 12, 32))
    lefts = [margin + index * (SIZE + gap) for index in range(count)]
    return [picture[header : header + SIZE, left : left + SIZE] for left in lefts]


def exactly(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> int:
    """How many pixels have a colour."""
    return int((picture == color).all(axis=-1).sum())


def below(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The time lines, without what explains them."""
    height = picture.shape[0]
    return picture[height - round(62 * SIZE / 300) : height - round(30 * SIZE / 300)]


# -- pace ------------------------------------------------------------------------------------------


def test_an_interpolation_has_its_rate_of_pictures_for_every_frame(
    shot: Shot, models: dict[str, WorldModel], interpolation: list[NDArray[np.uint8]]
) -> None:
    film = film_interpolation(models["jumpy"], shot, frames=6, rate=5, size=SIZE)
    assert film.fps == pytest.approx(5 / 0.4)
    assert len(interpolation) == 3 * 5 + 6 * 5 + 1 + 20
    for picture in interpolation[-20:]:
        np.testing.assert_array_equal(picture, interpolation[-21])


def test_all_pictures_have_one_even_size(
    interpolation: list[NDArray[np.uint8]], panels: list[NDArray[np.uint8]]
) -> None:
    for pictures, count in ((interpolation, 2), (panels, 3)):
        assert {picture.shape for picture in pictures} == {pictures[0].shape}
        height, width, channels = pictures[0].shape
        assert (height % 2, width % 2, channels) == (0, 0, 3)
        assert count * SIZE < width < count * SIZE + 40
        assert pictures[0].dtype == np.uint8


@pytest.mark.parametrize("size", [160, 171, 280, 333])
def test_every_size_is_even(shot: Shot, models: dict[str, WorldModel], size: int) -> None:
    picture = next(film_panels(models, shot, frames=1, size=size).pictures)
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert picture.shape[1] > 3 * size


def test_the_simulator_is_held_and_the_model_is_not(
    interpolation: list[NDArray[np.uint8]],
) -> None:
    for frame in range(3, 8):
        first, *rest = [tables(interpolation[5 * frame + part], 2) for part in range(5)]
        for simulator, model in rest:
            np.testing.assert_array_equal(simulator[60:], first[0][60:])  # below the fading arrow
            assert not np.array_equal(model, first[1])


def test_before_the_shot_everyone_shows_the_frames_that_models_are_shown(
    shot: Shot, panels: list[NDArray[np.uint8]]
) -> None:
    for frame in range(3):
        for picture in panels[2 * frame : 2 * frame + 2]:
            first, *rest = tables(picture, 3)
            x, y = shot.frames[frame, :2]
            column, row = 17 + x * 183 * SIZE / 200, 17 + (1 - y) * 183 * SIZE / 200
            near = first[int(row) - 2 : int(row) + 3, int(column) - 2 : int(column) + 3]
            assert np.abs(near.astype(float).mean(axis=(0, 1)) - TAN).max() < 50
            for other in rest:
                np.testing.assert_array_equal(other, first)
    assert not np.array_equal(tables(panels[0], 3)[0], tables(panels[2], 3)[0])


# -- marks -----------------------------------------------------------------------------------------


def test_marks_are_lit_when_their_time_has_come(
    shot: Shot, models: dict[str, WorldModel], interpolation: list[NDArray[np.uint8]]
) -> None:
    times = 3.0 + np.arange(31) / 5.0
    truth, model = real_rollout(shot, times), imagined_rollout(models["jumpy"], shot, times)
    assert len(model.ticks) == len(truth.ticks) + 1 == 3
    lit = []
    for k, time in enumerate(times):
        line = below(interpolation[15 + k])
        lit.append(exactly(line, WHITE))
        assert (exactly(line, GOLD) > 0) == bool((truth.ticks <= time).any())
    assert exactly(below(interpolation[0]), WHITE) == 0
    steps = [k for k in range(1, 31) if lit[k] > lit[k - 1]]
    ticks = [tick for tick in model.ticks if tick > 3.0]
    assert steps == [int(np.argmax(times >= tick)) for tick in ticks]
    assert lit[-1] == 3 * lit[0] > 0


def test_the_rnn_has_more_bars_and_dots_than_the_jumpy_model(
    panels: list[NDArray[np.uint8]],
) -> None:
    width = panels[0].shape[1] // 3
    line = below(panels[-1])
    simulator, rnn, jumpy = (
        exactly(line[:, index * width : (index + 1) * width], WHITE) for index in range(3)
    )
    assert simulator == 0
    assert rnn == 2 * jumpy > 0  # 6 ticks and 3
    marked = [exactly(table, WHITE) for table in tables(panels[-1], 3)]
    assert marked[1] > marked[2] > marked[0]


def test_a_tick_flashes_and_fades(shot: Shot, models: dict[str, WorldModel]) -> None:
    times = 3.0 + np.arange(81) / 10.0
    rollout = imagined_rollout(models["jumpy"], shot, times)
    flashes = {}
    for k, time in enumerate(times):
        board = videos._imagined_board(shot, "jumpy", rollout, k, 0.9, "")
        since = time - rollout.ticks[rollout.ticks <= time].max()
        assert bool(board.rings) == (since < 0.9)
        for ring in board.rings:
            flashes[since] = (ring.radius, -ring.opacity)
    ordered = [flashes[since] for since in sorted(flashes)]
    assert ordered == sorted(ordered)  # larger and fainter
    assert len(ordered) > 15


def test_rings_show_where_the_balls_really_are(shot: Shot, models: dict[str, WorldModel]) -> None:
    times = 3.0 + np.arange(42.0)
    truth, wrong = real_rollout(shot, times), imagined_rollout(models["rnn"], shot, times)
    board = videos._imagined_board(shot, "rnn", wrong, 30, 0.9, "")
    beside = videos._beside_truth(board, wrong, truth, 30)
    np.testing.assert_allclose([ring.centre for ring in beside.rings[:2]], truth.way[30])
    assert [ring.radius for ring in beside.rings[:2]] == [shot.config.radius] * 2
    far = np.linalg.norm(wrong.way[30] - truth.way[30], axis=1).max()
    assert beside.right == f"off by {far:.2f}"
    assert far > 0.1
    assert list(beside.rings[2:]) == list(board.rings)


def test_the_target_is_edged_once_the_object_ball_has_been_in_it_at_a_frame(shot: Shot) -> None:
    times = 3.0 + np.arange(9) / 2.0
    way = np.full((9, 2, 2), 0.5)
    truth = replace(real_rollout(shot, times), way=way)
    way[0, 1] = way[3, 1] = 0.9, 0.1  # at the shot itself, and between two frames
    assert not videos._has_arrived(shot, truth, 8)
    way[4, 1] = 0.9, 0.1
    assert [videos._has_arrived(shot, truth, k) for k in (3, 4, 8)] == [False, True, True]


# -- files -----------------------------------------------------------------------------------------


def blinking(count: int = 5, fps: float = 25.0) -> Film:
    return Film((np.full((64, 96, 3), 4 * k, dtype=np.uint8) for k in range(count)), fps)


def test_a_gif_keeps_pictures_and_pace(tmp_path: Path) -> None:
    blinking().save(tmp_path / "new" / "film.gif")
    with Image.open(tmp_path / "new" / "film.gif") as image:
        pages = [page.convert("RGB").copy() for page in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 40
    assert [page.getpixel((5, 5)) for page in pages] == [(4 * k,) * 3 for k in range(5)]


@pytest.mark.filterwarnings("default")  # moviepy has warnings of its own
def test_an_mp4_keeps_pictures_and_pace(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="moviepy (the extra 'video') is missing")
    blinking(50).save(tmp_path / "new" / "film.mp4")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["film.mp4"]
    reader: Any = importlib.import_module("moviepy.video.io.VideoFileClip")
    with reader.VideoFileClip(str(tmp_path / "new" / "film.mp4")) as clip:
        assert tuple(clip.size) == (96, 64)
        assert clip.duration == pytest.approx(2.0, abs=0.06)
        assert abs(float(clip.get_frame(1.61).mean()) - 160.0) < 5.0


def test_without_moviepy_an_mp4_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moviepy.video.io.ImageSequenceClip", None)
    with pytest.raises(ImportError, match=r"moviepy.*jumpy-mbrl\[video\].*or write a \.gif"):
        blinking().save(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["film.png", "film", "film.GIF", ".gif"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown ending .*\['.gif', '.mp4'\]"):
        blinking().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("frames", 0, "frames to be an integer of at least 1, got 0"),
        ("frames", 2.5, "frames to be an integer of at least 1, got 2.5"),
        ("rate", 0, "rate to be an integer of at least 1, got 0"),
        ("rate", True, "rate to be an integer of at least 1, got True"),
        ("size", MIN_SIZE - 1, f"size to be an integer of at least {MIN_SIZE}, got"),
    ],
)
def test_impossible_numbers_are_refused(
    shot: Shot, models: dict[str, WorldModel], setting: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        film_interpolation(models["jumpy"], shot, **{setting: value})
    with pytest.raises(ValueError, match=message):
        film_panels(models, shot, **{setting: value})


def test_no_models_and_too_many_are_refused(shot: Shot, models: dict[str, WorldModel]) -> None:
    many = {str(number): models["rnn"] for number in range(MAX_MODELS + 1)}
    for given in ({}, many):
        with pytest.raises(ValueError, match=f"from 1 to 3 models, got {len(given)}"):
            film_panels(given, shot)


def test_models_of_another_world_are_refused_before_anything_is_drawn(shot: Shot) -> None:
    other = RNN(RNNConfig(obs_size=6, hidden_size=4, mlp_size=4))
    with pytest.raises(ValueError, match="a model of 4 coordinates"):
        film_interpolation(other, shot)
    with pytest.raises(ValueError, match="a model of 4 coordinates"):
        film_panels({"other": other}, shot)
