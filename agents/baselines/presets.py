"""What defines a training run, and the runs with a name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.data.seeds import training_table_seeds, validation_table_seeds
from jumpy_mbrl.envs import BILLIARDS_2D, BILLIARDS_2D_SHOT
from jumpy_mbrl.envs.config import Start, check_start
from jumpy_mbrl.envs.rules import Reward, plane_task

Form = Literal["shot", "frame"]
Shown = Literal["coords", "state", "pixels"]
Activation = Literal["relu", "tanh"]
Schedule = Literal["constant", "linear"]

_CHOICES = {
    "form": get_args(Form),
    "obs_type": get_args(Shown),
    "reward": get_args(Reward),
    "activation": get_args(Activation),
    "schedule": get_args(Schedule),
}
_SPANS: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "at least 2": lambda value: value >= 2,
    "in [0, 1]": lambda value: 0.0 <= value <= 1.0,
    "finite": math.isfinite,
    "finite and not negative": lambda value: 0.0 <= value < math.inf,
    "positive and finite": lambda value: 0.0 < value < math.inf,
}
_FREE_ON_RESUME = ("timesteps", "device", "threads")
_STACKED = 4
"""Frames shown at once: those of the lead-in."""
_MOST_REPLAY = 8 * 2**30
"""Bytes of observations that a replay buffer may hold."""


@dataclass(frozen=True)
class PPOConfig:
    """What PPO alone has, in SB3's names.

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
        _check(self, "at least 1", "n_steps", "n_epochs")
        _check(self, "finite and not negative", "ent_coef")
        _check(self, "positive and finite", "clip_range")
        _check(self, "in [0, 1]", "gae_lambda")
        _check(self, "finite", "log_std_init")


