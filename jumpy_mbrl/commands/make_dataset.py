"""Plays billiards trajectories and saves them, with a manifest beside the file.

python scripts/make_dataset.py --path data/train.npz --num-trajectories 100000
python scripts/make_dataset.py --format minari --path billiards2d/random-v0   # extra "minari"
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data import DatasetConfig, make_dataset, to_minari
from jumpy_mbrl.data.dataset import manifest_path
from jumpy_mbrl.data.minari import new_place
from jumpy_mbrl.envs import BILLIARDS_1D, BILLIARDS_2D
from jumpy_mbrl.envs.physics import Backend
from jumpy_mbrl.files import check_writable


@dataclass(frozen=True)
class Args:
    """What to make, and where to put it."""

    path: Path
    """The file to write, ending in .npz; the manifest goes to PATH.json. Of a Minari dataset its
    id, such as billiards2d/random-v0."""
    format: Literal["npz", "minari"] = "npz"
    """What to write: a file of ours, or a dataset of Minari, with episodes of the environment that
    plays such shots."""
    by_shots: bool = False
    """Of a Minari dataset: whether a step is a whole shot, as in Billiards2DShot-v0."""
    reference_tables: int = 1000
    """Of a Minari dataset: evaluation tables whose mean return is its ref_min_score, that of random
    shots, and its ref_max_score, that of the simulator's planner; 0 leaves them out."""
    dataset: Annotated[DatasetConfig, tyro.conf.arg(name="")] = field(default_factory=DatasetConfig)
    """What defines the dataset: the same settings give the same bytes."""
    backend: Backend = "auto"
    """Physics compiled by numba, or in plain Python; auto takes numba where it is installed."""
    workers: int = os.cpu_count() or 1
    """Threads (numba) or processes (plain Python)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes and saves the dataset."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    check_count("--reference-tables", args.reference_tables, 0)
    if args.format == "minari":
        new_place(args.path.as_posix())
    else:
        if args.path.suffix != ".npz":
            raise ValueError(f"expected --path to end in .npz, got {str(args.path)!r}")
        check_writable(args.path, manifest_path(args.path))
    started = time.perf_counter()
    with tqdm(
        total=args.dataset.num_trajectories, desc="playing", unit=" trajectories", unit_scale=True
    ) as bar:
        made = (_write_minari if args.format == "minari" else _write_file)(args, bar.update)
    print(f"wrote {args.path}: {made}, {time.perf_counter() - started:.1f} s")
    return 0


def _write_file(args: Args, progress: Callable[[int], None]) -> str:
    dataset = make_dataset(
        args.dataset, backend=args.backend, workers=args.workers, progress=progress
    )
    dataset.save(args.path)
    return f"observations {dataset.obs.shape}"


def _write_minari(args: Args, progress: Callable[[int], None]) -> str:
    who = "none" if args.dataset.shot == "none" else "random"
    what = f"One shot an episode ({who}), on tables of the split {args.dataset.split!r}."
    about: dict[str, Any] = {"algorithm_name": who, "description": what}
    if args.reference_tables:
        low, high = reference_scores(args.dataset, args.reference_tables)
        about |= {"ref_min_score": low, "ref_max_score": high}
        about["num_episodes_average_score"] = args.reference_tables
    name = args.path.as_posix()
    dataset = to_minari(name, args.dataset, by_shots=args.by_shots, progress=progress, **about)
    scores = f", reference scores {low:.3f} and {high:.3f}" if args.reference_tables else ""
    return f"{dataset.total_episodes} episodes, {dataset.total_steps} steps{scores}"


def reference_scores(config: DatasetConfig, count: int) -> tuple[float, float]:
    """Mean return of random shots and of the simulator's planner on the first evaluation tables.

    The reward is 1 where a shot succeeds, so these are their fractions of successes.
    """
    from jumpy_mbrl.agents import load_agent  # Only here: torch is slow to load.
    from jumpy_mbrl.evaluation import evaluate_agent, make_tables
    from jumpy_mbrl.evaluation.tables import Variant

    arguments: dict[str, Any] = {"config": config.table}
    if not config.on_line:
        arguments["start"] = config.start
    game = Variant("", BILLIARDS_1D if config.on_line else BILLIARDS_2D, arguments)
    tables = make_tables(count, variant=game)
    agents = (load_agent(name, task=game.task) for name in ("random", "simulator"))
    low, high = (evaluate_agent(agent, tables).success for agent in agents)
    return low, high
