"""Trains PPO and SAC of Stable-Baselines3, unmodified, on the environment or inside a world model.

A run's folder holds ``config.json``, ``curve.csv`` (success on held-out tables against steps,
frames of experience and seconds of training), what a run goes on from, and ``best/``, the best
policy so far, as ``load_policy`` takes it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import math
import mmap
import os
import time
from dataclasses import asdict, astuple, dataclass, fields
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
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
from jumpy_mbrl.agents.model_free import (
    ALGORITHMS,
    MotionFeatures,
    RelativeFeatures,
    is_whole,
    policy_info,
    save_policy,
)
from jumpy_mbrl.agents.policy_config import PolicyConfig, PPOConfig, changes, completed
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.devices import cpu_threads, plain_defaults, resolve_device
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.files import atomic_write, check_writable, sha256_of, write_json
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


def train_policy(
    config: PolicyConfig,
    run_dir: str | os.PathLike[str],
    *,
    resume: bool = False,
    command: str | None = None,
    progress: bool = True,
) -> Path:
    """Trains a policy and saves the one that won most validation tables.

    A run that was interrupted goes on from its last validation, with the weights, the optimizers
    and, for SAC, the replay buffer of that moment. It does not end with the same bytes as without
    the interruption: SB3 keeps neither the episodes that were running nor its random numbers. In a
    replay buffer of n steps, those episodes count as truncated. The checkpoint holds pickles;
    resume runs of your own.

    Args:
        config: the run.
        run_dir: folder for all that is written; TensorBoard's scalars too, if it is installed.
        resume: go on from the checkpoint in ``run_dir``, or from the start if there is none yet.
        command: the command line, for the record.
        progress: show a progress bar.

    Returns:
        The folder ``run_dir/best``.

    Raises:
        ValueError: for a device this machine does not have, or a ``run_dir`` that already holds a
            run (or none, or another one, to resume), or an unknown model to train inside.
        BlockingIOError: if another process trains in ``run_dir``.
    """
    folder = Path(run_dir)
    resolve_device(config.device)
    record = _record(config)
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
        curve = [point for point in read_curve(folder) if point.timesteps <= model.num_timesteps]
        # The tables of the first steps must not be dealt once more.
        tables = training_table_seeds(config.seed, 2**20)
        env.seed(tables[model.num_timesteps % (len(tables) - config.n_envs)])
        validation = _Validation(config, folder, held_out, curve, command)
        callbacks: list[BaseCallback] = [validation]
        if resume:
            callbacks.append(_Purge())
        if progress:
            callbacks.append(_Bar(config.timesteps))
        left = config.timesteps - model.num_timesteps
        if left > 0 or validation.best < 0.0:
            model.learn(
                max(left, 0), callback=callbacks, reset_num_timesteps=False, tb_log_name="scalars"
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
        env = _imagined(config, **arguments)
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
    """PPO or SAC before its first step.

    Args:
        config: the run.
        env: what `make_env` gives for it.
        folder: for TensorBoard's scalars, if it is installed.
    """
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


def _imagined(config: PolicyConfig, **arguments: Any) -> VecEnv:
    """The tables that a policy is trained on, inside a world model."""
    model = from_pretrained(str(config.inside), device=resolve_device(config.device))
    venv = WorldModelVectorEnv(
        model,
        config.n_envs,
        step_by=config.form,
        autoreset_mode=AutoresetMode.SAME_STEP,
        **arguments,
    )
    return VecMonitor(SB3VecEnv(venv))


def read_curve(run_dir: str | os.PathLike[str]) -> list[CurvePoint]:
    """The validations of a run so far, oldest first; none before the first.

    Raises:
        ValueError: for a damaged file.
    """
    path = Path(run_dir) / CURVE
    if not path.is_file():
        return []
    names = [entry.name for entry in fields(CurvePoint)]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != names:
                raise ValueError(f"the columns {reader.fieldnames}")
            points = [
                CurvePoint(
                    timesteps=int(row["timesteps"]),
                    frames=int(row["frames"]),
                    seconds=float(row["seconds"]),
                    success=float(row["success"]),
                    n=int(row["n"]),
                )
                for row in reader
            ]
        for point in points:
            if not all(0 <= number < math.inf for number in astuple(point)):
                raise ValueError(f"{point}")
        return points
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"expected validations in {path}, numbers in the columns {names}, got something else: "
            f"{error}"
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
    ) -> None:
        super().__init__(held_out, n_eval_episodes=config.validation_tables, eval_freq=1, verbose=0)
        self.training = {"command": command, **config.to_dict()}
        self.interval = config.validation_interval
        self.folder = folder
        self.curve = curve
        self.frames = curve[-1].frames if curve else 0
        self.seconds = curve[-1].seconds if curve else 0.0
        self.best = _best_success(folder / BEST)
        self._started = 0.0
        # A reset shows as many frames, of which SB3 is told no number.
        self._shown_at_reset = TableConfig().lead_in + 1 if config.form == "shot" else 1

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._started = time.perf_counter()

    def _on_step(self) -> bool:
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            self.frames += info.get("frames_played", 1) + self._shown_at_reset * bool(done)
        if self.num_timesteps - self._validated() >= self.interval:
            self._validate()
        return True

    def _on_training_end(self) -> None:
        if self._validated() < self.num_timesteps or self.best < 0.0:
            self._validate()

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
            save_policy(
                self.model, self.folder / BEST, training=self.training, metrics=asdict(point)
            )
        # The zip comes last: it says how far the run is. A replay buffer a little ahead of it does
        # no harm, and points of the curve beyond it are dropped when the run goes on.
        _write_curve(self.folder / CURVE, self.curve)
        if isinstance(self.model, SAC):
            with atomic_write(self.folder / REPLAY_BUFFER) as temporary:
                self.model.save_replay_buffer(temporary)
                _seal(temporary)
        with atomic_write(self.folder / CHECKPOINT) as temporary:
            self.model.save(temporary)


def _best_success(folder: Path) -> float:
    """What the best policy so far reached; less than nothing if there is none, or half of it."""
    if not is_whole(folder):
        return -1.0
    metrics = policy_info(folder)["metrics"]
    missing = [entry.name for entry in fields(CurvePoint) if entry.name not in metrics]
    if missing:
        raise ValueError(
            f"expected {folder / CONFIG} to hold the metrics of a validation, lacks {missing}; "
            f"remove {folder}, and the best of the validations to come is written there"
        )
    return float(metrics["success"])


class _Purge(BaseCallback):
    """Takes out of TensorBoard what was logged after the checkpoint that the run goes on from."""

    def _on_training_start(self) -> None:
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.close()
                output.writer = type(output.writer)(
                    output.writer.log_dir, purge_step=self.num_timesteps + 1
                )

    def _on_step(self) -> bool:
        return True


class _Bar(BaseCallback):
    """A progress bar; that of SB3 needs rich."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self.timesteps, initial=self.num_timesteps, unit="step")

    def _on_step(self) -> bool:
        self._bar.update(self.num_timesteps - self._bar.n)
        return True

    def _on_training_end(self) -> None:
        self._bar.close()


