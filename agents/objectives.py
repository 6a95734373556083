"""What a planner wants: differentiable scores of imagined observations.

An objective says at which times it wants to see the future, and scores what it sees. A score
above 0 is a believed success, and a larger one a safer success.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor


class Objective(Protocol):
    """A score of imagined futures. A class of your own needs no more than this:

        >>> class EndsLeft:
        ...     times = torch.tensor([40.0])
        ...     def __call__(self, obs):  # (B, S, K, D) -> (B, S): above 0 left of x = 0.3
        ...         return 0.3 - obs[:, :, -1, 2]
        ...     def select(self, rows):
        ...         return self

    Where a function will do, see ``FunctionObjective``.

    Attributes:
        times: (K,) query times in frames from now, ascending.
    """

    times: Tensor

    def __call__(self, obs: Tensor) -> Tensor:
        """Scores observations (B, S, K, D) of S candidates for each of B episodes: (B, S)."""
        ...

    def select(self, rows: slice | Tensor) -> Objective:
        """The objective of these episodes alone; ``self`` if all have the same.

        ``rows``: a slice or an index tensor, by which anything with a row for each of the B
        episodes can be indexed.
        """
        ...


def scores_of(objective: Objective, obs: Tensor) -> Tensor:
    """The objective's scores (B, S) of observations (B, S, K, D).

    Raises:
        ValueError: for scores of another shape.
    """
    scores = objective(obs)
    if scores.shape != obs.shape[:2]:
        raise ValueError(
            f"an objective must turn observations (B, S, K, D) into scores (B, S), here "
            f"{tuple(obs.shape[:2])}, got {tuple(scores.shape)}"
        )
    return scores


class FunctionObjective:
    """An objective made from a function, the same for every episode.

        >>> def ends_left(obs):  # (B, S, K, D) -> (B, S): above 0 left of x = 0.3
        ...     return 0.3 - obs[:, :, -1, 2]
        >>> objective = FunctionObjective(ends_left, times=[40.0])

    Args:
        function: turns observations (B, S, K, D) into scores (B, S), above 0 for a success.
            Differentiable, for a planner that uses gradients.
        times: (K,) frames from now at which it wants to see the observations, ascending.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], times: Sequence[float] | Tensor
    ) -> None:
        self.function = function
        self.times = as_tensor(times, dtype=torch.float32)

    def __call__(self, obs: Tensor) -> Tensor:
        return self.function(obs)

    def select(self, rows: slice | Tensor) -> FunctionObjective:
        return self


class ReachRegion:
    """A ball's centre is inside a rectangle at one of the times.

    The score is the signed distance to the rectangle's edge at the best of the times: how deep
    inside, or minus how far outside, in sides of the table.

    Args:
        region: (x_low, x_high, y_low, y_high), or one for each episode, (B, 4).
        times: (K,) frames from now at which being inside counts.
        ball: which ball must get there.
    """

    def __init__(
        self, region: Sequence[float] | Tensor, times: Sequence[float] | Tensor, ball: int = 1
    ) -> None:
        self.region = as_tensor(region, dtype=torch.float32)
        self.times = as_tensor(times, dtype=torch.float32)
        self.ball = ball
        if self.region.shape[-1] != 4 or self.region.ndim > 2:
            raise ValueError(
                "region must be (x_low, x_high, y_low, y_high) or (B, 4), "
                f"got shape {tuple(self.region.shape)}"
            )
        if not bool((self.region[..., ::2] < self.region[..., 1::2]).all()):
            raise ValueError(
                f"region must have low < high on both axes, got {self.region.tolist()}"
            )

    def __call__(self, obs: Tensor) -> Tensor:
        if self.region.ndim == 2 and len(self.region) != len(obs):
            raise ValueError(
                f"region must be one for all, or one for each of the {len(obs)} episodes, "
                f"got {len(self.region)}"
            )
        bounds = self.region.to(obs).reshape(-1, 1, 1, 4)
        margins = []
        for axis in (0, 1):
            x = obs[..., 2 * self.ball + axis]
            margins.append(torch.minimum(x - bounds[..., 2 * axis], bounds[..., 2 * axis + 1] - x))
        first, second = margins
        inside = torch.minimum(first, second).clamp_min(0)
        outside = (first.clamp_max(0).square() + second.clamp_max(0).square() + 1e-12).sqrt()
        return (inside - outside).amax(dim=-1)

    def select(self, rows: slice | Tensor) -> ReachRegion:
        if self.region.ndim == 1:
            return self
        return ReachRegion(self.region[rows], self.times, self.ball)


class ReachPointAtTime:
    """A coordinate is near a value at one time (the 1D planning task, paper section 3.4).

    The score is ``tolerance`` minus the distance.

    Args:
        point: wanted value of the observation entries ``index``.
        time: frames from now.
        tolerance: distance that still counts as success.
        index: which entries of the observation.
    """

    def __init__(
        self, point: Sequence[float], time: float, tolerance: float, index: Sequence[int]
    ) -> None:
        if len(point) != len(index):
            raise ValueError(
                f"point and index must be equally long, got {len(point)} and {len(index)}"
            )
        self.point = as_tensor(point, dtype=torch.float32)
        self.times = as_tensor([float(time)], dtype=torch.float32)
        self.tolerance = tolerance
        self.index = list(index)

    def __call__(self, obs: Tensor) -> Tensor:
        error = obs[..., -1, self.index] - self.point.to(obs)
        return self.tolerance - (error.square().sum(dim=-1) + 1e-12).sqrt()

    def select(self, rows: slice | Tensor) -> ReachPointAtTime:
        return self
