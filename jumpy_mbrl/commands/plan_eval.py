"""Plays shots of every agent on held-out tables and reports how many succeed, and at what cost.

    python scripts/plan_eval.py --episodes 1000
    python scripts/plan_eval.py --table three_balls --agents jumpy simulator
    python scripts/plan_eval.py --env Billiards1D-v0 --agents none random jumpy simulator
    python scripts/plan_eval.py --agents jumpy --weights jumpy runs/event-jump/best
    python scripts/plan_eval.py --agents rnn --ensemble rnn runs/rnn-1/best rnn runs/rnn-2/best

All agents see the same tables, and of each only the four frames before the shot; "simulator" alone
is told the true state. With --obs pixels (64x64, colour) "jumpy-pixels", "rnn-pixels",
"jumpy-rnn-pixels", "jumpy-keypoints" and "ppo-pixels" play too, and are shown pictures, and with
pixels28 (28x28, grey) the first three; those that are shown coordinates nevertheless are marked so.
All planners search alike, so that their times compare.
Written to --out: results.json, results.csv, success.png and calibration.png. compare_tables.py
makes one picture of several tables.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import torch
import tyro
from tqdm import tqdm

from jumpy_mbrl import agents as players
from jumpy_mbrl import checks, devices, evaluation
from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.evaluation import AgentResult, Contested
from jumpy_mbrl.files import atomic_write, check_writable
from jumpy_mbrl.lab import sharding
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.processes import check_at_once

ERRORS = (players.OtherWorldWarning,)
FILES = ("results.json", "results.csv", "success.png", "calibration.png")
_CONTACTS_SHOWN = (4, 7)
_MARK = " (coordinates)"
_PIXEL_AGENTS = players.PIXEL_AGENTS.items()
_SHOWN: dict[str, dict[str, str]] = {
    "coords": {},
    "pixels": {name: str(one.checkpoint or one.policy) for name, one in _PIXEL_AGENTS},
    "pixels28": {
        name: "sprite-28-billiards2d"
        for name, one in _PIXEL_AGENTS
        if one.checkpoint == "sprite-64-billiards2d"
    },
}
"""What environments show, and the agents that see it with the shipped model of each."""
_COLUMNS = """n successes success ms_per_shot ticks belief ci95_low ci95_high contested_n
contested_successes contested_success contested_ci95_low contested_ci95_high training_frames
checkpoint seed"""
Agents = Mapping[str, players.Agent]
Results = Mapping[str, AgentResult]


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
    jumpy-rnn, jumpy-flat, jumpy-entities, jumpy-space, jumpy, simulator."""
    weights: dict[str, Path] = field(default_factory=dict)
    """Folders to play with in place of what is shipped: an agent's name and its folder, and so on.
    It may be any model, or, for ppo and sac, any policy, that sees what the agent is shown."""
    ensemble: tuple[tuple[str, Path], ...] = ()
    """Further models for a planner's robust selection: its name and a model, and so on. Their
    time is in the milliseconds a shot."""
    search_ensemble: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let them take part in the search too, by the mean score of all."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read policies that are not shipped, whose pickles can run anything."""
    obs: str = "coords"
    """What the environment shows: coords, pixels or pixels28."""
    camera: str = "plain"
    """What happens to the pictures: plain, noise-2, noise-5, dark, bright, blue-felt or 32."""
    protocol: str = "default"
    """How much planners search: default, or paper (one start, 20 gradient steps)."""
    device: str = "auto"
    """Where planners compute: auto (CUDA if there is one), cpu or cuda."""
    budget_ms: float | None = None
    """Let planners search for as many milliseconds a shot, and no longer, in place of the
    protocol's numbers of candidates and steps."""
    batch_size: int = evaluation.BATCH_SIZE
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
        """`ValueError` for settings that cannot be played."""
        checks.check_count("--episodes", self.episodes)
        checks.check_count("--batch-size", self.batch_size)
        check_at_once("--threads", self.threads)
        if self.workers < 1 or (self.workers > 1 and self.ray is None):
            raise ValueError(f"--workers must be at least 1, and needs --ray, got {self.workers}")
        check_at_once("--workers", self.workers)
        checks.check_choice("--obs", self.obs, _SHOWN)
        checks.check_choice("--camera", self.camera, evaluation.CAMERAS)
        if self.obs == "coords" and self.camera != "plain":
            raise ValueError(f"--camera needs --obs pixels, got {self.camera!r} and no pictures")
        checks.check_names("agent", self.agents, self.known)
        checks.check_names("agent", self.weights, self.agents or self.known)
        checks.check_names("agent", self.ensembles, self.agents or self.known)
        checks.check_choice("protocol", self.protocol, players.PROTOCOLS)
        evaluation.find_variant(self.table, self.env)
        evaluation_table_seeds(self.seed, self.episodes)
        devices.resolve_device(self.device)
        self.search()

    @property
    def known(self) -> tuple[str, ...]:
        """The agents that can be shown what the environment shows."""
        return (*players.AGENTS, *_SHOWN[self.obs])

    @property
    def ensembles(self) -> dict[str, tuple[Path, ...]]:
        """The further models of each agent that has any."""
        found: dict[str, tuple[Path, ...]] = {}
        for name, path in self.ensemble:
            found[name] = (*found.get(name, ()), path)
        return found

    def search(self) -> players.PlannerConfig:
        """How planners search; `ValueError` for an impossible budget."""
        return replace(
            players.PROTOCOLS[self.protocol],
            seed=self.seed,
            budget_ms=self.budget_ms,
            search_ensemble=self.search_ensemble,
        )

    def loaders(self, names: Iterable[str]) -> dict[str, Callable[[], players.Agent]]:
        """What makes each agent, by name or mark, for this task; can be pickled."""
        load = partial(
            players.load_agent,
            task=evaluation.find_variant(self.table, self.env).task,
            config=self.search(),
            device=self.device,
            seed=self.seed,
            trust=self.trust,
        )
        folders, more = {**_SHOWN[self.obs], **self.weights}, self.ensembles
        return {
            self.marked(name): partial(
                load, name, checkpoint=folders.get(name), ensemble=more.get(name, ())
            )
            for name in (name.removesuffix(_MARK) for name in names)
        }

    def marked(self, name: str) -> str:
        """The name of an agent, marked if it is shown coordinates where others see pictures."""
        looks = name not in ("none", "random", *players.PIXEL_AGENTS)
        return name + _MARK if looks and self.obs != "coords" else name


