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
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jumpy_mbrl.commands.console import output_may_close
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.evaluation import VARIANTS
from jumpy_mbrl.files import entries_of
from jumpy_mbrl.lab.tables_figure import save_tables_figure


@dataclass(frozen=True)
class Args:
    """What to compare, and where to draw it."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files results.json of plan_eval.py, one for each table."""
    out: Path = Path("tables.png")
    """The picture; the suffix says which format."""


@output_may_close()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        tables = collect(args.results)
        save_tables_figure(in_common(tables), args.out)
    except (ValueError, OSError, ImportError) as error:
        print(f"compare_tables: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


def collect(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    """The figures of the agents on each table, by its name; lines by that of their environment.

    Raises:
        ValueError: for a file that plan_eval.py did not write, or two of one table.
    """
    known = [(env, table) for env, tables in VARIANTS.items() for table in tables]
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
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
    return {_row(*key): found[key] for key in known if key in found}


def in_common(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same tables, with the figures of those agents that played them all.

    Raises:
        ValueError: if nobody did.
    """
    names = [set(agents) for agents in tables.values()]
    common = set.intersection(*names) if names else set()
    if not common:
        raise ValueError("expected an agent that played all of the tables, got none")
    return {
        table: {name: figures for name, figures in agents.items() if name in common}
        for table, agents in tables.items()
    }


def _row(env: str, table: str) -> str:
    return table if env == BILLIARDS_2D else env
