"""What is learned from so much experience: trainings, curves of several seeds, picture, command."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl import agents, data, evaluation, training
from jumpy_mbrl.agents.baselines.presets import POLICY_PRESETS, PolicyConfig
from jumpy_mbrl.agents.baselines.train import CurvePoint, write_curve
from jumpy_mbrl.commands import main
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.lab.learning import curves, points, study
from jumpy_mbrl.lab.learning.curves import MeanPoint
from jumpy_mbrl.lab.learning.kinds import merge_kinds, read_policy_runs
from jumpy_mbrl.lab.learning.points import LearningRun
from jumpy_mbrl.training.loop import CHECKPOINT

ROOT = Path(__file__).parents[1]
OURS, FIRST_POLICY = "#2f7d5e", "#b5483a"
QUICK = agents.PlannerConfig(candidates=1, refined=1, gradient_steps=0, finalists=0)
PPO, SAC = (POLICY_PRESETS[name] for name in ("ppo-shot-coords", "sac-shot-coords"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planners search next to nothing."""
    monkeypatch.setitem(agents.PROTOCOLS, "default", QUICK)


def write_run(folder: Path, config: PolicyConfig, success: float = 0.2, count: int = 3) -> Path:
    """A folder as `train_policy` leaves it, without the policy, after so many validations."""
    (folder / "best").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"training": config.to_dict()}))
    record = {"command": f"train {folder.name}", **config.to_dict()}
    about = {"format": "jumpy-mbrl policy", "format_version": 1, "algorithm": config.algorithm_name}
    content = {**about, "training": record, "metrics": {}, "policy_sha256": ""}
    (folder / "best" / "config.json").write_text(json.dumps(content))
    rows = [",".join(map(str, point.values())) for point in validations(success, count)]
    columns = ",".join(validations(success)[0])
    (folder / "curve.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder


def validations(success: float, count: int = 3) -> list[dict[str, Any]]:
    moments = range(1, count + 1)
    points = [vars(CurvePoint(50 * k, 2000 * k, 1.0 * k, success, 100)) for k in moments]
    for point in points:
        del point["contested"]
    return points


def planner_point(trajectories: int, success: float, **changes: Any) -> dict[str, Any]:
    point = {"trajectories": trajectories, "steps": 900, "seed": 0, "frames": 50 * trajectories}
    return {**point, "seconds": 4.0, "success": success, "n": 100, **changes}


def write_points(path: Path, tables: int = 10, *found: dict[str, Any]) -> Path:
    about = {"format": "jumpy-mbrl planner's learning", "format_version": 1, "tables": tables}
    path.write_text(json.dumps({**about, "points": found, "references": {}, "commands": []}))
    return path


# -- trainings -----------------------------------------------------------------------------------


def test_all_experience_counts() -> None:
    train_data, validation_data = LearningRun(1000, seed=3).data
    assert (train_data.num_trajectories, validation_data.num_trajectories) == (1000, 100)
    assert train_data.seed == validation_data.seed == LearningRun(1000, seed=3).config().seed == 3
    frames = sum(data.make_dataset(part).obs[:, :, 0].size for part in LearningRun(64).data)
    assert LearningRun(64).frames == frames == (64 + 6) * 45
    assert LearningRun(5).frames == (5 + 1) * 45
    assert LearningRun(100_000).frames == (100_000 + 1000) * 45


@pytest.mark.parametrize("name", ["rnn", "jumpy-rnn", "ode-rnn", "jump-4", "fold-jump"])
def test_rates_fall_as_far_however_short_the_training(name: str) -> None:
    usual = training.preset(name)
    whole = LearningRun(100_000, steps=usual.steps, preset=name).config()
    assert replace(usual, validation_data=whole.validation_data) == whole
    short = LearningRun(100, steps=usual.steps // 10, preset=name).config()
    ends = [config.learning_rate_at(config.steps - 1) for config in (whole, short)]
    assert ends[0] < 0.7 * usual.learning_rate
    assert ends[1] == pytest.approx(ends[0], abs=1e-6)
    assert short.model == usual.model and short.train_data != whole.train_data


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    run, tables = LearningRun(64, steps=4), make_tables(5, split="validation")
    training.train(run.config("cpu"), tmp_path, data_dir=tmp_path / "data", progress=False)
    (tmp_path / CHECKPOINT).unlink()  # as if it had been killed before
    assert points.learn_and_play(run, tables, tmp_path, progress=False)["n"] == 5
    with pytest.raises(ValueError, match="got seed=9 instead of 0"):
        points.learn_and_play(replace(run, seed=9), tables, tmp_path, progress=False)


# -- seeds put together --------------------------------------------------------------------------


def test_seeds_are_put_together() -> None:
    found = [planner_point(10, success, seconds=s) for success, s in ((0.2, 3.0), (0.6, 5.0))]
    low, high = evaluation.wilson_interval(80, 200)
    assert MeanPoint.of("x", found) == MeanPoint("x", 500, 4.0, 0.4, low, high, 2, 100)
    five = [planner_point(10, k / 10, contested=k / 20) for k in (9, 1, 5, 4, 0)]
    mean = MeanPoint.of("x", five)
    assert mean.success == pytest.approx(1 / 3) and mean.contested == pytest.approx(1 / 6)
    assert 0.0 <= mean.low < 1 / 3 < mean.high <= 0.9


def test_interquartile_means_and_their_intervals() -> None:
    assert curves.interquartile_mean([0.0, 0.5, 1.0]) == 0.5  # of three nothing is cut
    assert curves.interquartile_mean([9.0, 1.0, 2.0, 3.0]) == 2.5
    assert curves.interquartile_mean([*range(8), 1e9]) == 4.0
    rng, held = np.random.default_rng(0), 0
    assert curves.interval([0.3] * 5, 100, rng) == (0.3, 0.3)
    assert curves.interval([0.3, 0.5], 100, rng) == evaluation.wilson_interval(80, 200)
    for _ in range(200):
        low, high = curves.interval(rng.normal(0.5, 0.1, 20).tolist(), 100, rng)
        held += low <= 0.5 <= high
    assert 175 <= held <= 199


def test_seeds_come_to_those_that_are_kept() -> None:
    def kind(seeds: list[int], success: float, name: str = "ppo", **more: Any) -> dict[str, Any]:
        told = {"label": name, "settings": PPO.to_dict() | more, "seeds": seeds}
        curves = [validations(success) for _ in seeds]
        return {**told, "commands": [f"{success} {seed}" for seed in seeds], "curves": curves}

    (one,) = merge_kinds([kind([0, 2], 0.1)], [kind([1, 2], 0.3, threads=7)])
    assert one["seeds"] == [0, 1, 2] and one["commands"] == ["0.1 0", "0.3 1", "0.3 2"]
    assert one["curves"][1] == validations(0.3) and one["curves"][0] == validations(0.1)
    first, second = merge_kinds([kind([0], 0.1)], [kind([0], 0.2, "small", net=[3])])
    assert first == kind([0], 0.1) and second["commands"] == ["0.2 0"]
    (one,) = merge_kinds([kind([0], 0.1, "a-0")], [kind([1], 0.2, "a-1")])  # folders' names
    assert one["seeds"] == [0, 1] and one["label"] == "a-1"
    with pytest.raises(ValueError, match="by different names, got 2 called 'ppo'"):
        merge_kinds([kind([0], 0.1)], [kind([0], 0.2, net=[3])])


def test_a_planner_is_drawn_by_data_and_by_time() -> None:
    found = [
        planner_point(1000, 0.9),
        planner_point(100, 0.3),
        planner_point(100, 0.5, seed=1),
        planner_point(1000, 0.6, steps=30, seconds=0.2),
        planner_point(100, 0.1, steps=30),
    ]
    curve = curves.planner_curve("planner", found)
    assert [point.frames for point in curve.by_frames] == [5000, 50_000]
    assert [(point.success, point.seeds) for point in curve.by_frames] == [(0.4, 2), (0.9, 1)]
    assert [point.success for point in curve.by_time] == [0.6, 0.9]
    rows = curves.format_curves([curve])[2:]
    assert len(rows) == 3  # a training that is on both is told once, one that is on none is not
    assert rows[0] == (
        "| planner | 100 trajectories, 900 steps | 2 | 5,000 | 4.0 | 40.0 % | 33.5 to 46.9 | - "
        "| 100 |"
    )


def test_policies_meet_where_all_were_validated() -> None:
    runs = [validations(0.2, 3), validations(0.4, 2)]
    curve = curves.policy_curve("ppo", runs)
    assert curve.by_frames == curve.by_time and len(curve.by_time) == 2
    assert (curve.by_time[1].label, curve.by_time[1].frames) == ("100 steps", 4000)
    (row,) = curves.format_curves([curve])[2:]
    assert row.startswith("| ppo | 100 steps | 2 | 4,000 | 2.0 | 30.0 % | 24.1 to 36.7 | - | 100 |")
    with pytest.raises(ValueError, match="expected all runs of 'ppo' to be validated after the"):
        curves.policy_curve("ppo", [runs[0][:1], runs[1][1:]])


def test_runs_are_put_together_by_all_but_the_seed(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "b", replace(PPO, seed=1, threads=2), 0.2),
        write_run(tmp_path / "s", SAC, 0.5),
        write_run(tmp_path / "a", PPO, 0.1),
    ]
    ppo, sac = read_policy_runs(folders)
    assert (ppo["label"], sac["label"]) == ("ppo-shot-coords", "sac-shot-coords")
    assert ppo["seeds"] == [0, 1] and ppo["commands"] == ["train a", "train b"]
    assert ppo["curves"] == [validations(0.1), validations(0.2)]
    assert "seed" not in ppo["settings"] and ppo["settings"]["reward"] == PPO.reward


def test_kinds_are_called_after_presets_or_after_their_folders(tmp_path: Path) -> None:
    rest = POLICY_PRESETS["ppo-rest-coords"]
    changed: dict[str, dict[str, Any]] = {
        "ppo-rest-coords (a)": {"seed": 3, "timesteps": 7, "threads": 2},
        "ppo-rest-coords (b)": {"timesteps": 8},
        "ppo-rest-coords, inside=rnn-billiards2d": {"inside": "rnn-billiards2d"},
        "d": {"gamma": 0.5},
        "e, inside=mine": {"gamma": 0.5, "inside": "/home/me/mine"},
    }
    runs = [
        write_run(tmp_path / name, replace(rest, **changes))
        for name, changes in zip("abcde", changed.values(), strict=True)
    ]
    assert [kind["label"] for kind in read_policy_runs(runs)] == [*changed]
    all_of_them = [write_run(tmp_path / f"x{n}", p) for n, p in POLICY_PRESETS.items()]
    assert [kind["label"] for kind in read_policy_runs(all_of_them)] == [*POLICY_PRESETS]


def test_other_learners_stand_beside_those_of_sb3(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "sac", SAC)
    for seed in (1, 0):
        told = {
            "label": "dreamer",
            "algorithm": {"name": "d"},
            "seed": seed,
            "command": f"d {seed}",
        }
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / "config.json").write_text(
            json.dumps({"training": {**told, "inside": None}})
        )
        write_curve(tmp_path / f"{seed}", [CurvePoint(**validations(0.4)[0])])
    sac, other = read_policy_runs([folder, tmp_path / "1", tmp_path / "0"])
    assert (sac["label"], other["label"]) == ("sac-shot-coords", "dreamer")
    assert (other["seeds"], other["commands"]) == ([0, 1], ["d 0", "d 1"])
    assert other["curves"] == [validations(0.4)[:1]] * 2
    out = tmp_path / "out"
    assert run_figure(out, policies=[folder]) == run_figure(out, policies=[tmp_path / "0"]) == 0
    assert run_figure(out, policies=[tmp_path / "1"]) == 0
    assert "| dreamer | 50 steps | 2 | 2,000 |" in page_of(out) and "\nd 1\n" in page_of(out)


