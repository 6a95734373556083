"""What is learned from so much experience: trainings, curves of several seeds, picture, script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jumpy_mbrl.agents import PROTOCOLS, PlannerConfig
from jumpy_mbrl.agents.baselines.presets import (
    POLICY_PRESETS,
    PolicyConfig,
    PPOConfig,
    SACConfig,
    changes,
)
from jumpy_mbrl.agents.baselines.train import CurvePoint, train_policy
from jumpy_mbrl.agents.model_free import policy_agent, policy_info
from jumpy_mbrl.data.dataset import make_dataset
from jumpy_mbrl.data.seeds import validation_table_seeds
from jumpy_mbrl.evaluation import evaluate_agent, find_variant, make_tables, wilson_interval
from jumpy_mbrl.lab.learning.curves import (
    Curve,
    MeanPoint,
    format_curves,
    has_rivals,
    planner_curve,
    policy_curve,
    report_curves,
)
from jumpy_mbrl.lab.learning.figure import FRAMES, mark_logarithmically, save_learning_figure
from jumpy_mbrl.lab.learning.kinds import read_policy_runs
from jumpy_mbrl.lab.learning.labels import policy_labels, told_apart
from jumpy_mbrl.lab.learning.points import (
    LearningRun,
    PlannerPoint,
    find_point,
    learn_and_play,
    merge_points,
    score_of,
)
from jumpy_mbrl.training import preset, train
from jumpy_mbrl.training.loop import CHECKPOINT

ROOT = Path(__file__).parents[1]
OURS, FIRST_POLICY = "#2f7d5e", "#b5483a"
QUICK = PlannerConfig(candidates=1, refined=1, gradient_steps=0, finalists=0)
TINY: dict[str, Any] = {
    "timesteps": 64,
    "n_envs": 16,
    "batch_size": 16,
    "net": (8,),
    "validation_interval": 64,
    "validation_tables": 10,
}


def write_run(folder: Path, config: PolicyConfig, *points: CurvePoint) -> Path:
    """A folder as `train_policy` leaves it, without the policy."""
    (folder / "best").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"training": config.to_dict()}))
    training = {"command": f"train {folder.name}", **config.to_dict()}
    about = {"format": "jumpy-mbrl policy", "format_version": 1, "algorithm": config.algorithm_name}
    content = {**about, "training": training, "metrics": {}, "policy_sha256": ""}
    (folder / "best" / "config.json").write_text(json.dumps(content))
    rows = [",".join(str(value) for value in vars(point).values()) for point in points]
    (folder / "curve.csv").write_text("\n".join([",".join(vars(CurvePoint())), *rows]) + "\n")
    return folder


def points_of(success: float, count: int = 3, seconds: float = 1.0) -> list[CurvePoint]:
    return [CurvePoint(50 * k, 2000 * k, seconds * k, success, 100) for k in range(1, count + 1)]


def planner_point(trajectories: int, success: float, **changes: Any) -> dict[str, Any]:
    point = {"trajectories": trajectories, "steps": 900, "seed": 0, "frames": 50 * trajectories}
    return {**point, "seconds": 4.0, "success": success, "n": 100, **changes}


def has_color(path: Path, color: str) -> bool:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    picture: NDArray[np.float32] = imread(path)[..., :3]
    return bool((np.abs(picture - np.array(to_rgb(color))) < 0.02).all(axis=-1).any())


# -- trainings -----------------------------------------------------------------------------------


def test_all_experience_counts() -> None:
    train_data, validation_data = LearningRun(1000, seed=3).data
    assert (train_data.num_trajectories, validation_data.num_trajectories) == (1000, 100)
    assert train_data.seed == validation_data.seed == LearningRun(1000, seed=3).config().seed == 3
    frames = sum(make_dataset(data).obs[:, :, 0].size for data in LearningRun(64).data)
    assert LearningRun(64).frames == frames == (64 + 6) * 45
    assert LearningRun(5).frames == (5 + 1) * 45
    assert LearningRun(100_000).frames == (100_000 + 1000) * 45


@pytest.mark.parametrize(
    "wrong",
    [
        {"trajectories": 0},
        {"seed": -1},
        {"steps": 0},
        {"steps": 0, "preset": "rnn"},
        {"preset": "line-rnn"},
        {"preset": "billiards2d/rnn"},
    ],
)
def test_trainings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"got '?{next(iter(wrong.values()))}"):
        LearningRun(**{"trajectories": 10, **wrong})
    with pytest.raises(ValueError, match=r"unknown preset 'jumpyrnn'.*did you mean 'jumpy-rnn'"):
        LearningRun(10, preset="jumpyrnn")


@pytest.mark.parametrize("name", ["rnn", "jumpy-rnn", "ode-rnn", "jump-4", "fold-jump"])
def test_rates_fall_as_far_however_short_the_training(name: str) -> None:
    usual = preset(name)
    whole = LearningRun(100_000, steps=usual.steps, preset=name).config()
    assert replace(usual, validation_data=whole.validation_data) == whole
    short = LearningRun(100, steps=usual.steps // 10, preset=name).config()
    ends = [config.learning_rate_at(config.steps - 1) for config in (whole, short)]
    assert ends[0] < 0.7 * usual.learning_rate
    assert ends[1] == pytest.approx(ends[0], abs=1e-6)
    assert short.model == usual.model and short.train_data != whole.train_data


def test_a_point_is_what_training_and_planner_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "default", QUICK)
    run, tables = LearningRun(64, seed=1, steps=20), make_tables(10, split="validation")
    point = learn_and_play(run, tables, tmp_path / "a", device="cpu", progress=False)
    assert (point.trajectories, point.seed, point.steps, point.n) == (64, 1, 20, 10)
    assert (point.preset, point.samples) == ("fold-jump", 20 * 2048)
    assert point.successes == round(10 * point.success) and 0.0 < point.seconds < 60.0
    assert find_point([point.to_dict()], run) == json.loads(json.dumps(point.to_dict()))
    assert find_point([point.to_dict()], replace(run, seed=2)) is None
    # Once more: nothing is left to train.
    assert learn_and_play(run, tables, tmp_path / "a", device="cpu", progress=False) == point


def test_a_rival_is_trained_and_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "default", QUICK)
    run, tables = LearningRun(16, steps=4, preset="jumpy-rnn-tiny"), make_tables(4)
    assert run.name == "jumpy-rnn-tiny-16-trajectories-4-steps-seed-0"
    point = learn_and_play(run, tables, tmp_path, device="cpu", progress=False)
    assert (point.preset, point.samples, point.n) == ("jumpy-rnn-tiny", 4 * 8, 4)
    assert find_point([point.to_dict()], run) and not find_point(
        [point.to_dict()], replace(run, preset="rnn-tiny")
    )


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "default", QUICK)
    run, tables = LearningRun(64, steps=4), make_tables(5, split="validation")
    train(run.config("cpu"), tmp_path, data_dir=tmp_path / "data", progress=False)
    (tmp_path / CHECKPOINT).unlink()  # as if it had been killed before
    assert isinstance(learn_and_play(run, tables, tmp_path, progress=False), PlannerPoint)
    with pytest.raises(ValueError, match="got seed=9 instead of 0"):
        learn_and_play(replace(run, seed=9), tables, tmp_path, progress=False)


# -- the tables on which policies are validated --------------------------------------------------


@pytest.mark.parametrize("preset", ["ppo-shot-coords", "sac-shot-coords"])
def test_a_policy_wins_what_its_curve_says(preset: str, tmp_path: Path) -> None:
    config = replace(POLICY_PRESETS[preset], **TINY)
    if isinstance(config.algorithm, SACConfig):
        quick: PPOConfig | SACConfig = SACConfig(1024, learning_starts=32, gradient_steps=1)
        config = replace(config, algorithm=quick)
    best = train_policy(config, tmp_path, progress=False)
    agent = policy_agent(best, trust=True)
    tables = make_tables(10, split="validation")
    assert score_of(agent, tables)["success"] == policy_info(best)["metrics"]["success"]


def test_validation_tables_are_others() -> None:
    tables = make_tables(3, split="validation")
    assert tables.reset_seeds == validation_table_seeds(0, 3)
    assert not set(tables.reset_seeds) & set(make_tables(3).reset_seeds)
    with pytest.raises(ValueError, match="unknown split of tables 'valid'"):
        make_tables(3, split="valid")


def test_a_policy_plays_on_where_the_target_has_moved(tmp_path: Path) -> None:
    best = train_policy(
        replace(POLICY_PRESETS["ppo-shot-coords"], **TINY), tmp_path, progress=False
    )
    moved = find_variant("random_target")
    agent = policy_agent(best, moved.task, trust=True)
    fixed_tables, moved_tables = make_tables(6), make_tables(6, variant=moved)
    result = evaluate_agent(agent, moved_tables)
    np.testing.assert_array_equal(
        result.actions,
        agent.predict(moved_tables.frames)[0],  # aims where it always did
    )
    assert result.n == len(fixed_tables) and result.training_frames is not None


# -- seeds put together --------------------------------------------------------------------------


def test_a_mean_with_the_worst_and_the_best() -> None:
    points = [planner_point(10, success, seconds=s) for success, s in ((0.2, 3.0), (0.6, 5.0))]
    assert MeanPoint.of("x", points) == MeanPoint("x", 500, 4.0, 0.4, 0.2, 0.6, 2, 100)


def test_a_planner_is_drawn_by_data_and_by_time() -> None:
    points = [
        planner_point(1000, 0.9),
        planner_point(100, 0.3),
        planner_point(100, 0.5, seed=1),
        planner_point(1000, 0.6, steps=30, seconds=0.2),
        planner_point(100, 0.1, steps=30),
    ]
    curve = planner_curve("planner", points)
    assert [point.frames for point in curve.by_frames] == [5000, 50_000]
    assert [(point.success, point.seeds) for point in curve.by_frames] == [(0.4, 2), (0.9, 1)]
    assert [point.success for point in curve.by_time] == [0.6, 0.9]
    rows = format_curves([curve])[2:]
    assert len(rows) == 3  # a training that is on both is told once, one that is on none is not
    assert rows[0] == (
        "| planner | 100 trajectories, 900 steps | 2 | 5,000 | 4.0 | 40.0 % | 30.0 to 50.0 | 100 |"
    )
    with pytest.raises(ValueError, match="expected points of the planner, got none"):
        planner_curve("planner", [])


def test_rivals_have_a_curve_each() -> None:
    ours = planner_point(100, 0.9)  # as older files have it
    points = [
        planner_point(100, success, preset="rnn", seed=seed, steps=steps, samples=8 * steps)
        for success, seed, steps in ((0.2, 0, 30), (0.4, 1, 30), (0.5, 0, 90))
    ]
    report = {"planner": {"points": [*points, ours]}, "policies": []}
    assert has_rivals(report)
    assert not has_rivals({"planner": {"points": [ours]}}) and not has_rivals({"planner": {}})
    mine, rnn = report_curves(report)
    assert (mine.name, rnn.name) == ("jumpy planner", "rnn")
    assert [point.samples for point in rnn.by_time] == [240, 720]
    assert mine.by_time[0].samples is None
    assert rnn.by_time[0].ci95 == wilson_interval(60, 200)
    header, _, first, *_, last = format_curves([mine, rnn])
    assert header.endswith("| tables | 95 % interval | samples |")
    low, high = (100.0 * limit for limit in wilson_interval(90, 100))
    assert first.endswith(f"| 100 | {low:.1f} to {high:.1f} | - |")
    low, high = (100.0 * limit for limit in wilson_interval(60, 200))
    assert last.endswith(f"| 20.0 to 40.0 | 100 | {low:.1f} to {high:.1f} | 240 |")


def test_policies_meet_where_all_were_validated() -> None:
    runs = [[vars(point) for point in points_of(*run)] for run in ((0.2, 3), (0.4, 2))]
    curve = policy_curve("ppo", runs)
    assert curve.by_frames == curve.by_time and len(curve.by_time) == 2
    assert (curve.by_time[1].label, curve.by_time[1].frames) == ("100 steps", 4000)
    (row,) = format_curves([curve])[2:]
    assert row.startswith("| ppo | 100 steps | 2 | 4,000 | 2.0 | 30.0 % | 20.0 to 40.0 |")
    with pytest.raises(ValueError, match="expected all runs of 'ppo' to be validated after the"):
        policy_curve("ppo", [runs[0][:1], runs[1][1:]])


def test_a_planner_comes_before_policies() -> None:
    kind = {"label": "ppo", "curves": [[vars(point) for point in points_of(0.2)]]}
    planner = {"points": [planner_point(100, 0.3)]}
    both, policies = (
        [curve.name for curve in report_curves({"planner": found, "policies": [kind, kind]})]
        for found in (planner, None)
    )
    assert len(both) == 3 and both[1:] == policies == ["ppo", "ppo"]


def test_runs_are_put_together_by_all_but_the_seed(tmp_path: Path) -> None:
    ppo, sac = (POLICY_PRESETS[name] for name in ("ppo-shot-coords", "sac-shot-coords"))
    folders = [
        write_run(tmp_path / "b", replace(ppo, seed=1, threads=2), *points_of(0.2)),
        write_run(tmp_path / "s", sac, *points_of(0.5)),
        write_run(tmp_path / "a", ppo, *points_of(0.1)),
    ]
    kinds = read_policy_runs(folders)
    assert [kind.label for kind in kinds] == ["ppo-shot-coords", "sac-shot-coords"]
    assert kinds[0].seeds == (0, 1) and kinds[0].commands == ("train a", "train b")
    assert [curve[0].success for curve in kinds[0].curves] == [0.1, 0.2]
    assert "seed" not in kinds[0].settings and kinds[0].settings["reward"] == ppo.reward
    assert kinds[0].to_dict()["curves"][1][0] == vars(points_of(0.2)[0])


def test_kinds_of_one_name_say_what_they_differ_in(tmp_path: Path) -> None:
    ppo = POLICY_PRESETS["ppo-shot-coords"]
    other = replace(ppo, gamma=0.9, algorithm=PPOConfig(n_steps=1, n_epochs=3, ent_coef=0.01))
    kinds = read_policy_runs(
        write_run(tmp_path / str(number), config, *points_of(0.2))
        for number, config in enumerate((ppo, other))
    )
    labels = [kind.label for kind in kinds]
    assert labels == [
        "ppo-shot-coords, n_epochs=4, gamma=0.99",
        "ppo-shot-coords, n_epochs=3, gamma=0.9",
    ]


def test_kinds_are_called_after_presets_or_after_their_game() -> None:
    rest = POLICY_PRESETS["ppo-rest-coords"]
    assert policy_labels([config.to_dict() for config in POLICY_PRESETS.values()]) == [
        *POLICY_PRESETS
    ]
    for changed, label in (
        ({"seed": 3, "timesteps": 7, "threads": 2}, "ppo-rest-coords"),
        ({"inside": "rnn-billiards2d"}, "ppo-rest-coords, inside=rnn-billiards2d"),
        ({"gamma": 0.5}, "ppo-shot-coords, start=rest"),
        ({"random_target": True}, "ppo-shot-coords, start=rest, random_target"),
        ({"start": "moving"}, "ppo-shot-coords"),
    ):
        assert policy_labels([replace(rest, **changed).to_dict()]) == [label]
    longer = replace(rest, timesteps=8 * rest.timesteps)
    assert policy_labels([rest.to_dict(), longer.to_dict()]) == [
        "ppo-rest-coords, timesteps=409600",
        "ppo-rest-coords, timesteps=3276800",
    ]
    sparse = replace(rest, gamma=0.5, reward="sparse")
    assert policy_labels([replace(rest, gamma=0.5).to_dict(), sparse.to_dict()]) == [
        "ppo-shot-coords, start=rest, reward=dense",
        "ppo-shot-coords, start=rest, reward=sparse",
    ]


def before_relative(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were written before there were some of today's."""
    algorithm = dict(settings["algorithm"])
    for name in ("n_critics", "n_steps") if algorithm["name"] == "sac" else ():
        del algorithm[name]
    rest = {k: v for k, v in settings.items() if k not in ("relative", "terminal")}
    return {**rest, "algorithm": algorithm}


