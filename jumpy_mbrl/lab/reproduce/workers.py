"""Runs one after the other, side by side as processes, or as tasks of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any

from jumpy_mbrl.lab.reproduce.runs import Job, failure, keep_files, run_job, run_job_apart
from jumpy_mbrl.processes import map_on_ray, process_pool


def run_all(
    jobs: Sequence[Job],
    runs_dir: Path,
    workers: int = 1,
    threads: int = 1,
    ray_address: str | None = None,
    ray_gpus: float = 0.0,
) -> Generator[tuple[Job, dict[str, Any]], None, None]:
    """Every job with what `run_job` returned for it, as they finish.

    So many ``workers`` make a run each at the same time, on this machine, or on the Ray cluster at
    an address; see `map_on_ray`. Raises ImportError if Ray is asked for and not installed.
    """
    if ray_address is not None:
        run = partial(run_job_apart, runs_dir=str(runs_dir.resolve()), threads=threads)
        for job, get in map_on_ray(run, jobs, ray_address, threads, ray_gpus, workers):
            result = _result_of(job, get)
            try:
                keep_files(result.pop("files", {}), runs_dir / job.folder)
            except BlockingIOError as error:
                print(f"the run {job.folder} was not kept: {error}", file=sys.stderr)
            yield job, result
    elif workers == 1:
        for job in jobs:
            yield job, run_job(job, str(runs_dir), threads, sys.stderr.isatty())
    else:
        with process_pool(workers) as pool:
            futures = {pool.submit(run_job, job, str(runs_dir), threads): job for job in jobs}
            try:
                for future in as_completed(futures):
                    yield futures[future], _result_of(futures[future], future.result)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _result_of(job: Job, get: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result, or the failure of a worker that died; running again goes on with its run."""
    try:
        return get()
    except Exception as error:
        return failure(job, f"the worker died ({type(error).__name__}); run the command again")
