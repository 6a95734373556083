"""Training PPO and SAC: runs, what they leave behind, how they go on, and the command line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from jumpy_mbrl import models
from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.agents.baselines import features, policies, presets, train
from jumpy_mbrl.agents.baselines.policies import load_policy, policy_info, shipped_policies
from jumpy_mbrl.agents.baselines.presets import (
    POLICY_PRESETS,
    PolicyConfig,
    PPOConfig,
    SACConfig,
    TQCConfig,
)
from jumpy_mbrl.agents.baselines.train import CurvePoint, make_env, read_curve
from jumpy_mbrl.commands import main
from jumpy_mbrl.data import seeds
from jumpy_mbrl.evaluation import make_tables

TINY: dict[str, Any] = {"timesteps": 128, "n_envs": 16, "batch_size": 32, "net": (8,)}
TINY |= {"features": 8, "validation_interval": 64, "validation_tables": 10}
SHOTS = "ppo-shot-coords"
INSIDE = "fold-billiards2d"
HEADER = "timesteps,frames,seconds,success,n\n"
Finished = Callable[[str, Path], Path]


def tiny(preset: str = SHOTS, **changes: Any) -> PolicyConfig:
    """A preset that takes no time."""
    config = POLICY_PRESETS[preset]
    small: Any = {"buffer_size": 1024, "learning_starts": 32, "gradient_steps": 1}
    small = {"n_steps": 4} if isinstance(config.algorithm, PPOConfig) else small
    algorithm: Any = replace(config.algorithm, **small)
    return replace(config, algorithm=algorithm, **{**TINY, **changes})


def run_of(config: PolicyConfig, folder: Path, **options: Any) -> Path:
    return train.train_policy(config, folder, progress=False, **options)


def go_on(run: Path, preset: str = SHOTS, **changes: Any) -> Path:
    return run_of(tiny(preset, **changes), run, resume=True)


def steps_of(run: Path) -> list[int]:
    return [point.timesteps for point in read_curve(run)]


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_sb3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Copies a run of 64 steps of a preset, which is trained once."""
    runs: dict[str, Path] = {}

    def copied(preset: str, place: Path) -> Path:
        if preset not in runs:
            runs[preset] = tmp_path_factory.mktemp("runs") / preset
            run_of(tiny(preset, timesteps=64), runs[preset])
        return Path(shutil.copytree(runs[preset], place / "run"))

    return copied


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Path:
    """A finished run of PPO."""
    return finished(SHOTS, tmp_path)


# Runs


@pytest.mark.parametrize("name", POLICY_PRESETS)
def test_every_preset_trains_and_leaves_a_policy(name: str, tmp_path: Path) -> None:
    config = tiny(name, timesteps=64)
    best = run_of(config, tmp_path / "run", command="again")
    (point,) = read_curve(tmp_path / "run")
    assert point.timesteps == 64 and point.n == 10 and 0.0 <= point.success <= 1.0
    info = policy_info(best)
    assert info["algorithm"] == config.algorithm_name
    assert info["training"] == {"command": "again", **json.loads(json.dumps(config.to_dict()))}
    assert info["metrics"]["frames"] == point.frames
    shown: Any = make_env(config).reset()
    actions, _ = load_policy(best, trust=True).predict(shown)
    assert actions.shape == (16, 2)


def test_frames_are_those_that_world_models_count(tmp_path: Path) -> None:
    # A shot that misses makes an episode of 45 frames, 4 of them before it, one that hits fewer.
    config = tiny(timesteps=64)
    run_of(config, tmp_path / "shot")
    (point,) = read_curve(tmp_path / "shot")
    assert 64 * 38 < point.frames < 64 * 45
    run_of(tiny("ppo-frame-coords", timesteps=64), tmp_path / "frame")
    (point,) = read_curve(tmp_path / "frame")
    assert 64 <= point.frames <= 64 + 16  # a step is a frame, and a reset shows one


