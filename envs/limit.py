"""How an episode ends where Gymnasium limits its number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.utils import RecordConstructorArgs


class SingleOnly(tuple[WrapperSpec, ...]):
    """Wrappers that `gym.make` puts on, and that `gym.make_vec` does not count.

    `make_vec` refuses a native vector environment by the number of wrappers of single ones. Ours
    does itself what the wrapper does, and Gymnasium has no other place for a wrapper of single ones
    around `TimeLimit`.
    """

    def __len__(self) -> int:
        return 0


class OneEnd(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An episode that terminates at the time limit is not truncated as well.

    `gym.make` puts it around Gymnasium's `TimeLimit`, which says both. `reset` refuses a limit
    before the only frame that decides.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._was_reset = False
        self._limit = None if env.spec is None else env.spec.max_episode_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; `ValueError` for a limit under which none is decided."""
        table: Any = self.unwrapped
        check_limit(self._limit, table.steps_to_win)
        self._was_reset = True
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Plays a step: it is terminated, truncated or neither."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated and not terminated, info

    def get_state(self) -> dict[str, Any]:
        """That of the table; see `BilliardsEnv.get_state`."""
        return dict(self.unwrapped.get_state())  # type: ignore[attr-defined]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets that of the table, see `BilliardsEnv.set_state`, and how many steps the time limit
        has counted."""
        table: Any = self.unwrapped
        table.set_state(state)
        if not self._was_reset:  # wrappers want to see one
            self.reset()
            table.set_state(state)
        env: Any = self.env
        while isinstance(env, gym.Wrapper):
            if isinstance(env, gym.wrappers.TimeLimit):
                env._elapsed_steps = table.elapsed_steps  # there is no public way
            env = env.env

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # gym.Env has an attribute
        """What `gym.make` and `gym.make_vec` make the like of this from."""
        spec = super().spec
        if spec is not None:
            spec.additional_wrappers = SingleOnly(spec.additional_wrappers)
        return spec


def check_limit(limit: int | None, needed: int) -> None:
    """Raises ``ValueError`` for a time limit of fewer steps than are needed to win."""
    if limit is not None and limit < needed:
        raise ValueError(
            f"expected max_episode_steps to be at least {needed}, as the last frame of the table "
            f"(num_frames - 1) decides, got {limit}: no episode could be won; pass "
            f"max_episode_steps={needed}"
        )
