"""Table 1 of the papers, measured again: one run of a model on a task, and the table of all runs.

A run is a `Job`; `run_job` trains it (or goes on with it, or finds it finished), scores it and
returns an entry of the report, which JSON can hold. `format_report` writes the report as Markdown.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data.seeds import data_rng
from jumpy_mbrl.data.tasks import TASKS, WEATHER_DAYS, TaskConfig, TaskDataset, make_task
from jumpy_mbrl.data.weather import FEATURES, Scaling, make_weather, read_weather, weather_scaling
from jumpy_mbrl.devices import cpu_threads, resolve_device
from jumpy_mbrl.evaluation.sequences import ONE_STEP_FRAMES, sample, score
from jumpy_mbrl.files import atomic_write, write_json
from jumpy_mbrl.models import from_pretrained
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN
from jumpy_mbrl.models.pretrained import pretrained_info, versions
from jumpy_mbrl.training import TrainingConfig, TrainingDivergedError, train
from jumpy_mbrl.training.checkpoint import Checkpoint
from jumpy_mbrl.training.config import differences
from jumpy_mbrl.training.loop import BEST, CHECKPOINT, CONFIG
from jumpy_mbrl.training.presets import TASK_MODELS

SEQUENCES = 1000
"""How many of the training and of the evaluation sequences a model is scored on."""
TIMING = "timing.json"
"""Beside the checkpoint: the seconds of the sessions that ended, and the steps made in them."""
FORCED_JUMPS = (1, 2, 4, 8, 16)
"""Frames of the constant jumps that a trained jumpy RNN is forced to (the gray curves)."""
SHOWN_ROWS = {"pixels": 1, "weather": 3}
"""How many evaluation sequences are kept to be drawn, by the source of the task; 2 of others."""
POINTS_PER_FRAME = 4
FILM_FRAMES = 9
WEATHER_SHOWN = ("temperature", "pressure")

DEFINITIONS = {
    "train MSE, test MSE": (
        "mean squared error of one frame predicted from all real frames before it, at "
        f"{ONE_STEP_FRAMES} moments of each sequence after those shown, on training and on "
        "evaluation sequences. The papers' jumpy figures are instead along lines of the largest "
        "accurate jumps."
    ),
    "sample MSE": (
        "of all frames after those shown, imagined in one go with the jumps that the model "
        "predicts, on evaluation sequences, which nothing was chosen by; ± one standard error"
    ),
    "mean jump": "predicted frames per tick, in the same rollouts",
    "training": "seconds with data, validation and checkpoints, side by side with other runs",
}


def _papers(scale: float, **models: tuple[float, float, float, float]) -> dict[str, Any]:
    """Train, test and sample MSE, to be multiplied by ``scale``, and mean jump."""
    names = ("train_mse", "test_mse", "sample_mse")
    return {
        model.replace("_", "-"): {
            **{
                name: float(f"{scale * value:.3g}") for name, value in zip(names, row, strict=False)
            },
            "mean_jump": row[3],
        }
        for model, row in models.items()
    }


PAPERS: dict[str, dict[str, dict[str, float]]] = {
    "lines": _papers(1e-8, rnn=(1.68, 1.77, 13.9, 1), jumpy_rnn=(39.9, 44.2, 21.9, 20)),
    "circles": _papers(1e-4, rnn=(0.03, 0.03, 3.98, 1), jumpy_rnn=(3.66, 3.64, 5.25, 17)),
    "billiards1d": _papers(1e-5, rnn=(2.40, 2.44, 1.77, 1), jumpy_rnn=(2.86, 2.93, 4.37, 5.1)),
    "billiards2d": _papers(1e-5, rnn=(2.66, 3.09, 2100, 1), jumpy_rnn=(3.55, 3.73, 1760, 4.5)),
    "pixel-billiards1d": _papers(
        1e-4, rnn=(1.26, 1.56, 2.37, 1), jumpy_rnn=(1.49, 1.74, 2.64, 4.1)
    ),
    "pixel-billiards2d": _papers(
        1e-3, rnn=(1.31, 2.08, 64.5, 1), jumpy_rnn=(3.00, 3.90, 37.1, 3.2)
    ),
    "weather": _papers(
        1e-3,
        rnn=(1.53, 1.29, 21.2, 1),
        jump_2=(1.61, 1.43, 13.8, 2),
        jumpy_rnn=(1.64, 1.24, 10.8, 2.22),
    ),
}
"""The papers' table 1 by task and model. On made-up weather they have no figures."""


