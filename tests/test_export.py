"""Exported parts of models give what the models give, for any number of rows."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl import WorldModel
from jumpy_mbrl.export import Part, export, export_onnx
from jumpy_mbrl.models import (
    ODERNN,
    RNN,
    FoldJump,
    FoldJumpConfig,
    JumpyRNN,
    JumpyRNNConfig,
    LatentJump,
    LatentJumpConfig,
    ODERNNConfig,
    RNNConfig,
    SpriteJump,
    SpriteJumpConfig,
    from_pretrained,
)
from jumpy_mbrl.models.base import State
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel

ROWS = (1, 5)


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Untrained models are drawn from torch's own generator."""
    torch.manual_seed(1)


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
    leap = round_trip(model, "leap")
    for rows in ROWS:
        state = observed(model, rows)
        shot = model.tick(state, shots(rows))
        assert_same(act(vars(state), shots(rows)), shot)
        due = model.leap(shot, shot.remaining)
        assert_same(leap(vars(shot), shot.remaining), due)
        assert_same(tick(vars(due)), model.tick(due))


@pytest.mark.parametrize(
    "model",
    [
        JumpyRNN(JumpyRNNConfig(hidden_size=64)),
        RNN(RNNConfig()),
        LatentJump(LatentJumpConfig(obs_size=4, action_size=2, window=3)),
    ],
    ids=lambda model: type(model).__name__,
)
@torch.no_grad()
def test_observing_as_many_frames_as_asked(model: WorldModel) -> None:
    frames = torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(0))
    observe = export(model, "observe", frames=6).module()
    for rows in ROWS:
        assert_same(observe(frames[:rows]), model.observe(frames[:rows]))


@torch.no_grad()
def test_frames_that_a_line_explains() -> None:
    model = from_pretrained("fold-billiards2d")
    observe = round_trip(model, "observe")
    for rows in ROWS:
        state = observed(model, rows)
        found = observe(
            torch.stack([state.obs - k * state.velocity[:, :4] for k in (3, 2, 1, 0)], 1)
        )
        assert float(found.pop("error").max()) < 1e-6
        assert_same(found, state)
    turned = torch.tensor([[[0.2, 0.5, 0.8, y] for y in (0.5, 0.4, 0.3, 0.36)]])
    # A line through the last two places begins at 0.18, where the ball was seen at 0.5.
    torch.testing.assert_close(observe(turned)["error"], torch.tensor([0.32]))


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
            decode = model.decode if isinstance(model, JumpyRNN) else model.decoder
            torch.testing.assert_close(decoder(state.hidden), decode(state.hidden))


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
        assert wanted.ticks.tolist() == [1] * rows, "no event follows at once"
        torch.testing.assert_close(shot["velocity"], wanted.state.velocity)
        assert_same(tick(shot), model.tick(type(state)(**shot)))


@pytest.mark.filterwarnings("default")  # of onnxscript
def test_names_in_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")

    def names(model: WorldModel, part: Part) -> tuple[list[str], list[str]]:
        export_onnx(model, part, tmp_path / "part.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "part.onnx")
        return [one.name for one in session.get_inputs()], [
            one.name for one in session.get_outputs()
        ]

    model = JumpyRNN(JumpyRNNConfig(hidden_size=8, mlp_size=8))
    state = ["hidden", "velocity", "remaining", "obs", "anchor"]
    assert names(model, "tick") == (state, [f"next_{name}" for name in state])
    assert names(model, "observe") == (["frames"], state)
    assert names(model, "encoder") == (["obs"], ["features"])
    assert names(model, "decoder") == (["hidden"], ["obs"])
    assert [path.name for path in tmp_path.iterdir()] == ["part.onnx"]
    with pytest.raises(ValueError, match=r"'encoder' of a SpriteJump; use export"):
        names(SpriteJump(SpriteJumpConfig(size=8)), "encoder")


def test_onnx_needs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[onnx\]'"):
        export_onnx(RNN(RNNConfig()), "tick", tmp_path / "tick.onnx")
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(ValueError, match=r"no 'leap' .* this RNN; it has \['observe', 'act'"):
        export(RNN(RNNConfig()), "leap")
    with pytest.raises(ValueError, match="expected at least 3 frames to observe, got frames=2"):
        export(LatentJump(LatentJumpConfig(window=3)), "observe", frames=2)
