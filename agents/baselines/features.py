"""Features that networks read in place of stacked frames."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor
from torch.nn import functional

from jumpy_mbrl.envs.config import TableConfig

FRAME_SIZE = 4
"""Numbers in a frame of two balls: x and y of each."""


class MotionFeatures(BaseFeaturesExtractor):
    """Places in the last of some stacked frames, and how they changed before, to a common scale.

    Frames lie so close in time that a ball's place tells next to nothing of where it goes; a
    network that is shown the places alone spends most of its training on taking differences.

    Args:
        observation_space: of the stacked frames, (frames * D,), the earliest first; `ValueError`
            if it cannot be.
        frames: how many are stacked.
        scale: what changes from one frame to the next are multiplied by.
    """

    def __init__(self, observation_space: spaces.Box, frames: int = 4, scale: float = 25.0) -> None:
        size = observation_space.shape[0]
        if frames < 2 or size % frames:
            raise ValueError(f"expected {size} numbers to be frames of one size, got {frames=}")
        super().__init__(observation_space, size)
        self.frames = frames
        self.scale = scale

    def forward(self, observations: Tensor) -> Tensor:
        """Features (B, frames * D) of observations (B, frames * D)."""
        shown = observations.unflatten(1, (self.frames, -1))
        changes = self.scale * (shown[:, 1:] - shown[:, :-1])
        return torch.cat([4.0 * (shown[:, -1] - 0.5), changes.flatten(1)], dim=1)


class RelativeFeatures(MotionFeatures):
    """`MotionFeatures`, and how cue ball, object ball and target lie as seen from one another.

    Where a shot sends the object ball is a matter of angles and of relative speed. From places
    alone a network has to learn quotients and roots before it can learn to aim.

    Args:
        observation_space: of stacked frames of two balls, with or without the target behind them;
            `ValueError` for another shape.
        frames: see `MotionFeatures`.
        scale: see `MotionFeatures`.
        table: its target, where frames show none, and its balls' radius; by default that of the
            environment.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        frames: int = 4,
        scale: float = 25.0,
        table: TableConfig | None = None,
    ) -> None:
        super().__init__(observation_space, frames, scale)
        check_frame_size(observation_space.shape[0] // frames)
        table = table or TableConfig()
        if table.num_balls != 2:
            raise ValueError(f"expected a table with 2 balls, got {table.num_balls}")
        self.contact = 2.0 * table.radius
        self.target = table.target
        self._features_dim += 21

    def forward(self, observations: Tensor) -> Tensor:
        """Features (B, frames * D + 21) of observations (B, frames * D)."""
        before, last = observations.unflatten(1, (self.frames, -1))[:, -2:].unbind(dim=1)
        changes = self.scale * (last - before)
        approach = changes[:, 2:4] - changes[:, :2]
        cue, ball = last[:, :2], last[:, 2:4]
        target = last[:, 4:] if last.shape[1] > FRAME_SIZE else last.new_tensor([self.target])
        wanted = target.unflatten(1, (2, 2)).mean(dim=2) - ball
        course = functional.normalize(wanted, dim=1)
        # Where the cue ball would have to be when it sends the object ball straight there.
        aim = ball - self.contact * course - cue
        way = ball - cue
        seen, aimed = functional.normalize(way, dim=1), functional.normalize(aim, dim=1)
        lengths = torch.stack([part.norm(dim=1) for part in (way, wanted, aim)], dim=1)
        half_angle = torch.asin(self.contact / lengths[:, :1].clamp(min=self.contact))
        across = seen[:, :1] * course[:, 1:] - seen[:, 1:] * course[:, :1]
        parts = [super().forward(observations)]
        parts += [4.0 * part for part in (way, wanted, aim, lengths)]
        parts += [seen, course, aimed, approach, half_angle]
        parts += [(one * course).sum(dim=1, keepdim=True) for one in (seen, aimed)]
        return torch.cat([*parts, across], dim=1)


def check_frame_size(size: int) -> None:
    """`ValueError` unless it is that of two balls, or of two balls and the target."""
    if size not in (FRAME_SIZE, FRAME_SIZE + 4):
        raise ValueError(
            f"expected {FRAME_SIZE} numbers a frame, or {FRAME_SIZE + 4} with the target, got "
            f"{size}; agents read obs_type='coords'"
        )
