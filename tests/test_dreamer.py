"""DreamerV3 of sheeprl: what it is told and shown, how it is scored. Training it needs sheeprl."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jumpy_mbrl.agents.baselines import train
from jumpy_mbrl.agents.baselines.features import RelativeFeatures
from jumpy_mbrl.agents.baselines.presets import POLICY_PRESETS
from jumpy_mbrl.commands import main
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.lab import dreamer
from jumpy_mbrl.lab.dreamer import Args
from jumpy_mbrl.lab.learning.kinds import read_policy_runs


def run(*options: str) -> int:
    return main.run("study-dreamer", options)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", ["shot", "frame"])
def test_it_is_shown_what_policies_are_shown(form: Any, here: Path) -> None:
    preset = {"shot": "sac-early-coords", "frame": "sac-frame-coords"}[form]
    theirs = train.make_env(POLICY_PRESETS[preset], held_out=True)
    assert (POLICY_PRESETS[preset].motion, POLICY_PRESETS[preset].relative) == (True, True)
    features = RelativeFeatures(theirs.observation_space)  # type: ignore[arg-type]
    for rank in (0, 1):
        first = rank + 3 * 2**20  # a training table of seed 3
        env, _ = dreamer.make_table(form, 3 + rank, rank), theirs.seed(first)
        shown, real = env.reset(seed=3 + rank)[0], theirs.reset()
        for _ in range(1 if form == "shot" else 30):
            assert env.observation_space.contains(shown)
            wanted = features(torch.from_numpy(np.asarray(real)[:1]))[0].detach().numpy()
            np.testing.assert_allclose(shown, wanted, atol=1e-6)
            action = np.array([0.5, -0.25], np.float32)
            shown, _, over, _, _ = env.step(action)
            real, *_ = theirs.step(np.repeat(action[None], theirs.num_envs, axis=0))
            if over:
                break


@pytest.mark.parametrize("form", ["shot", "frame"])
def test_experience_is_counted_in_frames(form: Any, here: Path) -> None:
    args = Args(here, form=form, n_envs=2, timesteps=200)
    lengths: list[list[int]] = [[], []]
    for rank in (0, 1):
        env = dreamer.make_table(form, rank, rank)
        env.reset(seed=rank)
        shown = 4 if form == "shot" else 1
        for _ in range(100):
            _, _, over, cut, info = env.step(np.array([0.9, 0.1], np.float32))
            shown += info.get("frames_played", 1)
            lengths[rank].append(shown)
            assert not cut
            if over:
                env.reset()
                shown = 4 if form == "shot" else 1
    frames, began = dreamer.experience(args, 200)
    ends = [n for mine in lengths for n in (mine if form == "shot" else _ends(mine))]
    assert frames == sum(ends) and began > 1.7e9
    assert len(ends) == 200 if form == "shot" else sum(ends) < 210
    assert dreamer.experience(args, 2)[0] == sum(mine[0] for mine in lengths)


def _ends(shown: list[int]) -> list[int]:
    """How many frames each episode showed, the last one as far as it went."""
    following = [*shown[1:], 0]
    return [now for now, then in zip(shown, following, strict=True) if then <= now]


@pytest.mark.parametrize("preset", ["sac-early-coords", "sac-frame-coords"])
def test_policies_are_scored_on_validation_tables(preset: str) -> None:
    def nothing(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(obs), 2), np.float32)

    won = dreamer.play(nothing, replace(POLICY_PRESETS[preset], validation_tables=60))
    assert np.array_equal(won, make_tables(60, split="validation").idle_wins) and 0 < won.sum() < 30


def test_a_run_is_read_beside_others(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    curve = [train.CurvePoint(16, 700, 1.0, 0.25, 10, 0.125)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(dreamer, "process_pool", ThreadPoolExecutor)
    monkeypatch.setattr(dreamer, "learn", lambda folder, told: calls.append(told))
    monkeypatch.setattr(dreamer, "validate", lambda args: curve)
    options = ("--timesteps", "16", "--validation-interval", "16", "--size", "12M")
    assert run("--run-dir", "run", "--seed", "3", *options) == 0
    assert "16 steps: 25.0 % of 10 tables after 700 frames" in capsys.readouterr().out
    wanted = {"algo=dreamer_v3_5_12M", "seed=3", "algo.total_steps=16", "env.num_envs=16"}
    assert wanted <= {*calls[0]}
    (kind,) = read_policy_runs([here / "run"])
    assert (kind["label"], kind["seeds"]) == ("dreamer-v3, by shots", [3])
    assert kind["curves"] == [[curve[0].known()]]
    called = "python scripts/study_dreamer.py --timesteps 16 --size 12M --seed 3"
    assert kind["commands"] == [f"{called} --validation-interval 16 --run-dir run"]
    assert run("--run-dir", "run", *options) == 2
    assert "already holds a run" in capsys.readouterr().err

    def fail(folder: Path, _: Any) -> None:
        (folder / "episodes-0.txt").touch()
        raise ValueError("no luck")

    monkeypatch.setattr(dreamer, "learn", fail)
    for message in ("no luck", "or part of one"):
        assert run("--run-dir", "other", *options) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--timesteps 0", "--timesteps to be an integer of at least 1, got 0"),
        ("--timesteps 100", "to be steps of all 16 tables, got 100 and 2512"),
        ("--seed -1", "expected the training seed in"),
        ("--validation-tables 0", "expected a number of validation tables in"),
        ("--updates 0", "--updates"),
        ("--learning-rate nan", "--learning-rate"),
        ("--threads -1", "--threads must not be negative"),
        ("--size huge", "--size"),
        ("", "pip install sheeprl"),
    ],
)
def test_bad_settings_are_one_line(
    options: str,
    message: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert run("--run-dir", "run", *options.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (here / "run").exists()
