"""What a planner wins whose world model has learned from so much experience, for so long.

The model is our best jumpy one, or one of its rivals.

Experience is counted in frames of real tables, whatever they served: those that the model learned
from, and those by which its best weights were chosen.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.evaluation.given import given_to
from jumpy_mbrl.evaluation.scoring import evaluate_agent
from jumpy_mbrl.evaluation.tables import Tables
from jumpy_mbrl.files import entries_of, read_json
from jumpy_mbrl.lab.learning.curves import PRESET
from jumpy_mbrl.training import TrainingConfig, preset, train, training_seconds
from jumpy_mbrl.training.loop import CONFIG

STEPS = preset(PRESET).steps
POINTS_FORMAT = "jumpy-mbrl planner's learning"
VERSION = 1

_MOST_HELD_BACK = 1000
_NUMBERS = ("trajectories", "seed", "steps", "frames", "samples", "seconds", "n", "success")


@dataclass(frozen=True)
class LearningRun:
    """A training by a preset, on other data or shorter than it says.

    The best weights are chosen on a tenth as many sequences as are learned from, up to the 1000 of
    the preset; as many everywhere would be most of the experience where there is little. However
    short the training, the learning rate falls as far as in the preset.

    Attributes:
        trajectories: to learn from.
        seed: of the data, the first weights, the batches and the planner's search.
        steps: updates.
        preset: of a model of shots on a table; by default our best jumpy model.

    Raises:
        ValueError: for numbers below 1, a negative seed, or another preset.
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

    def config(self, device: str = "auto") -> TrainingConfig:
        """What defines the training."""
        train_data, validation_data = self.data
        usual = preset(self.preset)
        about = usual.train_data
        if not isinstance(about, DatasetConfig) or about.on_line:
            raise ValueError(
                f"expected a preset of shots on a table, such as {PRESET!r} or 'rnn', got "
                f"{self.preset!r}"
            )
        if usual.schedule == "exponential" and self.steps >= 1:
            spread = round(usual.decay_every * self.steps / usual.steps)
            usual = replace(usual, decay_every=max(1, spread))
        return replace(
            usual,
            train_data=train_data,
            validation_data=validation_data,
            steps=self.steps,
            seed=self.seed,
            device=device,
        )


@dataclass(frozen=True)
class PlannerPoint:
    """A training, and what the planner won with it.

    Attributes:
        trajectories: see `LearningRun`.
        seed: likewise.
        steps: likewise.
        preset: likewise.
        frames: of experience.
        samples: drawn to learn from, updates times batch size.
        seconds: of training, with the making of the data, without validations.
        n: held-out tables that were played.
        successes: how many of them were won.
        success: the fraction.
        ci95: its 95 % Wilson interval.
        device: of the training: "cpu", or the name of a GPU.
        threads: CPU threads of torch.
    """

    trajectories: int
    seed: int
    steps: int
    preset: str
    frames: int
    samples: int
    seconds: float
    n: int
    successes: int
    success: float
    ci95: tuple[float, float]
    device: str
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return {**asdict(self), "ci95": list(self.ci95)}


def learn_and_play(
    run: LearningRun,
    tables: Tables,
    run_dir: str | os.PathLike[str],
    *,
    device: str = "auto",
    progress: bool = True,
) -> PlannerPoint:
    """Trains a model, and lets a planner play with it.

    Args:
        run: the training.
        tables: where the planner plays, with the search that all planners have by default.
        run_dir: folder of the training. If it was interrupted there, it goes on.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        progress: show a progress bar while it trains.

    Raises:
        ValueError: for an unknown device, or a folder of another training.
        TrainingDivergedError: if the training fails.
    """
    folder = Path(run_dir)
    # The data are this run's own, so that making them is always counted.
    best = train(
        run.config(device),
        folder,
        resume=(folder / CONFIG).is_file(),
        data_dir=folder / "data",
        progress=progress,
    )
    agent: Any = load_agent("jumpy", checkpoint=best, device=device, seed=run.seed)
    samples = given_to(agent).samples
    assert samples is not None, "training records them"
    on_gpu = agent.device.type == "cuda"
    return PlannerPoint(
        **asdict(run),
        frames=run.frames,
        samples=samples,
        seconds=training_seconds(folder),
        **score_of(agent, tables),
        device=torch.cuda.get_device_name(agent.device) if on_gpu else "cpu",
        threads=torch.get_num_threads(),
    )


def score_of(agent: Any, tables: Tables) -> dict[str, Any]:
    """``n``, ``successes``, ``success`` and ``ci95`` of an agent."""
    result = evaluate_agent(agent, tables)
    return {name: getattr(result, name) for name in ("n", "successes", "success", "ci95")}


# -- points in files -----------------------------------------------------------------------------


def read_points(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file of points: ``points``, with the ``tables``, ``references`` and ``commands`` of them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another.
    """
    fields = {"tables": int, "references": dict, "points": list, "commands": list}
    content = read_json(path, POINTS_FORMAT, VERSION, fields)
    with entries_of(path, "make its points again in another file"):
        # Of an older version, which knew one preset.
        older = {"preset": PRESET}
        content["points"] = [
            {**older, "samples": preset(PRESET).batch_size * point["steps"], **point}
            for point in content["points"]
        ]
        for point in content["points"]:
            if not all(math.isfinite(point[name]) for name in _NUMBERS):
                raise ValueError(f"a point is {point}")
            run_of(point)
    return content


def run_of(point: Mapping[str, Any]) -> LearningRun:
    """The training of a point.

    Raises:
        ValueError: if there can be none.
    """
    return LearningRun(point["trajectories"], point["seed"], point["steps"], point["preset"])


def find_point(points: Sequence[dict[str, Any]], run: LearningRun) -> dict[str, Any] | None:
    """The point of a training, if there is one."""
    wanted = asdict(run)
    return next((point for point in points if wanted.items() <= point.items()), None)


def merge_points(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """The points of several files as those of one.

    Raises:
        ValueError: for files of other tables, or with the same training.
    """
    reports = [read_points(path) for path in paths]
    counts = sorted({report["tables"] for report in reports})
    if len(counts) > 1:
        raise ValueError(f"expected points that were played on as many tables, got {counts}")
    points = [point for report in reports for point in report["points"]]
    names = Counter(run_of(point).name for point in points)
    name, count = names.most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ValueError(f"expected every training once, got {name!r} {count} times")
    commands = [command for report in reports for command in report["commands"]]
    return {**reports[0], "points": points, "commands": list(dict.fromkeys(commands))}
