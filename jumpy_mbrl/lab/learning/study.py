"""Compares what is learned from so much experience, and in so much time: planner against policies.

    python scripts/study_learning.py planner --run-dir runs/learning --out runs/learning.json
    python scripts/study_learning.py figure --planner runs/learning.json \\
        --policies runs/sac-0 runs/sac-1 runs/sac-2 --out results/learning
    python scripts/study_learning.py figure --out results/learning    # redraw

    python scripts/study_learning.py planner --preset jumpy-rnn --trajectories 100000 \\
        --fewer-steps 300 1000 3000 --run-dir runs/rivals --out runs/rivals.json

planner: trains our jumpy model, or with --preset another, on more and more trajectories, and lets
the planner play with each on the tables on which train_sb3.py validates policies. It goes on where
it was interrupted, and what the file already holds is not done again; several processes may add to
one file, for several presets too.
figure: puts the planner's points beside the curves of policies, one for all seeds of a kind; or,
without a planner, policies that learned inside world models beside those of real tables. Points of
several presets are drawn against time and samples, a curve for each.
Written to --out: learning.json, from which all else can be drawn again, learning.md, learning.png.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

# Read when torch is loaded: threads that wait sleep, as other programs may want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.commands.console import output_may_close
from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.seeds import validation_table_seeds
from jumpy_mbrl.devices import resolve_device
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.files import (
    atomic_write,
    check_writable,
    entries_of,
    read_json,
    to_json,
    write_json,
)
from jumpy_mbrl.lab.learning.curves import PRESET, format_curves, has_rivals, report_curves
from jumpy_mbrl.lab.learning.labels import policy_labels
from jumpy_mbrl.lab.learning.points import (
    POINTS_FORMAT,
    VERSION,
    LearningRun,
    find_point,
    learn_and_play,
    merge_points,
    read_points,
    run_of,
    score_of,
)
from jumpy_mbrl.locks import take_turns
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.processes import check_at_once
from jumpy_mbrl.training import TrainingDivergedError, preset

FORMAT = "jumpy-mbrl learning"
DATA, PAGE, PICTURE = "learning.json", "learning.md", "learning.png"
NAMES = {"none": "doing nothing", "simulator": "the oracle"}
_GAME = {"random_target": False, "start": "moving"}
_LEARNED_ON = {**_GAME, "inside": None}
"""Settings by which policies are on the planner's game, and have its kind of experience."""
_PARTS = {"planner": dict, "policies": list}


