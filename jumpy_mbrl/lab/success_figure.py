"""Success bars of all agents, beside one planned shot of each model."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.envs import pixels, rendering
from jumpy_mbrl.evaluation import AgentResult, ShotRecord
from jumpy_mbrl.lab.style import (
    BAD,
    CAPTION,
    FAINT,
    INK,
    OURS,
    PALE,
    TITLE,
    new_figure,
    percent_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MODEL = "#6d8795"
_POLICY = "#a99bb8"
_ORACLE_BAR = "#d9bd90"
_WAYS = ("#efb668", "#86bcff", "#d5d9dc")

_HEIGHT = 7.6
_BARS_WIDTH = 6.3
_PANEL_WIDTH = 2.85
_HEADING_WIDTH = 5.7

_IMAGINED: dict[str, Any] = {"color": "white", "linewidth": 1.4, "dashes": (3.2, 2.2)}
_TICK: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 4.8,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.9,
}


def save_success_figure(
    results: Mapping[str, AgentResult],
    shots: Mapping[str, ShotRecord],
    path: str | os.PathLike[str],
    game: str | None = None,
) -> None:
    """Draws success bars, and shots beside them, and writes the picture to ``path``, atomically.

    Args:
        results: of each agent by name, in the order of the bars.
        shots: of each model by agent name, drawn on tables beside the bars.
        path: of the picture; the suffix says which format.
        game: what was played, a few words for the caption.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    columns = math.ceil(len(shots) / 2)
    panels = max(_HEADING_WIDTH, columns * _PANEL_WIDTH) if shots else 0.0
    with new_figure(path, (_BARS_WIDTH + panels, _HEIGHT)) as figure:
        _draw_bars(figure, results, game)
        if shots:
            _draw_shots(figure, shots, columns)


def _draw_bars(figure: Figure, results: Mapping[str, AgentResult], game: str | None) -> None:
    width = figure.get_figwidth()
    axes = figure.add_axes((1.3 / width, 0.115, 4.5 / width, 0.725))
    rows = np.arange(len(results))
    values = np.array([100.0 * result.success for result in results.values()])
    limits = 100.0 * np.array([result.ci95 for result in results.values()])
    axes.barh(rows, values, height=0.6, color=[_color(*entry) for entry in results.items()])
    axes.errorbar(
        values,
        rows,
        xerr=np.abs(limits.T - values),
        fmt="none",
        ecolor=INK,
        elinewidth=1.4,
        capsize=4,
        capthick=1.4,
    )
    for row, result in enumerate(results.values()):
        _label_bar(axes, row, result)
    percent_axis(axes, list(results))
    n = next(iter(results.values())).n
    caption = f"{n:,} held-out tables, played in the real environment; 95 % intervals"
    title = "Shots that reach the target" + (f": {game}" if game else "")
    _heading(figure, 0.3 / width, title, caption)


def _label_bar(axes: Axes, row: int, result: AgentResult) -> None:
    """The success beside the bar; what it cost inside, or beside that if the bar is short."""
    high = 100.0 * result.ci95[1]
    place: dict[str, Any] = {"va": "center", "zorder": 3}
    axes.text(high + 1.6, row, f"{100.0 * result.success:.1f}", weight="bold", fontsize=12, **place)
    if result.ticks is None and result.checkpoint is None:
        return
    cost = "policy, no model"
    if result.ticks is not None:
        cost = f"{_short(result.ms_per_shot)} ms/shot,  {result.ticks:.1f} ticks"
    if result.success > 0.62:
        color = INK if result.checkpoint is None else "white"
        axes.text(2.0, row, cost, fontsize=10, color=color, **place)
    else:
        axes.text(high + 14.5, row, cost, fontsize=10, color=FAINT, **place)


def _color(name: str, result: AgentResult) -> str:
    if name == "jumpy":
        return OURS
    if result.checkpoint is None:
        return PALE if result.ticks is None else _ORACLE_BAR
    return _POLICY if result.ticks is None else _MODEL


def _draw_shots(figure: Figure, shots: Mapping[str, ShotRecord], columns: int) -> None:
    left = _BARS_WIDTH / figure.get_figwidth()
    grid = figure.add_gridspec(
        math.ceil(len(shots) / columns),
        columns,
        left=left,
        right=left + columns * _PANEL_WIDTH / figure.get_figwidth(),
        bottom=0.1,
        top=0.84,
        hspace=0.16,
        wspace=0.08,
    )
    for index, (name, shot) in enumerate(shots.items()):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        _draw_shot(axes, name, shot)
    _heading(
        figure,
        left,
        "The same table, as each model plans it",
        "up to the moment the ball arrives, or should",
    )
    _draw_legend(figure, left)


def _draw_shot(axes: Axes, name: str, shot: ShotRecord) -> None:
    from matplotlib.patches import Circle

    table = shot.config
    picture = rendering.draw_table(shot.start, table.target, size=720, radius=table.radius)
    axes.imshow(picture, extent=(0, 1, 0, 1), interpolation="lanczos")
    balls = range(shot.start.shape[0])
    for ball in balls:
        axes.plot(*_xy(shot.real, ball), color=_way_color(ball), linewidth=3.6)
    x, y = shot.real[-1, min(1, balls[-1])].tolist()
    face = (*(value / 255 for value in pixels.BLUE), 0.45)
    axes.add_patch(Circle((x, y), table.radius, facecolor=face, edgecolor=_WAYS[1], linewidth=1.6))
    for ball in balls:
        axes.plot(*_xy(shot.imagined, ball), **_IMAGINED)
    for ball in balls:
        axes.plot(*_xy(shot.ticks, ball), **_TICK)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], anchor="W")
    axes.spines[:].set_visible(False)
    axes.set_title(name, loc="left", fontsize=12, weight="bold", pad=5)
    color = OURS if shot.is_success else BAD
    axes.set_title(_verdict(shot), loc="right", fontsize=9.5, color=color, pad=5)


def _draw_legend(figure: Figure, left: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_WAYS[0], linewidth=3.6, label="cue ball"),
        Line2D([], [], color=_WAYS[1], linewidth=3.6, label="object ball"),
        Line2D([], [], label="imagined", **_IMAGINED),
        Line2D([], [], label="tick", **_TICK),
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(left, 0.026),
        borderaxespad=0.0,
        ncols=4,
        facecolor=OURS,
        edgecolor=OURS,
        framealpha=1.0,
        labelcolor="white",
        fontsize=10.5,
        handlelength=2.2,
        handletextpad=0.6,
        columnspacing=1.8,
    )


def _heading(figure: Figure, left: float, title: str, caption: str) -> None:
    figure.text(left, 0.945, title, **TITLE)
    figure.text(left, 0.9, caption, **CAPTION)


def _verdict(shot: ShotRecord) -> str:
    believed = "" if shot.belief is None else f"believed {100 * shot.belief:.0f} %, "
    return f"{believed}{'in' if shot.is_success else 'missed'}"


def _way_color(ball: int) -> str:
    return _WAYS[min(ball, 2)]


def _xy(way: NDArray[np.float64], ball: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return way[:, ball, 0], way[:, ball, 1]


def _short(value: float) -> str:
    """Two digits or more: 0.4, 12, 130."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
