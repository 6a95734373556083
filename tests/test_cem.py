"""The cross-entropy method, against its definition and on a world known by heart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.agents import CEMConfig, CEMPlanner, FunctionObjective
from jumpy_mbrl.agents.planning.points import normal_spread
from jumpy_mbrl.models.base import Imagined, State, WorldModel

SEARCH_ALONE: dict[str, Any] = {"finalists": 0, "perturbations": 0}


class Echo(WorldModel):
    """Shows the action itself; every rollout takes a millisecond."""

    obs_size, action_size = 2, 2
    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def clock(self) -> float:
        return self.now

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.zeros(batch_size, 1, 2))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.zeros(len(last)), last)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        assert action is not None
        self.asked.append(action.clone())
        self.now += 1e-3 * len(action)
        return Imagined(action.unsqueeze(1), torch.zeros(len(action), 1), state)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def near(*place: float) -> FunctionObjective:
    """Above 0 within 0.1 of an action."""
    return FunctionObjective(
        lambda obs: 0.1 - (obs[:, :, -1] - torch.tensor(place)).norm(dim=-1), [1]
    )


NOTHING = torch.zeros(1, 4, 2)


def test_every_iteration_is_fitted_to_the_elites_of_the_last() -> None:
    model = Echo()
    config = CEMConfig(20, 5, 3, 0.4, 0.01, momentum=0.25, seed=6, **SEARCH_ALONE)
    CEMPlanner(model, near(0.3, -0.6), config).plan(NOTHING)
    mean, std = torch.zeros(2), torch.full((2,), 0.4)
    for number in range(3):
        expected = (mean + std * normal_spread(20, 2, seed=6 + 2 + number)).clamp(-1, 1)
        torch.testing.assert_close(model.asked[number], expected)
        elites = expected[(expected - torch.tensor([0.3, -0.6])).norm(dim=1).argsort()[:5]]
        mean = 0.25 * mean + 0.75 * elites.mean(dim=0)
        std = (0.25 * std + 0.75 * elites.std(dim=0, correction=0)).clamp_min(0.01)
    assert len(model.asked) == 3 + 1  # and the ticks of the shot


def test_iterations_close_in_on_the_optimum() -> None:
    errors = []
    for iterations in (1, 3, 9):
        config = CEMConfig(iterations=iterations, minimum_std=0.0, **SEARCH_ALONE)
        plan = CEMPlanner(Echo(), near(-0.7, 0.2), config).plan(NOTHING)
        errors.append(float((plan.action - torch.tensor([[-0.7, 0.2]])).norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 1e-3


def test_minimum_std_keeps_the_search_alive() -> None:
    spreads = []
    for minimum_std in (0.0, 0.2):
        model = Echo()
        config = CEMConfig(iterations=8, minimum_std=minimum_std, **SEARCH_ALONE)
        CEMPlanner(model, near(0.1, 0.1), config).plan(NOTHING)
        spreads.append(float(model.asked[7].std(dim=0).mean()))
    assert spreads[0] < 0.01 and spreads[1] == pytest.approx(0.2, abs=0.02)


def test_the_best_shot_of_all_iterations_is_chosen() -> None:
    model = Echo()
    plan = CEMPlanner(model, near(0.3, 0.3), CEMConfig(**SEARCH_ALONE)).plan(NOTHING)
    tried = torch.cat(model.asked[:-1])
    best = (tried - 0.3).norm(dim=1).argmin()
    torch.testing.assert_close(plan.action[0], tried[best])


def test_nothing_need_be_differentiable() -> None:
    steps = FunctionObjective(lambda obs: (obs[:, :, -1, 0] > 0.8).float() - 0.5, [1])
    plan = CEMPlanner(Echo(), steps, CEMConfig(action_noise=0.03)).plan(NOTHING)
    assert float(plan.action[0, 0]) > 0.8 and float(plan.belief) == 1.0


def test_stress_test_finds_the_robust_optimum() -> None:
    def two_peaks(obs: Tensor) -> Tensor:
        """A narrow high peak at 0.2, on the slope of a broad low one at 0.4."""
        x = obs[:, :, -1, 0]
        return torch.maximum(1.0 - (x - 0.2).abs() / 0.004, 0.3 - (x - 0.4).abs())

    objective = FunctionObjective(two_peaks, [1])
    bold = CEMPlanner(Echo(), objective, CEMConfig(512, **SEARCH_ALONE)).plan(NOTHING)
    assert float(bold.action[0, 0]) == pytest.approx(0.2, abs=0.004)
    careful = CEMConfig(512, finalists=256, action_noise=0.2)
    plan = CEMPlanner(Echo(), objective, careful).plan(NOTHING)
    assert float(plan.action[0, 0]) > 0.3 > float(plan.score) + 0.001


def test_a_budget_decides_how_often() -> None:
    model = Echo()
    config = CEMConfig(population=50, iterations=1, budget_ms=305.0, **SEARCH_ALONE)
    CEMPlanner(model, near(0.3, 0.3), config, clock=model.clock).plan(NOTHING)
    *rounds, _ = model.asked
    assert [len(asked) for asked in rounds] == [50, 50, 50, 50, 50]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"elites": 0}, "elites must be at least 1, got 0"),
        ({"elites": 65}, "elites must not exceed the population of 64, got 65"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"initial_std": 0.0}, "initial_std must be positive, got 0.0"),
        ({"minimum_std": -0.1}, "minimum_std must not be negative, got -0.1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CEMConfig(**settings)
