"""Measures what each stage of the planner is worth, and how many shots succeed in how much time.

    python scripts/study_planner.py                            # both studies, 1,000 tables each
    python scripts/study_planner.py --studies frontier --episodes 200

ablation: the search's stages put on one by one, with our jumpy model.
frontier: success against planning time, for each model under the same budgets.

Written to --out: ablation.json, frontier.json, studies.md, and frontier.png. Agents of the frontier
that are not measured again are kept there, if they were measured with the same settings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Read when torch is loaded: threads that wait sleep, as other programs may want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro
from tqdm import tqdm

from jumpy_mbrl.agents import AGENTS, GradientPlanner, load_agent
from jumpy_mbrl.checks import check_names
from jumpy_mbrl.commands.console import output_may_close
from jumpy_mbrl.evaluation import BATCH_SIZE, AgentResult, Tables, evaluate_agent, make_tables
from jumpy_mbrl.files import atomic_write, check_writable, entries_of, write_json
from jumpy_mbrl.lab.planner.studies import JUMPY, Entry, ablation, frontier
from jumpy_mbrl.locks import take_turns
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.processes import check_at_once

STUDIES = ("ablation", "frontier")
PAGE, PICTURE = "studies.md", "frontier.png"


@dataclass(frozen=True)
class Args:
    """What to measure, and where to write it."""

    studies: tuple[str, ...] = STUDIES
    """Any of ablation, frontier."""
    episodes: int = 1000
    """Number of held-out tables."""
    seed: int = 0
    """Of the tables and of the searches; different seeds have no table in common."""
    agents: tuple[str, ...] = ("rnn", "ode-rnn", "jump-4", "jumpy-rnn", "jumpy", "simulator")
    """Who is compared in the frontier: agents that plan."""
    budgets: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    """Milliseconds a shot in the frontier."""
    batch_size: int = BATCH_SIZE
    """Tables planned for at once."""
    threads: int = 0
    """CPU threads of torch; 0 leaves them as they are."""
    out: Path = Path("runs/planner")
    """Folder for the results."""

    def check(self) -> None:
        """Raises ValueError for settings that cannot be measured."""
        check_names("study", self.studies, STUDIES)
        for name in ("episodes", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        check_at_once("--threads", self.threads)
        check_names("agent", self.agents, AGENTS)
        idle = [name for name in self.agents if not isinstance(load_agent(name), GradientPlanner)]
        if idle:
            raise ValueError(f"--agents must be such that plan, got {idle}")
        if not self.budgets or not all(0 < budget < float("inf") for budget in self.budgets):
            raise ValueError(f"--budgets must be positive, got {self.budgets}")


@output_may_close()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        args.check()
        if args.threads:
            torch.set_num_threads(args.threads)
        check_writable(*(args.out / f"{study}.json" for study in args.studies))
        check_writable(args.out / PAGE, args.out / PICTURE)
        for study in STUDIES:
            _read(args.out / f"{study}.json")  # A damaged one is named before the long work.
        tables = make_tables(args.episodes, args.seed)
        for study in args.studies:
            path = args.out / f"{study}.json"
            report = _measure(study, args, tables)
            with take_turns(path):
                write_json(path, _with_others(report, _read(path)))
        with take_turns(args.out / PAGE):
            text = write_page(args.out)
            _draw(args.out)
        print(text)
    except (ValueError, OSError) as error:
        print(f"study_planner: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(study: str, args: Args, tables: Tables) -> dict[str, Any]:
    """The lines of a study, each a list of entries' figures, and how they were measured."""
    budgets = sorted(args.budgets)
    lines = {JUMPY: ablation()} if study == "ablation" else frontier(args.agents, budgets)
    entries = [entry for line in lines.values() for entry in line]
    with tqdm(total=len(entries) * len(tables), unit=" shots", dynamic_ncols=True) as bar:
        done = {name: list(_figures(line, args, tables, bar)) for name, line in lines.items()}
    return {
        "episodes": args.episodes,
        "seed": args.seed,
        "device": "cpu" if not torch.cuda.is_available() else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "batch_size": args.batch_size,
        "versions": versions(),
        "budgets_ms": budgets if study == "frontier" else [],
        "commands": [_command(study, args)],
        "lines": done,
    }


