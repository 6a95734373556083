"""Points that cover a space evenly: what planners draw instead of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from jumpy_mbrl.devices import plain_defaults


def spread(count: int, size: int, seed: int, skip: int = 0) -> Tensor:
    """``count`` points spread evenly over [-1, 1]^size (a scrambled Sobol sequence).

    ``skip``: leaves out so many first, so that a sequence may be drawn in pieces.
    """
    if count == 0:
        return torch.empty(0, size, dtype=torch.float32, device="cpu")
    with plain_defaults():
        engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed)
        engine = engine.fast_forward(skip) if skip else engine
        points: Tensor = engine.draw(count, dtype=torch.float32)
    return 2.0 * points - 1.0


def normal_spread(count: int, size: int, seed: int) -> Tensor:
    """``count`` standard normal points, spread evenly: (count, size)."""
    uniform = (spread(count, size, seed) + 1.0) / 2.0
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-4, 1.0 - 1e-4))
    return normal
