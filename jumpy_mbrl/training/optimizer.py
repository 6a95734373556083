"""How gradients change weights: by AdamW, or by Muon for all matrices and AdamW for the rest.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) steps along the orthogonalised
momentum of a matrix, so that all directions of a layer learn equally fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "muon"]


class Optimizer:
    """Optimizers of torch that share the parameters of a module, with one rate and decoupled decay.

    Steps of Muon are scaled to the size of AdamW's.
    """

    def __init__(
        self, module: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float
    ) -> None:
        settings: Any = {"lr": learning_rate, "weight_decay": weight_decay}
        matrices, others = dict[int, nn.Parameter](), dict[int, nn.Parameter]()
        for number, p in enumerate(module.parameters()):
            (matrices if name == "muon" and p.ndim == 2 else others)[number] = p
        self._parts: list[tuple[list[int], torch.optim.Optimizer]] = []
        if others:
            adamw = torch.optim.AdamW(others.values(), **settings, fused=True)
            self._parts.append((list(others), adamw))
        if matrices:
            muon = torch.optim.Muon(matrices.values(), **settings, adjust_lr_fn="match_rms_adamw")
            self._parts.append((list(matrices), muon))
        self._shapes = {str(n): {"momentum_buffer": p.shape} for n, p in matrices.items()}
        for n, p in others.items():
            moments = {"exp_avg": p.shape, "exp_avg_sq": p.shape}
            self._shapes[str(n)] = {"step": torch.Size(), **moments}

    def step(self, learning_rate: float) -> None:
        """Changes the parameters by their gradients."""
        for _, part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for _, part in self._parts:
            part.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The state to resume from, by ``"<number of the parameter>.<name>"``."""
        return {
            f"{numbers[place]}.{name}": value
            for numbers, part in self._parts
            for place, values in part.state_dict()["state"].items()
            for name, value in values.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what ``state`` gave; `ValueError` if it is that of other parameters, or of
        another optimizer."""
        entries: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            number, _, name = key.partition(".")
            entries.setdefault(number, {})[name] = value
        for number, values in entries.items():
            if {name: value.shape for name, value in values.items()} != self._shapes.get(number):
                raise ValueError("its optimizer is that of another model")
        for numbers, part in self._parts:
            named = enumerate(map(str, numbers))
            known = {place: entries[number] for place, number in named if number in entries}
            part.load_state_dict({**part.state_dict(), "state": known})
