"""The command that compares the agents, from its arguments to its files."""

from __future__ import annotations

import csv
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl import agents, models
from jumpy_mbrl.agents import AGENTS, model_free
from jumpy_mbrl.agents.registry import AgentEntry
from jumpy_mbrl.commands import main, plan_eval

QUICK = agents.PlannerConfig(
    candidates=8, refined=2, gradient_steps=1, finalists=2, perturbations=4
)
LEARNED = {"num_trajectories": 10, "table": {"num_frames": 45}}
ALL = "none random rnn jumpy simulator"
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An untrained RNN in place of the shipped one, and little search."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    rnn = small_rnn(folder / "rnn", 8, data=LEARNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "rnn", AgentEntry("an untrained RNN", str(rnn)))
        patch.setitem(agents.PROTOCOLS, "default", QUICK)
        yield


def small_rnn(folder: Path, size: int = 4, **record: Any) -> Path:
    model = models.RNN(models.RNNConfig(hidden_size=size, mlp_size=8))
    return models.save_pretrained(model, folder, **record)


def run(out: Path, *options: str, names: str = "none random", episodes: int = 2) -> int:
    usual = ("--device", "cpu", "--out", str(out), "--episodes", str(episodes))
    return main.run("plan-eval", [*usual, "--agents", *names.split(), *options])


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "results.json").read_text())
    return report


def files(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if "ms_" not in key}
    return value


def test_the_whole_path(tmp_path: Path, capsys: Output) -> None:
    copy = tmp_path / "elsewhere" / "copy.json"
    options = ("--seed", "7", "--batch-size", "8", "--json", str(copy))
    assert run(tmp_path / "out", *options, names=ALL, episodes=12) == 0
    printed = capsys.readouterr()

    report = report_of(tmp_path / "out")
    assert json.loads(copy.read_text()) == report
    assert list(report["agents"]) == ALL.split()
    assert (report["episodes"], report["seed"], report["protocol"]) == (12, 7, "default")
    assert (report["env"], report["table"]) == ("Billiards2D-v0", "default")
    assert report["device"] == "cpu" and report["batch_size"] == 8 and report["threads"] >= 1
    assert {"python", "torch", "numpy", "gymnasium", "jumpy_mbrl"} <= set(report["versions"])
    assert report["planner"]["candidates"] == 8 and report["planner"]["seed"] == 7
    rnn, jumpy = report["agents"]["rnn"], report["agents"]["jumpy"]
    assert report["ms_ratio_rnn_jumpy"] == rnn["ms_per_shot"] / jumpy["ms_per_shot"]
    assert rnn["ticks"] == 41.0 and rnn["training_frames"] == 450
    assert report["agents"]["random"]["ticks"] is None
    assert report["agents"]["simulator"]["success"] >= 0.5
    assert report["agents"]["none"]["contested"]["successes"] == 0
    lost = 12 - report["agents"]["none"]["successes"]
    for figures in report["agents"].values():
        assert figures["contested"]["n"] == lost
        assert figures["contested"]["successes"] <= figures["successes"]
        assert figures["n"] == 12 and figures["success"] == figures["successes"] / 12
        assert figures["ci95"][0] <= figures["success"] <= figures["ci95"][1]
        for name in ("by_contacts", "by_ball_hits"):
            assert sum(entry["n"] for entry in figures[name]) == 12
            assert sum(entry["successes"] for entry in figures[name]) == figures["successes"]

    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["agent"] for row in rows] == ALL.split()
    for row in rows:
        figures = report["agents"][row["agent"]]
        assert float(row["success"]) == figures["success"] and int(row["n"]) == 12
        assert [float(row["ci95_low"]), float(row["ci95_high"])] == figures["ci95"]
        assert int(row["contested_successes"]) == figures["contested"]["successes"]
        assert float(row["contested_ci95_low"]) == figures["contested"]["ci95"][0]
        assert float(row["ms_per_shot"]) == figures["ms_per_shot"]
        assert row["ticks"] == ("" if figures["ticks"] is None else str(figures["ticks"]))
        assert (row["seed"], row["device"], row["table"]) == ("7", "cpu", "default")
        assert row["version_torch"] == torch.__version__
    assert (rows[0]["built_in"], rows[2]["built_in"], rows[4]["built_in"]) == ("", "", "all of it")
    assert "straight lines; events of one" in rows[3]["built_in"] and rows[3]["models"] == "1"
    assert rows[2]["checkpoint"] == AGENTS["rnn"].checkpoint and rows[0]["checkpoint"] == ""

    from matplotlib.image import imread

    picture = imread(tmp_path / "out" / "success.png")
    assert picture.shape[0] > 600 and picture.shape[1] > 900
    assert len(np.unique(picture.reshape(-1, picture.shape[2])[::7], axis=0)) > 100

    lines = printed.out.splitlines()
    assert lines[0].split()[0] == "agent" and len({len(line) for line in lines[:7]}) == 1
    for name, line in zip(ALL.split(), lines[2:7], strict=True):
        figures = report["agents"][name]
        parts = (figures, figures["contested"])
        shares = [100.0 * x for part in parts for x in (part["success"], *part["ci95"])]
        told = "{:.1f} {:.1f} to {:.1f} {:.1f} {:.1f} to {:.1f}".format(*shares)
        assert line.split()[:9] == [name, *told.split()]
    assert lines[7].startswith("planning time per shot, rnn / jumpy: ")
    assert lines[8] == f"beyond none: of the {lost} of 12 tables that doing nothing loses"
    assert [line.split()[0] for line in lines[12:17]] == ALL.split()
    assert lines[14].split()[1:] == ["450", "-", "-", "-", str(rnn["given"]["weights"]), "nothing"]
    assert "results.json" in lines[17] and "success.png" in lines[17]
    assert "shots" in printed.err  # the progress bar


