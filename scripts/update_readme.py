"""Writes the results table of README.md from results/plan_eval/results.json.

python scripts/update_readme.py           # after a new plan_eval
python scripts/update_readme.py --check   # exit code 1 if the README tells something else
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jumpy_mbrl.agents import AGENTS
from jumpy_mbrl.files import atomic_write

_BEGIN, _END = "<!-- results:begin -->\n", "<!-- results:end -->\n"


@dataclass(frozen=True)
class Args:
    """What to read and what to write."""

    results: Path = Path("results/plan_eval/results.json")
    """What plan_eval wrote."""
    readme: Path = Path("README.md")
    """The page with the two markers."""
    check: bool = False
    """Change nothing; exit with 1 if the page is not up to date."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    page = args.readme.read_text(encoding="utf-8")
    wanted = with_results(page, json.loads(args.results.read_text(encoding="utf-8")))
    if args.check:
        if wanted != page:
            print(f"{args.readme} is not up to date: run python scripts/update_readme.py")
        return int(wanted != page)
    with atomic_write(args.readme) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
    return 0


def with_results(page: str, report: dict[str, Any]) -> str:
    """The page with the table of ``report`` between its markers.

    Raises:
        ValueError: if the page has no markers.
    """
    if _BEGIN not in page or _END not in page:
        raise ValueError(f"expected the markers {_BEGIN!r} and {_END!r} in the page")
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    return f"{before}{_BEGIN}{results_table(report)}{_END}{after}"


def results_table(report: dict[str, Any]) -> str:
    """Markdown: a line on how it was made, and a row an agent."""
    names = [name for name in AGENTS if name in report["agents"]]
    chosen = "" if len(names) == len(AGENTS) else f" --agents {' '.join(names)}"
    lines = [
        f"Printed by `python scripts/plan_eval.py --episodes {report['episodes']} --seed "
        f"{report['seed']}{chosen} --out results/plan_eval` "
        f"({report['protocol']} search, {report['device']}):",
        "",
        "| agent | what it does | tables won | 95 % interval | ms a shot | ticks a rollout |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        figures = report["agents"][name]
        low, high = (100 * limit for limit in figures["ci95"])
        plans = figures["ticks"] is not None
        cost = f"{figures['ms_per_shot']:.3g} | {figures['ticks']:.1f}" if plans else "- | -"
        lines.append(
            f"| `{name}` | {AGENTS[name].description} | {100 * figures['success']:.1f} % | "
            f"{low:.1f} to {high:.1f} | {cost} |"
        )
    agents = report["agents"]
    if "rnn" in agents and "jumpy" in agents:
        ratio = agents["rnn"]["ms_per_shot"] / agents["jumpy"]["ms_per_shot"]
        lines += ["", f"Planning time per shot, `rnn` / `jumpy`, at the same search: {ratio:.1f}x."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
