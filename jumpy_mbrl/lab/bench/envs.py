"""The speed of the environments, the dataset maker and the torch engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.starts import sample_tables
from jumpy_mbrl.lab.bench.clock import Clock, Row, make_row, ratio_row

ENV_ID = "Billiards2D-v0"
VECTOR_SIZES = (1, 16, 256, 4096, 16_384)
TORCH_TABLES = 65_536


def bench_envs(clock: Clock) -> Iterator[Row]:
    """All rows on the environments."""
    yield from _single_environments(clock)
    yield from _vector_environments(clock)
    yield from _datasets(clock)
    yield from _torch_engine(clock)


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


def _single_environments(clock: Clock) -> Iterator[Row]:
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
        yield make_row(
            f"{ENV_ID} {name}, unwrapped, resets included",
            rates[name],
            "steps/s",
            anchor=("CartPole-v1", cartpole),
            at_least=target,
        )
    time_ratio = cartpole / rates["coords"]
    yield ratio_row(
        f"{ENV_ID} coords: time of a step over CartPole-v1's",
        time_ratio,
        anchor="CartPole-v1",
        at_most=1.5,
    )


def _vector_environments(clock: Clock) -> Iterator[Row]:
    for backend, target in (("numba", 3e6), ("python", 3e5)):
        if backend == "numba" and find_spec("numba") is None:
            continue
        rates = clock.rates(*(_vector_stepper(count, backend) for count in VECTOR_SIZES))
        for count, rate in zip(VECTOR_SIZES, rates, strict=True):
            yield make_row(
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


def _datasets(clock: Clock) -> Iterator[Row]:
    for backend, number, target in (("numba", 20_000, 1e5), ("python", 500, 1e4)):
        if backend == "numba" and find_spec("numba") is None:
            continue
        config = DatasetConfig(num_trajectories=number)

        def work(config: DatasetConfig = config, backend: Any = backend) -> int:
            return len(make_dataset(config, backend=backend))

        (rate,) = clock.rates(work)
        yield make_row(
            f"dataset maker, 45 frames, {backend}", rate, "trajectories/s", at_least=target
        )


def _torch_engine(clock: Clock) -> Iterator[Row]:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rates = clock.rates(*(_torch_player(device) for device in devices))
    for device, rate in zip(devices, rates, strict=True):
        anchor = ("cpu", rates[0]) if device == "cuda" else None
        yield make_row(
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
