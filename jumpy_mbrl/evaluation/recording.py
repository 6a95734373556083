"""One planned shot on a table in fine detail: what a model imagined, and what really happened.

Letters: R points along the way, M ticks, N balls, D = 2N. Positions in table sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.evaluation.tables import Tables, drawn_objective, play, true_state
from jumpy_mbrl.models.world import warn_of_other_world

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Objective, Planner

_PER_FRAME = 8
"""Points a frame of the ways in a ``ShotRecord``."""


@dataclass(frozen=True, eq=False)
class ShotRecord:
    """One planned shot: what the model imagined, and what really happened.

    Attributes:
        start: positions at the frame of the shot, (N, 2).
        real: the true way of the balls, (R, N, 2).
        imagined: the imagined way over the same time, (R, N, 2).
        ticks: imagined positions at the model's ticks, (M, N, 2).
        belief: in the shot, or None.
        is_success: whether the environment called it a success.
        config: the table, with the target of this shot.
    """

    start: NDArray[np.float64]
    real: NDArray[np.float64]
    imagined: NDArray[np.float64]
    ticks: NDArray[np.float64]
    belief: float | None
    is_success: bool
    config: TableConfig


def record_shot(
    agent: Planner[Any], table: Tables, action: NDArray[np.float32], belief: float | None = None
) -> ShotRecord:
    """Imagines one shot and really plays it, finely enough to draw.

    Both ways end when the model believes the ball to arrive, or when it really does, if later.

    Args:
        agent: the planner that chose the shot.
        table: a single table.
        action: the shot, (2,).
        belief: in it, for the record.

    Raises:
        ValueError: for more or fewer tables than one, or a line.

    Warns:
        OtherWorldWarning: for a planner whose model has learned another world.
    """
    if len(table) != 1:
        raise ValueError(f"expected a single table, got {len(table)}")
    if table.variant.task.line:
        raise ValueError("expected a table, got a line; shots on lines are not recorded")
    warn_of_other_world(agent.model, table.variant.task, stacklevel=2)
    outcome = play(table, action[None])
    arrival = int(np.isfinite(outcome.paths[0, :, 0]).sum()) - 1 if outcome.is_success[0] else 0
    imagined, ticks, end = _imagine_way(agent, table, action, arrival)
    shape = (-1, table.config.num_balls, 2)
    return ShotRecord(
        start=table.positions[0].reshape(-1, 2),
        real=_real_way(table, action, end).reshape(shape),
        imagined=imagined.reshape(shape),
        ticks=ticks.reshape(shape),
        belief=belief,
        is_success=bool(outcome.is_success[0]),
        config=table.config.replace(target=tuple(table.targets[0].tolist())),
    )


def _imagine_way(
    agent: Planner[Any], table: Tables, action: NDArray[np.float32], arrival: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The imagined way (R, D), positions at ticks (M, D), and how many frames it lasts."""
    model, shot = agent.model, torch.as_tensor(action[None], device=agent.device)
    objective = drawn_objective(table) or agent.objective
    with torch.no_grad():
        state = true_state(agent, table) if agent.oracle else agent.observe(table.frames)
        whole = model.imagine(state, objective.times, shot)
        end = max(_believed_arrival(objective, whole.obs), float(arrival))
        steps = round(_PER_FRAME * end) + 1
        times = torch.linspace(0.0, end, steps, dtype=torch.float32, device=agent.device)
        way = model.imagine(state, times, shot).obs[0]
        at = whole.tick_times[0][whole.tick_times[0] <= end]
        ticks = model.imagine(state, at, shot).obs[0] if len(at) else way[:0]
    return way.double().cpu().numpy(), ticks.double().cpu().numpy(), end


def _believed_arrival(objective: Objective, obs: torch.Tensor) -> float:
    """The first of the objective's times at which the imagined shot succeeds; else the last."""
    times = objective.times
    for index in range(len(times)):
        if float(objective(obs[:, None, index : index + 1])) > 0:
            return float(times[index])
    return float(times[-1])


def _real_way(table: Tables, action: NDArray[np.float32], end: float) -> NDArray[np.float64]:
    """True positions (R, D) from the shot to ``end`` frames later."""
    config = table.config
    x, v = table.positions[0].tolist(), table.velocities[0].tolist()
    shoot(v, float(action[0]), float(action[1]), config.max_impulse, config.max_speed)
    way = [list(x)]
    for _ in range(round(_PER_FRAME * end)):
        advance(x, v, config.dt / _PER_FRAME, config.radius, config.restitution)
        way.append(list(x))
    return np.array(way)
