"""One planned shot in fine detail: what a model imagined, and what really happened.

Letters: R points along the way, M ticks, N balls, D = 2N. Positions in table sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.evaluation.tables import Tables, play, true_state

if TYPE_CHECKING:
    from jumpy_mbrl.agents import GradientPlanner

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
    """

    start: NDArray[np.float64]
    real: NDArray[np.float64]
    imagined: NDArray[np.float64]
    ticks: NDArray[np.float64]
    belief: float | None
    is_success: bool


def record_shot(
    agent: GradientPlanner, table: Tables, action: NDArray[np.float32], belief: float | None = None
) -> ShotRecord:
    """Imagines one shot and really plays it, finely enough to draw.

    Both ways end when the model believes the ball to arrive, or when it really does, if later.

    Args:
        agent: the planner that chose the shot.
        table: a single table.
        action: the shot, (2,).
        belief: in it, for the record.

    Raises:
        ValueError: for more or fewer tables than one.
    """
    if len(table) != 1:
        raise ValueError(f"expected a single table, got {len(table)}")
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
    )


def _imagine_way(
    agent: GradientPlanner, table: Tables, action: NDArray[np.float32], arrival: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The imagined way (R, D), positions at ticks (M, D), and how many frames it lasts."""
    model, shot = agent.model, torch.as_tensor(action[None], device=agent.device)
    with torch.no_grad():
        if agent.oracle:
            state = true_state(agent, table)
        else:
            state = model.observe(torch.as_tensor(table.observations, device=agent.device))
        whole = model.imagine(state, agent.objective.times, shot)
        end = max(_believed_arrival(agent, whole.obs), float(arrival))
        times = torch.linspace(0.0, end, round(_PER_FRAME * end) + 1, device=agent.device)
        way = model.imagine(state, times, shot).obs[0]
        at = whole.tick_times[0][whole.tick_times[0] <= end]
        ticks = model.imagine(state, at, shot).obs[0] if len(at) else way[:0]
    return way.double().cpu().numpy(), ticks.double().cpu().numpy(), end


def _believed_arrival(agent: GradientPlanner, obs: torch.Tensor) -> float:
    """The first of the objective's times at which the imagined shot succeeds; else the last."""
    times = agent.objective.times
    for index in range(len(times)):
        if float(agent.objective(obs[:, None, index : index + 1])) > 0:
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
