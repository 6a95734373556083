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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jumpy_mbrl import models
from jumpy_mbrl.data import DatasetConfig, Recording, TaskConfig, make_dataset, make_task
from jumpy_mbrl.data.loading import load_data
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.models import RNN, JumpyRNNConfig, LatentJumpConfig, RNNConfig
from jumpy_mbrl.training import (
    TrainingConfig,
    TrainingDivergedError,
    loop,
    presets,
    stopwatch,
    validation,
)
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import differences
from jumpy_mbrl.training.loop import CHECKPOINT
from jumpy_mbrl.training.optimizer import Optimizer
from jumpy_mbrl.training.stopwatch import SECONDS, Stopwatch

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "train_world_model.py"
WEIGHTS = "best/model.safetensors"

TABLE = TableConfig(num_frames=12)
SMALL = RNNConfig(hidden_size=8, mlp_size=8)
RUN = TrainingConfig(
    model=SMALL,
    train_data=DatasetConfig(table=TABLE, num_trajectories=200),
    validation_data=DatasetConfig(table=TABLE, num_trajectories=20, split="validation"),
    steps=23,
    batch_size=8,
    validation_interval=4,
    checkpoint_interval=5,
    device="cpu",
    threads=1,
)


def on_task(model: Any, task: str, **settings: Any) -> TrainingConfig:
    validation = TaskConfig(task, 20, split="validation")
    sets: Any = {"train_data": TaskConfig(task, 50), "validation_data": validation}
    return replace(RUN, model=model, **{**sets, **settings})


EVENTS = presets.PRESETS["event-jump-tiny"]
AVERAGED = replace(RUN, optimizer="muon", average=0.9)
RUNS = {
    "rnn": RUN,
    "rnn in bfloat16": replace(RUN, precision="bfloat16"),
    "rnn by muon, averaged": AVERAGED,
    "jumpy-rnn": replace(RUN, model=JumpyRNNConfig(hidden_size=8, mlp_size=8, epsilon=0.05)),
    "event-jump": replace(EVENTS, steps=23, checkpoint_interval=5, threads=1),
    "latent-jump": on_task(LatentJumpConfig(2, 0, 1, 4, 8, noise=0.01), "circles"),
}


def pushed(seed: int = 0) -> Recording:
    """Random walks that are pushed at every third frame."""
    rng = np.random.default_rng(seed)
    action = np.zeros((30, 14, 1), np.float32)
    action[:, 1:-1:3] = rng.uniform(-1.0, 1.0, (30, 4, 1))
    places = np.cumsum(0.1 * action, axis=1) - 0.1 * action
    return Recording(places.repeat(2, axis=2), action, np.zeros((30, 13)), context_frames=2)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(data_dir: Path) -> Callable[..., Path]:
    """Trains, with data that are made once."""

    def start(config: TrainingConfig, folder: Path, **options: Any) -> Path:
        return loop.train(config, folder, data_dir=data_dir, progress=False, **options)

    return start


