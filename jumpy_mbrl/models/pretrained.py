"""Saving a trained model as a folder, and loading it, or one that is shipped, without pickle.

A folder holds ``model.safetensors`` (the weights) and ``config.json``: what the model is, the
data and the training that made it, its figures, the versions, and the checksum of the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from jumpy_mbrl.devices import any_device, plain_defaults
from jumpy_mbrl.files import check_ours, has_sha256, read_json, to_json, write_together
from jumpy_mbrl.models import registry
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.shipped import CONFIG, ShippedFolders

FORMAT = "jumpy-mbrl world model"
FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"

_SHIPPED = ShippedFolders("pretrained", "model", "save_pretrained")


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return _SHIPPED.names()


def save_pretrained(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    data: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the folder ``path`` and returns it; an older model there is replaced, or stays if
    this fails.

    `ValueError` if the model is of no registered kind, or for an entry that JSON cannot hold, such
    as NaN or a path, or a ``config.json`` there that is not of a model of ours.

    Args:
        model: one of the kinds in ``jumpy_mbrl.models.registry.MODELS``, also as
            ``torch.compile`` or ``DistributedDataParallel`` wrapped it.
        path: the folder, made if missing.
        data: what it was trained on; by default what the model's own ``record`` says. This and
            what follows is written as JSON; single numbers of NumPy and torch become Python's.
        training: how, the command included.
        metrics: what it reached.
    """
    model = _unwrapped(model)
    state = {  # Without the names of parts that were compiled.
        name.replace("_orig_mod.", ""): value.detach().contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    weights = save(state)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": registry.describe_model(getattr(model, "config", None)),  # type: ignore[arg-type]
        "data": dict(model.record.get("data", {}) if data is None else data),
        "training": dict(training or {}),
        "metrics": dict(metrics or {}),
        "versions": versions(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder = Path(path)
    check_ours(folder / CONFIG, FORMAT)
    write_together(folder, {WEIGHTS: weights, CONFIG: to_json(content)})
    return folder


def from_pretrained(
    path_or_name: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> WorldModel:
    """Loads a saved model with its ``record``, ready to use (``eval`` mode, gradients on).

    Weights in double precision stay so; all others are loaded in single precision.

    `ValueError` if there is no such model, or its files are damaged, foreign, or do not fit each
    other; or for a device that is unknown or that this machine does not have.

    Args:
        path_or_name: a folder that ``save_pretrained`` wrote, or the name of a shipped model.
        device: where the weights go: "auto" (CUDA if there is one) or any device of torch, such
            as "cpu", "cuda:1", "mps" or a ``torch.device``.
    """
    place = any_device(device)
    folder = _SHIPPED.find(path_or_name)
    content = _read_config(folder)
    weights = registry.weights_of_today(_read_weights(folder, content))
    with _possible(folder):
        config = registry.model_config_from(content["model"])
        _check_layers(config, len(weights))
        with torch.device("meta"):
            expected = registry.make_model(config).state_dict()
    _check_fit(folder, expected, weights)
    # First weights are thrown away.
    with _possible(folder), torch.random.fork_rng(devices=[]), plain_defaults():
        model = registry.make_model(config)
    double = any(weight.dtype == torch.float64 for weight in weights.values())
    model.to(torch.float64 if double else torch.float32)
    model.load_state_dict(weights)
    model.record = {name: content[name] for name in ("data", "training", "metrics")}
    return model.to(place).eval()


def pretrained_info(path_or_name: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``config.json`` of a saved model: model, data, training, metrics, versions.

    `ValueError` if there is no such model, or its config is damaged or foreign.
    """
    return _read_config(_SHIPPED.find(path_or_name))


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a folder has a model whose two files belong together, and not what a crash left."""
    folder = Path(path)
    try:
        return has_sha256(folder / WEIGHTS, _read_config(folder)["weights_sha256"])
    except ValueError:
        return False


def pretrained_text(path_or_name: str | os.PathLike[str]) -> str:
    """Text by which ``from_pretrained`` finds the same model, for records.

    That is the name or the path itself, but for a folder of one's own that is called as a shipped
    model is: text would be the name of that one. `ValueError` if there is no such model.
    """
    return _SHIPPED.text_of(path_or_name)


def versions() -> dict[str, str]:
    """The versions that a result depends on, for its record."""
    from jumpy_mbrl import __version__

    return {
        "jumpy_mbrl": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _unwrapped(model: nn.Module) -> WorldModel:
    """The world model inside what ``torch.compile`` and ``DistributedDataParallel`` return."""
    inside: Any = model
    while not isinstance(inside, WorldModel):
        parts = dict(inside.named_children()) if isinstance(inside, nn.Module) else {}
        if parts.keys() not in ({"_orig_mod"}, {"module"}):
            raise ValueError(
                f"expected a world model, one of {list(registry.MODELS)}, got "
                f"{type(model).__name__}"
            )
        (inside,) = parts.values()
    return inside


def _read_config(folder: Path) -> dict[str, Any]:
    fields = {"model": dict, "data": dict, "training": dict, "metrics": dict, "weights_sha256": str}
    try:
        return read_json(folder / CONFIG, FORMAT, FORMAT_VERSION, fields)
    except FileNotFoundError:
        raise ValueError(
            f"expected {CONFIG} and {WEIGHTS} in {folder}, but there is no {CONFIG}; "
            "save models with save_pretrained"
        ) from None
    except OSError as error:
        raise ValueError(f"expected {folder / CONFIG} to describe a model: {error}") from None


def _read_weights(folder: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"expected the weights {WEIGHTS} in {folder}, but there is no such file")
    data = path.read_bytes()  # Once: what is checked is what is loaded.
    try:
        weights = load(data)
    except SafetensorError as error:
        raise ValueError(
            f"expected safetensors in {path}, but the file is damaged or truncated: {error}"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != content["weights_sha256"]:
        raise ValueError(
            f"expected {path} to have the SHA-256 {content['weights_sha256']} of its {CONFIG}, "
            f"got {found}; the two do not belong together"
        )
    return weights


@contextlib.contextmanager
def _possible(folder: Path) -> Iterator[None]:
    """Within it errors mean that there is no such model; torch has its own for odd sizes."""
    try:
        yield
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} describes no model of this version: {error}") from None


def _check_layers(config: registry.ModelConfig, tensors: int) -> None:
    """Refuses more layers than there are ``tensors``, which would take long to make."""
    for name, value in vars(config).items():
        if name.endswith("_layers") and value > tensors:
            raise ValueError(f"expected {name} to fit {tensors} tensors in {WEIGHTS}, got {value}")


def _check_fit(folder: Path, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    wanted, found = ({n: tuple(t.shape) for n, t in all_.items()} for all_ in (expected, given))
    wrong = [
        f"{name}: expected {wanted.get(name, 'none')}, got {found.get(name, 'none')}"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"the model that {folder / CONFIG} describes does not fit the weights in {WEIGHTS}: "
            + "; ".join(wrong[:3])
            + more
        )
