"""A jumpy model of pictures: what it sees, imagines and learns, and when it learns what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.data.sampling import make_sampler
from jumpy_mbrl.data.tasks import TaskConfig, TaskDataset, make_task
from jumpy_mbrl.models import from_pretrained
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJump, SpriteJumpConfig
from jumpy_mbrl.training import TrainingConfig, train
from jumpy_mbrl.training.checkpoint import Checkpoint

SHIPPED = {1: "jumpy-pixel-billiards1d-task", 2: "jumpy-pixel-billiards2d-task"}


def pictures(axes: int, count: int = 20) -> TaskDataset:
    return make_task(TaskConfig(f"pixel-billiards{axes}d", count, split="validation"))


def places(axes: int, count: int = 20) -> Tensor:
    """Of the balls in the same sequences, (count, 45, axes * 2)."""
    task = make_task(TaskConfig(f"billiards{axes}d", count, split="validation"))
    return torch.from_numpy(task.obs)


def frames(axes: int, count: int = 20) -> Tensor:
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
    read = model.read(frames(axes))
    assert (read - places(axes)).abs().mean() < 5e-4, "a seventieth of a pixel"


@torch.no_grad()
def test_it_foresees_where_the_balls_will_be(model: SpriteJump, axes: int) -> None:
    obs, true = frames(axes), places(axes)
    state = model.observe(obs[:, :4])
    imagined = model.imagine_places(state, [1.0, 5.0, 10.0])
    error = (imagined.obs - true[:, [4, 8, 13]]).abs()
    assert error.median() < 2e-3
    drawn = model.imagine(state, [1.0, 5.0, 10.0])
    assert drawn.obs.shape == (20, 3, 784)
    torch.testing.assert_close(drawn.obs, model.sprites.draw(imagined.obs))
    assert torch.equal(drawn.tick_times, imagined.tick_times)


@torch.no_grad()
def test_it_can_go_on_from_what_it_imagined(model: SpriteJump, axes: int) -> None:
    state = model.observe(frames(axes)[:, :4])
    whole = model.imagine(state, [3.0, 8.5, 20.0])
    halfway = model.imagine(state, [8.5])
    torch.testing.assert_close(halfway.state.obs, halfway.obs[:, 0])
    rest = model.imagine(halfway.state, [11.5])
    torch.testing.assert_close(rest.obs[:, 0], whole.obs[:, 2], rtol=0, atol=2e-2)


def test_gradients_reach_the_pictures_that_were_shown(model: SpriteJump, axes: int) -> None:
    obs = frames(axes, 3)[:, :4].requires_grad_()
    model.imagine_places(model.observe(obs), [6.0]).obs.sum().backward()
    assert obs.grad is not None and bool(obs.grad.isfinite().all())
    assert bool((obs.grad.flatten(1) != 0.0).any(dim=1).all())


# -- learning ------------------------------------------------------------------------------------


def run_config(**changes: object) -> TrainingConfig:
    config = TrainingConfig(
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
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprite-jump") / "run"
    train(run_config(), folder, progress=False)
    return folder


def test_pictures_come_first_then_events(finished: Path) -> None:
    model = from_pretrained(finished / "best")
    assert isinstance(model, SpriteJump)
    assert int(model.looked) == 50 and not model.is_looking
    data = pictures(2, 30)
    sampler = make_sampler(model.batch_kind, data, **model.batch_settings)
    generator = torch.Generator().manual_seed(0)
    batch = sampler.sample(16, generator)
    assert batch["pair"].shape == (16, 5, 2)
    loss, log = model.loss(batch)
    loss.backward()
    assert {"wall", "pair_time", "pair_jump"} <= log.keys()
    assert all(weight.grad is None for weight in model.sprites.parameters())
    model.looked.zero_()
    batch = sampler.sample(16, generator)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {"pictures": (2, 784)}


def test_looking_is_counted_in_training_only() -> None:
    model = SpriteJump(SpriteJumpConfig(action_size=0, looking_steps=2))
    batch = {"pictures": frames(2, 1)[0, :2]}
    model.eval()
    model.loss(batch)
    assert int(model.looked) == 0 and model.is_looking
    model.train()
    for _ in range(2):
        loss, log = model.loss(batch)
        assert log.keys() == {"redrawn"} and loss > 0
    assert not model.is_looking


@pytest.mark.parametrize("stop", [30, 55], ids=["while looking", "afterwards"])
def test_an_interrupted_run_ends_with_the_same_bytes(
    finished: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    loss = SpriteJump.loss
    calls = []

    def dying(self: SpriteJump, batch: dict[str, Tensor]) -> object:
        calls.append(1)
        if len(calls) > stop:
            raise KilledError
        return loss(self, batch)

    folder = tmp_path / "run"
    monkeypatch.setattr(SpriteJump, "loss", dying)
    with pytest.raises(KilledError):
        train(run_config(), folder, progress=False)
    monkeypatch.setattr(SpriteJump, "loss", loss)
    assert Checkpoint.load(folder / "checkpoint.safetensors").step == stop // 25 * 25
    train(run_config(), folder, resume=True, progress=False)
    for name in ("checkpoint.safetensors", "best/model.safetensors"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
