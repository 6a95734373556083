"""Objectives of planners: differentiable scores of imagined observations.

An objective says at which times it wants to see the future, and scores what it sees. A score
above 0 is a believed success, and a larger one a safer success.

Letters: B episodes, S candidates of an episode, K times, D observation size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor

if TYPE_CHECKING:
    from jumpy_mbrl.envs.rules import Task

Bound = float | tuple[float, ...]
"""Of actions: a number, or one for each of their entries."""


class Objective(Protocol):
    """A score of imagined futures. A class of your own needs no more than this:

        >>> class EndsLeft:
        ...     times = torch.tensor([40.0])
        ...     def __call__(self, obs):  # (B, S, K, D) -> (B, S): above 0 left of x = 0.3
        ...         return 0.3 - obs[:, :, -1, 2]
        ...     def select(self, rows):
        ...         return self

    Where a function will do, see ``FunctionObjective``. One that can be aimed at targets which
    frames show behind the balls also has ``shown``, the numbers G of such a target, and
    ``aimed_at``, which makes of targets (B, G) the objective of as many episodes.

    Attributes:
        times: (K,) query times in frames from now, ascending.
    """

    times: Tensor

    def __call__(self, obs: Tensor) -> Tensor:
        """Scores observations (B, S, K, D) of S candidates for each of B episodes: (B, S)."""
        ...

    def select(self, rows: slice | Tensor) -> Objective:
        """The objective of these episodes (a slice or an index) alone; ``self`` if all share it."""
        ...


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
    inside, or minus how far outside, in sides of the table. `ValueError` for a region that is none,
    and, when scoring, for a ball or a number of episodes that there is not.

    Args:
        region: (x_low, x_high, y_low, y_high), or one for each episode, (B, 4). None: that which
            each episode's frames show, and no other.
        times: (K,) frames from now at which being inside counts.
        ball: which ball must get there; by default the object ball, ball 1, or the only one.
    """

    shown = 4

    def __init__(
        self,
        region: Sequence[float] | Tensor | None,
        times: Sequence[float] | Tensor,
        ball: int | None = None,
    ) -> None:
        self.region = None if region is None else as_tensor(region, dtype=torch.float32)
        self.times = as_tensor(times, dtype=torch.float32)
        self.ball = ball
        if self.region is None:
            return
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
        bounds = _for_each("region", self.region, obs, self.shown)
        balls = obs.shape[-1] // 2
        ball = min(1, balls - 1) if self.ball is None else self.ball
        if not 0 <= ball < balls:
            raise ValueError(f"ball must be one of the {balls} observed, from 0 on, got {ball}")
        return _depth(obs[..., 2 * ball : 2 * ball + 2], bounds).amax(dim=-1)

    def select(self, rows: slice | Tensor) -> ReachRegion:
        if self.region is None or self.region.ndim == 1:
            return self
        return self.aimed_at(self.region[rows])

    def aimed_at(self, targets: Tensor) -> ReachRegion:
        """The same with the regions (B, 4) in place of its own."""
        return ReachRegion(targets, self.times, self.ball)


