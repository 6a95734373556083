"""Configuration of a policy's training run, and the presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jumpy_mbrl import checks
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.envs import BILLIARDS_2D, BILLIARDS_2D_SHOT
from jumpy_mbrl.envs.config import Start
from jumpy_mbrl.envs.rules import Reward, plane_task

_LEAST = {"learning_starts": 0, "seed": 0, "threads": 0, "top_quantiles_to_drop_per_net": 0}
"""Least values of settings that are counts; of all others it is 1."""
_SPANS = {"gamma": (0.0, 1.0), "gae_lambda": (0.0, 1.0), "log_std_init": (-math.inf, math.inf)}
"""Least and greatest values of settings that are numbers; all others are not negative."""
_POSITIVE = ("clip_range", "learning_rate")
_FREE_ON_RESUME = ("timesteps", "device", "threads")
_STACKED = 4
"""Frames shown at once: the context frames."""
_MOST_REPLAY = 8 * 2**30
"""Bytes of observations that a replay buffer may hold."""


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO alone, by SB3's names.

    Attributes:
        n_steps: steps on every table between two updates.
        n_epochs: passes over what these gave.
        ent_coef: weight of the entropy.
        clip_range: how far the probability of an action may change, as a ratio.
        gae_lambda: of the advantages.
        log_std_init: logarithm of the actions' first standard deviation.
    """

    n_steps: int = 4
    n_epochs: int = 10
    ent_coef: float = 0.0
    clip_range: float = 0.2
    gae_lambda: float = 0.95
    log_std_init: float = -0.7

    def __post_init__(self) -> None:
        checks.check_fields(self, _LEAST, _SPANS, _POSITIVE)


@dataclass(frozen=True)
class SACConfig:
    """Settings of SAC alone, by SB3's names.

    Attributes:
        buffer_size: steps that are kept to learn from.
        learning_starts: random steps before the first update.
        gradient_steps: updates after each step on all tables.
        ent_coef: weight of the entropy, which stays as it is: SB3's own choice starts at 1, where a
            shot is worth 1 at most, and takes ten thousands of updates to let the policy choose.
        n_critics: networks whose lowest value counts; one is enough where every step is an episode.
        n_steps: steps whose rewards are counted before the critic's own value of what follows.
    """

    buffer_size: int = 1_000_000
    learning_starts: int = 5000
    gradient_steps: int = 8
    ent_coef: float = 0.01
    n_critics: int = 2
    n_steps: int = 1

    def __post_init__(self) -> None:
        checks.check_fields(self, _LEAST, _SPANS, _POSITIVE)


@dataclass(frozen=True)
class TQCConfig(SACConfig):
    """Settings of TQC of sb3-contrib alone (Kuznetsov et al. 2020), by its names: SAC whose critics
    tell how returns are distributed.

    Attributes:
        n_quantiles: quantiles of a critic.
        top_quantiles_to_drop_per_net: so many of the highest are not believed.
    """

    n_quantiles: int = 25
    top_quantiles_to_drop_per_net: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_quantiles_to_drop_per_net >= self.n_quantiles:
            raise ValueError(
                f"top_quantiles_to_drop_per_net must be below n_quantiles={self.n_quantiles}, got "
                f"{self.top_quantiles_to_drop_per_net}"
            )


