"""Plan traces: the future that a planner imagined, and what became of it on the real table.

Letters: R points along the way, M ticks, N balls, D = 2N. Positions in table sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.agents.registry import model_for
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.envs.pixels import PixelConfig, draw_pixels
from jumpy_mbrl.envs.rules import plane_task
from jumpy_mbrl.evaluation.tables import Tables, drawn_objective, play, true_state
from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.world import warn_of_other_world
from jumpy_mbrl.objectives import Objective, objective_of

Floats = NDArray[np.float64]

_PER_FRAME = 8
"""Points of a way."""


@dataclass(frozen=True, eq=False)
class PlanTrace:
    """An action that an agent has chosen, and how it imagines what follows.

    Attributes:
        action: (2,) in [-1, 1].
        imagined: the imagined way, (R, N, 2); of no points without a world model.
        ticks: imagined positions at the ticks of the model, (M, N, 2).
        belief: in the success of the action, 0 to 1, or None.
    """

    action: NDArray[np.float32]
    imagined: Floats
    ticks: Floats
    belief: float | None


@dataclass(frozen=True, eq=False)
class ShotRecord(PlanTrace):
    """A plan trace beside what really happened.

    Attributes:
        real: the true way of the balls, as long as the imagined one, (R, N, 2).
        is_success: whether the environment called it a success.
        config: the table, with the target of this shot.
    """

    real: Floats
    is_success: bool
    config: TableConfig

    @property
    def start(self) -> Floats:
        """Positions at the frame of the shot, (N, 2)."""
        start: Floats = self.real[0]
        return start


def trace_plan(
    agent: Agent,
    frames: NDArray[Any],
    positions: Floats,
    velocities: Floats,
    config: TableConfig,
) -> PlanTrace:
    """Lets an agent choose a shot on any table, and imagine it if it has a world model.

    The way ends with the believed success. `ValueError` for a world model of another number of
    balls; warns (`OtherWorldWarning`) of one that has learned another world.

    Args:
        agent: who shoots. A planner's objective is replaced by the target of the table, which is
            shown to others that have ``reads_targets`` or see pictures.
        frames: what it has seen, (4, 2N); who sees pictures is shown those of these places.
        positions: the truth now, (N, 2), for an oracle alone.
        velocities: the truth now, (N, 2), in sides per time unit, for an oracle alone.
        config: the table, with the target of this shot.
    """
    picture = getattr(agent, "picture", None)
    if picture is not None:
        look = PixelConfig(picture[0], picture[2])
        frames = draw_pixels(frames.reshape(len(frames), -1, 2), config.target, look, config.radius)
    if not isinstance(agent, Planner):
        if getattr(agent, "reads_targets", False):
            target = np.tile(np.array(config.target, np.float32), (len(frames), 1))
            frames = np.concatenate([frames, target], axis=1)
        nothing = np.zeros((0, config.num_balls, 2))
        action = as_array(agent.predict(frames)[0]).astype(np.float32)
        return PlanTrace(action, nothing, nothing, None)
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
    state = _state(planner, frames, (positions, velocities), config)
    plan = planner.plan(frames[None], state if planner.oracle else None)
    way, ticks, _ = _imagine(planner, state, planner.objective, plan.action, 0.0)
    return PlanTrace(as_array(plan.action[0]).astype(np.float32), way, ticks, float(plan.belief))


def record_shot(
    agent: Planner[Any], table: Tables, action: NDArray[np.float32], belief: float | None = None
) -> ShotRecord:
    """Imagines one shot and really plays it, finely enough to draw.

    Both ways end when the model believes the ball to arrive, or when it really does, if later.
    `ValueError` for more or fewer tables than one, or a line; warns (`OtherWorldWarning`) of a
    planner whose model has learned another world.

    Args:
        agent: the planner that chose the shot.
        table: a single table.
        action: the shot, (2,).
        belief: in it, for the record.
    """
    config, task = table.config, table.variant.task
    if len(table) != 1:
        raise ValueError(f"expected a single table, got {len(table)}")
    if task.line:
        raise ValueError("expected a table, got a line; shots on lines are not recorded")
    warn_of_other_world(agent.model, task, stacklevel=2)
    outcome = play(table, action[None])
    success = bool(outcome.is_success[0])
    arrival = int(np.isfinite(outcome.paths[0, :, 0]).sum()) - 1 if success else 0
    state = _state(agent, table.shown_to(agent)[0], (table.positions, table.velocities), config)
    shot = torch.as_tensor(action[None], device=agent.device)
    objective = drawn_objective(table) or agent.objective
    way, ticks, end = _imagine(agent, state, objective, shot, arrival)
    x, v = table.positions[0].tolist(), table.velocities[0].tolist()
    shoot(v, float(action[0]), float(action[1]), config.max_impulse, config.max_speed)
    real = [x.copy()]
    for _ in range(round(_PER_FRAME * end)):
        advance(x, v, config.dt / _PER_FRAME, config.radius, config.restitution)
        real.append(x.copy())
    config = config.replace(target=tuple(table.targets[0].tolist()))
    return ShotRecord(action, way, ticks, belief, np.reshape(real, way.shape), success, config)


@torch.no_grad()
def _state(
    planner: Planner[Any],
    frames: NDArray[Any],
    truth: tuple[Floats, Floats],
    config: TableConfig,
) -> State:
    """The state that a planner starts from: for an oracle the true positions and velocities."""
    if not planner.oracle:
        return planner.observe(frames[None])
    positions, velocities = (part.reshape(1, -1) for part in truth)
    state: State = true_state(planner, positions, velocities, config.dt)
    return state


@torch.no_grad()
def _imagine(
    planner: Planner[Any], state: State, objective: Objective, action: torch.Tensor, least: float
) -> tuple[Floats, Floats, float]:
    """The imagined way (R, N, 2), positions at ticks (M, N, 2), and how many frames it lasts.

    It ends with the believed success, or that of the objective's times, but lasts ``least`` frames.
    """
    model, times = planner.model, objective.times
    whole = model.imagine(state, times, action)
    scores = (float(objective(whole.obs[:, None, k : k + 1])) for k in range(len(times)))
    end = next((float(t) for t, score in zip(times, scores, strict=True) if score > 0), None)
    end = max(float(times[-1]) if end is None else end, float(least))
    steps = round(_PER_FRAME * end) + 1
    fine = torch.linspace(0.0, end, steps, dtype=torch.float32, device=planner.device)
    way = model.imagine(state, fine, action).obs[0]
    at = whole.tick_times[0][whole.tick_times[0] <= end]
    ticks = model.imagine(state, at, action).obs[0] if len(at) else way[:0]
    way, ticks = (places.double().cpu().unflatten(1, (-1, 2)) for places in (way, ticks))
    return way.numpy(), ticks.numpy(), end