def test_runs_of_older_versions_keep_their_names() -> None:
    ppo = before_relative(POLICY_PRESETS["ppo-shot-coords"].to_dict())
    assert policy_labels([ppo]) == ["ppo-shot-coords"]
    sac = PolicyConfig(SACConfig()).to_dict()
    assert told_apart(before_relative(sac)) == told_apart(sac)


def test_what_an_older_version_did_not_write_is_what_it_did() -> None:
    """Not what a preset says today."""
    config = POLICY_PRESETS["sac-early-coords"]
    assert config.relative
    old, new = before_relative(config.to_dict()), config.to_dict()
    assert policy_labels([old, new]) == ["sac-shot-coords", "sac-early-coords"]
    same = {**new, "algorithm": old["algorithm"]}
    assert changes(old, same) == ["relative=True instead of False"]
    assert changes(old, {**same, "relative": False}) == []
    (change,) = changes(same, new)
    given, before = change.split("instead of")
    assert "'n_critics': 1" in given and "'n_critics': 2" in before


def test_seeds_of_two_versions_are_one_kind(tmp_path: Path) -> None:
    config = POLICY_PRESETS["ppo-rest-coords"]
    folders = [
        write_run(tmp_path / str(seed), replace(config, seed=seed), *points_of(0.2))
        for seed in range(2)
    ]
    path = folders[0] / "config.json"
    path.write_text(json.dumps({"training": before_relative(config.to_dict())}))
    (kind,) = read_policy_runs(folders)
    assert kind.seeds == (0, 1) and kind.settings["relative"] is False


