"""The optimizers of a run."""

from __future__ import annotations

import torch
from torch import nn

from jumpy_mbrl.training.optimizer import Optimizer, OptimizerName


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 16)
    return nn.Sequential(*layers)


def changes(name: OptimizerName, rate: float = 1e-3) -> list[torch.Tensor]:
    """What one step changes in each parameter."""
    module = network()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = Optimizer(module, name, learning_rate=1.0, weight_decay=0.0)
    module(torch.randn(64, 6)).square().mean().backward()
    optimizer.step(rate)
    return [p.detach() - old for p, old in zip(module.parameters(), before, strict=True)]


def test_muon_turns_all_directions_of_a_matrix_alike() -> None:
    for by_muon, by_adamw in zip(changes("muon"), changes("adamw"), strict=True):
        if by_muon.ndim == 1:
            assert by_muon.equal(by_adamw)
            continue
        even, uneven = (torch.linalg.svdvals(change) for change in (by_muon, by_adamw))
        assert even.max() < 4.0 * even.median()
        assert uneven.max() / uneven.median() > 1.5 * even.max() / even.median()
        # As large, by the root of the mean square, as a step of AdamW usually is.
        assert 0.1e-3 < by_muon.square().mean().sqrt() < 0.4e-3


def test_a_step_is_as_long_as_its_rate() -> None:
    for slow, fast in zip(changes("muon", 1e-3), changes("muon", 3e-3), strict=True):
        torch.testing.assert_close(3.0 * slow, fast, rtol=1e-3, atol=1e-7)


def test_parameters_without_gradients_rest_and_have_no_state() -> None:
    module = network()
    optimizer = Optimizer(module, "muon", 1e-3, 0.0)
    last = list(module.parameters())[-2:]
    (last[0].sum() + last[1].sum()).backward()
    optimizer.step(1e-3)
    assert set(optimizer.state()) == {"4.momentum_buffer", "5.step", "5.exp_avg", "5.exp_avg_sq"}
    other = Optimizer(network(), "muon", 1e-3, 0.0)
    other.restore(optimizer.state())
    assert set(other.state()) == set(optimizer.state())
