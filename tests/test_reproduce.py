"""The command line that measures the papers' table again, from its arguments to its files."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.data.tasks import TASKS, TaskConfig, make_task
from jumpy_mbrl.data.weather import make_weather
from jumpy_mbrl.lab.reproduce import runs
from jumpy_mbrl.models import from_pretrained
from jumpy_mbrl.training import TrainingConfig, TrainingDivergedError, task_preset, validate
from jumpy_mbrl.training import loop as training_loop
from jumpy_mbrl.training.presets import TASK_MODELS, network_of

SCRIPT = Path(__file__).parents[1] / "scripts" / "reproduce.py"
ADDRESS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SMALL = {"hidden_size": 8, "mlp_size": 8}


def tiny_preset(task: str, model: str, csv: str | None = None) -> TrainingConfig:
    """The preset with a tiny model and budget."""
    config = task_preset(task, model, csv)
    known = {field.name for field in fields(config.model)}
    sizes: Any = {name: value for name, value in SMALL.items() if name in known}
    data: Any = {
        "train_data": TaskConfig(task, num_sequences=40, csv=csv),
        "validation_data": TaskConfig(task, num_sequences=8, split="validation", csv=csv),
    }
    return replace(
        config,
        model=replace(config.model, **sizes),
        **data,
        steps=4,
        batch_size=8,
        validation_interval=2,
        checkpoint_interval=2,
        device="cpu",
    )


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with tiny presets and few sequences."""
    module = load_script("reproduce")
    monkeypatch.setattr(module, "task_preset", tiny_preset)
    monkeypatch.setattr(module, "SEQUENCES", 10)
    monkeypatch.setattr(module, "QUICK_SEQUENCES", 5)
    return module


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were missing: drawing takes longer than all the rest."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def run(script: ModuleType, folder: Path, *options: str) -> int:
    places = ["--out", str(folder / "out"), "--runs-dir", str(folder / "runs")]
    code: int = script.main([*places, *options])
    return code


def report_of(folder: Path, name: str = "table1.json") -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "out" / name).read_text())
    return report


def without_times(tasks: dict[str, Any]) -> dict[str, Any]:
    return {
        task: {
            name: {seed: {**entry, "training_seconds": None} for seed, entry in entries.items()}
            for name, entries in models.items()
        }
        for task, models in tasks.items()
    }


ONE = ("--tasks", "circles", "--models", "rnn")


# -- the whole path --------------------------------------------------------------------------


def test_the_whole_path(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, models = ["circles", "billiards2d"], ["jump-2", "jumpy-rnn", "ours"]
    assert run(script, tmp_path, "--tasks", *tasks, "--models", *models) == 0
    printed = capsys.readouterr().out
    assert "[6/6]" in printed and "# The papers' table 1, measured again" in printed

    report = report_of(tmp_path)
    assert report["quick"] is False and report["note"] is None
    assert set(report["tasks"]) == set(tasks)
    assert report["papers"]["circles"]["rnn"]["sample_mse"] == 3.98e-4
    for task in tasks:
        assert set(report["tasks"][task]) == set(models)
        data = make_task(TaskConfig(task, num_sequences=10, split="evaluation"))
        for name, entries in report["tasks"][task].items():
            assert list(entries) == ["0"]
            entry = entries["0"]
            assert entry["error"] is None and entry["steps"] == 4
            expected = validate(from_pretrained(tmp_path / "runs" / task / name / "0/best"), data)
            assert entry["test"]["sample_mse"] == pytest.approx(expected["mse"], rel=1e-4)
            assert entry["test"]["mean_jump"] == expected["mean_jump"]
    assert report["tasks"]["circles"]["jump-2"]["0"]["test"]["mean_jump"] == 2.0
    assert len(report["tasks"]["circles"]["jumpy-rnn"]["0"]["forced_jumps"]) == 6

    names = {f"{kind}-{task}.png" for kind in ("samples", "jumps") for task in tasks}
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"table1.json", "table1.md", "samples.json"} | names
    assert "| circles | jumpy-rnn |" in (tmp_path / "out/table1.md").read_text()
    assert not (tmp_path / "runs" / "capacity").exists()
    info = json.loads((tmp_path / "runs/circles/ours/0/best/config.json").read_text())
    command = "python scripts/reproduce.py --tasks circles --models ours"
    assert info["training"]["command"] == command


