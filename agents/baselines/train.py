"""Trains PPO and SAC, on the environment or inside a world model.

A run's folder holds ``config.json``, ``curve.csv`` (success on held-out tables against steps,
frames of experience and seconds of training), what a run goes on from, and ``best/``, the best
policy so far, as ``load_policy`` takes it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import math
import mmap
import os
import time
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import nn
from tqdm import tqdm

from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.adapters.sb3 import SB3VecEnv, make_vec_env
from jumpy_mbrl.agents.baselines.features import MotionFeatures, RelativeFeatures
from jumpy_mbrl.agents.baselines.policies import ALGORITHMS, is_whole, policy_info, save_policy
from jumpy_mbrl.agents.baselines.presets import PolicyConfig, PPOConfig, changes
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.devices import cpu_threads, plain_defaults, resolve_device
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.files import atomic_write, check_writable, sha256_of, write_json, write_together
from jumpy_mbrl.locks import own
from jumpy_mbrl.models.pretrained import from_pretrained, pretrained_info, versions

CONFIG = "config.json"
CURVE = "curve.csv"
CHECKPOINT = "checkpoint.zip"
REPLAY_BUFFER = "replay_buffer.pkl"
BEST = "best"
_WEIGHTS = "inside_sha256"
"""Where a run's config has the checksum of the weights of the world model it is inside of."""
_SEAL = b"jumpy-mbrl sha256"
"""What stands before the checksum at the end of a replay buffer."""


@dataclass(frozen=True)
class CurvePoint:
    """One validation.

    Attributes:
        timesteps: steps so far, on all tables together.
        frames: of experience so far, the first one of every episode included; inside a world model
            those that it imagined, and the lead-ins before them.
        seconds: of training so far, without validations.
        success: the fraction of held-out tables won, by the policy's mean actions.
        n: how many tables these were.
    """

    timesteps: int = 0
    frames: int = 0
    seconds: float = 0.0
    success: float = 0.0
    n: int = 0


_COLUMNS: dict[str, Any] = {entry.name: type(entry.default) for entry in fields(CurvePoint)}


def train_policy(
    config: PolicyConfig,
    run_dir: str | os.PathLike[str],
    *,
    resume: bool = False,
    command: str | None = None,
    progress: bool = True,
) -> Path:
    """Trains a policy, saves the one that won most validation tables, and returns its folder.

    A run that was interrupted goes on from its last validation, with the weights, the optimizers
    and, for SAC, the replay buffer of that moment. It does not end with the same bytes as without
    the interruption: SB3 keeps neither the episodes that were running nor its random numbers. In a
    replay buffer of n steps, those episodes count as truncated. The checkpoint holds pickles;
    resume runs of your own.

    `ValueError` for a device this machine does not have, or a ``run_dir`` that already holds a run
    (or none, or another one, to resume), or an unknown model to train inside; `BlockingIOError` if
    another process trains in ``run_dir``.

    Args:
        config: the run.
        run_dir: folder for all that is written; TensorBoard's scalars too, if it is installed.
        resume: go on from the checkpoint in ``run_dir``, or from the start if there is none yet.
        command: the command line, for the record.
        progress: show a progress bar.
    """
    folder = Path(run_dir)
    resolve_device(config.device)
    record: dict[str, Any] = {"training": config.to_dict(), "versions": versions()}
    if config.inside is not None:  # The weights too, wherever they lie.
        record[_WEIGHTS] = pretrained_info(config.inside)["weights_sha256"]
    with cpu_threads(config.threads), plain_defaults(), own(folder):
        _check_folder(folder, record, resume)
        check_writable(*(folder / name for name in (CURVE, CHECKPOINT, REPLAY_BUFFER)))
        check_writable(folder / BEST / CONFIG)
        env, held_out = make_env(config), make_env(config, held_out=True)
        if resume and (folder / CHECKPOINT).is_file():
            model = _load(config, folder, env)
        else:
            model = make_algorithm(config, env, folder)
        write_json(folder / CONFIG, record)  # Not before: a start that fails leaves no run behind.
        # The tables of the first steps must not be dealt once more.
        tables = training_table_seeds(config.seed, 2**20)
        env.seed(tables[model.num_timesteps % (len(tables) - config.n_envs)])
        curve = [point for point in read_curve(folder) if point.timesteps <= model.num_timesteps]
        validation = _Validation(config, folder, held_out, curve, command, resume, progress)
        left = config.timesteps - model.num_timesteps
        if left > 0 or validation.best < 0.0:
            model.learn(
                max(left, 0), callback=validation, reset_num_timesteps=False, tb_log_name="scalars"
            )
            model.logger.close()
        env.close()
        held_out.close()
    return folder / BEST


