"""`Billiards2D-v0`: one shot at the cue ball, and a target for the object ball."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.envs.config import Start, TableConfig, Target
from jumpy_mbrl.envs.pixels import PixelConfig
from jumpy_mbrl.envs.scene import Scene
from jumpy_mbrl.envs.table import Table
from jumpy_mbrl.envs.task import Floats, Observation, ObsType, Reward, Success, Task, plane_task

GymEnv = gym.Env[Observation, Floats]
"""Named by all environments: skrl knows those of Gymnasium by their direct bases."""


class TableEnv(GymEnv):
    """What the environments of this package have in common: a table, played frame by frame.

    Args:
        task: what is played.
        render_mode: None or one of `metadata["render_modes"]`.

    Raises:
        ValueError: for an unknown render mode.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # an instance attribute in gym.Env
        "render_modes": ["human", "rgb_array"],
        "render_fps": 20,
    }

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                unknown_name("render_mode", render_mode, self.metadata["render_modes"])
            )
        self.task = task
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = task.observation_space()
        self._table = Table(task)
        self._running = False
        self._scene = None if render_mode is None else Scene(task.config)
        self._window: Any = None

    @property
    def config(self) -> TableConfig:
        """The table."""
        return self.task.config

    @property
    def target(self) -> Target:
        """The target of this episode."""
        return self._table.target

    @property
    def steps_to_win(self) -> int:
        """How many steps an episode has to have for one of them to win it."""
        return self.task.steps_to_win

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode: see the class for the start and for `options`.

        Raises:
            ValueError: for an unknown option, or an impossible table or target.
        """
        super().reset(seed=seed)
        self._start(options)
        if self.render_mode == "human":
            self.render()
        return self._table.observe(), self._table.info(False)

    def step(self, action: Floats) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Plays one frame: see the class for actions, rewards and the end.

        Raises:
            ValueError: unless the action is two finite numbers.
            ResetNeeded: before the first `reset`, or after the episode terminated.
        """
        ax, ay = self._check_step(action)
        reward, success, over = self._play(ax, ay)
        self._running = not over
        if self.render_mode == "human":
            self.render()
        return self._table.observe(), reward, over, False, self._table.info(success)

    def render(self) -> Any:
        """Returns the frame, (608, 560, 3) uint8, or shows it, as `render_mode` says.

        The picture shows the table, where the balls came from, the shot for some frames after it
        was played, and the score line. The window can be resized; once someone has closed it, it
        stays closed until `close` is called.

        Raises:
            ResetNeeded: before the first `reset`.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; use "
                'gym.make(..., render_mode="rgb_array")'
            )
            return None
        if self._scene is None or not self._table.x:
            raise ResetNeeded("call reset() before render(): there is no table to show")
        from jumpy_mbrl.envs import rendering

        if self.render_mode != "human":
            return rendering.draw_view(self._scene.view())
        if self._window is None:
            self._window = rendering.Window(self.metadata["render_fps"])
        self._window.show(self._scene.view())
        return None

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its own window.
        return {**self.__dict__, "_window": None}

    def _start(self, options: dict[str, Any] | None) -> None:
        """Begins an episode."""
        self._table.start(self.np_random, options)
        self._running = True
        if self._scene is not None:
            self._scene.start(self._table.x, self.target)

    def _play(self, ax: float, ay: float) -> tuple[float, bool, bool]:
        """Plays one frame as `Table.play` does, for all to see."""
        table = self._table
        if self._scene is None:
            return table.play(ax, ay)
        struck = self.config.lead_in <= table.frame < self.task.shots_end
        reward, success, over = table.play(ax, ay)
        # On a line the shot puts the ball somewhere: there is no impulse to draw.
        impulse = (0.0, 0.0) if self.task.line else (ax, ay)
        shot = impulse if struck else None
        self._scene.step(table.x, table.v, shot, success, table.walls, table.hits)
        return reward, success, over

    def _check_step(self, action: Any) -> tuple[float, float]:
        """Returns the two components of the action, or refuses it or the step."""
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running, or it terminated")
        return read_action(action)


class Billiards2DEnv(TableEnv, GymEnv):
    """
    ## Description

    A billiards table without friction, seen from above: the unit square with N equal balls. You
    watch four frames of moving balls, play one shot at the **cue ball** (ball 0), and win if the
    **object ball** (ball 1) is then seen inside the black target. Everything that happens after the
    shot follows from it, so the task is to predict: about one random shot in five wins, and almost
    every table has a shot that does. It is the planning task of "Piecewise-constant Neural ODEs"
    (2021), with exact physics: no time step, no overlaps, energy conserved to rounding.

    ```python
    >>> import gymnasium as gym
    >>> import jumpy_mbrl
    >>> env = gym.make("Billiards2D-v0")
    >>> env
    <OneEnd<TimeLimit<OrderEnforcing<PassiveEnvChecker<Billiards2DEnv<Billiards2D-v0>>>>>>

    ```

    `gym.make("jumpy_mbrl:Billiards2D-v0")` does the same without the import, and also in processes
    that have not imported `jumpy_mbrl`, such as the workers of a subprocess vector environment.
    `gym.make_vec("Billiards2D-v0", num_envs=1024)` makes many tables in one, far faster than as
    many single ones (see `jumpy_mbrl.envs.vector`), and `jumpy_mbrl.adapters.sb3.make_vec_env` does
    so for Stable-Baselines3.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: an impulse on the cue ball. `max_impulse` (1.2) times the action is
    added to its velocity, which is then clipped to +-`max_speed` (1.8) on each axis.

    | Num | Action                              | Min | Max | Unit                          |
    |-----|-------------------------------------|-----|-----|-------------------------------|
    | 0   | change of the cue ball's x velocity | -1  | 1   | 1.2 table sides per time unit |
    | 1   | change of the cue ball's y velocity | -1  | 1   | 1.2 table sides per time unit |

    The first three steps (`lead_in`) ignore the action: the player watches frames 0 to 3. The
    action passed to the fourth step, at frame 3, is the shot, even if it is zero. Later actions are
    ignored too, unless `max_shots` is `None` (an impulse at every frame from 3 on) or k (the first
    k of these). Actions outside the box are clipped to it; an action that is not two
    finite numbers is refused with a `ValueError`.

    ## Observation Space

    Positions are in table sides, x to the right and y upwards; the cue ball comes first.

    `obs_type="coords"` (default): `Box(0, 1, (2N,), float32)`. Velocities have to be inferred.

    | Num    | Observation                                               | Min | Max |
    |--------|-----------------------------------------------------------|-----|-----|
    | 0, 1   | x, y of the cue ball                                      | 0   | 1   |
    | 2, 3   | x, y of the object ball                                   | 0   | 1   |
    | 4, ... | x, y of the other balls                                   | 0   | 1   |
    | last 4 | x_low, x_high, y_low, y_high of the target, but only with |     |     |
    |        | `random_target=True`                                      | 0   | 1   |

    `obs_type="state"`: `Box(..., (4N + 6,), float32)`, all there is to know (Markov).

    | Num         | Observation                                                 | Min | Max |
    |-------------|-------------------------------------------------------------|-----|-----|
    | 0 ... 2N-1  | positions, as above                                         | 0   | 1   |
    | 2N ... 4N-1 | velocities, in sides per time unit                          | -V  | V   |
    | 4N ... 4N+3 | x_low, x_high, y_low, y_high of the target                  | 0   | 1   |
    | 4N+4        | shots left, as a fraction of `max_shots`; 1 for `None`      | 0   | 1   |
    | 4N+5        | time left, as a fraction of the episode                     | 0   | 1   |

    V is the speed of one ball that holds all the energy that balls and shots can bring:
    `max_speed * sqrt(2 * (N + shots))`, 4.4 by default; with `max_shots=None` every frame from 3 on
    counts as a shot.

    `obs_type="pixels"`: `Box(0, 255, (size, size, channels), uint8)`, 64 x 64 x 3 by default: a
    picture with row 0 at the top, of plain discs and the target in black. Pixels at an edge are as
    full as covered, so motion by a fraction of a pixel shows. With `channels=1` the cue ball is
    white (255), the object ball 192, the others 128, the felt 64, the target 0. `pixels="paper"` is
    the papers' format, 28 x 28 x 1. The default works with Stable-Baselines3's `CnnPolicy`, which
    needs at least 36 x 36.

    `obs_type="dict"`: `Dict` of `"coords"` and `"pixels"`, both as above.

    ## Rewards

    `reward="sparse"` (default): 1.0 in the step that reaches the target, else 0.0.

    `reward="dense"`: the same, plus, from the shot on, the distance from the object ball's centre
    to the target before the step minus that distance after it. Over an episode this adds up to the
    whole progress.

    ## Starting State

    Balls at random without overlap: each ball in turn lies uniformly where the earlier ones leave
    room. Velocity components are 0.75 * N(0, 1), clipped to +-1.2, for `start="moving"` (default),
    and zero for `start="rest"`. With `random_target=True` the target, a rectangle of the configured
    size, lies anywhere on the table, uniformly, and is part of every kind of observation.

    ## Episode End

    The episode **terminates** when the centre of the object ball is inside the target (its border
    included) at a frame after the first shot, that is at frame 4 or later. (With one ball on the
    table, the cue ball is the object ball.) It is **truncated** after 44 steps (45 frames), by the
    registered time limit; pass `max_episode_steps` to `gym.make` for another one, and
    `config={"num_frames": max_episode_steps + 1}` so that "time left" fits it. An episode that
    terminates in its last step is not truncated too. Calling `step` before `reset`, or after
    termination, raises `gymnasium.error.ResetNeeded`.

    With `success="last"` the object ball has to be inside the target at the last frame
    (`num_frames - 1`, which is 44), wherever it was before: the episode terminates there, won or
    lost. A time limit before that frame is refused by `reset` with a `ValueError`.

    ## Information

    `reset` and `step` return in `info` the same keys:

    | Key          | Value                                                   | Type              |
    |--------------|---------------------------------------------------------|-------------------|
    | `positions`  | exact copy                                              | (N, 2) float64    |
    | `velocities` | exact copy                                              | (N, 2) float64    |
    | `time`       | since the start, in time units                          | `np.float64`      |
    | `is_success` | whether this step reached the target                    | array () of bool  |
    | `wall_hits`  | contacts with walls so far                              | `np.int64`        |
    | `ball_hits`  | contacts between balls so far                           | `np.int64`        |

    Gymnasium's vector environments make arrays (B, ...) of one dtype of them. With
    `legacy_info=True` there is also what earlier versions told, for one release more:
    `collisions`, a dictionary of the contacts, `"wall"` and `"ball"`.

    ## Rendering

    `render_mode="rgb_array"` gives one picture a frame, `"human"` a window. Gymnasium's wrappers
    `RecordVideo` and `RenderCollection` (`render_mode="rgb_array_list"`) work, and
    `jumpy_mbrl.envs.save_gif` writes GIF files.

    ## Arguments

    | Argument        | Default    | Meaning                                                       |
    |-----------------|------------|---------------------------------------------------------------|
    | `num_balls`     | 2          | number of balls N, at least 1: up to 8 have ample room        |
    | `obs_type`      | `"coords"` | `"coords"`, `"state"`, `"pixels"` or `"dict"`                 |
    | `start`         | `"moving"` | `"moving"` or `"rest"`                                        |
    | `max_shots`     | 1          | number of shots, or `None` for one at every frame             |
    | `random_target` | `False`    | whether each episode draws its own target                     |
    | `reward`        | `"sparse"` | `"sparse"` or `"dense"`                                       |
    | `success`       | `"any"`    | `"any"` or `"last"`: at which frames the target counts        |
    | `config`        | `None`     | a `TableConfig`, or a dictionary of its fields to change      |
    | `pixels`        | `None`     | format of pictures: `"default"`, `"paper"`, a `PixelConfig`,  |
    |                 |            | or a dictionary of its fields                                 |
    | `size`          | `None`     | height and width of pictures, instead of those of `pixels`    |
    | `channels`      | `None`     | 3 (colour) or 1 (grey), instead of those of `pixels`          |
    | `render_mode`   | `None`     | `"rgb_array"` (needs no display) or `"human"`                 |
    | `legacy_info`   | `False`    | whether `info` holds the keys of earlier versions too         |

    `reset(options=...)` takes `positions` (N, 2), `velocities` (N, 2) and `target` (4,), any of
    them, and uses them exactly. An impossible table is refused with a `ValueError`.

    ```python
    >>> env = gym.make("Billiards2D-v0", obs_type="state", config={"radius": 0.05})
    >>> obs, info = env.reset(seed=0, options={"positions": [[0.2, 0.3], [0.7, 0.5]]})
    >>> info["positions"].tolist()
    [[0.2, 0.3], [0.7, 0.5]]

    ```

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self,
        num_balls: int | None = None,
        obs_type: ObsType = "coords",
        start: Start = "moving",
        max_shots: int | None = 1,
        random_target: bool = False,
        reward: Reward = "sparse",
        success: Success = "any",
        config: TableConfig | Mapping[str, Any] | None = None,
        pixels: PixelConfig | Mapping[str, Any] | str | None = None,
        size: int | None = None,
        channels: int | None = None,
        render_mode: str | None = None,
        legacy_info: bool = False,
    ) -> None:
        task = plane_task(
            num_balls=num_balls,
            obs_type=obs_type,
            start=start,
            max_shots=max_shots,
            random_target=random_target,
            reward=reward,
            success=success,
            config=config,
            pixels=pixels,
            size=size,
            channels=channels,
            legacy_info=legacy_info,
        )
        super().__init__(task, render_mode)


def read_action(action: Any) -> tuple[float, float]:
    """Returns the two components, clipped to [-1, 1], or refuses the action."""
    try:
        array = np.asarray(as_array(action), dtype=np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != (2,):
        shape = "" if array is None else f" of shape {array.shape}"
        raise ValueError(f"expected an action of shape (2,), got {action!r}{shape}")
    ax, ay = array.tolist()
    if -1.0 <= ax <= 1.0 and -1.0 <= ay <= 1.0:
        return ax, ay
    if not (math.isfinite(ax) and math.isfinite(ay)):
        raise ValueError(f"expected an action of two finite numbers, got [{ax}, {ay}]")
    return min(max(ax, -1.0), 1.0), min(max(ay, -1.0), 1.0)
