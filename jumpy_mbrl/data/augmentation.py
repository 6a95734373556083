"""Pictures as other cameras would show them: other light, other grounds, blur, noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_PLAIN: Any = {"dtype": torch.float32, "device": "cpu"}
_GROUND, _LIGHT, _NOISE = 0.3, 0.45, 0.06
"""Most that colours of the ground and the light change by, and most noise; the range is 1."""
_SHARES = {"ground": 0.5, "light": 0.7, "blur": 0.2, "noise": 0.6}
"""Of the pictures, that each is done to."""
_FOREIGN = 0.4
"""What differs from the ground by that much is not tinted with it."""


def spoilt(pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Pictures (B, D) of size x size pixels, channels last, each spoilt in ways that are drawn.

    The ground is what most of the B pictures show at a pixel. Numbers are from 0 to 1, before and
    after. All randomness comes from ``generator`` (a CPU one).
    """
    B, seen = len(pictures), pictures.unflatten(1, (size * size, -1))

    def drawn(*shape: int) -> Tensor:
        return torch.rand(B, *shape, generator=generator, **_PLAIN).to(pictures)

    done = {name: (drawn(1, 1) < share).to(pictures) for name, share in _SHARES.items()}
    ground = seen.median(dim=0).values
    still = 1.0 - (seen - ground).abs().amax(dim=2, keepdim=True) / _FOREIGN
    tint = done["ground"] * _GROUND * (2.0 * drawn(1, seen.shape[2]) - 1.0)
    seen = seen + still.clamp_min(0.0) * tint
    seen = seen * (1.0 + done["light"] * _LIGHT * (2.0 * drawn(1, 1) - 1.0))
    square = seen.mT.unflatten(2, (size, size))
    coarse = functional.adaptive_avg_pool2d(square, size // 2)
    blurred = functional.interpolate(coarse, size=size).flatten(2).mT
    seen = torch.lerp(seen, blurred, done["blur"])
    normal = torch.randn(seen.shape, generator=generator, **_PLAIN).to(seen)
    return (seen + done["noise"] * _NOISE * drawn(1, 1) * normal).clamp(0.0, 1.0).flatten(1)
