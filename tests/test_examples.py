"""The examples run, in a small form, and show what they claim."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl import from_pretrained

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Runs an example as a user does; returns what it defined."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r"\w+\.py", Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def code_cells(name: str) -> list[dict[str, Any]]:
    book = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("quickstart", {"tables": 10}),
        ("your_own_environment", {"recorded": 4, "updates": 3, "played": 2, "frames": 45}),
    ],
)
def test_notebooks_run(
    name: str,
    small: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: dict[str, Any] = {}
    for number, cell in enumerate(code_cells(name), start=1):
        exec(compile("".join(cell["source"]), f"{name}, code cell {number}", "exec"), made)
        printed = capsys.readouterr().out
        kept = [output for output in cell["outputs"] if output["output_type"] == "stream"]
        assert bool(printed) == bool(kept), f"cell {number}"
        if "parameters" in cell["metadata"].get("tags", []):
            assert small.keys() <= made.keys()
            made.update(small)


def test_notebooks_keep_small_outputs() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.ipynb")}
    assert sum(len((EXAMPLES / f"{name}.ipynb").read_bytes()) for name in names) < 200_000
    text = {}
    for name in names:
        cells = code_cells(name)
        assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
        text[name] = "".join("".join(output.get("text", "")) for output in outputs)
    won = re.search(r"won (\d+) of 50", text["quickstart"])
    planned = re.search(r"mean return by plans: (-\d+)", text["your_own_environment"])
    assert won is not None and int(won[1]) > 45
    assert planned is not None and int(planned[1]) > -400


def test_the_model_foretells_the_real_shot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run("world_model_in_ten_lines.py", monkeypatch)
    real = made["info"]["positions"][1].tolist()
    assert made["future"].obs[0, -1, 2:].tolist() == pytest.approx(real, abs=0.1)
    assert "the model ticked" in capsys.readouterr().out


def test_random_shooting_wins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tables", "20", "--candidates", "32", "--rounds", "2"]
    run("plan_with_your_own_search.py", monkeypatch, *arguments)
    won = re.search(r"won ([\d.]+)% of 20 tables", capsys.readouterr().out)
    assert won is not None and float(won[1]) > 60.0


def test_a_pendulum_is_recorded_learned_and_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = ["--recorded", "4", "--steps", "3", "--candidates", "8", "--episodes", "2"]
    arguments = [*small, "--hold", "20", "--folder", str(tmp_path)]
    run("your_own_environment.py", monkeypatch, *arguments)
    first = capsys.readouterr().out
    assert "ticks to imagine 40 frames" in first and "mean return of 2 episodes" in first
    run("your_own_environment.py", monkeypatch, *arguments)
    assert capsys.readouterr().out == first, "the model that was trained before"


@pytest.mark.slow
def test_plans_swing_the_pendulum_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A mean return of at least -400 was asked for in advance; random torques reach -1200."""
    run("your_own_environment.py", monkeypatch, "--folder", str(tmp_path))
    printed = capsys.readouterr().out
    returns = re.search(r"(-\d+) by random torques, (-\d+) by plans", printed)
    ticks = re.search(r"40 frames: ([\d.]+)", printed)
    assert returns is not None and ticks is not None
    assert int(returns[1]) < -900
    assert int(returns[2]) >= -400
    assert float(ticks[1]) < 20.0, "not even a tick for every other frame"


def test_ppo_trains_on_imagined_shots(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ppo_inside_the_model.py", monkeypatch, "--timesteps", "2048", "--tables", "100")
    printed = capsys.readouterr().out
    assert "before training" in printed and "after 2048 imagined shots" in printed


@pytest.mark.filterwarnings("default")  # of onnxscript
@pytest.mark.parametrize("name", ["fold-billiards2d", "jumpy-rnn-billiards2d"])
@torch.no_grad()
def test_a_host_without_torch_imagines_as_the_model(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    host = run("onnx_host.py", monkeypatch, name, str(tmp_path))["Host"](tmp_path)
    assert "the object ball after 2.5, 10 and 41 frames" in capsys.readouterr().out
    start = torch.tensor([0.2, 0.5, 0.8, 0.55]) + torch.linspace(-0.05, 0.05, 5).view(5, 1, 1)
    frames = start + torch.arange(4.0).view(4, 1) * torch.tensor([0.02, 0.0, -0.02, 0.0])
    shots = torch.linspace(-1.0, 1.0, 10).view(5, 2)
    seen = host.run("observe", {"frames": frames.numpy()})
    if name == "fold-billiards2d":
        assert float(seen.pop("error").max()) < 1e-6
    model = from_pretrained(name)
    state = model.observe(frames)
    assert seen.keys() == vars(state).keys()
    times = [0.5, 3.0, 17.25, 41.0]
    wanted = model.imagine(state, times, shots)
    assert int(wanted.ticks.max()) > 2
    found = host.imagine(seen, shots.numpy(), times)
    np.testing.assert_allclose(found, wanted.obs.numpy(), atol=1e-3)
