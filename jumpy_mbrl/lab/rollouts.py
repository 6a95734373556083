"""One shot, open loop: the true future and those that world models imagine, at any times.

A table is watched up to its shot. A model is shown the frames until then and is told the shot, and
nothing after it.

Letters: N balls, T frames shown, K times, M ticks, D = 2N. Positions in table sides, times in
frames of the episode, whose first frame is at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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

    Agents and models are shown the `frames` (T, D) alone; the `action` is played at the last of
    them. True `positions` and `velocities` right before it are (N, 2), in sides and per time unit.
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
    """One future of the balls: their `way` (K, N, 2) at `times` (K,), ascending from the shot on.

    `ticks` (M,) are when the model ticked, the shot included, or when balls really collided, and
    `marks` (M, N, 2) where they were then.
    """

    times: Doubles
    way: Doubles
    ticks: Doubles
    marks: Doubles


def watch_shot(seed: int, agent: Agent, config: TableConfig | None = None) -> Shot:
    """Deals a table of `Billiards2D-v0`, watches it up to the shot, and lets an agent choose that.

    The agent is shown the frames before the shot alone. `ValueError` for a seed kept for
    evaluation, or frames that the agent does not understand.
    """
    check_reset_seed(seed)
    config = config or TableConfig()
    register_envs()
    env = gym.make(BILLIARDS_2D_SHOT, config=config, disable_env_checker=True)
    obs, info = env.reset(seed=seed)
    env.close()
    frames = obs.reshape(config.context_frames, -1)
    action = as_array(agent.predict(frames)[0]).astype(np.float32)
    return Shot(frames, action, info["positions"], info["velocities"], config)


def check_reset_seed(seed: int) -> None:
    """`ValueError` unless a table may be looked at: none for evaluation may."""
    if isinstance(seed, bool) or not 0 <= seed < EVALUATION_SEEDS_FROM:
        raise ValueError(
            f"expected a seed in [0, {EVALUATION_SEEDS_FROM}), because the tables beyond are kept "
            f"for evaluation, got {seed!r}"
        )


def real_rollout(shot: Shot, times: Doubles) -> Rollout:
    """What really follows a shot, by the exact physics from the true state.

    `ValueError` for times, (K,) real, that do not ascend from the shot on.
    """
    model = SimulatorModel(shot.config)
    positions, velocities = (
        torch.from_numpy(values.reshape(1, -1)) for values in (shot.positions, shot.velocities)
    )
    state = model.state_from(positions, velocities * shot.config.dt)
    action = torch.from_numpy(shot.action).double().unsqueeze(0)

    def predict(times: Doubles) -> Imagined:
        imagined = model.imagine(state, torch.from_numpy(times - shot.now), action)
        # The first tick is the shot itself, which is no collision.
        return replace(imagined, tick_times=imagined.tick_times[:, 1:] + shot.now)

    return _rollout(predict, times)


def imagined_rollout(model: WorldModel, shot: Shot, times: Doubles) -> Rollout:
    """What a model imagines to follow a shot, ticking when it chooses to.

    `ValueError` for a model of other balls or actions, or times that do not ascend from the shot
    on; warns with `OtherWorldWarning` of a model that has learned another world.
    """
    (T, D), A = shot.frames.shape, len(shot.action)
    if (model.obs_size, model.action_size) != (D, A):
        raise ValueError(
            f"expected a model of {D} coordinates and {A} numbers for a shot, got one of "
            f"{model.obs_size} and {model.action_size}; give one that was trained on shots at "
            f"{D // 2} balls"
        )
    warn_of_other_world(model, plane_task(config=shot.config), stacklevel=2)
    frames = torch.from_numpy(shot.frames).unsqueeze(0)
    action = torch.zeros(1, T, A, dtype=torch.float32, device="cpu")
    action[0, -1] = torch.from_numpy(shot.action)
    return _rollout(lambda times: sample(model, frames, action, T, torch.from_numpy(times)), times)


@torch.no_grad()
def _rollout(predict: Callable[[Doubles], Imagined], times: Doubles) -> Rollout:
    def pairs(obs: Tensor) -> Any:
        """Observations (1, K, D) as positions (K, N, 2)."""
        return as_array(obs[0].double()).reshape(obs.shape[1], -1, 2)

    whole = predict(times)
    way, ticks = pairs(whole.obs), as_array(whole.tick_times[0].double())
    marks = pairs(predict(ticks).obs) if len(ticks) else way[:0]
    return Rollout(times, way, ticks, marks)
