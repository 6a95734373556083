"""Scores the shipped world models on the validation sequences that their weights were chosen by.

    python scripts/score_shipped.py
    python scripts/score_shipped.py --update    # after a change of models or of what is measured

Prints, for each, the error and the mean jump that its config.json tells and those found now;
`--update` writes the latter into it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.loading import SequenceData
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.files import check_writable, entries_of, write_json
from jumpy_mbrl.locks import take_turns
from jumpy_mbrl.models import from_pretrained, pretrained_info, shipped_models
from jumpy_mbrl.shipped import CONFIG, Shelf
from jumpy_mbrl.training import validate


@dataclass(frozen=True)
class Args:
    """Which models, and what becomes of their figures."""

    models: tuple[str, ...] = ()
    """All of them by default."""
    update: bool = False
    """Write the figures into their config.json."""


def validation_data(name: str) -> SequenceData:
    """The sequences that chose the weights of a shipped model."""
    with entries_of(f"{CONFIG} of {name}", "train it with train_world_model.py"):
        values: dict[str, Any] = pretrained_info(name)["training"]["config"]["validation_data"]
        config = (TaskConfig if "task" in values else DatasetConfig).from_dict(values)
    return make_task(config) if isinstance(config, TaskConfig) else make_dataset(config)


def figures_of(name: str) -> dict[str, float]:
    """Validation figures of a shipped model, by their names in its config.json."""
    figures = validate(from_pretrained(name), validation_data(name))
    return {f"validation_{key}": value for key, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        score(args)
    except (ValueError, OSError) as error:
        print(f"score_shipped: {error}", file=sys.stderr)
        return 2
    return 0


def score(args: Args) -> None:
    """Prints, and with `update` writes, the figures."""
    shelf = Shelf("pretrained", "model", "save_pretrained")
    names = args.models or shipped_models()
    if args.update:
        check_writable(*(shelf.find(name) / CONFIG for name in names))
    for name in names:
        told, found = pretrained_info(name)["metrics"], figures_of(name)
        pairs = [f"{key} {told[key]:.6g} now {value:.6g}" for key, value in found.items()]
        print(f"{name}: {', '.join(pairs)}", flush=True)
        if args.update:
            path = shelf.find(name) / CONFIG
            with take_turns(path):
                write_json(path, {**pretrained_info(name), "metrics": {**told, **found}})
