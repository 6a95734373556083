"""Trains PPO, SAC and TQC, on the environment or inside a world model.

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
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common import vec_env
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from torch import nn
from tqdm import tqdm

from jumpy_mbrl import devices, files
from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.adapters.sb3 import SB3VecEnv, make_vec_env
from jumpy_mbrl.agents.baselines import policies
from jumpy_mbrl.agents.baselines.features import MotionFeatures, RelativeFeatures
from jumpy_mbrl.agents.baselines.presets import PolicyConfig, PPOConfig, changes
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.locks import own
from jumpy_mbrl.models import pretrained

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
            those that it imagined, and the context frames before them.
        seconds: of training so far, without validations.
        success: the fraction of held-out tables won, by the policy's mean actions.
        n: how many tables these were.
        contested: the same fraction of those that doing nothing loses; NaN if there are none, and
            in curves of old.
    """

    timesteps: int = 0
    frames: int = 0
    seconds: float = 0.0
    success: float = 0.0
    n: int = 0
    contested: float = math.nan

    def known(self) -> dict[str, Any]:
        """The figures that are known, as JSON can hold them."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}


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
    and, for SAC, the replay buffer of that moment. It does not end with the same bytes: SB3 keeps
    neither its random numbers nor the episodes that were running, which count as truncated. The
    checkpoint holds pickles; resume runs of your own.

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
    devices.resolve_device(config.device)
    record: dict[str, Any] = {"training": config.to_dict(), "versions": pretrained.versions()}
    if config.inside is not None:  # The weights too, wherever they lie.
        record[_WEIGHTS] = pretrained.pretrained_info(config.inside)["weights_sha256"]
    with devices.cpu_threads(config.threads), devices.plain_defaults(), own(folder):
        _check_folder(folder, record, resume)
        written = (CURVE, CHECKPOINT, REPLAY_BUFFER, f"{BEST}/{CONFIG}")
        files.check_writable(*(folder / name for name in written))
        env, held_out = make_env(config), make_env(config, held_out=True)
        goes_on = resume and (folder / CHECKPOINT).is_file()
        model = _load(config, folder, env) if goes_on else make_algorithm(config, env, folder)
        # Not before: a start that fails leaves no run behind.
        files.write_json(folder / CONFIG, record)
        # The tables of the first steps must not be dealt once more.
        tables = training_table_seeds(config.seed, 2**20)
        env.seed(tables[model.num_timesteps % (len(tables) - config.n_envs)])
        curve = [point for point in read_curve(folder) if point.timesteps <= model.num_timesteps]
        left = max(config.timesteps - model.num_timesteps, 0)
        done = model.num_timesteps
        # The bar of SB3 needs rich.
        with tqdm(total=done + left, initial=done, unit="step", disable=not progress) as bar:
            validation = _Validation(config, folder, held_out, curve, command, bar)
            if left or validation.best < 0.0:
                name = "scalars"
                model.learn(left, validation, reset_num_timesteps=False, tb_log_name=name)
                model.logger.close()
        env.close()
        held_out.close()
    return folder / BEST


def make_env(config: PolicyConfig, held_out: bool = False) -> vec_env.VecEnv:
    """The tables that a policy is trained on, or those that it is validated on.

    Validation tables are real, and won or not, whatever reward there is to learn from.
    """
    env: vec_env.VecEnv
    arguments: dict[str, Any] = {
        "obs_type": config.obs_type,
        "start": config.start,
        "random_target": config.random_target,
        "reward": "sparse" if held_out else config.reward,
    }
    if held_out or config.inside is None:
        count = config.validation_tables if held_out else config.n_envs
        env = make_vec_env(config.env_id, count, **arguments)
    else:
        device = devices.resolve_device(config.device)
        model = pretrained.from_pretrained(config.inside, device=device)
        arguments["autoreset_mode"] = AutoresetMode.SAME_STEP
        venv = WorldModelVectorEnv(model, config.n_envs, config.form, **arguments)
        env = vec_env.VecMonitor(SB3VecEnv(venv))
    if config.stack > 1:
        env = vec_env.VecFrameStack(env, config.stack)
    if config.obs_type == "pixels":
        env = vec_env.VecTransposeImage(env)
    return _Ending(env) if config.terminal else env


class _Ending(vec_env.VecEnvWrapper):
    """The last frame ends a game, as in the form of shots: who has not won by then has lost.

    For SB3 a truncated episode goes on unseen, for what its critic expects of it; without a clock
    among what is seen, that teaches the critic that every game is won in the end.
    """

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            info["TimeLimit.truncated"] = False
        return observations, rewards, dones, infos


def make_algorithm(
    config: PolicyConfig, env: vec_env.VecEnv, folder: Path | None = None
) -> BaseAlgorithm:
    """PPO, SAC or TQC before its first step in `make_env`; TensorBoard's scalars go to a folder."""
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
        for name in {"n_critics", "n_quantiles"} & own.keys():
            policy[name] = own.pop(name)
        steps = own.pop("n_steps")
        if steps > 1:  # In full, as SB3's own short form warns when such a policy is loaded.
            own["replay_buffer_class"] = NStepReplayBuffer
            own["replay_buffer_kwargs"] = {"n_steps": steps, "gamma": config.gamma}
    model: BaseAlgorithm = policies.algorithm_of(config.algorithm_name)(
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
        reader = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        if reader.fieldnames not in ([*_COLUMNS], [*_COLUMNS][:-1]):
            raise ValueError(f"the columns {reader.fieldnames}")
        points = []
        for row in reader:
            points.append(CurvePoint(**{name: _COLUMNS[name](text) for name, text in row.items()}))
            *figures, contested = astuple(points[-1])
            if not all(0 <= number < math.inf for number in figures) or abs(contested) > 1:
                raise ValueError(f"{points[-1]}")
        return points
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"expected validations in {path}, numbers in the columns {[*_COLUMNS]}, got "
            f"something else: {error}"
        ) from None