def test_figures_from_results_alone(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, tmp_path, *ONE) == 0
    out = tmp_path / "out"
    made = {
        path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".png", ".md")
    }
    for name in made:
        (out / name).unlink()
    (tmp_path / "runs").rename(tmp_path / "runs elsewhere")
    assert run(script, tmp_path, "--figures-only") == 0
    assert {name: (out / name).read_bytes() for name in made} == made
    assert not (tmp_path / "runs").exists()
    assert "samples-circles.png" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_a_run_stops_half_way_and_goes_on(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(script, tmp_path / "whole", *ONE) == 0
    update = training_loop._Run._update

    def interrupted(self: Any) -> Any:
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop._Run, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(script, tmp_path / "halves", *ONE)
    assert not (tmp_path / "halves/out/table1.json").exists()
    assert run(script, tmp_path / "halves", *ONE) == 0
    whole, halves = (report_of(tmp_path / name)["tasks"] for name in ("whole", "halves"))
    assert without_times(whole) == without_times(halves)

    # All is done now: nothing is trained, and the results are the same.
    with monkeypatch.context() as patched:
        patched.setattr(runs, "train", None)
        assert run(script, tmp_path / "halves", *ONE) == 0
    assert report_of(tmp_path / "halves")["tasks"] == halves


def test_a_failed_run_is_reported_and_the_others_go_on(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = training_loop._Run._check_finite

    def diverge(self: Any, loss: float, norm: float) -> None:
        if type(self.model).__name__ == "RNN":
            raise TrainingDivergedError("the loss is NaN")
        check(self, loss, norm)

    options = ("--tasks", "circles", "--models", "rnn", "jumpy-rnn")
    with monkeypatch.context() as patched:
        patched.setattr(training_loop._Run, "_check_finite", diverge)
        assert run(script, tmp_path, *options) == 1
    printed = capsys.readouterr()
    assert "circles/rnn/0: failed: TrainingDivergedError: the loss is NaN" in printed.out
    assert printed.err == (
        "reproduce: 1 of 2 runs failed: circles/rnn/0; what they gave before is kept\n"
    )
    entries = report_of(tmp_path)["tasks"]["circles"]
    assert entries["rnn"]["0"]["error"] == "TrainingDivergedError: the loss is NaN"
    assert entries["jumpy-rnn"]["0"]["error"] is None
    page = (tmp_path / "out/table1.md").read_text()
    assert "| circles | rnn | failed: seed 0: TrainingDivergedError: the loss is NaN |" in page
    assert (tmp_path / "out/jumps-circles.png").is_file()

    assert run(script, tmp_path, *options) == 0
    assert report_of(tmp_path)["tasks"]["circles"]["rnn"]["0"]["error"] is None


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("options", [ONE, ("--capacity", "--models", "jumpy-rnn-tuned")])
def test_a_failed_run_leaves_what_there_was(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setattr(script, "CAPACITIES", (4,))
    assert run(script, tmp_path, *options) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    # The run's folder holds one of other settings now.
    assert run(script, tmp_path, *options, "--steps", "3") == 1
    printed = capsys.readouterr()
    assert "failed: ValueError: the run in" in printed.out and "other settings" in printed.out
    assert printed.err.startswith("reproduce: 1 of 1 runs failed: ")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.usefixtures("no_pictures")
def test_other_results_are_kept(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, *ONE) == 0
    options = ("--seeds", "3", "--steps", "3")
    assert run(script, tmp_path, "--tasks", "lines", "--models", "rnn", *options) == 0
    tasks = report_of(tmp_path)["tasks"]
    assert {task: list(entries) for task, entries in tasks.items()} == {
        "circles": ["rnn"],
        "lines": ["rnn"],
    }
    assert {seed: run["steps"] for seed, run in tasks["circles"]["rnn"].items()} == {"0": 4}
    assert {seed: run["steps"] for seed, run in tasks["lines"]["rnn"].items()} == {"3": 3}
    assert set(report_of(tmp_path, "samples.json")) == {"circles", "lines"}


@pytest.mark.usefixtures("no_pictures")
def test_several_seeds(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, *ONE) == 0
    first = report_of(tmp_path)["tasks"]["circles"]["rnn"]["0"]
    assert run(script, tmp_path, *ONE, "--seeds", "5", "2", "5") == 0
    entries = report_of(tmp_path)["tasks"]["circles"]["rnn"]
    assert set(entries) == {"0", "2", "5"} and entries["0"] == first
    assert {path.name for path in (tmp_path / "runs/circles/rnn").iterdir()} == {"0", "2", "5"}
    errors = [entry["test"]["sample_mse"] for entry in entries.values()]
    assert len(set(errors)) == 3
    told = f"{sum(errors) / 3:.2e} ({min(errors):.2e} to {max(errors):.2e})"
    assert told in (tmp_path / "out/table1.md").read_text()
    info = json.loads((tmp_path / "runs/circles/rnn/5/best/config.json").read_text())
    assert info["training"]["command"].endswith("--models rnn --seeds 5")


@pytest.mark.usefixtures("no_pictures")
def test_made_up_weather_is_named_as_such(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, "--tasks", "synthetic-weather", "--models", "rnn") == 0
    page = (tmp_path / "out/table1.md").read_text()
    assert "| synthetic-weather | rnn |" in page and "| weather |" not in page
    assert "`synthetic-weather` is made up, not measured" in page and "*papers' rnn*" not in page


def test_capacity(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "CAPACITIES", (4, 8))
    assert run(script, tmp_path, "--capacity") == 0
    models = report_of(tmp_path, "capacity.json")["models"]
    assert {name: set(sizes) for name, sizes in models.items()} == {
        "jumpy-rnn-tuned": {"4", "8"},
        "ours": {"4", "8"},
    }
    for name, sizes in models.items():
        assert sizes["4"]["config"]["model"]["config"]["hidden_size"] == 4
        assert sizes["4"]["weights"] < sizes["8"]["weights"]
        found = (tmp_path / "runs/capacity" / name).iterdir()
        assert {path.name for path in found} == {"4", "8"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"capacity.json", "capacity.png"}
    info = json.loads((tmp_path / "runs/capacity/ours/4/best/config.json").read_text())
    command = "python scripts/reproduce.py --capacity --models ours"
    assert info["training"]["command"] == command


@pytest.mark.usefixtures("no_pictures")
def test_a_lower_precision_is_told(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, *ONE, "--precision", "bfloat16") == 0
    assert "| 32 in bfloat16 |" in (tmp_path / "out/table1.md").read_text()
    info = json.loads((tmp_path / "runs/circles/rnn/0/best/config.json").read_text())
    assert info["training"]["command"].endswith(" --models rnn --precision bfloat16")


def test_without_matplotlib_the_rest_works(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(script, tmp_path, *ONE) == 0
    printed = capsys.readouterr().out
    assert "the figures were not drawn" in printed and "jumpy-mbrl[viz]" in printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["samples.json", "table1.json", "table1.md"]


# -- side by side ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pictures")
def test_processes_give_the_same_results(script: ModuleType, tmp_path: Path) -> None:
    options = ("--tasks", "circles", "--models", "rnn", "ours")
    assert run(script, tmp_path / "one", *options) == 0
    assert run(script, tmp_path / "two", *options, "--workers", "2") == 0
    one, two = (report_of(tmp_path / name)["tasks"] for name in ("one", "two"))
    assert without_times(one) == without_times(two)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
def test_ray_gives_the_same_results(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    options = ("--tasks", "circles", "--models", "rnn", "ours")
    assert run(script, tmp_path / "one", *options) == 0
    assert run(script, tmp_path / "two", *options, "--ray", "local", "--workers", "2") == 0
    assert not ray.is_initialized()
    one, two = (report_of(tmp_path / name)["tasks"] for name in ("one", "two"))
    assert without_times(one) == without_times(two)
    assert from_pretrained(tmp_path / "two/runs/circles/ours/0/best").obs_size == 2


def test_ray_that_is_not_installed(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(script, tmp_path, *ONE, "--ray", "local") == 2
    assert capsys.readouterr().err.endswith("pip install 'jumpy-mbrl[ray]'\n")


# -- what is run -----------------------------------------------------------------------------


def test_what_is_run_by_default(script: ModuleType, tmp_path: Path) -> None:
    csv = tmp_path / "jena.csv"
    csv.write_text("")
    papers = [task for task in TASKS if "weather" not in task]
    assert script.Args().task_names() == [*papers, "synthetic-weather"]
    assert script.Args(quick=True).task_names() == [*papers, "synthetic-weather"]
    assert script.Args(csv=str(csv)).task_names() == [*papers, "weather"]
    networks = ["rnn", "ode-rnn", "jump-1", "jump-2", "jump-4", "jump-8", "jumpy-rnn"]
    assert script.Args().model_names() == [*(f"{name}-tuned" for name in networks), "ours"]
    assert script.Args(quick=True).model_names() == ["rnn-tuned", "jumpy-rnn-tuned", "ours"]
    assert script.Args(capacity=True).model_names() == ["jumpy-rnn-tuned", "ours"]
    assert script.Args(models=("rnn", "rnn")).model_names() == ["rnn"]
    assert script.Args().out_dir() == Path("results/tasks")
    assert script.Args().folder_of_runs() == Path("runs/tasks")
    quick = script.Args(quick=True)
    assert quick.out_dir() != Path("results/tasks") and quick.folder_of_runs() != Path("runs/tasks")
    jobs = script.make_jobs(script.Args(csv=str(csv), models=("rnn", "ours"), seeds=(5, 0)))
    assert [job.config.seed for job in jobs.values()] == [5] * 14 + [0] * 14
    assert {job.task.seed for job in jobs.values()} == {0}
    job = jobs["weather", "rnn", 5]
    assert (job.task.csv, job.folder) == (str(csv), "weather/rnn/5")
    assert job.command.endswith("--models rnn --csv jena.csv --seeds 5")


def test_precision_is_the_presets_unless_it_is_given(script: ModuleType) -> None:
    for options, precision in (({}, "bfloat16"), ({"precision": "float32"}, "float32")):
        args = script.Args(tasks=("circles",), models=("rnn-tuned",), **options)
        assert script.make_jobs(args)["circles", "rnn-tuned", 0].config.precision == precision


@pytest.mark.usefixtures("no_pictures")
def test_a_quick_run_says_that_its_figures_mean_nothing(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, tmp_path, *ONE, "--quick") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "figures mean nothing" in first and "about five minutes on two cores" in first
    assert "mean nothing" in (tmp_path / "out/table1.md").read_text()
    report = report_of(tmp_path)
    assert report["quick"] is True and "mean nothing" in report["note"]
    entry = report["tasks"]["circles"]["rnn"]["0"]
    assert entry["steps"] == 20 and entry["training_frames"] == 200 * 25
    assert entry["test"]["n"] == 5
    # Real results never mix with quick ones.
    assert run(script, tmp_path, *ONE) == 2
    error = capsys.readouterr().err
    assert "holds results of a quick run; choose another --out" in error


@pytest.mark.parametrize("model", ["rnn", "jump-2", "jumpy-rnn-tuned", "ode-rnn-2021", "ours"])
@pytest.mark.parametrize("task", [task for task in TASKS if task != "weather"])
def test_a_quick_budget_keeps_the_model(script: ModuleType, task: str, model: str) -> None:
    full = task_preset(task, model)
    quick = script.quick_budget(full)
    assert quick.model == full.model and quick.learning_rate == full.learning_rate
    assert quick.steps * quick.batch_size < full.steps * full.batch_size / 50
    assert quick.train_data.num_sequences == 200
    assert quick.steps == 2 * quick.validation_interval == 2 * quick.checkpoint_interval


@pytest.mark.parametrize(
    ("task", "model", "steps"),
    [
        ("circles", "ours", 20),
        ("billiards2d", "rnn", 20),
        ("pixel-billiards2d", "jumpy-rnn", 20),
        ("billiards1d", "ours", 300),
        ("pixel-billiards1d", "ours", 700),
    ],
)
def test_models_of_events_get_longer_quick_runs(
    script: ModuleType, task: str, model: str, steps: int
) -> None:
    assert script.quick_budget(task_preset(task, model)).steps == steps


def test_a_quick_model_of_events_is_scored_soon(script: ModuleType, tmp_path: Path) -> None:
    config = script.quick_budget(task_preset("billiards2d", "ours"))
    job = runs.Job(config, "billiards2d/ours", script.QUICK_SEQUENCES)
    test = runs.run_job(job, str(tmp_path))["entry"]["test"]
    # After 20 steps it foresees events everywhere, and the places are not finite.
    assert test["sample_mse"] is not None and test["sample_mse"] < 0.05
    assert test["ticks"] < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "circle"], "unknown task 'circle', expected one of"),
        (["--tasks", "circle"], "did you mean 'circles'?"),
        (["--models", "jumpy-rn"], "did you mean 'jumpy-rnn'?"),
        (["--tasks", "weather"], "the task 'weather' needs csv"),
        (["--tasks", "weather"], ADDRESS),
        (
            ["--csv", "nowhere.csv"],
            "a .csv or .zip file, but there is no nowhere.csv; the real file",
        ),
        (["--csv", "nowhere.csv", "--tasks", "lines", "weather", "--quick"], ADDRESS),
        (["--csv", "nowhere.csv", "--tasks", "weather", "--workers", "2"], ADDRESS),
        (["--csv", __file__], "expected the columns"),
        (["--csv", __file__], ADDRESS),
        (["--csv", __file__, "--tasks", "lines"], "for the task weather, which is not asked for"),
        (["--csv", __file__, "--capacity"], "for the task weather, which is not asked for"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--threads", "100000"], "--threads must be at most"),
        (["--workers", "100000"], "--workers must be at most"),
        (["--seeds", "1", "-1"], "--seeds must be one or more, in [0, 2**63), got 1 -1"),
        (["--seeds"], "--seeds must be one or more, in [0, 2**63), got none"),
        (["--capacity", "--seeds", "0", "1"], "--capacity takes a single seed, got 0 1;"),
        (["--capacity", "--tasks", "circles"], "for circles alone; leave --tasks out"),
        (["--capacity", "--models", "rnn"], "unknown model 'rnn', expected one of"),
        (
            ["--tasks", "pixel-billiards1d", "--models", "ours", "--precision", "bfloat16"],
            "expected precision 'float32'",
        ),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--steps", "5", "--quick"], "not be given with --quick"),
        (["--ray-gpus", "-1"], "--ray-gpus must not be negative, got -1.0"),
        (["--ray-gpus", "nan"], "--ray-gpus must not be negative, got nan"),
        (["--figures-only"], "expected table1.json in"),
    ],
)
def test_bad_input_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run(script, tmp_path, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("reproduce: ") and message in printed.err
    assert list(tmp_path.iterdir()) == []


HEADER = '"Date Time","p (mbar)","T (degC)","rho (g/m**3)"\n'


def write_weather(path: Path, days: float) -> Path:
    """Made-up weather in a file like the real one."""
    weather = make_weather(days, np.random.default_rng(0))
    lines = []
    for moment, (temperature, pressure, density) in zip(weather.time, weather.values, strict=True):
        date = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        when = date.strftime("%d.%m.%Y %H:%M:%S")
        lines.append(f"{when},{pressure:.2f},{temperature:.2f},{density:.2f}\n")
    path.write_text(HEADER + "".join(lines))
    return path


@pytest.mark.usefixtures("no_pictures")
def test_weather_from_its_file(script: ModuleType, tmp_path: Path) -> None:
    csv = write_weather(tmp_path / "jena.csv", days=20)
    options = ("--tasks", "weather", "--models", "rnn", "--csv", str(csv))
    assert run(script, tmp_path, *options) == 0
    entry = report_of(tmp_path)["tasks"]["weather"]["rnn"]["0"]
    assert entry["error"] is None and entry["config"]["train_data"]["csv"] == "jena.csv"
    assert "| weather | *papers' rnn* |" in (tmp_path / "out/table1.md").read_text()


@pytest.mark.parametrize("damage", ["cell", "row", "short"])
def test_weather_that_is_damaged_is_refused_before_anything_is_done(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    csv = write_weather(tmp_path / "jena.csv", days=2 if damage == "short" else 20)
    text = csv.read_text()
    last = {"cell": "01.01.2010 00:00:00,990,warm,1200\n", "row": "01.01.2010"}.get(damage, "")
    csv.write_text(text + last)
    # Many runs would come before those on weather.
    assert run(script, tmp_path, "--csv", str(csv)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert str(csv) in printed.err and ADDRESS in printed.err
    assert list(tmp_path.iterdir()) == [csv]


OLD = '{"format": "jumpy-mbrl table 1", "quick": false, "tasks": {}}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("table1.json", "{", "expected JSON in"),
        ("table1.json", "{}", "to hold format 'jumpy-mbrl table 1', so it is not ours"),
        ("table1.json", OLD, "to be of version 2, got 1; results of another version cannot be"),
        ("capacity.json", OLD.replace("tasks", "models"), "to be of version 2, got 1; results of"),
        ("capacity.json", "[]", "so it is not ours"),
        ("samples.json", "no", "expected JSON in"),
    ],
)
def test_results_that_are_damaged_are_refused(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    message: str,
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    assert run(script, tmp_path, *ONE) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == text
    assert not (tmp_path / "runs").exists()


def test_help_names_every_model(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--help"])
    text = capsys.readouterr().out.replace("│", " ")
    table, _, capacity = " ".join(text.split()).partition("Models by name:")[2].partition("With")
    capacity = capacity.partition(".")[0]
    parts = {part for name in TASK_MODELS for part in network_of(name)} - {"", "-printed"}
    for part in (*parts, "rnn-printed", "jumpy-rnn-printed"):
        assert re.search(rf"(?<![\w-]){part}\b(?!-)", table), part
    known = script.CAPACITY_MODELS
    assert [name for name in known if not re.search(rf"(?<!-){name}\b(?!-)", capacity)] == []
    assert "about five minutes on two cores" in " ".join(text.split())


def test_as_a_program_it_exits_with_2_and_no_traceback() -> None:
    command = [sys.executable, str(SCRIPT), "--tasks", "line"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("reproduce: unknown task 'line'")
    assert len(done.stderr.splitlines()) == 1
