"""Measures speed and prints it beside what it is compared with and what it should reach.

    python scripts/bench.py envs
    python scripts/bench.py envs --json runs/bench.json

What a row compares is measured in the same run, on one core, in turn with its anchor. The best of
several rounds counts, because whatever else the machine does can only slow one down.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.envs.config import TableConfig, sample_tables
from jumpy_mbrl.files import write_json

ENV_ID = "Billiards2D-v0"
VECTOR_SIZES = (1, 16, 256, 4096, 16_384)
TORCH_TABLES = 65_536
SECONDS_A_ROUND = 0.3


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the figure, in ``unit``.
        anchor: what it is compared with, if anything.
        ratio: ``value`` over the anchor's figure.
        target: what ``value`` (or, for a row whose unit is "x", the ratio) should reach.
        ok: whether it does; None without a target.
    """

    name: str
    value: float
    unit: str
    anchor: str | None = None
    ratio: float | None = None
    target: str | None = None
    ok: bool | None = None


@dataclass(frozen=True)
class Args:
    """What to measure."""

    what: tyro.conf.Positional[Literal["envs"]]
    """The environments, the dataset maker and the torch engine."""
    json: Path | None = None
    """Write the rows to this file too."""
    rounds: int = 5
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
    for row in bench_envs(_Clock(args.rounds, args.seconds)):
        print(format_row(row), flush=True)
        rows.append(row)
    if args.json is not None:
        write_json(args.json, {"device": describe_device(), "rows": [asdict(r) for r in rows]})
    return 0


def bench_envs(clock: _Clock) -> Iterator[Row]:
    """All rows on the environments."""
    yield from _single_environments(clock)
    yield from _vector_environments(clock)
    yield from _datasets(clock)
    yield from _torch_engine(clock)


class _Clock:
    """Measures rates: how often a second a function does its work."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self.rounds = rounds
        self.seconds = seconds

    def rates(self, *works: Callable[[], int]) -> list[float]:
        """The best rate of each work, which returns how much it did, all measured in turn."""
        for work in works:
            work()
        best = [0.0] * len(works)
        for _ in range(self.rounds):
            for number, work in enumerate(works):
                best[number] = max(best[number], self._rate(work))
        return best

    def _rate(self, work: Callable[[], int]) -> float:
        done, began = 0, time.perf_counter()
        while True:
            done += work()
            elapsed = time.perf_counter() - began
            if elapsed >= self.seconds:
                return done / elapsed


def _stepper(env: Any, steps: int = 500) -> Callable[[], int]:
    """Steps an environment, resetting it whenever an episode ends."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]

    def work() -> int:
        elapsed = 0
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[step % 64])
            elapsed += 1
            if terminated or truncated or elapsed == 44:
                env.reset()
                elapsed = 0
        return steps

    return work


def _single_environments(clock: _Clock) -> Iterator[Row]:
    makers: dict[str, Any] = {
        "CartPole-v1": lambda: gym.make("CartPole-v1"),
        "Pendulum-v1": lambda: gym.make("Pendulum-v1"),
        "coords": lambda: gym.make(ENV_ID),
        "state": lambda: gym.make(ENV_ID, obs_type="state"),
        "pixels": lambda: gym.make(ENV_ID, obs_type="pixels"),
    }
    raw = clock.rates(*(_stepper(make().unwrapped) for make in makers.values()))
    rates = dict(zip(makers, raw, strict=True))
    for name in ("CartPole-v1", "Pendulum-v1"):
        yield Row(f"{name}, unwrapped, resets included", rates[name], "steps/s")
    cartpole = rates["CartPole-v1"]
    targets = {"coords": 150_000.0, "state": None, "pixels": 16_000.0}
    for name, target in targets.items():
        yield _row(
            f"{ENV_ID} {name}, unwrapped, resets included",
            rates[name],
            "steps/s",
            anchor=("CartPole-v1", cartpole),
            at_least=target,
        )
    time_ratio = cartpole / rates["coords"]
    yield Row(
        f"{ENV_ID} coords: time of a step over CartPole-v1's",
        time_ratio,
        "x",
        "CartPole-v1",
        time_ratio,
        "at most 1.5",
        time_ratio <= 1.5,
    )