def make_env(config: PolicyConfig, held_out: bool = False) -> VecEnv:
    """The tables that a policy is trained on, or those that it is validated on.

    Validation tables are real, and won or not, whatever reward there is to learn from.
    """
    arguments: dict[str, Any] = {
        "obs_type": config.obs_type,
        "start": config.start,
        "random_target": config.random_target,
        "reward": "sparse" if held_out else config.reward,
    }
    if held_out:
        env = make_vec_env(config.env_id, config.validation_tables, **arguments)
    elif config.inside is None:
        env = make_vec_env(config.env_id, config.n_envs, **arguments)
    else:
        model = from_pretrained(config.inside, device=resolve_device(config.device))
        mode = AutoresetMode.SAME_STEP
        venv = WorldModelVectorEnv(
            model, config.n_envs, config.form, autoreset_mode=mode, **arguments
        )
        env = VecMonitor(SB3VecEnv(venv))
    if config.stack > 1:
        env = VecFrameStack(env, config.stack)
    if config.obs_type == "pixels":
        env = VecTransposeImage(env)
    return _Ending(env) if config.terminal else env


class _Ending(VecEnvWrapper):
    """The last frame ends a game, as in the form of shots: who has not won by then has lost.

    For SB3 a truncated episode goes on unseen, for what its critic expects of it; without a clock
    among what is seen, that teaches the critic that every game is won in the end.
    """

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            info["TimeLimit.truncated"] = False
        return observations, rewards, dones, infos


def make_algorithm(config: PolicyConfig, env: VecEnv, folder: Path | None = None) -> BaseAlgorithm:
    """PPO or SAC before its first step in `make_env`; TensorBoard's scalars go to a folder."""
    rate = config.learning_rate
    policy: dict[str, Any] = {
        "net_arch": list(config.net),
        "activation_fn": nn.ReLU if config.activation == "relu" else nn.Tanh,
    }
    if config.obs_type == "pixels":
        policy["features_extractor_kwargs"] = {"features_dim": config.features}
    if config.motion:
        policy["features_extractor_class"] = RelativeFeatures if config.relative else MotionFeatures
    own = asdict(config.algorithm)
    if isinstance(config.algorithm, PPOConfig):
        policy["log_std_init"] = own.pop("log_std_init")
    else:
        own["train_freq"] = 1
        policy["n_critics"] = own.pop("n_critics")
        steps = own.pop("n_steps")
        if steps > 1:  # In full, as SB3's own short form warns when such a policy is loaded.
            own["replay_buffer_class"] = NStepReplayBuffer
            own["replay_buffer_kwargs"] = {"n_steps": steps, "gamma": config.gamma}
    model: BaseAlgorithm = ALGORITHMS[config.algorithm_name](
        "CnnPolicy" if config.obs_type == "pixels" else "MlpPolicy",
        env,
        learning_rate=LinearSchedule(rate, 0.0, 1.0) if config.schedule == "linear" else rate,
        batch_size=config.batch_size,
        gamma=config.gamma,
        policy_kwargs=policy,
        seed=config.seed,
        device=config.device,
        tensorboard_log=None if folder is None else _board(folder),
        **own,
    )
    return model


def read_curve(run_dir: str | os.PathLike[str]) -> list[CurvePoint]:
    """The validations of a run so far, oldest first; `ValueError` for a damaged file."""
    path = Path(run_dir) / CURVE
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [*_COLUMNS]:
                raise ValueError(f"the columns {reader.fieldnames}")
            points = [
                CurvePoint(**{name: kind(row[name]) for name, kind in _COLUMNS.items()})
                for row in reader
            ]
        for point in points:
            if not all(0 <= number < math.inf for number in astuple(point)):
                raise ValueError(f"{point}")
        return points
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"expected validations in {path}, numbers in the columns {[*_COLUMNS]}, got "
            f"something else: {error}"
        ) from None