@pytest.mark.parametrize("name", [SHOTS, "sac-frame-coords"])
def test_a_policy_learns_inside_a_world_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    watch = WorldModelVectorEnv.step

    def step(env: WorldModelVectorEnv, actions: Any) -> Any:
        seen.append(env.step_by)
        return watch(env, actions)

    monkeypatch.setattr(WorldModelVectorEnv, "step", step)
    config = tiny(name, inside=INSIDE, timesteps=64, n_envs=16)
    best = run_of(config, tmp_path)
    (point,) = read_curve(tmp_path)
    # 64 steps, of which none are spent on the validation: its tables are real.
    assert seen == [config.form] * 4 and point.n == 10
    assert policy_info(best)["training"]["inside"] == INSIDE
    imagined, real = make_env(config), make_env(replace(config, inside=None))
    assert imagined.observation_space == real.observation_space
    imagined.seed(3)
    real.seed(3)
    assert np.array_equal(np.asarray(imagined.reset()), np.asarray(real.reset()))


def test_validations_tell_what_is_won_where_doing_nothing_loses(tmp_path: Path) -> None:
    for name in (SHOTS, "sac-frame-coords"):
        config = tiny(name, timesteps=64, validation_tables=40)
        best = run_of(config, tmp_path / name)
        (point,) = read_curve(tmp_path / name)
        tables = make_tables(40, split="validation")
        env = make_env(config, held_out=True)
        env.seed(seeds.validation_table_seeds(0, 40)[0])
        policy: Any = load_policy(best, trust=True)
        shown, (won, over) = env.reset(), np.zeros((2, 40), np.bool_)
        while not over.all():
            shown, _, dones, infos = env.step(policy.predict(shown, deterministic=True)[0])
            won |= ~over & [bool(info["is_success"]) for info in infos]
            over |= dones
        assert point.success == won.mean() and 0 < tables.idle_wins.sum() < 20
        assert point.contested == won[~tables.idle_wins].mean()


def test_doing_nothing_may_win_all_validation_tables(tmp_path: Path) -> None:
    config = tiny(SHOTS, timesteps=64, validation_tables=2, random_target=True)
    assert "contested" not in policy_info(run_of(config, tmp_path))["metrics"]
    (point,) = read_curve(tmp_path)
    assert np.isnan(point.contested) and "contested" not in point.known()


def test_curves_of_old_lack_what_is_contested(run: Path) -> None:
    (run / "curve.csv").write_text(f"{HEADER}64,9,1.0,0.5,10\n")
    (point,) = read_curve(run)
    assert point.success == 0.5 and np.isnan(point.contested)


def test_tqc_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[contrib\]'"):
        policies.algorithm_of("tqc")
    with pytest.raises(ValueError, match="below n_quantiles=25, got 25"):
        TQCConfig(top_quantiles_to_drop_per_net=25)


def test_the_best_policy_is_kept(tmp_path: Path) -> None:
    best = run_of(tiny(timesteps=320), tmp_path)
    curve = read_curve(tmp_path)
    assert steps_of(tmp_path) == [64, 128, 192, 256, 320]
    first = max(curve, key=lambda point: point.success)
    assert CurvePoint(**policy_info(best)["metrics"]) == first


@pytest.mark.parametrize("name", [SHOTS, "sac-shot-coords", "tqc-early-coords"])
def test_a_run_goes_on(name: str, tmp_path: Path) -> None:
    run_of(tiny(name), tmp_path)
    before = read_curve(tmp_path)
    run_of(tiny(name, timesteps=256), tmp_path, resume=True)
    after = read_curve(tmp_path)
    assert after[:2] == before and [point.timesteps for point in after] == [64, 128, 192, 256]
    assert all(a.frames < b.frames and a.seconds < b.seconds for a, b in pairwise(after))
    run_of(tiny(name, timesteps=256), tmp_path, resume=True)  # it is done
    assert read_curve(tmp_path) == after


