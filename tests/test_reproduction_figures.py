"""The pictures of the papers' tasks, drawn from results alone."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.lab.reproduce import figures, samples
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig

image = pytest.importorskip("matplotlib.image")

RED, GREEN, BLUE = "#b5483a", "#2f7d5e", "#3b76af"  # of an RNN, ours, and a jumpy RNN
FAILED = {"error": "OSError: disk full"}


def stored(name: str) -> Any:
    path = Path(__file__).parents[1] / "results" / "tasks" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


REPORT: dict[str, Any] = stored("table1")
ENTRIES = {name: runs["0"] for name, runs in REPORT["tasks"]["circles"].items()}
DIVERGED = copy.deepcopy({"ours": ENTRIES["ours"]})
DIVERGED["ours"]["test"]["sample_mse"] = None
DIVERGED["ours"]["forced_jumps"] = [{"jump": 1, "mean_jump": 1, "sample_mse": None}]
for point in DIVERGED["ours"]["history"]:
    point["mse"] = float(torch.finfo(torch.float32).max)


def colors(path: Path) -> set[str]:
    """Which of the three there are, below the legend."""
    picture: NDArray[Any] = image.imread(path)[60:, :, :3]

    def has(color: str) -> bool:
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        return bool((np.abs(picture - wanted) < 0.02).all(axis=-1).any())

    return {color for color in (RED, GREEN, BLUE) if has(color)}


@pytest.mark.parametrize(
    "task", ["circles", "billiards1d", "pixel-billiards1d", "synthetic-weather"]
)
def test_samples_of_every_kind_of_task(task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size, data = TASKS[task].obs_size, make_task(TaskConfig(task, 4, split="evaluation"))
    models = {
        "rnn": RNN(RNNConfig(size, 0, 8, 8, residual=False)),
        "ours": JumpyRNN(JumpyRNNConfig(size, 0, 8, 8, constant_jump=5)),
    }
    found = {name: samples.record_samples(model.eval(), data) for name, model in models.items()}
    for name in ("first", "second"):
        figures.save_samples_figure(task, found, tmp_path / f"{name}.png")
    first, second = sorted(tmp_path.iterdir())
    assert colors(first) == {RED, GREEN}
    assert first.read_bytes() == second.read_bytes(), "the same results give the same bytes"
    if task != "pixel-billiards1d":  # What is not finite leaves a gap.
        for way in found["ours"]["ways"]:
            way |= {"tick_times": [], "tick_obs": [], "obs": [[None] * len(r) for r in way["obs"]]}
        figures.save_samples_figure(task, {"ours": found["ours"]}, second)
        assert GREEN not in colors(second)


@pytest.mark.parametrize(
    ("task", "entries", "drawn"),
    [("circles", ENTRIES, {RED, GREEN, BLUE}), ("synthetic-weather", DIVERGED, set())],
)
def test_jumps_over_training(task: str, entries: Any, drawn: set[str], tmp_path: Path) -> None:
    figures.save_jumps_figure(task, entries, tmp_path / "jumps.png")
    assert colors(tmp_path / "jumps.png") == drawn


def test_of_each_network_the_best_settings_are_drawn() -> None:
    found = dict.fromkeys(("ours", "rnn", "rnn-tuned", "jump-2", "jumpy-rnn-2021", "jumpy-rnn"))
    best = figures._by_best_settings(found, figures.SHOWN)
    assert best == ["rnn-tuned", "jumpy-rnn-2021", "ours"]


def test_all_that_there_are_results_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {name: dict(REPORT["tasks"][name]) for name in ("circles", "lines")}
    tasks["circles"]["rnn-tuned"] = {"0": FAILED, "1": ENTRIES["rnn-tuned"]}
    tasks["lines"] = {"ours": {"0": FAILED}}
    capacity = stored("capacity")
    ours = capacity["models"]["ours"]
    capacity["models"]["jumpy-rnn"] = {"4": ours["4"], "8": ours["8"], "16": FAILED}
    drawn = {"circles": {**stored("samples")["circles"], "ours": None}}
    results = ({"quick": False, "tasks": tasks}, drawn, capacity)
    paths = figures.save_task_figures(*results, tmp_path / "all")
    names = ["samples-circles.png", "jumps-circles.png", "capacity.png"]
    assert [path.name for path in paths] == names
    assert sorted(paths) == sorted((tmp_path / "all").iterdir())
    assert colors(paths[-1]) == {GREEN, BLUE}
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib.* pip install 'jumpy-mbrl\[viz\]'"):
        figures.save_task_figures(*results, tmp_path / "none")
    assert not (tmp_path / "none").exists()
