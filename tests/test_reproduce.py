"""The command line that measures the papers' table again, from its arguments to its files."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl import training
from jumpy_mbrl.commands import main
from jumpy_mbrl.data.tasks import TASKS, TaskConfig
from jumpy_mbrl.data.weather import make_weather
from jumpy_mbrl.lab.reproduce import command
from jumpy_mbrl.models import from_pretrained
from jumpy_mbrl.training import loop, task_preset

ADDRESS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
ONE = ("--tasks", "circles", "--models", "rnn")
Run = Callable[..., int]


def tiny_preset(task: str, model: str, csv: str | None = None) -> training.TrainingConfig:
    """The preset with a tiny model and budget."""
    config = task_preset(task, model, csv)
    sizes = {"hidden_size", "mlp_size"} & {field.name for field in fields(config.model)}
    small: Any = dict.fromkeys(sizes, 8)
    data: Any = {
        "train_data": TaskConfig(task, num_sequences=40, csv=csv),
        "validation_data": TaskConfig(task, num_sequences=8, split="validation", csv=csv),
    }
    budget: Any = {"steps": 4, "batch_size": 8, "validation_interval": 2, "checkpoint_interval": 2}
    model_config = replace(config.model, **small)
    return replace(config, model=model_config, device="cpu", **data, **budget)


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command with tiny presets and few sequences, in a folder."""
    monkeypatch.setattr(command, "task_preset", tiny_preset)
    monkeypatch.setattr(command, "SEQUENCES", 10)
    monkeypatch.setattr(command, "QUICK_SEQUENCES", 5)
    monkeypatch.setattr(command, "CAPACITIES", (4, 8))

    def run(*options: str, folder: str = "") -> int:
        places = {"--out": "out", "--runs-dir": "runs"}.items()
        words = [word for name, part in places for word in (name, str(tmp_path / folder / part))]
        return main.run("reproduce", [*words, *options])

    return run


@pytest.fixture
def run(draw: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without matplotlib, as drawing takes longer than all the rest."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    return draw


def report_of(folder: Path, name: str = "table1.json") -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "out" / name).read_text())
    return report


def command_of(folder: Path) -> str:
    info = json.loads((folder / "best" / "config.json").read_text())
    return str(info["training"]["command"]).removeprefix("python scripts/reproduce.py ")


