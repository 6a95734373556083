"""Searches on functions known by heart, the time that they take, and the points that they draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.agents import CEMConfig, PlannerConfig
from jumpy_mbrl.agents.planning import optimizers
from jumpy_mbrl.agents.planning.budget import Budget, Deadline
from jumpy_mbrl.agents.planning.optimizers import normal_points, sobol_points

BEST = torch.tensor([0.3, -0.6])


class Score:
    """How near actions (B, S, 2) are to the best one; a thousandth of a second for each."""

    def __init__(self, function: Any = None) -> None:
        self.function = function or (lambda actions: 0.1 - (actions - BEST).norm(dim=-1))
        self.asked: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.with_gradient: list[bool] = []
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(self, actions: Tensor) -> Tensor:
        self.now += 1e-3 * actions.shape[:2].numel()
        scores: Tensor = self.function(actions)
        self.asked.append(actions.detach().clone()[0])
        self.scores.append(scores.detach()[0])
        self.with_gradient.append(scores.requires_grad)
        return scores


def search(
    score: Score, config: PlannerConfig | CEMConfig, seconds: float | None = None, reserve: int = 0
) -> tuple[Tensor, Tensor]:
    """The best actions (S, 2) of one episode and their scores (S,)."""
    budget = Budget() if seconds is None else Deadline(seconds, score.clock, 1, reserve)
    found = torch.empty(1, 0, 2), torch.empty(1, 0)
    if isinstance(config, CEMConfig):
        found = optimizers.cross_entropy(score, found, budget, config)
    else:
        found = optimizers.sobol_search(score, found, budget, config)
        if config.gradient_steps:
            found = optimizers.gradient_ascent(score, found, budget, config)
    return found[0][0].detach(), found[1][0].detach()


def one_start(**settings: Any) -> PlannerConfig:
    return PlannerConfig(candidates=1, refined=1, **settings)


# -- Sobol search and gradient ascent ----------------------------------------------------------


def test_screening_keeps_the_best_of_the_sobol_points() -> None:
    actions, scores = search(Score(), PlannerConfig(64, 3, 0, seed=3))
    points = sobol_points(64, 2, seed=3)
    nearest = (points - BEST).norm(dim=1).argsort()[:3]
    assert torch.equal(actions, points[nearest]) and torch.equal(scores, Score()(actions[None])[0])


def test_many_candidates_find_what_one_start_cannot() -> None:
    def far_island(actions: Tensor) -> Tensor:
        """A bump in a corner, on a plain without slope."""
        error = (actions - torch.tensor([0.8, -0.8])).norm(dim=-1)
        return torch.where(error < 0.3, 0.3 - error, -1.0 + 0.0 * error)

    (one,) = search(Score(far_island), one_start())[1]
    many = search(Score(far_island), PlannerConfig(128))[1]
    assert float(one) == -1.0 and float(many.max()) > 0.25


def test_the_best_iterate_is_kept_not_the_last() -> None:
    score = Score()
    actions, (found,) = search(score, one_start(gradient_steps=20, learning_rate=0.45))
    assert max(score.scores) > score.scores[-1] + 0.01, "the steps should overshoot"
    assert found == max(score.scores) == Score()(actions[None])
    assert score.with_gradient == [False, *[True] * 20, False]


def test_no_start_becomes_worse_and_none_leaves_the_box() -> None:
    outside = Score(lambda actions: -(actions - 2.0).norm(dim=-1))
    before = search(outside, PlannerConfig(32, 4, 0))[1]
    actions, after = search(outside, PlannerConfig(32, 4, 30, learning_rate=0.2))
    assert bool((after > before).all()) and bool((torch.cat(outside.asked).abs() <= 1.0).all())
    torch.testing.assert_close(actions, torch.ones(4, 2))


def test_gradients_that_are_not_numbers_move_nothing() -> None:
    actions, scores = search(Score(lambda actions: actions[..., 0].sqrt()), PlannerConfig(32, 32))
    assert bool(actions.isfinite().all()) and bool((scores > 0).any())


# -- the cross-entropy method ------------------------------------------------------------------


def test_every_iteration_is_fitted_to_the_elites_of_the_last() -> None:
    score = Score()
    search(score, CEMConfig(20, 5, 3, 0.4, 0.01, momentum=0.25, seed=6))
    mean, std = torch.zeros(2), torch.full((2,), 0.4)
    for number in range(3):
        expected = (mean + std * normal_points(20, 2, seed=6 + 2 + number)).clamp(-1, 1)
        torch.testing.assert_close(score.asked[number], expected)
        elites = expected[(expected - BEST).norm(dim=1).argsort()[:5]]
        mean = 0.25 * mean + 0.75 * elites.mean(dim=0)
        std = (0.25 * std + 0.75 * elites.std(dim=0, correction=0)).clamp_min(0.01)
    assert len(score.asked) == 3


def test_minimum_std_keeps_the_search_alive() -> None:
    spreads = []
    for minimum_std in (0.0, 0.2):
        score = Score()
        search(score, CEMConfig(iterations=8, minimum_std=minimum_std))
        spreads.append(float(score.asked[7].std(dim=0).mean()))
    assert spreads[0] < 0.01 and spreads[1] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("finalists", [0, 8])
def test_the_best_of_all_iterations_are_kept(finalists: int) -> None:
    score = Score()
    actions, _ = search(score, CEMConfig(finalists=finalists, initial_std=0.3))
    tried = torch.cat(score.asked)
    assert torch.equal(actions, tried[(tried - BEST).norm(dim=1).argsort()[: finalists or 1]])


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reserve", "sizes"),
    [
        (PlannerConfig(64, gradient_steps=0), 0, [16, 16, 32, 64, 64, 64, 16]),
        (PlannerConfig(64, gradient_steps=0), 40, [16, 16, 32, 64, 64, 64]),
        (PlannerConfig(64, gradient_steps=0), 9999, [16, 16, 32, 64, 64, 32, 16]),
        (CEMConfig(50, iterations=1), 0, [50, 50, 50, 50, 50]),
    ],
)
def test_rounds_go_on_while_time_lasts(config: Any, reserve: int, sizes: list[int]) -> None:
    score = Score()
    search(score, config, seconds=0.3005, reserve=reserve)
    assert [len(asked) for asked in score.asked] == sizes
    if isinstance(config, PlannerConfig):
        assert torch.equal(torch.cat(score.asked), sobol_points(sum(sizes), 2, seed=0))


def test_steps_go_on_while_time_lasts() -> None:
    score = Score()
    search(score, PlannerConfig(16, 2, 1), seconds=0.999, reserve=20)
    screened = [len(asked) for asked in score.asked].index(2)
    assert sum(map(len, score.asked[:screened])) == pytest.approx(0.8 * (999 - 20), abs=20)
    assert sum(score.with_gradient) > 80 and not score.with_gradient[-1]
    assert score.now == pytest.approx(0.999 - 0.016 - 0.02, abs=0.003)


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_turns_go_on_for_as_long_as_the_next_one_fits() -> None:
    clock = Clock()
    may_go_on = Deadline(120.0, clock).may_play(0.5)
    assert may_go_on(10), "nothing is known of its cost"
    clock.now += 2.0
    assert not may_go_on(50) and may_go_on(40)
    clock.now += 4.0
    assert not may_go_on(41) and may_go_on(1)  # a tenth of a second each, but two at least
    clock.now += 3.0
    assert not may_go_on(1)
    assert all(map(Budget().may_play(0.5), (1, 10**9)))


def test_what_is_affordable_after_a_search() -> None:
    clock = Clock()
    budget = Deadline(130.0, clock, episodes=2)
    assert budget.affordable(8, 16) == 8, "nothing is known of its cost"
    for size in budget.rounds([], [5]):
        clock.now += size  # half a second for each of two episodes
    assert budget.affordable(8, 4) == 6  # and one rollout at the end
    clock.now += 15.5
    assert budget.affordable(8, 4) == 2
    clock.now += 5.0
    assert budget.affordable(8, 4) == 0, "a few cost as much as the shortest round"
    assert Budget().affordable(8, 4) == 8


# -- points ------------------------------------------------------------------------------------


def test_sobol_points_cover_the_space_evenly_and_may_be_drawn_in_pieces() -> None:
    points = sobol_points(64, 2, seed=0)
    assert points.shape == (64, 2) and float(points.abs().max()) <= 1.0
    quadrants = (points > 0).long() @ torch.tensor([1, 2])
    assert torch.bincount(quadrants, minlength=4).tolist() == [16, 16, 16, 16]
    assert torch.equal(points, sobol_points(64, 2, seed=0))
    assert not torch.equal(points, sobol_points(64, 2, seed=1))
    pieces = [sobol_points(n, 3, seed=4, skip=skip) for n, skip in ((5, 0), (1, 5), (26, 6))]
    assert torch.equal(torch.cat(pieces), sobol_points(32, 3, seed=4))


def test_normal_points_are_standard_normal() -> None:
    points = normal_points(512, 2, seed=0)
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(points.std(dim=0), torch.ones(2), atol=0.03, rtol=0)
    assert float(points.prod(dim=1).mean()) == pytest.approx(0.0, abs=0.05)
    assert bool(normal_points(16, 2, seed=5).isfinite().all())
    assert normal_points(0, 2, seed=0).shape == (0, 2)