@pytest.mark.parametrize("buffer_size", [1024, 128])  # the second is full, and begun anew
def test_returns_of_n_steps_do_not_run_on_after_a_resume(
    buffer_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("sac-frame-coords", timesteps=160)
    small: dict[str, Any] = {"buffer_size": buffer_size, "learning_starts": 10_000}
    config = replace(config, algorithm=replace(config.algorithm, **small))
    run_of(config, tmp_path)
    seen: list[Any] = []
    learn = SAC.learn

    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend((model.replay_buffer, model.replay_buffer.pos - 1, model.replay_buffer.size()))
        return learn(model, *args, **kwargs)

    monkeypatch.setattr(SAC, "learn", watched)
    run_of(replace(config, timesteps=224), tmp_path, resume=True)
    buffer, last, size = seen
    assert isinstance(buffer, NStepReplayBuffer) and size == min(160, buffer_size) // 16
    assert buffer.full == (buffer_size == 128)
    np.testing.assert_array_equal(buffer.timeouts[last] + buffer.dones[last], 1.0)
    assert not buffer.dones[last].all()
    buffer.rewards[:] = 1.0
    sample = buffer._get_samples(np.array([last]))
    assert float(sample.rewards) == 1.0, "the sum ends with the game that was cut off"
    assert float(sample.dones) == 0.0, "which the critic goes on with, from what was seen last"
    assert sample.discounts is not None
    assert float(sample.discounts) == pytest.approx(config.gamma)


@pytest.mark.parametrize("name", [SHOTS, "sac-shot-coords"])
def test_a_run_that_goes_on_is_logged_once(name: str, tmp_path: Path, read_board: Any) -> None:
    run_of(tiny(name), tmp_path / "whole")
    cut = tmp_path / "cut"
    run_of(tiny(name, timesteps=64), cut)
    checkpoint = (cut / "checkpoint.zip").read_bytes()
    for _ in range(2):  # The first is killed before its checkpoint.
        (cut / "checkpoint.zip").write_bytes(checkpoint)
        for path in (cut / "scalars_0").iterdir():  # TensorBoard reads by name, by the second
            path.rename(path.with_name(f"events.out.tfevents.0.{path.name}"))
        run_of(tiny(name), cut, resume=True)
    whole, shown = (
        {
            tag: [step for step, _ in points]
            for tag, points in read_board(folder / "scalars_0").items()
            if not tag.startswith("train/")  # SB3 forgets the update before a checkpoint.
        }
        for folder in (tmp_path / "whole", cut)
    )
    assert shown == whole and shown["eval/mean_reward"] == [64, 128]
    assert steps_of(cut) == [64, 128]


def test_a_folder_trains_one_policy_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(timesteps=64)
    refused: list[str] = []
    usual = train.make_algorithm

    def make(config: PolicyConfig, *arguments: Any) -> Any:
        if not refused:  # Nothing is written yet.
            refused.append(f"run is in use by process {os.getpid()} on ")
            with pytest.raises(BlockingIOError, match=refused[0]):
                run_of(replace(config, seed=1), tmp_path / "run")
        return usual(config, *arguments)

    monkeypatch.setattr(train, "make_algorithm", make)
    run_of(config, tmp_path / "run")
    assert refused
    assert json.loads((tmp_path / "run/config.json").read_text())["training"]["seed"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inside": "fold-billiards3d"}, "did you mean 'fold-billiards2d'"),
        ({"threads": 100_000}, "threads must be at most"),
        ({}, "too large for this machine"),
    ],
)
def test_a_start_that_fails_leaves_nothing_behind(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("too large for this machine")

    monkeypatch.setattr(train, "make_algorithm", fail)
    with pytest.raises(ValueError, match=message):
        run_of(tiny(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_interrupted_before_the_first_checkpoint(run: Path) -> None:
    (run / "checkpoint.zip").unlink()
    go_on(run, threads=1)
    assert steps_of(run) == [64, 128]
    # The record is of the last part of a run.
    training = json.loads((run / "config.json").read_text())["training"]
    assert (training["timesteps"], training["threads"]) == (128, 1)


def test_folders_that_do_not_fit(run: Path, tmp_path: Path) -> None:
    config = tiny(timesteps=64)
    with pytest.raises(ValueError, match="expected a run to resume in"):
        run_of(config, tmp_path / "none", resume=True)
    with pytest.raises(ValueError, match="already holds a run"):
        run_of(config, run)
    with pytest.raises(ValueError, match=r"got gamma=0\.5 instead of 0\.99"):
        go_on(run, gamma=0.5)


FOREIGN = r"config\.json to be of a run of train_sb3\.py"
CURVE = r"validations in .*curve\.csv, numbers in .*"
LACKS = r"metrics of a validation, lacks .'timesteps', 'sec"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        *(("config.json", text, FOREIGN) for text in ("[]", "{}", "{", "[" * 100_000)),
        ("config.json", '{"training": 3}', FOREIGN),
        ("curve.csv", "timesteps,frames,success\n64,9,0.1", f"{CURVE}columns .'timesteps', 'fr"),
        ("curve.csv", "", f"{CURVE}None"),
        ("curve.csv", f"{HEADER}abc,9,1.0,0.5,10", f"{CURVE}'abc'"),
        ("curve.csv", f"{HEADER}64,9,nan,0.5,10", f"{CURVE}seconds=nan"),
        ("curve.csv", f"{HEADER}64,9,1.0,-0.5,10", f"{CURVE}success=-0.5"),
        ("curve.csv", f"{HEADER}-64,9,1.0,0.5,10", f"{CURVE}timesteps=-64"),
        ("curve.csv", f"{HEADER}64,9,inf,0.5,10", f"{CURVE}seconds=inf"),
        ("curve.csv", f"{HEADER[:-1]},contested\n64,9,1.0,0.5,10,3.0", f"{CURVE}.*contested=3"),
        ("best/config.json", None, LACKS),
    ],
)
def test_foreign_and_damaged_files_are_named(
    name: str, text: str | None, message: str, run: Path
) -> None:
    content = json.loads((run / "best/config.json").read_text()) | {"metrics": {"frames": 3}}
    text = json.dumps(content) if text is None else text
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        go_on(run)
    assert (run / name).read_text() == text


@pytest.mark.parametrize("torn", ["policy.zip", "config.json", "neither fits"])
@pytest.mark.parametrize("timesteps", [64, 128])
def test_half_a_best_policy_counts_as_none(torn: str, timesteps: int, run: Path) -> None:
    best = run / "best"
    record = json.loads((best / "config.json").read_text())
    record["metrics"]["success"] = 1.0  # No policy to come could be better.
    (best / "config.json").write_text(json.dumps(record))
    if torn == "neither fits":
        (best / "policy.zip").write_bytes(b"of another validation")
    else:
        (best / torn).unlink()
    go_on(run, timesteps=timesteps)
    assert load_policy(best, trust=True).num_timesteps == timesteps
    curve = read_curve(run)
    assert CurvePoint(**policy_info(best)["metrics"]) == curve[-1]
    assert [point.timesteps for point in curve] == [64, 128][: timesteps // 64]


def test_damaged_checkpoints_are_named_and_a_buffer_without_checksum_goes_on(
    finished: Finished, tmp_path: Path
) -> None:
    sac = "sac-shot-coords"
    run = finished(sac, tmp_path)
    path = run / "replay_buffer.pkl"
    sealed = path.read_bytes()
    damaged = bytearray(sealed)
    damaged[len(sealed) // 2] ^= 1  # in the numbers, which the pickle has not checked
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"replay_buffer\.pkl .*checksum is that of other"):
        go_on(run, sac)
    for name, keep in product(("replay_buffer.pkl", "checkpoint.zip"), (0, 1000)):
        content = sealed if name == path.name else (run / name).read_bytes()
        (run / name).write_bytes(content[:keep])
        with pytest.raises(ValueError, match=rf"expected .*{name} as it was written, but it cann"):
            go_on(run, sac)
        (run / name).write_bytes(content)
    path.write_bytes(sealed[: -len(b"jumpy-mbrl sha256") - 32])
    go_on(run, sac)
    assert path.read_bytes()[:-32].endswith(b"jumpy-mbrl sha256")


def test_entries_of_a_run_that_cannot_be_are_named(
    tmp_path: Path, refusals: Callable[..., int]
) -> None:
    config = tiny()
    record = {"training": config.to_dict(), "versions": {}}
    (tmp_path / "config.json").write_text(json.dumps(record))

    def read() -> None:
        try:
            train._check_folder(tmp_path, record, resume=True)
        except ValueError as error:
            raise ValueError(f"config: {error}") from None  # Other settings are named by name.

    assert refusals(tmp_path / "config.json", read) > 300


def test_a_run_knows_the_model_it_is_inside_of_wherever_that_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        models.save_pretrained(models.from_pretrained(INSIDE), tmp_path / place / "mine")
    config = tiny(inside=str(tmp_path / "here" / "mine"))
    best = run_of(config, tmp_path / "run")
    assert policy_info(best)["training"]["inside"] == "mine"
    record = (tmp_path / "run" / "config.json").read_text()
    assert str(tmp_path) not in record
    checksum = models.pretrained_info(INSIDE)["weights_sha256"]
    assert json.loads(record)["inside_sha256"] == checksum
    moved = replace(config, inside=str(tmp_path / "there" / "mine"), timesteps=192)
    run_of(moved, tmp_path / "run", resume=True)
    assert read_curve(tmp_path / "run")[-1].timesteps == 192
    models.save_pretrained(models.RNN(models.RNNConfig()), tmp_path / "there" / "mine")
    with pytest.raises(ValueError, match=f"got inside_sha256=.* instead of {checksum}"):
        run_of(moved, tmp_path / "run", resume=True)


# Tables


def test_tables_of_training_validation_and_evaluation_never_meet() -> None:
    last = 2**30 - 1
    assert seeds.training_table_seeds(0, 5) == range(5)
    assert seeds.training_table_seeds(last, 2**20)[-1] + 1 == seeds.validation_table_seeds(0, 1)[0]
    assert (
        seeds.validation_table_seeds(last, 2**20)[-1] + 1 == seeds.evaluation_table_seeds(0, 1)[0]
    )
    with pytest.raises(ValueError, match=r"expected the training seed in .* got 1073741824"):
        seeds.training_table_seeds(last + 1, 1)
    with pytest.raises(ValueError, match="number of validation tables in"):
        seeds.validation_table_seeds(0, 0)


def test_settings_of_the_networks_reach_sb3() -> None:
    config = replace(tiny("sac-shot-coords"), net=(8, 4), motion=True)
    whole = replace(config, algorithm=SACConfig(n_critics=3, n_steps=5), relative=True)
    model: Any = train.make_algorithm(whole, make_env(config))
    assert len(model.critic.q_networks) == 3
    assert model.replay_buffer.n_steps == 5 and model.replay_buffer.gamma == config.gamma
    assert type(model.actor.features_extractor) is features.RelativeFeatures
    plain: Any = train.make_algorithm(replace(config, relative=False), make_env(config))
    assert type(plain.actor.features_extractor) is features.MotionFeatures
    assert type(plain.replay_buffer) is ReplayBuffer


def test_validation_rewards_success_alone_and_balls_at_rest_lie_still() -> None:
    config = tiny("ppo-rest-coords", random_target=False)
    assert config.reward == "dense"
    for held_out in (False, True):
        env = make_env(config, held_out=held_out)
        env.seed(0)
        frames: Any = env.reset()
        frames = frames.reshape(-1, 4, 4)
        assert np.array_equal(frames[:, 0], frames[:, 3])
        rewards = env.step(np.full((env.num_envs, 2), 0.7, dtype=np.float32))[1]
        assert (set(rewards.tolist()) <= {0.0, 1.0}) == held_out
        assert env.num_envs == (10 if held_out else 16)


def test_there_is_a_preset_for_all_that_can_be_seen() -> None:
    sizes = {"shot-coords": 16, "frame-coords": 16, "shot-state": 56, "frame-state": 14}
    for parts in product(("ppo", "sac"), ("shot", "frame"), ("coords", "state", "pixels")):
        config = presets.policy_preset("-".join(parts))
        assert (config.algorithm_name, config.form, config.obs_type) == parts
        assert config.motion == (parts[2] == "coords")
        # Frames are stacked where one has no velocity.
        size = sizes.get("-".join(parts[1:]))
        shape = make_env(tiny("-".join(parts))).observation_space.shape
        assert shape == ((12, 64, 64) if size is None else (size,))
    with pytest.raises(ValueError, match="did you mean 'ppo-shot-coords'"):
        presets.policy_preset("ppo-shot-coord")


@pytest.mark.parametrize("inside", [None, INSIDE])
def test_the_last_frame_ends_a_game(inside: str | None) -> None:
    """For SB3, whose critics would otherwise add what they expect of frames to come."""
    for terminal in (True, False):
        env = make_env(tiny("ppo-frame-coords", inside=inside, terminal=terminal))
        env.seed(0)
        env.reset()
        lost = truncated = 0
        for _ in range(44):
            _, rewards, dones, infos = env.step(np.zeros((env.num_envs, 2), dtype=np.float32))
            truncated += sum(info["TimeLimit.truncated"] for info in infos)
            lost += int((dones & (rewards == 0.0)).sum())
        assert lost > 0 and truncated == (0 if terminal else lost)


# Settings


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (None, {"batch_size": 100}, r"batch_size must divide the 4096 steps .* got 100"),
        (None, {"gamma": 1.5}, r"gamma to be a number in \[0, 1\], got 1.5"),
        (None, {"net": ()}, "net must be sizes of at least 1"),
        (None, {"motion": True, "obs_type": "pixels"}, "motion is for obs_type 'coords' alone"),
        (None, {"terminal": True}, "terminal is for form 'frame' alone"),
        (None, {"relative": True}, "relative adds to what motion shows"),
        (None, {"inside": "fold", "obs_type": "state"}, "which no world model imagines"),
        (None, {"seed": 2**30}, "expected the training seed in"),
        (None, {"validation_tables": 2**21}, "number of validation tables in"),
        (None, {"n_envs": 1, "algorithm": PPOConfig(n_steps=1)}, r"at least 2, .* got 1 \* 1 and"),
        (None, {"batch_size": 1}, "batch_size must be at least 2, .* and 1"),
        (PPOConfig, {"gae_lambda": 1.1}, r"in \[0, 1\], got 1.1"),
        (SACConfig, {"gradient_steps": 0}, "of at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused_by_name(kind: Any, changes: Any, message: str) -> None:
    name = "" if kind is None else next(iter(changes))
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        PolicyConfig(**{"algorithm": PPOConfig(), **changes}) if kind is None else kind(**changes)
    PPOConfig(log_std_init=-3.0)


@pytest.mark.parametrize("form", ["shot", "frame"])
def test_pictures_to_replay_have_to_fit_into_memory(form: Any) -> None:
    with pytest.raises(ValueError, match=r"98,304,000,000 bytes .*--algorithm\.buffer-size"):
        PolicyConfig(SACConfig(), form=form, obs_type="pixels")
    config = PolicyConfig(SACConfig(buffer_size=500), form=form, obs_type="pixels", n_envs=2)
    # What is refused is what would be allocated.
    held: Any = train.make_algorithm(replace(config, net=(8,), features=8), make_env(config))
    buffer = held.replay_buffer
    assert buffer.observations.nbytes + buffer.next_observations.nbytes == 98_304 * 500
    PolicyConfig(SACConfig(), form=form)
    PolicyConfig(PPOConfig(), form=form, obs_type="pixels")


# The command line


def test_settings_that_older_versions_did_not_have_mean_what_those_did() -> None:
    settings = POLICY_PRESETS["sac-early-coords"].to_dict()
    new = ("relative", "terminal", "n_critics", "n_steps")
    algorithm = {name: v for name, v in settings["algorithm"].items() if name not in new}
    older = {name: v for name, v in settings.items() if name not in new} | {"algorithm": algorithm}
    usual, found = presets.completed(older), presets.changes(older, settings)
    assert (usual["relative"], usual["terminal"]) == (False, False)
    assert (usual["algorithm"]["n_critics"], settings["algorithm"]["n_critics"]) == (2, 1)
    assert [change.partition("=")[0] for change in found] == ["algorithm", "relative"]


def test_options_change_the_preset(script: ModuleType) -> None:
    options = ["--preset", "ppo-frame-coords", "--timesteps", "5", "--algorithm.n-epochs", "3"]
    options += ["--seed", "2", "--net", "16", "16", "--run-dir", "runs/x", "--resume"]
    arguments = script.parse(options)
    expected = POLICY_PRESETS["ppo-frame-coords"]
    assert arguments.resume and arguments.config == replace(
        expected,
        algorithm=PPOConfig(n_steps=44, n_epochs=3, gae_lambda=1.0),
        timesteps=5,
        seed=2,
        net=(16, 16),
    )
    expected_command = (
        "python scripts/train_sb3.py --preset ppo-frame-coords --timesteps 5 "
        "--algorithm.n-epochs 3 --seed 2 --net 16 16 --run-dir x"
    )
    assert script.record(options) == expected_command
    underscored = [word.replace("-", "_").replace("__", "--", 1) for word in options]
    underscored[1] = "ppo-frame-coords"
    assert "--run_dir" in underscored and script.parse(underscored) == arguments
    assert script.record(underscored) == expected_command


@pytest.mark.parametrize("name", shipped_policies())
def test_commands_of_shipped_policies_repeat_them(script: ModuleType, name: str) -> None:
    training = policy_info(name)["training"]
    command = training.pop("command")
    config = script.parse(shlex.split(command)[2:]).config
    assert presets.completed(config.to_dict()) == presets.completed(training)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--inside", INSIDE], "--inside fold-billiards2d"),
        (["--inside", "/home/me/runs/mine/"], "--inside mine"),
        (["--inside=../mine"], "--inside mine"),
    ],
)
def test_no_path_is_recorded(script: ModuleType, given: list[str], kept: str) -> None:
    options = ["--run_dir=/home/me/x", *given, "--seed", "1"]
    assert script.record(options) == (f"python scripts/train_sb3.py --seed 1 {kept} --run-dir x")


def test_it_trains_and_says_where(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run("train-policy", ["--preset", "dqn-shot-coords", "--run-dir", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train_sb3: ") and len(error.splitlines()) == 1
    options = ["--preset", "ppo-rest-coords", "--run-dir", str(tmp_path / "run")]
    options += ["--timesteps", "64", "--n-envs", "16", "--batch-size", "64", "--net", "8"]
    assert main.run("train-policy", [*options, "--validation-tables", "10"]) == 0
    shown = capsys.readouterr()
    assert "of 10 validation tables after" in shown.out and "64/64" in shown.err
    command = policy_info(tmp_path / "run" / "best")["training"]["command"]
    assert command.endswith("--validation-tables 10 --run-dir run")