class ReachAll:
    """The centres of several balls are inside a rectangle, each at one of the times.

    The score of a success is the depth of the ball that is least deep inside, in sides; of anything
    else, minus the square root of how far a ball stays outside, on average, so that what is nearly
    done is done first. `ValueError` when scoring, for a ball or a number of episodes that there is
    not.

    Args:
        region: (x_low, x_high, y_low, y_high).
        times: (K,) frames from now at which being inside counts.
        balls: which balls must get there, n numbers; by default all but ball 0.
        reached: (B, n), which of them were inside before, and need not be again.
    """

    def __init__(
        self,
        region: Sequence[float] | Tensor,
        times: Sequence[float] | Tensor,
        balls: Sequence[int] | None = None,
        reached: Any = None,
    ) -> None:
        self.region = as_tensor(region, dtype=torch.float32)
        self.times = as_tensor(times, dtype=torch.float32)
        self.balls = None if balls is None else list(balls)
        self.reached = None if reached is None else as_tensor(reached, dtype=torch.bool)

    def __call__(self, obs: Tensor) -> Tensor:
        count = obs.shape[-1] // 2
        balls = list(range(1, count)) if self.balls is None else self.balls
        if not balls or not all(0 <= ball < count for ball in balls):
            raise ValueError(f"balls must be some of the {count} observed, from 0 on, got {balls}")
        places = obs.unflatten(-1, (count, 2))[..., balls, :].transpose(2, 3)  # (B, S, n, K, 2)
        depth = _depth(places, self.region.to(obs)).amax(dim=-1)
        if self.reached is not None:
            if self.reached.shape != (len(obs), len(balls)):
                raise ValueError(
                    f"reached must say of each of {len(obs)} episodes which of {len(balls)} balls "
                    f"were inside, got shape {tuple(self.reached.shape)}"
                )
            best = depth.new_tensor(torch.inf)
            depth = torch.where(self.reached.to(obs.device).unsqueeze(1), best, depth)
        least = depth.amin(dim=-1)
        outside = (1e-12 - depth.clamp(max=0.0)).sqrt().mean(dim=-1)
        return torch.where(least > 0, least.clamp(max=1.0), -outside)

    def select(self, rows: slice | Tensor) -> ReachAll:
        if self.reached is None:
            return self
        return ReachAll(self.region, self.times, self.balls, self.reached[rows])


def _depth(place: Tensor, region: Tensor) -> Tensor:
    """How deep places (B, S, ..., 2) lie inside a region (4,) or (B, 4), or minus how far out."""
    bounds = region.reshape(-1, *(1,) * (place.ndim - 2), 2, 2)
    margin = torch.minimum(place - bounds[..., 0], bounds[..., 1] - place)
    x, y = margin.unbind(-1)
    inside = torch.minimum(x, y).clamp_min(0)
    return inside - (x.clamp_max(0).square() + y.clamp_max(0).square() + 1e-12).sqrt()


class ReachPointAtTime:
    """A coordinate is near a value at one time (the 1D planning task, paper section 3.4).

    The score is ``tolerance`` minus the distance. `ValueError` for a point and an index of
    different lengths, and, when scoring, for points of another number of episodes.

    Args:
        point: wanted value of the observation entries ``index``, or one for each episode, (B, A).
            None: the middle of what each episode's frames show, low and high of each entry, and no
            other; half of the narrowest is then the tolerance.
        time: frames from now.
        tolerance: distance that still counts as success, or one for each episode, (B,).
        index: which A entries of the observation.
    """

    def __init__(
        self,
        point: Sequence[float] | Tensor | None,
        time: float,
        tolerance: float | Tensor,
        index: Sequence[int],
    ) -> None:
        self.point = None if point is None else as_tensor(point, dtype=torch.float32)
        if self.point is not None and self.point.shape[-1] != len(index):
            raise ValueError(
                f"point and index must be equally long, got {self.point.shape[-1]} and {len(index)}"
            )
        self.times = as_tensor([float(time)], dtype=torch.float32)
        self.tolerance = tolerance
        self.index = list(index)
        self.shown = 2 * len(self.index)

    def __call__(self, obs: Tensor) -> Tensor:
        point = _for_each("point", self.point, obs, self.shown)
        error = obs[..., -1, self.index] - point.reshape(-1, 1, len(self.index))
        far = (error.square().sum(dim=-1) + 1e-12).sqrt()
        if isinstance(self.tolerance, Tensor):
            return self.tolerance.to(obs).reshape(-1, 1) - far
        return self.tolerance - far

    def select(self, rows: slice | Tensor) -> ReachPointAtTime:
        if self.point is None or self.point.ndim == 1:
            return self
        tolerance = self.tolerance[rows] if isinstance(self.tolerance, Tensor) else self.tolerance
        return ReachPointAtTime(self.point[rows], float(self.times), tolerance, self.index)

    def aimed_at(self, targets: Tensor) -> ReachPointAtTime:
        """The same with intervals (B, 2A), low and high of each entry, in place of its own."""
        low, high = targets.unflatten(1, (-1, 2)).unbind(-1)
        half = 0.5 * (high - low).amin(dim=1)
        return ReachPointAtTime(0.5 * (low + high), float(self.times), half, self.index)


