"""One file from which a run goes on exactly: tensors and JSON in safetensors, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jumpy_mbrl.files import atomic_write, entries_of
from jumpy_mbrl.models.registry import weights_of_today

FORMAT = "jumpy-mbrl checkpoint"
FORMAT_VERSION = 1

_ENTRIES = ("step", "config", "history", "best")
_GROUPS = ("model", "best_model", "averaged", "optimizer")


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
        averaged: the average over steps and their number, by name; empty without averaging.
        optimizer: state tensors, by ``"<number of the parameter>.<name>"``.
        generator: state of the random generator that draws the batches.
    """

    step: int
    config: dict[str, Any]
    history: list[dict[str, float]]
    best: dict[str, float] | None
    model: dict[str, Tensor]
    best_model: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    generator: Tensor

    def save(self, path: Path) -> None:
        """Writes the file atomically: whenever the process dies, an older or this one stands."""
        header: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        header |= {name: getattr(self, name) for name in _ENTRIES}
        tensors = {"generator": self.generator}
        for group in _GROUPS:
            for name, value in getattr(self, group).items():
                tensors[f"{group}/{name}"] = value.detach().cpu().contiguous()
        header["sha256"] = _checksum(header, tensors)
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(tensors, {"checkpoint": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what ``save`` wrote; files of earlier versions have no checksum.

        `ValueError` if the file is damaged or not a checkpoint of this version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("checkpoint", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, RecursionError, ValueError) as error:
            raise ValueError(f"{path} is damaged or no checkpoint: {error}") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"expected {path} to hold format {FORMAT!r}, so it is not ours")
        if header.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"expected format_version {FORMAT_VERSION} in {path}, got "
                f"{header.get('format_version')!r}; use the version of jumpy_mbrl that wrote it"
            )
        with entries_of(
            path, "it is damaged or was changed, so start the run anew in another folder"
        ):
            if "sha256" in header and header.pop("sha256") != _checksum(header, tensors):
                raise ValueError("its checksum is that of other contents")
            _check_header(**header)
            parts: dict[str, Any] = {group: {} for group in _GROUPS}
            parts["generator"] = tensors.pop("generator")
            for name, value in weights_of_today(tensors).items():
                group, _, own = name.partition("/")
                parts[group][own] = value
            return cls(**{name: header[name] for name in _ENTRIES}, **parts)


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_header(
    *, step: object, config: Any, history: Any, best: object, format: str, format_version: int
) -> None:
    """Raises ``ValueError`` for entries that no run writes, and ``TypeError`` for any missing."""
    if type(step) is not int or step < 0:
        raise ValueError(f"its step is {step!r}")
    parts = [config, *(config[part] for part in ("model", "train_data", "validation_data"))]
    if (
        not all(isinstance(part, dict) for part in parts)
        or type(config["model"]["name"]) is not str
    ):
        raise ValueError(f"its config is {config!r}")
    if not isinstance(history, list) or (best is not None and best not in history):
        raise ValueError(f"its best validation is {best!r}, which is not in its history")
    for figures in history:
        numbers = [isinstance(value, int | float) for value in figures.values()]
        if not {"mse", "step"} <= figures.keys() or not all(numbers):
            raise ValueError(f"there is a validation with the figures {figures!r}")
