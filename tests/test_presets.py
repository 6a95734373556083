"""The runs with a name: that each can be built, and those of the papers have their settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jumpy_mbrl.data import DatasetConfig, make_dataset
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.models import JumpyRNNConfig, RNNConfig, from_pretrained, make_model
from jumpy_mbrl.models.ode_rnn import ODERNNConfig
from jumpy_mbrl.training import (
    PRESETS,
    TrainingConfig,
    preset,
    presets,
    task_preset,
    train,
    validate,
)
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


def run_of(task: str, model: str) -> TrainingConfig:
    return task_preset(task, model, CSV if task == "weather" else None)


def test_every_task_has_every_model() -> None:
    assert set(PAPER) == set(TASKS)
    networks = ["rnn", "ode-rnn", "jump-1", "jump-2", "jump-4", "jump-8", "jumpy-rnn"]
    assert list(NETWORKS) == networks
    by_settings = {name + settings for name in networks for settings in ("", "-2021", "-tuned")}
    printed = {"rnn-printed", "jumpy-rnn-printed"}
    assert sorted(TASK_MODELS) == sorted({*by_settings, *printed, "ours"})
    assert [network_of(name) for name in ("jump-1-2021", "rnn", "jumpy-rnn-printed", "ours")] == [
        ("jump-1", "-2021"),
        ("rnn", ""),
        ("jumpy-rnn", "-printed"),
        ("ours", ""),
    ]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", TASK_MODELS)
def test_every_run_can_be_built_and_fits_its_task(task: str, model: str) -> None:
    config = run_of(task, model)
    made = make_model(config.model)
    assert made.obs_size == TASKS[task].obs_size
    assert made.action_size == 0
    assert json.loads(json.dumps(config.to_dict()))["train_data"]["task"] == task
    shown = torch.rand(2, TASKS[task].warm_up, made.obs_size)
    assert made.imagine(made.observe(shown), [0.5, 3.0]).obs.shape == (2, 2, made.obs_size)


@pytest.mark.parametrize("task", TASKS)
def test_all_models_of_a_task_are_chosen_by_the_same_data(task: str) -> None:
    csv = CSV if task == "weather" else None
    for model in TASK_MODELS:
        config = run_of(task, model)
        assert isinstance(config.train_data, TaskConfig)
        assert config.validation_data == TaskConfig(task, 1000, split="validation", csv=csv)
        assert (config.train_data.task, config.train_data.split) == (task, "train")
        many = model == "ours" and task.startswith("billiards")
        if network_of(model)[1] == "-tuned":
            many = TASKS[task].source in ("formula", "table")
        assert config.train_data == TaskConfig(task, 100_000 if many else 9000, csv=csv)


LONGER = ("billiards2d", "jumpy-rnn-tuned")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", [name for name in TASK_MODELS if name != "ours"])
def test_the_papers_networks_have_the_papers_sizes(task: str, model: str) -> None:
    config, net = run_of(task, model), run_of(task, model).model
    network, settings = network_of(model)
    hidden, steps, weight_decay = PAPER[task]
    assert isinstance(net, (RNNConfig, ODERNNConfig, JumpyRNNConfig))
    assert net.hidden_size == hidden
    assert (net.mlp_size, net.mlp_layers, net.action_size, net.scale) == (128, 4, 0, (1.0,))
    assert net.residual == (settings != "-printed"), "the programs decode displacements"
    assert (config.batch_size, config.weight_decay) == (256, weight_decay)
    assert net.burn_in == (TASKS[task].warm_up if settings == "-tuned" else 1)
    rates = (config.steps, config.learning_rate, config.schedule, config.decay, config.decay_every)
    if settings == "-tuned":
        # All networks are given the same, but for one that goes on improving.
        longer: dict[str, Any] = (
            {"steps": 20_000, "grad_clip": 3e-3} if (task, model) == LONGER else {}
        )
        assert config == replace(run_of(task, "rnn-tuned"), model=net, **longer)
    elif settings == "-2021":
        assert rates == (25_000, 1e-3, "exponential", 0.75, 1000)
    else:
        assert rates == (steps, 1e-3, "exponential", 0.9, 1000)
    if isinstance(net, JumpyRNNConfig):
        about = TASKS[task]
        assert (net.duration_weight, net.forced_jumps) == (1e-5, 0.01)
        assert net.priming == about.warm_up
        assert net.horizon == about.frames - about.warm_up
        jumps = {"jump-1": 1, "jump-2": 2, "jump-4": 4, "jump-8": 8}
        assert net.constant_jump == jumps.get(network, 0)
        assert net.whole_jumps == (network not in jumps and task in ("lines", "circles"))
        assert (net.own_jumps, net.first_epsilon) == (
            (0.5, 5e-4) if (task, model) == LONGER else (0.0, 0.0)
        )
    else:
        assert network in ("rnn", "ode-rnn")
        assert isinstance(net, ODERNNConfig) == (network == "ode-rnn")


def test_a_jumpy_models_tolerance_is_an_error_of_the_papers_table() -> None:
    """Table 1, errors at the end of training (section 2.2)."""
    reported = {
        "circles": 3e-4,
        "billiards1d": 2.5e-5,
        "billiards2d": 3e-5,
        "pixel-billiards1d": 1.3e-4,
        "pixel-billiards2d": 3e-3,
        "weather": 1.6e-3,
        "synthetic-weather": 1.6e-3,
    }
    for task, epsilon in reported.items():
        net = run_of(task, "jumpy-rnn").model
        assert isinstance(net, JumpyRNNConfig) and net.epsilon == epsilon
        assert run_of(task, "jumpy-rnn-2021").model == net
    lines = run_of("lines", "jumpy-rnn").model
    assert isinstance(lines, JumpyRNNConfig)
    assert lines.epsilon == 1e-2, "lines alone need it larger to jump"


@pytest.mark.parametrize("task", ["lines", "circles", "billiards1d", "billiards2d"])
@pytest.mark.parametrize("model", ["jump-4", "jumpy-rnn", "rnn", "ode-rnn", "ours"])
def test_one_update_and_a_validation_of_every_kind(task: str, model: str) -> None:
    config = run_of(task, model)
    net = make_model(config.model)
    data = make_task(TaskConfig(task, 60))
    sampler = net.sampler(data)
    loss, _ = net.loss(sampler.sample(4, torch.Generator().manual_seed(0)))
    loss.backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)
    if model == "ours" and task.startswith("billiards"):
        return  # Untrained, its balls speed each other up beyond all numbers.
    figures = validate(net, make_task(TaskConfig(task, 3, split="validation")))
    assert figures["mse"] > 0.0
    if model == "jump-4":
        # 20, 24 and 41 frames in jumps of 4, the last one cut by the end.
        frames = TASKS[task].frames - TASKS[task].warm_up
        assert figures["mean_jump"] == pytest.approx(frames / -(-frames // 4))
    if model in ("rnn", "ode-rnn"):
        assert figures["mean_jump"] == 1.0


@pytest.mark.parametrize("model", ["rnn", "jump-2", "ours"])
def test_a_short_run_is_trained_saved_and_loaded(model: str, tmp_path: Path) -> None:
    config = replace(
        task_preset("lines", model),
        train_data=TaskConfig("lines", 50),
        validation_data=TaskConfig("lines", 10, split="validation"),
        steps=3,
        batch_size=4,
        device="cpu",
        threads=1,
    )
    best = train(config, tmp_path / "run", data_dir=tmp_path / "data", progress=False)
    assert from_pretrained(best).config == config.model
    assert not (tmp_path / "data").exists(), "tasks are made anew, not kept"


def test_the_module_tells_of_every_preset() -> None:
    for name in PRESETS:
        assert name.endswith("-tiny") or f'"{name}"' in (presets.__doc__ or "")


@pytest.mark.parametrize("name", ["line-rnn", "line-jumpy-rnn"])
def test_runs_on_lines_learn_the_shots_of_the_game(name: str, tmp_path: Path) -> None:
    config = preset(name)
    assert config.train_data == DatasetConfig(LINE_CONFIG, 100_000, shot="place")
    few = replace(config.train_data, num_trajectories=1000, split="validation")
    assert config.validation_data == few
    small: Any = {"hidden_size": 16, "mlp_size": 16}
    quick = replace(
        config,
        model=replace(config.model, **small),
        train_data=replace(config.train_data, num_trajectories=200),
        validation_data=replace(few, num_trajectories=20),
        steps=80,
        batch_size=32,
        average=0.9,
        validation_interval=20,
        device="cpu",
        threads=1,
    )
    model = from_pretrained(train(quick, tmp_path / "run", data_dir=tmp_path, progress=False))
    assert (model.obs_size, model.action_size) == (2, 2)
    data = make_dataset(replace(few, num_trajectories=200, split="evaluation"))
    torch.manual_seed(0)
    learned, untrained = (validate(m, data) for m in (model, make_model(quick.model)))
    assert learned["mse"] < 0.7 * untrained["mse"]


def test_jumps_on_lines_reach_to_the_end_of_the_game() -> None:
    net = preset("line-jumpy-rnn").model
    assert isinstance(net, JumpyRNNConfig)
    shown = LINE_CONFIG.lead_in + 1
    assert (net.priming, net.horizon) == (shown, LINE_CONFIG.num_frames - shown)


def test_presets_by_name() -> None:
    assert preset("lines/jump-4") == task_preset("lines", "jump-4")
    assert preset("weather/ours", csv="a.csv") == task_preset("weather", "ours", "a.csv")
    assert preset("synthetic-weather/ours").model == preset("weather/ours", csv="a.csv").model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("line/rnn", "unknown task 'line'.*did you mean 'lines'"),
        ("lines/jump-3", "unknown model 'jump-3'.*did you mean 'jump-"),
        ("lines/", "unknown model ''"),
        ("weather/rnn", "needs csv, .*'synthetic-weather'"),
        ("weather/ours", "needs csv, .*'synthetic-weather'"),
        ("lines", "unknown preset 'lines'"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(name)


def test_a_weather_file_is_for_the_weather_only() -> None:
    with pytest.raises(ValueError, match="csv for the task 'weather' only, got it for 'lines'"):
        task_preset("lines", "rnn", "a.csv")
