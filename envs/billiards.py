"""`Billiards2D-v0`: one shot at the cue ball, and a target for the object ball."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from jumpy_mbrl.envs.config import (
    Start,
    TableConfig,
    Target,
    check_positions,
    check_start,
    check_target,
    check_velocities,
    sample_positions,
    sample_velocities,
    unknown_name,
)
from jumpy_mbrl.envs.physics import advance, shoot

ObsType = Literal["coords", "state"]
Reward = Literal["sparse", "dense"]
Floats = NDArray[np.float32]

OBS_TYPES: tuple[ObsType, ...] = ("coords", "state")
REWARDS: tuple[Reward, ...] = ("sparse", "dense")
RESET_OPTIONS = ("positions", "velocities", "target")


class Billiards2DEnv(gym.Env[Floats, Floats]):
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
    <TimeLimit<OrderEnforcing<PassiveEnvChecker<Billiards2DEnv<Billiards2D-v0>>>>>

    ```

    `gym.make("jumpy_mbrl:Billiards2D-v0")` does the same without the import, and also in processes
    that have not imported `jumpy_mbrl`, such as the workers of a subprocess vector environment.

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
    `max_speed * sqrt(2 * (N + shots))`, 4.4 by default.

    ## Rewards

    `reward="sparse"` (default): 1.0 in the step that reaches the target, else 0.0.

    `reward="dense"`: the same, plus, from the shot on, the distance from the object ball's centre
    to the target before the step minus that distance after it. Over an episode this adds up to the
    whole progress.

    ## Starting State

    Balls at random without overlap. Velocity components are 0.75 * N(0, 1), clipped to +-1.2, for
    `start="moving"` (default), and zero for `start="rest"`. With `random_target=True` the target, a
    rectangle of the configured size, lies anywhere on the table.

    ## Episode End

    The episode **terminates** when the centre of the object ball is inside the target (its border
    included) at a frame after the first shot, that is at frame 4 or later. (With one ball on the
    table, the cue ball is the object ball.) It is **truncated** after 44 steps (45 frames), by the
    registered time limit; pass `max_episode_steps` to `gym.make` for another one, and
    `config={"num_frames": max_episode_steps + 1}` so that "time left" fits it. Calling `step`
    before `reset`, or after termination, raises `gymnasium.error.ResetNeeded`.

    ## Information

    `reset` and `step` return in `info`: `positions` and `velocities`, exact copies of shape (N, 2)
    in float64; `time` since the start, in time units; `is_success`; and `collisions`, the numbers
    of contacts so far, `{"wall": int, "ball": int}`.

    ## Arguments

    | Argument        | Default    | Meaning                                                       |
    |-----------------|------------|---------------------------------------------------------------|
    | `num_balls`     | 2          | number of balls N, at least 1                                 |
    | `obs_type`      | `"coords"` | `"coords"` or `"state"`                                       |
    | `start`         | `"moving"` | `"moving"` or `"rest"`                                        |
    | `max_shots`     | 1          | number of shots, or `None` for one at every frame             |
    | `random_target` | `False`    | whether each episode draws its own target                     |
    | `reward`        | `"sparse"` | `"sparse"` or `"dense"`                                       |
    | `config`        | `None`     | a `TableConfig`, or a dictionary of its fields to change      |
    | `render_mode`   | `None`     | `"rgb_array"` (needs no display) or `"human"`                 |

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

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # an instance attribute in gym.Env
        "render_modes": ["human", "rgb_array"],
        "render_fps": 20,
    }

    def __init__(
        self,
        num_balls: int | None = None,
        obs_type: ObsType = "coords",
        start: Start = "moving",
        max_shots: int | None = 1,
        random_target: bool = False,
        reward: Reward = "sparse",
        config: TableConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.config = _make_config(config, num_balls)
        self.obs_type: ObsType = _check_choice("obs_type", obs_type, OBS_TYPES)
        self.reward: Reward = _check_choice("reward", reward, REWARDS)
        check_start(start)
        self.start: Start = start
        self.max_shots = _check_max_shots(max_shots)
        self.random_target = bool(random_target)
        if render_mode is not None:
            _check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode

        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = self._make_observation_space()

        self.target: Target = self.config.target
        self._object = 2 * min(1, self.config.num_balls - 1)
        self._x: list[float] = []
        self._v: list[float] = []
        self._frame = 0
        self._walls = 0
        self._hits = 0
        self._running = False
        self._window: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Starts an episode: see the class for the start and for `options`.

        Raises:
            ValueError: for an unknown option, or an impossible table or target.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        for name in given:
            if name not in RESET_OPTIONS:
                raise ValueError(unknown_name("reset option", name, RESET_OPTIONS))
        # Positions come last: they may take any number of draws, and a crowded table, which only
        # given positions can fill, must not need them. The rest of a seed stays what it was.
        velocities = sample_velocities(self.config, self.np_random, 1, self.start)[0]
        target = self._draw_target() if self.random_target else self.config.target
        if "velocities" in given:
            velocities = check_velocities(given["velocities"], self.config)
        if "target" in given:
            target = check_target(given["target"])
        if "positions" in given:
            positions = check_positions(given["positions"], self.config)
        else:
            positions = sample_positions(self.config, self.np_random, 1)[0]
        self.target = target
        self._x = positions.ravel().tolist()
        self._v = velocities.ravel().tolist()
        self._frame = 0
        self._walls = 0
        self._hits = 0
        self._running = True
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._info(False)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Plays one frame: see the class for actions, rewards and the end.

        Raises:
            ValueError: unless the action is two finite numbers.
            ResetNeeded: before the first `reset`, or after the episode terminated.
        """
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running, or it terminated")
        ax, ay = _read_action(action)
        config = self.config
        shot = self._frame >= config.lead_in
        before = self._distance() if shot and self.reward == "dense" else 0.0
        if shot and (self.max_shots is None or self._frame < config.lead_in + self.max_shots):
            shoot(self._v, ax, ay, config.max_impulse, config.max_speed)
        walls, hits = advance(self._x, self._v, config.dt, config.radius, config.restitution)
        self._walls += walls
        self._hits += hits
        self._frame += 1
        success = shot and self._on_target()
        reward = 1.0 if success else 0.0
        if shot and self.reward == "dense":
            reward += before - self._distance()
        self._running = not success
        if self.render_mode == "human":
            self.render()
        return self._observe(), reward, success, False, self._info(success)

    def render(self) -> Any:
        """Returns the frame, (512, 512, 3) uint8, or shows it, as `render_mode` says.

        Raises:
            ResetNeeded: before the first `reset`.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; use "
                'gym.make("Billiards2D-v0", render_mode="rgb_array")'
            )
            return None
        if not self._x:
            raise ResetNeeded("call reset() before render(): there is no table to show")
        from jumpy_mbrl.envs import rendering

        positions = np.array(self._x).reshape(-1, 2)
        frame = rendering.draw_table(positions, self.target, radius=self.config.radius)
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = rendering.Window(self.metadata["render_fps"])
        self._window.show(frame)
        return None

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its own window.
        return {**self.__dict__, "_window": None}

    def _make_observation_space(self) -> spaces.Space[Floats]:
        size = 2 * self.config.num_balls
        if self.obs_type == "coords":
            return spaces.Box(0.0, 1.0, (size + 4 * self.random_target,), np.float32)
        shots = self.max_shots or self.config.num_frames - 1 - self.config.lead_in
        fastest = self.config.max_speed * math.sqrt(2.0 * (self.config.num_balls + shots))
        low = np.zeros(2 * size + 6, dtype=np.float32)
        high = np.ones(2 * size + 6, dtype=np.float32)
        low[size : 2 * size] = -1.001 * fastest
        high[size : 2 * size] = 1.001 * fastest
        return spaces.Box(low, high, dtype=np.float32)

    def _draw_target(self) -> Target:
        x_low, x_high, y_low, y_high = self.config.target
        width, height = x_high - x_low, y_high - y_low
        x, y = (self.np_random.random(2) * (1.0 - width, 1.0 - height)).tolist()
        return x, min(x + width, 1.0), y, min(y + height, 1.0)

    def _observe(self) -> Floats:
        if self.obs_type == "coords":
            if self.random_target:
                return np.array([*self._x, *self.target], dtype=np.float32)
            return np.array(self._x, dtype=np.float32)
        played = max(0, self._frame - self.config.lead_in)
        shots = 1.0 if self.max_shots is None else max(0.0, 1.0 - played / self.max_shots)
        time = max(0.0, 1.0 - self._frame / (self.config.num_frames - 1))
        return np.array([*self._x, *self._v, *self.target, shots, time], dtype=np.float32)

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "positions": np.array(self._x).reshape(-1, 2),
            "velocities": np.array(self._v).reshape(-1, 2),
            "time": self._frame * self.config.dt,
            "is_success": success,
            "collisions": {"wall": self._walls, "ball": self._hits},
        }

    def _on_target(self) -> bool:
        x_low, x_high, y_low, y_high = self.target
        x, y = self._x[self._object], self._x[self._object + 1]
        return x_low <= x <= x_high and y_low <= y <= y_high

    def _distance(self) -> float:
        """Distance from the object ball's centre to the target, 0 inside."""
        x_low, x_high, y_low, y_high = self.target
        x, y = self._x[self._object], self._x[self._object + 1]
        return math.hypot(max(x_low - x, 0.0, x - x_high), max(y_low - y, 0.0, y - y_high))


