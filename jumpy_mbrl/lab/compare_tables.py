"""Draws one picture of how agents fare on several tables, from what plan_eval.py wrote for each.

    for table in default long three_balls; do
        python scripts/plan_eval.py --table $table --agents jumpy simulator --out runs/tables/$table
    done
    python scripts/compare_tables.py runs/tables/*/results.json --out runs/tables/tables.png

Rows stand in the order of the tables' list, whatever the order of the files. Agents are drawn that
played all of the tables.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.evaluation import VARIANTS
from jumpy_mbrl.files import entries_of
from jumpy_mbrl.lab import style
from jumpy_mbrl.lab.store import span

Figures = Mapping[str, Mapping[str, Any]]
"""Of each agent by name, as results.json holds them."""

_POINTS = {
    "jumpy": style.OURS,
    "simulator": style.ORACLE,
    "none": style.FAINT,
    "random": style.INK,
}
_MODEL = "#6d8795"
_WIDTH = 8.0
_POINT_HEIGHT = 0.19
_GAP = 0.8
"""Between two tables, in points."""


@dataclass(frozen=True)
class Args:
    """What to compare, and where to draw it."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files results.json of plan_eval.py, one for each table."""
    out: Path = Path("tables.png")
    """The picture; the suffix says which format."""


def main(argv: Sequence[str]) -> int:
    """Draws the picture."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    save_tables_figure(in_common(collect(args.results)), args.out)
    print(f"wrote {args.out}")
    return 0


def collect(paths: Sequence[Path]) -> dict[str, Figures]:
    """The figures of the agents on each table, by its name; lines by that of their environment.

    `ValueError` for a file that plan_eval.py did not write, or two of one table.
    """
    known = [(env, table) for env, tables in VARIANTS.items() for table in tables]
    found: dict[tuple[str, str], Figures] = {}
    for path in paths:
        with entries_of(path, "play the table again"):
            report = json.loads(path.read_text(encoding="utf-8"))
        key = (report.get("env"), report.get("table")) if isinstance(report, dict) else None
        if key not in known:
            raise ValueError(f"expected results.json of plan_eval.py, which {path} is not")
        if key in found:
            raise ValueError(f"expected one file for each table, got {path} for {key} again")
        with entries_of(path, "play the table again"):
            for figures in report["agents"].values():
                numbers = [figures["n"], figures["success"], *figures["ci95"]]
                if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
                    raise ValueError(f"the figures of an agent are {figures}")
        found[key] = report["agents"]
    return {
        table if env == BILLIARDS_2D else env: found[env, table]
        for env, table in known
        if (env, table) in found
    }


def in_common(tables: Mapping[str, Figures]) -> dict[str, Figures]:
    """The same tables, with the figures of those agents that played them all."""
    common = set.intersection(*map(set, tables.values())) if tables else set()
    if not common:
        raise ValueError("expected an agent that played all of the tables, got none")
    return {
        table: {name: figures for name, figures in agents.items() if name in common}
        for table, agents in tables.items()
    }


def save_tables_figure(results: Mapping[str, Figures], path: str | os.PathLike[str]) -> None:
    """Draws the success of agents on several tables, a row each, with 95 % intervals."""
    names = list(dict.fromkeys(name for agents in results.values() for name in agents))
    points: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for row, agents in enumerate(results.values()):
        for index, (name, figures) in enumerate(agents.items()):
            place = row + (index - 0.5 * (len(agents) - 1)) / (len(names) + _GAP)
            points[name].append((place, figures["success"], *figures["ci95"]))
    n = span(figures["n"] for agents in results.values() for figures in agents.values())
    caption = f"{n} held-out tables of each kind, played in the real environment; 95 % intervals"
    height = 1.95 + _POINT_HEIGHT * (len(names) + _GAP) * len(results)
    with style.new_figure(path, (_WIDTH, height)) as figure:
        axes = figure.add_axes((1.75 / _WIDTH, 0.75 / height, 5.85 / _WIDTH, 1.0 - 1.95 / height))
        for name, entries in points.items():
            places, *shares = np.array(entries).T
            values, low, high = (100.0 * column for column in shares)
            color = _POINTS.get(name, _MODEL)
            look: Any = {"fmt": "o", "elinewidth": 1.6, "markersize": 7.5, "color": color}
            axes.errorbar(values, places, xerr=(values - low, high - values), label=name, **look)
            for place, value, end in zip(places, values, high, strict=True):
                text = f"{value:.1f}"
                axes.text(end + 1.6, place, text, va="center", fontsize=9.5, color=color)
        style.percent_axis(axes, list(results))
        left = 0.3 / _WIDTH
        figure.text(left, 1.0 - 0.42 / height, "Beyond the default table", **style.TITLE)
        figure.text(left, 1.0 - 0.75 / height, caption, **style.CAPTION)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=len(names),
            frameon=False,
            borderaxespad=0.0,
            handletextpad=0.3,
            columnspacing=1.4,
        )
