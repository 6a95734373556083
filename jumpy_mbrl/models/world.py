"""The world that a model has learned, by its record, and the one that it is to play in."""

from __future__ import annotations

import contextlib
import math
import shlex
import warnings
from collections.abc import Mapping
from typing import Any

from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.envs.config import LINE_CONFIG, Start, TableConfig
from jumpy_mbrl.envs.rules import Task
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel
from jumpy_mbrl.models.bodies.placement import PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel

Differences = dict[str, tuple[Any, Any]]
"""What was learned and what is played, by the name of the setting."""

_SCRIPT = "scripts/train_world_model.py"
_FOLDER = "runs/there"
_PHYSICS = ("radius", "dt", "restitution")
_SHOT = ("max_impulse", "max_speed")
ROUNDING = 1e-6
"""Relative difference that matters to nobody, such as that of numbers from float32."""


class OtherWorldWarning(UserWarning):
    """A model or a policy is to play in another world than it has learned: beliefs may be false.

    ``warnings.simplefilter("error", OtherWorldWarning)`` makes it an error.
    """


def learned_world(data: Mapping[str, Any]) -> DatasetConfig | None:
    """The tables that a model has learned from, by the ``data`` of its record.

    None for what is no table, or unknown. Of the papers' tasks, where balls are only watched, it is
    their table with the shot "none".
    """
    about = TASKS.get(str(data.get("task")))
    if about is not None:
        return DatasetConfig(shot="none") if about.source in ("table", "pixels") else None
    if "table" in data:
        with contextlib.suppress(TypeError, ValueError):  # A record may hold anything.
            return DatasetConfig.from_dict(data)
    return None


def learned_a_line(model: WorldModel) -> bool:
    """Whether a model is known to have learned balls on a line."""
    if model.on_line is not None:
        return model.on_line
    learned = learned_world(model.record.get("data", {}))
    return learned is not None and learned.on_line


def differences(learned: DatasetConfig, task: Task) -> Differences:
    """The settings that matter in which a game differs from what was learned.

    The target, the number of frames and slower starts do not matter, nor does the number of balls:
    a model is carried over to another, or refused.
    """
    mine, its = learned.table, task.config
    found: Differences = {
        name: (getattr(mine, name), getattr(its, name))
        for name in (*_PHYSICS, *(() if task.line else _SHOT), "lead_in")
        if not math.isclose(getattr(mine, name), getattr(its, name), rel_tol=ROUNDING)
    }
    shot = "place" if task.line else "uniform"
    if learned.shot != shot:
        found["shot"] = learned.shot, shot
    speeds = _fastest(mine, learned.start), _fastest(its, task.start)
    if speeds[0] * (1.0 + ROUNDING) < speeds[1] and not task.line and not learned.on_line:
        found["fastest start"] = speeds
    return found


def told(found: Differences) -> str:
    """The differences in words."""
    return "; ".join(f"{name} {mine}, here {its}" for name, (mine, its) in found.items())


def warn_of_other_world(
    model: WorldModel, task: Task, stacklevel: int = 1, agent: str | None = None
) -> None:
    """Warns of a game that differs from what the model has learned, once for each model and game.

    A model without a record of what it learned from is taken to have learned this.

    Args:
        model: who is to play.
        task: the game.
        stacklevel: as of ``warnings.warn``, 1 for the caller of this function.
        agent: the name of who plans with the model, if it has one.
    """
    if isinstance(model, PlacementModel):  # The action is given to what was only watched.
        model = model.model
    learned = learned_world(model.record.get("data", {}))
    if isinstance(model, SimulatorModel):
        learned = DatasetConfig(model.config)
    if learned is None:
        return
    found = differences(learned, task)
    text = told({name: pair for name, pair in found.items() if _matters(model, name, pair)})
    warned = model.__dict__.setdefault("_warned_of", set())
    if not text or text in warned:
        return
    kind = type(model).__name__
    if isinstance(model, SimulatorModel):
        advice = f"make a {kind} of this table"
    else:
        command = _command(model, learned, task)
        advice = f"to train one there: {command}, and then play with {_FOLDER}/best"
    who = f"the {kind} of agent {agent!r}" if agent else f"the {kind}"
    warnings.warn(
        f"{who} knows another world than it is to play in ({text}), so what it believes may be "
        f"false; {advice}",
        OtherWorldWarning,
        stacklevel=stacklevel + 1,
    )
    warned.add(text)  # not before: where the warning is an error, it stays one


def _matters(model: WorldModel, name: str, pair: tuple[Any, Any]) -> bool:
    if name in _PHYSICS:
        return True
    if model.action_size == 0:
        return False
    if isinstance(model, SimulatorModel):
        return name in _SHOT
    # Models of balls and velocities have only to see enough of them.
    return not (name == "lead_in" and isinstance(model, EventDrivenModel)) or pair[1] < pair[0]


def _fastest(table: TableConfig, start: Start) -> float:
    """A speed that hardly any velocity component at the start exceeds."""
    return 0.0 if start == "rest" else min(table.initial_speed_max, 3.0 * table.initial_speed_std)


def _command(model: WorldModel, learned: DatasetConfig, task: Task) -> str:
    """The command that trains such a model on the task's table, from the one that trained this."""
    words: list[str] = []
    with contextlib.suppress(ValueError):  # A record may hold anything.
        words = shlex.split(str(model.record.get("training", {}).get("command")))
    if not {_SCRIPT, "jumpy-mbrl"} & set(words) or learned.on_line != task.line:
        learned = DatasetConfig(LINE_CONFIG, shot="place") if task.line else DatasetConfig()
        words = ["python", _SCRIPT, "--preset", "line-jumpy-rnn" if task.line else "fold-jump"]
    if "--run-dir" in words:
        place = words.index("--run-dir")
        del words[place : place + 2]
    options = []
    for name, (_, its) in differences(learned, task).items():
        if name == "fastest start":
            options += [("start", task.start)] * (learned.start != task.start)
            for setting in ("initial_speed_std", "initial_speed_max"):
                if getattr(learned.table, setting) != getattr(task.config, setting):
                    options.append((f"table.{setting}", getattr(task.config, setting)))
        else:
            options.append((name if name == "shot" else f"table.{name}", its))
    for name, value in options:
        for part in ("train-data", "validation-data"):
            words += [f"--{part}.{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--run-dir", _FOLDER])
