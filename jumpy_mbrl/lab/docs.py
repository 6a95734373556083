"""Writes the tables of README.md and docs/ from the results in results/.

python scripts/update_docs.py           # after a new plan_eval or bench
python scripts/update_docs.py --check   # exit code 1 if a page tells something else
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from jumpy_mbrl.agents import AGENTS
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.files import atomic_write
from jumpy_mbrl.lab.learning.curves import format_curves, report_curves
from jumpy_mbrl.lab.reproduce.table import settings_summary, succeeded, summary
from jumpy_mbrl.locks import take_turns


@dataclass(frozen=True)
class Args:
    """What to do."""

    root: Path = Path()
    """The root of the repository."""
    check: bool = False
    """Change nothing; exit with 1 if a page is not up to date."""


@dataclass(frozen=True)
class Table:
    """A table of a page, between the lines ``<!-- name:begin -->`` and ``<!-- name:end -->``."""

    name: str
    page: str
    results: str
    write: Callable[[dict[str, Any]], str]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    stale = 0
    for table in TABLES:
        path = args.root / table.page
        page = path.read_text(encoding="utf-8")
        report = json.loads((args.root / table.results).read_text(encoding="utf-8"))
        wanted = with_table(page, table.name, table.write(report))
        if wanted == page:
            continue
        stale += 1
        if args.check:
            print(f"{table.page}: {table.name!r} is not what {table.results} says")
            continue
        with take_turns(path), atomic_write(path) as temporary:
            latest = with_table(path.read_text(encoding="utf-8"), table.name, table.write(report))
            temporary.write_text(latest, encoding="utf-8")
        print(f"{table.page}: wrote {table.name!r}")
    return int(args.check and stale > 0)


def with_table(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the markers of ``name``.

    Raises:
        ValueError: if the page does not have each of the two markers once, in order.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the markers {begin!r} and {end!r} in the page, in this order")
    return f"{before}{begin}{text}{end}{after}"


def plan_table(report: dict[str, Any], out: str = "results/plan_eval") -> str:
    """Markdown for what plan_eval wrote: how it was made, results, and what agents were given.

    Dashes stand for what an earlier version did not write.
    """
    names = [name for name in AGENTS if name in report["agents"]]
    chosen = "" if len(names) == len(AGENTS) else f" --agents {' '.join(names)}"
    for option, usual in (("env", BILLIARDS_2D), ("table", "default"), ("protocol", "default")):
        if report[option] != usual:
            chosen += f" --{option} {report[option]}"
    for name, models in report.get("ensemble", {}).items():
        chosen += " --ensemble" * (" --ensemble" not in chosen)
        chosen += "".join(f" {name} {model}" for model in models)
    if report.get("planner", {}).get("search_ensemble"):
        chosen += " --search-ensemble"
    lines = [
        f"Printed by `python scripts/plan_eval.py --episodes {report['episodes']} --seed "
        f"{report['seed']}{chosen} --out {out}` ({report['protocol']} search, {report['device']}):",
        "",
        "| agent | tables won | 95 % interval | of those that doing nothing loses | 95 % interval "
        "| ms a shot | ticks a rollout |",
        "|---|---|---|---|---|---|---|",
    ]
    agents = report["agents"]
    for name in names:
        figures = agents[name]
        plans = figures["ticks"] is not None
        thinks = plans or figures["training_frames"] is not None
        time = f"{figures['ms_per_shot']:.3g}" if thinks else "-"
        ticks = f"{figures['ticks']:.1f}" if plans else "-"
        shares = [*_share(figures), *_share(figures.get("contested"))]
        lines.append(f"| {_called(name, figures)} | {' | '.join(shares)} | {time} | {ticks} |")
    contested = [
        figures["contested"]["n"] for figures in agents.values() if figures.get("contested")
    ]
    if contested:
        lines += ["", f"Doing nothing loses {contested[0]:,} of {agents[names[0]]['n']:,} tables."]
    if "rnn" in agents and "jumpy" in agents:
        ratio = agents["rnn"]["ms_per_shot"] / agents["jumpy"]["ms_per_shot"]
        lines += ["", f"Planning time per shot, `rnn` / `jumpy`, at the same search: {ratio:.1f}x."]
    lines += [
        "",
        "| agent | what it does | frames learned from | samples, to the best weights (in all) "
        "| training | weights | built in |",
        "|---|---|---|---|---|---|---|",
        *(_given_row(name, agents[name]) for name in names),
    ]
    return "\n".join(lines) + "\n"


def _called(name: str, figures: dict[str, Any]) -> str:
    models = figures.get("given", {}).get("models", 0)
    return f"`{name}`" if models < 2 else f"`{name}` ({models} models)"


def _share(figures: dict[str, Any] | None) -> tuple[str, str]:
    if figures is None:
        return "-", "-"
    low, high = (100 * limit for limit in figures["ci95"])
    return f"{100 * figures['success']:.1f} %", f"{low:.1f} to {high:.1f}"


def _given_row(name: str, figures: dict[str, Any]) -> str:
    given = figures.get("given", {})
    frames, weights = _number(figures["training_frames"]), _number(given.get("weights"))
    best, samples = _number(given.get("best_samples")), _number(given.get("samples"))
    if samples != "-":
        best = f"{best} ({samples})"
    seconds = given.get("training_seconds")
    time = "-" if seconds is None else f"{round(seconds):,} s"
    words = given.get("built_in")
    built_in = "-" if words is None else "; ".join(words) or "nothing"
    return (
        f"| {_called(name, figures)} | {AGENTS[name].description} | {frames} | {best} | {time} | "
        f"{weights} | {built_in} |"
    )


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def task_table(report: dict[str, Any]) -> str:
    """Markdown for what reproduce wrote: sample errors and mean jumps side by side."""
    return _task_lines(report, summary(report["tasks"]))


def settings_table(report: dict[str, Any]) -> str:
    """The same of the networks by all their settings."""
    return _task_lines(report, settings_summary(report["tasks"]))


def _task_lines(report: dict[str, Any], table: list[str]) -> str:
    runs = [
        run
        for models in report["tasks"].values()
        for entries in models.values()
        for run in succeeded(entries)
    ]
    lines = [
        "Printed by `python scripts/reproduce.py` (all figures: `results/tasks/table1.md`). Sample "
        "MSE and, in brackets, the mean jump, on "
        f"{min(run['test']['n'] for run in runs):,} evaluation sequences, means over training "
        "seeds; of pictures, in square brackets, sample MSE over that of the mean picture:",
        "",
        *table,
    ]
    return "\n".join(lines) + "\n"


def bench_table(report: dict[str, Any], what: str = "envs") -> str:
    """Markdown for what "bench.py WHAT" wrote: the machine, and a row a measurement."""
    device = ", ".join(f"{key} {value}" for key, value in report["device"].items())
    lines = [
        f"One run of `python scripts/bench.py {what} --json results/bench_{what}.json` ({device}):",
        "",
        "| what | measured | beside | target |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        digits = 0 if row["value"] >= 100 else 2
        value = f"{row['value']:,.{digits}f} {row['unit']}"
        ratio = row["ratio"] if row["unit"] != "x" else None
        beside = "" if ratio is None else f"{ratio:.2f}x {row['anchor']}"
        verdict = "reached" if row["ok"] else "missed"
        target = "" if row["target"] is None else f"{row['target']}: {verdict}"
        lines.append(f"| {row['name']} | {value} | {beside} | {target} |")
    return "\n".join(lines) + "\n"


def learning_table(report: dict[str, Any], out: str) -> str:
    """Markdown for what "study_learning.py figure" wrote: where each kind of run got to."""
    lines = [
        f"Kept by `python scripts/study_learning.py figure --out {out}` (every command: "
        f"`{out}/learning.md`):",
        "",
        *format_curves(report_curves(report)),
    ]
    return "\n".join(lines) + "\n"


def programs_table(report: dict[str, Any]) -> str:
    """Markdown for what try_programs wrote: a row a program."""
    lines = [
        "Tried by `python scripts/try_programs.py`:",
        "",
        "| program | version | with | on | what stands below |",
        "|---|---|---|---|---|",
    ]
    for name, figures in report.items():
        others = ", ".join(f"{key} {value}" for key, value in figures["tried_with"].items())
        verdict = "works" if figures["works"] else "fails"
        lines.append(
            f"| {name} | {figures['version']} | {others} | {figures['date']} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


TABLES = (
    Table("results", "README.md", "results/plan_eval/results.json", plan_table),
    *(
        Table(name, "docs/planning.md", f"{folder}/results.json", partial(plan_table, out=folder))
        for name, folder in (
            ("paper", "results/plan_eval_paper"),
            ("line", "results/tables/line"),
            ("moved", "results/tables/random_target"),
        )
    ),
    *(
        Table(name, page, f"{out}/learning.json", partial(learning_table, out=out))
        for name, page, out in (
            ("learning", "docs/reproducing.md", "results/learning"),
            ("inside", "docs/plugging_in.md", "results/inside"),
        )
    ),
    Table("tasks", "README.md", "results/tasks/table1.json", task_table),
    Table("settings", "docs/reproducing.md", "results/tasks/table1.json", settings_table),
    Table("programs", "docs/other_programs.md", "results/programs/programs.json", programs_table),
    Table("bench", "docs/performance.md", "results/bench_envs.json", bench_table),
    Table(
        "bench-policies",
        "docs/performance.md",
        "results/bench_policies.json",
        partial(bench_table, what="policies"),
    ),
    Table(
        "bench-train",
        "docs/performance.md",
        "results/bench_train.json",
        partial(bench_table, what="train"),
    ),
)