def _read(path: Path) -> dict[str, Any]:
    """What a study wrote before, or nothing.

    Raises:
        ValueError: if the file holds something else.
    """
    if not path.is_file():
        return {}
    with entries_of(path, "choose another --out"):
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _heading("", report)
        format_lines(report["lines"])
    return report


def _with_others(report: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The report, with the lines of an earlier one that it lacks, if both were measured alike."""
    measured = {key: value for key, value in report.items() if key not in ("commands", "lines")}
    if not measured.items() <= earlier.items():
        return report
    lines = {**earlier["lines"], **report["lines"]}
    if lines.keys() == report["lines"].keys():
        return report
    commands = list(dict.fromkeys([*earlier["commands"], *report["commands"]]))
    return {**report, "commands": commands, "lines": lines}


def _figures(
    line: Sequence[Entry], args: Args, tables: Tables, bar: Any
) -> Iterator[dict[str, Any]]:
    for entry in line:
        bar.set_description(entry.name)
        result: AgentResult = evaluate_agent(
            entry.make(args.seed), tables, args.batch_size, bar.update
        )
        figures = result.to_dict()
        names = ("n", "successes", "success", "ci95", "ms_per_shot", "ticks", "belief")
        yield {
            "name": entry.name,
            "agent": entry.agent,
            "checkpoint": result.checkpoint,
            "ensemble": list(entry.ensemble),
            "search": {"kind": type(entry.search).__name__, **asdict(entry.search)},
            **{name: figures[name] for name in names},
        }


def _command(study: str, args: Args) -> str:
    """The command that repeats a study, with all settings that are not the usual ones."""
    usual = Args()
    words = ["python scripts/study_planner.py --studies", study]
    for name in ("episodes", "seed", "agents", "budgets", "batch_size", "threads"):
        value = getattr(args, name)
        if name in ("episodes", "seed") or value != getattr(usual, name):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)


# -- what is written -----------------------------------------------------------------------------


def write_page(out: Path) -> str:
    """Writes both studies as Markdown, from their files, and returns the text."""
    parts = ["# What the planner's parts are worth"]
    for study in STUDIES:
        report = _read(out / f"{study}.json")
        if report:
            parts += [*_heading(study, report), *format_lines(report["lines"])]
    text = "\n".join(parts) + "\n"
    with atomic_write(out / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _heading(study: str, report: Mapping[str, Any]) -> list[str]:
    commands = " and ".join(f"`{command}`" for command in report["commands"])
    return [
        "",
        f"## {study.capitalize()}",
        "",
        f"Printed by {commands} ({report['device']}, {report['threads']} threads, batches of "
        f"{report['batch_size']}).",
        "",
    ]


def format_lines(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A Markdown table with a row for each search."""
    rows = [
        "| search | tables won | 95 % interval | ms a shot | believed |",
        "|---|---|---|---|---|",
    ]
    for line in lines.values():
        for row in line:
            low, high = (100.0 * end for end in row["ci95"])
            rows.append(
                f"| {row['name']} | {100.0 * row['success']:.1f} % | {low:.1f} to {high:.1f} | "
                f"{row['ms_per_shot']:.3g} | {100.0 * row['belief']:.1f} % |"
            )
    return rows


def _draw(out: Path) -> None:
    if not (out / "frontier.json").is_file():
        return
    try:
        from jumpy_mbrl.lab.planner.figures import save_frontier_figure

        report = json.loads((out / "frontier.json").read_text(encoding="utf-8"))
        save_frontier_figure(report["lines"], out / PICTURE)
    except ImportError as error:
        print(f"{PICTURE} was not drawn: {error}")
