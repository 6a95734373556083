"""Success against experience or samples, and against time of training, side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.lab import style
from jumpy_mbrl.lab.learning.curves import PLANNER, Curve
from jumpy_mbrl.lab.store import span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEARNERS = (style.BAD, "#3b76af", "#8a6bb1", "#d08a6a", "#a2577d", "#4fa3a5")
_REFERENCES = {"none": ("doing nothing", style.FAINT), "simulator": ("the oracle", style.ORACLE)}
Marks = Mapping[float, str]


def _marks(numbers: Iterable[int], units: Mapping[str, float]) -> Marks:
    return {n * size: f"{n} {unit}".rstrip() for unit, size in units.items() for n in numbers}


_SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_TIMES = {"s": 1.0, "min": 60.0, "h": 3600.0}
FRAMES = (_marks((1, 10, 100), _SIZES), _marks((1, 2, 5, 10, 20, 50, 100, 200, 500), _SIZES))
"""Marks of an axis, and those of one that would have less than two of them."""
SECONDS = (_marks((1, 10), _TIMES), _marks((1, 2, 5, 10, 20, 30), _TIMES))
"""The same of time."""
_OF_PLANNER = (
    "planner: models that learned from more and more data, equally long",
    "planner: models that learned longer and longer, from the most data",
)
_WIDTH, _LEFT = 10.6, 0.2
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

    `references` has, for "none" and "simulator", figures with `success`. Rivals are planners with
    different models: they are drawn against time and samples, in bands of 95 % intervals.
    `ValueError` for rivals whose samples are not known.
    """
    if rivals and any(point.samples is None for curve in curves for point in curve.by_time):
        raise ValueError("expected the samples of every point of rivals; make the points again")
    others = [
        curve.name for curve in curves if not curve.apart or (rivals and curve.name != PLANNER)
    ]
    colors = {name: _LEARNERS[row % len(_LEARNERS)] for row, name in enumerate(others)}
    columns = max(1, min(5, _LETTERS // (6 + max(len(curve.name) for curve in curves))))
    height = 1.8 + _PANEL_HEIGHT + _ROW_HEIGHT * math.ceil(len(curves) / columns)
    with style.new_figure(path, (_WIDTH, height)) as figure:
        left_axes, right_axes = figure.subplots(1, 2, sharey=True)
        frames, time = (right_axes, left_axes) if rivals else (left_axes, right_axes)
        bottom, top = 0.55 / height, (0.55 + _PANEL_HEIGHT) / height
        figure.subplots_adjust(left=0.062, right=0.985, bottom=bottom, top=top, wspace=0.06)
        for curve in curves:
            color = colors.get(curve.name, style.OURS)
            _draw(frames, curve, "samples" if rivals else "frames", color, rivals)
            _draw(time, curve, "seconds", color, rivals)
        experience = "samples: updates x batch size" if rivals else "frames of experience"
        mark_logarithmically(frames, experience, FRAMES)
        mark_logarithmically(time, "time of training", SECONDS)
        for axes, of_planner in zip((frames, time), _OF_PLANNER, strict=True):
            axes.set_ylim(0.0, 104.0)
            style.tidy(axes)
            if any(curve.apart for curve in curves) and not rivals:
                axes.set_title(of_planner, loc="left", fontsize=10, color=style.OURS, pad=6)
            _draw_references(axes, references, named=axes is time)
        left_axes.set_ylabel("success, %")
        left = _LEFT / _WIDTH
        figure.text(left, 1.0 - 0.3 / height, title, **style.TITLE)
        figure.text(left, 1.0 - 0.64 / height, _caption(curves, rivals), **style.CAPTION)
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


def _draw(axes: Axes, curve: Curve, against: str, color: str, rivals: bool) -> None:
    """The interquartile mean of the seeds, in a band of 95 % intervals."""
    by_time = rivals or against == "seconds"
    points = curve.by_time if by_time else curve.by_frames
    places = [getattr(point, against) for point in points]
    low, high = ([100.0 * getattr(point, end) for point in points] for end in ("low", "high"))
    axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0.0)
    axes.plot(
        places,
        [100.0 * point.success for point in points],
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


def mark_logarithmically(axes: Axes, label: str, marks: Sequence[Marks]) -> None:
    """Makes x logarithmic, with those of the `marks` that come first and are two at least."""
    axes.set(xscale="log", xlabel=label)
    low, high = axes.get_xlim()
    shown: dict[float, str] = {}
    for found in marks:
        if len(shown) < 2:
            shown = {mark: text for mark, text in found.items() if low <= mark <= high}
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_xlim(low, high)


def _caption(curves: Sequence[Curve], rivals: bool) -> str:
    points = [point for curve in curves for point in (*curve.by_frames, *curve.by_time)]
    seeds = [point.seeds for point in points]
    several = f"interquartile means of {span(seeds)} seeds"
    trained = "one seed" if max(seeds) == 1 else several
    bands = "; bands: 95 % intervals"
    if rivals:
        bands += "; each point is a training of its own"
    return f"{span(point.n for point in points)} held-out tables; {trained}{bands}"
