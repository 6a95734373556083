"""Policies of Stable-Baselines3 as agents: what is read, what they are shown, and their rows."""

from __future__ import annotations

import base64
import json
import math
import pickletools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC

import jumpy_mbrl
from jumpy_mbrl.adapters.sb3 import make_vec_env
from jumpy_mbrl.agents import AGENTS, Agent, load_agent, model_free
from jumpy_mbrl.agents.baselines import features, policies
from jumpy_mbrl.agents.baselines.features import MotionFeatures, RelativeFeatures
from jumpy_mbrl.agents.baselines.policies import (
    PolicyAgent,
    load_policy,
    policy_agent,
    policy_info,
    save_policy,
    shipped_policies,
)
from jumpy_mbrl.agents.registry import AgentEntry
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rules import line_task, plane_task
from jumpy_mbrl.evaluation import evaluate_agent, find_variant, make_tables
from jumpy_mbrl.files import sha256_of

COORDS = {"obs_type": "coords", "random_target": False}
TARGETS = {"obs_type": "coords", "random_target": True}
PIXELS = {"obs_type": "pixels", "random_target": False}


class Recorder:
    """A policy that keeps what it is shown, and shoots too hard."""

    def predict(self, observation: Any, deterministic: bool) -> tuple[Any, None]:
        assert deterministic
        self.shown = observation
        return np.full((len(observation), 2), 1.5), None


def agent_of(training: dict[str, Any], **task: Any) -> tuple[PolicyAgent, Recorder]:
    recorder = Recorder()
    return PolicyAgent(recorder, training, plane_task(**task)), recorder


@pytest.fixture(scope="module")
def trained() -> PPO:
    env = make_vec_env("Billiards2DShot-v0", 8, seed=0)
    settings = {"net_arch": [8], "features_extractor_class": MotionFeatures}
    model = PPO("MlpPolicy", env, n_steps=2, batch_size=16, policy_kwargs=settings, seed=0)
    return model.learn(32)


