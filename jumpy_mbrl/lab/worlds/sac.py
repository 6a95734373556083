"""SAC of Stable-Baselines3 in the study's worlds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import RescaleObservation
from numpy.typing import NDArray
from stable_baselines3 import SAC

from jumpy_mbrl.adapters.sb3 import SB3VecEnv
from jumpy_mbrl.data.recording import Policy
from jumpy_mbrl.files import write_json
from jumpy_mbrl.lab.worlds.worlds import World

_TABLES = 8


def learn(world: World, folder: Path, seed: int) -> tuple[Policy, float]:
    """A policy that has seen as many frames as models learn from, and the seconds it took.

    A shot's is shown all context frames; elsewhere it acts at every frame.
    """
    path, about = folder / "sac.zip", folder / "sac.json"
    if not about.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        env: Any
        if world.env_id is None:
            env, steps = SB3VecEnv(ShotsVectorEnv(world, _TABLES)), world.learned
        else:
            env, steps = _single(world.env_id), world.learned * world.frames
        begin = time.perf_counter()
        model = SAC("MlpPolicy", env, seed=seed, device="cpu", **world.sac)
        model.learn(steps)
        seconds = time.perf_counter() - begin
        model.save(path)
        write_json(about, {"seconds": seconds})
    policy = SAC.load(path, device="cpu")

    def choose(obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
        seen = obs[:, -1] if world.env_id else obs[:, -world.context_frames :]
        chosen: NDArray[np.float32] = policy.predict(
            seen.reshape(len(seen), -1), deterministic=True
        )[0]
        return chosen

    return choose, float(json.loads(about.read_text())["seconds"])


def _single(env_id: str) -> gym.Env[Any, Any]:
    return RescaleObservation(gym.make(env_id), np.float32(-1.0), np.float32(1.0))


class ShotsVectorEnv(VectorEnv[Any, Any, Any]):
    """A world of one shot as episodes of one step: shown all context frames, it is told what the
    shot brings."""

    def __init__(self, world: World, num_envs: int) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._world, self._env, self.num_envs = world, world.make(num_envs), num_envs
        seen: Any = self._env.single_observation_space.shape
        size = world.context_frames * seen[0]
        self.single_observation_space = Box(0.0, 1.0, (size,), np.float32)
        self.single_action_space = self._env.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seen: Any = None

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._begin(seed[0] if isinstance(seed, list) else seed), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        total = np.zeros(self.num_envs)
        going = np.ones(self.num_envs, dtype=bool)
        for _ in range(self._world.frames - self._world.context_frames):
            _, reward, terminated, truncated, _ = self._env.step(actions)
            total[going] += reward[going]
            going &= ~(terminated | truncated)
        ended = np.ones(self.num_envs, dtype=bool)
        last, self._seen = self._seen, self._begin(None)
        return (
            self._seen,
            total,
            ended,
            np.zeros_like(ended),
            {"final_obs": last, "_final_obs": ended},
        )

    def _begin(self, seed: Any) -> Any:
        frames = [self._env.reset(seed=seed)[0]]
        still = np.zeros_like(self._env.action_space.sample())
        frames += [self._env.step(still)[0] for _ in range(self._world.context_frames - 1)]
        self._seen = np.concatenate(frames, axis=1).astype(np.float32)
        return self._seen
