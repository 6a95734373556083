"""Which random numbers belong to whom, so that no split ever sees another's tables.

A data stream is `SeedSequence(seed, spawn_key=(code of the split, block))`. NumPy pads the entropy
to four 32-bit words before a spawn key, and seeds are below 2**63, so different (seed, split,
block) are always six different words. (Lists would not do: NumPy treats `SeedSequence([5])` and
`SeedSequence([5, 0])` as the same.) `env.reset(seed=...)` uses `SeedSequence(seed)` without a spawn
key, four words, so it never meets a data stream either. Reset seeds are split too: those of
`training_table_seeds` lie below those of `validation_table_seeds`, and these below those of
`evaluation_table_seeds`. Whoever learns on the environment itself is given the first alone.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from jumpy_mbrl.checks import check_choice, is_integer

Split = Literal["train", "validation", "evaluation"]

SPLITS: tuple[Split, ...] = ("train", "validation", "evaluation")

EVALUATION_SEEDS_FROM = 2**51
"""Reset seeds from here on are for evaluation only; nothing may be trained on their tables."""
VALIDATION_SEEDS_FROM = 2**50
"""Reset seeds from here up to the evaluation's are for validation; those below, for training."""
MAX_EVALUATION_TABLES = 2**20
MAX_EVALUATION_SEED = 2**31 - 1
MAX_TRAINING_SEED = 2**30 - 1


def data_rng(seed: int, split: Split, block: int = 0) -> np.random.Generator:
    """Returns the generator of one block, in [0, 2**32), of one split, with a seed in [0, 2**63).

    `ValueError` for an unknown split, or a seed or block out of range.
    """
    check_split(split)
    check_seed(seed)
    _check_range("block", block, 0, 2**32 - 1)
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split) + 1, block))
    return np.random.Generator(np.random.PCG64(sequence))


def evaluation_table_seeds(seed: int, count: int) -> range:
    """Returns the `count` reset seeds of an evaluation: one for each table.

    Different evaluation seeds have no table in common; a smaller count gives the first ones.
    `ValueError` for a seed outside [0, 2**31), or a count outside [1, 2**20].
    """
    return _table_seeds("evaluation", EVALUATION_SEEDS_FROM, seed, MAX_EVALUATION_SEED, count)


def validation_table_seeds(seed: int, count: int) -> range:
    """Returns the `count` reset seeds of a validation, as `evaluation_table_seeds` does.

    `ValueError` for a seed outside [0, 2**30), or a count outside [1, 2**20].
    """
    return _table_seeds("validation", VALIDATION_SEEDS_FROM, seed, MAX_TRAINING_SEED, count)


def training_table_seeds(seed: int, count: int) -> range:
    """Returns reset seeds for `count` parallel environments to train on, as the others do.

    `ValueError` for a seed outside [0, 2**30), or a count outside [1, 2**20].
    """
    return _table_seeds("training", 0, seed, MAX_TRAINING_SEED, count)


TABLE_SEEDS = {
    "train": training_table_seeds,
    "validation": validation_table_seeds,
    "evaluation": evaluation_table_seeds,
}
"""Who gives the reset seeds of a split."""


def _table_seeds(what: str, start: int, seed: int, last: int, count: int) -> range:
    """The first `count` of the 2**20 reset seeds of one seed."""
    _check_range(f"the {what} seed", seed, 0, last)
    _check_range(f"a number of {what} tables", count, 1, MAX_EVALUATION_TABLES)
    first = start + int(seed) * MAX_EVALUATION_TABLES
    return range(first, first + int(count))


def check_split(split: str) -> None:
    """Raises `ValueError` unless `split` is one of `SPLITS`."""
    check_choice("split", split, SPLITS)


def check_seed(seed: Any) -> int:
    """Returns an integer in [0, 2**63), or raises `ValueError` for what is none."""
    if not is_integer(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"expected seed to be an integer in [0, 2**63), got {seed!r}")
    return int(seed)


def _check_range(name: str, value: Any, low: int, high: int) -> None:
    if not is_integer(value) or not low <= value <= high:
        raise ValueError(f"expected {name} in [{low}, {high}], got {value!r}")
