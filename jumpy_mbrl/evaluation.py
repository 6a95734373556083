"""The shot protocol (DESIGN section 6): held-out tables, four frames, one shot, the real outcome.

Letters: B tables, N balls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.agents.base import LEAD_IN_FRAMES, Agent
from jumpy_mbrl.agents.planner import GradientPlanner
from jumpy_mbrl.data.seeds import evaluation_table_seeds

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ENV_ID = "Billiards2D-v0"


@dataclass(frozen=True, eq=False)
class Tables:
    """Held-out tables at the moment of the shot.

    Attributes:
        seeds: the reset seed of each table.
        observations: what an agent sees, the frames 0 to 3, (B, 4, 2N).
        positions, velocities: the truth at frame 3, (B, N, 2), in sides and sides per time unit;
            for the oracle alone.
    """

    seeds: tuple[int, ...]
    observations: Floats
    positions: Doubles
    velocities: Doubles

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True, eq=False)
class Shots:
    """What really happened.

    Attributes:
        success: whether the object ball was in the target at a frame after the shot, (B,).
        hits: ball-ball collisions from the start of the episode to its end, (B,).
        paths: positions at the frames played, one (frames, 2N) array a table, from frame 3 on.
    """

    success: NDArray[np.bool_]
    hits: NDArray[np.int64]
    paths: tuple[Floats, ...]


@dataclass(frozen=True)
class AgentResult:
    """An agent's figures.

    Attributes:
        n: tables played.
        successes: tables won.
        success: their share.
        ci95: 95 % Wilson interval of the share.
        ms_per_shot: planning time, median over batches, after a warm-up.
        ticks: world-model ticks of the imagined shot, mean; None without a world model.
        belief: success that the agent believed in, mean; None without beliefs.
    """

    n: int
    successes: int
    success: float
    ci95: tuple[float, float]
    ms_per_shot: float
    ticks: float | None
    belief: float | None


def wilson_interval(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval of a share (95 % by default).

    Raises:
        ValueError: unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def make_tables(episodes: int, seed: int) -> Tables:
    """The first ``episodes`` held-out tables of an evaluation, played to the shot.

    Raises:
        ValueError: for a number of episodes or a seed out of range.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    seeds = tuple(evaluation_table_seeds(seed, episodes))
    env = gym.make(ENV_ID).unwrapped
    rows = [_lead_in(env, table) for table in seeds]
    return Tables(
        seeds=seeds,
        observations=np.stack([frames for frames, _ in rows]),
        positions=np.stack([info["positions"] for _, info in rows]),
        velocities=np.stack([info["velocities"] for _, info in rows]),
    )


def play(tables: Tables, actions: Floats) -> Shots:
    """Plays one shot (B, 2) on each table in the real environment, to the end."""
    env = gym.make(ENV_ID)
    played = [_play_one(env, *row) for row in zip(tables.seeds, actions, strict=True)]
    return Shots(
        success=np.array([info["is_success"] for info, _ in played]),
        hits=np.array([info["collisions"]["ball"] for info, _ in played]),
        paths=tuple(path for _, path in played),
    )


@dataclass(frozen=True, eq=False)
class Decisions:
    """What an agent chose and believed: actions (B, 2), ms (batches,), belief and ticks (B,)."""

    actions: Floats
    ms_per_shot: Doubles
    belief: Doubles | None
    ticks: Doubles | None


def decide(
    agent: Agent,
    tables: Tables,
    batch_size: int = 100,
    progress: Callable[[int], None] = lambda shots: None,
) -> Decisions:
    """Lets an agent choose its shots, in batches, timing each after a warm-up on the first.

    Raises:
        ValueError: if the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    parts = [slice(i, min(i + batch_size, len(tables))) for i in range(0, len(tables), batch_size)]
    if isinstance(agent, GradientPlanner):
        _choose(agent, tables, parts[0])
    times: list[float] = []
    columns: list[tuple[Any, ...]] = []
    for part in parts:
        began = time.perf_counter()
        columns.append(_choose(agent, tables, part))
        times.append(1000.0 * (time.perf_counter() - began) / (part.stop - part.start))
        progress(part.stop - part.start)
    actions, belief, ticks = (
        None if column[0] is None else np.concatenate(column)
        for column in zip(*columns, strict=True)
    )
    return Decisions(np.asarray(actions, dtype=np.float32), np.array(times), belief, ticks)


def result(decisions: Decisions, shots: Shots) -> AgentResult:
    """The figures of an agent from what it chose and what happened."""
    n, successes = len(shots.success), int(shots.success.sum())
    return AgentResult(
        n=n,
        successes=successes,
        success=successes / n,
        ci95=wilson_interval(successes, n),
        ms_per_shot=float(np.median(decisions.ms_per_shot)),
        ticks=None if decisions.ticks is None else float(decisions.ticks.mean()),
        belief=None if decisions.belief is None else float(decisions.belief.mean()),
    )


def evaluate_agent(agent: Agent, tables: Tables, batch_size: int = 100) -> AgentResult:
    """Chooses a shot for every table, plays it, and counts."""
    decisions = decide(agent, tables, batch_size)
    return result(decisions, play(tables, decisions.actions))


def _choose(agent: Agent, tables: Tables, part: slice) -> tuple[Any, Any, Any]:
    """Actions, beliefs and ticks for some tables."""
    frames = tables.observations[part]
    if not isinstance(agent, GradientPlanner):
        return agent.predict(frames)[0], None, None
    plan = agent.plan(frames, _true_state(agent, tables, part) if agent.oracle else None)
    return plan.action.cpu().numpy(), plan.belief.cpu().numpy(), plan.ticks.cpu().numpy()


def _true_state(agent: GradientPlanner, tables: Tables, part: slice) -> Any:
    model: Any = agent.model
    positions = torch.as_tensor(tables.positions[part], dtype=torch.float32).flatten(1)
    velocities = torch.as_tensor(tables.velocities[part], dtype=torch.float32).flatten(1)
    return model.state_from(
        positions.to(agent.device), (velocities * model.config.dt).to(agent.device)
    )


def _lead_in(env: Any, seed: int) -> tuple[Floats, dict[str, Any]]:
    """Frames 0 to 3 of a table, and the information at the last."""
    obs, info = env.reset(seed=seed)
    frames = [obs]
    nothing = np.zeros(2, dtype=np.float32)
    for _ in range(LEAD_IN_FRAMES - 1):
        obs, _, _, _, info = env.step(nothing)
        frames.append(obs)
    return np.stack(frames), info


def _play_one(env: Any, seed: int, action: Floats) -> tuple[dict[str, Any], Floats]:
    frames, info = _lead_in(env, seed)
    path = [frames[-1]]
    done = False
    while not done:
        obs, _, terminated, truncated, info = env.step(action)
        path.append(obs)
        done = terminated or truncated
    return info, np.stack(path)
