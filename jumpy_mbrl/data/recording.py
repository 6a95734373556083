"""Recordings: episodes of any Gymnasium environment, as sequences that world models learn from.

A frame is a step of the environment. An action is chosen at a frame, given to the environment in
the step to the next frame, and again in every step until the next one is chosen (`hold` frames
later); the recording has it once, at its own frame, and zeros in between. So a jumpy model ticks
where something is decided, and leaps over the frames for which it holds.

Episodes may end early. They are padded to one length, and what is beyond their end is neither
learned nor scored.

Letters: n episodes, T frames, D observation size, A action size.
"""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from jumpy_mbrl import files
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data.dataset import check_npz_name, read_arrays

Policy = Callable[[NDArray[Any], NDArray[np.float32]], NDArray[np.float32]]
"""Chooses actions (n, A) from all frames so far (n, t, D) and the actions at them (n, t, A), of
which the last are zeros, still to be chosen."""

_ARRAYS = ("obs", "action", "reward")


@dataclass(frozen=True)
class RecordingConfig:
    """A recording that was saved, as the data of a training run.

    Attributes:
        path: the .npz file.
        sha256: its checksum, so that a run which is resumed goes on with the same data.
    """

    path: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Recording:
    """Episodes, padded to T frames.

    `ValueError` for arrays of other shapes or types, NaN or infinity, actions or rewards beyond the
    end of an episode, or a `context_frames` that leaves no frame to predict.

    Attributes:
        obs: (n, T, D) float32, or uint8 for pictures (row by row, 255 is 1.0 for a model). Beyond
            an episode's end any finite frames, such as its last one again.
        action: (n, T, A) float32: what was chosen at each frame, zeros where nothing was.
        reward: (n, T-1) float64, of the step from each frame to the next, zeros beyond the end.
        context_frames: how many frames are shown before the first action, its own included. An
            episode that ends within them teaches, but has nothing to be scored by.
        length: (n,) int64, how many frames of each episode are real, from 2 to T; by default all.
    """

    obs: NDArray[Any]
    action: NDArray[np.float32]
    reward: NDArray[np.float64]
    context_frames: int = 1
    length: NDArray[np.int64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        obs, action, reward = self.obs, self.action, self.reward
        if obs.ndim != 3 or obs.dtype not in (np.float32, np.uint8) or obs.shape[1] < 2:
            raise ValueError(
                f"expected obs of shape (n, T, D) with at least two frames, float32 or uint8, got "
                f"{obs.shape} and {obs.dtype}"
            )
        n, T = obs.shape[:2]
        if action.shape[:-1] != (n, T) or action.dtype != np.float32:
            raise ValueError(
                f"expected action of shape ({n}, {T}, A) and type float32, got {action.shape} and "
                f"{action.dtype}"
            )
        if reward.shape != (n, T - 1):
            raise ValueError(f"expected reward of shape {(n, T - 1)}, got {reward.shape}")
        length = np.full(n, T) if self.length is None else np.asarray(self.length)
        if length.shape != (n,) or not np.issubdtype(length.dtype, np.integer):
            raise ValueError(
                f"expected length of shape ({n},), an integer for each episode, got {length.shape} "
                f"and {length.dtype}"
            )
        if ((length < 2) | (length > T)).any():
            raise ValueError(
                f"expected lengths from 2 to {T} frames, got {length.min()} to {length.max()}"
            )
        object.__setattr__(self, "length", length.astype(np.int64))
        longest = int(length.max(initial=0))
        if not 1 <= self.context_frames < longest:
            raise ValueError(
                f"expected context_frames from 1 to {longest - 1}, so that there are frames to "
                f"predict, got {self.context_frames}"
            )
        for name, array in {"obs": obs, "action": action, "reward": reward}.items():
            bad = np.flatnonzero(~np.isfinite(array.reshape(n, -1)).all(axis=1))
            if len(bad):
                raise ValueError(
                    f"expected finite {name}, got NaN or infinity in episodes {bad[:8]}"
                )
        over = np.arange(T) >= self.length[:, None]
        if action[over].any() or reward[over[:, 1:]].any():
            raise ValueError("expected zeros as actions and rewards beyond the end of an episode")

    def __len__(self) -> int:
        return len(self.obs)

    def cut(self, frames: int) -> Recording:
        """Its episodes in pieces of at most so many frames, for models that are run through whole
        sequences. Each begins with the last `context_frames` of the one before.

        Actions come at the same frames of all pieces if they are held for a divisor of `frames`
        less the context frames. `ValueError` for pieces that are no longer than those.
        """
        frames = check_count("frames", frames, self.context_frames + 1)
        T, parts = self.obs.shape[1], []
        for first in range(0, T - self.context_frames, frames - self.context_frames):
            there = self.length - first > self.context_frames
            span = slice(first, first + frames)
            # The rest of a piece that is shorter: its last frame again, and zeros.
            rest = ((0, 0), (0, max(0, first + frames - T)), (0, 0))
            obs = np.pad(self.obs[there, span], rest, mode="edge")
            action = np.pad(self.action[there, span], rest)
            reward = np.pad(self.reward[there, first : first + frames - 1], rest[:2])
            parts.append((obs, action, reward, (self.length[there] - first).clip(max=frames)))
        obs, action, reward, length = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        return Recording(obs, action, reward, self.context_frames, length)

    @classmethod
    def cat(cls, recordings: Sequence[Recording]) -> Recording:
        """The episodes of several, one after the other, such as of random actions and of plans.

        `ValueError` for none, or for others than of the same frames, sizes and types.
        """
        kinds = {
            (r.obs.shape[1:], str(r.obs.dtype), r.action.shape[2], r.context_frames)
            for r in recordings
        }
        if len(kinds) != 1:
            raise ValueError(
                "expected recordings of the same frames (T, D), type, action size and "
                f"context_frames, got {sorted(kinds)}; cut makes pieces of one length"
            )
        parts = zip(*((r.obs, r.action, r.reward, r.length) for r in recordings), strict=True)
        obs, action, reward, length = (np.concatenate(arrays) for arrays in parts)
        return cls(obs, action, reward, recordings[0].context_frames, length)

    def save(self, path: str | os.PathLike[str]) -> RecordingConfig:
        """Writes `path` atomically, and tells how a training run finds it again.

        `ValueError` unless the name ends in .npz.
        """
        path = check_npz_name(path)
        # Without lengths where they say nothing, so that such a file keeps its checksum.
        ended = ("length",) if (self.length < self.obs.shape[1]).any() else ()
        with files.atomic_write(path) as temporary:
            names = (*_ARRAYS, "context_frames", *ended)
            np.savez(temporary, **{name: getattr(self, name) for name in names})
            return RecordingConfig(str(path), files.sha256_of(temporary))

    @classmethod
    def load(cls, path: str | os.PathLike[str], sha256: str | None = None) -> Recording:
        """Reads what `save` wrote.

        `FileNotFoundError` if there is no such file; `ValueError` if it holds something else, or
        has another checksum than `sha256` (None is any).
        """
        path = check_npz_name(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected a recording, but there is no {path}; record it anew")
        if sha256 is not None and files.sha256_of(path) != sha256:
            raise ValueError(
                f"expected {path} to have the SHA-256 {sha256}, got {files.sha256_of(path)}; it "
                "was changed or recorded anew since, so start a new training run"
            )
        optional = ("context_frames", "warm_up", "length")  # The second is an older name.
        arrays: dict[str, Any] = read_arrays(path, _ARRAYS, optional=optional)
        with files.entries_of(path, "record it anew"):
            count = arrays.pop("warm_up" if "warm_up" in arrays else "context_frames")
            return cls(**arrays, context_frames=operator.index(count))


def record(
    env: VectorEnv[Any, Any, Any],
    episodes: SupportsIndex,
    frames: SupportsIndex,
    *,
    hold: SupportsIndex = 1,
    context_frames: SupportsIndex = 1,
    policy: Policy | None = None,
    seed: int = 0,
) -> Recording:
    """Plays episodes and records them.

    Args:
        env: any vector environment with `Box` observations, of any shape (pictures as uint8), and
            bounded `Box` actions: `gym.make_vec(name, num_envs)`. For discrete actions see
            docs/your_own_environment.md. Models and planners expect numbers between about -1 and 1,
            so wrap it in Gymnasium's `RescaleObservation` and `RescaleAction` where they are not.
            There is no need to stack frames: models read as many as they want.
        episodes: n; as all counts any integer, also of NumPy.
        frames: T, that of the reset included. An episode that ends earlier is kept with its
            `length`; if all do, T is the longest one's. Every environment has one episode a round
            recorded, long or short, so that neither kind is more frequent than it is.
        hold: frames for which each action is given to the environment.
        context_frames: frames before the first action, its own included; until then the action is
            zero.
        policy: what chooses, by default uniformly at random within the bounds. It is asked for
            all environments; where an episode has ended, it sees the last frame again and again,
            and its answer counts for nothing.
        seed: of the environment, whose i-th copy Gymnasium gives seed + i, and of the random
            policy. Recordings that are to share no start need seeds that lie further apart.

    `ValueError` for another kind of environment or space, counts that are too small, episodes that
    all end within the context frames, a policy whose actions have a wrong shape or lie outside the
    bounds, or observations or rewards that are not finite.
    """
    space = _check_env(env)
    n, hold = check_count("episodes", episodes), check_count("hold", hold)
    shown = check_count("context_frames", context_frames)
    frames = check_count("frames", frames, shown + 1)
    if policy is None:
        rng = np.random.default_rng(seed)
        low, high = space.low.ravel(), space.high.ravel()

        def policy(obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
            return rng.uniform(low, high, (len(obs), len(low))).astype(np.float32)

    parts = []
    for first in range(0, n, env.num_envs):
        start = env.reset(seed=seed if first == 0 else None)[0]
        part = _play(env, space, start, frames, hold, shown, policy)
        parts.append([array[: n - first] for array in part])
    obs, action, reward, length = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    longest = int(length.max())
    if longest <= shown:
        raise ValueError(
            f"expected episodes of more than the {shown} context frames, but the "
            f"longest ended with {longest}; choose a smaller context_frames"
        )
    return Recording(obs[:, :longest], action[:, :longest], reward[:, : longest - 1], shown, length)


def _play(
    env: VectorEnv[Any, Any, Any],
    space: Box,
    start: NDArray[Any],
    frames: int,
    hold: int,
    context_frames: int,
    policy: Policy,
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """One episode of every environment from the first frame on: obs, action, reward and length."""
    n, first = env.num_envs, flat(start)
    obs = np.zeros((n, frames, first.shape[1]), first.dtype)
    action = np.zeros((n, frames, int(np.prod(space.shape))), np.float32)
    reward = np.zeros((n, frames - 1))
    length = np.full(n, frames)
    going = np.ones(n, dtype=bool)
    waits = env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED
    obs[:, 0] = first
    held = np.zeros((n, *space.shape), space.dtype)
    for t in range(frames - 1):
        if t >= context_frames - 1 and (t - context_frames + 1) % hold == 0:
            chosen = _check_actions(policy(obs[:, : t + 1], action[:, : t + 1]), space, n)
            action[going, t] = chosen[going]
            held = chosen.reshape(held.shape).astype(held.dtype)
            held = held.clip(space.low, space.high)  # which float32 may have rounded them beyond
        seen, rewards, terminated, truncated, _ = env.step(held)
        # The episodes that follow are not recorded.
        obs[:, t + 1] = np.where(going[:, None], flat(seen), obs[:, t])
        reward[going, t] = rewards[going]
        ended = np.asarray(terminated | truncated, dtype=bool)
        length[going & ended] = t + 2
        going &= ~ended
        if not going.any():
            obs[:, t + 2 :] = obs[:, t + 1, None]
            break
        if waits and ended.any() and t + 2 < frames:
            env.reset(options={"reset_mask": ended})
    return obs, action, reward, length


def flat(obs: NDArray[Any]) -> NDArray[Any]:
    """Observations of any shape as (n, D): uint8 as they are, other numbers as float32."""
    return obs.reshape(len(obs), -1).astype(np.uint8 if obs.dtype == np.uint8 else np.float32)


def _check_env(env: Any) -> Box:
    """Checks that episodes can be recorded; returns the space of an environment's actions."""
    if not isinstance(env, VectorEnv):
        raise ValueError(
            f"expected a vector environment, got {type(env).__name__}; make one with gym.make_vec"
        )
    if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
        raise ValueError(
            "expected an environment that shows the last frame of an episode, got autoreset_mode "
            "SAME_STEP; make it with NEXT_STEP or DISABLED"
        )
    seen, acts = env.single_observation_space, env.single_action_space
    if not isinstance(seen, Box):
        raise ValueError(
            f"expected observations in a Box, got {type(seen).__name__}; flatten them with "
            "gymnasium.wrappers.vector.FlattenObservation, or choose one of several"
        )
    if not isinstance(acts, Box) or not np.issubdtype(acts.dtype, np.floating):
        raise ValueError(
            f"expected actions that are real numbers in a Box, got {acts}; planners search "
            "continuous spaces, so let a number choose: gymnasium.wrappers.TransformAction, as "
            "docs/your_own_environment.md shows"
        )
    low, high = acts.low, acts.high
    if not (np.isfinite([low, high]).all() and (low <= 0.0).all() and (high >= 0.0).all()):
        raise ValueError(
            f"expected finite bounds on actions with 0, which stands for none, between them, got "
            f"{low} and {high}; wrap the environment in gymnasium.wrappers.vector.RescaleAction, "
            "or in TransformAction where bounds are infinite"
        )
    return acts


def _check_actions(actions: Any, space: Box, count: int) -> NDArray[np.float32]:
    flat = as_array(actions).astype(np.float32)
    shape = (count, int(np.prod(space.shape)))
    if flat.shape != shape:
        raise ValueError(f"expected actions of shape {shape} from the policy, got {flat.shape}")
    low, high = (bound.astype(np.float32).ravel() for bound in (space.low, space.high))
    if not ((flat >= low) & (flat <= high)).all():
        raise ValueError(
            f"expected actions within {space.low} and {space.high} from the policy, got "
            f"{flat.min()} to {flat.max()}"
        )
    return flat
