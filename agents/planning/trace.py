"""What an agent has in mind: its shot, and the future that it imagines after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.agents.registry import model_for, objective_of
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rules import plane_task
from jumpy_mbrl.models.world import warn_of_other_world

_PER_FRAME = 4


@dataclass(frozen=True, eq=False)
class Idea:
    """A shot that an agent has chosen, and how it imagines what follows.

    Attributes:
        action: (2,) in [-1, 1].
        way: imagined positions up to the believed success, (K, N, 2); none without a world model.
        ticks: imagined positions at the ticks of the model until then, (M, N, 2).
        belief: in the success of the shot, 0 to 1, or None.
    """

    action: NDArray[np.float32]
    way: NDArray[np.float64]
    ticks: NDArray[np.float64]
    belief: float | None = None


def think(
    agent: Agent,
    frames: NDArray[np.float32],
    positions: NDArray[np.float64],
    velocities: NDArray[np.float64],
    config: TableConfig,
) -> Idea:
    """Lets an agent choose a shot on any table, and imagine it if it has a world model.

    Args:
        agent: who shoots. A planner's objective is replaced by the target of the table, which is
            shown to others that have ``reads_targets``.
        frames: what it has seen, (4, 2N).
        positions: the truth now, (N, 2), for an oracle alone.
        velocities: the truth now, (N, 2), in sides per time unit, for an oracle alone.
        config: the table, with the target of this shot.

    Raises:
        ValueError: if the agent's world model is for another number of balls.

    Warns:
        OtherWorldWarning: if the world model has learned another world than this table.
    """
    if not isinstance(agent, Planner):
        nothing = np.zeros((0, config.num_balls, 2))
        if getattr(agent, "reads_targets", False):
            target = np.array(config.target, dtype=np.float32)
            frames = np.concatenate([frames, np.tile(target, (len(frames), 1))], axis=1)
        return Idea(as_array(agent.predict(frames)[0]).astype(np.float32), nothing, nothing)
    task = plane_task(config=config)
    planner: Planner[Any] = type(agent)(
        model_for(agent.model, task),
        objective_of(task),
        agent.config,
        oracle=agent.oracle,
        device=agent.device,
        ensemble=[model_for(member, task) for member in agent.ensemble],
    )
    warn_of_other_world(planner.model, task, stacklevel=2)
    state = _state(planner, frames, positions, velocities, config)
    plan = planner.plan(frames[None], state if planner.oracle else None)
    way, ticks = _imagine(planner, state, plan.action)
    shape = (-1, config.num_balls, 2)
    return Idea(
        as_array(plan.action[0]).astype(np.float32),
        way.reshape(shape),
        ticks.reshape(shape),
        float(plan.belief[0]),
    )


def _state(
    planner: Planner[Any],
    frames: NDArray[np.float32],
    positions: NDArray[np.float64],
    velocities: NDArray[np.float64],
    config: TableConfig,
) -> Any:
    model: Any = planner.model
    with torch.no_grad():
        if not planner.oracle:
            return planner.observe(frames[None])
        truth = (positions, velocities * config.dt)
        return model.state_from(
            *(
                torch.as_tensor(pairs.reshape(1, -1), dtype=torch.float32, device=planner.device)
                for pairs in truth
            )
        )


def _imagine(
    planner: Planner[Any], state: Any, action: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The imagined way (K, D) until the believed success or the end, and positions at ticks."""
    model = planner.model
    with torch.no_grad():
        whole = model.imagine(state, planner.objective.times, action)
        end = _arrival(planner, whole.obs)
        steps = round(_PER_FRAME * end) + 1
        times = torch.linspace(0.0, end, steps, dtype=torch.float32, device=planner.device)
        way = model.imagine(state, times, action).obs[0]
        at = whole.tick_times[0][whole.tick_times[0] <= end]
        ticks = model.imagine(state, at, action).obs[0] if len(at) else way[:0]
    return way.double().cpu().numpy(), ticks.double().cpu().numpy()


def _arrival(planner: Planner[Any], obs: torch.Tensor) -> float:
    """The first of the objective's times at which the imagined shot succeeds; else the last."""
    times = planner.objective.times
    for index in range(len(times)):
        if float(planner.objective(obs[:, None, index : index + 1])) > 0:
            return float(times[index])
    return float(times[-1])
