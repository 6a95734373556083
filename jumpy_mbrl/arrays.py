"""Arrays that users hand over."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(
    values: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """``torch.as_tensor``, which copies arrays that torch cannot share.

    Those are read backwards (negative strides), or must not be written to.
    """
    if isinstance(values, np.ndarray):
        backwards = any(stride < 0 for stride in values.strides)
        if backwards or not values.flags.writeable:
            values = values.copy()
    return torch.as_tensor(values, dtype=dtype, device=device)
