"""Evaluation: shots on held-out tables in the real environment, and predictions of sequences."""

import importlib
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.evaluation.cameras import CAMERAS
from jumpy_mbrl.evaluation.given import Given, given_to, training_frames
from jumpy_mbrl.evaluation.scoring import (
    BATCH_SIZE,
    AgentResult,
    CalibrationBin,
    ContactCount,
    Contested,
    by_count,
    calibration,
    evaluate_agent,
    wilson_interval,
)
from jumpy_mbrl.evaluation.sequences import TaskScore, sample, score
from jumpy_mbrl.evaluation.tables import (
    VARIANTS,
    HeldOut,
    Outcomes,
    Tables,
    Variant,
    find_variant,
    make_tables,
    play,
)

if TYPE_CHECKING:
    from jumpy_mbrl.agents.planning.trace import ShotRecord, record_shot

__all__ = [
    "BATCH_SIZE",
    "CAMERAS",
    "VARIANTS",
    "AgentResult",
    "CalibrationBin",
    "ContactCount",
    "Contested",
    "Given",
    "HeldOut",
    "Outcomes",
    "ShotRecord",
    "Tables",
    "TaskScore",
    "Variant",
    "by_count",
    "calibration",
    "evaluate_agent",
    "find_variant",
    "given_to",
    "make_tables",
    "play",
    "record_shot",
    "sample",
    "score",
    "training_frames",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    if name in ("ShotRecord", "record_shot"):  # Agents stand above: loaded when asked for.
        return getattr(importlib.import_module("jumpy_mbrl.agents.planning.trace"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
