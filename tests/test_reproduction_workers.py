"""Runs side by side; what needs several processes is tested through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.lab.reproduce import workers
from jumpy_mbrl.lab.reproduce.runs import Job
from jumpy_mbrl.locks import own
from jumpy_mbrl.training import task_preset

JOBS = [Job(task_preset(task, "rnn"), f"{task}/rnn") for task in ("lines", "circles")]


def test_a_worker_that_dies_is_a_failed_run() -> None:
    def die() -> None:
        raise BrokenPipeError

    entry = workers._result_of(JOBS[0], die)["entry"]
    assert entry["error"] == "the worker died (BrokenPipeError); run the command again"


def test_a_run_that_another_process_trains_comes_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_ray(run: Any, jobs: list[Job], *_: Any) -> Any:
        for job in jobs:
            yield job, lambda: {"entry": {"error": None}, "files": {"config.json": b"{}"}}

    monkeypatch.setattr(workers, "map_on_ray", on_ray)
    with own(tmp_path / "lines/rnn"):
        finished = list(workers.run_all(JOBS, tmp_path, ray_address="local"))
    assert finished == [(job, {"entry": {"error": None}}) for job in JOBS]
    assert [path.parent.parent.name for path in tmp_path.glob("*/*/config.json")] == ["circles"]
    error = capsys.readouterr().err
    assert error.startswith("the run lines/rnn was not kept: ") and "in use by process" in error


def test_a_single_worker_makes_each_run_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, ...]] = []

    def note(job: Job, runs_dir: str, threads: int, progress: bool) -> dict[str, Any]:
        made.append((job, runs_dir, threads))
        return {"entry": job.folder}

    monkeypatch.setattr(workers, "run_job", note)
    finished = workers.run_all(JOBS, tmp_path, threads=3)
    assert made == []
    assert next(finished) == (JOBS[0], {"entry": "lines/rnn"})
    assert made == [(JOBS[0], str(tmp_path), 3)]
    assert list(finished) == [(JOBS[1], {"entry": "circles/rnn"})]
