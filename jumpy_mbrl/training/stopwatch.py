"""How long a run has trained: in a file of its own, as checkpoints follow from the config alone."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jumpy_mbrl.files import entries_of, write_json

SECONDS = "seconds.json"


class Stopwatch:
    """Seconds of work since it was made, without pauses, and those of the same run before."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._started = clock, clock()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._clock() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count what happens within a block."""
        began = self._clock()
        try:
            yield
        finally:
            self._started += self._clock() - began

    def save(self, run_dir: Path) -> None:
        """Writes the seconds so far, atomically."""
        write_json(run_dir / SECONDS, {"seconds": round(self.seconds, 3)})

    def restore(self, run_dir: Path) -> None:
        """Counts on from what was saved, if anything was."""
        if (run_dir / SECONDS).is_file():
            self._started -= training_seconds(run_dir)


def training_seconds(run_dir: str | os.PathLike[str]) -> float:
    """How long the run in a folder has trained up to its last checkpoint.

    What is needed to have the data is counted, validations are not, nor what an interruption lost.
    `FileNotFoundError` if there is no checkpoint yet, `ValueError` if the file is damaged.
    """
    path = Path(run_dir) / SECONDS
    with entries_of(path, "remove it, and seconds are counted from there on"):
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        if isinstance(seconds, bool) or not 0.0 <= seconds < sys.float_info.max:
            raise ValueError(f"its seconds are {seconds!r}")
        return float(seconds)
