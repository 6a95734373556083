"""Evaluation: shots on held-out tables in the real environment, and predictions of sequences."""

from jumpy_mbrl.evaluation.given import Given, given_to, training_frames
from jumpy_mbrl.evaluation.recording import ShotRecord, record_shot
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

__all__ = [
    "BATCH_SIZE",
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
