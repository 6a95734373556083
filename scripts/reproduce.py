"""Trains every model on every task of the papers' table 1, and writes the table and its figures.

    python scripts/reproduce.py --workers 2                  # everything, two runs at a time
    python scripts/reproduce.py --tasks circles --models rnn ours
    python scripts/reproduce.py --quick                      # the whole path in minutes
    python scripts/reproduce.py --figures-only               # redraw, from the results alone

A run that was interrupted goes on exactly where it was; a finished one is scored again and not
trained again. Results of other tasks and models that --out already holds are kept. Written to
--out: table1.json, table1.md, samples.json, capacity.json (with --capacity), and the figures.

With --ray ADDRESS the runs are tasks of a Ray cluster ("local" starts one here). Every machine
needs this package, and the weather file at the same path. No shared file system is needed, as every
task returns its run; but only where --runs-dir is shared can an interrupted run be resumed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Read when torch is loaded: threads that wait sleep, as several runs share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tyro

from jumpy_mbrl.data.tasks import TASKS, TaskConfig
from jumpy_mbrl.envs.config import unknown_name
from jumpy_mbrl.evaluation.table1 import (
    DEFINITIONS,
    PAPERS,
    QUICK_WARNING,
    SEQUENCES,
    Job,
    failure,
    format_report,
    in_order,
    keep_files,
    run_job,
    run_job_apart,
)
from jumpy_mbrl.files import atomic_write, write_json
from jumpy_mbrl.models.jumpy_rnn import JumpyRNNConfig
from jumpy_mbrl.training import TrainingConfig, task_preset
from jumpy_mbrl.training.presets import TASK_MODELS

MODELS = ("rnn", "jump-2", "jumpy-rnn", "ode-rnn", "ours")
QUICK_MODELS = ("rnn", "jumpy-rnn", "ours")
CAPACITIES = (4, 8, 16, 32, 64, 128, 256)
"""Hidden sizes of figure 4."""
CAPACITY_TASK, CAPACITY_MODEL = "circles", "jumpy-rnn"
QUICK_SEQUENCES = 50
FORMAT = "jumpy-mbrl table 1"

TABLE, PAGE, SAMPLES, CAPACITY = "table1.json", "table1.md", "samples.json", "capacity.json"

Results = Generator[tuple[Job, dict[str, Any]], None, None]


@dataclass(frozen=True)
class Args:
    """What to run, and where."""

    tasks: tuple[str, ...] = ()
    """Tasks by name; by default the papers', weather only if --csv is given."""
    models: tuple[str, ...] = ()
    """Models by name: rnn, jump-2, jump-4, jump-8, jumpy-rnn, ode-rnn or ours."""
    out: Path | None = None
    """Folder for the results; by default results/tasks, or runs/tasks-quick/results if quick."""
    runs_dir: Path | None = None
    """Folder for the runs, TASK/MODEL each; by default runs/tasks, or runs/tasks-quick if quick."""
    workers: int = 1
    """How many runs are made side by side, as processes on this machine (or by a local Ray)."""
    threads: int = 1
    """CPU threads of torch in each run."""
    ray: str | None = None
    """Address of a Ray cluster, "auto", or "local" to start one on this machine."""
    ray_gpus: float = 0.0
    """GPUs, or the share of one, that each run takes on a Ray cluster."""
    csv: str | None = None
    """Path of jena_climate_2009_2016.csv, for the task weather."""
    capacity: bool = False
    """Train jumpy RNNs of hidden sizes from 4 to 256 on circles too (figure 4)."""
    quick: bool = False
    """Tiny budgets: the whole path in minutes. The figures then mean nothing."""
    figures_only: bool = False
    """Train and score nothing: write the table and draw the figures from --out again."""
    seed: int = 0
    """Of first weights and batches. The data are always the same."""

    def check(self) -> None:
        """Raises ValueError for settings that cannot be run."""
        for name in ("workers", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie in [0, 2**63), got {self.seed}")
        if not self.ray_gpus >= 0.0:
            raise ValueError(f"--ray-gpus must not be negative, got {self.ray_gpus}")
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(unknown_name("task", task, TASKS))
        for model in self.models:
            if model not in TASK_MODELS:
                raise ValueError(unknown_name("model", model, TASK_MODELS))
        if self.csv is not None and self.tasks and "weather" not in self.tasks:
            raise ValueError("--csv is for the task weather, which --tasks does not name")
        if self.csv is not None and not Path(self.csv).is_file():
            raise ValueError(f"--csv must be a file, got {self.csv!r}")

    def task_names(self) -> list[str]:
        """The tasks, once each; by default those of the papers that have their data."""
        papers = [task for task in PAPERS if task != "weather" or self.csv is not None]
        return list(dict.fromkeys(self.tasks or papers))

    def model_names(self) -> list[str]:
        """The models, once each."""
        return list(dict.fromkeys(self.models or (QUICK_MODELS if self.quick else MODELS)))

    def out_dir(self) -> Path:
        """Where the results go; those of a quick run never where real ones lie by default."""
        if self.out is not None:
            return self.out
        return Path("runs/tasks-quick/results" if self.quick else "results/tasks")

    def folder_of_runs(self) -> Path:
        """Where the runs go."""
        return self.runs_dir or Path("runs/tasks-quick" if self.quick else "runs/tasks")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 1 if a run failed, 2 for bad input."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        args.check()
        if args.figures_only:
            return redraw(args.out_dir())
        return reproduce(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2


def reproduce(args: Args) -> int:
    """Runs all jobs, keeps every result at once, and writes table and figures."""
    table_jobs = make_jobs(args)
    capacity_jobs = make_capacity_jobs(args) if args.capacity else {}
    out = args.out_dir()
    report, samples, capacity = open_results(out, args.quick)
    jobs = {job.folder: job for job in (*table_jobs.values(), *capacity_jobs.values())}
    if args.quick:
        print(QUICK_WARNING)
    failed = 0
    args.folder_of_runs().mkdir(parents=True, exist_ok=True)
    with closing(run_all(list(jobs.values()), args)) as results:
        for number, (job, result) in enumerate(results, start=1):
            for (task, model), table_job in table_jobs.items():
                if table_job.folder == job.folder:
                    report["tasks"].setdefault(task, {})[model] = result["entry"]
                    samples.setdefault(task, {})[model] = result["samples"]
            for size, capacity_job in capacity_jobs.items():
                if capacity_job.folder == job.folder:
                    capacity["sizes"][str(size)] = result["entry"]
            save(out, report, samples, capacity)
            failed += result["entry"]["error"] is not None
            print(f"[{number}/{len(jobs)}] {_line(job, result['entry'])}", flush=True)
    finish(out, report, samples, capacity)
    if failed:
        print(f"reproduce: {failed} of {len(jobs)} runs failed, see the table", file=sys.stderr)
    return int(failed > 0)


# -- what to run -----------------------------------------------------------------------------


def make_jobs(args: Args) -> dict[tuple[str, str], Job]:
    """The runs of the table, by task and model.

    Raises:
        ValueError: for an unknown task or model, or weather without its file.
    """
    return {
        (task, model): _job(args, task, model, _config(args, task, model))
        for task in args.task_names()
        for model in args.model_names()
    }


def make_capacity_jobs(args: Args) -> dict[int, Job]:
    """The runs of figure 4, by hidden size; that of the table's size is the table's."""
    config = _config(args, CAPACITY_TASK, CAPACITY_MODEL)
    if not isinstance(config.model, JumpyRNNConfig):
        raise ValueError(f"expected a JumpyRNNConfig, got {type(config.model).__name__}")
    jobs = {}
    for size in CAPACITIES:
        job = _job(args, CAPACITY_TASK, CAPACITY_MODEL, config)
        if size != config.model.hidden_size:
            sized = replace(config, model=replace(config.model, hidden_size=size))
            job = replace(job, config=sized, folder=f"capacity/{size}")
        jobs[size] = job
    return jobs


def _config(args: Args, task: str, model: str) -> TrainingConfig:
    config = task_preset(task, model, args.csv if task == "weather" else None)
    config = replace(config, seed=args.seed)
    return quick_budget(config) if args.quick else config


def _job(args: Args, task: str, model: str, config: TrainingConfig) -> Job:
    options = f" --csv {Path(args.csv).name}" if args.csv and task == "weather" else ""
    options += f" --seed {args.seed}" if args.seed else ""
    options += " --quick" if args.quick else ""
    command = f"python scripts/reproduce.py --tasks {task} --models {model}{options}"
    sequences = QUICK_SEQUENCES if args.quick else SEQUENCES
    return Job(config, f"{task}/{model}", sequences, command)


def quick_budget(config: TrainingConfig) -> TrainingConfig:
    """The run with few steps, small batches and few sequences; the model stays as it is."""
    train_data, validation_data = config.train_data, config.validation_data
    if not isinstance(train_data, TaskConfig) or not isinstance(validation_data, TaskConfig):
        raise ValueError("expected the data of a task")
    return replace(
        config,
        train_data=replace(train_data, num_sequences=200),
        validation_data=replace(validation_data, num_sequences=QUICK_SEQUENCES),
        steps=20,
        batch_size=32,
        validation_interval=10,
        checkpoint_interval=10,
    )


# -- running side by side ----------------------------------------------------------------------


def run_all(jobs: list[Job], args: Args) -> Results:
    """Every job with its result, as they finish.

    Raises:
        ImportError: if --ray is asked for and Ray is not installed.
    """
    runs_dir = args.folder_of_runs()
    if args.ray is not None:
        yield from _run_on_ray(jobs, runs_dir, args)
    elif args.workers == 1:
        for job in jobs:
            yield job, run_job(job, str(runs_dir), args.threads, sys.stderr.isatty())
    else:
        yield from _run_in_processes(jobs, runs_dir, args)


def _run_in_processes(jobs: list[Job], runs_dir: Path, args: Args) -> Results:
    # Spawned, as a forked process inherits the threads of torch in an unknown state.
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_job, job, str(runs_dir), args.threads): job for job in jobs}
        try:
            for future in as_completed(futures):
                job = futures[future]
                yield job, _result_of(job, future.result)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_on_ray(jobs: list[Job], runs_dir: Path, args: Args) -> Results:
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise ImportError(
            "--ray needs Ray, which is not installed; pip install 'jumpy-mbrl[ray]'"
        ) from None
    here = {"num_cpus": args.workers * args.threads, "include_dashboard": False}
    options = here if args.ray == "local" else {"address": args.ray}
    ray.init(**options, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=args.threads, num_gpus=args.ray_gpus)(run_job_apart)
        folder = str(runs_dir.resolve())
        waiting = {remote.remote(job, folder, args.threads): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            result = _result_of(job, partial(ray.get, done))
            keep_files(result.pop("files", {}), runs_dir / job.folder)
            yield job, result
    finally:
        ray.shutdown()


def _result_of(job: Job, get: Callable[[], Any]) -> dict[str, Any]:
    """The result, or the failure of a worker that died; running again goes on with its run."""
    try:
        result: dict[str, Any] = get()
        return result
    except Exception as error:
        return failure(job, f"the worker died ({type(error).__name__}); run the command again")


def _line(job: Job, entry: Mapping[str, Any]) -> str:
    if entry["error"] is not None:
        return f"{job.folder}: failed: {' '.join(entry['error'].split())}"
    test = entry["test"]
    error = "not finite" if test["sample_mse"] is None else f"{test['sample_mse']:.3g}"
    return f"{job.folder}: sample MSE {error}, mean jump {test['mean_jump']:.3g}"


# -- results -------------------------------------------------------------------------------------


def open_results(
    out: Path, quick: bool
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]:
    """Report, samples and capacity as far as ``out`` holds them.

    Raises:
        ValueError: if it holds results of the other kind, quick or not.
    """
    out.mkdir(parents=True, exist_ok=True)
    report, samples, capacity = load(out)
    for name, content in ((TABLE, report), (CAPACITY, capacity)):
        if content is not None and content["quick"] != quick:
            kind = "a quick run" if content["quick"] else "real runs"
            raise ValueError(f"{out / name} holds results of {kind}; choose another --out")
    return (
        report or {"format": FORMAT, "quick": quick, "tasks": {}},
        samples,
        capacity or {"format": FORMAT, "quick": quick, "sizes": {}},
    )


def load(out: Path) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any] | None]:
    """Report and capacity, or None where there are none, and the samples.

    Raises:
        ValueError: if a file is damaged or not ours.
    """
    found: dict[str, Any] = {}
    for name in (TABLE, CAPACITY, SAMPLES):
        path = out / name
        if not path.is_file():
            continue
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"expected JSON in {path}, got something else: {error}") from None
        content = found[name]
        ours = isinstance(content, dict) and (name == SAMPLES or content.get("format") == FORMAT)
        if not ours:
            raise ValueError(f"expected {path} to hold format {FORMAT!r}, so it is not ours")
    return found.get(TABLE), found.get(SAMPLES, {}), found.get(CAPACITY)


