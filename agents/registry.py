"""Every agent by name, ready to use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jumpy_mbrl.agents.base import Agent, NoShot, OtherGameError, RandomShot
from jumpy_mbrl.agents.planning.config import PROTOCOLS, PlannerConfig
from jumpy_mbrl.agents.planning.planner import GradientPlanner
from jumpy_mbrl.checks import check_choice
from jumpy_mbrl.devices import resolve_device
from jumpy_mbrl.envs.rules import Task, plane_task
from jumpy_mbrl.models.base import WorldModel, like_of
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.seeing import SeeingModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJump
from jumpy_mbrl.models.keypoint_jump import KeypointJump, SeenPlaces
from jumpy_mbrl.models.pretrained import from_pretrained, pretrained_text
from jumpy_mbrl.models.world import learned_a_line, warn_of_other_world
from jumpy_mbrl.objectives import objective_of


@dataclass(frozen=True)
class AgentEntry:
    """An agent in a line, and the shipped model or policy that it plays with, if any.

    Attributes:
        description: what it does.
        checkpoint: its model; of a `SpriteJump` only what it sees is taken.
        line_checkpoint: its model on a line.
        policy: its policy of Stable-Baselines3.
        imagines: the model that plans where a `SpriteJump` sees.
    """

    description: str
    checkpoint: str | None = None
    line_checkpoint: str | None = None
    policy: str | None = None
    imagines: str = "fold-billiards2d"


AGENTS: dict[str, AgentEntry] = {
    "none": AgentEntry("leaves the cue ball alone"),
    "random": AgentEntry("shoots anywhere"),
    "ppo": AgentEntry(
        "shoots as PPO of Stable-Baselines3 learned, without a model", policy="ppo-billiards2d"
    ),
    "sac": AgentEntry(
        "shoots as SAC of Stable-Baselines3 learned, without a model", policy="sac-billiards2d"
    ),
    "rnn": AgentEntry(
        "plans with an RNN, which ticks at every frame", "rnn-billiards2d", "rnn-billiards1d"
    ),
    "ode-rnn": AgentEntry(
        "plans with an ODE-RNN, which solves its way from frame to frame", "ode-rnn-billiards2d"
    ),
    "jump-4": AgentEntry(
        "plans with an RNN whose jumps all last four frames", "jump-4-billiards2d"
    ),
    "jumpy-rnn": AgentEntry(
        "plans with the papers' jumpy RNN", "jumpy-rnn-billiards2d", "jumpy-rnn-billiards1d"
    ),
    "jumpy-flat": AgentEntry(
        "plans with a general jumpy model that knows nothing", "flat-billiards2d"
    ),
    "jumpy-entities": AgentEntry(
        "plans with a general jumpy model that knows of bodies", "entities-billiards2d"
    ),
    "jumpy-space": AgentEntry(
        "plans with a general jumpy model that knows of bodies in space", "space-billiards2d"
    ),
    "jumpy": AgentEntry(
        "plans with our best jumpy model", "fold-billiards2d", "jumpy-billiards1d-task"
    ),
    "simulator": AgentEntry("plans with the true physics from the true state: the oracle"),
}
"""Every agent that is shown coordinates."""

PIXEL_AGENTS: dict[str, AgentEntry] = {
    "ppo-pixels": AgentEntry(
        "shoots as PPO of Stable-Baselines3 learned from pictures, without a model",
        policy="ppo-pixels-billiards2d",
    ),
    "jumpy-pixels": AgentEntry(
        "plans with our best jumpy model, and sees pictures alone", "sprite-64-billiards2d"
    ),
    "rnn-pixels": AgentEntry(
        "plans with the RNN, and sees pictures as jumpy-pixels does",
        "sprite-64-billiards2d",
        imagines="rnn-billiards2d",
    ),
    "jumpy-rnn-pixels": AgentEntry(
        "plans with the papers' jumpy RNN, and sees pictures as jumpy-pixels does",
        "sprite-64-billiards2d",
        imagines="jumpy-rnn-billiards2d",
    ),
    "jumpy-keypoints": AgentEntry(
        "plans with keypoints that it found in pictures by itself", "keypoints-billiards2d"
    ),
}
"""Every agent that is shown pictures, as ``obs_type="pixels"`` does."""


def load_agent(
    name: str,
    *,
    task: Task | None = None,
    protocol: str = "default",
    device: str = "auto",
    seed: int = 0,
    config: PlannerConfig | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    ensemble: Sequence[str | os.PathLike[str]] = (),
    trust: bool = False,
) -> Agent:
    """An agent, ready for ``predict``.

    `ValueError` for an unknown agent, protocol or device, a checkpoint that is missing or damaged,
    or one given to an agent without a learned model, a policy that is neither shipped nor trusted,
    or an ensemble that a planner refuses; `OtherGameError` for a model or policy that the task is
    not for. Warns (`OtherWorldWarning`) of a task with other physics, shots or faster starts than
    the model or policy has learned, by its record.

    Args:
        name: one of ``AGENTS`` or ``PIXEL_AGENTS``.
        task: what it is to play (``env.unwrapped.task``); by default `Billiards2D-v0` as it is. A
            model of other numbers of balls is carried over, if it can be.
        protocol: how much planners search, one of ``PROTOCOLS``.
        device: where planners compute: "auto" (CUDA if there is one), "cpu" or "cuda".
        seed: of the agent's own randomness.
        config: search settings in place of the protocol's; ``seed`` replaces theirs.
        checkpoint: a model, or a policy of Stable-Baselines3 (a folder or a shipped name), in place
            of the one that ``AGENTS`` names. Where both are there, text is the name and a ``Path``
            the folder.
        ensemble: further models, named likewise, which take part in the robust selection (see
            `Planner`).
        trust: read a policy that is not shipped, whose pickles can run anything.
    """
    known = {**AGENTS, **PIXEL_AGENTS}
    entry = known[check_choice("agent", name, known)]
    searched = PROTOCOLS[check_choice("protocol", protocol, PROTOCOLS)]
    settings = replace(config or searched, seed=seed)
    task = task or plane_task()
    if name in PIXEL_AGENTS and (task.line or task.random_target):
        raise OtherGameError(
            f"agent {name!r} has learned to see tables whose target stays in one corner, got "
            f"{'a line' if task.line else 'random_target=True'}; take an agent of coordinates"
        )
    place = resolve_device(device)
    if ensemble and entry.checkpoint is None:
        raise ValueError(
            f"agent {name!r} does not plan with a learned model, got an ensemble of "
            f"{len(ensemble)} more; leave it out"
        )
    if entry.policy is not None:
        from jumpy_mbrl.agents.model_free import policy_agent  # Only here: SB3 is slow to load.

        player = policy_agent(checkpoint or entry.policy, task, trust=trust)
        _check_sees(name, player, player.checkpoint)
        return player
    if checkpoint is not None and entry.checkpoint is None:
        raise ValueError(
            f"agent {name!r} has no learned model, got checkpoint={os.fspath(checkpoint)!r}"
        )
    if name in ("none", "random"):
        size = task.config.num_balls * (1 if task.line else 2)
        sizes = size, size + (2 if task.line else 4)  # without and with the target
        return NoShot(sizes) if name == "none" else RandomShot(seed, sizes)
    objective = objective_of(task)
    if entry.checkpoint is None:
        return GradientPlanner(_simulator(task), objective, settings, oracle=True, device=place)
    source = checkpoint or (entry.line_checkpoint if task.line else entry.checkpoint)
    if source is None:
        able = [key for key, other in AGENTS.items() if other.line_checkpoint]
        raise OtherGameError(
            f"agent {name!r} has no model of balls on a line; of the agents that learn, {able} have"
        )
    parts = (from_pretrained(part, device=place) for part in (source, *ensemble))
    models = [model_for(part, task, entry.imagines) for part in parts]
    _check_sees(name, models[0], pretrained_text(source))
    for model in models:
        warn_of_other_world(model, task, stacklevel=2, agent=name)
    return GradientPlanner(
        models[0],
        objective,
        settings,
        checkpoint=pretrained_text(source),
        device=place,
        ensemble=models[1:],
    )


def _check_sees(name: str, player: object, source: str | None) -> None:
    """`ValueError` unless a model or policy sees pictures as the agent's name says, or not."""
    if (getattr(player, "picture", None) is not None) != (name in PIXEL_AGENTS):
        raise ValueError(
            f"agent {name!r} is shown {'pictures' if name in PIXEL_AGENTS else 'coordinates'}, but "
            f"its checkpoint {source!r} has learned from the other"
        )


