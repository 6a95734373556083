"""Configuration of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from jumpy_mbrl import checks
from jumpy_mbrl.data.dataset import DatasetConfig
from jumpy_mbrl.data.loading import DataConfig
from jumpy_mbrl.data.recording import RecordingConfig
from jumpy_mbrl.data.tasks import TaskConfig
from jumpy_mbrl.models.registry import MODELS, ModelConfig, describe_model, model_name, of_today
from jumpy_mbrl.training.optimizer import OptimizerName

Schedule = Literal["exponential", "cosine"]
Precision = Literal["float32", "bfloat16"]

_FREE_ON_RESUME = ("device", "threads", "compile")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the weights a run ends with.

    Attributes:
        model: config of the model; its class says which model it is.
        train_data: sequences to learn from.
        validation_data: sequences to choose the best weights by.
        steps: updates of the weights. (Paper: 10,000.)
        batch_size: sequences, or events of each kind, in a batch. (Paper: 256.)
        optimizer: "adamw", or "muon": then matrices are changed by Muon, which learns these
            networks in fewer steps (docs/research_log.md), and the rest by AdamW.
        learning_rate: at the start. (Paper: 1e-3.)
        weight_decay: decoupled from the gradient.
        schedule: "exponential": the rate is multiplied by `decay` every `decay_every` steps;
            "cosine": it falls to zero at the last step along half a cosine.
        decay: factor of the exponential schedule. (Paper: 0.9.)
        decay_every: steps between two such factors. (Paper: 1000.)
        average: how much of the average of the weights each step keeps, in [0, 1), and the first
            steps less, n of them (1 + n) / (10 + n); 0 for none.
            The averaged weights are validated and saved; those that learn stay as they are.
        patience: end the run where so many validations in a row bring no better error; 0 for never.
        grad_clip: largest norm of the gradient; longer ones are scaled down.
        seed: of the first weights and of all draws.
        validation_interval: steps between two validations.
        checkpoint_interval: steps between two checkpoints.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        threads: CPU threads of torch; 0 leaves them as they are.
        precision: of the loss and its gradient. "bfloat16" (by torch.autocast; weights, optimizer
            and validation stay in float32, as do layers that read or write a few coordinates) takes
            half the time or less on a CPU that has bfloat16 instructions, and longer on others. Not
            for SpriteJump.
        compile: let torch.compile make the loss faster, after up to a minute of compiling. On a
            CPU the steps of the LatentJump, and of the RNN on pictures, become somewhat shorter,
            those of the ODE-RNN longer; ``scripts/bench.py train`` measures these. Measure others
            before a long run. Not for the JumpyRNN, whose loop over lines depends on the data.
        restart: step at which the cosine, at zero, begins again (Loshchilov and Hutter 2017), for
            models that learn one thing after the other; 0 for never.
    """

    model: ModelConfig
    train_data: DataConfig = field(default_factory=lambda: DatasetConfig(num_trajectories=100_000))
    validation_data: DataConfig = field(
        default_factory=lambda: DatasetConfig(num_trajectories=1000, split="validation")
    )
    steps: int = 10_000
    batch_size: int = 256
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "exponential"
    decay: float = 0.9
    decay_every: int = 1000
    average: float = 0.0
    patience: int = 0
    grad_clip: float = 1.0
    seed: int = 0
    validation_interval: int = 500
    checkpoint_interval: int = 500
    device: str = "auto"
    threads: int = 0
    precision: Precision = "float32"
    compile: bool = False
    restart: int = 0

    def __post_init__(self) -> None:
        least = {"patience": 0, "restart": 0, "seed": 0, "threads": 0}
        positive = ("learning_rate", "decay", "grad_clip")
        checks.check_fields(self, least, {"average": (0.0, 1.0)}, positive)
        if self.average == 1.0:
            raise ValueError(
                "expected average to be below 1, got 1.0, which keeps the first weights"
            )
        if self.restart and (self.schedule != "cosine" or self.restart >= self.steps):
            raise ValueError(
                f"expected restart=0, or a cosine schedule of more than {self.restart} steps to "
                f"begin again, got schedule={self.schedule!r}, steps={self.steps}"
            )
        name = model_name(self.model)
        kind = MODELS[name].model
        if self.precision not in kind.precisions:
            raise ValueError(
                f"expected precision {' or '.join(map(repr, kind.precisions))} for a {name}, whose "
                f"loss cannot be computed in another, got {self.precision!r}; leave it as it is"
            )
        if self.compile and not kind.compiles:
            raise ValueError(
                f"the work of a {kind.__name__}'s loss depends on the data, so compiling it takes "
                "minutes and gains nothing; leave compile=False"
            )
        about, other = _subject(self.train_data), _subject(self.validation_data)
        if about != other:
            raise ValueError(
                "train_data and validation_data must be recorded, of one table, or one task, got "
                f"{about} and {other}"
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the update number ``step``, from 0 on."""
        if self.schedule == "cosine":
            begin, end = (0, self.restart) if step < self.restart else (self.restart, self.steps)
            done = (step - begin) / max(end - begin, 1)
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        return self.learning_rate * self.decay ** (step // self.decay_every)

    def has_ended(self, step: int, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether a run ends after ``step`` updates and these validations, oldest first."""
        if step >= self.steps:
            return True
        errors = [entry["mse"] for entry in history]
        return 0 < self.patience < len(errors) and min(errors[-self.patience :]) >= min(
            errors[: -self.patience]
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        values = dict(vars(self))
        values["model"] = describe_model(self.model)
        values["train_data"] = self.train_data.to_dict()
        values["validation_data"] = self.validation_data.to_dict()
        return values


def _subject(data: DataConfig) -> Any:
    """The table, task or recording that all data of a run have in common."""
    if isinstance(data, RecordingConfig):
        return "recorded"
    if isinstance(data, TaskConfig):
        return data.task, data.csv
    return ("on a line", data.table) if data.on_line else data.table


def differences(expected: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Where two results of ``to_dict`` differ in settings that decide the weights.

    A setting that one of them lacks, because it was made before there was such a setting, counts
    as the default.
    """
    return sorted(checks.differences(_complete(expected), _complete(given)))


def _complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that decide weights, flat, with the defaults of those that ``values`` lacks."""
    about = dict(values.get("model", {}))
    model, given = about.get("name"), about.get("config")
    if isinstance(given, Mapping) and not (given.get("first_epsilon") and "annealing" in given):
        about["config"] = of_today(str(model), given)
    defaults = _default_fields(TrainingConfig)
    defaults["model"] = {"config": _default_fields(MODELS[model].config) if model in MODELS else {}}
    for name in ("train_data", "validation_data"):
        data = values.get(name, {})
        if "sha256" not in data:
            defaults[name] = (TaskConfig() if "task" in data else DatasetConfig()).to_dict()
    complete = {**checks.flat(defaults), **checks.flat({**values, "model": about})}
    return {name: value for name, value in complete.items() if name not in _FREE_ON_RESUME}


def _default_fields(config: type[Any]) -> dict[str, Any]:
    """Those fields of a config that have one value as their default."""
    return {f.name: f.default for f in fields(config) if f.default is not MISSING}
