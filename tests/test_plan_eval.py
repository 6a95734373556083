"""The command line that compares the agents, from its arguments to its files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from jumpy_mbrl.agents import AGENTS, PROTOCOLS, PlannerConfig
from jumpy_mbrl.agents.model_free import load_policy, policy_info, save_policy
from jumpy_mbrl.agents.registry import AgentEntry
from jumpy_mbrl.evaluation import AgentResult, Contested, Given
from jumpy_mbrl.models import RNN, RNNConfig, from_pretrained, save_pretrained

SCRIPT = Path(__file__).parents[1] / "scripts" / "plan_eval.py"
QUICK = PlannerConfig(candidates=8, refined=2, gradient_steps=1, finalists=2, perturbations=4)


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("plan_eval")


@pytest.fixture(autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained RNN in place of the shipped one, and little search."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    data = {"num_trajectories": 10, "table": {"num_frames": 45}}
    rnn = save_pretrained(RNN(RNNConfig(hidden_size=8, mlp_size=8)), folder / "rnn", data=data)
    monkeypatch.setitem(AGENTS, "rnn", AgentEntry("an untrained RNN", str(rnn)))
    monkeypatch.setitem(PROTOCOLS, "default", QUICK)


def run(script: ModuleType, out: Path, *options: str, agents: str = "none random") -> int:
    names = ["--agents", *agents.split()]
    code: int = script.main(["--device", "cpu", "--out", str(out), *names, *options])
    return code


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "results.json").read_text())
    return report


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if "ms_" not in key}
    return value


def test_the_whole_path(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "elsewhere" / "copy.json"
    names = "none random rnn jumpy simulator"
    options = ("--episodes", "12", "--seed", "7", "--batch-size", "8", "--json", str(copy))
    assert run(script, tmp_path / "out", *options, agents=names) == 0
    printed = capsys.readouterr()

    report = report_of(tmp_path / "out")
    assert json.loads(copy.read_text()) == report
    assert list(report["agents"]) == names.split()
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
    for figures in report["agents"].values():
        assert figures["contested"]["n"] == 12 - report["agents"]["none"]["successes"]
        assert figures["contested"]["successes"] <= figures["successes"]
        assert figures["n"] == 12 and figures["success"] == figures["successes"] / 12
        assert figures["ci95"][0] <= figures["success"] <= figures["ci95"][1]
        for name in ("by_contacts", "by_ball_hits"):
            assert sum(entry["n"] for entry in figures[name]) == 12
            assert sum(entry["successes"] for entry in figures[name]) == figures["successes"]

    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["agent"] for row in rows] == names.split()
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
    assert [line.split()[0] for line in lines[2:7]] == names.split()
    assert lines[7].startswith("planning time per shot, rnn / jumpy: ")
    lost = 12 - report["agents"]["none"]["successes"]
    assert lines[8] == f"beyond none: of the {lost} of 12 tables that doing nothing loses"
    assert [line.split()[0] for line in lines[12:17]] == names.split()
    assert lines[14].split()[1:] == ["450", "-", "-", "-", str(rnn["given"]["weights"]), "nothing"]
    assert "results.json" in lines[17] and "success.png" in lines[17]
    assert "shots" in printed.err  # the progress bar


def test_same_seed_same_results(script: ModuleType, tmp_path: Path) -> None:
    options = ("--episodes", "10", "--seed", "3")
    names = "none random rnn jumpy simulator"
    for name in ("first", "second"):
        assert run(script, tmp_path / name, *options, agents=names) == 0
    first, second = report_of(tmp_path / "first"), report_of(tmp_path / "second")
    assert without_times(first) == without_times(second)
    assert run(script, tmp_path / "other", "--episodes", "10", "--seed", "4", agents=names) == 0
    assert without_times(report_of(tmp_path / "other")["agents"]) != without_times(first["agents"])


def test_paper_protocol(script: ModuleType, tmp_path: Path) -> None:
    options = ("--episodes", "3", "--protocol", "paper")
    assert run(script, tmp_path, *options, agents="simulator") == 0
    report = report_of(tmp_path)
    assert report["protocol"] == "paper" and report["ms_ratio_rnn_jumpy"] is None
    assert report["planner"]["candidates"] == 1 and report["planner"]["gradient_steps"] == 20


@pytest.mark.parametrize("table", ["random_target", "last_frame", "three_balls"])
def test_other_tables(script: ModuleType, tmp_path: Path, table: str) -> None:
    options = ("--episodes", "4", "--table", table)
    names = "none random jumpy simulator"
    assert run(script, tmp_path, *options, agents=names) == 0
    report = report_of(tmp_path)
    assert report["table"] == table and list(report["agents"]) == names.split()
    assert report["agents"]["jumpy"]["checkpoint"] == AGENTS["jumpy"].checkpoint
    assert (tmp_path / "success.png").exists()


def test_lines(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "none random simulator"
    options = ("--episodes", "40", "--env", "Billiards1D-v0")
    assert run(script, tmp_path, *options, agents=names) == 0
    report = report_of(tmp_path)
    assert (report["env"], report["table"]) == ("Billiards1D-v0", "default")
    success = {name: figures["success"] for name, figures in report["agents"].items()}
    assert max(success["none"], success["random"]) < success["simulator"]
    capsys.readouterr()
    assert run(script, tmp_path, *options, agents="none rnn simulator") == 2
    error = capsys.readouterr().err
    assert "agent 'rnn' cannot play: agent 'rnn' has no model of balls on a line" in error
    assert "Without them: --agents none simulator" in error


def test_agents_that_cannot_play_a_table_are_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--episodes", "4", "--table", "four_balls")
    assert run(script, tmp_path, *options, agents="random rnn jumpy simulator") == 2
    error = capsys.readouterr().err
    assert "agent 'rnn' cannot play: expected 2 balls, which the RNN was made for, got 4" in error
    assert "Without them: --agents random jumpy simulator" in error


def test_an_agent_named_twice_plays_once(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, "--episodes", "2", agents="none none") == 0
    assert list(report_of(tmp_path)["agents"]) == ["none"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--episodes", "0"], "--episodes must be at least 1, got 0"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--threads", "-1"], "--threads must not be negative, got -1"),
        (["--threads", "100000"], "--threads must be at most"),
        (["--workers", "100000", "--ray", "local"], "--workers must be at most"),
        (["--seed", "-1"], "evaluation seed in [0, 2147483647], got -1"),
        (["--agents", "jumpi"], "unknown agent 'jumpi', expected one of"),
        (["--agents", "jumpi"], "did you mean 'jumpy'?"),
        (["--protocol", "papers"], "did you mean 'paper'?"),
        (["--env", "Billiards2D"], "unknown environment 'Billiards2D'"),
        (["--table", "long_table"], "unknown table of Billiards2D-v0 'long_table'"),
        (["--table", "small_targets"], "did you mean 'small_target'?"),
        (
            ["--env", "Billiards1D-v0", "--table", "long"],
            "unknown table of Billiards1D-v0 'long', expected one of ['default']",
        ),
        (["--device", "gpu"], "unknown device 'gpu', expected one of ['auto', 'cpu', 'cuda']"),
        (["--device", "cuda:99"], "torch sees"),
        (["--workers", "2"], "--workers must be at least 1, and needs --ray, got 2"),
        (["--workers", "0", "--ray", "local"], "--workers must be at least 1"),
        (["--budget-ms", "0"], "budget_ms must be positive"),
        (["--weights", "jumpi", "runs/jumpy"], "did you mean 'jumpy'?"),
        (["--agents", "none", "--weights", "jumpy", "runs"], "unknown agent 'jumpy', expected one"),
        (["--ensemble", "jumpi", "runs/jumpy"], "did you mean 'jumpy'?"),
        (
            ["--agents", "none", "--ensemble", "none", "runs"],
            "agent 'none' does not plan with a learned model, got an ensemble of 1 more",
        ),
        (
            ["--agents", "rnn", "--protocol", "paper", "--ensemble", "rnn", "rnn-billiards2d"],
            "leave the ensemble out, or set search_ensemble=True",
        ),
        (
            ["--agents", "none", "jumpy", "--weights", "jumpy", "atlantis"],
            "agent 'jumpy' cannot play: there is no folder 'atlantis'",
        ),
        (
            ["--agents", "none", "--weights", "none", "runs"],
            "agent 'none' has no learned model, got checkpoint='runs'",
        ),
    ],
)
def test_bad_input_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert script.main(["--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("plan_eval: ") and message in printed.err
    assert not (tmp_path / "out").exists()


def test_weights_of_ones_own(script: ModuleType, tmp_path: Path) -> None:
    own = save_pretrained(from_pretrained("jumpy-billiards2d"), tmp_path / "own")
    options = ("--episodes", "4", "--weights", "jumpy", str(own))
    assert run(script, tmp_path, *options, agents="jumpy") == 0
    assert run(script, tmp_path / "shipped", "--episodes", "4", agents="jumpy") == 0
    mine = report_of(tmp_path)["agents"]["jumpy"]
    assert mine["checkpoint"] == str(own)
    shipped = report_of(tmp_path / "shipped")["agents"]["jumpy"]
    assert mine["ticks"] > 2.0 * shipped["ticks"], "bounces are ticks of this model alone"


def test_further_models_are_a_named_option(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"num_trajectories": 20, "table": {"num_frames": 45}}
    training = {"config": {"batch_size": 8, "steps": 30}, "steps": 20, "seconds": 2.5}
    torch.manual_seed(1)
    other = save_pretrained(
        RNN(RNNConfig(hidden_size=4, mlp_size=8)),
        tmp_path / "other",
        data=data,
        training=training,
        metrics={"validation_step": 10},
    )
    own = save_pretrained(
        from_pretrained(other), tmp_path / "own", training=training, metrics={"validation_step": 5}
    )
    options = ("--episodes", "4", "--weights", "rnn", str(own), "--ensemble")
    assert run(script, tmp_path, *options, *("rnn", str(other)) * 2, agents="none rnn") == 0
    report = report_of(tmp_path)
    assert report["ensemble"] == {"rnn": [str(other)] * 2}
    assert report["planner"]["search_ensemble"] is False
    rnn = report["agents"]["rnn"]
    weights = sum(part.numel() for part in from_pretrained(other).parameters())
    assert rnn["training_frames"] == 20 * 45, "all three learned from the same"
    assert rnn["given"] == {
        "samples": 3 * 160,
        "best_samples": 40 + 2 * 80,
        "training_seconds": 7.5,
        "weights": 3 * weights,
        "built_in": [],
        "models": 3,
    }
    printed = capsys.readouterr().out
    assert "rnn (3 models)" in printed
    search = ("--search-ensemble", "--protocol", "paper")
    assert run(script, tmp_path, *options, "rnn", str(other), *search, agents="rnn") == 0
    assert report_of(tmp_path)["planner"]["search_ensemble"] is True


def test_a_model_of_another_world_is_told_of_in_a_line(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"table": {"radius": 0.05}, "num_trajectories": 10}
    model = RNN(RNNConfig(hidden_size=4, mlp_size=4))
    weights = save_pretrained(model, tmp_path / "small", data=data)
    options = ("--episodes", "2", "--weights", "rnn", str(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(script, tmp_path / "out", *options, agents="none rnn") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "world" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "plan_eval: the RNN of agent 'rnn' knows another world than it is to play in ("
    )
    assert run(script, tmp_path / "no", *options, agents="none rnn") == 2  # where it is an error
    assert "plan_eval: the RNN of agent 'rnn' knows another world" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_weights_in_a_folder_called_as_a_shipped_model(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own, name = from_pretrained("jumpy-billiards2d"), AGENTS["jumpy"].checkpoint
    assert name is not None
    save_pretrained(own, name, data={"num_trajectories": 10, "table": {"num_frames": 45}})
    assert run(script, tmp_path, "--episodes", "4", "--weights", "jumpy", name, agents="jumpy") == 0
    mine = report_of(tmp_path)["agents"]["jumpy"]
    assert (mine["checkpoint"], mine["training_frames"]) == (f"./{name}", 450)


def test_policies_of_ones_own_have_to_be_trusted(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = policy_info("sac-billiards2d")
    other = load_policy("sac-billiards2d")
    next(other.policy.parameters()).data.add_(0.5)
    own = save_policy(other, tmp_path / "own", training=info["training"])
    options = ("--episodes", "4", "--weights", "sac", str(own))
    assert run(script, tmp_path / "out", *options, agents="sac") == 2
    assert "agent 'sac' cannot play" in (error := capsys.readouterr().err) and "trust" in error
    assert run(script, tmp_path / "out", *options, "--trust", agents="sac") == 0
    assert report_of(tmp_path / "out")["agents"]["sac"]["checkpoint"] == str(own)


def test_missing_checkpoints_are_all_named(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(AGENTS, "rnn", AgentEntry("an RNN", "rnn-of-atlantis"))
    monkeypatch.setitem(AGENTS, "jumpy-rnn", AgentEntry("a jumpy RNN", "jumpy-of-atlantis"))
    assert run(script, tmp_path, agents="none rnn jumpy jumpy-rnn") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "agent 'rnn' cannot play: there is no folder 'rnn-of-atlantis'" in error
    assert "agent 'jumpy-rnn' cannot play: there is no folder 'jumpy-of-atlantis'" in error
    assert "Without them: --agents none jumpy" in error


def test_all_that_can_play_do_by_default(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = ("--table", "three_balls", "--episodes", "2")
    assert run(script, tmp_path, *three, agents="") == 0
    assert list(report_of(tmp_path)["agents"]) == ["none", "random", "jumpy", "simulator"]
    assert run(script, tmp_path, *three, agents="jumpy rnn") == 2
    assert "agent 'rnn' cannot play: expected 2 balls" in capsys.readouterr().err
    args = script.Args(episodes=2, env="Billiards1D-v0")
    assert [*script.load_agents(args)] == ["none", "random", "jumpy-rnn", "jumpy", "simulator"]


def test_a_folder_that_cannot_be_made_is_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(script, tmp_path / "file" / "out") == 2
    assert capsys.readouterr().err.startswith("plan_eval: ")


def test_a_closed_output_costs_no_result(
    script: ModuleType, tmp_path: Path, closed_stdout: Callable[[], AbstractContextManager[None]]
) -> None:
    with closed_stdout():
        assert run(script, tmp_path, "--episodes", "2", agents="none") == 0
    assert report_of(tmp_path)["agents"]["none"]["n"] == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["results.csv", "results.json", "success.png"]


def test_what_cannot_be_written_in_the_end_is_printed_all_the_same(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(script, "_write_csv", full)
    assert run(script, tmp_path, "--episodes", "2", agents="none") == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2].startswith("none")
    assert printed.err.splitlines()[-1] == "plan_eval: [Errno 28] No space left on device"
    assert report_of(tmp_path)["agents"]["none"]["n"] == 2


def test_the_report_can_be_written_into_a_pipe(script: ModuleType, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    options = ("--episodes", "2", "--json", str(tmp_path / "pipe"))
    assert run(script, tmp_path / "out", *options, agents="none") == 0
    with open(reader, encoding="utf-8") as stream:
        assert json.load(stream) == report_of(tmp_path / "out")
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_that_is_closed_costs_no_other_result(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    options = ("--episodes", "2", "--json", f"/proc/self/fd/{writer}")
    assert run(script, tmp_path, *options, agents="none") == 2
    os.close(writer)
    printed = capsys.readouterr()
    assert "Broken pipe" in printed.err and "none" in printed.out
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["results.csv", "results.json", "success.png"]


def test_what_a_model_learned_from_is_read_before_anything_is_played(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "data": {"data": {"num_trajectories": "many", "table": {"num_frames": 45}}},
        "training": {"training": {"config": {"batch_size": 8, "steps": "many"}}},
    }
    for name, record in wrong.items():
        own = save_pretrained(from_pretrained("rnn-billiards2d"), tmp_path / name, **record)
        options = ("--episodes", "2", "--weights", "rnn", str(own))
        assert run(script, tmp_path / "out", *options, agents="rnn") == 2
        printed = capsys.readouterr()
        assert f"the {name} in config.json of {own} as it was written, but 'str'" in printed.err
        assert printed.out == "" and not (tmp_path / "out").exists()


def test_without_matplotlib_the_rest_works(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(script, tmp_path, "--episodes", "2") == 0
    printed = capsys.readouterr().out
    assert "the pictures were not drawn" in printed and "jumpy-mbrl[viz]" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.json"]


def test_no_model_no_shots_in_the_picture(script: ModuleType, tmp_path: Path) -> None:
    assert run(script, tmp_path, "--episodes", "2") == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["results.csv", "results.json", "success.png"]


def test_rows_of_the_table_are_aligned(script: ModuleType) -> None:
    def result(successes: int, **figures: Any) -> AgentResult:
        empty = np.zeros(0, dtype=np.float32)
        values: dict[str, Any] = {
            "n": 1000,
            "successes": successes,
            "success": successes / 1000,
            "ci95": (0.0, 1.0),
            "contested": None,
            "ms_per_shot": 0.0123,
            "ticks": None,
            "belief": None,
            "calibration": None,
            "wall_hits": 0.0,
            "ball_hits": 0.0,
            "by_contacts": (),
            "by_ball_hits": (),
            "training_frames": None,
            "given": Given(),
            "checkpoint": None,
            "seed": 0,
            "actions": empty,
            "is_success": empty,
            "beliefs": None,
        }
        return AgentResult(**{**values, **figures})

    costly = {
        "ms_per_shot": 1234.5,
        "ticks": 41.0,
        "belief": 0.5,
        "training_frames": 4_500_000,
        "contested": Contested(800, 400, 0.5, (0.25, 0.75)),
        "given": Given(2_000, 1_000, 99.7, 13_397, ("lines", "walls"), models=2),
    }
    text = script.format_table({"a-very-long-name": result(1000, **costly), "none": result(5)})
    header, rule, second, first, contested, space, *given = text.splitlines()
    assert len(header) == len(rule) == len(first) == len(second)
    assert first.split() == ["none", "0.5", "0.0", "to", "100.0", "-", "-", "0.0123", "-", "-"]
    assert "1234" in second and "41.0" in second and "50.0   25.0 to 75.0" in second
    assert contested == "beyond none: of the 800 of 1,000 tables that doing nothing loses"
    name = "a-very-long-name (2 models)"
    assert space == "" and second.startswith(name) and given[2].startswith(name)
    assert given[2].removeprefix(name).split("  ")[-1] == "lines; walls"
    assert given[2].split()[3:8] == ["4,500,000", "1,000", "2,000", "100", "13,397"]
    assert given[3].split() == ["none", "-", "-", "-", "-", "-", "-"]


def test_as_a_program_it_exits_with_2_and_no_traceback() -> None:
    command = [sys.executable, str(SCRIPT), "--episodes", "0"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "plan_eval: --episodes must be at least 1, got 0\n"


# -- time and machines -------------------------------------------------------------------------


def test_a_budget_is_kept_and_told(script: ModuleType, tmp_path: Path) -> None:
    options = ("--episodes", "8", "--budget-ms", "40")
    assert run(script, tmp_path, *options, agents="simulator") == 0
    report = report_of(tmp_path)
    assert report["planner"]["budget_ms"] == 40.0
    assert 5.0 < report["agents"]["simulator"]["ms_per_shot"] < 80.0
    assert (tmp_path / "calibration.png").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
def test_a_cluster_has_the_totals_of_one_process(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    options = ("--episodes", "12", "--batch-size", "5")
    names = "random jumpy simulator"
    assert run(script, tmp_path / "one", *options, agents=names) == 0
    shared = ("--ray", "local", "--workers", "2")
    assert run(script, tmp_path / "two", *options, *shared, agents=names) == 0
    one, two = (report_of(tmp_path / name)["agents"] for name in ("one", "two"))
    assert without_times(one) == without_times(two)


def test_a_cluster_without_ray_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ("--episodes", "2", "--ray", "local")
    assert run(script, tmp_path, *options, agents="simulator") == 2
    assert capsys.readouterr().err.endswith("pip install 'jumpy-mbrl[ray]'\n")
