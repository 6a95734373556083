"""The benchmarks' clock and rows, what they count, and that they run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from jumpy_mbrl.agents import PlannerConfig, load_agent
from jumpy_mbrl.agents.baselines.presets import policy_preset
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.data.events import EventSampler, EventTable
from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.lab.bench import clock, envs, pictures, plan, policies, train
from jumpy_mbrl.models.bodies import state_estimation
from jumpy_mbrl.models.registry import make_model

SEARCHED = make_tables(700)[640:664]
"""Tables of which one has velocities that have to be searched for."""
QUICK = clock.Clock(rounds=1, seconds=1e-4)
Bench = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def data() -> TaskDataset:
    return make_task(TaskConfig("billiards2d", 64))


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small batches; torch.compile does nothing but note the names of what it was given."""
    names: list[str] = []

    def note(work: Any) -> Any:
        names.append(work.__qualname__)
        return work

    monkeypatch.setattr(torch, "compile", note)
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    monkeypatch.setattr(train, "SEQUENCES", 64)
    monkeypatch.setattr(train, "DEVICE_BATCHES", (2, 3))
    return names


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs the command line; returns the rows of its file, as many as were printed."""

    def bench(what: str, *more: str) -> list[dict[str, Any]]:
        path = tmp_path / "bench.json"
        options = ["--rounds", "1", "--seconds", "1e-4", "--json", str(path), *more]
        assert run("bench", [what, *options]) == 0
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
        assert len(capsys.readouterr().out.splitlines()) == len(rows)
        assert all(row["value"] > 0 for row in rows)
        return rows

    return bench


# -- the clock and the rows --------------------------------------------------------------------


def test_the_clock_counts_work_and_takes_the_best_round() -> None:
    pauses = iter([0.0, 0.05, 0.01, 0.05])

    def work() -> int:
        time.sleep(next(pauses))
        return 7

    rates = clock.Clock(rounds=3, seconds=1e-6).rates({"it": work})
    assert 7 / 0.05 < rates["it"] <= 7 / 0.01


def test_the_clock_measures_in_turn() -> None:
    calls: list[str] = []

    def note(name: str) -> int:
        calls.append(name)
        return 1

    works = {name: partial(note, name) for name in ("first", "second")}
    clock.Clock(rounds=2, seconds=1e-9).rates(works)
    assert calls == ["first", "second"] * 3
    clock.Clock(rounds=1, seconds=1e-9, warm_up=False).rates(works)
    assert calls == ["first", "second"] * 4


@pytest.mark.parametrize(("rounds", "seconds"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_a_clock_without_time_is_refused(
    rounds: int, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", ["envs", "--rounds", str(rounds), "--seconds", str(seconds)]) == 2
    printed = capsys.readouterr()
    wrong = f"--seconds to be a number in (0, inf), got {seconds}"
    wrong = wrong if rounds else "--rounds to be an integer of at least 1, got 0"
    assert (printed.out, printed.err) == ("", f"bench: expected {wrong}\n")


def test_rows_say_whether_the_target_is_met() -> None:
    row = clock.make_row("speed", 90.0, "steps/s", anchor=("other", 60.0), at_least=100.0)
    assert (row.ratio, row.anchor, row.ok) == (1.5, "other", False)
    assert clock.format_row(row).endswith("1.50x other        at least 100: NO")
    assert clock.make_row("speed", 100.0, "steps/s", at_least=100.0).ok is True
    assert clock.make_row("speed", 1.0, "steps/s").ok is None
    slow = clock.make_row("time", 5.5, "ms", anchor=("other", 5.0), at_most=5.0)
    assert (slow.ratio, slow.target, slow.ok) == (1.1, "at most 5", False)
    assert clock.make_row("time", 5.0, "ms", at_most=5.0).ok is True
    row = clock.ratio_row("cost", 1.25, anchor="other", at_most=1.5)
    assert (row.value, row.ratio, row.unit, row.ok) == (1.25, 1.25, "x", True)
    assert clock.format_row(row).endswith("at most 1.5: yes")
    assert clock.ratio_row("cost", 1.6, anchor="other", at_most=1.5).ok is False
    assert clock.ratio_row("cost", 1.6, anchor="other").ok is None


# -- what a training step is and supervises ----------------------------------------------------


def test_what_a_step_supervises(data: TaskDataset) -> None:
    models = {name: make_model(config) for name, config in train.MODELS.items()}
    length = np.repeat([5, 45], 32)
    ended = Recording(data.obs, data.action, np.zeros((64, 44)), data.context_frames, length)
    for name in ("RNN", "JumpyRNN", "ODE-RNN"):  # every frame of a sequence but the first
        assert train.supervised_frames(models[name], data, 8) == 8 * 44
        assert train.supervised_frames(models[name], ended, 8) == 8 * 24
    # The moment is frame 3 + floor(41 u^2) for uniform u, and 44 is the last frame.
    u = (np.arange(100_000) + 0.5) / 100_000
    known = np.minimum(41 - np.floor(41 * u**2), 24)
    frames = train.supervised_frames(models["LatentJump"], data, 8)
    assert frames == pytest.approx(8 * known.mean(), rel=0.02)
    # Events share the frames of the dataset.
    table, kinds = EventTable.from_dataset(data), ("single", "pair", "passing")
    batch = EventSampler(data).sample(8, torch.Generator().manual_seed(0))
    drawn = sum(len(batch[kind]) for kind in kinds)
    events = sum(len(getattr(table, kind)) for kind in kinds)
    for name in ("FoldJump", "EventJump"):
        frames = train.supervised_frames(models[name], data, 8)
        assert frames == pytest.approx(drawn * 64 * 44 / events)


def test_training_steps_leave_the_model_alone(data: TaskDataset) -> None:
    sizes = {asdict(config)["hidden_size"] for config in train.MODELS.values()}
    assert sizes == {train.HIDDEN_SIZE}, "models are compared at one hidden size"
    model = make_model(train.MODELS["FoldJump"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert train._trainer(model, data, 4)() == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


# -- the rows of each command ------------------------------------------------------------------


@pytest.mark.slow
def test_envs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "VECTOR_SIZES", (1, 8))
    monkeypatch.setattr(envs, "TORCH_TABLES", 64)
    rows = bench("envs")
    assert set(rows[0]) == {"name", "value", "unit", "anchor", "ratio", "target", "ok"}
    assert [row["anchor"] for row in rows[:6]] == [None, None, *["CartPole-v1"] * 4]
    assert len(rows) >= 12


def test_train(bench: Bench, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = bench("train")
    units = [row["unit"] for row in rows]
    assert units == ["ms"] * 7 + ["ns/frame"] * 7 + ["x"] * 2 + ["ms"] * 6 + ["samples/s"] * 5
    judged, jumpy = [row for row in rows if row["ok"] is not None]
    assert (judged["unit"], judged["target"]) == ("x", "at most 1.5")
    assert (jumpy["unit"], jumpy["target"]) == ("x", "at most 1")
    ratios = {row["name"]: row["ratio"] for row in rows}
    trained, ours = "JumpyRNN, trained", "a frame of a straight run, FoldJump"
    assert jumpy["value"] == pytest.approx(ratios[f"training step, batch 4, {trained}"])
    assert judged["value"] == pytest.approx(ratios[f"training, {ours}"])
    assert [row["name"] for row in rows if row["anchor"] is None] == [
        "training step, batch 4, RNN",
        "training, a frame of a sequence, RNN",
        "predicting 41 frames of 64, rnn-billiards2d",
    ]
    settings = [(row["name"], row["anchor"]) for row in rows[16:22]]
    assert settings == [
        (f"training step, batch 4, {name}, {setting}", anchor)
        for name in train.SETTINGS
        for setting, anchor in (("bfloat16", "float32"), ("compiled", "not compiled"))
    ]
    assert compiled == ["_probe", "RNN.loss", "LatentJump.loss", "ODERNN.loss"]


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[CUDA, pytest.mark.gpu])])
def test_a_device_is_compared_with_the_cpu(device: str) -> None:
    rows = list(train.device_rows(QUICK, device))
    assert all(row.value > 0 for row in rows) and len(rows) == 2 * (2 * 7 + 5) + 6
    for batch in (2, 3):
        steps = [row for row in rows if f"batch {batch}," in row.name]
        assert [row.unit for row in steps] == ["ms", "x"] * 7
        samples = [row for row in rows if f"frames of {batch}," in row.name]
        assert [(row.unit, row.anchor) for row in samples] == [("samples/s", "cpu")] * 5
    settings = [row for row in rows if "batch 4," in row.name]
    assert all(row.name.endswith(f", {device}") for row in settings)
    assert [row.anchor for row in settings] == ["float32", "not compiled"] * 3


def test_policies(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(policy_preset(policies.PRESET), batch_size=16, net=(8,))
    monkeypatch.setattr(policies, "policy_preset", lambda name: config)
    monkeypatch.setattr(policies, "TABLES", 8)
    rows = bench("policies")
    places = [*policies.MODELS, "real tables"]
    assert [row["name"] for row in rows] == [
        f"shots {what}, {place}" for what in ("played", "learned from by PPO") for place in places
    ]
    assert [row["anchor"] for row in rows] == [None, *["rnn-billiards2d"] * 3] * 2
    assert {row["unit"] for row in rows} == {"shots/s"}
    config = replace(config, n_envs=8)
    learn = policies._learner(config)
    assert learn() == learn() == 8 * 4, "a policy learns from every shot"
    assert policies._player(config)() == 8


def test_pictures(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TABLES", 3)
    monkeypatch.setattr(pictures, "PLANNED", 2)
    quick = PlannerConfig(candidates=4, refined=1, gradient_steps=1, finalists=1, perturbations=1)
    monkeypatch.setattr(pictures, "load_agent", partial(load_agent, config=quick))
    rows = bench("pictures")
    assert [row["name"] for row in rows] == [
        "reading four pictures, 64x64x3, sprite-64-billiards2d",
        "reading four pictures, 28x28x1, sprite-28-billiards2d",
        "reading four pictures, 64x64x3, keypoints-billiards2d",
        *(f"shot, {name}" for name in pictures.AGENTS),
        "jumpy-pixels: time of a shot over jumpy's",
    ]
    assert {row["target"] for row in rows[:3]} == {"at most 5"}
    assert {row["anchor"] for row in rows[4:]} == {"jumpy"}
    assert rows[-1]["value"] == pytest.approx(rows[4]["ratio"])
    assert (rows[-1]["unit"], rows[-1]["target"]) == ("x", "at most 2")


def test_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(plan, "SIZES", {1: 24, 6: 6})
    monkeypatch.setattr(plan, "make_tables", lambda count: SEARCHED[:count])
    quick = PlannerConfig(candidates=16, refined=1, gradient_steps=1, finalists=1, perturbations=1)
    monkeypatch.setattr(plan, "load_agent", partial(load_agent, config=quick))
    rows = bench("plan", "--agents", "jumpy", "simulator", "none")
    named = {row["name"]: row for row in rows}
    assert len(named) == len(rows)
    for place in ("1 thread", "2 threads"):
        for size in (1, 6):
            mine, oracle, idle = (
                named[f"shot, {name}, batch {size}, {place}"]
                for name in ("jumpy", "simulator", "none")
            )
            assert (mine["anchor"], oracle["anchor"], idle["anchor"]) == (None, "jumpy", "jumpy")
            ratio = named[f"jumpy: time of a shot over simulator's, batch {size}, {place}"]
            assert ratio["value"] == pytest.approx(1.0 / oracle["ratio"])
        single = f"shot, jumpy, batch 1, {place}"
        kinds = (
            f"{single}, 1 tables, velocities searched for",
            f"{single}, 23 tables, velocities not searched for",
        )
        searched, seen = (named[kind]["value"] for kind in kinds)
        mean = named[single]["value"]
        assert min(searched, seen) < mean < max(searched, seen)
        assert named[f"{single}, 95th percentile"]["value"] > seen
    assert [name for name in named if name.startswith("ticks")] == [
        f"ticks of a shot, {name}, batch {size}"
        for size in (1, 6)
        for name in ("jumpy", "simulator")
    ]
    assert not any("velocities" in name and "jumpy" not in name for name in named)


def test_velocities_that_have_to_be_searched_for_are_told() -> None:
    tables = SEARCHED
    parts, jumpy = [tables[i : i + 1] for i in range(24)], load_agent("jumpy")
    searched = [plan._is_searched(jumpy, part) for part in parts]
    with mock.patch.object(state_estimation._Film, "search", side_effect=InterruptedError):
        for part, expected in zip(parts, searched, strict=True):
            with pytest.raises(InterruptedError) if expected else contextlib.nullcontext():
                jumpy.predict(part.frames)
    assert sum(searched) == 1
    assert not any(plan._is_searched(load_agent(name), tables[:1]) for name in ("rnn", "none"))
