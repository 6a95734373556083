"""The training runs that have a name.

Shot tables (`Billiards2D-v0` with one shot): "rnn", "ode-rnn", "jump-4" (constant jumps of 4
frames), "jumpy-rnn", "event-jump", "fold-jump".

Shots on a line (`Billiards1D-v0`): "line-rnn", "line-jumpy-rnn".

The papers' tasks: "TASK/MODEL", for every task of `jumpy_mbrl.data.tasks` and the models

* "rnn", "ode-rnn", "jump-K" (constant jumps of K frames), "jumpy-rnn" and "jumpy-rnn-annealed":
  the papers' networks and budgets (2020 paper, section 3 and A.3). What is not the papers':
  gradients are clipped to norm 1; weather's weight decay is decoupled (AdamW); on lines, time is
  divided by 10 and the tolerance is larger; on lines and circles, predicted jumps are rounded to
  whole frames; and the tolerance of "jumpy-rnn-annealed" falls.
* "ours", our best jumpy model for the task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.tasks import TASKS, TaskConfig
from jumpy_mbrl.envs.config import unknown_name
from jumpy_mbrl.envs.task import LINE_CONFIG
from jumpy_mbrl.models.event_jump import EventJumpConfig
from jumpy_mbrl.models.fold_jump import FoldJumpConfig
from jumpy_mbrl.models.jumpy_rnn import JumpyRNNConfig
from jumpy_mbrl.models.latent_jump import LatentJumpConfig
from jumpy_mbrl.models.ode_rnn import ODERNNConfig
from jumpy_mbrl.models.registry import ModelConfig
from jumpy_mbrl.models.rnn import RNNConfig
from jumpy_mbrl.models.sprite_jump import SpriteJumpConfig
from jumpy_mbrl.training.config import TrainingConfig

ANNEALED = "jumpy-rnn-annealed"
PAPER_MODELS = ("rnn", "ode-rnn", "jump-2", "jump-4", "jump-8", "jumpy-rnn", ANNEALED)
TASK_MODELS = (*PAPER_MODELS, "ours")

_PAPER_EPSILON = {
    "lines": 1e-2,
    "circles": 3e-4,
    "billiards1d": 2.5e-5,
    "billiards2d": 3e-5,
    "pixel-billiards1d": 1.3e-4,
    "pixel-billiards2d": 3e-3,
    "weather": 1.6e-3,
    "synthetic-weather": 1.6e-3,
}
"""Squared error up to which a line is accurate: that of the jumpy model or, on billiards and
weather, of the baseline at the end of training in the papers' table 1 (section 2.2). On lines that
is 4e-7, which no line comes near while the model learns; there it is what lets jumps reach the end
within 200 steps of training, as in the papers' figure 8."""
_FIRST_EPSILON = {
    "lines": 1.0,
    "circles": 1.0,
    "billiards1d": 0.1,
    "billiards2d": 0.1,
    "pixel-billiards1d": 0.1,
    "pixel-billiards2d": 0.1,
    "weather": 1.0,
    "synthetic-weather": 1.0,
}
"""What the tolerance of `ANNEALED` falls from: an error that any model stays below."""
_LAST_EPSILON = {**_PAPER_EPSILON, "circles": 2e-3, "billiards1d": 1e-4}
"""What it falls to, on circles and billiards1d above the papers' final error: on circles jumps
only got shorter below it."""
_CERTAIN = ("lines", "circles")
"""Tasks where what is shown decides how long jumps are, and they are rounded to whole frames, as
all are in training. Elsewhere a network predicts the mean of what may come; rounded, that is mostly
a single frame on billiards."""
_PAPER_SCALE = {"lines": (10.0, 1.0)}
"""What observations are divided by; times go to 2 in the papers' figure 8."""

