"""Searches for the best actions, which know a function that scores them and nothing else.

They are given a function that scores actions (B, S, A) in the unit box, [-1, 1] in every direction,
as (B, S), more being better; what was found before; the time to search in; and how much to search.
They return the best that they found, best first. Every episode is searched by itself.

Letters: B episodes, S actions of an episode, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.agents.planning.budget import Budget
from jumpy_mbrl.agents.planning.config import CEMConfig, PlannerConfig
from jumpy_mbrl.devices import plain_defaults

Score = Callable[[Tensor], Tensor]
Found = tuple[Tensor, Tensor]
"""Actions (B, S, A) in the unit box, and their scores (B, S)."""
Optimizer = Callable[[Score, Found, Budget, Any], Found]

_FIRST_ROUND = 16
"""Candidates of the first round under a budget."""

_SCREENING = 0.8
"""Share of the time of a search for screening, if refinement follows."""


def sobol_search(score: Score, found: Found, budget: Budget, config: PlannerConfig) -> Found:
    """Tries Sobol points, forward-only. Under a budget each round doubles what has been tried."""
    B, _, A = found[0].shape
    most = config.candidates

    def doubling() -> Iterator[int]:
        size = min(_FIRST_ROUND, most)
        yield size
        while True:
            yield size
            size = min(2 * size, most)

    tried = 0
    share = _SCREENING if config.gradient_steps else 1.0
    for size in budget.rounds([most], doubling(), share):
        points = sobol_points(size, A, config.seed, skip=tried).to(found[0]).expand(B, -1, -1)
        tried += size
        found = best(config.refined, found, (points, score(points)))
    return found


@torch.no_grad()
def gradient_ascent(score: Score, found: Found, budget: Budget, config: PlannerConfig) -> Found:
    """Improves every action by itself with Adam; the best iterate is kept, not the last."""
    best_actions, best_scores = found
    actions = best_actions.clone().requires_grad_(True)
    adam = torch.optim.Adam([actions], lr=config.learning_rate, maximize=True)
    for goes_on in budget.steps(config.gradient_steps, actions.shape[1]):
        with torch.set_grad_enabled(goes_on):
            scores = score(actions)
        better = scores.detach() > best_scores
        best_scores = torch.where(better, scores.detach(), best_scores)
        best_actions = torch.where(better.unsqueeze(-1), actions.detach(), best_actions)
        if goes_on:
            (gradient,) = torch.autograd.grad(scores, actions, torch.ones_like(scores))
            actions.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            with plain_defaults():
                adam.step()
            actions.clamp_(-1.0, 1.0)
    return best_actions, best_scores


def cross_entropy(score: Score, found: Found, budget: Budget, config: CEMConfig) -> Found:
    """Draws from a normal distribution, and fits it to the best, again and again (Rubinstein 1999).

    All episodes are given the same draws; each has its own distribution.
    """
    B, _, A = found[0].shape
    mean = found[0].new_zeros(B, 1, A)
    std = torch.full_like(mean, config.initial_std)
    planned, endless = repeat(config.population, config.iterations), repeat(config.population)
    for number, size in enumerate(budget.rounds(planned, endless)):
        draws = normal_points(size, A, config.seed + 2 + number).to(mean)
        tried = (mean + std * draws).clamp(-1.0, 1.0)
        results = tried, score(tried)
        elites, _ = best(config.elites, results)
        mean = torch.lerp(elites.mean(dim=1, keepdim=True), mean, config.momentum)
        std = torch.lerp(elites.std(dim=1, keepdim=True, correction=0), std, config.momentum)
        std = std.clamp_min(config.minimum_std)
        found = best(max(1, config.finalists), found, results)
    return found


def best(count: int, *found: Found) -> Found:
    """The ``count`` best of all that was found for each episode, best first."""
    actions, scores = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    top = scores.topk(min(count, scores.shape[1]), dim=1)
    return actions.take_along_dim(top.indices.unsqueeze(-1), dim=1), top.values


def sobol_points(count: int, size: int, seed: int, skip: int = 0) -> Tensor:
    """A scrambled Sobol sequence, ``count`` points evenly over [-1, 1]^size.

    ``skip``: leaves out so many first, so that a sequence may be drawn in pieces.
    """
    with plain_defaults():
        engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed)
        engine = engine.fast_forward(skip) if skip else engine
        points: Tensor = engine.draw(count, dtype=torch.float32)
    return 2.0 * points - 1.0


def normal_points(count: int, size: int, seed: int) -> Tensor:
    """``count`` standard normal points, spread evenly: (count, size)."""
    if count == 0:
        return torch.empty(0, size, dtype=torch.float32, device="cpu")
    uniform = (sobol_points(count, size, seed) + 1.0) / 2.0
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-4, 1.0 - 1e-4))
    return normal
