"""World models as environments of torchrl; needs the extra `torchrl`.

```python
from torchrl.modules import CEMPlanner
from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.torchrl import WorldModelEnv
from jumpy_mbrl.agents import ReachRegion

objective = ReachRegion((0.8, 1.0, 0.0, 0.2), times=range(1, 42))
env = WorldModelEnv(from_pretrained("fold-billiards2d"), objective, frames)  # (n, T, D)
planner = CEMPlanner(env, planning_horizon=1, optim_steps=20, num_candidates=50, top_k=3)
action = planner(env.observe(seen))["action"]  # (B, T, D) -> (B, A)
```
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jumpy_mbrl.adapters.mpc import bounds_of, graph_for
from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.devices import plain_defaults
from jumpy_mbrl.models.base import State, WorldModel, check_frames, like_of
from jumpy_mbrl.objectives import Bound, Objective, scores_of

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Binary, Bounded, Composite, Unbounded
    from torchrl.envs import ModelBasedEnvBase
except ModuleNotFoundError as error:
    raise ImportError(
        "jumpy_mbrl.adapters.torchrl needs torchrl, which is not installed; "
        "pip install 'jumpy-mbrl[torchrl]'"
    ) from error


class WorldModelEnv(ModelBasedEnvBase):  # type: ignore[misc]  # mypy skips torchrl
    """A world model and an objective as an environment that keeps its state in the tensordict.

    A step takes an action, lasts until the last of the objective's times, and is rewarded with the
    objective's score. A score above 0, a believed success, terminates the episode, and nothing else
    does: put a `StepCounter` around it. With `times=[1.0]` a step is a frame, with
    `times=range(1, 42)` a whole shot. Tensordicts of any batch size will do, as torchrl's planners
    ask. Actions are clipped to their bounds, outside of which their gradient is zero. A graph is
    built where an action or a state asks for gradients, and for no other step.

    | key                  | shape    | entry                                          |
    |----------------------|----------|------------------------------------------------|
    | `observation`        | (..., D) | what is seen or imagined now                   |
    | `state`              |          | the tensors of the model's `State`, by name    |
    | `action`             | (..., A) | clipped to `action_low` and `action_high`      |
    | `reward`             | (..., 1) | the score; minus infinity if the model blew up |
    | `done`, `terminated` | (..., 1) | whether the score is above 0                   |

    `ValueError` for a model without actions, no frames or frames of another shape, bounds that
    leave no room for any action, or, at a step, an objective that returns scores of another shape.

    Args:
        model: any world model with actions.
        objective: what to reach, the same in every episode.
        frames: (n, T, D), context frames that `reset` draws from; bytes are pictures, 0 to 255
            meaning 0 to 1. The seed is that of `set_seed`, or else drawn from torch's global
            generator when the environment is made (in the processes of a `ParallelEnv`, which have
            generators of their own, `set_seed` alone decides).
        batch_size: of the environment, for a collector; by default as that of the tensordicts.
        device: by default where the model is.
        action_low: least action, as the model learned it: one number, or one for each entry.
        action_high: greatest action, likewise.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        frames: Any,
        batch_size: int | tuple[int, ...] = (),
        device: torch.device | str | None = None,
        action_low: Bound = -1.0,
        action_high: Bound = 1.0,
    ) -> None:
        low, high = bounds_of(model, action_low, action_high)
        like = like_of(model)
        starts = as_frames(frames, like).to(device or like.device)
        check_frames(starts, model.obs_size, min_frames=1)
        if not len(starts):
            raise ValueError(
                f"expected context frames to start from, got frames {tuple(starts.shape)}"
            )
        sizes = (batch_size,) if isinstance(batch_size, int) else batch_size
        super().__init__(model, device=starts.device, batch_size=torch.Size(sizes))
        self.objective = objective
        held = {"frames": starts, "_low": low.to(starts), "_high": high.to(starts)}
        for name, value in held.items():
            self.register_buffer(name, value, persistent=False)
        # On the CPU, so that a seed draws the same on all devices.
        seed = int(torch.randint(2**63 - 1, (), device="cpu"))
        self._rng = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            state = model.observe(starts[:1])
        self._kind = type(state)
        with plain_defaults():  # torchrl's own tensors
            parts = {name: (value.shape[1:], value.dtype) for name, value in vars(state).items()}
            entries = {name: Unbounded(shape, dtype=kind) for name, (shape, kind) in parts.items()}
            flag = Binary(1, dtype=torch.bool)
            specs = {
                "observation": {"observation": entries["obs"].clone(), "state": Composite(entries)},
                "state": {"state": Composite(entries)},
                "action": {"action": Bounded(low, high, low.shape, dtype=like.dtype)},
                "reward": {"reward": Unbounded((1,), dtype=like.dtype)},
                "done": {"done": flag, "terminated": flag.clone()},
            }
            for name, spec in specs.items():
                whole = Composite(spec).to(self.device).expand(self.batch_size)
                setattr(self, f"{name}_spec", whole)

    def observe(self, frames: Tensor) -> TensorDict:
        """The tensordict (B,) to plan or to roll out from, after real frames (B, T, D)."""
        seen = as_frames(frames, self.frames)
        # Nothing with a graph can be written to the memory that environments of several
        # processes share.
        with graph_for(seen):
            return self._described(self.world_model.observe(seen))

    def _reset(self, tensordict: TensorDictBase | None, **_: Any) -> TensorDictBase:
        batch = self.batch_size if tensordict is None else tensordict.batch_size
        size, place = (batch.numel(),), self._rng.device
        drawn = torch.randint(len(self.frames), size, generator=self._rng, device=place)
        return self.observe(self.frames[drawn.to(self.device)]).reshape(batch)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        rows = tensordict.reshape(-1)
        state = self._kind(**dict(rows["state"].items()))
        action = rows["action"].clamp(self._low, self._high)
        with graph_for(action, *vars(state).values()):
            imagined = self.world_model.imagine(state, self.objective.times, action)
            score = scores_of(self.objective, imagined.obs.unsqueeze(1))
        result = self._described(imagined.state, score > 0.0)
        result["reward"] = score.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        return result.reshape(tensordict.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self._rng.manual_seed(seed)

    def _described(self, state: State, over: Tensor | None = None) -> TensorDict:
        """States as a tensordict (B,), with whether episodes are over, (B, 1), by default not."""
        if over is None:
            over = torch.zeros(state.batch_size, 1, dtype=torch.bool, device=state.obs.device)
        entries = {
            "observation": state.obs,
            "state": TensorDict(vars(state), state.batch_size),
            "done": over,
            "terminated": over.clone(),
        }
        return TensorDict(entries, state.batch_size, device=self.device)
