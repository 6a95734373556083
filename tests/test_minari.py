"""Datasets of Minari, written by Minari itself, as recordings that models learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.data import DatasetConfig, Recording, from_minari, to_minari
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.envs import LINE_CONFIG, TableConfig
from jumpy_mbrl.models import RelationalJumpConfig, RNNConfig
from jumpy_mbrl.training import TrainingConfig, train

minari: Any = pytest.importorskip("minari", reason="minari (the extra 'minari') is missing")
pytest.importorskip("h5py", reason="h5py (the extra 'minari') is missing")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # of missing authors


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def play(env: gym.Env[Any, Any], steps: int, seed: int) -> Any:
    """An episode of random actions, as Minari takes it."""
    env.action_space.seed(seed)
    seen, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for _ in range(steps):
        actions.append(env.action_space.sample())
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        seen.append(obs)
        rewards.append(float(reward))
        if terminated or truncated:
            break
    ends = [False] * len(rewards)
    return minari.data_collector.EpisodeBuffer(
        observations=seen, actions=actions, rewards=rewards, terminations=ends, truncations=ends
    )


def write(env: gym.Env[Any, Any], lengths: list[int], name: str = "ours/random-v0") -> list[Any]:
    episodes = [play(env, steps, seed) for seed, steps in enumerate(lengths)]
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    minari.create_dataset_from_buffers(name, episodes, jpeg_encoding=False, **spaces)
    return episodes


def assert_read(data: Recording, episodes: list[Any]) -> None:
    T = max(len(episode.observations) for episode in episodes)
    assert data.obs.shape[:2] == (len(episodes), T)
    for k, episode in enumerate(episodes):
        steps = len(episode.rewards)
        assert data.length[k] == steps + 1
        seen = np.array(episode.observations).reshape(steps + 1, -1)
        np.testing.assert_array_equal(data.obs[k, : steps + 1], seen)
        assert (data.obs[k, steps:] == seen[-1]).all()
        actions = np.array(episode.actions).reshape(steps, -1)
        np.testing.assert_array_equal(data.action[k, :steps], actions)
        assert not data.action[k, steps:].any()
        np.testing.assert_array_equal(data.reward[k, :steps], episode.rewards)
        assert not data.reward[k, steps:].any()


def test_episodes_of_unequal_length_are_padded(root: Path) -> None:
    episodes = write(gym.make("Pendulum-v1"), [7, 1, 12])
    data = from_minari("ours/random-v0", context_frames=2)
    assert_read(data, episodes)
    assert data.obs.dtype == np.float32 and data.context_frames == 2
    for path in (root / "ours" / "random-v0", str(root / "ours" / "random-v0" / "data")):
        np.testing.assert_array_equal(from_minari(path).obs, data.obs)
    both = Recording.cat([data, data])
    assert both.length.tolist() == [8, 2, 13, 8, 2, 13]


def test_pictures_stay_bytes() -> None:
    episodes = write(gym.make("Billiards2D-v0", obs_type="pixels", size=16), [5, 3])
    data = from_minari("ours/random-v0")
    assert data.obs.dtype == np.uint8 and data.obs.shape[2] == 16 * 16 * 3
    assert_read(data, episodes)


def test_a_model_learns_from_it(tmp_path: Path) -> None:
    write(gym.make("Billiards2D-v0", max_shots=None), [20, 30, 44, 12])
    data = from_minari("ours/random-v0", context_frames=4)
    config = TrainingConfig(
        model=RelationalJumpConfig(num_bodies=2, body_size=2, action_size=2, hidden_size=8),
        train_data=data.save(tmp_path / "train.npz"),
        validation_data=data.save(tmp_path / "validation.npz"),
        steps=3,
        batch_size=4,
    )
    model = from_pretrained(train(config, tmp_path / "run", progress=False))
    assert (model.obs_size, model.action_size) == (4, 2)


GAMES: list[tuple[DatasetConfig, bool, str, tuple[int, ...]]] = [
    (DatasetConfig(TableConfig(num_balls=3), 3), False, "Billiards2D-v0", (6,)),
    (DatasetConfig(num_trajectories=3, start="rest"), True, "Billiards2DShot-v0", (16,)),
    (DatasetConfig(LINE_CONFIG, 3, shot="place"), False, "Billiards1D-v0", (2,)),
    (DatasetConfig(LINE_CONFIG, 3, shot="place"), True, "Billiards1DShot-v0", (8,)),
    (DatasetConfig(num_trajectories=3, pixels="default"), False, "Billiards2D-v0", (64, 64, 3)),
    (DatasetConfig(num_trajectories=3, pixels="paper"), True, "Billiards2DShot-v0", (28, 28, 4)),
]


@pytest.mark.parametrize(("config", "by_shots", "name", "shape"), GAMES)
def test_what_is_written_is_what_the_recovered_environment_plays(
    config: DatasetConfig, by_shots: bool, name: str, shape: tuple[int, ...]
) -> None:
    to_minari("ab/c-v1", config, by_shots=by_shots)
    stored = minari.load_dataset("ab/c-v1")
    env, acting = stored.recover_environment(), 0 if by_shots else 3
    assert env.spec.id == name and stored.observation_space.shape == shape
    for episode, seed in zip(stored, training_table_seeds(0, 3), strict=True):
        assert (np.flatnonzero(episode.actions.any(axis=1)) == [acting]).all()
        np.testing.assert_array_equal(episode.observations[0], env.reset(seed=seed)[0])
        for step, action in enumerate(episode.actions):
            obs, *rest, _ = env.step(action)
            np.testing.assert_array_equal(episode.observations[step + 1], obs)
            assert obs.dtype == episode.observations.dtype
            ends = episode.terminations[step], episode.truncations[step]
            assert rest == [episode.rewards[step], *ends]
        assert any(ends)
    read = from_minari("ab/c-v1")
    assert read.obs.dtype == (np.uint8 if config.pixels else np.float32)
    assert_read(read, list(stored))


def test_the_command_writes_what_a_model_learns_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--format", "minari", "--path", "billiards2d/random-v0", "--split", "validation"]
    counts = ["--num-trajectories", "40", "--reference-tables", "20"]
    assert run("make-dataset", [*options, *counts]) == 0
    assert "40 episodes" in capsys.readouterr().out
    stored = minari.load_dataset("billiards2d/random-v0")
    low, high = (stored.storage.metadata[f"ref_{end}_score"] for end in ("min", "max"))
    assert 0.0 <= low < 0.5 and high == 1.0
    assert minari.get_normalized_score(stored, np.array([low, high])).tolist() == [0.0, 1.0]
    first = validation_table_seeds(0, 1)[0]
    assert next(iter(stored.storage.get_episode_metadata([0])))["seed"] == first
    data = from_minari("billiards2d/random-v0", context_frames=4)
    config = TrainingConfig(
        model=RNNConfig(hidden_size=8),
        train_data=data.save(tmp_path / "train.npz"),
        validation_data=data.save(tmp_path / "validation.npz"),
        steps=2,
        batch_size=4,
    )
    model = from_pretrained(train(config, tmp_path / "run", progress=False))
    assert (model.obs_size, model.action_size) == (4, 2)
    assert run("make-dataset", [*options, *counts]) == 2
    assert "expected a new dataset, but there is" in capsys.readouterr().err


def test_nothing_is_left_of_a_dataset_that_was_interrupted(root: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_minari("ab/c-v0", progress=stop)
    assert not (root / "ab" / "c-v0").exists()
    for bad in ("ab/c", "a/c-v0", "../c-v0", "/c-v0", ""):
        with pytest.raises(ValueError, match="expected the id of a Minari dataset, such as"):
            to_minari(bad)


class Odd(gym.Env[Any, Any]):
    """Shows and takes anything."""

    def __init__(self, seen: Any, acts: Any) -> None:
        self.observation_space, self.action_space = seen, acts

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


LINE = Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("seen", "acts", "message"),
    [
        (LINE, Discrete(3), r"real numbers in a Box, got Discrete\(3\); planners search"),
        (LINE, Box(0, 3, (2,), np.int64), "real numbers in a Box, got Box"),
        (Discrete(3), LINE, "observations in a Box, got Discrete; collect the dataset from"),
        (Dict(a=LINE), LINE, "observations in a Box, got Dict"),
    ],
)
def test_other_spaces_are_refused(seen: Any, acts: Any, message: str) -> None:
    env = Odd(seen, acts)
    minari.create_dataset_from_buffers(
        "odd-v0", [], observation_space=env.observation_space, action_space=env.action_space
    )
    with pytest.raises(ValueError, match=message):
        from_minari("odd-v0")


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nobody/nothing-v0 not found locally"):
        from_minari("nobody/nothing-v0")
    with pytest.raises(ValueError, match="No data found"):
        from_minari(tmp_path)
    write(Odd(LINE, LINE), [], "empty-v0")
    with pytest.raises(ValueError, match="at least one episode in empty-v0, got none"):
        from_minari("empty-v0")
    write(Odd(LINE, LINE), [3])
    with pytest.raises(ValueError, match=r"context_frames from 1 to 3.* got 4"):
        from_minari("ours/random-v0", context_frames=4)
