"""The speed of the environments, the dataset maker and the torch engine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.starts import sample_tables
from jumpy_mbrl.lab.bench.clock import Clock, Row, Work, make_row, make_rows, ratio_row

ENV_ID = "Billiards2D-v0"
CARTPOLE = "CartPole-v1"
VECTOR_SIZES = (1, 16, 256, 4096, 16_384)
TORCH_TABLES = 65_536


def bench_envs(clock: Clock) -> Iterator[Row]:
    """All rows on the environments."""
    yield from _single_environments(clock)
    backends = [name for name in ("numba", "python") if name == "python" or find_spec(name)]
    for backend in backends:
        yield from _vector_environments(clock, backend)
    for backend in backends:
        number, target = (20_000, 1e5) if backend == "numba" else (500, 1e4)
        label = f"dataset maker, 45 frames, {backend}"
        rate = clock.rates({label: _maker(number, backend)})[label]
        yield make_row(label, rate, "trajectories/s", at_least=target)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rates = clock.rates({device: _torch_player(device) for device in devices})
    engine = f"torch engine, {TORCH_TABLES} tables, float32, {{}}"
    yield from make_rows(rates, "frames/s", engine.format, base="cpu")


def _single_environments(clock: Clock) -> Iterator[Row]:
    others = {name: gym.make(name) for name in (CARTPOLE, "Pendulum-v1")}
    targets = {"coords": 150_000.0, "state": None, "pixels": 16_000.0}
    ours = {name: gym.make(ENV_ID, obs_type=name) for name in targets}
    rates = clock.rates({name: _stepper(env.unwrapped) for name, env in (others | ours).items()})
    for name in others:
        yield make_row(f"{name}, unwrapped, resets included", rates[name], "steps/s")
    anchor = CARTPOLE, rates[CARTPOLE]
    for name, target in targets.items():
        label = f"{ENV_ID} {name}, unwrapped, resets included"
        yield make_row(label, rates[name], "steps/s", anchor, target)
    label = f"{ENV_ID} coords: time of a step over {CARTPOLE}'s"
    yield ratio_row(label, rates[CARTPOLE] / rates["coords"], CARTPOLE, at_most=1.5)


def _stepper(env: Any) -> Work:
    """Steps an environment, resetting it whenever an episode ends."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]

    def work() -> int:
        elapsed = 0
        for step in range(500):
            _, _, terminated, truncated, _ = env.step(actions[step % 64])
            elapsed += 1
            if terminated or truncated or elapsed == 44:
                env.reset()
                elapsed = 0
        return 500

    return work


def _vector_environments(clock: Clock, backend: str) -> Iterator[Row]:
    rates = clock.rates({str(size): _vector_stepper(size, backend) for size in VECTOR_SIZES})
    target = 3e6 if backend == "numba" else 3e5
    for size, rate in rates.items():
        label = f"vector environment, coords, {size} tables, {backend}"
        at_least = target if size == str(max(VECTOR_SIZES)) else None
        yield make_row(label, rate, "frames/s", ("1 table", rates["1"]), at_least)


def _vector_stepper(count: int, backend: str) -> Work:
    mode: Any = "vector_entry_point"
    env = gym.make_vec(ENV_ID, num_envs=count, vectorization_mode=mode, backend=backend)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    steps = max(1, 64 // count)

    def work() -> int:
        for _ in range(steps):
            env.step(actions)
        return steps * count

    return work


def _maker(number: int, backend: Any) -> Work:
    config = DatasetConfig(num_trajectories=number)
    return lambda: len(make_dataset(config, backend=backend))


def _torch_player(device: str) -> Work:
    table = TableConfig()
    tables = sample_tables(table, np.random.default_rng(0), TORCH_TABLES, "moving")
    positions, velocities = (torch.as_tensor(t, dtype=torch.float32, device=device) for t in tables)
    frames = table.num_frames - 1

    def work() -> int:
        with torch.no_grad():
            torch_physics.advance(positions, velocities, frames * table.dt, table.radius)
        if device == "cuda":
            torch.cuda.synchronize()
        return TORCH_TABLES * frames

    return work
