"""Every agent by name, ready to use."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.agents.objectives import ReachRegion
from jumpy_mbrl.agents.planner import PROTOCOLS, GradientPlanner, PlannerConfig
from jumpy_mbrl.agents.simple import NoShot, RandomShot
from jumpy_mbrl.devices import resolve_device
from jumpy_mbrl.envs.config import TableConfig, unknown_name
from jumpy_mbrl.models.pretrained import from_pretrained
from jumpy_mbrl.models.simulator import SimulatorModel


@dataclass(frozen=True)
class AgentEntry:
    """One line of the table of agents.

    Attributes:
        description: what it is, in a line.
        checkpoint: the shipped model it plans with, if any.
    """

    description: str
    checkpoint: str | None = None


AGENTS: dict[str, AgentEntry] = {
    "none": AgentEntry("leaves the cue ball alone"),
    "random": AgentEntry("shoots anywhere"),
    "rnn": AgentEntry("plans with an RNN, which ticks at every frame", "rnn-billiards2d"),
    "jumpy-rnn": AgentEntry("plans with the papers' jumpy RNN", "jumpy-rnn-billiards2d"),
    "jumpy": AgentEntry("plans with our best jumpy model", "jumpy-billiards2d"),
    "simulator": AgentEntry("plans with the true physics from the true state: the oracle"),
}
"""Every agent that ``load_agent`` knows."""


def load_agent(
    name: str,
    *,
    protocol: str = "default",
    device: str = "auto",
    seed: int = 0,
    config: PlannerConfig | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Agent:
    """An agent, ready for ``predict``.

    Args:
        name: one of ``AGENTS``.
        protocol: how much planners search, one of ``PROTOCOLS``.
        device: where planners compute: "auto" (CUDA if there is one), "cpu" or "cuda".
        seed: of the agent's own randomness.
        config: search settings in place of the protocol's; ``seed`` replaces theirs.
        checkpoint: a model (a folder or a shipped name) in place of the one that ``AGENTS`` names.

    Raises:
        ValueError: for an unknown agent, protocol or device, a checkpoint that is missing or
            damaged, or one given to an agent without a learned model.
    """
    if name not in AGENTS:
        raise ValueError(unknown_name("agent", name, AGENTS))
    if protocol not in PROTOCOLS:
        raise ValueError(unknown_name("protocol", protocol, PROTOCOLS))
    place = resolve_device(device)
    source = AGENTS[name].checkpoint
    if checkpoint is not None:
        if source is None:
            raise ValueError(f"agent {name!r} has no learned model, got checkpoint={checkpoint!r}")
        source = os.fspath(checkpoint)
    if name == "none":
        return NoShot()
    if name == "random":
        return RandomShot(seed)
    settings = replace(config or PROTOCOLS[protocol], seed=seed)
    objective = reach_target(TableConfig())
    if source is None:
        return GradientPlanner(SimulatorModel(), objective, settings, oracle=True, device=place)
    model = from_pretrained(source, device=place)
    return GradientPlanner(model, objective, settings, checkpoint=source, device=place)


def reach_target(table: TableConfig) -> ReachRegion:
    """The billiards objective: the object ball inside the target at a frame after the shot.

    Times count from the frame of the shot, ``table.lead_in``.
    """
    return ReachRegion(table.target, range(1, table.num_frames - table.lead_in))