def save(
    out: Path,
    report: dict[str, Any],
    samples: dict[str, dict[str, Any]],
    capacity: dict[str, Any],
) -> None:
    """Writes the results, each file atomically."""
    if report["tasks"]:
        report["papers"] = PAPERS
        report["definitions"] = DEFINITIONS
        report["note"] = QUICK_WARNING if report["quick"] else None
        report["tasks"] = in_order(report["tasks"])
        write_json(out / TABLE, report)
        with atomic_write(out / SAMPLES) as temporary:
            text = json.dumps(samples, allow_nan=False, separators=(",", ":"))
            temporary.write_text(text + "\n", encoding="utf-8")
    if capacity["sizes"]:
        capacity["note"] = QUICK_WARNING if capacity["quick"] else None
        write_json(out / CAPACITY, capacity)


def finish(
    out: Path,
    report: dict[str, Any],
    samples: dict[str, dict[str, Any]],
    capacity: dict[str, Any] | None,
) -> None:
    """Writes the Markdown table and the figures, and says where."""
    text = format_report(report)
    with atomic_write(out / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    try:
        from jumpy_mbrl.task_figures import save_task_figures

        paths = save_task_figures(report, samples, capacity, out)
        print("wrote " + ", ".join(str(path) for path in (out / TABLE, out / PAGE, *paths)))
    except ImportError as error:
        print(f"the figures were not drawn: {error}")


def redraw(out: Path) -> int:
    """Writes the table and the figures from the results in ``out`` alone.

    Raises:
        ValueError: if there are none.
    """
    report, samples, capacity = load(out)
    if report is None:
        raise ValueError(
            f"expected {TABLE} in {out}, but there is none; run without --figures-only"
        )
    finish(out, {**report, "tasks": in_order(report["tasks"])}, samples, capacity)
    return 0


if __name__ == "__main__":
    sys.exit(main())
