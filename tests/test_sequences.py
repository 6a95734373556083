"""Scores of models on sequences: against errors known by hand, and against validate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl import data, models
from jumpy_mbrl.data import DatasetConfig, Recording, TaskConfig, TaskDataset
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation.sequences import TaskScore, one_step_moments, sample, score
from jumpy_mbrl.models import Imagined, State, WorldModel
from jumpy_mbrl.training import validate

KINDS = ("rnn", "jumpy-rnn", "latent-jump")


class Still(WorldModel):
    """Believes that nothing moves, and ticks every third frame."""

    def __init__(self, obs_size: int) -> None:
        super().__init__()
        self.obs_size, self.action_size = obs_size, 0
        self.unused = nn.Parameter(torch.zeros(1))

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.zeros(batch_size, 1, self.obs_size))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), last.new_zeros(len(last)), last)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        ticks = torch.arange(0.0, end, 3.0).expand(state.batch_size, -1)
        return Imagined(state.obs.unsqueeze(1).expand(-1, len(times), -1), ticks, state)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def small(kind: str, obs_size: int, action_size: int = 0) -> WorldModel:
    torch.manual_seed(0)
    own: Any = {"window": 2} if kind == "latent-jump" else {}
    config = models.MODELS[kind].config(obs_size, action_size, hidden_size=8, mlp_size=8, **own)
    model: Any = models.make_model(config)
    if kind == "jumpy-rnn":
        nn.init.constant_(model.duration.bias, 2.3)  # Otherwise it starts with single frames.
    return model.eval()  # type: ignore[no-any-return]


def data_of(task: str, count: int = 12) -> TaskDataset:
    return data.make_task(TaskConfig(task, num_sequences=count, split="evaluation"))


def frames_of(task: str, count: int) -> Tensor:
    return torch.from_numpy(data_of(task, count).obs)


# -- score ---------------------------------------------------------------------------------------


def test_errors_known_by_hand() -> None:
    found = score(Still(2), data_of("lines", 5))
    # The first coordinate is the time itself, the second never changes.
    assert found.sample_mse == pytest.approx(np.mean(np.arange(1, 21) ** 2) / 200)
    assert found.all_frames_mse == pytest.approx(np.mean(np.arange(21) ** 2) / 200)
    assert found.one_step_mse == pytest.approx(0.005)
    assert found.sample_se == pytest.approx(0.0, abs=1e-6)
    assert (found.n, found.ticks) == (5, 7.0)
    assert found.mean_jump == pytest.approx(20 / 7)


def test_standard_error_is_that_of_the_mean_over_sequences() -> None:
    circles = data_of("circles", 9)
    errors = (circles.obs[:, 1:] - circles.obs[:, :1]) ** 2
    each = errors.astype(np.float64).mean(axis=(1, 2))
    found = score(Still(2), circles)
    assert found.sample_mse == pytest.approx(each.mean(), rel=1e-6)
    assert found.sample_se == pytest.approx(each.std(ddof=1) / 3.0, rel=1e-5)
    alone = score(Still(2), data_of("circles", 1))
    assert alone.sample_se is None and alone.to_dict()["sample_se"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [5, 1000])
@torch.no_grad()
def test_sequences_that_end_early_are_compared_up_to_their_ends(kind: str, batch_size: int) -> None:
    whole, model = data_of("billiards2d"), small(kind, 4)
    length = np.array([45, 44, 40, 31, 30, 20, 9, 7, 6, 5, 4, 3])  # the last two are only shown
    obs = whole.obs.copy()
    for row, end in zip(obs, length, strict=True):
        row[end:] = 7.0
    recording = Recording(obs, whole.action, np.zeros((12, 44)), 4, length)
    errors, lines, first = [], 0, []
    for row, end in zip(torch.from_numpy(whole.obs), length, strict=True):
        if end > 4:
            imagined = sample(model, row[None], None, 4, [float(t) for t in range(4, end)])
            errors.append((imagined.obs[0] - row[4:end]).square().mean(dim=1))
            lines += int(imagined.lines(3.0))
        for t in one_step_moments(4, 45):
            if t < end:
                near = sample(model, row[None], None, t, [float(t)]).obs[0, 0]
                first.append(float((near - row[t]).square().mean()))
    mse = float(torch.cat(errors).mean())
    found, figures = score(model, recording, batch_size), validate(model, recording, batch_size)
    assert found.sample_mse == pytest.approx(mse, rel=1e-5)
    assert figures["mse"] == pytest.approx(mse, rel=1e-5)
    assert found.one_step_mse == pytest.approx(np.mean(first), rel=1e-5)
    all_frames = float(torch.cat(errors).sum()) / length.sum()
    assert found.all_frames_mse == pytest.approx(all_frames, rel=1e-5)
    frames = sum(len(error) for error in errors)
    assert found.mean_jump == figures["mean_jump"] == pytest.approx(frames / lines)
    # The standard error of a ratio of sums over sequences.
    sums = torch.stack([(error - mse).sum() for error in errors] + [torch.zeros(())] * 2)
    spread = float(sums.square().sum() * 12 / 11) ** 0.5 / frames
    assert found.sample_se == pytest.approx(spread, rel=1e-4)


def test_pictures_are_compared_from_0_to_1() -> None:
    pictures = data_of("pixel-billiards1d", 3)
    found = score(Still(784), pictures)
    assert pictures.obs.dtype == np.uint8
    assert found.sample_mse == pytest.approx(validate(Still(784), pictures)["mse"], rel=1e-5)
    assert 0.0 < found.one_step_mse < found.sample_mse < 1.0


@pytest.mark.parametrize("kind", ["rnn", "jumpy-rnn"])
@pytest.mark.parametrize(
    ("config", "size"),
    [
        (DatasetConfig(TableConfig(num_frames=9), 6), 4),
        (DatasetConfig(LINE_CONFIG, 6, split="evaluation", shot="place"), 2),
    ],
)
def test_shots_are_given_where_they_are_taken(kind: str, config: Any, size: int) -> None:
    shots, model = data.make_dataset(config), small(kind, size, 2)
    found = score(model, shots)
    assert found.n == 6 and found.mean_jump >= 1.0
    assert found.sample_mse == pytest.approx(validate(model, shots)["mse"], rel=1e-5)
    unshot = replace(shots, action=np.zeros_like(shots.action))
    assert score(model, unshot).sample_mse != pytest.approx(found.sample_mse, rel=1e-5)


def test_json_has_no_nan() -> None:
    values = TaskScore(2, float("nan"), float("inf"), 0.5, 1.0, 3.0, 0.25).to_dict()
    assert values["sample_mse"] is None and values["sample_se"] is None
    assert (values["n"], values["one_step_mse"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("context_frames", "frames", "expected"),
    [(1, 21, [1, 7, 14, 20]), (4, 5, [4]), (4, 7, [4, 5, 6]), (20, 80, [20, 40, 59, 79])],
)
def test_moments_of_one_step_errors(context_frames: int, frames: int, expected: list[int]) -> None:
    assert one_step_moments(context_frames, frames) == expected


def test_scores_that_cannot_be_computed_are_refused() -> None:
    lines = data_of("lines", 2)
    with pytest.raises(ValueError, match="batch_size to be an integer of at least 1, got 0"):
        score(Still(2), lines, 0)

    class AllShown:
        obs, action, config, context_frames = lines.obs, lines.action, lines.config, 21

    with pytest.raises(ValueError, match="more frames than the 21 that are shown"):
        score(Still(2), AllShown())


# -- sample --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_times_and_ticks_are_on_the_clock_of_the_sequence(kind: str) -> None:
    obs, model = frames_of("billiards2d", 3), small(kind, 4)
    times = [3.0, 3.25, 7.0, 9.75, 60.0]  # Beyond the last frame too.
    found = sample(model, obs, None, 4, times)
    expected = model.imagine(model.observe(obs[:, :4]), [time - 3.0 for time in times])
    assert torch.equal(found.obs, expected.obs)
    assert torch.equal(found.ticks, expected.ticks)
    assert float(found.tick_times.detach().min()) == 3.0
    assert torch.equal(found.tick_times, expected.tick_times + 3.0)
    spoilt = obs.clone()
    spoilt[:, 4:] = torch.nan
    assert torch.equal(sample(model, spoilt, None, 4, times).obs, found.obs), "what is not shown"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_frames": 0}, "context_frames to be an integer of at least 1, got 0"),
        ({"context_frames": 26}, "from 1 to 25, the number of frames .* got 26"),
        ({"context_frames": 1}, "at least 2 frames, got 1"),
        ({"times": [2.9]}, "must not lie before the last frame shown, which is 3, got 2.9"),
        ({"times": [4.0, float("nan")]}, "times must be finite"),
        ({"times": [float("inf")]}, "times must be finite"),
        ({"times": [5.0, 4.0]}, "ascending order"),
        ({"times": []}, "non-empty"),
        ({"obs": torch.zeros(1, 25, 3)}, r"obs must have shape \(B, T, 2\)"),
        ({"obs": torch.full((1, 25, 2), torch.nan)}, "NaN or infinity"),
        ({"action": torch.zeros(1, 3, 0)}, r"action must have shape \(1, 25, 0\) .* \(1, 3, 0\)"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    values = {"obs": torch.zeros(1, 25, 2), "action": None, "context_frames": 4, "times": [4.0]}
    with pytest.raises(ValueError, match=message):
        sample(small("latent-jump", 2), **{**values, **change})
