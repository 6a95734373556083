"""Training world models: configs and presets, the loop, and checkpoints that resume exactly."""

from jumpy_mbrl.training.config import PRESETS, TrainingConfig, preset
from jumpy_mbrl.training.loop import TrainingDivergedError, train, validate

__all__ = [
    "PRESETS",
    "TrainingConfig",
    "TrainingDivergedError",
    "preset",
    "train",
    "validate",
]
