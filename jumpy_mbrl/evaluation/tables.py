"""The games that agents are compared at, held-out tables, and what becomes of shots on them.

Whatever the game, an agent is shown the four frames before its shot, and the target where every
table has its own; the real environment plays the shot.

Letters: B tables, T frames, N balls, D = 2N (on a line D = N). Positions in table sides, velocities
in sides per time unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_choice
from jumpy_mbrl.data.seeds import evaluation_table_seeds, validation_table_seeds
from jumpy_mbrl.envs import BILLIARDS_1D, BILLIARDS_2D, register_envs
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.pixels import USUAL, PixelConfig, rasterizer
from jumpy_mbrl.envs.rules import Task, line_task, plane_task
from jumpy_mbrl.evaluation.cameras import photograph, recolour
from jumpy_mbrl.objectives import Objective, objective_of


@dataclass(frozen=True)
class Variant:
    """A game.

    Attributes:
        description: what is played, in a line.
        env_id: `Billiards2D-v0` or `Billiards1D-v0`.
        arguments: those of the environment.
    """

    description: str
    env_id: str = BILLIARDS_2D
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """What the environment plays."""
        make = line_task if self.env_id == BILLIARDS_1D else plane_task
        return make(**self.arguments)


_ON_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("two moving balls, and one target in the corner", {}),
    "random_target": ("every table has its own target", {"random_target": True}),
    "rest": ("all balls lie still", {"start": "rest"}),
    "long": ("90 frames", {"config": {"num_frames": 90}}),
    # In the middle of the default one: its outer half is out of reach for a ball's centre.
    "small_target": (
        "a target of half the side",
        {"config": {"target": (0.85, 0.95, 0.05, 0.15)}},
    ),
    "last_frame": ("the object ball must be inside at the last frame", {"success": "last"}),
    "three_balls": ("three balls", {"num_balls": 3}),
    "four_balls": ("four balls", {"num_balls": 4}),
    "five_balls": ("five balls", {"num_balls": 5}),
}
VARIANTS: dict[str, dict[str, Variant]] = {
    BILLIARDS_2D: {
        name: Variant(text, BILLIARDS_2D, arguments)
        for name, (text, arguments) in _ON_TABLE.items()
    },
    BILLIARDS_1D: {
        "default": Variant("two balls on a line, and the choice of where one begins", BILLIARDS_1D)
    },
}
"""Every game, by the id of its environment and its name."""

DEFAULT = VARIANTS[BILLIARDS_2D]["default"]


def find_variant(table: str = "default", env_id: str = BILLIARDS_2D) -> Variant:
    """The game of this name; `ValueError` for one that is not in ``VARIANTS``."""
    games = VARIANTS[check_choice("environment", env_id, VARIANTS)]
    return games[check_choice(f"table of {env_id}", table, games)]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out tables, watched up to the frame of the shot.

    Attributes:
        seed: of the evaluation, or of the validation.
        reset_seeds: the environment's reset seed of each table, B of them.
        observations: the context frames as the environment shows them, (B, 4, D) float32; with four
            numbers more for the target, where every table has its own. All that an agent is shown.
        positions: true positions at the frame of the shot, (B, D) float64.
        velocities: true velocities then, (B, D) float64.
        targets: (B, 4) float64.
        variant: what is played.
        camera: what happens to the pictures that agents are shown, one of ``CAMERAS``.
    """

    seed: int
    reset_seeds: range
    observations: NDArray[np.float32]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    targets: NDArray[np.float64]
    variant: Variant
    camera: str = "plain"

    def __len__(self) -> int:
        return len(self.reset_seeds)

    def __getitem__(self, rows: slice) -> HeldOut:
        """Some of the tables."""
        each = ("reset_seeds", "observations", "positions", "velocities", "targets")
        return replace(self, **{name: getattr(self, name)[rows] for name in each})

    @property
    def config(self) -> TableConfig:
        """The table that all of them are."""
        return self.variant.task.config

    @property
    def frames(self) -> NDArray[np.float32]:
        """The balls in the context frames, (B, 4, D): what a world model is shown."""
        return self.observations[:, :, : self.positions.shape[1]]

    def shown_to(self, agent: Any) -> NDArray[Any]:
        """What an agent is shown: the ``observations``, without targets if it plans; or pictures of
        the format that it says it sees, its ``picture``."""
        picture = getattr(agent, "picture", None)
        if picture is not None:
            return self.pictures(picture)
        return (self.frames if hasattr(agent, "plan") else self.observations).copy()

    def pictures(self, picture: tuple[int, int, int]) -> NDArray[np.uint8]:
        """The context frames as the camera shows them, (B, 4, *picture), of (h, w, C) each."""
        B, T = self.frames.shape[:2]
        painter = rasterizer(PixelConfig(picture[0], picture[2]), self.config.radius, USUAL)
        drawn = np.empty((B, T, *picture), np.uint8)
        for rows, target, table in zip(self.frames, self.targets, drawn, strict=True):
            felt = recolour(painter.background(tuple(target.tolist())), self.camera)
            painter.draw(rows.tolist(), [felt] * T, table)
        return photograph(drawn, self.camera, [*self.reset_seeds])

    @cached_property
    def idle_wins(self) -> NDArray[np.bool_]:
        """Which of them are won if nothing is done, (B,)."""
        return play(self, np.zeros((len(self), 2), np.float32)).is_success


