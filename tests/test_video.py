"""GIF files: colours, speed, and that no half-written one is left; MP4 where moviepy is there."""

import importlib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import RecordShots, save_gif


def episode(frames: int = 12) -> list[Any]:
    env = gym.make("Billiards2D-v0", render_mode="rgb_array")
    env.reset(seed=0)
    pictures: list[Any] = [env.render()]
    for _ in range(frames - 1):
        env.step(np.array([0.6, 0.4], dtype=np.float32))
        pictures.append(env.render())
    env.close()
    return pictures


def read(path: Path) -> tuple[list[NDArray[np.float64]], list[int]]:
    """The pictures of a GIF and how long each is shown, in milliseconds."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        pages = [
            (np.asarray(page.convert("RGB")), dict(page.info))
            for page in ImageSequence.Iterator(image)
        ]
    return [picture.astype(float) for picture, _ in pages], [info["duration"] for _, info in pages]


def test_an_episode_becomes_a_gif_of_the_same_pictures(tmp_path: Path) -> None:
    pictures = episode()
    save_gif(iter(pictures), tmp_path / "new" / "episode.gif")
    read_back, durations = read(tmp_path / "new" / "episode.gif")
    assert durations == [50] * len(pictures)
    for mine, theirs in zip(pictures, read_back, strict=True):
        assert np.abs(mine - theirs).mean() < 2.5
        assert np.quantile(np.abs(mine - theirs), 0.99) < 20


def test_the_speed_is_kept_on_average(tmp_path: Path) -> None:
    pictures = [np.full((4, 4, 3), 9 * k, dtype=np.uint8) for k in range(25)]
    for fps, total in ((30.0, 833), (50.0, 500), (24.0, 1042), (7.5, 3333)):
        save_gif(pictures, tmp_path / "speed.gif", fps=fps)
        durations = read(tmp_path / "speed.gif")[1]
        assert sum(durations) == pytest.approx(total, abs=5)
        assert max(durations) - min(durations) <= 10


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_grey_and_coloured_pictures_of_any_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) // 16 * 16 for _ in range(2)]
    save_gif(pictures, tmp_path / "small.gif")
    read_back = read(tmp_path / "small.gif")[0]
    for mine, theirs in zip(pictures, read_back, strict=True):
        assert theirs.shape == (5, 7, 3)
        np.testing.assert_allclose(theirs, np.broadcast_to(mine.reshape(5, 7, -1), (5, 7, 3)))


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        ([], 20, "at least one frame, got none"),
        ([np.zeros((4, 4, 3), np.uint8)], 0, r"fps in \[0.01, 50\], got 0"),
        ([np.zeros((4, 4, 3), np.uint8)], 60, r"fps in \[0.01, 50\], got 60"),
        ([np.zeros((4, 4, 3), np.uint8)], float("nan"), "fps in"),
        ([np.zeros((4, 4, 3))], 20, "frames of uint8, got float64 for frame 0"),
        ([np.zeros((4, 4, 2), np.uint8)], 20, r"got \(4, 4, 2\) for frame 0"),
        ([np.zeros((0, 4, 3), np.uint8)], 20, r"got \(0, 4, 3\) for frame 0"),
        (
            [np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)],
            20,
            r"one size, got \(4, 4\) for frame 0 and \(4, 5\) for frame 1",
        ),
        ([None], 20, "frames of uint8, got object for frame 0"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, frames: Any, fps: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_gif(frames, tmp_path / "no.gif", fps=fps)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.gif"
    path.write_bytes(b"old")

    def fail(self: Any, temporary: Path, **options: Any) -> None:
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_gif([np.zeros((4, 4, 3), np.uint8)], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("default")  # moviepy has warnings of its own
def test_all_frames_of_frames_and_of_shots_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="moviepy (the extra 'video') is missing")
    reader = importlib.import_module("moviepy.video.io.VideoFileClip")
    action, options = np.array([0.6, 0.4], dtype=np.float32), {"episode_trigger": lambda _: True}
    forms: Any = (
        (gym.wrappers.RecordVideo, "Billiards2D-v0", "rgb_array", 10, 11),
        (RecordShots, "Billiards1DShot-v0", "rgb_array_list", 1, 21),
    )
    for wrapper, name, mode, steps, frames in forms:
        folder = tmp_path / name
        env = wrapper(gym.make(name, render_mode=mode), str(folder), **options)
        for _ in range(2):
            env.reset(seed=0)
            for _ in range(steps):
                env.step(action)
        env.close()
        movies = list(folder.glob("*.mp4"))
        assert len(movies) == 2
        single: Any = gym.make(name, render_mode="rgb_array")
        single.reset(seed=0)
        for movie in movies:
            with reader.VideoFileClip(str(movie)) as clip:
                assert (tuple(clip.size), clip.fps) == ((560, 608), 20)
                assert clip.duration == pytest.approx(frames / 20, abs=0.06)
                picture = clip.get_frame(0.0)
            if mode == "rgb_array":
                assert np.abs(picture.astype(float) - single.render()).mean() < 6
    with pytest.raises(ValueError, match="render_mode='rgb_array_list', got 'rgb_array'; pass it"):
        RecordShots(gym.make("Billiards1DShot-v0", render_mode="rgb_array"), str(tmp_path))
