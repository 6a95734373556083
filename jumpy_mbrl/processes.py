"""Worker processes that end with the process that started them, and how many there may be."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor

_SECONDS_BETWEEN_LOOKS = 0.5


def check_at_once(name: str, count: int, least: int = 0) -> None:
    """Raises ``ValueError`` for a number of threads or processes that can only be a mistake."""
    if count < least:
        wrong = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"{name} must {wrong}, got {count}")
    cpus = os.cpu_count() or 1
    most = max(256, 4 * cpus)
    if count > most:
        raise ValueError(
            f"{name} must be at most {most}, got {count}; more than one for each CPU of this "
            f"machine, which has {cpus}, is of no use"
        )


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that end when this one does, even if it is killed.

    Spawned, as a forked process inherits the threads of torch in an unknown state.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=end_with,
        initargs=(os.getpid(),),
    )


def end_with(parent: int) -> None:
    """Ends this process as soon as its parent is another one than ``parent``, as that has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
