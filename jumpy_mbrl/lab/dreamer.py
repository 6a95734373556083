"""Trains DreamerV3 of sheeprl on the environments, and validates it on the tables of the policies.

    pip install sheeprl==0.8.4
    python scripts/study_dreamer.py --seed 0 --run-dir runs/dreamer-0    # a quarter of an hour
    python scripts/study_learning.py figure --policies runs/dreamer-0 --out results/learning

Its world model predicts frame after frame, or shot after shot, in a latent space; its policy learns
from what that imagines (Hafner et al. 2025). It is shown what `train_sb3.py` shows policies:
changes between frames, and places relative to the target. --run-dir holds what `study_learning.py`
reads: config.json, curve.csv.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from jumpy_mbrl import checks, devices, files
from jumpy_mbrl.agents.baselines import presets, train
from jumpy_mbrl.agents.baselines.features import RelativeFeatures
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.evaluation import make_tables
from jumpy_mbrl.locks import RUN_LOCK, own
from jumpy_mbrl.processes import called_as, check_at_once, process_pool

NAME = "dreamer_v3_5"
"""DreamerV3 as of the paper in Nature, by sheeprl's name."""
_STACKED = 4
_ENTRIES = 1024
"""Steps of the past in a batch."""
_SIZES = ("1M", "12M", "25M", "50M", "100M", "200M", "400M")
_OBS = "state"
_EPISODES = "episodes-{}.txt"
_PRESETS = {"shot": "sac-early-coords", "frame": "sac-frame-coords"}
"""Whose tables it plays on."""
Policy = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Args:
    """What to train."""

    run_dir: Path
    """Folder for all that is written; a new one, as interrupted runs begin anew."""
    form: Literal["shot", "frame"] = "shot"
    """What is one step: a whole "shot" or a "frame"."""
    timesteps: int = 10_048
    """Steps on all tables together."""
    n_envs: int = 16
    """Tables played at once."""
    updates: float = 0.25
    """Updates after each step, each by 1,024 steps of the past: sheeprl's replay_ratio."""
    random_steps: int = 1024
    """Steps before the first update."""
    learning_rate: float = 3e-4
    """Of LaProp, for world model, actor and critic alike."""
    size: str = "1M"
    """Of the networks, by sheeprl's names: 1M, 12M, 25M, 50M, 100M, 200M or 400M."""
    seed: int = 0
    """Of the weights, the actions and the tables."""
    validation_interval: int = 2512
    """Steps between two validations."""
    validation_tables: int = 1000
    """Held-out tables of a validation; always the same."""
    threads: int = 1
    """CPU threads of torch."""

    @property
    def length(self) -> int:
        """Of sequences to learn from. A shot is a whole episode: two entries, before and after."""
        return 8 if self.form == "shot" else 64

    @property
    def horizon(self) -> int:
        """Of what is imagined."""
        return 3 if self.form == "shot" else 15

    def check(self) -> None:
        """Raises `ValueError` for what cannot be trained."""
        for name in ("timesteps", "n_envs", "validation_interval"):
            checks.check_count(f"--{name.replace('_', '-')}", getattr(self, name))
        for name in ("updates", "learning_rate"):
            value = getattr(self, name)
            checks.check_number(f"--{name.replace('_', '-')}", value, 0.0, open_low=True)
        checks.check_choice("--size", self.size, _SIZES)
        checks.check_count("--random-steps", self.random_steps, 0)
        training_table_seeds(self.seed, self.n_envs)
        validation_table_seeds(0, self.validation_tables)
        check_at_once("--threads", self.threads)
        if self.validation_interval % self.n_envs or self.timesteps % self.n_envs:
            raise ValueError(
                f"expected --timesteps and --validation-interval to be steps of all {self.n_envs} "
                f"tables, got {self.timesteps} and {self.validation_interval}"
            )
        if importlib.util.find_spec("sheeprl") is None:
            raise ValueError("expected sheeprl, but it is missing: pip install sheeprl==0.8.4")

    def overrides(self) -> list[str]:
        """What sheeprl is told, beyond its own settings of DreamerV3."""
        told: dict[str, Any] = {
            "exp": NAME,
            "algo": f"{NAME}_{self.size}",
            "env": "gym",
            "env.wrapper._target_": f"{__name__}.make_table",
            "~env.wrapper.id": None,
            "~env.wrapper.render_mode": None,
            "+env.wrapper.form": self.form,
            "+env.wrapper.seed": 0,  # sheeprl puts in the seed and the number of each table
            "+env.wrapper.rank": 0,
            "env.id": self.form,
            "env.num_envs": self.n_envs,
            "env.sync_env": True,
            "env.capture_video": False,
            "algo.mlp_keys.encoder": f"[{_OBS}]",
            "algo.cnn_keys.encoder": "[]",
            "algo.total_steps": self.timesteps,
            "algo.learning_starts": self.random_steps,
            "algo.replay_ratio": self.updates,
            "algo.per_rank_sequence_length": self.length,
            "algo.per_rank_batch_size": _ENTRIES // self.length,
            "algo.horizon": self.horizon,
            "algo.optimizer.lr": self.learning_rate,
            "algo.run_test": False,
            "buffer.size": max(4 * self.timesteps, _ENTRIES * self.n_envs),
            "buffer.memmap": False,
            "buffer.checkpoint": False,
            "checkpoint.every": self.validation_interval,
            "checkpoint.keep_last": 1000,
            "metric.log_level": 0,
            "model_manager.disabled": True,
            "fabric.accelerator": "cpu",
            "hydra.run.dir": ".",
            "hydra.output_subdir": None,
            "seed": self.seed,
            "num_threads": self.threads,
        }
        return [
            name if name.startswith("~") else f"{name}={'null' if value is None else value}"
            for name, value in told.items()
        ]


