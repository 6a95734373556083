"""Scores the shipped world models on the validation sequences that their weights were chosen by.

    python scripts/score_shipped.py
    python scripts/score_shipped.py --update    # after a change of models or of what is measured

Prints, for each, the error and the mean jump that its config.json tells and those found now;
`--update` writes the latter into it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from jumpy_mbrl import files, locks
from jumpy_mbrl.data import dataset, loading, tasks
from jumpy_mbrl.models import from_pretrained, pretrained_info, shipped_models
from jumpy_mbrl.shipped import CONFIG, ShippedFolders
from jumpy_mbrl.training import validate


@dataclass(frozen=True)
class Args:
    """Which models, and what becomes of their figures."""

    models: tuple[str, ...] = ()
    """All of them by default."""
    update: bool = False
    """Write the figures into their config.json."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    score(tyro.cli(Args, args=argv, description=__doc__))
    return 0


def score(args: Args) -> None:
    """Prints, and with `update` writes, the figures."""
    shipped = ShippedFolders("pretrained", "model", "save_pretrained")
    paths = {name: shipped.find(name) / CONFIG for name in args.models or shipped_models()}
    if args.update:
        files.check_writable(*paths.values())
    for name, path in paths.items():
        told, found = pretrained_info(name)["metrics"], figures_of(name)
        pairs = [f"{key} {told[key]:.6g} now {value:.6g}" for key, value in found.items()]
        print(f"{name}: {', '.join(pairs)}", flush=True)
        if args.update:
            with locks.take_turns(path):
                metrics = {**told, **found}
                files.write_json(path, {**pretrained_info(name), "metrics": metrics})


def figures_of(name: str) -> dict[str, float]:
    """Figures of a shipped model on the sequences that chose its weights, by their names there."""
    with files.entries_of(f"{CONFIG} of {name}", "train it with train_world_model.py"):
        values = pretrained_info(name)["training"]["config"]["validation_data"]
        kind = tasks.TaskConfig if "task" in values else dataset.DatasetConfig
        config = kind.from_dict(values)
    with tempfile.TemporaryDirectory() as folder:
        figures = validate(from_pretrained(name), loading.load_data(config, folder))
    return {f"validation_{key}": value for key, value in figures.items()}