def test_the_whole_path(draw: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks, models = ["circles", "lines"], ["jump-2", "jumpy-rnn", "ours"]
    assert draw("--tasks", *tasks, "--models", *models) == 0
    printed = capsys.readouterr().out
    assert "[6/6]" in printed and "# The papers' table 1, measured again" in printed
    report, out = report_of(tmp_path), tmp_path / "out"
    assert report["quick"] is False and report["note"] is None
    assert report["papers"]["circles"]["rnn"]["sample_mse"] == 3.98e-4
    for task in tasks:
        assert report["tasks"][task].keys() == set(models)
        for entries in report["tasks"][task].values():
            assert list(entries) == ["0"]
            assert entries["0"]["error"] is None and entries["0"]["steps"] == 4
            assert entries["0"]["test"]["n"] == 10
    assert report["tasks"]["circles"]["jump-2"]["0"]["test"]["mean_jump"] == 2.0
    assert len(report["tasks"]["circles"]["jumpy-rnn"]["0"]["forced_jumps"]) == 6
    names = {f"{kind}-{task}.png" for kind in ("samples", "jumps") for task in tasks}
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    assert made.keys() == {"table1.json", "table1.md", "samples.json"} | names
    assert "| circles | jumpy-rnn |" in (out / "table1.md").read_text()
    assert command_of(tmp_path / "runs/circles/ours/0") == "--tasks circles --models ours"
    # All can be drawn again from the results alone.
    for name in {*names, "table1.md"}:
        (out / name).unlink()
    (tmp_path / "runs").rename(tmp_path / "runs elsewhere")
    assert draw("--figures-only") == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == made
    assert not (tmp_path / "runs").exists()
    assert "samples-circles.png" in capsys.readouterr().out


def test_results_are_added_to(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ONE) == 0
    printed = capsys.readouterr().out
    assert "the figures were not drawn" in printed and "jumpy-mbrl[viz]" in printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["samples.json", "table1.json", "table1.md"]
    first = report_of(tmp_path)["tasks"]["circles"]["rnn"]["0"]
    assert run(*ONE, "--seeds", "5", "2", "5") == 0
    options = ("--seeds", "3", "--steps", "3", "--precision", "bfloat16")
    assert run("--tasks", "lines", "--models", "rnn", *options) == 0
    tasks = report_of(tmp_path)["tasks"]
    entries = tasks["circles"]["rnn"]
    assert set(entries) == {"0", "2", "5"} and entries["0"] == first
    assert {seed: entry["steps"] for seed, entry in tasks["lines"]["rnn"].items()} == {"3": 3}
    assert set(report_of(tmp_path, "samples.json")) == {"circles", "lines"}
    assert {path.name for path in (tmp_path / "runs/circles/rnn").iterdir()} == {"0", "2", "5"}
    errors = [entry["test"]["sample_mse"] for entry in entries.values()]
    assert len(set(errors)) == 3
    page = (tmp_path / "out/table1.md").read_text()
    assert f"{sum(errors) / 3:.2e} ({min(errors):.2e} to {max(errors):.2e})" in page
    assert "| 24 in bfloat16 |" in page
    assert command_of(tmp_path / "runs/circles/rnn/5").endswith("--models rnn --seeds 5")
    assert command_of(tmp_path / "runs/lines/rnn/3").endswith("--models rnn " + " ".join(options))


def test_a_failed_run_is_reported_and_the_others_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = loop._Run._check_finite

    def diverge(self: Any, loss: float, norm: float) -> None:
        if type(self.model).__name__ == "RNN":
            raise training.TrainingDivergedError("the loss is NaN")
        check(self, loss, norm)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "_check_finite", diverge)
        assert run(*ONE, "jumpy-rnn") == 1
    printed = capsys.readouterr()
    failed = "TrainingDivergedError: the loss is NaN"
    assert f"circles/rnn/0: failed: {failed}" in printed.out
    told = "reproduce: 1 of 2 runs failed: circles/rnn/0; what they gave before is kept\n"
    assert printed.err == told
    entries = report_of(tmp_path)["tasks"]["circles"]
    assert entries["rnn"]["0"]["error"] == failed and entries["jumpy-rnn"]["0"]["error"] is None
    assert (
        f"| circles | rnn | failed: seed 0: {failed} |" in (tmp_path / "out/table1.md").read_text()
    )
    assert run(*ONE, "jumpy-rnn") == 0
    assert report_of(tmp_path)["tasks"]["circles"]["rnn"]["0"]["error"] is None


def test_capacity(draw: Run, tmp_path: Path) -> None:
    assert draw("--capacity", "--models", "ours") == 0
    (sizes,) = report_of(tmp_path, "capacity.json")["models"].values()
    assert sizes["4"]["config"]["model"]["config"]["hidden_size"] == 4
    assert sizes["4"]["weights"] < sizes["8"]["weights"]
    folder = tmp_path / "runs/capacity/ours"
    assert {path.name for path in folder.iterdir()} == {"4", "8"} == sizes.keys()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"capacity.json", "capacity.png"}
    assert command_of(folder / "4") == "--capacity --models ours"


@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
@pytest.mark.parametrize(
    "how", [("--workers", "2"), pytest.param(("--ray", "local"), marks=pytest.mark.slow)]
)
def test_side_by_side_the_results_are_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    if "--ray" in how:
        pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = []
    for folder, options in (("one", ()), ("two", how)):
        assert run(*ONE, "ours", *options, folder=folder) == 0
        found.append(report_of(tmp_path / folder)["tasks"]["circles"])
        for entries in found[-1].values():
            entries["0"].pop("training_seconds")
    assert found[0] == found[1]
    assert from_pretrained(tmp_path / "two/runs/circles/ours/0/best").obs_size == 2


# -- what is run -----------------------------------------------------------------------------


