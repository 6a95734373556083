"""A model's loss as a run computes it: in its precision, and compiled if it asks for that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.training.config import Precision


class Loss(nn.Module):
    """A model's loss as a module, which DistributedDataParallel needs.

    `precision` is that of the loss and its gradient; weights stay as they are. With `compile` it is
    made faster by torch.compile; see ``check_compiler``.
    """

    def __init__(
        self, model: WorldModel, precision: Precision = "float32", compile: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self._lower = precision == "bfloat16"
        self._loss = torch.compile(model.loss) if compile else model.loss

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and scalars to log, which carry no gradient."""
        device = next(self.model.parameters()).device
        # No cache: weights that were cast while gradients were off would stay without one.
        with torch.autocast(device.type, torch.bfloat16, self._lower, cache_enabled=False):
            loss, log = self._loss(batch)
        return loss, {name: value.detach() for name, value in log.items()}


def check_compiler(device: torch.device) -> None:
    """Raises ``ValueError`` unless torch.compile works for ``device`` on this machine."""
    needed = "Triton" if device.type == "cuda" else "a C++ compiler (g++, or the one named by CXX)"
    try:
        torch.compile(_probe)(torch.ones(2, dtype=torch.float32, device=device))
    except (RuntimeError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"compile=True needs {needed}, which does not work here: {reason}; install it, or "
            "leave compile=False"
        ) from None


def _probe(numbers: Tensor) -> Tensor:
    return numbers.sin() + 1.0