@dataclass(frozen=True)
class Job:
    """A run to train and score.

    Attributes:
        config: the run; its data are sequences of a task.
        folder: where it is kept, below the folder of all runs.
        sequences: of how many training and evaluation sequences the figures are, at least 1.
        command: the command line that repeats it, for the record.
    """

    config: TrainingConfig
    folder: str
    sequences: int = SEQUENCES
    command: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.config.train_data, TaskConfig):
            raise ValueError(
                "expected train_data to be sequences of a task (TaskConfig), got "
                f"{type(self.config.train_data).__name__}"
            )
        if self.sequences < 1:
            raise ValueError(f"sequences must be at least 1, got {self.sequences}")

    @property
    def task(self) -> TaskConfig:
        """Of the training data."""
        data = self.config.train_data
        if not isinstance(data, TaskConfig):
            raise ValueError(f"expected a TaskConfig, got {type(data).__name__}")
        return data


# -- one run -------------------------------------------------------------------------------------


def run_job(job: Job, runs_dir: str, threads: int = 0, progress: bool = False) -> dict[str, Any]:
    """Trains a run as far as it is not trained yet, and scores its best weights.

    Args:
        job: the run.
        runs_dir: the folder of all runs.
        threads: CPU threads of torch; 0 leaves them as they are.
        progress: show the progress of the training.

    Returns:
        ``entry``, which belongs into the report, and ``samples``, sequences to draw (None if the
        run failed). A run that fails gives an entry with ``error``; nothing is raised for it.
    """
    folder = Path(runs_dir) / job.folder
    try:
        with cpu_threads(threads):
            train_job(job, folder, threads, progress)
            return score_job(job, folder)
    except Exception as error:
        if not isinstance(error, (ValueError, OSError, TrainingDivergedError)):
            traceback.print_exc(file=sys.stderr)
        return failure(job, f"{type(error).__name__}: {error}".replace(str(folder), job.folder))


def failure(job: Job, error: str) -> dict[str, Any]:
    """What `run_job` returns for a run that failed."""
    return {"entry": {"error": error, **_record(job)}, "samples": None}


def run_job_apart(job: Job, runs_dir: str, threads: int = 0) -> dict[str, Any]:
    """`run_job` on another machine, which need not share ``runs_dir``.

    Where it is missing, the run is trained in a temporary folder, and so cannot be resumed.

    Returns:
        What `run_job` returns, and ``files``: the run's folder as bytes by relative path.
    """
    if Path(runs_dir).is_dir():
        return _with_files(run_job(job, runs_dir, threads), Path(runs_dir) / job.folder)
    with tempfile.TemporaryDirectory() as temporary:
        result = run_job(job, temporary, threads)
        return _with_files(result, Path(temporary) / job.folder)


