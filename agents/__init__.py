"""Agents: who watches four frames and chooses the shot."""

from jumpy_mbrl.agents.base import Agent, OtherGameError
from jumpy_mbrl.agents.cem import CEMConfig, CEMPlanner
from jumpy_mbrl.agents.control import RecedingHorizon
from jumpy_mbrl.agents.gradient import PROTOCOLS, GradientPlanner, PlannerConfig
from jumpy_mbrl.agents.objectives import (
    FunctionObjective,
    Objective,
    ReachPointAtTime,
    ReachRegion,
)
from jumpy_mbrl.agents.planner import Plan, Planner, SearchConfig
from jumpy_mbrl.agents.registry import AGENTS, load_agent
from jumpy_mbrl.agents.simple import NoShot, RandomShot
from jumpy_mbrl.models.world import OtherWorldWarning

__all__ = [
    "AGENTS",
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
    "ReachPointAtTime",
    "ReachRegion",
    "RecedingHorizon",
    "SearchConfig",
    "load_agent",
]
