"""Clears tables with several shots: planned together, or one at a time.

    python scripts/study_clearing.py        # half an hour on one thread

Two shots, 20 frames apart; a table is cleared if the centre of every object ball has been inside
the target by the last frame, each at a frame of its own. Shots are planned

together: all at once, and those that are left again after each, from what is then seen;
together, once: all at once from the first four frames, whatever happens;
one at a time: each as if none followed.

Every way has the same search, and every shot ends what it can: where balls cannot all be reached,
what is nearly done is done first (`jumpy_mbrl.objectives.ReachAll`).

Written to --out: study.json and study.md.

Letters: B tables, N balls, n = N - 1 object balls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from jumpy_mbrl.agents import GradientPlanner, PlannerConfig, load_agent
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_count, check_names
from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.envs.rules import on_target, plane_task
from jumpy_mbrl.envs.vector import Billiards2DVectorEnv
from jumpy_mbrl.evaluation.scoring import wilson_interval
from jumpy_mbrl.evaluation.tables import true_state
from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab import store
from jumpy_mbrl.models.action_sequence import ActionSequence
from jumpy_mbrl.objectives import ReachAll

WAYS = ("together", "together, once", "one at a time")
_PLANNERS = ("jumpy", "simulator", "jumpy-space", "rnn", "jumpy-rnn")
_COLUMNS = ("balls", "agent", "planned", "cleared", "object balls")
_AT_ONCE = 125

Shots = Callable[[int, NDArray[np.float32], dict[str, Any], NDArray[np.bool_]], NDArray[np.float32]]
"""Chooses a shot (B, 2): of its number, the last four frames (B, 4, 2N), infos, and which object
balls have been inside (B, n)."""


@dataclass(frozen=True)
class Args:
    """What to play, and where to keep it."""

    agents: tuple[str, ...] = ("none", "random", "jumpy", "simulator")
    """Agents, none, random, or ones that plan."""
    balls: tuple[int, ...] = (3, 4)
    """Numbers of balls on the table."""
    shot_times: tuple[int, ...] = (0, 20)
    """When shots are played, in frames from the first."""
    candidates: int = 2048
    """Of the search for all shots together, and for each alone."""
    episodes: int = 500
    """Number of held-out tables."""
    seed: int = 0
    """Of the tables and of the searches."""
    threads: int = 1
    """CPU threads of torch."""
    out: Path = Path("results/clearing")
    """Folder for the results."""


def main(argv: Sequence[str]) -> int:
    """Plays, writes the table and prints it."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    _check(args)
    check_writable(args.out / "study.json", args.out / "study.md")
    rows: list[dict[str, Any]] = []
    with cpu_threads(args.threads):
        for balls in args.balls:
            for agent in args.agents:
                for way in WAYS if agent in _PLANNERS else ("-",):
                    rows.append(_row(args, balls, agent, way))
                    print(*rows[-1].values(), sep=" | ", flush=True)
    report = store.Report(args.out / "study.json", {"version": 1, "rows": []}, lambda _: None)
    told = {"episodes": args.episodes, "seed": args.seed, "candidates": args.candidates}
    with report.update() as content:
        content.update(told, shot_times=list(args.shot_times), rows=rows)
    store.write_text(args.out / "study.md", "\n".join(page(report.read())) + "\n")
    return 0


def _check(args: Args) -> None:
    check_names("agent", args.agents, ("none", "random", *_PLANNERS))
    check_count("--episodes", args.episodes)
    if not args.balls or min(args.balls) < 2:
        raise ValueError(f"expected --balls of at least 2, so one to clear, got {args.balls}")
    last = plane_task().last_frame - plane_task().config.lead_in
    times = args.shot_times
    if times[:1] != (0,) or sorted({*times}) != [*times] or times[-1] >= last:
        raise ValueError(
            f"expected --shot-times that ascend from 0 to less than {last}, got {times}"
        )