def keep_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files of a run that are not in ``folder`` yet.

    Raises:
        ValueError: for a path that leads out of the folder.
    """
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"expected a path inside the run's folder, got {name!r}")
        if path.is_file() and path.read_bytes() == content:
            continue
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)


def _with_files(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {**result, "files": files}


def is_finished(config: TrainingConfig, folder: Path) -> bool:
    """Whether the run in ``folder`` has made its last step and saved its best weights.

    Raises:
        ValueError: if it is a run with other settings, or damaged.
    """
    if not (folder / CHECKPOINT).is_file() or not (folder / BEST / CONFIG).is_file():
        return False
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    changed = differences(checkpoint.config, config.to_dict())
    if changed:
        raise ValueError(
            f"the run in {folder} was made with other settings ({', '.join(changed)}); "
            "choose another folder of runs, or remove it"
        )
    return checkpoint.step == config.steps


def train_job(job: Job, folder: Path, threads: int = 0, progress: bool = False) -> None:
    """Trains a run from where it stands, unless it is finished.

    Raises:
        ValueError: if the folder holds another run.
        TrainingDivergedError: if the loss becomes NaN or infinite.
    """
    config = replace(job.config, threads=threads)
    if is_finished(config, folder):
        return
    checkpoint = folder / CHECKPOINT
    before = Checkpoint.load(checkpoint).step if checkpoint.is_file() else 0
    timing = _timing(folder)
    started = time.perf_counter()
    train(
        config,
        folder,
        resume=(folder / CONFIG).is_file(),
        command=job.command,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    write_json(
        folder / TIMING,
        {
            "seconds": timing["seconds"] + seconds,
            "steps": timing["steps"] + config.steps - before,
        },
    )


def _timing(folder: Path) -> dict[str, float]:
    path = folder / TIMING
    if not path.is_file():
        return {"seconds": 0.0, "steps": 0}
    timing: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return timing


def score_job(job: Job, folder: Path) -> dict[str, Any]:
    """Scores the best weights of a finished run; see `run_job` for what is returned."""
    device = resolve_device(job.config.device)
    model = from_pretrained(folder / BEST, device)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    train_data = make_task(job.task)
    test_data = make_task(
        replace(job.task, split="evaluation", num_sequences=job.sequences)
    )  # Weather may have fewer.
    timing = _timing(folder)
    entry = {
        "error": None,
        "train": score(model, replace(train_data, obs=train_data.obs[: job.sequences])).to_dict(),
        "test": score(model, test_data).to_dict(),
        "forced_jumps": forced_jumps(model, test_data),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "steps": checkpoint.step,
        "best_step": pretrained_info(folder / BEST)["metrics"].get("validation_step"),
        "training_seconds": timing["seconds"] * checkpoint.step / timing["steps"]
        if timing["steps"]
        else None,
        "training_frames": train_data.obs.shape[0] * train_data.obs.shape[1],
        "history": checkpoint.history,
        "device": _device_name(device),
        **_record(job),
    }
    return {"entry": entry, "samples": record_samples(model, test_data)}


def forced_jumps(model: WorldModel, data: TaskDataset) -> list[dict[str, Any]]:
    """Sample MSE of a jumpy RNN that has to jump constantly: the gray curve of figures 3, 5 and 8.

    Returns:
        ``jump`` (frames), ``mean_jump`` and ``sample_mse`` for each of `FORCED_JUMPS` that is not
        longer than the prediction; nothing for other models.
    """
    if not isinstance(model, JumpyRNN) or model.config.constant_jump:
        return []
    later = data.obs.shape[1] - data.warm_up
    curve = []
    for jump in FORCED_JUMPS:
        if jump > later:
            break
        with torch.random.fork_rng(devices=[]):  # First weights are drawn, and thrown away.
            forced = JumpyRNN(replace(model.config, constant_jump=jump))
        forced.load_state_dict(model.state_dict())
        figures = score(forced.to(next(model.parameters()).device).eval(), data).to_dict()
        point = {name: figures[name] for name in ("mean_jump", "sample_mse")}
        curve.append({"jump": jump, **point})
    return curve


def _record(job: Job) -> dict[str, Any]:
    """What a run was, without the folders of this machine."""
    config = job.config.to_dict()
    for data in (config["train_data"], config["validation_data"]):
        data["csv"] = None if data["csv"] is None else Path(data["csv"]).name
    return {"config": config, "seed": job.config.seed, "versions": versions()}


def _device_name(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


# -- sequences to draw ---------------------------------------------------------------------------


@torch.no_grad()
def record_samples(model: WorldModel, data: TaskDataset) -> dict[str, Any]:
    """The first sequences as they were and as the model imagines them, finely enough to draw.

    Returns:
        ``truth``, a list of (T, D) frames, or, of pictures, ``film`` frames as hexadecimal bytes;
        ``ways``, for each sequence ``time`` (K,), ``obs`` (K, D) and ``tick_times`` (M,) with
        ``tick_obs`` (M, D). Of weather, D is `WEATHER_SHOWN`, in degC and mbar.
    """
    source = TASKS[data.config.task].source
    T = data.obs.shape[1]
    rows = range(min(SHOWN_ROWS.get(source, 2), len(data)))
    if source == "pixels":
        film = np.linspace(data.warm_up, T - 1, FILM_FRAMES).round()
        return {
            "film": film.tolist(),
            "truth": [_as_hex(data.obs[row, film.astype(int)]) for row in rows],
            "ways": [_film(model, data, row, film) for row in rows],
        }
    scaling = _scaling(data.config) if source == "weather" else None
    start, end = data.warm_up - 1, T - 1
    fine = np.linspace(start, end, (end - start) * POINTS_PER_FRAME + 1)
    return {
        "truth": [_rounded(_in_units(data.obs[row], scaling)) for row in rows],
        "ways": [_way(model, data, row, fine, scaling) for row in rows],
    }


def _way(
    model: WorldModel,
    data: TaskDataset,
    row: int,
    times: NDArray[np.float64],
    scaling: Scaling | None,
) -> dict[str, Any]:
    ticks, obs = _imagine(model, data, row, times)
    at_ticks = _imagine(model, data, row, ticks)[1] if len(ticks) else obs[:0]
    return {
        "time": _rounded(times),
        "obs": _rounded(_in_units(obs, scaling)),
        "tick_times": _rounded(ticks),
        "tick_obs": _rounded(_in_units(at_ticks, scaling)),
    }


def _film(
    model: WorldModel, data: TaskDataset, row: int, times: NDArray[np.float64]
) -> dict[str, Any]:
    ticks, obs = _imagine(model, data, row, times)
    pictures = (np.nan_to_num(obs).clip(0.0, 1.0) * 255).round().astype(np.uint8)
    return {"obs": _as_hex(pictures), "tick_times": _rounded(ticks)}


def _imagine(
    model: WorldModel, data: TaskDataset, row: int, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tick times (M,) and observations (K, D) of one sequence."""
    obs = torch.from_numpy(data.obs[row : row + 1])
    imagined = sample(model, obs, None, data.warm_up, times.tolist())
    ticks = imagined.tick_times[0]
    return (
        ticks[ticks.isfinite()].double().cpu().numpy(),
        imagined.obs[0].double().cpu().numpy(),
    )


