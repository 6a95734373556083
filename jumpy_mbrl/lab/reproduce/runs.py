"""One run of a model on a task, from training to its entry in the report.

A run is a `Job`; `run_job` trains it (or goes on with it, or finds it finished), scores it and
returns its entry, which JSON can hold, and sequences to draw.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl import devices, files, locks
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.evaluation.sequences import score
from jumpy_mbrl.lab.reproduce.samples import record_samples
from jumpy_mbrl.models import from_pretrained
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN
from jumpy_mbrl.models.pretrained import is_whole, pretrained_info, versions
from jumpy_mbrl.training import TrainingConfig, TrainingDivergedError, train, training_seconds
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import differences
from jumpy_mbrl.training.loop import BEST, CHECKPOINT, CONFIG

SEQUENCES = 1000
"""How many of the training and of the evaluation sequences a model is scored on."""
MEAN_SEQUENCES = 1000
"""Training sequences that are averaged."""
FORCED_JUMPS = (1, 2, 4, 8, 16)
"""Frames of the constant jumps that a trained jumpy RNN is forced to (the gray curves), besides one
jump over all that is predicted."""


@dataclass(frozen=True)
class Job:
    """A run to train on a task and score, kept in ``folder`` below that of all runs.

    ``sequences`` is how many training and evaluation sequences the figures are of; ``command`` is
    the command line that repeats it, for the record.
    """

    config: TrainingConfig
    folder: str
    sequences: int = SEQUENCES
    command: str | None = None

    @property
    def task(self) -> TaskConfig:
        """Of the training data."""
        return cast(TaskConfig, self.config.train_data)


def run_job(job: Job, runs_dir: str, threads: int = 0, progress: bool = False) -> dict[str, Any]:
    """Trains a run as far as it is not trained yet, and scores its best weights.

    Returns ``entry``, which belongs into the report, and ``samples``, sequences to draw. A run that
    fails gives an entry with ``error``, and no samples; nothing is raised for it.
    """
    folder = Path(runs_dir) / job.folder
    config = replace(job.config, threads=threads)
    try:
        with devices.cpu_threads(threads):
            if not is_finished(config, folder):
                resume = (folder / CONFIG).is_file()
                train(config, folder, resume=resume, command=job.command, progress=progress)
            return _score(job, folder)
    except Exception as error:
        if not isinstance(error, (ValueError, OSError, TrainingDivergedError)):
            traceback.print_exc(file=sys.stderr)
        return failure(job, f"{type(error).__name__}: {error}".replace(str(folder), job.folder))


def failure(job: Job, error: str) -> dict[str, Any]:
    """What `run_job` returns for a run that failed."""
    return {"entry": {"error": error, **_record(job)}, "samples": None}


def run_job_apart(job: Job, runs_dir: str, threads: int = 0) -> dict[str, Any]:
    """`run_job` on another machine, with ``files``: the run's folder as bytes by relative path.

    Where there is no ``runs_dir``, the run is trained in a temporary folder: nothing resumes it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = runs_dir if Path(runs_dir).is_dir() else temporary
        return {**run_job(job, place, threads), "files": read_files(Path(place) / job.folder)}


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run, but for its lock, by relative path."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != locks.RUN_LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def keep_files(contents: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files of a run that are not in ``folder`` yet.

    `ValueError` for a path that leads out of it, `BlockingIOError` if another process trains there.
    """
    with locks.own(folder):
        for name, content in contents.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"expected a path inside the run's folder, got {name!r}")
            if not path.is_file() or path.read_bytes() != content:
                with files.atomic_write(path) as temporary:
                    temporary.write_bytes(content)


def is_finished(config: TrainingConfig, folder: Path) -> bool:
    """Whether the run in ``folder`` has made its last step and saved its best weights.

    `ValueError` if it is a run with other settings, or damaged.
    """
    if not (folder / CHECKPOINT).is_file() or not is_whole(folder / BEST):
        return False
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    changed = differences(checkpoint.config, config.to_dict())
    if changed:
        raise ValueError(
            f"the run in {folder} was made with other settings ({', '.join(changed)}); "
            "choose another folder of runs, or remove it"
        )
    return config.has_ended(checkpoint.step, checkpoint.history)


def _score(job: Job, folder: Path) -> dict[str, Any]:
    """What `run_job` returns, from the best weights of a finished run."""
    device = devices.resolve_device(job.config.device)
    model = from_pretrained(folder / BEST, device)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    train_data = make_task(job.task)
    test_task = replace(job.task, split="evaluation", num_sequences=job.sequences)
    test_data = make_task(test_task)  # Weather may have fewer.
    try:
        seconds = training_seconds(folder)
    except FileNotFoundError:  # The run is of a version that did not count them.
        seconds = None
    entry = {
        "error": None,
        "train": score(model, replace(train_data, obs=train_data.obs[: job.sequences])).to_dict(),
        "test": score(model, test_data).to_dict(),
        "mean_sequence_mse": mean_sequence_mse(train_data, test_data),
        "forced_jumps": forced_jumps(model, test_data),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "built_in": list(model.built_in),
        "steps": checkpoint.step,
        "best_step": pretrained_info(folder / BEST)["metrics"].get("validation_step"),
        "training_seconds": seconds,
        "training_frames": train_data.obs.shape[0] * train_data.obs.shape[1],
        "history": checkpoint.history,
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        **_record(job),
    }
    return {"entry": entry, "samples": record_samples(model, test_data)}


def mean_sequence_mse(train_data: TaskDataset, test_data: TaskDataset) -> float:
    """Sample MSE of imagining the mean of the training sequences, whatever is shown."""
    mean = _as_float(train_data.obs[:MEAN_SEQUENCES]).mean(axis=0)
    error = _as_float(test_data.obs) - mean
    return float(np.square(error[:, test_data.context_frames :]).mean())


def _as_float(obs: NDArray[Any]) -> NDArray[np.float64]:
    """Frames as models read them: pictures from 0 to 1."""
    return obs / 255.0 if obs.dtype == np.uint8 else obs.astype(np.float64)


def forced_jumps(model: WorldModel, data: TaskDataset) -> list[dict[str, Any]]:
    """Sample MSE of a jumpy RNN that has to jump constantly: the gray curve of figures 3, 5 and 8.

    ``jump`` (frames), ``mean_jump`` and ``sample_mse`` for each of `FORCED_JUMPS` that is not
    longer than the prediction, and for a single one; nothing for other models.
    """
    if not isinstance(model, JumpyRNN) or model.config.constant_jump:
        return []
    later = data.obs.shape[1] - data.context_frames
    curve = []
    for jump in sorted({*(jump for jump in FORCED_JUMPS if jump < later), later}):
        with torch.random.fork_rng(devices=[]):  # First weights are drawn, and thrown away.
            forced = JumpyRNN(replace(model.config, constant_jump=jump))
        forced.load_state_dict(model.state_dict())
        found = score(forced.to(next(model.parameters()).device).eval(), data).to_dict()
        curve.append({"jump": jump, **{name: found[name] for name in ("mean_jump", "sample_mse")}})
    return curve


def _record(job: Job) -> dict[str, Any]:
    """What a run was, without the folders of this machine."""
    config = job.config.to_dict()
    for data in (config["train_data"], config["validation_data"]):
        data["csv"] = None if data["csv"] is None else Path(data["csv"]).name
    return {"config": config, "seed": job.config.seed, "versions": versions()}
