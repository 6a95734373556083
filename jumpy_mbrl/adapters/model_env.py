"""A world model as a vector environment: agents train in what the model imagines.

```python
from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv

env = WorldModelVectorEnv(from_pretrained("fold-billiards2d"), num_envs=64, step_by="shot")
obs, info = env.reset(seed=0)
obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl import checks
from jumpy_mbrl.arrays import as_array, as_tensor
from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.envs import BILLIARDS_1D, BILLIARDS_2D, rules
from jumpy_mbrl.envs.physics import Backend
from jumpy_mbrl.envs.rules import Floats, Observation, Reward, Task, line_task, plane_task
from jumpy_mbrl.envs.vector import BilliardsVectorEnv, GymVectorEnv, Result, Rows
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.world import warn_of_other_world

StepBy = Literal["frame", "jump", "shot"]
RewardFunction = Callable[[Floats, Floats], NDArray[Any]]
Positions = NDArray[np.float64]

_UNKNOWN = "velocities", "wall_hits", "ball_hits", "collisions"
"""What the real environment tells, and a model does not."""

_TASKS: dict[str, Callable[..., Task]] = {BILLIARDS_2D: plane_task, BILLIARDS_1D: line_task}


class WorldModelVectorEnv(BilliardsVectorEnv, GymVectorEnv):
    """`Billiards2D-v0` or `Billiards1D-v0`, many at once, played in the imagination of a model.

    Tables are dealt and played up to the shot by the real environment, with its seeds, options,
    `reset_mask` and `autoreset_mode`. All that follows the shot is imagined, and judged as a real
    table is, frame by frame. Positions are clipped to the table, and a ball that the model loses
    (NaN) stays where it was.

    | `step_by` | one step is                             | spaces of            | time over  |
    |-----------|-----------------------------------------|----------------------|------------|
    | `"frame"` | one frame, the context frames too       | `Billiards2D-v0`     | truncated  |
    | `"jump"`  | the frames up to the model's next tick  | `Billiards2DShot-v0` | truncated  |
    | `"shot"`  | all frames that are left                | `Billiards2DShot-v0` | terminated |

    A jump lasts until the first frame at or after the tick: a table is judged at frames. By jumps
    and by shots, an episode begins at the frame of the shot, the first action plays it, and an
    observation is the last context frames, which show velocities. By frames, the action at
    frame `lead_in` is the shot, and `max_shots` allows more. All other actions are ignored, as in
    the real environment. An episode that reaches the target is terminated; the games that count
    the last frame alone (`success="last"`, `Billiards1D-v0`) are terminated there.

    `info` holds `positions`, `time` and `is_success` as in the real environment, and
    `frames_played`, the number of frames that this reset or step took, with their `duration` in
    time units, for discounting.

    `ValueError` for a bad argument, by name, or a model that does not fit the table; an
    `OtherWorldWarning` for a table with other physics, shots or faster starts than the model has
    learned, by its record.

    Args:
        model: its observations are the positions of all balls, its actions are shots.
        num_envs: number of tables B.
        step_by: "frame", "jump" or "shot".
        env_id: of the real environment: "Billiards2D-v0" or "Billiards1D-v0".
        reward: "sparse", "dense", or a function that is given the imagined observations of n
            frames and of those right after them, (n, D) float32 each, and returns n rewards.
        frames: to start from, drawn at random, (n, T, D), of which the first are the context
            frames, such as the `obs` of a dataset; by default the real environment's own. Positions
            are in [0, 1], or bytes, 255 meaning 1.
        autoreset_mode: as in `BilliardsVectorEnv`.
        render_mode: None or "rgb_array": `render` draws what is imagined.
        backend: what moves the balls up to the shot, as in `BilliardsVectorEnv`.
        arguments: others of the real environment, but for `obs_type="state"`, which cannot be
            imagined, and `max_episode_steps`: episodes end with the table's `num_frames`. Pixels
            are drawn from imagined positions.
    """

    def __init__(
        self,
        model: WorldModel,
        num_envs: int = 1,
        step_by: StepBy = "frame",
        env_id: str = BILLIARDS_2D,
        reward: Reward | RewardFunction = "sparse",
        frames: NDArray[Any] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        backend: Backend = "auto",
        **arguments: Any,
    ) -> None:
        if not isinstance(model, WorldModel):
            raise ValueError(
                f"expected a WorldModel, got {model!r}; load saved and shipped ones with "
                "from_pretrained"
            )
        if "max_episode_steps" in arguments:
            raise ValueError(
                f"expected no max_episode_steps, got {arguments['max_episode_steps']}: a model's "
                "episodes end with the table's last frame; give config={'num_frames': ...}"
            )
        self.model = model
        self.step_by = checks.check_choice("step_by", step_by, get_args(StepBy))
        self.env_id = checks.check_choice("env_id", env_id, _TASKS)
        self._reward_function = reward if callable(reward) else None
        arguments |= {"reward": "sparse" if callable(reward) else reward, "backend": backend}
        arguments |= {"autoreset_mode": autoreset_mode, "render_mode": render_mode}
        super().__init__(num_envs, **arguments)
        task = self.task
        if step_by != "shot" and not task.line:
            self.max_episode_steps = task.last_frame
        self._seen = slice(1, None, 2) if task.line else slice(None)
        self._given = None if frames is None else self._read_frames(frames)

        # What is known of each episode: its film, and how the film is judged.
        shape = self.num_envs, task.config.num_frames
        self._film = np.full((*shape, 2 * task.config.num_balls), 0.5)
        self._rewards = np.zeros(shape)
        self._successes = np.zeros(shape, dtype=bool)
        self._stops = np.zeros(shape, dtype=bool)
        self._taken = np.zeros(self.num_envs, dtype=np.int64)
        with torch.no_grad():
            self._state = model.initial_state(self.num_envs)
        self._check_context_frames()
        warn_of_other_world(model, task, stacklevel=2)

    # What the form does differently

    @property
    def _depth(self) -> int:
        """Number of frames in an observation."""
        return 1 if self.step_by == "frame" else self.config.context_frames

    def _make_task(self, arguments: dict[str, Any]) -> Task:
        task = _TASKS[self.env_id](**arguments)
        if task.obs_type == "state":
            raise ValueError(
                "expected obs_type to be 'coords', 'pixels' or 'dict', got 'state': a world model "
                "imagines no velocities"
            )
        if task.max_shots != 1 and self.step_by != "frame":
            raise ValueError(
                f"expected max_shots=1 with step_by={self.step_by!r}, got {task.max_shots}; use "
                f"step_by='frame'"
            )
        model, balls = self.model, task.config.num_balls
        size = balls * (2 - task.line)
        if (model.obs_size, model.action_size) != (size, 2):
            raise ValueError(
                f"expected a model with obs_size={size} (positions of {balls} balls) and "
                f"action_size=2 (a shot), got {type(model).__name__} with "
                f"obs_size={model.obs_size} and action_size={model.action_size}"
            )
        return task

    @torch.no_grad()
    def _check_context_frames(self) -> None:
        """Raises ``ValueError`` for context frames that the model cannot be shown."""
        count = self.config.context_frames
        apart = np.linspace(0.2, 0.8, self.config.num_balls).repeat(2)[self._seen]
        try:
            self.model.observe(self._tensor(np.tile(apart, (1, count, 1))))
        except ValueError as error:
            raise ValueError(
                f"expected a model that can be shown the {count} context frames of lead_in="
                f"{self.config.lead_in}, got {type(self.model).__name__}: {error}"
            ) from error

    def _begin(self, rows: Rows, options: list[dict[str, Any]] | None = None) -> None:
        """Deals tables and films their context frames."""
        if self._given is not None and options:
            checks.check_names("reset option for given frames", options[0], ["target"])
        super()._begin(rows, options)
        lead_in, count = self.config.lead_in, self.config.context_frames
        if self._given is not None:
            drawn = [self._rng(row).integers(len(self._given)) for row in rows.tolist()]
            self._film[rows, :count, self._seen] = self._given[drawn]
        else:
            for frame in range(count):
                if frame:
                    self._tables.play(np.zeros((self.num_envs, 2)), rows)
                self._film[rows, frame] = self._tables.x[rows]
        self._stops[rows] = self.step_by == "frame"
        self._stops[rows, -1] = True
        first = 0 if self.step_by == "frame" else lead_in
        self._taken[rows] = first
        self._show(rows, first)

    def _play(self, actions: NDArray[np.float64], rows: Rows | None) -> Result:
        rows = np.arange(self.num_envs) if rows is None else rows
        self._go_on(rows, actions)
        now = self._tables.frame[rows, None]
        numbers = np.arange(self.config.num_frames)
        stop = (self._stops[rows] & (numbers > now)).argmax(axis=1)
        taken = (numbers > now) & (numbers <= stop[:, None])
        rewards = np.zeros(self.num_envs)
        successes, terminations = np.zeros((2, self.num_envs), dtype=bool)
        rewards[rows] = np.where(taken, self._rewards[rows], 0.0).sum(axis=1)
        successes[rows] = self._successes[rows, stop]
        over = self.step_by == "shot" or self.task.success == "last"
        terminations[rows] = successes[rows] | (over & (stop == self.task.last_frame))
        self._taken[rows] = taken.sum(axis=1)
        self._elapsed[rows] = stop - 1  # The time limit counts frames, not steps.
        self._show(rows, stop)
        return rewards, successes, terminations

    def _observe(self, rows: Rows | None = None) -> Observation:
        rows = np.arange(self.num_envs) if rows is None else rows
        tables, parts = self._tables, []
        for back in reversed(range(self._depth)):
            frame = tables.frame[rows] - back
            parts.append(tables.observe_at(self._film[rows, frame], tables.v[rows], frame, rows))
        return self.task.stack(parts)

    def _infos(self, successes: NDArray[np.bool_], rows: Rows | None = None) -> dict[str, Any]:
        known = self._tables.info(successes, rows, self._taken)
        return {name: value for name, value in known.items() if name not in _UNKNOWN}

    # The film

    def _show(self, rows: Rows, frame: Any) -> None:
        """Puts the balls of some tables where they are in the film at a frame, (R,) or for all."""
        self._tables.frame[rows] = frame
        self._tables.x[rows] = self._film[rows, frame]

    @torch.no_grad()
    def _go_on(self, rows: Rows, actions: NDArray[np.float64]) -> None:
        """Films the next frame or, after the shot, all that are left.

        Frame by frame, tables of any age share a call of the model, so it is worth many.
        """
        frame, lead_in = self._tables.frame, self.config.lead_in
        rows = rows[frame[rows] >= lead_in]
        new = rows[frame[rows] == lead_in]
        if len(new):
            shown = self._film[new, : self.config.context_frames, self._seen]
            seen = self.model.observe(self._tensor(shown))
            self._state = self._state.update_rows(as_tensor(new, device=seen.hidden.device), seen)
        shooting = frame[rows] < self.task.shots_end
        if self.step_by == "frame":
            self._imagine(rows[shooting], actions, 1)
            self._imagine(rows[~shooting], None, 1)
        else:
            self._imagine(rows[shooting], actions, self.task.last_frame - lead_in)

    def _imagine(self, rows: Rows, actions: NDArray[np.float64] | None, count: int) -> None:
        """Films the next `count` frames of some tables, after actions (B, 2) if there are any."""
        if not len(rows):
            return
        action = None if actions is None else self._tensor(actions[rows])
        index = as_tensor(rows, device=self._state.hidden.device)
        times = np.arange(1.0, count + 1.0).tolist()
        imagined = self.model.imagine(self._state[index], times, action)
        self._state = self._state.update_rows(index, imagined.state)
        frame = self._tables.frame[rows, None]
        numbers = frame + np.arange(1, count + 1)
        positions = as_array(imagined.obs.clamp(0.0, 1.0))
        self._film[rows[:, None], numbers, self._seen] = positions
        if np.isnan(positions).any():  # Lost balls stay where they were last.
            for number in numbers.T:
                before, now = self._film[rows, number - 1], self._film[rows, number]
                self._film[rows, number] = np.where(np.isnan(now), before, now)
        self._judge(rows[:, None], numbers)
        if self.step_by == "jump":
            ends = frame + np.ceil(as_array(imagined.tick_times))
            row, tick = np.nonzero(ends <= self.task.last_frame)
            self._stops[rows[row], ends[row, tick].astype(np.int64)] = True

    def _judge(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        """Decides rewards and successes at the frames `numbers` (R, K) of the tables (R, 1)."""
        target, ball = self._tables.target[rows], self.task.object_ball
        before, after = films = self._film[rows, numbers - 1], self._film[rows, numbers]
        earlier, distance = (
            rules.distance(
                film[..., ball], film[..., ball + 1], np.moveaxis(target, -1, 0), np.sqrt
            )
            for film in films
        )
        success = distance == 0.0
        if self.task.success == "last":
            success &= numbers == self.task.last_frame
        if self._reward_function is not None:
            rewards = self._ask(self._reward_function, before, after, target)
        else:
            rewards = success.astype(np.float64)
            if self.task.dense:
                rewards += earlier - distance
        self._rewards[rows, numbers] = rewards
        self._successes[rows, numbers] = success
        self._stops[rows, numbers] |= success

    def _ask(
        self, function: RewardFunction, before: Positions, after: Positions, target: Positions
    ) -> NDArray[Any]:
        """Rewards (R, K) by the user's function."""
        shape = after.shape[:2]
        task = replace(self.task, obs_type="coords")
        targets = np.broadcast_to(target, (*shape, 4)).reshape(-1, 4)
        nothing = np.zeros(len(targets), dtype=np.int64)

        def observed(film: Positions) -> Floats:
            x = film.reshape(len(targets), -1)
            obs: Floats = task.observe(x, x, targets, nothing, ())
            return obs

        rewards = np.asarray(function(observed(before), observed(after)))
        if rewards.shape != (len(targets),):
            raise ValueError(
                f"expected the reward function to return one reward for each of {len(targets)} "
                f"frames, shape ({len(targets)},), got shape {rewards.shape}"
            )
        if not np.isfinite(rewards).all():
            raise ValueError(
                "expected the reward function to return finite rewards, got NaN or infinity for "
                f"{int((~np.isfinite(rewards)).sum())} of {len(targets)} frames"
            )
        return rewards.reshape(shape)

    def _read_frames(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        array = as_frames(as_array(frames)).numpy().astype(np.float64)
        count, size = self.config.context_frames, self.model.obs_size
        if array.ndim != 3 or not len(array) or array.shape[1] < count or array.shape[2] != size:
            raise ValueError(
                f"expected frames of shape (n, T, {size}) with T at least {count}, the context "
                f"frames, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError("expected frames of finite numbers, got NaN or infinity among them")
        if array.min() < 0.0 or array.max() > 1.0:
            raise ValueError(
                f"expected frames of positions on the table, in [0, 1], got {array.min():.6g} to "
                f"{array.max():.6g}"
            )
        return array[:, :count]

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return as_tensor(values).to(self._state.hidden)
