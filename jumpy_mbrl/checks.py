"""Checks of arguments, and the words in which bad ones are refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """Returns the message for a name outside a list of choices, with the nearest of them."""
    choices = list(known)
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}, expected one of {choices}{hint}"


def check_names(what: str, names: Iterable[object], known: Collection[str]) -> None:
    """`ValueError` for the first of `names` that is not `known`."""
    for name in names:
        check_choice(what, name, known)


def check_choice(what: str, name: Any, known: Collection[str]) -> Any:
    """Returns a name, or raises `ValueError` for one that is not `known`."""
    if name not in known:
        raise ValueError(unknown_name(what, name, known))
    return name


def check_flag(name: str, value: object) -> bool:
    """Returns a bool, or raises `ValueError` for what is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"expected {name} to be True or False, got {value!r}")
    return bool(value)


def is_integer(value: object) -> bool:
    """Whether something is a whole number of Python or NumPy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(name: str, value: Any, low: int = 1) -> int:
    """Returns an integer of at least `low`, or raises `ValueError` for what is none."""
    if not is_integer(value) or value < low:
        raise ValueError(f"expected {name} to be an integer of at least {low}, got {value!r}")
    return int(value)


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Returns a finite number in [low, high], or raises `ValueError` for what is none.

    With `open_low` the lower bound itself is refused too.
    """
    span = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or not math.isfinite(value)
        or not low <= value <= high
        or (value == low and open_low)
    ):
        raise ValueError(f"expected {name} to be a number in {span}, got {value!r}")
    return float(value)


def check_fields(
    config: Any,
    least: Mapping[str, int] = MappingProxyType({}),
    spans: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    positive: Collection[str] = (),
    free: Collection[str] = (),
) -> None:
    """`ValueError` for the first field of a dataclass that cannot be, but for those that are free.

    A `Literal` has to be one of its choices, an `int` at least 1 or what `least` says, and a
    `float` not negative, or in its span; its lower end is refused too if it has to be positive.
    """
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if name in free:
            continue
        if get_origin(kind) is Literal:
            check_choice(name, value, get_args(kind))
        elif kind is int:
            check_count(name, value, least.get(name, 1))
        elif kind is float:
            low, high = spans.get(name, (0.0, math.inf))
            check_number(name, value, low, high, open_low=name in positive)


def differences(expected: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Where two nested mappings differ: "A.B=GIVEN instead of EXPECTED" for each entry."""
    before, after = flat(expected), flat(given)
    return [
        f"{name}={after.get(name)!r} instead of {before.get(name)!r}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, whose names have dots, with lists for tuples, as in JSON."""
    entries: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            entries.update(flat(value, f"{prefix}{name}."))
        else:
            entries[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return entries
