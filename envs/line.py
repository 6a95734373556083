"""`Billiards1D-v0`: two balls on a line, and the choice of where the one begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jumpy_mbrl.envs.billiards import GymEnv, TableEnv
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.pixels import PixelConfig
from jumpy_mbrl.envs.task import ObsType, Reward, line_task


class Billiards1DEnv(TableEnv, GymEnv):
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
    `gym.make_vec` and `jumpy_mbrl.adapters.sb3.make_vec_env` make many lines in one.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: where ball A goes on from.

    | Num | Action                                                      | Min | Max |
    |-----|-------------------------------------------------------------|-----|-----|
    | 0   | its position, -1 at the lower end and 1 at the upper end    | -1  | 1   |
    | 1   | its direction: upwards if 0 or more, downwards if less      | -1  | 1   |

    The position is `radius + (action + 1) / 2 * (1 - 2 * radius)`; where ball B is in the way, it
    is the nearest free place. The speed is always 1. The first three steps (`lead_in`) ignore the
    action; the action passed to the fourth step, at frame 3, is the shot, and the later ones are
    ignored. With `config={"lead_in": 0}` the shot sets the initial conditions, literally as in the
    paper; then one frame is all there is to see, and only `obs_type="state"` shows the way ball B
    goes. Actions outside the box are clipped to it; an action that is not two finite numbers is
    refused with a `ValueError`.

    ## Observation Space

    Positions are in lengths of the line; ball A comes first.

    `obs_type="coords"` (default): `Box(0, 1, (2,), float32)`. Directions have to be inferred.

    | Num  | Observation                                                        | Min | Max |
    |------|--------------------------------------------------------------------|-----|-----|
    | 0    | y of ball A                                                        | 0   | 1   |
    | 1    | y of ball B                                                        | 0   | 1   |
    | 2, 3 | y_low, y_high of the target, but only with `random_target=True`    | 0   | 1   |

    `obs_type="state"`: `Box(..., (8,), float32)`, all there is to know (Markov).

    | Num  | Observation                                                        | Min | Max |
    |------|--------------------------------------------------------------------|-----|-----|
    | 0, 1 | positions, as above                                                | 0   | 1   |
    | 2, 3 | velocities, in lengths of the line per time unit                   | -V  | V   |
    | 4, 5 | y_low, y_high of the target                                        | 0   | 1   |
    | 6    | whether the shot is still to come, 1 or 0                          | 0   | 1   |
    | 7    | time left, as a fraction of the episode                            | 0   | 1   |

    V is `max_speed * sqrt(6)`, 4.4 by default, as in `Billiards2D-v0`; without given velocities all
    are 1 or -1.

    `obs_type="pixels"`: `Box(0, 255, (size, size, channels), uint8)`, 64 x 64 x 3 by default, seen
    from above: the balls move up and down in the middle, and the target is a black band across the
    whole picture. `pixels="paper"` is the papers' format, 28 x 28 x 1.

    `obs_type="dict"`: `Dict` of `"coords"` and `"pixels"`, both as above.

    ## Rewards

    `reward="sparse"` (default): 1.0 in the last step if ball B is inside the target then, else 0.0.

    `reward="dense"`: the same, plus, from the shot on, the distance from ball B's centre to the
    target before the step minus that distance after it. Over an episode this adds up to the whole
    progress.

    ## Starting State

    Ball A lies anywhere on the line, and ball B anywhere it has room, uniformly; each moves up or
    down at unit speed, with equal chances. With `random_target=True` the target, an interval of the
    configured length, lies anywhere on the line, uniformly.

    ## Episode End

    The episode **terminates** at frame 20, after 20 steps, won or lost. The game is won if the
    centre of ball B is inside the target then, its ends included. The registered time limit of 20
    steps truncates nothing; with another `num_frames` pass
    `gym.make(..., max_episode_steps=num_frames - 1)`: a limit before the last frame is refused by
    `reset` with a `ValueError`. Calling `step` before `reset`, or after termination, raises
    `gymnasium.error.ResetNeeded`.

    ## Information

    As in `Billiards2D-v0`, with `positions` and `velocities` of shape (2,). Rendering is as there.

    ## Arguments

    | Argument        | Default    | Meaning                                                       |
    |-----------------|------------|---------------------------------------------------------------|
    | `obs_type`      | `"coords"` | `"coords"`, `"state"`, `"pixels"` or `"dict"`                 |
    | `random_target` | `False`    | whether each episode draws its own target                     |
    | `reward`        | `"sparse"` | `"sparse"` or `"dense"`                                       |
    | `config`        | `None`     | a dictionary of fields of `TableConfig` to change, or a whole |
    |                 |            | `TableConfig`; the defaults here are `num_frames` 21 and      |
    |                 |            | `target` (0, 1, 0.23, 0.43), whose x must stay as they are    |
    | `pixels`        | `None`     | format of pictures: `"default"`, `"paper"`, a `PixelConfig`,  |
    |                 |            | or a dictionary of its fields                                 |
    | `size`          | `None`     | height and width of pictures, instead of those of `pixels`    |
    | `channels`      | `None`     | 3 (colour) or 1 (grey), instead of those of `pixels`          |
    | `render_mode`   | `None`     | `"rgb_array"` (needs no display) or `"human"`                 |
    | `legacy_info`   | `False`    | whether `info` holds the keys of earlier versions too         |

    `reset(options=...)` takes `positions` (2,), `velocities` (2,) and `target` (y_low, y_high), any
    of them, and uses them exactly. What is impossible is refused with a `ValueError`.

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
