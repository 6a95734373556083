"""`Billiards2DShot-v0` and `Billiards1DShot-v0`: one step is one whole shot."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import Env

from jumpy_mbrl.envs.billiards import GymEnv, TableEnv
from jumpy_mbrl.envs.config import Start, TableConfig
from jumpy_mbrl.envs.pixels import PixelConfig
from jumpy_mbrl.envs.table import Moment
from jumpy_mbrl.envs.task import (
    Floats,
    Observation,
    ObsType,
    Reward,
    Success,
    Task,
    line_task,
    plane_task,
)


class ShotEnv(TableEnv):
    """What the environments of whole shots have in common; the arguments are as in `TableEnv`, and
    `render_mode` may be "rgb_array_list"."""

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # an instance attribute in gym.Env
        **TableEnv.metadata,
        "render_modes": [*TableEnv.metadata["render_modes"], "rgb_array_list"],
    }

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        super().__init__(task, render_mode)
        self._pictures: list[Any] = []
        self.observation_space = task.observation_space(task.config.lead_in + 1)
        self._recent: deque[Moment] = deque(maxlen=task.config.lead_in + 1)

    @property
    def steps_to_win(self) -> int:
        return 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode and plays its lead-in: see the class for the start and for `options`.

        Raises:
            ValueError: for an unknown option, or an impossible table or target.
        """
        Env.reset(self, seed=seed)
        self._start(options)
        self._recent.clear()
        self._pictures.clear()
        self._watch()
        for _ in range(self.config.lead_in):
            self._play(0.0, 0.0)
            self._watch()
        return self._observe(), self._table.info(False, self.config.lead_in)

    def step(self, action: Floats) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Plays the shot and all that follows: see the class for actions, rewards and the end.

        Raises:
            ValueError: unless the action is two finite numbers.
            ResetNeeded: before the first `reset`, or after the shot.
        """
        ax, ay = self._check_step(action)
        self._running = False
        total, over, success = 0.0, False, False
        while not over and self._table.frame < self.task.last_frame:
            reward, success, over = self._play(ax, ay)
            total += reward
            self._watch()
        played = self._table.frame - self.config.lead_in
        return self._observe(), total, True, False, self._table.info(success, played)

    def render(self) -> Any:
        """Returns a picture or shows it, as in `TableEnv`, or in mode "rgb_array_list" returns the
        pictures of all frames since the last call, or since `reset`.

        Raises:
            ResetNeeded: before the first `reset`.
        """
        if self.render_mode != "rgb_array_list" or not self._recent:
            return super().render()
        pictures, self._pictures = self._pictures, []
        return pictures

    def _watch(self) -> None:
        self._recent.append(self._table.moment())
        if self.render_mode == "human":
            self.render()
        elif self.render_mode == "rgb_array_list":
            self._pictures.append(super().render())

    def _observe(self) -> Observation:
        return self.task.stack([self._table.observe(moment) for moment in self._recent])


class Billiards2DShotEnv(ShotEnv, GymEnv):
    """
    ## Description

    `Billiards2D-v0` as a single decision: you are shown the four lead-in frames at once, choose the
    shot, and one `step` plays it to its end. See there for the table, the task and the physics.
    `gym.make_vec` and `jumpy_mbrl.adapters.sb3.make_vec_env` make many tables in one.

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

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the shot, as in `Billiards2D-v0`.

    | Num | Action                              | Min | Max | Unit                          |
    |-----|-------------------------------------|-----|-----|-------------------------------|
    | 0   | change of the cue ball's x velocity | -1  | 1   | 1.2 table sides per time unit |
    | 1   | change of the cue ball's y velocity | -1  | 1   | 1.2 table sides per time unit |

    ## Observation Space

    The observations of `Billiards2D-v0` at the `lead_in + 1` frames from the start to the shot, in
    one: after the step, at the last `lead_in + 1` frames that were played.

    | `obs_type`           | Space                            | Frames                          |
    |----------------------|----------------------------------|---------------------------------|
    | `"coords"` (default) | `Box(0, 1, (16,), float32)`      | one after the other             |
    | `"state"`            | `Box(..., (56,), float32)`       | one after the other             |
    | `"pixels"`           | `Box(0, 255, (64, 64, 12), uint8)` | channel after channel         |
    | `"dict"`             | `Dict` of `"coords"`, `"pixels"` | as above                        |

    (With two balls; `obs.reshape(4, -1)` gives the frames back.)

    ## Rewards

    The sum of the rewards of `Billiards2D-v0`: 1.0 if the shot wins, else 0.0, and with
    `reward="dense"` the progress towards the target too.

    ## Starting State

    That of `Billiards2D-v0` with the same seed, three frames later.

    ## Episode End

    Every step **terminates** the episode: when the object ball is first seen inside the target, or
    at the last frame (44), which alone counts with `success="last"`. The registered time limit of
    one step truncates nothing. Calling `step` again, or before `reset`, raises
    `gymnasium.error.ResetNeeded`.

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
    >>> len(env.render())  # four frames of the lead-in, and those of the shot
    45

    ```

    ## Arguments

    | Argument        | Default    | Meaning                                                       |
    |-----------------|------------|---------------------------------------------------------------|
    | `num_balls`     | 2          | number of balls N, at least 1: up to 8 have ample room        |
    | `obs_type`      | `"coords"` | `"coords"`, `"state"`, `"pixels"` or `"dict"`                 |
    | `start`         | `"moving"` | `"moving"` or `"rest"`                                        |
    | `random_target` | `False`    | whether each episode draws its own target                     |
    | `reward`        | `"sparse"` | `"sparse"` or `"dense"`                                       |
    | `success`       | `"any"`    | `"any"` or `"last"`: at which frames the target counts        |
    | `config`        | `None`     | a `TableConfig`, or a dictionary of its fields to change      |
    | `pixels`        | `None`     | format of pictures: `"default"`, `"paper"`, a `PixelConfig`,  |
    |                 |            | or a dictionary of its fields                                 |
    | `size`          | `None`     | height and width of pictures, instead of those of `pixels`    |
    | `channels`      | `None`     | 3 (colour) or 1 (grey), instead of those of `pixels`          |
    | `render_mode`   | `None`     | `"rgb_array"`, `"rgb_array_list"` (need no display) or        |
    |                 |            | `"human"`                                                     |
    | `legacy_info`   | `False`    | whether `info` holds the keys of earlier versions too         |

    `reset(options=...)` takes what that of `Billiards2D-v0` takes.

    ## Version History

    * v0: Initial version.
    """

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
    ) -> None:
        task = plane_task(
            num_balls=num_balls,
            obs_type=obs_type,
            start=start,
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


class Billiards1DShotEnv(ShotEnv, GymEnv):
    """
    ## Description

    `Billiards1D-v0` as a single decision: you are shown the four lead-in frames at once, choose
    where ball A goes on from, and one `step` plays on to frame 20. See there for the task.
    `gym.make_vec` and `jumpy_mbrl.adapters.sb3.make_vec_env` make many lines in one.

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

    ## Action Space

    `Box(-1, 1, (2,), float32)`: position and direction of ball A, as in `Billiards1D-v0`.

    | Num | Action                                                      | Min | Max |
    |-----|-------------------------------------------------------------|-----|-----|
    | 0   | its position, -1 at the lower end and 1 at the upper end    | -1  | 1   |
    | 1   | its direction: upwards if 0 or more, downwards if less      | -1  | 1   |

    ## Observation Space

    The observations of `Billiards1D-v0` at the `lead_in + 1` frames from the start to the shot, in
    one: after the step, at the last `lead_in + 1` frames that were played.

    | `obs_type`           | Space                            | Frames                          |
    |----------------------|----------------------------------|---------------------------------|
    | `"coords"` (default) | `Box(0, 1, (8,), float32)`       | one after the other             |
    | `"state"`            | `Box(..., (32,), float32)`       | one after the other             |
    | `"pixels"`           | `Box(0, 255, (64, 64, 12), uint8)` | channel after channel         |
    | `"dict"`             | `Dict` of `"coords"`, `"pixels"` | as above                        |

    ## Rewards

    The sum of the rewards of `Billiards1D-v0`: 1.0 if ball B is inside the target at frame 20, else
    0.0, and with `reward="dense"` the progress towards the target too.

    ## Starting State

    That of `Billiards1D-v0` with the same seed, three frames later.

    ## Episode End

    Every step **terminates** the episode, at frame 20. The registered time limit of one step
    truncates nothing. Calling `step` again, or before `reset`, raises
    `gymnasium.error.ResetNeeded`.

    ## Information

    As in `Billiards1D-v0`, and `frames_played` and `duration` as in `Billiards2DShot-v0`. Rendering
    is as there.

    ## Arguments

    | Argument        | Default    | Meaning                                                       |
    |-----------------|------------|---------------------------------------------------------------|
    | `obs_type`      | `"coords"` | `"coords"`, `"state"`, `"pixels"` or `"dict"`                 |
    | `random_target` | `False`    | whether each episode draws its own target                     |
    | `reward`        | `"sparse"` | `"sparse"` or `"dense"`                                       |
    | `config`        | `None`     | as in `Billiards1D-v0`                                        |
    | `pixels`        | `None`     | format of pictures: `"default"`, `"paper"`, a `PixelConfig`,  |
    |                 |            | or a dictionary of its fields                                 |
    | `size`          | `None`     | height and width of pictures, instead of those of `pixels`    |
    | `channels`      | `None`     | 3 (colour) or 1 (grey), instead of those of `pixels`          |
    | `render_mode`   | `None`     | `"rgb_array"`, `"rgb_array_list"` (need no display) or        |
    |                 |            | `"human"`                                                     |
    | `legacy_info`   | `False`    | whether `info` holds the keys of earlier versions too         |

    `reset(options=...)` takes what that of `Billiards1D-v0` takes.

    ## Version History

    * v0: Initial version.
    """

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
    ) -> None:
        task = line_task(
            obs_type=obs_type,
            random_target=random_target,
            reward=reward,
            config=config,
            pixels=pixels,
            size=size,
            channels=channels,
            legacy_info=legacy_info,
        )
        super().__init__(task, render_mode)
