"""One run of the papers' table, from training to its entry, and the table itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.evaluation import table1
from jumpy_mbrl.evaluation.table1 import (
    FILM_FRAMES,
    PAPERS,
    Job,
    forced_jumps,
    format_report,
    in_order,
    is_finished,
    keep_files,
    record_samples,
    run_job,
    run_job_apart,
)
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig, from_pretrained
from jumpy_mbrl.training import TrainingConfig, TrainingDivergedError, validate
from jumpy_mbrl.training import loop as training_loop

BEST = "best/model.safetensors"


def tiny(task: str = "circles", model: str = "jumpy-rnn", **changes: Any) -> TrainingConfig:
    size = TASKS[task].obs_size
    configs: Mapping[str, Any] = {
        "rnn": RNNConfig(size, 0, 8, 8, residual=False),
        "jumpy-rnn": JumpyRNNConfig(size, 0, 8, 8, epsilon=0.5, horizon=24.0),
    }
    values: dict[str, Any] = {
        "train_data": TaskConfig(task, num_sequences=30),
        "validation_data": TaskConfig(task, num_sequences=8, split="validation"),
        "steps": 4,
        "batch_size": 4,
        "validation_interval": 2,
        "checkpoint_interval": 2,
        "device": "cpu",
        **changes,
    }
    return TrainingConfig(model=configs[model], **values)


def job_of(config: TrainingConfig | None = None, folder: str = "circles/jumpy-rnn") -> Job:
    return Job(config or tiny(), folder, sequences=10, command="python it")


def run(job: Job, runs: Path) -> dict[str, Any]:
    return run_job(job, str(runs), threads=1)


# -- one run ---------------------------------------------------------------------------------


def test_the_figures_are_those_of_validate(tmp_path: Path) -> None:
    result = run(job_of(), tmp_path)
    entry = result["entry"]
    assert entry["error"] is None
    model = from_pretrained(tmp_path / "circles/jumpy-rnn/best")
    held_out = make_task(TaskConfig("circles", num_sequences=10, split="evaluation"))
    expected = validate(model, held_out)
    assert entry["test"]["sample_mse"] == pytest.approx(expected["mse"], rel=1e-5)
    assert entry["test"]["mean_jump"] == expected["mean_jump"]
    # Training sequences are the first of those that were trained on, and not drawn anew.
    seen = make_task(TaskConfig("circles", num_sequences=30))
    assert entry["train"]["n"] == 10
    expected = validate(model, replace(seen, obs=seen.obs[:10]))
    assert entry["train"]["sample_mse"] == pytest.approx(expected["mse"], rel=1e-5)

    assert entry["weights"] == sum(weight.numel() for weight in model.parameters())
    assert (entry["steps"], entry["seed"], entry["device"]) == (4, 0, "cpu")
    assert entry["training_frames"] == 30 * 25
    assert entry["training_seconds"] > 0.0
    assert [point["step"] for point in entry["history"]] == [2, 4]
    assert entry["best_step"] in (2, 4)
    assert entry["config"]["train_data"]["task"] == "circles"
    assert {"torch", "numpy", "python", "jumpy_mbrl"} <= set(entry["versions"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_finished_run_is_scored_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("it was trained")

    first = run(job_of(), tmp_path)
    monkeypatch.setattr(table1, "train", refuse)
    assert run(job_of(), tmp_path) == first
    assert run(job_of(), tmp_path / "new")["entry"]["error"] == "OSError: it was trained"


def test_a_half_done_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(job_of(), tmp_path / "whole")
    update = training_loop._Run._update
    started_at: list[int] = []

    def crashing(self: Any) -> Any:
        started_at.append(self.step)
        if self.step == 3:
            raise RuntimeError("the lights went out")
        return update(self)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop._Run, "_update", crashing)
        entry = run(job_of(), tmp_path / "halves")["entry"]
    assert entry["error"] == "RuntimeError: the lights went out"
    assert "Traceback" in capsys.readouterr().err  # of what nobody expects
    assert not is_finished(tiny(), tmp_path / "halves/circles/jumpy-rnn")

    started_at.clear()

    def counting(self: Any) -> Any:
        started_at.append(self.step)
        return update(self)

    monkeypatch.setattr(training_loop._Run, "_update", counting)
    entry = run(job_of(), tmp_path / "halves")["entry"]
    assert started_at == [2, 3] and entry["error"] is None
    # Only the last two steps were timed to their end; the rest is taken to be as fast.
    timing = json.loads((tmp_path / "halves/circles/jumpy-rnn/timing.json").read_text())
    assert timing["steps"] == 2
    assert entry["training_seconds"] == pytest.approx(2.0 * timing["seconds"])
    whole, halves = (tmp_path / name / "circles/jumpy-rnn" / BEST for name in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()


def test_a_run_that_stopped_before_its_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "circles/jumpy-rnn"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert run(job_of(), tmp_path)["entry"]["error"] is None


def test_a_run_that_diverges_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(self: Any, loss: float, norm: float) -> None:
        raise TrainingDivergedError(f"bad loss, see {self.path}")

    monkeypatch.setattr(training_loop._Run, "_check_finite", diverge)
    result = run(job_of(), tmp_path)
    assert result["samples"] is None
    error = result["entry"]["error"]
    assert error.startswith("TrainingDivergedError: bad loss, see circles/jumpy-rnn/")
    assert str(tmp_path) not in json.dumps(result)
    assert result["entry"]["config"]["steps"] == 4
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("steps", [2, 4])
def test_another_run_in_the_folder_is_reported(tmp_path: Path, steps: int) -> None:
    run(job_of(), tmp_path)
    entry = run(job_of(tiny(steps=steps, learning_rate=0.5)), tmp_path)["entry"]
    assert "made with other settings (learning_rate=0.5 instead of 0.001" in entry["error"]


def test_the_number_of_threads_is_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_job(job_of(), str(tmp_path), threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_no_folder_of_this_machine_gets_into_the_record() -> None:
    data = {
        "train_data": TaskConfig("weather", 5, csv="/home/me/jena.csv"),
        "validation_data": TaskConfig("weather", 5, split="validation", csv="/home/me/jena.csv"),
    }
    record = table1.failure(job_of(tiny("synthetic-weather", "rnn", **data)), "no file")["entry"]
    assert record["config"]["train_data"]["csv"] == "jena.csv"
    assert "/home" not in json.dumps(record)


def test_jobs_are_for_tasks() -> None:
    with pytest.raises(ValueError, match="sequences of a task"):
        Job(
            tiny(
                train_data=DatasetConfig(num_trajectories=3),
                validation_data=DatasetConfig(num_trajectories=3, split="validation"),
            ),
            "x",
        )
    with pytest.raises(ValueError, match="sequences must be at least 1, got 0"):
        Job(tiny(), "x", sequences=0)


# -- on another machine ----------------------------------------------------------------------


def test_without_a_shared_folder_the_run_comes_back_as_files(tmp_path: Path) -> None:
    result = run_job_apart(job_of(), str(tmp_path / "elsewhere"), threads=1)
    assert not (tmp_path / "elsewhere").exists()
    assert {BEST, "best/config.json", "checkpoint.safetensors", "timing.json"} <= set(
        result["files"]
    )
    keep_files(result["files"], tmp_path / "here")
    assert is_finished(tiny(), tmp_path / "here")
    assert from_pretrained(tmp_path / "here/best").config == tiny().model


def test_a_shared_folder_is_used(tmp_path: Path) -> None:
    result = run_job_apart(job_of(), str(tmp_path), threads=1)
    folder = tmp_path / "circles/jumpy-rnn"
    assert is_finished(tiny(), folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    keep_files(result["files"], folder)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_files_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"inside the run's folder, got '\.\./x'"):
        keep_files({"../x": b""}, tmp_path / "run")


# -- constant jumps --------------------------------------------------------------------------


def test_forced_jumps_are_as_long_as_they_are_called() -> None:
    torch.manual_seed(0)
    model = JumpyRNN(JumpyRNNConfig(2, 0, 8, 8, horizon=20.0)).eval()
    data = make_task(TaskConfig("lines", num_sequences=6))
    curve = forced_jumps(model, data)
    assert [point["jump"] for point in curve] == [1, 2, 4, 8, 16]
    assert [point["mean_jump"] for point in curve] == pytest.approx([1, 2, 4, 20 / 3, 10])
    constant = JumpyRNN(replace(model.config, constant_jump=4)).eval()
    constant.load_state_dict(model.state_dict())
    assert curve[2]["sample_mse"] == pytest.approx(validate(constant, data)["mse"], rel=1e-5)


def test_only_models_with_learned_jumps_are_forced() -> None:
    data = make_task(TaskConfig("lines", num_sequences=2))
    assert forced_jumps(RNN(RNNConfig(2, 0, 8, 8)), data) == []
    assert forced_jumps(JumpyRNN(JumpyRNNConfig(2, 0, 8, 8, constant_jump=2)), data) == []


# -- samples ---------------------------------------------------------------------------------


def test_samples_of_coordinates() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("billiards2d", num_sequences=3))
    model = RNN(RNNConfig(4, 0, 8, 8)).eval()
    found = record_samples(model, data)
    assert len(found["truth"]) == len(found["ways"]) == 2
    assert found["truth"][1] == pytest.approx(data.obs[1], rel=1e-4)
    way = found["ways"][0]
    assert (way["time"][0], way["time"][1], way["time"][-1]) == (3.0, 3.25, 44.0)
    assert np.shape(way["obs"]) == (len(way["time"]), 4)
    assert way["tick_times"] == [3.0 + k for k in range(41)]
    assert np.shape(way["tick_obs"]) == (41, 4)
    assert way["tick_obs"][1] == way["obs"][4]
    assert way["obs"][0] == pytest.approx(data.obs[0, 3], rel=1e-4)


def test_samples_of_pictures() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("pixel-billiards1d", num_sequences=2))
    found = record_samples(RNN(RNNConfig(784, 0, 8, 8, residual=False)).eval(), data)
    assert len(found["truth"]) == 1 and len(found["film"]) == FILM_FRAMES
    assert (found["film"][0], found["film"][-1]) == (4.0, 44.0)
    first = np.frombuffer(bytes.fromhex(found["truth"][0][0]), dtype=np.uint8)
    assert np.array_equal(first, data.obs[0, 4])
    pictures = [bytes.fromhex(text) for text in found["ways"][0]["obs"]]
    assert {len(picture) for picture in pictures} == {784}


def test_samples_of_weather_are_in_units() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("synthetic-weather", num_sequences=4, split="evaluation"))
    found = record_samples(RNN(RNNConfig(5, 0, 8, 8)).eval(), data)
    truth = np.array(found["truth"])
    assert truth.shape == (3, 80, 2)
    assert truth[..., 0].min() > -40.0 and truth[..., 0].max() < 50.0
    assert truth[..., 1].min() > 900.0 and truth[..., 1].max() < 1100.0
    assert np.shape(found["ways"][2]["tick_obs"]) == (60, 2)


def test_samples_that_are_not_finite_are_none() -> None:
    data = make_task(TaskConfig("circles", num_sequences=2))
    model = RNN(RNNConfig(2, 0, 8, 8)).eval()
    torch.nn.init.constant_(model.decoder.last.bias, torch.nan)
    way = record_samples(model, data)["ways"][0]
    assert way["obs"][-1] == [None, None]
    json.dumps(way, allow_nan=False)


# -- the table -------------------------------------------------------------------------------


def test_figures_of_the_papers() -> None:
    assert PAPERS["billiards2d"]["rnn"]["sample_mse"] == 2.1e-2
    assert PAPERS["billiards2d"]["jumpy-rnn"] == {
        "train_mse": 3.55e-5,
        "test_mse": 3.73e-5,
        "sample_mse": 1.76e-2,
        "mean_jump": 4.5,
    }
    assert PAPERS["lines"]["jumpy-rnn"]["mean_jump"] == 20
    assert PAPERS["weather"]["jump-2"]["sample_mse"] == 1.38e-2
    assert set(PAPERS) == set(TASKS) - {"synthetic-weather"}


def scores(sample_mse: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "n": 10,
        "sample_mse": sample_mse,
        "sample_se": None if sample_mse is None else 0.1 * sample_mse,
        "one_step_mse": 2e-4,
        "mean_jump": 12.345,
        "ticks": 2.0,
        **changes,
    }


def entry_of(sample_mse: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "error": None,
        "train": scores(sample_mse, one_step_mse=1e-4),
        "test": scores(sample_mse),
        "weights": 190_659,
        "steps": 10_000,
        "training_seconds": 1234.5,
        "training_frames": 225_000,
        **changes,
    }


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_in_markdown() -> None:
    tasks = {
        "synthetic-weather": {"ours": entry_of(None, training_seconds=None)},
        "circles": {
            "ours": entry_of(5.25e-4),
            "rnn": {"error": "OSError: disk |\nfull"},
        },
    }
    text = format_report({"quick": False, "tasks": tasks})
    rows = rows_of(text)
    header = ["task", "papers' RNN", "papers' jumpy RNN", "rnn", "ours"]
    assert rows[0] == header
    assert rows[2] == ["circles", "3.98e-04 (1)", "5.25e-04 (17)", "failed", "5.25e-04 (12.3)"]
    assert rows[3] == ["synthetic-weather", "-", "-", "-", "not finite (12.3)"]
    full = rows[4:]
    assert full[0][:6] == ["task", "model", "train MSE", "test MSE", "sample MSE", "mean jump"]
    assert full[2][:3] == ["circles", "*papers' rnn*", "*3.00e-06*"]
    assert full[4][:3] == ["circles", "rnn", "failed: OSError: disk \\| full"]
    assert full[5] == [
        "circles",
        "ours",
        "1.00e-04",
        "2.00e-04",
        "5.25e-04 ± 5.3e-05",
        "12.3",
        "190,659",
        "10,000",
        "1,234",
        "225,000",
    ]
    assert full[6][:2] == ["synthetic-weather", "ours"] and full[6][-2] == "-"
    assert {line.count(" | ") for line in text.splitlines() if line.startswith("| circles")} == {
        4,
        9,
    }
    assert "mean nothing" not in text


def test_a_quick_table_says_so() -> None:
    text = format_report({"quick": True, "tasks": {"circles": {"rnn": entry_of(1.0)}}})
    assert "figures mean nothing" in text


def test_tasks_and_models_stand_in_the_order_of_the_papers() -> None:
    tasks = {"circles": {"ours": 1, "rnn": 2}, "lines": {"jumpy-rnn": 3, "jump-2": 4}}
    found = in_order(tasks)
    assert list(found) == ["lines", "circles"]
    assert list(found["circles"]) == ["rnn", "ours"]
    assert list(found["lines"]) == ["jump-2", "jumpy-rnn"]