def test_runs_that_cannot_be_put_together(tmp_path: Path) -> None:
    young = write_run(tmp_path / "young", PPO, count=0)
    twins = [write_run(tmp_path / name, PPO) for name in "ab"]
    for folders, words in (
        ([tmp_path], r"expected a run of train_sb3\.py in"),
        ([young], "expected validations of the run in"),
        (twins, "one run of 'ppo-shot-coords' for each seed, got several with 0"),
    ):
        with pytest.raises(ValueError, match=words):
            read_policy_runs(folders)


# -- what was learned inside world models --------------------------------------------------------


def last_points() -> dict[str | None, tuple[float, float]]:
    """Success and seconds at the end, means over the seeds, by the model inside of which it was."""
    report = json.loads((ROOT / "results" / "inside" / "learning.json").read_text())
    means = {}
    for kind in report["policies"]:
        ends = [run[-1] for run in kind["curves"]]
        assert len(ends) >= 3
        success, seconds = (fmean(end[name] for end in ends) for name in ("success", "seconds"))
        means[kind["settings"]["inside"]] = (success, seconds)
    return means


def test_policies_from_inside_the_model_win_on_real_tables() -> None:
    means = last_points()
    assert means["fold-billiards2d"][0] >= 0.8 * means[None][0]


def test_the_page_tells_how_long_it_took() -> None:
    means = last_points()
    jumpy, rnn, real = (means[n][1] for n in ("fold-billiards2d", "rnn-billiards2d", None))
    page = " ".join((ROOT / "docs" / "plugging_in.md").read_text().split())
    assert f"inside the RNN {rnn / jumpy:.1f} times those inside the jumpy model" in page
    assert f"inside the jumpy model {jumpy / real:.1f} times those on real tables" in page


