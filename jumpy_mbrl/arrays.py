"""Arrays that users hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def as_tensor(
    values: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """``torch.as_tensor``, which copies arrays that torch cannot share.

    Those are read backwards (negative strides), or must not be written to. Without a device a
    tensor stays where it is, and all else is on the CPU.
    """
    import torch  # Only here: it is slow to load, and not all that read arrays need it.

    if isinstance(values, np.ndarray):
        backwards = any(stride < 0 for stride in values.strides)
        if backwards or not values.flags.writeable:
            values = values.copy()
    if device is None:
        device = values.device if isinstance(values, torch.Tensor) else "cpu"
    return torch.as_tensor(values, dtype=dtype, device=device)


def as_array(values: Any) -> NDArray[Any]:
    """``np.asarray``, which also takes tensors: with a graph, on a GPU, or of half precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.dtype.itemsize < 4:
            values = values.float()
        values = values.numpy()
    return np.asarray(values)