def test_runs_that_cannot_be_put_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a run of train_sb3\.py in"):
        read_policy_runs([tmp_path])
    ppo = POLICY_PRESETS["ppo-shot-coords"]
    with pytest.raises(ValueError, match="expected validations of the run in"):
        read_policy_runs([write_run(tmp_path / "young", ppo)])
    twins = [write_run(tmp_path / name, ppo, *points_of(0.2)) for name in "ab"]
    with pytest.raises(ValueError, match="one run of 'ppo-shot-coords' for each seed, got several"):
        read_policy_runs(twins)


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


# -- the picture ---------------------------------------------------------------------------------


def curves() -> tuple[Curve, Curve]:
    planner = planner_curve("planner", [planner_point(100, 0.3), planner_point(1000, 0.9)])
    policy = policy_curve("ppo", [[vars(point) for point in points_of(0.2)]])
    return planner, policy


def test_everybody_is_drawn(tmp_path: Path) -> None:
    planner, policy = curves()
    references = {"none": {"success": 0.1}, "simulator": {"success": 1.0}}
    save_learning_figure([planner, policy], references, tmp_path / "both.png")
    save_learning_figure([policy], {}, tmp_path / "policy.png")
    for name, drawn in (("both.png", True), ("policy.png", False)):
        assert has_color(tmp_path / name, OURS) == drawn
        assert has_color(tmp_path / name, FIRST_POLICY)


