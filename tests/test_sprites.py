"""Sprites: what is drawn is read again. And the model of pictures: what it learns, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.envs.pixels import PRESETS, draw_pixels
from jumpy_mbrl.models import SpriteJump, SpriteJumpConfig, from_pretrained
from jumpy_mbrl.models.bodies.sprites import Sprites
from jumpy_mbrl.training import TrainingConfig, train

SIZE = 28


def discs(num_bodies: int = 2, channels: int = 1, axes: int = 2) -> Sprites:
    """Sprites that look like balls of radius 0.1 with soft edges."""
    torch.manual_seed(0)
    sprites = Sprites(num_bodies, SIZE, channels, axes)
    distance = torch.linspace(0.0, 0.25, 51)[1:-1]
    with torch.no_grad():
        sprites.profile.copy_(((0.12 - distance) / 0.04).clamp(0.0, 1.0).expand_as(sprites.profile))
    return sprites


def apart(count: int, seed: int = 0) -> Tensor:
    """Places (count, 4) of two balls that do not overlap; in some they touch."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.1, 0.9, (20 * count, 2))
    angle = rng.uniform(0.0, 2.0 * np.pi, 20 * count)
    gap = np.maximum(rng.uniform(0.15, 0.6, 20 * count), 0.2)
    second = first + gap[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inside = ((second > 0.1) & (second < 0.9)).all(axis=1)
    places = np.concatenate([first, second], axis=1)[inside][:count]
    return torch.from_numpy(places).float()


def test_what_is_drawn_is_read_again() -> None:
    sprites, places = discs(), apart(300)
    with torch.no_grad():
        pictures = sprites.draw(places)
        assert pictures.shape == (300, SIZE * SIZE)
        torch.testing.assert_close(sprites.read(pictures), places, rtol=0, atol=2e-4)


def test_bodies_on_a_line_have_one_coordinate() -> None:
    sprites = discs(axes=1)
    with torch.no_grad():
        assert sprites.line is not None
        sprites.line.fill_(0.37)
        places = torch.tensor([[0.2, 0.7], [0.55, 0.31], [0.4, 0.6]])
        pictures = sprites.draw(places)
        columns = pictures.view(3, SIZE, SIZE).mean(dim=1).argmax(dim=1)
        torch.testing.assert_close(sprites.read(pictures), places, rtol=0, atol=2e-4)
    assert ((columns + 0.5) / SIZE - 0.37).abs().max() < 1.5 / SIZE


def test_colours_tell_bodies_of_one_brightness_apart() -> None:
    sprites = discs(channels=3)
    with torch.no_grad():
        sprites.color.copy_(torch.tensor([[0.9, 0.3, 0.3], [0.3, 0.3, 0.9]]))
        places = apart(50)
        torch.testing.assert_close(sprites.read(sprites.draw(places)), places, rtol=0, atol=2e-4)


def test_looks_are_learned_from_pictures_alone() -> None:
    torch.manual_seed(0)
    sprites, places = Sprites(2, SIZE), apart(400)
    drawn = draw_pixels(places.view(-1, 2, 2).numpy(), None, PRESETS["paper"])
    pictures = torch.from_numpy(drawn).view(400, -1) / 255.0
    optimizer = torch.optim.Adam(sprites.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        batch = pictures[torch.randint(400, (48,), generator=generator)]
        loss = (sprites.draw(sprites.read(batch).detach()) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        read = sprites.read(pictures)
    error = (read - places).abs()
    assert error.max() < 0.2 / SIZE, "every ball is found, to a fraction of a pixel"
    assert error.mean() < 0.02 / SIZE


# -- the model of pictures -----------------------------------------------------------------------

SHIPPED = {1: "jumpy-pixel-billiards1d-task", 2: "jumpy-pixel-billiards2d-task"}


def pictures(axes: int, count: int = 20) -> TaskDataset:
    return make_task(TaskConfig(f"pixel-billiards{axes}d", count, split="validation"))


def true_places(axes: int, count: int = 20) -> Tensor:
    """Of the balls in the same sequences, (count, 45, axes * 2)."""
    task = make_task(TaskConfig(f"billiards{axes}d", count, split="validation"))
    return torch.from_numpy(task.obs)


def films(axes: int, count: int = 20) -> Tensor:
    return as_frames(torch.from_numpy(pictures(axes, count).obs))


@pytest.fixture(params=[1, 2], ids=["line", "table"])
def axes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def model(axes: int) -> SpriteJump:
    loaded = from_pretrained(SHIPPED[axes])
    assert isinstance(loaded, SpriteJump)
    return loaded


@torch.no_grad()
def test_it_sees_where_the_balls_are(model: SpriteJump, axes: int) -> None:
    read = model.read(films(axes))
    assert (read - true_places(axes)).abs().mean() < 5e-4, "a seventieth of a pixel"


@torch.no_grad()
def test_it_foresees_where_the_balls_will_be(model: SpriteJump, axes: int) -> None:
    obs, true = films(axes), true_places(axes)
    state = model.observe(obs[:, :4])
    imagined = model.imagine_places(state, [1.0, 5.0, 10.0])
    error = (imagined.obs - true[:, [4, 8, 13]]).abs()
    assert error.median() < 2e-3
    drawn = model.imagine(state, [1.0, 5.0, 10.0])
    assert drawn.obs.shape == (20, 3, 784)
    torch.testing.assert_close(drawn.obs, model.sprites.draw(imagined.obs))
    assert torch.equal(drawn.tick_times, imagined.tick_times)


def test_gradients_reach_the_pictures_that_were_shown(model: SpriteJump, axes: int) -> None:
    obs = films(axes, 3)[:, :4].requires_grad_()
    model.imagine_places(model.observe(obs), [6.0]).obs.sum().backward()
    assert obs.grad is not None and bool(obs.grad.isfinite().all())
    assert bool((obs.grad.flatten(1) != 0.0).any(dim=1).all())


# -- learning ------------------------------------------------------------------------------------


RUN = TrainingConfig(
    model=SpriteJumpConfig(action_size=0, hidden_size=8, looking_steps=50),
    train_data=TaskConfig("pixel-billiards2d", 60),
    validation_data=TaskConfig("pixel-billiards2d", 4, split="validation"),
    steps=62,
    batch_size=256,
    learning_rate=1e-2,
    validation_interval=62,
    checkpoint_interval=25,
    device="cpu",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprite-jump") / "run"
    train(RUN, folder, progress=False)
    return folder


def test_pictures_come_first_then_events(finished: Path) -> None:
    model = from_pretrained(finished / "best")
    assert isinstance(model, SpriteJump)
    data = pictures(2, 30)
    sampler = model.sampler(data)
    generator = torch.Generator().manual_seed(0)
    batch = sampler.sample(16, generator, step=50)
    assert batch["pair"].shape == (16, 5, 2)
    loss, log = model.loss(batch)
    loss.backward()
    assert {"wall", "pair_time", "pair_jump"} <= log.keys()
    assert all(weight.grad is None for weight in model.sprites.parameters())
    batch = sampler.sample(16, generator, step=49)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {"pictures": (2, 784)}


def test_the_loss_changes_nothing() -> None:
    model = SpriteJump(SpriteJumpConfig(action_size=0, looking_steps=2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, log = model.loss({"pictures": films(2, 1)[0, :2]})
    assert log.keys() == {"redrawn"} and loss > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
