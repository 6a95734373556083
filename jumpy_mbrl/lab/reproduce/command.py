"""Trains every model on every task of the papers' table 1, and writes the table and its figures.

    python scripts/reproduce.py --workers 2                  # the table, two runs at a time
    python scripts/reproduce.py --tasks circles --models rnn-tuned ours --seeds 0 1 2
    python scripts/reproduce.py --tasks circles --models rnn-printed rnn rnn-2021
    python scripts/reproduce.py --capacity                   # figure 4: hidden sizes on circles
    python scripts/reproduce.py --quick                      # the whole path, budgets tiny
    python scripts/reproduce.py --figures-only               # redraw, from the results alone

A run that was interrupted goes on exactly where it was; a finished one is scored again and not
trained again. Results of other tasks, models and seeds that --out already holds are kept, also
where another process writes them at the same time, and so are those of a run that fails. A run that
another process is training is refused. Written to --out: table1.json, table1.md, samples.json,
capacity.json (with --capacity), and the figures.

The weather of Jena is not ours to ship. Without its file, given by --csv, the seventh task is
synthetic-weather, which is made up, and which the papers have no figures for.

With --ray ADDRESS the runs are tasks of a Ray cluster ("local" starts one here). Every machine
needs this package, and the weather file at the same path. No shared file system is needed, as every
task returns its run; but only where --runs-dir is shared can an interrupted run be resumed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from jumpy_mbrl import checks, files, locks, processes
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.lab.reproduce.results import CAPACITY, PAGE, SAMPLES, TABLE, Results
from jumpy_mbrl.lab.reproduce.runs import SEQUENCES, Job
from jumpy_mbrl.lab.reproduce.table import QUICK_WARNING
from jumpy_mbrl.lab.reproduce.workers import run_all
from jumpy_mbrl.models.bodies.fold_jump import FoldJumpConfig
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJumpConfig
from jumpy_mbrl.training import TrainingConfig, task_preset
from jumpy_mbrl.training.config import Precision
from jumpy_mbrl.training.presets import NETWORKS, TASK_MODELS

MODELS = (*(f"{network}-tuned" for network in NETWORKS), "ours")
QUICK_MODELS = ("rnn-tuned", "jumpy-rnn-tuned", "ours")
CAPACITIES = (4, 8, 16, 32, 64, 128, 256)
"""Hidden sizes of figure 4."""
CAPACITY_TASK, CAPACITY_MODELS = "circles", ("jumpy-rnn-tuned", "ours")
QUICK_SEQUENCES = 50
QUICK_TIME = "about five minutes on two cores"


@dataclass(frozen=True)
class Args:
    """What to run, and where."""

    tasks: tuple[str, ...] = ()
    """Tasks by name; by default the papers' seven, with made-up weather (synthetic-weather)
    unless --csv is given."""
    models: tuple[str, ...] = ()
    """Models by name: rnn, ode-rnn, jump-1, jump-2, jump-4, jump-8 or jumpy-rnn with the papers'
    settings of 2020, followed by -2021 with those of 2021 or by -tuned with ours (the default);
    rnn-printed or jumpy-rnn-printed; ours; or keypoints, of pictures. With --capacity
    jumpy-rnn-tuned or ours."""
    out: Path | None = None
    """Folder for the results; by default results/tasks, or runs/tasks-quick/results if quick."""
    runs_dir: Path | None = None
    """Folder for the runs, TASK/MODEL/SEED each; by default runs/tasks, or runs/tasks-quick if
    quick."""
    workers: int = 1
    """How many runs are made side by side, as processes on this machine (or by a local Ray)."""
    threads: int = 1
    """CPU threads of torch in each run."""
    ray: str | None = None
    """Address of a Ray cluster, "auto", or "local" to start one on this machine."""
    ray_gpus: float = 0.0
    """GPUs, or the share of one, that each run takes on a Ray cluster."""
    csv: str | None = None
    """Path of jena_climate_2009_2016.csv (or its .zip), for the task weather."""
    capacity: bool = False
    """Figure 4 instead of the table: jumpy models of hidden sizes from 4 to 256 on circles."""
    steps: int | None = None
    """Make this many steps instead of the presets', where those would take too long; the table
    tells how many were made."""
    precision: Precision | None = None
    """Of the training, instead of the presets'; the table tells."""
    quick: bool = False
    """Tiny budgets: the whole path in about five minutes on two cores. The figures then mean
    nothing."""
    figures_only: bool = False
    """Train and score nothing: write the table and draw the figures from --out again."""
    seeds: tuple[int, ...] = (0,)
    """Of first weights and batches, a run each. The data are always the same."""

    def check(self) -> None:
        """Raises ValueError for settings that cannot be run."""
        for name in ("workers", "threads"):
            processes.check_at_once(f"--{name}", getattr(self, name), least=1)
        if self.steps is not None and (self.steps < 1 or self.quick):
            raise ValueError(
                f"--steps must be at least 1, and not be given with --quick, got {self.steps}"
            )
        if self.capacity and self.tasks:
            raise ValueError(f"--capacity is for {CAPACITY_TASK} alone; leave --tasks out")
        told = " ".join(map(str, self.seeds)) or "none"
        if not self.seeds or not all(0 <= seed < 2**63 for seed in self.seeds):
            raise ValueError(f"--seeds must be one or more, in [0, 2**63), got {told}")
        if self.capacity and len(set(self.seeds)) > 1:
            raise ValueError(f"--capacity takes a single seed, got {told}; give one of them")
        checks.check_number("--ray-gpus", self.ray_gpus, 0.0)
        checks.check_names("task", self.tasks, TASKS)
        checks.check_names("model", self.models, CAPACITY_MODELS if self.capacity else TASK_MODELS)
        if self.csv is not None:
            if "weather" not in self.task_names():
                raise ValueError("--csv is for the task weather, which is not asked for")
            make_task(TaskConfig("weather", csv=self.csv))  # Raises if the file is no weather.

    def task_names(self) -> list[str]:
        """The tasks, once each; by default the papers', with made-up weather if need be."""
        if self.capacity:
            return [CAPACITY_TASK]
        left_out = "weather" if self.csv is None else "synthetic-weather"
        papers = [task for task in TASKS if task != left_out]
        return list(dict.fromkeys(self.tasks or papers))

    def model_names(self) -> list[str]:
        """The models, once each."""
        default = QUICK_MODELS if self.quick else MODELS
        return list(dict.fromkeys(self.models or (CAPACITY_MODELS if self.capacity else default)))

    def out_dir(self) -> Path:
        """Where the results go; those of a quick run never where real ones lie by default."""
        return self.out or Path("runs/tasks-quick/results" if self.quick else "results/tasks")

    def folder_of_runs(self) -> Path:
        """Where the runs go."""
        return self.runs_dir or Path("runs/tasks-quick" if self.quick else "runs/tasks")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 1 if a run failed."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    if not args.figures_only:
        return reproduce(args)
    results = Results(args.out_dir())
    if not results.table.path.is_file():
        raise ValueError(
            f"expected {results.table.path}, but there is none; run without --figures-only"
        )
    finish(results)
    return 0


