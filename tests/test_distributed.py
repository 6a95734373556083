"""Several workers that train one model: the same weights as one, one set of files, no hanging.

Launched by torchrun, this file is itself the program that the workers run; see ``work``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.tasks import TaskConfig
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.models import EventJumpConfig, JumpyRNNConfig, RNNConfig, pretrained_info
from jumpy_mbrl.models.registry import ModelConfig
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training import loop as training_loop
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.distributed import Workers, WorkersLostError, join, launched

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "train_world_model.py"
CPU = torch.device("cpu")
TABLE = TableConfig(num_frames=8)
OPTIONS = (
    *("--preset", "rnn-tiny", "--steps", "12", "--device", "cpu", "--model.hidden-size", "8"),
    *("--train-data.table.num-frames", "8", "--validation-data.table.num-frames", "8"),
    # Muon and bfloat16 would enlarge what the order of summation changes.
    *("--optimizer", "adamw", "--precision", "float32", "--learning-rate", "1e-3"),
)


def run_of(model: ModelConfig) -> TrainingConfig:
    """A short run on the papers' Billiards2D, without actions."""
    return TrainingConfig(
        model=model,
        train_data=TaskConfig("billiards2d", 200),
        validation_data=TaskConfig("billiards2d", 10, split="validation"),
        steps=6,
        batch_size=32,
        validation_interval=3,
        checkpoint_interval=2,
        device="cpu",
        threads=1,
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
CONSTANT = run_of(JumpyRNNConfig(4, 0, 8, 8, constant_jump=4))
EVENTS = run_of(EventJumpConfig(action_size=0, hidden_size=8))


# -- what the workers run ----------------------------------------------------------------------


def work(folder: Path) -> None:
    """Several runs one after the other, in every worker; in the last, the second worker fails."""
    data_dir = folder / "data"
    places = ("--data-dir", str(data_dir), "--run-dir")
    assert script().main([*OPTIONS, *places, str(folder / "rnn")]) == 0
    assert script().main([*OPTIONS, *places, str(folder / "odd"), "--batch-size", "7"]) == 2
    assert script().main([*OPTIONS, *places, str(folder / "rnn")]) == 2
    for name, config in (("constant", CONSTANT), ("events", EVENTS)):
        best = train(config, folder / name, data_dir=data_dir, progress=False)
        assert (best / "config.json").is_file()
    train(SHOTS, folder / "begun", data_dir=data_dir, progress=False, resume=True)
    fail(folder)


def fail(folder: Path) -> None:
    """Runs the command line until the second worker fails in the eighth step."""
    update = training_loop._Run._update

    def failing(self: Any) -> Any:
        if self.step == 7 and self.workers.rank == 1:
            raise ValueError("the lights went out")
        return update(self)

    training_loop._Run._update = failing  # type: ignore[method-assign]
    program: Any = script()
    program.parse = lambda argv: program.Arguments(
        folder / "failed", data_dir=folder / "data", config=SHOTS
    )
    raise SystemExit(program.main(["--run-dir", "failed"]))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_world_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What two workers left, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        crash(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            alone(SHOTS, folder / "begun", folder)
    return folder, launch(folder)


def crash(patch: pytest.MonkeyPatch, step: int) -> None:
    """Lets a run stop before the update from ``step`` on."""
    update = training_loop._Run._update

    def crashing(self: Any) -> Any:
        if self.step == step:
            raise KeyboardInterrupt
        return update(self)

    patch.setattr(training_loop._Run, "_update", crashing)


def alone(config: TrainingConfig, folder: Path, data: Path, **options: Any) -> Checkpoint:
    """The end of the same run in this process."""
    train(config, folder, data_dir=data / "data", progress=False, **options)
    return Checkpoint.load(folder / "checkpoint.safetensors")


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
    config = script().parse([*OPTIONS, "--run-dir", "unused"]).config
    both = Checkpoint.load(folder / "rnn" / "checkpoint.safetensors")
    one = alone(config, tmp_path / "run", folder)
    assert both.step == 12
    assert_same(both, one)
    first = training_loop._first_weights(config).state_dict()
    moved = max(float((both.model[name] - first[name]).abs().max()) for name in first)
    assert moved > 5e-3, "the tolerance must be small beside what was learned"


def test_constant_jumps_are_the_same_too(two: Any, tmp_path: Path) -> None:
    both = Checkpoint.load(two[0] / "constant" / "checkpoint.safetensors")
    assert_same(both, alone(CONSTANT, tmp_path / "run", two[0]))


def test_a_network_that_no_loss_uses_stays_as_it_is(two: Any) -> None:
    end = Checkpoint.load(two[0] / "events" / "checkpoint.safetensors")
    first = training_loop._first_weights(EVENTS)
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


# -- a world of another size -------------------------------------------------------------------


def test_two_workers_go_on_where_one_stopped(two: Any, tmp_path: Path) -> None:
    both = Checkpoint.load(two[0] / "begun" / "checkpoint.safetensors")
    assert_same(both, alone(SHOTS, tmp_path / "run", two[0]))


def test_one_worker_goes_on_where_two_stopped(two: Any, tmp_path: Path) -> None:
    folder, _ = two
    assert Checkpoint.load(folder / "failed" / "checkpoint.safetensors").step == 5
    resumed = alone(SHOTS, folder / "failed", folder, resume=True)
    assert_same(resumed, alone(SHOTS, tmp_path / "run", folder))


# -- errors ------------------------------------------------------------------------------------


def test_an_error_in_one_worker_ends_all(two: Any) -> None:
    _, process = two
    assert process.returncode != 0
    assert "train_world_model: worker 1 of 2: the lights went out" in process.stderr


def test_what_cannot_be_run_is_refused_by_all(two: Any) -> None:
    folder, process = two
    for rank in (0, 1):
        who = f"train_world_model: worker {rank} of 2: "
        assert f"{who}batch_size must be divisible by the number of workers, got 7" in (
            process.stderr
        )
        assert f"{who}{folder / 'rnn'} already holds a run" in process.stderr
    assert not (folder / "odd").exists()


def test_a_lost_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made: list[str] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", made.append)
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
    ("device", "local", "message"),
    [
        ("cuda:0", 0, r"expected device 'cuda' for 2 workers, got 'cuda:0'"),
        ("cuda", 1, r"for every worker, but torch sees 1 here and this is worker 1"),
        ("auto", 1, r"start fewer workers, or use 'cpu'"),
        ("tpu", 0, r"unknown device 'tpu'"),
    ],
)
def test_every_worker_needs_a_device(
    device: str, local: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": local, "WORLD_SIZE": 2, "LOCAL_RANK": local}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
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
        parts: list[Tensor] = [share[name] for share in shares]
        assert {len(part) for part in parts} == {2}
        assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(ValueError, match=r"got 8 for 3 workers; change one of them"):
        Workers(CPU, 0, 3).check_batch(8)
    Workers(CPU, 0, 3).check_batch(9)
    with pytest.raises(ValueError, match=r"expected obs in a batch .* got 6 for 4 workers"):
        Workers(CPU, 0, 4).share(batch)


def test_settings_of_workers_are_no_part_of_a_run() -> None:
    assert "workers" not in json.dumps(replace(SHOTS, threads=2).to_dict())


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(Path(sys.argv[1]))
