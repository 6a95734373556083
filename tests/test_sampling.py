"""Samplers: moments with the right frames before and after them, and whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import data
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.sampling import PictureEventSampler, SequenceSampler, WindowSampler
from jumpy_mbrl.envs.config import TableConfig

T = 12


def numbered(number: int = 30, actions: bool = False) -> data.TrajectoryDataset:
    """Row r has 100 r + t (+ 0.25 for each further coordinate) in frame t."""
    obs = 100.0 * np.arange(number)[:, None] + np.arange(T)
    obs = obs[..., None] + 0.25 * np.arange(4)
    action = np.zeros((number, T, 2))
    if actions:
        action[:, 3] = obs[:, 3, :2] / 100.0
    config = data.DatasetConfig(table=TableConfig(num_frames=T), num_trajectories=number)
    return data.TrajectoryDataset(obs.astype(np.float32), action.astype(np.float32), config)


def ended() -> Recording:
    """Sequences of 2, 4, 5, 9 and T frames; what is beyond has values below 0."""
    whole, length = numbered(5), np.array([2, 4, 5, 9, T])
    over = np.arange(T) >= length[:, None]
    obs = np.where(over[..., None], np.float32(-1.0), whole.obs)
    return Recording(obs, whole.action, np.zeros((5, T - 1)), 1, length)


def draw(sampler: Any, number: int, seed: int = 0) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = sampler.sample(number, torch.Generator().manual_seed(seed))
    return batch


def sizes(batch: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in batch.items()}


# -- moments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 4, T - 1])
def test_windows_and_futures_are_the_right_frames(window: int) -> None:
    source = numbered(actions=True)
    batch = draw(WindowSampler(source, window=window), 300)
    shapes = {"window": (300, window, 4), "action": (300, 2), "future": (300, T - window, 4)}
    assert sizes(batch) == {**shapes, "length": (300,), "noise": (300, window, 4)}
    obs = torch.from_numpy(source.obs)
    for k in range(300):
        row, now = divmod(round(float(batch["window"][k, 0, 0])), 100)
        assert window - 1 <= now < T - 1
        assert torch.equal(batch["window"][k], obs[row, now - window + 1 : now + 1].flip(0))
        assert torch.equal(batch["action"][k], torch.from_numpy(source.action[row, now]))
        length = int(batch["length"][k])
        # What follows a later action is not this moment's to foresee.
        assert length == (3 - now if now < 3 else T - 1 - now)
        assert torch.equal(batch["future"][k, :length], obs[row, now + 1 : now + length + 1])
    assert bool(batch["future"].isfinite().all()), "what is not known is still a frame"


def test_without_actions_the_future_lasts_to_the_end() -> None:
    lines: Any = data.make_task(data.TaskConfig("lines", 30))
    for source, frames in ((numbered(), 1.0), (lines, 10.0)):
        batch = draw(WindowSampler(source, window=1), 500)
        now = (frames * batch["window"][:, 0, 0] % 100).round().long()
        assert torch.equal(batch["length"], source.obs.shape[1] - 1 - now)
        assert batch["action"].shape == (500, source.action.shape[2])


def test_moments_are_those_of_real_frames_in_proportion() -> None:
    source = ended()
    batch = draw(WindowSampler(source, window=4), 13_000)
    first = batch["window"][:, 0, 0].round().long()
    rows, now = first // 100, first % 100
    # One moment in the third sequence, five in the fourth, eight in the fifth; two have none.
    shares = torch.bincount(rows, minlength=5) / 13_000
    torch.testing.assert_close(shares, torch.tensor([0, 0, 1, 5, 8]) / 14, atol=0.02, rtol=0)
    last = torch.from_numpy(source.length)[rows] - 1
    assert torch.equal(batch["length"], last - now) and int(batch["length"].min()) == 1
    known = torch.arange(1, T - 3) <= batch["length"].unsqueeze(1)
    assert bool((batch["future"][known] >= 0.0).all()) and bool((batch["window"] >= 0.0).all())


def test_sequences_no_longer_than_the_window_are_refused() -> None:
    source = ended()
    short = Recording(source.obs, source.action, source.reward, 1, source.length.clip(max=4))
    for sequences, window in ((numbered(), T), (short, 4)):
        words = f"more than {window} frames, the model's window, got {window}"
        with pytest.raises(ValueError, match=words):
            WindowSampler(sequences, window=window)


# -- whole sequences ---------------------------------------------------------------------------


def test_sequences_are_drawn_whole_and_uniformly() -> None:
    obs = np.arange(50, dtype=np.float32).reshape(-1, 1, 1) * np.ones((1, T, 4), np.float32)
    config = data.DatasetConfig(table=TableConfig(num_frames=T), num_trajectories=50)
    sampler = SequenceSampler(data.TrajectoryDataset(obs, 0.01 * obs[:, :, :2], config))
    batch = draw(sampler, 20_000)
    assert sizes(batch) == {"obs": (20_000, T, 4), "action": (20_000, T, 2), "u": (20_000, T)}
    rows = batch["obs"][:, 0, 0]
    assert torch.equal(batch["obs"], rows.view(-1, 1, 1).expand(-1, T, 4))
    torch.testing.assert_close(batch["action"][:, 5, 1], 0.01 * rows)
    counts = torch.bincount(rows.long(), minlength=50)
    assert int(counts.min()) > 300 and int(counts.max()) < 500
    assert float(batch["u"].min()) >= 0.0 and float(batch["u"].max()) < 1.0
    assert float(batch["u"].mean()) == pytest.approx(0.5, abs=0.01)


def test_sequences_come_with_their_lengths() -> None:
    source = ended()
    batch = draw(SequenceSampler(source), 500)
    rows = (batch["obs"][:, 0, 0] / 100).round().long()
    assert torch.equal(batch["length"], torch.from_numpy(source.length)[rows])
    assert len(rows.unique()) == 5


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SequenceSampler, WindowSampler])
def test_draws_follow_the_generator_alone(kind: Any) -> None:
    source = numbered(actions=True)
    sampler, generator = kind(source), torch.Generator().manual_seed(3)
    sampler.sample(4, generator)
    fresh = torch.Generator()
    fresh.set_state(generator.get_state())
    first, other = sampler.sample(4, generator), sampler.sample(4, generator)
    torch.rand(3)
    # Lengths that are those of all change no draw.
    whole = Recording(source.obs, source.action, np.zeros((30, T - 1)), 1, np.full(30, T))
    again = kind(whole).sample(4, fresh)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(
        torch.equal(first[name], other[name]) for name in ("u", "noise") if name in first
    )


@pytest.mark.parametrize("kind", [SequenceSampler, WindowSampler])
def test_pictures_are_scaled(kind: Any) -> None:
    obs = np.zeros((2, 45, 784), np.uint8)
    obs[0], obs[1, ::2] = 255, 51
    pictures = data.TaskDataset(obs, data.TaskConfig("pixel-billiards1d", 2))
    batch = draw(kind(pictures), 50)
    for name in {"obs", "window", "future"} & batch.keys():
        values = batch[name].unique()
        torch.testing.assert_close(values, torch.tensor([0.0, 0.2, 1.0]), atol=1e-7, rtol=0)


def test_pictures_to_see_are_real_ones_and_events_are_those_of_what_is_seen() -> None:
    source, generator = ended(), torch.Generator().manual_seed(0)
    sampler = PictureEventSampler(
        source, read=lambda obs: obs[..., :4], looking_steps=9, on_line=False
    )
    seen = sampler.sample(4000, generator, step=8)["pictures"][:, 0]
    assert set(seen.int().tolist()) == {
        100 * row + frame for row, end in enumerate(source.length) for frame in range(end)
    }
    with pytest.raises(ValueError, match="no event of kind 'single'"):
        sampler.sample(4, generator, step=9)
