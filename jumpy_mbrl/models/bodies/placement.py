"""Shots that put a ball somewhere, with which a passive model of a line plays `Billiards1D-v0`.

The action of that game is no impulse but a new beginning for ball A. So a model that has only ever
watched balls on a line can plan it: what it understood of ball B goes on, ball A begins where the
action says. That rule is the game's own description of its actions, and is given; how both balls
go on is the model's affair.

Letters: B batch, A = 2. Positions in lengths of the line, velocities per frame.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jumpy_mbrl.envs.config import LINE_SPEED, TableConfig
from jumpy_mbrl.models.base import Imagined, State, WorldModel, WrappedModel
from jumpy_mbrl.models.bodies.event_driven import EventDrivenModel, EventState
from jumpy_mbrl.models.bodies.simulator import SimulatorModel


class PlacementModel(WrappedModel):
    """A model of two balls on a line, with the action of `Billiards1D-v0`.

    The first number of an action is the position of ball A, through which gradients flow; of the
    second the sign alone counts, the direction. The shot is a tick.

    `ValueError` for another kind of model.

    Args:
        model: a model of balls on a line without actions.
        table: where the ends of the line are, and how long a frame lasts.
    """

    model: EventDrivenModel

    def __init__(self, model: WorldModel, table: TableConfig) -> None:
        super().__init__(model)
        sizes = model.obs_size, model.action_size
        if not isinstance(model, EventDrivenModel) or model.axes != 1 or sizes != (2, 0):
            raise ValueError(
                f"expected an event-driven model of two balls on a line (axes=1) without actions, "
                f"got {type(model).__name__} with obs_size={model.obs_size} and "
                f"action_size={model.action_size}; train one on the task 'billiards1d', or take "
                f"a model that has learned the shots, as by the preset 'line-rnn', as it is"
            )
        self.built_in = (*model.built_in, "what the action does")
        self.record = model.record
        self.table = table
        self.action_size = 2

    def state_from(self, positions: Tensor, velocities: Tensor) -> EventState:
        """The state of balls at ``positions`` (B, 2) moving at ``velocities`` (B, 2) per frame."""
        return self.model.state_from(positions, velocities)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> EventState:
        """See ``WorldModel.observe``; `ValueError` for an action before the last frame."""
        if action is not None and bool(action[:, :-1].any()):
            raise ValueError("expected frames in which no shot was played, got an action in them")
        return self.model.observe(obs)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        if action is None:
            return super().rollout(state, times, end, None)
        imagined = super().rollout(self._place(state, action), times, end, None)
        shot = imagined.tick_times.new_zeros(state.batch_size, 1)
        return replace(imagined, tick_times=torch.cat([shot, imagined.tick_times], dim=1))

    def _place(self, state: State, action: Tensor) -> EventState:
        """The state with ball A where the action (B, 2) puts it: `jumpy_mbrl.envs.physics.place`.

        Where ball B is in the way, the nearest free place is taken.
        """
        low, high, apart = self.table.radius, 1.0 - self.table.radius, 2.0 * self.table.radius
        before, other = self.model.decode(state.hidden).unbind(-1)
        speed = LINE_SPEED * self.table.dt
        wanted = low + 0.5 * (action[:, 0] + 1.0) * (high - low)
        below, above = other - apart, other + apart
        fits_below, fits_above = below >= low, above <= high
        upwards = fits_above & ((wanted >= other) | ~fits_below)
        beside = torch.where(upwards, above, torch.where(fits_below, below, before))
        place = torch.where((wanted > below) & (wanted < above), beside, wanted)
        way = torch.where(action[:, 1] >= 0.0, speed, -speed).to(place)
        velocity = self.model.velocities_of(state)[:, 1]
        return self.state_from(
            torch.stack([place, other], dim=-1), torch.stack([way, velocity], dim=-1)
        )


class LineSimulator(SimulatorModel):
    """The true physics of balls on a line, without actions."""

    def __init__(self, table: TableConfig) -> None:
        super().__init__(table)
        self.axes = 1
        self.obs_size = table.num_balls
        self.action_size = 0
