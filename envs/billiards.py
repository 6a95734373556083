"""The environments: `Billiards2D-v0`, `Billiards1D-v0`, and both by whole shots.

One class plays them all; the four that are registered say which game it is, and what it takes.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_choice, check_names
from jumpy_mbrl.envs.config import Start, TableConfig, Target
from jumpy_mbrl.envs.physics import advance, place, shoot
from jumpy_mbrl.envs.pixels import Frame, Look, PixelConfig
from jumpy_mbrl.envs.rules import (
    RESET_OPTIONS,
    Floats,
    Observation,
    ObsType,
    Reward,
    Success,
    Task,
    distance,
    line_task,
    on_target,
    plane_task,
)
from jumpy_mbrl.envs.scene import Scene
from jumpy_mbrl.envs.state import Moment, read_state
from jumpy_mbrl.envs.variation import FACTOR_OPTIONS

GymEnv = gym.Env[Observation, Floats]
"""Named by all environments: skrl knows those of Gymnasium by their direct bases."""


class BilliardsEnv(GymEnv):
    """One table, played frame by frame or by whole shots. (`vector.Tables` are many, by the same
    rules.)

    Args:
        task: what is played.
        render_mode: None or one of `metadata["render_modes"]`; `ValueError` for another.

    Attributes:
        by_shots: whether one step is a whole shot. Then `reset` plays on to the shot, and
            observations join the last `config.context_frames` frames.
        target: of this episode.
        task: what is played in this episode.
        variation_space: the factors that `reset(options=...)` may change, a `spaces.Dict`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # an instance attribute in gym.Env
        "render_modes": ["human", "rgb_array"],
        "render_fps": 20,
    }
    by_shots: ClassVar[bool] = False

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self._usual = self.task = task
        self.variation_space = task.variation_space()
        self._factors: dict[str, NDArray[Any]] = {}
        self.render_mode = render_mode
        depth = task.config.context_frames if self.by_shots else 1
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = task.observation_space(depth)
        self.target: Target = task.config.target
        self._x: list[float] = []
        self._v: list[float] = []
        self._frame = self._walls = self._hits = 0
        self._running = False
        self._recent: deque[Moment] = deque(maxlen=depth)
        self._background: Frame = np.empty((0, 0, 0), dtype=np.uint8)
        self._painted: tuple[Target, Look] | None = None
        self._scene = None if render_mode is None else Scene(task.config)
        self._pictures: list[Any] = []
        self._window: Any = None

    @property
    def config(self) -> TableConfig:
        """The table."""
        return self.task.config

    @property
    def steps_to_win(self) -> int:
        """How many steps an episode has to have for one of them to win it."""
        return 1 if self.by_shots else self.task.steps_to_win

    @property
    def elapsed_steps(self) -> int:
        """How many steps of the episode have been played."""
        return int(not self._running) if self.by_shots else self._frame

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode: see the class for the start and for `options`; `ValueError` for an
        unknown option, or an impossible table, target or factor of variation."""
        super().reset(seed=seed)
        rng, task, rest, factors = self.np_random, self._usual, options, {}
        if options:
            check_names("reset option", options, (*RESET_OPTIONS, *FACTOR_OPTIONS))
            rest = dict(options)
            factors = self.variation_space.take(rest, rng)
            task = task.varied(factors)
        self._x, self._v, self.target = task.start_table(rng, rest)
        if options and options.get("variation"):
            rng.random()  # or the next episode might draw the same factors
        self._vary(task, factors)
        self._frame = self._walls = self._hits = 0
        self._running = True
        self._recent.clear()
        self._pictures.clear()
        self._paint_background()
        if self._scene is not None:
            self._scene.start(self._x, self.target)
        self._watch()
        if self.by_shots:
            for _ in range(task.config.lead_in):
                self._play(0.0, 0.0)
        return self._observe(), self._info(False, self._frame)

    def step(self, action: Floats) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Plays one frame, or the shot and all that follows: see the class for actions, rewards and
        the end; `ValueError` unless the action is two finite numbers, and `ResetNeeded` before the
        first `reset` or after the episode terminated."""
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running, or it terminated")
        ax, ay = read_action(action)
        self._running = not self.by_shots
        first = self._frame
        reward, success, over = self._play(ax, ay)
        if self.by_shots:
            while not over and self._frame < self.task.last_frame:
                more, success, over = self._play(ax, ay)
                reward += more
            over = True
        self._running = not over
        lost = self.task.truncate_lost and over and not success
        info = self._info(success, self._frame - first)
        return self._observe(), reward, over and not lost, lost, info

    def render(self) -> Any:
        """Returns the frame, (608, 560, 3) uint8, or shows it, as `render_mode` says; in mode
        "rgb_array_list", returns the frames since the last call, or since `reset`.

        The picture shows the table, where the balls came from, the shot for some frames after it
        was played, and the score line. The window can be resized; once someone has closed it, it
        stays closed until `close` is called. `ResetNeeded` before the first `reset`.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; use "
                'gym.make(..., render_mode="rgb_array")'
            )
            return None
        if not self._x:
            raise ResetNeeded("call reset() before render(): there is no table to show")
        if self.render_mode == "rgb_array_list":
            pictures, self._pictures = self._pictures, []
            return pictures
        return self._picture()

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its own window.
        return {**self.__dict__, "_window": None}

    def get_state(self) -> dict[str, Any]:
        """Returns all that later steps, observations and episodes follow from, for `set_state`. It
        can be pickled; what it holds may change from release to release. `ResetNeeded` before the
        first `reset`."""
        if not self._x:
            raise ResetNeeded("call reset() before get_state(): there is no table")
        moments = self._recent or [(self._x, self._v, self._frame)]
        return {
            "game": self._game,
            "factors": dict(self._factors),
            "target": self.target,
            "moments": [(x.copy(), v.copy(), frame) for x, v, frame in moments],
            "hits": (self._walls, self._hits),
            "running": self._running,
            "rng": self.np_random.bit_generator.state,
            "seed": self.np_random_seed,
            "scene": copy.deepcopy(self._scene),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `get_state`, of this environment or another of the same game,
        whatever that observes, rewards and renders: all that follows is the same, bit for bit.
        `ValueError`, naming what is wrong, for a state of another game or what is none, which
        leaves all as it was. (Without a render mode states hold no trails and shots to draw.)"""
        read = read_state(state, self._game, self._recent.maxlen or 1)
        factors = self.variation_space.take({"variation_values": read["factors"]}, read["rng"])
        self._vary(self._usual.varied(factors), factors)
        self._x, self._v, self._frame = read["moments"][-1]
        self._recent.clear()
        self._recent.extend(read["moments"] if self.by_shots else ())
        self.target, self._running = read["target"], read["running"]
        self._walls, self._hits = read["hits"]
        self._np_random, self._np_random_seed = read["rng"], read["seed"]
        self._pictures.clear()
        self._paint_background()
        if self._scene is not None:
            self._scene.start(self._x, self.target, self._frame, *read["hits"])
            self._scene = copy.deepcopy(read["scene"]) or self._scene

    @cached_property
    def _game(self) -> dict[str, Any]:
        """What has to be the same in an environment that goes on from a state of this."""
        rules = {name: getattr(self._usual, name) for name in ("line", "max_shots", "success")}
        return {"by_shots": self.by_shots, **rules, "config": self._usual.config.to_dict()}

    def _vary(self, task: Task, factors: dict[str, NDArray[Any]]) -> None:
        """Plays on with a task, whose factors of variation these are."""
        if not factors and not self._factors:
            return
        self.task, self._factors = task, factors
        self.variation_space.note(factors)
        if self._scene is not None:
            self._scene.config, self._scene.look = task.config, task.look

    def _paint_background(self) -> None:
        painted = self.target, self.task.look
        if self.task.has_pixels and self._painted != painted:
            self._background = self.task.painter.background(self.target)
            self._painted = painted

    def _play(self, ax: float, ay: float) -> tuple[float, bool, bool]:
        """Plays one frame with an action in [-1, 1]^2, and returns the reward, whether the object
        ball reached the target, and whether the game is over. An error leaves the table alone."""
        task, config = self.task, self.task.config
        shot = self._frame >= config.lead_in
        struck = shot and self._frame < task.shots_end
        dense = shot and task.dense
        before = self._distance() if dense else 0.0
        x, v = self._x.copy(), self._v.copy()
        if struck and task.line:
            place(x, v, ax, ay, config.radius)
        elif struck:
            shoot(v, ax, ay, config.max_impulse, config.max_speed)
        walls, hits = advance(x, v, config.dt, config.radius, config.restitution)
        self._x, self._v = x, v
        self._walls += walls
        self._hits += hits
        self._frame += 1
        inside = on_target(x[task.object_ball], x[task.object_ball + 1], self.target)
        success, over = task.judge(shot, self._frame, inside)
        reward = 1.0 if success else 0.0
        if dense:
            reward += before - self._distance()
        if self._scene is not None:
            # On a line the shot puts the ball somewhere: there is no impulse to draw.
            impulse = (0.0, 0.0) if task.line else (ax, ay)
            self._scene.step(x, v, impulse if struck else None, success, self._walls, self._hits)
        if self._scene is not None or self.by_shots:
            self._watch()
        return reward, success, over

    def _distance(self) -> float:
        ball = self.task.object_ball
        far: float = distance(self._x[ball], self._x[ball + 1], self.target)
        return far

    def _watch(self) -> None:
        """Keeps what observations and pictures need of this frame."""
        if self.by_shots:
            self._recent.append((self._x, self._v, self._frame))
        if self.render_mode == "human":
            self._picture()
        elif self.render_mode == "rgb_array_list":
            self._pictures.append(self._picture())

    def _picture(self) -> Any:
        """Returns the picture of this frame, or shows it in the window."""
        from jumpy_mbrl.envs import rendering

        assert self._scene is not None
        if self.render_mode != "human":
            return rendering.draw_view(self._scene.view())
        if self._window is None:
            self._window = rendering.Window(self.metadata["render_fps"])
        self._window.show(self._scene.view())
        return None

    def _observe(self) -> Observation:
        task, target, background = self.task, self.target, self._background
        if not self.by_shots:
            return task.observe(self._x, self._v, target, self._frame, background)
        return task.stack([task.observe(x, v, target, k, background) for x, v, k in self._recent])

    def _info(self, success: bool, played: int) -> dict[str, Any]:
        frames = played if self.by_shots else None
        x, v, frame = self._x, self._v, self._frame
        return self.task.info(x, v, frame, success, self._walls, self._hits, frames)


