"""Pictures of planners: success against time, and belief against reality."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab.style import BAD, FAINT, INK, ORACLE, OURS, PALE, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "rnn": BAD,
    "ode-rnn": "#8a6bb1",
    "jump-4": "#5b6770",
    "jumpy-rnn": "#3b76af",
    "jumpy": OURS,
    "simulator": ORACLE,
}
_DASHES: Any = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MARKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
_PART = ", "
"""After it a line's name says what is left of the search."""


def save_frontier_figure(
    lines: Mapping[str, Sequence[Mapping[str, Any]]], path: str | os.PathLike[str]
) -> None:
    """Draws success against planning time, a line for each model.

    Args:
        lines: by name, entries with ``success``, ``ci95``, ``n`` and ``ms_per_shot``. After a
            comma in a name stands what is left of the search; such lines are broken.
        path: of the picture; the suffix says which format.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is nothing to draw.
    """
    entries = [entry for line in lines.values() for entry in line]
    if not entries:
        raise ValueError("expected searches to draw, got none")
    with new_figure(path, (8.0, 4.8), layout="constrained") as figure:
        axes = figure.subplots()
        drawn: list[str] = []
        for name in sorted(lines, key=lambda name: _PART in name):
            agent = name.split(_PART)[0]
            _draw_line(axes, name, lines[name], _COLORS.get(agent, FAINT), drawn.count(agent))
            drawn.append(agent)
        axes.set_xscale("log")
        axes.set(xlabel="milliseconds a shot", ylabel="success, %", ylim=(0.0, 104.0))
        times = sorted({round(entry["ms_per_shot"], 1) for entry in entries})
        low, high = times[0], times[-1]
        marks = [mark for mark in _MARKS if low * 0.7 <= mark <= high * 1.4]
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
        tidy(axes)
        axes.legend(frameon=False, loc="best", fontsize=10)
        n = max(entry["n"] for entry in entries)
        figure.suptitle(
            f"What time buys: {n:,} held-out tables, 95 % intervals",
            x=0.01,
            ha="left",
            fontsize=13,
            weight="bold",
        )


def _draw_line(
    axes: Axes, name: str, line: Sequence[Mapping[str, Any]], color: str, before: int
) -> None:
    """A line for a search; ``before`` counts the agent's lines drawn before it."""
    ordered = sorted(line, key=lambda entry: float(entry["ms_per_shot"]))
    values = [100.0 * entry["success"] for entry in ordered]
    ends = [[100.0 * end for end in entry["ci95"]] for entry in ordered]
    whole = before == 0
    axes.errorbar(
        [entry["ms_per_shot"] for entry in ordered],
        values,
        yerr=(
            [value - low for value, (low, _) in zip(values, ends, strict=True)],
            [high - value for value, (_, high) in zip(values, ends, strict=True)],
        ),
        color=color,
        linestyle=_DASHES[min(before, len(_DASHES) - 1)],
        marker="o",
        markersize=6 if whole else 4,
        linewidth=1.8 if whole else 1.3,
        elinewidth=1.0,
        label=name,
    )


def save_calibration_figure(
    results: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
    """Draws how often shots succeed against how often they were believed to.

    Args:
        results: figures of each agent by name, as ``AgentResult.to_dict`` and results.json hold
            them; those without ``calibration`` are left out.
        path: of the picture; the suffix says which format.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if no agent has beliefs.
    """
    believers = {name: entry for name, entry in results.items() if entry.get("calibration")}
    if not believers:
        raise ValueError("expected an agent with beliefs, got none")
    with new_figure(path, (2.9 * len(believers) + 0.4, 3.5), layout="constrained") as figure:
        grid = figure.subplots(1, len(believers), squeeze=False, sharey=True)
        for axes, (name, entry) in zip(grid[0], believers.items(), strict=True):
            _draw_calibration(axes, name, entry)
        grid[0, 0].set_ylabel("succeeded, %")
        figure.suptitle(
            "Belief and reality; beside each point, how many shots",
            x=0.01,
            ha="left",
            fontsize=13,
            weight="bold",
        )


def _draw_calibration(axes: Axes, name: str, entry: Mapping[str, Any]) -> None:
    bins = entry["calibration"]
    axes.plot([0, 100], [0, 100], color=PALE, linewidth=1.2, linestyle=(0, (3, 2)))
    beliefs = [100.0 * part["belief"] for part in bins]
    successes = [100.0 * part["success"] for part in bins]
    ends = [wilson_interval(round(part["n"] * part["success"]), part["n"]) for part in bins]
    errors = [[100.0 * end for end in pair] for pair in ends]
    axes.errorbar(
        beliefs,
        successes,
        yerr=(
            [value - low for value, (low, _) in zip(successes, errors, strict=True)],
            [high - value for value, (_, high) in zip(successes, errors, strict=True)],
        ),
        color=_COLORS.get(name, FAINT),
        marker="o",
        linewidth=1.6,
        elinewidth=1.0,
    )
    for part, x, y in zip(bins, beliefs, successes, strict=True):
        axes.annotate(
            f"{part['n']:,}",
            (x, y),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=INK,
        )
    axes.set(xlim=(-12, 104), ylim=(-4, 114), xlabel="believed, %")
    axes.set_title(name, loc="left", fontsize=12, weight="bold", color=INK)
    tidy(axes)
