"""What each part of the planner is worth, and what time buys: searches to be compared.

A study is a list of `Entry`, each an agent with its search; `scripts/study_planner.py` lets all of
them play the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jumpy_mbrl.agents import (
    CEMConfig,
    CEMPlanner,
    GradientPlanner,
    Planner,
    PlannerConfig,
    SearchConfig,
    load_agent,
)
from jumpy_mbrl.models.pretrained import from_pretrained

JUMPY = "jumpy"
SECOND_OPINION = "jumpy-billiards2d"
"""The other member of the ensemble of two."""


@dataclass(frozen=True)
class Entry:
    """An agent and how it searches.

    Attributes:
        name: of the line in the table.
        agent: whose model it plans with.
        search: how much.
        ensemble: shipped models that take part in the stress test.
    """

    name: str
    agent: str = JUMPY
    search: SearchConfig = field(default_factory=PlannerConfig)
    ensemble: tuple[str, ...] = ()

    def make(self, seed: int) -> Planner[Any]:
        """The planner, ready for ``plan``.

        Raises:
            ValueError: for an agent that is no planner, or a model that is missing.
        """
        agent = load_agent(self.agent, seed=seed)
        if not isinstance(agent, GradientPlanner):
            raise ValueError(f"expected an agent that plans, got {self.agent!r}")
        kind: Any = CEMPlanner if isinstance(self.search, CEMConfig) else GradientPlanner
        planner: Planner[Any] = kind(
            agent.model,
            agent.objective,
            replace(self.search, seed=seed),
            oracle=agent.oracle,
            checkpoint=agent.checkpoint,
            device=agent.device,
            ensemble=[from_pretrained(name, agent.device) for name in self.ensemble],
        )
        return planner


_FULL = PlannerConfig()
_NOT_REFINED: dict[str, Any] = {"gradient_steps": 0}
_UNTESTED: dict[str, Any] = {"finalists": 0}


def ablation(agent: str = JUMPY) -> list[Entry]:
    """The stages of the search, put on one by one, and what might replace them."""

    def entry(name: str, **changes: Any) -> Entry:
        return Entry(name, agent, replace(_FULL, **changes))

    one: dict[str, Any] = {"candidates": 1, "refined": 1}
    eight: dict[str, Any] = {"candidates": 8, "refined": 8}
    return [
        entry("1 candidate", **one, **_NOT_REFINED, **_UNTESTED),
        entry("1 candidate, gradient", **one, **_UNTESTED),
        entry("8 candidates", **eight, **_NOT_REFINED, **_UNTESTED),
        entry("8 candidates, gradient", **eight, **_UNTESTED),
        entry("8 candidates, gradient, stress test", **eight),
        entry("128 candidates", **_NOT_REFINED, **_UNTESTED),
        entry("128 candidates, gradient", **_UNTESTED),
        entry("128 candidates, stress test", **_NOT_REFINED),
        entry("128 candidates, gradient, stress test"),
        Entry("the same, ensemble of two", agent, _FULL, ensemble=(SECOND_OPINION,)),
        entry("the same, certain shots not refined", skip_certain=True),
        Entry("CEM, stress test", agent, CEMConfig()),
    ]


def frontier(agents: Sequence[str], budgets_ms: Sequence[float]) -> dict[str, list[Entry]]:
    """For each agent, by its name, the same search under growing budgets.

    Our model is also left without gradients, and with candidates alone.
    """
    lines = {agent: [_hurried(agent, budget) for budget in budgets_ms] for agent in agents}
    if JUMPY in agents:
        for part, changes in (
            ("no gradient", _NOT_REFINED),
            ("candidates alone", {**_NOT_REFINED, **_UNTESTED}),
        ):
            lines[f"{JUMPY}, {part}"] = [
                _hurried(JUMPY, budget, part, **changes) for budget in budgets_ms
            ]
    return lines


def _hurried(agent: str, budget_ms: float, part: str = "", **changes: Any) -> Entry:
    search = replace(_FULL, budget_ms=budget_ms, **changes)
    name = f"{agent}, {part}" if part else agent
    return Entry(f"{name}, {budget_ms:g} ms", agent, search)
