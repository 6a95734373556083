"""Recurrent models whose networks see observations divided by a scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.models import (
    JumpyRNNConfig,
    ODERNNConfig,
    RNNConfig,
    from_pretrained,
    save_pretrained,
)
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.registry import make_model

SCALE = (10.0, 0.5)
CONFIGS: dict[str, RNNConfig | ODERNNConfig | JumpyRNNConfig] = {
    "RNN": RNNConfig(2, 2, 16, 16),
    "RNN of frames": RNNConfig(2, 2, 16, 16, residual=False),
    "ODE-RNN": ODERNNConfig(2, 2, 16, 16),
    "ODE-RNN of frames": ODERNNConfig(2, 2, 16, 16, residual=False),
    "JumpyRNN": JumpyRNNConfig(2, 2, 16, 16, epsilon=0.05, priming=1),
    "JumpyRNN as printed": JumpyRNNConfig(2, 2, 16, 16, residual=False, epsilon=0.05, priming=1),
}


@pytest.fixture(params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> tuple[WorldModel, WorldModel]:
    """A model, and the same with a scale."""
    config = CONFIGS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = make_model(config)
    scaled = make_model(replace(config, scale=SCALE))
    scaled.load_state_dict(plain.state_dict())
    return plain, scaled


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "obs": torch.rand(6, 12, 2, generator=generator),
        "action": torch.zeros(6, 12, 2),
        "u": torch.rand(6, 12, generator=generator),
    }


def test_it_is_a_change_of_units(
    pair: tuple[WorldModel, WorldModel], batch: dict[str, Tensor]
) -> None:
    plain, scaled = pair
    units = torch.tensor(SCALE)
    obs, times = batch["obs"], [0.5, 1.0, 3.7, 6.0]
    expected = plain.imagine(plain.observe(obs[:, :4]), times).obs * units
    shown = scaled.imagine(scaled.observe(obs[:, :4] * units), times).obs
    torch.testing.assert_close(shown, expected)
    assert not torch.allclose(shown, expected / units)


def test_the_loss_is_told_in_these_units(
    pair: tuple[WorldModel, WorldModel], batch: dict[str, Tensor]
) -> None:
    plain, scaled = pair
    expected, log = plain.loss(batch)
    loss, scaled_log = scaled.loss({**batch, "obs": batch["obs"] * torch.tensor(SCALE)})
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(scaled_log["mean_jump"], log["mean_jump"])


def test_it_is_kept_with_the_weights(
    pair: tuple[WorldModel, WorldModel], tmp_path: Path, batch: dict[str, Tensor]
) -> None:
    _, scaled = pair
    loaded = from_pretrained(save_pretrained(scaled, tmp_path))
    assert loaded.config == scaled.config
    frames = batch["obs"][:, :4]
    expected = scaled.imagine(scaled.observe(frames), [2.5]).obs
    assert torch.equal(loaded.imagine(loaded.observe(frames), [2.5]).obs, expected)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((1.0, 2.0, 3.0), r"scale must have 1 or 2 numbers, got \(1.0, 2.0, 3.0\)"),
        ((), r"scale must have 1 or 2 numbers, got \(\)"),
        ((1.0, 0.0), r"scale must be positive and finite, got \(1.0, 0.0\)"),
        ((float("inf"),), "scale must be positive and finite"),
        ((float("nan"), 1.0), "scale must be positive and finite"),
    ],
)
def test_bad_scales(
    config: RNNConfig | ODERNNConfig | JumpyRNNConfig, scale: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, scale=scale)
