"""Learns worlds that are not the billiards table, plans in them, and compares.

    python scripts/study_worlds.py                                # all worlds, in about two hours
    python scripts/study_worlds.py --worlds pendulum --agents jump rnn random

For each world: episodes of random actions are recorded; our general model (RelationalJump) and an
RNN learn from them; the same planner plans with each; a policy (SAC of Stable-Baselines3) learns
from as many frames; all play the same new episodes, and so does who acts at random. Of one shot:
"tried" is who tries 128 random shots in the world itself and keeps the best.

Written to --out: worlds.json and worlds.md. Results of other worlds and agents that are there stay.
What was trained stays in --runs-dir and is not trained again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.agents import GradientPlanner, RecedingHorizon
from jumpy_mbrl.checks import check_names, check_number
from jumpy_mbrl.data import Recording, record
from jumpy_mbrl.data.recording import Policy, RecordingConfig
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.evaluation.sequences import score
from jumpy_mbrl.files import sha256_of
from jumpy_mbrl.lab import store
from jumpy_mbrl.lab.worlds import sac
from jumpy_mbrl.lab.worlds.page import AGENTS, page
from jumpy_mbrl.lab.worlds.worlds import RECIPE, WORLDS, World, installed
from jumpy_mbrl.models import ActionSequence, RNNConfig
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.training import TrainingConfig, train, training_seconds

_SEEDS = 0, 10**6, 3 * 10**6
"""Of what is learned from, validated and scored, added to the study's own seed."""
_PLAYED, _PLANNED = 2 * 10**6, 4 * 10**6
"""The same of what is played, and of what is learned from plans."""
_TIMED, _TRIES = 100, 128


@dataclass(frozen=True)
class Args:
    """What to learn, and where to keep it."""

    worlds: tuple[str, ...] = installed()
    """By name; by default all whose packages are installed."""
    agents: tuple[str, ...] = AGENTS
    """Any of jump, rnn, sac, random, tried."""
    out: Path = Path("results/worlds")
    """Folder for the results."""
    runs_dir: Path = Path("runs/worlds")
    """Folder for recordings and what was trained."""
    seed: int = 0
    """Of recordings, trainings and searches."""
    threads: int = 1
    """CPU threads of torch."""
    share: float = 1.0
    """Of all that is recorded, trained and played, to try the whole path."""

    def check(self) -> None:
        """`ValueError` for settings that cannot be studied."""
        check_names("world", self.worlds, WORLDS)
        check_names("agent", self.agents, AGENTS)
        check_number("--share", self.share, 0.0, 1.0, open_low=True)


