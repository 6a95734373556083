"""One run of the papers' table, from training to its entry."""

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
from jumpy_mbrl.lab.reproduce import runs
from jumpy_mbrl.lab.reproduce.runs import (
    Job,
    _with_files,
    failure,
    forced_jumps,
    is_finished,
    keep_files,
    mean_sequence_mse,
    run_job,
    run_job_apart,
)
from jumpy_mbrl.locks import own
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig, from_pretrained
from jumpy_mbrl.training import (
    TrainingConfig,
    TrainingDivergedError,
    training_seconds,
    validate,
)
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


def run(job: Job, folder: Path) -> dict[str, Any]:
    return run_job(job, str(folder), threads=1)


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
    monkeypatch.setattr(runs, "train", refuse)
    assert run(job_of(), tmp_path) == first
    assert run(job_of(), tmp_path / "new")["entry"]["error"] == "OSError: it was trained"


def contents(folder: Path) -> dict[str, Any]:
    """Its files, but for the seconds."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["config.json"] = json.loads(files["config.json"])
    assert files["config.json"]["training"].pop("seconds") > 0.0
    return files


@pytest.mark.parametrize("torn", ["config.json", "model.safetensors", "neither fits"])
def test_half_of_the_best_weights_is_written_anew(torn: str, tmp_path: Path) -> None:
    first = run(job_of(), tmp_path)
    best = (tmp_path / "circles/jumpy-rnn" / BEST).parent
    files = contents(best)
    if torn == "neither fits":
        (best / "model.safetensors").write_bytes(b"of another validation")
    else:
        (best / torn).unlink()
    assert not is_finished(tiny(), best.parent)
    assert run(job_of(), tmp_path) == first
    assert contents(best) == files


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
    assert entry["training_seconds"] == training_seconds(tmp_path / "halves/circles/jumpy-rnn")
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
    record = failure(job_of(tiny("synthetic-weather", "rnn", **data)), "no file")["entry"]
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
    assert {BEST, "best/config.json", "checkpoint.safetensors", "seconds.json"} <= set(
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


def test_files_are_not_kept_where_another_process_trains(tmp_path: Path) -> None:
    with own(tmp_path):
        assert _with_files({}, tmp_path) == {"files": {}}, "the lock is not of the run"
        with pytest.raises(BlockingIOError, match="is in use by process"):
            keep_files({"config.json": b"{}"}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"inside the run's folder, got '\.\./x'"):
        keep_files({"../x": b""}, tmp_path / "run")


# -- constant jumps --------------------------------------------------------------------------


def test_forced_jumps_are_as_long_as_they_are_called() -> None:
    torch.manual_seed(0)
    model = JumpyRNN(JumpyRNNConfig(2, 0, 8, 8, horizon=20.0)).eval()
    data = make_task(TaskConfig("lines", num_sequences=6))
    curve = forced_jumps(model, data)
    assert [point["jump"] for point in curve] == [1, 2, 4, 8, 16, 20]
    assert [point["mean_jump"] for point in curve] == pytest.approx([1, 2, 4, 20 / 3, 10, 20])
    constant = JumpyRNN(replace(model.config, constant_jump=4)).eval()
    constant.load_state_dict(model.state_dict())
    assert curve[2]["sample_mse"] == pytest.approx(validate(constant, data)["mse"], rel=1e-5)


def test_only_models_with_learned_jumps_are_forced() -> None:
    data = make_task(TaskConfig("lines", num_sequences=2))
    assert forced_jumps(RNN(RNNConfig(2, 0, 8, 8)), data) == []
    assert forced_jumps(JumpyRNN(JumpyRNNConfig(2, 0, 8, 8, constant_jump=2)), data) == []


def test_the_mean_sequence_is_what_knows_nothing_of_what_is_shown() -> None:
    train_data = make_task(TaskConfig("lines", 3))
    test_data = make_task(TaskConfig("lines", 4, split="evaluation"))
    heights = test_data.obs[:, 0, 1] - train_data.obs[:, 0, 1].mean()
    expected = np.square(heights).mean() / 2  # Time, the other half, is always the same.
    assert mean_sequence_mse(train_data, test_data) == pytest.approx(expected, rel=1e-4)


def test_the_mean_of_pictures_is_from_0_to_1() -> None:
    data = make_task(TaskConfig("pixel-billiards1d", 20))
    assert 0.001 < mean_sequence_mse(data, data) < 0.05
