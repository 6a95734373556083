"""Runs side by side: one after the other, as processes, or as tasks of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any

from jumpy_mbrl.lab.reproduce.runs import Job, failure, keep_files, run_job, run_job_apart
from jumpy_mbrl.processes import map_on_ray, process_pool

Finished = Generator[tuple[Job, dict[str, Any]], None, None]


def run_all(
    jobs: Sequence[Job],
    runs_dir: Path,
    workers: int = 1,
    threads: int = 1,
    ray_address: str | None = None,
    ray_gpus: float = 0.0,
) -> Finished:
    """Every job with what `run_job` returned for it, as they finish.

    Args:
        jobs: the runs.
        runs_dir: the folder of all runs.
        workers: how many runs are made side by side, on this machine.
        threads: CPU threads of torch in each run.
        ray_address: of the Ray cluster that makes the runs, "auto", or "local" to start one here.
        ray_gpus: GPUs, or the share of one, that each run takes on a Ray cluster.

    Raises:
        ImportError: if Ray is asked for and not installed.
    """
    if ray_address is not None:
        yield from _run_on_ray(jobs, runs_dir, workers, threads, ray_address, ray_gpus)
    elif workers == 1:
        for job in jobs:
            yield job, run_job(job, str(runs_dir), threads, sys.stderr.isatty())
    else:
        yield from _run_in_processes(jobs, runs_dir, workers, threads)


def _run_in_processes(jobs: Sequence[Job], runs_dir: Path, workers: int, threads: int) -> Finished:
    with process_pool(workers) as pool:
        futures = {pool.submit(run_job, job, str(runs_dir), threads): job for job in jobs}
        try:
            for future in as_completed(futures):
                job = futures[future]
                yield job, _result_of(job, future.result)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_on_ray(
    jobs: Sequence[Job], runs_dir: Path, workers: int, threads: int, address: str, gpus: float
) -> Finished:
    run = partial(run_job_apart, runs_dir=str(runs_dir.resolve()), threads=threads)
    for job, get in map_on_ray(run, jobs, address, threads, gpus, workers):
        result = _result_of(job, get)
        try:
            keep_files(result.pop("files", {}), runs_dir / job.folder)
        except BlockingIOError as error:
            print(f"the run {job.folder} was not kept: {error}", file=sys.stderr)
        yield job, result


def _result_of(job: Job, get: Callable[[], Any]) -> dict[str, Any]:
    """The result, or the failure of a worker that died; running again goes on with its run."""
    try:
        result: dict[str, Any] = get()
        return result
    except Exception as error:
        return failure(job, f"the worker died ({type(error).__name__}); run the command again")