def _for_each(name: str, values: Tensor | None, obs: Tensor, shown: int) -> Tensor:
    """The same goal for all episodes of observations (B, S, K, D), or one for each."""
    if values is None:
        raise ValueError(
            f"each episode has a target of its own, and none was shown: give frames with the "
            f"target, {obs.shape[-1]} + {shown} numbers each, as random_target=True shows them, or "
            f"an objective with the {name} of each episode, plan(frames, objective=...)"
        )
    if values.ndim > 1 and len(values) != len(obs):
        raise ValueError(
            f"{name} must be one for all, or one for each of the {len(obs)} episodes, "
            f"got {len(values)}"
        )
    return values.to(obs)


def objective_of(task: Task, targets: Any = None) -> ReachRegion | ReachPointAtTime:
    """The objective of a game: the object ball inside the target when it counts.

    Times count from the frame of the shot. With ``random_target`` it is the target that the frames
    of each episode show; before they do, nothing can be scored.

    Args:
        task: the game.
        targets: (B, 4), one for each episode, in place of what the task says.
    """
    low, high = task.config.target[2:]
    last = task.last_frame - task.config.lead_in
    objective: ReachRegion | ReachPointAtTime
    if task.line:
        point = None if task.random_target else [0.5 * (low + high)]
        objective = ReachPointAtTime(point, last, 0.5 * (high - low), index=[1])
    else:
        region = None if task.random_target else task.config.target
        times = range(last if task.success == "last" else 1, last + 1)
        objective = ReachRegion(region, times, ball=task.object_ball // 2)
    if targets is None:
        return objective
    return objective.aimed_at(as_tensor(targets, dtype=torch.float32)[:, -objective.shown :])


def scores_of(objective: Objective, obs: Tensor) -> Tensor:
    """The objective's scores (B, S) of observations (B, S, K, D); `ValueError` for others."""
    scores = objective(obs)
    if scores.shape != obs.shape[:2]:
        raise ValueError(
            f"an objective must turn observations (B, S, K, D) into scores (B, S), here "
            f"{tuple(obs.shape[:2])}, got {tuple(scores.shape)}"
        )
    return scores


def aimed(frames: Tensor, obs_size: int, objective: Objective) -> tuple[Tensor, Objective]:
    """The part of frames (B, T, D + G) that a model reads, and the objective at their target.

    Frames without a target, and objectives that cannot be aimed, are returned as they are.
    `ValueError` for a target that changes within an episode.
    """
    aim: Any = objective
    shown = getattr(objective, "shown", 0)
    if not shown or frames.ndim != 3 or frames.shape[2] != obs_size + shown:
        return frames, objective
    seen, targets = frames[..., :obs_size], frames[..., obs_size:]
    if bool((targets != targets[:, :1]).any()):
        raise ValueError(
            f"expected {obs_size} numbers of balls in each frame and then a target that stays "
            "where it is, got one that changes from frame to frame"
        )
    return seen, aim.aimed_at(targets[:, -1])


def action_bounds(low: Bound, high: Bound, size: int) -> tuple[Tensor, Tensor]:
    """Least and greatest action, (A,) each; `ValueError` for bounds between which there is none."""
    bounds = []
    for name, given in {"action_low": low, "action_high": high}.items():
        bound = as_tensor(given, dtype=torch.float32)
        if bound.shape not in ((), (size,)) or not bool(bound.isfinite().all()):
            raise ValueError(
                f"{name} must be a finite number, or one for each of the {size} entries of an "
                f"action, got {given}"
            )
        bounds.append(bound.expand(size).clone())
    least, greatest = bounds
    if not bool((least < greatest).all()):
        raise ValueError(f"action_low must lie below action_high, got {low} and {high}")
    return least, greatest
