"""Factors of variation: what `reset(options=...)` may change of a table for one episode.

They are declared and asked for as in stable-worldmodel, so that its `World` can sample them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from jumpy_mbrl.checks import check_names
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.pixels import BLUE, FELT, GREY, TAN

FACTORS = ("ball_colors", "felt_color", "radius", "restitution")
FACTOR_OPTIONS = (*FACTORS, "variation", "variation_values")
"""The options of `reset` that concern factors."""


class Factor(spaces.Box):
    """What one factor may be.

    Attributes:
        init_value: what it is in an episode that does not change it.
        value: what it is in this episode.
    """

    def __init__(self, low: float, high: float, default: ArrayLike, dtype: type) -> None:
        self.init_value: NDArray[Any] = np.array(default, dtype)
        self.value = self.init_value
        super().__init__(low, high, self.init_value.shape, dtype)

    def read(self, name: str, value: ArrayLike) -> NDArray[Any]:
        """Returns a given value as an array; `ValueError` for one that is not in the space."""
        try:
            array = np.array(value, np.float64)
            array = array.reshape(self.shape) if array.size == 1 else array
        except (TypeError, ValueError):
            array = np.array(np.nan)
        fits = array.shape == self.shape and bool(
            ((self.low <= array) & (array <= self.high)).all()
        )
        if not fits or (array != array.astype(self.dtype)).any():
            raise ValueError(f"expected {name} to be in {self}, got {value!r}")
        return array.astype(self.dtype)


class VariationSpace(spaces.Dict):
    """The factors of a table, by name: a sample may be passed to `reset` as options.

    Args:
        config: the table without variation.
        largest: the largest radius.
    """

    def __init__(self, config: TableConfig, largest: float) -> None:
        colors = [TAN, BLUE, *[GREY] * config.num_balls][: config.num_balls]
        radius, restitution = config.radius, config.restitution
        self.factors = {
            "ball_colors": Factor(0, 255, colors, np.uint8),
            "felt_color": Factor(0, 255, FELT, np.uint8),
            "radius": Factor(0.5 * radius, largest, radius, np.float64),
            "restitution": Factor(min(0.7, restitution), 1.0, restitution, np.float64),
        }
        super().__init__({**self.factors})

    def names(self) -> list[str]:
        """Returns the names of the factors."""
        return list(FACTORS)

    def take(self, options: dict[str, Any], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Takes the options that concern factors out of `options`, and returns the factors that
        they give or have drawn, leaving the generator as it was; `ValueError` for bad ones."""
        values = options.pop("variation_values", {})
        if not isinstance(values, Mapping):
            raise ValueError(
                f"expected variation_values to map names of factors to values, got {values!r}"
            )
        usual = {name: options.pop(name) for name in FACTORS if name in options}
        given = {**values, **usual}
        asked = options.pop("variation", ())
        if not isinstance(asked, (list, tuple)):
            raise ValueError(
                f"expected variation to be a list of factors to draw, or ['all'], got {asked!r}"
            )
        asked = FACTORS if list(asked) == ["all"] else asked
        check_names("factor of variation", [*given, *asked], FACTORS)
        factors = {name: self.factors[name].read(name, value) for name, value in given.items()}
        if asked:
            # From a copy, and all of them: a seed gives the same table, whatever is asked for.
            self.seed(int(copy.deepcopy(rng).integers(2**31)))
            drawn = self.sample()
            factors = {name: drawn[name] for name in asked} | factors
        return factors

    def note(self, factors: Mapping[str, NDArray[Any]]) -> None:
        """Remembers the factors of an episode; all others are as usual."""
        for name, factor in self.factors.items():
            factor.value = factors.get(name, factor.init_value)
