"""All configurations: numbers and names that cannot be are refused by the setting's name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from jumpy_mbrl import agents, data, envs, models, training
from jumpy_mbrl.agents.baselines import presets
from jumpy_mbrl.lab.learning.points import LearningRun
from jumpy_mbrl.lab.worlds.pool import PoolConfig

SEARCHES = agents.PlannerConfig(), agents.CEMConfig()
CONFIGS: list[Any] = [
    *(training.TrainingConfig(models.RNNConfig()), data.DatasetConfig(), data.TaskConfig()),
    *(envs.TableConfig(), envs.PixelConfig(), PoolConfig(), LearningRun(10), *SEARCHES),
    *(presets.PolicyConfig(presets.PPOConfig()), presets.PPOConfig(), presets.SACConfig()),
    presets.TQCConfig(),
    *(kind.config() for kind in models.MODELS.values()),
]
MAY_BE_0 = """
action_noise action_size average constant_jump duration_weight early_ticks ent_coef epsilon
far_weight finalists first_epsilon forced_jumps gae_lambda gamma gradient_steps initial_speed_max
initial_speed_std latent_size lead_in learning_starts log_std_init max_impulse minimum_std momentum
noise own_jumps patience restart seed threads top_quantiles_to_drop_per_net weight_decay
"""
FREE = {
    ("PPOConfig", "log_std_init", -1.0),
    *((name, "device", "nonsense") for name in ("TrainingConfig", "PolicyConfig")),
}
WRONG = {int: (-1, 2.5), float: (-1.0, math.nan, math.inf), str: ("nonsense",)}


def impossible(config: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        kind = type(getattr(config, field.name))
        if config in SEARCHES and field.name in ("seed", "threads", "action_low", "action_high"):
            continue  # Any seed will do; planners judge the others, when they know the model.
        values: list[Any] = list(WRONG.get(kind, ()))
        if kind in (int, float) and field.name not in MAY_BE_0.split():
            values.append(kind(0))
        for value in values:
            if (type(config).__name__, field.name, value) not in FREE:
                yield field.name, value


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_what_cannot_be_is_refused_by_name(config: Any) -> None:
    cases = list(impossible(config))
    assert len(cases) >= 4
    for name, value in cases:
        with pytest.raises(ValueError, match=rf"{name}\b"):
            replace(config, **{name: value})
            pytest.fail(f"{name}={value} was taken")
