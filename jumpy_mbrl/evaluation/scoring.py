"""Lets agents shoot on held-out tables, and counts.

An agent sees the four context frames of a table and nothing else (but the target, where every
table has its own); only an agent marked ``oracle`` is also given the true state. Timed is the
agent's choice alone.

Letters: B tables, D = 2N numbers an observation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_count
from jumpy_mbrl.evaluation.given import Given, given_to, training_frames
from jumpy_mbrl.evaluation.tables import HeldOut, Outcomes, drawn_objective, play, true_state
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.world import warn_of_other_world

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent, Objective, Plan

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


@dataclass(frozen=True)
class ContactCount:
    """How often shots succeeded that had as many contacts up to their end.

    Attributes:
        contacts: how many.
        n: number of shots.
        successes: how many of them succeeded.
        success: the fraction.
    """

    contacts: int
    n: int
    successes: int
    success: float


@dataclass(frozen=True)
class Contested:
    """How often an agent won the tables that doing nothing loses.

    Attributes:
        n: how many these are.
        successes: how many of them it won.
        success: the fraction.
        ci95: its 95 % Wilson interval.
    """

    n: int
    successes: int
    success: float
    ci95: tuple[float, float]

    @classmethod
    def of(cls, is_success: NDArray[np.bool_], idle_wins: NDArray[np.bool_]) -> Contested | None:
        """Score of an agent that won some of the tables (B,); None if doing nothing wins all."""
        won = is_success[~idle_wins]
        n, successes = len(won), int(won.sum())
        return cls(n, successes, successes / n, wilson_interval(successes, n)) if n else None


@dataclass(frozen=True, eq=False)
class AgentResult:
    """The figures of one agent.

    Attributes:
        n: episodes.
        successes: how many the environment called a success.
        success: the fraction.
        ci95: its 95 % Wilson interval.
        contested: the same among the tables that doing nothing loses; None if there are none.
        ms_per_shot: median over batches of the time to choose, in milliseconds per table.
        ticks: mean world-model ticks of the chosen shots' rollouts; None without a model.
        belief: mean belief in the chosen shots; None without a model.
        calibration: belief against reality, bins that are not empty; None without a model.
        wall_hits: mean contacts with walls after the shot, in reality.
        ball_hits: mean contacts of balls after the shot, in reality.
        by_contacts: success by the number of contacts, with walls and of balls, after the shot.
        by_ball_hits: success by the number of contacts of balls after the shot.
        training_frames: frames of experience that were learned from, without those that chose
            among weights; None if nothing was learned.
        given: what else it was given before it played.
        checkpoint: name or folder of the model or policy; None if there is none.
        seed: of the evaluation's tables.
        actions: the shots, (B, 2) float32.
        is_success: what became of them, (B,) bool.
        beliefs: belief in each, (B,), or None.
    """

    n: int
    successes: int
    success: float
    ci95: tuple[float, float]
    contested: Contested | None
    ms_per_shot: float
    ticks: float | None
    belief: float | None
    calibration: tuple[CalibrationBin, ...] | None
    wall_hits: float
    ball_hits: float
    by_contacts: tuple[ContactCount, ...]
    by_ball_hits: tuple[ContactCount, ...]
    training_frames: int | None
    given: Given
    checkpoint: str | None
    seed: int
    actions: NDArray[np.float32] = field(repr=False)
    is_success: NDArray[np.bool_] = field(repr=False)
    beliefs: NDArray[np.float64] | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the arrays, as a dictionary that JSON can hold."""

        def plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
            return {name: [*value] if isinstance(value, tuple) else value for name, value in items}

        arrays = ("actions", "is_success", "beliefs")
        figures = asdict(self, dict_factory=plain)
        return {name: value for name, value in figures.items() if name not in arrays}


@runtime_checkable
class PlanningAgent(Protocol):
    """An agent that tells more than its action: beliefs and ticks."""

    def plan(self, frames: Any, state: Any = None, objective: Objective | None = None) -> Plan: ...


def wilson_interval(successes: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a success probability (Wilson 1927), 95 % by default.

    `ValueError` unless 0 <= successes <= n and n >= 1.
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


@dataclass(frozen=True, eq=False)
class Round:
    """An agent's choices for one batch, and what became of them.

    Attributes:
        actions: (B, 2).
        beliefs: of planners, (B,).
        ticks: of planners, (B,).
        outcomes: in the real environment.
        seconds: that the choice took, per table.
    """

    actions: NDArray[np.float32]
    beliefs: NDArray[np.float64] | None
    ticks: NDArray[np.float64] | None
    outcomes: Outcomes
    seconds: float


def evaluate_agent(
    agent: Agent,
    tables: HeldOut,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], object] | None = None,
) -> AgentResult:
    """Lets an agent shoot on every table, and counts.

    Args:
        agent: anything with ``predict``, which is asked for actions (B, 2) given the context frames
            (B, 4, D). If it has ``plan`` (see ``GradientPlanner``), that is asked instead, for its
            beliefs and ticks, and timed after a call on a few tables to warm up; it is given the
            balls alone, and an objective where every table has its own target. An agent whose
            ``oracle`` is true is given the true state too.
        tables: where to play.
        batch_size: tables that the agent chooses for at once.
        progress: called with the number of tables done since its last call.

    `ValueError` for a batch size below 1, or an agent that does not return (actions, state) with
    finite actions (B, 2). Warns of a planner whose model has learned another world
    (`OtherWorldWarning`).
    """
    model = getattr(agent, "model", None)
    if isinstance(model, WorldModel):
        warn_of_other_world(model, tables.variant.task, stacklevel=2)
    warm_up(agent, tables)
    rounds = []
    for batch in batches(tables, batch_size):
        rounds.append(play_round(agent, batch))
        if progress is not None:
            progress(len(batch))
    return summarise(agent, tables, rounds)


