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
from jumpy_mbrl.lab import clearing
from jumpy_mbrl.lab.learning import curves
from jumpy_mbrl.lab.pixel_study import page
from jumpy_mbrl.lab.reproduce import table
from jumpy_mbrl.lab.store import markdown, percent, percents, write_text
from jumpy_mbrl.lab.worlds import page as worlds_page
from jumpy_mbrl.lab.worlds import simb
from jumpy_mbrl.locks import take_turns
from jumpy_mbrl.models import pretrained_info

Found = dict[str, Any]

_WON = (
    *("agent", "tables won", "95 % interval", "of those that doing nothing loses"),
    *("95 % interval", "ms a shot", "ticks a rollout"),
)
_GIVEN = (
    *("agent", "what it does", "frames learned from", "samples, to the best weights (in all)"),
    *("training", "weights", "built in"),
)
_LADDER = "jumpy-rnn", "jumpy-flat", "jumpy-entities", "jumpy-space", "jumpy"
"""From what knows nothing to what knows most."""
_FORESEEN = {"validation_mse": ".2g", "validation_mean_jump": ".2f"}
"""What a shipped model tells of itself."""


@dataclass(frozen=True)
class Args:
    """What to do."""

    root: Path = Path()
    """The root of the repository."""
    check: bool = False
    """Change nothing; exit with 1 if a page is not up to date."""


