"""Samplers: moments with the right frames before and after them, and whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, TrajectoryDataset, make_dataset
from jumpy_mbrl.data.events import EventSampler, LineEventSampler
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.sampling import SequenceSampler, WindowSampler, make_sampler
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.envs.config import TableConfig

T = 12


def numbered(number: int = 30, actions: bool = False) -> TrajectoryDataset:
    """Row r has 100 r + t (+ 0.25 for each further coordinate) in frame t."""
    obs = 100.0 * np.arange(number)[:, None] + np.arange(T)
    obs = obs[..., None] + 0.25 * np.arange(4)
    action = np.zeros((number, T, 2))
    if actions:
        action[:, 3] = obs[:, 3, :2] / 100.0
    config = DatasetConfig(table=TableConfig(num_frames=T), num_trajectories=number)
    return TrajectoryDataset(obs.astype(np.float32), action.astype(np.float32), config)


def sample(data: Any, number: int, window: int = 4, seed: int = 0) -> dict[str, Tensor]:
    return WindowSampler(data, window=window).sample(number, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [1, 2, 4, T - 1])
def test_windows_and_futures_are_the_right_frames(window: int) -> None:
    data = numbered(actions=True)
    batch = sample(data, 300, window)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "window": (300, window, 4),
        "action": (300, 2),
        "future": (300, T - window, 4),
        "length": (300,),
        "noise": (300, window, 4),
    }
    for k in range(300):
        row, now = divmod(round(float(batch["window"][k, 0, 0])), 100)
        assert window - 1 <= now < T - 1
        for age in range(window):
            expected = torch.from_numpy(data.obs[row, now - age])
            assert torch.equal(batch["window"][k, age], expected)
        assert torch.equal(batch["action"][k], torch.from_numpy(data.action[row, now]))
        length = int(batch["length"][k])
        # What follows a later action is not this moment's to foresee.
        assert length == (3 - now if now < 3 else T - 1 - now)
        for ahead in range(1, length + 1):
            expected = torch.from_numpy(data.obs[row, now + ahead])
            assert torch.equal(batch["future"][k, ahead - 1], expected)
    assert bool(batch["future"].isfinite().all()), "what is not known is still a frame"


def test_without_actions_the_future_lasts_to_the_end() -> None:
    for data, frames in ((numbered(), 1.0), (make_task(TaskConfig("lines", 30)), 10.0)):
        batch = sample(data, 500, window=1)
        now = (frames * batch["window"][:, 0, 0] % 100).round().long()
        assert torch.equal(batch["length"], data.obs.shape[1] - 1 - now)
        assert batch["action"].shape == (500, data.action.shape[2])


def test_early_moments_are_drawn_more_often() -> None:
    batch = sample(numbered(), 40_000)
    now = (T - 1 - batch["length"]).long()
    counts = torch.bincount(now, minlength=T)
    assert counts[:3].tolist() == [0, 0, 0] and int(counts[T - 1]) == 0
    # now = 3 + floor(8 u^2), so P(now - 3 < k) = sqrt(k / 8).
    share = counts[3:11].cumsum(0) / 40_000
    expected = (torch.arange(1.0, 9.0) / 8).sqrt()
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    rows = (batch["window"][:, 0, 0] / 100).long()
    assert int(torch.bincount(rows, minlength=30).min()) > 1100


def test_noise_is_standard_normal() -> None:
    noise = sample(numbered(), 5000)["noise"]
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)


def test_draws_follow_the_generator_alone() -> None:
    first, again, other = (sample(numbered(), 9, seed=seed) for seed in (4, 4, 5))
    for name in first:
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["window"], other["window"])


@pytest.mark.parametrize("kind", ["windows", "sequences"])
def test_pictures_are_scaled(kind: str) -> None:
    config = TaskConfig("pixel-billiards1d", 2)
    obs = np.zeros((2, 45, 784), np.uint8)
    obs[0], obs[1, ::2] = 255, 51
    batch = make_sampler(kind, TaskDataset(obs, config)).sample(50, torch.Generator())
    for name in ("window", "future") if kind == "windows" else ("obs",):
        assert batch[name].dtype == torch.float32
        values = batch[name].unique()
        torch.testing.assert_close(values, torch.tensor([0.0, 0.2, 1.0]), atol=1e-7, rtol=0)


def test_samplers_take_their_settings() -> None:
    data = make_task(TaskConfig("billiards1d", 300))
    generator = torch.Generator()
    made = make_sampler("windows", data, window=7)
    assert isinstance(made, WindowSampler)
    assert made.sample(3, generator)["window"].shape == (3, 7, 2)
    assert make_sampler("windows", data).sample(3, generator)["window"].shape == (3, 4, 2)
    assert isinstance(make_sampler("line-events", data), LineEventSampler)
    batch = make_sampler("sequences", data).sample(3, generator)
    assert batch["obs"].shape == (3, 45, 2) and batch["action"].shape == (3, 45, 0)
    assert isinstance(make_sampler("sequences", data), SequenceSampler)
    with pytest.raises(ValueError, match=r"unknown kind of batch 'window'.*mean 'windows'"):
        make_sampler("window", data)


def test_sequences_no_longer_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {T} frames, the model's window, got {T}"):
        WindowSampler(numbered(), window=T)


# -- sequences that end early ------------------------------------------------------------------


def ended() -> Recording:
    """Sequences of 2, 4, 5, 9 and T frames; what is beyond has values below 0."""
    data, length = numbered(5), np.array([2, 4, 5, 9, T])
    over = np.arange(T) >= length[:, None]
    obs = np.where(over[..., None], np.float32(-1.0), data.obs)
    return Recording(obs, data.action, np.zeros((5, T - 1)), 1, length)


def test_moments_are_those_of_real_frames_in_proportion() -> None:
    data = ended()
    batch = sample(data, 13_000, window=4)
    first = batch["window"][:, 0, 0].round().long()
    rows, now = first // 100, first % 100
    # One moment in the third sequence, five in the fourth, eight in the fifth; two have none.
    shares = torch.bincount(rows, minlength=5) / 13_000
    torch.testing.assert_close(shares, torch.tensor([0, 0, 1, 5, 8]) / 14, atol=0.02, rtol=0)
    last = torch.from_numpy(data.length)[rows] - 1
    assert torch.equal(batch["length"], last - now) and int(batch["length"].min()) == 1
    known = torch.arange(1, T - 3) <= batch["length"].unsqueeze(1)
    assert bool((batch["future"][known] >= 0.0).all()) and bool((batch["window"] >= 0.0).all())
    short = Recording(data.obs, data.action, data.reward, 1, data.length.clip(max=4))
    with pytest.raises(ValueError, match="more than 4 frames, the model's window, got 4"):
        WindowSampler(short, window=4)


def test_sequences_come_with_their_lengths() -> None:
    data = ended()
    batch = SequenceSampler(data).sample(500, torch.Generator().manual_seed(0))
    rows = (batch["obs"][:, 0, 0] / 100).round().long()
    assert torch.equal(batch["length"], torch.from_numpy(data.length)[rows])
    assert len(rows.unique()) == 5
    whole = Recording(data.obs, data.action, data.reward)
    assert "length" not in SequenceSampler(whole).sample(5, torch.Generator())


def test_lengths_that_are_those_of_all_change_no_draw() -> None:
    data = numbered(actions=True)
    reward, length = np.zeros((30, T - 1)), np.full(30, T)
    for kind in ("windows", "sequences"):
        given, plain = (
            make_sampler(kind, source).sample(20, torch.Generator().manual_seed(0))
            for source in (Recording(data.obs, data.action, reward, 1, length), data)
        )
        assert given.keys() == plain.keys()
        assert all(torch.equal(given[name], plain[name]) for name in given)


def test_pictures_to_see_are_real_ones() -> None:
    class Looking:
        axes, is_looking = 2, True

        def read(self, obs: Tensor) -> Tensor:
            raise NotImplementedError

    data = ended()
    generator = torch.Generator().manual_seed(0)
    sampler = make_sampler("picture-events", data, model=Looking())
    seen = sampler.sample(4000, generator)["pictures"][:, 0]
    assert bool((seen >= 0.0).all())
    assert set(seen.int().tolist()) == {
        100 * row + frame for row, end in enumerate(data.length) for frame in range(end)
    }


# -- whole sequences --------------------------------------------------------------------------


def ramp_dataset(number: int = 50) -> TrajectoryDataset:
    config = DatasetConfig(table=TableConfig(num_frames=T), num_trajectories=number)
    obs = np.arange(number, dtype=np.float32).reshape(-1, 1, 1) * np.ones((1, 12, 4), np.float32)
    return TrajectoryDataset(obs, 0.01 * obs[:, :, :2], config)


def test_sequences_are_drawn_whole_and_uniformly() -> None:
    sampler = SequenceSampler(ramp_dataset())
    batch = sampler.sample(20_000, torch.Generator().manual_seed(0))
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        "obs": (20_000, 12, 4),
        "action": (20_000, 12, 2),
        "u": (20_000, 12),
    }
    rows = batch["obs"][:, 0, 0]
    assert torch.equal(batch["obs"], rows.view(-1, 1, 1).expand(-1, 12, 4))
    torch.testing.assert_close(batch["action"][:, 5, 1], 0.01 * rows)
    counts = torch.bincount(rows.long(), minlength=50)
    assert int(counts.min()) > 300 and int(counts.max()) < 500
    assert float(batch["u"].min()) >= 0.0 and float(batch["u"].max()) < 1.0
    assert float(batch["u"].mean()) == pytest.approx(0.5, abs=0.01)


def test_draws_of_sequences_follow_the_generator_alone() -> None:
    sampler = SequenceSampler(ramp_dataset())
    generator = torch.Generator().manual_seed(3)
    sampler.sample(4, generator)
    state = generator.get_state()
    first = sampler.sample(4, generator)
    fresh = torch.Generator()
    fresh.set_state(state)
    torch.rand(3)
    again = SequenceSampler(ramp_dataset()).sample(4, fresh)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])


def test_samplers_by_kind() -> None:
    data = make_dataset(DatasetConfig(num_trajectories=100))
    assert isinstance(make_sampler("sequences", data), SequenceSampler)
    assert isinstance(make_sampler("events", data), EventSampler)
    with pytest.raises(ValueError, match=r"unknown kind of batch 'event'.*did you mean 'events'"):
        make_sampler("event", data)