def test_other_searches(tmp_path: Path) -> None:
    assert run(tmp_path, "--protocol", "paper", names="simulator") == 0
    report = report_of(tmp_path)
    assert report["protocol"] == "paper" and report["ms_ratio_rnn_jumpy"] is None
    assert report["planner"]["candidates"] == 1 and report["planner"]["gradient_steps"] == 20
    assert run(tmp_path, "--budget-ms", "40", names="simulator", episodes=8) == 0
    report = report_of(tmp_path)
    assert report["planner"]["budget_ms"] == 40.0
    assert 5.0 < report["agents"]["simulator"]["ms_per_shot"] < 80.0
    assert (tmp_path / "calibration.png").is_file()


@pytest.mark.parametrize("table", ["random_target", "last_frame", "three_balls"])
def test_other_tables(tmp_path: Path, table: str) -> None:
    names = "none random jumpy simulator"
    assert run(tmp_path, "--table", table, names=names, episodes=4) == 0
    report = report_of(tmp_path)
    assert report["table"] == table and list(report["agents"]) == names.split()
    assert report["agents"]["jumpy"]["checkpoint"] == AGENTS["jumpy"].checkpoint
    assert (tmp_path / "success.png").exists()


def test_lines(tmp_path: Path, capsys: Output) -> None:
    names = "none random simulator"
    assert run(tmp_path, "--env", "Billiards1D-v0", names=names, episodes=40) == 0
    report = report_of(tmp_path)
    assert (report["env"], report["table"]) == ("Billiards1D-v0", "default")
    success = {name: figures["success"] for name, figures in report["agents"].items()}
    assert max(success["none"], success["random"]) < success["simulator"]
    assert files(tmp_path) == ["calibration.png", "results.csv", "results.json", "success.png"]
    capsys.readouterr()
    assert run(tmp_path, "--env", "Billiards1D-v0", names="none rnn simulator") == 2
    error = capsys.readouterr().err
    assert "'rnn' has no model of balls on a line" in error and "--agents none simulator" in error


def test_who_plays(tmp_path: Path) -> None:
    assert run(tmp_path, names="none none") == 0
    assert list(report_of(tmp_path)["agents"]) == ["none"]
    for args, players in (
        (
            plan_eval.Args(table="three_balls"),
            "none random jumpy-entities jumpy-space jumpy simulator",
        ),
        (plan_eval.Args(env="Billiards1D-v0"), "none random jumpy-rnn jumpy simulator"),
    ):
        assert [*plan_eval.load_agents(args)] == players.split()


# -- weights of one's own --------------------------------------------------------------------------


def test_further_models_are_a_named_option(tmp_path: Path, capsys: Output) -> None:
    training = {"config": {"batch_size": 8, "steps": 30}, "steps": 20, "seconds": 2.5}
    torch.manual_seed(1)
    own, other = (
        small_rnn(tmp_path / str(step), data=LEARNED, training=training, metrics=metrics)
        for step in (5, 10)
        for metrics in [{"validation_step": step}]
    )
    options = ("--weights", "rnn", str(own), "--ensemble", *("rnn", str(other)) * 2)
    assert run(tmp_path, *options, names="none rnn") == 0
    report = report_of(tmp_path)
    assert report["ensemble"] == {"rnn": [str(other)] * 2}
    assert report["planner"]["search_ensemble"] is False
    rnn = report["agents"]["rnn"]
    weights = sum(part.numel() for part in models.from_pretrained(other).parameters())
    assert rnn["training_frames"] == 10 * 45, "all three learned from the same"
    assert rnn["given"] == {
        "samples": 3 * 160,
        "best_samples": 40 + 2 * 80,
        "training_seconds": 7.5,
        "weights": 3 * weights,
        "built_in": [],
        "models": 3,
    }
    assert "rnn (3 models)" in capsys.readouterr().out
    search = ("--search-ensemble", "--protocol", "paper")
    assert run(tmp_path, *options, *search, names="rnn") == 0
    assert report_of(tmp_path)["planner"]["search_ensemble"] is True


