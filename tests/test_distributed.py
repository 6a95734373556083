"""Several workers that train one model: the same weights as one, one set of files, no hanging.

Launched by torchrun, this file is itself the program that the workers run; see ``work``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from jumpy_mbrl.commands import main
from jumpy_mbrl.commands import train as program
from jumpy_mbrl.data import DatasetConfig, TaskConfig
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.models import EventJumpConfig, JumpyRNNConfig, RNNConfig, pretrained_info
from jumpy_mbrl.training import TrainingConfig, loop, train
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.distributed import Workers, WorkersLostError, join, launched
from jumpy_mbrl.training.loop import CHECKPOINT

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
TABLE = TableConfig(num_frames=8)
OPTIONS = (
    *("--preset", "rnn-tiny", "--steps", "12", "--device", "cpu", "--model.hidden-size", "8"),
    *("--train-data.table.num-frames", "8", "--validation-data.table.num-frames", "8"),
    # Muon and bfloat16 would enlarge what the order of summation changes.
    *("--optimizer", "adamw", "--precision", "float32", "--learning-rate", "1e-3"),
)
SHOTS = TrainingConfig(
    model=RNNConfig(hidden_size=8, mlp_size=8),
    train_data=DatasetConfig(TABLE, 64),
    validation_data=DatasetConfig(TABLE, 10, split="validation"),
    steps=9,
    batch_size=8,
    validation_interval=3,
    checkpoint_interval=5,
    device="cpu",
    threads=1,
)
BALLS: Any = {  # the papers' Billiards2D, without actions
    "train_data": TaskConfig("billiards2d", 200),
    "validation_data": TaskConfig("billiards2d", 10, split="validation"),
    "batch_size": 32,
    "steps": 6,
}
CONSTANT = replace(SHOTS, model=JumpyRNNConfig(4, 0, 8, 8, constant_jump=4), **BALLS)
EVENTS = replace(SHOTS, model=EventJumpConfig(action_size=0, hidden_size=8), **BALLS)


# -- what the workers run ----------------------------------------------------------------------


def work(folder: Path) -> None:
    """Several runs one after the other, in every worker; in the last, the second worker fails."""
    data_dir = folder / "data"
    places = ("--data-dir", str(data_dir), "--run-dir")
    assert main.run("train", [*OPTIONS, *places, str(folder / "rnn")]) == 0
    assert main.run("train", [*OPTIONS, *places, str(folder / "odd"), "--batch-size", "7"]) == 2
    assert main.run("train", [*OPTIONS, *places, str(folder / "rnn")]) == 2
    for name, config in (("constant", CONSTANT), ("events", EVENTS)):
        best = train(config, folder / name, data_dir=data_dir, progress=False)
        assert (best / "config.json").is_file()
    train(SHOTS, folder / "begun", data_dir=data_dir, progress=False, resume=True)
    fail(folder)


def fail(folder: Path) -> None:
    """Runs the command line until the second worker fails in the eighth step."""
    update = loop._Run._update

    def failing(self: Any) -> Any:
        if self.step == 7 and self.workers.rank == 1:
            raise ValueError("the lights went out")
        return update(self)

    loop._Run._update = failing  # type: ignore[method-assign]
    program.parse = lambda argv: program.Arguments(
        folder / "failed", data_dir=folder / "data", config=SHOTS
    )
    raise SystemExit(main.run("train", ["--run-dir", "failed"]))


# -- launching them ----------------------------------------------------------------------------


def launch(folder: Path) -> subprocess.CompletedProcess[str]:
    """Lets two workers run this file; they end within a minute, or the tests fail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ("--master-addr", "127.0.0.1", "--master-port", str(port))
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *address),
            *(__file__, str(folder)),
        ],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What two workers left, and what they printed; a run that one worker began is there before."""
    folder = tmp_path_factory.mktemp("two")
    update = loop._Run._update

    def crashing(self: Any) -> Any:
        if self.step == 7:
            raise KeyboardInterrupt
        return update(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_update", crashing)
        alone(SHOTS, folder / "begun", folder)
    return folder, launch(folder)


def alone(config: TrainingConfig, folder: Path, data: Path, **options: Any) -> Checkpoint:
    """The end of the same run in this process."""
    train(config, folder, data_dir=data / "data", progress=False, **options)
    return Checkpoint.load(folder / CHECKPOINT)


def assert_same(first: Checkpoint, second: Checkpoint) -> None:
    """All but the order in which gradients were summed is the same."""
    assert (first.step, first.model.keys()) == (second.step, second.model.keys())
    assert torch.equal(first.generator, second.generator)
    assert first.optimizer.keys() == second.optimizer.keys()
    for name, weight in first.model.items():
        torch.testing.assert_close(weight, second.model[name], rtol=0.0, atol=2e-6)
    for name in ("mse", "mean_jump"):
        figures = [[entry[name] for entry in end.history] for end in (first, second)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-4)


# -- the same as one worker --------------------------------------------------------------------


def test_two_workers_end_with_the_weights_of_one(two: Any, tmp_path: Path) -> None:
    folder, _ = two
    config = program.parse([*OPTIONS, "--run-dir", "unused"]).config
    both = Checkpoint.load(folder / "rnn" / CHECKPOINT)
    one = alone(config, tmp_path / "run", folder)
    assert both.step == 12
    assert_same(both, one)
    first = loop._first_weights(config).state_dict()
    moved = max(float((both.model[name] - first[name]).abs().max()) for name in first)
    assert moved > 5e-3, "the tolerance must be small beside what was learned"


@pytest.mark.parametrize(("name", "config"), [("constant", CONSTANT), ("begun", SHOTS)])
def test_constant_jumps_and_runs_that_one_began_are_the_same_too(
    name: str, config: TrainingConfig, two: Any, tmp_path: Path
) -> None:
    assert_same(Checkpoint.load(two[0] / name / CHECKPOINT), alone(config, tmp_path, two[0]))


def test_a_network_that_no_loss_uses_stays_as_it_is(two: Any) -> None:
    end = Checkpoint.load(two[0] / "events" / CHECKPOINT)
    first = loop._first_weights(EVENTS)
    assert end.step == EVENTS.steps
    for number, (name, weight) in enumerate(first.named_parameters()):
        used = not name.startswith("shot_jump")
        assert torch.equal(end.model[name], weight.detach()) is not used, name
        assert (f"{number}.exp_avg" in end.optimizer) is used


def test_one_set_of_files_is_written(two: Any) -> None:
    folder, process = two
    names = sorted(path.name for path in (folder / "rnn").iterdir())
    assert [name for name in names if "tfevents" not in name] == [
        "best",
        "checkpoint.safetensors",
        "config.json",
        "seconds.json",
    ]
    assert len(names) == 5
    assert not list(folder.rglob("*.tmp-*"))
    info = pretrained_info(folder / "rnn" / "best")
    options = " ".join(OPTIONS)
    assert info["training"]["command"] == (
        f"torchrun --nproc-per-node 2 scripts/train_world_model.py {options} --run-dir rnn"
    )
    assert process.stdout.count("best weights:") == 1
    assert process.stderr.count("| 0/12 [") == 1, "one progress bar"


def test_one_worker_goes_on_where_two_stopped(two: Any, tmp_path: Path) -> None:
    folder, _ = two
    assert Checkpoint.load(folder / "failed" / CHECKPOINT).step == 5
    resumed = alone(SHOTS, folder / "failed", folder, resume=True)
    assert_same(resumed, alone(SHOTS, tmp_path / "run", folder))


# -- errors ------------------------------------------------------------------------------------


def test_an_error_in_one_worker_ends_all_and_what_cannot_be_run_is_refused_by_all(two: Any) -> None:
    folder, process = two
    assert process.returncode != 0
    said = process.stderr
    assert "train_world_model: worker 1 of 2: the lights went out" in said
    for who in (f"train_world_model: worker {rank} of 2: " for rank in (0, 1)):
        assert f"{who}batch_size must be divisible by the number of workers, got 7" in said
        assert f"{who}{folder / 'rnn'} already holds a run" in said
    assert not (folder / "odd").exists()


@pytest.fixture
def launched_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    environment = {"TORCHELASTIC_RUN_ID": "test", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_lost_connection_is_named(launched_by_torchrun: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    launched_by_torchrun.setattr(torch.distributed, "init_process_group", made.append)
    assert launched() == (1, 2)
    with (
        pytest.raises(WorkersLostError, match="another worker ended or does not answer"),
        join("cpu") as workers,
    ):
        assert workers == Workers(CPU, 1, 2)
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with pytest.raises(RuntimeError, match="mine"), join("cpu"):
        raise RuntimeError("mine")
    assert made == ["gloo", "gloo"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:0", r"expected device 'cuda' for 2 workers, got 'cuda:0'"),
        ("cuda", r"for every worker, but torch sees 1 here and this is worker 1"),
        ("auto", r"start fewer workers, or use 'cpu'"),
        ("tpu", r"unknown device 'tpu'"),
    ],
)
def test_every_worker_needs_a_device(
    device: str, message: str, launched_by_torchrun: pytest.MonkeyPatch
) -> None:
    launched_by_torchrun.setattr(torch.cuda, "is_available", lambda: True)
    launched_by_torchrun.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=message), join(device):
        pass


# -- one worker --------------------------------------------------------------------------------


def test_without_torchrun_there_is_one_worker() -> None:
    assert launched() == (0, 1)
    with join("cpu") as workers:
        assert workers == Workers(CPU)
        assert workers.is_first
        module = nn.Linear(1, 1)
        assert workers.unite(module) is module
        assert workers.from_first(lambda: 3) == workers.after_first(lambda: 3) == 3
        assert workers.mean({"a": torch.tensor(2.0)}) == {"a": 2.0}


def test_shares_are_equal_and_cover_the_batch() -> None:
    batch = {"obs": torch.arange(12.0).view(6, 2), "u": torch.arange(6)}
    shares = [Workers(CPU, rank, 3).share(batch) for rank in range(3)]
    for name, whole in batch.items():
        assert {len(share[name]) for share in shares} == {2}
        assert torch.equal(torch.cat([share[name] for share in shares]), whole)
    with pytest.raises(ValueError, match=r"got 8 for 3 workers; change one of them"):
        Workers(CPU, 0, 3).check_batch(8)
    Workers(CPU, 0, 3).check_batch(9)
    with pytest.raises(ValueError, match=r"expected obs in a batch .* got 6 for 4 workers"):
        Workers(CPU, 0, 4).share(batch)
    assert "workers" not in json.dumps(SHOTS.to_dict()), "they are no part of a run"


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(Path(sys.argv[1]))