def _vector_environments(clock: _Clock) -> Iterator[Row]:
    for backend, target in (("numba", 3e6), ("python", 3e5)):
        if backend == "numba" and find_spec("numba") is None:
            continue
        rates = clock.rates(*(_vector_stepper(count, backend) for count in VECTOR_SIZES))
        for count, rate in zip(VECTOR_SIZES, rates, strict=True):
            yield _row(
                f"vector environment, coords, {count} tables, {backend}",
                rate,
                "frames/s",
                anchor=("1 table", rates[0]),
                at_least=target if count == max(VECTOR_SIZES) else None,
            )


def _vector_stepper(count: int, backend: str) -> Callable[[], int]:
    env = gym.make_vec(
        ENV_ID, num_envs=count, vectorization_mode="vector_entry_point", backend=backend
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    steps = max(1, 64 // count)

    def work() -> int:
        for _ in range(steps):
            env.step(actions)
        return steps * count

    return work


def _datasets(clock: _Clock) -> Iterator[Row]:
    for backend, number, target in (("numba", 20_000, 1e5), ("python", 500, 1e4)):
        if backend == "numba" and find_spec("numba") is None:
            continue
        config = DatasetConfig(num_trajectories=number)

        def work(config: DatasetConfig = config, backend: Any = backend) -> int:
            return len(make_dataset(config, backend=backend))

        (rate,) = clock.rates(work)
        yield _row(f"dataset maker, 45 frames, {backend}", rate, "trajectories/s", at_least=target)


def _torch_engine(clock: _Clock) -> Iterator[Row]:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rates = clock.rates(*(_torch_player(device) for device in devices))
    for device, rate in zip(devices, rates, strict=True):
        anchor = ("cpu", rates[0]) if device == "cuda" else None
        yield _row(
            f"torch engine, {TORCH_TABLES} tables, float32, {device}",
            rate,
            "frames/s",
            anchor=anchor,
        )


def _torch_player(device: str) -> Callable[[], int]:
    table = TableConfig()
    tables = sample_tables(table, np.random.default_rng(0), TORCH_TABLES, "moving")
    positions, velocities = (
        torch.as_tensor(array, dtype=torch.float32, device=device) for array in tables
    )
    frames = table.num_frames - 1

    def work() -> int:
        with torch.no_grad():
            torch_physics.advance(positions, velocities, frames * table.dt, table.radius)
        if device == "cuda":
            torch.cuda.synchronize()
        return TORCH_TABLES * frames

    return work


def _row(
    name: str,
    value: float,
    unit: str,
    anchor: tuple[str, float] | None = None,
    at_least: float | None = None,
) -> Row:
    return Row(
        name=name,
        value=value,
        unit=unit,
        anchor=None if anchor is None else anchor[0],
        ratio=None if anchor is None else value / anchor[1],
        target=None if at_least is None else f"at least {at_least:,.0f}",
        ok=None if at_least is None else value >= at_least,
    )


def format_row(row: Row) -> str:
    """A row as one aligned line."""
    value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2f}"
    ratio = "" if row.ratio is None or row.unit == "x" else f"{row.ratio:.2f}x {row.anchor}"
    verdict = "" if row.ok is None else f"{row.target}: {'yes' if row.ok else 'NO'}"
    return f"{row.name:<58} {value:>12} {row.unit:<14} {ratio:<18} {verdict}".rstrip()


def describe_device() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu_cores_used": 1,
        "cpu_cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
        "gymnasium": gym.__version__,
        "numba": find_spec("numba") is not None,
    }


if __name__ == "__main__":
    sys.exit(main())
