"""Measures what agents that are shown pictures win, and what they see.

    python scripts/study_pixels.py        # about half an hour on one thread

cameras: tables won where pictures are spoilt, as by `plan_eval.py --camera`.
balls: tables won with two to five balls, beside the agent that is told coordinates.
reading: how exactly an agent's model reads places and velocities at the last frame it is shown,
and what the planner of the true physics wins from what was read. So seeing and foreseeing are told
apart.
decoding: places that the head reads off imagined keypoints, beside places read once more in the
pictures that are painted of them.

Written to --out: study.json and study.md. Parts that are not measured again are kept there.

Letters: B tables, K query times, D = 2N numbers of places.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from jumpy_mbrl.agents import OtherGameError, load_agent
from jumpy_mbrl.agents.registry import PIXEL_AGENTS
from jumpy_mbrl.checks import check_count, check_names
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation import CAMERAS, HeldOut, evaluate_agent, find_variant, make_tables, play
from jumpy_mbrl.evaluation.scoring import batches, wilson_interval
from jumpy_mbrl.evaluation.tables import true_state
from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab import store
from jumpy_mbrl.models.bodies.seeing import SeeingModel
from jumpy_mbrl.models.keypoint_jump import SeenPlaces

_TABLES = {2: "default", 3: "three_balls", 4: "four_balls", 5: "five_balls"}
_TOLD = "jumpy"
_FRAMES = (1.0, 5.0, 10.0, 20.0, 41.0)
_WALL = 1e-6


@dataclass(frozen=True)
class Args:
    """What to measure, and where to keep it."""

    parts: tuple[str, ...] = ("cameras", "balls", "reading", "decoding")
    """Any of cameras, balls, reading, decoding."""
    agents: tuple[str, ...] = ("jumpy-pixels", "jumpy-keypoints")
    """Agents that plan from pictures."""
    episodes: int = 1000
    """Number of held-out tables."""
    seed: int = 0
    """Of the tables and of the searches."""
    threads: int = 1
    """CPU threads of torch."""
    out: Path = Path("results/pixels")
    """Folder for the results."""


def main(argv: Sequence[str]) -> int:
    """Measures, writes the tables and prints them."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    check_names("part", args.parts, _PARTS)
    check_names("agent", args.agents, PIXEL_AGENTS)
    check_count("--episodes", args.episodes)
    report = store.Report(args.out / "study.json", {"version": 1, "parts": {}}, lambda _: None)
    report.read()
    check_writable(report.path, args.out / "study.md")
    with cpu_threads(args.threads):
        for part in args.parts:
            rows = _PARTS[part](args)
            measured: dict[str, Any] = {"episodes": args.episodes, "seed": args.seed}
            measured |= {"columns": [*rows[0]], "rows": [[*row.values()] for row in rows]}
            with report.update() as content:
                content["parts"][part] = measured
    lines = ["# Plans from pictures", *page(report.read()["parts"])]
    store.write_text(args.out / "study.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


def page(parts: dict[str, Any]) -> list[str]:
    """Lines of Markdown: a table for each part."""
    lines = []
    for name, part in parts.items():
        lines += ["", f"**{name}**, {part['episodes']:,} tables, seed {part['seed']}:", ""]
        lines += store.markdown(part["columns"], [[*map(_cell, row)] for row in part["rows"]])
    return lines


def _cell(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _share(won: int, n: int) -> str:
    return f"{store.percent(won / n)} ({store.percents(wilson_interval(won, n))})"


def _tables(args: Args, name: str = "default") -> HeldOut:
    return make_tables(args.episodes, args.seed, find_variant(name))


def _loaded(name: str) -> Any:
    return load_agent(name)


def _cameras(args: Args) -> list[dict[str, Any]]:
    tables, rows = _tables(args), []
    agents = {name: load_agent(name, seed=args.seed) for name in args.agents}
    for camera in CAMERAS:
        seen = replace(tables, camera=camera)
        results = {name: evaluate_agent(agent, seen) for name, agent in agents.items()}
        shares = {name: _share(one.successes, one.n) for name, one in results.items()}
        rows.append({"camera": camera, **shares})
    return rows


def _balls(args: Args) -> list[dict[str, Any]]:
    rows = []
    for count, name in _TABLES.items():
        tables = _tables(args, name)
        row: dict[str, Any] = {"balls": count}
        for agent in (*args.agents, _TOLD):
            try:
                loaded = load_agent(agent, task=tables.variant.task, seed=args.seed)
            except OtherGameError:
                row[agent] = "-"
            else:
                result = evaluate_agent(loaded, tables)
                row[agent] = _share(result.successes, result.n)
        rows.append(row)
    return rows


def _reading(args: Args) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in args.agents:
        tables, agent = _tables(args), _loaded(name)
        read = [reading(agent, part) for part in batches(tables, 125)]
        places, velocities = (np.concatenate(each) for each in zip(*read, strict=True))
        true = tables.velocities * tables.config.dt
        row: dict[str, Any] = {"agent": name}
        for what, error in (("place", places - tables.positions), ("velocity", velocities - true)):
            missed = np.linalg.norm(error.reshape(len(error), -1, 2), axis=2).max(axis=1)
            row |= {f"{what}, median": float(np.median(missed))}
            row |= {f"{what}, 99 %": float(np.quantile(missed, 0.99))}
        row["oracle from there"] = _share(won_from(tables, places, velocities), len(tables))
        row["and true velocities"] = _share(won_from(tables, places, true), len(tables))
        rows.append(row)
    return rows


@torch.no_grad()
def reading(agent: Any, tables: HeldOut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (B, D) and velocities per frame (B, D) that the agent's model reads in pictures."""
    state = agent.observe(tables.shown_to(agent))
    seen: Any = agent.model.model if isinstance(agent.model, SeeingModel) else agent.model
    return state.obs.double().numpy(), seen.velocities_of(state).double().numpy()


def won_from(tables: HeldOut, places: NDArray[Any], velocities: NDArray[Any]) -> int:
    """How many tables the planner of the true physics wins that starts from places and velocities
    per frame (B, D)."""
    oracle, edge, won = load_agent("simulator"), tables.config.radius + _WALL, 0
    inside = places.clip(edge, 1.0 - edge)
    for first in range(0, len(tables), 125):
        rows = slice(first, first + 125)
        state = true_state(oracle, inside[rows], velocities[rows], 1.0)
        action, _ = oracle.predict(tables.frames[rows], state)
        won += int(play(tables[rows], action).is_success.sum())
    return won


@torch.no_grad()
def _decoding(args: Args) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in args.agents:
        agent, tables = _loaded(name), _tables(args)
        seen = agent.model
        if not isinstance(seen, SeenPlaces):
            continue
        action = np.random.default_rng(args.seed).uniform(-1.0, 1.0, (len(tables), 2))
        shot = torch.from_numpy(action).float()
        truth = play(tables, action).paths[:, [int(frame) for frame in _FRAMES]]
        state = agent.observe(tables.shown_to(agent))
        begun = time.perf_counter()
        by_head = seen.imagine(state, _FRAMES, shot).obs
        middle = time.perf_counter()
        whole = replace(state, obs=seen.model.decode(state.hidden))
        pictures = seen.model.imagine(whole, _FRAMES, shot).obs
        by_picture = seen.model.places_of(seen.model.read(pictures))
        ended = time.perf_counter()
        told = {"head": (by_head, middle - begun), "painted pictures": (by_picture, ended - middle)}
        for column, frame in enumerate(_FRAMES):
            row: dict[str, Any] = {"agent": name, "frames after the shot": int(frame)}
            for how, (found, _) in told.items():
                missed = np.abs(found[:, column].numpy() - truth[:, column])
                row[f"{how}, median error"] = float(np.nanmedian(missed))
            apart = (by_head - by_picture)[:, column].abs()
            row["between them, median"] = float(apart.median())
            row |= {f"{how}, ms a table": 1e3 * s / len(tables) for how, (_, s) in told.items()}
            rows.append(row)
    return rows


_PARTS: dict[str, Callable[[Args], list[dict[str, Any]]]] = {
    "cameras": _cameras,
    "balls": _balls,
    "reading": _reading,
    "decoding": _decoding,
}
