"""Parts of a world model as graphs that run without this package, by ``torch.export``.

```python
import torch
from jumpy_mbrl import from_pretrained
from jumpy_mbrl.export import export

torch.export.save(export(from_pretrained("jumpy-rnn-billiards2d"), "tick"), "tick.pt2")
tick = torch.export.load("tick.pt2").module()
```

| part        | takes                      | gives                                             |
|-------------|----------------------------|---------------------------------------------------|
| `"tick"`    | a state                    | the state after a tick                            |
| `"act"`     | a state, actions (B, A)    | the state after an action                         |
| `"encoder"` | observations (B, D)        | the features (B, F) that a tick reads             |
| `"decoder"` | latents (B, H)             | observations (B, D)                               |

An ``RNN`` ticks and goes on to the next frame; with ``residual`` its decoder gives the change of
the observation. Of a ``SpriteJump`` the encoder gives the places of the bodies in pictures, from
which ``observe`` infers how they move, and the decoder gives pictures.

A state is a dictionary of the tensors of the model's ``State``, by name. The number of rows B is
free; gradients are not recorded.

``imagine`` as a whole cannot be exported: it goes round until the last row has arrived, and how
often depends on what is imagined. That loop is for the host to write. Of an ``ODERNN`` there is no
tick, because an adaptive solver goes round in the same way. Models that read frames as they are
(``EventJump``, ``FoldJump``, ``LatentJump`` and the simulator) have no encoder. Models without
actions, such as those that are shipped for pixels, have no ``"act"``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from jumpy_mbrl.envs.config import unknown_name
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN
from jumpy_mbrl.models.ode_rnn import ODERNN
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.models.rnn import RNN
from jumpy_mbrl.models.sprite_jump import SpriteJump
from jumpy_mbrl.models.sprites import Sprites

Part = Literal["tick", "act", "encoder", "decoder"]

_ROWS = 3
"""Of the example by which a graph is recorded."""


@torch.no_grad()
def export(model: WorldModel, part: Part) -> torch.export.ExportedProgram:
    """A part of a model as a graph, for ``torch.export.save`` or a runtime.

    Args:
        model: any world model; its weights are part of the graph.
        part: "tick", "act", "encoder" or "decoder"; see this module.

    Raises:
        ValueError: for an unknown part, or one that the model does not have.
    """
    if part not in get_args(Part):
        raise ValueError(unknown_name("part", part, get_args(Part)))
    module = _module(model, part)
    if module is None:
        why = ", which takes no actions" if part == "act" and model.action_size < 1 else ""
        has = [name for name in get_args(Part) if _module(model, name) is not None]
        raise ValueError(
            f"there is no {part!r} to export of this {type(model).__name__}{why}; it has {has}"
        )
    # Cloned, because tensors that are one in the example would be one in the graph.
    state = model.initial_state(_ROWS).map(torch.clone)
    example: tuple[Any, ...] = {
        "tick": (vars(state),),
        "act": (vars(state), state.hidden.new_zeros(_ROWS, model.action_size)),
        "encoder": (state.obs,),
        "decoder": (state.hidden,),
    }[part]
    rows = {0: torch.export.Dim("rows")}
    shapes = tuple(
        dict.fromkeys(value, rows) if isinstance(value, dict) else rows for value in example
    )
    return torch.export.export(module, example, dynamic_shapes=shapes)


def _module(model: WorldModel, part: Part) -> nn.Module | None:
    """What is recorded, None for nothing."""
    if part == "encoder":
        if isinstance(model, SpriteJump):
            return _Places(model.sprites)
        return model.encoder if isinstance(model, JumpyRNN | RNN | ODERNN) else None
    if part == "decoder":
        if isinstance(model, PiecewiseLinearModel | SpriteJump):
            return _Decoder(model)
        return model.decoder if isinstance(model, RNN | ODERNN) else None
    if part == "act" and model.action_size < 1:
        return None
    if isinstance(model, PiecewiseLinearModel | SpriteJump):
        return _Tick(model)
    return _Frame(model) if isinstance(model, RNN) else None


class _Places(nn.Module):
    """``Sprites.read`` with a grid that is drawn once."""

    def __init__(self, sprites: Sprites) -> None:
        super().__init__()
        self.sprites = sprites
        places, templates = sprites.grid()
        self.register_buffer("places", places.contiguous())
        self.register_buffer("templates", templates)
        self.places: Tensor
        self.templates: Tensor

    def forward(self, pictures: Tensor) -> Tensor:
        return self.sprites.find(pictures, self.places, self.templates)


class _Decoder(nn.Module):
    def __init__(self, model: PiecewiseLinearModel | SpriteJump) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor) -> Tensor:
        return self.model.decode(hidden)


class _Tick(nn.Module):
    def __init__(self, model: PiecewiseLinearModel | SpriteJump) -> None:
        super().__init__()
        self.model = model
        self.kind = type(model.initial_state(1))

    def forward(self, state: dict[str, Tensor], action: Tensor | None = None) -> dict[str, Tensor]:
        return dict(vars(self.model.tick(self.kind(**state), action)))


class _Frame(nn.Module):
    """A tick of an RNN and the frame up to the next one."""

    def __init__(self, model: RNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: dict[str, Tensor], action: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.model._tick(state["hidden"], state["obs"], action)
        return {**state, "hidden": hidden, "obs": self.model._next_frame(hidden, state["obs"])}