ALGORITHMS: dict[str, type[PPOConfig | SACConfig]] = {
    "ppo": PPOConfig,
    "sac": SACConfig,
    "tqc": TQCConfig,
}
"""The settings of each algorithm, by its name."""


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that decides what policy a run ends with; `ValueError` for a bad value, by name.

    Attributes:
        algorithm: PPO, SAC or TQC, by the class of its settings.
        form: what is one step: a whole "shot" (`Billiards2DShot-v0`) or a "frame".
        obs_type: "coords", "state" or "pixels"; by frames, four of coords or pixels are stacked.
        terminal: by frames, whether the last one ends a game, as it does with shots. Otherwise it
            is truncated there, and SB3 adds what the critic expects of frames to come.
        start: "moving", or "rest": all balls lie still at first.
        random_target: whether each episode draws its own target, which is then seen.
        reward: "sparse" or "dense", to learn from; success alone decides which policy is best.
        inside: a world model, by its shipped name or folder, to learn from what it imagines of
            each table after its context frames. Validation tables are real all the same.
        timesteps: steps to train for, on all tables together.
        n_envs: tables played at once.
        learning_rate: of Adam.
        schedule: "constant", or "linear": the rate falls to zero at the last step.
        batch_size: steps in one update.
        gamma: discount.
        net: sizes of the hidden layers, of policy and value alike.
        features: numbers that pictures are turned into before; for pixels alone.
        activation: between them: "relu" or "tanh".
        motion: show changes between frames in place of earlier frames; for coords alone.
        relative: show besides how both balls and the target lie to one another; with motion alone.
        seed: of the first weights, the actions and the tables.
        validation_interval: steps between two validations, each followed by a checkpoint.
        validation_tables: held-out tables of a validation; always the same.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        threads: CPU threads of torch; 0 leaves them as they are.
    """

    algorithm: PPOConfig | SACConfig | TQCConfig
    form: Literal["shot", "frame"] = "shot"
    obs_type: Literal["coords", "state", "pixels"] = "coords"
    terminal: bool = False
    start: Start = "moving"
    random_target: bool = False
    reward: Reward = "sparse"
    inside: str | None = None
    timesteps: int = 1_000_000
    n_envs: int = 1024
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear"] = "constant"
    batch_size: int = 1024
    gamma: float = 0.99
    net: tuple[int, ...] = (256, 256)
    features: int = 256
    activation: Literal["relu", "tanh"] = "relu"
    motion: bool = False
    relative: bool = False
    seed: int = 0
    validation_interval: int = 50_000
    validation_tables: int = 1000
    device: str = "cpu"
    threads: int = 0

    def __post_init__(self) -> None:
        checks.check_fields(self, _LEAST, _SPANS, _POSITIVE)
        if not self.net or min(self.net) < 1:
            raise ValueError(f"net must be sizes of at least 1, got {self.net}")
        if self.motion and self.obs_type != "coords":
            raise ValueError(f"motion is for obs_type 'coords' alone, got {self.obs_type!r}")
        if self.terminal and self.form != "frame":
            raise ValueError("terminal is for form 'frame' alone; a whole shot ends a game anyway")
        if self.relative and not self.motion:
            raise ValueError("relative adds to what motion shows, got relative=True, motion=False")
        if self.inside is not None and self.obs_type == "state":
            raise ValueError("obs_type 'state' holds velocities, which no world model imagines")
        training_table_seeds(self.seed, self.n_envs)
        validation_table_seeds(0, self.validation_tables)
        if isinstance(self.algorithm, SACConfig):
            self._check_replay(self.algorithm.buffer_size)
            return
        steps = self.n_envs * self.algorithm.n_steps
        if steps < 2 or self.batch_size < 2:
            raise ValueError(
                f"n_envs * n_steps and batch_size must be at least 2, as PPO compares steps with "
                f"their mean, got {self.n_envs} * {self.algorithm.n_steps} and {self.batch_size}"
            )
        if steps % self.batch_size:
            raise ValueError(
                f"batch_size must divide the {steps} steps (n_envs * n_steps) between two updates "
                f"of PPO, got {self.batch_size}"
            )

    @property
    def algorithm_name(self) -> str:
        """ "ppo", "sac" or "tqc"."""
        kinds = {kind: name for name, kind in ALGORITHMS.items()}
        return kinds[type(self.algorithm)]

    @property
    def env_id(self) -> str:
        """The environment."""
        return BILLIARDS_2D_SHOT if self.form == "shot" else BILLIARDS_2D

    @property
    def stack(self) -> int:
        """Observations stacked by the adapter; the form of shots shows four frames anyway."""
        return _STACKED if self.form == "frame" and self.obs_type != "state" else 1

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold, the same on every machine."""
        values = asdict(self)
        values["algorithm"] = {"name": self.algorithm_name, **values["algorithm"]}
        values["net"] = list(self.net)
        values["inside"] = None if self.inside is None else folder_name(self.inside)
        return values

    def _check_replay(self, buffer_size: int) -> None:
        task = plane_task(obs_type=self.obs_type, random_target=self.random_target)
        space: Any = task.observation_space(_STACKED if self.form == "shot" else self.stack)
        step = 2 * math.prod(space.shape) * space.dtype.itemsize  # its own, and the next one's
        size = step * buffer_size
        if size > _MOST_REPLAY:
            raise ValueError(
                f"buffer_size must be at most {_MOST_REPLAY // step:,} with obs_type "
                f"{self.obs_type!r}, got {buffer_size:,}, whose observations would take "
                f"{size:,} bytes ({size / 2**30:.0f} GiB) of memory; give a smaller "
                "--algorithm.buffer-size"
            )


def folder_name(path: str) -> str:
    """The last part of a path, which says the same on every machine; a name stays what it is."""
    return Path(path).resolve().name


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A result of `to_dict`, maybe of an earlier version, with all settings of this one.

    A setting that is new has the default that does as earlier versions did. `KeyError` unless it
    names its algorithm.
    """
    usual = PolicyConfig(ALGORITHMS[settings["algorithm"]["name"]]()).to_dict()
    return {**usual, **settings, "algorithm": {**usual["algorithm"], **settings["algorithm"]}}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Where two results of `to_dict` differ, but for settings that may change on resume."""
    before, after = completed(before), completed(after)
    return [
        f"{name}={after.get(name)!r} instead of {before.get(name)!r}"
        for name in sorted({*before, *after})
        if name not in _FREE_ON_RESUME and before.get(name) != after.get(name)
    ]