@dataclass(frozen=True)
class SACConfig:
    """What SAC alone has, in SB3's names.

    Attributes:
        buffer_size: steps that are kept to learn from.
        learning_starts: random steps before the first update.
        gradient_steps: updates after each step on all tables.
        ent_coef: weight of the entropy. It stays as it is: SB3's own choice starts at 1, where a
            shot is worth 1 at most, and takes ten thousands of updates to let the policy choose.
        n_critics: networks whose lowest value counts. One is enough where every step ends an
            episode, as in the form of shots: no value is learned from another.
        n_steps: steps whose rewards are counted before the critic's own value of what follows. As
            many as an episode has, and hardly any value is learned from another: those of episodes
            alone that are still played when they are replayed.
    """

    buffer_size: int = 1_000_000
    learning_starts: int = 5000
    gradient_steps: int = 8
    ent_coef: float = 0.01
    n_critics: int = 2
    n_steps: int = 1

    def __post_init__(self) -> None:
        _check(self, "at least 1", "buffer_size", "gradient_steps", "n_critics", "n_steps")
        _check(self, "at least 0", "learning_starts")
        _check(self, "finite and not negative", "ent_coef")


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that decides what policy a run ends with; `ValueError` for a bad value, by name.

    Attributes:
        algorithm: PPO or SAC, by the class of its settings.
        form: "shot", a whole shot in one step (`Billiards2DShot-v0`), or "frame"
            (`Billiards2D-v0`).
        obs_type: what is seen: "coords", "state" or "pixels". In the form of frames, four frames
            of coords or pixels are stacked; one picture or place has no velocity.
        terminal: in the form of frames, whether the last frame ends a game, as it does with shots.
            Otherwise it is truncated there, as in the environment, and SB3 adds what the critic
            expects of frames to come.
        start: "moving", or "rest": all balls lie still at first.
        random_target: whether each episode draws its own target, which is then seen.
        reward: "sparse" or "dense", to learn from; success alone decides which policy is best.
        inside: a world model, by its shipped name or folder: the policy learns from what the model
            imagines of each table after its lead-in. Validation tables are real all the same.
        timesteps: steps to train for, on all tables together.
        n_envs: tables played at once.
        learning_rate: of Adam.
        schedule: "constant", or "linear": the rate falls to zero at the last step.
        batch_size: steps in one update.
        gamma: discount.
        net: sizes of the hidden layers, of policy and value alike.
        features: numbers that pictures are turned into before; for pixels alone.
        activation: between them: "relu" or "tanh".
        motion: show changes between frames in place of earlier frames (see `MotionFeatures`);
            for coords alone.
        relative: show besides how cue ball, object ball and target lie to one another (see
            `RelativeFeatures`); together with motion alone.
        seed: of the first weights, the actions and the tables.
        validation_interval: steps between two validations, each followed by a checkpoint.
        validation_tables: held-out tables of a validation; always the same.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        threads: CPU threads of torch; 0 leaves them as they are.
    """

    algorithm: PPOConfig | SACConfig
    form: Form = "shot"
    obs_type: Shown = "coords"
    terminal: bool = False
    start: Start = "moving"
    random_target: bool = False
    reward: Reward = "sparse"
    inside: str | None = None
    timesteps: int = 1_000_000
    n_envs: int = 1024
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    batch_size: int = 1024
    gamma: float = 0.99
    net: tuple[int, ...] = (256, 256)
    features: int = 256
    activation: Activation = "relu"
    motion: bool = False
    relative: bool = False
    seed: int = 0
    validation_interval: int = 50_000
    validation_tables: int = 1000
    device: str = "cpu"
    threads: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(unknown_name(name, getattr(self, name), known))
        check_start(self.start)
        _check(self, "at least 1", "timesteps", "n_envs", "batch_size", "features")
        _check(self, "at least 1", "validation_interval")
        _check(self, "positive and finite", "learning_rate")
        _check(self, "in [0, 1]", "gamma")
        if not self.net or min(self.net) < 1:
            raise ValueError(f"net must be sizes of at least 1, got {self.net}")
        if self.threads < 0:
            raise ValueError(f"threads must not be negative, got {self.threads}")
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
        if isinstance(self.algorithm, PPOConfig):
            self._check_batches(self.algorithm)
        else:
            self._check_replay(self.algorithm)

    @property
    def algorithm_name(self) -> str:
        """ "ppo" or "sac"."""
        return "ppo" if isinstance(self.algorithm, PPOConfig) else "sac"

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

    def _check_batches(self, ppo: PPOConfig) -> None:
        steps = self.n_envs * ppo.n_steps
        if steps < 2:
            raise ValueError(
                f"n_envs * n_steps must be at least 2, as PPO compares steps with their mean, got "
                f"{self.n_envs} * {ppo.n_steps}"
            )
        _check(self, "at least 2", "batch_size")
        if steps % self.batch_size:
            raise ValueError(
                f"batch_size must divide the {steps} steps (n_envs * n_steps) between two updates "
                f"of PPO, got {self.batch_size}"
            )

    def _check_replay(self, sac: SACConfig) -> None:
        task = plane_task(obs_type=self.obs_type, random_target=self.random_target)
        space: Any = task.observation_space(_STACKED if self.form == "shot" else self.stack)
        one = math.prod(space.shape) * space.dtype.itemsize
        size = 2 * one * sac.buffer_size  # each step's, and the next one's
        if size > _MOST_REPLAY:
            raise ValueError(
                f"buffer_size must be at most {_MOST_REPLAY // (2 * one):,} with obs_type "
                f"{self.obs_type!r}, got {sac.buffer_size:,}, whose observations would take "
                f"{size:,} bytes ({size / 2**30:.0f} GiB) of memory; give a smaller "
                "--algorithm.buffer-size"
            )


def folder_name(path: str) -> str:
    """The last part of a path, which says the same on every machine; a name stays what it is."""
    return Path(path).resolve().name


def _check(config: PPOConfig | SACConfig | PolicyConfig, must_be: str, *names: str) -> None:
    for name in names:
        if not _SPANS[must_be](getattr(config, name)):
            raise ValueError(f"{name} must be {must_be}, got {getattr(config, name)}")


_USUAL: dict[str, PPOConfig | SACConfig] = {"ppo": PPOConfig(), "sac": SACConfig()}


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A result of ``to_dict``, maybe of an earlier version, with all settings of this one.

    A setting that is new has the default that does as earlier versions did. `KeyError` unless it
    names its algorithm.
    """
    usual = PolicyConfig(_USUAL[settings["algorithm"]["name"]]).to_dict()
    own = {**usual["algorithm"], **settings["algorithm"]}
    return {**usual, **settings, "algorithm": own}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two results of ``to_dict`` disagree in, but for what may change when a run goes on."""
    before, after = completed(before), completed(after)
    return [
        f"{name}={after.get(name)!r} instead of {before.get(name)!r}"
        for name in sorted({*before, *after})
        if name not in _FREE_ON_RESUME and before.get(name) != after.get(name)
    ]


_PPO = PolicyConfig(PPOConfig(), reward="dense")
_PPO_SHOTS = replace(
    _PPO,
    algorithm=PPOConfig(n_steps=1, n_epochs=4, ent_coef=0.01),
    reward="sparse",
    timesteps=6_000_640,
    n_envs=2048,
    learning_rate=5e-4,
    batch_size=512,
    schedule="linear",
    net=(384, 384),
    validation_interval=1_000_000,
    validation_tables=2000,
)
# A policy alone shows its critic few shots that it does not like already: it is better for many
# that were drawn at random. The sizes leave a saved policy below 2 MB.
_SAC_SHOTS = PolicyConfig(
    SACConfig(
        buffer_size=3_000_000,
        learning_starts=100_000,
        gradient_steps=16,
        ent_coef=0.003,
        n_critics=1,
    ),
    timesteps=3_000_000,
    n_envs=1024,
    batch_size=1024,
    schedule="linear",
    net=(256, 256, 256),
    validation_interval=250_000,
    validation_tables=2000,
)
# Of all frames of an episode one decides: what a reward says of it must not fade on the way back,
# and takes many tables to be told from the rest.
_PPO_FRAMES = replace(
    _PPO_SHOTS,
    algorithm=PPOConfig(n_steps=44, n_epochs=4, gae_lambda=1.0),
    form="frame",
    timesteps=9_011_200,
    learning_rate=1e-3,
    batch_size=22_528,
    gamma=1.0,
    net=(256, 256),
    validation_interval=1_802_240,
    validation_tables=1000,
)
# Likewise all rewards of an episode are counted, and hardly a value is learned from another.
_SAC_FRAMES = replace(
    _SAC_SHOTS,
    algorithm=SACConfig(
        learning_starts=200_000, gradient_steps=4, ent_coef=0.0003, n_critics=1, n_steps=44
    ),
    form="frame",
    terminal=True,
    timesteps=1_000_000,
    n_envs=512,
    batch_size=4096,
    gamma=1.0,
    net=(256, 256),
    validation_interval=200_000,
    validation_tables=1000,
)
# Pictures cost a convolution each, and memory.
_PIXELS: dict[str, Any] = {"obs_type": "pixels", "net": (128, 128), "validation_tables": 500}
_SAC_PIXELS: dict[str, Any] = {**_PIXELS, "n_envs": 32, "batch_size": 256}
_LITTLE_REPLAY = SACConfig(buffer_size=20_000, learning_starts=5000, gradient_steps=4, n_critics=1)

POLICY_PRESETS: dict[str, PolicyConfig] = {
    "ppo-shot-coords": replace(_PPO_SHOTS, motion=True, relative=True),
    "ppo-shot-state": replace(_PPO_SHOTS, obs_type="state"),
    "ppo-shot-pixels": replace(
        _PPO_SHOTS,
        **_PIXELS,
        algorithm=PPOConfig(n_steps=1, n_epochs=3),
        n_envs=1024,
        learning_rate=1e-3,
        batch_size=1024,
        timesteps=61_440,
        validation_interval=10_240,
    ),
    "ppo-frame-coords": replace(_PPO_FRAMES, motion=True),
    "ppo-frame-state": replace(_PPO_FRAMES, obs_type="state"),
    "ppo-frame-pixels": replace(
        _PPO_FRAMES,
        **_PIXELS,
        n_envs=64,
        batch_size=704,
        timesteps=281_600,
        validation_interval=28_160,
    ),
    "ppo-rest-coords": replace(
        _PPO, motion=True, start="rest", timesteps=409_600, validation_interval=81_920
    ),
    "sac-shot-coords": replace(_SAC_SHOTS, motion=True, relative=True),
    # Little experience, and all of it learned from at once: for the beginning of a learning curve.
    "sac-early-coords": replace(
        _SAC_SHOTS,
        motion=True,
        relative=True,
        algorithm=SACConfig(learning_starts=1000, gradient_steps=16, ent_coef=0.003, n_critics=1),
        timesteps=10_000,
        n_envs=64,
        validation_interval=1000,
        validation_tables=1000,
    ),
    "sac-shot-state": replace(_SAC_SHOTS, obs_type="state"),
    "sac-shot-pixels": replace(
        _SAC_SHOTS,
        **_SAC_PIXELS,
        algorithm=_LITTLE_REPLAY,
        timesteps=20_000,
        validation_interval=4000,
    ),
    "sac-frame-coords": replace(_SAC_FRAMES, motion=True, relative=True),
    "sac-frame-state": replace(_SAC_FRAMES, obs_type="state"),
    "sac-frame-pixels": replace(
        _SAC_FRAMES,
        **_SAC_PIXELS,
        algorithm=replace(_LITTLE_REPLAY, gradient_steps=1, n_steps=44),
        timesteps=100_000,
        validation_interval=20_000,
    ),
}
"""Runs by name."""


def policy_preset(name: str) -> PolicyConfig:
    """The training run called ``name``; `ValueError` if there is none, with the nearest name."""
    if name not in POLICY_PRESETS:
        raise ValueError(unknown_name("preset", name, POLICY_PRESETS))
    return POLICY_PRESETS[name]
