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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jumpy_mbrl import training
from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.data import DatasetConfig, make_dataset
from jumpy_mbrl.data.seeds import validation_table_seeds
from jumpy_mbrl.devices import cpu_threads, resolve_device
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.files import check_writable, entries_of, to_json
from jumpy_mbrl.lab import store
from jumpy_mbrl.lab.learning import curves, points
from jumpy_mbrl.lab.learning.curves import PRESET
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.processes import called_as, check_at_once

ERRORS = (training.TrainingDivergedError,)
DATA, PAGE, PICTURE = "learning.json", "learning.md", "learning.png"
NAMES = {"none": "doing nothing", "simulator": "the oracle"}
_EMPTY = {"format": "jumpy-mbrl learning", "format_version": 1, "planner": {}, "policies": []}
_GAME = {"random_target": False, "start": "moving"}


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

    def runs(self) -> list[points.LearningRun]:
        """All trainings, seed by seed; `ValueError` for what cannot be trained or played."""
        if not self.trajectories or not self.seeds:
            raise ValueError("--trajectories and --seeds need a number each")
        check_at_once("--threads", self.threads)
        resolve_device(self.device)
        validation_table_seeds(0, self.tables)
        longest = training.preset(self.preset).steps if self.steps is None else self.steps
        sizes = [(number, longest) for number in self.trajectories]
        most = max(self.trajectories)
        sizes += [(most, steps) for steps in self.fewer_steps if steps < longest]
        runs = [
            points.LearningRun(number, seed, steps, self.preset)
            for seed in self.seeds
            for number, steps in sizes
        ]
        return list(dict.fromkeys(runs))

    def do(self) -> None:
        """Makes the points that are missing; other processes may add to the file meanwhile."""
        runs = self.runs()
        check_writable(self.out)
        kept = points.points_in(self.out, self.tables, versions())
        report = kept.read()
        if report["tables"] != self.tables:
            raise ValueError(
                f"expected {report['tables']} tables, which {self.out} is of, got {self.tables}; "
                "play as many, or write to another file"
            )
        with cpu_threads(self.threads):
            tables = make_tables(self.tables, split="validation")
            if not report["references"]:
                scores = {name: points.score_of(load_agent(name), tables) for name in NAMES}
                with kept.update() as report:
                    report["references"] = report["references"] or scores
            make_dataset(DatasetConfig(num_trajectories=1))  # compiles, which no run shall pay for
            for run in runs:
                point = points.find_point(kept.read()["points"], run)
                if point is None:
                    folder = self.run_dir / run.name
                    point = points.learn_and_play(run, tables, folder, device=self.device)
                    with kept.update() as report:
                        if points.find_point(report["points"], run) is None:
                            report["points"].append(point)
                        commands = [*report["commands"], self.command()]
                        report["commands"] = list(dict.fromkeys(commands))
                print(
                    f"{run.name}: {100 * point['success']:.1f} % of {point['n']} tables after "
                    f"{point['frames']:,} frames and {point['seconds']:.1f} s"
                )

    def command(self) -> str:
        """What repeats this, with all settings that are not the usual ones."""
        names = ("preset", "trajectories", "seeds", "steps", "fewer_steps", "tables", "device")
        settings = {name: getattr(self, name) for name in (*names, "threads")}
        changed = {key: value for key, value in settings.items() if value != getattr(Planner, key)}
        places = {"run_dir": self.run_dir.name, "out": self.out.name}
        return called_as("study-learning", "study_learning", "planner", **changed, **places)


