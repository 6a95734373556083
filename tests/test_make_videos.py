"""The command line that makes the videos, and the page that shows them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from jumpy_mbrl.lab.rollouts import Shot

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "world_models.md"
SMALL = ("--frames", "1", "--size", "160")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "make_videos.py"
    spec = importlib.util.spec_from_file_location("make_videos", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_videos"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_both_videos_are_made(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    assert script.main(["--out", str(out), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"interpolation.gif", "three_panels.gif"}
    delays, widths = {}, {}
    for path in out.iterdir():
        assert f"{path}: {path.stat().st_size:,} bytes" in printed
        with Image.open(path) as image:
            image.seek(image.n_frames - 2)
            delays[path.stem], widths[path.stem] = image.info["duration"], image.width
    assert delays == {"interpolation": 40, "three_panels": 80}  # 10 pictures in 0.4 s
    assert 320 < widths["interpolation"] < 360 and 480 < widths["three_panels"] < 520


def test_videos_are_the_same_each_time_and_other_seeds_are_other_tables(
    script: ModuleType, tmp_path: Path
) -> None:
    files = []
    for number, seed in enumerate(("5", "5", "6")):
        out = tmp_path / str(number)
        more = ("--rate", "3", "--seed", seed, "--out", str(out))
        assert script.main(["interpolation.gif", *SMALL, *more]) == 0
        files.append((out / "interpolation.gif").read_bytes())
    assert files[0] == files[1] != files[2]


def test_the_last_model_is_the_interpolated_one(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = script.load_models(("rnn-billiards2d", "fold-billiards2d"))
    assert list(models) == ["rnn", "fold"]
    seen = []
    monkeypatch.setattr(script, "film_interpolation", lambda *given: seen.append(given))
    script.make_film("interpolation", script.Args(rate=4), models, "a shot")
    assert seen == [(models["fold"], "a shot", "fold", 20, 4, script.SIZE)]


def test_the_agent_shoots(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = []

    def record(models: object, shot: Shot, *rest: object, **more: object) -> None:
        shots.append(shot)
        raise ValueError("seen enough")

    monkeypatch.setattr(script, "film_panels", record)
    for agent in ("none", "random", "random"):
        assert script.main(["three_panels.gif", "--agent", agent, "--out", str(tmp_path)]) == 2
    none, first, second = (shot.action for shot in shots)
    assert not none.any() and first.all()
    np.testing.assert_array_equal(first, second)


def test_an_mp4(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="moviepy (the extra 'video') is missing")
    assert script.main(["three_panels.mp4", "--out", str(tmp_path), *SMALL]) == 0
    assert b"ftyp" in (tmp_path / "three_panels.mp4").read_bytes()[:16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["panels.gif"], "unknown video 'panels'"),
        (["three_panels.png"], "unknown ending '.png', expected one of"),
        (["three_panels"], "unknown ending ''"),
        (["somewhere/three_panels.gif"], "names without folders"),
        (["--rate", "21"], "--rate must be at most 20 for a .gif, got 21"),
        (["--rate", "0"], "rate to be an integer of at least 1, got 0"),
        (["--frames", "0"], "frames to be an integer of at least 1, got 0"),
        (["--size", "159"], "size to be an integer of at least 160, got 159"),
        (["--seed", "-1"], "expected a seed in [0,"),
        (["--seed", str(2**51)], "kept for evaluation"),
        (["--agent", "jumpi"], "did you mean 'jumpy'?"),
        (["--models"], "--models must be from 1 to 3, got 0"),
        (["--models", *["rnn-billiards2d"] * 4], "--models must be from 1 to 3, got 4"),
        (["--models", "rnn-billiards2d", "rnn-billiards2d"], "different names, got two of 'rnn'"),
        (["--models", "rnn"], "there is no folder 'rnn'"),
        (["--models", "jumpy-lines-task"], "a model of 4 coordinates and 2 numbers for a shot"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert script.main([*options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_videos: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert script.main(["--out", str(tmp_path / "file" / "out"), *SMALL]) == 2
    assert capsys.readouterr().err.startswith("make_videos: ")


# -- the page --------------------------------------------------------------------------------------


def test_the_page_shows_the_videos_that_the_script_makes(script: ModuleType) -> None:
    shown = set(re.findall(r"!\[[^]]+\]\(videos/([^)]+)\)", PAGE.read_text(encoding="utf-8")))
    assert shown == set(script.Args().videos)
    for name in shown:
        path = ROOT / "docs" / "videos" / name
        assert path.stat().st_size < 1_600_000
        with Image.open(path) as image:
            assert image.format == "GIF" and image.n_frames > 50
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_the_commands_of_the_page_are_understood(script: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^python scripts/make_videos.py ?([^#\n]*)", text, re.MULTILINE)
    assert len(commands) > 1
    for command in commands:
        script.tyro.cli(script.Args, args=shlex.split(command)).check()


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        exec(compile(example, f"example {number + 1}", "exec"), {})
        assert capsys.readouterr().out


def test_links_of_the_page_lead_somewhere() -> None:
    for file in re.findall(r"\]\(([\w./-]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / file).exists(), file
