"""What it costs to read pictures, beside what it costs to plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from jumpy_mbrl.agents.registry import load_agent
from jumpy_mbrl.evaluation.tables import HeldOut, make_tables
from jumpy_mbrl.lab.bench.clock import Clock, Row, Work, make_row, make_rows, ratio_row
from jumpy_mbrl.models.pretrained import from_pretrained

TABLES = 1000
"""Tables whose pictures are read together."""
PLANNED = 125
"""Tables that are planned for together, as `plan_eval.py` does."""
EYES = ("sprite-64-billiards2d", "sprite-28-billiards2d", "keypoints-billiards2d")
AGENTS = ("jumpy", "jumpy-pixels", "jumpy-keypoints")
"""Who shoots: from coordinates, and from pictures."""
MOST_TO_READ = 5.0
MOST_TO_SHOOT = 2.0


def bench_pictures(clock: Clock) -> Iterator[Row]:
    """Milliseconds a table: four pictures read by each of the eyes, and whole shots."""
    tables = make_tables(max(TABLES, PLANNED))
    readers = dict(_reader(name, tables[:TABLES]) for name in EYES)
    for label, rate in clock.rates(readers).items():
        yield make_row(label, 1e3 / rate, "ms/table", at_most=MOST_TO_READ)
    rates = clock.rates({name: _shooter(name, tables[:PLANNED]) for name in AGENTS})
    times = {name: 1e3 / rate for name, rate in rates.items()}
    base, seeing, _ = AGENTS
    yield from make_rows(times, "ms/table", "shot, {}".format, base)
    label = f"{seeing}: time of a shot over {base}'s"
    yield ratio_row(label, times[seeing] / times[base], base, at_most=MOST_TO_SHOOT)


def _reader(name: str, tables: HeldOut) -> tuple[str, Work]:
    """Where balls are in the four pictures of every table, by a model's eyes."""
    eyes: Any = from_pretrained(name)
    size, channels = eyes.config.size, eyes.config.channels
    pictures = torch.from_numpy(tables.pictures((size, size, channels))).flatten(2) / 255.0

    def work() -> int:
        with torch.no_grad():
            eyes.read(pictures)
        return len(tables)

    return f"reading four pictures, {size}x{size}x{channels}, {name}", work


def _shooter(name: str, tables: HeldOut) -> Work:
    """A shot on every table by an agent, from what it is shown."""
    agent: Any = load_agent(name, device="cpu")
    shown = tables.shown_to(agent)

    def work() -> int:
        agent.predict(shown)
        return len(tables)

    return work
