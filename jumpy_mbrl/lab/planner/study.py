"""Measures what each stage of the planner is worth, and how many shots succeed in how much time.

    python scripts/study_planner.py                            # both studies, 1,000 tables each
    python scripts/study_planner.py --studies frontier --episodes 200

ablation: the search's stages put on one by one, with our jumpy model.
frontier: success against planning time, for each model under the same budgets.

Written to --out: ablation.json, frontier.json, studies.md, and frontier.png. Agents of the frontier
that are not measured again are kept there, if they were measured with the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from jumpy_mbrl import agents as players
from jumpy_mbrl.agents.planning.config import SearchConfig
from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.checks import check_count, check_names
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation import BATCH_SIZE, Tables, evaluate_agent, make_tables
from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab import store
from jumpy_mbrl.locks import take_turns
from jumpy_mbrl.models.pretrained import from_pretrained, versions
from jumpy_mbrl.processes import called_as, check_at_once

STUDIES = ("ablation", "frontier")
PAGE, PICTURE = "studies.md", "frontier.png"
JUMPY = "jumpy"
SECOND_OPINION = "jumpy-billiards2d"
"""The other member of the ensemble of two."""
FULL = players.PlannerConfig()
_NOT_REFINED: dict[str, Any] = {"gradient_steps": 0}
_UNTESTED: dict[str, Any] = {"finalists": 0}


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
        """`ValueError` for settings that cannot be measured."""
        check_names("study", self.studies, STUDIES)
        check_count("--episodes", self.episodes)
        check_count("--batch-size", self.batch_size)
        check_at_once("--threads", self.threads)
        check_names("agent", self.agents, players.AGENTS)
        loaded = {name: players.load_agent(name) for name in self.agents}
        idle = [n for n, agent in loaded.items() if not isinstance(agent, players.GradientPlanner)]
        if idle:
            raise ValueError(f"--agents must be such that plan, got {idle}")
        if not self.budgets or not all(0 < budget < float("inf") for budget in self.budgets):
            raise ValueError(f"--budgets must be positive, got {self.budgets}")


def main(argv: Sequence[str]) -> int:
    """Measures, keeps what was measured, and prints all of it."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    check_writable(*(args.out / f"{study}.json" for study in args.studies))
    check_writable(args.out / PAGE, args.out / PICTURE)
    kept = {study: kept_in(args.out, study) for study in STUDIES}
    for each in kept.values():
        each.read()  # A damaged one is named before the long work.
    with cpu_threads(args.threads):
        tables = make_tables(args.episodes, args.seed)
        for study in args.studies:
            measured = measure(study, args, tables)
            with kept[study].update() as report:
                _replace(report, measured)
    with take_turns(args.out / PAGE):
        parts = ["# What the planner's parts are worth"]
        for study in STUDIES:
            if report := kept[study].read():
                parts += _section(study, report)
        text = "\n".join(parts) + "\n"
        store.write_text(args.out / PAGE, text)
        if lines := kept["frontier"].read().get("lines"):
            _draw(lines, args.out / PICTURE)
    print(text)
    return 0


# -- searches ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A row of a study: whose model is planned with, how, and what shipped models test it too."""

    name: str
    agent: str = JUMPY
    search: SearchConfig = field(default_factory=players.PlannerConfig)
    ensemble: tuple[str, ...] = ()

    def make(self, seed: int) -> Planner[Any]:
        """The planner; `ValueError` for an agent that is none, or a model that is missing."""
        agent = players.load_agent(self.agent, seed=seed)
        if not isinstance(agent, players.GradientPlanner):
            raise ValueError(f"expected an agent that plans, got {self.agent!r}")
        by_cem = isinstance(self.search, players.CEMConfig)
        kind: Any = players.CEMPlanner if by_cem else players.GradientPlanner
        planner: Planner[Any] = kind(
            agent.model,
            agent.objective,
            replace(self.search, seed=seed),
            oracle=agent.oracle,
            checkpoint=agent.checkpoint,
            device=agent.device,
            ensemble=[from_pretrained(name, agent.device) for name in self.ensemble],
        )
        return planner


def ablation() -> list[Entry]:
    """The stages of the search, put on one by one, and what might replace them."""

    def entry(name: str, **changes: Any) -> Entry:
        return Entry(name, search=replace(FULL, **changes))

    one: dict[str, Any] = {"candidates": 1, "refined": 1}
    eight: dict[str, Any] = {"candidates": 8, "refined": 8}
    return [
        entry("1 candidate", **one, **_NOT_REFINED, **_UNTESTED),
        entry("1 candidate, gradient", **one, **_UNTESTED),
        entry("8 candidates", **eight, **_NOT_REFINED, **_UNTESTED),
        entry("8 candidates, gradient", **eight, **_UNTESTED),
        entry("8 candidates, gradient, robust selection", **eight),
        entry("128 candidates", **_NOT_REFINED, **_UNTESTED),
        entry("128 candidates, gradient", **_UNTESTED),
        entry("128 candidates, robust selection", **_NOT_REFINED),
        entry("128 candidates, gradient, robust selection"),
        Entry("the same, ensemble of two", ensemble=(SECOND_OPINION,)),
        entry("the same, certain shots not refined", skip_certain=True),
        Entry("CEM, robust selection", search=players.CEMConfig()),
    ]