def _simulator(task: Task) -> WorldModel:
    if task.line:
        return PlacementModel(LineSimulator(task.config), task.config)
    return SimulatorModel(task.config)


def model_for(model: WorldModel, task: Task, imagines: str = AgentEntry.imagines) -> WorldModel:
    """The model with the balls and the action of the task.

    A ``SpriteJump`` becomes one that is shown pictures, and the shipped model ``imagines`` places
    from there (``SeeingModel``); a ``KeypointJump`` does so itself (``SeenPlaces``).
    On a line, a model that has learned the action is taken as it is; to one that has only ever
    watched, the action is given (`PlacementModel`).

    `OtherGameError` if it cannot be carried over to other numbers of balls, or learned balls on a
    line; `ValueError` for a model that cannot play on a line.
    """
    if isinstance(model, SimulatorModel):
        return _simulator(task)
    if task.line:
        learned = (model.obs_size, model.action_size) == (task.config.num_balls, 2)
        return model if learned else PlacementModel(model, task.config)
    if learned_a_line(model):
        raise OtherGameError(
            f"expected a model of balls on a table, got {type(model).__name__}, which learned "
            f"balls on a line; take one of a table, such as 'jumpy' plays with, or 'simulator'"
        )
    balls = task.config.num_balls
    if isinstance(model, SpriteJump):
        planning = from_pretrained(imagines, like_of(model).device)
        return SeeingModel(model, balls, model_for(planning, task))
    if isinstance(model, KeypointJump):
        model = SeenPlaces(model)
    sees = isinstance(model, SeeingModel | SeenPlaces)
    known = model.num_balls if sees else model.obs_size // 2
    if known == balls:
        return model
    for_balls = getattr(model, "for_balls", None)
    if for_balls is None:
        raise OtherGameError(
            f"expected {known} balls, which the {type(model).__name__} was made for, "
            f"got {balls}; take an agent whose model can be carried over to other tables, such as "
            f"'jumpy', or 'simulator'"
        )
    carried: WorldModel = for_balls(balls)
    return carried