class _Validation(EvalCallback):
    """SB3's evaluation, always on the same tables; the curve, the best policy and a checkpoint."""

    def __init__(
        self,
        config: PolicyConfig,
        folder: Path,
        held_out: VecEnv,
        curve: list[CurvePoint],
        command: str | None,
        resumed: bool,
        progress: bool,
    ) -> None:
        super().__init__(held_out, n_eval_episodes=config.validation_tables, eval_freq=1, verbose=0)
        self.config = config
        self.folder = folder
        self.curve = curve
        self.command = command
        self.resumed = resumed
        self.progress = progress
        self.frames = curve[-1].frames if curve else 0
        self.seconds = curve[-1].seconds if curve else 0.0
        self.best = _best_success(folder / BEST)
        # A reset shows as many frames, of which SB3 is told no number.
        self._shown_at_reset = TableConfig().lead_in + 1 if config.form == "shot" else 1

    def _on_training_start(self) -> None:
        super()._on_training_start()
        for output in self.logger.output_formats:
            if self.resumed and isinstance(output, TensorBoardOutputFormat):
                output.writer.close()  # What was logged after the checkpoint goes.
                output.writer = type(output.writer)(
                    output.writer.log_dir, purge_step=self.num_timesteps + 1
                )
        self._bar = tqdm(  # That of SB3 needs rich.
            total=self.config.timesteps,
            initial=self.num_timesteps,
            unit="step",
            disable=not self.progress,
        )
        self._started = time.perf_counter()

    def _on_step(self) -> bool:
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            self.frames += info.get("frames_played", 1) + self._shown_at_reset * bool(done)
        if self.num_timesteps - self._validated() >= self.config.validation_interval:
            self._validate()
        self._bar.update(self.num_timesteps - self._bar.n)
        return True

    def _on_training_end(self) -> None:
        if self._validated() < self.num_timesteps or self.best < 0.0:
            self._validate()
        self._bar.close()

    def _validated(self) -> int:
        return self.curve[-1].timesteps if self.curve else 0

    def _validate(self) -> None:
        self.seconds += time.perf_counter() - self._started
        tables = validation_table_seeds(0, self.n_eval_episodes)
        self.eval_env.seed(tables[0])
        super()._on_step()
        point = CurvePoint(
            timesteps=self.num_timesteps,
            frames=self.frames,
            seconds=round(self.seconds, 3),
            success=round(self.last_mean_reward * len(tables)) / len(tables),  # SB3 sums float32
            n=len(tables),
        )
        self.curve[:] = [other for other in self.curve if other.timesteps < point.timesteps]
        self.curve.append(point)
        self._save(point)
        self._started = time.perf_counter()

    def _save(self, point: CurvePoint) -> None:
        if point.success > self.best:
            self.best = point.success
            training = {"command": self.command, **self.config.to_dict()}
            save_policy(self.model, self.folder / BEST, training=training, metrics=asdict(point))
        # The zip comes last: it says how far the run is. A replay buffer a little ahead of it does
        # no harm, and points of the curve beyond it are dropped when the run goes on.
        text = io.StringIO(newline="")
        rows = [[*_COLUMNS], *map(astuple, self.curve)]
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_together(self.folder, {CURVE: text.getvalue().encode()})
        if isinstance(self.model, SAC):
            with atomic_write(self.folder / REPLAY_BUFFER) as temporary:
                self.model.save_replay_buffer(temporary)
                seal = _SEAL + bytes.fromhex(sha256_of(temporary))
                with temporary.open("ab") as stream:  # Readers of pickles stop before it.
                    stream.write(seal)
        with atomic_write(self.folder / CHECKPOINT) as temporary:
            self.model.save(temporary)


def _best_success(folder: Path) -> float:
    """What the best policy so far reached; less than nothing if there is none, or half of it."""
    if not is_whole(folder):
        return -1.0
    metrics = policy_info(folder)["metrics"]
    missing = [name for name in _COLUMNS if name not in metrics]
    if missing:
        raise ValueError(
            f"expected {folder / CONFIG} to hold the metrics of a validation, lacks {missing}; "
            f"remove {folder}, and the best of the validations to come is written there"
        )
    return float(metrics["success"])


def _check_folder(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Raises ``ValueError`` for a new run where there is one, or an old one that is another."""
    path = folder / CONFIG
    if not resume:
        if path.exists():
            raise ValueError(
                f"{folder} already holds a run; resume it, remove it, or choose another folder"
            )
        return
    if not path.is_file():
        raise ValueError(
            f"expected a run to resume in {folder}, but there is no {CONFIG} there; check the "
            "path, or start a run without resume"
        )
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = changes(before["training"], record["training"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"expected {path} to be of a run of train_sb3.py, got something else; check the path"
        ) from None
    weights = record.get(_WEIGHTS)
    if before.get(_WEIGHTS, weights) != weights:
        changed.append(f"{_WEIGHTS}={weights} instead of {before[_WEIGHTS]}")
    if changed:
        raise ValueError(
            f"expected the config that the run in {folder} was started with, got "
            f"{', '.join(changed)}; give the same settings, or start a run in another folder"
        )


def _load(config: PolicyConfig, folder: Path, env: VecEnv) -> BaseAlgorithm:
    """The algorithm as it was saved last."""
    path = folder / CHECKPOINT
    try:
        model: BaseAlgorithm = ALGORITHMS[config.algorithm_name].load(
            path, env, device=config.device, tensorboard_log=_board(folder)
        )
        if isinstance(model, SAC):
            path = folder / REPLAY_BUFFER
            with path.open("rb") as stream:  # SB3 leaves a broken one open.
                _check_seal(stream)
                model.load_replay_buffer(stream)
            buffer = model.replay_buffer
            if isinstance(buffer, NStepReplayBuffer) and buffer.size():
                # Its games do not go on: without a mark, sums of n rewards would run into new ones.
                last = (buffer.pos - 1) % buffer.buffer_size
                buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1.0 - buffer.dones[last])
    except Exception as error:  # SB3 raises whatever it stumbles over
        raise ValueError(
            f"expected {path} as it was written, but it cannot be loaded: {error}; start the run "
            "anew in another folder"
        ) from error
    return model


def _check_seal(stream: io.BufferedReader) -> None:
    """Raises ``ValueError`` for a sealed file that was changed; earlier versions sealed none."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content) - hashlib.sha256().digest_size
        start = end - len(_SEAL)
        if content[start:end] != _SEAL:
            return
        with memoryview(content) as whole, whole[:start] as sealed:
            found = hashlib.sha256(sealed).digest()
        if found != content[end:]:
            raise ValueError("its checksum is that of other contents")


def _board(folder: Path) -> str | None:
    """Where TensorBoard's scalars go, if it is installed."""
    return str(folder) if importlib.util.find_spec("tensorboard") else None
