"""The shot protocol: held-out tables, four frames, one shot, the real outcome."""

from jumpy_mbrl.evaluation.recording import ShotRecord, record_shot
from jumpy_mbrl.evaluation.scoring import (
    BATCH_SIZE,
    AgentResult,
    CalibrationBin,
    calibration,
    evaluate_agent,
    wilson_interval,
)
from jumpy_mbrl.evaluation.tables import Outcomes, Tables, make_tables, play

__all__ = [
    "BATCH_SIZE",
    "AgentResult",
    "CalibrationBin",
    "Outcomes",
    "ShotRecord",
    "Tables",
    "calibration",
    "evaluate_agent",
    "make_tables",
    "play",
    "record_shot",
    "wilson_interval",
]
