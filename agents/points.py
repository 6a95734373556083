"""Points that cover a space evenly: what planners draw instead of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(count: int, size: int, seed: int, skip: int = 0) -> Tensor:
    """``count`` points spread evenly over [-1, 1]^size (a scrambled Sobol sequence).

    ``skip``: leaves out so many first, so that a sequence may be drawn in pieces.
    """
    if count == 0:
        return torch.empty(0, size)
    engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed)
    points: Tensor = engine.fast_forward(skip).draw(count) if skip else engine.draw(count)
    return 2.0 * points - 1.0


def normal_spread(count: int, size: int, seed: int) -> Tensor:
    """``count`` standard normal points, spread evenly: (count, size)."""
    uniform = (spread(count, size, seed) + 1.0) / 2.0
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-4, 1.0 - 1e-4))
    return normal
