"""What an agent was given before it plays: experience, training, size, and prior knowledge."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.files import entries_of
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.pretrained import pretrained_info
from jumpy_mbrl.shipped import CONFIG

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent


@dataclass(frozen=True)
class Given:
    """What an agent was given; of an ensemble all its models together.

    Attributes:
        samples: sequences or events that were drawn to learn from (updates x batch size); None if
            that is not on record, as of policies.
        best_samples: the same up to the update whose weights were kept.
        training_seconds: of training; of a policy up to the version that was kept.
        weights: number of parameters; None if there is no network.
        built_in: what it knows without having learned it, in words; None if it says nothing.
        models: how many world models it plans with.
    """

    samples: int | None = None
    best_samples: int | None = None
    training_seconds: float | None = None
    weights: int | None = None
    built_in: tuple[str, ...] | None = None
    models: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return {**vars(self), "built_in": None if self.built_in is None else [*self.built_in]}


def given_to(agent: Agent) -> Given:
    """What an agent was given, by its models and their records; of others as it says itself.

    A record is what ``save_pretrained`` writes. Of its ``training`` are read ``config`` (``steps``
    and ``batch_size``), ``steps`` if fewer were made, and ``seconds``; of its ``metrics``
    ``validation_step``. `ValueError` if these are not numbers.
    """
    model = getattr(agent, "model", None)
    if not isinstance(model, WorldModel):
        names = ("training_seconds", "weights", "built_in")
        told: dict[str, Any] = {name: getattr(agent, name, None) for name in names}
        return Given(**told)
    models: list[WorldModel] = [model, *getattr(agent, "ensemble", ())]
    with _entries(agent, "training"):
        trainings = [_training(record) for record in _records(agent)]
    samples, best_samples, seconds = (_sum(part) for part in zip(*trainings, strict=True))
    return Given(
        samples=samples,
        best_samples=best_samples,
        training_seconds=seconds,
        weights=sum(part.numel() for member in models for part in member.parameters()),
        built_in=tuple(dict.fromkeys(word for member in models for word in member.built_in)),
        models=len(models),
    )


def training_frames(agent: Agent) -> int | None:
    """Frames that an agent learned from: as it says, or as its models' records have it.

    Models of an ensemble that learned from the same data have these counted once. `ValueError` if a
    record does not say so as ``save_pretrained`` does.
    """
    if hasattr(agent, "training_frames"):
        frames: int | None = agent.training_frames
        return frames
    with _entries(agent, "data"):
        data = [record.get("data") or {} for record in _records(agent)]
        different = {json.dumps(entry, sort_keys=True): entry for entry in data}
        total: int | None = _sum(_frames(entry) for entry in different.values())
    return total


def _entries(agent: Agent, name: str) -> Any:
    source = getattr(agent, "checkpoint", None)
    return entries_of(f"the {name} in {CONFIG} of {source}", "save the model again")


def _records(agent: Agent) -> list[Mapping[str, Any]]:
    """The records of an agent's models; an empty one for a model without a checkpoint."""
    source = getattr(agent, "checkpoint", None)
    own: Mapping[str, Any] = {} if source is None else pretrained_info(source)
    members = [*getattr(agent, "ensemble", ())]
    model: Any = getattr(agent, "model", None)
    if hasattr(model, "eyes"):  # which learned apart from what imagines
        members.append(model.model)
    return [own, *(member.record for member in members)]


def _frames(data: Mapping[str, Any]) -> int | None:
    if data.get("task") in TASKS:
        return _product(data["num_sequences"], TASKS[data["task"]].frames)
    return _product(data.get("num_trajectories"), (data.get("table") or {}).get("num_frames"))


def _training(record: Mapping[str, Any]) -> tuple[int | None, int | None, float | None]:
    """Samples in all and up to the best weights, and seconds, as far as they are on record."""
    training, metrics = record.get("training") or {}, record.get("metrics") or {}
    config, seconds = training.get("config") or {}, training.get("seconds")
    batch, steps = config.get("batch_size"), training.get("steps", config.get("steps"))
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0.0):
        raise ValueError(f"its seconds are {seconds!r}")
    samples, best = _product(batch, steps), _product(batch, metrics.get("validation_step"))
    return samples, best, None if seconds is None else float(seconds)


def _product(first: Any, second: Any) -> int | None:
    """Of two integers; None if one of them is."""
    if first is None or second is None:
        return None
    return operator.index(first) * operator.index(second)


def _sum(parts: Any) -> Any:
    """Of numbers; None if one of them is."""
    found = [*parts]
    return None if None in found else sum(found)
