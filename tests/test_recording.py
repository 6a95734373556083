"""Recordings of other people's environments: what is kept when, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from jumpy_mbrl.data.recording import Policy, Recording, RecordingConfig, record

STEP = 0.25


class Cart(gym.Env[Any, Any]):
    """Starts at random and moves by a quarter of the action; rewarded by where it stood.

    Args:
        length: steps until an episode ends.
        pictures: shown as 2 x 3 pixels instead of a number.
        broken_at: step from which on it shows NaN.
    """

    def __init__(
        self, length: int = 100, pictures: bool = False, broken_at: int = 1000, size: int = 1
    ) -> None:
        self.length, self.pictures, self.broken_at = length, pictures, broken_at
        self.action_space = Box(-2.0, 2.0, (size,), np.float32)
        numbers, bytes_ = Box(-100.0, 100.0, (1,), np.float64), Box(0, 255, (2, 3), np.uint8)
        self.observation_space = bytes_ if pictures else numbers

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.place = 0, self.np_random.uniform()
        return self._show(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before, self.place = self.place, self.place + STEP * float(action[0])
        self.steps += 1
        return self._show(), before, self.steps >= self.length, False, {}

    def _show(self) -> NDArray[Any]:
        if self.pictures:
            return np.full((2, 3), self.steps, np.uint8)
        return np.array([np.nan if self.steps >= self.broken_at else self.place])


def carts(count: int = 3, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **how: Any) -> Any:
    return SyncVectorEnv([lambda: Cart(**how)] * count, autoreset_mode=mode)


# -- what is recorded ----------------------------------------------------------------------------


@pytest.mark.parametrize(("hold", "warm_up"), [(1, 1), (3, 1), (4, 3), (20, 2)])
def test_an_action_holds_until_the_next_one(hold: int, warm_up: int) -> None:
    data = record(carts(), 3, 12, hold=hold, warm_up=warm_up)
    assert data.obs.shape == (3, 12, 1) and data.obs.dtype == np.float32
    assert data.action.shape == (3, 12, 1) and data.reward.shape == (3, 11)
    chosen = range(warm_up - 1, 11, hold)
    acted = (data.action != 0.0).all(axis=(0, 2))
    assert np.flatnonzero(acted).tolist() == list(chosen)
    held: NDArray[Any] = np.zeros((3, 1))
    for t in range(11):
        if t in chosen:
            held = data.action[:, t]
        np.testing.assert_allclose(data.obs[:, t + 1], data.obs[:, t] + STEP * held, atol=1e-5)
    np.testing.assert_allclose(data.reward, data.obs[:, :-1, 0], atol=1e-6)


def test_episodes_come_from_as_many_rounds_as_needed() -> None:
    data = record(carts(3), 7, 5)
    assert len(data) == 7
    assert len(np.unique(data.obs[:, 0])) == 7
    again = record(carts(3), 7, 5)
    for name in ("obs", "action", "reward"):
        assert np.array_equal(getattr(data, name), getattr(again, name))
    assert not np.array_equal(record(carts(3), 7, 5, seed=1).obs, data.obs)
    assert np.abs(data.action).max() > 1.5, "actions of the whole range"


def test_pictures_stay_bytes() -> None:
    data = record(carts(2, pictures=True), 2, 4)
    assert data.obs.dtype == np.uint8 and data.obs.shape == (2, 4, 6)
    assert data.obs[0, :, 0].tolist() == [0, 1, 2, 3]


def test_a_policy_sees_what_was() -> None:
    asked = []

    def policy(obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(obs.shape[1])
        assert obs.shape[:2] == action.shape[:2]
        assert not action[:, -1].any(), "the action to be chosen"
        return np.full((len(obs), 1), len(asked), np.float32) / 4.0

    data = record(carts(), 3, 9, hold=3, warm_up=2, policy=policy)
    assert asked == [2, 5, 8]
    assert data.action[0, :, 0].tolist() == [0, 0.25, 0, 0, 0.5, 0, 0, 0.75, 0]


def test_a_policy_may_answer_with_a_graph() -> None:
    weight = torch.tensor([0.5], requires_grad=True)

    def policy(obs: NDArray[Any], taken: NDArray[np.float32]) -> Any:
        return weight.expand(len(obs), 1) * 2.0

    data = record(carts(), 3, 4, policy=policy)
    assert data.action[:, :-1].tolist() == [[[1.0]] * 3] * 3


def test_an_episode_may_end_with_its_last_frame() -> None:
    data = record(carts(2, length=6), 4, 7)
    held = data.action[:, :-1]
    np.testing.assert_allclose(data.obs[:, 1:], data.obs[:, :-1] + STEP * held, atol=1e-5)


# -- files ---------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    data = record(carts(), 3, 6, warm_up=2)
    config = data.save(tmp_path / "new" / "carts.npz")
    assert config == RecordingConfig(str(tmp_path / "new" / "carts.npz"), config.sha256)
    loaded = Recording.load(config.path, config.sha256)
    for name in ("obs", "action", "reward"):
        assert np.array_equal(getattr(data, name), getattr(loaded, name))
    assert loaded.warm_up == 2
    assert data.save(tmp_path / "again.npz").sha256 == config.sha256


def test_files_that_are_not_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "carts.npz"
    with pytest.raises(ValueError, match=r"end in \.npz"):
        record(carts(), 3, 6).save(tmp_path / "carts")
    with pytest.raises(FileNotFoundError, match="there is no"):
        Recording.load(path)
    config = record(carts(), 3, 6).save(path)
    record(carts(), 3, 6, seed=1).save(path)
    with pytest.raises(ValueError, match=f"SHA-256 {config.sha256}"):
        Recording.load(path, config.sha256)
    np.savez(path, obs=np.zeros(3))
    with pytest.raises(ValueError, match="npz file with the arrays"):
        Recording.load(path)
    path.write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(ValueError, match="npz file with the arrays"):
        Recording.load(path)


# -- what is refused -----------------------------------------------------------------------------


def test_environments_that_cannot_be_recorded() -> None:
    with pytest.raises(ValueError, match=r"vector environment, got Cart.*make_vec"):
        record(Cart(), 1, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SAME_STEP"):
        record(carts(mode=AutoresetMode.SAME_STEP), 1, 5)
    for name, space, message in (
        ("single_observation_space", Dict({"a": Discrete(2)}), "in a Box, got Dict"),
        ("single_action_space", Discrete(3), r"real numbers in a Box, got Discrete\(3\)"),
        ("single_action_space", Box(0, 9, (1,), np.int64), "real numbers in a Box"),
        ("single_action_space", Box(-np.inf, np.inf, (1,)), "finite bounds.*RescaleAction"),
        ("single_action_space", Box(1.0, 2.0, (1,)), "with 0.*between them"),
    ):
        env = carts()
        setattr(env, name, space)
        with pytest.raises(ValueError, match=message):
            record(env, 1, 5)


@pytest.mark.parametrize(
    ("name", "least"), [("episodes", 1), ("frames", 4), ("hold", 1), ("warm_up", 1)]
)
def test_counts_that_are_too_small(name: str, least: int) -> None:
    counts: dict[str, Any] = {"episodes": 1, "frames": 9, "hold": 1, "warm_up": 3}
    for bad in (least - 1, 1.5, True):
        with pytest.raises(ValueError, match=f"{name} to be an integer of at least {least}"):
            record(carts(), **{**counts, name: bad})


def test_counts_may_be_of_numpy() -> None:
    found = record(carts(), np.int64(5), np.int32(9), hold=np.uint8(2), warm_up=np.int16(3), seed=4)
    expected = record(carts(), 5, 9, hold=2, warm_up=3, seed=4)
    np.testing.assert_array_equal(found.obs, expected.obs)
    np.testing.assert_array_equal(found.action, expected.action)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_may_lie_on_bounds_that_float32_rounds(dtype: Any) -> None:
    class Strict(Cart):
        """Refuses actions outside of its space."""

        def __init__(self) -> None:
            super().__init__()
            self.action_space = Box(dtype(-0.1), dtype(0.3), (1,), dtype)

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), action
            return super().step(action)

    def always(action: float) -> Policy:
        return lambda obs, taken: np.full((3, 1), action)

    env = SyncVectorEnv([Strict] * 3)
    for bound in (-0.1, 0.3):
        data = record(env, 3, 9, policy=always(bound))
        np.testing.assert_array_equal(data.action[:, :-1], np.float32(bound))
        with pytest.raises(ValueError, match=r"expected actions within \[-0\.1\] and \[0\.3\]"):
            record(env, 3, 9, policy=always(1.001 * bound))


def test_an_episode_that_ends_early() -> None:
    with pytest.raises(ValueError, match=r"of 9 frames, but after 6 frames .* \[0 1 2\] ended"):
        record(carts(length=5), 3, 9)


def test_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"finite obs, got NaN or infinity in episodes \[0 1 2\]"):
        record(carts(broken_at=3), 3, 9)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 1\) from the policy, got \(3, 2\)"),
        (np.zeros(3), r"shape \(3, 1\) from the policy, got \(3,\)"),
        (np.full((3, 1), 2.5), "from the policy, got 2.5 to 2.5"),
        (np.full((3, 1), np.nan), "from the policy, got nan"),
    ],
)
def test_what_a_policy_may_not_do(action: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(carts(), 3, 9, policy=lambda obs, taken: action)


def test_arrays_that_do_not_fit() -> None:
    obs = np.zeros((2, 5, 3), np.float32)
    action, reward = np.zeros((2, 5, 1), np.float32), np.zeros((2, 4))
    assert len(Recording(obs, action, reward)) == 2
    for wrong, message in (
        ({"obs": obs.astype(np.float64)}, "float32 or uint8, got .* float64"),
        ({"obs": obs[0]}, r"shape \(n, T, D\)"),
        ({"obs": obs[:, :1]}, "at least two frames"),
        ({"action": action[:, 1:]}, r"action of shape \(2, 5, A\)"),
        ({"action": action.astype(np.float64)}, "type float32, got"),
        ({"reward": np.zeros((2, 5))}, r"reward of shape \(2, 4\)"),
        ({"reward": np.full((2, 4), np.inf)}, "finite reward"),
        ({"warm_up": 0}, "warm_up from 1 to 4"),
        ({"warm_up": 5}, "warm_up from 1 to 4"),
    ):
        given: dict[str, Any] = {"obs": obs, "action": action, "reward": reward, **wrong}
        with pytest.raises(ValueError, match=message):
            Recording(**given)