def _record(config: PolicyConfig) -> dict[str, Any]:
    """What the folder of a run says of it; of a world model the weights too, wherever it lies."""
    record = {"training": config.to_dict(), "versions": versions()}
    if config.inside is not None:
        record[_WEIGHTS] = pretrained_info(config.inside)["weights_sha256"]
    return record


def _check_folder(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Raises ``ValueError`` for a new run where there is one, or an old one that is another."""
    path = folder / CONFIG
    if not resume:
        if path.exists():
            raise ValueError(
                f"{folder} already holds a run; resume it, remove it, or choose another folder"
            )
        return
    before = _read_record(path)
    changed = changes(before["training"], record["training"])
    weights = record.get(_WEIGHTS)
    if before.get(_WEIGHTS, weights) != weights:
        changed.append(f"{_WEIGHTS}={weights} instead of {before[_WEIGHTS]}")
    if changed:
        raise ValueError(
            f"expected the config that the run in {folder} was started with, got "
            f"{', '.join(changed)}; give the same settings, or start a run in another folder"
        )


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"expected a run to resume in {path.parent}, but there is no {path.name} there; "
            "check the path, or start a run without resume"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        completed(record["training"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"expected {path} to be of a run of train_sb3.py, got something else; check the path"
        ) from None
    found: dict[str, Any] = record
    return found


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
            if isinstance(model.replay_buffer, NStepReplayBuffer):
                _cut_off(model.replay_buffer)
    except Exception as error:  # SB3 raises whatever it stumbles over
        raise ValueError(
            f"expected {path} as it was written, but it cannot be loaded: {error}; start the run "
            "anew in another folder"
        ) from error
    return model


def _seal(path: Path) -> None:
    """Adds its checksum to a pickle, whose readers stop before it."""
    seal = _SEAL + bytes.fromhex(sha256_of(path))
    with path.open("ab") as stream:
        stream.write(seal)


def _check_seal(stream: BufferedReader) -> None:
    """Raises ``ValueError`` for a sealed file that was changed; earlier versions sealed none."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start, end = content.rfind(_SEAL), len(content) - hashlib.sha256().digest_size
        if start != end - len(_SEAL):
            return
        with memoryview(content) as whole, whole[:start] as sealed:
            found = hashlib.sha256(sealed).digest()
        if found != content[end:]:
            raise ValueError("its checksum is that of other contents")


def _cut_off(buffer: NStepReplayBuffer) -> None:
    """Marks the steps stored last as truncated, unless they ended a game.

    Their games do not go on when the run does; without the mark, sums of n rewards would run from
    them into the new ones. At a truncation a sum ends, and the critic's value of what it would have
    led to is added.
    """
    if buffer.size():
        last = (buffer.pos - 1) % buffer.buffer_size
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1.0 - buffer.dones[last])


def _board(folder: Path) -> str | None:
    """Where TensorBoard's scalars go, if it is installed."""
    return str(folder) if importlib.util.find_spec("tensorboard") else None


def _write_curve(path: Path, curve: list[CurvePoint]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        names = [entry.name for entry in fields(CurvePoint)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(point) for point in curve)
