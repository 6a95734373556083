"""Plays agents' shots on held-out tables in the real environment, and counts.

An agent sees the four lead-in observations of a table and nothing else; only an agent marked
``oracle`` is also given the true state. Timed is the agent's choice alone.

Letters: B tables, T frames, N balls, D = 2N. Positions in table sides, velocities in sides per time
unit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.envs import BILLIARDS_2D, register_envs
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, shoot
from jumpy_mbrl.models.pretrained import pretrained_info

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent, GradientPlanner, Plan

BATCH_SIZE = 125
"""Tables that an agent chooses for at once, unless told otherwise."""

_WARM_UP = 8
_Z95 = 1.959963984540054
_BELIEF_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PER_FRAME = 8
"""Points a frame of the ways in a ``ShotRecord``."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Held-out tables, watched up to the frame of the shot.

    Attributes:
        seed: of the evaluation.
        reset_seeds: the environment's reset seed of each table, B of them.
        observations: the lead-in frames, (B, 4, D) float32. All that an agent is shown.
        positions: true positions at the frame of the shot, (B, D) float64.
        velocities: true velocities then, (B, D) float64.
        config: the table.
    """

    seed: int
    reset_seeds: range
    observations: NDArray[np.float32]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    config: TableConfig

    def __len__(self) -> int:
        return len(self.reset_seeds)

    def __getitem__(self, rows: slice) -> Tables:
        """Some of the tables."""
        return Tables(
            self.seed,
            self.reset_seeds[rows],
            self.observations[rows],
            self.positions[rows],
            self.velocities[rows],
            self.config,
        )


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of B shots in the real environment.

    Attributes:
        is_success: (B,) bool.
        wall_hits: contacts with walls from the shot to the end of the episode, (B,) int64.
        ball_hits: contacts of balls, likewise.
        paths: observations from the frame of the shot on, (B, T - lead_in, D) float32; NaN after
            the end of the episode.
    """

    is_success: NDArray[np.bool_]
    wall_hits: NDArray[np.int64]
    ball_hits: NDArray[np.int64]
    paths: NDArray[np.float32]


@dataclass(frozen=True)
class CalibrationBin:
    """How often shots succeeded that were believed to succeed about as often.

    Attributes:
        low: least belief of the bin.
        high: its upper end, which belongs to the next bin (but 1 to the last).
        n: number of shots.
        belief: their mean belief.
        success: the fraction that succeeded.
    """

    low: float
    high: float
    n: int
    belief: float
    success: float


