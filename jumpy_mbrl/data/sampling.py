"""Samplers: batches for a model's loss, by what its ``batch_kind`` asks for.

Every sampler is stateless: what it draws depends on the generator alone, so a run that restores
its generator draws what the uninterrupted run would have drawn.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import TrajectoryDataset
from jumpy_mbrl.data.events import EventSampler
from jumpy_mbrl.envs.config import unknown_name


class Sampler(Protocol):
    """Draws batches."""

    def sample(self, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A batch for ``WorldModel.loss``; all randomness comes from ``generator`` (a CPU one)."""
        ...


class SequenceSampler:
    """Draws whole trajectories, uniformly and with replacement."""

    def __init__(self, dataset: TrajectoryDataset, device: torch.device | None = None) -> None:
        self._obs = torch.from_numpy(dataset.obs)
        self._action = torch.from_numpy(dataset.action)
        self._device = device

    def sample(self, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``obs`` (B, T, D), ``action`` (B, T, A) and uniform numbers ``u`` (B, T) in [0, 1)."""
        rows = torch.randint(len(self._obs), (batch_size,), generator=generator)
        batch = {
            "obs": self._obs[rows],
            "action": self._action[rows],
            "u": torch.rand(batch_size, self._obs.shape[1], generator=generator),
        }
        return {name: tensor.to(self._device) for name, tensor in batch.items()}


SAMPLERS: dict[str, type[SequenceSampler] | type[EventSampler]] = {
    "sequences": SequenceSampler,
    "events": EventSampler,
}


def make_sampler(
    kind: str, dataset: TrajectoryDataset, device: torch.device | None = None
) -> Sampler:
    """The sampler for a model's ``batch_kind``.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in SAMPLERS:
        raise ValueError(unknown_name("kind of batch", kind, SAMPLERS))
    return SAMPLERS[kind](dataset, device)