def main(argv: Sequence[str]) -> int:
    """Trains, validates every checkpoint and prints the curve."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    with own(args.run_dir):
        if {path.name for path in args.run_dir.iterdir()} - {RUN_LOCK}:
            raise ValueError(f"{args.run_dir} already holds a run, or part of one; choose another")
        # In a process of its own: sheeprl sets threads, precision and seeds for all of it.
        with process_pool(1) as pool:
            pool.submit(learn, args.run_dir, args.overrides()).result()
        with devices.cpu_threads(args.threads):
            curve = validate(args)
        train.write_curve(args.run_dir, curve)
        files.write_json(args.run_dir / train.CONFIG, {"training": settings(args)})
    for point in curve:
        print(
            f"{point.timesteps:,} steps: {100 * point.success:.1f} % of {point.n:,} tables after "
            f"{point.frames:,} frames and {point.seconds:.0f} s"
        )
    return 0


def learn(folder: Path, overrides: Sequence[str]) -> None:
    """Runs sheeprl in a folder, which becomes that of this process."""
    from sheeprl.cli import run

    os.chdir(folder)
    sys.argv = ["sheeprl", *overrides]
    with contextlib.redirect_stdout(sys.stderr):
        run()


def settings(args: Args) -> dict[str, Any]:
    """The run as config.json tells of it."""
    usual = Args(args.run_dir)
    told = {name: value for name, value in vars(args).items() if name != "run_dir"}
    changed = {name: value for name, value in told.items() if value != getattr(usual, name)}
    command = called_as("study-dreamer", "study_dreamer", **changed, run_dir=args.run_dir.name)
    more = {"algorithm": {"name": "dreamer-v3"}, "label": f"dreamer-v3, by {args.form}s"}
    return {**told, **more, "inside": None, "command": command}


# -- tables to learn on --------------------------------------------------------------------------


def make_table(form: Literal["shot", "frame"], seed: int, rank: int) -> gym.Env[Any, Any]:
    """One table to learn on, which writes the frames of every episode into a file."""
    name = "Billiards2DShot-v0" if form == "shot" else "Billiards2D-v0"
    env: gym.Env[Any, Any] = gym.make(f"jumpy_mbrl:{name}", obs_type="coords")
    if form == "frame":
        env = gym.wrappers.FrameStackObservation(env, _STACKED, padding_type="zero")
    env = gym.wrappers.FlattenObservation(env)
    first = training_table_seeds(seed - rank, rank + 1)[rank]
    shown = _STACKED if form == "shot" else 1
    return _Told(env, Path(_EPISODES.format(rank)), first, shown)


class _Told(gym.Wrapper[Any, Any, Any, Any]):
    """Shows what policies see, on training tables alone; writes when it began, then a line of
    frames for each episode, of which a reset shows ``shown``."""

    def __init__(self, env: gym.Env[Any, Any], path: Path, first: int, shown: int) -> None:
        super().__init__(env)
        self._path, self._first = path, first
        self._features = _features(env.observation_space)
        size = self._features.features_dim
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._shown, self._frames = shown, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if not self._path.exists():
            self._path.write_text(f"{time.time()}\n")
        obs, info = self.env.reset(seed=None if seed is None else self._first, options=options)
        self._frames = self._shown
        return self._seen(obs), info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._frames += info.get("frames_played", 1)
        over = terminated or truncated
        if over:
            with self._path.open("a") as file:
                file.write(f"{self._frames}\n")
        # The last frame ends a game, as it does with shots.
        return self._seen(obs), reward, over, False, info

    def _seen(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        seen: NDArray[np.float32] = _show(self._features, obs[None])[0]
        return seen


def _features(space: gym.Space[Any]) -> RelativeFeatures:
    assert isinstance(space, gym.spaces.Box)
    return RelativeFeatures(space)


def _show(features: RelativeFeatures, obs: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return as_array(features(torch.from_numpy(obs)))


# -- validations ---------------------------------------------------------------------------------


def validate(args: Args) -> list[train.CurvePoint]:
    """The curve: what the policy of every checkpoint wins on validation tables."""
    found = {_steps(path): path for path in args.run_dir.rglob("ckpt_*.ckpt")}
    tables = make_tables(args.validation_tables, split="validation")
    config = replace(
        presets.POLICY_PRESETS[_PRESETS[args.form]], validation_tables=args.validation_tables
    )
    curve = []
    for steps, path in sorted(found.items()):
        frames, started = experience(args, steps)
        won = play(_policy(path, args.validation_tables), config)
        hard = won[~tables.idle_wins]
        curve.append(
            train.CurvePoint(
                timesteps=steps,
                frames=frames,
                seconds=round(path.stat().st_mtime - started, 3),
                success=float(won.mean()),
                n=len(won),
                contested=float(hard.mean()) if len(hard) else float("nan"),
            )
        )
    return curve


def experience(args: Args, steps: int) -> tuple[int, float]:
    """Frames of all tables in the first ``steps`` steps, and when the first of them was played."""
    frames, began = 0, []
    for rank in range(args.n_envs):
        first, *episodes = (args.run_dir / _EPISODES.format(rank)).read_text().split()
        began.append(float(first))
        mine = steps // args.n_envs
        if args.form == "shot":
            frames += sum(map(int, episodes[:mine]))
            continue
        for length in map(int, episodes):  # A step shows a frame, a reset one more.
            frames += min(length, mine + 1)
            mine -= min(length - 1, mine)
            if not mine:
                break
        else:
            frames += mine + 1
    return frames, min(began)


def _steps(path: Path) -> int:
    return int(path.stem.split("_")[1])


def _policy(path: Path, tables: int) -> Policy:
    """The policy of a checkpoint of one's own, with a memory of so many tables."""
    from lightning import Fabric
    from omegaconf import OmegaConf
    from sheeprl.algos.dreamer_v3_5.agent import build_agent
    from sheeprl.utils.utils import dotdict

    cfg: Any = OmegaConf.to_container(OmegaConf.load(path.parents[1] / "config.yaml"))
    state = torch.load(path, map_location="cpu", weights_only=False)
    space = _features(gym.spaces.Box(0.0, 1.0, (4 * _STACKED,), np.float32))
    seen = gym.spaces.Box(-np.inf, np.inf, (space.features_dim,), np.float32)
    *_, player = build_agent(
        Fabric(accelerator="cpu", devices=1),
        (2,),
        True,
        dotdict(cfg),
        gym.spaces.Dict({_OBS: seen}),
        state["world_model"],
        state["actor"],
    )
    player.num_envs = tables
    player.init_states()

    def choose(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # of its latent states, which are drawn
            shown = torch.from_numpy(_show(space, obs))[None]
            actions: NDArray[np.float32] = player.get_actions({_OBS: shown}, True)[0][0].numpy()
        return actions

    return choose


def play(policy: Policy, config: presets.PolicyConfig) -> NDArray[np.bool_]:
    """Which of the validation tables a policy wins."""
    env = train.make_env(config, held_out=True)
    env.seed(validation_table_seeds(0, config.validation_tables)[0])
    won = train.play_out(env, policy)
    env.close()
    return won
