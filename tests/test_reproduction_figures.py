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
FORCED, TRUTH, PURPLE = "#a3adb3", "#c3cbd0", "#8a6bb1"
FAILED = {"error": "OSError: disk full"}
RESULTS = Path(__file__).parents[1] / "results" / "tasks"


def samples_of(task: str) -> dict[str, Any]:
    torch.manual_seed(0)
    size = TASKS[task].obs_size
    data = make_task(TaskConfig(task, num_sequences=4, split="evaluation"))
    models = {
        "rnn": RNN(RNNConfig(size, 0, 8, 8, residual=False)),
        "ours": JumpyRNN(JumpyRNNConfig(size, 0, 8, 8, constant_jump=5)),
    }
    return {name: samples.record_samples(model.eval(), data) for name, model in models.items()}


def stored(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


REPORT: dict[str, Any] = stored("table1")
ENTRIES = {name: runs["0"] for name, runs in REPORT["tasks"]["circles"].items()}


def has_color(picture: NDArray[Any], color: str) -> bool:
    wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return bool((np.abs(picture[:, :, :3] - wanted) < 0.02).all(axis=-1).any())


def legend_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the legend that is drawn next, its title first."""
    from matplotlib.axes import Axes

    texts, legend = list[str](), Axes.legend

    def noted(self: Axes, *arguments: Any, **options: Any) -> Any:
        drawn = legend(self, *arguments, **options)
        texts.extend(text.get_text() for text in (drawn.get_title(), *drawn.get_texts()))
        return drawn

    monkeypatch.setattr(Axes, "legend", noted)
    return texts


TASKS_DRAWN = ("lines", "circles", "billiards1d", "billiards2d", "pixel-billiards1d")


@pytest.mark.parametrize("task", [*TASKS_DRAWN, "synthetic-weather"])
def test_samples_of_every_kind_of_task(task: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        figures.save_samples_figure(task, samples_of(task), tmp_path / f"{name}.png")
    found = image.imread(tmp_path / "first.png")
    assert found.shape[0] > 250 and found.shape[1] > 500
    assert has_color(found, RED) and has_color(found, GREEN)
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes(), "the same results give the same bytes"


ALONE = {"ours": ENTRIES["ours"]}
DIVERGED = copy.deepcopy(ALONE)
DIVERGED["ours"]["test"]["sample_mse"] = None
DIVERGED["ours"]["forced_jumps"] = [{"jump": 1, "mean_jump": 1, "sample_mse": None}]
for point in DIVERGED["ours"]["history"]:
    point["mse"] = float(torch.finfo(torch.float32).max)


@pytest.mark.parametrize(
    ("task", "entries", "drawn", "missing"),
    [
        ("circles", ENTRIES, [RED, GREEN, BLUE, FORCED], []),
        ("weather", ALONE, [RED, GREEN], []),
        ("synthetic-weather", ALONE, [GREEN], [RED]),  # The papers have nothing of it.
        ("synthetic-weather", DIVERGED, [], [GREEN]),
    ],
)
def test_jumps_over_training_and_against_error(
    task: str, entries: Any, drawn: list[str], missing: list[str], tmp_path: Path
) -> None:
    figures.save_jumps_figure(task, entries, tmp_path / "jumps.png")
    found = image.imread(tmp_path / "jumps.png")
    assert [color for color in drawn if not has_color(found, color)] == []
    assert [color for color in missing if has_color(found, color)] == []


def test_capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = legend_of(monkeypatch)
    models = stored("capacity")["models"]
    ours = models["ours"]
    models["jumpy-rnn"] = {"8": {**ours["8"], "steps": 100}, "4": ours["4"], "16": FAILED}
    models["jumpy-rnn-2021"] = {"4": FAILED}
    figures.save_capacity_figure(models, tmp_path / "capacity.png")
    found = image.imread(tmp_path / "capacity.png")
    assert has_color(found, BLUE) and has_color(found, GREEN)
    steps = f"{ours['4']['steps']:,} steps"
    assert texts == ["", f"ours, {steps}", f"jumpy-rnn, 100 to {steps}"]


def test_all_that_there_are_results_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {name: dict(REPORT["tasks"][name]) for name in ("circles", "lines")}
    tasks["circles"]["rnn-tuned"] = {"0": FAILED, "1": ENTRIES["rnn-tuned"]}
    tasks["lines"] = {"ours": {"0": FAILED}}
    drawn = {"circles": {**stored("samples")["circles"], "ours": None}}
    results = ({"quick": False, "tasks": tasks}, drawn, stored("capacity"))
    paths = figures.save_task_figures(*results, tmp_path / "all")
    names = ["samples-circles.png", "jumps-circles.png", "capacity.png"]
    assert [path.name for path in paths] == names
    assert sorted(paths) == sorted((tmp_path / "all").iterdir())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib.* pip install 'jumpy-mbrl\[viz\]'"):
        figures.save_task_figures(*results, tmp_path / "none")
    assert not (tmp_path / "none").exists()
