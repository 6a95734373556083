"""From pictures to a plan: what is read, who reads it, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import agents, data, evaluation
from jumpy_mbrl.agents.registry import model_for
from jumpy_mbrl.commands import main
from jumpy_mbrl.data.loading import load_data
from jumpy_mbrl.envs.rules import Task, line_task, plane_task
from jumpy_mbrl.models import SpriteJump, SpriteJumpConfig, from_pretrained, save_pretrained
from jumpy_mbrl.models.bodies.seeing import SeeingModel
from jumpy_mbrl.training import train
from jumpy_mbrl.training.presets import preset

QUICK = agents.PlannerConfig(
    candidates=16, refined=2, gradient_steps=2, finalists=2, perturbations=4
)
MODELS = {"pixels": "sprite-64-billiards2d", "pixels28": "sprite-28-billiards2d"}
RIVALS = {"rnn-pixels": "rnn-billiards2d", "jumpy-rnn-pixels": "jumpy-rnn-billiards2d"}
SHAPES = {"pixels": (64, 64, 3), "pixels28": (28, 28, 1)}


def tables(count: int = 12, variant: str = "default", camera: str = "plain") -> evaluation.HeldOut:
    game = evaluation.find_variant(variant)
    return replace(evaluation.make_tables(count, 0, game, "validation"), camera=camera)


def eyes(obs: str = "pixels") -> SpriteJump:
    model = from_pretrained(MODELS[obs])
    assert isinstance(model, SpriteJump)
    return model


def shown(held_out: evaluation.HeldOut, picture: tuple[int, int, int] = (64, 64, 3)) -> Tensor:
    pictures = torch.from_numpy(held_out.pictures(picture))
    return pictures.flatten(2) / 255.0


def agent(obs: str = "pixels", name: str = "jumpy-pixels", **arguments: Any) -> Any:
    return agents.load_agent(name, checkpoint=MODELS[obs], config=QUICK, **arguments)


# -- what is seen --------------------------------------------------------------------------------


@pytest.mark.parametrize(("obs", "balls"), [("pixels", "default"), ("pixels28", "default")])
def test_pictures_are_those_of_the_environment(obs: str, balls: str) -> None:
    held_out, (size, _, channels) = tables(3), SHAPES[obs]
    env = gym.make("Billiards2D-v0", obs_type="pixels", pixels={"size": size, "channels": channels})
    for seed, pictures in zip(held_out.reset_seeds, held_out.pictures(SHAPES[obs]), strict=True):
        frames = [env.reset(seed=seed)[0]]
        frames += [env.step(np.zeros(2, np.float32))[0] for _ in range(3)]
        np.testing.assert_array_equal(pictures, frames)


@pytest.mark.parametrize("variant", ["default", "three_balls", "five_balls"])
@pytest.mark.parametrize("obs", MODELS)
@torch.no_grad()
def test_positions_and_velocities_are_read(obs: str, variant: str) -> None:
    held_out = tables(20, variant)
    model = SeeingModel(eyes(obs), held_out.config.num_balls)
    state = model.observe(shown(held_out, model.picture))
    position = (state.obs - torch.from_numpy(held_out.positions)).abs()
    inner: Any = model.model
    velocity = inner.velocities_of(state) - torch.from_numpy(held_out.velocities * 0.05)
    if variant == "five_balls":  # Three of them look alike: which is which is not to be told.
        told = [*range(4)]
        position, velocity = position[:, told], velocity[:, told]
    assert position.median() < 3e-4 and position.max() < 1e-2
    assert velocity.abs().median() < 3e-4


@pytest.mark.parametrize("camera", [name for name in evaluation.CAMERAS if name != "plain"])
@torch.no_grad()
def test_light_and_felt_may_be_others(camera: str) -> None:
    clear, held_out = tables(20), tables(20, camera=camera)
    assert not np.array_equal(clear.pictures((64, 64, 3)), held_out.pictures((64, 64, 3)))
    assert np.array_equal(held_out[3:5].pictures((64, 64, 3)), held_out.pictures((64, 64, 3))[3:5])
    model = SeeingModel(eyes(), 2)
    error = (model.observe(shown(held_out)).obs - torch.from_numpy(held_out.positions)).abs()
    assert error.median() < 5e-4
    assert (error < 2e-2).all(dim=1).float().mean() > 0.95


def test_gradients_flow_from_the_plan_to_the_pictures() -> None:
    model = SeeingModel(eyes(), 2)
    pictures = shown(tables(2)).requires_grad_()
    imagined = model.imagine(model.observe(pictures), [5.0, 10.0], torch.full((2, 2), 0.3))
    assert imagined.obs.shape == (2, 2, 4)
    imagined.obs.sum().backward()
    assert pictures.grad is not None and bool(pictures.grad.isfinite().all())
    assert bool((pictures.grad.flatten(1) != 0.0).any(dim=1).all())


def test_bodies_that_look_alike_keep_their_order() -> None:
    model = SeeingModel(eyes(), 5)
    places = torch.rand(4, 4, 5, 2) * 0.01 + torch.arange(5).view(5, 1) * 0.2
    mixed = places.clone()
    mixed[:, 1, 2:] = places[:, 1, [4, 2, 3]]
    mixed[:, 3, 2:] = places[:, 3, [3, 2, 4]]
    torch.testing.assert_close(model._followed(mixed.flatten(2)), places.flatten(2))


# -- the agent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jumpy-pixels", *RIVALS])
@pytest.mark.parametrize("obs", MODELS)
def test_it_shoots_from_pictures(obs: str, name: str) -> None:
    player, pictures = agent(obs, name), tables(6).pictures(SHAPES[obs])
    actions, state = player.predict(pictures)
    assert actions.shape == (6, 2) and actions.dtype == np.float32 and state is None
    single, _ = player.predict(pictures[2])
    np.testing.assert_allclose(single, actions[2], atol=1e-3)
    np.testing.assert_allclose(player.predict(pictures / 255.0)[0], actions, atol=1e-3)
    if obs == "pixels28":
        np.testing.assert_array_equal(player.predict(pictures[..., 0])[0], actions)


def test_it_plays_where_it_is_shown_pictures() -> None:
    result = evaluation.evaluate_agent(agent(), tables(12))
    assert result.training_frames == 45 * (10_000 + 100_000), "of eyes and physics"
    assert result.success >= 0.7 and result.beliefs is not None
    record = evaluation.record_shot(agent(), tables(1), result.actions[0])
    assert record.imagined.shape == record.real.shape


@pytest.mark.parametrize(("name", "model"), RIVALS.items())
def test_rivals_are_given_the_places_that_were_read_and_nothing_else(name: str, model: str) -> None:
    player, rival, held_out = agent(name=name), from_pretrained(model), tables(12)
    pictures, action = shown(held_out), torch.full((12, 2), 0.3)
    with torch.no_grad():
        places = player.model.sprites.read(pictures.flatten(0, 1)).view(12, 4, 4)
        wanted = rival.imagine(rival.observe(places), [4.0, 9.0], action)
        found = player.model.imagine(player.model.observe(pictures), [4.0, 9.0], action)
    assert torch.equal(found.obs, wanted.obs) and torch.equal(found.ticks, wanted.ticks)
    result = evaluation.evaluate_agent(player, held_out)
    assert result.training_frames == 45 * (10_000 + 100_000), "of eyes and rival"
    assert result.given.built_in == ("pictures of round bodies on a background",)
    assert result.checkpoint == MODELS["pixels"] and result.beliefs is not None
    with pytest.raises(agents.OtherGameError, match=r"2 balls, which the \w*RNN was made for"):
        agent(name=name, task=plane_task(3))
    with pytest.raises(agents.OtherGameError, match="which the SeeingModel was made for, got 3"):
        model_for(player.model, plane_task(3))


PICTURES = np.zeros((2, 4, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (PICTURES[:, :3], r"shape \('B', 4, 64, 64, 3\).*got \(2, 3, 64, 64, 3\)"),
        (PICTURES[:, :, :32, :32], r"got \(2, 4, 32, 32, 3\)"),
        (PICTURES.transpose(0, 1, 4, 2, 3), r"got \(2, 4, 3, 64, 64\)"),
        (PICTURES[..., :1], r"got \(2, 4, 64, 64, 1\)"),
        (PICTURES[:0], r"got \(0, 4, 64, 64, 3\)"),
        (PICTURES.astype(np.int64), "uint8 from 0 to 255 or floats from 0 to 1, got int64"),
        (PICTURES + 1.01, r"between 0 and 1, got 1.01 to 1.01; divide"),
        (PICTURES - 0.1, "between 0 and 1"),
        (PICTURES * np.nan, "between 0 and 1, got nan"),
        (np.zeros((2, 4, 4)), r"got \(2, 4, 4\)"),
        ({"pixels": PICTURES}, r"got a dictionary with \['pixels'\]"),
        (tables(2).pictures((64, 64, 3))[..., ::-1], r"blue first in rows \[0, 1, 2, 3"),
    ],
)
def test_other_pictures_are_refused(pictures: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        agent().predict(pictures)


@pytest.mark.parametrize("task", [line_task(), plane_task(random_target=True)])
def test_other_games_are_refused(task: Task) -> None:
    with pytest.raises(agents.OtherGameError, match="target stays in one corner"):
        agents.load_agent("jumpy-pixels", task=task)


def test_agents_are_not_given_models_of_other_observations() -> None:
    with pytest.raises(
        ValueError, match="is shown pictures, but its checkpoint 'fold-billiards2d'"
    ):
        agents.load_agent("jumpy-pixels", checkpoint="fold-billiards2d")
    with pytest.raises(ValueError, match="is shown coordinates, but its checkpoint 'sprite-64"):
        agents.load_agent("jumpy", checkpoint=MODELS["pixels"])
    with pytest.raises(ValueError, match="calibrated=True and at most 6 balls, got calibrated=Fal"):
        SeeingModel(SpriteJump(SpriteJumpConfig()))
    with pytest.raises(ValueError, match="at most 6 balls, got calibrated=True and 7 balls"):
        SeeingModel(eyes(), 7)
    for name, words in (
        ("rnn-billiards2d", "a model of 3 balls in the plane, 6 .*, got RNN of 4; 'fold"),
        ("rnn-billiards1d", "a model of 3 balls .*, got RNN of 2 on a line; 'fold"),
        ("jumpy-billiards1d-task", "a model of 3 balls .*, got FoldJump of 3 on a line"),
        (MODELS["pixels28"], "a model of 3 balls .*, got SpriteJump of 784;"),
    ):
        with pytest.raises(ValueError, match=words):
            SeeingModel(eyes(), 3, from_pretrained(name))
    with pytest.raises(ValueError, match="axes to be 2 with calibrated=True, got 1"):
        SpriteJumpConfig(axes=1, calibrated=True)


# -- what it learns from -------------------------------------------------------------------------


def test_pictures_of_a_dataset_are_drawn_when_they_are_taken(tmp_path: Path) -> None:
    config = data.DatasetConfig(num_trajectories=5, pixels="paper")
    drawn: Any = load_data(config, tmp_path)
    plain: Any = load_data(replace(config, pixels=None), tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1, "the positions alone are kept"
    assert drawn.obs.shape == (5, 45, 784) and len(drawn.obs) == 5
    np.testing.assert_array_equal(drawn.places, plain.obs)
    np.testing.assert_array_equal(drawn.obs[[1, 2], [7, 9]], drawn.obs[1:3][[0, 1], [7, 9]])
    assert "pixels" not in replace(config, pixels=None).to_dict()
    assert data.DatasetConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="pixels"):
        data.DatasetConfig(pixels="large")


def test_looks_are_learned_from_pictures_of_known_places(tmp_path: Path) -> None:
    run: Any = preset("sprite-28")
    run = replace(
        run,
        model=replace(run.model, looking_steps=150, hidden_size=8),
        train_data=replace(run.train_data, num_trajectories=200),
        validation_data=replace(run.validation_data, num_trajectories=2),
        steps=152,
        learning_rate=1e-2,
        schedule="exponential",
        device="cpu",
    )
    train(run, tmp_path / "run", data_dir=tmp_path, progress=False)
    save_pretrained(from_pretrained(tmp_path / "run/best"), tmp_path / "again")
    learned = from_pretrained(tmp_path / "again")
    assert isinstance(learned, SpriteJump)
    held_out = tables(20)
    error = SeeingModel(learned, 2).observe(shown(held_out, (28, 28, 1))).obs
    assert (error - torch.from_numpy(held_out.positions)).abs().median() < 2e-3


# -- the command ---------------------------------------------------------------------------------


def plan_eval(out: Path, *options: str) -> dict[str, Any]:
    usual = ("--device", "cpu", "--episodes", "4", "--out", str(out))
    assert main.run("plan-eval", [*usual, *options]) == 0
    report: dict[str, Any] = json.loads((out / "results.json").read_text())
    return report


def test_who_is_shown_coordinates_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(agents.PROTOCOLS, "default", QUICK)
    names = ("--agents", "none", "jumpy-pixels", "rnn-pixels", "jumpy")
    report = plan_eval(tmp_path / "a", "--obs", "pixels28", "--camera", "noise-2", *names)
    assert list(report["agents"]) == [*names[1:4], "jumpy (coordinates)"]
    assert (report["obs"], report["camera"]) == ("pixels28", "noise-2")
    for name in names[2:4]:
        assert report["agents"][name]["checkpoint"] == MODELS["pixels28"]
    assert "jumpy (coordinates)" in capsys.readouterr().out
    plain = plan_eval(tmp_path / "b", "--agents", "jumpy")
    assert "obs" not in plain, "as before there were pictures"
    actions = "successes", "belief", "ticks"
    told, same = report["agents"]["jumpy (coordinates)"], plain["agents"]["jumpy"]
    assert [told[key] for key in actions] == [same[key] for key in actions]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--agents", "jumpy-pixels"), "jumpy-pixels"),
        (("--obs", "pixels28", "--agents", "jumpy-keypoints"), "jumpy-keypoints"),
        (("--obs", "picture"), "--obs"),
        (("--obs", "pixels", "--camera", "blurred"), "--camera"),
        (("--camera", "dark"), "--camera needs --obs pixels, got 'dark'"),
    ],
)
def test_wrong_options_are_told(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run("plan-eval", [*options]) != 0
    assert words in capsys.readouterr().err
