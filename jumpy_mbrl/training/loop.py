"""The training loop: updates, validation, the best weights, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from jumpy_mbrl import files
from jumpy_mbrl.data.loading import SequenceData, load_data
from jumpy_mbrl.devices import cpu_threads, plain_defaults
from jumpy_mbrl.locks import own
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.pretrained import FORMAT, save_pretrained, versions
from jumpy_mbrl.models.registry import make_model
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import TrainingConfig, differences
from jumpy_mbrl.training.distributed import Workers, join
from jumpy_mbrl.training.loss import Loss, check_compiler
from jumpy_mbrl.training.optimizer import Optimizer
from jumpy_mbrl.training.stopwatch import Stopwatch
from jumpy_mbrl.training.validation import validate

CHECKPOINT = "checkpoint.safetensors"
CONFIG = "config.json"
BEST = "best"

_LOG_INTERVAL = 50


class TrainingDivergedError(RuntimeError):
    """The loss or its gradient is no longer finite."""


def train(
    config: TrainingConfig,
    run_dir: str | os.PathLike[str],
    *,
    resume: bool = False,
    data_dir: str | os.PathLike[str] = "data",
    command: str | None = None,
    progress: bool = True,
) -> Path:
    """Trains a world model and saves the weights that were best on the validation data.

    Killed at any moment and resumed, a run on a CPU ends with the same bytes as without the
    interruption, but for the seconds (on one machine, with the same number of threads). Started by
    torchrun, its workers train one model together (see ``jumpy_mbrl.training.distributed``); as
    many as one likes may resume it.

    Args:
        config: the run.
        run_dir: folder for the checkpoint, TensorBoard scalars, ``seconds.json`` (see
            ``training_seconds``) and ``best/``, the best model as ``from_pretrained`` loads it.
        resume: go on from the checkpoint in ``run_dir``, or from the start if the run was
            interrupted before its first checkpoint.
        data_dir: folder where datasets are kept for the next run.
        command: the command line, for the record.
        progress: show a progress bar.

    Returns the folder ``run_dir/best``. `ValueError` for a device this machine does not have, a
    ``run_dir`` that already holds a run (or none, or another one, to resume), a batch that the
    workers cannot share equally, or ``compile`` where there is no working compiler;
    `BlockingIOError` if another process trains in ``run_dir``; `TrainingDivergedError` if the loss
    becomes NaN or infinite; `WorkersLostError` if another worker ended.
    """
    folder = Path(run_dir)
    with (
        cpu_threads(config.threads),
        join(config.device) as workers,
        contextlib.ExitStack() as owned,
    ):
        workers.check_batch(config.batch_size)
        if config.compile:
            check_compiler(workers.device)
        checkpoint = workers.from_first(lambda: _prepare(folder, config, resume, owned))
        run = _Run(config, folder, workers)
        data = [config.train_data, config.validation_data]
        training, validation = workers.after_first(
            lambda: [load_data(part, data_dir) for part in data]
        )
        if checkpoint is None:
            run.model.calibrate(training)
        else:
            run.restore(checkpoint)
        run.advance(training, validation, progress)
        return workers.from_first(lambda: run.export(command))


def _prepare(
    folder: Path, config: TrainingConfig, resume: bool, owned: contextlib.ExitStack
) -> Checkpoint | None:
    """Makes a new run's folder, or finds the checkpoint of an old one; locks it."""
    path = folder / CHECKPOINT
    if resume and not (folder / CONFIG).is_file():
        raise ValueError(
            f"expected a run to resume in {folder}, but there is no {CONFIG} there; "
            "check the path, or start a run without resume"
        )
    owned.enter_context(own(folder))
    checkpoint = None
    if resume:
        if not path.is_file():
            return None
        checkpoint = Checkpoint.load(path)
        changed = differences(checkpoint.config, config.to_dict())
        if changed:
            raise ValueError(
                f"expected the config that the run in {folder} was started with, got "
                f"{', '.join(changed)}; give the same settings, or start a run in another folder"
            )
    elif (folder / CONFIG).exists() or path.exists():
        raise ValueError(
            f"{folder} already holds a run; resume it, remove it, or choose another folder"
        )
    # What could not be written at the end of a run is noticed before its start.
    files.check_writable(path, folder / BEST / CONFIG)
    files.check_ours(folder / BEST / CONFIG, FORMAT)
    if not resume:
        content = {"training": config.to_dict(), "versions": versions()}
        files.write_json(folder / CONFIG, content)
    return checkpoint