# -- the command ---------------------------------------------------------------------------------


def run_planner(out: Path, *options: str) -> int:
    places = ("--run-dir", str(out.parent / "runs"), "--out", str(out))
    usual = ("--steps", "6", "--fewer-steps", "2", "1500", "--tables", "10", "--device", "cpu")
    return main.run("study-learning", ["planner", *places, *usual, *options])


def run_figure(out: Path, planner: Any = (), policies: Any = ()) -> int:
    options = ["--policies", *map(str, policies)] if policies else []
    options += ["--planner", *map(str, planner)] if planner else []
    return main.run("study-learning", ["figure", *options, "--out", str(out)])


def page_of(out: Path) -> str:
    return (out / "learning.md").read_text()


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_whole_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "planner.json", tmp_path / "out"
    assert run_planner(file, "--trajectories", "64", "--seeds", "0") == 0
    first = json.loads(file.read_text())
    assert [point["steps"] for point in first["points"]] == [6, 2]
    assert set(first["references"]) == {"none", "simulator"}
    # What is there is kept, whatever it says; what is missing is added.
    first["points"][0]["seconds"] = 1234.0
    file.write_text(json.dumps(first))
    assert run_planner(file, "--trajectories", "32", "64", "--seeds", "0") == 0
    report = json.loads(file.read_text())
    assert report["points"][:2] == first["points"]
    assert [point["trajectories"] for point in report["points"]] == [64, 64, 32]
    assert report["commands"] == [
        f"python scripts/study_learning.py planner --trajectories {sizes} --seeds 0 --steps 6 "
        "--fewer-steps 2 1500 --tables 10 --device cpu --run-dir runs --out planner.json"
        for sizes in ("64", "32 64")
    ]
    folder = write_run(tmp_path / "ppo", PPO, 0.25)
    capsys.readouterr()
    assert run_figure(out, [file], [folder]) == 0
    page = page_of(out)
    assert page.strip() in capsys.readouterr().out
    assert "| jumpy planner | 64 trajectories, 6 steps | 1 | 3,150 | 1,234.0 |" in page
    assert "| ppo-shot-coords | 150 steps | 1 | 6,000 | 3.0 | 25.0 % |" in page
    assert "train ppo\n" in page and "doing nothing wins" in page
    before = contents(out)
    assert set(before) == {"learning.json", "learning.md", "learning.png"}
    assert run_figure(out) == 0  # from learning.json alone
    assert contents(out) == before


