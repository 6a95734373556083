"""Agents: who watches four frames and chooses the shot."""

from jumpy_mbrl.agents.base import Agent
from jumpy_mbrl.agents.objectives import Objective, ReachPointAtTime, ReachRegion
from jumpy_mbrl.agents.planner import PROTOCOLS, GradientPlanner, Plan, PlannerConfig
from jumpy_mbrl.agents.registry import AGENTS, load_agent
from jumpy_mbrl.agents.simple import NoShot, RandomShot

__all__ = [
    "AGENTS",
    "PROTOCOLS",
    "Agent",
    "GradientPlanner",
    "NoShot",
    "Objective",
    "Plan",
    "PlannerConfig",
    "RandomShot",
    "ReachPointAtTime",
    "ReachRegion",
    "load_agent",
]
