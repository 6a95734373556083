"""A game of billiards for a person and an agent: the rules and what there is to see, no window.

Both play `Billiards2D-v0` itself, shot after shot. Time passes by `Game.pass_time` and stands still
while the shot is due. Between two frames balls are shown where the exact physics has them.

Letters: N balls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.envs.config import Start, TableConfig, Target, check_target
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.envs.pixels import Color
from jumpy_mbrl.envs.scene import ARROW_FRAMES, Arrow, Path, Trail, View

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent
    from jumpy_mbrl.agents.planning.trace import PlanTrace

Floats = NDArray[np.float32]

FULL_PULL = 0.4
"""How far to pull for an action of 1, in table sides."""
SMALLEST_PULL = 0.02
"""Less than this, in table sides, is no shot but a slip."""
SMALLEST_TARGET = 0.05
"""Sides of a drawn target are at least this long, in table sides."""

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

    Raises:
        ValueError: for an impossible number of balls, start, target or speed.
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
        self._frames: list[Floats] = [obs]
        self._x: list[float] = info["positions"].ravel().tolist()
        self._v: list[float] = info["velocities"].ravel().tolist()
        self.frame = 0
        self._part = 0.0  # of the frame that is going on
        self._trail = Trail()
        self._trail.add(0.0, self._x)
        self._way: list[list[float]] = []
        self._action = np.zeros(2, dtype=np.float32)
        self._shooter = "you"
        self._arrow: Arrow | None = None
        self._idea: PlanTrace | None = None
        self._future: Future[PlanTrace] | None = None
        self._agent_is_next = False
        self._press: tuple[float, float] | None = None
        self._pull = (0.0, 0.0)
        self._corner: tuple[float, float] | None = None
        self._drawn: Target | None = None
        self.success: bool | None = None
        self.problem = ""
        self.message = Phase.WATCH.value
        self.phase = Phase.WATCH

    def set_target(self, target: Target) -> None:
        """Changes the target, and begins the same table again.

        Raises:
            ValueError: for an impossible target.
        """
        self._config = self._config.replace(target=check_target(target))
        self.again()

    def next_target(self) -> None:
        """Changes the target to the next one of `TARGETS`."""
        last = TARGETS.index(self.target) if self.target in TARGETS else -1
        self.set_target(TARGETS[(last + 1) % len(TARGETS)])

    # -- the player --------------------------------------------------------------------------------

    def press(self, x: float, y: float) -> None:
        """The player begins to pull at a table position, or goes on after a shot."""
        if self.phase is Phase.OVER:
            self.new_table()
        elif self.phase is Phase.AIM:
            self._press = x, y
            self._pull = 0.0, 0.0

    def drag(self, x: float, y: float) -> None:
        """The player pulls, or draws a target, to a table position."""
        if self._press is not None:
            self._pull = x - self._press[0], y - self._press[1]
        if self._corner is not None:
            self._drawn = _rectangle(self._corner, (x, y))

    def release(self, x: float, y: float) -> None:
        """The player lets go: the shot, opposite to the pull. A very short pull is none."""
        self.drag(x, y)
        if self._press is None:
            return
        action = self.aim
        self.cancel()
        if action is not None:
            self.shoot(np.array(action, dtype=np.float32))

    def cancel(self) -> None:
        """The player thinks better of it."""
        self._press = self._corner = self._drawn = None
        self._pull = 0.0, 0.0

    def press_target(self, x: float, y: float) -> None:
        """The player begins to draw a target at a table position."""
        self.cancel()
        self._corner = x, y

    def release_target(self, x: float, y: float) -> None:
        """The drawn target becomes the target, if it is large enough."""
        self.drag(x, y)
        drawn = self._drawn
        self.cancel()
        if drawn is not None:
            self.set_target(drawn)

    @property
    def aim(self) -> tuple[float, float] | None:
        """The action that letting go now would play, or None."""
        if self._press is None or math.hypot(*self._pull) < SMALLEST_PULL:
            return None
        ax, ay = -self._pull[0] / FULL_PULL, -self._pull[1] / FULL_PULL
        most = max(abs(ax), abs(ay), 1.0)  # a longer pull is no stronger, and keeps its direction
        return ax / most, ay / most

    def shoot(self, action: Floats) -> None:
        """Plays a shot (2,), if it is due."""
        if self.phase is not Phase.AIM:
            return
        self._action = action
        ax, ay = float(action[0]), float(action[1])
        self._arrow = Arrow((self._x[0], self._x[1]), (ax, ay))
        shoot(self._v, ax, ay, self._config.max_impulse, self._config.max_speed)
        self._way = [self._x.copy()]
        self.phase = Phase.ROLL
        self.message = Phase.ROLL.value

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
            self.phase = Phase.THINK
            self.message = Phase.THINK.value
            now = [np.array(pairs).reshape(-1, 2) for pairs in (self._x, self._v)]
            self._future = self._thread.submit(
                self._think, self._load_agent, np.stack(self._frames), *now, self._config
            )

    def _think(self, load_agent: Callable[[], Agent], *situation: Any) -> PlanTrace:
        from jumpy_mbrl.agents.planning.trace import trace_plan

        if self._agent is None:
            self._agent = load_agent()
        return trace_plan(self._agent, *situation)

    def _collect_idea(self) -> None:
        """Plays the agent's shot once it has chosen one."""
        if self._future is None or not self._future.done():
            return
        future, self._future = self._future, None
        self.phase = Phase.AIM
        try:
            idea = future.result()
        except (ValueError, ImportError, OSError, RuntimeError) as error:
            self.message = Phase.AIM.value
            self.problem = str(error).splitlines()[0]
            return
        self._shooter = "agent"
        self._idea = idea
        self.shoot(idea.action)
        if idea.belief is not None:
            self.message = f"the agent is {100 * idea.belief:.0f} % sure"

    # -- time --------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Lets time pass, at most a quarter of a second at once; it stands still for a shot."""
        self._collect_idea()
        frames = min(seconds, _LONGEST_WAIT) * self._speed
        while frames > 0.0 and self.phase in (Phase.WATCH, Phase.ROLL):
            part = min(frames, _SUBSTEP, 1.0 - self._part)
            frames -= part
            self._part += part
            advance(self._x, self._v, part * self._config.dt, self._config.radius)
            if self._part > 1.0 - 1e-9:
                self._next_frame()
            self._trail.add(self.frame + self._part, self._x)
            if self.phase is not Phase.WATCH and self._way:
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
            self._finish(bool(info["is_success"]))
        elif self.frame == self._config.lead_in:
            self.phase = Phase.AIM
            self.message = Phase.AIM.value
            if self._agent_is_next:
                self.ask_agent()

    def _finish(self, success: bool) -> None:
        score = self.scores[self._shooter]
        self.scores[self._shooter] = Score(score.won + success, score.played + 1)
        self.success = success
        self.message = "in!" if success else "missed"
        self.phase = Phase.OVER

    def close(self) -> None:
        """Ends the game; calling it again changes nothing."""
        self._future = None
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._env.close()

    # -- what there is to see ----------------------------------------------------------------------

    def view(self, hint: str | None = None) -> View:
        """Returns what there is to see, with a line of help if there is one."""
        scores = self.scores
        return View(
            positions=np.array(self._x).reshape(-1, 2),
            target=self._drawn or self.target,
            radius=self._config.radius,
            trails=self._trail.lines() if self.phase is not Phase.OVER else (),
            paths=[*self._real_ways(), *self._imagined_ways(), *self._aiming()],
            arrow=self._shown_arrow(),
            left=f"you {scores['you']}",
            middle=self.message,
            right="" if self._load_agent is None else f"agent {scores['agent']}",
            hint=self.problem or hint,
            is_success=bool(self.success) and self._drawn is None,
        )

    def _shown_arrow(self) -> Arrow | None:
        if self.aim is not None:
            return Arrow((self._x[0], self._x[1]), self.aim)
        if self._arrow is None or self.phase is Phase.OVER:
            return None
        age = (self.frame + self._part - self._config.lead_in) / ARROW_FRAMES
        return replace(self._arrow, opacity=1.0 - age) if age < 1.0 else None

    def _real_ways(self) -> list[Path]:
        """The ways of the balls since the shot, beside which an agent imagined its own."""
        if self._idea is None and self.phase is not Phase.OVER:
            return []
        ways = np.array(self._way).reshape(-1, self._config.num_balls, 2)
        return [
            Path(ways[:, ball], _WAYS[min(ball, 2)], width=0.009, opacity=0.85)
            for ball in range(self._config.num_balls)
        ]

    def _imagined_ways(self) -> list[Path]:
        if self._idea is None:
            return []
        way, ticks = self._idea.imagined, self._idea.ticks
        balls = range(way.shape[1])
        lines = [Path(way[:, ball], _IMAGINED, width=0.005, dash=0.016) for ball in balls]
        return lines + [
            Path(ticks[:, ball], _IMAGINED, width=0.0, dots=True, dot_radius=0.0085)
            for ball in balls
        ]

    def _aiming(self) -> list[Path]:
        """The cue, and the way of the cue ball to its first contact."""
        if self.aim is None:
            return []
        x, y = self._x[:2]
        ax, ay = self.aim
        strength = math.hypot(ax, ay)
        back = -ax / strength, -ay / strength
        near = self._config.radius + 0.015 + 0.12 * strength
        butt, ferrule, tip = (
            (x + far * back[0], y + far * back[1]) for far in (near + 0.7, near + 0.025, near)
        )
        guide = self._first_way((ax, ay))
        return [
            Path(guide, _IMAGINED, width=0.004, dash=0.012, opacity=0.6),
            Path([guide[-1]], _IMAGINED, width=0.0, dots=True, dot_radius=0.006),
            Path([butt, ferrule], _CUE, width=0.017),
            Path([ferrule, tip], _CUE_TIP, width=0.017),
        ]

    def _first_way(self, action: tuple[float, float]) -> list[tuple[float, float]]:
        """Where the cue ball would go until it first meets something."""
        config = self._config
        x, v = self._x.copy(), self._v.copy()
        shoot(v, *action, config.max_impulse, config.max_speed)
        course = v[:2]
        way = [(x[0], x[1])]
        for _ in range(_GUIDE_STEPS):
            before = x[0], x[1]
            advance(x, v, config.dt / 10, config.radius)
            if v[:2] != course:
                way.append(before)
                break
        else:
            way.append((x[0], x[1]))
        return way


def _rectangle(a: Sequence[float], b: Sequence[float]) -> Target | None:
    """The part of a rectangle that lies on the table, or None if it is too small."""
    bounds = []
    for first, second in zip(a, b, strict=True):
        low, high = (min(max(value, 0.0), 1.0) for value in sorted((first, second)))
        if high - low < SMALLEST_TARGET:
            return None
        bounds += [low, high]
    return bounds[0], bounds[1], bounds[2], bounds[3]
