"""Pictures of planners: success against time, and belief against reality."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab import style

_COLORS = {
    "rnn": style.BAD,
    "ode-rnn": "#8a6bb1",
    "jump-4": "#5b6770",
    "jumpy-rnn": "#3b76af",
    "jumpy": style.OURS,
    "simulator": style.ORACLE,
}
_DASHES: Any = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MARKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
_PART = ", "
"""After it a line's name says what is left of the search; such lines are broken."""
Figures = Mapping[str, Any]


def save_frontier_figure(
    lines: Mapping[str, Sequence[Figures]], path: str | os.PathLike[str]
) -> None:
    """Draws success against planning time, a line for each model.

    The entries of a line have `success`, `ci95`, `n` and `ms_per_shot`.
    """
    entries = [entry for line in lines.values() for entry in line]
    with style.new_figure(path, (8.0, 4.8), layout="constrained") as figure:
        axes = figure.subplots()
        drawn: list[str] = []
        for name in sorted(lines, key=lambda name: _PART in name):
            line = sorted(lines[name], key=lambda entry: float(entry["ms_per_shot"]))
            agent = name.split(_PART)[0]
            before = drawn.count(agent)
            drawn.append(agent)
            style.percent_bars(
                axes,
                [entry["ms_per_shot"] for entry in line],
                [entry["success"] for entry in line],
                [entry["ci95"] for entry in line],
                color=_COLORS.get(agent, style.FAINT),
                linestyle=_DASHES[min(before, len(_DASHES) - 1)],
                markersize=4 if before else 6,
                linewidth=1.3 if before else 1.8,
                label=name,
            )
        axes.set_xscale("log")
        axes.set(xlabel="milliseconds a shot", ylabel="success, %", ylim=(0.0, 104.0))
        times = sorted({round(entry["ms_per_shot"], 1) for entry in entries})
        marks = [mark for mark in _MARKS if times[0] * 0.7 <= mark <= times[-1] * 1.4]
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
        style.tidy(axes)
        axes.legend(frameon=False, loc="best", fontsize=10)
        n = max(entry["n"] for entry in entries)
        style.heading(figure, f"What time buys: {n:,} held-out tables, 95 % intervals")


def save_calibration_figure(results: Mapping[str, Figures], path: str | os.PathLike[str]) -> None:
    """Draws how often shots succeed against how often they were believed to.

    Figures of agents, by name, are those of results.json; those without `calibration` are left out.
    `ValueError` if none has it.
    """
    believers = {name: entry for name, entry in results.items() if entry.get("calibration")}
    if not believers:
        raise ValueError("expected an agent with beliefs, got none")
    size = (2.9 * len(believers) + 0.4, 3.5)
    with style.new_figure(path, size, layout="constrained") as figure:
        grid = figure.subplots(1, len(believers), squeeze=False, sharey=True)[0]
        for axes, (name, entry) in zip(grid, believers.items(), strict=True):
            bins = entry["calibration"]
            axes.plot([0, 100], [0, 100], color=style.PALE, linewidth=1.2, linestyle=(0, (3, 2)))
            style.percent_bars(
                axes,
                [100.0 * part["belief"] for part in bins],
                [part["success"] for part in bins],
                [wilson_interval(round(part["n"] * part["success"]), part["n"]) for part in bins],
                color=_COLORS.get(name, style.FAINT),
                linewidth=1.6,
            )
            for part in bins:
                axes.annotate(
                    f"{part['n']:,}",
                    (100.0 * part["belief"], 100.0 * part["success"]),
                    xytext=(-6, 6),
                    textcoords="offset points",
                    ha="right",
                    fontsize=9,
                    color=style.INK,
                )
            axes.set(xlim=(-12, 104), ylim=(-4, 114), xlabel="believed, %")
            axes.set_title(name, loc="left", fontsize=12, weight="bold", color=style.INK)
            style.tidy(axes)
        grid[0].set_ylabel("succeeded, %")
        style.heading(figure, "Belief and reality; beside each point, how many shots")