def test_rivals_in_one_file_and_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_color: Callable[[Path, str], bool]
) -> None:
    file, out = tmp_path / "planner.json", tmp_path / "out"
    options = ("--trajectories", "16", "--seeds", "0", "--steps", "4", "--fewer-steps", "2", "9")
    for name in ("rnn-tiny", "jumpy-rnn-tiny"):
        assert run_planner(file, *options, "--preset", name) == 0
    report = json.loads(file.read_text())
    assert [(point["preset"], point["samples"]) for point in report["points"]] == [
        (name, samples) for name in ("rnn-tiny", "jumpy-rnn-tiny") for samples in (32, 16)
    ]
    assert report["commands"][0].startswith(
        "python scripts/study_learning.py planner --preset rnn-tiny --trajectories 16 --seeds 0 "
        "--steps 4 --fewer-steps 2 9 "
    )
    planner = study.Planner(tmp_path, tmp_path, preset="rnn-tiny", seeds=(0,))
    assert max(run.steps for run in planner.runs()) == 30, "those of the preset"
    assert run_figure(out, [file]) == 0
    page = page_of(out)
    assert page.startswith("# What training buys the planner, model by model\n")
    assert "| jumpy-rnn-tiny | 16 trajectories, 2 steps | 1 |" in page
    assert "Samples are updates times batch size." in page
    assert has_color(out / "learning.png", FIRST_POLICY)
    folder, before = write_run(tmp_path / "ppo", PPO), contents(out)
    capsys.readouterr()
    assert run_figure(out, policies=[folder]) == 2
    assert "expected no policies beside several kinds of models" in capsys.readouterr().err
    assert run_figure(out) == 0  # from learning.json alone
    assert contents(out) == before


