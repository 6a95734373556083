"""Recordings of other people's environments: what is kept when, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import FlattenObservation
from numpy.typing import NDArray

from jumpy_mbrl.data.recording import Policy, Recording, RecordingConfig, record

STEP = 0.25
ARRAYS = ("obs", "action", "reward", "length", "context_frames")


class Cart(gym.Env[Any, Any]):
    """Starts at random and moves by a quarter of the action; rewarded by where it stood.

    Args:
        length: steps until an episode ends, or several, of which each episode draws one.
        pictures: shown as 2 x 3 pixels instead of a number.
        broken_at: step from which on it shows NaN.
    """

    def __init__(self, length: Any = 100, pictures: bool = False, broken_at: int = 1000) -> None:
        self.lengths, self.pictures, self.broken_at = length, pictures, broken_at
        self.action_space = Box(-2.0, 2.0, (1,), np.float32)
        numbers, bytes_ = Box(-100.0, 100.0, (1,), np.float64), Box(0, 255, (2, 3), np.uint8)
        self.observation_space = bytes_ if pictures else numbers

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.place = 0, self.np_random.uniform()
        self.length = int(self.np_random.choice(np.atleast_1d(self.lengths)))
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


def assert_same(first: Recording, second: Recording) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# -- what is recorded ----------------------------------------------------------------------------


@pytest.mark.parametrize(("hold", "context_frames"), [(1, 1), (3, 1), (4, 3), (20, 2)])
def test_an_action_holds_until_the_next_one(hold: int, context_frames: int) -> None:
    # Episodes of 11 steps end with their last frame, which is recorded.
    data = record(carts(length=11), 3, 12, hold=hold, context_frames=context_frames)
    assert data.obs.shape == (3, 12, 1) and data.obs.dtype == np.float32
    assert data.action.shape == (3, 12, 1) and data.reward.shape == (3, 11)
    chosen = range(context_frames - 1, 11, hold)
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
    assert len(data) == 7 and len(np.unique(data.obs[:, 0])) == 7
    assert_same(data, record(carts(3), np.int64(7), np.int32(5), hold=np.uint8(1)))
    assert not np.array_equal(record(carts(3), 7, 5, seed=1).obs, data.obs)
    assert np.abs(data.action).max() > 1.5, "actions of the whole range"


def test_pictures_stay_bytes() -> None:
    data = record(carts(2, pictures=True), 2, 4)
    assert data.obs.dtype == np.uint8 and data.obs.shape == (2, 4, 6)
    assert data.obs[0, :, 0].tolist() == [0, 1, 2, 3]


def test_a_policy_sees_what_was_and_may_answer_with_a_graph() -> None:
    asked = []
    weight = torch.tensor([0.25], requires_grad=True)

    def policy(obs: NDArray[Any], action: NDArray[np.float32]) -> Any:
        asked.append(obs.shape[1])
        assert obs.shape[:2] == action.shape[:2]
        assert not action[:, -1].any(), "the action to be chosen"
        return weight.expand(len(obs), 1) * len(asked)

    data = record(carts(), 3, 9, hold=3, context_frames=2, policy=policy)
    assert asked == [2, 5, 8]
    assert data.action[0, :, 0].tolist() == [0, 0.25, 0, 0, 0.5, 0, 0, 0.75, 0]


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


# -- episodes that end early ---------------------------------------------------------------------

UNEQUAL = (1, 2, 5, 20)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_episodes_that_end_early_are_kept(mode: AutoresetMode) -> None:
    data = record(carts(4, mode, length=UNEQUAL), 30, 9, hold=2, context_frames=2)
    assert data.obs.shape == (30, 9, 1) and data.length.dtype == np.int64
    assert set(data.length.tolist()) == {2, 3, 6, 9}
    held = np.zeros(30)
    for t in range(8):
        going = t + 1 < data.length
        assert (data.action[going, t] != 0).all() == (t in (1, 3, 5, 7))
        held = np.where(data.action[:, t, 0] != 0, data.action[:, t, 0], held)
        moved = data.obs[:, t + 1, 0] - data.obs[:, t, 0]
        np.testing.assert_allclose(moved, np.where(going, STEP * held, 0.0), atol=1e-5)
        rewarded = np.where(going, data.obs[:, t, 0], 0.0)
        np.testing.assert_allclose(data.reward[:, t], rewarded, atol=1e-6)
        assert not data.action[~going, t].any()
    # Every environment plays its own first episode, and that alone, in the first round.
    for number in range(4):
        env = Cart(length=UNEQUAL)
        assert data.obs[number, 0] == np.float32(env.reset(seed=number)[0][0])
        assert data.length[number] == min(env.length + 1, 9)


def test_short_episodes_are_recorded_as_often_as_they_are_played() -> None:
    data = record(carts(5, length=(1, 8)), 400, 20)
    assert data.obs.shape == (400, 9, 1), "no frames that no episode has"
    short = data.obs[data.length == 2]
    np.testing.assert_array_equal(short[:, 2:], short[:, 1:2].repeat(7, axis=1))
    for length in (2, 9):
        assert (data.length == length).mean() == pytest.approx(0.5, abs=0.06)


def test_episodes_that_end_before_the_first_action() -> None:
    data = record(carts(4, length=UNEQUAL), 12, 9, context_frames=4)
    short = data.length <= 4
    assert short.any() and not short.all()
    assert not data.action[short].any() and data.action[~short].any(axis=1).all()
    words = r"more than the 4 context frames.*the longest ended with 3; .*smaller context_frames"
    with pytest.raises(ValueError, match=words):
        record(carts(length=(1, 2)), 6, 9, context_frames=4)


@pytest.mark.parametrize("sync", [False, True])
def test_episodes_of_one_step(sync: bool) -> None:
    env = gym.make_vec("Billiards2DShot-v0", 3, vectorization_mode="sync" if sync else None)
    data = record(env, 6, 9)
    assert data.obs.shape == (6, 2, 16) and data.length.tolist() == [2] * 6


# -- other people's environments -----------------------------------------------------------------


def billiards(count: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP, sync: bool = False) -> Any:
    how: dict[str, Any] = {"autoreset_mode": mode}
    if sync:
        how = {"vectorization_mode": "sync", "vector_kwargs": how}
    return gym.make_vec("Billiards2D-v0", count, **how)


def test_billiards_are_recorded_alike_by_all_vector_environments() -> None:
    first, *others = (
        record(billiards(8, mode, sync), 24, 45, hold=50, context_frames=4)
        for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)
        for sync in (False, True)
    )
    assert first.length.min() < 45 and first.length.max() == 45
    np.testing.assert_array_equal(first.reward.sum(axis=1) == 1.0, first.length < 45)
    for other in others:
        assert_same(first, other)


def test_observations_of_several_kinds_are_flattened_as_the_error_says() -> None:
    class Labelled(Cart):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = Dict({"kind": Discrete(3), "place": Box(-9, 9, (1,))})

        def _show(self) -> Any:
            return {"kind": self.steps % 3, "place": super()._show().astype(np.float32)}

    env = SyncVectorEnv([Labelled] * 2)
    with pytest.raises(ValueError, match=r"got Dict.*gymnasium\.wrappers\.vector\.FlattenObs"):
        record(env, 2, 4)
    data = record(FlattenObservation(env), 2, 4)
    np.testing.assert_array_equal(data.obs[0, :, :3], np.eye(3)[[0, 1, 2, 0]])
    assert data.obs.dtype == np.float32 and len(np.unique(data.obs[..., 3])) == 8


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "saved"), [(100, set()), (UNEQUAL, {"length"})])
def test_what_is_saved_is_loaded(length: Any, saved: set[str], tmp_path: Path) -> None:
    data = record(carts(4, length=length), 12, 9, context_frames=2)
    config = data.save(tmp_path / "new" / "carts.npz")
    assert config == RecordingConfig(str(tmp_path / "new" / "carts.npz"), config.sha256)
    loaded = Recording.load(config.path, config.sha256)
    assert_same(loaded, data)
    assert data.save(tmp_path / "again.npz").sha256 == config.sha256
    with np.load(config.path) as arrays:  # lengths where they say something, as in files of old
        assert set(arrays) == {"obs", "action", "reward", "context_frames"} | saved
        old = {"warm_up" if name == "context_frames" else name: arrays[name] for name in arrays}
    np.savez(tmp_path / "old.npz", **old)
    assert_same(Recording.load(tmp_path / "old.npz"), data)


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
    contents = [path.read_bytes(), b"PK\x03\x04 no more"]
    with zipfile.ZipFile(path, "w") as archive:  # NumPy's reader of headers has errors of its own
        archive.writestr("obs.npy", b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9000)
    for content in [*contents, path.read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="npz file with the arrays"):
            Recording.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("context_frames", value) for value in ([1, 2], 1.5)),
        *(("reward", value) for value in ("text", 3.0)),
        *(("obs", 1j), ("action", 1.0)),
    ],
)
def test_arrays_of_another_kind_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    data = record(carts(), 3, 6)
    arrays = {key: getattr(data, key) for key in ("obs", "action", "reward", "context_frames")}
    np.savez(tmp_path / "carts.npz", **{**arrays, name: np.array(value)})
    with pytest.raises(ValueError, match=r"expected .*carts\.npz|in .*carts\.npz, got"):
        Recording.load(tmp_path / "carts.npz")


# -- what is refused -----------------------------------------------------------------------------


def spaces(**changed: Any) -> Any:
    env = carts()
    for name, space in changed.items():
        setattr(env, f"single_{name}_space", space)
    return env


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Cart(), r"vector environment, got Cart.*make_vec"),
        (carts(mode=AutoresetMode.SAME_STEP), "SAME_STEP"),
        (spaces(observation=Dict({"a": Discrete(2)})), "in a Box, got Dict"),
        (spaces(action=Discrete(3)), r"in a Box, got Discrete\(3\).*TransformAction"),
        (spaces(action=Box(0, 9, (1,), np.int64)), "real numbers in a Box"),
        (spaces(action=Box(-np.inf, np.inf, (1,))), "finite bounds.*TransformAction where"),
        (spaces(action=Box(1.0, 2.0, (1,))), "with 0.*between them"),
        (carts(broken_at=3), r"finite obs, got NaN or infinity in episodes \[0 1 2\]"),
    ],
)
def test_environments_that_cannot_be_recorded(env: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(env, 3, 9)


@pytest.mark.parametrize(
    ("name", "least"), [("episodes", 1), ("frames", 4), ("hold", 1), ("context_frames", 1)]
)
def test_counts_that_are_too_small(name: str, least: int) -> None:
    counts: dict[str, Any] = {"episodes": 1, "frames": 9, "hold": 1, "context_frames": 3}
    for bad in (least - 1, 1.5, True):
        with pytest.raises(ValueError, match=f"{name} to be an integer of at least {least}"):
            record(carts(), **{**counts, name: bad})


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


OBS = np.zeros((2, 5, 3), np.float32)
ACTION, REWARD = np.zeros((2, 5, 1), np.float32), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"obs": OBS.astype(np.float64)}, "float32 or uint8, got .* float64"),
        ({"obs": OBS[0]}, r"shape \(n, T, D\)"),
        ({"obs": OBS[:, :1]}, "at least two frames"),
        ({"action": ACTION[:, 1:]}, r"action of shape \(2, 5, A\)"),
        ({"action": ACTION.astype(np.float64)}, "type float32, got"),
        ({"reward": np.zeros((2, 5))}, r"reward of shape \(2, 4\)"),
        ({"reward": np.full((2, 4), np.inf)}, "finite reward"),
        ({"context_frames": 0}, "context_frames from 1 to 4"),
        ({"context_frames": 5}, "context_frames from 1 to 4"),
        ({"length": np.array([2, 3]), "context_frames": 3}, "context_frames from 1 to 2"),
        ({"length": np.array([5])}, r"length of shape \(2,\).* got \(1,\)"),
        ({"length": np.array([5.0, 5.0])}, "an integer for each episode, got .*float64"),
        ({"length": np.array([1, 5])}, "from 2 to 5 frames, got 1 to 5"),
        ({"length": np.array([2, 6])}, "from 2 to 5 frames, got 2 to 6"),
        ({"length": np.array([4, 5]), "action": ACTION + 1}, "zeros as actions and rewards beyond"),
        ({"length": np.array([4, 5]), "reward": REWARD + 1.0}, "zeros as actions and rewards"),
    ],
)
def test_arrays_that_do_not_fit(wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"obs": OBS, "action": ACTION, "reward": REWARD}
    assert Recording(**given).length.tolist() == [5, 5]
    assert Recording(**given, length=np.array([3, 5], np.int32)).length.dtype == np.int64
    with pytest.raises(ValueError, match=message):
        Recording(**{**given, **wrong})
