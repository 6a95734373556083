"""The picture of an evaluation: success bars, and a planned shot of each model on its table.

Needs matplotlib (the ``viz`` extra), which is imported only when something is drawn.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.envs import rendering
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation import AgentResult, ShotRecord
from jumpy_mbrl.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#22303a"
_FAINT = "#8a949b"
_PLAIN = "#b9c2c7"
_MODEL = "#6d8795"
_OURS = "#2f7d5e"
_ORACLE = "#d9b98c"
_HIT = "#2f7d5e"
_MISS = "#b5483a"
_CUE_WAY = "#f0d3a4"
_OBJECT_WAY = "#8fc0ff"

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _INK,
}


def save_success_figure(
    results: Mapping[str, AgentResult],
    shots: Mapping[str, ShotRecord],
    path: str | os.PathLike[str],
    table: TableConfig | None = None,
) -> None:
    """Draws the figure and writes it to ``path``, atomically.

    Args:
        results: of each agent by name, in the order of the bars.
        shots: of each model by agent name, drawn on tables beside the bars.
        path: of the picture; the suffix says which format.
        table: on which the shots were played; the default one if None.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "drawing needs matplotlib, which is not installed; pip install 'jumpy-mbrl[viz]'"
        ) from None
    with matplotlib.rc_context(_STYLE):
        columns = math.ceil(len(shots) / 2) if len(shots) > 2 else len(shots)
        figure = Figure(figsize=(6.4 + 3.5 * columns, 7.6), facecolor="white")
        _draw(figure, results, shots, columns, table or TableConfig())
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _draw(
    figure: Figure,
    results: Mapping[str, AgentResult],
    shots: Mapping[str, ShotRecord],
    columns: int,
    table: TableConfig,
) -> None:
    width = figure.get_figwidth()
    bars = figure.add_axes((1.25 / width, 0.12, 4.75 / width, 0.71))
    _draw_bars(bars, results)
    n = next(iter(results.values())).n
    figure.text(
        0.3 / width, 0.94, "Shots that reach the target", fontsize=17, weight="bold", va="center"
    )
    figure.text(
        0.3 / width,
        0.892,
        f"{n:,} held-out tables, played in the real environment; 95 % intervals",
        color=_FAINT,
        va="center",
    )
    if not shots:
        return
    rows = math.ceil(len(shots) / columns)
    left = 6.4 / width
    grid = figure.add_gridspec(
        rows, columns, left=left, right=1 - 0.25 / width, bottom=0.09, top=0.85, hspace=0.16, wspace=0.06
    )
    for index, (name, shot) in enumerate(shots.items()):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        _draw_shot(axes, name, shot, table)
    figure.text(left, 0.94, "One table, as each model plans it", fontsize=17, weight="bold", va="center")
    _draw_legend(figure, left)


def _draw_bars(axes: Axes, results: Mapping[str, AgentResult]) -> None:
    names = list(results)
    rows = np.arange(len(names))
    values = np.array([100.0 * result.success for result in results.values()])
    limits = 100.0 * np.array([result.ci95 for result in results.values()])
    axes.barh(rows, values, height=0.62, color=[_color(name, results[name]) for name in names])
    errors = np.abs(limits.T - values)
    axes.errorbar(
        values, rows, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1.4, capsize=4, capthick=1.4
    )
    for row, result in enumerate(results.values()):
        _label_bar(axes, row, result)
    axes.set_yticks(rows, names, fontsize=12)
    axes.invert_yaxis()
    axes.set_xlim(0, 118)
    axes.set_xticks([0, 20, 40, 60, 80, 100])
    axes.set_xlabel("success, %", color=_FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e6eaec", linewidth=1.0)
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _label_bar(axes: Axes, row: int, result: AgentResult) -> None:
    """The success beside the bar; what it cost inside it, or beside it where it is short."""
    high = 100.0 * result.ci95[1]
    text = f"{100.0 * result.success:.1f}"
    axes.text(high + 1.6, row, text, va="center", weight="bold", fontsize=12)
    if result.ticks is None:
        return
    cost = f"{_short(result.ms_per_shot)} ms/shot,  {result.ticks:.1f} ticks"
    inside = result.success > 0.62
    axes.text(
        2.0 if inside else high + 13.0,
        row,
        cost,
        va="center",
        fontsize=10,
        color="white" if inside else _FAINT,
    )


def _color(name: str, result: AgentResult) -> str:
    if name == "jumpy":
        return _OURS
    if result.ticks is None:
        return _PLAIN
    return _ORACLE if result.checkpoint is None else _MODEL


def _draw_shot(axes: Axes, name: str, shot: ShotRecord, table: TableConfig) -> None:
    from matplotlib.patches import Circle

    picture = rendering.draw_table(shot.start, table.target, size=720, radius=table.radius)
    axes.imshow(picture, extent=(0, 1, 0, 1), interpolation="lanczos")
    colors = [_CUE_WAY, _OBJECT_WAY, *["#d5d9dc"] * (shot.start.shape[0] - 2)]
    for ball, color in enumerate(colors[: shot.start.shape[0]]):
        axes.plot(*_xy(shot.real, ball), color=color, linewidth=3.4, solid_capstyle="round", zorder=2)
    goal = min(1, shot.start.shape[0] - 1)
    end = shot.real[-1, goal]
    axes.add_patch(
        Circle(
            (float(end[0]), float(end[1])),
            table.radius,
            facecolor=(*_rgb(rendering.BLUE), 0.45),
            edgecolor=_OBJECT_WAY,
            linewidth=1.6,
            zorder=2,
        )
    )
    for ball in range(shot.start.shape[0]):
        axes.plot(*_xy(shot.imagined, ball), color="white", linewidth=1.3, dashes=(4, 2.4), zorder=3)
        axes.plot(
            *_xy(shot.ticks, ball),
            linestyle="none",
            marker="o",
            markersize=4.6,
            markerfacecolor="white",
            markeredgecolor=_INK,
            markeredgewidth=0.9,
            zorder=4,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(name, loc="left", fontsize=12, weight="bold", pad=5)
    axes.set_title(
        _verdict(shot), loc="right", fontsize=10.5, color=_HIT if shot.is_success else _MISS, pad=5
    )


def _draw_legend(figure: Figure, left: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_TAN_DARK, linewidth=3.4, label="cue ball, really"),
        Line2D([], [], color=_BLUE_DARK, linewidth=3.4, label="object ball, really"),
        Line2D([], [], color=_INK, linewidth=1.3, dashes=(4, 2.4), label="imagined"),
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=_INK,
            label="tick of the model",
        ),
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(left - 0.008, 0.012),
        ncols=4,
        frameon=False,
        fontsize=10.5,
        handletextpad=0.6,
        columnspacing=1.6,
    )


_TAN_DARK = "#e3bd83"
_BLUE_DARK = "#6fa8f5"


def _verdict(shot: ShotRecord) -> str:
    believed = "" if shot.belief is None else f"believed {100 * shot.belief:.0f} %, "
    return f"{believed}{'in' if shot.is_success else 'missed'}"


def _xy(way: NDArray[np.float64], ball: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return way[:, ball, 0], way[:, ball, 1]


def _rgb(color: rendering.Color) -> tuple[float, float, float]:
    return color[0] / 255, color[1] / 255, color[2] / 255


def _short(value: float) -> str:
    """Three digits at most: 0.4, 12, 130."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
