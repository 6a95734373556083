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

from jumpy_mbrl import models
from jumpy_mbrl.data import DatasetConfig, make_dataset
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation.sequences import sample, score
from jumpy_mbrl.models import Imagined, WorldModel
from jumpy_mbrl.training import TrainingConfig, loop, train

MODELS: dict[str, Any] = {
    name: models.MODELS[name].config(action_size=2, hidden_size=4)
    for name in ("rnn", "jumpy-rnn", "ode-rnn", "latent-jump", "fold-jump", "event-jump")
}
TABLE, SHORT = TableConfig(num_frames=12), TableConfig(num_frames=5)
THIN: Any = {"mlp_size": 1, "mlp_layers": 2}
LONG: dict[str, tuple[Any, DatasetConfig, int]] = {
    "rnn": (models.RNNConfig(hidden_size=1, **THIN), DatasetConfig(SHORT, 8), 10_000),
    "jumpy-rnn": (models.JumpyRNNConfig(hidden_size=2, **THIN), DatasetConfig(SHORT, 8), 400),
    "fold-jump": (models.FoldJumpConfig(hidden_size=2), DatasetConfig(TABLE, 100), 200),
}
"""Runs in which memory would grow, and their steps."""
MEMORY = 4.0
"""In MiB: allocators keep a little of what they gave back. A graph for each step needs tens."""
RUN = TrainingConfig(
    MODELS["rnn"],
    train_data=DatasetConfig(TABLE, 100),
    validation_data=DatasetConfig(TABLE, 2, split="validation"),
    steps=1,
    batch_size=4,
    device="cpu",
    threads=1,
)


@pytest.mark.parametrize("name", MODELS)
def test_validation_and_scoring_build_no_graph(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[bool] = []
    imagine = WorldModel.imagine

    def watched(self: WorldModel, state: Any, *settings: Any, **options: Any) -> Imagined:
        imagined = imagine(self, state, *settings, **options)
        tensors = (state.hidden, state.obs, imagined.obs, imagined.state.hidden)
        graphs.append(any(tensor.requires_grad for tensor in tensors))
        return imagined

    monkeypatch.setattr(WorldModel, "imagine", watched)
    train(replace(RUN, model=MODELS[name]), tmp_path / "run", data_dir=tmp_path, progress=False)
    validated = len(graphs)
    torch.manual_seed(3)  # Untrained event models may search long for a velocity; these do not.
    model = models.make_model(MODELS[name])
    data = make_dataset(DatasetConfig(TableConfig(num_frames=6), 2, split="validation"))
    score(model, data)
    assert 0 < validated < len(graphs) and not any(graphs)
    sample(model, torch.from_numpy(data.obs), torch.from_numpy(data.action), 4, [4.5, 5.0])
    assert graphs[-1], "predictions themselves should have one: planners need it"


def tensors() -> list[Tensor]:
    """All tensors that are alive."""
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_training_holds_on_to_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a tenth of the steps nothing should grow any more."""
    model, data, steps = LONG[name]
    config = replace(
        RUN,
        model=model,
        train_data=data,
        validation_data=replace(data, num_trajectories=4, split="validation"),
        steps=steps,
        batch_size=2,
        validation_interval=steps // 40,
        checkpoint_interval=steps // 10,
    )
    alive, graphs, sizes = set(), {sum(t.grad_fn is not None for t in tensors())}, []
    save = loop._Run.save

    def watched(self: Any) -> None:
        save(self)
        alive.add(len(tensors()))
        graphs.add(sum(tensor.grad_fn is not None for tensor in tensors()))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGESIZE") / 2**20)

    monkeypatch.setattr(loop._Run, "save", watched)
    train(config, tmp_path / "run", data_dir=tmp_path, progress=False)
    assert len(sizes) == 10
    assert len(alive) == 1, "tensors stay alive"
    assert len(graphs) == 1, "a graph is kept between two steps"
    assert sizes[-1] - sizes[0] < MEMORY, f"memory grows: {sizes}"
