"""What kinds of training runs of Stable-Baselines3 are called in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jumpy_mbrl.agents.baselines.presets import POLICY_PRESETS, completed

_OF_THE_RUN = ("seed", "device", "threads")
"""Settings that tell no kind of run from another."""
_FREE_IN_PRESETS = ("inside", "timesteps")
"""Settings that may differ from a preset's under its name."""
_USUAL_GAME = {"start": "moving", "random_target": False}


def told_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which kinds are told apart, flat.

    Args:
        settings: a `PolicyConfig` as a dictionary, maybe of an earlier version.
    """
    settings = completed(settings)
    algorithm = {f"algorithm.{name}": value for name, value in settings["algorithm"].items()}
    rest = {k: v for k, v in settings.items() if k != "algorithm" and k not in _OF_THE_RUN}
    return {**algorithm, **rest}


def policy_labels(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for each kind: its name, and where several have one, with what they differ in.

    The name is that of the preset with the same settings. Other kinds are called after algorithm,
    form and observations, and how their game is not the usual one; all say what they are inside of.

    Args:
        kinds: settings, each a `PolicyConfig` as a dictionary.
    """
    told = [told_apart(settings) for settings in kinds]
    names = [_name(kind) for kind in told]
    labels = []
    for name, kind in zip(names, told, strict=True):
        alike = [other for other, label in zip(told, names, strict=True) if label == name]
        differing = [
            f"{key.removeprefix('algorithm.')}={value}"
            for key, value in kind.items()
            if value is not None and any(other.get(key) != value for other in alike)
        ]
        labels.append(", ".join([name, *differing]))
    return labels


def _name(kind: Mapping[str, Any]) -> str:
    parts = [name for name, preset in POLICY_PRESETS.items() if _is_of(kind, preset.to_dict())][:1]
    if not parts:
        parts = [f"{kind['algorithm.name']}-{kind['form']}-{kind['obs_type']}"]
        for key, usual in _USUAL_GAME.items():
            value = kind.get(key, usual)
            if value != usual:
                parts.append(key if value is True else f"{key}={value}")
    if kind.get("inside") is not None:
        parts.append(f"inside={Path(kind['inside']).name}")
    return ", ".join(parts)


def _is_of(kind: Mapping[str, Any], preset: Mapping[str, Any]) -> bool:
    """Whether a kind has a preset's settings."""
    return all(
        kind[key] == value
        for key, value in told_apart(preset).items()
        if key not in _FREE_IN_PRESETS
    )
