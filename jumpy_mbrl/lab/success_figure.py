"""Success bars of all agents, beside one planned shot of each model."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jumpy_mbrl.envs import pixels, rendering
from jumpy_mbrl.evaluation import AgentResult, ShotRecord
from jumpy_mbrl.lab import style

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
_LONG = 16
"""Letters of a name that would run into what stands to the right of it."""

_IMAGINED: dict[str, Any] = {"color": "white", "linewidth": 1.4, "dashes": (3.2, 2.2)}
_TICK: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 4.8,
    "markerfacecolor": "white",
    "markeredgecolor": style.INK,
    "markeredgewidth": 0.9,
}


def save_success_figure(
    results: Mapping[str, AgentResult],
    shots: Mapping[str, ShotRecord],
    path: str | os.PathLike[str],
    game: str | None = None,
) -> None:
    """Draws a bar for each agent, in the order of the results, and beside them shots of models.

    `game` says in a few words what was played.
    """
    columns = math.ceil(len(shots) / 2)
    panels = max(_HEADING_WIDTH, columns * _PANEL_WIDTH) if shots else 0.0
    with style.new_figure(path, (_BARS_WIDTH + panels, _HEIGHT)) as figure:
        _draw_bars(figure, results, game)
        if shots:
            _draw_shots(figure, shots, columns)


def _draw_bars(figure: Figure, results: Mapping[str, AgentResult], game: str | None) -> None:
    width = figure.get_figwidth()
    axes = figure.add_axes((1.5 / width, 0.115, 4.3 / width, 0.725))
    rows = np.arange(len(results))
    values = np.array([100.0 * result.success for result in results.values()])
    limits = 100.0 * np.array([result.ci95 for result in results.values()])
    axes.barh(rows, values, height=0.6, color=[_color(*entry) for entry in results.items()])
    errors: Any = {"xerr": np.abs(limits.T - values), "fmt": "none", "ecolor": style.INK}
    axes.errorbar(values, rows, **errors, elinewidth=1.4, capsize=4, capthick=1.4)
    for row, result in enumerate(results.values()):
        _label_bar(axes, row, result)
    style.percent_axis(axes, [name.replace(" (", "\n(") for name in results])
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
        ms = result.ms_per_shot
        cost = f"{ms:.1f}" if ms < 9.95 else f"{ms:.0f}"
        cost += f" ms/shot,  {result.ticks:.1f} ticks"
    where, color = high + 14.5, style.FAINT
    if result.success > 0.62:
        where, color = 2.0, style.INK if result.checkpoint is None else "white"
    axes.text(where, row, cost, fontsize=10, color=color, **place)


def _color(name: str, result: AgentResult) -> str:
    if name.startswith("jumpy") and name != "jumpy-rnn":
        return style.OURS
    if result.checkpoint is None:
        return style.PALE if result.ticks is None else _ORACLE_BAR
    return _POLICY if result.ticks is None else _MODEL


def _draw_shots(figure: Figure, shots: Mapping[str, ShotRecord], columns: int) -> None:
    from matplotlib.lines import Line2D

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
    caption = "up to the moment the ball arrives, or should"
    _heading(figure, left, "The same table, as each model plans it", caption)
    figure.legend(
        handles=[
            Line2D([], [], color=_WAYS[0], linewidth=3.6, label="cue ball"),
            Line2D([], [], color=_WAYS[1], linewidth=3.6, label="object ball"),
            Line2D([], [], label="imagined", **_IMAGINED),
            Line2D([], [], label="tick", **_TICK),
        ],
        loc="lower left",
        bbox_to_anchor=(left, 0.026),
        borderaxespad=0.0,
        ncols=4,
        facecolor=style.OURS,
        edgecolor=style.OURS,
        framealpha=1.0,
        labelcolor="white",
        fontsize=10.5,
        handlelength=2.2,
        handletextpad=0.6,
        columnspacing=1.8,
    )


def _draw_shot(axes: Axes, name: str, shot: ShotRecord) -> None:
    from matplotlib.patches import Circle

    table = shot.config
    picture = rendering.draw_table(shot.start, table.target, size=720, radius=table.radius)
    axes.imshow(picture, extent=(0, 1, 0, 1), interpolation="lanczos")
    balls = range(shot.start.shape[0])
    for ball in balls:
        axes.plot(*shot.real[:, ball].T, color=_WAYS[min(ball, 2)], linewidth=3.6)
    x, y = shot.real[-1, min(1, balls[-1])].tolist()
    face = (*(value / 255 for value in pixels.BLUE), 0.45)
    axes.add_patch(Circle((x, y), table.radius, facecolor=face, edgecolor=_WAYS[1], linewidth=1.6))
    for way, look in ((shot.imagined, _IMAGINED), (shot.ticks, _TICK)):
        for ball in balls:
            axes.plot(*way[:, ball].T, **look)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], anchor="W")
    axes.spines[:].set_visible(False)
    size = 11.0 if len(name) < _LONG else 8.5
    axes.set_title(name, loc="left", fontsize=size, weight="bold", pad=5)
    color, verdict = (style.OURS, "in") if shot.is_success else (style.BAD, "missed")
    belief = "" if shot.belief is None else f"belief {100 * shot.belief:.0f} %, "
    axes.set_title(f"{belief}{verdict}", loc="right", fontsize=8.5, color=color, pad=5)


def _heading(figure: Figure, left: float, title: str, caption: str) -> None:
    figure.text(left, 0.945, title, **style.TITLE)
    figure.text(left, 0.9, caption, **style.CAPTION)