def write_curve(run_dir: str | os.PathLike[str], curve: Iterable[CurvePoint]) -> None:
    """Writes what `read_curve` reads."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[*_COLUMNS], *map(astuple, curve)])
    files.write_together(Path(run_dir), {CURVE: text.getvalue().encode()})


def play_out(env: vec_env.VecEnv, policy: Callable[[Any], Any]) -> NDArray[np.bool_]:
    """Which tables a policy wins, each played once, from the seed that ``env`` was given."""
    shown = env.reset()
    won, over = np.zeros((2, env.num_envs), np.bool_)
    while not over.all():
        shown, _, dones, infos = env.step(policy(shown))
        for row in np.flatnonzero(dones & ~over):
            won[row] = infos[row]["is_success"]
        over |= dones
    return won


class _Validation(EvalCallback):
    """SB3's evaluation, always on the same tables; the curve, the best policy and a checkpoint."""

    def __init__(
        self,
        config: PolicyConfig,
        folder: Path,
        held_out: vec_env.VecEnv,
        curve: list[CurvePoint],
        command: str | None,
        bar: Any,
    ) -> None:
        super().__init__(held_out, n_eval_episodes=config.validation_tables, eval_freq=1, verbose=0)
        self.interval = config.validation_interval
        self.training = {"command": command, **config.to_dict()}
        self.folder = folder
        self.curve = curve
        self.bar = bar
        self.last = curve[-1] if curve else CurvePoint()
        self.frames = self.last.frames
        self.best = _best_success(folder / BEST)
        self.won = np.zeros(config.validation_tables, np.bool_)
        self.idle_wins: NDArray[np.bool_] | None = None
        # A reset shows as many frames, of which SB3 is told no number.
        self.shown_at_reset = TableConfig().context_frames if config.form == "shot" else 1

    def _on_training_start(self) -> None:
        super()._on_training_start()
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                board = output.writer
                if len(os.listdir(board.log_dir)) > 1:  # What came after the checkpoint goes.
                    board.close()
                    output.writer = type(board)(board.log_dir, purge_step=self.num_timesteps + 1)
        self.started = time.perf_counter()

    def _on_step(self) -> bool:
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            self.frames += info.get("frames_played", 1) + self.shown_at_reset * bool(done)
        if self.num_timesteps - self.last.timesteps >= self.interval:
            self._validate()
        self.bar.update(self.num_timesteps - self.bar.n)
        return True

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        if locals_["done"]:
            self.won[locals_["i"]] = bool(locals_["info"]["is_success"])

    def _on_training_end(self) -> None:
        if self.last.timesteps < self.num_timesteps or self.best < 0.0:
            self._validate()

    def _validate(self) -> None:
        seconds = self.last.seconds + time.perf_counter() - self.started
        tables = validation_table_seeds(0, self.n_eval_episodes)
        self.eval_env.seed(tables[0])
        if self.idle_wins is None:
            nothing = np.zeros((len(self.won), 2), np.float32)
            self.idle_wins = play_out(self.eval_env, lambda _: nothing)
            self.eval_env.seed(tables[0])
        super()._on_step()
        hard = self.won[~self.idle_wins]
        self.last = CurvePoint(
            timesteps=self.num_timesteps,
            frames=self.frames,
            seconds=round(seconds, 3),
            success=round(self.last_mean_reward * len(tables)) / len(tables),  # SB3 sums float32
            n=len(tables),
            contested=float(hard.mean()) if len(hard) else math.nan,
        )
        self.curve[:] = [point for point in self.curve if point.timesteps < self.num_timesteps]
        self.curve.append(self.last)
        if self.last.success > self.best:
            self.best = self.last.success
            best, metrics = self.folder / BEST, self.last.known()
            policies.save_policy(self.model, best, training=self.training, metrics=metrics)
        _save(self.model, self.folder, self.curve)
        self.started = time.perf_counter()