@dataclass(frozen=True)
class Planner:
    """Trains world models, and lets the planner play with each."""

    run_dir: Path
    """Folder for the trainings; those that were interrupted go on."""
    out: Path
    """The file of points, written after each."""
    trajectories: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
    """How many to learn from."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of data, weights, batches and searches."""
    preset: str = PRESET
    """What is trained: a preset of a model of shots on a table."""
    steps: int | None = None
    """Updates of each model, by default those of the preset."""
    fewer_steps: tuple[int, ...] = (150, 500, 1500, 5000)
    """Updates of further, shorter trainings on the most trajectories: success against time. In
    each the learning rate falls as far as in the preset."""
    tables: int = 1000
    """The first so many of those on which policies are validated."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu or cuda."""
    threads: int = 0
    """CPU threads of torch; 0 leaves them as they are."""

    def runs(self) -> list[LearningRun]:
        """All trainings, seed by seed.

        Raises:
            ValueError: for settings that cannot be trained or played.
        """
        if not self.trajectories or not self.seeds:
            raise ValueError("--trajectories and --seeds need a number each")
        check_at_once("--threads", self.threads)
        resolve_device(self.device)
        validation_table_seeds(0, self.tables)
        longest = preset(self.preset).steps if self.steps is None else self.steps
        most, runs = max(self.trajectories), []
        for seed in self.seeds:
            sizes = [(number, longest) for number in self.trajectories]
            sizes += [(most, steps) for steps in self.fewer_steps if steps < longest]
            runs += [LearningRun(number, seed, steps, self.preset) for number, steps in sizes]
        return list(dict.fromkeys(runs))

    def do(self) -> None:
        """Makes the points that are missing."""
        runs = self.runs()
        check_writable(self.out)
        if self.threads:
            torch.set_num_threads(self.threads)
        report = self._read()
        tables = make_tables(self.tables, split="validation")
        if not report["references"]:
            report["references"] = {name: score_of(load_agent(name), tables) for name in NAMES}
            report = self._write(report)
        make_dataset(DatasetConfig(num_trajectories=1))  # compiles, which no run shall pay for
        for run in runs:
            point = find_point(report["points"], run)
            if point is None:
                made = learn_and_play(run, tables, self.run_dir / run.name, device=self.device)
                point = made.to_dict()
                report["points"].append(point)
                report = self._write(report)
            print(
                f"{run.name}: {100 * point['success']:.1f} % of {point['n']} tables after "
                f"{point['frames']:,} frames and {point['seconds']:.1f} s"
            )

    def command(self) -> str:
        """What repeats this, with all settings that are not the usual ones."""
        words = ["python scripts/study_learning.py planner"]
        for name in (
            "preset",
            "trajectories",
            "seeds",
            "steps",
            "fewer_steps",
            "tables",
            "device",
            "threads",
        ):
            value = getattr(self, name)
            if value != getattr(Planner, name):
                values = value if isinstance(value, tuple) else (value,)
                words += [f"--{name.replace('_', '-')}", *map(str, values)]
        places = f"--run-dir {self.run_dir.name} --out {self.out.name}"
        return " ".join([*words, places])

    def _read(self) -> dict[str, Any]:
        """What the file holds, or nothing yet."""
        if not self.out.is_file():
            return {
                "format": POINTS_FORMAT,
                "format_version": VERSION,
                "tables": self.tables,
                "references": {},
                "points": [],
                "commands": [],
                "versions": versions(),
            }
        report = read_points(self.out)
        if report["tables"] != self.tables:
            raise ValueError(
                f"expected {report['tables']} tables, which {self.out} is of, got {self.tables}; "
                "play as many, or write to another file"
            )
        return report

    def _write(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Writes a report together with what other processes wrote to the file since."""
        with take_turns(self.out):
            latest = self._read()
            latest["references"] = latest["references"] or report["references"]
            for point in report["points"]:
                if find_point(latest["points"], run_of(point)) is None:
                    latest["points"].append(point)
            commands = [*latest["commands"], *report["commands"], self.command()]
            latest["commands"] = list(dict.fromkeys(commands))
            write_json(self.out, latest)
        return latest


@dataclass(frozen=True)
class Figure:
    """Writes the comparison; what is not given is kept as --out has it."""

    out: Path
    """Folder for learning.json, learning.md and learning.png."""
    policies: tuple[Path, ...] = ()
    """Folders of runs of train_sb3.py."""
    planner: tuple[Path, ...] = ()
    """Files that this script's "planner" wrote, all on the same tables; of several presets without
    policies."""

    def do(self) -> None:
        """Reads, writes and draws."""
        given: dict[str, Any] = {}
        if self.planner:
            given["planner"] = merge_points(self.planner)
        if self.policies:
            given["policies"] = policies(self.policies)
        with take_turns(self.out / DATA):
            text = self._add(given)
        print(text)

    def _add(self, given: Mapping[str, Any]) -> str:
        path = self.out / DATA
        report = _empty()
        if path.is_file():
            report = read_json(path, FORMAT, VERSION, _PARTS)
            with entries_of(path, "give --planner and --policies and another --out"):
                policy_labels([kind["settings"] for kind in report["policies"]])
                page(report)
                to_json(report)
        report.update(given)
        labels = policy_labels([kind["settings"] for kind in report["policies"]])
        for kind, label in zip(report["policies"], labels, strict=True):
            kind["label"] = label
        check_comparable(report)
        if not report["planner"] and not report["policies"]:
            raise ValueError(f"expected --policies or --planner, as there is no {path} to redraw")
        with entries_of("what --planner and --policies name", "make it again"):
            text = page(report)
        write_json(path, report)
        with atomic_write(self.out / PAGE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._draw(report)
        return text

    def _draw(self, report: Mapping[str, Any]) -> None:
        try:
            from jumpy_mbrl.lab.learning.figure import save_learning_figure

            references = report["planner"].get("references", {})
            save_learning_figure(
                report_curves(report),
                references,
                self.out / PICTURE,
                title=title(report),
                rivals=has_rivals(report),
            )
        except ImportError as error:
            print(f"{PICTURE} was not drawn: {error}")


Args = (
    Annotated[Planner, tyro.conf.subcommand("planner")]
    | Annotated[Figure, tyro.conf.subcommand("figure")]
)


@output_may_close()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args: Planner | Figure = tyro.cli(Args, args=argv, description=__doc__)
    try:
        args.do()
    except (ValueError, OSError, TrainingDivergedError) as error:
        print(f"study_learning: {error}", file=sys.stderr)
        return 2
    return 0


# -- what is read --------------------------------------------------------------------------------


def policies(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The runs of policies, put together by kind."""
    from jumpy_mbrl.lab.learning.kinds import read_policy_runs  # only here: SB3 is slow to load

    return [kind.to_dict() for kind in read_policy_runs(folders)]


def check_comparable(report: Mapping[str, Any]) -> None:
    """Policies play one game; beside a planner, that of its model, and on real tables.

    Raises:
        ValueError: if they do not, or stand beside a planner with other models than ours.
    """
    kinds = report["policies"]
    if kinds and has_rivals(report):
        raise ValueError(
            "expected no policies beside several kinds of models, which are drawn against samples, "
            f"got {kinds[0]['label']!r}; draw them apart, with another --out"
        )
    usual = _LEARNED_ON
    if not report["planner"] and kinds:
        usual = {name: kinds[0]["settings"].get(name, value) for name, value in _GAME.items()}
    whose = "as the planner's model does" if report["planner"] else "as the first of them does"
    for kind in kinds:
        settings = kind["settings"]
        other = [name for name, value in usual.items() if settings.get(name, value) != value]
        if other:
            raise ValueError(
                f"expected policies that all learn one game on one kind of tables, {whose}, got "
                f"{kind['label']!r} with another {other[0]}; leave it out"
            )


# -- what is written -----------------------------------------------------------------------------


def title(report: Mapping[str, Any]) -> str:
    """What page and picture are about."""
    kinds = [kind["settings"] for kind in report["policies"]]
    if has_rivals(report):
        return "What training buys the planner, model by model"
    if report["planner"] or not any(settings.get("inside") for settings in kinds):
        return "What experience and time buy"
    learners = sorted({settings["algorithm"]["name"].upper() for settings in kinds})
    return f"{' and '.join(learners)} inside world models"


def page(report: Mapping[str, Any]) -> str:
    """All of it as Markdown."""
    planner = report["planner"]
    told = _on_planner(planner) if planner else []
    told += [_ON_RIVALS] if has_rivals(report) else []
    told += _on_policies(report["policies"]) if report["policies"] else []
    lines = [f"# {title(report)}", "", *format_curves(report_curves(report)), "", " ".join(told)]
    commands = [command for kind in report["policies"] for command in kind["commands"] if command]
    if planner:
        commands = [*planner["commands"], *commands]
    if commands:
        lines += ["", "```bash", *commands, "```"]
    return "\n".join(lines) + "\n"


def _on_planner(planner: Mapping[str, Any]) -> list[str]:
    told = {
        f"{NAMES[name]} wins {100.0 * figures['success']:.1f} %"
        for name, figures in planner["references"].items()
    }
    places = {f"{point['device']}, CPU threads: {point['threads']}" for point in planner["points"]}
    return [
        f"Of the first {planner['tables']:,} of these tables {' and '.join(sorted(told))}.",
        "The planner's frames are those that its model learned from and a tenth more, up to 1,000 "
        "trajectories, by which its weights were chosen; its seconds those of training, the making "
        f"of the data included ({'; '.join(sorted(places))}).",
    ]


_ON_RIVALS = (
    "Models are called by their presets. Samples are updates times batch size. Each row is a "
    "training of its own, whose learning rate falls as far as in the longest. Intervals are "
    "Wilson's, of the tables of all seeds together."
)


def _on_policies(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    told = ["Frames and seconds of policies are without their validations."]
    if any(kind["settings"].get("inside") for kind in kinds):
        told.append(
            "Inside a world model frames after the lead-in are imagined; the frames that the model "
            "itself learned from, and the time of its own training, are not counted."
        )
    return told


def _empty() -> dict[str, Any]:
    return {"format": FORMAT, "format_version": VERSION, "planner": {}, "policies": []}
