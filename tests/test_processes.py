"""Worker processes end with their parent, how many may be asked for, and work on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl import processes
from jumpy_mbrl.processes import LOCAL, check_at_once, map_on_ray

ROOT = Path(__file__).parents[1]
START = """
import multiprocessing, sys, threading, time

def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell, daemon=True).start()
"""
MAKE_DATA = """
    from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
    make_dataset(DatasetConfig(num_trajectories=1_000_000), backend="python", workers=2)
"""
MAKE_RUNS = """
    from pathlib import Path
    from jumpy_mbrl.lab.reproduce.runs import Job
    from jumpy_mbrl.lab.reproduce.workers import run_all
    from jumpy_mbrl.training import task_preset
    jobs = [Job(task_preset("lines", "rnn"), name) for name in ("a", "b")]
    list(run_all(jobs, Path(sys.argv[1]), workers=2))
"""


@pytest.mark.parametrize(
    ("work", "how"),
    [
        (MAKE_DATA, signal.SIGTERM),
        (MAKE_DATA, signal.SIGKILL),
        pytest.param(MAKE_RUNS, signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=["data SIGTERM", "data SIGKILL", "runs SIGKILL"],
)
def test_workers_end_with_their_parent(work: str, how: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START + work, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.send_signal(how)
        try:
            parent.communicate(timeout=20)  # As long as anyone has its standard output.
        except subprocess.TimeoutExpired:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            pytest.fail("workers outlived their parent")
    assert parent.returncode == -how


def test_all_processes_are_started_where_they_end_with_their_parent() -> None:
    starters = ("ProcessPoolExecutor(", "Popen(", "Process(", "subprocess.run(", "os.fork(")
    sources = [p for part in ("jumpy_mbrl", "agents", "envs") for p in (ROOT / part).rglob("*.py")]
    found = {path.resolve() for path in sources for word in starters if word in path.read_text()}
    here = Path(processes.__file__).parent.resolve()
    assert found == {here / "processes.py", here / "lab" / "programs.py"}  # which waits for them


def test_numbers_that_can_only_be_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for count in (0, 1, 256):
        check_at_once("threads", count)
    with pytest.raises(ValueError, match=r"threads must be at most 256, got 257; .* has 2, is of"):
        check_at_once("threads", 257)
    with pytest.raises(ValueError, match="threads must not be negative, got -1"):
        check_at_once("threads", -1)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        check_at_once("workers", 0, least=1)
    monkeypatch.setattr(os, "cpu_count", lambda: 512)
    check_at_once("threads", 2048)
    with pytest.raises(ValueError, match="at most 2048, got 2049"):
        check_at_once("threads", 2049)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
def test_every_item_comes_back_with_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ray: Any = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    results, failed = {}, []
    for item, get in map_on_ray(partial(truediv, 12.0), [1.0, 2.0, 0.0, 4.0], LOCAL, workers=2):
        try:
            results[item] = get()
        except ZeroDivisionError:
            failed.append(item)
    assert results == {1.0: 12.0, 2.0: 6.0, 4.0: 3.0}
    assert failed == [0.0]
    assert not ray.is_initialized()


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[ray\]'"):
        next(map_on_ray(abs, [1], LOCAL))