def test_points_of_older_versions_are_of_our_model(tmp_path: Path) -> None:
    file = write_points(tmp_path / "a.json", 10, planner_point(9, 0.5, device="cpu", threads=1))
    (point,) = points.merge_points([file])["points"]
    assert (point["preset"], point["samples"]) == ("fold-jump", 900 * 2048)


def test_entries_that_cannot_be_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: Callable[..., int]
) -> None:
    point = planner_point(9, 0.5, device="cpu", threads=1)
    planner = write_points(tmp_path / "planner.json", 10, point)
    assert refusals(planner, lambda: points.merge_points([planner])) > 90
    folder = write_run(tmp_path / "ppo", PPO)
    assert refusals(folder / "config.json", lambda: read_policy_runs([folder])) > 40
    monkeypatch.setattr(study.Figure, "_draw", lambda *_: None)
    monkeypatch.setattr(study, "check_comparable", lambda *_: None)  # names no file
    out = tmp_path / "out"
    study.Figure(out, (folder,), (planner,)).do()
    assert refusals(out / "learning.json", lambda: study.Figure(out).do(), every=7) > 40
    report = json.loads((out / "learning.json").read_text())
    for seeds in (7, [0, 1], None):  # of which there is one
        report["policies"][0]["seeds"] = seeds
        (out / "learning.json").write_text(json.dumps(report))
        with pytest.raises(ValueError, match=r"learning\.json.*choose|learning\.json.*give"):
            study.Figure(out, (folder,)).do()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--trajectories 0", "got 0"),
        ("--seeds -1", "got -1"),
        ("--tables 0", "expected a number of validation tables in"),
        ("--threads -1", "--threads must not be negative, got -1"),
        ("--threads 100000", "--threads must be at most"),
        ("--seeds", "--trajectories and --seeds need a number each"),
        ("--device tpu", "unknown device 'tpu'"),
        ("--tables 20", "expected 10 tables, which"),
        ("--preset jumpy", "unknown preset 'jumpy'"),
        ("--preset line-rnn", "expected a preset of shots on a table, such as 'fold-jump'"),
    ],
)
def test_bad_settings_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    file = write_points(tmp_path / "planner.json")
    before = contents(tmp_path)
    assert run_planner(file, *options.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("study_learning: ") and message in error and error.count("\n") == 1
    assert contents(tmp_path) == before


def test_policies_alone_then_the_planner(
    tmp_path: Path, closed_stdout: Callable[[], AbstractContextManager[None]]
) -> None:
    folder, out = write_run(tmp_path / "ppo", PPO, 0.3), tmp_path / "out"
    with closed_stdout():  # which costs no picture
        assert run_figure(out, policies=[folder]) == 0
    assert set(contents(out)) == {"learning.json", "learning.md", "learning.png"}
    assert "jumpy planner" not in page_of(out) and "ppo-shot-coords" in page_of(out)
    found = [planner_point(8, 0.5, seed=seed, device="cpu", threads=1) for seed in (0, 1)]
    parts = [write_points(tmp_path / f"{point['seed']}.json", 10, point) for point in found]
    assert run_figure(out, planner=parts) == 0
    assert "| jumpy planner | 8 trajectories, 900 steps | 2 |" in page_of(out)
    assert "ppo-shot-coords" in page_of(out)


def test_figures_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving = write_run(tmp_path / "moving", replace(PPO, random_target=True))
    rest = write_run(tmp_path / "rest", replace(PPO, start="rest"))
    inside = write_run(tmp_path / "inside", replace(PPO, inside="rnn-billiards2d"))
    few, many = (write_points(tmp_path / f"{n}.json", n, planner_point(9, 0.5)) for n in (10, 20))
    for planner, policies, message in (
        ([], [], "expected --policies or --planner, as there is no"),
        ([few], [moving], "with another random_target"),
        ([few], [rest], "with another start"),
        ([few], [inside], "with another inside"),
        ([], [rest, inside], "as the first of them does, got"),
        ([few, many], [], "played on as many tables, got [10, 20]"),
        ([few, few], [], "expected every training once, got"),
        ([moving / "config.json"], [], "format is None instead of"),
        ([tmp_path / "nowhere.json"], [], "No such file"),
    ):
        assert run_figure(tmp_path / "out", planner, policies) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
