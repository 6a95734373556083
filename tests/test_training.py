"""The training loop: what it learns, that it resumes exactly, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.loading import load_data
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.devices import resolve_device
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.models import (
    RNN,
    JumpyRNN,
    JumpyRNNConfig,
    RNNConfig,
    from_pretrained,
    pretrained_info,
)
from jumpy_mbrl.models.bodies.event_jump import EventJumpConfig
from jumpy_mbrl.models.latent_jump import LatentJump, LatentJumpConfig
from jumpy_mbrl.training import (
    PRESETS,
    TrainingConfig,
    TrainingDivergedError,
    preset,
    train,
    training_seconds,
    validate,
)
from jumpy_mbrl.training import loop as training_loop
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import differences
from jumpy_mbrl.training.stopwatch import SECONDS, Stopwatch

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "train_world_model.py"
CHECKPOINT = "checkpoint.safetensors"

TABLE = TableConfig(num_frames=12)
SHORT: dict[str, Any] = {
    "train_data": DatasetConfig(table=TABLE, num_trajectories=200),
    "validation_data": DatasetConfig(table=TABLE, num_trajectories=20, split="validation"),
    "steps": 23,
    "batch_size": 8,
    "validation_interval": 4,
    "checkpoint_interval": 5,
    "device": "cpu",
    "threads": 1,
}
RUNS = {
    "rnn": TrainingConfig(model=RNNConfig(hidden_size=8, mlp_size=8), **SHORT),
    "rnn in bfloat16": TrainingConfig(
        model=RNNConfig(hidden_size=8, mlp_size=8), precision="bfloat16", **SHORT
    ),
    "rnn by muon, averaged": TrainingConfig(
        model=RNNConfig(hidden_size=8, mlp_size=8), optimizer="muon", average=0.9, **SHORT
    ),
    "jumpy-rnn": TrainingConfig(
        model=JumpyRNNConfig(hidden_size=8, mlp_size=8, epsilon=0.05), **SHORT
    ),
    "event-jump": replace(PRESETS["event-jump-tiny"], steps=23, checkpoint_interval=5, threads=1),
    "latent-jump": TrainingConfig(
        model=LatentJumpConfig(2, 0, window=1, hidden_size=4, mlp_size=8, noise=0.01),
        **{
            **SHORT,
            "train_data": TaskConfig("circles", 50),
            "validation_data": TaskConfig("circles", 20, split="validation"),
        },
    ),
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_world_model")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def run(config: TrainingConfig, folder: Path, data_dir: Path, **options: Any) -> Path:
    return train(config, folder, data_dir=data_dir, progress=False, **options)


def assert_same_run(first: Path, second: Path) -> None:
    for name in (CHECKPOINT, "best/model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    records = [pretrained_info(run / "best") for run in (first, second)]
    assert all(record["training"].pop("seconds") > 0.0 for record in records)
    assert records[0] == records[1]


class CrashError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that lets the given update (counted from 1) crash, or none."""
    update = training_loop._Run._update

    def set_step(step: int | None) -> None:
        def crashing(self: Any) -> Any:
            if self.step + 1 == step:
                raise CrashError
            return update(self)

        monkeypatch.setattr(training_loop._Run, "_update", crashing)

    yield set_step


# -- what a run leaves -----------------------------------------------------------------------


def test_a_run_leaves_a_model_with_its_record(tmp_path: Path, data_dir: Path) -> None:
    best = run(RUNS["jumpy-rnn"], tmp_path / "run", data_dir, command="python train it")
    assert best == tmp_path / "run" / "best"
    assert from_pretrained(best).config == RUNS["jumpy-rnn"].model
    info = pretrained_info(best)
    assert info["training"]["command"] == "python train it"
    assert info["training"]["config"] == json.loads(json.dumps(RUNS["jumpy-rnn"].to_dict()))
    assert info["data"] == RUNS["jumpy-rnn"].train_data.to_dict()
    assert info["metrics"]["validation_mse"] > 0
    assert info["metrics"]["validation_mean_jump"] >= 1.0
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_the_best_weights_are_those_of_the_best_validation(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], learning_rate=0.1, steps=40)
    folder = run(config, tmp_path / "run", data_dir)
    checkpoint = Checkpoint.load(tmp_path / "run" / CHECKPOINT)
    assert [entry["step"] for entry in checkpoint.history] == [4.0 * k for k in range(1, 11)]
    lowest = min(checkpoint.history, key=lambda entry: entry["mse"])
    assert lowest["step"] < 40, "the problem must be one whose last weights are not the best"
    assert checkpoint.best == lowest
    figures = validate(from_pretrained(folder), load_data(config.validation_data, data_dir))
    assert figures == {name: lowest[name] for name in ("mse", "mean_jump")}
    assert pretrained_info(folder)["metrics"]["validation_step"] == lowest["step"]


