"""Plays shots of every agent on held-out tables and reports how many succeed, and at what cost.

    python scripts/plan_eval.py --episodes 1000
    python scripts/plan_eval.py --table three_balls --agents jumpy simulator
    python scripts/plan_eval.py --env Billiards1D-v0 --agents none random jumpy simulator
    python scripts/plan_eval.py --agents jumpy --weights jumpy runs/event-jump/best
    python scripts/plan_eval.py --agents rnn --ensemble rnn runs/rnn-1/best rnn runs/rnn-2/best

All agents see the same tables, and of each only the four frames before the shot; "simulator" alone
is told the true state. All planners search alike, so that their times compare. Written to --out:
results.json, results.csv, success.png and calibration.png. compare_tables.py makes one picture of
several tables.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

# Read when torch is loaded: threads that wait sleep. Where other programs want the cores too,
# threads that spin instead made planning five times slower (103 against 20 ms a shot on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gymnasium
import torch
import tyro
from tqdm import tqdm

from jumpy_mbrl.agents import (
    AGENTS,
    PROTOCOLS,
    Agent,
    GradientPlanner,
    OtherGameError,
    PlannerConfig,
    load_agent,
)
from jumpy_mbrl.checks import check_names, unknown_name
from jumpy_mbrl.commands.console import output_may_close
from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.devices import resolve_device
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.evaluation import (
    BATCH_SIZE,
    AgentResult,
    Contested,
    ShotRecord,
    Tables,
    evaluate_agent,
    find_variant,
    given_to,
    make_tables,
    play,
    record_shot,
    training_frames,
)
from jumpy_mbrl.files import atomic_write, check_writable
from jumpy_mbrl.lab.sharding import evaluate_on_ray
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.models.world import OtherWorldWarning
from jumpy_mbrl.processes import check_at_once

FILES = ("results.json", "results.csv", "success.png", "calibration.png")
_CONTACTS_SHOWN = (4, 7)


@dataclass(frozen=True)
class Args:
    """What to play, and where to write it."""

    episodes: int = 1000
    """Number of held-out tables."""
    seed: int = 0
    """Of the tables and of the agents; different seeds have no table in common."""
    env: str = BILLIARDS_2D
    """What is played: Billiards2D-v0, or Billiards1D-v0, where tables are lines."""
    table: str = "default"
    """Which tables: default, random_target, rest, long, small_target, last_frame, three_balls,
    four_balls or five_balls; on lines, default."""
    agents: tuple[str, ...] = ()
    """Who plays, by default all that can: any of none, random, ppo, sac, rnn, ode-rnn, jump-4,
    jumpy-rnn, jumpy, simulator."""
    weights: dict[str, Path] = field(default_factory=dict)
    """Folders to play with in place of what is shipped: an agent's name and its folder, and so on.
    It may be any model, or, for ppo and sac, any policy."""
    ensemble: tuple[tuple[str, Path], ...] = ()
    """Further models for the stress test of a planner: its name and a model, and so on. Their time
    is in the milliseconds a shot."""
    search_ensemble: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let them take part in the search too, by the mean score of all."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read policies that are not shipped, whose pickles can run anything."""
    protocol: str = "default"
    """How much planners search: default, or paper (one start, 20 gradient steps)."""
    device: str = "auto"
    """Where planners compute: auto (CUDA if there is one), cpu or cuda."""
    budget_ms: float | None = None
    """Let planners search for as many milliseconds a shot, and no longer, in place of the
    protocol's numbers of candidates and steps."""
    batch_size: int = BATCH_SIZE
    """Tables planned for at once."""
    threads: int = 0
    """CPU threads of torch; 0 leaves them as they are."""
    ray: str | None = None
    """Address of a Ray cluster whose machines share the tables, "auto", or "local"."""
    workers: int = 1
    """Batches planned for side by side with --ray local."""
    json: Path | None = None
    """Write results.json to this path too, which may be a pipe or /dev/stdout."""
    out: Path = Path("runs/plan_eval")
    """Folder for results.json, results.csv and success.png."""

    def check(self) -> None:
        """Raises ValueError for settings that cannot be played."""
        if self.episodes < 1:
            raise ValueError(f"--episodes must be at least 1, got {self.episodes}")
        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")
        check_at_once("--threads", self.threads)
        if self.workers < 1 or (self.workers > 1 and self.ray is None):
            raise ValueError(f"--workers must be at least 1, and needs --ray, got {self.workers}")
        check_at_once("--workers", self.workers)
        check_names("agent", self.agents, AGENTS)
        check_names("agent", self.weights, self.agents or AGENTS)
        check_names("agent", self.ensembles, self.agents or AGENTS)
        if self.protocol not in PROTOCOLS:
            raise ValueError(unknown_name("protocol", self.protocol, PROTOCOLS))
        find_variant(self.table, self.env)
        evaluation_table_seeds(self.seed, self.episodes)
        resolve_device(self.device)
        self.search()

    @property
    def ensembles(self) -> dict[str, tuple[Path, ...]]:
        """The further models of each agent that has any."""
        names = dict.fromkeys(name for name, _ in self.ensemble)
        return {
            name: tuple(path for agent, path in self.ensemble if agent == name) for name in names
        }

    def search(self) -> PlannerConfig:
        """How planners search.

        Raises:
            ValueError: for an impossible budget.
        """
        return replace(
            PROTOCOLS[self.protocol],
            seed=self.seed,
            budget_ms=self.budget_ms,
            search_ensemble=self.search_ensemble,
        )

    def loaders(self, names: Iterable[str]) -> dict[str, Callable[[], Agent]]:
        """What makes each agent, for this task; can be pickled."""
        load = partial(
            load_agent,
            task=find_variant(self.table, self.env).task,
            config=self.search(),
            device=self.device,
            seed=self.seed,
            trust=self.trust,
        )
        more = self.ensembles
        return {
            name: partial(
                load, name, checkpoint=self.weights.get(name), ensemble=more.get(name, ())
            )
            for name in names
        }


