"""Measures speed and prints it beside what it is compared with and what it should reach.

    python scripts/bench.py envs
    python scripts/bench.py train
    python scripts/bench.py policies
    python scripts/bench.py pictures
    python scripts/bench.py plan --agents jumpy rnn simulator
    python scripts/bench.py envs --json runs/bench.json

What a row compares is measured in the same run, on one core, in turn with its anchor. The best of
several rounds counts, because whatever else the machine does can only slow one down. Plans are made
once each, on one core and on two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from jumpy_mbrl import files
from jumpy_mbrl.lab.bench import clock, envs, pictures, plan, policies, train

BENCHES: dict[str, Callable[..., Iterator[clock.Row]]] = {
    "envs": envs.bench_envs,
    "train": train.bench_train,
    "policies": policies.bench_policies,
    "pictures": pictures.bench_pictures,
    "plan": plan.bench_plan,
}


@dataclass(frozen=True)
class Args:
    """What to measure."""

    what: tyro.conf.Positional[Literal["envs", "train", "policies", "pictures", "plan"]]
    """envs: the environments, the dataset maker and the torch engine. train: training steps of the
    world models, and their predictions. policies: PPO on real tables and inside world models.
    pictures: reading them, and shots from them. plan: shots of planners, for one table or many."""
    json: Path | None = None
    """Write the rows to this file too, which may be a pipe or /dev/stdout."""
    rounds: int = clock.ROUNDS
    """Rounds of each measurement; the best counts."""
    seconds: float = clock.SECONDS_A_ROUND
    """Length of one round."""
    agents: tuple[str, ...] = plan.AGENTS
    """plan: who shoots, the one that the others are compared with first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    torch.set_num_threads(1)
    measure, rows = clock.Clock(args.rounds, args.seconds), []
    if args.json is not None:
        files.check_writable(args.json)
    options = {"agents": args.agents} if args.what == "plan" else {}
    for row in BENCHES[args.what](measure, **options):
        print(clock.format_row(row), flush=True)
        rows.append(asdict(row))
    if args.json is not None:
        cores = max(plan.THREADS) if args.what == "plan" else 1
        files.write_json(args.json, {"device": clock.describe_device(cores), "rows": rows})
    return 0
