"""Sequences of a task, kept to be drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.lab.reproduce.samples import FILM_FRAMES, record_samples
from jumpy_mbrl.models import RNN, RNNConfig


def test_samples_of_coordinates() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("billiards2d", num_sequences=3))
    model = RNN(RNNConfig(4, 0, 8, 8)).eval()
    found = record_samples(model, data)
    assert len(found["truth"]) == len(found["ways"]) == 2
    assert found["truth"][1] == pytest.approx(data.obs[1], rel=1e-4)
    way = found["ways"][0]
    assert (way["time"][0], way["time"][1], way["time"][-1]) == (3.0, 3.25, 44.0)
    assert np.shape(way["obs"]) == (len(way["time"]), 4)
    assert way["tick_times"] == [3.0 + k for k in range(41)]
    assert np.shape(way["tick_obs"]) == (41, 4)
    assert way["tick_obs"][1] == way["obs"][4]
    assert way["obs"][0] == pytest.approx(data.obs[0, 3], rel=1e-4)


def test_samples_of_pictures() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("pixel-billiards1d", num_sequences=2))
    found = record_samples(RNN(RNNConfig(784, 0, 8, 8, residual=False)).eval(), data)
    assert len(found["truth"]) == 1 and len(found["film"]) == FILM_FRAMES
    assert (found["film"][0], found["film"][-1]) == (4.0, 44.0)
    first = np.frombuffer(bytes.fromhex(found["truth"][0][0]), dtype=np.uint8)
    assert np.array_equal(first, data.obs[0, 4])
    pictures = [bytes.fromhex(text) for text in found["ways"][0]["obs"]]
    assert {len(picture) for picture in pictures} == {784}


def test_samples_of_weather_are_in_units() -> None:
    torch.manual_seed(0)
    data = make_task(TaskConfig("synthetic-weather", num_sequences=4, split="evaluation"))
    found = record_samples(RNN(RNNConfig(5, 0, 8, 8)).eval(), data)
    truth = np.array(found["truth"])
    assert truth.shape == (3, 80, 2)
    assert truth[..., 0].min() > -40.0 and truth[..., 0].max() < 50.0
    assert truth[..., 1].min() > 900.0 and truth[..., 1].max() < 1100.0
    assert np.shape(found["ways"][2]["tick_obs"]) == (60, 2)


def test_samples_that_are_not_finite_are_none() -> None:
    data = make_task(TaskConfig("circles", num_sequences=2))
    model = RNN(RNNConfig(2, 0, 8, 8)).eval()
    torch.nn.init.constant_(model.decoder.last.bias, torch.nan)
    way = record_samples(model, data)["ways"][0]
    assert way["obs"][-1] == [None, None]
    json.dumps(way, allow_nan=False)
