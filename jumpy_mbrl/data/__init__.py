"""Data: shot tables, tasks, recorded episodes, and random streams that keep splits apart."""

from jumpy_mbrl.data.dataset import (
    DatasetConfig,
    TrajectoryDataset,
    load_or_make,
    make_dataset,
)
from jumpy_mbrl.data.minari import from_minari, to_minari
from jumpy_mbrl.data.recording import Recording, RecordingConfig, record
from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.data.tasks import TASKS, TaskConfig, TaskDataset, make_task

__all__ = [
    "TASKS",
    "DatasetConfig",
    "Recording",
    "RecordingConfig",
    "TaskConfig",
    "TaskDataset",
    "TrajectoryDataset",
    "evaluation_table_seeds",
    "from_minari",
    "load_or_make",
    "make_dataset",
    "make_task",
    "record",
    "to_minari",
]
