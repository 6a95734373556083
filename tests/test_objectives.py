"""Scores of imagined observations, against values worked out by hand."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jumpy_mbrl import objectives
from jumpy_mbrl.agents import FunctionObjective, ReachPointAtTime, ReachRegion
from jumpy_mbrl.envs.rules import line_task, plane_task
from jumpy_mbrl.objectives import ReachAll, objective_of

REGION = (0.6, 1.0, 0.0, 0.2)


def seen(*ways: list[tuple[float, float]], ball: int = 1) -> torch.Tensor:
    """Observations (1, S, K, 4) of candidates whose ball is at the given places."""
    obs = torch.full((1, len(ways), len(ways[0]), 4), 0.5)
    obs[0, :, :, 2 * ball : 2 * ball + 2] = torch.tensor(ways)
    return obs


@pytest.mark.parametrize(
    ("place", "score"),
    [
        ((0.8, 0.1), 0.1),  # the middle: as deep as it gets
        ((0.95, 0.1), 0.05),
        ((0.8, 0.03), 0.03),
        ((0.6, 0.1), 0.0),  # on the border
        ((0.3, 0.1), -0.3),
        ((0.8, 0.7), -0.5),
        ((0.3, 0.6), -0.5),  # off a corner: 3, 4, 5
        ((1.2, -0.1), -(0.05**0.5)),
    ],
)
def test_region_score_is_the_signed_distance(place: tuple[float, float], score: float) -> None:
    objective = ReachRegion(REGION, [7.0])
    assert float(objective(seen([place]))) == pytest.approx(score, abs=2e-6)


def test_region_score_is_that_of_the_best_time() -> None:
    objective = ReachRegion(REGION, [1.0, 2.0, 3.0])
    scores = objective(seen([(0.3, 0.1), (0.8, 0.1), (0.8, 0.7)], [(0.0, 0.1)] * 3))
    assert scores.shape == (1, 2)
    torch.testing.assert_close(scores, torch.tensor([[0.1, -0.6]]), atol=2e-6, rtol=0)


def test_region_asks_for_its_ball_alone() -> None:
    cue = seen([(0.8, 0.1)], ball=0)
    assert float(ReachRegion(REGION, [1.0], ball=0)(cue)) == pytest.approx(0.1, abs=2e-6)
    assert float(ReachRegion(REGION, [1.0], ball=1)(cue)) == pytest.approx(-0.3162, abs=1e-4)


def test_the_ball_of_a_region_is_one_of_those_observed() -> None:
    alone = torch.tensor([0.8, 0.1]).view(1, 1, 1, 2)
    assert float(ReachRegion(REGION, [1.0])(alone)) == pytest.approx(0.1, abs=2e-6)
    with pytest.raises(ValueError, match="one of the 1 observed, from 0 on, got 1"):
        ReachRegion(REGION, [1.0], ball=1)(alone)


def test_region_gradient_leads_inside() -> None:
    obs = seen([(0.3, 0.6)]).requires_grad_(True)
    ReachRegion(REGION, [1.0])(obs).sum().backward()
    assert obs.grad is not None
    torch.testing.assert_close(obs.grad[0, 0, 0], torch.tensor([0.0, 0.0, 0.6, -0.8]))


def test_region_gradient_is_finite_on_the_border_and_inside() -> None:
    for place in ((0.6, 0.1), (0.8, 0.1), (0.6, 0.2)):
        obs = seen([place]).requires_grad_(True)
        ReachRegion(REGION, [1.0])(obs).sum().backward()
        assert obs.grad is not None and bool(obs.grad.isfinite().all())


def of_balls(*ways: list[tuple[float, float]]) -> torch.Tensor:
    """Observations (1, 1, K, 2N) of balls that go these ways, and a cue ball in the corner."""
    places = torch.tensor([[(0.9, 0.1)] * len(ways[0]), *ways])  # (N, K, 2)
    return places.transpose(0, 1).flatten(1)[None, None]


@pytest.mark.parametrize(
    ("ways", "score"),
    [
        ([[(0.8, 0.1)], [(0.95, 0.1)]], 0.05),  # the one that is least deep
        ([[(0.3, 0.1), (0.8, 0.1)], [(0.8, 0.03), (0.0, 0.9)]], 0.03),  # each at its own time
        ([[(0.8, 0.1)], [(0.8, 0.29)]], -0.15),  # -sqrt(0.09) / 2
        ([[(0.56, 0.1)], [(0.8, 0.29)]], -0.25),  # -(0.2 + 0.3) / 2
    ],
)
def test_all_balls_get_there(ways: list[list[tuple[float, float]]], score: float) -> None:
    times = [1.0, 2.0][: len(ways[0])]
    assert float(ReachAll(REGION, times)(of_balls(*ways))) == pytest.approx(score, abs=2e-4)
    swapped = ReachAll(REGION, times, balls=[2, 1])(of_balls(*ways))
    assert float(swapped) == pytest.approx(score, abs=2e-4)


def test_balls_that_were_inside_need_not_be_again() -> None:
    obs = of_balls([(0.8, 0.1)], [(0.0, 0.9)]).repeat(3, 1, 1, 1).requires_grad_(True)
    objective = ReachAll(REGION, [1.0], reached=[[False, True], [False, False], [True, True]])
    scores = objective(obs)[:, 0]
    assert scores.tolist() == pytest.approx([0.1, -0.4801, 1.0], abs=1e-4)
    torch.testing.assert_close(objective.select(slice(1, 3))(obs[1:])[:, 0], scores[1:])
    scores.sum().backward()
    assert obs.grad is not None and bool(obs.grad.isfinite().all())
    assert bool((obs.grad[1, 0, 0, 4:] != 0).all()) and not bool(obs.grad[2].any())
    with pytest.raises(ValueError, match=r"of 2 episodes which of 2 balls were inside, got .*3, 2"):
        objective(obs[:2])
    for balls in ([3], [-1], []):
        with pytest.raises(ValueError, match="some of the 3 observed"):
            ReachAll(REGION, [1.0], balls=balls)(obs)


def test_each_episode_may_have_its_region() -> None:
    regions = torch.tensor([REGION, (0.0, 0.4, 0.0, 0.2), (0.0, 1.0, 0.0, 1.0)])
    objective = ReachRegion(regions, [1.0])
    obs = seen([(0.8, 0.1)], [(0.2, 0.1)]).expand(3, -1, -1, -1)
    scores = objective(obs)
    expected = torch.tensor([[0.1, -0.4], [-0.4, 0.1], [0.1, 0.1]])
    torch.testing.assert_close(scores, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(objective.select(slice(1, 3))(obs[1:]), scores[1:])
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(objective.select(rows)(obs[rows]), scores[rows])
    torch.testing.assert_close(ReachRegion(REGION, [1.0]).select(slice(1, 3))(obs[:1]), scores[:1])


def test_regions_must_be_as_many_as_the_episodes() -> None:
    objective = ReachRegion(torch.tensor([REGION] * 3), [1.0])
    with pytest.raises(ValueError, match="one for each of the 1 episodes, got 3"):
        objective(seen([(0.8, 0.1)]))


def test_point_score_is_the_tolerance_minus_the_distance() -> None:
    objective = ReachPointAtTime([0.33], time=20.0, tolerance=0.1, index=[3])
    assert objective.times.tolist() == [20.0]
    obs = torch.tensor([0.0, 0.0, 0.0, 0.40]).view(1, 1, 1, 4).requires_grad_(True)
    score = objective(obs)
    assert float(score.detach()) == pytest.approx(0.03, abs=1e-5)
    score.sum().backward()
    assert obs.grad is not None
    torch.testing.assert_close(obs.grad.flatten(), torch.tensor([0.0, 0.0, 0.0, -1.0]))
    plane = ReachPointAtTime([0.1, 0.2], time=1.0, tolerance=0.5, index=[0, 1])
    assert float(plane(torch.tensor([0.4, 0.6]).view(1, 1, 1, 2))) == pytest.approx(0.0, abs=1e-5)
    assert plane.select(slice(0, 1)) is plane


def test_frames_show_targets_to_objectives_that_can_be_aimed() -> None:
    frames = torch.rand((3, 4, 8), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([REGION, (0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 0.5, 1.0)])
    frames[..., 4:] = targets[:, None]
    balls, each = objectives.aimed(frames, 4, ReachRegion(None, [1.0, 2.0]))
    assert isinstance(each, ReachRegion) and each.times.tolist() == [1.0, 2.0]
    torch.testing.assert_close(balls, frames[..., :4])
    torch.testing.assert_close(each.region, targets)
    line, each_line = objectives.aimed(frames[..., 4:], 2, ReachPointAtTime(None, 9, 0.0, [1]))
    assert line.shape == (3, 4, 2) and isinstance(each_line, ReachPointAtTime)
    ends = torch.tensor([0.1, 0.25, 0.1]).view(3, 1, 1, 1).expand(3, 1, 1, 2)
    inside = torch.tensor([[0.1], [-0.05], [-0.4]])  # of the intervals of y
    torch.testing.assert_close(each_line(ends), inside, atol=2e-6, rtol=0)
    for given, objective in (
        (balls, ReachRegion(REGION, [1.0])),
        (frames, FunctionObjective(lambda obs: obs[..., -1, 0], [1.0])),
    ):
        assert objectives.aimed(given, 4, objective) == (given, objective)


@pytest.mark.parametrize("unknown", [ReachRegion(None, [1.0]), ReachPointAtTime(None, 1, 0, [1])])
def test_a_target_that_was_not_shown_is_not_made_up(unknown: objectives.Objective) -> None:
    assert unknown.select(slice(0, 1)) is unknown
    with pytest.raises(ValueError, match=r"none was shown: give frames with the target, 4 \+ \d"):
        unknown(seen([(0.8, 0.1)]))


def test_the_examples_in_the_documentation_run() -> None:
    found: dict[str, object] = {"FunctionObjective": FunctionObjective, "torch": torch}
    for made in (objectives.Objective, FunctionObjective):
        (example,) = doctest.DocTestFinder(recurse=False).find(made, globs=found)
        assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
        found |= example.globs
    own, function = found["EndsLeft"], found["objective"]
    assert isinstance(own, type) and isinstance(function, FunctionObjective)
    obs = seen([(0.1, 0.5)], [(0.8, 0.5)])
    for objective in (own(), function):
        torch.testing.assert_close(objective(obs), torch.tensor([[0.2, -0.5]]))
        assert objective.times.tolist() == [40.0] and objective.select(slice(0, 1)) is objective


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReachRegion((0.0, 1.0, 0.0), [1.0]), r"region must be .* got shape \(3,\)"),
        (lambda: ReachRegion(torch.zeros(2, 2, 4), [1.0]), r"got shape \(2, 2, 4\)"),
        (lambda: ReachRegion((0.5, 0.4, 0.0, 1.0), [1.0]), "low < high on both axes"),
        (lambda: ReachRegion((0.0, 0.4, float("nan"), 1.0), [1.0]), "low < high on both axes"),
        (lambda: ReachPointAtTime([0.3], 1.0, 0.1, [0, 1]), "equally long, got 1 and 2"),
    ],
)
def test_impossible_objectives_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- of the environments -------------------------------------------------------------------------


def test_the_objective_of_a_table_is_the_environments() -> None:
    config = {"target": (0.1, 0.2, 0.3, 0.4), "num_frames": 10}
    objective = objective_of(plane_task(config=config))
    assert isinstance(objective, ReachRegion) and objective.ball == 1
    torch.testing.assert_close(objective.region, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    for task, times in (
        (plane_task(config=config), range(1, 7)),  # frames 4 to 9
        (plane_task(), range(1, 42)),  # frames 4 to 44
        (plane_task(config={"num_frames": 90}), range(1, 87)),
        (plane_task(success="last"), [41]),
        (plane_task(random_target=True), range(1, 42)),
    ):
        assert objective_of(task).times.tolist() == list(times)
    targets = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    drawn = objective_of(plane_task(random_target=True), targets)
    assert isinstance(drawn, ReachRegion)
    torch.testing.assert_close(drawn.region, torch.tensor(targets, dtype=torch.float32))


def test_the_objective_of_a_line_is_the_environments() -> None:
    objective = objective_of(line_task())
    assert isinstance(objective, ReachPointAtTime) and objective.times.tolist() == [17.0]
    ends = torch.tensor([0.225, 0.235, 0.33, 0.425, 0.435])
    obs = torch.stack([torch.full((5,), 0.9), ends], dim=-1).view(1, 5, 1, 2)
    assert (objective(obs) > 0).tolist() == [[False, True, True, True, False]]
    one = torch.tensor([[0.0, 1.0, 0.23, 0.43], [0.0, 1.0, 0.4, 0.44]])
    drawn = objective_of(line_task(random_target=True), one.numpy())
    assert isinstance(drawn, ReachPointAtTime) and drawn.times.tolist() == [17.0]
    both = obs.expand(2, -1, -1, -1)
    torch.testing.assert_close(drawn(both)[:1], objective(obs))
    assert (drawn(both)[1] > 0).tolist() == [False, False, False, True, True]
    torch.testing.assert_close(drawn.select(slice(1, 2))(obs), drawn(both)[1:])
