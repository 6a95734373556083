"""Native vector environments for Stable-Baselines3, which refuses those of Gymnasium.

```python
from stable_baselines3 import PPO
from jumpy_mbrl.adapters.sb3 import make_vec_env

model = PPO("MlpPolicy", make_vec_env("Billiards2D-v0", n_envs=64, obs_type="state"))
model.learn(100_000)
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import compress, repeat
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs.vector import BilliardsVectorEnv

Indices = int | Iterable[int] | None

_SINGLE = {name: f"single_{name}" for name in ("action_space", "observation_space")}
_PER_ENV = "np_random", "np_random_seed"
_SETTABLE = "max_episode_steps", "model", "render_mode"
_REACHING = "call", "get_attr", "set_attr"
_NOT_CALLED = "reset", "step", "close"


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment as a Stable-Baselines3 `VecEnv`.

    Like `DummyVecEnv` over single environments it resets by itself, and gives, in `infos`,
    `terminal_observation` and `TimeLimit.truncated`, and the `episode` that Gymnasium's vector
    wrapper `RecordEpisodeStatistics` records (before Gymnasium 1.4 it miscounts in this mode; take
    SB3's `VecMonitor`).

    The attributes and methods of the single environments in a `SyncVectorEnv` can be reached one by
    one, as in `DummyVecEnv`, but `set_attr` sets where the attribute is defined, in wrappers or the
    environment. Those in an `AsyncVectorEnv` are all called at once. A native vector environment
    has none.

    Args:
        venv: a vector environment in mode `AutoresetMode.SAME_STEP`; `ValueError` for another.
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any]) -> None:
        if not isinstance(venv, VectorEnv):
            raise ValueError(
                f"expected a vector environment, made by gym.make_vec, got {venv!r}; "
                f"Stable-Baselines3 takes single environments as they are"
            )
        mode = venv.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"expected autoreset_mode=AutoresetMode.SAME_STEP, got {mode}; pass it to "
                f"gym.make_vec, or use make_vec_env of this module"
            )
        self.venv = venv
        self.spec = venv.spec
        self._given: dict[str, Any] | None = {}
        self._started = False
        self._base: Any = venv.unwrapped
        self._envs: Sequence[gym.Env[Any, Any]] | None = getattr(self._base, "envs", None)
        self._is_ours = isinstance(self._base, BilliardsVectorEnv)
        self._has_singles = all(callable(getattr(self._base, name, None)) for name in _REACHING)
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> VecEnvObs:
        """Starts episodes everywhere, with the seeds and options that were set before."""
        observations: VecEnvObs
        seeds: Any = None if all(seed is None for seed in self._seeds) else self._seeds
        if self._given is not None:
            observations, infos = self.venv.reset(seed=seeds, options=self._given or None)
            self.reset_infos = self._unbatch(infos)
        else:  # One after the other, which Gymnasium does only after a reset of all.
            if not self._started:
                self.venv.reset()
            for row, given in enumerate(self._options):
                options = {**given, "reset_mask": np.arange(self.num_envs) == row}
                observations, infos = self.venv.reset(seed=seeds, options=options)
                self.reset_infos[row] = self._unbatch(infos)[row]
        self._started = True
        self._reset_seeds()
        self.set_options()
        return observations

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Sets the options of the next reset: for all environments, or a list with one for each.

        With different options, single environments are reset one after the other. `ValueError` for
        a list of another length; in a native vector environment of this library for a list whose
        members have different names, in others for any different options.
        """
        given = self._shared(options) if isinstance(options, list) else dict(options or {})
        super().set_options(options)
        self._given = given

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Plays the step: observations, rewards, dones and infos."""
        observations, rewards, terminations, truncations, infos = self.venv.step(self._actions)
        dones = terminations | truncations
        ended = np.flatnonzero(dones).tolist()
        last_obs = infos.pop("final_obs", None)
        last_infos = infos.pop("final_info", {})
        unbatched = self._unbatch(infos)
        if ended:
            finals = self._unbatch(last_infos)
            for row in ended:
                self.reset_infos[row] = first = unbatched[row]
                unbatched[row] = {**finals[row], "terminal_observation": last_obs[row]}
                # Vector wrappers put the record among the infos of the episode that begins.
                if isinstance(first.get("episode"), dict):
                    unbatched[row].setdefault("episode", first.pop("episode"))
        cut = (truncations & ~terminations).tolist()
        for info, truncated in zip(unbatched, cut, strict=True):
            info["TimeLimit.truncated"] = truncated
        return observations, rewards.astype(np.float32), dones, unbatched

    def close(self) -> None:
        """Closes the vector environment."""
        self.venv.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Returns a picture of each environment; needs `render_mode="rgb_array"`."""
        pictures: Any = self.venv.render()
        return [None] * self.num_envs if pictures is None else list(pictures)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Returns an attribute of each environment of `indices`, as `DummyVecEnv` does.

        Of a native vector environment it is one of its own, the same for each but for `np_random`
        and `np_random_seed`.
        """
        rows = list(self._get_indices(indices))
        if attr_name not in _SINGLE and self._has_singles and self._have(attr_name, rows):
            return self._call(rows, "get_wrapper_attr", attr_name)
        name = _SINGLE.get(attr_name, attr_name)
        layers = self._layers()
        value = getattr(next((one for one in layers if hasattr(one, name)), self.venv), name)
        each = attr_name in _PER_ENV and isinstance(value, tuple)
        return [value[row] if each else value for row in rows]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of each environment of `indices`, where it is defined.

        The native ones of this library have `max_episode_steps`, `render_mode` and, in imagination,
        `model` to set: others would have no effect. `ValueError` for these, and for some of the
        environments only, where they share the attribute or are those of `AsyncVectorEnv`.
        """
        rows = list(self._get_indices(indices))
        holder = self._holder(attr_name)
        if holder is None and self._has_singles:
            self._check_reach(rows, f"set {attr_name!r}")
            self._call(rows, "set_wrapper_attr", attr_name, value)
            return
        no_effect = self._is_ours and attr_name not in _SETTABLE
        if holder is None or (holder is self._base and no_effect):
            known = [name for name in _SETTABLE if hasattr(self._base, name)]
            raise ValueError(
                f"expected an attribute that has an effect in {self._base}, such as {known}, got "
                f"{attr_name!r}; give arguments where it is made, and options to set_options"
            )
        if len(set(rows)) != self.num_envs:
            raise ValueError(
                f"expected {attr_name} to be set for all environments, which are one, got "
                f"indices={indices!r}"
            )
        setattr(holder, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of each environment of `indices`, and returns what they return.

        `AttributeError` for an unknown method, or a native vector environment, which has no single
        environments; `ValueError` for some of the environments of `AsyncVectorEnv` only, or a
        method that it does not call.
        """
        if not self._has_singles:
            raise AttributeError(
                f"expected no env_method({method_name!r}): there are no single environments inside "
                f"{self.venv}; use its attribute venv, or SB3's own make_vec_env"
            )
        rows = list(self._get_indices(indices))
        self._check_reach(rows, f"call {method_name!r}")
        if self._envs is None and method_name in _NOT_CALLED:
            raise ValueError(
                f"expected another method than {method_name!r}, which AsyncVectorEnv does not "
                f"call; call that of this environment, for all"
            )
        if not self._have(method_name, rows):
            raise AttributeError(f"expected a method of the environments, got {method_name!r}")
        return self._call(rows, method_name, *args, **kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Returns whether each environment of `indices` has a wrapper of that class.

        `AsyncVectorEnv` tells the names of classes only: there, subclasses do not count.
        """
        rows = list(self._get_indices(indices))
        if not self._has_singles:
            return [False] * len(rows)
        if self._envs is not None:
            return [is_wrapped(self._envs[row], wrapper_class) for row in rows]
        name = f"<{wrapper_class.__name__}<"
        return [name in described for described in self._call(rows, "__str__")]

    def _call(self, rows: Sequence[int], name: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Calls a method of single environments."""
        if self._envs is not None:
            return [self._envs[row].get_wrapper_attr(name)(*args, **kwargs) for row in rows]
        results = self._base.call(name, *args, **kwargs)
        return [results[row] for row in rows]

    def _have(self, name: str, rows: Sequence[int]) -> bool:
        """Whether single environments have an attribute."""
        # In AsyncVectorEnv all are asked for it, and one without it would end them all.
        asked = range(self.num_envs) if self._envs is None else rows
        return all(self._call(asked, "has_wrapper_attr", name))

    def _check_reach(self, rows: Sequence[int], what: str) -> None:
        if self._envs is None and len(set(rows)) != self.num_envs:
            raise ValueError(
                f"expected to {what} in all environments, as AsyncVectorEnv does, got "
                f"indices={list(rows)}; use SyncVectorEnv or SB3's SubprocVecEnv for some of them"
            )

    def _shared(self, options: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Options that make one reset of all environments; None if each needs one of its own."""
        if len(options) != self.num_envs or (self._is_ours and len({*map(frozenset, options)}) > 1):
            names = ", with the same names" if self._is_ours else ""
            raise ValueError(
                f"expected options for each of {self.num_envs} environments{names}, got {options!r}"
            )
        with contextlib.suppress(ValueError, RuntimeError):  # of arrays and tensors that differ
            if all(entry == options[0] for entry in options):
                return dict(options[0])
        if self._is_ours:
            return {name: np.stack([entry[name] for entry in options]) for name in options[0]}
        if not self._has_singles:
            raise ValueError(
                f"expected the same options for all of {self.venv}, which has no single "
                f"environments, got {options!r}"
            )
        return None

    def _unbatch(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        """The infos of each environment from those of all: NumPy's scalars, and arrays for bool,
        from tables of ours, as from single ones; mostly Python's numbers from others."""
        rows: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for name in (name for name in infos if not name.startswith("_")):
            values = infos[name]
            column: list[Any]
            if isinstance(values, dict):
                column = self._unbatch(values)
            elif values.ndim > 1 or (self._is_ours and values.dtype != np.bool_):
                column = list(values)
            else:
                column = [*map(np.array, values)] if self._is_ours else values.tolist()
            told = infos[f"_{name}"].tolist() if f"_{name}" in infos else repeat(True)
            for row, value in compress(zip(rows, column, strict=True), told):
                row[name] = value
        return rows

    def _layers(self) -> list[Any]:
        """The vector wrappers from the outside, and the vector environment."""
        layers: list[Any] = [self.venv]
        while isinstance(layers[-1], VectorWrapper):
            layers.append(layers[-1].env)
        return layers

    def _holder(self, name: str) -> Any:
        """What all environments share that defines an attribute, a wrapper or a native one."""
        if self._has_singles and self._have(name, range(self.num_envs)):
            return None
        *wrappers, base = self._layers()
        # What every wrapper has only passes on what is inside.
        own = [] if hasattr(VectorWrapper, name) else wrappers
        places = own if self._has_singles else [*own, base]
        return next((place for place in places if hasattr(place, name)), None)


def make_vec_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    monitor: bool = True,
    **arguments: Any,
) -> VecEnv:
    """Makes a native vector environment for Stable-Baselines3.

    Args:
        env_id: such as "Billiards2D-v0".
        n_envs: number of environments.
        seed: of the first environment, the next one's being one more; None for any.
        monitor: whether to record returns and lengths of episodes (`VecMonitor`).
        arguments: of the environment, but for `autoreset_mode`, which is set here to `SAME_STEP`;
            `ValueError` for another.
    """
    mode = arguments.pop("autoreset_mode", AutoresetMode.SAME_STEP)
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value):
        raise ValueError(
            f"expected no autoreset_mode, as make_vec_env sets AutoresetMode.SAME_STEP itself, "
            f"which Stable-Baselines3 needs, got {mode!r}"
        )
    arguments["autoreset_mode"] = AutoresetMode.SAME_STEP
    native = gym.make_vec(env_id, n_envs, vectorization_mode="vector_entry_point", **arguments)
    env: VecEnv = SB3VecEnv(native)
    if monitor:
        env = VecMonitor(env)
    env.seed(seed)
    return env