def test_training_lowers_the_error_of_standing_still(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], model=RNNConfig(hidden_size=24, mlp_size=24), steps=500)
    config = replace(config, batch_size=32, learning_rate=1e-2, schedule="cosine")
    folder = run(config, tmp_path / "run", data_dir)
    data = load_data(config.validation_data, data_dir)
    still = float(np.mean((data.obs[:, 4:] - data.obs[:, 3:4]) ** 2))
    assert pretrained_info(folder)["metrics"]["validation_mse"] < 0.8 * still


def test_twice_the_same_run_gives_the_same_bytes(tmp_path: Path, data_dir: Path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(len(name) + ord(name))
        run(RUNS["jumpy-rnn"], tmp_path / name, data_dir)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    run(replace(RUNS["jumpy-rnn"], seed=1), tmp_path / "c", data_dir)
    assert (tmp_path / "a" / CHECKPOINT).read_bytes() != (tmp_path / "c" / CHECKPOINT).read_bytes()


def test_global_random_state_and_threads_are_left_alone(tmp_path: Path, data_dir: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(replace(RUNS["rnn"], steps=2, threads=threads + 1), tmp_path / "run", data_dir)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_run_does_without_tensorboard(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(replace(RUNS["rnn"], steps=2), tmp_path / "run", data_dir)
    assert not list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-tiny")])
def test_tiny_presets_run(name: str, tmp_path: Path, data_dir: Path) -> None:
    config = replace(PRESETS[name], steps=2, device="cpu")
    assert from_pretrained(run(config, tmp_path / "run", data_dir)).config == config.model


def recorded(seed: int = 0) -> Recording:
    """Random walks that are pushed at every third frame."""
    rng = np.random.default_rng(seed)
    action = np.zeros((30, 14, 1), np.float32)
    action[:, 1:-1:3] = rng.uniform(-1.0, 1.0, (30, 4, 1))
    pushed = np.cumsum(0.1 * action, axis=1) - 0.1 * action
    return Recording(pushed.repeat(2, axis=2), action, np.zeros((30, 13)), warm_up=2)


def recorded_run(folder: Path) -> TrainingConfig:
    return TrainingConfig(
        model=LatentJumpConfig(2, 1, window=2, hidden_size=4, mlp_size=8),
        **{
            **SHORT,
            "train_data": recorded().save(folder / "train.npz"),
            "validation_data": recorded(seed=1).save(folder / "validation.npz"),
        },
    )


def test_a_run_on_recordings_resumes_with_the_same_data(
    tmp_path: Path, data_dir: Path, crash_at: Any
) -> None:
    config = recorded_run(tmp_path)
    whole = run(config, tmp_path / "whole", data_dir)
    assert pretrained_info(whole)["data"] == config.train_data.to_dict()
    crash_at(13)
    with pytest.raises(CrashError):
        run(config, tmp_path / "killed", data_dir)
    crash_at(None)
    run(config, tmp_path / "killed", data_dir, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    other = recorded(seed=2).save(tmp_path / "train.npz")
    with pytest.raises(ValueError, match=r"train_data\.sha256="):
        run(replace(config, train_data=other), tmp_path / "killed", data_dir, resume=True)
    with pytest.raises(ValueError, match="changed or recorded anew"):
        run(config, tmp_path / "killed", data_dir, resume=True)


def test_recordings_are_validated_on_recordings(tmp_path: Path) -> None:
    config = recorded_run(tmp_path)
    with pytest.raises(ValueError, match="or one task, got recorded and TableConfig"):
        replace(config, validation_data=DatasetConfig(split="validation"))


def test_validation_gives_all_later_actions() -> None:
    data = recorded()
    torch.manual_seed(0)
    model = RNN(RNNConfig(2, 1, hidden_size=8, mlp_size=8))
    obs, action = torch.from_numpy(data.obs), torch.from_numpy(data.action)
    times = [float(t) for t in range(1, 13)]
    with torch.no_grad():
        state = model.observe(obs[:, :2], action[:, :2])
        imagined = model.imagine(state, times, action[:, [1, 4, 7, 10]], (0.0, 3.0, 6.0, 9.0))
    wanted = float((imagined.obs - obs[:, 2:]).square().mean())
    assert validate(model, data)["mse"] == pytest.approx(wanted, rel=1e-5)
    action[:, 4:] = 0.0
    first_alone = Recording(data.obs, action.numpy(), data.reward, data.warm_up)
    assert validate(model, first_alone)["mse"] != pytest.approx(wanted, rel=1e-3)


def test_validation_is_the_open_loop_error_after_the_shot() -> None:
    data = make_dataset(DatasetConfig(num_trajectories=7, split="validation"))
    torch.manual_seed(0)
    model = RNN(RNNConfig(hidden_size=8, mlp_size=8))
    obs, action = torch.from_numpy(data.obs), torch.from_numpy(data.action)
    hidden, now = torch.zeros(7, 8), obs[:, 0]
    errors = []
    for t in range(44):
        hidden = model._tick(hidden, now, action[:, t]).detach()
        change = model.decoder(hidden).detach()
        if t < 3:
            now = obs[:, t + 1]
        else:
            now = now + change
            errors.append((now - obs[:, t + 1]).square())
    figures = validate(model, data)
    assert figures["mse"] == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)
    assert figures["mean_jump"] == 1.0


def small_latent_jump(obs_size: int, action_size: int) -> LatentJump:
    torch.manual_seed(0)
    model = LatentJump(LatentJumpConfig(obs_size, action_size, 4, 6, 8, 2, 7))
    torch.nn.init.normal_(model.encoder.last.weight)
    torch.nn.init.normal_(model.hazard.last.weight)
    return model


@pytest.mark.parametrize("task", ["billiards1d", "pixel-billiards1d"])
def test_validation_of_a_task_is_the_error_of_all_frames_not_shown(task: str) -> None:
    data = make_task(TaskConfig(task, 7, split="validation"))
    model = small_latent_jump(data.obs.shape[2], 0)
    scale = 255.0 if task.startswith("pixel") else 1.0
    obs = torch.from_numpy(data.obs.astype(np.float32) / np.float32(scale))
    errors, ticks = [], 0
    with torch.no_grad():
        for row in obs:
            state = model.observe(row[None, :4])
            imagined = model.imagine(state, [float(t) for t in range(1, 42)])
            errors.append((imagined.obs[0] - row[4:]).square())
            ticks += int(imagined.ticks)
    expected = float(torch.stack(errors).mean())
    # One batch, uneven batches, and one sequence at a time.
    for batch_size in (1000, 7, 3, 1):
        figures = validate(model, data, batch_size)
        assert figures["mse"] == pytest.approx(expected, rel=1e-5)
        assert figures["mean_jump"] == pytest.approx(7 * 41 / ticks)
    assert 1.0 < figures["mean_jump"] < 7.0


def test_validation_of_shots_in_several_batches() -> None:
    data = make_dataset(DatasetConfig(TableConfig(num_frames=15), 9, split="validation"))
    model = small_latent_jump(4, 2)
    whole = validate(model, data)
    pieces = validate(model, data, batch_size=4)
    assert pieces["mse"] == pytest.approx(whole["mse"], rel=1e-5)
    assert pieces["mean_jump"] == whole["mean_jump"]
    obs, action = torch.from_numpy(data.obs), torch.from_numpy(data.action)
    times = [float(t) for t in range(1, 12)]
    imagined = model.imagine(model.observe(obs[:, :4]), times, action[:, 3])
    mse = float((imagined.obs - obs[:, 4:]).square().mean().detach())
    assert whole["mse"] == pytest.approx(mse, rel=1e-6)
    blind = model.imagine(model.observe(obs[:, :4]), times)
    assert not torch.allclose(blind.obs, imagined.obs), "the shot should matter to the model"


def test_the_frames_shown_are_the_datas_own() -> None:
    table = TableConfig(num_frames=12, lead_in=6)
    data = make_dataset(DatasetConfig(table, 5, split="validation"))
    model = small_latent_jump(4, 2)
    obs, action = torch.from_numpy(data.obs), torch.from_numpy(data.action)
    times = [float(t) for t in range(1, 6)]
    imagined = model.imagine(model.observe(obs[:, :7]), times, action[:, 6])
    mse = float((imagined.obs - obs[:, 7:]).square().mean().detach())
    assert validate(model, data)["mse"] == pytest.approx(mse, rel=1e-6)


# -- resuming --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNS)
def test_resumed_run_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, data_dir: Path, crash_at: Any
) -> None:
    config = RUNS[kind]
    crash_at(None)
    run(config, tmp_path / "whole", data_dir)
    # Before any checkpoint, right after one, between two, and at the last step.
    for step in (3, 6, 14, config.steps):
        crash_at(step)
        with pytest.raises(CrashError):
            run(config, tmp_path / "cut", data_dir, resume=step > 3)
    crash_at(None)
    run(config, tmp_path / "cut", data_dir, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_seconds_are_those_of_the_whole_run_without_pauses(tmp_path: Path) -> None:
    now = [100.0]
    first, second = Stopwatch(lambda: now[0]), Stopwatch(lambda: now[0])
    now[0] += 5.0
    with first.paused():
        now[0] += 60.0
    first.save(tmp_path)
    assert training_seconds(tmp_path) == 5.0 and second.seconds == 65.0
    second.restore(tmp_path)
    now[0] += 1.0
    assert second.seconds == 71.0
    second.restore(tmp_path / "nothing saved")
    assert second.seconds == 71.0


def test_a_resumed_run_counts_on(tmp_path: Path, data_dir: Path) -> None:
    run(RUNS["rnn"], tmp_path, data_dir)
    (tmp_path / SECONDS).write_text('{"seconds": 5000.0}')
    # As if it had been killed long before its end.
    checkpoint = Checkpoint.load(tmp_path / CHECKPOINT)
    replace(checkpoint, step=5).save(tmp_path / CHECKPOINT)
    run(RUNS["rnn"], tmp_path, data_dir, resume=True)
    assert 5000.0 < training_seconds(tmp_path) < 5060.0


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, data_dir: Path) -> None:
    run(RUNS["rnn"], tmp_path / "run", data_dir)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    best = (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
    run(RUNS["rnn"], tmp_path / "run", data_dir, resume=True)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before
    assert (tmp_path / "run" / "best" / "model.safetensors").read_bytes() == best


def test_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(RUNS["rnn"], tmp_path / "whole", data_dir)
    write = Path.write_bytes
    checkpoints = 0

    def half_write(path: Path, content: Any) -> int:
        nonlocal checkpoints
        checkpoints += "checkpoint" in path.name
        if checkpoints == 3:
            write(path, content[: len(content) // 2])
            raise CrashError
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", half_write)
    with pytest.raises(CrashError):
        run(RUNS["rnn"], tmp_path / "cut", data_dir)
    monkeypatch.undo()
    assert Checkpoint.load(tmp_path / "cut" / CHECKPOINT).step == 10
    run(RUNS["rnn"], tmp_path / "cut", data_dir, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_resumed_run_has_the_log_of_one_that_was_not_interrupted(
    tmp_path: Path,
    data_dir: Path,
    crash_at: Any,
    read_board: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_loop, "_LOG_INTERVAL", 1)
    run(RUNS["rnn"], tmp_path / "whole", data_dir)
    for step in (4, 14, 14):  # Before the first checkpoint, and twice after the second.
        crash_at(step)
        with pytest.raises(CrashError):
            run(RUNS["rnn"], tmp_path / "cut", data_dir, resume=step > 4)
        for path in (tmp_path / "cut").glob("events.*"):  # TensorBoard reads by name, by the second
            path.rename(path.with_name(f"events.out.tfevents.0.{path.name}"))
    crash_at(None)
    run(RUNS["rnn"], tmp_path / "cut", data_dir, resume=True)
    shown = read_board(tmp_path / "cut")
    assert [step for step, _ in shown["train/loss"]] == list(range(1, 24))
    assert shown == read_board(tmp_path / "whole")


def test_killed_process_resumes_exactly(
    script: ModuleType, tmp_path: Path, data_dir: Path, read_board: Any
) -> None:
    """kill -9 on the real command line, at whatever moment it then is; then --resume to the end."""
    steps = 150
    options = [
        *("--preset", "jumpy-rnn-tiny", "--steps", str(steps), "--checkpoint-interval", "51"),
        *("--train-data.table.num-frames", "12", "--validation-data.table.num-frames", "12"),
        *("--data-dir", str(data_dir), "--device", "cpu"),
    ]
    config = script.parse([*options, "--run-dir", "unused"]).config
    cut = tmp_path / "cut"
    command = [sys.executable, str(SCRIPT), *options, "--run-dir", str(cut)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while not (cut / CHECKPOINT).exists():
            assert process.poll() is None, "the process ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert 0 < Checkpoint.load(cut / CHECKPOINT).step < steps

    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    run(config, tmp_path / "whole", data_dir)
    for name in (CHECKPOINT, "best/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (cut / name).read_bytes(), name
    assert read_board(tmp_path / "whole") == read_board(cut)


def test_a_folder_trains_one_run_at_a_time(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(RUNS["rnn"], steps=2)
    update = training_loop._Run._update

    def with_another(self: Any) -> Any:
        busy = f"cut is in use by process {os.getpid()} on "
        for resume in (True, False):
            with pytest.raises(BlockingIOError, match=busy):
                run(config, tmp_path / "cut", data_dir, resume=resume)
        return update(self)

    run(config, tmp_path / "whole", data_dir)
    monkeypatch.setattr(training_loop._Run, "_update", with_another)
    run(config, tmp_path / "cut", data_dir)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert not list((tmp_path / "cut").glob(".*"))


def test_far_too_many_threads_leave_nothing_behind(tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"threads must be at most \d+, got 100000; more than one"):
        run(replace(RUNS["rnn"], threads=100_000), tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_resume_refuses_other_settings(tmp_path: Path, data_dir: Path) -> None:
    config = RUNS["rnn"]
    run(replace(config, steps=5), tmp_path / "run", data_dir)
    with pytest.raises(ValueError, match=r"got batch_size=9 instead of 8, steps=6 instead of 5;"):
        run(replace(config, steps=6, batch_size=9), tmp_path / "run", data_dir, resume=True)
    other = replace(config, steps=5, model=RNNConfig(hidden_size=9, mlp_size=8))
    with pytest.raises(ValueError, match=r"model\.config\.hidden_size=9 instead of 8"):
        run(other, tmp_path / "run", data_dir, resume=True)
    run(replace(config, steps=5, threads=2), tmp_path / "run", data_dir, resume=True)


def test_resume_needs_a_run_and_a_new_run_an_empty_folder(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], steps=1)
    with pytest.raises(ValueError, match=r"expected a run to resume in .*nowhere"):
        run(config, tmp_path / "nowhere", data_dir, resume=True)
    assert not (tmp_path / "nowhere").exists()
    run(config, tmp_path / "run", data_dir)
    with pytest.raises(ValueError, match="already holds a run; resume it, remove it, or choose"):
        run(config, tmp_path / "run", data_dir)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder for the run, but .* is a file"):
        run(config, tmp_path / "file", data_dir)


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_resume_refuses_a_damaged_checkpoint(damage: str, tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], steps=1)
    best = run(config, tmp_path / "run", data_dir)
    path = tmp_path / "run" / CHECKPOINT
    content = {
        "truncated": path.read_bytes()[:-9],
        "empty": b"",
        "foreign": (best / "model.safetensors").read_bytes(),
    }
    path.write_bytes(content[damage])
    with pytest.raises(ValueError, match=r"(is damaged or no checkpoint|so it is not ours)"):
        run(config, tmp_path / "run", data_dir, resume=True)


def rewritten(path: Path, **changes: Any) -> None:
    """Writes a checkpoint with other entries, as a version did that had no checksums."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["checkpoint"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["sha256"]
    for name, value in changes.items():
        if "/" not in name and name != "generator":
            header[name] = value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, {"checkpoint": json.dumps(header)})


def test_no_flipped_bit_of_a_checkpoint_is_overlooked(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], steps=1, model=RNNConfig(hidden_size=1, mlp_size=1))
    run(config, tmp_path / "run", data_dir)
    path = tmp_path / "run" / CHECKPOINT
    whole = path.read_bytes()
    places = range(3, len(whole), 41)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"safetensors"):
            Checkpoint.load(path)
    assert len(places) > 150


def test_a_changed_tensor_is_named_and_says_what_to_do(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], steps=1)
    run(config, tmp_path / "run", data_dir)
    path = tmp_path / "run" / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in a tensor
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"its checksum is that of other contents; .* anew in another folder"
    ):
        run(config, tmp_path / "run", data_dir, resume=True)


def test_checkpoints_without_a_checksum_go_on(tmp_path: Path, data_dir: Path) -> None:
    run(RUNS["rnn"], tmp_path / "run", data_dir)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    rewritten(tmp_path / "run" / CHECKPOINT)
    assert b"sha256" not in (tmp_path / "run" / CHECKPOINT).read_bytes()
    run(RUNS["rnn"], tmp_path / "run", data_dir, resume=True)
    Checkpoint.load(tmp_path / "run" / CHECKPOINT).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == before


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("short") / "run"
    run(replace(RUNS["rnn"], steps=8), folder, data_dir)
    return folder


def test_entries_of_a_checkpoint_that_cannot_be_are_named(
    short_run: Path, tmp_path: Path, refusals: Callable[..., int]
) -> None:
    path = tmp_path / CHECKPOINT
    shutil.copy(short_run / CHECKPOINT, path)
    rewritten(path)
    with safe_open(path, framework="pt") as file:
        header = tmp_path / f"header of {CHECKPOINT}"
        header.write_text(file.metadata()["checkpoint"])
    config = replace(RUNS["rnn"], steps=8).to_dict()

    def write(content: Any) -> None:
        save_file({"generator": torch.zeros(1)}, path, {"checkpoint": json.dumps(content)})

    def read() -> None:
        changed = differences(Checkpoint.load(path).config, config)
        if changed:
            raise ValueError(f"header of {CHECKPOINT}: {changed}")

    assert refusals(header.rename(path.with_name(CHECKPOINT + ".json")), read, write) > 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generator", None),
        ("generator", torch.zeros(3, dtype=torch.uint8)),
        ("generator", torch.zeros(5056)),
        ("model/decoder.last.bias", None),
        ("model/decoder.last.bias", torch.zeros(5)),
        ("model/other", torch.zeros(5)),
        ("best_model/decoder.last.bias", None),
        ("optimizer/0.exp_avg", None),
        ("optimizer/0.exp_avg", torch.zeros(5)),
        ("optimizer/99.step", torch.zeros(())),
        ("optimizer/x.step", torch.zeros(())),
        ("optimizer/0", torch.zeros(())),
        ("best", None),
        ("step", 9),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(
    name: str, value: Any, short_run: Path, tmp_path: Path, data_dir: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    rewritten(folder / CHECKPOINT, **{name: value})
    with pytest.raises(ValueError, match=rf"expected .*{CHECKPOINT} as it was written, but .*anew"):
        run(replace(RUNS["rnn"], steps=8), folder, data_dir, resume=True)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, "{}", '{"seconds": NaN}'])
def test_damaged_seconds_are_named(
    text: str, short_run: Path, refusals: Callable[..., int]
) -> None:
    path = short_run / SECONDS
    assert refusals(path, lambda: training_seconds(short_run)) == 11
    whole = path.read_text()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"expected .*seconds\.json as it was written.*remove it"):
        Stopwatch().restore(short_run)
    path.write_text(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamw"}, "optimizer is that of another model"),
        ({"average": 0.0}, "averaged weights are those of another model"),
    ],
)
def test_a_run_goes_on_with_its_own_optimizer_and_average(
    change: dict[str, Any], message: str, tmp_path: Path, data_dir: Path
) -> None:
    config = replace(RUNS["rnn by muon, averaged"], steps=8)
    run(config, tmp_path / "run", data_dir)
    other = replace(config, **change)
    path = tmp_path / "run" / CHECKPOINT
    replace(Checkpoint.load(path), config=other.to_dict()).save(path)
    with pytest.raises(ValueError, match=message):
        run(other, tmp_path / "run", data_dir, resume=True)


def test_a_loss_is_told_how_far_the_training_is(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[float]()
    tolerance = JumpyRNN.epsilon_at

    def told_tolerance(model: JumpyRNN, progress: Tensor | None = None) -> Tensor | float:
        assert progress is not None
        told.append(float(progress))
        return tolerance(model, progress)

    monkeypatch.setattr(JumpyRNN, "epsilon_at", told_tolerance)
    model = JumpyRNNConfig(hidden_size=8, mlp_size=8, epsilon=1e-4, first_epsilon=1.0)
    config = replace(RUNS["rnn"], model=model, steps=4, checkpoint_interval=2)
    run(config, tmp_path, data_dir)
    assert told == [0.0, 0.25, 0.5, 0.75]


# -- averaged weights, and patience ----------------------------------------------------------


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_weights_are_averaged_over_steps(keep: float, tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], steps=3, validation_interval=1, checkpoint_interval=1)
    steps = []
    for number in (1, 2, 3):
        run(replace(config, steps=number), tmp_path / f"{number}", data_dir)
        steps.append(Checkpoint.load(tmp_path / f"{number}" / CHECKPOINT).model)
    run(replace(config, average=keep), tmp_path / "run", data_dir)
    found = Checkpoint.load(tmp_path / "run" / CHECKPOINT)
    for name, weights in found.model.items():
        assert weights.equal(steps[2][name])  # What learns is not averaged.
        two = torch.lerp(steps[0][name], steps[1][name], 1.0 - 2 / 11)
        expected = torch.lerp(two, steps[2][name], 1.0 - min(keep, 3 / 12))
        torch.testing.assert_close(found.averaged[f"module.{name}"], expected, rtol=1e-6, atol=1e-7)
    assert found.best is not None
    last = {name.removeprefix("module."): w for name, w in found.averaged.items()}
    if found.best["step"] == 3:
        assert all(found.best_model[name].equal(last[name]) for name in found.best_model)


def test_a_run_ends_where_it_no_longer_improves(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], learning_rate=1e-9, steps=1000, patience=2)
    run(config, tmp_path / "run", data_dir)
    path = tmp_path / "run" / CHECKPOINT
    end = Checkpoint.load(path)
    errors = [entry["mse"] for entry in end.history]
    assert end.step < 1000
    assert end.step == 4 * len(errors)
    assert min(errors[-2:]) >= min(errors[:-2])
    before = path.read_bytes()
    run(config, tmp_path / "run", data_dir, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("step", "errors", "patience", "ended"),
    [
        (99, [3.0, 2.0, 2.5], 0, False),
        (100, [3.0, 2.0, 1.0], 0, True),
        (99, [3.0, 2.0, 2.5], 2, False),
        (99, [3.0, 2.0, 2.5, 2.0], 2, True),
        (99, [3.0, 2.0, 2.5, 1.9], 2, False),
        (99, [1.0, 2.0], 2, False),
        (0, [], 1, False),
    ],
)
def test_patience(step: int, errors: list[float], patience: int, ended: bool) -> None:
    config = replace(RUNS["rnn"], steps=100, patience=patience)
    assert config.has_ended(step, [{"mse": error} for error in errors]) is ended


# -- the best weights ------------------------------------------------------------------------


def test_a_best_model_that_is_not_ours_is_noticed_before_the_run(
    tmp_path: Path, data_dir: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"architectures": ["Other"]}')
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to(other)
    with pytest.raises(ValueError, match=r"best/config\.json to be free or to hold format 'jumpy"):
        run(RUNS["rnn"], tmp_path / "run", data_dir)
    assert not (tmp_path / "run" / "config.json").exists()
    (other / "config.json").unlink()
    run(RUNS["rnn"], tmp_path / "run", data_dir)
    assert (tmp_path / "run" / "best").is_symlink()
    assert from_pretrained(other).config == RUNS["rnn"].model


def test_a_best_model_that_cannot_be_written_is_noticed_before_the_run(
    tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").write_text("")
    with pytest.raises(OSError, match=r"able to write .*/run/best/config\.json: Not a directory"):
        run(RUNS["rnn"], tmp_path / "run", data_dir)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["best"]


# -- divergence ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_divergence_names_the_step_and_the_last_good_checkpoint(
    fault: str, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_of = RNN.loss
    calls = 0

    def failing(self: RNN, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal calls
        loss, log = loss_of(self, batch)
        calls += 1
        if calls == 13:  # step 12
            weight = self.decoder.last.weight.sum()
            # sqrt has an infinite slope at 0, and a value.
            loss = loss * torch.nan if fault == "loss" else loss + (0.0 * weight).sqrt()
        return loss, log

    monkeypatch.setattr(RNN, "loss", failing)
    with pytest.raises(TrainingDivergedError, match=r"at step 12; the last good .*\(step 10\)"):
        run(RUNS["rnn"], tmp_path / "run", data_dir)
    monkeypatch.undo()
    checkpoint = Checkpoint.load(tmp_path / "run" / CHECKPOINT)
    assert all(bool(value.isfinite().all()) for value in checkpoint.model.values())
    run(RUNS["rnn"], tmp_path / "run", data_dir, resume=True)


def test_divergence_before_any_checkpoint_says_so(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], learning_rate=1e30, grad_clip=1e30)
    with pytest.raises(TrainingDivergedError, match=r"there is no checkpoint yet; try a learning_"):
        run(config, tmp_path / "run", data_dir)


# -- configs ---------------------------------------------------------------------------------


def test_learning_rate_schedules() -> None:
    config = RUNS["rnn"]
    assert config.learning_rate_at(0) == config.learning_rate_at(999) == 1e-3
    assert config.learning_rate_at(1000) == pytest.approx(0.9e-3)
    assert config.learning_rate_at(9999) == pytest.approx(1e-3 * 0.9**9)
    cosine = replace(config, schedule="cosine", steps=200)
    rates = [cosine.learning_rate_at(step) for step in (0, 50, 100, 200)]
    expected = [1e-3, 1e-3 * (0.5 + 0.5 * math.sqrt(0.5)), 0.5e-3, 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1.5}, "expected steps to be an integer of at least 1, got 1.5"),
        ({"steps": 0}, "expected steps to be an integer of at least 1, got 0"),
        ({"batch_size": -1}, "expected batch_size to be an integer of at least 1, got -1"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"grad_clip": 0.0}, r"grad_clip must be positive and finite, got 0\.0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"optimizer": "moun"}, "unknown optimizer 'moun'.*did you mean 'muon'"),
        ({"average": 1.0}, r"average must lie in \[0, 1\), got 1\.0"),
        ({"average": math.nan}, r"average must lie in \[0, 1\), got nan"),
        ({"patience": -1}, "patience must not be negative, got -1"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'.*did you mean 'cosine'"),
        ({"train_data": DatasetConfig(num_trajectories=5)}, "must be recorded, of one table"),
        ({"train_data": TaskConfig("lines")}, "must be recorded, of .*, got .*lines"),
        (
            {
                "train_data": DatasetConfig(LINE_CONFIG, 5),
                "validation_data": DatasetConfig(LINE_CONFIG, 5, shot="place"),
            },
            r"must be .*of one table, .*, got TableConfig.* and \('on a line', TableConfig",
        ),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RUNS["rnn"], **change)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (TaskConfig("circles"), r"one task, got \('lines', None\) and \('circles', None\)"),
        (DatasetConfig(), r"one task, got \('lines', None\) and TableConfig"),
    ],
)
def test_a_run_has_one_task(validation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(RNNConfig(2, 0), train_data=TaskConfig("lines"), validation_data=validation)


def test_a_run_has_one_weather_file() -> None:
    first, second = (TaskConfig("weather", csv=f"{name}.csv") for name in "ab")
    with pytest.raises(ValueError, match=r"got \('weather', 'a.csv'\) and \('weather', 'b.csv'\)"):
        TrainingConfig(RNNConfig(5, 0), train_data=first, validation_data=second)


def test_sets_of_one_task_may_differ_in_all_else() -> None:
    validation = TaskConfig("lines", 3, seed=9, split="validation")
    config = TrainingConfig(
        RNNConfig(2, 0), train_data=TaskConfig("lines", 7), validation_data=validation
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert TaskConfig.from_dict(values["train_data"]) == config.train_data
    assert TaskConfig.from_dict(values["validation_data"]) == validation
    other = replace(config, train_data=TaskConfig("lines", 8))
    assert differences(config.to_dict(), other.to_dict()) == [
        "train_data.num_sequences=8 instead of 7"
    ]


def test_unknown_presets_and_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'jumpy-rn'.*did you mean 'jumpy-rnn'"):
        preset("jumpy-rn")
    with pytest.raises(ValueError, match=r"unknown device 'cpuu'.*did you mean 'cpu'"):
        resolve_device("cpuu")
    with pytest.raises(ValueError, match=r"torch sees .* CUDA devices here"):
        resolve_device("cuda:99")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


def test_differences_ignore_where_it_runs() -> None:
    config = RUNS["rnn"]
    moved = replace(config, device="auto", threads=5)
    assert differences(config.to_dict(), moved.to_dict()) == []
    assert differences(config.to_dict(), replace(moved, seed=4).to_dict()) == [
        "seed=4 instead of 0"
    ]


def test_a_model_that_does_not_fit_the_data_is_refused(tmp_path: Path, data_dir: Path) -> None:
    config = replace(RUNS["rnn"], model=RNNConfig(obs_size=6, hidden_size=8, mlp_size=8))
    with pytest.raises(ValueError, match=r"observations of size 6, .* have size 4"):
        run(config, tmp_path / "run", data_dir)


@pytest.mark.parametrize("shots", [True, False])
@pytest.mark.parametrize(
    "model",
    [RNNConfig, JumpyRNNConfig, LatentJumpConfig, EventJumpConfig],
    ids=lambda m: m.__name__,
)
def test_models_with_shots_and_data_without_do_not_fit(
    model: Any, shots: bool, tmp_path: Path, data_dir: Path
) -> None:
    config = replace(RUNS["rnn"], model=model(action_size=0 if shots else 2))
    if not shots:
        sets: dict[str, Any] = {
            "train_data": TaskConfig("billiards2d", 20),
            "validation_data": TaskConfig("billiards2d", 5, split="validation"),
        }
        config = replace(config, **sets)
    sizes = (0, 2) if shots else (2, 0)
    message = "actions of size {}, but those of the dataset have size {}".format(*sizes)
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run", data_dir)
