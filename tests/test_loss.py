"""A run's loss: in bfloat16, compiled, and of sequences that end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.sampling import SequenceSampler
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.models import (
    EventJumpConfig,
    FoldJumpConfig,
    JumpyRNNConfig,
    LatentJumpConfig,
    ODERNNConfig,
    RNNConfig,
    from_pretrained,
)
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJumpConfig
from jumpy_mbrl.models.registry import ModelConfig, make_model
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training import loop as training_loop
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import Precision
from jumpy_mbrl.training.loss import Loss, check_compiler

CPU = torch.device("cpu")
MODELS: dict[str, ModelConfig] = {
    "RNN": RNNConfig(4, 0, 16, 16),
    "ODE-RNN": ODERNNConfig(4, 0, 16, 16),
    "JumpyRNN": JumpyRNNConfig(4, 0, 16, 16),
    "JumpyRNN as printed": JumpyRNNConfig(4, 0, 16, 16, residual=False),
    "LatentJump": LatentJumpConfig(4, 0, 4, 16, 16),
    "FoldJump": FoldJumpConfig(action_size=0, hidden_size=16),
    "EventJump": EventJumpConfig(action_size=0, hidden_size=16),
}
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


@pytest.fixture(scope="module")
def data() -> TaskDataset:
    return make_task(TaskConfig("billiards2d", 64))


def differentiated(
    config: ModelConfig, data: SequenceData, precision: Precision = "float32", compile: bool = False
) -> tuple[Tensor, dict[str, Tensor], Loss]:
    """The loss of a batch that is always the same, its log, and the module with its gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(config)
    sampler = model.sampler(data)
    module = Loss(model, precision, compile)
    loss, log = module(sampler.sample(16, torch.Generator().manual_seed(0)))
    loss.backward()
    return loss.detach(), log, module


def gradient(module: Loss) -> Tensor:
    """All gradients as one vector."""
    grads = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return torch.cat([grad.flatten() for grad in grads])


# -- sequences that end early ------------------------------------------------------------------


def ended(data: TaskDataset, padding: str) -> Recording:
    """The sequences, of which most end early; beyond that are frames of the given kind."""
    rng = np.random.default_rng(0)
    length = np.append(rng.integers(6, 44, 63), 45)
    obs = data.obs.copy()
    for row, end in zip(obs, length, strict=True):
        row[end:] = row[end - 1] if padding == "last" else rng.uniform(size=row[end:].shape)
    return Recording(obs, data.action, np.zeros((64, 44)), data.warm_up, length)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_beyond_the_end_of_a_sequence_teaches_nothing(name: str, data: TaskDataset) -> None:
    loss, log, module = differentiated(MODELS[name], ended(data, "last"))
    other, other_log, other_module = differentiated(MODELS[name], ended(data, "random"))
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(other_log, log)
    torch.testing.assert_close(gradient(other_module), gradient(module), atol=1e-6, rtol=1e-4)
    whole, _, _ = differentiated(MODELS[name], data)
    assert float(whole) != pytest.approx(float(loss), rel=1e-3), "fewer frames teach otherwise"


@pytest.mark.parametrize("name", ["RNN", "ODE-RNN"])
def test_every_real_frame_counts_alike(name: str, data: TaskDataset) -> None:
    recording = ended(data, "random")
    model = make_model(MODELS[name])
    batch = SequenceSampler(recording).sample(16, torch.Generator().manual_seed(0))
    weights = batch["length"] - 1
    assert len(weights.unique()) > 8
    alone = [
        model.loss({"obs": obs[None, :end], "action": action[None, :end]})[0]
        for obs, action, end in zip(batch["obs"], batch["action"], batch["length"], strict=True)
    ]
    expected = (torch.stack(alone) * weights).sum() / weights.sum()
    torch.testing.assert_close(model.loss(batch)[0], expected)


