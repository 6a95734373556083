"""The single environments inside a vector environment of Gymnasium, reached one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv
from stable_baselines3.common.env_util import is_wrapped

_REACHING = "call", "get_attr", "set_attr"
_NOT_CALLED = "reset", "step", "close"


class SingleEnvs:
    """Attributes and methods of the environments in a `SyncVectorEnv` or an `AsyncVectorEnv`.

    Those in an `AsyncVectorEnv` are in other processes, and are all called at once.
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any]) -> None:
        self._venv: Any = venv
        self._envs: Sequence[gym.Env[Any, Any]] | None = getattr(venv, "envs", None)

    @classmethod
    def inside(cls, venv: VectorEnv[Any, Any, Any]) -> SingleEnvs | None:
        """Those of a vector environment; None if it is native and has none."""
        base = venv.unwrapped
        has_some = all(callable(getattr(base, name, None)) for name in _REACHING)
        return cls(base) if has_some else None

    def have(self, name: str, rows: Sequence[int]) -> bool:
        """Whether the environments `rows` have an attribute."""
        # In AsyncVectorEnv all are asked for it, and one without it would end them all.
        asked = range(self._venv.num_envs) if self._envs is None else rows
        return all(self._call(asked, "has_wrapper_attr", name))

    def get(self, name: str, rows: Sequence[int]) -> list[Any]:
        """An attribute of each of the environments `rows`."""
        return self._call(rows, "get_wrapper_attr", name)

    def set(self, name: str, value: Any, rows: Sequence[int]) -> None:
        """Sets an attribute where it is defined, in wrappers or the environment.

        Raises:
            ValueError: for some of the environments of `AsyncVectorEnv` only.
        """
        self._check_reach(rows, f"set {name!r}")
        self._call(rows, "set_wrapper_attr", name, value)

    def call(self, rows: Sequence[int], name: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Calls a method of each of the environments `rows`.

        Raises:
            AttributeError: for a method that they do not have.
            ValueError: for some of the environments of `AsyncVectorEnv` only, or a method that it
                does not call.
        """
        self._check_reach(rows, f"call {name!r}")
        if self._envs is None and name in _NOT_CALLED:
            raise ValueError(
                f"expected another method than {name!r}, which AsyncVectorEnv does not "
                f"call; call that of this environment, for all"
            )
        if not self.have(name, rows):
            raise AttributeError(f"expected a method of the environments, got {name!r}")
        return self._call(rows, name, *args, **kwargs)

    def wrapped_in(self, wrapper_class: type[Any], rows: Sequence[int]) -> list[bool]:
        """Whether each has a wrapper of that class; by the name of the class in other processes."""
        if self._envs is not None:
            return [is_wrapped(self._envs[row], wrapper_class) for row in rows]
        name = f"<{wrapper_class.__name__}<"
        return [name in described for described in self._call(rows, "__str__")]

    def _call(self, rows: Sequence[int], name: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        if self._envs is not None:
            return [self._envs[row].get_wrapper_attr(name)(*args, **kwargs) for row in rows]
        results = self._venv.call(name, *args, **kwargs)
        return [results[row] for row in rows]

    def _check_reach(self, rows: Sequence[int], what: str) -> None:
        if self._envs is None and len(set(rows)) != self._venv.num_envs:
            raise ValueError(
                f"expected to {what} in all environments, as AsyncVectorEnv does, got "
                f"indices={list(rows)}; use SyncVectorEnv or SB3's SubprocVecEnv for some of them"
            )
