"""Held-out tables, and what becomes of shots on them in the real environment.

Letters: B tables, T frames, N balls, D = 2N (on a line D = N). Positions in table sides, velocities
in sides per time unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.data.seeds import evaluation_table_seeds, validation_table_seeds
from jumpy_mbrl.envs import register_envs
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation.variants import DEFAULT, Variant
from jumpy_mbrl.objectives import Objective, objective_of


@dataclass(frozen=True, eq=False)
class Tables:
    """Held-out tables, watched up to the frame of the shot.

    Attributes:
        seed: of the evaluation, or of the validation.
        reset_seeds: the environment's reset seed of each table, B of them.
        observations: the lead-in frames as the environment shows them, (B, 4, D) float32; with four
            numbers more for the target, where every table has its own. All that an agent is shown.
        positions: true positions at the frame of the shot, (B, D) float64.
        velocities: true velocities then, (B, D) float64.
        targets: (B, 4) float64.
        variant: what is played.
    """

    seed: int
    reset_seeds: range
    observations: NDArray[np.float32]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    targets: NDArray[np.float64]
    variant: Variant

    def __len__(self) -> int:
        return len(self.reset_seeds)

    def __getitem__(self, rows: slice) -> Tables:
        """Some of the tables."""
        return replace(
            self,
            reset_seeds=self.reset_seeds[rows],
            observations=self.observations[rows],
            positions=self.positions[rows],
            velocities=self.velocities[rows],
            targets=self.targets[rows],
        )

    @property
    def config(self) -> TableConfig:
        """The table that all of them are."""
        return self.variant.task.config

    @property
    def frames(self) -> NDArray[np.float32]:
        """The balls in the lead-in frames, (B, 4, D): what a world model is shown."""
        return self.observations[:, :, : self.positions.shape[1]]

    @cached_property
    def idle_wins(self) -> NDArray[np.bool_]:
        """Which of them are won if nothing is done, (B,)."""
        return play(self, np.zeros((len(self), 2), np.float32)).is_success


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of B shots in the real environment.

    Attributes:
        is_success: (B,) bool.
        wall_hits: contacts with walls from the shot to the end of the episode, (B,) int64.
        ball_hits: contacts of balls, likewise.
        paths: positions from the frame of the shot on, (B, T - lead_in, D) float32; NaN after the
            end of the episode.
    """

    is_success: NDArray[np.bool_]
    wall_hits: NDArray[np.int64]
    ball_hits: NDArray[np.int64]
    paths: NDArray[np.float32]


_TABLE_SEEDS = {"evaluation": evaluation_table_seeds, "validation": validation_table_seeds}


def make_tables(
    episodes: int, seed: int = 0, variant: Variant = DEFAULT, split: str = "evaluation"
) -> Tables:
    """Resets the real environment to held-out tables and watches their lead-in.

    Args:
        episodes: number of tables B; fewer give the first ones.
        seed: of the evaluation. Different seeds have no table in common.
        variant: what is played.
        split: "evaluation", or "validation": those by which policies are chosen (see
            ``train_policy``), to compare with their curves and for nothing else.

    Raises:
        ValueError: for a number of episodes or a seed out of range, or an unknown split.
    """
    if split not in _TABLE_SEEDS:
        raise ValueError(unknown_name("split of tables", split, _TABLE_SEEDS))
    reset_seeds = _TABLE_SEEDS[split](seed, episodes)
    env = _make_env(variant)
    lead_in = variant.task.config.lead_in
    frames, infos, targets = [], [], []
    for reset_seed in reset_seeds:
        shown, info = _watch(env, reset_seed, lead_in)
        frames.append(shown)
        infos.append(info)
        targets.append(env.get_wrapper_attr("target"))
    return Tables(
        seed=seed,
        reset_seeds=reset_seeds,
        observations=np.stack(frames),
        positions=np.stack([info["positions"].ravel() for info in infos]),
        velocities=np.stack([info["velocities"].ravel() for info in infos]),
        targets=np.array(targets),
        variant=variant,
    )


def play(tables: Tables, actions: NDArray[np.floating[Any]]) -> Outcomes:
    """Plays one shot on each table in the real environment, to the end of the episode.

    Args:
        tables: B of them.
        actions: (B, 2) in [-1, 1].

    Raises:
        ValueError: for actions of another shape, or not finite.
    """
    if actions.shape != (len(tables), 2):
        raise ValueError(f"expected actions of shape ({len(tables)}, 2), got {actions.shape}")
    env = _make_env(tables.variant)
    size = tables.positions.shape[1]
    played = [
        _play_one(env, reset_seed, action, tables.config, size)
        for reset_seed, action in zip(tables.reset_seeds, actions, strict=True)
    ]
    is_success, wall_hits, ball_hits, paths = zip(*played, strict=True)
    return Outcomes(
        is_success=np.array(is_success, dtype=np.bool_),
        wall_hits=np.array(wall_hits, dtype=np.int64),
        ball_hits=np.array(ball_hits, dtype=np.int64),
        paths=np.stack(paths),
    )


def true_state(agent: Any, tables: Tables) -> Any:
    """The true state in the form of the agent's model: velocities per frame."""
    velocities = tables.velocities * tables.config.dt
    return agent.model.state_from(
        torch.as_tensor(tables.positions, dtype=torch.float32, device=agent.device),
        torch.as_tensor(velocities, dtype=torch.float32, device=agent.device),
    )


def drawn_objective(tables: Tables) -> Objective | None:
    """What to reach where every table has its own target; None where all have that of the game."""
    task = tables.variant.task
    return objective_of(task, tables.targets) if task.random_target else None


def _make_env(variant: Variant) -> gym.Env[Any, Any]:
    register_envs()
    return gym.make(
        variant.env_id,
        max_episode_steps=variant.task.last_frame,
        disable_env_checker=True,
        **variant.arguments,
    )


def _watch(
    env: gym.Env[Any, Any], reset_seed: int, lead_in: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The lead-in frames (lead_in + 1, ...) as they are shown, and the info at the last of them."""
    obs, info = env.reset(seed=reset_seed)
    frames = [obs]
    ignored = np.zeros(2, dtype=np.float32)
    for _ in range(lead_in):
        obs, _, _, _, info = env.step(ignored)
        frames.append(obs)
    return np.stack(frames), info


def _play_one(
    env: gym.Env[Any, Any], reset_seed: int, action: NDArray[Any], config: TableConfig, size: int
) -> tuple[bool, int, int, NDArray[np.float32]]:
    """Success, wall hits and ball hits after the shot, and the path (T - lead_in, D = size)."""
    frames, info = _watch(env, reset_seed, config.lead_in)
    before = info
    path = np.full((config.num_frames - config.lead_in, size), np.nan, dtype=np.float32)
    path[0] = frames[-1, :size]
    frame, over = 0, False
    while not over:
        obs, _, terminated, truncated, info = env.step(action)
        frame += 1
        path[frame] = obs[:size]
        over = terminated or truncated
    walls, balls = (int(info[name] - before[name]) for name in ("wall_hits", "ball_hits"))
    return bool(info["is_success"]), walls, balls, path
