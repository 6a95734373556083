"""Points that cover a space evenly."""

from __future__ import annotations

import pytest
import torch

from jumpy_mbrl.agents.planning.points import normal_spread, spread


def test_spread_covers_the_space_evenly() -> None:
    points = spread(64, 2, seed=0)
    assert points.shape == (64, 2) and float(points.abs().max()) <= 1.0
    quadrants = (points > 0).long() @ torch.tensor([1, 2])
    assert torch.bincount(quadrants, minlength=4).tolist() == [16, 16, 16, 16]
    assert torch.equal(points, spread(64, 2, seed=0))
    assert not torch.equal(points, spread(64, 2, seed=1))
    assert spread(0, 2, seed=0).shape == (0, 2)


def test_spread_may_be_drawn_in_pieces() -> None:
    pieces = [spread(5, 3, seed=4), spread(1, 3, seed=4, skip=5), spread(26, 3, seed=4, skip=6)]
    assert torch.equal(torch.cat(pieces), spread(32, 3, seed=4))


def test_normal_spread_is_standard_normal() -> None:
    points = normal_spread(512, 2, seed=0)
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(points.std(dim=0), torch.ones(2), atol=0.03, rtol=0)
    assert float(points.prod(dim=1).mean()) == pytest.approx(0.0, abs=0.05)
    assert bool(normal_spread(16, 2, seed=5).isfinite().all())