@dataclass(frozen=True, eq=False)
class AgentResult:
    """The figures of one agent.

    Attributes:
        n: episodes.
        successes: how many the environment called a success.
        success: the fraction.
        ci95: its 95 % Wilson interval.
        ms_per_shot: median over batches of the time to choose, in milliseconds per table.
        ticks: mean world-model ticks of the chosen shots' rollouts; None without a model.
        belief: mean belief in the chosen shots; None without a model.
        calibration: belief against reality, bins that are not empty; None without a model.
        wall_hits: mean contacts with walls after the shot, in reality.
        ball_hits: mean contacts of balls after the shot, in reality.
        training_frames: frames of experience the model learned from; None if nothing was learned.
        checkpoint: name or folder of the model; None if there is none.
        seed: of the evaluation's tables.
        actions: the shots, (B, 2) float32.
        is_success: what became of them, (B,) bool.
        beliefs: belief in each, (B,), or None.
    """

    n: int
    successes: int
    success: float
    ci95: tuple[float, float]
    ms_per_shot: float
    ticks: float | None
    belief: float | None
    calibration: tuple[CalibrationBin, ...] | None
    wall_hits: float
    ball_hits: float
    training_frames: int | None
    checkpoint: str | None
    seed: int
    actions: NDArray[np.float32] = field(repr=False)
    is_success: NDArray[np.bool_] = field(repr=False)
    beliefs: NDArray[np.float64] | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the arrays, as a dictionary that JSON can hold."""
        arrays = ("actions", "is_success", "beliefs")
        values = {name: value for name, value in vars(self).items() if name not in arrays}
        values["ci95"] = list(self.ci95)
        if self.calibration is not None:
            values["calibration"] = [dict(vars(entry)) for entry in self.calibration]
        return values


@dataclass(frozen=True, eq=False)
class ShotRecord:
    """One planned shot: what the model imagined, and what really happened.

    Attributes:
        start: positions at the frame of the shot, (N, 2).
        real: the true way of the balls, (R, N, 2).
        imagined: the imagined way over the same time, (R, N, 2).
        ticks: imagined positions at the model's ticks, (M, N, 2).
        belief: in the shot, or None.
        is_success: whether the environment called it a success.
    """

    start: NDArray[np.float64]
    real: NDArray[np.float64]
    imagined: NDArray[np.float64]
    ticks: NDArray[np.float64]
    belief: float | None
    is_success: bool


@runtime_checkable
class PlanningAgent(Protocol):
    """An agent that tells more than its action: beliefs and ticks."""

    def plan(self, frames: Any, state: Any = None) -> Plan: ...


def wilson_interval(successes: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a success probability (Wilson 1927), 95 % by default.

    Raises:
        ValueError: unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    rate = successes / n
    scale = 1.0 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1.0 - rate) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def make_tables(episodes: int, seed: int = 0, config: TableConfig | None = None) -> Tables:
    """Resets the real environment to held-out tables and watches their lead-in.

    Args:
        episodes: number of tables B; fewer give the first ones.
        seed: of the evaluation. Different seeds have no table in common.
        config: the table; the default one if None.

    Raises:
        ValueError: for a number of episodes or a seed out of range.
    """
    config = config or TableConfig()
    reset_seeds = evaluation_table_seeds(seed, episodes)
    env = _make_env(config)
    watched = [_watch(env, reset_seed, config.lead_in) for reset_seed in reset_seeds]
    return Tables(
        seed=seed,
        reset_seeds=reset_seeds,
        observations=np.stack([frames for frames, _ in watched]),
        positions=np.stack([info["positions"].ravel() for _, info in watched]),
        velocities=np.stack([info["velocities"].ravel() for _, info in watched]),
        config=config,
    )


def play(tables: Tables, actions: NDArray[np.floating[Any]]) -> Outcomes:
    """Plays one shot on each table in the real environment, to the end of the episode.

    Args:
        tables: B of them.
        actions: (B, 2) in [-1, 1].

    Raises:
        ValueError: for actions of another shape, or not finite.
    """
    if actions.shape != (len(tables), 2):
        raise ValueError(f"expected actions of shape ({len(tables)}, 2), got {actions.shape}")
    env = _make_env(tables.config)
    played = [
        _play_one(env, reset_seed, action, tables.config)
        for reset_seed, action in zip(tables.reset_seeds, actions, strict=True)
    ]
    is_success, wall_hits, ball_hits, paths = zip(*played, strict=True)
    return Outcomes(
        is_success=np.array(is_success, dtype=np.bool_),
        wall_hits=np.array(wall_hits, dtype=np.int64),
        ball_hits=np.array(ball_hits, dtype=np.int64),
        paths=np.stack(paths),
    )


def evaluate_agent(
    agent: Agent,
    tables: Tables,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], object] | None = None,
) -> AgentResult:
    """Lets an agent shoot on every table, and counts.

    Args:
        agent: anything with ``predict``, which is asked for actions (B, 2) given the lead-in frames
            (B, 4, D). If it has ``plan`` (see ``GradientPlanner``), that is asked instead, for its
            beliefs and ticks, and timed after a call on a few tables to warm up. An agent whose
            ``oracle`` is true is given the true state too.
        tables: where to play.
        batch_size: tables that the agent chooses for at once.
        progress: called with the number of tables done since its last call.

    Raises:
        ValueError: for a batch size below 1, or an agent that returns no (B, 2) finite actions.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size to be at least 1, got {batch_size}")
    if isinstance(agent, PlanningAgent):
        _choose(agent, tables[:_WARM_UP])
    choices, outcomes, seconds = [], [], []
    for first in range(0, len(tables), batch_size):
        batch = tables[first : first + batch_size]
        started = time.perf_counter()
        choice = _choose(agent, batch)
        seconds.append((time.perf_counter() - started) / len(batch))
        choices.append(choice)
        outcomes.append(play(batch, choice.actions))
        if progress is not None:
            progress(len(batch))
    return _summary(agent, tables, choices, outcomes, float(np.median(seconds)))


