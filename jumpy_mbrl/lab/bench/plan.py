"""What a shot costs to plan, by how many tables are planned for at once, and what it wins.

All agents shoot on the same tables, batch by batch in turn, and once: the longest calls take a
minute, so there are no rounds of which the best counts. Single tables whose velocities had to be
searched for (`jumpy_mbrl.models.bodies.state_estimation`) have a row of their own too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from jumpy_mbrl.agents.planning.planner import Planner
from jumpy_mbrl.agents.registry import load_agent
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation.scoring import Round, batches, play_round, warm_up
from jumpy_mbrl.evaluation.tables import HeldOut, make_tables
from jumpy_mbrl.lab.bench.clock import Clock, Row, make_row, make_rows, ratio_row
from jumpy_mbrl.models.bodies.state_estimation import bounded

AGENTS = ("jumpy", "rnn", "jumpy-rnn", "simulator")
"""Who plans, the one that the others are compared with first."""
SIZES = {1: 60, 16: 64, 125: 125, 1000: 1000}
"""Tables planned for at once, and how many in all."""
THREADS = (1, 2)
RATIOS = ("jumpy", "simulator"), ("rnn", "jumpy")
"""Whose time of a shot is divided by whose."""

Rounds = Mapping[str, Sequence[Round]]


def bench_plan(_: Clock, agents: Sequence[str] = AGENTS) -> Iterator[Row]:
    """Milliseconds a shot by batch size and threads, and on CUDA; tables won, and ticks."""
    tables = make_tables(max(SIZES.values()))
    places = [("cpu", count, f"{count} thread{'s' * (count > 1)}") for count in THREADS]
    if torch.cuda.is_available():
        places.append(("cuda", 1, "cuda"))
    for device, threads, place in places:
        players = {name: load_agent(name, device=device) for name in agents}
        for size, count in SIZES.items():
            parts = batches(tables[:count], size)
            with cpu_threads(threads):
                rounds = _in_turn(players, parts)
            yield from _times(rounds, f"batch {size}, {place}")
            if size == 1:
                yield from _single_times(players, parts, rounds, place)
            if place == places[0][2]:
                yield from _outcomes(rounds, f"batch {size}")


def _in_turn(players: Mapping[str, Any], parts: Sequence[HeldOut]) -> Rounds:
    """What every agent plays of every part."""
    rounds: dict[str, list[Round]] = {name: [] for name in players}
    for agent in players.values():
        warm_up(agent, parts[0])
    for part in parts:
        for name, agent in players.items():
            rounds[name].append(play_round(agent, part))
    return rounds


def _milliseconds(played: Sequence[Round]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([1e3 * part.seconds for part in played])


def _times(rounds: Rounds, where: str) -> Iterator[Row]:
    times = {name: float(_milliseconds(played).mean()) for name, played in rounds.items()}
    yield from make_rows(times, "ms/shot", f"shot, {{}}, {where}".format, base=next(iter(times)))
    for name, base in RATIOS:
        if name in times and base in times:
            label = f"{name}: time of a shot over {base}'s, {where}"
            yield ratio_row(label, times[name] / times[base], base)


def _single_times(
    players: Mapping[str, Any], parts: Sequence[HeldOut], rounds: Rounds, place: str
) -> Iterator[Row]:
    for name, played in rounds.items():
        label, ms = f"shot, {name}, batch 1, {place}", _milliseconds(played)
        yield make_row(f"{label}, 95th percentile", float(np.percentile(ms, 95)), "ms/shot")
        searched = np.array([_is_searched(players[name], part) for part in parts])
        if searched.any() and not searched.all():
            for how, rows in (("searched for", searched), ("not searched for", ~searched)):
                told = f"{label}, {rows.sum()} tables, velocities {how}"
                yield make_row(told, float(ms[rows].mean()), "ms/shot")


def _is_searched(agent: Any, table: HeldOut) -> bool:
    """Whether the velocities of a single table have to be searched for."""
    if not isinstance(agent, Planner) or agent.oracle:
        return False
    turns: list[int] = []

    def may_play(rollouts: int) -> bool:
        turns.append(rollouts)
        return True

    with bounded(may_play):
        agent.observe(table.shown_to(agent))
    return max(turns, default=0) > 1


def _outcomes(rounds: Rounds, where: str) -> Iterator[Row]:
    for name, played in rounds.items():
        won = np.concatenate([part.outcomes.is_success for part in played])
        yield make_row(f"tables won, {name}, {where}", 100.0 * float(won.mean()), "%")
        ticks = [part.ticks for part in played if part.ticks is not None]
        if ticks:
            mean = float(np.concatenate(ticks).mean())
            yield make_row(f"ticks of a shot, {name}, {where}", mean, "ticks")
