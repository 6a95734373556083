"""Which random numbers belong to whom, so that no split ever sees another's tables.

A data stream is `SeedSequence(seed, spawn_key=(code of the split, block))`. NumPy pads the entropy
to four 32-bit words before a spawn key, and seeds are below 2**63, so different (seed, split,
block) are always six different words. (Lists would not do: NumPy treats `SeedSequence([5])` and
`SeedSequence([5, 0])` as the same.) `env.reset(seed=...)` uses `SeedSequence(seed)` without a spawn
key, four words, so it never meets a data stream either. The tables of an evaluation are resets with
the seeds of `evaluation_table_seeds`, all of them at or above `EVALUATION_SEEDS_FROM`. What learns
on the environment itself is given the reset seeds of `training_table_seeds`, and validated on those
of `validation_table_seeds`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from jumpy_mbrl.checks import unknown_name

Split = Literal["train", "validation", "evaluation"]

SPLITS: tuple[Split, ...] = ("train", "validation", "evaluation")

EVALUATION_SEEDS_FROM = 2**51
"""Reset seeds from here on are for evaluation only; nothing may be trained on their tables."""

VALIDATION_SEEDS_FROM = 2**50
"""Reset seeds from here up to the evaluation's are for validation; those below, for training."""

MAX_EVALUATION_TABLES = 2**20
MAX_EVALUATION_SEED = 2**31 - 1
MAX_TRAINING_SEED = 2**30 - 1

_CODES: dict[str, int] = {"train": 1, "validation": 2, "evaluation": 3}


def data_rng(seed: int, split: Split, block: int = 0) -> np.random.Generator:
    """Returns the generator of one block of one split.

    Args:
        seed: in [0, 2**63).
        split: "train", "validation" or "evaluation".
        block: number of the block, in [0, 2**32).

    Raises:
        ValueError: for an unknown split, or a seed or block out of range.
    """
    check_split(split)
    check_seed(seed)
    if not 0 <= block < 2**32:
        raise ValueError(f"expected block in [0, 2**32), got {block}")
    sequence = np.random.SeedSequence(seed, spawn_key=(_CODES[split], block))
    return np.random.Generator(np.random.PCG64(sequence))


def evaluation_table_seeds(seed: int, count: int) -> range:
    """Returns the `count` reset seeds of an evaluation: one for each table.

    Different evaluation seeds have no table in common; a smaller count gives the first ones.

    Args:
        seed: of the evaluation, in [0, 2**31).
        count: number of tables, in [1, 2**20].

    Raises:
        ValueError: for a seed or count out of range.
    """
    return _table_seeds("evaluation", EVALUATION_SEEDS_FROM, seed, MAX_EVALUATION_SEED, count)


def validation_table_seeds(seed: int, count: int) -> range:
    """Returns the `count` reset seeds of a validation, as `evaluation_table_seeds` does.

    Raises:
        ValueError: for a seed outside [0, 2**30), or a count outside [1, 2**20].
    """
    return _table_seeds("validation", VALIDATION_SEEDS_FROM, seed, MAX_TRAINING_SEED, count)


def training_table_seeds(seed: int, count: int) -> range:
    """Returns reset seeds for `count` parallel environments to train on.

    Different seeds have none in common.

    Raises:
        ValueError: for a seed outside [0, 2**30), or a count outside [1, 2**20].
    """
    return _table_seeds("training", 0, seed, MAX_TRAINING_SEED, count)


def _table_seeds(what: str, start: int, seed: int, last: int, count: int) -> range:
    """The first `count` of the 2**20 reset seeds of one seed."""
    if isinstance(seed, bool) or not 0 <= seed <= last:
        raise ValueError(f"expected the {what} seed in [0, {last}], got {seed!r}")
    if isinstance(count, bool) or not 1 <= count <= MAX_EVALUATION_TABLES:
        raise ValueError(
            f"expected a number of {what} tables in [1, {MAX_EVALUATION_TABLES}], got {count!r}"
        )
    first = start + seed * MAX_EVALUATION_TABLES
    return range(first, first + count)


def check_split(split: str) -> None:
    """Raises a `ValueError` unless `split` is one of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(unknown_name("split", split, SPLITS))


def check_seed(seed: object) -> None:
    """Raises a `ValueError` unless `seed` is an integer in [0, 2**63)."""
    if (
        isinstance(seed, bool)
        or not isinstance(seed, (int, np.integer))
        or not 0 <= int(seed) < 2**63
    ):
        raise ValueError(f"expected seed to be an integer in [0, 2**63), got {seed!r}")
