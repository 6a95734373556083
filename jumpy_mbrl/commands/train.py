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
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from jumpy_mbrl.commands.console import output_may_close
from jumpy_mbrl.processes import end_with
from jumpy_mbrl.training import PRESETS, TrainingConfig, TrainingDivergedError, preset, train
from jumpy_mbrl.training.distributed import WorkersLostError, launched

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
    config: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: PRESETS[_DEFAULT_PRESET]
    )


@output_may_close()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    rank, workers = launched()
    if workers > 1:
        end_with(os.getppid())  # torchrun, which cannot end its workers if it is killed itself.
    try:
        arguments = parse(argv)
        best = train(
            arguments.config,
            arguments.run_dir,
            resume=arguments.resume,
            data_dir=arguments.data_dir,
            command=record(argv, workers),
        )
    except (ValueError, OSError, TrainingDivergedError, WorkersLostError) as error:
        who = f"worker {rank} of {workers}: " if workers > 1 else ""
        print(f"train_world_model: {who}{error}", file=sys.stderr, flush=True)
        return 2
    if rank == 0:
        print(f"best weights: {best}")
    return 0


def parse(argv: Sequence[str]) -> Arguments:
    """Reads the command line: the preset first, then what changes it.

    Raises:
        ValueError: for an unknown preset, or one on weather without its file.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=_DEFAULT_PRESET)
    first.add_argument("--csv")
    chosen = first.parse_known_args(list(argv))[0]
    defaults = Arguments(
        run_dir=tyro.MISSING, preset=chosen.preset, config=preset(chosen.preset, chosen.csv)
    )
    return tyro.cli(
        Arguments,
        args=list(argv),
        default=defaults,
        description=f"{__doc__}\n\nPresets: {', '.join(PRESETS)}.",
        config=(tyro.conf.AvoidSubcommands,),
    )


def record(argv: Sequence[str], workers: int = 1) -> str:
    """The command that repeats the run anywhere: without this machine's folders and --resume."""
    places = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    places.add_argument("--run-dir", type=Path)
    places.add_argument("--data-dir")
    places.add_argument("--csv", type=Path)
    places.add_argument("--resume", action="store_true")
    found, rest = places.parse_known_args(list(argv))
    run_dir: Path = found.run_dir
    rest += ["--csv", found.csv.name] if found.csv else []
    start = ["python"] if workers == 1 else ["torchrun", "--nproc-per-node", str(workers)]
    command = [*start, "scripts/train_world_model.py", *rest, "--run-dir", run_dir.name]
    return shlex.join(command)
