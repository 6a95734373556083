"""Runs of `train_policy` that differ in their seed alone, put together."""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jumpy_mbrl.agents.baselines.policies import policy_info
from jumpy_mbrl.agents.baselines.presets import completed
from jumpy_mbrl.agents.baselines.train import BEST, CONFIG, CurvePoint, read_curve
from jumpy_mbrl.lab.learning.labels import policy_labels, told_apart


@dataclass(frozen=True)
class PolicyRuns:
    """The runs of one kind.

    Attributes:
        label: see `policy_labels`.
        settings: what they have in common: a `PolicyConfig` as a dictionary, without the seed.
        seeds: of the runs, ascending.
        commands: that repeat them, where they are known.
        curves: their validations.
    """

    label: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    commands: tuple[str | None, ...]
    curves: tuple[tuple[CurvePoint, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def read_policy_runs(folders: Iterable[str | os.PathLike[str]]) -> list[PolicyRuns]:
    """Puts runs together that have the same settings but for the seed (and the device, threads).

    `ValueError` for a folder without a run, or whose run was not validated yet, or two runs of one
    kind with one seed.

    Args:
        folders: of the runs, in any order.

    Returns:
        The kinds, in the order of their first folders.
    """
    kinds: dict[str, list[PolicyRuns]] = {}
    for folder in folders:
        run = _read(Path(folder))
        kinds.setdefault(json.dumps(told_apart(run.settings), sort_keys=True), []).append(run)
    groups = list(kinds.values())
    labels = policy_labels([runs[0].settings for runs in groups])
    return [_together(label, runs) for label, runs in zip(labels, groups, strict=True)]


def _read(folder: Path) -> PolicyRuns:
    try:
        settings = completed(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["training"])
        seed = operator.index(settings.pop("seed"))
        Path("" if settings["inside"] is None else settings["inside"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"expected a run of train_sb3.py in {folder}, but its {CONFIG} is missing or something "
            "else; check the path"
        ) from None
    curve = tuple(read_curve(folder))
    if not curve:
        raise ValueError(
            f"expected validations of the run in {folder}, got none yet; let it train, or leave it "
            "out"
        )
    command = policy_info(folder / BEST)["training"].get("command")
    return PolicyRuns("", settings, (seed,), (command,), (curve,))


def _together(label: str, runs: list[PolicyRuns]) -> PolicyRuns:
    runs = sorted(runs, key=lambda run: run.seeds)
    seeds = tuple(run.seeds[0] for run in runs)
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise ValueError(
            f"expected one run of {label!r} for each seed, got several with {twice[0]}; leave all "
            "but one out"
        )
    return PolicyRuns(
        label=label,
        settings=runs[0].settings,
        seeds=seeds,
        commands=tuple(run.commands[0] for run in runs),
        curves=tuple(run.curves[0] for run in runs),
    )
