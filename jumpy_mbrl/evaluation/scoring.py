"""Lets agents shoot on held-out tables, and counts.

An agent sees the four lead-in observations of a table and nothing else; only an agent marked
``oracle`` is also given the true state. Timed is the agent's choice alone.

Letters: B tables, D = 2N numbers an observation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.evaluation.tables import Outcomes, Tables, play, true_state
from jumpy_mbrl.models.pretrained import pretrained_info

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent, Plan

BATCH_SIZE = 125
"""Tables that an agent chooses for at once, unless told otherwise."""

_WARM_UP = 8
_Z95 = 1.959963984540054
_BELIEF_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


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


@dataclass(frozen=True, eq=False)
class _Choice:
    """Actions (B, 2), and for planners beliefs and ticks, (B,) each."""

    actions: NDArray[np.float32]
    beliefs: NDArray[np.float64] | None = None
    ticks: NDArray[np.float64] | None = None


def _choose(agent: Agent, tables: Tables) -> _Choice:
    frames = tables.observations.copy()
    if isinstance(agent, PlanningAgent):
        state = true_state(agent, tables) if getattr(agent, "oracle", False) else None
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