def calibration(
    beliefs: NDArray[np.float64], is_success: NDArray[np.bool_]
) -> tuple[CalibrationBin, ...]:
    """Belief (B,) against reality (B,), in four bins of equal width; empty ones are left out."""
    number = np.digitize(beliefs, _BELIEF_EDGES[1:-1])
    bins = []
    for index in np.unique(number).tolist():
        rows = number == index
        bins.append(
            CalibrationBin(
                low=_BELIEF_EDGES[index],
                high=_BELIEF_EDGES[index + 1],
                n=int(rows.sum()),
                belief=float(beliefs[rows].mean()),
                success=float(is_success[rows].mean()),
            )
        )
    return tuple(bins)


def record_shot(
    agent: GradientPlanner, table: Tables, action: NDArray[np.float32], belief: float | None = None
) -> ShotRecord:
    """Imagines one shot and really plays it, finely enough to draw.

    Both ways end when the model believes the ball to arrive, or when it really does, if later.

    Args:
        agent: the planner that chose the shot.
        table: a single table.
        action: the shot, (2,).
        belief: in it, for the record.

    Raises:
        ValueError: for more or fewer tables than one.
    """
    if len(table) != 1:
        raise ValueError(f"expected a single table, got {len(table)}")
    outcome = play(table, action[None])
    arrival = int(np.isfinite(outcome.paths[0, :, 0]).sum()) - 1 if outcome.is_success[0] else 0
    imagined, ticks, end = _imagine_way(agent, table, action, arrival)
    shape = (-1, table.config.num_balls, 2)
    return ShotRecord(
        start=table.positions[0].reshape(-1, 2),
        real=_real_way(table, action, end).reshape(shape),
        imagined=imagined.reshape(shape),
        ticks=ticks.reshape(shape),
        belief=belief,
        is_success=bool(outcome.is_success[0]),
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """Actions (B, 2), and for planners beliefs and ticks, (B,) each."""

    actions: NDArray[np.float32]
    beliefs: NDArray[np.float64] | None = None
    ticks: NDArray[np.float64] | None = None


def _choose(agent: Agent, tables: Tables) -> _Choice:
    frames = tables.observations.copy()
    if isinstance(agent, PlanningAgent):
        state = _true_state(agent, tables) if getattr(agent, "oracle", False) else None
        plan = agent.plan(frames, state)
        return _Choice(
            actions=plan.action.cpu().numpy().astype(np.float32),
            beliefs=plan.belief.double().cpu().numpy(),
            ticks=plan.ticks.double().cpu().numpy(),
        )
    actions = np.asarray(agent.predict(frames, deterministic=True)[0], dtype=np.float32)
    if actions.shape != (len(tables), 2):
        raise ValueError(
            f"expected predict to return actions of shape ({len(tables)}, 2), "
            f"got {actions.shape} from {type(agent).__name__}"
        )
    return _Choice(actions)


def _true_state(agent: Any, tables: Tables) -> Any:
    """The true state in the form of the agent's model: velocities per frame."""
    velocities = tables.velocities * tables.config.dt
    return agent.model.state_from(
        torch.as_tensor(tables.positions, dtype=torch.float32, device=agent.device),
        torch.as_tensor(velocities, dtype=torch.float32, device=agent.device),
    )


def _summary(
    agent: Agent,
    tables: Tables,
    choices: list[_Choice],
    outcomes: list[Outcomes],
    seconds: float,
) -> AgentResult:
    is_success = np.concatenate([outcome.is_success for outcome in outcomes])
    beliefs = _joined([choice.beliefs for choice in choices])
    ticks = _joined([choice.ticks for choice in choices])
    checkpoint = getattr(agent, "checkpoint", None)
    n, successes = len(tables), int(is_success.sum())
    return AgentResult(
        n=n,
        successes=successes,
        success=successes / n,
        ci95=wilson_interval(successes, n),
        ms_per_shot=1000.0 * seconds,
        ticks=None if ticks is None else float(ticks.mean()),
        belief=None if beliefs is None else float(beliefs.mean()),
        calibration=None if beliefs is None else calibration(beliefs, is_success),
        wall_hits=float(np.concatenate([outcome.wall_hits for outcome in outcomes]).mean()),
        ball_hits=float(np.concatenate([outcome.ball_hits for outcome in outcomes]).mean()),
        training_frames=None if checkpoint is None else _training_frames(checkpoint),
        checkpoint=checkpoint,
        seed=tables.seed,
        actions=np.concatenate([choice.actions for choice in choices]),
        is_success=is_success,
        beliefs=beliefs,
    )


def _joined(parts: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None


def _training_frames(checkpoint: str) -> int | None:
    """Frames in the model's training set, as its config records them."""
    data = pretrained_info(checkpoint).get("data") or {}
    count, frames = data.get("num_trajectories"), (data.get("table") or {}).get("num_frames")
    return None if count is None or frames is None else int(count) * int(frames)


def _make_env(config: TableConfig) -> gym.Env[Any, Any]:
    register_envs()
    return gym.make(
        BILLIARDS_2D,
        config=config,
        max_episode_steps=config.num_frames - 1,
        disable_env_checker=True,
    )


def _watch(
    env: gym.Env[Any, Any], reset_seed: int, lead_in: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The lead-in frames (lead_in + 1, D), and the info at the last of them."""
    obs, info = env.reset(seed=reset_seed)
    frames = [obs]
    ignored = np.zeros(2, dtype=np.float32)
    for _ in range(lead_in):
        obs, _, _, _, info = env.step(ignored)
        frames.append(obs)
    return np.stack(frames), info


def _play_one(
    env: gym.Env[Any, Any], reset_seed: int, action: NDArray[Any], config: TableConfig
) -> tuple[bool, int, int, NDArray[np.float32]]:
    """Success, wall hits and ball hits after the shot, and the path (T - lead_in, D)."""
    frames, info = _watch(env, reset_seed, config.lead_in)
    before = info["collisions"]
    path = np.full((config.num_frames - config.lead_in, frames.shape[1]), np.nan, dtype=np.float32)
    path[0] = frames[-1]
    frame, over = 0, False
    while not over:
        obs, _, terminated, truncated, info = env.step(action)
        frame += 1
        path[frame] = obs
        over = terminated or truncated
    after = info["collisions"]
    walls, balls = after["wall"] - before["wall"], after["ball"] - before["ball"]
    return bool(info["is_success"]), walls, balls, path


def _imagine_way(
    agent: GradientPlanner, table: Tables, action: NDArray[np.float32], arrival: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The imagined way (R, D), positions at ticks (M, D), and how many frames it lasts."""
    model, shot = agent.model, torch.as_tensor(action[None], device=agent.device)
    with torch.no_grad():
        if agent.oracle:
            state = _true_state(agent, table)
        else:
            state = model.observe(torch.as_tensor(table.observations, device=agent.device))
        whole = model.imagine(state, agent.objective.times, shot)
        end = max(_believed_arrival(agent, whole.obs), float(arrival))
        times = torch.linspace(0.0, end, round(_PER_FRAME * end) + 1, device=agent.device)
        way = model.imagine(state, times, shot).obs[0]
        at = whole.tick_times[0][whole.tick_times[0] <= end]
        ticks = model.imagine(state, at, shot).obs[0] if len(at) else way[:0]
    return way.double().cpu().numpy(), ticks.double().cpu().numpy(), end


def _believed_arrival(agent: GradientPlanner, obs: torch.Tensor) -> float:
    """The first of the objective's times at which the imagined shot succeeds; else the last."""
    times = agent.objective.times
    for index in range(len(times)):
        if float(agent.objective(obs[:, None, index : index + 1])) > 0:
            return float(times[index])
    return float(times[-1])


def _real_way(table: Tables, action: NDArray[np.float32], end: float) -> NDArray[np.float64]:
    """True positions (R, D) from the shot to ``end`` frames later."""
    config = table.config
    x, v = table.positions[0].tolist(), table.velocities[0].tolist()
    shoot(v, float(action[0]), float(action[1]), config.max_impulse, config.max_speed)
    way = [list(x)]
    for _ in range(round(_PER_FRAME * end)):
        advance(x, v, config.dt / _PER_FRAME, config.radius, config.restitution)
        way.append(list(x))
    return np.array(way)
