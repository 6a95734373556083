"""The benchmarks' clock and rows, what they count, and that they run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl.agents.baselines.presets import policy_preset
from jumpy_mbrl.data.events import EventSampler, EventTable
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.lab.bench import Clock, envs, format_row, policies, train
from jumpy_mbrl.lab.bench.clock import make_row, ratio_row
from jumpy_mbrl.models.bodies.event_jump import EventJumpConfig
from jumpy_mbrl.models.registry import make_model


@pytest.fixture(scope="module")
def bench(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("bench")


@pytest.fixture(scope="module")
def data() -> TaskDataset:
    return make_task(TaskConfig("billiards2d", 64))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    monkeypatch.setattr(train, "SEQUENCES", 64)
    monkeypatch.setattr(train, "DEVICE_BATCHES", (2, 3))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets torch.compile do nothing but note the names of what it was given."""
    names: list[str] = []

    def note(work: Any) -> Any:
        names.append(work.__qualname__)
        return work

    monkeypatch.setattr(torch, "compile", note)
    return names


# -- the clock and the rows --------------------------------------------------------------------


def test_the_clock_counts_work_and_takes_the_best_round() -> None:
    pauses = iter([0.0, 0.05, 0.01, 0.05])

    def work() -> int:
        time.sleep(next(pauses))
        return 7

    (rate,) = Clock(rounds=3, seconds=1e-6).rates(work)
    assert 7 / 0.05 < rate <= 7 / 0.01


def test_the_clock_measures_in_turn() -> None:
    calls: list[str] = []

    def first() -> int:
        calls.append("first")
        return 1

    def second() -> int:
        calls.append("second")
        return 1

    Clock(rounds=2, seconds=1e-9).rates(first, second)
    assert calls == ["first", "second"] * 3
    Clock(rounds=1, seconds=1e-9, warm_up=False).rates(first, second)
    assert calls == ["first", "second"] * 4


