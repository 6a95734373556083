"""States of a table in play: what `set_state` takes from `get_state`, checked part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jumpy_mbrl.checks import check_count, check_flag, differences
from jumpy_mbrl.envs.config import check_target
from jumpy_mbrl.envs.scene import Scene

Moment = tuple[list[float], list[float], int]
"""Flat positions, flat velocities and the number of the frame."""


def read_state(state: Any, game: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Returns a copy of a state with a generator in place of that of `rng`; `ValueError`, by name,
    for a state of another game than `game` or of another number of moments than `depth`, and for
    what is none."""

    def moments(given: Any) -> list[Moment]:
        numbers = np.array([[x, v] for x, v, _ in given], dtype=np.float64)
        _require(numbers.shape == (depth, 2, 2 * game["config"]["num_balls"]))
        _require(np.isfinite(numbers).all() and (abs(numbers[:, 0] - 0.5) <= 0.5).all())
        frames = [check_count("frame", frame, 0) for _, _, frame in given]
        return [(x, v, frame) for (x, v), frame in zip(numbers.tolist(), frames, strict=True)]

    if not isinstance(state, Mapping) or set(state) != {"game", *_PARTS}:
        got = list(state) if isinstance(state, Mapping) else repr(state)
        raise ValueError(f"expected a state of get_state, with {['game', *_PARTS]}, got {got}")
    if state["game"] != game:
        other = state["game"] if isinstance(state["game"], Mapping) else {}
        raise ValueError(f"expected a state of this game, got {differences(game, other)}")
    read = {}
    for name, (reader, what) in (_PARTS | {"moments": (moments, _PARTS["moments"][1])}).items():
        try:
            read[name] = reader(state[name])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected {name} of the state to be {what}, got {state[name]!r}"
            ) from error
    return read


def _require(fits: bool | np.bool_) -> None:
    if not fits:
        raise ValueError


def _generator(state: Any) -> np.random.Generator:
    kind = getattr(np.random, state["bit_generator"])
    _require(issubclass(kind, np.random.BitGenerator))
    bits = kind(0)
    bits.state = state
    return np.random.Generator(bits)


def _scene(scene: Any) -> Scene | None:
    _require(scene is None or isinstance(scene, Scene))
    found: Scene | None = scene
    return found


_PARTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "factors": (dict, "factors of variation by name"),
    "target": (check_target, "a rectangle on the table"),
    "moments": (list, "as many frames as an observation shows, of positions in [0, 1], velocities"),
    "hits": (lambda hits: [check_count("hits", hits[k], 0) for k in (0, 1)], "two counts"),
    "running": (lambda value: check_flag("running", value), "True or False"),
    "rng": (_generator, "the state of one of NumPy's bit generators"),
    "seed": (lambda value: check_count("seed", value, -1), "a seed, or -1"),
    "scene": (_scene, "a Scene or None"),
}