_SHOT_METADATA = {
    **BilliardsEnv.metadata,
    "render_modes": [*BilliardsEnv.metadata["render_modes"], "rgb_array_list"],
}


class Billiards2DEnv(BilliardsEnv, GymEnv):
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
    | `truncate_lost` | `False`    | whether only a game that is won terminates: see below         |

    With `truncate_lost=True` a step that ends a game without success, which terminates it
    otherwise, truncates it: for programs that count terminations as successes. Programs that learn
    would expect more to come.

    `reset(options=...)` takes `positions` (N, 2), `velocities` (N, 2) and `target` (4,), any of
    them, and uses them exactly. An impossible table is refused with a `ValueError`.

    ```python
    >>> env = gym.make("Billiards2D-v0", obs_type="state", config={"radius": 0.05})
    >>> obs, info = env.reset(seed=0, options={"positions": [[0.2, 0.3], [0.7, 0.5]]})
    >>> info["positions"].tolist()
    [[0.2, 0.3], [0.7, 0.5]]

    ```

    It also takes factors of variation, `radius`, `restitution`, `ball_colors` (N, 3) and
    `felt_color` (3,), 0 to 255, for that episode only; `variation`, a list of those to draw, or
    `["all"]`; and `variation_values`, which maps names to values. `env.unwrapped.variation_space`
    declares them: its samples may be passed as options, and what is not in it is refused.

    ```python
    >>> space = env.unwrapped.variation_space
    >>> space["radius"], space["felt_color"]
    (Box(0.025, 0.0625, (), float64), Box(0, 255, (3,), uint8))
    >>> obs, info = env.reset(seed=0, options=space.sample())

    ```

    ## States

    `env.get_state()` returns all that later steps, observations and episodes follow from, and can
    be pickled; `env.set_state(state)` goes on from there, in any environment of the same game.

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
        truncate_lost: bool = False,
    ) -> None:
        game = num_balls, obs_type, start, max_shots, random_target, reward, success
        told = pixels, size, channels, legacy_info, truncate_lost
        super().__init__(plane_task(*game, config, *told), render_mode)


