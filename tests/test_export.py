"""Exported parts of models give what the models give, for any number of rows."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl import WorldModel
from jumpy_mbrl.export import Part, export
from jumpy_mbrl.models import (
    ODERNN,
    RNN,
    FoldJump,
    FoldJumpConfig,
    JumpyRNN,
    JumpyRNNConfig,
    ODERNNConfig,
    RNNConfig,
    SpriteJump,
    SpriteJumpConfig,
    from_pretrained,
)
from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel

ROWS = (1, 5)


def round_trip(model: WorldModel, part: Part) -> Any:
    """The part, exported, saved and loaded again."""
    file = io.BytesIO()
    torch.export.save(export(model, part), file)
    file.seek(0)
    return torch.export.load(file).module()


def observed(model: WorldModel, rows: int) -> State:
    """The state after frames of balls that roll towards each other."""
    start = torch.tensor([0.2, 0.5, 0.8, 0.55]) + torch.linspace(-0.05, 0.05, rows).view(-1, 1)
    move = torch.tensor([0.02, 0.0, -0.02, 0.0])
    return model.observe(torch.stack([start + frame * move for frame in range(4)], dim=1))


def shots(rows: int) -> Tensor:
    return torch.linspace(-1.0, 1.0, 2 * rows).view(rows, 2)


def assert_same(found: dict[str, Tensor], wanted: State) -> None:
    assert found.keys() == vars(wanted).keys()
    for name, value in vars(wanted).items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    "name", ["jumpy-rnn-billiards2d", "jump-4-billiards2d", "fold-billiards2d"]
)
@torch.no_grad()
def test_ticks_of_jumpy_models(name: str) -> None:
    model = from_pretrained(name)
    assert isinstance(model, PiecewiseLinearModel)
    tick, act = round_trip(model, "tick"), round_trip(model, "act")
    for rows in ROWS:
        state = observed(model, rows)
        shot = model.tick(state, shots(rows))
        assert_same(act(vars(state), shots(rows)), shot)
        due = model._leap(shot, shot.remaining)
        assert_same(tick(vars(due)), model.tick(due))


@torch.no_grad()
def test_a_tick_of_an_rnn_is_a_frame() -> None:
    model = RNN(RNNConfig())
    act = round_trip(model, "act")
    for rows in ROWS:
        state = observed(model, rows)
        assert_same(act(vars(state), shots(rows)), model.imagine(state, [1.0], shots(rows)).state)


@torch.no_grad()
def test_encoders_and_decoders() -> None:
    for model in (JumpyRNN(JumpyRNNConfig()), RNN(RNNConfig())):
        encoder, decoder = round_trip(model, "encoder"), round_trip(model, "decoder")
        for rows in ROWS:
            state = observed(model, rows)
            torch.testing.assert_close(encoder(state.obs), model.encoder(state.obs))
            torch.testing.assert_close(decoder(state.hidden), model.decoder(state.hidden))


@torch.no_grad()
def test_the_decoder_of_our_model_folds_the_walls() -> None:
    model = FoldJump(FoldJumpConfig())
    hidden = torch.tensor([[1.3, 0.4, -0.2, 0.6, 0.0, 0.0, 0.0, 0.0]])
    seen = round_trip(model, "decoder")(hidden)
    torch.testing.assert_close(seen, model.decode(hidden))
    assert float(seen.min()) >= 0.0 and float(seen.max()) <= 1.0


@pytest.mark.parametrize("axes", [1, 2])
@torch.no_grad()
def test_pixel_models(axes: int) -> None:
    model = from_pretrained(f"jumpy-pixel-billiards{axes}d-task")
    assert isinstance(model, SpriteJump)
    encoder, decoder = round_trip(model, "encoder"), round_trip(model, "decoder")
    for rows in ROWS:
        start = torch.tensor([[0.3, 0.4, 0.7, 0.6]])[:, 4 - 2 * axes :].expand(rows, -1)
        move = torch.linspace(0.01, 0.02, rows).unsqueeze(1)
        pictures = torch.stack([model.sprites.draw(start + k * move) for k in range(4)], dim=1)
        torch.testing.assert_close(encoder(pictures[:, -1]), model.read(pictures[:, -1]))
        state = model.observe(pictures)
        torch.testing.assert_close(decoder(state.hidden), model.imagine(state, [1e-6]).obs[:, 0])


@torch.no_grad()
def test_ticks_of_pixel_models() -> None:
    model = SpriteJump(SpriteJumpConfig(size=8))
    tick, act = round_trip(model, "tick"), round_trip(model, "act")
    for rows in ROWS:
        state = model.initial_state(rows)
        shot, wanted = act(vars(state), shots(rows)), model.imagine(state, [1e-6], shots(rows))
        assert_same(shot, model.tick(state, shots(rows)))
        torch.testing.assert_close(shot["velocity"], wanted.state.velocity)
        assert_same(tick(shot), model.tick(type(state)(**shot)))


def test_parts_that_there_are_not() -> None:
    part: Any = "tock"
    with pytest.raises(ValueError, match=r"unknown part 'tock'.*did you mean 'tick'"):
        export(RNN(RNNConfig()), part)
    with pytest.raises(ValueError, match=r"no 'encoder' .* this FoldJump; it has .*'decoder'"):
        export(FoldJump(FoldJumpConfig()), "encoder")
    with pytest.raises(ValueError, match="no 'tick' to export of this ODERNN; it has"):
        export(ODERNN(ODERNNConfig()), "tick")
    with pytest.raises(ValueError, match=r"no 'act' .* this JumpyRNN, which takes no actions"):
        export(JumpyRNN(JumpyRNNConfig(action_size=0)), "act")