@dataclass(frozen=True)
class Table:
    """A table of a page, between the lines ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    ``lines`` makes it from what the file of results holds, and the file's name.
    """

    name: str
    page: str
    results: str
    lines: Callable[[Found, str], list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    stale = 0
    for entry in TABLES:
        path = args.root / entry.page
        report = json.loads((args.root / entry.results).read_text(encoding="utf-8"))
        lines = entry.lines(report, entry.results)
        page = path.read_text(encoding="utf-8")
        if with_table(page, entry.name, lines) == page:
            continue
        stale += 1
        if args.check:
            print(f"{entry.page}: {entry.name!r} is not what {entry.results} says")
            continue
        with take_turns(path):
            write_text(path, with_table(path.read_text(encoding="utf-8"), entry.name, lines))
        print(f"{entry.page}: wrote {entry.name!r}")
    return int(args.check and stale > 0)


def with_table(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with lines between the markers of ``name``; `ValueError` for one without them."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the markers {begin!r} and {end!r} in the page, in this order")
    return "".join([before, begin, *(f"{line}\n" for line in lines), end, after])


def plan_table(report: Found, results: str) -> list[str]:
    """What plan_eval wrote: how it was made, results, and what agents were given.

    Dashes stand for what an earlier version did not write.
    """
    agents = {name: report["agents"][name] for name in AGENTS if name in report["agents"]}
    first = next(iter(agents.values()))
    lines = [
        f"Printed by `{_plan_command(report, list(agents))} --out {Path(results).parent}` "
        f"({report['protocol']} search, {report['device']}):",
        "",
        *markdown(_WON, (_won_row(name, figures) for name, figures in agents.items())),
    ]
    contested = [part["n"] for figures in agents.values() if (part := figures.get("contested"))]
    if contested:
        lines += ["", f"Doing nothing loses {contested[0]:,} of {first['n']:,} tables."]
    if "rnn" in agents and "jumpy" in agents:
        ratio = agents["rnn"]["ms_per_shot"] / agents["jumpy"]["ms_per_shot"]
        lines += ["", f"Planning time per shot, `rnn` / `jumpy`, at the same search: {ratio:.1f}x."]
    rows = (_given_row(name, figures) for name, figures in agents.items())
    return [*lines, "", *markdown(_GIVEN, rows)]


def ladder_table(report: Found, results: str) -> list[str]:
    """What plan_eval wrote of the agents that plan with jumpy models, by what these know."""
    rows = []
    for name in (name for name in _LADDER if name in report["agents"]):
        figures, checkpoint = report["agents"][name], AGENTS[name].checkpoint
        metrics = pretrained_info(checkpoint)["metrics"] if checkpoint else {}
        foreseen = (
            f"{metrics[key]:{form}}" if key in metrics else "-" for key, form in _FORESEEN.items()
        )
        rows.append([*_won_row(name, figures), *foreseen, _given_row(name, figures)[-1]])
    return [
        f"From `{results}`, of which the README has the command; error (MSE) and mean jump, in "
        "frames, of validation shots (`python scripts/score_shipped.py`):",
        "",
        *markdown([*_WON, "error", "mean jump", "built in"], rows),
    ]


def pixels_table(report: Found, results: str) -> list[str]:
    """What plan_eval wrote of agents that are shown pictures, and of others beside them."""
    agents, rows = report["agents"], []
    for name, figures in agents.items():
        frames, *_, built_in = _given_cells(figures)
        rows.append([*_won_row(name, figures), frames, built_in])
    names = [name.partition(" ")[0] for name in agents]
    return [
        f"Printed by `{_plan_command(report, names)} --out {Path(results).parent}`:",
        "",
        *markdown([*_WON, "frames learned from", "built in"], rows),
    ]


def pixel_study_table(report: Found, results: str) -> list[str]:
    """What the study of pictures wrote."""
    return [f"From `{results}` (`python scripts/study_pixels.py`):", *page(report["parts"])]


def clearing_table(report: Found, results: str) -> list[str]:
    """What the study of several shots wrote."""
    return [
        f"From `{results}` (`python scripts/study_clearing.py`):",
        "",
        *clearing.page(report)[2:],
    ]


def worlds_table(report: Found, results: str) -> list[str]:
    """What the study of other worlds wrote."""
    return [f"From `{results}`:", "", *worlds_page.table(report["worlds"])]


def simb_table(report: Found, results: str) -> list[str]:
    """What the study of SimB wrote."""
    return [f"From `{results}`:", "", *simb.table(report["models"])]


def _plan_command(report: Found, names: list[str]) -> str:
    words = ["python scripts/plan_eval.py --episodes", report["episodes"], "--seed", report["seed"]]
    words += ["--agents", *names] if len(names) < len(AGENTS) else []
    words += ["--obs", report["obs"]] if report.get("obs", "coords") != "coords" else []
    for option, usual in (("env", BILLIARDS_2D), ("table", "default"), ("protocol", "default")):
        words += [f"--{option}", report[option]] if report[option] != usual else []
    ensemble = report.get("ensemble", {})
    words += ["--ensemble"] if ensemble else []
    words += [
        word for name, models in ensemble.items() for model in models for word in (name, model)
    ]
    words += ["--search-ensemble"] if report.get("planner", {}).get("search_ensemble") else []
    return " ".join(map(str, words))


def _won_row(name: str, figures: Found) -> list[str]:
    plans = figures["ticks"] is not None
    is_timed = plans or figures["training_frames"] is not None
    row = [_called(name, figures)]
    for part in (figures, figures.get("contested")):
        row += [percent(part["success"]), percents(part["ci95"])] if part else ["-", "-"]
    row += [f"{figures['ms_per_shot']:.3g}" if is_timed else "-"]
    return [*row, f"{figures['ticks']:.1f}" if plans else "-"]


def _given_row(name: str, figures: Found) -> list[str]:
    return [_called(name, figures), AGENTS[name].description, *_given_cells(figures)]


def _given_cells(figures: Found) -> list[str]:
    """Frames learned from, samples, training, weights, built in."""
    given = figures.get("given", {})
    best, samples = _number(given.get("best_samples")), _number(given.get("samples"))
    seconds, words = given.get("training_seconds"), given.get("built_in")
    return [
        _number(figures["training_frames"]),
        best if samples == "-" else f"{best} ({samples})",
        "-" if seconds is None else f"{round(seconds):,} s",
        _number(given.get("weights")),
        "-" if words is None else "; ".join(words) or "nothing",
    ]


def _called(name: str, figures: Found) -> str:
    models = figures.get("given", {}).get("models", 0)
    return f"`{name}`" if models < 2 else f"`{name}` ({models} models)"


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def task_table(report: Found, results: str) -> list[str]:
    """What reproduce wrote: sample errors and mean jumps side by side."""
    return [*_on_tasks(report), *table.summary(report["tasks"])]


def settings_table(report: Found, results: str) -> list[str]:
    """The same of the networks by all their settings."""
    return [*_on_tasks(report), *table.settings_summary(report["tasks"])]


def _on_tasks(report: Found) -> list[str]:
    models = [entries for models in report["tasks"].values() for entries in models.values()]
    n = min(run["test"]["n"] for entries in models for run in table.succeeded(entries))
    return [
        "Printed by `python scripts/reproduce.py` (all figures: `results/tasks/table1.md`). Sample "
        f"MSE and, in brackets, the mean jump, on {n:,} evaluation sequences, means over training "
        "seeds; of pictures, in square brackets, sample MSE over that of the mean picture:",
        "",
    ]


def bench_table(report: Found, results: str) -> list[str]:
    """What bench.py wrote: the machine, and a row a measurement."""
    device = ", ".join(f"{key} {value}" for key, value in report["device"].items())
    what, rows = Path(results).stem.removeprefix("bench_"), []
    for row in report["rows"]:
        value = f"{row['value']:,.{0 if row['value'] >= 100 else 2}f} {row['unit']}"
        anchored = row["ratio"] is not None and row["unit"] != "x"
        beside = f"{row['ratio']:.2f}x {row['anchor']}" if anchored else ""
        verdict = f"{row['target']}: {'reached' if row['ok'] else 'missed'}"
        rows.append([row["name"], value, beside, verdict if row["target"] else ""])
    return [
        f"One run of `python scripts/bench.py {what} --json {results}` ({device}):",
        "",
        *markdown(("what", "measured", "beside", "target"), rows),
    ]


def learning_table(report: Found, results: str) -> list[str]:
    """What "study_learning.py figure" wrote: where each kind of run got to."""
    out = Path(results).parent
    return [
        f"Kept by `python scripts/study_learning.py figure --out {out}` (every command: "
        f"`{out}/learning.md`):",
        "",
        *curves.format_curves(curves.report_curves(report)),
    ]


def short_learning_table(report: Found, results: str) -> list[str]:
    """The same in short: the planner by experience, and policies at their ends."""
    rows = []
    for curve in curves.report_curves(report):
        for point in curve.by_frames if curve.apart else curve.by_frames[-1:]:
            won = f"{percent(point.success)} ({percents((point.low, point.high))})"
            figures = f"{point.frames:,.0f}", won, f"{point.seconds:,.0f} s", str(point.seeds)
            rows.append([curve.name, *figures])
    return markdown(("who", "frames of balls", "tables won", "training", "seeds"), rows)


def programs_table(report: Found, results: str) -> list[str]:
    """What try_programs wrote: a row a program."""
    rows = []
    for name, figures in report.items():
        others = ", ".join(f"{key} {value}" for key, value in figures["tried_with"].items())
        verdict = "works" if figures["works"] else "fails"
        rows.append([name, figures["version"], others, figures["date"], verdict])
    header = ("program", "version", "with", "on", "what stands below")
    return ["Tried by `python scripts/try_programs.py`:", "", *markdown(header, rows)]


def written_table(report: Found, results: str, name: str) -> list[str]:
    """What the lines on a program wrote."""
    found = report[name]
    return [f"Written by the lines above on {found['date']}:", "", *found["table"]]


TABLES = (
    Table("results", "README.md", "results/plan_eval/results.json", plan_table),
    Table("paper", "docs/planning.md", "results/plan_eval_paper/results.json", plan_table),
    Table("line", "docs/planning.md", "results/tables/line/results.json", plan_table),
    Table("moved", "docs/planning.md", "results/tables/random_target/results.json", plan_table),
    Table("pixels", "docs/planning.md", "results/plan_eval_pixels/results.json", pixels_table),
    Table("pixel-study", "docs/planning.md", "results/pixels/study.json", pixel_study_table),
    Table("clearing", "docs/planning.md", "results/clearing/study.json", clearing_table),
    Table("ladder", "docs/world_models.md", "results/plan_eval/results.json", ladder_table),
    Table("worlds", "docs/your_own_environment.md", "results/worlds/worlds.json", worlds_table),
    Table("simb", "docs/your_own_environment.md", "results/worlds/simb.json", simb_table),
    Table("learning", "docs/reproducing.md", "results/learning/learning.json", learning_table),
    Table("learning-short", "README.md", "results/learning/learning.json", short_learning_table),
    Table("inside", "docs/plugging_in.md", "results/inside/learning.json", learning_table),
    Table("tasks", "README.md", "results/tasks/table1.json", task_table),
    Table("settings", "docs/reproducing.md", "results/tasks/table1.json", settings_table),
    Table("programs", "docs/other_programs.md", "results/programs/programs.json", programs_table),
    Table(
        "solvers",
        "docs/other_programs.md",
        "results/programs/programs.json",
        partial(written_table, name="stable-worldmodel"),
    ),
    Table(
        "torchrl",
        "docs/other_programs.md",
        "results/programs/programs.json",
        partial(written_table, name="torchrl"),
    ),
    Table("bench", "docs/performance.md", "results/bench_envs.json", bench_table),
    Table("bench-pictures", "docs/performance.md", "results/bench_pictures.json", bench_table),
    Table("bench-policies", "docs/performance.md", "results/bench_policies.json", bench_table),
    Table("bench-train", "docs/performance.md", "results/bench_train.json", bench_table),
)
