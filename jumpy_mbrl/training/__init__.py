"""Training world models: configs and presets, the loop, and checkpoints that resume exactly."""

from jumpy_mbrl.training.config import TrainingConfig
from jumpy_mbrl.training.loop import TrainingDivergedError, train
from jumpy_mbrl.training.presets import PRESETS, preset, task_preset
from jumpy_mbrl.training.stopwatch import training_seconds
from jumpy_mbrl.training.validation import validate

__all__ = [
    "PRESETS",
    "TrainingConfig",
    "TrainingDivergedError",
    "preset",
    "task_preset",
    "train",
    "training_seconds",
    "validate",
]
