"""The speed of training and of predicting, for every world model beside the recurrent baseline.

A training step is what the training loop does for one update: draw a batch, the loss, its gradient,
clip that, and a fused AdamW update. It is measured with first weights and a learning rate of zero,
so that the cost does not depend on how much a model has learned by then. That matters to the
JumpyRNN alone: before it has learned to jump it ticks at almost every frame, and its steps cost
most. So it is measured trained as well.

Models learn from different things, so what a step costs is also divided by the frames of trajectory
that it supervises (``supervised_frames``).

For some models a step in bfloat16, or compiled, stands beside the plain one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch

from jumpy_mbrl.data import loading
from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.events import EventTable
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.lab.bench.clock import Clock, Row, Work, make_row, make_rows, ratio_row
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.bodies.event_jump import EventJumpConfig
from jumpy_mbrl.models.bodies.fold_jump import FoldJumpConfig
from jumpy_mbrl.models.latent_jump import LatentJump, LatentJumpConfig
from jumpy_mbrl.models.ode_rnn import ODERNNConfig
from jumpy_mbrl.models.pretrained import from_pretrained
from jumpy_mbrl.models.registry import ModelConfig, make_model
from jumpy_mbrl.training.loss import Loss, check_compiler
from jumpy_mbrl.training.presets import task_preset

HIDDEN_SIZE = 128
BATCH_SIZE = 256
SEQUENCES = 1000
DEVICE_BATCHES = (256, 4096)
MOST_PER_FRAME = 1.5
MOST_OF_JUMPY = 1.0

TASK = "billiards2d"
MODELS: dict[str, ModelConfig] = {
    "RNN": task_preset(TASK, "rnn-tuned").model,
    "JumpyRNN": task_preset(TASK, "jumpy-rnn-tuned").model,
    "ODE-RNN": task_preset(TASK, "ode-rnn-tuned").model,
    "LatentJump": LatentJumpConfig(obs_size=4, hidden_size=HIDDEN_SIZE),
    "FoldJump": FoldJumpConfig(action_size=0, hidden_size=HIDDEN_SIZE),
    "EventJump": EventJumpConfig(action_size=0, hidden_size=HIDDEN_SIZE),
}
"""What is trained on the papers' Billiards2D; the papers' models have the papers' sizes."""
TRAINED = ("JumpyRNN, trained", "jumpy-rnn-billiards2d-task")
"""The papers' jumpy network with the weights that are shipped, whose steps have a target."""
BASE, OURS = "RNN", "FoldJump"
"""What the others' training is compared with; our model, whose cost of a frame has a target."""
SHIPPED = ("rnn-billiards2d", "jumpy-rnn-billiards2d", "jumpy-billiards2d", "fold-billiards2d")
"""Who predicts shot tables: a jumpy model has to be trained, or it does not jump."""
PICTURES = "pixel-billiards2d"
SETTINGS: dict[str, tuple[str, ModelConfig]] = {
    "RNN on pictures": (PICTURES, task_preset(PICTURES, "rnn").model),
    "LatentJump": (TASK, MODELS["LatentJump"]),
    "ODE-RNN": (TASK, MODELS["ODE-RNN"]),
}
"""Whose steps are measured in bfloat16 and compiled: task and model."""

_SUPERVISED = {
    "sequences": "a frame of a sequence",
    "windows": "a frame ahead of a moment",
    "events": "a frame of a straight run",
}
"""What ``supervised_frames`` counts, by the kind of batch."""
_MOMENTS = 10_000
"""Moments from which the mean length of a known future is estimated."""
_DEVICE_ROUNDS = 2


def bench_train(clock: Clock) -> Iterator[Row]:
    """All rows on training and prediction; on CUDA too where there is a device."""
    yield from _training_steps(clock)
    yield from _setting_rows(clock)
    data, anchor = _shot_tables(SEQUENCES), None
    works = {name: _predictor(model, data) for name, model in _predicting_models().items()}
    for name, rate in clock.rates(works).items():
        yield make_row(f"{_prediction(data)}, {name}", rate, "samples/s", anchor)
        anchor = anchor or (BASE, rate)
    if torch.cuda.is_available():
        yield from device_rows(clock, "cuda")


def device_rows(clock: Clock, device: str) -> Iterator[Row]:
    """Training steps and predictions on a device, and how many times faster than the CPU it is.

    The CPU has one round without warm-up, right before the device, which has at most 2: a step of a
    large batch takes the CPU seconds, and what is asked for is a factor.
    """
    once = Clock(1, clock.seconds, warm_up=False)
    clock = Clock(min(clock.rounds, _DEVICE_ROUNDS), clock.seconds)
    data = make_task(TaskConfig(TASK, SEQUENCES))
    for batch in DEVICE_BATCHES:
        for name, model in _trained_models().items():
            label = f"training step, batch {batch}, {name}"
            cpu = once.rates({label: _trainer(model, data, batch)})[label]
            there = clock.rates({label: _trainer(model, data, batch, device)})[label]
            yield make_row(f"{label}, {device}", 1e3 / there, "ms")
            yield ratio_row(f"{label}, cpu / {device}", there / cpu, anchor=device)
        tables = _shot_tables(batch)
        for name, model in _predicting_models().items():
            label = f"{_prediction(tables)}, {name}, {device}"
            cpu = once.rates({label: _predictor(model, tables)})[label]
            there = clock.rates({label: _predictor(model, tables, device)})[label]
            yield make_row(label, there, "samples/s", anchor=("cpu", cpu))
    for row in _setting_rows(clock, device):
        yield replace(row, name=f"{row.name}, {device}")


# -- training ----------------------------------------------------------------------------------


