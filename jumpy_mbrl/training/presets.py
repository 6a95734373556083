"""The training runs that have a name.

Shot tables (`Billiards2D-v0` with one shot): "rnn", "ode-rnn", "jump-4" (constant jumps of 4
frames), "jumpy-rnn", "event-jump", "fold-jump"; the general model by what it knows: "flat-jump",
"entities-jump", "space-jump". Of pictures of such shots, as the environment draws them: "sprite-64"
(64x64x3) and "sprite-28" (28x28, grey), and "keypoint-jump" (64x64x3), which nobody tells of balls.

Shots on a line (`Billiards1D-v0`): "line-rnn", "line-jumpy-rnn".

The papers' tasks: "TASK/MODEL", for every task of `jumpy_mbrl.data.tasks` and the models

* "rnn", "ode-rnn", "jump-K" (constant jumps of K frames) and "jumpy-rnn": the papers' networks and
  the 2020 paper's settings (section 3 and A.3);
* the same with "-2021": 25,000 steps, and a rate that falls faster, as in the authors' programs;
* the same with "-tuned": what a search of ours found best for the network (`TUNED`);
* "rnn-printed" and "jumpy-rnn-printed": the settings of 2020, but the network predicts the frame,
  as the papers print it, in place of the displacement, as the authors' programs do;
* "ours", our best jumpy model for the task.

Of the papers' settings, these are not the papers': gradients are clipped to norm 1 or, of the
tuned jumpy RNN of billiards2d, to 3e-3; weather's weight decay is decoupled (AdamW); on lines, the
tolerance is larger; on lines and circles, predicted jumps are rounded to whole frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from jumpy_mbrl.checks import check_choice
from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.tasks import TASKS, TaskConfig
from jumpy_mbrl.envs.config import LINE_CONFIG, TableConfig
from jumpy_mbrl.models.bodies.event_jump import EventJumpConfig
from jumpy_mbrl.models.bodies.fold_jump import FoldJumpConfig
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJumpConfig
from jumpy_mbrl.models.jumpy_rnn import JumpyRNNConfig
from jumpy_mbrl.models.keypoint_jump import KeypointJumpConfig
from jumpy_mbrl.models.latent_jump import LatentJumpConfig
from jumpy_mbrl.models.ode_rnn import ODERNNConfig
from jumpy_mbrl.models.relational_jump import RelationalJumpConfig
from jumpy_mbrl.models.rnn import RNNConfig
from jumpy_mbrl.training.config import TrainingConfig

NETWORKS = ("rnn", "ode-rnn", "jump-1", "jump-2", "jump-4", "jump-8", "jumpy-rnn")
"""The papers' networks."""
SETTINGS = ("-printed", "", "-2021", "-tuned")
"""What may follow their names: by which settings they are trained."""
TASK_MODELS = (
    *(
        network + settings
        for network in NETWORKS
        for settings in (SETTINGS if network in ("rnn", "jumpy-rnn") else SETTINGS[1:])
    ),
    "ours",
    "keypoints",
)
"""Every model of a task; "keypoints" of pictures alone."""


class _ByTask(NamedTuple):
    """Settings that depend on the task.

    Attributes:
        epsilon: squared error up to which a line is accurate: that of the jumpy model or, on
            billiards and weather, of the baseline at the end of training in the papers' table 1
            (section 2.2). On lines that is 4e-7, which no line comes near while the model learns;
            there it is what lets jumps reach the end within 200 steps of training, as in the
            papers' figure 8.
        tuned_epsilon: the one that our search found best for the jumpy RNN.
        tuned_steps: as many as it then takes.
    """

    epsilon: float
    tuned_epsilon: float
    tuned_steps: int


