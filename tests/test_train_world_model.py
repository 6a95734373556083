"""The command line that trains: what it reads, and what it records."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from jumpy_mbrl.data.tasks import TaskConfig


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_world_model")


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
    assert script.main(["--preset", "weather/ours", "--run-dir", "w"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train_world_model: ") and "needs csv" in error
    assert len(error.splitlines()) == 1