def _save(model: BaseAlgorithm, folder: Path, curve: list[CurvePoint]) -> None:
    """Writes the checkpoint.

    The zip comes last: it says how far the run is. A replay buffer a little ahead of it does no
    harm, and points of the curve beyond it are dropped when the run goes on.
    """
    write_curve(folder, curve)
    if isinstance(model, OffPolicyAlgorithm):
        with files.atomic_write(folder / REPLAY_BUFFER) as temporary:
            model.save_replay_buffer(temporary)
            seal = _SEAL + bytes.fromhex(files.sha256_of(temporary))
            with temporary.open("ab") as stream:  # Readers of pickles stop before it.
                stream.write(seal)
    with files.atomic_write(folder / CHECKPOINT) as temporary:
        model.save(temporary)


def _best_success(folder: Path) -> float:
    """Success of the best policy so far; below 0 if there is none, or half of one."""
    if not policies.is_whole(folder):
        return -1.0
    metrics = policies.policy_info(folder)["metrics"]
    missing = [name for name in [*_COLUMNS][:-1] if name not in metrics]
    if missing:
        raise ValueError(
            f"expected {folder / CONFIG} to hold the metrics of a validation, lacks {missing}; "
            f"remove {folder}, and the best of the validations to come is written there"
        )
    return float(metrics["success"])


def _check_folder(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """`ValueError` for a new run where there is one, or an old one that is another."""
    path = folder / CONFIG
    if not resume and path.exists():
        raise ValueError(
            f"{folder} already holds a run; resume it, remove it, or choose another folder"
        )
    if not resume:
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


def _load(config: PolicyConfig, folder: Path, env: vec_env.VecEnv) -> BaseAlgorithm:
    """The algorithm as it was saved last."""
    path, kind = folder / CHECKPOINT, policies.algorithm_of(config.algorithm_name)
    try:
        board = _board(folder)
        model: BaseAlgorithm = kind.load(path, env, device=config.device, tensorboard_log=board)
        if isinstance(model, OffPolicyAlgorithm):
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
    """`ValueError` for a sealed file that was changed; earlier versions sealed none."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content) - hashlib.sha256().digest_size
        start = end - len(_SEAL)
        with memoryview(content) as whole, whole[:start] as body:
            if whole[start:end] == _SEAL and hashlib.sha256(body).digest() != content[end:]:
                raise ValueError("its checksum is that of other contents")


def _board(folder: Path) -> str | None:
    """Where TensorBoard's scalars go, if it is installed."""
    return str(folder) if importlib.util.find_spec("tensorboard") else None
