"""The segmentation of observed trajectories into events, against the physics that made them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl import data
from jumpy_mbrl.data.events import EventSampler, EventTable
from jumpy_mbrl.envs.config import TableConfig

STILL = np.full(8, 0.3)


def line(start: float, speed: float, frames: int = 8) -> np.ndarray:
    return start + speed * np.arange(frames)


def table_of(*coordinates: np.ndarray, action: Any = None) -> EventTable:
    """What is found in one trajectory x0, y0, x1, y1."""
    obs = np.stack(coordinates, axis=1)[None].astype(np.float32)
    return EventTable.from_arrays(obs, np.zeros((1, 8, 2)) if action is None else action)


@pytest.fixture(scope="module")
def shots() -> data.TrajectoryDataset:
    return data.make_dataset(data.DatasetConfig(num_trajectories=3000, seed=3))


@pytest.fixture(scope="module")
def table(shots: data.TrajectoryDataset) -> EventTable:
    return EventTable.from_dataset(shots)


# -- trajectories by hand ------------------------------------------------------------------------


def test_a_wall_hit_between_frames_is_found_where_it_was() -> None:
    # Ball 0 goes right at 0.03 per frame from 0.809 and turns at 0.9, at frame 91 / 30.
    free = line(0.809, 0.03)
    found = table_of(np.where(free <= 0.9, free, 1.8 - free), STILL + 0.2, STILL, STILL).single
    np.testing.assert_allclose(found, [[[0.9, 0.5], [0.03, 0], [-0.03, 0]]], atol=2e-6)


def test_two_balls_that_break_together_are_one_event() -> None:
    # Head-on at equal speed: they touch at 0.4 and 0.6, at frame 10 / 3, and swap velocities.
    first, second = line(0.3, 0.03), line(0.7, -0.03)
    hit = np.arange(8) > 10 / 3
    x0, x1 = np.where(hit, 0.8 - first, first), np.where(hit, 1.2 - second, second)
    found = table_of(x0, STILL, x1, STILL)
    assert len(found.single) == 0
    expected = [[0.2, 0], [0.03, 0], [-0.03, 0], [-0.03, 0], [0.03, 0]]
    np.testing.assert_allclose(found.pair, [expected], atol=2e-6)


def test_balls_that_turn_at_once_but_far_apart_did_not_meet() -> None:
    # Both at 0.03 a frame outwards, to walls at 0.1 and 0.9, which they reach at frame 91 / 30.
    left = 0.1 + np.abs(line(0.091, -0.03))
    found = table_of(left, STILL, 1.0 - left, STILL)
    assert len(found.pair) == 0 and len(found.single) == 0
    # One frame's delay, and they are two events of one ball each.
    assert len(table_of(left, STILL, 0.9 - np.abs(line(0.121, -0.03)), STILL).single) == 2


def test_a_shot_is_not_an_event_but_a_shot() -> None:
    x = np.concatenate([line(0.3, 0.01, 4), line(0.33, 0.03, 5)[1:]])
    action = np.zeros((1, 8, 2))
    action[0, 3] = [0.4, 0.0]
    found = table_of(x, STILL, STILL + 0.5, STILL + 0.5, action=action)
    assert len(found.single) == 0
    np.testing.assert_allclose(found.shot, [[[0.01, 0], [0.4, 0], [0.03, 0]]], atol=1e-6)


@pytest.mark.parametrize(("axis", "events"), [(0, 1), (1, 0)])
def test_events_lie_where_balls_are_seen_along_each_axis(axis: int, events: int) -> None:
    # Ball 0 turns at 0.615, between frames where it is at 0.6; the other runs from 0.3 to 0.9.
    first = [0.615 - np.abs(line(0.105, -0.03)), STILL]
    found = table_of(first[axis], first[1 - axis], 0.3 + line(0.0, 0.6 / 7), STILL)
    assert len(found.single) == events


def test_balls_at_rest_say_nothing_about_noise() -> None:
    found = table_of(STILL, STILL, STILL + 0.4, STILL + 0.4)
    assert len(found.single) == len(found.pair) == 0


# -- trajectories of the physics -----------------------------------------------------------------


def test_single_events_are_mirror_reflections_at_the_walls(table: EventTable) -> None:
    position, before, after = np.moveaxis(table.single, 1, 0)
    rows, axis = np.arange(len(position)), np.abs(after - before).argmax(axis=1)
    assert len(position) > 5000
    distance = np.abs(np.abs(position[rows, axis] - 0.5) - 0.4)
    assert np.quantile(distance, 0.999) < 1e-5
    assert np.quantile(np.abs(after[rows, axis] + before[rows, axis]), 0.999) < 1e-6


def test_pair_events_are_elastic_contacts_of_equal_balls(table: EventTable) -> None:
    offset, first, second, first_after, second_after = np.moveaxis(table.pair, 1, 0)
    assert len(offset) > 800
    distance = np.linalg.norm(offset, axis=1)
    assert np.mean(np.abs(distance - 0.2) > 1e-5) < 5e-3
    normal = offset / distance[:, None]
    push = ((second - first) * normal).sum(axis=1, keepdims=True) * normal
    error = np.abs(first_after - first - push).max(axis=1) / np.linalg.norm(push, axis=1)
    assert np.mean(error > 1e-2) < 5e-3
    assert np.mean(np.abs(first + second - first_after - second_after) > 1e-5) < 5e-3


def test_passing_pairs_never_come_within_touch(table: EventTable) -> None:
    offset, velocity = table.passing[:, 0], table.passing[:, 1]
    square = (velocity**2).sum(axis=1)
    closest = np.clip(-(offset * velocity).sum(axis=1) / square, 0, None)
    assert np.all(closest <= table.passing_frames)
    assert np.linalg.norm(offset + velocity * closest[:, None], axis=1).min() > 0.2 - 1e-5


def test_shots_obey_the_impulse_and_its_limit(table: EventTable) -> None:
    before, action, after = np.moveaxis(table.shot, 1, 0)
    expected = np.clip(before + 0.06 * action, -0.09, 0.09)
    assert np.quantile(np.abs(after - expected), 0.999) < 1e-6


def test_three_balls_are_segmented_too() -> None:
    config = data.DatasetConfig(table=TableConfig(num_balls=3), num_trajectories=500, seed=1)
    found = EventTable.from_dataset(data.make_dataset(config))
    distance = np.linalg.norm(found.pair[:, 0], axis=1)
    assert len(distance) > 200
    assert np.quantile(np.abs(distance - 0.2), 0.99) < 1e-4


def test_arrays_without_actions_have_no_shots() -> None:
    made = data.make_dataset(data.DatasetConfig(num_trajectories=300, shot="none"))
    with_zeros = EventTable.from_dataset(made)
    without = EventTable.from_arrays(made.obs, np.zeros((300, 45, 0), dtype=np.float32))
    assert without.shot.shape == with_zeros.shot.shape == (0, 3, 2)
    for name in ("single", "pair", "passing", "passing_frames"):
        assert len(getattr(without, name)) > 50
        assert np.array_equal(getattr(without, name), getattr(with_zeros, name))


# -- positions that are not exact ----------------------------------------------------------------


def test_noise_is_measured_and_events_are_found_in_spite_of_it(
    shots: data.TrajectoryDataset, table: EventTable
) -> None:
    def shaken(size: float) -> EventTable:
        noise = np.random.default_rng(0).normal(0.0, size, shots.obs.shape)
        return EventTable.from_arrays((shots.obs + noise).astype(np.float32), shots.action)

    found = shaken(2e-4)
    assert 0.5 * len(table.pair) < len(found.pair) < 1.1 * len(table.pair)
    assert 0.5 * len(table.single) < len(found.single) < 1.1 * len(table.single)
    # Two balls touch at two radii, and keep their momentum.
    distance = np.linalg.norm(found.pair[:, 0], axis=1)
    assert np.median(np.abs(distance - 0.2)) < 2e-3
    momentum = found.pair[:, 1] + found.pair[:, 2] - found.pair[:, 3] - found.pair[:, 4]
    assert np.median(np.abs(momentum)) < 1.5e-3
    # The more noise, the fewer events are sure.
    assert len(table.pair) > len(shaken(1e-4).pair) > len(shaken(1e-3).pair) > 0


# -- batches -------------------------------------------------------------------------------------


def test_a_world_without_actions_has_batches_without_shots() -> None:
    sampler = EventSampler(data.make_task(data.TaskConfig("billiards2d", 200)))
    first, again, other = (
        sampler.sample(9, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert {name: tuple(rows.shape) for name, rows in first.items()} == {
        "u": (9, 4),
        "single": (9, 3, 2),
        "pair": (9, 5, 2),
        "passing": (9, 2, 2),
        "passing_frames": (9,),
    }
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_events_on_a_line_are_those_of_balls_at_the_middle_of_a_table() -> None:
    sampler = EventSampler(data.make_task(data.TaskConfig("billiards1d", 500)), on_line=True)
    batch = sampler.sample(2000, torch.Generator().manual_seed(0))
    position, before, after = batch["single"].unbind(1)
    assert bool((position[:, 0] == 0.5).all()) and not batch["single"][:, 1:, 0].any()
    wall = torch.where(before[:, 1] > 0, 0.9, 0.1)
    torch.testing.assert_close(position[:, 1], wall, rtol=0, atol=2e-6)
    torch.testing.assert_close(after, -before, rtol=0, atol=2e-7)
    torch.testing.assert_close(before[:, 1].abs(), torch.full((2000,), 0.05), rtol=0, atol=2e-7)
    offset, first, second, first_after, second_after = batch["pair"].unbind(1)
    assert not batch["pair"][..., 0].any()
    torch.testing.assert_close(offset[:, 1].abs(), torch.full((2000,), 0.2), rtol=0, atol=2e-6)
    torch.testing.assert_close(first_after, second, rtol=0, atol=2e-7)
    torch.testing.assert_close(second_after, first, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("frames", "words"),
    [(5, "at least 6 frames to be segmented, got 5"), (8, "holds no event of kind 'single'")],
)
def test_what_has_no_events_is_refused(frames: int, words: str) -> None:
    obs, action = np.full((1, frames, 4), 0.5, np.float32), np.zeros((1, frames, 2), np.float32)
    with pytest.raises(ValueError, match=words):
        EventSampler(data.Recording(obs, action, np.zeros((1, frames - 1))))