@pytest.mark.parametrize(("rounds", "seconds"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_a_clock_without_time_is_refused(rounds: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1 and seconds positive"):
        Clock(rounds, seconds)


def test_rows_say_whether_the_target_is_met() -> None:
    row = make_row("speed", 90.0, "steps/s", anchor=("other", 60.0), at_least=100.0)
    assert (row.ratio, row.anchor, row.ok) == (1.5, "other", False)
    assert format_row(row).endswith("1.50x other        at least 100: NO")
    assert make_row("speed", 100.0, "steps/s", at_least=100.0).ok is True
    assert make_row("speed", 1.0, "steps/s").ok is None


def test_ratios_have_an_upper_limit() -> None:
    row = ratio_row("cost", 1.25, anchor="other", at_most=1.5)
    assert (row.value, row.ratio, row.unit, row.ok) == (1.25, 1.25, "x", True)
    assert format_row(row).endswith("at most 1.5: yes")
    assert ratio_row("cost", 1.6, anchor="other", at_most=1.5).ok is False
    assert ratio_row("cost", 1.6, anchor="other").ok is None


# -- what a training step is and supervises ----------------------------------------------------


@pytest.mark.parametrize("name", ["RNN", "JumpyRNN", "ODE-RNN"])
def test_sequences_supervise_every_frame_but_the_first(name: str, data: TaskDataset) -> None:
    model = make_model(train.MODELS[name])
    assert train.supervised_frames(model, data, 8) == 8 * 44
    length = np.repeat([5, 45], 32)
    ended = Recording(data.obs, data.action, np.zeros((64, 44)), data.warm_up, length)
    assert train.supervised_frames(model, ended, 8) == 8 * 24


def test_windows_supervise_the_known_frames_up_to_the_horizon(data: TaskDataset) -> None:
    model = make_model(train.MODELS["LatentJump"])
    # The moment is frame 3 + floor(41 u^2) for uniform u, and 44 is the last frame.
    u = (np.arange(100_000) + 0.5) / 100_000
    known = np.minimum(41 - np.floor(41 * u**2), 24)
    frames = train.supervised_frames(model, data, 8)
    assert frames == pytest.approx(8 * known.mean(), rel=0.02)


@pytest.mark.parametrize("name", ["FoldJump", "EventJump"])
def test_events_share_the_frames_of_the_dataset(name: str, data: TaskDataset) -> None:
    table = EventTable.from_dataset(data)
    events = len(table.single) + len(table.pair) + len(table.passing)
    batch = EventSampler(data).sample(8, torch.Generator().manual_seed(0))
    drawn = sum(len(batch[kind]) for kind in ("single", "pair", "passing"))
    model = make_model(train.MODELS[name])
    frames = train.supervised_frames(model, data, 8)
    assert frames == pytest.approx(drawn * 64 * 44 / events)


def test_other_batches_are_refused(data: TaskDataset) -> None:
    model = make_model(EventJumpConfig(axes=1, action_size=0))
    with pytest.raises(ValueError, match="one that learns from 'line-events'"):
        train.supervised_frames(model, data, 8)


def test_models_are_compared_at_one_hidden_size() -> None:
    sizes = {asdict(config)["hidden_size"] for config in train.MODELS.values()}
    assert sizes == {train.HIDDEN_SIZE}


def test_training_steps_leave_the_model_alone(data: TaskDataset) -> None:
    model = make_model(train.MODELS["FoldJump"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert train._trainer(model, data, 4)() == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


# -- precision and compiling -------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_settings_stand_beside_plain_steps(compiled: list[str]) -> None:
    rows = list(train._setting_rows(Clock(rounds=1, seconds=1e-4)))
    assert [(row.name, row.anchor) for row in rows] == [
        (f"training step, batch 4, {name}, {setting}", anchor)
        for name in train.SETTINGS
        for setting, anchor in (("bfloat16", "float32"), ("compiled", "not compiled"))
    ]
    assert compiled == ["_probe", "RNN.loss", "LatentJump.loss", "ODERNN.loss"]


@pytest.mark.usefixtures("compiled")
def test_a_setting_that_takes_half_the_time_has_half_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Clock, "rates", lambda self, *works: [10.0, 20.0, 5.0])
    rows = list(train._setting_rows(Clock()))
    assert [(row.value, row.ratio) for row in rows] == [(50.0, 0.5), (200.0, 2.0)] * 3


@pytest.mark.usefixtures("small")
def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(work: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    rows = list(train._setting_rows(Clock(rounds=1, seconds=1e-4)))
    assert [row.anchor for row in rows] == ["float32"] * 3


# -- the command line --------------------------------------------------------------------------


@pytest.mark.slow
def test_envs_prints_and_writes_every_row(
    bench: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envs, "VECTOR_SIZES", (1, 8))
    monkeypatch.setattr(envs, "TORCH_TABLES", 64)
    path = tmp_path / "bench.json"
    assert bench.main(["envs", "--rounds", "1", "--seconds", "1e-4", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert set(rows[0]) == {"name", "value", "unit", "anchor", "ratio", "target", "ok"}
    assert all(row["value"] > 0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) >= 12


@pytest.mark.usefixtures("small", "compiled")
def test_train_prints_and_writes_every_row(
    bench: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "bench.json"
    assert bench.main(["train", "--rounds", "1", "--seconds", "1e-4", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    units = [row["unit"] for row in rows]
    assert units == ["ms"] * 7 + ["ns/frame"] * 7 + ["x"] * 2 + ["ms"] * 6 + ["samples/s"] * 5
    assert all(row["value"] > 0 for row in rows)
    judged, jumpy = [row for row in rows if row["ok"] is not None]
    assert (judged["unit"], judged["target"]) == ("x", "at most 1.5")
    assert (jumpy["unit"], jumpy["target"]) == ("x", "at most 1")
    (trained,) = [row for row in rows if row["name"] == "training step, batch 4, JumpyRNN, trained"]
    assert jumpy["value"] == pytest.approx(trained["ratio"])
    (ours,) = [
        row for row in rows if row["name"] == "training, a frame of a straight run, FoldJump"
    ]
    assert judged["value"] == pytest.approx(ours["ratio"])
    assert [row["name"] for row in rows if row["anchor"] is None] == [
        "training step, batch 4, RNN",
        "training, a frame of a sequence, RNN",
        "predicting 41 frames of 64, rnn-billiards2d",
    ]
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


@pytest.mark.usefixtures("small", "compiled")
def test_a_device_is_compared_with_the_cpu() -> None:
    rows = list(train.device_rows(Clock(rounds=1, seconds=1e-4), "cpu"))
    for batch in (2, 3):
        steps = [row for row in rows if f"batch {batch}," in row.name]
        assert [row.unit for row in steps] == ["ms", "x"] * 7
        samples = [row for row in rows if f"frames of {batch}," in row.name]
        assert [(row.unit, row.anchor) for row in samples] == [("samples/s", "cpu")] * 5
    settings = [row for row in rows if "batch 4," in row.name]
    assert [row.anchor for row in settings] == ["float32", "not compiled"] * 3
    assert all(row.name.endswith(", cpu") for row in settings)


@pytest.mark.usefixtures("compiled")
def test_a_device_that_takes_half_the_time_is_twice_as_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only the device's clock warms up.
    monkeypatch.setattr(
        Clock, "rates", lambda self, *works: [20.0 if self.warm_up else 10.0] * len(works)
    )
    monkeypatch.setattr(train, "DEVICE_BATCHES", (2,))
    rows = list(train.device_rows(Clock(), "cpu"))
    assert {row.value for row in rows if row.unit == "x"} == {2.0}
    assert {row.ratio for row in rows if row.unit == "samples/s"} == {2.0}
    assert {row.value for row in rows if row.unit == "ms"} == {50.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("small", "compiled")
def test_cuda_is_measured() -> None:
    rows = list(train.device_rows(Clock(rounds=1, seconds=1e-4), "cuda"))
    assert len(rows) == 2 * (2 * 7 + 5) + 6
    assert all(row.value > 0 for row in rows)


def test_policies_learn_on_real_tables_and_inside_models(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = replace(policy_preset(policies.PRESET), batch_size=16, net=(8,))
    monkeypatch.setattr(policies, "policy_preset", lambda name: config)
    monkeypatch.setattr(policies, "TABLES", 8)
    path = tmp_path / "rows.json"
    assert bench.main(["policies", "--rounds", "1", "--seconds", "1e-4", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    places = [*policies.MODELS, "real tables"]
    assert [row["name"] for row in rows] == [
        f"shots {what}, {place}" for what in ("played", "learned from by PPO") for place in places
    ]
    assert [row["anchor"] for row in rows] == [None, *["rnn-billiards2d"] * 3] * 2
    assert all(row["value"] > 0 and row["unit"] == "shots/s" for row in rows)


def test_a_policy_learns_from_every_shot() -> None:
    config = replace(policy_preset(policies.PRESET), n_envs=8, batch_size=16, net=(8,))
    learn = policies._learner(config)
    assert learn() == learn() == 8 * 4
    assert policies._player(config)() == 8


@pytest.mark.parametrize("what", ["envs", "train", "policies"])
def test_bad_settings_are_refused(
    bench: ModuleType, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([what, "--rounds", "0"]) == 2
    assert "--rounds must be at least 1" in capsys.readouterr().err