_PPO_SHOTS = PolicyConfig(
    PPOConfig(n_steps=1, n_epochs=4, ent_coef=0.01),
    timesteps=6_000_640,
    n_envs=2048,
    learning_rate=5e-4,
    batch_size=512,
    schedule="linear",
    net=(384, 384),
    validation_interval=1_000_000,
    validation_tables=2000,
)
# Of all frames of an episode one decides: what a reward says of it must not fade on the way back,
# and takes many tables to be told from the rest.
_PPO_FRAMES = PolicyConfig(
    PPOConfig(n_steps=44, n_epochs=4, gae_lambda=1.0),
    form="frame",
    timesteps=9_011_200,
    n_envs=2048,
    batch_size=22_528,
    schedule="linear",
    gamma=1.0,
    validation_interval=1_802_240,
)
# A policy alone shows its critic few shots that it does not like already: it is better for many
# that were drawn at random. The sizes leave a saved policy below 2 MB.
_SAC = SACConfig(3_000_000, 100_000, gradient_steps=16, ent_coef=0.003, n_critics=1)
_SAC_SHOTS = PolicyConfig(
    _SAC,
    timesteps=3_000_000,
    schedule="linear",
    net=(256, 256, 256),
    validation_interval=250_000,
    validation_tables=2000,
)
# As for PPO: all rewards of an episode are counted, and hardly a value is learned from another.
_SAC_FRAMES = PolicyConfig(
    SACConfig(1_000_000, 200_000, gradient_steps=4, ent_coef=0.0003, n_critics=1, n_steps=44),
    form="frame",
    terminal=True,
    n_envs=512,
    batch_size=4096,
    schedule="linear",
    gamma=1.0,
    validation_interval=200_000,
)
_SAC_PIXELS = SACConfig(20_000, gradient_steps=4, n_critics=1)


_EARLY = replace(
    _SAC_SHOTS,
    algorithm=replace(_SAC, buffer_size=1_000_000, learning_starts=1000),
    timesteps=10_000,
    n_envs=64,
    motion=True,
    relative=True,
    validation_interval=1000,
    validation_tables=1000,
)
_SMALL: dict[str, Any] = {"n_envs": 32, "batch_size": 256}


def _runs(
    name: str, base: PolicyConfig, timesteps: int, interval: int, **pixels: Any
) -> dict[str, PolicyConfig]:
    """A run for each kind of observation; pictures cost a convolution each, and memory."""
    pixels |= {"timesteps": timesteps, "validation_interval": interval, "net": (128, 128)}
    return {
        f"{name}-coords": replace(base, motion=True, relative=name != "ppo-frame"),
        f"{name}-state": replace(base, obs_type="state"),
        f"{name}-pixels": replace(base, obs_type="pixels", validation_tables=500, **pixels),
    }


# Three settings were tried; all ended in one shot for all tables (docs/research_log.md).
_SHOT_PIXELS: dict[str, Any] = {
    "algorithm": PPOConfig(n_steps=1, n_epochs=3),
    "n_envs": 2048,
    "batch_size": 2048,
}
_FRAME_PIXELS = replace(_SAC_PIXELS, gradient_steps=1, n_steps=44)
POLICY_PRESETS: dict[str, PolicyConfig] = {
    **_runs("ppo-shot", _PPO_SHOTS, 409_600, 40_960, learning_rate=2e-4, **_SHOT_PIXELS),
    **_runs("ppo-frame", _PPO_FRAMES, 281_600, 28_160, n_envs=64, batch_size=704),
    "ppo-rest-coords": PolicyConfig(
        PPOConfig(),
        start="rest",
        reward="dense",
        timesteps=409_600,
        motion=True,
        validation_interval=81_920,
    ),
    **_runs("sac-shot", _SAC_SHOTS, 20_000, 4000, algorithm=_SAC_PIXELS, **_SMALL),
    # Little experience, and all of it learned from at once: for the beginning of a learning curve.
    "sac-early-coords": _EARLY,
    "tqc-early-coords": replace(
        _EARLY, algorithm=TQCConfig(1_000_000, 1000, gradient_steps=16, ent_coef=0.003)
    ),
    **_runs("sac-frame", _SAC_FRAMES, 100_000, 20_000, algorithm=_FRAME_PIXELS, **_SMALL),
}
"""Runs by name."""


def policy_preset(name: str) -> PolicyConfig:
    """The training run called `name`; `ValueError` if there is none, with the nearest name."""
    checks.check_choice("preset", name, POLICY_PRESETS)
    return POLICY_PRESETS[name]