def test_rivals_are_drawn_against_time_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        planner_point(100, 0.1 * k, preset=name, steps=30 * k, samples=240 * k, seconds=10.0 * k)
        for name in ("rnn", "fold-jump")
        for k in (1, 3, 9)
    ]
    curves = report_curves({"planner": {"points": points}, "policies": []})
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    save_learning_figure(curves, {"none": {"success": 0.1}}, tmp_path / "x.png", rivals=True)
    time, samples = drawn[0].axes
    assert (time.get_xlabel(), samples.get_xlabel()) == (
        "time of training",
        "samples: updates x batch size",
    )
    for axes, places in ((time, [10.0, 30.0, 90.0]), (samples, [240, 720, 2160])):
        assert axes.get_xscale() == "log"
        lines = {str(line.get_label()): line for line in axes.lines}
        assert {"jumpy planner", "rnn"} <= lines.keys()
        assert lines["jumpy planner"].get_color() == OURS
        assert lines["rnn"].get_color() == FIRST_POLICY
        assert np.asarray(lines["rnn"].get_xdata()).tolist() == places
        bands = [
            np.concatenate([np.asarray(path.vertices) for path in band.get_paths()])
            for band in axes.collections
        ]
        low, high = (100.0 * limit for limit in wilson_interval(90, 100))
        assert any(
            np.isclose(band[:, 1], low).any() and np.isclose(band[:, 1], high).any()
            for band in bands
        )
    points[0]["samples"] = None
    unknown = report_curves({"planner": {"points": points}, "policies": []})
    with pytest.raises(ValueError, match="expected the samples of every point of rivals"):
        save_learning_figure(unknown, {}, tmp_path / "y.png", rivals=True)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(2e2, 3e6, ["1 k", "10 k", "100 k", "1 M"]), (3e6, 1.6e7, ["5 M", "10 M"])],
)
def test_an_axis_has_two_marks_at_least(low: float, high: float, marks: list[str]) -> None:
    axes = Figure().subplots()
    axes.set_xlim(low, high)
    mark_logarithmically(axes, "frames", FRAMES)
    assert [text.get_text() for text in axes.get_xticklabels()] == marks