def test_what_is_run_by_default() -> None:
    papers = [task for task in TASKS if "weather" not in task]
    usual, quick = command.Args(), command.Args(quick=True)
    assert usual.task_names() == quick.task_names() == [*papers, "synthetic-weather"]
    assert command.Args(csv="jena.csv").task_names() == [*papers, "weather"]
    networks = ["rnn", "ode-rnn", "jump-1", "jump-2", "jump-4", "jump-8", "jumpy-rnn"]
    assert usual.model_names() == [*(f"{name}-tuned" for name in networks), "ours"]
    assert quick.model_names() == ["rnn-tuned", "jumpy-rnn-tuned", "ours"]
    capacity = command.Args(capacity=True)
    assert capacity.model_names() == ["jumpy-rnn-tuned", "ours"]
    assert command.Args(models=("rnn", "rnn")).model_names() == ["rnn"]
    assert (usual.out_dir(), usual.folder_of_runs()) == (Path("results/tasks"), Path("runs/tasks"))
    assert quick.out_dir() != usual.out_dir() and quick.folder_of_runs() != usual.folder_of_runs()
    args = command.Args(csv="/far/jena.csv", models=("rnn", "ours"), seeds=(5, 0))
    jobs = {job.folder: job for job in command.make_jobs(args)}
    assert [job.config.seed for job in jobs.values()] == [5] * 14 + [0] * 14
    assert {job.task.seed for job in jobs.values()} == {0}
    job = jobs["weather/rnn/5"]
    assert job.task.csv == "/far/jena.csv" and job.command is not None
    assert job.command.endswith("--models rnn --csv jena.csv --seeds 5")
    for precision, expected in ((None, "bfloat16"), ("float32", "float32")):
        options: Any = {"precision": precision, "tasks": ("circles",), "models": ("rnn-tuned",)}
        (job,) = command.make_jobs(command.Args(**options))
        assert job.config.precision == expected


def test_a_quick_run_says_that_its_figures_mean_nothing(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*ONE, "--quick") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "figures mean nothing" in first and "about five minutes on two cores" in first
    assert "mean nothing" in (tmp_path / "out/table1.md").read_text()
    report = report_of(tmp_path)
    assert report["quick"] is True and "mean nothing" in report["note"]
    entry = report["tasks"]["circles"]["rnn"]["0"]
    assert entry["steps"] == 20 and entry["training_frames"] == 200 * 25
    assert entry["test"]["n"] == 5
    assert run(*ONE) == 2, "real results never mix with quick ones"
    assert "it holds results of a quick run; choose another --out" in capsys.readouterr().err


# -- what is refused ---------------------------------------------------------------------------

OTHER = "for the task weather, which is not asked for"
REFUSED = {
    "--tasks circle": "unknown task 'circle', expected one of .* did you mean 'circles'?",
    "--models jumpy-rn": "did you mean 'jumpy-rnn'?",
    "--tasks weather": f"the task 'weather' needs csv.*{ADDRESS}",
    "--csv nowhere.csv": "a .csv or .zip file, but there is no nowhere.csv; the real file",
    f"--csv {__file__}": f"expected the columns.*{ADDRESS}",
    f"--csv {__file__} --tasks lines": OTHER,
    "--workers 0": "--workers must be at least 1, got 0",
    "--workers 100000": "--workers must be at most",
    "--seeds 1 -1": r"--seeds must be one or more, in \[0, 2\*\*63\), got 1 -1",
    "--seeds": r"--seeds must be one or more, in \[0, 2\*\*63\), got none",
    "--capacity --seeds 0 1": "--capacity takes a single seed, got 0 1;",
    "--capacity --tasks circles": "for circles alone; leave --tasks out",
    "--capacity --models rnn": "unknown model 'rnn', expected one of",
    "--tasks pixel-billiards1d --models ours --precision bfloat16": "expected precision 'float32'",
    "--steps 0": "--steps must be at least 1",
    "--steps 5 --quick": "not be given with --quick",
    "--ray-gpus -1": r"expected --ray-gpus to be a number in \[0, inf\), got -1.0",
    "--figures-only": "expected .*table1.json, but there is none; run without --figures-only",
}


@pytest.mark.parametrize("options", REFUSED)
def test_bad_input_is_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str
) -> None:
    assert run(*options.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert re.match("reproduce: .*" + REFUSED[options], printed.err), printed.err
    assert list(tmp_path.iterdir()) == []


def test_weather_from_its_file(run: Run, tmp_path: Path) -> None:
    csv = tmp_path / "jena.csv"
    weather, text = make_weather(20.0, np.random.default_rng(0)), ""
    for moment, (temperature, pressure, density) in zip(weather.time, weather.values, strict=True):
        when = datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%d.%m.%Y %H:%M:%S")
        text += f"{when},{pressure:.2f},{temperature:.2f},{density:.2f}\n"
    csv.write_text('"Date Time","p (mbar)","T (degC)","rho (g/m**3)"\n' + text)
    assert run("--tasks", "weather", "--models", "rnn", "--csv", str(csv)) == 0
    entry = report_of(tmp_path)["tasks"]["weather"]["rnn"]["0"]
    assert entry["error"] is None and entry["config"]["train_data"]["csv"] == "jena.csv"
    assert "| weather | *papers' rnn* |" in (tmp_path / "out/table1.md").read_text()
