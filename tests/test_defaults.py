"""Nothing depends on the type and the device that torch gives to new tensors by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.agents import AGENTS, CEMConfig, CEMPlanner, PlannerConfig, ReachRegion, load_agent
from jumpy_mbrl.agents.baselines.presets import POLICY_PRESETS
from jumpy_mbrl.agents.baselines.train import train_policy
from jumpy_mbrl.agents.model_free import policy_agent
from jumpy_mbrl.agents.planning.trace import record_shot, trace_plan
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.devices import plain_defaults
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rules import line_task
from jumpy_mbrl.evaluation import evaluate_agent, make_tables
from jumpy_mbrl.lab.rollouts import imagined_rollout, watch_shot
from jumpy_mbrl.models import JumpyRNNConfig, RNNConfig, from_pretrained, shipped_models
from jumpy_mbrl.training import TrainingConfig, train

STEPS: Any = 0.02 * np.arange(4)[:, None] * [1.0, -1.0, 1.0, 0.5]
FRAMES = np.array([[0.3, 0.5, 0.65, 0.58]]) + STEPS
QUICK: dict[str, Any] = {"finalists": 2, "perturbations": 4}
"""Of a search."""


def agents() -> Iterator[tuple[str, Any]]:
    """The shots of every agent, also on a line, and of other searches."""
    config = PlannerConfig(candidates=8, refined=2, gradient_steps=2, **QUICK)
    for name in AGENTS:
        yield name, load_agent(name, config=config, device="cpu").predict(FRAMES)[0]
    line = load_agent("jumpy", task=line_task(), config=config, device="cpu")
    yield "line", line.predict(FRAMES[:, :2])[0]
    jumpy: Any = load_agent("jumpy", config=config, device="cpu")
    cem = CEMPlanner(jumpy.model, jumpy.objective, CEMConfig(population=8, elites=2, **QUICK))
    yield "cem", cem.predict(FRAMES)[0]
    still = np.zeros((2, 2))
    yield "plan", trace_plan(jumpy, FRAMES, FRAMES[-1].reshape(2, 2), still, TableConfig()).imagined
    tables = make_tables(1)
    result = evaluate_agent(jumpy, tables)
    yield "evaluation", result.actions
    yield "recorded", record_shot(jumpy, tables, result.actions[0]).imagined
    shot = watch_shot(0, jumpy)
    yield "imagined", imagined_rollout(jumpy.model, shot, np.linspace(3.0, 9.0, 5)).way
    yield "three balls", jumpy.model.for_balls(3).initial_state(1).velocity


def models() -> Iterator[tuple[str, Any]]:
    """What every shipped model imagines, and through which adapter."""
    rng = np.random.default_rng(0)
    for name in shipped_models():
        model = from_pretrained(name)
        random = rng.uniform(0.2, 0.8, (1, 4, model.obs_size)) if model.obs_size != 4 else None
        seen = FRAMES[None] if random is None else random
        state = model.observe(torch.from_numpy(seen.astype(np.float32)))
        yield name, model.imagine(state, [0.0, 1.5, 4.0]).obs[0]
    model = from_pretrained("rnn-billiards2d")
    objective = ReachRegion((0.8, 1.0, 0.0, 0.2), [1.0, 8.0])
    shots: Any = rng.uniform(-1.0, 1.0, (1, 5, 2))
    yield "costs", CostModel(model, objective).get_cost({"frames": FRAMES[None]}, shots)
    env = WorldModelVectorEnv(model, 2, step_by="shot")
    env.reset(seed=0)
    yield "env", env.step(shots[0, :2])[0]
    if find_spec("torchrl") is not None:
        from jumpy_mbrl.adapters.torchrl import WorldModelEnv

        world = WorldModelEnv(model, objective, FRAMES[None])
        start = world.reset()
        start["action"] = torch.from_numpy(shots[0, 0]).float()
        yield "torchrl", world.step(start)["next", "observation"]


def batches() -> Iterator[tuple[str, Any]]:
    """The loss of a batch of every kind, and how the model would be changed."""
    table = TableConfig(num_frames=12)
    shots = make_dataset(DatasetConfig(table=table, num_trajectories=200))
    line = make_task(TaskConfig("billiards1d", 100))
    pictures = make_task(TaskConfig("pixel-billiards1d", 100))
    kinds: dict[str, Any] = {
        "rnn-billiards2d": shots,
        "jumpy-circles-task": make_task(TaskConfig("circles", 10)),
        "fold-billiards2d": shots,
        "jumpy-billiards1d-task": line,
        "jumpy-pixel-billiards1d-task": pictures,
    }
    for name, data in kinds.items():
        model = from_pretrained(name)
        generator = torch.Generator("cpu").manual_seed(0)
        sampler = model.sampler(data)
        loss, _ = model.loss(sampler.sample(8, generator))
        loss.backward()
        grads = [part.grad for part in model.parameters() if part.grad is not None]
        yield model.batch_kind, torch.stack([loss, *(grad.norm() for grad in grads)])


def runs(folder: Path) -> Iterator[tuple[str, Any]]:
    """Weights after two steps of training."""
    config = TrainingConfig(
        model=JumpyRNNConfig(2, 0, hidden_size=4, mlp_size=8),
        train_data=TaskConfig("circles", 10),
        validation_data=TaskConfig("circles", 2, split="validation"),
        steps=2,
        batch_size=8,
        device="cpu",
        threads=1,
    )
    for name, more in {"jumpy-rnn": config, "rnn": replace(config, model=RNNConfig(2, 0))}.items():
        best = train(more, folder / name, data_dir=folder, progress=False)
        yield name, torch.cat([part.flatten() for part in from_pretrained(best).parameters()])


def policies(folder: Path) -> Iterator[tuple[str, Any]]:
    """What a policy plays that has learned a little."""
    quick: Any = {"timesteps": 32, "n_envs": 8, "batch_size": 16, "net": (8,)}
    quick |= {"validation_interval": 32, "validation_tables": 2}
    sac: Any = {"buffer_size": 1024, "learning_starts": 8, "gradient_steps": 1}
    for name, own in {"ppo-shot-coords": {"n_steps": 4}, "sac-shot-coords": sac}.items():
        config = POLICY_PRESETS[name]
        algorithm: Any = replace(config.algorithm, **own)
        config = replace(config, algorithm=algorithm, **quick)
        best = train_policy(config, folder / name, progress=False)
        yield name, policy_agent(best, trust=True).predict(FRAMES)[0]


PATHS = {"agents": agents, "models": models, "batches": batches, "runs": runs, "policies": policies}


@contextmanager
def defaults(dtype: torch.dtype, device: str | None) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize("path", PATHS)
def test_results_are_the_same_whatever_the_defaults(path: str, tmp_path: Path) -> None:
    work: Any = PATHS[path]
    kinds = [(torch.float32, None), (torch.float64, None), (torch.float32, "meta")]
    found = []
    for number, (dtype, device) in enumerate(kinds):
        given = [] if work in (agents, models, batches) else [tmp_path / str(number)]
        with defaults(dtype, device):
            found.append({name: as_array(values) for name, values in work(*given)})
    plain, *others = found
    for other in others:
        assert other.keys() == plain.keys()
        for name, values in plain.items():
            assert other[name].dtype == values.dtype, name
            np.testing.assert_array_equal(other[name], values, err_msg=name)


def test_what_is_made_within_plain_defaults_is_plain() -> None:
    with defaults(torch.float64, "meta"):
        with plain_defaults():
            layer = torch.nn.Linear(2, 3)
        outside = torch.nn.Linear(2, 3)
    assert (layer.weight.dtype, layer.weight.device.type) == (torch.float32, "cpu")
    assert (outside.weight.dtype, outside.weight.device.type) == (torch.float64, "meta")
