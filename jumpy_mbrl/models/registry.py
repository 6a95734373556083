"""The world models that are trained, saved and loaded, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from torch import Tensor

from jumpy_mbrl.checks import check_names, unknown_name
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.bodies.event_jump import EventJump, EventJumpConfig
from jumpy_mbrl.models.bodies.fold_jump import FoldJump, FoldJumpConfig
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJump, SpriteJumpConfig
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN, JumpyRNNConfig
from jumpy_mbrl.models.keypoint_jump import KeypointJump, KeypointJumpConfig
from jumpy_mbrl.models.latent_jump import LatentJump, LatentJumpConfig
from jumpy_mbrl.models.ode_rnn import ODERNN, ODERNNConfig
from jumpy_mbrl.models.relational_jump import RelationalJump, RelationalJumpConfig
from jumpy_mbrl.models.rnn import RNN, RNNConfig

ModelConfig = (
    RNNConfig
    | ODERNNConfig
    | JumpyRNNConfig
    | LatentJumpConfig
    | RelationalJumpConfig
    | EventJumpConfig
    | FoldJumpConfig
    | SpriteJumpConfig
    | KeypointJumpConfig
)


class ModelEntry(NamedTuple):
    """A kind of world model: its class, called with a config, and the class of that config."""

    model: type[WorldModel]
    config: type[Any]


MODELS: dict[str, ModelEntry] = {
    "rnn": ModelEntry(RNN, RNNConfig),
    "ode-rnn": ModelEntry(ODERNN, ODERNNConfig),
    "jumpy-rnn": ModelEntry(JumpyRNN, JumpyRNNConfig),
    "event-jump": ModelEntry(EventJump, EventJumpConfig),
    "fold-jump": ModelEntry(FoldJump, FoldJumpConfig),
    "latent-jump": ModelEntry(LatentJump, LatentJumpConfig),
    "relational-jump": ModelEntry(RelationalJump, RelationalJumpConfig),
    "sprite-jump": ModelEntry(SpriteJump, SpriteJumpConfig),
    "keypoint-jump": ModelEntry(KeypointJump, KeypointJumpConfig),
}
"""Every kind by the name that presets and saved models use."""


def make_model(config: ModelConfig) -> WorldModel:
    """A new model of the kind that ``config`` belongs to."""
    model: Any = MODELS[model_name(config)].model
    made: WorldModel = model(config)
    return made


def model_name(config: object) -> str:
    """The name of the kind that ``config`` belongs to; `ValueError` if it belongs to none."""
    for name, entry in MODELS.items():
        if type(config) is entry.config:
            return name
    known = [entry.config.__name__ for entry in MODELS.values()]
    raise ValueError(f"expected a model config, one of {known}, got {type(config).__name__}")


def describe_model(config: ModelConfig) -> dict[str, Any]:
    """``{"name": ..., "config": {...}}``, which ``model_config_from`` reads back from JSON."""
    name, values = model_name(config), vars(config).items()
    as_json = {key: list(value) if isinstance(value, tuple) else value for key, value in values}
    return {"name": name, "config": as_json}


def model_config_from(description: Mapping[str, Any]) -> ModelConfig:
    """The config that ``describe_model`` described.

    `ValueError` for an unknown kind of model, an unknown setting or an impossible value.
    """
    name, values = description.get("name"), description.get("config")
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(unknown_name("kind of model", name, MODELS))
    if not isinstance(values, Mapping):
        raise ValueError(f"expected the settings of the {name} as a mapping, got {values!r}")
    kind, values = MODELS[name].config, of_today(name, values)
    kinds = get_type_hints(kind)
    check_names(f"{name} setting", values, kinds)
    for setting, value in values.items():
        _check_kind(setting, value, kinds[setting])
    try:
        config: ModelConfig = kind(**values)
    except TypeError as error:
        raise ValueError(f"expected settings of a {name}, got {dict(values)}: {error}") from None
    return config


def of_today(name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings as they are now, of those that an earlier version wrote."""
    if name == "ode-rnn":  # The adjoint gave the same gradients in another way.
        return {key: value for key, value in values.items() if key != "adjoint"}
    if name != "jumpy-rnn":
        return values
    values = {"context_frames" if key == "priming" else key: values[key] for key in values}
    if "annealing" in values:
        # The tolerance fell otherwise; what was learned says nothing of it.
        values = {k: v for k, v in values.items() if k not in ("first_epsilon", "annealing")}
    if "residual" in values:
        return values
    kept = {key: value for key, value in values.items() if (key, value) != ("split", "halves")}
    return {**kept, "residual": False}


def weights_of_today(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are now, of those that an earlier version wrote."""
    # A SpriteJump counted its updates.
    return {name: part for name, part in weights.items() if not name.endswith("looked")}


def _check_kind(setting: str, value: object, kind: Any) -> None:
    """Raises ``ValueError`` for a value, as JSON gives it, that is not of a setting's type."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected {setting} to be a list of numbers, got {value!r}")
        for number in value:
            _check_kind(setting, number, get_args(kind)[0])
        return
    plain = {int: int, float: int | float, bool: bool}.get(kind, str)
    # For Python True is a number.
    fits = isinstance(value, plain) and (kind is bool) == isinstance(value, bool)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        names = {int: "a whole number", float: "a finite number", bool: "true or false"}
        raise ValueError(f"expected {setting} to be {names.get(kind, 'text')}, got {value!r}")
