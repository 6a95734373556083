"""Runs of `train_policy` that differ in their seed alone, put together."""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jumpy_mbrl.agents.baselines import presets, train
from jumpy_mbrl.agents.baselines.policies import policy_info
from jumpy_mbrl.lab.learning.curves import COLUMNS, runs_of

_OF_THE_RUN = ("seed", "device", "threads")
"""Settings that tell no kind of run from another."""
_FREE_IN_PRESETS = (*_OF_THE_RUN, "inside", "timesteps")
"""Settings that may differ from a preset's under its name."""


def read_policy_runs(folders: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The kinds of runs in the order of their first folders, as learning.json holds them.

    Each has a `label`, the `settings` in common, and `seeds`, `commands` and `curves`, by the seed.
    `ValueError` for a folder without a run, or whose run was not validated yet, or two runs of one
    kind with one seed.
    """
    kinds: dict[str, list[dict[str, Any]]] = {}
    for run in map(_read, map(Path, folders)):
        kinds.setdefault(_kind(run["settings"]), []).append(run)
    names = Counter(_label(runs[0]) for runs in kinds.values())
    found = []
    for runs in kinds.values():
        label, folder = _label(runs[0]), runs[0]["folder"]
        label += f" ({folder})" if names[label] > 1 else ""
        runs.sort(key=lambda run: int(run["seed"]))
        seeds = [run["seed"] for run in runs]
        if len(set(seeds)) < len(seeds):
            twice = max(seeds, key=seeds.count)
            raise ValueError(
                f"expected one run of {label!r} for each seed, got several with {twice}; leave all "
                "but one out"
            )
        kind = {"label": label, "settings": runs[0]["settings"], "seeds": seeds}
        kind |= {f"{name}s": [run[name] for run in runs] for name in ("command", "curve")}
        found.append(kind)
    return found


def merge_kinds(kept: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kinds of runs with those found: of a kind that was there, seeds come to the others, or in
    place of the same. `ValueError` for two kinds of one name."""
    kinds = {_kind(kind["settings"]): kind for kind in kept}
    for new in found:
        kind = _kind(new["settings"])
        old = kinds.get(kind, {name: [] for name in COLUMNS})
        runs = {run[0]: run for part in (old, new) for run in runs_of(part)}
        joined = zip(*(runs[seed] for seed in sorted(runs)), strict=True)
        kinds[kind] = {**new, **dict(zip(COLUMNS, map(list, joined), strict=True))}
    name, count = Counter(kind["label"] for kind in kinds.values()).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"expected kinds of runs by different names, got {count} called {name!r}; rename the "
            "folders of one, or choose another --out"
        )
    return [*kinds.values()]


def _kind(settings: Mapping[str, Any]) -> str:
    return json.dumps(_without(_OF_THE_RUN, settings), sort_keys=True)


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / train.CONFIG).read_text(encoding="utf-8"))
        settings = _completed(content["training"])
        seed = operator.index(settings.pop("seed"))
        Path("" if settings["inside"] is None else settings["inside"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"expected a run of train_sb3.py in {folder}, but its {train.CONFIG} is missing or "
            "something else; check the path"
        ) from None
    curve = [point.known() for point in train.read_curve(folder)]
    if not curve:
        raise ValueError(
            f"expected validations of the run in {folder}, got none yet; let it train, or leave it "
            "out"
        )
    if (command := settings.pop("command", None)) is None:
        command = policy_info(folder / train.BEST)["training"].get("command")
    run = {"folder": folder.name, "settings": settings, "seed": seed}
    return {**run, "command": command, "curve": curve}


def _label(run: Mapping[str, Any]) -> str:
    """The preset with the same settings, or the folder; and what it was inside of. Learners that
    are not of SB3 name themselves."""
    settings = run["settings"]
    if "label" in settings:
        return str(settings["label"])
    same = [
        name
        for name, preset in presets.POLICY_PRESETS.items()
        if _without(_FREE_IN_PRESETS, settings) == _without(_FREE_IN_PRESETS, preset.to_dict())
    ]
    name = same[0] if same else run["folder"]
    inside = settings["inside"]
    return name if inside is None else f"{name}, inside={Path(inside).name}"


def _without(names: Iterable[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _completed(settings).items() if key not in names}


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of SB3's learners with those that are new since; all of others."""
    return dict(settings) if "label" in settings else presets.completed(settings)