Tables = HeldOut
"""The former name."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Results of B shots in the real environment.

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
) -> HeldOut:
    """Resets the real environment to held-out tables and watches their context frames.

    Args:
        episodes: number of tables B; fewer give the first ones.
        seed: of the evaluation. Different seeds have no table in common.
        variant: what is played.
        split: "evaluation", or "validation": those by which policies are chosen (see
            ``train_policy``), to compare with their curves and for nothing else.

    `ValueError` for a number of episodes or a seed out of range, or an unknown split.
    """
    reset_seeds = _TABLE_SEEDS[check_choice("split of tables", split, _TABLE_SEEDS)](seed, episodes)
    env = _make_env(variant)
    frames, infos, targets = [], [], []
    for reset_seed in reset_seeds:
        shown, info = _watch(env, reset_seed, variant.task.config.lead_in)
        frames.append(shown)
        infos.append(info)
        targets.append(env.get_wrapper_attr("target"))
    return HeldOut(
        seed=seed,
        reset_seeds=reset_seeds,
        observations=np.stack(frames),
        positions=np.stack([info["positions"].ravel() for info in infos]),
        velocities=np.stack([info["velocities"].ravel() for info in infos]),
        targets=np.array(targets),
        variant=variant,
    )


def play(tables: HeldOut, actions: NDArray[np.floating[Any]]) -> Outcomes:
    """Plays one shot on each of B tables in the real environment, to the end of the episode.

    `ValueError` for actions of another shape than (B, 2), or not finite.
    """
    if actions.shape != (len(tables), 2):
        raise ValueError(f"expected actions of shape ({len(tables)}, 2), got {actions.shape}")
    env, config, size = _make_env(tables.variant), tables.config, tables.positions.shape[1]
    paths = np.full((len(tables), config.num_frames - config.lead_in, size), np.nan, np.float32)
    is_success, hits = np.zeros(len(tables), np.bool_), np.zeros((2, len(tables)), np.int64)
    for row, (reset_seed, action) in enumerate(zip(tables.reset_seeds, actions, strict=True)):
        frames, before = _watch(env, reset_seed, config.lead_in)
        paths[row, 0] = frames[-1, :size]
        frame, over = 0, False
        while not over:
            obs, _, terminated, truncated, info = env.step(action)
            frame, over = frame + 1, terminated or truncated
            paths[row, frame] = obs[:size]
        is_success[row] = info["is_success"]
        hits[:, row] = [info[name] - before[name] for name in ("wall_hits", "ball_hits")]
    return Outcomes(is_success, hits[0], hits[1], paths)


def true_state(agent: Any, positions: NDArray[Any], velocities: NDArray[Any], dt: float) -> Any:
    """The true state (B, D) in the form of the agent's model: velocities per frame."""
    return agent.model.state_from(
        torch.as_tensor(positions, dtype=torch.float32, device=agent.device),
        torch.as_tensor(velocities * dt, dtype=torch.float32, device=agent.device),
    )


def drawn_objective(tables: HeldOut) -> Objective | None:
    """The objective where every table has its own target; None where all have that of the game."""
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
    """The context frames (lead_in + 1, ...) as they are shown, and the info at the last of them."""
    obs, info = env.reset(seed=reset_seed)
    frames = [obs]
    ignored = np.zeros(2, dtype=np.float32)
    for _ in range(lead_in):
        obs, _, _, _, info = env.step(ignored)
        frames.append(obs)
    return np.stack(frames), info