class _Run:
    """A model under training and all that decides how it goes on."""

    def __init__(self, config: TrainingConfig, folder: Path, workers: Workers) -> None:
        self.stopwatch = Stopwatch()
        self.config, self.folder, self.workers = config, folder, workers
        self.path = folder / CHECKPOINT
        self.step = 0
        self.saved_step: int | None = None
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self.best_model: dict[str, Tensor] = {}
        self.model = _first_weights(config).to(workers.device)
        self.loss = workers.unite(Loss(self.model, config.precision, config.compile))
        self.averaged = _average(self.model, config.average) if config.average else None
        self.optimizer = Optimizer(
            self.model, config.optimizer, config.learning_rate, config.weight_decay
        )
        self.generator = torch.Generator("cpu").manual_seed(config.seed)

    def advance(self, training: SequenceData, validation: SequenceData, progress: bool) -> None:
        """Trains from the current step to the last."""
        config, first = self.config, self.workers.is_first
        _check_fit(self.model, training)
        self.sampler = self.model.sampler(training, self.workers.device)
        shown: dict[str, str] = {}
        bar = tqdm(
            total=config.steps,
            initial=self.step,
            disable=not (progress and first),
            unit="step",
            smoothing=0.05,
        )
        with bar, _board(self.folder, self.workers, self.step) as board:
            while self._goes_on():
                log = self._update()
                if self._due(_LOG_INTERVAL):
                    scalars = self.workers.mean(log)
                    _write(board, "train", scalars, self.step)
                    shown |= {name: f"{value:.3g}" for name, value in scalars.items()}
                if first and self._due(config.validation_interval):
                    with self.stopwatch.paused():
                        scalars = self._validate(validation)
                    _write(board, "validation", scalars, self.step)
                    shown |= {f"val_{name}": f"{value:.3g}" for name, value in scalars.items()}
                if self._due(config.checkpoint_interval) or self._has_ended():
                    if board is not None:
                        board.flush()
                    self.save()
                bar.set_postfix(shown, refresh=False)
                bar.update()

    def export(self, command: str | None) -> Path:
        """Saves the best weights as a folder for ``from_pretrained``."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.best_model)
        return save_pretrained(
            model,
            self.folder / BEST,
            data=self.config.train_data.to_dict(),
            training={
                "command": command,
                "config": self.config.to_dict(),
                "steps": self.step,
                "seconds": round(self.stopwatch.seconds, 3),
            },
            metrics={f"validation_{name}": value for name, value in (self.best or {}).items()},
        )

    def save(self) -> None:
        """Writes the checkpoint, which the first worker does for all."""
        self.saved_step = self.step
        if not self.workers.is_first:
            return
        self.stopwatch.save(self.folder)
        Checkpoint(
            step=self.step,
            config=self.config.to_dict(),
            history=self.history,
            best=self.best,
            model=self.model.state_dict(),
            best_model=self.best_model,
            averaged={} if self.averaged is None else self.averaged.state_dict(),
            optimizer=self.optimizer.state(),
            generator=self.generator.get_state(),
        ).save(self.path)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint; `ValueError` for what would be missed, or not fit, later."""
        self.stopwatch.restore(self.folder)
        self.step = self.saved_step = checkpoint.step
        self.history = checkpoint.history
        self.best, self.best_model = checkpoint.best, checkpoint.best_model
        with files.entries_of(
            self.path, "it is of another run, so start this one anew in another folder"
        ):
            last = self.config.steps
            if checkpoint.step > last:
                raise ValueError(f"its step {checkpoint.step} is beyond the last, {last}")
            best = self.model.state_dict() if checkpoint.best else {}
            if _shapes(checkpoint.best_model) != _shapes(best):
                raise ValueError("its best weights are those of another model")
            averaged = {} if self.averaged is None else self.averaged.state_dict()
            if _shapes(checkpoint.averaged) != _shapes(averaged):
                raise ValueError("its averaged weights are those of another model")
            self.model.load_state_dict(checkpoint.model)
            if self.averaged is not None:
                self.averaged.load_state_dict(checkpoint.averaged)
            self.optimizer.restore(checkpoint.optimizer)
            self.generator.set_state(checkpoint.generator)

    def _has_ended(self) -> bool:
        return self.config.has_ended(self.step, self.history)

    def _goes_on(self) -> bool:
        if not self.config.patience:
            return self.step < self.config.steps
        return not self.workers.from_first(self._has_ended)  # It alone validates.

    def _due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.config.steps

    def _update(self) -> Mapping[str, Tensor]:
        config = self.config
        batch = self.sampler.sample(config.batch_size, self.generator, self.step)
        batch = self.workers.share(batch)
        batch["progress"] = torch.tensor(self.step / config.steps)
        loss, log = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self._check_finite(float(loss.detach()), float(norm))
        self.optimizer.step(config.learning_rate_at(self.step))
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.step += 1
        return {"loss": loss.detach(), **log}

    def _check_finite(self, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        last = "there is no checkpoint yet"
        if self.saved_step is not None:
            last = f"the last good checkpoint is {self.path} (step {self.saved_step})"
        raise TrainingDivergedError(
            f"expected a finite loss and gradient, got {loss} and a gradient of norm {norm} at "
            f"step {self.step}; {last}; try a learning_rate below {self.config.learning_rate:g}"
        )

    def _validate(self, data: SequenceData) -> dict[str, float]:
        averaged = self.averaged
        model = self.model if averaged is None else cast(WorldModel, averaged.module)
        model.eval()
        scalars = validate(model, data)
        model.train()
        # JSON has no NaN; an error that is not finite counts as the largest number.
        mse = scalars["mse"] if math.isfinite(scalars["mse"]) else torch.finfo(torch.float32).max
        entry = {**scalars, "mse": mse, "step": self.step}
        self.history.append(entry)
        if self.best is None or mse < self.best["mse"]:
            self.best = entry
            weights = model.state_dict().items()
            self.best_model = {name: value.detach().clone() for name, value in weights}
        return scalars


def _check_fit(model: WorldModel, data: SequenceData) -> None:
    sizes = {
        "observations": (model.obs_size, data.obs),
        "actions": (model.action_size, data.action),
    }
    for name, (size, array) in sizes.items():
        if array.shape[2] != size:
            raise ValueError(
                f"the model is made for {name} of size {size}, but those of the dataset have size "
                f"{array.shape[2]}; change the model's sizes or the data"
            )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _first_weights(config: TrainingConfig) -> WorldModel:
    """The untrained model, drawn from the config's seed; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]), plain_defaults():
        torch.manual_seed(config.seed)
        return make_model(config.model).float()


def _average(model: WorldModel, keep: float) -> AveragedModel:
    """The model with averaged weights, which forget the first ones sooner than ``keep`` alone."""

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        done = int(steps)
        torch._foreach_lerp_(averaged, current, 1.0 - min(keep, (1 + done) / (10 + done)))

    with plain_defaults():
        return AveragedModel(model, multi_avg_fn=update)


@contextlib.contextmanager
def _board(folder: Path, workers: Workers, step: int) -> Iterator[Any]:
    """The first worker's TensorBoard writer; None for others, or where it is not installed.

    What was written after the step that the run goes on from is purged.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        SummaryWriter = None  # type: ignore[assignment, misc]
    if not workers.is_first or SummaryWriter is None:
        yield None
        return
    with SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield writer


def _write(board: Any, group: str, scalars: Mapping[str, float], step: int) -> None:
    for name, value in scalars.items() if board is not None else ():
        board.add_scalar(f"{group}/{name}", value, step)