@dataclass(frozen=True)
class Figure:
    """Writes the comparison; what is not given is kept as --out has it, runs of other seeds too."""

    out: Path
    """Folder for learning.json, learning.md and learning.png."""
    policies: tuple[Path, ...] = ()
    """Folders of runs of train_sb3.py."""
    planner: tuple[Path, ...] = ()
    """Files that this script's "planner" wrote, all on the same tables; of several presets without
    policies."""

    def do(self) -> None:
        """Reads, writes and draws."""
        planner = points.merge_points(self.planner) if self.planner else None
        runs: list[dict[str, Any]] = []
        if self.policies:
            # SB3 is slow to load.
            from jumpy_mbrl.lab.learning.kinds import merge_kinds, read_policy_runs

            runs = read_policy_runs(self.policies)
        kept = store.Report(
            self.out / DATA,
            _EMPTY,
            check=lambda content: (
                page(content),
                to_json(content),
                [sorted(curves.runs_of(kind)) for kind in content["policies"]],
            ),
            remedy="give --planner and --policies and another --out",
        )
        with kept.update() as report:
            report["planner"] = planner or report["planner"]
            if runs:
                report["policies"] = merge_kinds(report["policies"], runs)
            check_comparable(report)
            if not report["planner"] and not report["policies"]:
                raise ValueError(
                    f"expected --policies or --planner, as there is no {kept.path} to redraw"
                )
            with entries_of("what --planner and --policies name", "make it again"):
                text = page(report)
            store.write_text(self.out / PAGE, text)
            self._draw(report)
        print(text)

    def _draw(self, report: Mapping[str, Any]) -> None:
        try:
            from jumpy_mbrl.lab.learning import figure

            figure.save_learning_figure(
                curves.report_curves(report),
                report["planner"].get("references", {}),
                self.out / PICTURE,
                title=title(report),
                rivals=curves.has_rivals(report),
            )
        except ImportError as error:
            print(f"{PICTURE} was not drawn: {error}")


Args = (
    Annotated[Planner, tyro.conf.subcommand("planner")]
    | Annotated[Figure, tyro.conf.subcommand("figure")]
)


def main(argv: Sequence[str]) -> int:
    """Runs the command line."""
    args: Planner | Figure = tyro.cli(Args, args=argv, description=__doc__)
    args.do()
    return 0


def check_comparable(report: Mapping[str, Any]) -> None:
    """Policies play one game; beside a planner, that of its model, and on real tables.

    `ValueError` if they do not, or stand beside a planner with other models than ours.
    """
    kinds = report["policies"]
    if kinds and curves.has_rivals(report):
        raise ValueError(
            "expected no policies beside several kinds of models, which are drawn against samples, "
            f"got {kinds[0]['label']!r}; draw them apart, with another --out"
        )
    usual, whose = {**_GAME, "inside": None}, "as the planner's model does"
    if not report["planner"] and kinds:
        usual = {name: kinds[0]["settings"].get(name, value) for name, value in _GAME.items()}
        whose = "as the first of them does"
    for kind in kinds:
        for name, value in usual.items():
            if kind["settings"].get(name, value) != value:
                raise ValueError(
                    f"expected policies that all learn one game on one kind of tables, {whose}, "
                    f"got {kind['label']!r} with another {name}; leave it out"
                )


# -- what is written -----------------------------------------------------------------------------


def title(report: Mapping[str, Any]) -> str:
    """The title of page and picture."""
    kinds = [kind["settings"] for kind in report["policies"]]
    if curves.has_rivals(report):
        return "What training buys the planner, model by model"
    if report["planner"] or not any(settings.get("inside") for settings in kinds):
        return "What experience and time buy"
    learners = sorted({settings["algorithm"]["name"].upper() for settings in kinds})
    return f"{' and '.join(learners)} inside world models"


def page(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    planner, kinds = report["planner"], report["policies"]
    told, commands = [], []
    if planner:
        wins = {
            f"{NAMES[name]} wins {store.percent(figures['success'])}"
            for name, figures in planner["references"].items()
        }
        places = {f"{each['device']}, CPU threads: {each['threads']}" for each in planner["points"]}
        told += [
            f"Of the first {planner['tables']:,} of these tables {' and '.join(sorted(wins))}.",
            "The planner's frames are those that its model learned from and a tenth more, up to "
            "1,000 trajectories, by which its weights were chosen; its seconds those of training, "
            f"the making of the data included ({'; '.join(sorted(places))}).",
        ]
        commands += planner["commands"]
    if curves.has_rivals(report):
        told.append(
            "Models are called by their presets. Samples are updates times batch size. Each row is "
            "a training of its own, whose learning rate falls as far as in the longest."
        )
    told.append(
        "Tables won are interquartile means over seeds, with bootstrap intervals; of fewer than "
        "three seeds, means, with Wilson's."
    )
    if kinds:
        told.append("Frames and seconds of policies are without their validations.")
    if any(kind["settings"].get("inside") for kind in kinds):
        told.append(
            "Inside a world model frames after the context frames are imagined; the frames that "
            "the model itself learned from, and the time of its own training, are not counted."
        )
    commands += [command for kind in kinds for command in kind["commands"] if command]
    table = curves.format_curves(curves.report_curves(report))
    lines = [f"# {title(report)}", "", *table, "", " ".join(told)]
    if commands:
        lines += ["", "```bash", *commands, "```"]
    return "\n".join(lines) + "\n"
