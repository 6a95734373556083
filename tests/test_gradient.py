"""Screening, refinement by gradient, and doing without it, on a world known by heart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.agents import (
    PROTOCOLS,
    FunctionObjective,
    GradientPlanner,
    PlannerConfig,
    ReachRegion,
)
from jumpy_mbrl.agents.planning.points import spread
from jumpy_mbrl.models.base import Imagined, State, WorldModel

NO_SEARCH: dict[str, Any] = {"candidates": 1, "refined": 1, "finalists": 0}


class Push(WorldModel):
    """The object ball is pushed away by the action; every rollout takes a millisecond."""

    obs_size, action_size = 4, 2
    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []
        self.with_gradient: list[bool] = []

    def clock(self) -> float:
        return self.now

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.full((batch_size, 1, 4), 0.5))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.zeros(len(last)), last)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        assert action is not None
        self.asked.append(action.detach().clone())
        self.with_gradient.append(action.requires_grad)
        self.now += 1e-3 * len(action)
        place = torch.cat([state.obs[:, :2], state.obs[:, 2:] + action], dim=-1)
        ticks = torch.zeros(len(action), 1)
        return Imagined(place.unsqueeze(1).expand(-1, len(times), -1), ticks, state)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def frames(*places: tuple[float, float]) -> Tensor:
    """Lead-in frames (B, 4, 4) of resting balls with the object ball at each place."""
    obs = torch.full((len(places), 4, 4), 0.5)
    obs[:, :, 2:] = torch.tensor(places)[:, None]
    return obs


def right_below() -> ReachRegion:
    """From (0.5, 0.5), the action to its middle is (0.3, -0.3)."""
    return ReachRegion((0.7, 0.9, 0.1, 0.3), [1.0])


# -- screening ---------------------------------------------------------------------------------


def test_screening_alone_finds_the_best_candidate() -> None:
    config = PlannerConfig(candidates=64, refined=1, gradient_steps=0, finalists=0, seed=3)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    candidates = spread(64, 2, seed=3)
    nearest = (candidates - torch.tensor([0.3, -0.3])).abs().amax(dim=1).argmin()
    torch.testing.assert_close(plan.action[0], candidates[nearest])


def test_many_candidates_find_what_one_start_cannot() -> None:
    def far_island(obs: Tensor) -> Tensor:
        """A bump in a corner, on a plain without slope."""
        error = (obs[..., -1, 2:] - torch.tensor([1.3, -0.3])).norm(dim=-1)
        return torch.where(error < 0.3, 0.3 - error, -1.0 + 0.0 * error)

    objective, table = FunctionObjective(far_island, [1.0]), frames((0.5, 0.5))
    one = GradientPlanner(Push(), objective, PlannerConfig(candidates=1)).plan(table)
    many = GradientPlanner(Push(), objective, PlannerConfig(candidates=128)).plan(table)
    assert float(one.score) == -1.0 and float(many.score) > 0.25


def test_a_budget_screens_the_same_points_in_growing_rounds() -> None:
    model = Push()
    config = PlannerConfig(candidates=64, gradient_steps=0, finalists=0, budget_ms=300.5)
    GradientPlanner(model, right_below(), config, clock=model.clock).plan(frames((0.5, 0.5)))
    *rounds, _ = model.asked
    assert [len(asked) for asked in rounds] == [16, 16, 32, 64, 64, 64, 16]
    torch.testing.assert_close(torch.cat(rounds), spread(272, 2, seed=0))


# -- refinement --------------------------------------------------------------------------------


def test_gradient_reaches_the_optimum_from_one_start() -> None:
    config = PlannerConfig(**NO_SEARCH, gradient_steps=150, learning_rate=0.02)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    torch.testing.assert_close(plan.action, torch.tensor([[0.3, -0.3]]), atol=0.02, rtol=0)
    assert float(plan.score) == pytest.approx(0.1, abs=0.02)


def test_gradient_helps_within_the_calls_own_no_grad() -> None:
    config = PlannerConfig(**NO_SEARCH, gradient_steps=20)
    with torch.no_grad():
        inside = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    outside = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    assert torch.equal(inside.action, outside.action) and not outside.action.requires_grad


def test_best_iterate_is_kept_not_the_last() -> None:
    region, scores = right_below(), []

    def recording(obs: Tensor) -> Tensor:
        score = region(obs)
        scores.append(float(score.detach()))
        return score

    config = PlannerConfig(**NO_SEARCH, gradient_steps=20, learning_rate=0.45)
    objective = FunctionObjective(recording, [1.0])
    plan = GradientPlanner(Push(), objective, config).plan(frames((0.5, 0.5)))
    assert max(scores) > scores[-1] + 0.01  # the steps do overshoot
    assert float(plan.score) == max(scores)
    reached = torch.cat([torch.full((2,), 0.5), 0.5 + plan.action[0]]).view(1, 1, 1, 4)
    assert float(region(reached)) == float(plan.score)


def test_no_step_for_the_worse_is_taken() -> None:
    screened = PlannerConfig(candidates=32, refined=4, gradient_steps=0, finalists=0)
    refined = replace(screened, gradient_steps=6)
    tables = frames((0.5, 0.5), (0.2, 0.9), (0.9, 0.4))
    before = GradientPlanner(Push(), right_below(), screened).plan(tables).score
    after = GradientPlanner(Push(), right_below(), refined).plan(tables).score
    assert bool((after >= before).all()) and bool((after > before).any())


def test_a_budget_refines_for_as_long_as_it_lasts() -> None:
    model = Push()
    config = PlannerConfig(candidates=16, refined=2, gradient_steps=1, finalists=0, budget_ms=999)
    GradientPlanner(model, right_below(), config, clock=model.clock).plan(frames((0.5, 0.5)))
    assert sum(model.with_gradient) > 10
    assert model.with_gradient[-2:] == [False, False]  # where the last step led, and the ticks


def test_without_gradients_none_are_asked_for() -> None:
    for budget_ms in (None, 400.0):
        model = Push()
        config = PlannerConfig(gradient_steps=0, budget_ms=budget_ms)
        planner = GradientPlanner(model, right_below(), config, clock=model.clock)
        planner.plan(frames((0.5, 0.5)))
        assert not any(model.with_gradient)


def test_objectives_without_gradients_need_no_steps() -> None:
    steps = FunctionObjective(lambda obs: (obs[..., -1, 2] > 0.9).float() - 0.5, [1.0])
    config = PlannerConfig(gradient_steps=0)
    plan = GradientPlanner(Push(), steps, config).plan(frames((0.5, 0.5)))
    assert float(plan.action[0, 0]) > 0.4


# -- skipping ----------------------------------------------------------------------------------


def test_only_uncertain_episodes_are_refined() -> None:
    # From the second place a coarse search finds nothing that stands the noise.
    region = ReachRegion(torch.tensor([(0.5, 0.9, 0.1, 0.5), (0.79, 0.81, 0.2, 0.22)]), [1.0])
    settings = PlannerConfig(candidates=64, gradient_steps=20, action_noise=0.003)
    tables = frames((0.5, 0.5), (0.5, 0.5))
    model = Push()
    skipping = GradientPlanner(model, region, replace(settings, skip_certain=True)).plan(tables)
    steps = [
        len(a) for a, gradient in zip(model.asked, model.with_gradient, strict=True) if gradient
    ]
    assert steps == [8] * 20
    screened = GradientPlanner(Push(), region, replace(settings, gradient_steps=0)).plan(tables)
    refined = GradientPlanner(Push(), region, settings).plan(tables)
    for name in ("action", "score", "belief", "ticks"):
        kept, found = getattr(screened, name)[0], getattr(refined, name)[1]
        assert torch.equal(getattr(skipping, name), torch.stack([kept, found]))
    assert float(screened.belief[1]) < float(skipping.belief[1])


def test_where_all_is_certain_there_are_no_gradients() -> None:
    model = Push()
    config = PlannerConfig(skip_certain=True)
    plan = GradientPlanner(model, right_below(), config).plan(frames((0.5, 0.5)))
    assert float(plan.belief) == 1.0 and not any(model.with_gradient)


# -- settings ----------------------------------------------------------------------------------


def test_rollouts_at_once_bounds_every_rollout() -> None:
    model = Push()
    config = PlannerConfig(candidates=8, refined=4, perturbations=4, rollouts_at_once=32)
    GradientPlanner(model, right_below(), config).plan(frames(*[(0.5, 0.5)] * 9))
    # 8 finalists of 4 rollouts fill them with one episode; so each is planned by itself.
    assert {len(actions) for actions in model.asked} == {8, 4, 16, 1}


def test_protocols() -> None:
    assert set(PROTOCOLS) == {"default", "paper"}
    paper, default = PROTOCOLS["paper"], PROTOCOLS["default"]
    assert (paper.candidates, paper.refined, paper.gradient_steps) == (1, 1, 20)
    assert paper.finalists == 0
    assert default.candidates > 1 and default.gradient_steps > 0 and default.finalists > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"refined": 0}, "refined must be at least 1, got 0"),
        ({"gradient_steps": -1}, "gradient_steps must not be negative, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"skip_certain": True, "finalists": 0}, "skip_certain needs a stress test"),
        ({"skip_certain": True, "budget_ms": 5.0}, "set one of them, got .* budget_ms=5.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**settings)
