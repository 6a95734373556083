"""Native vector environments for Stable-Baselines3, which refuses those of Gymnasium.

```python
from stable_baselines3 import PPO
from jumpy_mbrl.adapters.sb3 import make_vec_env

model = PPO("MlpPolicy", make_vec_env("Billiards2D-v0", n_envs=64, obs_type="state"))
model.learn(100_000)
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

import jumpy_mbrl  # noqa: F401  (registers the environments)

Indices = int | Iterable[int] | None

_SINGLE = {
    "action_space": "single_action_space",
    "observation_space": "single_observation_space",
}
_PER_ENV = "np_random", "np_random_seed"


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment as a Stable-Baselines3 `VecEnv`.

    Like `DummyVecEnv` over single environments it resets by itself, and gives, in `infos`,
    `terminal_observation` and `TimeLimit.truncated`, and the `episode` that Gymnasium's vector
    wrapper `RecordEpisodeStatistics` records.

    Args:
        venv: a vector environment in mode `AutoresetMode.SAME_STEP`.

    Raises:
        ValueError: for something else.
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
        self._actions: NDArray[Any] | None = None
        self._given: dict[str, Any] | None = None
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> VecEnvObs:
        """Starts episodes everywhere, with the seeds and options that were set before."""
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.venv.reset(seed=seeds, options=self._given)  # type: ignore[arg-type]
        self.reset_infos = _unbatch(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        self._given = None
        return observations  # type: ignore[no-any-return]

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Sets the options of the next reset: for all environments, or a list with one for each.

        Raises:
            ValueError: for a list of another length, or whose members have different names.
        """
        super().set_options(options)
        if isinstance(options, list):
            names = set(options[0]) if options else set()
            if len(options) != self.num_envs or any(set(entry) != names for entry in options):
                raise ValueError(
                    f"expected options for each of {self.num_envs} environments, with the same "
                    f"names, got {options!r}"
                )
            options = {name: np.stack([entry[name] for entry in options]) for name in names}
        self._given = dict(options) if options else None

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
        unbatched = _unbatch(infos, self.num_envs)
        if ended:
            finals = _unbatch(last_infos, self.num_envs)
            for row in ended:
                # Vector wrappers put it among the infos of the episode that begins.
                recorded = _take_record(unbatched[row])
                self.reset_infos[row] = unbatched[row]
                last = {"terminal_observation": last_obs[row]}
                unbatched[row] = {**recorded, **finals[row], **last}
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
        """Returns an attribute of the vector environment for each of `indices`.

        As `DummyVecEnv` does, it gives the spaces of a single environment, and each its own
        `np_random` and `np_random_seed`.
        """
        value = getattr(self.venv, _SINGLE.get(attr_name, attr_name))
        each = attr_name in _PER_ENV and isinstance(value, tuple)
        return [value[row] if each else value for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of the vector environment, which all environments share.

        Raises:
            ValueError: for some of the environments only.
        """
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"expected {attr_name} to be set for all environments, which are one, got "
                f"indices={indices!r}"
            )
        setattr(self.venv, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any
    ) -> list[Any]:
        """Is refused: there are no single environments.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            f"expected no env_method({method_name!r}): there are no single environments inside "
            f"{self.venv}; use its attribute venv, or SB3's own make_vec_env"
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Returns False for each: a vector environment has no wrappers of single ones."""
        return [False for _ in self._get_indices(indices)]


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
        arguments: of the environment.
    """
    venv = gym.make_vec(
        env_id,
        num_envs=n_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
        **arguments,
    )
    env: VecEnv = SB3VecEnv(venv)
    if monitor:
        env = VecMonitor(env)
    env.seed(seed)
    return env


def _take_record(info: dict[str, Any]) -> dict[str, Any]:
    """Removes the record of an ended episode, as Stable-Baselines3 knows it, and returns it."""
    if isinstance(info.get("episode"), dict):
        return {"episode": info.pop("episode")}
    return {}


def _unbatch(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Returns the infos of each environment from those of all of them."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        column: list[Any]
        if isinstance(values, dict):
            column = _unbatch(values, count)
        elif values.ndim == 1:
            column = values.tolist()
        else:
            column = list(values)
        mask = infos.get(f"_{name}")
        if mask is None or mask.all():
            for row, value in zip(rows, column, strict=True):
                row[name] = value
        else:
            for k in np.flatnonzero(mask).tolist():
                rows[k][name] = column[k]
    return rows
