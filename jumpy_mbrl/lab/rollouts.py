"""One shot, open loop: as it really goes on, and as world models imagine it, at any real times.

A table is watched up to its shot. A model is shown the frames until then and is told the shot, and
nothing after it.

Letters: N balls, T frames shown, K times, M ticks, D = 2N. Positions in table sides, times in
frames of the episode, whose first frame is at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.data.seeds import EVALUATION_SEEDS_FROM
from jumpy_mbrl.envs import BILLIARDS_2D_SHOT, register_envs
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rules import plane_task
from jumpy_mbrl.evaluation.sequences import sample
from jumpy_mbrl.models.base import Imagined, WorldModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.world import warn_of_other_world

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shot:
    """A table that has been watched, and the shot that follows.

    Attributes:
        frames: (T, D) float32, all that agents and models are shown.
        action: (2,) float32 in [-1, 1], played at the last of these frames.
        positions: true ones at that frame, (N, 2) float64.
        velocities: true ones right before the shot, (N, 2) float64, in sides per time unit.
        config: the table.
    """

    frames: NDArray[np.float32]
    action: NDArray[np.float32]
    positions: Doubles
    velocities: Doubles
    config: TableConfig

    @property
    def now(self) -> int:
        """The frame of the shot."""
        return len(self.frames) - 1


@dataclass(frozen=True, eq=False)
class Rollout:
    """One future of the balls.

    Attributes:
        times: (K,) ascending, from the shot on.
        way: positions at these times, (K, N, 2).
        ticks: (M,) times at which the model ticked, the shot included; for the truth, those of its
            collisions.
        marks: positions at the ticks, (M, N, 2).
    """

    times: Doubles
    way: Doubles
    ticks: Doubles
    marks: Doubles


def watch_shot(seed: int, agent: Agent, config: TableConfig | None = None) -> Shot:
    """Deals a table, watches it up to the shot, and lets an agent choose that.

    Args:
        seed: of the reset of ``Billiards2D-v0``; those that are kept for evaluation are refused.
        agent: who shoots. It is shown the frames before the shot alone.
        config: the table; the default one if None.

    Raises:
        ValueError: for a seed out of range, or frames that the agent does not understand.
    """
    check_reset_seed(seed)
    config = config or TableConfig()
    register_envs()
    env = gym.make(BILLIARDS_2D_SHOT, config=config, disable_env_checker=True)
    obs, info = env.reset(seed=seed)
    env.close()
    frames = obs.reshape(config.lead_in + 1, -1)
    action, _ = agent.predict(frames)
    action = as_array(action).astype(np.float32)
    return Shot(frames, action, info["positions"], info["velocities"], config)


def check_reset_seed(seed: int) -> None:
    """Raises ``ValueError`` unless a table may be looked at: none for evaluation may."""
    if isinstance(seed, bool) or not 0 <= seed < EVALUATION_SEEDS_FROM:
        raise ValueError(
            f"expected a seed in [0, {EVALUATION_SEEDS_FROM}), because the tables beyond are kept "
            f"for evaluation, got {seed!r}"
        )


def real_rollout(shot: Shot, times: Doubles) -> Rollout:
    """What really follows a shot, by the exact physics from the true state.

    Args:
        shot: the shot.
        times: (K,) real times, ascending, from the shot on.

    Raises:
        ValueError: for other times.
    """
    model = SimulatorModel(shot.config)
    state = model.state_from(
        torch.from_numpy(shot.positions.reshape(1, -1)),
        torch.from_numpy(shot.velocities.reshape(1, -1)) * shot.config.dt,
    )
    action = torch.from_numpy(shot.action).double().unsqueeze(0)

    def predict(times: Doubles) -> Imagined:
        imagined = model.imagine(state, torch.from_numpy(times - shot.now), action)
        # The first tick is the shot itself, which is no collision.
        return replace(imagined, tick_times=imagined.tick_times[:, 1:] + shot.now)

    return _rollout(predict, times)


def imagined_rollout(model: WorldModel, shot: Shot, times: Doubles) -> Rollout:
    """What a model imagines to follow a shot, ticking when it chooses to.

    Args:
        model: a model of as many balls, whose actions are shots.
        shot: the shot.
        times: (K,) real times, ascending, from the shot on.

    Raises:
        ValueError: for another model, or other times.

    Warns:
        OtherWorldWarning: for a model that has learned another world than that of the shot.
    """
    T, D = shot.frames.shape
    A = len(shot.action)
    if (model.obs_size, model.action_size) != (D, A):
        raise ValueError(
            f"expected a model of {D} coordinates and {A} numbers for a shot, got one of "
            f"{model.obs_size} and {model.action_size}; give one that was trained on shots at "
            f"{D // 2} balls"
        )
    warn_of_other_world(model, plane_task(config=shot.config), stacklevel=2)
    frames = torch.from_numpy(shot.frames).unsqueeze(0)
    action = torch.from_numpy(np.zeros((1, T, A), np.float32))
    action[0, -1] = torch.from_numpy(shot.action)
    return _rollout(lambda times: sample(model, frames, action, T, torch.from_numpy(times)), times)


@torch.no_grad()
def _rollout(predict: Callable[[Doubles], Imagined], times: Doubles) -> Rollout:
    whole = predict(times)
    way, ticks = _pairs(whole.obs), _array(whole.tick_times[0])
    marks = _pairs(predict(ticks).obs) if len(ticks) else way[:0]
    return Rollout(times, way, ticks, marks)


def _pairs(obs: Tensor) -> Doubles:
    """Observations (1, K, D) as positions (K, N, 2)."""
    return _array(obs[0]).reshape(obs.shape[1], -1, 2)


def _array(values: Tensor) -> Doubles:
    out: Doubles = values.double().cpu().numpy()
    return out
