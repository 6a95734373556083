"""The clock that measures, and the rows in which figures stand beside their anchors."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from jumpy_mbrl import checks

ROUNDS = 5
SECONDS_A_ROUND = 0.3

Work = Callable[[], int]
"""Does some work, and returns how much it was."""


@dataclass(frozen=True)
class Row:
    """A figure, its ratio to that of an anchor, and whether it reaches a target (None without)."""

    name: str
    value: float
    unit: str
    anchor: str | None = None
    ratio: float | None = None
    target: str | None = None
    ok: bool | None = None


def make_row(
    name: str,
    value: float,
    unit: str,
    anchor: tuple[str, float] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row beside the name and the figure of its anchor; it should be ``at_least`` so much, or
    ``at_most``."""
    beside, ratio = (anchor[0], value / anchor[1]) if anchor else (None, None)
    if at_least is not None:
        return Row(name, value, unit, beside, ratio, f"at least {at_least:,.0f}", value >= at_least)
    if at_most is not None:
        return Row(name, value, unit, beside, ratio, f"at most {at_most:g}", value <= at_most)
    return Row(name, value, unit, beside, ratio)


def make_rows(
    figures: Mapping[str, float], unit: str, label: Callable[[str], str], base: str
) -> Iterator[Row]:
    """A row for each figure, all but that of ``base`` itself beside it."""
    for name, value in figures.items():
        yield make_row(label(name), value, unit, None if name == base else (base, figures[base]))


def ratio_row(name: str, ratio: float, anchor: str, at_most: float | None = None) -> Row:
    """A row whose figure is itself the ratio to its anchor, which ``at_most`` may limit."""
    return make_row(name, ratio, "x", (anchor, 1.0), at_most=at_most)


def format_row(row: Row) -> str:
    """A row as one aligned line."""
    value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2f}"
    ratio = "" if row.ratio is None or row.unit == "x" else f"{row.ratio:.2f}x {row.anchor}"
    verdict = "" if row.ok is None else f"{row.target}: {'yes' if row.ok else 'NO'}"
    return f"{row.name:<58} {value:>12} {row.unit:<14} {ratio:<18} {verdict}".rstrip()


@dataclass(frozen=True)
class Clock:
    """Measures how often a second works are done: the best of some rounds of so many seconds.

    With ``warm_up`` every work runs once before it is measured. `ValueError` for no time.
    """

    rounds: int = ROUNDS
    seconds: float = SECONDS_A_ROUND
    warm_up: bool = True

    def __post_init__(self) -> None:
        checks.check_count("--rounds", self.rounds)
        checks.check_number("--seconds", self.seconds, 0.0, open_low=True)

    def rates(self, works: Mapping[str, Work]) -> dict[str, float]:
        """The best rate of each work, all measured in turn."""
        if self.warm_up:
            for work in works.values():
                work()
        best = dict.fromkeys(works, 0.0)
        for _ in range(self.rounds):
            for name, work in works.items():
                best[name] = max(best[name], self._rate(work))
        return best

    def _rate(self, work: Work) -> float:
        done, began = 0, time.perf_counter()
        while True:
            done += work()
            elapsed = time.perf_counter() - began
            if elapsed >= self.seconds:
                return done / elapsed


def describe_device(cores_used: int = 1) -> dict[str, Any]:
    """The machine and versions that the figures were measured on."""
    return {
        "cpu_cores_used": cores_used,
        "cpu_cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
        "gymnasium": gym.__version__,
        "numba": find_spec("numba") is not None,
    }
