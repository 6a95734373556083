"""A jumpy model in a program that has neither torch nor this package: NumPy and onnxruntime.

    pip install 'jumpy-mbrl[onnx]'
    python examples/onnx_host.py fold-billiards2d parts

`write_parts` is done once, where torch is. `Host` is the whole program on the other side: the loop
from tick to tick, which no graph holds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Host:
    """Imagines with the exported parts of a model; B rows, K times, D numbers an observation."""

    def __init__(self, folder: Path) -> None:
        self.parts = {
            path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")
        }

    def run(self, part: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """A part's outputs by name, from those of `inputs` that it takes."""
        session = self.parts[part]
        taken = {entry.name: inputs[entry.name] for entry in session.get_inputs()}
        names = [entry.name.removeprefix("next_") for entry in session.get_outputs()]
        return dict(zip(names, session.run(None, taken), strict=True))

    def imagine(
        self, state: Arrays, action: NDArray[np.float32], times: Sequence[float]
    ) -> NDArray[np.float32]:
        """Observations (B, K, D) at ascending times above 0, in frames after the action (B, A)."""
        state = self.run("act", {**state, "action": action})
        begun = np.zeros_like(state["remaining"])  # when the line of each row began
        seen = []
        for time in times:
            while (due := begun + state["remaining"] < time).any():
                duration = np.where(due, state["remaining"], np.float32(0.0))
                ticked = self.run("tick", self.run("leap", {**state, "duration": duration}))
                state = {
                    name: np.where(due.reshape(-1, *[1] * (array.ndim - 1)), ticked[name], array)
                    for name, array in state.items()
                }
                begun += duration
            duration = np.float32(time) - begun
            seen.append(self.run("leap", {**state, "duration": duration})["obs"])
        return np.stack(seen, axis=1)


def write_parts(name: str, folder: Path) -> None:
    """Exports what `Host` needs of a shipped model, or of one in a folder of its own."""
    from jumpy_mbrl import from_pretrained
    from jumpy_mbrl.export import export_onnx

    model = from_pretrained(name)
    for part in ("observe", "act", "leap", "tick"):
        export_onnx(model, part, folder / f"{part}.onnx")


def main(name: str = "fold-billiards2d", folder: str = "parts") -> None:
    write_parts(name, Path(folder))
    host = Host(Path(folder))
    frames = np.array([[[0.30, 0.50, 0.65, 0.58]] * 4], np.float32)  # two balls at rest
    state = host.run("observe", {"frames": frames})
    if "error" in state:
        print(f"the frames miss a line by {state.pop('error')[0]:.2g} of a side")
    seen = host.imagine(state, np.array([[0.9, 0.1]], np.float32), [2.5, 10.0, 41.0])
    print("the object ball after 2.5, 10 and 41 frames:", seen[0, :, 2:].round(3).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