def _scaling(config: TaskConfig) -> Scaling:
    if config.csv is not None:
        return weather_scaling(read_weather(config.csv))
    return weather_scaling(make_weather(WEATHER_DAYS, data_rng(config.seed, "train")))


def _in_units(obs: NDArray[Any], scaling: Scaling | None) -> NDArray[np.float64]:
    if scaling is None:
        return obs.astype(np.float64)
    return scaling.restore(obs)[..., [FEATURES.index(name) for name in WEATHER_SHOWN]]


def _rounded(values: NDArray[np.float64]) -> Any:
    """Nested lists with five digits, None for what is not finite."""
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def _as_hex(pictures: NDArray[np.uint8]) -> list[str]:
    return [picture.tobytes().hex() for picture in pictures]


# -- the table -----------------------------------------------------------------------------------

_COLUMNS = (
    "task",
    "model",
    "train MSE",
    "test MSE",
    "sample MSE",
    "mean jump",
    "weights",
    "steps",
    "training, s",
    "frames of data",
)


def format_report(report: Mapping[str, Any]) -> str:
    """The report as Markdown: sample errors side by side, then everything."""
    lines = ["# The papers' table 1, measured again", ""]
    if report["quick"]:
        lines += [f"**{QUICK_WARNING}**", ""]
    lines += ["Sample MSE, and in brackets the mean jump:", ""]
    lines += _summary(report["tasks"])
    lines += ["", "All figures; the papers' stand in italics above ours:", ""]
    lines += _markdown(_COLUMNS, _full_rows(report["tasks"]), names=2)
    lines += ["", *(f"* **{name}**: {text}." for name, text in _definitions()), ""]
    return "\n".join(lines)


