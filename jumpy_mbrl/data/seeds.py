"""Which random numbers belong to whom, so that no split ever sees another's tables.

A data stream is `SeedSequence(seed, spawn_key=(code of the split, block))`. NumPy pads the entropy
to four 32-bit words before a spawn key, and seeds are below 2**63, so different (seed, split,
block) are always six different words. (Lists would not do: NumPy treats `SeedSequence([5])` and
`SeedSequence([5, 0])` as the same.) `env.reset(seed=...)` uses `SeedSequence(seed)` without a spawn
key, four words, so it never meets a data stream either; the tables of an evaluation are resets with
the seeds of `evaluation_table_seeds`, all of them at or above `EVALUATION_SEEDS_FROM`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from jumpy_mbrl.envs.config import unknown_name

Split = Literal["train", "validation", "evaluation"]

SPLITS: tuple[Split, ...] = ("train", "validation", "evaluation")

EVALUATION_SEEDS_FROM = 2**51
"""Reset seeds from here on are for evaluation only; nothing may be trained on their tables."""

MAX_EVALUATION_TABLES = 2**20
MAX_EVALUATION_SEED = 2**31 - 1

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
    if isinstance(seed, bool) or not 0 <= seed <= MAX_EVALUATION_SEED:
        raise ValueError(f"expected an evaluation seed in [0, {MAX_EVALUATION_SEED}], got {seed!r}")
    if isinstance(count, bool) or not 1 <= count <= MAX_EVALUATION_TABLES:
        raise ValueError(
            f"expected a number of evaluation tables in [1, {MAX_EVALUATION_TABLES}], got {count!r}"
        )
    first = EVALUATION_SEEDS_FROM + seed * MAX_EVALUATION_TABLES
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
