"""The evaluation of planners, shared out to a Ray cluster with the totals of a single process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation import Tables, scoring
from jumpy_mbrl.models.world import OtherWorldWarning
from jumpy_mbrl.processes import map_on_ray

Load = Mapping[str, Callable[[], Agent]]
"""What makes each agent, by its name; can be pickled."""
Batch = tuple[str, int, Tables]
"""The agent's name, and tables with their number among its batches."""


def evaluate_on_ray(
    load: Load,
    tables: Tables,
    address: str,
    batch_size: int = scoring.BATCH_SIZE,
    threads: int = 1,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> dict[str, scoring.AgentResult]:
    """Like `evaluate_agent` for each agent, on many machines (see `map_on_ray`).

    Planners play their batches anywhere, as what they choose depends on nothing else; agents that
    draw at random play here. Times are those of the machines that planned.
    """
    agents = {name: make() for name, make in load.items()}
    parts = scoring.batches(tables, batch_size)
    planners = [n for n, agent in agents.items() if isinstance(agent, scoring.PlanningAgent)]
    batches = [(name, number, part) for name in planners for number, part in enumerate(parts)]
    rounds: dict[tuple[str, int], scoring.Round] = {}
    play = partial(_play, load=load, threads=threads)
    done = map_on_ray(play, batches, address, threads, workers=workers) if batches else ()
    for (name, number, part), get in done:
        rounds[name, number] = get()
        if progress is not None:
            progress(len(part))
    results = {}
    for name, agent in agents.items():
        if name in planners:
            of_agent = [rounds[name, number] for number in range(len(parts))]
            results[name] = scoring.summarise(agent, tables, of_agent)
        else:
            results[name] = scoring.evaluate_agent(agent, tables, batch_size, progress)
    return results


def _play(batch: Batch, load: Load, threads: int) -> scoring.Round:
    name, _, tables = batch
    with cpu_threads(threads):
        with warnings.catch_warnings():  # Given where the evaluation was asked for.
            warnings.simplefilter("ignore", OtherWorldWarning)
            agent = load[name]()
        scoring.warm_up(agent, tables)
        return scoring.play_round(agent, tables)
