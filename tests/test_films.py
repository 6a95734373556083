"""One shot, open loop, and films of it: rollouts, pictures, marks, files, the command, its page."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.commands import main
from jumpy_mbrl.data.seeds import EVALUATION_SEEDS_FROM
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.pixels import draw_pixels
from jumpy_mbrl.lab import films, make_videos
from jumpy_mbrl.lab.films import Film
from jumpy_mbrl.lab.rollouts import Shot, imagined_rollout, real_rollout, watch_shot
from jumpy_mbrl.models import (
    KeypointJump,
    KeypointJumpConfig,
    WorldModel,
    from_pretrained,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "world_models.md"
SEED = 23
SIZE = 200
GOLD, WHITE = (255, 205, 96), (255, 255, 255)
WHOLE = np.arange(3.0, 45.0)
Pictures = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def shot() -> Shot:
    return watch_shot(SEED, load_agent("random", seed=SEED))


@pytest.fixture(scope="module")
def models() -> dict[str, WorldModel]:
    return {name: from_pretrained(f"{name}-billiards2d") for name in ("rnn", "jumpy")}


@pytest.fixture(scope="module")
def interpolation(shot: Shot, models: dict[str, WorldModel]) -> Pictures:
    film = films.film_interpolation(models["jumpy"], shot, frames=6, rate=5, size=SIZE)
    assert film.fps == pytest.approx(5 / 0.4)
    return list(film.pictures)


@pytest.fixture(scope="module")
def panels(shot: Shot, models: dict[str, WorldModel]) -> Pictures:
    return list(films.film_panels(models, shot, frames=6, rate=2, size=SIZE).pictures)


def played(shot: Shot, num_balls: int = 2) -> tuple[NDArray[Any], list[Any]]:
    """What `Billiards2D-v0` shows of the same episode: frames (T, N, 2), and every `info`."""
    env = gym.make("Billiards2D-v0", num_balls=num_balls)
    obs, info = env.reset(seed=SEED)
    frames, infos = [obs], [info]
    over = False
    while not over:
        obs, _, terminated, truncated, info = env.step(shot.action)
        frames.append(obs)
        infos.append(info)
        over = terminated or truncated
    return np.stack(frames).reshape(len(frames), -1, 2), infos


# -- watching ------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_environment(shot: Shot) -> None:
    frames, infos = played(shot)
    assert shot.now == 3
    np.testing.assert_array_equal(shot.frames.reshape(4, 2, 2), frames[:4])
    np.testing.assert_array_equal(shot.positions, infos[3]["positions"])
    np.testing.assert_array_equal(shot.velocities, infos[3]["velocities"])
    again, other = (watch_shot(seed, load_agent("random", seed=seed)) for seed in (SEED, 24))
    for name in ("frames", "action"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shot, name))
        assert not np.array_equal(getattr(other, name), getattr(shot, name))


@pytest.mark.parametrize("seed", [-1, EVALUATION_SEEDS_FROM, 2**60, True])
def test_tables_kept_for_evaluation_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=r"a seed in \[0, 2251799813685248\).*evaluation"):
        watch_shot(seed, load_agent("random"))


# -- rollouts ------------------------------------------------------------------------------------


def test_the_truth_is_what_the_environment_plays(shot: Shot) -> None:
    frames, infos = played(shot)
    real = real_rollout(shot, WHOLE)
    assert len(frames) == 45
    np.testing.assert_allclose(real.way, frames[3:], atol=1e-6)
    hits = [int(info["wall_hits"] + info["ball_hits"]) for info in infos]
    assert len(real.ticks) == hits[-1] - hits[3] > 5
    for frame in range(3, 45):
        assert (real.ticks <= frame).sum() == hits[frame] - hits[3]
    for balls in real.marks:  # Balls touch something at every collision.
        wall = np.minimum(balls, 1.0 - balls).min() - shot.config.radius
        pair = np.linalg.norm(balls[0] - balls[1]) - 2.0 * shot.config.radius
        assert min(abs(wall), abs(pair)) < 1e-9


@pytest.mark.parametrize("name", ["rnn", "jumpy-rnn", "jumpy", "fold"])
def test_models_are_shown_the_frames_and_the_shot(shot: Shot, name: str) -> None:
    model = from_pretrained(f"{name}-billiards2d")
    found = imagined_rollout(model, shot, WHOLE)
    state = model.observe(torch.from_numpy(shot.frames[None]))
    expected = model.imagine(state, torch.arange(42.0), torch.from_numpy(shot.action[None]))
    np.testing.assert_allclose(found.way.reshape(42, 4), expected.obs[0].detach(), atol=1e-5)
    np.testing.assert_allclose(found.ticks, expected.tick_times[0].detach() + 3.0, atol=1e-4)
    assert found.ticks[0] == 3.0
    assert found.marks.shape == (len(found.ticks), 2, 2)
    assert found.way.dtype == found.ticks.dtype == np.float64


def test_three_balls(models: dict[str, Any]) -> None:
    shot = watch_shot(SEED, load_agent("random", seed=0), TableConfig(num_balls=3))
    found = imagined_rollout(models["jumpy"].for_balls(3), shot, WHOLE[:6])
    real = real_rollout(shot, WHOLE[:6])
    assert found.way.shape == real.way.shape == (6, 3, 2)
    np.testing.assert_allclose(real.way[:2], played(shot, num_balls=3)[0][3:5], atol=1e-6)
    np.testing.assert_allclose(found.way, real.way, atol=0.02)


# -- pictures --------------------------------------------------------------------------------------


def exactly(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> int:
    """How many pixels have a colour."""
    return int((picture == color).all(axis=-1).sum())


def below(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The time lines, without what explains them."""
    height = picture.shape[0]
    return picture[height - round(62 * SIZE / 300) : height - round(30 * SIZE / 300)]


