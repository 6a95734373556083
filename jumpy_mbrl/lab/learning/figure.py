"""Success against experience or samples, and against time of training, side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.lab.learning.curves import PLANNER, Curve, MeanPoint
from jumpy_mbrl.lab.style import (
    BAD,
    CAPTION,
    FAINT,
    ORACLE,
    OURS,
    TITLE,
    new_figure,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEARNERS = (BAD, "#3b76af", "#8a6bb1", "#d08a6a", "#a2577d", "#4fa3a5")
_REFERENCES = {"none": ("doing nothing", FAINT), "simulator": ("the oracle", ORACLE)}
FRAMES = (
    {
        1e2: "100",
        1e3: "1 k",
        1e4: "10 k",
        1e5: "100 k",
        1e6: "1 M",
        1e7: "10 M",
        1e8: "100 M",
        1e9: "1 G",
    },
    {
        factor * 10.0**power * unit: f"{factor * 10**power} {letter}".rstrip()
        for unit, letter in ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))
        for power in range(3)
        for factor in (1, 2, 5)
    },
)
"""Marks of an axis, and those of one that would have less than two of them."""
SECONDS = (
    {1.0: "1 s", 10.0: "10 s", 60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 36_000.0: "10 h"},
    {
        number * unit: f"{number} {letter}"
        for unit, letter, numbers in (
            (1.0, "s", (1, 2, 5, 10, 20, 30)),
            (60.0, "min", (1, 2, 5, 10, 20, 30)),
            (3600.0, "h", (1, 2, 5, 10, 20, 50, 100)),
        )
        for number in numbers
    },
)
"""The same of time."""
_OF_PLANNER = (
    "planner: models that learned from more and more data, equally long",
    "planner: models that learned longer and longer, from the most data",
)
_WIDTH = 10.6
_PANEL_HEIGHT = 3.25
_ROW_HEIGHT = 0.23
_LETTERS = 116
"""In a row of the legend, where a handle is as wide as six."""


def save_learning_figure(
    curves: Sequence[Curve],
    references: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
    title: str = "What experience and time buy",
    rivals: bool = False,
) -> None:
    """Draws what has been learned after so much experience, and after so long.

    Args:
        curves: of policies and of a planner, whose points are trainings of their own.
        references: for "none" and "simulator", if they are to be drawn, figures with ``success``.
        path: of the picture; the suffix says which format.
        title: of the picture.
        rivals: the curves are of planners with different models, and drawn against time and
            samples, in bands of 95 % intervals.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no curve, or rivals whose samples are not known.
    """
    if not curves:
        raise ValueError("expected learning curves to draw, got none")
    if rivals and any(point.samples is None for curve in curves for point in curve.by_time):
        raise ValueError("expected the samples of every point of rivals; make the points again")
    colors = _colors(curves, rivals)
    columns = _columns([curve.name for curve in curves])
    height = 1.8 + _PANEL_HEIGHT + _ROW_HEIGHT * math.ceil(len(curves) / columns)
    with new_figure(path, (_WIDTH, height)) as figure:
        left_axes, right_axes = figure.subplots(1, 2, sharey=True)
        frames, time = (right_axes, left_axes) if rivals else (left_axes, right_axes)
        bottom, top = 0.55 / height, (0.55 + _PANEL_HEIGHT) / height
        figure.subplots_adjust(left=0.062, right=0.985, bottom=bottom, top=top, wspace=0.06)
        for curve in curves:
            color = colors[curve.name]
            points = curve.by_time if rivals else curve.by_frames
            places = [point.samples or 0.0 if rivals else point.frames for point in points]
            _draw(frames, curve, places, points, color, rivals)
            seconds = [point.seconds for point in curve.by_time]
            _draw(time, curve, seconds, curve.by_time, color, rivals)
        experience = "samples: updates x batch size" if rivals else "frames of experience"
        mark_logarithmically(frames, experience, FRAMES)
        mark_logarithmically(time, "time of training", SECONDS)
        for axes, of_planner in zip((frames, time), _OF_PLANNER, strict=True):
            axes.set_ylim(0.0, 104.0)
            tidy(axes)
            if any(curve.apart for curve in curves) and not rivals:
                axes.set_title(of_planner, loc="left", fontsize=10, color=OURS, pad=6)
            _draw_references(axes, references, named=axes is time)
        left_axes.set_ylabel("success, %")
        left = 0.2 / _WIDTH
        figure.text(left, 1.0 - 0.3 / height, title, **TITLE)
        figure.text(left, 1.0 - 0.64 / height, _caption(curves, rivals), **CAPTION)
        figure.legend(
            *frames.get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(left, 1.0 - 0.86 / height),
            ncols=columns,
            frameon=False,
            borderaxespad=0.0,
            borderpad=0.0,
            handletextpad=0.5,
            columnspacing=1.6,
        )


def _columns(names: Sequence[str]) -> int:
    """Of the legend."""
    return max(1, min(5, _LETTERS // (6 + max(map(len, names)))))


def _draw(
    axes: Axes,
    curve: Curve,
    places: Sequence[float],
    points: Sequence[MeanPoint],
    color: str,
    intervals: bool,
) -> None:
    """The mean of the seeds, in a band from the worst to the best, or of 95 % intervals."""
    mean = [100.0 * point.success for point in points]
    ends = [point.ci95 if intervals else (point.low, point.high) for point in points]
    low, high = ([100.0 * end[side] for end in ends] for side in (0, 1))
    axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0.0)
    axes.plot(
        places,
        mean,
        color=color,
        linewidth=2.4 if curve.apart else 1.8,
        marker="o" if curve.apart or len(points) == 1 else None,
        markersize=7.0,
        markeredgecolor="white",
        zorder=3 if curve.apart else 2,
        label=curve.name,
    )


def _draw_references(axes: Axes, references: Mapping[str, Mapping[str, Any]], named: bool) -> None:
    for name, figures in references.items():
        text, color = _REFERENCES[name]
        value = 100.0 * figures["success"]
        axes.axhline(value, color=color, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        if named:
            axes.annotate(
                f"{text}: {value:.1f} %",
                (1.0, value),
                xycoords=("axes fraction", "data"),
                xytext=(-3, -5),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=10,
                color=color,
            )


def mark_logarithmically(axes: Axes, label: str, marks: Sequence[Mapping[float, str]]) -> None:
    """Makes x logarithmic, with those of the ``marks`` that come first and are two at least."""
    axes.set(xscale="log", xlabel=label)
    low, high = axes.get_xlim()
    shown: dict[float, str] = {}
    for found in marks:
        if len(shown) < 2:
            shown = {mark: text for mark, text in found.items() if low <= mark <= high}
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_xlim(low, high)


def _colors(curves: Sequence[Curve], rivals: bool) -> dict[str, str]:
    """Green for the planner with our model, and one for each policy or rival."""
    others = [
        curve.name for curve in curves if not curve.apart or (rivals and curve.name != PLANNER)
    ]
    colors = {name: _LEARNERS[row % len(_LEARNERS)] for row, name in enumerate(others)}
    return {curve.name: colors.get(curve.name, OURS) for curve in curves}


def _caption(curves: Sequence[Curve], rivals: bool) -> str:
    points = [point for curve in curves for point in (*curve.by_frames, *curve.by_time)]
    tables = f"{_range([point.n for point in points])} held-out tables"
    seeds = [point.seeds for point in points]
    if rivals:
        of_seeds = "one seed" if max(seeds) == 1 else f"means of {_range(seeds)} seeds"
        return (
            f"{tables}; {of_seeds}, in bands of 95 % intervals; each point is a training of its own"
        )
    if max(seeds) == 1:
        return f"{tables}; one seed"
    return f"{tables}; means of {_range(seeds)} seeds, in bands from the worst to the best"


def _range(numbers: Sequence[int]) -> str:
    ends = dict.fromkeys((min(numbers), max(numbers)))
    return " to ".join(f"{number:,}" for number in ends)
