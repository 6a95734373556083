"""Stable-Baselines3's PPO, trained on shots that a world model imagines, tried on real tables.

    python examples/ppo_inside_the_model.py --timesteps 100000

The real environment deals the tables, with balls at rest; what follows a shot is imagined. The
dense reward tells near misses from far ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.adapters.sb3 import SB3VecEnv, make_vec_env


@dataclass(frozen=True)
class Args:
    """How to train."""

    model: str = "fold-billiards2d"
    """A shipped model, or a folder of yours."""
    timesteps: int = 100_000
    """Imagined shots to learn from."""
    tables: int = 500
    """Real tables to try the agent on, before and after."""
    seed: int = 0
    """Of everything random."""


def main(args: Args) -> tuple[float, float]:
    """Trains; returns the share of real tables that the agent wins before and after."""
    imagined = WorldModelVectorEnv(
        from_pretrained(args.model),
        num_envs=512,
        step_by="shot",
        reward="dense",
        start="rest",
        autoreset_mode="SameStep",
    )
    env = SB3VecEnv(imagined)
    env.seed(args.seed)
    agent = PPO(
        "MlpPolicy",
        env,
        n_steps=4,
        batch_size=512,
        learning_rate=1e-3,
        policy_kwargs={"net_arch": [256, 256], "log_std_init": -0.7},
        seed=args.seed,
        device="cpu",
    )

    before = success(agent, args)
    print(f"real tables won before training: {before:.1%}")
    agent.learn(args.timesteps)
    after = success(agent, args)
    print(f"real tables won after {agent.num_timesteps} imagined shots: {after:.1%}")
    return before, after


def success(agent: PPO, args: Args) -> float:
    """The share of real tables that the agent wins."""
    tables = make_vec_env("Billiards2DShot-v0", n_envs=100, seed=args.seed + 10**6, start="rest")
    rewards, _ = evaluate_policy(
        agent, tables, n_eval_episodes=args.tables, return_episode_rewards=True
    )
    return float(np.mean(rewards))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
