"""The worlds of the study: what is recorded, what plans are scored by, and how all learn.

Letters: B episodes, S candidates, K frames ahead, D observation size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import RescaleObservation
from torch import Tensor

from jumpy_mbrl.agents import PlannerConfig
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.lab.worlds.balls import BallsConfig, BallsVectorEnv
from jumpy_mbrl.lab.worlds.pool import PoolConfig, PoolVectorEnv, sum_to_three, times_of
from jumpy_mbrl.models.relational_jump import RelationalJumpConfig
from jumpy_mbrl.objectives import FunctionObjective, Objective, ReachRegion

Make = Callable[[int], VectorEnv[Any, Any, Any]]
_TARGET = TableConfig().target
RECIPE: Any = {"optimizer": "muon", "learning_rate": 5e-3, "schedule": "cosine", "average": 0.998}
"""Settings of all trainings."""


@dataclass(frozen=True)
class World:
    """A world, and how all that learn it are treated.

    Attributes:
        about: what it is, in a few words.
        make: vector environments of it.
        frames: of an episode, as recorded and as played.
        hold: frames for which an action is given.
        horizon: frames that are planned ahead.
        objective: what plans are scored by.
        jump: our model.
        steps: updates of its weights.
        batch_size: of our model's training.
        rnn_steps: updates of the RNN's.
        episodes: recorded, by random actions, to learn from.
        planned: further ones, played by plans in a model that has learned from those for half of
            the updates.
        piece: frames of the pieces that episodes are cut into; None for whole ones.
        plays: episodes played by each agent.
        context_frames: shown before the first action.
        search: of the planner.
        sac: settings of SAC by SB3's names, those of rl-zoo3; the rest are SB3's own.
        env_id: of a single environment that SAC plays; None for a game of one shot.
        needs: a package that it is made of, and that may be missing.
    """

    about: str
    make: Make
    frames: int
    hold: int
    horizon: int
    objective: Objective
    jump: RelationalJumpConfig
    steps: int
    rnn_steps: int
    episodes: int
    planned: int = 0
    piece: int | None = None
    plays: int = 1000
    context_frames: int = 4
    batch_size: int = 512
    search: PlannerConfig = field(default_factory=PlannerConfig)
    sac: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    env_id: str | None = None
    needs: str | None = None

    @property
    def learned(self) -> int:
        """Episodes that each agent learns from."""
        return self.episodes + self.planned

    @property
    def is_shot(self) -> bool:
        """Whether an episode is one decision, and its return a success or none."""
        return self.env_id is None


def _gym(name: str) -> Make:
    """Environments of Gymnasium whose observations lie within [-1, 1]."""

    def make(count: int) -> VectorEnv[Any, Any, Any]:
        env = gym.make_vec(name, count, vectorization_mode="sync")
        return RescaleObservation(env, np.float32(-1.0), np.float32(1.0))

    return make


def _sum_to_three(about: str, config: PoolConfig, jump: RelationalJumpConfig) -> World:
    """A game of pooltool's; the search is wider, as few shots hit the other ball."""
    times = times_of(config)
    return _shot(
        about,
        partial(PoolVectorEnv, config=config),
        jump,
        frames=config.num_frames,
        hold=len(times) - 1,
        horizon=len(times) - 1,
        objective=FunctionObjective(sum_to_three, times),
        rnn_steps=2000,
        plays=300,
        search=PlannerConfig(candidates=256),
        needs="pooltool",
    )


def _upright(obs: Tensor) -> Tensor:
    """The pendulum's reward, without the small cost of the torque."""
    angle, speed = torch.atan2(obs[..., 1], obs[..., 0]), 8.0 * obs[..., 2]
    return -(angle.square() + 0.1 * speed.square()).mean(dim=-1)


def _uphill(obs: Tensor) -> Tensor:
    """How far above the car's goal, 0.45 of -1.2 to 0.6, its highest place is."""
    return obs[..., 0].amax(dim=-1) - (2.0 * (0.45 + 1.2) / 1.8 - 1.0)


