"""Trains a world model by a preset and saves the best weights, ready for from_pretrained.

python scripts/train_world_model.py --preset jumpy-rnn --run-dir runs/jumpy-rnn

Every setting of the preset can be changed by an option. A run that was interrupted goes on exactly
with --resume and the options it was started with. The best weights are then in RUN_DIR/best, the
TensorBoard scalars in RUN_DIR.

torchrun --nproc-per-node 2 scripts/train_world_model.py --preset jumpy-rnn --run-dir runs/jumpy-rnn

The same in two processes, on a CUDA device each or on the CPU. Each takes half of every batch.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from jumpy_mbrl import training
from jumpy_mbrl.processes import called_as, end_with
from jumpy_mbrl.training.distributed import WorkersLostError, launched

ERRORS = (training.TrainingDivergedError, WorkersLostError)
Settings = TypeVar("Settings")
_DEFAULT_PRESET = "jumpy-rnn"


@dataclass(frozen=True)
class Arguments:
    """See the module; ``config`` starts from the preset."""

    run_dir: Path
    """Folder for the checkpoint, the scalars and best/. A new run needs a new one."""
    preset: str = _DEFAULT_PRESET
    """The run that the settings below start from."""
    csv: str | None = None
    """The weather file, which the presets weather/MODEL need."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --run-dir."""
    data_dir: Path = Path("data")
    """Folder where datasets are kept; missing ones are made."""
    config: Annotated[training.TrainingConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: training.PRESETS[_DEFAULT_PRESET]
    )


def main(argv: Sequence[str]) -> int:
    """Trains the model."""
    rank, workers = launched()
    if workers > 1:
        end_with(os.getppid())  # torchrun, which cannot end its workers if it is killed itself.
    try:
        arguments = parse(argv)
        best = training.train(
            arguments.config,
            arguments.run_dir,
            resume=arguments.resume,
            data_dir=arguments.data_dir,
            command=record(argv, workers),
        )
    except (ValueError, OSError, *ERRORS) as error:
        if workers == 1:
            raise
        raise ValueError(f"worker {rank} of {workers}: {error}") from error
    if rank == 0:
        print(f"best weights: {best}")
    return 0


def parse(argv: Sequence[str]) -> Arguments:
    """Reads the command line: the preset first, then what changes it."""
    chosen, _ = split(argv, preset=_DEFAULT_PRESET, csv=None)
    config = training.preset(chosen.preset, chosen.csv)
    usual = Arguments(run_dir=tyro.MISSING, preset=chosen.preset, config=config)
    return parse_changes(usual, argv, f"{__doc__}\n\nPresets: {', '.join(training.PRESETS)}.")


def parse_changes(usual: Settings, argv: Sequence[str], about: str) -> Settings:
    """Reads a command line whose defaults are those of a preset."""
    config = (tyro.conf.AvoidSubcommands,)
    args = tyro.cli(type(usual), args=argv, default=usual, description=about, config=config)
    return args


def record(argv: Sequence[str], workers: int = 1) -> str:
    """The command that repeats the run anywhere: without this machine's folders and --resume."""
    found, rest = split(argv, run_dir="", data_dir=None, csv=None, resume=False)
    rest += ["--csv", Path(found.csv).name] if found.csv else []
    call = called_as("train", "train_world_model")
    if workers > 1:
        call = call.removeprefix("python ") if call.startswith("python") else f"--no-python {call}"
        call = f"torchrun --nproc-per-node {workers} {call}"
    return f"{call} {shlex.join([*rest, '--run-dir', Path(found.run_dir).name])}"


def split(argv: Sequence[str], **options: Any) -> tuple[argparse.Namespace, list[str]]:
    """Some options of a command line, by name with their defaults, and all the rest of it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in options.items():
        how: dict[str, Any] = {"default": default}
        if default is False:
            how = {"action": "store_true"}
        parser.add_argument(f"--{name.replace('_', '-')}", **how)
    words = [word.partition("=") for word in argv]
    hyphened = [  # as options are documented; tyro takes underscores too
        (name.replace("_", "-") if name.startswith("--") else name) + equals + value
        for name, equals, value in words
    ]
    return parser.parse_known_args(hyphened)