def frontier(agents: Sequence[str], budgets_ms: Sequence[float]) -> dict[str, list[Entry]]:
    """For each agent, by its name, the same search under growing budgets.

    Our model is also left without gradients, and with candidates alone.
    """

    def line(name: str, agent: str, **changes: Any) -> list[Entry]:
        searches = [replace(FULL, budget_ms=budget, **changes) for budget in budgets_ms]
        return [Entry(f"{name}, {each.budget_ms:g} ms", agent, each) for each in searches]

    lines = {agent: line(agent, agent) for agent in agents}
    if JUMPY in agents:
        for part, changes in (
            ("no gradient", _NOT_REFINED),
            ("candidates alone", {**_NOT_REFINED, **_UNTESTED}),
        ):
            lines[f"{JUMPY}, {part}"] = line(f"{JUMPY}, {part}", JUMPY, **changes)
    return lines


def measure(study: str, args: Args, tables: Tables) -> dict[str, Any]:
    """The lines of a study, each a list of entries' figures, and how they were measured."""
    budgets = sorted(args.budgets)
    lines = {JUMPY: ablation()} if study == "ablation" else frontier(args.agents, budgets)
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in lines}
    count = sum(map(len, lines.values())) * len(tables)
    with tqdm(total=count, unit=" shots", dynamic_ncols=True) as bar:
        for name, line in lines.items():
            for entry in line:
                bar.set_description(entry.name)
                planner = entry.make(args.seed)
                result = evaluate_agent(planner, tables, args.batch_size, bar.update).to_dict()
                names = ("checkpoint", "n", "successes", "success", "ci95", "ms_per_shot")
                figures = {key: result[key] for key in (*names, "ticks", "belief")}
                search = {"kind": type(entry.search).__name__, **asdict(entry.search)}
                done[name].append({**asdict(entry), "search": search, **figures})
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


# -- what is kept --------------------------------------------------------------------------------


def kept_in(out: Path, study: str) -> store.Report:
    """What a study wrote to a folder before, or nothing."""
    return store.Report(out / f"{study}.json", {}, lambda report: _section(study, report))


def _replace(report: dict[str, Any], measured: Mapping[str, Any]) -> None:
    """Puts what was measured into a report; other lines stay if they were measured alike."""
    how = {key: value for key, value in measured.items() if key not in ("commands", "lines")}
    new = dict(measured)
    if how.items() <= report.items() and not report["lines"].keys() <= measured["lines"].keys():
        new["lines"] = {**report["lines"], **measured["lines"]}
        new["commands"] = list(dict.fromkeys([*report["commands"], *measured["commands"]]))
    report.clear()
    report.update(new)


def _command(study: str, args: Args) -> str:
    """The command that repeats a study, with all settings that are not the usual ones."""
    settings = {key: getattr(args, key) for key in ("agents", "budgets", "batch_size", "threads")}
    changed = {key: value for key, value in settings.items() if value != getattr(Args, key)}
    always = {"studies": study, "episodes": args.episodes, "seed": args.seed}
    return called_as("study-planner", "study_planner", **always, **changed)


def _section(study: str, report: Mapping[str, Any]) -> list[str]:
    """A study as Markdown, with a row for each search."""
    commands = " and ".join(f"`{command}`" for command in report["commands"])
    rows = [
        [
            row["name"],
            store.percent(row["success"]),
            store.percents(row["ci95"]),
            f"{row['ms_per_shot']:.3g}",
            store.percent(row["belief"]),
        ]
        for line in report["lines"].values()
        for row in line
    ]
    return [
        "",
        f"## {study.capitalize()}",
        "",
        f"Printed by {commands} ({report['device']}, {report['threads']} threads, batches of "
        f"{report['batch_size']}).",
        "",
        *store.markdown(("search", "tables won", "95 % interval", "ms a shot", "believed"), rows),
    ]


def _draw(lines: Mapping[str, Any], path: Path) -> None:
    try:
        from jumpy_mbrl.lab.planner.figures import save_frontier_figure

        save_frontier_figure(lines, path)
    except ImportError as error:
        print(f"{PICTURE} was not drawn: {error}")
