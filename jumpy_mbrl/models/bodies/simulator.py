"""The true physics behind the interface of a world model: the oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import SLOW_CONTACT
from jumpy_mbrl.models.base import like_of
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel


class SimulatorModel(EventDrivenModel):
    """The exact event-driven table as a jumpy world model without weights.

    A planner over it is the same code as over a learned model. ``observe`` infers velocities from
    frames; ``state_from`` takes the true ones.

    ``imagine`` raises ``RuntimeError`` where a table has more than ``max_ticks`` events.
    """

    max_ticks = torch_physics.DEFAULT_MAX_EVENTS
    built_in = ("all of it",)

    def __init__(self, table: TableConfig | None = None) -> None:
        super().__init__()
        self.config = table or TableConfig()
        self.obs_size = 2 * self.config.num_balls
        self.action_size = 2

    def next_event(self, positions: Tensor, velocities: Tensor) -> tuple[Tensor, Tensor]:
        return torch_physics.next_event(positions, velocities, self.config.radius)

    def after_event(self, positions: Tensor, velocities: Tensor, event: Tensor) -> Tensor:
        slow = SLOW_CONTACT * self.config.dt
        return torch_physics.resolve(positions, velocities, event, self.config.restitution, slow)

    def after_shot(self, velocity: Tensor, action: Tensor) -> Tensor:
        limit = self.config.max_speed * self.config.dt
        impulse = self.config.max_impulse * self.config.dt * action
        return (velocity + impulse).clamp(-limit, limit)

    def _most_ticks(self, frames: float) -> int:
        return self.max_ticks

    def _out_of_ticks(self) -> None:
        raise RuntimeError(
            f"a table had more than max_ticks={self.max_ticks} events; imagine a shorter time, "
            "slow the balls, or raise max_ticks"
        )

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """There is nothing to learn: always 0."""
        return torch.zeros_like(like_of(self)), {}
