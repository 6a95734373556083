"""Success of agents on several tables, in one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jumpy_mbrl.lab.style import (
    CAPTION,
    FAINT,
    INK,
    ORACLE,
    OURS,
    TITLE,
    new_figure,
    percent_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MODEL = "#6d8795"
_POINTS = {"jumpy": OURS, "simulator": ORACLE, "none": FAINT, "random": INK}

_WIDTH = 8.0
_POINT_HEIGHT = 0.19
_GAP = 0.8
"""Between two tables, in points."""


def save_tables_figure(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: str | os.PathLike[str]
) -> None:
    """Draws the success of agents on several tables, and writes the picture atomically.

    Args:
        results: for each table, in the order of the rows, the figures of each agent by name, as
            ``AgentResult.to_dict`` and results.json hold them.
        path: of the picture; the suffix says which format.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is nothing to draw.
    """
    names = list(dict.fromkeys(name for agents in results.values() for name in agents))
    if not names:
        raise ValueError("expected the figures of an agent on a table, got none")
    height = 1.95 + _POINT_HEIGHT * (len(names) + _GAP) * len(results)
    with new_figure(path, (_WIDTH, height)) as figure:
        axes = figure.add_axes((1.75 / _WIDTH, 0.75 / height, 5.85 / _WIDTH, 1.0 - 1.95 / height))
        _draw_points(axes, results, names)
        percent_axis(axes, list(results))
        title = "Beyond the default table"
        figure.text(0.3 / _WIDTH, 1.0 - 0.42 / height, title, **TITLE)
        figure.text(0.3 / _WIDTH, 1.0 - 0.75 / height, _caption(results), **CAPTION)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=len(names),
            frameon=False,
            borderaxespad=0.0,
            handletextpad=0.3,
            columnspacing=1.4,
        )


def _draw_points(
    axes: Axes, results: Mapping[str, Mapping[str, Mapping[str, Any]]], names: list[str]
) -> None:
    """A point with its interval for each agent on each table, the agents one below the other."""
    points: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for row, agents in enumerate(results.values()):
        for index, (name, figures) in enumerate(agents.items()):
            place = row + (index - 0.5 * (len(agents) - 1)) / (len(names) + _GAP)
            points[name].append((place, figures["success"], *figures["ci95"]))
    for name, entries in points.items():
        places, *percents = np.array(entries).T
        values, low, high = (100.0 * column for column in percents)
        color = _POINTS.get(name, _MODEL)
        axes.errorbar(
            values,
            places,
            xerr=(values - low, high - values),
            fmt="o",
            color=color,
            elinewidth=1.6,
            markersize=7.5,
            label=name,
        )
        for place, value, end in zip(places, values, high, strict=True):
            axes.text(end + 1.6, place, f"{value:.1f}", va="center", fontsize=9.5, color=color)


def _caption(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    counts = sorted({entry["n"] for agents in results.values() for entry in agents.values()})
    n = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{n} held-out tables of each kind, played in the real environment; 95 % intervals"
