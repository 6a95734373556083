"""A planner that screens many shots, and refines the best by gradients through the rollout.

Letters: B episodes, S shots of an episode, A action size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpy_mbrl.agents.planning.budget import Budget, Cost
from jumpy_mbrl.agents.planning.episodes import Episodes
from jumpy_mbrl.agents.planning.planner import Plan, Planner, SearchConfig, best
from jumpy_mbrl.agents.planning.points import spread
from jumpy_mbrl.devices import plain_defaults
from jumpy_mbrl.models.base import WorldModel

_FIRST_ROUND = 16
"""Candidates of the first round under a budget."""

_SCREENING = 0.8
"""Share of a budget, less what is kept for the stress test, for screening if refinement follows."""

_STEP_COST = 4.0
"""Rollouts for whose price one is had with its gradient, until some have been timed."""


@dataclass(frozen=True)
class PlannerConfig(SearchConfig):
    """How much a ``GradientPlanner`` searches; see ``SearchConfig`` for the rest.

    Attributes:
        candidates: shots tried forward-only, spread evenly over the bounds. Under a budget the
            largest number tried at once.
        refined: how many of the best are refined by gradient ascent.
        gradient_steps: Adam steps of the refinement. Under a budget any number but 0 means: while
            time lasts.
        learning_rate: of Adam, in units of the action range's half-width.
        skip_certain: stress-tests the screened shots first, and refines only where none of them
            won all of its perturbed rollouts. Saves time, so it cannot go with a budget.
    """

    candidates: int = 128
    refined: int = 8
    gradient_steps: int = 8
    learning_rate: float = 0.02
    skip_certain: bool = False

    def __post_init__(self) -> None:
        self._check_at_least(1, "candidates", "refined")
        self._check_at_least(0, "gradient_steps")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.skip_certain and not self.finalists:
            raise ValueError("skip_certain needs a stress test; set finalists > 0")
        if self.skip_certain and self.budget_ms is not None:
            raise ValueError(
                "skip_certain saves time and budget_ms spends it; set one of them, "
                f"got skip_certain=True and budget_ms={self.budget_ms}"
            )
        super().__post_init__()


PROTOCOLS: dict[str, PlannerConfig] = {
    "default": PlannerConfig(),
    "paper": PlannerConfig(
        candidates=1, refined=1, gradient_steps=20, learning_rate=0.1, finalists=0
    ),
}
"""Search settings by name; ``paper`` is one start and 20 iterations (paper, section 3.4), with
steps long enough to cross the action space in them."""


class GradientPlanner(Planner[PlannerConfig]):
    """Screens many shots forward-only, refines the best by gradient, stress-tests the finalists.

    See ``Planner`` for the arguments and ``PlannerConfig`` for the options. The objective and the
    model must be differentiable unless ``gradient_steps`` is 0; planning within
    ``torch.inference_mode`` is no obstacle, but a model that was loaded there is refused.
    """

    config_class = PlannerConfig

    def _widest(self) -> int:
        return max(self.config.candidates, self.config.refined)

    def _search(self, episodes: Episodes, budget: Budget | None) -> tuple[Tensor, Tensor]:
        return self._refine(episodes, *self._screen(episodes, budget), budget)

    def _plan_part(self, episodes: Episodes, budget: Budget | None) -> Plan:
        if not (self.config.skip_certain and self.config.gradient_steps):
            return super()._plan_part(episodes, budget)
        shots, scores = self._screen(episodes, budget)
        plan = self._choose(episodes, shots, scores, budget)
        rows = (plan.belief < 1).nonzero()[:, 0]
        if len(rows) == 0:
            return plan
        unsure = episodes[rows]
        refined = self._refine(unsure, shots[rows], scores[rows], budget)
        return plan.update_rows(rows, self._choose(unsure, *refined, budget))

    def _screen(self, episodes: Episodes, budget: Budget | None) -> tuple[Tensor, Tensor]:
        """The best of many shots, and their scores."""
        B, A = len(episodes), len(episodes.low)
        shots, scores = episodes.low.new_empty(B, 0, A), episodes.low.new_empty(B, 0)
        tried = 0
        share = _SCREENING if self.config.gradient_steps else 1.0
        for size in self._rounds(self._sizes(budget), episodes, budget, share):
            points = spread(size, A, self.config.seed, skip=tried).to(shots)
            candidates = points.expand(B, -1, -1)
            tried += size
            shots, scores = best(
                torch.cat([shots, candidates], dim=1),
                torch.cat([scores, self._score(episodes, candidates)], dim=1),
                self.config.refined,
            )
        return shots, scores

    def _sizes(self, budget: Budget | None) -> Iterator[int]:
        """Candidates of each round. Under a budget each doubles what has been tried."""
        most = self.config.candidates
        if budget is None:
            yield most
            return
        size = min(_FIRST_ROUND, most)
        yield size
        while True:
            yield size
            size = min(2 * size, most)

    def _refine(
        self, episodes: Episodes, shots: Tensor, scores: Tensor, budget: Budget | None
    ) -> tuple[Tensor, Tensor]:
        """Gradient ascent on every start by itself; the best iterate is kept, not the last."""
        if self.config.gradient_steps:
            for model in episodes.models if self.config.search_ensemble else episodes.models[:1]:
                _check_differentiable(model)
        best_shots, best_scores = shots, scores
        shots = shots.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([shots], lr=self.config.learning_rate, maximize=True)
        for goes_on in self._steps(episodes, shots.shape[1], budget):
            with torch.set_grad_enabled(goes_on):
                scores = self._score(episodes, shots)
            better = scores.detach() > best_scores
            best_scores = torch.where(better, scores.detach(), best_scores)
            best_shots = torch.where(better.unsqueeze(-1), shots.detach(), best_shots)
            if goes_on:
                (gradient,) = torch.autograd.grad(scores, shots, torch.ones_like(scores))
                shots.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
                with plain_defaults():
                    optimiser.step()
                shots.clamp_(-1.0, 1.0)
        return best_shots, best_scores

    def _steps(self, episodes: Episodes, starts: int, budget: Budget | None) -> Iterator[bool]:
        """True for every step to make, then False to score where the last one led."""
        steps = self.config.gradient_steps
        if steps and budget is None:
            yield from [True] * steps
            yield False
        elif steps and budget is not None:
            rollouts = starts * len(episodes)
            forward = budget.cost(rollouts)
            cost = Cost(budget.clock, each=_STEP_COST * forward / rollouts)
            keep = forward + budget.cost(self._test_rollouts(episodes))
            stepped = False
            while budget.fits(cost(rollouts), keep=keep):
                with cost.timing(rollouts):
                    yield True
                stepped = True
            if stepped:
                yield False


def _check_differentiable(model: WorldModel) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_inference():
            raise ValueError(
                "expected weights that gradients can flow through, got some that were made in "
                "torch.inference_mode; load the model outside of it, or set gradient_steps=0"
            )