_BY_TASK = {
    "lines": _ByTask(1e-2, 1e-2, 3000),
    "circles": _ByTask(3e-4, 1e-2, 3000),
    "billiards1d": _ByTask(2.5e-5, 4e-5, 3000),
    "billiards2d": _ByTask(3e-5, 3.5e-5, 10_000),
    "pixel-billiards1d": _ByTask(1.3e-4, 2e-4, 2500),
    "pixel-billiards2d": _ByTask(3e-3, 3e-3, 1500),
    "weather": _ByTask(1.6e-3, 2e-3, 2500),
    "synthetic-weather": _ByTask(1.6e-3, 2e-3, 2500),
}
_CERTAIN = ("lines", "circles")
"""Tasks where what is shown decides how long jumps are, and they are rounded to whole frames, as
all are in training. Elsewhere a network predicts the mean of what may come; rounded, that is mostly
a single frame on billiards."""
_2021: dict[str, Any] = {"steps": 25_000, "decay": 0.75}
_MUON: dict[str, Any] = {
    "optimizer": "muon",
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "average": 0.998,
}
_TUNED: dict[str, Any] = {**_MUON, "precision": "bfloat16"}
"""What our search found best for all networks."""
_FALLING: dict[str, Any] = {"first_epsilon": 5e-4, "own_jumps": 0.5}
_LONGER: dict[str, Any] = {"steps": 20_000, "grad_clip": 3e-3}
"""What it needs beside that on a table, where durations cannot be predicted well and what is wrong
grows: it still improves when the others no longer do and, unless gradients that are much too large
are held back, may lose all of its jumps within a hundred steps."""
_TUNED_SEQUENCES = 100_000
"""Where they cost nothing; elsewhere the papers' 9,000 are learned from."""

_SHOWN = DatasetConfig().table.context_frames
_RNN = TrainingConfig(model=RNNConfig(burn_in=_SHOWN), **_TUNED)
_ODE_RNN = replace(_RNN, model=ODERNNConfig(burn_in=_SHOWN))
_JUMPY_RNN = replace(
    _RNN,
    model=JumpyRNNConfig(burn_in=_SHOWN, epsilon=5e-5, **_FALLING),
    **_LONGER,
)
_JUMP_4 = replace(_RNN, model=JumpyRNNConfig(burn_in=_SHOWN, constant_jump=4))
_EVENT_JUMP = TrainingConfig(
    model=EventJumpConfig(),
    steps=15_000,
    batch_size=2048,
    learning_rate=3e-3,
    schedule="cosine",
    validation_interval=1000,
    checkpoint_interval=1000,
)
_FAST: dict[str, Any] = {**_MUON, "learning_rate": 2e-2}
"""For networks so small that they bear it."""
_FOLD_JUMP = replace(_EVENT_JUMP, model=FoldJumpConfig(), steps=40_000, **_FAST)
_SPACE = TrainingConfig(
    model=RelationalJumpConfig(passes=2),
    steps=10_000,
    batch_size=512,
    **_MUON,
    grad_clip=1.0,
    validation_interval=500,
)
_ENTITIES = replace(_SPACE, model=RelationalJumpConfig(same_everywhere=False, passes=2))
_FLAT = replace(
    _SPACE,
    model=RelationalJumpConfig(
        num_bodies=1, body_size=4, same_everywhere=False, hidden_size=256, event_size=128
    ),
    steps=20_000,
)
_KEYPOINTS = replace(
    _SPACE,
    model=KeypointJumpConfig(passes=2, noise=0.04),
    train_data=DatasetConfig(num_trajectories=30_000, pixels="default"),
    validation_data=DatasetConfig(num_trajectories=50, split="validation", pixels="default"),
    steps=12_000,
    restart=2000,
    validation_interval=1000,
)
_LINE_DATA: dict[str, Any] = {
    "train_data": DatasetConfig(LINE_CONFIG, 100_000, shot="place"),
    "validation_data": DatasetConfig(LINE_CONFIG, 1000, split="validation", shot="place"),
}
_LINE_RNN = replace(_RNN, **_LINE_DATA, model=RNNConfig(obs_size=2, burn_in=_SHOWN))
_LINE_JUMPY_RNN = replace(
    _RNN,
    **_LINE_DATA,
    model=JumpyRNNConfig(
        obs_size=2,
        epsilon=_BY_TASK["billiards1d"].tuned_epsilon,
        burn_in=_SHOWN,
        context_frames=LINE_CONFIG.context_frames,
        horizon=float(LINE_CONFIG.num_frames - LINE_CONFIG.context_frames),
    ),
)


