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


@pytest.mark.parametrize("task", ["circles", "billiards1d"])
def test_samples_that_are_not_finite_leave_gaps(task: str, tmp_path: Path) -> None:
    found = {"ours": samples_of(task)["ours"]}
    figures.save_samples_figure(task, found, tmp_path / "all.png")
    for way in found["ours"]["ways"]:
        way["tick_times"], way["tick_obs"] = [], []
    figures.save_samples_figure(task, found, tmp_path / "no ticks.png")
    for way in found["ours"]["ways"]:
        way["obs"] = [[None] * len(row) for row in way["obs"]]
    figures.save_samples_figure(task, found, tmp_path / "gaps.png")
    whole, no_ticks, gaps = (
        image.imread(tmp_path / f"{name}.png")[60:] for name in ("all", "no ticks", "gaps")
    )
    assert not np.array_equal(whole, no_ticks)
    assert has_color(gaps, TRUTH) and not has_color(gaps, GREEN)


@pytest.mark.parametrize(
    ("task", "shown", "left_out"),
    [
        ("synthetic-weather", "jump-2", "jump-4"),
        ("lines", "jumpy-rnn", "jump-2"),
        ("lines", "jumpy-rnn-tuned", "jumpy-rnn-2021"),
        ("lines", "rnn-tuned", "rnn"),
    ],
)
def test_the_networks_that_are_shown(task: str, shown: str, left_out: str, tmp_path: Path) -> None:
    found = samples_of(task)
    many = {"ours": found["rnn"], shown: found["ours"], left_out: found["ours"]}
    figures.save_samples_figure(task, many, tmp_path / "many.png")
    few = {name: many[name] for name in ("ours", shown)}
    figures.save_samples_figure(task, few, tmp_path / "few.png")
    assert (tmp_path / "many.png").read_bytes() == (tmp_path / "few.png").read_bytes()
    figures.save_samples_figure(task, {"ode-rnn": found["rnn"]}, tmp_path / "alone.png")
    assert has_color(image.imread(tmp_path / "alone.png"), PURPLE), "it is all that there is"


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


def test_the_legend_of_jumps_tells_what_the_dots_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = legend_of(monkeypatch)
    figures.save_jumps_figure("synthetic-weather", ALONE, tmp_path / "jumps.png")
    assert texts == ["pale dots: validation sequences;\nall else: evaluation sequences", "ours"]


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


def test_of_each_network_one_run_is_drawn_and_a_quick_one_is_told(tmp_path: Path) -> None:
    def draw(folder: str, quick: bool = False, **models: dict[str, Any]) -> Path:
        found = {name.replace("_", "-"): runs for name, runs in models.items()}
        report = {"quick": quick, "tasks": {"circles": found}}
        (path,) = figures.save_task_figures(report, {}, {"models": {}}, tmp_path / folder)
        return path

    first, second = ENTRIES["rnn-tuned"], ENTRIES["ours"]
    many = draw("many", rnn_tuned={"10": second, "9": first}, rnn={"0": second})
    one = draw("one", rnn_tuned={"0": first})
    two = draw("two", rnn_tuned={"0": first}, ours={"0": second})
    assert many.read_bytes() == one.read_bytes() != two.read_bytes()
    real, quick = map(image.imread, (one, draw("quick", quick=True, rnn_tuned={"0": first})))
    assert not np.array_equal(real[:30], quick[:30]) and np.array_equal(real[60:], quick[60:])