@pytest.fixture(scope="module")
def whole(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(RUN, folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def assert_same_run(first: Path, second: Path) -> None:
    for name in (CHECKPOINT, WEIGHTS):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    records = [models.pretrained_info(folder / "best") for folder in (first, second)]
    assert all(record["training"].pop("seconds") > 0.0 for record in records)
    assert records[0] == records[1]


class CrashError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def crash(run: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trains until the given update (counted from 1) crashes."""
    update = loop._Run._update

    def start(step: int, *arguments: Any, **options: Any) -> None:
        def crashing(self: Any) -> Any:
            if self.step + 1 == step:
                raise CrashError
            return update(self)

        with monkeypatch.context() as patch, pytest.raises(CrashError):
            patch.setattr(loop._Run, "_update", crashing)
            run(*arguments, **options)

    return start


# -- what a run leaves ---------------------------------------------------------------------------


def test_a_run_leaves_a_model_with_its_record(run: Any, tmp_path: Path) -> None:
    config = RUNS["jumpy-rnn"]
    best = run(config, tmp_path / "run", command="python train it")
    assert best == tmp_path / "run" / "best"
    assert models.from_pretrained(best).config == config.model
    info = models.pretrained_info(best)
    assert info["training"]["command"] == "python train it"
    assert info["training"]["config"] == json.loads(json.dumps(config.to_dict()))
    assert info["data"] == config.train_data.to_dict()
    assert info["metrics"]["validation_mse"] > 0
    assert info["metrics"]["validation_mean_jump"] >= 1.0
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    # Twice the same run gives the same bytes, whatever torch's own generator.
    torch.manual_seed(5)
    run(config, tmp_path / "again", command="python train it")
    assert_same_run(tmp_path / "run", tmp_path / "again")
    run(replace(config, seed=1), tmp_path / "other")
    first, other = ((tmp_path / name / CHECKPOINT).read_bytes() for name in ("run", "other"))
    assert first != other


def test_the_best_weights_are_those_of_the_best_validation(
    run: Any, tmp_path: Path, data_dir: Path
) -> None:
    config = replace(RUN, learning_rate=0.1, steps=40)
    folder = run(config, tmp_path)
    checkpoint = Checkpoint.load(tmp_path / CHECKPOINT)
    assert [entry["step"] for entry in checkpoint.history] == [4.0 * k for k in range(1, 11)]
    lowest = min(checkpoint.history, key=lambda entry: entry["mse"])
    assert lowest["step"] < 40, "the problem must be one whose last weights are not the best"
    assert checkpoint.best == lowest
    figures = validation.validate(
        models.from_pretrained(folder), load_data(config.validation_data, data_dir)
    )
    assert figures == {name: lowest[name] for name in ("mse", "mean_jump")}
    assert models.pretrained_info(folder)["metrics"]["validation_step"] == lowest["step"]


def test_a_run_leaves_torch_alone_and_does_without_tensorboard(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(replace(RUN, steps=2, threads=threads + 1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not list(tmp_path.glob("events.out.tfevents.*"))


# -- validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "acts"),
    [
        (make_dataset(DatasetConfig(TableConfig(num_frames=15), 9, split="validation")), [3]),
        (make_dataset(DatasetConfig(TableConfig(num_frames=12, lead_in=6), 5)), [6]),
        (make_task(TaskConfig("billiards1d", 7, split="validation")), []),
        (make_task(TaskConfig("pixel-billiards1d", 7, split="validation")), []),
        (pushed(), [1, 4, 7, 10]),
    ],
)
@torch.no_grad()
def test_validation_is_the_error_of_all_frames_not_shown(data: Any, acts: list[int]) -> None:
    torch.manual_seed(0)
    model = models.LatentJump(
        LatentJumpConfig(data.obs.shape[2], data.action.shape[2], 2, 6, 8, 2, 7)
    )
    torch.nn.init.normal_(model.encoder.last.weight)
    torch.nn.init.normal_(model.hazard.last.weight)
    shown, (n, T) = data.context_frames, data.obs.shape[:2]
    obs = torch.from_numpy(data.obs / np.float32(255.0 if data.obs.dtype == np.uint8 else 1.0))
    action, ahead = torch.from_numpy(data.action), [float(t) for t in range(1, T - shown + 1)]
    errors, blind, lines = [], [], 0
    for row in range(n):
        state = model.observe(obs[row : row + 1, :shown], action[row : row + 1, :shown])
        imagined = idle = model.imagine(state, ahead)
        if acts:
            times = [float(t - shown + 1) for t in acts]
            imagined = model.imagine(state, ahead, action[row : row + 1, acts], times)
        errors.append((imagined.obs[0] - obs[row, shown:]).square())
        blind.append((idle.obs[0] - obs[row, shown:]).square())
        lines += int(imagined.lines())
    expected = float(torch.stack(errors).mean())
    for batch_size in (1000, n, 3, 1):
        figures = validation.validate(model, data, batch_size)
        assert figures["mse"] == pytest.approx(expected, rel=1e-5)
        assert figures["mean_jump"] == pytest.approx(n * len(ahead) / lines)
    if acts:
        unacted = pytest.approx(float(torch.stack(blind).mean()), rel=1e-3)
        assert expected != unacted, "the actions should matter to the model"


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNS)
def test_resumed_run_ends_with_the_same_bytes(
    kind: str, run: Any, crash: Any, tmp_path: Path
) -> None:
    config, cut = RUNS[kind], tmp_path / "cut"
    run(config, tmp_path / "whole")
    # Before any checkpoint, right after one, between two, and at the last step.
    for step in (3, 6, 14, config.steps):
        crash(step, config, cut, resume=step > 3)
    run(config, cut, resume=True)
    assert_same_run(tmp_path / "whole", cut)
    run(config, cut, resume=True)
    assert_same_run(tmp_path / "whole", cut)


def test_a_run_on_recordings_resumes_with_the_same_data(
    run: Any, crash: Any, tmp_path: Path
) -> None:
    validation = pushed(seed=1).save(tmp_path / "validation.npz")
    train_data, model = pushed().save(tmp_path / "train.npz"), LatentJumpConfig(2, 1, 2, 4, 8)
    config = on_task(model, "lines", train_data=train_data, validation_data=validation)
    with pytest.raises(ValueError, match="or one task, got recorded and TableConfig"):
        replace(config, validation_data=DatasetConfig(split="validation"))
    best = run(config, tmp_path / "whole")
    assert models.pretrained_info(best)["data"] == config.train_data.to_dict()
    crash(13, config, tmp_path / "cut")
    run(config, tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    other = pushed(seed=2).save(tmp_path / "train.npz")
    with pytest.raises(ValueError, match=r"train_data\.sha256="):
        run(replace(config, train_data=other), tmp_path / "cut", resume=True)
    with pytest.raises(ValueError, match="changed or recorded anew"):
        run(config, tmp_path / "cut", resume=True)


def test_killed_process_resumes_exactly(
    load_script: Any, run: Any, tmp_path: Path, data_dir: Path, read_board: Any
) -> None:
    """kill -9 on the real command line, at whatever moment it then is; then --resume to the end."""
    steps, cut = 150, tmp_path / "cut"
    options = [
        *("--preset", "jumpy-rnn-tiny", "--steps", str(steps), "--checkpoint-interval", "51"),
        *("--train-data.table.num-frames", "12", "--validation-data.table.num-frames", "12"),
        *("--data-dir", str(data_dir), "--device", "cpu", "--run-dir", str(cut)),
    ]
    command = [sys.executable, str(SCRIPT), *options]
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
    run(load_script("train_world_model").parse(options).config, tmp_path / "whole")
    for name in (CHECKPOINT, WEIGHTS):
        assert (tmp_path / "whole" / name).read_bytes() == (cut / name).read_bytes(), name
    assert read_board(tmp_path / "whole") == read_board(cut)


def test_a_folder_trains_one_run_at_a_time(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(RUN, steps=2)
    update = loop._Run._update

    def with_another(self: Any) -> Any:
        busy = f"cut is in use by process {os.getpid()} on "
        for resume in (True, False):
            with pytest.raises(BlockingIOError, match=busy):
                run(config, tmp_path / "cut", resume=resume)
        return update(self)

    run(config, tmp_path / "whole")
    monkeypatch.setattr(loop._Run, "_update", with_another)
    run(config, tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert not list((tmp_path / "cut").glob(".*"))


def test_seconds_are_those_of_the_whole_run_without_pauses(
    run: Any, copied: Path, tmp_path: Path
) -> None:
    now = [100.0]
    first, second = Stopwatch(lambda: now[0]), Stopwatch(lambda: now[0])
    now[0] += 5.0
    with first.paused():
        now[0] += 60.0
    first.save(tmp_path)
    assert stopwatch.training_seconds(tmp_path) == 5.0 and second.seconds == 65.0
    second.restore(tmp_path)
    now[0] += 1.0
    assert second.seconds == 71.0
    second.restore(tmp_path / "nothing saved")
    assert second.seconds == 71.0
    # A run that goes on counts on, as if it had been killed long before its end.
    (copied / SECONDS).write_text('{"seconds": 5000.0}')
    checkpoint = Checkpoint.load(copied / CHECKPOINT)
    replace(checkpoint, step=5).save(copied / CHECKPOINT)
    run(RUN, copied, resume=True)
    assert 5000.0 < stopwatch.training_seconds(copied) < 5060.0


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, "{}", '{"seconds": NaN}'])
def test_damaged_seconds_are_named(text: str, copied: Path, refusals: Any) -> None:
    assert refusals(copied / SECONDS, lambda: stopwatch.training_seconds(copied)) == 11
    (copied / SECONDS).write_text(text)
    with pytest.raises(ValueError, match=r"expected .*seconds\.json as it was written.*remove it"):
        Stopwatch().restore(copied)


# -- what cannot be resumed, or begun ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 24, "batch_size": 9}, r"got batch_size=9 instead of 8, steps=24 instead of 23;"),
        ({"model": replace(SMALL, hidden_size=9)}, r"model\.config\.hidden_size=9 instead of 8"),
    ],
)
def test_resume_refuses_other_settings(
    change: dict[str, Any], message: str, run: Any, copied: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(RUN, **change), copied, resume=True)
    run(replace(RUN, threads=2), copied, resume=True)


def test_resume_needs_a_run_and_a_new_run_an_empty_folder(
    run: Any, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder, options, message in (
        (tmp_path / "nowhere", {"resume": True}, r"expected a run to resume in .*nowhere"),
        (whole, {}, "already holds a run; resume it, remove it, or choose"),
        (tmp_path / "file", {}, r"expected a folder for the run, but .* is a file"),
    ):
        with pytest.raises(ValueError, match=message):
            run(RUN, folder, **options)
    assert not (tmp_path / "nowhere").exists()
    words = r"threads must be at most \d+, got 100000; more than one"
    with pytest.raises(ValueError, match=words):
        run(replace(RUN, threads=100_000), tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_a_best_model_that_cannot_be_written_is_noticed_before_the_run(
    run: Any, tmp_path: Path
) -> None:
    other, folder = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    folder.mkdir()
    (folder / "best").write_text("")
    with pytest.raises(OSError, match=r"able to write .*/run/best/config\.json: Not a directory"):
        run(RUN, folder)
    (folder / "best").unlink()
    (folder / "best").symlink_to(other)
    (other / "config.json").write_text('{"architectures": ["Other"]}')
    with pytest.raises(ValueError, match=r"best/config\.json to be free or to hold format 'jumpy"):
        run(RUN, folder)
    assert [path.name for path in folder.iterdir()] == ["best"]
    (other / "config.json").unlink()
    run(RUN, folder)
    assert (folder / "best").is_symlink() and models.from_pretrained(other).config == SMALL


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "changed"])
def test_resume_refuses_a_damaged_checkpoint(damage: str, run: Any, copied: Path) -> None:
    path = copied / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in a tensor
    contents: dict[str, Any] = {"truncated": content[:-9], "empty": b"", "changed": content}
    path.write_bytes(contents.get(damage, (copied / WEIGHTS).read_bytes()))
    words = r"its checksum is that of other contents; .* anew in another folder"
    other = r"(is damaged or no checkpoint|so it is not ours)"
    with pytest.raises(ValueError, match=words if damage == "changed" else other):
        run(RUN, copied, resume=True)


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


def test_checkpoints_without_a_checksum_go_on(
    run: Any, whole: Path, copied: Path, tmp_path: Path
) -> None:
    rewritten(copied / CHECKPOINT)
    assert b"sha256" not in (copied / CHECKPOINT).read_bytes()
    run(RUN, copied, resume=True)
    Checkpoint.load(copied / CHECKPOINT).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (whole / CHECKPOINT).read_bytes()


def test_entries_of_a_checkpoint_that_cannot_be_are_named(copied: Path, refusals: Any) -> None:
    path = copied / CHECKPOINT
    rewritten(path)
    header = path.with_name(f"{CHECKPOINT}.json")
    with safe_open(path, framework="pt") as file:
        header.write_text(file.metadata()["checkpoint"])

    def write(content: Any) -> None:
        save_file({"generator": torch.zeros(1)}, path, {"checkpoint": json.dumps(content)})

    def read() -> None:
        changed = differences(Checkpoint.load(path).config, RUN.to_dict())
        if changed:
            raise ValueError(f"header of {CHECKPOINT}: {changed}")

    assert refusals(header, read, write) > 500


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
        ("step", 24),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(
    name: str, value: Any, run: Any, copied: Path
) -> None:
    rewritten(copied / CHECKPOINT, **{name: value})
    with pytest.raises(ValueError, match=rf"expected .*{CHECKPOINT} as it was written, but .*anew"):
        run(RUN, copied, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamw"}, "optimizer is that of another model"),
        ({"average": 0.0}, "averaged weights are those of another model"),
    ],
)
def test_a_run_goes_on_with_its_own_optimizer_and_average(
    change: dict[str, Any], message: str, run: Any, tmp_path: Path
) -> None:
    config = replace(AVERAGED, steps=8)
    run(config, tmp_path)
    other, path = replace(config, **change), tmp_path / CHECKPOINT
    replace(Checkpoint.load(path), config=other.to_dict()).save(path)
    with pytest.raises(ValueError, match=message):
        run(other, tmp_path, resume=True)


# -- averaged weights, patience, divergence ------------------------------------------------------


def test_loss_and_rate_follow_how_far_the_training_is(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    loss, step = RNN.loss, Optimizer.step

    def told_loss(model: RNN, batch: dict[str, Tensor]) -> Any:
        told.append(float(batch["progress"]))
        return loss(model, batch)

    def told_step(optimizer: Optimizer, rate: float) -> None:
        told.append(rate)
        step(optimizer, rate)

    monkeypatch.setattr(RNN, "loss", told_loss)
    monkeypatch.setattr(Optimizer, "step", told_step)
    config = replace(RUN, steps=4, checkpoint_interval=2, schedule="cosine")
    run(config, tmp_path)
    assert told[::2] == [0.0, 0.25, 0.5, 0.75]
    assert told[1::2] == [config.learning_rate_at(number) for number in range(4)]


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_weights_are_averaged_over_steps(keep: float, run: Any, tmp_path: Path) -> None:
    config = replace(RUN, steps=3, validation_interval=1, checkpoint_interval=1)
    steps = []
    for number in (1, 2, 3):
        run(replace(config, steps=number), tmp_path / f"{number}")
        steps.append(Checkpoint.load(tmp_path / f"{number}" / CHECKPOINT).model)
    run(replace(config, average=keep), tmp_path / "run")
    found = Checkpoint.load(tmp_path / "run" / CHECKPOINT)
    for name, weights in found.model.items():
        assert weights.equal(steps[2][name])  # What learns is not averaged.
        two = torch.lerp(steps[0][name], steps[1][name], 1.0 - 2 / 11)
        expected = torch.lerp(two, steps[2][name], 1.0 - min(keep, 3 / 12))
        torch.testing.assert_close(found.averaged[f"module.{name}"], expected, rtol=1e-6, atol=1e-7)
    assert found.best is not None
    if found.best["step"] == 3:
        last = {name.removeprefix("module."): w for name, w in found.averaged.items()}
        assert all(found.best_model[name].equal(last[name]) for name in found.best_model)


def test_a_run_ends_where_it_no_longer_improves(run: Any, tmp_path: Path) -> None:
    config = replace(RUN, learning_rate=1e-9, steps=1000, patience=2)
    run(config, tmp_path)
    end = Checkpoint.load(tmp_path / CHECKPOINT)
    errors = [entry["mse"] for entry in end.history]
    assert end.step == 4 * len(errors) < 1000
    assert min(errors[-2:]) >= min(errors[:-2])
    before = (tmp_path / CHECKPOINT).read_bytes()
    run(config, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


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
    config = replace(RUN, steps=100, patience=patience)
    assert config.has_ended(step, [{"mse": error} for error in errors]) is ended


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_divergence_names_the_step_and_the_last_good_checkpoint(
    fault: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    with (
        monkeypatch.context() as patch,
        pytest.raises(TrainingDivergedError, match=r"at step 12; the last good .*\(step 10\)"),
    ):
        patch.setattr(RNN, "loss", failing)
        run(RUN, tmp_path)
    checkpoint = Checkpoint.load(tmp_path / CHECKPOINT)
    assert all(bool(value.isfinite().all()) for value in checkpoint.model.values())
    run(RUN, tmp_path, resume=True)
    config = replace(RUN, learning_rate=1e30, grad_clip=1e30)
    with pytest.raises(TrainingDivergedError, match=r"there is no checkpoint yet; try a learning_"):
        run(config, tmp_path / "other")


# -- configs -------------------------------------------------------------------------------------


def test_learning_rate_schedules() -> None:
    assert RUN.learning_rate_at(0) == RUN.learning_rate_at(999) == 1e-3
    assert RUN.learning_rate_at(1000) == pytest.approx(0.9e-3)
    assert RUN.learning_rate_at(9999) == pytest.approx(1e-3 * 0.9**9)
    cosine = replace(RUN, schedule="cosine", steps=200)
    rates = [cosine.learning_rate_at(step) for step in (0, 50, 100, 200)]
    expected = [1e-3, 1e-3 * (0.5 + 0.5 * math.sqrt(0.5)), 0.5e-3, 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)


def both(train_data: Any, validation_data: Any) -> dict[str, Any]:
    return {"train_data": train_data, "validation_data": validation_data}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": 1.0}, r"average to be below 1, got 1\.0"),
        ({"restart": 2}, "restart=0, or a cosine schedule of more than 2 steps .*'exponential'"),
        ({"restart": 9, "schedule": "cosine", "steps": 9}, "more than 9 steps to begin again"),
        ({"train_data": DatasetConfig(num_trajectories=5)}, "must be recorded, of one table"),
        ({"train_data": TaskConfig("lines")}, "must be recorded, of .*, got .*lines"),
        (
            both(DatasetConfig(LINE_CONFIG, 5), DatasetConfig(LINE_CONFIG, 5, shot="place")),
            r"must be .*of one table, .*, got TableConfig.* and \('on a line', TableConfig",
        ),
        (
            both(TaskConfig("lines"), TaskConfig("circles")),
            r"one task, got \('lines', None\) and \('circles', None\)",
        ),
        (
            both(TaskConfig("weather", csv="a.csv"), TaskConfig("weather", csv="b.csv")),
            r"got \('weather', 'a.csv'\) and \('weather', 'b.csv'\)",
        ),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RUN, **change)


def test_sets_of_one_task_may_differ_in_all_else() -> None:
    validation = TaskConfig("lines", 3, seed=9, split="validation")
    config = on_task(RNNConfig(2, 0), "lines", validation_data=validation)
    values = json.loads(json.dumps(config.to_dict()))
    assert TaskConfig.from_dict(values["train_data"]) == config.train_data
    assert TaskConfig.from_dict(values["validation_data"]) == validation
    other = replace(config, train_data=TaskConfig("lines", 8))
    changed = ["train_data.num_sequences=8 instead of 50"]
    assert differences(config.to_dict(), other.to_dict()) == changed
    moved = replace(config, device="auto", threads=5)
    assert differences(config.to_dict(), moved.to_dict()) == [], "where it runs"
    assert differences(config.to_dict(), replace(moved, seed=4).to_dict()) == [
        "seed=4 instead of 0"
    ]
    values = replace(RUN, model=JumpyRNNConfig(first_epsilon=1.0)).to_dict()
    older = json.loads(json.dumps(values).replace("context_frames", "priming"))
    assert differences(older, values) == []


@pytest.mark.parametrize("name", ["rnn", "jumpy-rnn", "latent-jump", "event-jump"])
def test_a_model_that_does_not_fit_the_data_is_refused(name: str, run: Any, tmp_path: Path) -> None:
    model, still = (models.MODELS[name].config(action_size=size) for size in (2, 0))
    for config, message in (
        (replace(RUN, model=still), "actions of size 0, but those of the dataset have size 2"),
        (on_task(model, "billiards2d"), "actions of size 2, but those of the dataset have size 0"),
        (on_task(SMALL, "billiards1d"), "observations of size 4, .* have size 2"),
    ):
        with pytest.raises(ValueError, match=message):
            run(config, tmp_path / message[:18])
