"""The study's results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jumpy_mbrl.lab import store
from jumpy_mbrl.lab.worlds.worlds import WORLDS

AGENTS = ("jump", "rnn", "sac", "random", "tried")
_NAMES = {"jump": "RelationalJump", "rnn": "RNN", "sac": "SAC", "tried": "128 shots tried"}
_HEADER = (
    "world",
    "agent",
    "return or success",
    "95 % interval",
    "n",
    "frames learned from",
    "training, s",
    "sample MSE",
    "mean jump",
    "ticks of a plan",
    "ms a decision",
)
_COLUMNS = {
    "frames": "{:,}",
    "training_seconds": "{:,.0f}",
    "sample_mse": "{:.2e}",
    "mean_jump": "{:.2f}",
    "planned_ticks": "{:.1f}",
    "ms_per_decision": "{:.1f}",
}


def table(worlds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row for each agent in each world."""
    rows = []
    for name in (name for name in WORLDS if name in worlds):
        share = store.percent if WORLDS[name].is_shot else "{:.1f}".format
        for agent in (agent for agent in AGENTS if agent in worlds[name]):
            entry = worlds[name][agent]
            ends = " to ".join(map(share, entry["ci95"]))
            row = [name, _NAMES.get(agent, agent), share(entry["mean_return"]), ends]
            cells = (
                form.format(entry[key]) if key in entry else "-" for key, form in _COLUMNS.items()
            )
            rows.append([*row, f"{entry['n']:,}", *cells])
    return store.markdown(_HEADER, rows, 2)


def page(worlds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table, and what the worlds are."""
    about = [f"* **{name}**: {WORLDS[name].about}." for name in WORLDS if name in worlds]
    return ["# Worlds that are not the billiards table", "", *table(worlds), "", *about]
