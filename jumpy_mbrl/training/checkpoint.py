"""One file from which a run goes on exactly: tensors and JSON in safetensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jumpy_mbrl.files import atomic_write

FORMAT = "jumpy-mbrl checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps.

    Attributes:
        step: updates made so far.
        config: ``TrainingConfig.to_dict()`` of the run.
        history: figures of each validation, oldest first; ``step`` among them.
        best: the entry of ``history`` with the best weights, or None before the first.
        model: weights by name.
        best_model: the best weights by name; empty before the first validation.
        optimizer: state tensors, by ``"<number of the parameter>.<name>"``.
        generator: state of the random generator that draws the batches.
    """

    step: int
    config: dict[str, Any]
    history: list[dict[str, float]]
    best: dict[str, float] | None
    model: dict[str, Tensor]
    best_model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    generator: Tensor

    def save(self, path: Path) -> None:
        """Writes the file atomically: whenever the process dies, an older or this one stands."""
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "config": self.config,
            "history": self.history,
            "best": self.best,
        }
        tensors = {"generator": self.generator}
        for group in ("model", "best_model", "optimizer"):
            tensors.update(_prefixed(group, getattr(self, group)))
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(tensors, {"checkpoint": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: if the file is damaged or not a checkpoint of this version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("checkpoint", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged or no checkpoint: {error}") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"expected {path} to hold format {FORMAT!r}, so it is not ours")
        if header["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"expected format_version {FORMAT_VERSION} in {path}, got "
                f"{header['format_version']!r}; use the version of jumpy_mbrl that wrote it"
            )
        groups = {
            group: _unprefixed(group, tensors) for group in ("model", "best_model", "optimizer")
        }
        return cls(
            step=header["step"],
            config=header["config"],
            history=header["history"],
            best=header["best"],
            generator=tensors["generator"],
            **groups,
        )


def _prefixed(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": value.detach().cpu().contiguous() for name, value in tensors.items()}


def _unprefixed(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{group}/"
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