def main(argv: Sequence[str]) -> int:
    """Studies worlds and agents one by one, and writes the page."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    report = store.Report(args.out / "worlds.json", {"version": 1, "worlds": {}}, lambda _: None)
    report.read()
    with cpu_threads(args.threads):
        for name in args.worlds:
            world, folder = _scaled(WORLDS[name], args.share), args.runs_dir / name
            for agent in args.agents:
                if agent == "tried" and not world.is_shot:
                    continue
                entry = _study(world, agent, folder, args)
                print(name, agent, entry, flush=True)
                with report.update() as content:
                    content["worlds"].setdefault(name, {})[agent] = entry
    lines = page(report.read()["worlds"])
    store.write_text(args.out / "worlds.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


def _scaled(world: World, share: float) -> World:
    names = "steps", "rnn_steps", "episodes", "planned", "plays"
    sizes = {name: getattr(world, name) for name in names}
    return replace(world, **{n: max(8, round(share * size)) for n, size in sizes.items() if size})


def _study(world: World, agent: str, folder: Path, args: Args) -> dict[str, Any]:
    """What an agent reaches in a world, as JSON can hold it."""
    entry: dict[str, Any] = {"frames": world.learned * world.frames}
    env, seed, hold = world.make(world.plays), args.seed, world.hold
    if agent == "tried":
        begin = time.process_time()
        returns = _best_of_tries(world, env, seed)
        entry = {"ms_per_decision": 1000.0 * (time.process_time() - begin) / world.plays}
    elif agent == "random":
        entry, returns = {}, _returns(world, env, None, seed, hold)
    elif agent == "sac":
        policy, entry["training_seconds"] = sac.learn(world, folder / f"sac-{seed}", seed)
        returns = _returns(world, env, policy, seed, hold if world.is_shot else 1)
    else:
        model, entry["training_seconds"] = _learn(world, agent, folder, args)
        unseen = Recording.load(folder / "evaluation.npz")
        planner = planner_of(world, model, seed)
        timed = _Timed(planner, world.context_frames)
        returns = _returns(world, env, timed, seed, hold)
        plan = planner.plan(unseen.obs[:_TIMED, : world.context_frames])
        entry |= {
            **score(model, unseen).to_dict(),
            "planned_ticks": float(plan.ticks.double().mean()),
            "ms_per_decision": 1000.0 * timed.seconds / timed.decisions,
            "weights": sum(part.numel() for part in model.parameters()),
            "built_in": list(model.built_in),
        }
    env.close()
    ends = _interval(world, returns)
    return {
        **entry,
        "n": len(returns),
        "seed": seed,
        "mean_return": float(returns.mean()),
        "ci95": ends,
    }


def _recorded(world: World, folder: Path, seed: int) -> dict[str, RecordingConfig]:
    """Episodes of random actions by what they are for: to learn, to choose weights, to score."""
    timing: dict[str, Any] = {"hold": world.hold, "context_frames": world.context_frames}
    fewer, short = world.learned // 20, world.context_frames + world.horizon
    sizes = {
        "train": (world.episodes, world.frames),
        "validation": (max(50, fewer), short),
        "evaluation": (max(1000, fewer), short),
    }
    found = {}
    for (name, (count, frames)), offset in zip(sizes.items(), _SEEDS, strict=True):
        path = folder / f"{name}.npz"
        if not path.is_file():
            env = world.make(count)
            recording = record(env, count, frames, seed=seed + offset, **timing)
            env.close()
            if name == "train":
                recording = _pieces(world, recording)
            recording.save(path)
        found[name] = RecordingConfig(str(path), sha256_of(path))
    return found


def _pieces(world: World, recording: Recording) -> Recording:
    return recording if world.piece is None else recording.cut(world.piece)


def _learn(world: World, agent: str, folder: Path, args: Args) -> tuple[WorldModel, float]:
    """A model trained from recordings, and the seconds that it took."""
    data, run = _recorded(world, folder, args.seed), folder / f"{agent}-{args.seed}"
    if not world.planned:
        return _trained(world, agent, data, run, args)
    halves = replace(world, steps=world.steps // 2, rnn_steps=world.rnn_steps // 2)
    first, seconds = _trained(halves, agent, data, run.with_name(f"{run.name}-first"), args)
    path = folder / f"{run.name}.npz"
    if not path.is_file():
        env, policy = (
            world.make(world.planned),
            RecedingHorizon(planner_of(world, first, args.seed), world.context_frames),
        )
        planned = _play(world, env, world.planned, policy, args.seed + _PLANNED, world.hold)
        env.close()
        Recording.cat([Recording.load(data["train"].path), _pieces(world, planned)]).save(path)
    data["train"] = RecordingConfig(str(path), sha256_of(path))
    model, more = _trained(world, agent, data, run, args)
    return model, seconds + more


def _trained(
    world: World, agent: str, data: dict[str, RecordingConfig], run: Path, args: Args
) -> tuple[WorldModel, float]:
    jump = world.jump
    size, taken = jump.num_bodies * jump.body_size, jump.action_size
    rnn = RNNConfig(obs_size=size, action_size=taken, burn_in=world.context_frames)
    config = TrainingConfig(
        model=jump if agent == "jump" else rnn,
        train_data=data["train"],
        validation_data=data["validation"],
        steps=world.steps if agent == "jump" else world.rnn_steps,
        batch_size=world.batch_size if agent == "jump" else 256,
        **RECIPE,
        precision="float32" if agent == "jump" else "bfloat16",
        seed=args.seed,
        threads=args.threads,
    )
    best = train(config, run, resume=run.exists(), progress=False)
    return from_pretrained(best), training_seconds(run)


def planner_of(world: World, model: WorldModel, seed: int) -> GradientPlanner:
    """The same search for every model."""
    actions = ActionSequence(model, range(0, world.horizon, world.hold))
    return GradientPlanner(actions, world.objective, replace(world.search, seed=seed))


class _Timed(RecedingHorizon):
    """Knows how much time of the CPU it took to decide so often."""

    seconds, decisions = 0.0, 0

    def __call__(self, obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
        start = time.process_time()
        chosen = super().__call__(obs, action)
        self.seconds += time.process_time() - start
        self.decisions += len(obs)
        return chosen


def _returns(
    world: World, env: VectorEnv[Any, Any, Any], policy: Policy | None, seed: int, hold: int
) -> NDArray[np.float64]:
    """Of the episodes that all agents play."""
    played = _play(world, env, world.plays, policy, seed + _PLAYED, hold)
    returns: NDArray[np.float64] = played.reward.sum(axis=1)
    return returns


def _play(
    world: World,
    env: VectorEnv[Any, Any, Any],
    count: int,
    policy: Policy | None,
    seed: int,
    hold: int,
) -> Recording:
    timing: dict[str, Any] = {"hold": hold, "context_frames": world.context_frames}
    return record(env, count, world.frames, policy=policy, seed=seed, **timing)


def _best_of_tries(world: World, env: VectorEnv[Any, Any, Any], seed: int) -> NDArray[np.float64]:
    """Returns of the best of the same random shots, each played on all tables."""
    rng = np.random.default_rng(seed)
    best = np.full(world.plays, -np.inf)
    for shot in rng.uniform(-1.0, 1.0, (_TRIES, 2)).astype(np.float32):

        def same(obs: NDArray[Any], action: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.tile(shot, (len(obs), 1))  # noqa: B023

        best = np.maximum(best, _returns(world, env, same, seed, world.hold))
    return best


def _interval(world: World, returns: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean: Wilson's of a share, of returns that of a normal mean."""
    n, mean = len(returns), float(returns.mean())
    if world.is_shot:
        return wilson_interval(round(float(returns.sum())), n)
    error = 1.96 * float(returns.std(ddof=1)) / n**0.5
    return mean - error, mean + error
