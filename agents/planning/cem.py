"""A planner that needs no gradients: the cross-entropy method (Rubinstein 1999).

Letters: B episodes, S shots of an episode, A action size.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from jumpy_mbrl.agents.planning.budget import Budget
from jumpy_mbrl.agents.planning.episodes import Episodes
from jumpy_mbrl.agents.planning.planner import Planner, SearchConfig, best
from jumpy_mbrl.agents.planning.points import normal_spread


@dataclass(frozen=True)
class CEMConfig(SearchConfig):
    """How much a ``CEMPlanner`` searches; see ``SearchConfig`` for the rest.

    Attributes:
        population: shots of an iteration.
        elites: how many of the best the next distribution is fitted to.
        iterations: how often. Under a budget: while time lasts.
        initial_std: standard deviation of the first iteration's shots around the middle of the
            bounds, in units of the action range's half-width; so is the next one.
        minimum_std: least standard deviation of any iteration.
        momentum: how much of the last mean and standard deviation is kept, in [0, 1) (``alpha`` in
            mbrl-lib).
    """

    population: int = 64
    elites: int = 8
    iterations: int = 4
    initial_std: float = 0.5
    minimum_std: float = 0.02
    momentum: float = 0.1

    def __post_init__(self) -> None:
        self._check_at_least(1, "population", "elites", "iterations")
        self._check_at_least(0, "minimum_std")
        if self.elites > self.population:
            raise ValueError(
                f"elites must not exceed the population of {self.population}, got {self.elites}"
            )
        if not self.initial_std > 0:
            raise ValueError(f"initial_std must be positive, got {self.initial_std}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        super().__post_init__()


class CEMPlanner(Planner[CEMConfig]):
    """Draws shots from a normal distribution, and fits it to the best of them, again and again.

    The best shots of all iterations are stress-tested. Every episode has its own distribution and
    all are given the same draws, so episodes do not depend on each other. Nothing need be
    differentiable. See ``Planner`` for the arguments and ``CEMConfig`` for the options.
    """

    config_class = CEMConfig

    def _widest(self) -> int:
        return self.config.population

    def _search(self, episodes: Episodes, budget: Budget | None) -> tuple[Tensor, Tensor]:
        config = self.config
        B, A = len(episodes), len(episodes.low)
        mean = episodes.low.new_zeros(B, 1, A)
        std = torch.full_like(mean, config.initial_std)
        shots, scores = mean[:, :0], mean[:, :0, 0]
        count = config.iterations if budget is None else sys.maxsize
        sizes = repeat(config.population, count)
        for number, size in enumerate(self._rounds(sizes, episodes, budget)):
            draws = normal_spread(size, A, config.seed + 2 + number).to(mean)
            tried = (mean + std * draws).clamp(-1.0, 1.0)
            results = self._score(episodes, tried)
            elites, _ = best(tried, results, config.elites)
            mean = torch.lerp(elites.mean(dim=1, keepdim=True), mean, config.momentum)
            std = torch.lerp(elites.std(dim=1, keepdim=True, correction=0), std, config.momentum)
            std = std.clamp_min(config.minimum_std)
            shots, scores = best(
                torch.cat([shots, tried], dim=1),
                torch.cat([scores, results], dim=1),
                max(1, config.finalists),
            )
        return shots, scores
