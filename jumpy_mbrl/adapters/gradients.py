"""When adapters build a graph for gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def graph_for(*given: Tensor) -> AbstractContextManager[None]:
    """Within it a graph is built if one of the tensors asks for gradients, as the caller decides.

    A model's weights ask for them too, and would give one to everything that is imagined.
    """
    asked = any(tensor.requires_grad for tensor in given)
    return torch.set_grad_enabled(torch.is_grad_enabled() and asked)
