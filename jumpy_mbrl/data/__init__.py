"""Data: trajectories from the exact physics, and the random streams that keep splits apart."""

from jumpy_mbrl.data.dataset import (
    DatasetConfig,
    TrajectoryDataset,
    load_or_make,
    make_dataset,
)
from jumpy_mbrl.data.seeds import evaluation_table_seeds

__all__ = [
    "DatasetConfig",
    "TrajectoryDataset",
    "evaluation_table_seeds",
    "load_or_make",
    "make_dataset",
]
