"""Evaluation: shots on held-out tables in the real environment, and predictions of sequences."""

from jumpy_mbrl.evaluation.recording import ShotRecord, record_shot
from jumpy_mbrl.evaluation.scoring import (
    BATCH_SIZE,
    AgentResult,
    CalibrationBin,
    ContactCount,
    by_count,
    calibration,
    evaluate_agent,
    wilson_interval,
)
from jumpy_mbrl.evaluation.sequences import TaskScore, sample, score
from jumpy_mbrl.evaluation.tables import Outcomes, Tables, make_tables, play
from jumpy_mbrl.evaluation.variants import VARIANTS, Variant, find_variant

__all__ = [
    "BATCH_SIZE",
    "VARIANTS",
    "AgentResult",
    "CalibrationBin",
    "ContactCount",
    "Outcomes",
    "ShotRecord",
    "Tables",
    "TaskScore",
    "Variant",
    "by_count",
    "calibration",
    "evaluate_agent",
    "find_variant",
    "make_tables",
    "play",
    "record_shot",
    "sample",
    "score",
    "wilson_interval",
]