def _sprites(pixels: str, **sizes: Any) -> TrainingConfig:
    """Pictures as the environment draws them: cue ball, object ball, and one that is neither."""
    table = TableConfig(num_balls=3)
    return replace(
        _EVENT_JUMP,
        model=SpriteJumpConfig(num_balls=3, looking_steps=500, calibrated=True, **sizes),
        train_data=DatasetConfig(table, 10_000, pixels=pixels),
        validation_data=DatasetConfig(table, 50, split="validation", pixels=pixels),
        steps=10_000,
        batch_size=512,
    )


_TINY: dict[str, Any] = {
    "train_data": DatasetConfig(num_trajectories=64),
    "validation_data": DatasetConfig(num_trajectories=16, split="validation"),
    "steps": 30,
    "batch_size": 8,
    "validation_interval": 10,
    "checkpoint_interval": 5,
    "threads": 1,
}


_LATENT_JUMP: dict[str, dict[str, Any]] = {
    "lines": {
        "window": 1,
        "hidden_size": 8,
        "mlp_size": 32,
        "mlp_layers": 2,
        "horizon": 20,
        "epsilon": 5e-7,
        "far_weight": 1.0,
        "center": (1.0, 0.5),
        "scale": (0.6, 0.3),
    },
    "circles": dict(window=1, hidden_size=16, horizon=24, epsilon=3e-4, far_weight=1.0),
    "weather": {"window": 12, "horizon": 16, "epsilon": 2e-3},
    "synthetic-weather": {"window": 12, "horizon": 16, "epsilon": 2e-3},
}


def _task_data(task: str, csv: str | None = None, **settings: Any) -> dict[str, Any]:
    """Training and validation data of a task: the papers' 10,000 sequences, 9 to 1."""
    return {
        "train_data": TaskConfig(task, **{"num_sequences": 9000, "csv": csv, **settings}),
        "validation_data": TaskConfig(task, num_sequences=1000, split="validation", csv=csv),
    }


def _network_run(task: str, model: str, csv: str | None = None) -> TrainingConfig:
    """A run of one of the papers' networks, by one of the settings."""
    network, settings = network_of(model)
    about, own = TASKS[task], _BY_TASK[task]
    pixels, weather = about.source == "pixels", about.source == "weather"
    sizes: dict[str, Any] = {
        "obs_size": about.obs_size,
        "action_size": 0,
        "hidden_size": 512 if pixels else 256 if weather else 128,
        "residual": settings != "-printed",
        "burn_in": about.context_frames if settings == "-tuned" else 1,
    }
    config: Any
    if network in ("rnn", "ode-rnn"):
        config = (RNNConfig if network == "rnn" else ODERNNConfig)(**sizes)
    else:
        jump = int(network.removeprefix("jump-")) if network.startswith("jump-") else 0
        config = JumpyRNNConfig(
            **sizes,
            epsilon=own.tuned_epsilon if settings == "-tuned" else own.epsilon,
            whole_jumps=task in _CERTAIN and not jump,
            context_frames=about.context_frames,
            horizon=float(about.frames - about.context_frames),
            constant_jump=jump,
        )
    run = TrainingConfig(
        model=config,
        **_task_data(task, csv),
        steps=50_000 if pixels else 10_000,
        weight_decay=1e-5 if weather else 0.0,
    )
    if settings == "-2021":
        return replace(run, **_2021)
    if settings == "-tuned":
        data = {} if pixels or weather else _task_data(task, num_sequences=_TUNED_SEQUENCES)
        run = replace(run, **data, **_TUNED, steps=own.tuned_steps)
        if model == "jumpy-rnn-tuned" and task == "billiards2d":
            return replace(run, model=replace(config, **_FALLING), **_LONGER)
    return run