def batches(tables: HeldOut, batch_size: int) -> list[HeldOut]:
    """The tables, ``batch_size`` at a time; `ValueError` for a batch size below 1."""
    size = check_count("batch_size", batch_size)
    return [tables[first : first + size] for first in range(0, len(tables), size)]


def warm_up(agent: Agent, tables: HeldOut) -> None:
    """Lets a planner choose once, untimed."""
    if isinstance(agent, PlanningAgent):
        first = tables[:_WARM_UP]
        _choose(agent, first, first.shown_to(agent))


def play_round(agent: Agent, tables: HeldOut) -> Round:
    """Lets an agent shoot on tables of one batch; errors are those of `evaluate_agent`."""
    shown = tables.shown_to(agent)
    started = time.perf_counter()
    actions, beliefs, ticks = _choose(agent, tables, shown)
    seconds = (time.perf_counter() - started) / len(tables)
    return Round(actions, beliefs, ticks, play(tables, actions), seconds)


def summarise(agent: Agent, tables: HeldOut, rounds: Sequence[Round]) -> AgentResult:
    """The figures of an agent that has played all tables, in batches, in order."""
    outcomes = [part.outcomes for part in rounds]
    is_success, wall_hits, ball_hits = (
        np.concatenate([getattr(part, name) for part in outcomes])
        for name in ("is_success", "wall_hits", "ball_hits")
    )
    beliefs = _joined([part.beliefs for part in rounds])
    ticks = _joined([part.ticks for part in rounds])
    n, successes = len(tables), int(is_success.sum())
    return AgentResult(
        n=n,
        successes=successes,
        success=successes / n,
        ci95=wilson_interval(successes, n),
        contested=Contested.of(is_success, tables.idle_wins),
        ms_per_shot=1000.0 * float(np.median([part.seconds for part in rounds])),
        ticks=None if ticks is None else float(ticks.mean()),
        belief=None if beliefs is None else float(beliefs.mean()),
        calibration=None if beliefs is None else calibration(beliefs, is_success),
        wall_hits=float(wall_hits.mean()),
        ball_hits=float(ball_hits.mean()),
        by_contacts=by_count(wall_hits + ball_hits, is_success),
        by_ball_hits=by_count(ball_hits, is_success),
        training_frames=training_frames(agent),
        given=given_to(agent),
        checkpoint=getattr(agent, "checkpoint", None),
        seed=tables.seed,
        actions=np.concatenate([part.actions for part in rounds]),
        is_success=is_success,
        beliefs=beliefs,
    )


def calibration(
    beliefs: NDArray[np.float64], is_success: NDArray[np.bool_]
) -> tuple[CalibrationBin, ...]:
    """Belief (B,) against reality (B,), in four bins of equal width; empty ones are left out."""
    edges, number = _BELIEF_EDGES, np.digitize(beliefs, _BELIEF_EDGES[1:-1])
    bins = []
    for index in np.unique(number).tolist():
        rows = number == index
        means = float(beliefs[rows].mean()), float(is_success[rows].mean())
        bins.append(CalibrationBin(edges[index], edges[index + 1], int(rows.sum()), *means))
    return tuple(bins)


def by_count(
    contacts: NDArray[np.int64], is_success: NDArray[np.bool_]
) -> tuple[ContactCount, ...]:
    """Success (B,) by the number of contacts (B,), in ascending order."""
    counts = []
    for number in np.unique(contacts).tolist():
        rows = is_success[contacts == number]
        n, successes = len(rows), int(rows.sum())
        counts.append(ContactCount(number, n, successes, successes / n))
    return tuple(counts)


_Choice = tuple[NDArray[np.float32], NDArray[np.float64] | None, NDArray[np.float64] | None]


def _choose(agent: Agent, tables: HeldOut, shown: NDArray[Any]) -> _Choice:
    """Actions (B, 2), and for planners beliefs and ticks, (B,) each."""
    if isinstance(agent, PlanningAgent):
        truth = tables.positions, tables.velocities, tables.config.dt
        state = true_state(agent, *truth) if getattr(agent, "oracle", False) else None
        plan = agent.plan(shown, state, drawn_objective(tables))
        belief, ticks = (as_array(part).astype(np.float64) for part in (plan.belief, plan.ticks))
        return as_array(plan.action).astype(np.float32), belief, ticks
    answer: object = agent.predict(shown, deterministic=True)
    who = type(agent).__name__
    if not isinstance(answer, tuple) or len(answer) != 2:
        told = type(answer).__name__
        if isinstance(answer, tuple):
            told = f"a tuple of {len(answer)}"
        elif hasattr(answer, "shape"):
            told += f" of shape {tuple(answer.shape)}"
        raise ValueError(
            f"expected predict to return (actions, state) as that of Stable-Baselines3 does, got "
            f"{told} from {who}; return (actions, None) if there is no state"
        )
    actions = as_array(answer[0]).astype(np.float32)
    if actions.shape != (len(tables), 2):
        raise ValueError(
            f"expected predict to return actions of shape ({len(tables)}, 2), got {actions.shape} "
            f"from {who}"
        )
    return actions, None, None


def _joined(parts: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None