def reproduce(args: Args) -> int:
    """Runs all jobs, keeps every result at once, and writes table and figures."""
    jobs = make_jobs(args)
    results = Results(args.out_dir(), args.quick)
    files.check_writable(*(results.out / name for name in (TABLE, PAGE, SAMPLES, CAPACITY)))
    if args.quick:
        print(f"{QUICK_WARNING} All of it takes {QUICK_TIME}.", flush=True)
    runs_dir, failed = args.folder_of_runs(), []
    runs_dir.mkdir(parents=True, exist_ok=True)
    done = run_all(jobs, runs_dir, args.workers, args.threads, args.ray, args.ray_gpus)
    with closing(done):
        for number, (job, result) in enumerate(done, start=1):
            task, model, last = job.folder.split("/")
            if args.capacity:
                results.add_capacity(model, last, result)
            else:
                results.add(task, model, result)
            entry = result["entry"]
            if entry["error"] is not None:
                failed.append(job.folder)
            print(f"[{number}/{len(jobs)}] {job.folder}: {_told(entry)}", flush=True)
    finish(results)
    if failed:
        print(
            f"reproduce: {len(failed)} of {len(jobs)} runs failed: {', '.join(failed)}; what they "
            "gave before is kept",
            file=sys.stderr,
        )
    return int(bool(failed))


