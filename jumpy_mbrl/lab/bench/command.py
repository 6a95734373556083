"""Measures speed and prints it beside what it is compared with and what it should reach.

    python scripts/bench.py envs
    python scripts/bench.py train
    python scripts/bench.py policies
    python scripts/bench.py envs --json runs/bench.json

What a row compares is measured in the same run, on one core, in turn with its anchor. The best of
several rounds counts, because whatever else the machine does can only slow one down.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from jumpy_mbrl.files import check_writable, write_json
from jumpy_mbrl.lab.bench.clock import (
    ROUNDS,
    SECONDS_A_ROUND,
    Clock,
    describe_device,
    format_row,
)
from jumpy_mbrl.lab.bench.envs import bench_envs
from jumpy_mbrl.lab.bench.policies import bench_policies
from jumpy_mbrl.lab.bench.train import bench_train

BENCHES = {"envs": bench_envs, "train": bench_train, "policies": bench_policies}


@dataclass(frozen=True)
class Args:
    """What to measure."""

    what: tyro.conf.Positional[Literal["envs", "train", "policies"]]
    """envs: the environments, the dataset maker and the torch engine. train: training steps of the
    world models, and their predictions. policies: PPO on real tables and inside world models."""
    json: Path | None = None
    """Write the rows to this file too, which may be a pipe or /dev/stdout."""
    rounds: int = ROUNDS
    """Rounds of each measurement; the best counts."""
    seconds: float = SECONDS_A_ROUND
    """Length of one round."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    if args.rounds < 1 or not args.seconds > 0:
        print(
            "bench: error: --rounds must be at least 1 and --seconds positive, got "
            f"{args.rounds} and {args.seconds}",
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(1)
    rows = []
    try:
        if args.json is not None:
            check_writable(args.json)
        for row in BENCHES[args.what](Clock(args.rounds, args.seconds)):
            print(format_row(row), flush=True)
            rows.append(row)
        if args.json is not None:
            write_json(args.json, {"device": describe_device(), "rows": [asdict(r) for r in rows]})
    except (ValueError, OSError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    return 0