def _shot(about: str, make: Make, jump: RelationalJumpConfig, **settings: Any) -> World:
    """A game of one shot, as on the billiards table."""
    goal = min(1, jump.num_bodies - 1)
    return World(
        about,
        make,
        **{
            "frames": 45,
            "hold": 41,
            "horizon": 41,
            "objective": ReachRegion(_TARGET, range(1, 42), goal),
            "jump": jump,
            "steps": 4000,
            "rnn_steps": 4000,
            "episodes": 20_000,
            "sac": {"learning_starts": 1000, "gradient_steps": -1},
            **settings,
        },
    )


_SPACE = RelationalJumpConfig(passes=2)
_CURVED = RelationalJumpConfig(passes=2, latent_size=4)
_PLAIN: dict[str, Any] = {"num_bodies": 1, "same_everywhere": False}
_HELD: dict[str, Any] = {"action_size": 1, "window": 3, "latent_size": 8}
_CONTROL: dict[str, Any] = {
    "candidates": 64,
    "refined": 4,
    "finalists": 0,
    "learning_rate": 0.1,
}
_BUMPERS = BallsConfig(
    num_balls=1, goal=0, radius=0.05, bumpers=((0.35, 0.4, 0.1), (0.7, 0.6, 0.08))
)

WORLDS: dict[str, World] = {
    "restitution": _shot(
        "Billiards2D-v0 with restitution 0.8",
        partial(gym.make_vec, BILLIARDS_2D, config=TableConfig(restitution=0.8)),
        _SPACE,
    ),
    "drag": _shot(
        "balls that lose 30 % of their speed per time unit",
        partial(BallsVectorEnv, config=BallsConfig(drag=-math.log(0.7))),
        _CURVED,
    ),
    "gravity": _shot(
        "balls that fall, in a closed box",
        partial(BallsVectorEnv, config=BallsConfig(gravity=1.0)),
        _CURVED,
    ),
    "bumpers": _shot(
        "one ball among round bumpers that are not observed",
        partial(BallsVectorEnv, config=_BUMPERS),
        RelationalJumpConfig(**_PLAIN, passes=2),
    ),
    "pooltool": _sum_to_three("sum to three, in pooltool's physics", PoolConfig(), _CURVED),
    "pooltool-aimed": _sum_to_three(
        "the same, where actions are speed and cut, as in LightZero",
        PoolConfig(aimed=True),
        RelationalJumpConfig(**_PLAIN, body_size=4, passes=2, latent_size=4),
    ),
    "pendulum": World(
        about="Gymnasium's Pendulum-v1",
        make=_gym("Pendulum-v1"),
        env_id="Pendulum-v1",
        frames=201,
        hold=4,
        horizon=40,
        objective=FunctionObjective(_upright, range(1, 41)),
        jump=RelationalJumpConfig(
            **_PLAIN, **_HELD, body_size=3, horizon=4, chain=10, own_jumps=0.75, certainty=0.95
        ),
        steps=6000,
        rnn_steps=3000,
        episodes=100,
        planned=100,
        piece=43,
        plays=100,
        context_frames=3,
        batch_size=256,
        search=PlannerConfig(**_CONTROL, action_low=-2.0, action_high=2.0),
        sac={"learning_rate": 1e-3},
    ),
    "mountain-car": World(
        about="Gymnasium's MountainCarContinuous-v0",
        make=_gym("MountainCarContinuous-v0"),
        env_id="MountainCarContinuous-v0",
        frames=401,
        hold=8,
        horizon=160,
        objective=FunctionObjective(_uphill, range(1, 161)),
        jump=RelationalJumpConfig(
            **_PLAIN, **_HELD, body_size=2, horizon=8, chain=10, own_jumps=0.75, certainty=0.95
        ),
        steps=6000,
        rnn_steps=2000,
        episodes=125,
        piece=99,
        plays=50,
        context_frames=3,
        batch_size=256,
        search=PlannerConfig(**_CONTROL),
        sac={
            "learning_starts": 0,
            "buffer_size": 50_000,
            "batch_size": 512,
            "ent_coef": 0.1,
            "train_freq": 32,
            "gradient_steps": 32,
            "gamma": 0.9999,
            "tau": 0.01,
            "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64]},
        },
    ),
}
"""By name."""


def installed() -> tuple[str, ...]:
    """The worlds whose packages are there."""
    return tuple(name for name, w in WORLDS.items() if w.needs is None or find_spec(w.needs))
