"""A run's loss: in bfloat16, and compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jumpy_mbrl import models
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.models import RNNConfig
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training import loop as training_loop
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.loss import Loss, check_compiler

CPU = torch.device("cpu")
RUN = TrainingConfig(
    model=RNNConfig(4, 0, 8, 8),
    train_data=TaskConfig("billiards2d", 20),
    validation_data=TaskConfig("billiards2d", 5, split="validation"),
    steps=6,
    batch_size=4,
    validation_interval=3,
    checkpoint_interval=2,
    device="cpu",
    threads=1,
)


# -- bfloat16 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": models.SpriteJumpConfig(action_size=0), "precision": "bfloat16"},
            r"expected precision 'float32' for a sprite-jump, .* got 'bfloat16'; leave",
        ),
        (
            {"model": models.JumpyRNNConfig(4, 0), "compile": True},
            "the work of a JumpyRNN's loss depends .* leave compile=False",
        ),
    ],
)
def test_what_a_model_cannot_do_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RUN, **change)


# -- compiling ---------------------------------------------------------------------------------


def graphs_compiled() -> int:
    """How many graphs torch.compile has met so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.slow
# Torch's own: when it first imports its compiler, and when it looks at what it compiles.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiling_changes_neither_the_loss_nor_its_gradient() -> None:
    check_compiler(CPU)
    data = make_task(TaskConfig("billiards2d", 64))
    config = RNNConfig(4, 0, hidden_size=8, mlp_size=8, mlp_layers=2)
    model = models.make_model(config)
    batch = model.sampler(data).sample(16, torch.Generator().manual_seed(0))
    found = []
    before = graphs_compiled()
    for compile in (False, True):
        model.zero_grad()
        loss, log = Loss(model, compile=compile)(batch)
        loss.backward()
        grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append((loss.detach(), log, torch.cat([grad.flatten() for grad in grads])))
    assert graphs_compiled() > before, "nothing was compiled"
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "needed"),
    [("cpu", r"a C\+\+ compiler \(g\+\+, or the one named by CXX\)"), ("cuda", "Triton")],
)
@pytest.mark.parametrize("error", [RuntimeError, ImportError])
def test_a_missing_compiler_is_named(
    device: str, needed: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(numbers: Any) -> Any:
        raise error("cannot find it\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda work: fail)
    monkeypatch.setattr(torch, "ones", lambda size, **options: None)
    message = rf"compile=True needs {needed}, which does not work here: cannot find it; install it"
    with pytest.raises(ValueError, match=message):
        check_compiler(torch.device(device))


def test_a_run_that_cannot_be_compiled_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(work: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ValueError, match=r"compile=True needs .* or leave compile=False"):
        train(replace(RUN, compile=True), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# -- resuming ----------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that stopped in its fourth step, with a checkpoint after the second."""
    update = training_loop._Run._update

    def stopping(self: Any) -> Any:
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop._Run, "_update", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(RUN, tmp_path / "begun", progress=False)
    return tmp_path / "begun"


def test_a_run_from_before_there_were_these_settings_goes_on(begun: Path, tmp_path: Path) -> None:
    path = begun / "checkpoint.safetensors"
    checkpoint = Checkpoint.load(path)
    old = {
        name: value
        for name, value in checkpoint.config.items()
        if name not in ("precision", "compile")
    }
    assert len(old) == len(checkpoint.config) - 2
    replace(checkpoint, config=old).save(path)
    train(RUN, begun, resume=True, progress=False)
    train(RUN, tmp_path / "whole", progress=False)
    whole = tmp_path / "whole" / "checkpoint.safetensors"
    assert path.read_bytes() == whole.read_bytes()


def test_another_precision_is_another_run(begun: Path) -> None:
    with pytest.raises(ValueError, match=r"got precision='bfloat16' instead of 'float32';"):
        train(replace(RUN, precision="bfloat16"), begun, resume=True, progress=False)


def test_a_run_may_be_compiled_from_any_step_on(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(work: Any) -> Any:
        def counting(*arguments: Any) -> Any:
            calls.append(work.__name__)
            return work(*arguments)

        return counting

    monkeypatch.setattr(torch, "compile", counted)
    train(replace(RUN, compile=True), begun, resume=True, progress=False)
    assert calls == ["_probe", *["loss"] * 4]
    assert Checkpoint.load(begun / "checkpoint.safetensors").step == 6
