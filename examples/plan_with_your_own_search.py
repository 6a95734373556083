"""Planning with a search of your own: here random shooting, which asks what candidates cost.

python examples/plan_with_your_own_search.py --tables 100 --candidates 256
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
import tyro

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.agents import ReachRegion


@dataclass(frozen=True)
class Args:
    """What to plan with."""

    model: str = "fold-billiards2d"
    """A shipped model, or a folder of yours."""
    tables: int = 100
    """Tables to play."""
    candidates: int = 64
    """Random shots that are imagined in each round."""
    rounds: int = 4
    """Rounds of candidates."""
    seed: int = 0
    """Of the tables and the candidates."""


def main(args: Args) -> float:
    """Plays the tables; returns the share that was won."""
    env = gym.make_vec("Billiards2DShot-v0", args.tables, vectorization_mode="vector_entry_point")
    frames, _ = env.reset(seed=args.seed)

    target = ReachRegion((0.8, 1.0, 0.0, 0.2), times=range(1, 42))  # at any frame after the shot
    costs = CostModel(from_pretrained(args.model), target)
    info = {"frames": frames.reshape(args.tables, 4, 4)}

    # The search: it knows nothing of models, so put yours in its place.
    rng = torch.Generator().manual_seed(args.seed)
    best, least = torch.zeros(args.tables, 2), torch.full((args.tables,), torch.inf)
    for _ in range(args.rounds):
        tried = 2.0 * torch.rand(args.tables, args.candidates, 2, generator=rng) - 1.0
        cost, index = costs.get_cost(info, tried).min(dim=1)
        better = cost < least
        best[better] = tried[better, index[better]]
        least[better] = cost[better]

    _, _, _, _, result = env.step(best.numpy())
    won = float(result["is_success"].mean())
    print(
        f"believed {float((least < 0).float().mean()):.1%}, won {won:.1%} of {args.tables} tables"
    )
    return won


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