def _training_steps(clock: Clock) -> Iterator[Row]:
    data = make_task(TaskConfig(TASK, SEQUENCES))
    models = _trained_models()
    works = {name: _trainer(model, data, BATCH_SIZE) for name, model in models.items()}
    steps = {name: 1.0 / rate for name, rate in clock.rates(works).items()}
    costs = {
        name: seconds / supervised_frames(models[name], data, BATCH_SIZE)
        for name, seconds in steps.items()
    }

    def label(name: str) -> str:
        return f"training, {_SUPERVISED[models[name].batch_kind]}, {name}"

    step = f"training step, batch {BATCH_SIZE}, {{}}"
    yield from make_rows({name: 1e3 * s for name, s in steps.items()}, "ms", step.format, BASE)
    yield from make_rows({name: 1e9 * s for name, s in costs.items()}, "ns/frame", label, BASE)
    cost = f"{OURS}: training time of a supervised frame over {BASE}'s"
    yield ratio_row(cost, costs[OURS] / costs[BASE], BASE, at_most=MOST_PER_FRAME)
    jumpy, _ = TRAINED
    time = f"{jumpy}: training step over {BASE}'s"
    yield ratio_row(time, steps[jumpy] / steps[BASE], BASE, at_most=MOST_OF_JUMPY)


def supervised_frames(model: WorldModel, data: SequenceData, batch_size: int) -> float:
    """Frames of trajectory that one training step supervises, on average.

    Of a sequence all but the first frame. Of a moment those ahead that are known, up to the horizon
    (frames after the end of a line count in full, although the loss weighs them less). Of an event
    those of the straight run that it ends: events of all kinds share the dataset's frames alike.
    """
    predicted = loading.lengths(data) - 1
    if model.batch_kind == "sequences":
        return float(batch_size * predicted.mean())
    if isinstance(model, LatentJump):
        sampler = model.sampler(data)
        length = sampler.sample(_MOMENTS, torch.Generator("cpu").manual_seed(0))["length"]
        known = length.clamp_max(model.config.horizon)
        return batch_size * int(known.sum()) / _MOMENTS
    table = EventTable.from_dataset(data)
    kinds = {field.name for field in fields(table)} - {"passing_frames"}
    counts = [len(getattr(table, kind)) for kind in kinds]
    drawn = batch_size * sum(count > 0 for count in counts)
    return float(drawn * predicted.sum() / sum(counts))


def _setting_rows(clock: Clock, device: str = "cpu") -> Iterator[Row]:
    """Training steps in bfloat16 and, where there is a compiler, compiled, beside plain ones."""
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        "bfloat16": ("float32", {"precision": "bfloat16"}),
        "compiled": ("not compiled", {"compile": True}),
    }
    try:
        check_compiler(torch.device(device))
    except ValueError:
        del settings["compiled"]
    for name, (task, config) in SETTINGS.items():
        model, data = _first_weights(config), make_task(TaskConfig(task, SEQUENCES))
        works = {"plain": _trainer(model, data, BATCH_SIZE, device)}
        for setting, (_, choice) in settings.items():
            works[setting] = _trainer(model, data, BATCH_SIZE, device, **choice)
        rates = clock.rates(works)
        for setting, (usual, _) in settings.items():
            label = f"training step, batch {BATCH_SIZE}, {name}, {setting}"
            yield make_row(label, 1e3 / rates[setting], "ms", (usual, 1e3 / rates["plain"]))


def _trained_models() -> dict[str, WorldModel]:
    """What is trained, with first weights, and `TRAINED`."""
    name, shipped = TRAINED
    untrained = {name: _first_weights(config) for name, config in MODELS.items()}
    return {**untrained, name: from_pretrained(shipped)}


def _first_weights(config: ModelConfig) -> WorldModel:
    """An untrained model; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_model(config)


def _trainer(
    model: WorldModel,
    data: SequenceData,
    batch_size: int,
    device: str = "cpu",
    **settings: Any,
) -> Work:
    """Makes training steps."""
    model = copy.deepcopy(model).to(device)
    loss_of = Loss(model, **{"precision": "float32", "compile": False, **settings})
    sampler = model.sampler(data, torch.device(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    generator = torch.Generator("cpu").manual_seed(0)

    def work() -> int:
        loss, _ = loss_of(sampler.sample(batch_size, generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _finish(device)
        return 1

    return work


# -- prediction --------------------------------------------------------------------------------


def _predicting_models() -> dict[str, WorldModel]:
    """The shipped models, the baseline first, and an ODE-RNN.

    That one does the same work untrained: it ticks at every frame, and solves its equation in a
    fixed number of steps.
    """
    models = {name: from_pretrained(name) for name in SHIPPED}
    models["ODE-RNN, untrained"] = _first_weights(ODERNNConfig(hidden_size=HIDDEN_SIZE))
    return models


def _shot_tables(count: int) -> SequenceData:
    return make_dataset(DatasetConfig(num_trajectories=count, split="validation"))


def _prediction(data: SequenceData) -> str:
    n, T = data.obs.shape[:2]
    return f"predicting {T - data.context_frames} frames of {n}"


def _predictor(model: WorldModel, data: SequenceData, device: str = "cpu") -> Work:
    """Predicts, open loop, all frames but those shown, given the shot."""
    model = copy.deepcopy(model).to(device)
    obs = loading.as_frames(torch.from_numpy(data.obs)).to(device)
    action = torch.from_numpy(data.action).to(device)
    shown = data.context_frames
    times = [float(t) for t in range(1, obs.shape[1] - shown + 1)]

    def work() -> int:
        with torch.no_grad():
            state = model.observe(obs[:, :shown], action[:, :shown])
            model.imagine(state, times, action[:, shown - 1])
        _finish(device)
        return len(obs)

    return work


def _finish(device: str) -> None:
    """Waits until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