def _our_run(task: str, csv: str | None = None) -> TrainingConfig:
    """Our best jumpy model for a task."""
    about = TASKS[task]
    if about.source == "table":
        bodies = FoldJumpConfig(axes=about.obs_size // 2, action_size=0)
        return replace(_EVENT_JUMP, model=bodies, **_task_data(task, num_sequences=100_000))
    if about.source == "pixels":
        sprites = SpriteJumpConfig(axes=1 if task.endswith("1d") else 2, action_size=0)
        return replace(_EVENT_JUMP, model=sprites, **_task_data(task), steps=8000)
    return TrainingConfig(
        model=LatentJumpConfig(obs_size=about.obs_size, **_LATENT_JUMP[task]),
        **_task_data(task, csv),
        steps=20_000 if task == "lines" else 10_000,
        learning_rate=1e-2 if task == "lines" else 2e-3,
        schedule="cosine",
    )


def _keypoint_run(task: str) -> TrainingConfig:
    """The run of a model of pictures that nobody tells of balls."""
    pictures = {name: about for name, about in TASKS.items() if about.source == "pixels"}
    size = round(pictures[check_choice("task of pictures", task, pictures)].obs_size ** 0.5)
    sizes: dict[str, Any] = {
        "size": size,
        "channels": 1,
        "action_size": 0,
        "spoilt": False,
        "width": 24,
    }
    if task.endswith("1d"):  # On one line balls lie side by side more often, and are told later.
        sizes |= {"joining": 0.6, "looking_steps": 3000}
    model = KeypointJumpConfig(passes=2, **sizes)
    return replace(_KEYPOINTS, model=model, restart=model.looking_steps, **_task_data(task))


def network_of(model: str) -> tuple[str, str]:
    """The network, "ours" or "keypoints", and which of `SETTINGS` a model of `TASK_MODELS` has."""
    network = model
    for settings in SETTINGS:
        network = network.removesuffix(settings)
    return network, model.removeprefix(network)


def task_preset(task: str, model: str, csv: str | None = None) -> TrainingConfig:
    """The run of one of `TASK_MODELS` on one of the papers' tasks; "weather" needs its file `csv`.

    `ValueError` for an unknown task or model, keypoints where there are no pictures, or weather
    without its file.
    """
    check_choice("task", task, TASKS)
    check_choice("model", model, TASK_MODELS)
    if model == "keypoints":
        return _keypoint_run(task)
    return _our_run(task, csv) if model == "ours" else _network_run(task, model, csv)


PRESETS: dict[str, TrainingConfig] = {
    "rnn": _RNN,
    "ode-rnn": _ODE_RNN,
    "jump-4": _JUMP_4,
    "jumpy-rnn": _JUMPY_RNN,
    "event-jump": _EVENT_JUMP,
    "fold-jump": _FOLD_JUMP,
    "space-jump": _SPACE,
    "entities-jump": _ENTITIES,
    "flat-jump": _FLAT,
    "sprite-64": _sprites("default", size=64, channels=3),
    "sprite-28": _sprites("paper"),
    "keypoint-jump": _KEYPOINTS,
    "line-rnn": _LINE_RNN,
    "line-jumpy-rnn": _LINE_JUMPY_RNN,
    "rnn-tiny": replace(_RNN, **_TINY, model=RNNConfig(hidden_size=16, mlp_size=16)),
    "jumpy-rnn-tiny": replace(
        _JUMPY_RNN, **_TINY, model=JumpyRNNConfig(hidden_size=16, mlp_size=16)
    ),
    "event-jump-tiny": replace(_EVENT_JUMP, **_TINY, model=EventJumpConfig(hidden_size=16)),
}
"""Runs on shots by name; those that end in "-tiny" take seconds and learn next to nothing."""


def preset(name: str, csv: str | None = None) -> TrainingConfig:
    """The training run called ``name``: one of `PRESETS`, or "TASK/MODEL"; else `ValueError`."""
    task, slash, model = name.partition("/")
    if slash:
        return task_preset(task, model, csv)
    return PRESETS[check_choice("preset", name, PRESETS)]
