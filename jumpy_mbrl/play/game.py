"""A game of billiards for a person and an agent: the rules and what there is to see, no window.

Both play `Billiards2D-v0` itself, shot after shot. Time passes by `Game.pass_time` and stands still
while the shot is due. Between two frames balls are shown where the exact physics has them.

Positions and lengths are in table sides. Letters: N balls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.envs.config import Start, TableConfig, Target
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.envs.pixels import Color
from jumpy_mbrl.envs.scene import ARROW_FRAMES, Arrow, Path, Trail, View

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent
    from jumpy_mbrl.agents.planning.trace import PlanTrace

FULL_PULL = 0.4
"""How far to pull for an action of 1."""
SMALLEST_PULL = 0.02
"""Less than this is no shot but a slip."""
SMALLEST_TARGET = 0.05
"""Sides of a drawn target are at least this long."""

TARGETS: tuple[Target, ...] = (
    (0.8, 1.0, 0.0, 0.2),
    (0.8, 1.0, 0.8, 1.0),
    (0.0, 0.2, 0.8, 1.0),
    (0.0, 0.2, 0.0, 0.2),
    (0.4, 0.6, 0.4, 0.6),
)
"""What `next_target` goes through."""

_SUBSTEP = 0.2  # frames between two noted points of a way
_LONGEST_WAIT = 0.25  # seconds that may pass at once
_GUIDE_STEPS = 400
_CUE: Color = (196, 148, 92)
_CUE_TIP: Color = (240, 234, 218)
_WAYS: tuple[Color, ...] = ((244, 214, 168), (150, 192, 255), (206, 210, 214))
_IMAGINED: Color = (255, 255, 255)


class Phase(Enum):
    """What is going on."""

    WATCH = "watch"
    AIM = "your shot"
    THINK = "the agent thinks"
    ROLL = "rolling"
    OVER = "over"


@dataclass(frozen=True)
class Score:
    """How someone has done so far: shots that reached the target, and all shots."""

    won: int = 0
    played: int = 0

    def __str__(self) -> str:
        return f"{self.won} of {self.played}"


class Game:
    """Billiards against an agent.

    `ValueError` for an impossible number of balls, start, target or speed.

    Args:
        load_agent: makes the agent when it is first asked for a shot; None for no agent.
        seed: of the tables.
        num_balls: number of balls N, at least 2.
        start: whether the balls are "moving" at first or at "rest".
        target: for the object ball.
        frames_per_second: how fast time passes.

    Attributes:
        phase: what is going on.
        frame: number of the frame, 0 at the start of a table.
        scores: of "you" and of "agent".
        message: what to tell the player, in a word or two.
        problem: why the agent cannot play, if it cannot.
        success: whether the last shot reached the target; None while it is unknown.
    """

    def __init__(
        self,
        load_agent: Callable[[], Agent] | None = None,
        seed: int | None = None,
        num_balls: int = 2,
        start: Start = "moving",
        target: Target = TARGETS[0],
        frames_per_second: float = 20.0,
    ) -> None:
        if num_balls < 2:
            raise ValueError(f"expected num_balls to be at least 2 for a game, got {num_balls}")
        if not frames_per_second > 0.0:
            raise ValueError(f"expected frames_per_second above 0, got {frames_per_second}")
        self._env: Any = gym.make(BILLIARDS_2D, num_balls=num_balls, start=start)
        self._config = TableConfig(num_balls=num_balls, target=target)
        self._load_agent = load_agent
        self._agent: Agent | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agent")
        self._speed = frames_per_second
        self._grip: tuple[float, float] | None = None  # where the player took the cue
        self._corner: tuple[float, float] | None = None  # where the player began a target
        self._mouse = 0.0, 0.0
        self.scores = {"you": Score(), "agent": Score()}
        self._env.reset(seed=seed)
        self.new_table()

    # -- tables ------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        """The target of this table."""
        return self._config.target

    def new_table(self) -> None:
        """Begins a new table."""
        _, info = self._env.reset()
        self._first = info["positions"], info["velocities"]
        self.again()

    def again(self) -> None:
        """Begins the same table again."""
        positions, velocities = self._first
        options = {"positions": positions, "velocities": velocities, "target": self.target}
        obs, info = self._env.reset(options=options)
        self._frames: list[NDArray[np.float32]] = [obs]
        self._x: list[float] = info["positions"].ravel().tolist()
        self._v: list[float] = info["velocities"].ravel().tolist()
        self.frame = 0
        self._part = 0.0  # of the frame that is going on
        self._trail = Trail()
        self._trail.add(0.0, self._x)
        self._way: list[list[float]] = []  # since the shot
        self._action = np.zeros(2, dtype=np.float32)
        self._shooter = "you"
        self._trace: PlanTrace | None = None
        self._future: Future[PlanTrace] | None = None
        self._agent_is_next = False
        self.cancel()
        self.success: bool | None = None
        self.problem = ""
        self._enter(Phase.WATCH)

    def set_target(self, target: Target) -> None:
        """Changes the target, and begins the same table again; `ValueError` for none."""
        self._config = self._config.replace(target=target)
        self.again()

    def next_target(self) -> None:
        """Changes the target to the next one of `TARGETS`."""
        last = TARGETS.index(self.target) if self.target in TARGETS else -1
        self.set_target(TARGETS[(last + 1) % len(TARGETS)])

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.message = phase.value

    # -- the player --------------------------------------------------------------------------------

    def press(self, x: float, y: float) -> None:
        """The player begins to pull at a table position, or goes on after a shot."""
        if self.phase is Phase.OVER:
            self.new_table()
        elif self.phase is Phase.AIM:
            self._grip = self._mouse = x, y

    def press_target(self, x: float, y: float) -> None:
        """The player begins to draw a target at a table position."""
        self.cancel()
        self._corner = self._mouse = x, y

    def drag(self, x: float, y: float) -> None:
        """The player pulls, or draws a target, to a table position."""
        self._mouse = x, y

    def release(self, x: float, y: float) -> None:
        """The player lets go: the shot, opposite to the pull. A very short pull is none."""
        self.drag(x, y)
        action = self.aim
        if self._grip is not None:
            self.cancel()
        if action is not None:
            self.shoot(np.array(action, dtype=np.float32))

    def release_target(self, x: float, y: float) -> None:
        """The drawn target becomes the target, if it is large enough."""
        self.drag(x, y)
        drawn = self._drawn
        self.cancel()
        if drawn is not None:
            self.set_target(drawn)

    def cancel(self) -> None:
        """The player gives up the pull."""
        self._grip = self._corner = None

    @property
    def aim(self) -> tuple[float, float] | None:
        """The action that letting go now would play, or None."""
        if self._grip is None or math.dist(self._grip, self._mouse) < SMALLEST_PULL:
            return None
        ax, ay = ((a - b) / FULL_PULL for a, b in zip(self._grip, self._mouse, strict=True))
        most = max(abs(ax), abs(ay), 1.0)  # a longer pull is no stronger, and keeps its direction
        return ax / most, ay / most

    @property
    def _drawn(self) -> Target | None:
        """The part on the table of a rectangle that is being drawn, or None if it is too small."""
        if self._corner is None:
            return None
        ends = np.sort([self._corner, self._mouse], axis=0).clip(0.0, 1.0)
        if (ends[1] - ends[0] < SMALLEST_TARGET).any():
            return None
        x_low, x_high, y_low, y_high = ends.T.ravel().tolist()
        return x_low, x_high, y_low, y_high

    def shoot(self, action: NDArray[np.float32]) -> None:
        """Plays a shot (2,), if it is due."""
        if self.phase is not Phase.AIM:
            return
        self._action = action
        self._hit(self._v, *action.tolist())
        self._way = [self._x.copy()]
        self._enter(Phase.ROLL)

    def _hit(self, v: list[float], ax: float, ay: float) -> None:
        shoot(v, ax, ay, self._config.max_impulse, self._config.max_speed)

    # -- the agent ---------------------------------------------------------------------------------

    def ask_agent(self) -> None:
        """Lets the agent shoot: at this table, from its start if its shot has been played."""
        if self._load_agent is None:
            self.problem = "no agent plays here"
            return
        if self.phase in (Phase.ROLL, Phase.OVER):
            self.again()
        self.cancel()
        if self.phase is Phase.WATCH:
            self._agent_is_next = True
        elif self.phase is Phase.AIM:
            self._enter(Phase.THINK)
            now = [np.array(pairs).reshape(-1, 2) for pairs in (self._x, self._v)]
            self._future = self._thread.submit(
                self._think, self._load_agent, np.stack(self._frames), *now, self._config
            )

    def _think(self, load_agent: Callable[[], Agent], *situation: Any) -> PlanTrace:
        from jumpy_mbrl.agents.planning.trace import trace_plan  # Only here: torch is slow to load.

        if self._agent is None:
            self._agent = load_agent()
        return trace_plan(self._agent, *situation)

    def _play_plan(self) -> None:
        """Plays the agent's shot once it has chosen one."""
        if self._future is None or not self._future.done():
            return
        future, self._future = self._future, None
        self._enter(Phase.AIM)
        try:
            trace = future.result()
        except (ValueError, ImportError, OSError, RuntimeError) as error:
            self.problem = str(error).splitlines()[0]
            return
        self._shooter = "agent"
        self._trace = trace
        self.shoot(trace.action)
        if trace.belief is not None:
            self.message = f"the agent is {100 * trace.belief:.0f} % sure"

    # -- time --------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Lets time pass, at most a quarter of a second at once; it stands still for a shot."""
        self._play_plan()
        frames = min(seconds, _LONGEST_WAIT) * self._speed
        while frames > 0.0 and self.phase in (Phase.WATCH, Phase.ROLL):
            part = min(frames, _SUBSTEP, 1.0 - self._part)
            frames -= part
            self._part += part
            advance(self._x, self._v, part * self._config.dt, self._config.radius)
            if self._part > 1.0 - 1e-9:
                self._next_frame()
            self._trail.add(self.frame + self._part, self._x)
            if self._way:
                self._way.append(self._x.copy())

    def _next_frame(self) -> None:
        """The environment plays the frame that has just been shown."""
        obs, _, terminated, truncated, info = self._env.step(self._action)
        self._x = info["positions"].ravel().tolist()
        self._v = info["velocities"].ravel().tolist()
        self._frames.append(obs)
        self.frame += 1
        self._part = 0.0
        if terminated or truncated:
            self._enter(Phase.OVER)
            self.success = bool(info["is_success"])
            self.message = "in!" if self.success else "missed"
            score = self.scores[self._shooter]
            self.scores[self._shooter] = Score(score.won + self.success, score.played + 1)
        elif self.frame == self._config.lead_in:
            self._enter(Phase.AIM)
            if self._agent_is_next:
                self.ask_agent()

    def close(self) -> None:
        """Ends the game; calling it again changes nothing."""
        self._future = None
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._env.close()

    # -- what there is to see ----------------------------------------------------------------------

    def view(self, hint: str | None = None) -> View:
        """Returns what there is to see, with a line of help if there is one."""
        drawn = self._drawn
        return View(
            positions=np.array(self._x).reshape(-1, 2),
            target=drawn or self.target,
            radius=self._config.radius,
            trails=self._trail.lines() if self.phase is not Phase.OVER else (),
            paths=[*self._ways(), *self._aiming()],
            arrow=self._arrow(),
            left=f"you {self.scores['you']}",
            middle=self.message,
            right="" if self._load_agent is None else f"agent {self.scores['agent']}",
            hint=self.problem or hint,
            is_success=bool(self.success) and drawn is None,
        )

    def _arrow(self) -> Arrow | None:
        if self.aim is not None:
            return Arrow((self._x[0], self._x[1]), self.aim)
        age = (self.frame + self._part - self._config.lead_in) / ARROW_FRAMES
        if not self._way or self.phase is Phase.OVER or age >= 1.0:
            return None
        (x, y, *_), (ax, ay) = self._way[0], self._action.tolist()
        return Arrow((x, y), (ax, ay), opacity=1.0 - age)

    def _ways(self) -> list[Path]:
        """The ways of the balls since the shot, and beside them how an agent imagined them."""
        paths: list[Path] = []
        if self._trace is not None or self.phase is Phase.OVER:
            ways = np.array(self._way).reshape(-1, self._config.num_balls, 2)
            for ball, way in enumerate(ways.swapaxes(0, 1)):
                paths.append(Path(way, _WAYS[min(ball, 2)], width=0.009, opacity=0.85))
        if self._trace is not None:
            for way in self._trace.imagined.swapaxes(0, 1):
                paths.append(Path(way, _IMAGINED, width=0.005, dash=0.016))
            for ticks in self._trace.ticks.swapaxes(0, 1):
                paths.append(Path(ticks, _IMAGINED, width=0.0, dots=True, dot_radius=0.0085))
        return paths

    def _aiming(self) -> list[Path]:
        """The cue, and the way of the cue ball to its first contact."""
        if self.aim is None:
            return []
        ball, aim = np.array(self._x[:2]), np.array(self.aim)
        strength = math.hypot(*aim)
        near = self._config.radius + 0.015 + 0.12 * strength
        butt, ferrule, tip = (
            ball - far * aim / strength for far in (near + 0.7, near + 0.025, near)
        )
        guide = self._first_way(*self.aim)
        return [
            Path(guide, _IMAGINED, width=0.004, dash=0.012, opacity=0.6),
            Path(guide[-1:], _IMAGINED, width=0.0, dots=True, dot_radius=0.006),
            Path([butt, ferrule], _CUE, width=0.017),
            Path([ferrule, tip], _CUE_TIP, width=0.017),
        ]

    def _first_way(self, ax: float, ay: float) -> list[list[float]]:
        """Where the cue ball would start, and where it would first meet something."""
        x, v = self._x.copy(), self._v.copy()
        self._hit(v, ax, ay)
        course, before = v[:2], x[:2]
        for _ in range(_GUIDE_STEPS):
            advance(x, v, self._config.dt / 10, self._config.radius)
            if v[:2] != course:
                break
            before = x[:2]
        return [self._x[:2], before]