# -- bfloat16 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_changes_the_loss_only_a_little(name: str, data: TaskDataset) -> None:
    full, _, plain = differentiated(MODELS[name], data)
    lower, log, module = differentiated(MODELS[name], data, "bfloat16")
    assert float(lower) != float(full), "it should be computed in another precision"
    assert float(lower) == pytest.approx(float(full), rel=0.02)
    likeness = torch.cosine_similarity(gradient(plain), gradient(module), dim=0)
    assert 0.99 < float(likeness) < 1.0 - 1e-7
    assert lower.dtype == torch.float32
    assert not any(scalar.requires_grad for scalar in log.values())


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_gradients_stay_in_float32(name: str, data: TaskDataset) -> None:
    _, _, module = differentiated(MODELS[name], data, "bfloat16")
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert gradient(module).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_a_run_in_bfloat16_is_another_one_that_ends_in_float32(tmp_path: Path) -> None:
    ends = {}
    for precision in ("float32", "bfloat16"):
        config = replace(RUN, precision=precision)
        model = from_pretrained(train(config, tmp_path / precision, progress=False))
        ends[precision] = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert ends["bfloat16"].dtype == torch.float32
    assert not torch.equal(ends["bfloat16"], ends["float32"])
    # Six steps of AdamW move a weight by 6e-3 at most.
    torch.testing.assert_close(ends["bfloat16"], ends["float32"], rtol=0.0, atol=4e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": SpriteJumpConfig(action_size=0), "precision": "bfloat16"},
            r"expected precision 'float32' for a sprite-jump, .* got 'bfloat16'; leave it",
        ),
        (
            {"model": JumpyRNNConfig(4, 0), "compile": True},
            r"the JumpyRNN's loop over lines .* leave compile=False",
        ),
        ({"precision": "bfloat"}, r"unknown precision 'bfloat'.*did you mean 'bfloat16'"),
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
def test_compiling_changes_neither_the_loss_nor_its_gradient(data: TaskDataset) -> None:
    check_compiler(CPU)
    config = RNNConfig(4, 0, hidden_size=8, mlp_size=8, mlp_layers=2)
    plain_loss, plain_log, plain = differentiated(config, data)
    before = graphs_compiled()
    loss, log, compiled = differentiated(config, data, compile=True)
    assert graphs_compiled() > before, "nothing was compiled"
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(log, plain_log, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient(compiled), gradient(plain), rtol=1e-4, atol=1e-5)


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


# -- which frames count ----------------------------------------------------------------------------


def test_a_burn_in_has_to_leave_frames() -> None:
    model = make_model(RNNConfig(2, 0, 8, 8, burn_in=5))
    batch = {"obs": torch.zeros(3, 5, 2), "action": torch.zeros(3, 5, 0)}
    with pytest.raises(ValueError, match="more than burn_in=5 frames, got 5; lower burn_in"):
        model.loss(batch)


def test_sequences_that_end_within_the_burn_in_teach_nothing() -> None:
    model = make_model(RNNConfig(2, 0, 8, 8, burn_in=3))
    batch = {"obs": torch.rand(3, 5, 2), "action": torch.zeros(3, 5, 0)}
    loss, _ = model.loss({**batch, "length": torch.tensor([2, 3, 1])})
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["RNN", "ODE-RNN", "JumpyRNN"])
@pytest.mark.parametrize(
    ("setting", "wrong", "message"),
    [
        ("burn_in", 0, "must be an integer of at least 1, got 0"),
        ("action_weight", 0.0, "must be positive and finite, got 0.0; 1 counts all errors alike"),
        ("action_weight", float("nan"), "must be positive and finite, got nan"),
    ],
)
def test_impossible_losses_are_refused(name: str, setting: str, wrong: float, message: str) -> None:
    config: Any = MODELS[name]
    with pytest.raises(ValueError, match=f"{setting} {message}"):
        replace(config, **{setting: wrong})
