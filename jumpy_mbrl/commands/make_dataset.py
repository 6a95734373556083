"""Plays billiards trajectories and saves them, with a manifest beside the file.

python scripts/make_dataset.py --path data/train.npz --num-trajectories 100000
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from jumpy_mbrl.data import DatasetConfig, make_dataset
from jumpy_mbrl.data.dataset import manifest_path
from jumpy_mbrl.envs.physics import Backend
from jumpy_mbrl.files import check_writable


@dataclass(frozen=True)
class Args:
    """What to make, and where to put it."""

    path: Path
    """The file to write, ending in .npz; the manifest goes to PATH.json."""
    dataset: Annotated[DatasetConfig, tyro.conf.arg(name="")] = field(default_factory=DatasetConfig)
    """What defines the dataset: the same settings give the same bytes."""
    backend: Backend = "auto"
    """Physics compiled by numba, or in plain Python; auto takes numba where it is installed."""
    workers: int = os.cpu_count() or 1
    """Threads (numba) or processes (plain Python)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes and saves the dataset."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    if args.path.suffix != ".npz":
        raise ValueError(f"expected --path to end in .npz, got {str(args.path)!r}")
    check_writable(args.path, manifest_path(args.path))
    started = time.perf_counter()
    count = args.dataset.num_trajectories
    with tqdm(total=count, desc="playing", unit=" trajectories", unit_scale=True) as bar:
        dataset = make_dataset(
            args.dataset, backend=args.backend, workers=args.workers, progress=bar.update
        )
    dataset.save(args.path)
    seconds = time.perf_counter() - started
    print(f"wrote {args.path}: observations {dataset.obs.shape}, {seconds:.1f} s")
    return 0