def _told(entry: dict[str, Any]) -> str:
    if entry["error"] is not None:
        return f"failed: {' '.join(entry['error'].split())}"
    test = entry["test"]
    error = "not finite" if test["sample_mse"] is None else f"{test['sample_mse']:.3g}"
    return f"sample MSE {error}, mean jump {test['mean_jump']:.3g}"


def finish(results: Results) -> None:
    """Writes the Markdown table and the figures, and says where."""
    paths, told = [], []
    with locks.take_turns(results.table.path):  # Printed after it: a pager may keep us waiting.
        if results.table.path.is_file():
            told.append(results.write_page())
            paths += [results.table.path, results.out / PAGE]
        try:
            paths += results.draw()
        except ImportError as error:
            told.append(f"the figures were not drawn: {error}")
    print(*told, "wrote " + ", ".join(map(str, paths)), sep="\n")


def make_jobs(args: Args) -> list[Job]:
    """The runs, all of the first seed first, in folders TASK/MODEL/SEED or capacity/MODEL/SIZE.

    `ValueError` for an unknown task or model, or weather without its file.
    """
    jobs, sequences = [], QUICK_SEQUENCES if args.quick else SEQUENCES
    given: Any = {"steps": args.steps, "precision": args.precision}
    changes = {name: value for name, value in given.items() if value is not None}
    seeds = dict.fromkeys(args.seeds)
    for seed, task, model in itertools.product(seeds, args.task_names(), args.model_names()):
        csv = args.csv if task == "weather" else None
        config = replace(task_preset(task, model, csv), seed=seed, **changes)
        config = quick_budget(config) if args.quick else config
        options = {"csv": csv and Path(csv).name, "seeds": seed, **changes}
        words = ["--capacity" if args.capacity else f"--tasks {task}", f"--models {model}"]
        words += [f"--{name} {value}" for name, value in options.items() if value]
        words += ["--quick"] if args.quick else []
        command = f"python scripts/reproduce.py {' '.join(words)}"
        if not args.capacity:
            jobs.append(Job(config, f"{task}/{model}/{seed}", sequences, command))
        for size in CAPACITIES if args.capacity else ():
            sized = replace(config, model=replace(config.model, hidden_size=size))
            jobs.append(Job(sized, f"capacity/{model}/{size}", sequences, command))
    return jobs


def quick_budget(config: TrainingConfig) -> TrainingConfig:
    """The run with few steps, small batches and few sequences; the model stays as it is.

    Models of events get larger budgets. Their steps are cheap, but one that has hardly learned
    foresees so many events that scoring it takes minutes, and its errors are not finite.
    """
    steps, batch_size = 20, 32
    if isinstance(config.model, FoldJumpConfig):
        steps, batch_size = 300, 256
    if isinstance(config.model, SpriteJumpConfig):
        steps += config.model.looking_steps  # Only after these are events learned.
    train_data: Any = config.train_data
    validation_data: Any = config.validation_data
    return replace(
        config,
        train_data=replace(train_data, num_sequences=200),
        validation_data=replace(validation_data, num_sequences=QUICK_SEQUENCES),
        steps=steps,
        batch_size=batch_size,
        validation_interval=steps // 2,
        checkpoint_interval=steps // 2,
    )