def page(report: dict[str, Any]) -> list[str]:
    """The report as lines of Markdown."""
    when = " and ".join(map(str, report["shot_times"]))
    rows = [[str(row[name]) for name in _COLUMNS] for row in report["rows"]]
    return [
        "# Tables cleared with several shots",
        "",
        f"{report['episodes']:,} tables, seed {report['seed']}, shots at frames {when} after the "
        f"first, {report['candidates']:,} candidates:",
        "",
        *store.markdown(_COLUMNS, rows),
    ]


def _row(args: Args, balls: int, agent: str, way: str) -> dict[str, Any]:
    reached = []
    for first in range(0, args.episodes, _AT_ONCE):
        seeds = evaluation_table_seeds(args.seed, args.episodes)[first : first + _AT_ONCE]
        shots = _shots(args, balls, agent, way, first)
        reached.append(play(seeds, balls, args.shot_times, shots))
    balls_in = np.concatenate(reached)
    won, n = int(balls_in.all(axis=1).sum()), args.episodes
    cleared = f"{store.percent(won / n)} ({store.percents(wilson_interval(won, n))})"
    figures = balls, agent, way, cleared, store.percent(float(balls_in.mean()))
    return dict(zip(_COLUMNS, figures, strict=True))


def play(
    seeds: Sequence[int], balls: int, shot_times: Sequence[int], shots: Shots
) -> NDArray[np.bool_]:
    """Plays B tables, and tells which object balls have been inside the target, (B, n)."""
    env = Billiards2DVectorEnv(len(seeds), num_balls=balls, max_shots=None, success="last")
    config = env.config
    reached = np.zeros((len(seeds), balls - 1), np.bool_)
    frame, info = env.reset(seed=[*map(int, seeds)])
    film = [frame]
    for number in range(config.num_frames - 1):
        action = np.zeros((len(seeds), 2), np.float32)
        if number - config.lead_in in shot_times:
            shot = shot_times.index(number - config.lead_in)
            action = shots(shot, np.stack(film[-4:], axis=1), info, reached)
        frame, *_, info = env.step(action)
        film.append(frame)
        if number >= config.lead_in:
            x, y = info["positions"][:, 1:].transpose(2, 0, 1)
            reached |= on_target(x, y, config.target)
    env.close()
    return reached


def _shots(args: Args, balls: int, agent: str, way: str, first: int) -> Shots:
    if agent not in _PLANNERS:
        rng = np.random.default_rng((args.seed, first))
        size = float(agent == "random")
        return lambda number, frames, info, reached: (
            size * rng.uniform(-1.0, 1.0, (len(frames), 2)).astype(np.float32)
        )
    return _Planned(args, load_agent(agent, task=plane_task(num_balls=balls)), way)


class _Planned:
    """Shots that an agent's model plans in one of the ``WAYS``."""

    def __init__(self, args: Args, agent: Any, way: str) -> None:
        self._args, self._agent, self._way = args, agent, way
        self._rest: NDArray[np.float32] | None = None  # of a plan that is kept, (B, shots, 2)

    def __call__(
        self,
        number: int,
        frames: NDArray[np.float32],
        info: dict[str, Any],
        reached: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        if self._rest is not None and self._way == "together, once":
            return self._rest[:, number]
        agent, times, config = self._agent, self._args.shot_times, plane_task().config
        ahead = [0] if self._way == WAYS[-1] else [time - times[number] for time in times[number:]]
        left = config.num_frames - 1 - config.lead_in - times[number]
        planner = GradientPlanner(
            ActionSequence(agent.model, ahead),
            ReachAll(config.target, range(1, left + 1), reached=reached),
            PlannerConfig(candidates=self._args.candidates, seed=self._args.seed),
            oracle=agent.oracle,
        )
        state = None
        if agent.oracle:
            x, v = (info[name].reshape(len(frames), -1) for name in ("positions", "velocities"))
            state = true_state(agent, x, v, config.dt)
        plan = as_array(planner.plan(frames, state).action).astype(np.float32)
        self._rest = plan.reshape(len(plan), len(ahead), 2)
        return self._rest[:, 0]
