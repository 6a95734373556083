"""Learning curves: what runs that differ in their seed alone reach, against frames and time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab import store

PLANNER = "jumpy planner"
"""The name in tables and figures of the planner with our best jumpy model."""
PRESET = "fold-jump"
"""The training of that model."""
COLUMNS = ("seeds", "commands", "curves")
"""What learning.json holds of the runs of a kind."""
Points = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class MeanPoint:
    """Where runs were at the same moment, which `label` names.

    Means over the `seeds` of `frames` of experience, `seconds` of training and `samples` drawn to
    learn from (None if unknown); interquartile means of `success` on `n` tables each, and of that
    on the `contested` tables, which doing nothing loses (None if unknown); with the `low` and
    `high` end of the success's 95 % interval.
    """

    label: str
    frames: float
    seconds: float
    success: float
    low: float
    high: float
    seeds: int
    n: int
    samples: float | None = None
    contested: float | None = None

    @classmethod
    def of(cls, label: str, points: Points) -> MeanPoint:
        """The mean of one point of each run."""
        points = list(points)
        successes = [float(point["success"]) for point in points]
        samples: list[Any] = [point.get("samples") for point in points]
        hard: list[Any] = [point.get("contested") for point in points]
        n = max(int(point["n"]) for point in points)
        low, high = interval(successes, n, np.random.default_rng(0))
        return cls(
            label=label,
            frames=fmean(point["frames"] for point in points),
            seconds=fmean(point["seconds"] for point in points),
            success=interquartile_mean(successes),
            low=low,
            high=high,
            seeds=len(points),
            n=n,
            samples=None if None in samples else fmean(samples),
            contested=None if None in hard else interquartile_mean(hard),
        )


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean without a quarter of the values, rounded down, at each end (Agarwal et al. 2021,
    "Deep Reinforcement Learning at the Edge of the Statistical Precipice")."""
    cut = len(values) // 4
    return fmean(sorted(values)[cut : len(values) - cut])


def interval(
    successes: Sequence[float], n: int, rng: np.random.Generator, draws: int = 2000
) -> tuple[float, float]:
    """The 95 % interval of the interquartile mean of successes on ``n`` tables each.

    Percentiles of the bootstrap over seeds, drawn by ``rng``; of fewer than three seeds, Wilson's
    of all tables.
    """
    seeds = len(successes)
    if seeds < 3:
        return wilson_interval(round(fmean(successes) * seeds * n), seeds * n)
    drawn = rng.choice(successes, (draws, seeds))
    drawn.sort(axis=1)
    means = drawn[:, seeds // 4 : seeds - seeds // 4].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


@dataclass(frozen=True)
class Curve:
    """How success grows: against experience, the least first, and against time of training.

    `apart` tells whether each point is a training of its own, and not a moment of one.
    """

    name: str
    by_frames: tuple[MeanPoint, ...]
    by_time: tuple[MeanPoint, ...]
    apart: bool = False


def planner_curve(name: str, points: Points) -> Curve:
    """The curve of a planner, whose points are trainings of their own.

    Against experience stand those with the most updates, against time those on the most data.
    """
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["trajectories"], point["steps"]), []).append(point)
    most, longest = (max(numbers) for numbers in zip(*groups, strict=True))
    means = {
        (number, steps): MeanPoint.of(f"{number:,} trajectories, {steps:,} steps", group)
        for (number, steps), group in sorted(groups.items())
    }
    by_frames = tuple(mean for (_, steps), mean in means.items() if steps == longest)
    by_time = tuple(mean for (number, _), mean in means.items() if number == most)
    return Curve(name, by_frames, by_time, apart=True)


def policy_curve(name: str, runs: Sequence[Points]) -> Curve:
    """The curve of a policy: a point for every number of steps at which all runs were validated."""
    by_steps = [{point["timesteps"]: point for point in run} for run in runs]
    common = sorted(set.intersection(*map(set, by_steps))) if by_steps else []
    if not common:
        raise ValueError(
            f"expected all runs of {name!r} to be validated after the same steps, got none of that "
            "kind; give them the same validation_interval, and let them train"
        )
    means = tuple(
        MeanPoint.of(f"{steps:,} steps", [run[steps] for run in by_steps]) for steps in common
    )
    return Curve(name, by_frames=means, by_time=means)


def runs_of(kind: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Seed, command and curve of every run of a kind."""
    return [*zip(*(kind[name] for name in COLUMNS), strict=True)]


def report_curves(report: Mapping[str, Any]) -> list[Curve]:
    """The curve of the planner, or one for each kind of model that it plans with, then policies'.

    `report` is what `study-learning figure` keeps in learning.json.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for point in report["planner"]["points"] if report["planner"] else ():
        kinds.setdefault(point.get("preset", PRESET), []).append(point)
    ours_first = sorted(kinds, key=lambda preset: preset != PRESET)
    planners = [
        planner_curve(PLANNER if preset == PRESET else preset, kinds[preset])
        for preset in ours_first
    ]
    return planners + [policy_curve(kind["label"], kind["curves"]) for kind in report["policies"]]


def has_rivals(report: Mapping[str, Any]) -> bool:
    """Whether the planner plans with other models than ours."""
    points = report["planner"]["points"] if report["planner"] else ()
    return any(point.get("preset", PRESET) != PRESET for point in points)


def format_curves(curves: Iterable[Curve]) -> list[str]:
    """A Markdown table: the last point of every run of a policy, and all of a planner.

    Where samples are known, they stand there too.
    """
    curves = list(curves)
    known = any(point.samples is not None for curve in curves for point in curve.by_time)
    header = ["who", "after", "seeds", "frames", "seconds", "tables won", "95 % interval"]
    rows = []
    for curve in curves:
        points = curve.by_frames[-1:]
        if curve.apart:
            points = tuple(dict.fromkeys((*curve.by_frames, *curve.by_time)))
        for point in points:
            row = [curve.name, point.label, str(point.seeds), f"{point.frames:,.0f}"]
            row += [f"{point.seconds:,.1f}", store.percent(point.success)]
            hard = "-" if point.contested is None else store.percent(point.contested)
            row += [store.percents((point.low, point.high)), hard, f"{point.n:,}"]
            if known:
                row.append("-" if point.samples is None else f"{point.samples:,.0f}")
            rows.append(row)
    more = ["of those that doing nothing loses", "tables", *(["samples"] if known else [])]
    return store.markdown(header + more, rows)