class LineEnv(BilliardsEnv):
    """The arguments of both forms of the game on a line."""

    def __init__(
        self,
        obs_type: ObsType = "coords",
        random_target: bool = False,
        reward: Reward = "sparse",
        config: TableConfig | Mapping[str, Any] | None = None,
        pixels: PixelConfig | Mapping[str, Any] | str | None = None,
        size: int | None = None,
        channels: int | None = None,
        render_mode: str | None = None,
        legacy_info: bool = False,
        truncate_lost: bool = False,
    ) -> None:
        task = line_task(
            config,
            obs_type=obs_type,
            random_target=random_target,
            reward=reward,
            pixels=pixels,
            size=size,
            channels=channels,
            legacy_info=legacy_info,
            truncate_lost=truncate_lost,
        )
        super().__init__(task, render_mode)


class Billiards1DEnv(LineEnv, GymEnv):
    """
    ## Description

    Two balls on a line from y = 0 to y = 1, each at unit speed, bouncing off its ends and off each
    other. You watch four frames, then put **ball A**, the cue ball, wherever you like and send it
    up or down, and win if **ball B**, the object ball, is near y = 0.33 at frame 20. It is the
    planning task of "Jumpy Recurrent Neural Networks" (ICLR 2021 submission), section 3.4: set
    position and direction of ball A so that ball B is within 0.1 of y = 0.33 at t = 20. About seven
    lines in ten have an answer, and three random answers in ten are right.

    ```python
    >>> import gymnasium as gym
    >>> import jumpy_mbrl
    >>> env = gym.make("Billiards1D-v0")
    >>> obs, info = env.reset(seed=0)
    >>> obs.shape, info["positions"].shape
    ((2,), (2,))

    ```

    The physics is that of `Billiards2D-v0`, exact and event-driven, with both balls at x = 0.5.
    What is not said here is as there.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: where ball A goes on from.

    | Num | Action                                                      | Min | Max |
    |-----|-------------------------------------------------------------|-----|-----|
    | 0   | its position, -1 at the lower end and 1 at the upper end    | -1  | 1   |
    | 1   | its direction: upwards if 0 or more, downwards if less      | -1  | 1   |

    The position is `radius + (action + 1) / 2 * (1 - 2 * radius)`; where ball B is in the way, it
    is the nearest free place. The speed is always 1. There is one shot, in the fourth step. With
    `config={"lead_in": 0}` it sets the initial conditions, literally as in the paper; then one
    frame is all there is to see, and only `obs_type="state"` shows the way ball B goes.

    ## Observation Space

    Positions are in lengths of the line; ball A comes first. `"pixels"` show the line from above:
    the balls move up and down in the middle, and the target is a black band across the picture.

    `obs_type="coords"` (default): `Box(0, 1, (2,), float32)`, the y of ball A and of ball B, and
    with `random_target=True` the target's y_low and y_high. Directions have to be inferred.

    `obs_type="state"`: `Box(..., (8,), float32)`, all there is to know (Markov).

    | Num  | Observation                                                        | Min | Max |
    |------|--------------------------------------------------------------------|-----|-----|
    | 0, 1 | positions, as above                                                | 0   | 1   |
    | 2, 3 | velocities: 1 or -1, unless others are given                       | -V  | V   |
    | 4, 5 | y_low, y_high of the target                                        | 0   | 1   |
    | 6    | whether the shot is still to come, 1 or 0                          | 0   | 1   |
    | 7    | time left, as a fraction of the episode                            | 0   | 1   |

    ## Starting State

    Ball A lies anywhere on the line, and ball B anywhere it has room, uniformly; each moves up or
    down at unit speed, with equal chances. With `random_target=True` the target, an interval of the
    configured length, lies anywhere on the line, uniformly.

    ## Episode End

    The episode **terminates** at frame 20, after 20 steps, won or lost: won if the centre of ball B
    is inside the target then, its ends included. The registered time limit of 20 steps truncates
    nothing; with another `num_frames` pass `gym.make(..., max_episode_steps=num_frames - 1)`: a
    limit before the last frame is refused by `reset` with a `ValueError`.

    ## Information

    As in `Billiards2D-v0`, with `positions` and `velocities` of shape (2,).

    ## Arguments

    Those of `Billiards2D-v0` without `num_balls`, `start`, `max_shots` and `success`, which the
    game settles. In `config` the defaults are `num_frames` 21 and `target` (0, 1, 0.23, 0.43),
    whose x must stay as they are. `reset(options=...)` takes `positions` (2,), `velocities` (2,)
    and `target` (y_low, y_high).

    ## Version History

    * v0: Initial version.
    """


