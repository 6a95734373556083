"""Plans a shot through a world model: screen many, refine a few by gradient, stress-test the best.

Letters: B episodes, S candidates of an episode, A action size. A planner sees a world model and an
objective, and nothing of billiards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.agents.base import batch_of_frames
from jumpy_mbrl.agents.objectives import Objective
from jumpy_mbrl.models.base import State, WorldModel


@dataclass(frozen=True)
class PlannerConfig:
    """How much to search.

    Attributes:
        candidates: shots tried forward-only, spread evenly over the action space.
        refined: how many of the best are refined by gradient ascent.
        gradient_steps: Adam steps of the refinement.
        learning_rate: of Adam, in units of the action range's half-width.
        finalists: how many are stress-tested; 0 picks the best score without a test.
        perturbations: rollouts of each finalist with slightly other shots.
        action_noise: standard deviation of those other shots.
        rollouts_at_once: bound on memory; larger batches are worked off in parts.
        seed: of the candidates and the perturbations.
    """

    candidates: int = 128
    refined: int = 8
    gradient_steps: int = 8
    learning_rate: float = 0.02
    finalists: int = 8
    perturbations: int = 16
    action_noise: float = 0.01
    rollouts_at_once: int = 16_384
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("candidates", "refined", "rollouts_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("gradient_steps", "finalists", "perturbations", "action_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.finalists and not self.perturbations:
            raise ValueError("finalists need perturbations > 0; set finalists=0 for no stress test")


PROTOCOLS: dict[str, PlannerConfig] = {
    "default": PlannerConfig(),
    "paper": PlannerConfig(
        candidates=1, refined=1, gradient_steps=20, learning_rate=0.1, finalists=0
    ),
}
"""Search settings by name; ``paper`` is one start and 20 iterations (paper, section 3.4), with
steps long enough to cross the action space in them."""


@dataclass(frozen=True)
class Plan:
    """Chosen shots.

    Attributes:
        action: (B, A) in [-1, 1].
        score: the objective's score of the imagined shot, (B,).
        belief: fraction of the perturbed rollouts that succeed, (B,); without a stress test 1 or 0.
        ticks: world-model ticks of the imagined shot, (B,).
    """

    action: Tensor
    score: Tensor
    belief: Tensor
    ticks: Tensor


class GradientPlanner:
    """An agent that back-propagates through imagined rollouts.

    ``predict`` is a function of its input alone: the same frames give the same shot, whatever
    else is in the batch.

    Args:
        model: any world model with actions in [-1, 1].
        objective: what to reach.
        config: how much to search.
        oracle: marks an agent that is meant to be given the true state.
        checkpoint: the name or folder that the model came from, for the record.
        device: where to plan; by default where the model's weights are.

    Raises:
        ValueError: for a model without actions.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        config: PlannerConfig | None = None,
        oracle: bool = False,
        checkpoint: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        if model.action_size < 1:
            raise ValueError(
                f"a planner needs a model with actions, got {type(model).__name__} with "
                f"action_size={model.action_size}"
            )
        self.model = model
        self.objective = objective
        self.config = config or PlannerConfig()
        self.oracle = oracle
        self.checkpoint = checkpoint
        like = next(iter(model.parameters()), torch.zeros(()))
        self.device = device or like.device
        self._candidates = spread(self.config.candidates, model.action_size, self.config.seed)
        self._noise = self.config.action_noise * normal_spread(
            self.config.perturbations, model.action_size, self.config.seed + 1
        )

    def predict(
        self,
        observation: NDArray[np.float32],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``. ``state``: start from this model state instead of the frames.

        Raises:
            ValueError: frames of a wrong shape or not finite, or a state of another batch size.
        """
        frames, single = batch_of_frames(observation, self.model.obs_size)
        action = self.plan(frames, state).action.cpu().numpy().astype(np.float32)
        return (action[0] if single else action), None

    def plan(self, frames: NDArray[np.float32] | Tensor, state: State | None = None) -> Plan:
        """Plans for frames (B, T, D), or from model states, with the beliefs it came to."""
        if state is None:
            with torch.no_grad():
                state = self.model.observe(torch.as_tensor(frames, device=self.device))
        if state.batch_size != len(frames):
            raise ValueError(
                f"state must have one row for each of the {len(frames)} episodes, "
                f"got {state.batch_size}"
            )
        most = max(
            self.config.candidates,
            self.config.refined,
            self.config.finalists * self.config.perturbations,
        )
        rows = max(1, self.config.rollouts_at_once // most)
        parts = [
            self._plan_part(state[slice(start, start + rows)], start)
            for start in range(0, state.batch_size, rows)
        ]
        return Plan(*(torch.cat(column) for column in zip(*map(_columns, parts), strict=True)))

    def _plan_part(self, state: State, first: int) -> Plan:
        score_of = self._scorer(state, first)
        candidates = self._candidates.to(state.hidden).expand(state.batch_size, -1, -1)
        with torch.no_grad():
            scores = score_of(candidates)
        actions, scores = _best(candidates, scores, self.config.refined)
        if self.config.gradient_steps:
            actions, scores = self._refine(score_of, actions, scores)
        with torch.no_grad():
            belief = (scores > 0).to(scores.dtype)
            rank = scores
            if self.config.finalists:
                actions, scores = _best(actions, scores, self.config.finalists)
                belief, rank = self._stress_test(score_of, actions)
            chosen = rank.argmax(dim=1, keepdim=True)
            action = _take(actions, chosen).squeeze(1)
            ticks = self.model.imagine(state, self.objective.times, action).ticks
        return Plan(action, scores.gather(1, chosen)[:, 0], belief.gather(1, chosen)[:, 0], ticks)

    def _scorer(self, state: State, first: int) -> Callable[[Tensor], Tensor]:
        """The score (B, S) of actions (B, S, A)."""
        objective = self.objective.select(slice(first, first + state.batch_size))

        def score(actions: Tensor) -> Tensor:
            B, S, A = actions.shape
            imagined = self.model.imagine(
                state.repeat(S), objective.times, actions.reshape(B * S, A)
            )
            scores = objective(imagined.obs.view(B, S, *imagined.obs.shape[1:]))
            return scores.nan_to_num(nan=-torch.inf)  # a rollout that blew up is no success

        return score

    def _refine(
        self, score_of: Callable[[Tensor], Tensor], actions: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient ascent on every start by itself; the best iterate is kept, not the last."""
        best_actions, best_scores = actions, scores
        actions = actions.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([actions], lr=self.config.learning_rate)
        for step in range(self.config.gradient_steps + 1):
            last = step == self.config.gradient_steps
            with torch.set_grad_enabled(not last):
                scores = score_of(actions)
            better = scores.detach() > best_scores
            best_scores = torch.where(better, scores.detach(), best_scores)
            best_actions = torch.where(better.unsqueeze(-1), actions.detach(), best_actions)
            if not last:
                (gradient,) = torch.autograd.grad(-scores.sum(), actions)
                actions.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
                optimiser.step()
                with torch.no_grad():
                    actions.clamp_(-1.0, 1.0)
        return best_actions, best_scores

    def _stress_test(
        self, score_of: Callable[[Tensor], Tensor], actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Belief (B, S): how many slightly other shots succeed; and a rank that breaks ties."""
        B, S, A = actions.shape
        noise = self._noise.to(actions)
        others = (actions.unsqueeze(2) + noise).clamp(-1.0, 1.0)
        scores = score_of(others.view(B, -1, A)).view(B, S, -1)
        belief = (scores > 0).to(scores.dtype).mean(dim=-1)
        return belief, belief + 0.1 * scores.clamp(-1.0, 1.0).mean(dim=-1)


def spread(count: int, size: int, seed: int) -> Tensor:
    """``count`` points spread evenly over [-1, 1]^size (a scrambled Sobol sequence)."""
    if count == 0:
        return torch.empty(0, size)
    points: Tensor = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed).draw(count)
    return 2.0 * points - 1.0


def normal_spread(count: int, size: int, seed: int) -> Tensor:
    """``count`` standard normal points, spread evenly: (count, size)."""
    uniform = (spread(count, size, seed) + 1.0) / 2.0
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-4, 1.0 - 1e-4))
    return normal


def _columns(plan: Plan) -> tuple[Tensor, ...]:
    return plan.action, plan.score, plan.belief, plan.ticks


def _take(actions: Tensor, index: Tensor) -> Tensor:
    return actions.gather(1, index.unsqueeze(-1).expand(-1, -1, actions.shape[-1]))


def _best(actions: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best of each episode's actions (B, S, A), best first."""
    top = scores.topk(min(count, scores.shape[1]), dim=1)
    return _take(actions, top.indices), top.values
