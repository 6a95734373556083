"""The pictures of the papers' tasks, drawn from results alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.lab.reproduce.figures import (
    save_capacity_figure,
    save_jumps_figure,
    save_samples_figure,
    save_task_figures,
)
from jumpy_mbrl.lab.reproduce.samples import record_samples
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig

pytest.importorskip("matplotlib")

DRAWN = ("lines", "circles", "billiards1d", "billiards2d", "pixel-billiards1d", "synthetic-weather")


def samples_of(task: str) -> dict[str, Any]:
    torch.manual_seed(0)
    size = TASKS[task].obs_size
    data = make_task(TaskConfig(task, num_sequences=4, split="evaluation"))
    models = {
        "rnn": RNN(RNNConfig(size, 0, 8, 8, residual=False)),
        "ours": JumpyRNN(JumpyRNNConfig(size, 0, 8, 8, constant_jump=5)),
    }
    return {name: record_samples(model.eval(), data) for name, model in models.items()}


def entry_of(mean_jump: float, mse: float | None, **changes: Any) -> dict[str, Any]:
    history = [
        {"step": 500 * k, "mse": 0.1 / k, "mean_jump": 1.0 + (mean_jump - 1.0) * k / 4}
        for k in range(1, 5)
    ]
    test = {"sample_mse": mse, "sample_se": 1e-3, "mean_jump": mean_jump}
    forced = [{"jump": k, "mean_jump": k, "sample_mse": 0.01 * k} for k in (1, 2, 4)]
    return {
        "error": None,
        "steps": 2000,
        "history": history,
        "test": test,
        "forced_jumps": forced,
        **changes,
    }


def picture(path: Path) -> NDArray[Any]:
    from matplotlib.image import imread

    found: NDArray[Any] = imread(path)
    return found


def has_color(path: Path, color: str, from_row: int = 0) -> bool:
    wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return bool((np.abs(picture(path)[from_row:, :, :3] - wanted) < 0.02).all(axis=-1).any())


RNN_RED, OURS_GREEN, JUMPY_BLUE = "#b5483a", "#2f7d5e", "#3b76af"


@pytest.mark.parametrize("task", DRAWN)
def test_samples_of_every_kind_of_task(task: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    save_samples_figure(task, samples_of(task), path)
    found = picture(path)
    assert found.shape[0] > 250 and found.shape[1] > 500
    assert has_color(path, RNN_RED) and has_color(path, OURS_GREEN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.png"]


@pytest.mark.parametrize("task", ["circles", "billiards1d"])
def test_samples_that_are_not_finite_leave_gaps(task: str, tmp_path: Path) -> None:
    samples = {"ours": samples_of(task)["ours"]}
    for way in samples["ours"]["ways"]:
        for name in ("obs", "tick_obs"):
            way[name] = [[None] * len(row) for row in way[name]]
    save_samples_figure(task, samples, tmp_path / "gaps.png")
    assert has_color(tmp_path / "gaps.png", "#c3cbd0", from_row=60)  # The truth is there.
    assert not has_color(tmp_path / "gaps.png", OURS_GREEN, from_row=60)


def test_ticks_that_there_are_none_of(tmp_path: Path) -> None:
    samples = samples_of("circles")
    save_samples_figure("circles", samples, tmp_path / "some.png")
    for way in samples["ours"]["ways"]:
        way["tick_times"], way["tick_obs"] = [], []
    save_samples_figure("circles", samples, tmp_path / "none.png")
    assert not np.array_equal(picture(tmp_path / "none.png"), picture(tmp_path / "some.png"))


def test_models_that_are_not_shown_by_default_are_shown_if_alone(tmp_path: Path) -> None:
    samples = samples_of("circles")
    save_samples_figure("circles", {"ode-rnn": samples["rnn"]}, tmp_path / "alone.png")
    assert has_color(tmp_path / "alone.png", "#8a6bb1")


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
    samples = samples_of(task)
    many = {"ours": samples["rnn"], shown: samples["ours"], left_out: samples["ours"]}
    save_samples_figure(task, many, tmp_path / "many.png")
    save_samples_figure(task, {k: many[k] for k in ("ours", shown)}, tmp_path / "shown.png")
    assert (tmp_path / "many.png").read_bytes() == (tmp_path / "shown.png").read_bytes()


def test_the_papers_stand_only_beside_the_real_weather(tmp_path: Path) -> None:
    entries = {"ours": entry_of(3.0, 1e-3, forced_jumps=[])}
    save_jumps_figure("weather", entries, tmp_path / "weather.png")
    save_jumps_figure("synthetic-weather", entries, tmp_path / "made up.png")
    assert has_color(tmp_path / "weather.png", RNN_RED)
    assert not has_color(tmp_path / "made up.png", RNN_RED)


def test_jumps_over_training_and_against_error(tmp_path: Path) -> None:
    path = tmp_path / "jumps.png"
    entries = {"rnn-tuned": entry_of(1.0, 1e-3, forced_jumps=[]), "jumpy-rnn": entry_of(12.0, 1e-3)}
    save_jumps_figure("circles", entries, path)
    assert has_color(path, RNN_RED) and has_color(path, JUMPY_BLUE)
    assert has_color(path, "#a3adb3")  # the curve of constant jumps


def test_errors_that_are_not_finite_are_not_drawn(tmp_path: Path) -> None:
    diverged = entry_of(2.0, None, forced_jumps=[{"jump": 1, "mean_jump": 1, "sample_mse": None}])
    for point in diverged["history"]:
        point["mse"] = float(torch.finfo(torch.float32).max)
    save_jumps_figure("synthetic-weather", {"ours": diverged}, tmp_path / "bad.png")
    assert not has_color(tmp_path / "bad.png", OURS_GREEN)


def test_capacity(tmp_path: Path) -> None:
    sizes = {str(2**k): entry_of(1.0 + k, 1e-3 / k) for k in range(2, 9)}
    sizes["512"] = {"error": "OSError: disk full"}
    models = {"jumpy-rnn": sizes, "ours": {"4": entry_of(9.0, 1e-5), "16": entry_of(12.0, 1e-6)}}
    save_capacity_figure(models, tmp_path / "capacity.png")
    assert has_color(tmp_path / "capacity.png", JUMPY_BLUE)
    assert has_color(tmp_path / "capacity.png", OURS_GREEN)


def legends_of(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], None]) -> list[list[str]]:
    """The texts of each legend that is drawn, its title first."""
    from matplotlib.axes import Axes

    texts: list[list[str]] = []
    legend = Axes.legend

    def noted(self: Axes, *arguments: Any, **options: Any) -> Any:
        drawn = legend(self, *arguments, **options)
        found = [drawn.get_title(), *drawn.get_texts()]
        texts.append([text.get_text() for text in found])
        return drawn

    monkeypatch.setattr(Axes, "legend", noted)
    draw()
    return texts


def test_the_legend_of_capacity_tells_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {
        "jumpy-rnn": {str(2**k): entry_of(2.0, 1e-2, steps=1000) for k in (2, 3, 4)},
        "jumpy-rnn-2021": {"4": {"error": "OSError: disk full"}},
        "ours": {str(2**k): entry_of(9.0, 1e-5, steps=10**k) for k in (2, 3, 4)},
    }
    path = tmp_path / "capacity.png"
    found = legends_of(monkeypatch, lambda: save_capacity_figure(models, path))
    assert found == [["", "jumpy-rnn, 1,000 steps", "ours, 100 to 10,000 steps"]]


def test_the_legend_of_jumps_tells_what_the_dots_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"ours": entry_of(3.0, 1e-3, forced_jumps=[])}
    path = tmp_path / "jumps.png"
    found = legends_of(monkeypatch, lambda: save_jumps_figure("synthetic-weather", entries, path))
    title = "pale dots: validation sequences;\nall else: evaluation sequences"
    assert found == [[title, "ours"]]


def report_of(quick: bool = False) -> dict[str, Any]:
    failed = {"error": "OSError: disk full"}
    return {
        "quick": quick,
        "tasks": {
            "circles": {"rnn": {"0": failed, "1": entry_of(1.0, 1e-3)}, "ours": {"0": failed}},
            "lines": {"ours": {"0": failed}},
        },
    }


def test_of_each_network_one_run_is_drawn(tmp_path: Path) -> None:
    def draw(folder: str, **models: dict[str, Any]) -> bytes:
        report = {"quick": False, "tasks": {"circles": models}}
        save_task_figures(report, {}, None, tmp_path / folder)
        return (tmp_path / folder / "jumps-circles.png").read_bytes()

    first, second = entry_of(3.0, 1e-3), entry_of(9.0, 1e-5)
    many = draw("many", **{"rnn-tuned": {"10": second, "9": first}, "rnn": {"0": second}})
    assert many == draw("one", **{"rnn-tuned": {"0": first}})
    assert many != draw("two", **{"rnn-tuned": {"0": first}, "ours": {"0": second}})


def test_all_that_there_are_results_for(tmp_path: Path) -> None:
    samples = {"circles": {"rnn": samples_of("circles")["rnn"], "ours": None}}
    capacity = {"quick": False, "models": {"ours": {"4": entry_of(2.0, 1e-2)}}}
    paths = save_task_figures(report_of(), samples, capacity, tmp_path)
    assert [path.name for path in paths] == [
        "samples-circles.png",
        "jumps-circles.png",
        "capacity.png",
    ]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert [
        path.name for path in save_task_figures(report_of(), {}, None, tmp_path / "no samples")
    ] == ["jumps-circles.png"]


def test_pictures_of_a_quick_run_say_so(tmp_path: Path) -> None:
    save_task_figures(report_of(), {}, None, tmp_path / "real")
    save_task_figures(report_of(quick=True), {}, None, tmp_path / "quick")
    real, quick = (picture(tmp_path / name / "jumps-circles.png") for name in ("real", "quick"))
    heading = slice(0, 30)
    assert not np.array_equal(real[heading], quick[heading])
    assert np.array_equal(real[60:], quick[60:])


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    samples = samples_of("circles")
    for name in ("first", "second"):
        save_samples_figure("circles", samples, tmp_path / f"{name}.png")
    first, second = (tmp_path / f"{name}.png" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[viz\]'"):
        save_task_figures(report_of(), {}, None, tmp_path)
    with pytest.raises(ImportError, match="matplotlib, which is not installed"):
        save_capacity_figure({"ours": {"4": entry_of(2.0, 1e-2)}}, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