class Billiards2DShotEnv(BilliardsEnv, GymEnv):
    """
    ## Description

    `Billiards2D-v0` as a single decision: you are shown the four context frames at once, choose the
    shot, and one `step` plays it to its end. What is not said here is as there.

    ```python
    >>> import gymnasium as gym
    >>> import jumpy_mbrl
    >>> env = gym.make("Billiards2DShot-v0")
    >>> obs, info = env.reset(seed=0)
    >>> frames = obs.reshape(4, 2, 2)  # frame, ball, axis
    >>> obs, reward, terminated, truncated, info = env.step([0.5, -0.5])
    >>> terminated
    True

    ```

    ## Observation Space

    The observations of `Billiards2D-v0` at the `lead_in + 1` context frames, in one; after the
    step, at as many frames, the last that were played. Vectors come one after the other
    (`obs.reshape(4, -1)` gives the frames back), pictures channel after channel. With two balls
    `"coords"` are (16,), `"state"` is (56,), and `"pixels"` are (64, 64, 12).

    ## Rewards

    The sum of the rewards of `Billiards2D-v0`: 1.0 if the shot wins, else 0.0, and with
    `reward="dense"` the progress towards the target too.

    ## Starting State

    That of `Billiards2D-v0` with the same seed, three frames later.

    ## Episode End

    Every step **terminates** the episode: when the object ball is first seen inside the target, or
    at the last frame (44), which alone counts with `success="last"`. The registered time limit of
    one step truncates nothing. With `truncate_lost=True` a lost shot truncates it.

    ## Information

    As in `Billiards2D-v0`, and `frames_played`, the number of frames that this `reset` or `step`
    played (`np.int64`), with their `duration` in time units (`np.float64`): what a decision takes,
    for discounting in a semi-Markov decision process. With `legacy_info=True` the former is also
    there as `frames`.

    ## Rendering

    `render_mode="rgb_array"` shows the frame after a step, `"human"` all of them in a window, and
    `"rgb_array_list"` gives a list of the pictures of all frames since the last call of `render`,
    or since `reset`. `RecordVideo` of Gymnasium keeps but one picture a step;
    `jumpy_mbrl.envs.RecordShots` keeps all, and `jumpy_mbrl.envs.save_gif` writes a GIF of them.

    ```python
    >>> env = gym.make("Billiards2DShot-v0", render_mode="rgb_array_list")
    >>> obs, info = env.reset(seed=0)
    >>> step = env.step([0.5, -0.5])
    >>> len(env.render())  # the four context frames, and those of the shot
    45

    ```

    ## Arguments

    Those of `Billiards2D-v0` without `max_shots`. `render_mode` may be `"rgb_array_list"` too.

    ## Version History

    * v0: Initial version.
    """

    metadata: ClassVar[dict[str, Any]] = _SHOT_METADATA  # type: ignore[misc]
    by_shots = True

    def __init__(
        self,
        num_balls: int | None = None,
        obs_type: ObsType = "coords",
        start: Start = "moving",
        random_target: bool = False,
        reward: Reward = "sparse",
        success: Success = "any",
        config: TableConfig | Mapping[str, Any] | None = None,
        pixels: PixelConfig | Mapping[str, Any] | str | None = None,
        size: int | None = None,
        channels: int | None = None,
        render_mode: str | None = None,
        legacy_info: bool = False,
        truncate_lost: bool = False,
    ) -> None:
        game = num_balls, obs_type, start, 1, random_target, reward, success
        told = pixels, size, channels, legacy_info, truncate_lost
        super().__init__(plane_task(*game, config, *told), render_mode)