def test_all_pictures_have_one_even_size(
    shot: Shot, models: dict[str, WorldModel], interpolation: Pictures, panels: Pictures
) -> None:
    for pictures, count in ((interpolation, 2), (panels, 3)):
        assert {picture.shape for picture in pictures} == {pictures[0].shape}
        assert count * SIZE < pictures[0].shape[1] < count * SIZE + 40
        assert pictures[0].dtype == np.uint8 and pictures[0].shape[2] == 3
    for size in (160, 171, 280, 333):
        picture = next(films.film_panels(models, shot, frames=1, size=size).pictures)
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
        assert picture.shape[1] > 3 * size


def test_marks_are_lit_when_their_time_has_come(
    shot: Shot, models: dict[str, WorldModel], interpolation: Pictures
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
    assert steps == [int(np.argmax(times >= tick)) for tick in model.ticks if tick > 3.0]
    assert lit[-1] == 3 * lit[0] > 0


def test_the_target_is_edged_once_the_object_ball_has_been_in_it_at_a_frame(shot: Shot) -> None:
    way = np.full((9, 2, 2), 0.5)
    truth = replace(real_rollout(shot, 3.0 + np.arange(9) / 2.0), way=way)
    way[0, 1] = way[3, 1] = 0.9, 0.1  # at the shot itself, and between two frames
    assert not films._has_arrived(shot, truth, 8)
    way[4, 1] = 0.9, 0.1
    assert [films._has_arrived(shot, truth, k) for k in (3, 4, 8)] == [False, True, True]


def test_rings_show_where_the_balls_really_are(shot: Shot, models: dict[str, WorldModel]) -> None:
    truth, wrong = real_rollout(shot, WHOLE), imagined_rollout(models["rnn"], shot, WHOLE)
    board = films._imagined_board(shot, "rnn", wrong, 30, 0.9, "")
    beside = films._beside_truth(board, wrong, truth, 30)
    centres, radii, *_ = zip(*beside.rings[:2], strict=True)
    np.testing.assert_allclose(centres, truth.way[30])
    assert radii == (shot.config.radius,) * 2
    far = np.linalg.norm(wrong.way[30] - truth.way[30], axis=1).max()
    assert beside.right == f"off by {far:.2f}" and far > 0.1
    assert list(beside.rings[2:]) == list(board.rings)


# -- files -----------------------------------------------------------------------------------------


def blinking(count: int = 5, fps: float = 25.0) -> Film:
    return Film((np.full((64, 96, 3), 4 * k, dtype=np.uint8) for k in range(count)), fps)


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
    assert make("three_panels.mp4", "--out", str(tmp_path), *SMALL) == 0
    assert b"ftyp" in (tmp_path / "three_panels.mp4").read_bytes()[:16]


# -- the command -----------------------------------------------------------------------------------

SMALL = ("--frames", "1", "--size", "160")


def make(*options: str) -> int:
    return main.run("make-videos", options)


def test_all_videos_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert make("--out", str(out), *SMALL) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == set(make_videos.Args().videos)
    delays, widths = {}, {}
    for path in out.iterdir():
        assert f"{path}: {path.stat().st_size:,} bytes" in printed
        with Image.open(path) as image:
            image.seek(image.n_frames - 2)
            delays[path.stem], widths[path.stem] = image.info["duration"], image.width
    # 10 pictures in 0.4 s
    assert delays == {"interpolation": 40, "three_panels": 80, "keypoints": 80}
    assert 320 < widths["interpolation"] < 360 and 480 < widths["three_panels"] < 520
    assert widths["keypoints"] == 2 * (2 * 64 + 4)


def test_videos_are_the_same_each_time_and_other_seeds_are_other_tables(tmp_path: Path) -> None:
    written = []
    for number, seed in enumerate(("5", "5", "6")):
        out = tmp_path / str(number)
        more = ("--rate", "3", "--seed", seed, "--out", str(out))
        assert make("interpolation.gif", *SMALL, *more) == 0
        written.append((out / "interpolation.gif").read_bytes())
    assert written[0] == written[1] != written[2]


def test_a_film_of_keypoints_is_what_the_environment_shows_beside_what_is_painted(
    shot: Shot,
) -> None:
    model: Any = from_pretrained("keypoints-billiards2d")
    pictures = list(films.film_keypoints(model, shot, frames=4, rate=2, size=192).pictures)
    assert len(pictures) == 3 * 2 + 4 * 2 + 1 + 20
    frames, _ = played(shot)
    for k, picture in enumerate(pictures[:15]):
        assert picture.shape == (192, 2 * 196, 3)
        real, painted = (picture[::3, first : first + 192 : 3] for first in (0, 196))
        wanted = draw_pixels(frames[k // 2], shot.config.target)
        np.testing.assert_array_equal(real, wanted)
        apart = np.abs(painted.astype(int) - wanted.astype(int)).mean()
        assert k % 2 or apart < 4.0, "what is imagined looks like what happens"
        for x, y in frames[k // 2].reshape(-1, 2):
            row, column = round(192 * (1.0 - y)), 196 + round(192 * x)
            around = picture[row - 4 : row + 4, column - 4 : column + 4]
            assert k % 2 or (around == 255).all(axis=2).any()
    with pytest.raises(ValueError, match="a model of 2 keypoints, got 3"):
        films.film_keypoints(KeypointJump(KeypointJumpConfig(num_bodies=3)), shot)


# -- the page --------------------------------------------------------------------------------------


def test_the_page_shows_the_videos_that_the_command_makes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[[^]]+\]\(videos/([^)]+)\)", text))
    assert shown == set(make_videos.Args().videos)
    for name in shown:
        path = ROOT / "docs" / "videos" / name
        assert path.stat().st_size < 1_600_000
        with Image.open(path) as image:
            assert image.format == "GIF" and image.n_frames > 50
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
