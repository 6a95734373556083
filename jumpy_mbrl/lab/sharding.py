"""The evaluation of planners, shared out to a Ray cluster with the totals of a single process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.cluster import map_on_ray
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation.scoring import (
    BATCH_SIZE,
    AgentResult,
    PlanningAgent,
    Round,
    batches,
    evaluate_agent,
    play_round,
    summarise,
    warm_up,
)
from jumpy_mbrl.evaluation.tables import Tables
from jumpy_mbrl.models.world import OtherWorldWarning


@dataclass(frozen=True, eq=False)
class _Shard:
    """A batch of tables for one agent."""

    name: str
    number: int
    tables: Tables


def evaluate_on_ray(
    load: Mapping[str, Callable[[], Agent]],
    tables: Tables,
    address: str,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> dict[str, AgentResult]:
    """Like ``evaluate_agent`` for each agent, on many machines.

    Planners play their batches anywhere, as what they choose depends on nothing else; agents that
    draw at random play here. Times are those of the machines that planned.

    Args:
        load: what makes each agent, by its name; must be picklable.
        tables: where to play.
        address: of the Ray cluster, see ``map_on_ray``.
        batch_size: tables of a batch.
        threads: CPU threads of torch for each batch.
        workers: batches at a time on a cluster that is started here.
        progress: called with the number of tables done since its last call.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: as ``evaluate_agent`` does.
    """
    agents = {name: make() for name, make in load.items()}
    parts = batches(tables, batch_size)
    planners = [name for name, agent in agents.items() if isinstance(agent, PlanningAgent)]
    shards = [_Shard(name, number, part) for name in planners for number, part in enumerate(parts)]
    rounds: dict[tuple[str, int], Round] = {}
    play = partial(_play, load=load, threads=threads)
    if shards:
        for shard, get in map_on_ray(play, shards, address, threads, workers=workers):
            rounds[shard.name, shard.number] = get()
            if progress is not None:
                progress(len(shard.tables))
    return {
        name: summarise(agent, tables, [rounds[name, number] for number in range(len(parts))])
        if name in planners
        else evaluate_agent(agent, tables, batch_size, progress)
        for name, agent in agents.items()
    }


def _play(shard: _Shard, load: Mapping[str, Callable[[], Agent]], threads: int) -> Round:
    with cpu_threads(threads):
        with warnings.catch_warnings():  # Given where the evaluation was asked for.
            warnings.simplefilter("ignore", OtherWorldWarning)
            agent = load[shard.name]()
        warm_up(agent, shard.tables)
        return play_round(agent, shard.tables)
