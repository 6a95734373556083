"""How much planners search."""

from __future__ import annotations

from dataclasses import dataclass

from jumpy_mbrl.checks import check_fields
from jumpy_mbrl.objectives import Bound
from jumpy_mbrl.processes import check_at_once


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Settings of every planner. `ValueError` for an impossible one.

    Attributes:
        finalists: of how many actions the most robust is selected; 0 takes that of the best score.
        perturbations: rollouts of each finalist with slightly other actions and models. An ensemble
            shares them: each of M models plays every M-th.
        action_noise: standard deviation of those other actions, in units of the action range's
            half-width.
        search_ensemble: search by the mean score of all models of an ensemble too, and not only
            test with them; each of M models then costs as much as the first.
        action_low: least action: a number, or one for each of the A entries.
        action_high: greatest action, likewise.
        budget_ms: milliseconds to plan one episode in; a batch of B has B times as much. The
            search then goes on for as long as it may rather than as far as the config says, and
            finds other actions on other machines, at other times and in other batches. What the
            model searches for in the frames is bounded too, to half of the time. However little it
            is, there is an action. None: as long as it takes.
        rollouts_at_once: bound on memory; larger batches are worked off in parts.
        threads: CPU threads of torch to plan with. Meanwhile all of the process has so many. 0
            leaves them as they are.
        seed: of all that is drawn.
    """

    finalists: int = 8
    perturbations: int = 16
    action_noise: float = 0.01
    search_ensemble: bool = False
    action_low: Bound = -1.0
    action_high: Bound = 1.0
    budget_ms: float | None = None
    rollouts_at_once: int = 32_768
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("finalists", "perturbations", "gradient_steps"), 0)
        positive, free = ("learning_rate", "initial_std"), ("momentum", "seed", "threads")
        check_fields(self, least, {}, positive, free)
        check_at_once("threads", self.threads)
        if self.finalists and not self.perturbations:
            raise ValueError(
                "finalists need perturbations > 0; set finalists=0 for no robust selection"
            )
        if self.budget_ms is not None and not 0 < self.budget_ms < float("inf"):
            raise ValueError(
                f"budget_ms must be positive and finite, or None for no bound, got {self.budget_ms}"
            )


@dataclass(frozen=True)
class PlannerConfig(SearchConfig):
    """How much a ``GradientPlanner`` searches; see ``SearchConfig`` for the rest.

    Attributes:
        candidates: actions tried forward-only, Sobol points of the bounds. Under a budget the
            largest number tried at once.
        refined: how many of the best are refined by gradient ascent.
        gradient_steps: Adam steps of the refinement. Under a budget any number but 0 means: while
            time lasts.
        learning_rate: of Adam, in units of the action range's half-width.
        skip_certain: selects among the candidates first, and refines only where none of them won
            all of its perturbed rollouts. Saves time, so it cannot go with a budget.
    """

    candidates: int = 128
    refined: int = 8
    gradient_steps: int = 8
    learning_rate: float = 0.02
    skip_certain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip_certain and not self.finalists:
            raise ValueError("skip_certain needs a robust selection; set finalists > 0")
        if self.skip_certain and self.budget_ms is not None:
            raise ValueError(
                "skip_certain saves time and budget_ms spends it; set one of them, "
                f"got skip_certain=True and budget_ms={self.budget_ms}"
            )


@dataclass(frozen=True)
class CEMConfig(SearchConfig):
    """How much a ``CEMPlanner`` searches; see ``SearchConfig`` for the rest.

    Attributes:
        population: actions of an iteration.
        elites: how many of the best the next distribution is fitted to.
        iterations: how often. Under a budget: while time lasts.
        initial_std: standard deviation of the first iteration's actions around the middle of the
            bounds, in units of the action range's half-width; so is the next one.
        minimum_std: least standard deviation of any iteration.
        momentum: how much of the last mean and standard deviation is kept, in [0, 1) (``alpha`` in
            mbrl-lib).
    """

    population: int = 64
    elites: int = 8
    iterations: int = 4
    initial_std: float = 0.5
    minimum_std: float = 0.02
    momentum: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elites > self.population:
            raise ValueError(
                f"elites must not exceed the population of {self.population}, got {self.elites}"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")


PROTOCOLS: dict[str, PlannerConfig] = {
    "default": PlannerConfig(),
    "paper": PlannerConfig(
        candidates=1, refined=1, gradient_steps=20, learning_rate=0.1, finalists=0
    ),
}
"""Search settings by name; ``paper`` is one start and 20 iterations (paper, section 3.4), with
steps long enough to cross the action space in them."""
