"""What training and evaluation hold on to: no graph that nobody needs, and no memory over time."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation.sequences import sample, score
from jumpy_mbrl.models import (
    EventJumpConfig,
    FoldJumpConfig,
    Imagined,
    JumpyRNNConfig,
    LatentJumpConfig,
    ODERNNConfig,
    RNNConfig,
    WorldModel,
)
from jumpy_mbrl.models.registry import ModelConfig, make_model
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training import loop as training_loop

MODELS: dict[str, ModelConfig] = {
    "RNN": RNNConfig(4, 2, 4, 4),
    "JumpyRNN": JumpyRNNConfig(4, 2, 4, 4),
    "ODE-RNN": ODERNNConfig(4, 2, 4, 4),
    "LatentJump": LatentJumpConfig(4, 2, 4, 4, 4),
    "FoldJump": FoldJumpConfig(hidden_size=4),
    "EventJump": EventJumpConfig(hidden_size=4),
}
TABLE = TableConfig(num_frames=12)

SHORT = TableConfig(num_frames=5)
LONG: list[tuple[ModelConfig, DatasetConfig, int]] = [
    (RNNConfig(hidden_size=1, mlp_size=1, mlp_layers=2), DatasetConfig(SHORT, 8), 10_000),
    (JumpyRNNConfig(hidden_size=2, mlp_size=1, mlp_layers=2), DatasetConfig(SHORT, 8), 400),
    (FoldJumpConfig(hidden_size=2), DatasetConfig(TABLE, 100), 200),
]
"""Runs in which memory would grow, and their steps."""
MEMORY = 4.0
"""In MiB: allocators keep a little of what they gave back. A graph for each step needs tens."""


def run_of(model: ModelConfig, **settings: Any) -> TrainingConfig:
    """A run of one step with a validation, unless settings tell otherwise."""
    defaults: dict[str, Any] = {
        "train_data": DatasetConfig(TABLE, 100),
        "validation_data": DatasetConfig(TABLE, 2, split="validation"),
        "steps": 1,
        "batch_size": 4,
        "device": "cpu",
        "threads": 1,
    }
    return TrainingConfig(model, **{**defaults, **settings})


# -- graphs ------------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every prediction from now on: whether it, or the state it starts from, has a graph."""
    made: list[bool] = []
    imagine = WorldModel.imagine

    def watched(self: WorldModel, state: Any, *settings: Any, **options: Any) -> Imagined:
        imagined = imagine(self, state, *settings, **options)
        tensors = (state.hidden, state.obs, imagined.obs, imagined.state.hidden)
        made.append(any(tensor.requires_grad for tensor in tensors))
        return imagined

    monkeypatch.setattr(WorldModel, "imagine", watched)
    return made


@pytest.mark.parametrize("name", MODELS)
def test_validation_builds_no_graph(name: str, graphs: list[bool], tmp_path: Path) -> None:
    train(run_of(MODELS[name]), tmp_path / "run", data_dir=tmp_path, progress=False)
    assert graphs and not any(graphs)


@pytest.mark.parametrize("name", MODELS)
def test_scoring_builds_no_graph(name: str, graphs: list[bool]) -> None:
    torch.manual_seed(3)  # Untrained event models may search long for a velocity; these do not.
    model = make_model(MODELS[name])
    data = make_dataset(DatasetConfig(TableConfig(num_frames=6), 2, split="validation"))
    score(model, data)
    assert graphs and not any(graphs)
    graphs.clear()
    sample(model, torch.from_numpy(data.obs), torch.from_numpy(data.action), 4, [4.5, 5.0])
    assert any(graphs), "predictions themselves should have one: planners need it"


# -- memory ------------------------------------------------------------------------------------


def tensors() -> list[Tensor]:
    """All tensors that are alive."""
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def graphs_alive() -> int:
    """How many of them have a graph."""
    return sum(tensor.grad_fn is not None for tensor in tensors())


def memory() -> float:
    """What the process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "steps"), LONG, ids=[type(run[0]).__name__ for run in LONG]
)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_training_holds_on_to_nothing(
    model: ModelConfig,
    data: DatasetConfig,
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a tenth of the steps nothing should grow any more."""
    config = run_of(
        model,
        train_data=data,
        validation_data=replace(data, num_trajectories=4, split="validation"),
        steps=steps,
        batch_size=2,
        validation_interval=steps // 40,
        checkpoint_interval=steps // 10,
    )
    counts, graphs, sizes = [], [graphs_alive()], []
    save = training_loop._Run.save

    def watched(self: Any) -> None:
        save(self)
        counts.append(len(tensors()))
        graphs.append(graphs_alive())
        sizes.append(memory())

    monkeypatch.setattr(training_loop._Run, "save", watched)
    train(config, tmp_path / "run", data_dir=tmp_path, progress=False)
    assert len(counts) == 10
    assert set(counts) == {counts[0]}, "tensors stay alive"
    assert set(graphs) == {graphs[0]}, "a graph is kept between two steps"
    assert sizes[-1] - sizes[0] < MEMORY, f"memory grows: {sizes}"
