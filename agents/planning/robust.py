"""Robust selection: of good actions the one that succeeds however it is disturbed.

Letters: B episodes, S actions of an episode, A action size, P perturbations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jumpy_mbrl.agents.planning.optimizers import Found, Score, best


def select(
    models: Sequence[Score], found: Found, finalists: int, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One of the actions found for each episode, (B, A), its score and the belief in it, (B,).

    Args:
        models: scores of actions as each model of an ensemble imagines them; they share the noise.
        found: actions in the unit box and scores, by which the finalists are chosen.
        finalists: how many are tested; without any the best score wins, and belief is 1 or 0.
        noise: (P, A), added to each finalist. The share of these rollouts that succeed is the
            belief; among equals the higher mean score wins.
    """
    actions, scores = best(finalists, found) if finalists else found
    belief, rank = (scores > 0).to(scores.dtype), scores
    if finalists:
        results = torch.cat(
            [_perturbed(s, actions, noise[m :: len(models)]) for m, s in enumerate(models)], dim=-1
        )
        belief = (results > 0).to(results.dtype).mean(dim=-1)
        rank = belief + 0.1 * results.clamp(-1.0, 1.0).mean(dim=-1)
    chosen = rank.argmax(dim=1, keepdim=True)
    action = actions.take_along_dim(chosen.unsqueeze(-1), dim=1)[:, 0]
    return action, scores.gather(1, chosen)[:, 0], belief.gather(1, chosen)[:, 0]


def _perturbed(score: Score, actions: Tensor, noise: Tensor) -> Tensor:
    """Scores (B, S, P) of actions (B, S, A) with noise (P, A)."""
    others = (actions.unsqueeze(2) + noise.to(actions)).clamp(-1.0, 1.0)
    return score(others.flatten(1, 2)).view(others.shape[:3])