class Billiards1DShotEnv(LineEnv, GymEnv):
    """
    ## Description

    `Billiards1D-v0` as a single decision: you are shown the four context frames at once, choose
    where ball A goes on from, and one `step` plays on to frame 20. It is to `Billiards1D-v0` what
    `Billiards2DShot-v0` is to `Billiards2D-v0`: `"coords"` are (8,), `"state"` is (32,), and
    `"pixels"` are (64, 64, 12). Neither takes `num_balls`, `start`, `max_shots` or `success`.

    ```python
    >>> import gymnasium as gym
    >>> import jumpy_mbrl
    >>> env = gym.make("Billiards1DShot-v0")
    >>> obs, info = env.reset(seed=0)
    >>> frames = obs.reshape(4, 2)  # frame, ball
    >>> obs, reward, terminated, truncated, info = env.step([0.5, -1.0])
    >>> terminated, int(info["frames_played"])
    (True, 17)

    ```

    ## Version History

    * v0: Initial version.
    """

    metadata: ClassVar[dict[str, Any]] = _SHOT_METADATA  # type: ignore[misc]
    by_shots = True


def read_action(action: Any) -> tuple[float, float]:
    """Returns the two components, clipped to [-1, 1], or refuses the action."""
    try:
        array = as_array(action)
        if array.dtype != np.float32:  # whose numbers become floats in any case
            array = np.asarray(array, dtype=np.float64)
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
