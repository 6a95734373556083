"""Agents: they watch four frames and choose a shot."""

from jumpy_mbrl.agents.base import Agent, NoShot, OtherGameError, RandomShot
from jumpy_mbrl.agents.planning.config import PROTOCOLS, CEMConfig, PlannerConfig, SearchConfig
from jumpy_mbrl.agents.planning.mpc import RecedingHorizon
from jumpy_mbrl.agents.planning.planner import CEMPlanner, GradientPlanner, Plan, Planner
from jumpy_mbrl.agents.registry import AGENTS, PIXEL_AGENTS, load_agent
from jumpy_mbrl.models.world import OtherWorldWarning
from jumpy_mbrl.objectives import (
    FunctionObjective,
    Objective,
    ReachAll,
    ReachPointAtTime,
    ReachRegion,
)

__all__ = [
    "AGENTS",
    "PIXEL_AGENTS",
    "PROTOCOLS",
    "Agent",
    "CEMConfig",
    "CEMPlanner",
    "FunctionObjective",
    "GradientPlanner",
    "NoShot",
    "Objective",
    "OtherGameError",
    "OtherWorldWarning",
    "Plan",
    "Planner",
    "PlannerConfig",
    "RandomShot",
    "ReachAll",
    "ReachPointAtTime",
    "ReachRegion",
    "RecedingHorizon",
    "SearchConfig",
    "load_agent",
]
