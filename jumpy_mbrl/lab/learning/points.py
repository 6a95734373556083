"""What a planner wins whose world model has learned from so much experience, for so long.

The model is our best jumpy one, or one of its rivals. Experience is counted in frames of real
tables, whatever they served: those that the model learned from, and those by which its best weights
were chosen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from jumpy_mbrl import training
from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.evaluation import Tables, evaluate_agent, given_to
from jumpy_mbrl.lab.learning.curves import PRESET
from jumpy_mbrl.lab.store import Report
from jumpy_mbrl.training.loop import CONFIG

STEPS = training.preset(PRESET).steps

_MOST_HELD_BACK = 1000
_PARTS = {"tables": int, "references": dict, "points": list, "commands": list}
_NUMBERS = ("trajectories", "seed", "steps", "frames", "samples", "seconds", "n", "success")


@dataclass(frozen=True)
class LearningRun:
    """A training by a preset, on so many other trajectories or for fewer updates than it says.

    The best weights are chosen on a tenth as many sequences as are learned from, up to the 1000 of
    the preset; as many everywhere would be most of the experience where there is little. However
    short the training, the learning rate falls as far as in the preset. The seed is that of the
    data, the first weights, the batches and the planner's search. `ValueError` for numbers below 1,
    a negative seed, or a preset of no model of shots on a table.
    """

    trajectories: int
    seed: int = 0
    steps: int = STEPS
    preset: str = PRESET

    def __post_init__(self) -> None:
        self.config()

    @property
    def name(self) -> str:
        """Of its folder."""
        name = f"{self.trajectories}-trajectories-{self.steps}-steps-seed-{self.seed}"
        return name if self.preset == PRESET else f"{self.preset}-{name}"

    @property
    def data(self) -> tuple[DatasetConfig, DatasetConfig]:
        """To learn from, and to choose by."""
        held_back = min(max(self.trajectories // 10, 1), _MOST_HELD_BACK)
        return (
            DatasetConfig(num_trajectories=self.trajectories, seed=self.seed),
            DatasetConfig(num_trajectories=held_back, seed=self.seed, split="validation"),
        )

    @property
    def frames(self) -> int:
        """Of experience."""
        return sum(part.num_trajectories * part.table.num_frames for part in self.data)

    def config(self, device: str = "auto") -> training.TrainingConfig:
        """The configuration of the training."""
        train_data, validation_data = self.data
        usual = training.preset(self.preset)
        if not isinstance(usual.train_data, DatasetConfig) or usual.train_data.on_line:
            raise ValueError(
                f"expected a preset of shots on a table, such as {PRESET!r} or 'rnn', got "
                f"{self.preset!r}"
            )
        return replace(
            usual,
            train_data=train_data,
            validation_data=validation_data,
            steps=self.steps,
            seed=self.seed,
            device=device,
        )


def learn_and_play(
    run: LearningRun, tables: Tables, folder: Path, device: str = "auto", progress: bool = True
) -> dict[str, Any]:
    """Trains a model, or goes on where that was interrupted, and lets a planner play with it.

    Returns the point: the run, `frames` of experience, `samples` drawn to learn from, `seconds` of
    training (with the making of the data, without validations), what the planner won, and where.
    """
    # The data are this run's own, so that making them is always counted.
    best = training.train(
        run.config(device),
        folder,
        resume=(folder / CONFIG).is_file(),
        data_dir=folder / "data",
        progress=progress,
    )
    agent: Any = load_agent("jumpy", checkpoint=best, device=device, seed=run.seed)
    on_gpu = agent.device.type == "cuda"
    return {
        **asdict(run),
        "frames": run.frames,
        "samples": given_to(agent).samples,
        "seconds": training.training_seconds(folder),
        **score_of(agent, tables),
        "device": torch.cuda.get_device_name(agent.device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
    }


def score_of(agent: Any, tables: Tables) -> dict[str, Any]:
    """What an agent wins of the tables, with its 95 % interval."""
    result = evaluate_agent(agent, tables)
    figures = {name: getattr(result, name) for name in ("n", "successes", "success")}
    hard = result.contested
    return {**figures, "ci95": list(result.ci95), "contested": hard and hard.success}


def points_in(path: Path, tables: int = 0, versions: Mapping[str, str] | None = None) -> Report:
    """A file of points: with the number of `tables`, `references` on them and `commands`."""
    empty = {"format": "jumpy-mbrl planner's learning", "format_version": 1, "tables": tables}
    empty |= {"references": {}, "points": [], "commands": [], "versions": dict(versions or {})}
    return Report(path, empty, _check, "make its points again in another file")


def _check(content: dict[str, Any]) -> None:
    for name, kind in _PARTS.items():
        if not isinstance(content[name], kind):
            raise TypeError(f"{name} is {content[name]!r}")
    for point in content["points"]:
        # Older versions knew one preset.
        point.setdefault("preset", PRESET)
        point.setdefault("samples", training.preset(PRESET).batch_size * point["steps"])
        if not all(math.isfinite(point[name]) for name in _NUMBERS):
            raise ValueError(f"a point is {point}")
        run_of(point)


def run_of(point: Mapping[str, Any]) -> LearningRun:
    """The training of a point."""
    return LearningRun(point["trajectories"], point["seed"], point["steps"], point["preset"])


def find_point(points: Sequence[dict[str, Any]], run: LearningRun) -> dict[str, Any] | None:
    """The point of a training, if there is one."""
    wanted = asdict(run)
    return next((point for point in points if wanted.items() <= point.items()), None)


def merge_points(paths: Sequence[Path]) -> dict[str, Any]:
    """The points of several files as those of one; all played as many tables, none is there twice.

    `FileNotFoundError` if one is missing.
    """
    reports = []
    for path in paths:
        path.stat()
        reports.append(points_in(path).read())
    counts = sorted({report["tables"] for report in reports})
    if len(counts) > 1:
        raise ValueError(f"expected points that were played on as many tables, got {counts}")
    points = [point for report in reports for point in report["points"]]
    for name, count in Counter(run_of(point).name for point in points).items():
        if count > 1:
            raise ValueError(f"expected every training once, got {name!r} {count} times")
    commands = [command for report in reports for command in report["commands"]]
    return {**reports[0], "points": points, "commands": list(dict.fromkeys(commands))}
