"""Keypoints that are found in pictures by themselves: what they see, learn, and plan from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import agents, data, evaluation
from jumpy_mbrl.data.loading import load_data
from jumpy_mbrl.data.sampling import Seen
from jumpy_mbrl.envs.rules import Task, line_task, plane_task
from jumpy_mbrl.models import KeypointJump, KeypointJumpConfig, from_pretrained
from jumpy_mbrl.models.keypoint_jump import SeenPlaces
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training.presets import preset

SHIPPED = "keypoints-billiards2d"
SMALL = KeypointJumpConfig(
    hidden_size=8, event_size=8, size=28, channels=1, looking_steps=3, labelled=9
)
QUICK = agents.PlannerConfig(
    candidates=16, refined=2, gradient_steps=2, finalists=2, perturbations=4
)


def tables(count: int) -> evaluation.HeldOut:
    return evaluation.make_tables(count, 0, evaluation.find_variant("default"), "validation")


def shown(held_out: evaluation.HeldOut) -> Tensor:
    return torch.from_numpy(held_out.pictures((64, 64, 3))).flatten(2) / 255.0


@pytest.fixture(scope="module")
def shipped() -> SeenPlaces:
    model = from_pretrained(SHIPPED)
    assert isinstance(model, KeypointJump)
    return SeenPlaces(model)


# -- what is seen --------------------------------------------------------------------------------


@torch.no_grad()
def test_keypoints_in_any_order_are_painted_as_what_they_were() -> None:
    model = KeypointJump(replace(SMALL, num_bodies=3))
    for part in model.eyes.parameters():
        torch.nn.init.normal_(part, generator=torch.Generator().manual_seed(part.numel()))
    keypoints = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0))
    model.order.copy_(torch.tensor([1, 2, 0]))
    found = keypoints[:, model.order].flatten(1)
    torch.testing.assert_close(model.paint(found), model.eyes.draw(keypoints))


@torch.no_grad()
def test_keypoints_lie_on_balls_and_move_as_they_do(shipped: SeenPlaces) -> None:
    held_out = tables(40)
    state = shipped.observe(shown(held_out))
    missed = (state.obs - torch.from_numpy(held_out.positions)).abs()
    assert missed.median() < 1e-3 and missed.max() < 2e-2
    imagined = shipped.imagine(state, [0.0, 1.0])
    torch.testing.assert_close(imagined.obs[:, 0], state.obs)
    moved = imagined.obs[:, 1] - state.obs - torch.from_numpy(held_out.velocities * 0.05)
    assert moved.abs().median() < 2e-3
    raw = shipped.model.read(shown(held_out)[:, -1])
    assert (raw - torch.from_numpy(held_out.positions)).abs().max() < 0.1, "without labels, too"


def test_it_paints_what_it_imagines(shipped: SeenPlaces) -> None:
    pictures, model = shown(tables(8)), shipped.model
    with torch.no_grad():
        imagined = model.imagine(model.observe(pictures), [0.0, 0.5, 3.0])
    assert imagined.obs.shape == (8, 3, 64 * 64 * 3)
    torch.testing.assert_close(imagined.obs[:, 0], pictures[:, -1])
    missed = model.decode(model.observe(pictures).hidden) - pictures[:, -1]
    assert missed.square().mean() < 1e-4


def test_gradients_flow_from_the_plan_to_the_pictures(shipped: SeenPlaces) -> None:
    pictures = shown(tables(2)).requires_grad_()
    imagined = shipped.imagine(shipped.observe(pictures), [5.0], torch.full((2, 2), 0.3))
    imagined.obs.sum().backward()
    assert pictures.grad is not None and bool(pictures.grad.isfinite().all())
    assert bool((pictures.grad.flatten(1) != 0.0).any(dim=1).all())


# -- what is learned -----------------------------------------------------------------------------


def test_pictures_alone_teach_keypoints(tmp_path: Path) -> None:
    run: Any = preset("keypoint-jump")
    run = replace(
        run,
        model=replace(SMALL, looking_steps=240, labelled=60),
        train_data=replace(run.train_data, num_trajectories=100, pixels="paper"),
        validation_data=replace(run.validation_data, num_trajectories=2, pixels="paper"),
        steps=242,
        restart=240,
        batch_size=256,
        device="cpu",
    )
    model: Any = from_pretrained(train(run, tmp_path / "run", data_dir=tmp_path, progress=False))
    held_out = tables(20)
    pictures = torch.from_numpy(held_out.pictures((28, 28, 1))).flatten(2) / 255.0
    missed = SeenPlaces(model).observe(pictures).obs - torch.from_numpy(held_out.positions)
    assert missed.abs().median() < 1e-2


def test_keypoints_join_one_by_one() -> None:
    torch.manual_seed(0)
    model = KeypointJump(replace(SMALL, joining=0.5))
    pictures = torch.rand(2, 784, generator=torch.Generator().manual_seed(0))
    batch = {"pictures": pictures, "pixels": torch.arange(784).expand(2, -1)}
    taught = []
    for looked in (0.0, 0.25, 0.5):
        model.zero_grad()
        model.loss({**batch, "looked": torch.full((2,), looked)})[0].backward()
        taught.append(0 if model.eyes.tint.grad is None else int(model.eyes.tint.grad.any(1).sum()))
    assert taught == [0, 1, 2]


def test_true_places_teach_nothing_but_the_head(tmp_path: Path) -> None:
    film: Any = load_data(data.DatasetConfig(num_trajectories=12, pixels="paper"), tmp_path)

    class Lying:
        obs, action, context_frames = film.obs, film.action, 4
        places = np.random.default_rng(0).random(film.places.shape, np.float32)

    found = []
    for told in (film, Lying()):
        torch.manual_seed(0)
        model = KeypointJump(SMALL)
        sampler, generator = model.sampler(told), torch.Generator().manual_seed(0)
        batches = [sampler.sample(16, generator, step) for step in (0, 3)]
        assert batches[0].keys() == {"pictures", "spoilt", "pixels", "looked"}
        assert batches[1].keys() == {"obs", "action", "length", "start", "u"}
        found.append([model.loss(batch)[0] for batch in batches])
        kept = {key: value for key, value in model.state_dict().items() if key != "head"}
        found[-1] += [value.float().sum() for value in kept.values()]
    assert all(map(torch.equal, *found))


def test_the_keypoint_that_follows_actions_is_the_actor() -> None:
    rng = np.random.default_rng(0)
    action = np.zeros((50, 8, 2), np.float32)
    action[:, 3] = rng.uniform(-1.0, 1.0, (50, 2))
    speed = rng.normal(0.0, 0.02, (50, 1, 3, 2)) + np.zeros((50, 8, 1, 1))
    speed[:, 4:, 2] += 0.1 * action[:, 3, None, ::-1]  # By the third.
    obs = speed.cumsum(axis=1).reshape(50, 8, 6).astype(np.float32)
    seen = Seen(obs, action, 4, np.full(50, 8))
    model = KeypointJump(replace(SMALL, num_bodies=3))
    told = obs[:20, 0] @ rng.normal(size=(6, 6)) + 0.3
    settled = model.settle(seen, told)
    assert model.order.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(settled.obs[..., :2], obs[..., 4:])
    places = model.places_of(torch.from_numpy(settled.obs[:20, 0]))
    torch.testing.assert_close(places, torch.from_numpy(told).float(), atol=1e-4, rtol=1e-4)
    again = model.settle(settled, told)
    assert model.order.tolist() == [2, 0, 1] and np.array_equal(again.obs, settled.obs)
    with pytest.raises(ValueError, match="as many keypoints as balls are told, got 3 and 2; set"):
        model.settle(seen, told[:, :4])
    with pytest.raises(ValueError, match="expected body_size=2, as keypoints lie in pictures"):
        replace(SMALL, body_size=3)
    with pytest.raises(ValueError, match=r"joining.*\(0, 1\], got 0"):
        replace(SMALL, joining=0.0)


def test_a_killed_run_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = data.DatasetConfig(num_trajectories=12, pixels="paper")
    run = TrainingConfig(
        SMALL,
        shots,
        replace(shots, split="validation", num_trajectories=2),
        steps=6,
        batch_size=16,
        schedule="cosine",
        restart=3,
        average=0.9,
        validation_interval=2,
        checkpoint_interval=1,
        device="cpu",
        threads=1,
    )
    assert run.learning_rate_at(0) == run.learning_rate_at(3) == run.learning_rate
    assert run.learning_rate_at(2) == pytest.approx(0.25 * run.learning_rate)
    whole = train(run, tmp_path / "whole", data_dir=tmp_path, progress=False)
    loss = KeypointJump.loss
    for last in (2, 4):
        left = iter(range(2))

        def dying(self: KeypointJump, batch: dict[str, Tensor], left: Any = left) -> object:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return loss(self, batch)

        monkeypatch.setattr(KeypointJump, "loss", dying)
        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path / "part", data_dir=tmp_path, progress=False, resume=last > 2)
    monkeypatch.setattr(KeypointJump, "loss", loss)
    best = train(run, tmp_path / "part", data_dir=tmp_path, progress=False, resume=True)
    first, again = ((folder / "model.safetensors").read_bytes() for folder in (whole, best))
    assert first == again


# -- the agent -----------------------------------------------------------------------------------


def test_it_plans_from_pictures() -> None:
    player: Any = agents.load_agent("jumpy-keypoints", config=QUICK)
    held_out = tables(16)
    result = evaluation.evaluate_agent(player, held_out)
    assert result.training_frames == 45 * 30_000
    assert result.success >= 0.6 and result.beliefs is not None
    pictures = held_out.pictures((64, 64, 3))
    actions, _ = player.predict(pictures[:2])
    np.testing.assert_allclose(player.predict(pictures[1] / 255.0)[0], actions[1], atol=1e-3)
    built_in = " ".join(evaluation.given_to(player).built_in or ())
    assert "300 labelled pictures" in built_in and "ball" not in built_in.partition("places of")[0]


@pytest.mark.parametrize("task", [line_task(), plane_task(random_target=True), plane_task(3)])
def test_other_games_are_refused(task: Task) -> None:
    with pytest.raises(agents.OtherGameError, match=r"one corner|expected 2 balls"):
        agents.load_agent("jumpy-keypoints", task=task)
