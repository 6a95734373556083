"""What it costs to train a policy on real tables, and inside world models.

Work is counted in shots, each with the frames before it and up to 41 frames after it. Played shots
are those of the environment alone, with random actions; learned ones include all that PPO does with
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from jumpy_mbrl.agents.baselines.presets import PolicyConfig, policy_preset
from jumpy_mbrl.agents.baselines.train import make_algorithm, make_env
from jumpy_mbrl.data.seeds import training_table_seeds
from jumpy_mbrl.lab.bench.clock import Clock, Row, Work, make_rows

PRESET = "ppo-rest-coords"
TABLES = 1024
MODELS = ("rnn-billiards2d", "jumpy-rnn-billiards2d", "fold-billiards2d")
"""World models to train inside of, the one that the others are compared with first."""
REAL = "real tables"


def bench_policies(clock: Clock) -> Iterator[Row]:
    """Shots a second, on real tables and inside each model: played, and learned from by PPO."""
    real = replace(policy_preset(PRESET), n_envs=TABLES)
    configs = {**{name: replace(real, inside=name) for name in MODELS}, REAL: real}
    for what, worker in (("played", _player), ("learned from by PPO", _learner)):
        rates = clock.rates({place: worker(config) for place, config in configs.items()})
        yield from make_rows(rates, "shots/s", f"shots {what}, {{}}".format, base=MODELS[0])


def _tables(config: PolicyConfig) -> VecEnv:
    env = make_env(config)
    env.seed(training_table_seeds(config.seed, config.n_envs)[0])
    return env


def _player(config: PolicyConfig) -> Work:
    """Plays a shot on every table, and deals new ones."""
    env, rng = _tables(config), np.random.default_rng(0)
    env.reset()

    def work() -> int:
        env.step(rng.uniform(-1.0, 1.0, (config.n_envs, 2)).astype(np.float32))
        return config.n_envs

    return work


def _learner(config: PolicyConfig) -> Work:
    """One update of PPO: its shots, and all passes over them."""
    model = make_algorithm(config, _tables(config))

    def work() -> int:
        before = model.num_timesteps
        model.learn(1, reset_num_timesteps=False)  # no less than an update
        return model.num_timesteps - before

    return work