def test_a_model_of_another_world_is_told_of_in_a_line(tmp_path: Path, capsys: Output) -> None:
    weights = small_rnn(tmp_path / "small", data={**LEARNED, "table": {"radius": 0.05}})
    options = ("--weights", "rnn", str(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(tmp_path / "out", *options, names="none rnn") == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "world" in line)
    told = "plan_eval: the RNN of agent 'rnn' knows another world than it is to play in ("
    assert line.startswith(told)
    assert run(tmp_path / "no", *options, names="none rnn") == 2  # where it is an error
    assert capsys.readouterr().err.startswith(told) and not (tmp_path / "no").exists()


def test_policies_of_ones_own_have_to_be_trusted(tmp_path: Path, capsys: Output) -> None:
    other = model_free.load_policy("sac-billiards2d")
    next(other.policy.parameters()).data.add_(0.5)
    record = model_free.policy_info("sac-billiards2d")["training"]
    own = model_free.save_policy(other, tmp_path / "own", training=record)
    options = ("--weights", "sac", str(own))
    assert run(tmp_path / "out", *options, names="sac") == 2
    assert "agent 'sac' cannot play" in (error := capsys.readouterr().err) and "trust" in error
    assert run(tmp_path / "out", *options, "--trust", names="sac") == 0
    assert report_of(tmp_path / "out")["agents"]["sac"]["checkpoint"] == str(own)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("data", {**LEARNED, "num_trajectories": "many"}),
        ("training", {"config": {"batch_size": 8, "steps": "many"}}),
    ],
)
def test_what_a_model_learned_from_is_read_before_anything_is_played(
    name: str, record: dict[str, Any], tmp_path: Path, capsys: Output
) -> None:
    own = small_rnn(tmp_path / "own", 4, **{name: record})
    assert run(tmp_path / "out", "--weights", "rnn", str(own), names="rnn") == 2
    printed = capsys.readouterr()
    assert f"the {name} in config.json of {own} as it was written, but 'str'" in printed.err
    assert printed.out == "" and not (tmp_path / "out").exists()


# -- outputs ---------------------------------------------------------------------------------------


def test_a_closed_output_costs_no_result(
    tmp_path: Path, closed_stdout: Callable[[], AbstractContextManager[None]]
) -> None:
    with closed_stdout():
        assert run(tmp_path, names="none") == 0
    assert report_of(tmp_path)["agents"]["none"]["n"] == 2
    assert files(tmp_path) == ["results.csv", "results.json", "success.png"]


def test_what_cannot_be_written_in_the_end_is_printed_all_the_same(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_eval, "_write_csv", full)
    assert run(tmp_path, names="none") == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2].startswith("none")
    assert printed.err.splitlines()[-1] == "plan_eval: [Errno 28] No space left on device"
    assert report_of(tmp_path)["agents"]["none"]["n"] == 2


def test_the_report_can_be_written_into_a_pipe(tmp_path: Path, capsys: Output) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(tmp_path / "out", "--json", str(tmp_path / "pipe"), names="none") == 0
    with open(reader, encoding="utf-8") as stream:
        assert json.load(stream) == report_of(tmp_path / "out")
    assert (tmp_path / "pipe").is_fifo()
    # One that is closed costs no other result.
    reader, writer = os.pipe()
    os.close(reader)
    capsys.readouterr()
    assert run(tmp_path / "two", "--json", f"/proc/self/fd/{writer}", names="none") == 2
    os.close(writer)
    printed = capsys.readouterr()
    assert "Broken pipe" in printed.err and "none" in printed.out
    assert files(tmp_path / "two") == ["results.csv", "results.json", "success.png"]


def test_without_matplotlib_the_rest_works(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "the pictures were not drawn" in printed and "jumpy-mbrl[viz]" in printed
    assert files(tmp_path) == ["results.csv", "results.json"]


# -- machines --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
def test_a_cluster_has_the_totals_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    names = "random jumpy simulator"
    for name, shared in (("one", []), ("two", ["--ray", "local", "--workers", "2"])):
        options = ("--batch-size", "5", *shared)
        assert run(tmp_path / name, *options, names=names, episodes=12) == 0
    one, two = (report_of(tmp_path / name)["agents"] for name in ("one", "two"))
    assert without_times(one) == without_times(two)


def test_a_cluster_without_ray_is_one_line(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(tmp_path, "--ray", "local", names="simulator") == 2
    assert capsys.readouterr().err.endswith("pip install 'jumpy-mbrl[ray]'\n")
