"""The clock that measures, and the rows in which figures stand beside their anchors."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch

ROUNDS = 5
SECONDS_A_ROUND = 0.3


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the figure, in ``unit``.
        anchor: what it is compared with, if anything.
        ratio: ``value`` over the anchor's figure.
        target: what ``value`` (or, for a row whose unit is "x", the ratio) should reach.
        ok: whether it does; None without a target.
    """

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
) -> Row:
    """A row with its ratio and its verdict.

    Args:
        name: what was measured.
        value: the figure, in ``unit``.
        unit: of ``value`` and of the anchor's figure.
        anchor: name and figure of what it is compared with.
        at_least: what ``value`` should reach.
    """
    return Row(
        name=name,
        value=value,
        unit=unit,
        anchor=None if anchor is None else anchor[0],
        ratio=None if anchor is None else value / anchor[1],
        target=None if at_least is None else f"at least {at_least:,.0f}",
        ok=None if at_least is None else value >= at_least,
    )


def ratio_row(name: str, ratio: float, anchor: str, at_most: float | None = None) -> Row:
    """A row whose figure is itself the ratio to its anchor, which ``at_most`` may limit."""
    return Row(
        name=name,
        value=ratio,
        unit="x",
        anchor=anchor,
        ratio=ratio,
        target=None if at_most is None else f"at most {at_most:g}",
        ok=None if at_most is None else ratio <= at_most,
    )


def format_row(row: Row) -> str:
    """A row as one aligned line."""
    value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2f}"
    ratio = "" if row.ratio is None or row.unit == "x" else f"{row.ratio:.2f}x {row.anchor}"
    verdict = "" if row.ok is None else f"{row.target}: {'yes' if row.ok else 'NO'}"
    return f"{row.name:<58} {value:>12} {row.unit:<14} {ratio:<18} {verdict}".rstrip()


class Clock:
    """Measures rates: how often a second a function does its work.

    Args:
        rounds: of each measurement, at least 1; the best counts.
        seconds: length of one round, positive.
        warm_up: let every work run once before it is measured.

    Raises:
        ValueError: for fewer than one round, or rounds without length.
    """

    def __init__(
        self, rounds: int = ROUNDS, seconds: float = SECONDS_A_ROUND, warm_up: bool = True
    ) -> None:
        if rounds < 1 or not seconds > 0:
            raise ValueError(
                f"rounds must be at least 1 and seconds positive, got {rounds} and {seconds}"
            )
        self.rounds = rounds
        self.seconds = seconds
        self.warm_up = warm_up

    def rates(self, *works: Callable[[], int]) -> list[float]:
        """The best rate of each work, which returns how much it did, all measured in turn."""
        if self.warm_up:
            for work in works:
                work()
        best = [0.0] * len(works)
        for _ in range(self.rounds):
            for number, work in enumerate(works):
                best[number] = max(best[number], self._rate(work))
        return best

    def _rate(self, work: Callable[[], int]) -> float:
        done, began = 0, time.perf_counter()
        while True:
            done += work()
            elapsed = time.perf_counter() - began
            if elapsed >= self.seconds:
                return done / elapsed


def describe_device() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu_cores_used": 1,
        "cpu_cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
        "gymnasium": gym.__version__,
        "numba": find_spec("numba") is not None,
    }
