"""Policies of Stable-Baselines3, by the name that the pickles inside saved ones know."""

from jumpy_mbrl.agents.baselines.features import MotionFeatures, RelativeFeatures
from jumpy_mbrl.agents.baselines.policies import (
    PolicyAgent,
    is_whole,
    load_policy,
    policy_agent,
    policy_info,
    save_policy,
    shipped_policies,
)

__all__ = [
    "MotionFeatures",
    "PolicyAgent",
    "RelativeFeatures",
    "is_whole",
    "load_policy",
    "policy_agent",
    "policy_info",
    "save_policy",
    "shipped_policies",
]