def test_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected learning curves to draw, got none"):
        save_learning_figure([], {}, tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[viz\]'"):
        save_learning_figure(curves(), {}, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


# -- the script ----------------------------------------------------------------------------------


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose planners search next to nothing."""
    monkeypatch.setitem(PROTOCOLS, "default", QUICK)
    return load_script("study_learning")


def study_planner(script: ModuleType, out: Path, *options: str) -> int:
    places = ("--run-dir", str(out.parent / "runs"), "--out", str(out))
    usual = ("--steps", "6", "--fewer-steps", "2", "1500", "--tables", "10", "--device", "cpu")
    code: int = script.main(["planner", *places, *usual, *options])
    return code


def test_the_whole_study(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "planner.json", tmp_path / "out"
    assert study_planner(script, file, "--trajectories", "64", "--seeds", "0") == 0
    first = json.loads(file.read_text())
    assert [point["steps"] for point in first["points"]] == [6, 2]
    assert set(first["references"]) == {"none", "simulator"}
    # What is there is kept, whatever it says; what is missing is added.
    first["points"][0]["seconds"] = 1234.0
    file.write_text(json.dumps(first))
    assert study_planner(script, file, "--trajectories", "32", "64", "--seeds", "0") == 0
    report = json.loads(file.read_text())
    assert report["points"][:2] == first["points"]
    assert [point["trajectories"] for point in report["points"]] == [64, 64, 32]
    assert report["commands"] == [
        f"python scripts/study_learning.py planner --trajectories {sizes} --seeds 0 --steps 6 "
        "--fewer-steps 2 1500 --tables 10 --device cpu --run-dir runs --out planner.json"
        for sizes in ("64", "32 64")
    ]
    folder = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.25))
    options = ("--policies", str(folder), "--planner", str(file), "--out", str(out))
    capsys.readouterr()
    assert script.main(["figure", *options]) == 0
    page = (out / "learning.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert "| jumpy planner | 64 trajectories, 6 steps | 1 | 3,150 | 1,234.0 |" in page
    assert "| ppo-shot-coords | 150 steps | 1 | 6,000 | 3.0 | 25.0 % |" in page
    assert "train ppo\n" in page and "doing nothing wins" in page
    names = ("learning.json", "learning.md", "learning.png")
    before = [(out / name).read_bytes() for name in names]
    assert script.main(["figure", "--out", str(out)]) == 0  # from learning.json alone
    assert [(out / name).read_bytes() for name in names] == before


def test_rivals_in_one_file_and_one_picture(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "planner.json", tmp_path / "out"
    sizes = ("--trajectories", "16", "--seeds", "0", "--fewer-steps", "2", "9")
    places = ("--run-dir", str(tmp_path / "runs"), "--out", str(file), "--tables", "5")
    for name in ("rnn-tiny", "jumpy-rnn-tiny"):
        options = ("--preset", name, *sizes, *places, "--steps", "4", "--device", "cpu")
        assert script.main(["planner", *options]) == 0
    report = json.loads(file.read_text())
    assert [(point["preset"], point["samples"]) for point in report["points"]] == [
        (name, samples) for name in ("rnn-tiny", "jumpy-rnn-tiny") for samples in (32, 16)
    ]
    assert report["commands"][0].startswith(
        "python scripts/study_learning.py planner --preset rnn-tiny --trajectories 16 --seeds 0 "
        "--steps 4 --fewer-steps 2 9 "
    )
    planner = script.Planner(tmp_path, tmp_path, preset="rnn-tiny", seeds=(0,))
    assert max(run.steps for run in planner.runs()) == 30, "those of the preset"
    assert script.main(["figure", "--planner", str(file), "--out", str(out)]) == 0
    page = (out / "learning.md").read_text()
    assert page.startswith("# What training buys the planner, model by model\n")
    assert "| jumpy-rnn-tiny | 16 trajectories, 2 steps | 1 |" in page
    assert "Samples are updates times batch size." in page
    assert has_color(out / "learning.png", FIRST_POLICY)
    folder = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.25))
    before = [path.read_bytes() for path in sorted(out.iterdir())]
    capsys.readouterr()
    assert script.main(["figure", "--policies", str(folder), "--out", str(out)]) == 2
    assert "expected no policies beside several kinds of models" in capsys.readouterr().err
    assert script.main(["figure", "--out", str(out)]) == 0  # from learning.json alone
    assert [path.read_bytes() for path in sorted(out.iterdir())] == before


def test_points_of_older_versions_are_of_our_model(tmp_path: Path) -> None:
    file = write_points(tmp_path / "a.json", 10, planner_point(9, 0.5, device="cpu", threads=1))
    (point,) = merge_points([file])["points"]
    assert (point["preset"], point["samples"]) == ("fold-jump", 900 * 2048)


def test_processes_add_to_one_file_side_by_side(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, options = tmp_path / "planner.json", ("--fewer-steps", "--trajectories")
    score: dict[str, Any] = {"n": 10, "successes": 5, "success": 0.5, "ci95": (0.2, 0.8)}
    begun: list[LearningRun] = []

    def play(run: LearningRun, *_: Any, **__: Any) -> PlannerPoint:
        begun.append(run)
        if len(begun) == 1:  # Meanwhile others add to the file, one of them the same training.
            assert study_planner(script, file, *options, "8", "16", "--seeds", "1") == 0
            assert study_planner(script, file, *options, "8", "--seeds", "0") == 0
        made: dict[str, Any] = {"frames": run.frames, "seconds": 1.0, "device": "cpu", "threads": 1}
        made["samples"] = 2048 * run.steps
        return PlannerPoint(**asdict(run), **made, **score)

    monkeypatch.setattr(script, "score_of", lambda *_: score)
    monkeypatch.setattr(script, "learn_and_play", play)
    assert study_planner(script, file, *options, "8", "--seeds", "0") == 0
    report = json.loads(file.read_text())
    names = [(point["seed"], point["trajectories"]) for point in report["points"]]
    assert names == [(1, 8), (1, 16), (0, 8)] and len(begun) == 4
    assert len(report["commands"]) == 2 and set(report["references"]) == {"none", "simulator"}


def test_a_closed_output_costs_no_picture(
    script: ModuleType, tmp_path: Path, closed_stdout: Callable[[], AbstractContextManager[None]]
) -> None:
    folder = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.25))
    options = ("--policies", str(folder), "--out", str(tmp_path / "out"))
    with closed_stdout():
        assert script.main(["figure", *options]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"learning.json", "learning.md", "learning.png"}


def test_entries_that_cannot_be_are_named(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusals: Callable[..., int],
) -> None:
    point = planner_point(9, 0.5, device="cpu", threads=1)
    planner = write_points(tmp_path / "planner.json", 10, point)
    assert refusals(planner, lambda: merge_points([planner])) > 90
    folder = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.25))
    assert refusals(folder / "config.json", lambda: read_policy_runs([folder])) > 40
    monkeypatch.setattr(script.Figure, "_draw", lambda *_: None)
    out = tmp_path / "out"
    script.Figure(out, (folder,), (planner,)).do()
    monkeypatch.setattr(script, "check_comparable", lambda *_: None)  # names no file
    assert refusals(out / "learning.json", lambda: script.Figure(out).do(), every=7) > 40


def test_policies_alone_then_the_planner(script: ModuleType, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.25))
    assert script.main(["figure", "--policies", str(folder), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "learning.md").read_text()
    assert "jumpy planner" not in page and "ppo-shot-coords" in page
    parts = []
    for seed in ("0", "1"):
        parts.append(tmp_path / f"{seed}.json")
        assert study_planner(script, parts[-1], "--trajectories", "8", "--seeds", seed) == 0
    options = ("--planner", *map(str, parts), "--out", str(tmp_path))
    assert script.main(["figure", *options]) == 0
    page = (tmp_path / "learning.md").read_text()
    assert "| jumpy planner | 8 trajectories, 6 steps | 2 |" in page and "ppo-shot-coords" in page


def write_points(path: Path, tables: int = 10, *points: dict[str, Any]) -> Path:
    about = {"format": "jumpy-mbrl planner's learning", "format_version": 1, "tables": tables}
    path.write_text(json.dumps({**about, "points": points, "references": {}, "commands": []}))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trajectories", "0"), "got 0"),
        (("--seeds", "-1"), "got -1"),
        (("--tables", "0"), "expected a number of validation tables in"),
        (("--threads", "-1"), "--threads must not be negative, got -1"),
        (("--threads", "100000"), "--threads must be at most"),
        (("--seeds",), "--trajectories and --seeds need a number each"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--tables", "20"), "expected 10 tables, which"),
        (("--preset", "jumpy"), "unknown preset 'jumpy'"),
        (("--preset", "line-rnn"), "expected a preset of shots on a table, such as 'fold-jump'"),
    ],
)
def test_bad_settings_are_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    file = write_points(tmp_path / "planner.json")
    before = file.read_bytes()
    assert study_planner(script, file, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("study_learning: ") and message in error and error.count("\n") == 1
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_inside_a_world_model_and_on_real_tables(script: ModuleType, tmp_path: Path) -> None:
    ppo = replace(POLICY_PRESETS["ppo-shot-coords"], start="rest")
    runs = [
        write_run(
            tmp_path / f"{inside}-{seed}", replace(ppo, inside=inside, seed=seed), *points_of(0.3)
        )
        for inside in (None, "fold-billiards2d")
        for seed in (0, 1)
    ]
    out = tmp_path / "out"
    assert script.main(["figure", "--policies", *map(str, runs), "--out", str(out)]) == 0
    page = (out / "learning.md").read_text()
    assert page.startswith("# PPO inside world models\n")
    assert "| ppo-shot-coords, start=rest | 150 steps | 2 |" in page
    assert "| ppo-shot-coords, start=rest, inside=fold-billiards2d | 150 steps | 2 |" in page
    assert "time of its own training, are not counted" in page
    assert (out / "learning.png").is_file()
    report = json.loads((out / "learning.json").read_text())
    report["policies"][0]["label"] = "as an older version called it"
    (out / "learning.json").write_text(json.dumps(report))
    assert script.main(["figure", "--out", str(out)]) == 0
    assert (out / "learning.md").read_text() == page


def test_on_real_tables_alone_nothing_is_imagined(script: ModuleType, tmp_path: Path) -> None:
    run = write_run(tmp_path / "ppo", POLICY_PRESETS["ppo-shot-coords"], *points_of(0.3))
    assert script.main(["figure", "--policies", str(run), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "learning.md").read_text()
    assert page.startswith("# What experience and time buy\n") and "without their valid" in page
    assert "world model" not in page


def test_the_picture_is_called_as_the_page(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    monkeypatch.setattr(
        "jumpy_mbrl.lab.learning.figure.save_learning_figure",
        lambda *args, title, rivals: titles.append((title, rivals)),
    )
    rest = POLICY_PRESETS["ppo-rest-coords"]
    inside = [
        write_run(tmp_path / name, replace(rest, inside=name), *points_of(0.3)) for name in "ab"
    ]
    assert script.main(["figure", "--policies", *map(str, inside), "--out", str(tmp_path)]) == 0
    assert titles == [("PPO inside world models", False)]


def test_figures_that_cannot_be(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ppo = POLICY_PRESETS["ppo-shot-coords"]
    moving = write_run(tmp_path / "moving", replace(ppo, random_target=True), *points_of(0.2))
    rest = write_run(tmp_path / "rest", replace(ppo, start="rest"), *points_of(0.2))
    inside = write_run(tmp_path / "inside", replace(ppo, inside="rnn-billiards2d"), *points_of(0.2))
    planner = write_points(tmp_path / "planner.json", 10, planner_point(9, 0.5))
    few, many = (write_points(tmp_path / f"{n}.json", n, planner_point(9, 0.5)) for n in (10, 20))
    for options, message in (
        ((), "expected --policies or --planner, as there is no"),
        (("--planner", str(planner), "--policies", str(moving)), "with another random_target"),
        (("--planner", str(planner), "--policies", str(rest)), "with another start"),
        (("--planner", str(planner), "--policies", str(inside)), "with another inside"),
        (("--policies", str(rest), str(inside)), "as the first of them does, got"),
        (("--planner", str(few), str(many)), "played on as many tables, got [10, 20]"),
        (("--planner", str(few), str(few)), "expected every training once, got"),
        (("--planner", str(moving / "config.json")), "so it is not ours"),
    ):
        assert script.main(["figure", *options, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