_RNN = TrainingConfig(model=RNNConfig())
_ODE_RNN = TrainingConfig(model=ODERNNConfig())
_JUMPY_RNN = TrainingConfig(model=JumpyRNNConfig(residual=False))
_JUMP_4 = replace(_JUMPY_RNN, model=JumpyRNNConfig(constant_jump=4, residual=False))
_EVENT_JUMP = TrainingConfig(
    model=EventJumpConfig(),
    steps=15_000,
    batch_size=2048,
    learning_rate=3e-3,
    schedule="cosine",
    validation_interval=1000,
    checkpoint_interval=1000,
)
_FOLD_JUMP = replace(_EVENT_JUMP, model=FoldJumpConfig())
_LINE_DATA: dict[str, Any] = {
    "train_data": DatasetConfig(LINE_CONFIG, 100_000, shot="place"),
    "validation_data": DatasetConfig(LINE_CONFIG, 1000, split="validation", shot="place"),
}
_LINE_RNN = replace(_RNN, **_LINE_DATA, model=RNNConfig(obs_size=2))
_LINE_JUMPY_RNN = replace(
    _JUMPY_RNN,
    **_LINE_DATA,
    model=JumpyRNNConfig(
        obs_size=2,
        epsilon=_PAPER_EPSILON["billiards1d"],
        residual=False,
        priming=LINE_CONFIG.lead_in + 1,
        horizon=float(LINE_CONFIG.num_frames - LINE_CONFIG.lead_in - 1),
    ),
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


def _task_data(task: str, csv: str | None = None, **settings: Any) -> dict[str, Any]:
    """Training and validation data of a task: the papers' 10,000 sequences, 9 to 1."""
    return {
        "train_data": TaskConfig(task, **{"num_sequences": 9000, "csv": csv, **settings}),
        "validation_data": TaskConfig(task, num_sequences=1000, split="validation", csv=csv),
    }


def _paper_run(task: str, model: str, csv: str | None = None) -> TrainingConfig:
    """A run with the papers' settings."""
    about = TASKS[task]
    pixels, weather = about.source == "pixels", about.source == "weather"
    hidden = 512 if pixels else 256 if weather else 128
    sizes: dict[str, Any] = {"obs_size": about.obs_size, "action_size": 0, "hidden_size": hidden}
    sizes["scale"] = _PAPER_SCALE.get(task, (1.0,))
    configs: dict[str, Any] = {"rnn": RNNConfig, "ode-rnn": ODERNNConfig}
    annealed = model == ANNEALED
    jump = int(model.removeprefix("jump-")) if model.startswith("jump-") else 0
    config: ModelConfig
    if model in configs:
        config = configs[model](**sizes, residual=False)
    else:
        config = JumpyRNNConfig(
            **sizes,
            epsilon=_LAST_EPSILON[task] if annealed else _PAPER_EPSILON[task],
            first_epsilon=_FIRST_EPSILON[task] if annealed else 0.0,
            whole_jumps=task in _CERTAIN and not jump,
            priming=about.warm_up,
            horizon=float(about.frames - about.warm_up),
            constant_jump=jump,
            residual=False,
        )
    return TrainingConfig(
        model=config,
        **_task_data(task, csv),
        steps=50_000 if pixels else 10_000,
        weight_decay=1e-5 if weather else 0.0,
    )


def _our_run(task: str, csv: str | None = None) -> TrainingConfig:
    """Our best jumpy model for a task."""
    about = TASKS[task]
    if about.source == "table":
        axes = about.obs_size // 2
        return replace(
            _EVENT_JUMP,
            model=FoldJumpConfig(axes=axes, action_size=0),
            **_task_data(task, num_sequences=100_000),
        )
    if about.source == "pixels":
        axes = 1 if task.endswith("1d") else 2
        return replace(
            _EVENT_JUMP,
            model=SpriteJumpConfig(axes=axes, action_size=0),
            **_task_data(task),
            steps=8000,
        )
    return TrainingConfig(
        model=LatentJumpConfig(obs_size=about.obs_size, **_LATENT_JUMP.get(task, {})),
        **_task_data(task, csv),
        steps=20_000 if task == "lines" else 10_000,
        learning_rate=1e-2 if task == "lines" else 2e-3,
        schedule="cosine",
    )


_LATENT_JUMP: dict[str, dict[str, Any]] = {
    "lines": {
        "window": 1,
        "hidden_size": 8,
        "mlp_size": 32,
        "mlp_layers": 2,
        "horizon": 20,
        "epsilon": 5e-7,
        "far_weight": 1.0,
        "center": (10.0, 0.5),
        "scale": (6.0, 0.3),
    },
    "circles": {
        "window": 1,
        "hidden_size": 16,
        "horizon": 24,
        "epsilon": 3e-4,
        "far_weight": 1.0,
    },
    "weather": {"window": 12, "horizon": 16, "epsilon": 2e-3},
    "synthetic-weather": {"window": 12, "horizon": 16, "epsilon": 2e-3},
}


def task_preset(task: str, model: str, csv: str | None = None) -> TrainingConfig:
    """The run of a model on one of the papers' tasks.

    Args:
        task: one of `jumpy_mbrl.data.tasks.TASKS`.
        model: one of `TASK_MODELS`.
        csv: path of the weather file, which the task "weather" needs.

    Raises:
        ValueError: for an unknown task or model, or weather without its file.
    """
    if task not in TASKS:
        raise ValueError(unknown_name("task", task, TASKS))
    if model not in TASK_MODELS:
        raise ValueError(unknown_name("model", model, TASK_MODELS))
    return _our_run(task, csv) if model == "ours" else _paper_run(task, model, csv)


PRESETS: dict[str, TrainingConfig] = {
    "rnn": _RNN,
    "ode-rnn": _ODE_RNN,
    "jump-4": _JUMP_4,
    "jumpy-rnn": _JUMPY_RNN,
    "event-jump": _EVENT_JUMP,
    "fold-jump": _FOLD_JUMP,
    "line-rnn": _LINE_RNN,
    "line-jumpy-rnn": _LINE_JUMPY_RNN,
    "rnn-tiny": replace(_RNN, **_TINY, model=RNNConfig(hidden_size=16, mlp_size=16)),
    "jumpy-rnn-tiny": replace(
        _JUMPY_RNN, **_TINY, model=JumpyRNNConfig(hidden_size=16, mlp_size=16, residual=False)
    ),
    "event-jump-tiny": replace(_EVENT_JUMP, **_TINY, model=EventJumpConfig(hidden_size=16)),
}
"""Runs on shots by name; those that end in "-tiny" take seconds and learn next to nothing."""


def preset(name: str, csv: str | None = None) -> TrainingConfig:
    """The training run called ``name``: one of `PRESETS`, or "TASK/MODEL".

    Raises:
        ValueError: if there is none, with the nearest name.
    """
    task, slash, model = name.partition("/")
    if slash:
        return task_preset(task, model, csv)
    if name not in PRESETS:
        raise ValueError(unknown_name("preset", name, PRESETS))
    return PRESETS[name]