def main(argv: Sequence[str]) -> int:
    """Lets the agents play, writes the results and prints them."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    check_writable(*(args.out / name for name in FILES), *([args.json] if args.json else []))
    with devices.cpu_threads(args.threads), _lines_of_other_worlds():
        agents = load_agents(args)
        variant = evaluation.find_variant(args.table, args.env)
        tables = evaluation.make_tables(args.episodes, args.seed, variant)
        tables = replace(tables, camera=args.camera)
        results = _evaluate(args, agents, tables)
        try:
            told = _write(args, agents, tables, results)
        finally:
            print(format_table(results))
        print(told)
    return 0


@contextlib.contextmanager
def _lines_of_other_worlds() -> Iterator[None]:
    """Within it, a warning of another world is a line on stderr, once for each agent."""
    told = set()
    with warnings.catch_warnings():  # puts back what shows warnings
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, players.OtherWorldWarning):
                others(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))
                print(f"plan_eval: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def load_agents(args: Args) -> dict[str, players.Agent]:
    """The agents by name, ready for the task: those that were named, or all that can play.

    `ValueError` names all whose checkpoint is missing, damaged or not for this task.
    """
    agents: dict[str, players.Agent] = {}
    problems: list[str] = []
    for name, load in args.loaders(args.agents or args.known).items():
        try:
            agents[name] = load()
            # What the report needs: not after all is played.
            evaluation.training_frames(agents[name]), evaluation.given_to(agents[name])
        except ValueError as error:
            if args.agents or not isinstance(error, players.OtherGameError):
                problems.append(f"agent {name!r} cannot play: {error}")
    if problems:
        rest = " ".join(agents) or "none random simulator"
        raise ValueError(f"{'; '.join(problems)}. Without them: --agents {rest}")
    return agents


def _evaluate(args: Args, agents: Agents, tables: evaluation.Tables) -> dict[str, AgentResult]:
    """Every agent's figures, with a progress bar on stderr."""
    results: dict[str, AgentResult] = {}
    with tqdm(total=len(agents) * len(tables), unit=" shots", dynamic_ncols=True) as bar:
        if args.ray is not None:
            return sharding.evaluate_on_ray(
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
            results[name] = evaluation.evaluate_agent(agent, tables, args.batch_size, bar.update)
    return results


# -- what is printed -----------------------------------------------------------------------------


def format_table(results: Results) -> str:
    """The results as aligned lines, then what each agent was given."""
    names = {
        name: f"{name} ({result.given.models} models)" if result.given.models > 1 else name
        for name, result in results.items()
    }
    header = ["agent", "success %", "95 % interval", "beyond none %", "95 % interval", "ms/shot"]
    rows = [[names[name], *_outcome(result)] for name, result in results.items()]
    lines = _aligned([[*header, "ticks", "believed %"], *rows])
    if (ratio := _rnn_over_jumpy(results)) is not None:
        lines.append(f"planning time per shot, rnn / jumpy: {ratio:.2f}x")
    first = next(iter(results.values()))
    contested = 0 if first.contested is None else first.contested.n
    lines += [f"beyond none: of the {contested:,} of {first.n:,} tables that doing nothing loses"]
    header = ["agent", "frames", "samples to best", "in all", "seconds", "weights"]
    rows = [[names[name], *_given(result)] for name, result in results.items()]
    built_in = ["built in", ""]
    for result in results.values():
        words = result.given.built_in
        built_in.append("-" if words is None else "; ".join(words) or "nothing")
    given = zip(_aligned([header, *rows]), built_in, strict=True)
    return "\n".join([*lines, "", *(f"{line}  {words}".rstrip() for line, words in given)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, with a rule below the first: names left, figures right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _outcome(result: AgentResult) -> list[str]:
    ms, ticks, belief = result.ms_per_shot, result.ticks, result.belief
    return [
        *_share(result),
        *_share(result.contested),
        f"{ms:.3g}" if ms < 100 else f"{ms:.0f}",
        "-" if ticks is None else f"{ticks:.1f}",
        "-" if belief is None else f"{100.0 * belief:.1f}",
    ]


def _share(result: AgentResult | Contested | None) -> tuple[str, str]:
    if result is None:
        return "-", "-"
    low, high = (100.0 * limit for limit in result.ci95)
    return f"{100.0 * result.success:.1f}", f"{low:.1f} to {high:.1f}"


def _given(result: AgentResult) -> list[str]:
    given, seconds = result.given, result.given.training_seconds
    numbers = [result.training_frames, given.best_samples, given.samples]
    numbers += [None if seconds is None else round(seconds), given.weights]
    return ["-" if number is None else f"{number:,}" for number in numbers]


def _rnn_over_jumpy(results: Results) -> float | None:
    """How many times as long the RNN planner takes as ours; None unless both played."""
    if "rnn" not in results or "jumpy" not in results:
        return None
    return results["rnn"].ms_per_shot / results["jumpy"].ms_per_shot


# -- what is written -----------------------------------------------------------------------------


def _write(args: Args, agents: Agents, tables: evaluation.Tables, results: Results) -> str:
    """Writes the JSON, the CSV and the pictures; returns where, for people."""
    report = _report(args, results)
    paths = [args.out / name for name in FILES[:2]]
    _write_json(paths[0], report)
    _write_csv(paths[1], report)
    problem = ""
    try:
        paths += _draw(agents, tables, results, args.out)
    except ImportError as error:
        problem = f"the pictures were not drawn: {error}\n"
    if args.json is not None:  # The last, as a pipe may be closed.
        _write_json(args.json, report)
        paths.append(args.json)
    return f"{problem}wrote {', '.join(str(path) for path in paths)}"


def _report(args: Args, results: Results) -> dict[str, Any]:
    """What results.json holds. All but the times follow from the arguments and the versions."""
    place = devices.resolve_device(args.device)
    named = "cpu" if place.type == "cpu" else f"cuda ({torch.cuda.get_device_name(place)})"
    return {
        **{name: getattr(args, name) for name in ("episodes", "seed", "env", "table", "protocol")},
        **({"obs": args.obs, "camera": args.camera} if args.obs != "coords" else {}),
        "device": named,
        "threads": torch.get_num_threads(),
        "batch_size": args.batch_size,
        "versions": {**versions(), "gymnasium": gymnasium.__version__},
        "planner": asdict(args.search()),
        "ensemble": {name: list(map(str, paths)) for name, paths in args.ensembles.items()},
        "ms_ratio_rnn_jumpy": _rnn_over_jumpy(results),
        "agents": {name: result.to_dict() for name, result in results.items()},
    }


def _write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Keys stay in order, so that agents stand as they played."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, report: Mapping[str, Any]) -> None:
    settings = ("env", "table", "protocol", "device", "threads", "batch_size")
    rows = []
    for name, figures in report["agents"].items():
        flat = {**_flat(figures), **_flat(figures["contested"] or {}, "contested_")}
        built_in = figures["given"]["built_in"]
        rows.append(
            {
                "agent": name,
                **{column: flat.get(column) for column in _COLUMNS.split()},
                **figures["given"],
                "built_in": None if built_in is None else "; ".join(built_in),
                **{key: report[key] for key in settings},
                **{f"version_{key}": value for key, value in sorted(report["versions"].items())},
            }
        )
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    low, high = figures.get("ci95", (None, None))
    every = {**figures, "ci95_low": low, "ci95_high": high}
    return {f"{prefix}{key}": value for key, value in every.items()}


def _draw(agents: Agents, tables: evaluation.Tables, results: Results, out: Path) -> list[Path]:
    """Draws success, and the beliefs of those that have any; returns the paths."""
    from jumpy_mbrl.lab.planner.figures import save_calibration_figure
    from jumpy_mbrl.lab.success_figure import save_success_figure

    variant = tables.variant
    game = None if variant == evaluation.find_variant() else variant.description
    paths = [out / "success.png"]
    save_success_figure(results, _shots(agents, tables, results), paths[0], game)
    figures = {name: result.to_dict() for name, result in results.items()}
    if any(entry["calibration"] for entry in figures.values()):
        paths.append(out / "calibration.png")
        save_calibration_figure(figures, paths[-1])
    return paths


def _shots(
    agents: Agents, tables: evaluation.Tables, results: Results
) -> dict[str, evaluation.ShotRecord]:
    """Each planner's shot on one table; lines are not shown.

    The table is the first on which the last planner's shot has some contacts, but not too many to
    follow; whether the others succeed there plays no part.
    """
    planners = {n: a for n, a in agents.items() if isinstance(a, players.GradientPlanner)}
    if not planners or tables.variant.task.line:
        return {}
    outcomes = evaluation.play(tables[:100], results[list(planners)[-1]].actions[:100])
    contacts = outcomes.wall_hits + outcomes.ball_hits
    low, high = _CONTACTS_SHOWN
    clear = (outcomes.ball_hits > 0) & (contacts >= low) & (contacts <= high)
    row = int(clear.argmax())
    shots = {}
    for name, planner in planners.items():
        result = results[name]
        belief = None if result.beliefs is None else float(result.beliefs[row])
        table, action = tables[row : row + 1], result.actions[row]
        shots[name] = evaluation.record_shot(planner, table, action, belief)
    return shots
