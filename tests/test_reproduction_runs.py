"""One run of the papers' table, from training to its entry and what is drawn; runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl import locks, training
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.lab.reproduce import runs, samples, workers
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig, from_pretrained
from jumpy_mbrl.training import loop

NAME = "circles/jumpy-rnn"
BEST = "best/model.safetensors"


def tiny(task: str = "circles", **changes: Any) -> training.TrainingConfig:
    values: dict[str, Any] = {
        "model": JumpyRNNConfig(TASKS[task].obs_size, 0, 8, 8, epsilon=0.5, horizon=24.0),
        "train_data": TaskConfig(task, num_sequences=30),
        "validation_data": TaskConfig(task, num_sequences=8, split="validation"),
        "device": "cpu",
    }
    values |= {"steps": 4, "batch_size": 4, "validation_interval": 2, "checkpoint_interval": 2}
    return training.TrainingConfig(**{**values, **changes})


def run(folder: Path, **changes: Any) -> dict[str, Any]:
    job = runs.Job(tiny(**changes), NAME, sequences=10, command="python it")
    return runs.run_job(job, str(folder), threads=1)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int | None) -> list[int]:
    """Notes the steps that are made, and lets the lights go out at one."""
    update, steps = loop._Run._update, list[int]()

    def counting(self: Any) -> Any:
        steps.append(self.step)
        if self.step == step:
            raise RuntimeError("the lights went out")
        return update(self)

    monkeypatch.setattr(loop._Run, "_update", counting)
    return steps


def test_the_figures_are_those_of_validate(tmp_path: Path) -> None:
    result = run(tmp_path)
    entry = result["entry"]
    assert entry["error"] is None
    model = from_pretrained(tmp_path / NAME / "best")
    held_out = make_task(TaskConfig("circles", num_sequences=10, split="evaluation"))
    expected = training.validate(model, held_out)
    assert entry["test"]["sample_mse"] == pytest.approx(expected["mse"], rel=1e-5)
    assert entry["test"]["mean_jump"] == expected["mean_jump"]
    # Training sequences are the first of those that were trained on, and not drawn anew.
    seen = make_task(TaskConfig("circles", num_sequences=30))
    assert entry["train"]["n"] == 10
    expected = training.validate(model, replace(seen, obs=seen.obs[:10]))
    assert entry["train"]["sample_mse"] == pytest.approx(expected["mse"], rel=1e-5)

    assert entry["weights"] == sum(weight.numel() for weight in model.parameters())
    assert (entry["steps"], entry["seed"], entry["device"]) == (4, 0, "cpu")
    assert entry["training_frames"] == 30 * 25 and entry["training_seconds"] > 0.0
    assert [point["step"] for point in entry["history"]] == [2, 4]
    assert entry["best_step"] in (2, 4)
    assert entry["config"]["train_data"]["task"] == "circles"
    assert {"torch", "numpy", "python", "jumpy_mbrl"} <= set(entry["versions"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path / "whole")
    folder = tmp_path / "halves" / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")  # It had stopped before its first checkpoint.
    with monkeypatch.context() as patched:
        stop_at(patched, 3)
        entry = run(tmp_path / "halves")["entry"]
    assert entry["error"] == "RuntimeError: the lights went out"
    assert "Traceback" in capsys.readouterr().err  # of what nobody expects
    assert not runs.is_finished(tiny(), folder)
    steps = stop_at(monkeypatch, None)
    entry = run(tmp_path / "halves")["entry"]
    assert steps == [2, 3] and entry["error"] is None
    assert entry["training_seconds"] == training.training_seconds(folder)
    assert (folder / BEST).read_bytes() == (tmp_path / "whole" / NAME / BEST).read_bytes()
    # A finished one is scored again, and not trained.
    assert run(tmp_path / "whole") == first and steps == [2, 3]
    (folder / "best" / "config.json").unlink()  # Half of the best weights is none.
    assert not runs.is_finished(tiny(), folder)
    assert run(tmp_path / "halves")["entry"]["error"] is None and steps == [2, 3]
    assert runs.is_finished(tiny(), folder)


def test_no_folder_of_this_machine_gets_into_the_record() -> None:
    data = TaskConfig("weather", 5, csv="/home/me/jena.csv")
    held_out = replace(data, split="validation")
    config = tiny("synthetic-weather", train_data=data, validation_data=held_out)
    record = runs.failure(runs.Job(config, "x"), "no file")["entry"]
    assert record["config"]["train_data"]["csv"] == "jena.csv"
    assert "/home" not in json.dumps(record)


# -- side by side and on other machines --------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_on_another_machine_comes_back_as_files(tmp_path: Path, shared: bool) -> None:
    there = tmp_path / "there"
    if shared:
        there.mkdir()
    job = runs.Job(tiny(), NAME, sequences=10)
    files = runs.run_job_apart(job, str(there), threads=1)["files"]
    assert {BEST, "best/config.json", "checkpoint.safetensors", "seconds.json"} <= set(files)
    assert there.exists() is shared
    folder = (there if shared else tmp_path / "here") / NAME
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    runs.keep_files(files, folder)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert runs.is_finished(tiny(), folder)
    assert from_pretrained(folder / "best").config == tiny().model
    with pytest.raises(ValueError, match=r"inside the run's folder, got '\.\./x'"):
        runs.keep_files({"../x": b""}, folder)


JOBS = [runs.Job(training.task_preset(t, "rnn"), f"{t}/rnn") for t in ("lines", "circles")]


def test_what_workers_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    result = {"entry": {"error": None}, "files": {"config.json": b"{}"}}

    def note(*arguments: Any) -> dict[str, Any]:
        made.append(arguments[:3])
        return result

    monkeypatch.setattr(workers, "run_job", note)
    finished = workers.run_all(JOBS, tmp_path, threads=3)
    assert made == [], "a run is made when it is asked for"
    assert next(finished) == (JOBS[0], result) and made == [(JOBS[0], str(tmp_path), 3)]
    assert list(finished) == [(JOBS[1], result)]

    def die() -> Any:
        raise BrokenPipeError

    def on_ray(*_: Any) -> Iterator[Any]:
        yield from ((JOBS[0], result.copy), (JOBS[1], result.copy), (JOBS[0], die))

    monkeypatch.setattr(workers, "map_on_ray", on_ray)
    with locks.own(tmp_path / "lines/rnn"):  # Another process trains there.
        *good, (_, dead) = workers.run_all(JOBS, tmp_path, ray_address="local")
        assert good == [(job, {"entry": {"error": None}}) for job in JOBS]
    error = dead["entry"]["error"]
    assert error == "the worker died (BrokenPipeError); run the command again"
    assert [path.parent.parent.name for path in tmp_path.glob("*/*/config.json")] == ["circles"]
    error = capsys.readouterr().err
    assert error.startswith("the run lines/rnn was not kept: ") and "in use by process" in error


# -- constant jumps and the mean ---------------------------------------------------------------


def test_forced_jumps_are_as_long_as_they_are_called() -> None:
    torch.manual_seed(0)
    model = JumpyRNN(JumpyRNNConfig(2, 0, 8, 8, horizon=20.0)).eval()
    data = make_task(TaskConfig("lines", num_sequences=6))
    curve = runs.forced_jumps(model, data)
    assert [point["jump"] for point in curve] == [1, 2, 4, 8, 16, 20]
    assert [point["mean_jump"] for point in curve] == pytest.approx([1, 2, 4, 20 / 3, 10, 20])
    constant = JumpyRNN(replace(model.config, constant_jump=4)).eval()
    constant.load_state_dict(model.state_dict())
    assert curve[2]["sample_mse"] == pytest.approx(training.validate(constant, data)["mse"], 1e-5)
    assert runs.forced_jumps(RNN(RNNConfig(2, 0, 8, 8)), data) == []
    assert runs.forced_jumps(constant, data) == [], "only learned jumps are forced"


def test_the_mean_sequence_is_what_knows_nothing_of_what_is_shown() -> None:
    train_data = make_task(TaskConfig("lines", 3))
    test_data = make_task(TaskConfig("lines", 4, split="evaluation"))
    heights = test_data.obs[:, 0, 1] - train_data.obs[:, 0, 1].mean()
    expected = np.square(heights).mean() / 2  # Time, the other half, is always the same.
    assert runs.mean_sequence_mse(train_data, test_data) == pytest.approx(expected, rel=1e-4)
    pictures = make_task(TaskConfig("pixel-billiards1d", 20))
    assert 0.001 < runs.mean_sequence_mse(pictures, pictures) < 0.05, "they are from 0 to 1"


# -- samples -----------------------------------------------------------------------------------


def samples_of(task: str, nan: bool = False) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    data = make_task(TaskConfig(task, num_sequences=4, split="evaluation"))
    size = TASKS[task].obs_size
    model = RNN(RNNConfig(size, 0, 8, 8, residual=size < 9)).eval()
    if nan:
        torch.nn.init.constant_(model.decoder.last.bias, torch.nan)
    found = samples.record_samples(model, data)
    json.dumps(found, allow_nan=False)
    return data, found


def test_samples_of_coordinates() -> None:
    data, found = samples_of("billiards2d")
    assert len(found["truth"]) == len(found["ways"]) == 2
    assert found["truth"][1] == pytest.approx(data.obs[1], rel=1e-4)
    way = found["ways"][0]
    assert (way["time"][0], way["time"][1], way["time"][-1]) == (3.0, 3.25, 44.0)
    assert np.shape(way["obs"]) == (len(way["time"]), 4)
    assert way["tick_times"] == [3.0 + k for k in range(41)]
    assert np.shape(way["tick_obs"]) == (41, 4) and way["tick_obs"][1] == way["obs"][4]
    assert way["obs"][0] == pytest.approx(data.obs[0, 3], rel=1e-4)
    _, found = samples_of("circles", nan=True)
    assert found["ways"][0]["obs"][-1] == [None, None]


def test_samples_of_weather_are_in_units() -> None:
    _, found = samples_of("synthetic-weather")
    temperature, pressure = np.moveaxis(np.array(found["truth"]), -1, 0)
    assert temperature.shape == (3, 80)
    assert temperature.min() > -40.0 and temperature.max() < 50.0
    assert pressure.min() > 900.0 and pressure.max() < 1100.0
    assert np.shape(found["ways"][2]["tick_obs"]) == (60, 2)


def test_samples_of_pictures() -> None:
    data, found = samples_of("pixel-billiards1d")
    assert len(found["truth"]) == 1 and len(found["film"]) == samples.FILM_FRAMES
    assert (found["film"][0], found["film"][-1]) == (4.0, 44.0)
    first = np.frombuffer(bytes.fromhex(found["truth"][0][0]), dtype=np.uint8)
    assert np.array_equal(first, data.obs[0, 4])
    assert {len(bytes.fromhex(text)) for text in found["ways"][0]["obs"]} == {784}
