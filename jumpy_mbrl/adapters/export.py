"""Parts of a world model as graphs that run without this package, by ``torch.export`` or as ONNX.

```python
import torch
from jumpy_mbrl import from_pretrained
from jumpy_mbrl.export import export

torch.export.save(export(from_pretrained("jumpy-rnn-billiards2d"), "tick"), "tick.pt2")
tick = torch.export.load("tick.pt2").module()
```

| part        | takes                      | gives                                             |
|-------------|----------------------------|---------------------------------------------------|
| `"observe"` | frames (B, T, D)           | the state at the last one                         |
| `"act"`     | a state, actions (B, A)    | the state after an action                         |
| `"leap"`    | a state, frames (B,)       | the state so many frames further along its line   |
| `"tick"`    | a state                    | the state after a tick                            |
| `"encoder"` | observations (B, D)        | the features (B, F) that a tick reads             |
| `"decoder"` | latents (B, H)             | observations (B, D)                               |

Models that search for the velocities that explain frames (``EventJump``, ``FoldJump``,
``SpriteJump``) are exported with an ``"observe"`` that does not search: it takes the last
displacement for the velocity. It also gives ``error`` (B,), by how much the frames miss that line,
in the units of an observation (for pictures, in sides of the picture): where it is not small,
something happened within these frames, and the state is wrong.

An ``RNN`` ticks and goes on to the next frame; with ``residual`` its decoder gives the change of
the observation. Of a ``SpriteJump`` the encoder gives the places of the bodies in pictures, from
which ``observe`` infers how they move, and the decoder gives pictures.

A state is a dictionary of the tensors of the model's ``State``, by name. In ONNX its tensors are
inputs and outputs by these names, beside ``action``, ``duration`` (of a leap), ``frames`` and
``features``; an output that would be called like an input has ``next_`` before its name. The number
of rows B is free; gradients are not recorded.

``imagine`` as a whole cannot be exported: it goes round until the last row has arrived, and how
often depends on what is imagined. That loop is for the host to write: ``examples/onnx_host.py`` is
one. Of an ``ODERNN`` there are neither tick nor ``"observe"``, because an adaptive solver goes
round in the same way, and an ``RNN`` has no line to leap along. Models that read frames as they are
(``EventJump``, ``FoldJump``, ``LatentJump`` and the simulator) have no encoder. Models without
actions, such as those that are shipped for pixels, have no ``"act"``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.files import atomic_write
from jumpy_mbrl.models.base import State, WorldModel

Part = Literal["observe", "act", "leap", "tick", "encoder", "decoder"]

_ROWS = 3
"""Of the example by which a graph is recorded."""


@torch.no_grad()
def export(model: WorldModel, part: Part, frames: int = 4) -> torch.export.ExportedProgram:
    """A part of a model as a graph, for ``torch.export.save`` or a runtime.

    `ValueError` for an unknown part, one that the model does not have, or too few frames.

    Args:
        model: any world model; its weights are part of the graph.
        part: "observe", "act", "leap", "tick", "encoder" or "decoder"; see this module.
        frames: T, how many frames "observe" reads: 2 or more, and no fewer than the model needs.
    """
    module, example = _recorded(model, part, frames)
    rows = {0: torch.export.Dim("rows")}
    shapes = tuple(
        dict.fromkeys(value, rows) if isinstance(value, dict) else rows
        for value in example.values()
    )
    return torch.export.export(module, tuple(example.values()), dynamic_shapes=shapes)


@torch.no_grad()
def export_onnx(
    model: WorldModel, part: Part, path: str | os.PathLike[str], frames: int = 4
) -> None:
    """Writes a part of a model as ONNX to a file, with the names that this module tells.

    Arguments and errors are those of ``export``. `ValueError` also for a part that ONNX lacks
    operations for (those of a ``SpriteJump`` that read pictures solve linear equations);
    `ImportError` without the extra "onnx".
    """
    try:
        import onnxscript  # noqa: F401  # which torch needs for it
    except ImportError as error:
        raise ImportError(
            "expected onnxscript for ONNX, but it is not installed; pip install 'jumpy-mbrl[onnx]'"
        ) from error
    module, example = _recorded(model, part, frames)
    given: list[str] = []
    for name, value in example.items():
        given += value if isinstance(value, dict) else [name]
    found = module(*example.values())
    names = list(found) if isinstance(found, dict) else [_OUTPUTS[part]]
    try:
        program = torch.onnx.export(
            export(model, part, frames),
            input_names=given,
            output_names=[f"next_{name}" if name in given else name for name in names],
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(
            f"expected a part that ONNX has operations for, got {part!r} of a "
            f"{type(model).__name__}; use export, whose graphs run in torch"
        ) from error
    assert program is not None
    with atomic_write(path) as temporary:
        program.save(temporary, external_data=False)


_OUTPUTS = {"encoder": "features", "decoder": "obs"}


def _recorded(model: WorldModel, part: Part, frames: int) -> tuple[nn.Module, dict[str, Any]]:
    """What is recorded, and an example of what it takes, by name."""
    if part not in get_args(Part):
        raise ValueError(unknown_name("part", part, get_args(Part)))
    parts = model.parts()
    if model.action_size < 1:
        parts.pop("act", None)
    if part not in parts:
        why = ", which takes no actions" if part == "act" and model.action_size < 1 else ""
        has = [name for name in get_args(Part) if name in parts]
        raise ValueError(
            f"there is no {part!r} to export of this {type(model).__name__}{why}; it has {has}"
        )
    # Cloned, because tensors that are one in the example would be one in the graph.
    state = model.initial_state(_ROWS).map(torch.clone)
    module = _MODULES[part](model, parts[part])
    if part == "observe":
        least = max(model.min_frames, 2)
        if frames < least:
            raise ValueError(f"expected at least {least} frames to observe, got frames={frames}")
        return module, {"frames": state.obs.unsqueeze(1).repeat(1, frames, 1)}
    if part == "encoder":
        return module, {"obs": state.obs}
    if part == "decoder":
        return module, {"hidden": state.hidden}
    example: dict[str, Any] = {"state": vars(state)}
    if part == "act":
        example["action"] = state.hidden.new_zeros(_ROWS, model.action_size)
    if part == "leap":
        example["duration"] = state.remaining.clone()
    return module, example


class _Part(nn.Module):
    """A function of a model, and the model, whose weights it reads."""

    def __init__(self, model: WorldModel, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function
        self.kind = type(model.initial_state(1))


class _Values(_Part):
    def forward(self, values: Tensor) -> Any:
        return self.function(values)


class _Observe(_Part):
    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        return _tensors(self.function(frames))


class _Leap(_Part):
    def forward(self, state: dict[str, Tensor], duration: Tensor) -> dict[str, Tensor]:
        return _tensors(self.function(self.kind(**state), duration))


class _Tick(_Part):
    def forward(self, state: dict[str, Tensor], action: Tensor | None = None) -> dict[str, Tensor]:
        return _tensors(self.function(self.kind(**state), action))


_MODULES: dict[Part, type[_Part]] = {
    "observe": _Observe,
    "act": _Tick,
    "leap": _Leap,
    "tick": _Tick,
    "encoder": _Values,
    "decoder": _Values,
}


def _tensors(state: State | dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(state if isinstance(state, dict) else vars(state))
