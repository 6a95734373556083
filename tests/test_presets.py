"""The runs with a name: that each can be built, and those of the papers have their settings."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from jumpy_mbrl import data, models, training
from jumpy_mbrl.data.tasks import TASKS, TaskConfig
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.models import JumpyRNNConfig
from jumpy_mbrl.training import TrainingConfig, preset, presets, task_preset
from jumpy_mbrl.training.presets import NETWORKS, TASK_MODELS, network_of

CSV = "jena.csv"
# Size of the GRU, updates of the weights, weight decay: 2020 paper, section 3.
PAPER = {
    "lines": (128, 10_000, 0.0),
    "circles": (128, 10_000, 0.0),
    "billiards1d": (128, 10_000, 0.0),
    "billiards2d": (128, 10_000, 0.0),
    "pixel-billiards1d": (512, 50_000, 0.0),
    "pixel-billiards2d": (512, 50_000, 0.0),
    "weather": (256, 10_000, 1e-5),
    "synthetic-weather": (256, 10_000, 1e-5),
}
# Errors at the end of training: table 1 (section 2.2). Lines alone need it larger to jump.
EPSILON = {
    "lines": 1e-2,
    "circles": 3e-4,
    "billiards1d": 2.5e-5,
    "billiards2d": 3e-5,
    "pixel-billiards1d": 1.3e-4,
    "pixel-billiards2d": 3e-3,
    "weather": 1.6e-3,
    "synthetic-weather": 1.6e-3,
}
LONGER = ("billiards2d", "jumpy-rnn-tuned")
JUMPS = {"jump-1": 1, "jump-2": 2, "jump-4": 4, "jump-8": 8}


def run_of(task: str, model: str) -> TrainingConfig:
    return task_preset(task, model, CSV if task == "weather" else None)


def test_keypoints_are_found_in_pictures() -> None:
    with pytest.raises(ValueError, match=r"task of pictures.*pixel-billiards1d"):
        task_preset("circles", "keypoints")


def test_every_task_has_every_model() -> None:
    assert set(PAPER) == set(TASKS)
    assert ("rnn", "ode-rnn", *JUMPS, "jumpy-rnn") == NETWORKS
    by_settings = {name + settings for name in NETWORKS for settings in ("", "-2021", "-tuned")}
    printed = {"rnn-printed", "jumpy-rnn-printed"}
    assert sorted(TASK_MODELS) == sorted({*by_settings, *printed, "ours", "keypoints"})
    parts = {network_of(name) for name in ("jump-1-2021", "rnn", "jumpy-rnn-printed", "ours")}
    assert parts == {("jump-1", "-2021"), ("rnn", ""), ("jumpy-rnn", "-printed"), ("ours", "")}


RUNS = [
    (task, model)
    for task, model in itertools.product(TASKS, TASK_MODELS)
    if model != "keypoints" or TASKS[task].source == "pixels"
]


@pytest.mark.parametrize(("task", "model"), RUNS)
def test_every_run_can_be_built_and_fits_its_task(task: str, model: str) -> None:
    config, about = run_of(task, model), TASKS[task]
    made = models.make_model(config.model)
    assert (made.obs_size, made.action_size) == (about.obs_size, 0)
    assert json.loads(json.dumps(config.to_dict()))["train_data"]["task"] == task
    shown = torch.rand(2, about.context_frames, made.obs_size)
    assert made.imagine(made.observe(shown), [0.5, 3.0]).obs.shape == (2, 2, made.obs_size)
    # All models of a task are chosen by the same data.
    csv = CSV if task == "weather" else None
    assert config.validation_data == TaskConfig(task, 1000, split="validation", csv=csv)
    many = model == "ours" and task.startswith("billiards")
    if network_of(model)[1] == "-tuned":
        many = about.source in ("formula", "table")
    assert config.train_data == TaskConfig(task, 100_000 if many else 9000, csv=csv)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", TASK_MODELS[:-2])
def test_the_papers_networks_have_the_papers_sizes(task: str, model: str) -> None:
    config, about = run_of(task, model), TASKS[task]
    net: Any = config.model
    network, settings = network_of(model)
    hidden, steps, weight_decay = PAPER[task]
    kinds: Any = {"rnn": models.RNNConfig, "ode-rnn": models.ODERNNConfig}
    assert type(net) is kinds.get(network, JumpyRNNConfig)
    assert net.hidden_size == hidden
    assert (net.mlp_size, net.mlp_layers, net.action_size, net.scale) == (128, 4, 0, (1.0,))
    assert net.residual == (settings != "-printed"), "the programs decode displacements"
    assert (config.batch_size, config.weight_decay) == (256, weight_decay)
    assert net.burn_in == (about.context_frames if settings == "-tuned" else 1)
    rates = (config.steps, config.learning_rate, config.schedule, config.decay, config.decay_every)
    if settings == "-tuned":
        # All networks are given the same, but for one that goes on improving.
        longer: Any = {"steps": 20_000, "grad_clip": 3e-3} if (task, model) == LONGER else {}
        assert config == replace(run_of(task, "rnn-tuned"), model=net, **longer)
    elif settings == "-2021":
        assert rates == (25_000, 1e-3, "exponential", 0.75, 1000)
    else:
        assert rates == (steps, 1e-3, "exponential", 0.9, 1000)
    if isinstance(net, JumpyRNNConfig):
        assert (net.duration_weight, net.forced_jumps) == (1e-5, 0.01)
        shown = about.context_frames
        assert (net.context_frames, net.horizon) == (shown, about.frames - shown)
        assert net.constant_jump == JUMPS.get(network, 0)
        assert net.whole_jumps == (network not in JUMPS and task in ("lines", "circles"))
        falling = (0.5, 5e-4) if (task, model) == LONGER else (0.0, 0.0)
        assert (net.own_jumps, net.first_epsilon) == falling
        assert settings == "-tuned" or net.epsilon == EPSILON[task]


@pytest.mark.parametrize("name", ["line-rnn", "line-jumpy-rnn"])
def test_runs_on_lines_learn_the_shots_of_the_game(name: str) -> None:
    config = preset(name)
    many = data.DatasetConfig(LINE_CONFIG, 100_000, shot="place")
    few = replace(many, num_trajectories=1000, split="validation")
    assert (config.train_data, config.validation_data) == (many, few)
    net, shown = config.model, LINE_CONFIG.context_frames
    if isinstance(net, JumpyRNNConfig):  # Jumps reach to the end of the game.
        assert (net.context_frames, net.horizon) == (shown, LINE_CONFIG.num_frames - shown)


def test_presets_by_name() -> None:
    assert preset("lines/jump-4") == task_preset("lines", "jump-4")
    assert preset("weather/ours", csv="a.csv") == task_preset("weather", "ours", "a.csv")
    assert preset("synthetic-weather/ours").model == preset("weather/ours", csv="a.csv").model
    for name in training.PRESETS:
        assert name.endswith("-tiny") or f'"{name}"' in (presets.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "csv", "message"),
    [
        ("line/rnn", None, "unknown task 'line'.*did you mean 'lines'"),
        ("lines/jump-3", None, "unknown model 'jump-3'.*did you mean 'jump-"),
        ("lines/", None, "unknown model ''"),
        ("weather/rnn", None, "needs csv, .*'synthetic-weather'"),
        ("weather/ours", None, "needs csv, .*'synthetic-weather'"),
        ("lines/rnn", "a.csv", "csv for the task 'weather' only, got it for 'lines'"),
        ("lines", None, "unknown preset 'lines'"),
        ("jumpy-rn", None, "unknown preset 'jumpy-rn'.*did you mean 'jumpy-rnn'"),
    ],
)
def test_unknown_names_are_refused(name: str, csv: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(name, csv)