@contextlib.contextmanager
def lines_of_other_worlds() -> Iterator[None]:
    """Within it, a warning of another world is a line on stderr, once for each agent."""
    told = set()
    with warnings.catch_warnings():  # puts back what shows warnings
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, OtherWorldWarning):
                others(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))
                print(f"plan_eval: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


@output_may_close()
@lines_of_other_worlds()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        args.check()
        if args.threads:
            torch.set_num_threads(args.threads)
        check_writable(*(args.out / name for name in FILES), *([args.json] if args.json else []))
        agents = load_agents(args)
        tables = make_tables(args.episodes, args.seed, find_variant(args.table, args.env))
        results = evaluate(args, agents, tables)
        try:
            told = write_results(args, agents, tables, results)
        finally:
            print(format_table(results))
        print(told)
    except (ValueError, OSError, ImportError, OtherWorldWarning) as error:
        print(f"plan_eval: {error}", file=sys.stderr)
        return 2
    return 0


def load_agents(args: Args) -> dict[str, Agent]:
    """The agents by name, ready for the task: those that were named, or all that can play.

    Raises:
        ValueError: if a checkpoint is missing or damaged or not for this task, naming all of them.
    """
    agents: dict[str, Agent] = {}
    problems: list[str] = []
    for name, load in args.loaders(args.agents or AGENTS).items():
        try:
            agents[name] = load()
            # What the report needs: not after all is played.
            training_frames(agents[name]), given_to(agents[name])
        except ValueError as error:
            if isinstance(error, OtherGameError) and not args.agents:
                continue
            problems.append(f"agent {name!r} cannot play: {error}")
    if problems:
        rest = " ".join(agents) or "none random simulator"
        raise ValueError(f"{'; '.join(problems)}. Without them: --agents {rest}")
    return agents


def evaluate(args: Args, agents: Mapping[str, Agent], tables: Tables) -> dict[str, AgentResult]:
    """Every agent's figures, with a progress bar on stderr."""
    results: dict[str, AgentResult] = {}
    with tqdm(total=len(agents) * len(tables), unit=" shots", dynamic_ncols=True) as bar:
        if args.ray is not None:
            return evaluate_on_ray(
                args.loaders(agents),
                tables,
                args.ray,
                args.batch_size,
                args.threads or 1,
                args.workers,
                bar.update,
            )
        for name, agent in agents.items():
            bar.set_description(f"{name:<9}")
            results[name] = evaluate_agent(agent, tables, args.batch_size, bar.update)
    return results


def format_table(results: Mapping[str, AgentResult]) -> str:
    """The results as aligned lines, then what each agent was given."""
    header = ("agent", "success %", "95 % interval", "beyond none %", "95 % interval", "ms/shot")
    rows = [(*header, "ticks", "believed %"), *(_row(*entry) for entry in results.items())]
    lines = _aligned(rows)
    ratio = rnn_over_jumpy(results)
    if ratio is not None:
        lines.append(f"planning time per shot, rnn / jumpy: {ratio:.2f}x")
    first = next(iter(results.values()))
    contested = 0 if first.contested is None else first.contested.n
    lines.append(
        f"beyond none: of the {contested:,} of {first.n:,} tables that doing nothing loses"
    )
    header = ("agent", "frames", "samples to best", "in all", "seconds", "weights")
    given = _aligned([header, *(_given_row(*entry) for entry in results.items())])
    built_in = ["built in", "", *(_built_in(result) for result in results.values())]
    told = [f"{line}  {words}".rstrip() for line, words in zip(given, built_in, strict=True)]
    return "\n".join([*lines, "", *told])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table, with a rule below the first: names left, figures right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return lines


def _row(name: str, result: AgentResult) -> tuple[str, ...]:
    return (
        _called(name, result),
        *_share(result),
        *(("-", "-") if result.contested is None else _share(result.contested)),
        f"{result.ms_per_shot:.3g}" if result.ms_per_shot < 100 else f"{result.ms_per_shot:.0f}",
        "-" if result.ticks is None else f"{result.ticks:.1f}",
        "-" if result.belief is None else f"{100.0 * result.belief:.1f}",
    )


def _share(result: AgentResult | Contested) -> tuple[str, str]:
    low, high = (100.0 * limit for limit in result.ci95)
    return f"{100.0 * result.success:.1f}", f"{low:.1f} to {high:.1f}"


def _given_row(name: str, result: AgentResult) -> tuple[str, ...]:
    given = result.given
    seconds = None if given.training_seconds is None else round(given.training_seconds)
    samples = (given.best_samples, given.samples)
    numbers = (result.training_frames, *samples, seconds, given.weights)
    told = ("-" if number is None else f"{number:,}" for number in numbers)
    return (_called(name, result), *told)


def _called(name: str, result: AgentResult) -> str:
    models = result.given.models
    return name if models < 2 else f"{name} ({models} models)"


def _built_in(result: AgentResult) -> str:
    words = result.given.built_in
    return "-" if words is None else "; ".join(words) or "nothing"


def rnn_over_jumpy(results: Mapping[str, AgentResult]) -> float | None:
    """How many times as long the RNN planner takes as ours; None unless both played."""
    if "rnn" not in results or "jumpy" not in results:
        return None
    return results["rnn"].ms_per_shot / results["jumpy"].ms_per_shot


def write_results(
    args: Args, agents: Mapping[str, Agent], tables: Tables, results: Mapping[str, AgentResult]
) -> str:
    """Writes the JSON, the CSV and the pictures; returns where, for people."""
    report = make_report(args, results)
    paths = [args.out / name for name in FILES[:2]]
    _write_json(paths[0], report)
    _write_csv(paths[1], report)
    problem = ""
    try:
        paths += draw(agents, tables, results, args.out)
    except ImportError as error:
        problem = f"the pictures were not drawn: {error}\n"
    if args.json is not None:  # The last, as a pipe may be closed.
        _write_json(args.json, report)
        paths.append(args.json)
    return f"{problem}wrote {', '.join(str(path) for path in paths)}"


def draw(
    agents: Mapping[str, Agent], tables: Tables, results: Mapping[str, AgentResult], out: Path
) -> list[Path]:
    """Draws success, and the beliefs of those that have any; returns the paths.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    from jumpy_mbrl.lab.planner.figures import save_calibration_figure
    from jumpy_mbrl.lab.success_figure import save_success_figure

    game = None if tables.variant == find_variant() else tables.variant.description
    paths = [out / "success.png"]
    save_success_figure(results, show_shots(agents, tables, results), paths[0], game)
    figures = {name: result.to_dict() for name, result in results.items()}
    if any(entry["calibration"] for entry in figures.values()):
        paths.append(out / "calibration.png")
        save_calibration_figure(figures, paths[-1])
    return paths


def make_report(args: Args, results: Mapping[str, AgentResult]) -> dict[str, Any]:
    """What results.json holds. All but the times follow from the arguments and the versions."""
    return {
        "episodes": args.episodes,
        "seed": args.seed,
        "env": args.env,
        "table": args.table,
        "protocol": args.protocol,
        "device": _device_name(args.device),
        "threads": torch.get_num_threads(),
        "batch_size": args.batch_size,
        "versions": {**versions(), "gymnasium": gymnasium.__version__},
        "planner": asdict(args.search()),
        "ensemble": {name: list(map(str, paths)) for name, paths in args.ensembles.items()},
        "ms_ratio_rnn_jumpy": rnn_over_jumpy(results),
        "agents": {name: result.to_dict() for name, result in results.items()},
    }


def _device_name(device: str) -> str:
    place = resolve_device(device)
    if place.type == "cpu":
        return "cpu"
    return f"{place.type} ({torch.cuda.get_device_name(place)})"


def _write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Keys stay in order, so that agents stand as they played."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, report: Mapping[str, Any]) -> None:
    settings = ("env", "table", "protocol", "device", "threads", "batch_size")
    run = {name: report[name] for name in settings}
    library = {f"version_{name}": value for name, value in sorted(report["versions"].items())}
    columns = ("n", "successes", "success", "ms_per_shot", "ticks", "belief")
    rows = []
    for name, figures in report["agents"].items():
        contested = figures["contested"] or {"ci95": (None, None)}
        given = figures["given"]
        rows.append(
            {
                "agent": name,
                **{column: figures[column] for column in columns},
                "ci95_low": figures["ci95"][0],
                "ci95_high": figures["ci95"][1],
                **{f"contested_{key}": contested.get(key) for key in ("n", "successes", "success")},
                "contested_ci95_low": contested["ci95"][0],
                "contested_ci95_high": contested["ci95"][1],
                **{column: figures[column] for column in ("training_frames", "checkpoint", "seed")},
                **given,
                "built_in": None if given["built_in"] is None else "; ".join(given["built_in"]),
                **run,
                **library,
            }
        )
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show_shots(
    agents: Mapping[str, Agent], tables: Tables, results: Mapping[str, AgentResult]
) -> dict[str, ShotRecord]:
    """Each planner's shot on one table.

    The table is the first on which the last planner's shot has some contacts, but not too many to
    follow; whether the others succeed there plays no part. Lines are not shown.
    """
    planners = {name: agent for name, agent in agents.items() if isinstance(agent, GradientPlanner)}
    if not planners or tables.variant.task.line:
        return {}
    outcomes = play(tables[:100], results[list(planners)[-1]].actions[:100])
    contacts = outcomes.wall_hits + outcomes.ball_hits
    low, high = _CONTACTS_SHOWN
    clear = (outcomes.ball_hits > 0) & (contacts >= low) & (contacts <= high)
    row = int(clear.argmax())
    shots = {}
    for name, planner in planners.items():
        result = results[name]
        belief = None if result.beliefs is None else float(result.beliefs[row])
        shots[name] = record_shot(planner, tables[row : row + 1], result.actions[row], belief)
    return shots
