"""The command line that trains: what it reads, and what it records."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jumpy_mbrl.commands import main
from jumpy_mbrl.data.tasks import TaskConfig
from jumpy_mbrl.models import pretrained_info


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_world_model")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_presets_on_weather_take_the_file(script: ModuleType) -> None:
    options = ["--preset", "weather/ours", "--csv", "somewhere/jena.csv", "--run-dir", "runs/w"]
    arguments = script.parse([*options, "--steps", "7"])
    assert arguments.config.train_data == TaskConfig("weather", 9000, csv="somewhere/jena.csv")
    assert arguments.config.validation_data.csv == "somewhere/jena.csv"
    assert arguments.config.steps == 7
    assert script.record(options) == (
        "python scripts/train_world_model.py --preset weather/ours --csv jena.csv --run-dir w"
    )


def test_weather_without_its_file_is_one_line(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run("train", ["--preset", "weather/ours", "--run-dir", "w"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train_world_model: ") and "needs csv" in error
    assert len(error.splitlines()) == 1


def test_command_line_trains_and_records_itself(
    script: ModuleType, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset=rnn-tiny", "--steps", "3", "--model.hidden-size", "5", "--device", "cpu"]
    places = ["--run-dir", str(tmp_path / "run"), "--data-dir", str(data_dir)]
    assert main.run("train", [*options, *places]) == 0
    assert "best weights:" in capsys.readouterr().out
    info = pretrained_info(tmp_path / "run" / "best")
    assert info["training"]["command"] == (
        "python scripts/train_world_model.py --preset=rnn-tiny --steps 3 "
        "--model.hidden-size 5 --device cpu --run-dir run"
    )
    assert info["model"]["config"]["hidden_size"] == 5
    assert str(tmp_path) not in (tmp_path / "run" / "best" / "config.json").read_text()
    assert main.run("train", [*options, *places, "--resume"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "jumpy"], "unknown preset 'jumpy'"),
        (["--preset", "rnn-tiny", "--device", "tpu"], "unknown device 'tpu'"),
        (["--preset", "rnn-tiny", "--steps", "0"], "steps must be an integer of at least 1, got 0"),
        (["--preset", "rnn-tiny", "--resume"], "expected a run to resume in"),
        (
            ["--preset", "rnn-tiny", "--learning-rate", "1e30", "--grad-clip", "1e30"],
            "expected a finite loss and gradient",
        ),
    ],
)
def test_command_line_reports_errors_in_one_line(
    options: list[str],
    message: str,
    script: ModuleType,
    tmp_path: Path,
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ["--run-dir", str(tmp_path / "run"), "--data-dir", str(data_dir)]
    assert main.run("train", [*options, *places]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("train_world_model: ") and message in last


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_torchrun_end_with_it(
    script: ModuleType, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents: list[int] = []
    monkeypatch.setattr(script, "launched", lambda: (0, workers))
    monkeypatch.setattr(script, "end_with", parents.append)
    assert main.run("train", ["--preset", "none", "--run-dir", "unused"]) == 2
    assert parents == ([os.getppid()] if workers > 1 else [])


def test_command_line_refuses_unknown_options(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main.run("train", ["--run-dir", str(tmp_path / "run"), "--stepz", "3"])
    assert stop.value.code == 2
    assert "--stepz" in capsys.readouterr().err


def test_help_explains_the_settings(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.run("train", ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in ("--preset", "--run-dir", "--resume", "--device", "--model.epsilon", "eq. 7"):
        assert words in text