@pytest.fixture(scope="module")
def saved(trained: PPO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "tiny"
    return save_policy(trained, folder, training=COORDS, metrics={"frames": 1440})


@pytest.fixture
def shipped(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the policy had come with the package."""
    monkeypatch.setattr("jumpy_mbrl.shipped.Shelf._path", lambda self: saved.parent)
    return saved


# -- what is read --------------------------------------------------------------------------------


def test_a_saved_policy_plays_as_before(trained: PPO, saved: Path) -> None:
    loaded = load_policy(saved, trust=True)
    shown = np.random.default_rng(0).uniform(0, 1, (20, 16)).astype(np.float32)
    expected, _ = trained.predict(shown, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(shown, deterministic=True)[0], expected)
    info = policy_info(saved)
    assert info["algorithm"] == "ppo" and info["training"] == COORDS
    assert "system_info.txt" not in zipfile.ZipFile(saved / "policy.zip").namelist()
    assert info["metrics"] == {"frames": 1440} and "stable_baselines3" in info["versions"]


def test_policies_do_not_name_the_insides_of_a_version_of_numpy(saved: Path) -> None:
    folders = [saved, *(Path(jumpy_mbrl.__file__).parent / "policies").iterdir()]
    assert len(folders) == 3
    for folder in folders:
        data = json.loads(zipfile.ZipFile(folder / "policy.zip").read("data"))
        assert {"observation_space", "action_space"} < data.keys()
        for entry in data.values():
            if isinstance(entry, dict) and ":serialized:" in entry:
                pickled = pickletools.genops(base64.b64decode(entry[":serialized:"]))
                texts = {argument for _, argument, _ in pickled if isinstance(argument, str)}
                assert not {text for text in texts if text.startswith("numpy.")}


def test_pickles_inside_saved_policies_find_what_they_name() -> None:
    for name in ("MotionFeatures", "RelativeFeatures"):
        assert getattr(model_free, name) is getattr(features, name)
    assert model_free.load_policy is policies.load_policy


def test_a_loaded_policy_trains_on_any_number_of_tables(saved: Path) -> None:
    env = make_vec_env("Billiards2DShot-v0", 3, seed=0)
    model = load_policy(saved, trust=True, env=env)
    before = [weight.clone() for weight in model.policy.parameters()]
    model.learn(6, reset_num_timesteps=False)
    assert model.n_envs == 3 and model.num_timesteps == 32 + 6
    assert any(
        not weight.equal(old) for weight, old in zip(model.policy.parameters(), before, strict=True)
    )
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        load_policy(saved, trust=True, env=make_vec_env("Billiards2DShot-v0", 3, obs_type="state"))


def test_saving_leaves_the_model_as_it_was(trained: PPO, tmp_path: Path) -> None:
    moments = trained.policy.optimizer.state_dict()["state"]
    assert moments
    small = save_policy(trained, tmp_path / "small", training=COORDS) / "policy.zip"
    assert trained.policy.optimizer.state_dict()["state"].keys() == moments.keys()
    assert not load_policy(small.parent, trust=True).policy.optimizer.state_dict()["state"]
    trained.save(tmp_path / "whole.zip")
    assert small.stat().st_size < (tmp_path / "whole.zip").stat().st_size


def test_an_entry_that_json_cannot_hold_leaves_the_old_policy(trained: PPO, tmp_path: Path) -> None:
    folder = save_policy(trained, tmp_path, training=COORDS, metrics={"won": np.float32(0.5)})
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ValueError, match=r"expected metrics\['won'\] .* got nan"):
        save_policy(trained, tmp_path, training=COORDS, metrics={"won": float("nan")})
    with pytest.raises(ValueError, match=r"expected training\['in'\] .*Path"):
        save_policy(trained, tmp_path / "new", training={**COORDS, "in": tmp_path})
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert policy_info(folder)["metrics"] == {"won": 0.5}
    assert isinstance(load_policy(folder, trust=True), PPO)


def test_what_is_not_shipped_is_read_only_if_trusted(
    saved: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped_policies() == ["tiny"]
    assert isinstance(load_policy("tiny"), PPO)
    assert isinstance(load_policy(saved), PPO)  # the same bytes, wherever they lie
    monkeypatch.setattr("jumpy_mbrl.shipped.Shelf._path", lambda self: tmp_path / "none")
    monkeypatch.setattr(PPO, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="pickles could run anything; pass trust=True"):
        load_policy(saved)


def test_a_tampered_zip_is_never_read(
    saved: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((saved / "policy.zip").read_bytes())
    data[len(data) // 2] ^= 1
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "policy.zip").write_bytes(data)
    content = json.loads((saved / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(content))
    monkeypatch.setattr(PPO, "load", lambda *_, **__: pytest.fail("it was read"))
    for trust in (False, True):
        with pytest.raises(ValueError, match="the two do not belong together"):
            load_policy(bad, trust=trust)
    content["policy_sha256"] = sha256_of(bad / "policy.zip")  # who tampers can do this as well
    (bad / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected one of the policies that are shipped"):
        load_policy(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "zip"}, "so it is not ours"),
        ({"format_version": 2}, "expected format_version 1"),
        ({"algorithm": "dqn"}, "expected one of .'ppo', 'sac'. .* got 'dqn'"),
        ({"algorithm": ["ppo"]}, r"expected 'algorithm' in .*, got \['ppo'\]"),
        ({"algorithm": None}, "expected 'algorithm' in .*, got None"),
        ({"training": None}, "expected 'training'"),
        ({"policy_sha256": 7}, "expected 'policy_sha256'"),
        ({"training": {"random_target": False}}, r"was trained on, lacks \['obs_type'\]"),
    ],
)
def test_foreign_configs(saved: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = json.loads((saved / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=message):
        policy_info(tmp_path)


def test_entries_of_a_policy_that_cannot_be_are_named(
    saved: Path, tmp_path: Path, refusals: Callable[..., int]
) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(saved, folder)

    def read() -> None:
        try:
            policy_agent(folder, trust=True)
        except ValueError as error:
            raise ValueError(f"config: {error}") from None  # Some name what it says, not the file.

    assert refusals(folder / "config.json", read) > 50


def test_what_is_not_a_policy_of_ours_is_not_replaced(trained: PPO, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    with pytest.raises(ValueError, match=r"config\.json to be free or to hold format 'jumpy-mbrl"):
        save_policy(trained, tmp_path, training=COORDS)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("other", ["ppo", "sac"])
def test_policies_of_another_algorithm_than_they_say(other: str, tmp_path: Path) -> None:
    kind = SAC if other == "ppo" else PPO
    model = kind("MlpPolicy", make_vec_env("Billiards2DShot-v0"), policy_kwargs={"net_arch": [8]})
    save_policy(model, tmp_path, training=COORDS)
    assert isinstance(load_policy(tmp_path, trust=True), kind)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"algorithm": other}))
    with pytest.raises(ValueError, match=rf"expected a policy of '{other}' in .*policy\.zip"):
        load_policy(tmp_path, trust=True)


def test_devices(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", "auto", torch.device("cpu")):
        assert load_policy(saved, trust=True, device=device).device.type in ("cpu", "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match="device 'cuda' was asked for, but torch sees 0"):
        load_policy(saved, trust=True, device="cuda")
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        load_policy(saved, trust=True, device="tpu")


def test_missing_files(saved: Path, shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder 'tinny'.*did you mean 'tiny'"):
        load_policy("tinny")
    with pytest.raises(ValueError, match="to describe a policy"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    with pytest.raises(ValueError, match=r"expected policy\.zip in"):
        load_policy(tmp_path)


def test_other_algorithms_are_not_saved(tmp_path: Path) -> None:
    model = A2C("MlpPolicy", make_vec_env("Billiards2DShot-v0"), device="cpu")
    with pytest.raises(ValueError, match="expected PPO or SAC, got A2C"):
        save_policy(model, tmp_path, training=COORDS)


# -- what they are shown -------------------------------------------------------------------------


def test_policies_of_coords_are_shown_what_the_environment_shows() -> None:
    tables = make_tables(5)
    agent, policy = agent_of(COORDS)
    assert isinstance(agent, Agent)
    actions, state = agent.predict(tables.observations, state="kept")
    assert actions.dtype == np.float32 and (actions == 1.0).all() and state == "kept"
    env = gym.make("Billiards2DShot-v0")
    expected = [env.reset(seed=seed)[0] for seed in tables.reset_seeds]
    np.testing.assert_array_equal(policy.shown, expected)
    assert agent.predict(tables.observations[0])[0].shape == (2,)


def test_targets_are_shown_to_those_that_know_them() -> None:
    tables = make_tables(5, variant=find_variant("random_target"))
    agent, policy = agent_of(COORDS, random_target=True)
    agent.predict(tables.observations)
    np.testing.assert_array_equal(policy.shown, tables.frames.reshape(5, 16))
    agent, policy = agent_of(TARGETS, random_target=True)
    agent.predict(tables.observations)
    env = gym.make("Billiards2DShot-v0", random_target=True)
    np.testing.assert_array_equal(
        policy.shown, [env.reset(seed=seed)[0] for seed in tables.reset_seeds]
    )
    agent, policy = agent_of(TARGETS)
    agent.predict(make_tables(5).observations)
    target = policy.shown.reshape(5, 4, 8)[..., 4:]
    np.testing.assert_allclose(target, np.broadcast_to([0.8, 1.0, 0.0, 0.2], target.shape))
    for training in (TARGETS, PIXELS):  # They look at targets, and would be shown a wrong one.
        agent, _ = agent_of(training, random_target=True)
        with pytest.raises(ValueError, match=r"none was shown: give frames with .*, 4 \+ 4"):
            agent.predict(tables.frames)
    agent, policy = agent_of(COORDS, random_target=True)
    agent.predict(tables.frames)
    np.testing.assert_array_equal(policy.shown, tables.frames.reshape(5, 16))


@pytest.mark.parametrize("table", ["default", "random_target"])
def test_policies_of_pixels_are_shown_pictures(table: str) -> None:
    variant = find_variant(table)
    tables = make_tables(3, variant=variant)
    agent, policy = agent_of(PIXELS, **variant.arguments)
    agent.predict(tables.observations)
    env = gym.make("Billiards2DShot-v0", obs_type="pixels", **variant.arguments)
    expected = np.stack([env.reset(seed=seed)[0] for seed in tables.reset_seeds])
    assert policy.shown.shape == expected.shape and policy.shown.dtype == np.uint8
    assert np.abs(policy.shown.astype(int) - expected).max() <= 1  # places were float32


def test_games_that_a_policy_cannot_play() -> None:
    with pytest.raises(ValueError, match="shown 'state', which agents are not"):
        agent_of({"obs_type": "state", "random_target": False})
    with pytest.raises(ValueError, match="got 3 balls"):
        agent_of(COORDS, num_balls=3)
    with pytest.raises(ValueError, match="got a line"):
        PolicyAgent(Recorder(), COORDS, line_task())
    with pytest.raises(ValueError, match=r"shot after 4 frames, .* got lead_in=7"):
        agent_of(COORDS, config={"lead_in": 7})
    agent, _ = agent_of(COORDS)
    with pytest.raises(ValueError, match="4 numbers a frame, or 8 with the target, got 6"):
        agent.predict(np.full((2, 4, 6), 0.5, dtype=np.float32))


def test_motion_features_are_places_and_changes() -> None:
    space = spaces.Box(0.0, 1.0, (6,), np.float32)
    features = MotionFeatures(space, frames=3, scale=10.0)
    shown = torch.tensor([[0.1, 0.5, 0.2, 0.5, 0.4, 0.75]])
    expected = torch.tensor([[-0.4, 1.0, 1.0, 0.0, 2.0, 2.5]])
    torch.testing.assert_close(features(shown), expected)
    with pytest.raises(ValueError, match="expected 6 numbers to be frames of one size"):
        MotionFeatures(space, frames=4)


def test_relative_features_are_places_seen_from_one_another() -> None:
    space = spaces.Box(0.0, 1.0, (8,), np.float32)
    features = RelativeFeatures(space, frames=2, scale=10.0)
    # The target's middle, (0.9, 0.1), is 0.8 below the object ball; the cue ball 0.4 to its left.
    shown = torch.tensor([[0.5, 0.8, 0.9, 1.0, 0.5, 0.9, 0.9, 0.9]])
    aim = torch.tensor([0.4, 0.2])  # one diameter above the object ball
    length = aim.norm()
    expected = [
        *(4.0 * torch.tensor([0.4, 0.0, 0.0, -0.8, 0.4, 0.2, 0.4, 0.8, length])),
        *(1.0, 0.0, 0.0, -1.0, *(aim / length)),
        *(0.0, -2.0),  # the balls near each other along y
        math.asin(0.2 / 0.4),
        *(0.0, -0.2 / length, -1.0),
    ]
    given = features(shown)
    assert given.shape == (1, features.features_dim) == (1, 29)
    torch.testing.assert_close(given[0, :8], MotionFeatures(space, 2, 10.0)(shown)[0])
    torch.testing.assert_close(given[0, 8:], torch.tensor([float(one) for one in expected]))


def test_relative_features_go_by_the_target_that_is_shown() -> None:
    balls = torch.rand((5, 4, 4), generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0.1, 0.3, 0.6, 0.8])
    whole = torch.cat([balls, target.expand(5, 4, 4)], dim=2).flatten(1)
    table = TableConfig(target=(0.1, 0.3, 0.6, 0.8))
    told = RelativeFeatures(spaces.Box(0.0, 1.0, (16,), np.float32), table=table)
    shown = RelativeFeatures(spaces.Box(0.0, 1.0, (32,), np.float32))
    torch.testing.assert_close(shown(whole)[:, 32:], told(balls.flatten(1))[:, 16:])
    usual = RelativeFeatures(spaces.Box(0.0, 1.0, (16,), np.float32))
    assert not torch.equal(usual(balls.flatten(1)), told(balls.flatten(1)))


def test_relative_features_of_balls_in_contact_are_finite() -> None:
    """And have gradients: the object ball amid the target, the cue ball where one would aim at."""
    features = RelativeFeatures(spaces.Box(0.0, 1.0, (16,), np.float32))
    shown = torch.tensor([[0.7, 0.1, 0.9, 0.1] * 4], requires_grad=True)
    given = features(shown)
    given.sum().backward()
    assert shown.grad is not None
    assert given.isfinite().all() and shown.grad.isfinite().all()


def test_relative_features_need_two_balls() -> None:
    with pytest.raises(ValueError, match="4 numbers a frame, or 8 with the target, got 6"):
        RelativeFeatures(spaces.Box(0.0, 1.0, (24,), np.float32))
    with pytest.raises(ValueError, match="expected a table with 2 balls, got 3"):
        RelativeFeatures(spaces.Box(0.0, 1.0, (16,), np.float32), table=TableConfig(num_balls=3))


# -- their rows ----------------------------------------------------------------------------------


def test_a_shipped_policy_is_an_agent(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "ppo", AgentEntry("a policy", policy="tiny"))
    result = evaluate_agent(load_agent("ppo"), make_tables(20))
    assert result.n == 20 and result.belief is None
    assert result.checkpoint == "tiny" and result.training_frames == 1440
    with pytest.raises(ValueError, match="got 3 balls"):
        load_agent("ppo", task=plane_task(num_balls=3))


def test_a_policy_of_ones_own_is_an_agent_if_trusted(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AGENTS, "ppo", AgentEntry("a policy", policy="tiny"))
    with pytest.raises(ValueError, match="pass trust=True"):
        load_agent("ppo", checkpoint=saved)
    assert isinstance(load_agent("ppo", checkpoint=saved, trust=True), PolicyAgent)


def test_a_folder_called_as_a_shipped_policy_is_not_recorded_as_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved, "sac-billiards2d")
    mine = policy_agent(Path("sac-billiards2d"), trust=True)
    assert (mine.checkpoint, mine.training_frames) == ("./sac-billiards2d", 1440)
    assert policy_agent("sac-billiards2d").checkpoint == "sac-billiards2d"


# -- what is shipped -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_shipped_policies_win_as_many_tables_as_they_say_and_are_small(name: str) -> None:
    policy = AGENTS[name].policy
    assert policy is not None and len(shipped_policies()) == 2
    info = policy_info(policy)
    assert info["algorithm"] == name
    assert info["training"]["command"].startswith("python scripts/train_sb3.py --preset ")
    tables = make_tables(info["metrics"]["n"], split="validation")
    figures = evaluate_agent(load_agent(name), tables)
    # Elsewhere a shot is rounded otherwise, and a few that nearly miss do miss.
    assert figures.success == pytest.approx(info["metrics"]["success"], abs=0.01)
    assert figures.training_frames == info["metrics"]["frames"]
    assert figures.given.training_seconds == info["metrics"]["seconds"]
    assert figures.given.weights is not None and figures.given.weights > 100_000
    assert figures.given.built_in == ("changes between frames", "places relative to the target")
    assert figures.given.samples is None and figures.given.models == 0
    folder = Path(jumpy_mbrl.__file__).parent / "policies" / policy
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2 * 1024**2
