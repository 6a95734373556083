"""The command line that trains: what it reads, and what it records."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jumpy_mbrl.commands import main
from jumpy_mbrl.data.tasks import TaskConfig
from jumpy_mbrl.models import pretrained_info

TINY = "--preset rnn-tiny"


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_world_model")


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]


def test_presets_on_weather_take_the_file(script: ModuleType) -> None:
    options = ["--preset", "weather/ours", "--csv", "somewhere/jena.csv", "--run-dir", "runs/w"]
    arguments = script.parse([*options, "--steps", "7"])
    assert arguments.config.train_data == TaskConfig("weather", 9000, csv="somewhere/jena.csv")
    assert arguments.config.validation_data.csv == "somewhere/jena.csv"
    assert arguments.config.steps == 7
    assert script.record(options) == (
        "python scripts/train_world_model.py --preset weather/ours --csv jena.csv --run-dir w"
    )


def test_command_line_trains_and_records_itself(
    script: ModuleType, tmp_path: Path, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--preset=rnn-tiny --steps 3 --model.hidden-size 5 --device cpu"
    assert main.run("train", [*words.split(), *places]) == 0
    assert "best weights:" in capsys.readouterr().out
    info = pretrained_info(tmp_path / "run" / "best")
    command = f"python scripts/train_world_model.py {words} --run-dir run"
    assert info["training"]["command"] == command
    assert info["model"]["config"]["hidden_size"] == 5
    assert str(tmp_path) not in (tmp_path / "run" / "best" / "config.json").read_text()
    assert main.run("train", [*words.split(), *places, "--resume"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset jumpy", "unknown preset 'jumpy'"),
        ("--preset weather/ours", "needs csv"),
        (f"{TINY} --device tpu", "unknown device 'tpu'"),
        (f"{TINY} --device cuda:99", "but torch sees"),
        (f"{TINY} --steps 0", "steps to be an integer of at least 1, got 0"),
        (f"{TINY} --resume", "expected a run to resume in"),
        (f"{TINY} --learning-rate 1e30 --grad-clip 1e30", "expected a finite loss and gradient"),
    ],
)
def test_command_line_reports_errors_in_one_line(
    options: str, message: str, script: ModuleType, places: list[str], capsys: Any
) -> None:
    assert main.run("train", [*options.split(), *places]) == 2
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


def test_help_tells_what_settings_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.run("train", ["--help"])
    assert "eq. 7" in capsys.readouterr().out