QUICK_WARNING = (
    "Quick run: the budgets are a tiny part of the real ones; the figures mean nothing. They only "
    "show that the whole path works."
)


def in_order(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tasks and models in the order of the papers' table, which JSON may have lost."""
    return {
        task: {model: tasks[task][model] for model in TASK_MODELS if model in tasks[task]}
        for task in TASKS
        if task in tasks
    }


def _definitions() -> list[tuple[str, str]]:
    return [(name, text.rstrip(".")) for name, text in DEFINITIONS.items()]


def _summary(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = in_order(tasks)
    models = [name for name in TASK_MODELS if any(name in entries for entries in found.values())]
    rows = []
    for task, entries in found.items():
        papers = PAPERS.get(task, {})
        row = [task]
        row += [_brief(papers.get(name)) for name in ("rnn", "jumpy-rnn")]
        for name in models:
            entry = entries.get(name)
            failed = entry is not None and entry["error"] is not None
            row.append("failed" if failed else _brief(entry and entry["test"]))
        rows.append(row)
    return _markdown(("task", "papers' RNN", "papers' jumpy RNN", *models), rows)


def _full_rows(tasks: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for task, entries in in_order(tasks).items():
        for name, figures in PAPERS.get(task, {}).items():
            errors = [_number(figures[key]) for key in ("train_mse", "test_mse", "sample_mse")]
            cells = [f"papers' {name}", *errors, f"{figures['mean_jump']:g}"]
            rows.append([task, *(f"*{cell}*" for cell in cells), "", "", "", ""])
        rows += [_full_row(task, name, entry) for name, entry in entries.items()]
    return rows


def _full_row(task: str, name: str, entry: Mapping[str, Any]) -> list[str]:
    if entry["error"] is not None:
        text = " ".join(entry["error"].split()).replace("|", "\\|")
        return [task, name, f"failed: {text}", *[""] * (len(_COLUMNS) - 3)]
    train_score, test = entry["train"], entry["test"]
    spread = "" if test["sample_se"] is None else f" ± {_number(test['sample_se'], 1)}"
    seconds = entry["training_seconds"]
    return [
        task,
        name,
        _number(train_score["one_step_mse"]),
        _number(test["one_step_mse"]),
        _number(test["sample_mse"]) + spread,
        _number(test["mean_jump"], plain=True),
        f"{entry['weights']:,}",
        f"{entry['steps']:,}",
        "-" if seconds is None else f"{seconds:,.0f}",
        f"{entry['training_frames']:,}",
    ]


def _brief(figures: Mapping[str, Any] | None) -> str:
    if not figures:
        return "-"
    jump = _number(figures["mean_jump"], plain=True)
    return f"{_number(figures['sample_mse'])} ({jump})"


def _number(value: float | None, digits: int = 2, plain: bool = False) -> str:
    """1.23e-04, or 1.23 if ``plain``; None stands for what was not finite."""
    if value is None:
        return "not finite"
    return f"{value:.3g}" if plain else f"{value:.{digits}e}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> list[str]:
    """A table whose first ``names`` columns are text; figures stand on the right."""
    rule = [*["---"] * names, *["---:"] * (len(header) - names)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
