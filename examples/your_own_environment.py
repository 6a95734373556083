"""An environment that is not ours: Gymnasium's pendulum, swung up and balanced by plans.

    python examples/your_own_environment.py

Records episodes with random torques, trains a jumpy model of them, plans torques in the model's
imagination, and plays. A second call finds the trained model in the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import RescaleObservation
from torch import Tensor

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.agents import FunctionObjective, GradientPlanner, PlannerConfig, RecedingHorizon
from jumpy_mbrl.data import record
from jumpy_mbrl.models import ActionSequence, RelationalJumpConfig
from jumpy_mbrl.training import TrainingConfig, train

FRAMES = 201  # the reset, and the 200 steps after which the environment ends an episode
CONTEXT_FRAMES = 3  # frames that the model reads: three tell which torque is at work
MAX_SPEED = 8.0


@dataclass(frozen=True)
class Args:
    """How much to record, train and plan."""

    folder: Path = Path("runs/pendulum")
    """Where recordings and model are kept."""
    recorded: int = 200
    """Episodes to learn from."""
    steps: int = 2000
    """Updates of the weights."""
    hold: int = 4
    """Frames for which a torque holds."""
    horizon: int = 40
    """Frames to plan ahead."""
    candidates: int = 128
    """Sequences of torques that are screened for each decision."""
    episodes: int = 10
    """Episodes to play."""
    seed: int = 0
    """Of the recordings and the training; what is played comes from other seeds."""


def make_env(count: int) -> VectorEnv[Any, Any, Any]:
    """Pendulums whose observations (cosine, sine and speed) lie within [-1, 1]."""
    env = gym.make_vec("Pendulum-v1", count, vectorization_mode="sync")
    return RescaleObservation(env, np.float32(-1.0), np.float32(1.0))


def reward(obs: Tensor) -> Tensor:
    """Mean reward (B, S) of imagined observations (B, S, K, D), less the torque's small cost."""
    angle, speed = torch.atan2(obs[..., 1], obs[..., 0]), MAX_SPEED * obs[..., 2]
    return -(angle.square() + 0.1 * speed.square()).mean(dim=-1)


def main(args: Args) -> tuple[float, float]:
    """Trains and plays; returns the mean return of random torques, and that of plans."""
    timing: dict[str, Any] = {"hold": args.hold, "context_frames": CONTEXT_FRAMES}
    seen = record(make_env(args.recorded), args.recorded, FRAMES, seed=args.seed, **timing)
    frames = args.horizon + CONTEXT_FRAMES
    unseen = record(make_env(50), 50, frames, seed=args.seed + 10**6, **timing)

    config = TrainingConfig(
        model=RelationalJumpConfig(
            num_bodies=1,  # one plain vector
            body_size=3,
            same_everywhere=False,
            action_size=1,
            latent_size=8,  # it does not move in straight lines
            window=CONTEXT_FRAMES,
            horizon=args.hold,
            chain=5,
            own_jumps=0.5,
        ),
        train_data=seen.save(args.folder / "train.npz"),
        validation_data=unseen.save(args.folder / "validation.npz"),
        steps=args.steps,
        batch_size=256,
        optimizer="muon",
        learning_rate=5e-3,
        schedule="cosine",
        average=0.998,
        seed=args.seed,
    )
    run_dir = args.folder / "model"
    model = from_pretrained(train(config, run_dir, resume=run_dir.exists()))

    torques = ActionSequence(model, range(0, args.horizon, args.hold))
    planner = GradientPlanner(
        torques,
        FunctionObjective(reward, times=range(1, args.horizon + 1)),
        PlannerConfig(
            candidates=args.candidates,
            learning_rate=0.1,
            finalists=0,  # a return has no threshold to succeed by
            action_low=-2.0,
            action_high=2.0,
        ),
    )
    ticks = float(planner.plan(unseen.obs[:, :CONTEXT_FRAMES]).ticks.double().mean())
    print(f"ticks to imagine {args.horizon} frames: {ticks:.1f}")

    new = {"seed": args.seed + 2 * 10**6, **timing}
    env = make_env(args.episodes)
    policy = RecedingHorizon(planner, context_frames=CONTEXT_FRAMES)
    played = record(env, args.episodes, FRAMES, policy=policy, **new)
    random = record(env, args.episodes, FRAMES, **new)
    returns = float(random.reward.sum(axis=1).mean()), float(played.reward.sum(axis=1).mean())
    print(
        f"mean return of {args.episodes} episodes: "
        f"{returns[0]:.0f} by random torques, {returns[1]:.0f} by plans"
    )
    return returns


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