def _read_action(action: Any) -> tuple[float, float]:
    """Returns the two components, clipped to [-1, 1], or refuses the action."""
    try:
        array = np.asarray(action, dtype=np.float64)
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


def _make_config(
    config: TableConfig | Mapping[str, Any] | None, num_balls: int | None
) -> TableConfig:
    if config is None:
        config = {}
    if isinstance(config, Mapping):
        changes = dict(config)
        if num_balls is not None:
            changes["num_balls"] = num_balls
        return TableConfig.from_dict(changes)
    if not isinstance(config, TableConfig):
        raise ValueError(f"expected config to be a TableConfig or a dictionary, got {config!r}")
    return config if num_balls is None else config.replace(num_balls=num_balls)


def _check_choice(what: str, name: Any, known: tuple[Any, ...] | list[Any]) -> Any:
    if name not in known:
        raise ValueError(unknown_name(what, name, known))
    return name


def _check_max_shots(max_shots: int | None) -> int | None:
    if max_shots is None:
        return None
    if isinstance(max_shots, bool) or not isinstance(max_shots, (int, np.integer)) or max_shots < 1:
        raise ValueError(
            f"expected max_shots to be an integer of at least 1, or None for a shot at every "
            f"frame, got {max_shots!r}"
        )
    return int(max_shots)
