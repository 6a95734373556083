"""The planner on worlds whose best action is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.agents import PROTOCOLS, GradientPlanner, PlannerConfig, ReachRegion
from jumpy_mbrl.agents.planner import normal_spread, spread
from jumpy_mbrl.models.base import Imagined, State, WorldModel

NO_SEARCH: dict[str, Any] = {"candidates": 1, "refined": 1, "finalists": 0}


class Push(WorldModel):
    """The object ball moves by ``gain * action`` a frame; ticks at every whole frame."""

    def __init__(self, gain: float = 1.0, action_size: int = 2) -> None:
        super().__init__()
        self.obs_size, self.action_size = 4, action_size
        self.gain = gain
        self.asked: list[Tensor] = []

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.full((batch_size, 1, 4), 0.5))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.zeros(len(last)), last)

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        way = self.gain * action.unsqueeze(1) * times.view(1, -1, 1)
        cue = state.obs[:, None, :2].expand(-1, len(times), -1)
        return torch.cat([cue, state.obs[:, None, 2:] + way], dim=-1)

    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        assert action is not None
        self.asked.append(action.detach().clone())
        ticks = torch.arange(0.0, end).expand(state.batch_size, -1)
        return Imagined(self.moved(state, times, action), ticks, state)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Exploding(Push):
    """Rollouts of actions to the right are not numbers."""

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        good = super().moved(state, times, action)
        return good / (action[:, :1] < 0).to(good).unsqueeze(1) * 1.0


class TwoPeaks:
    """Scores the first action: a narrow high peak at -0.5, a broad low one at 0.5."""

    times = torch.tensor([1.0])

    def __call__(self, obs: Tensor) -> Tensor:
        action = obs[..., -1, 2] - 0.5
        narrow = 1.0 - (action + 0.5).abs() / 0.004
        broad = 0.2 - (action - 0.5).abs() / 2.0
        return torch.maximum(narrow, broad)

    def select(self, rows: slice) -> TwoPeaks:
        return self


def frames(*places: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Lead-in frames (B, 4, 4) of resting balls with the object ball at each place."""
    obs = np.full((len(places), 4, 4), 0.5, dtype=np.float32)
    obs[:, :, 2:] = np.array(places, dtype=np.float32)[:, None]
    return obs


def right_below(times: tuple[float, ...] = (1.0,)) -> ReachRegion:
    """From (0.5, 0.5), the action to its middle in one frame is (0.3, -0.3)."""
    return ReachRegion((0.7, 0.9, 0.1, 0.3), times)


def test_gradient_reaches_the_optimum_from_one_start() -> None:
    config = PlannerConfig(**NO_SEARCH, gradient_steps=150, learning_rate=0.02)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    torch.testing.assert_close(plan.action, torch.tensor([[0.3, -0.3]]), atol=0.02, rtol=0)
    assert float(plan.score) == pytest.approx(0.1, abs=0.02)


def test_screening_alone_finds_the_best_candidate() -> None:
    config = PlannerConfig(candidates=64, refined=1, gradient_steps=0, finalists=0, seed=3)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    candidates = spread(64, 2, seed=3)
    nearest = (candidates - torch.tensor([0.3, -0.3])).abs().amax(dim=1).argmin()
    torch.testing.assert_close(plan.action[0], candidates[nearest])


def test_best_iterate_is_kept_not_the_last() -> None:
    class Recording(ReachRegion):
        scores: list[float]

        def __call__(self, obs: Tensor) -> Tensor:
            score = super().__call__(obs)
            self.scores.append(float(score.detach()))
            return score

    objective = Recording((0.7, 0.9, 0.1, 0.3), [1.0])
    objective.scores = []
    config = PlannerConfig(**NO_SEARCH, gradient_steps=20, learning_rate=0.45)
    plan = GradientPlanner(Push(), objective, config).plan(frames((0.5, 0.5)))
    assert max(objective.scores) > objective.scores[-1] + 0.01  # the steps do overshoot
    assert float(plan.score) == max(objective.scores)
    reached = torch.cat([torch.full((2,), 0.5), 0.5 + plan.action[0]]).view(1, 1, 1, 4)
    assert float(ReachRegion((0.7, 0.9, 0.1, 0.3), [1.0])(reached)) == float(plan.score)


def test_no_step_for_the_worse_is_taken() -> None:
    screened = PlannerConfig(candidates=32, refined=4, gradient_steps=0, finalists=0)
    refined = PlannerConfig(candidates=32, refined=4, gradient_steps=6, finalists=0)
    tables = frames((0.5, 0.5), (0.2, 0.9), (0.9, 0.4))
    before = GradientPlanner(Push(), right_below(), screened).plan(tables).score
    after = GradientPlanner(Push(), right_below(), refined).plan(tables).score
    assert bool((after >= before).all()) and bool((after > before).any())


def test_same_input_same_plan_and_no_global_randomness() -> None:
    state = torch.get_rng_state()
    first = GradientPlanner(Push(), right_below()).plan(frames((0.5, 0.5), (0.4, 0.6)))
    torch.rand(5)
    planner = GradientPlanner(Push(), right_below())
    planner.plan(frames((0.1, 0.9)))
    second = planner.plan(frames((0.5, 0.5), (0.4, 0.6)))
    for name in ("action", "score", "belief", "ticks"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    torch.set_rng_state(state)
    GradientPlanner(Push(), right_below()).plan(frames((0.5, 0.5)))
    assert torch.equal(torch.get_rng_state(), state)


def test_plan_does_not_depend_on_the_rest_of_the_batch() -> None:
    places = ((0.5, 0.5), (0.1, 0.9), (0.9, 0.9), (0.3, 0.2), (0.8, 0.2))
    regions = torch.tensor([(0.7, 0.9, 0.1, 0.3), (0.0, 0.2, 0.0, 0.2)])[[0, 1, 0, 1, 0]]
    for at_once in (16_384, 256, 1):
        config = PlannerConfig(rollouts_at_once=at_once)
        whole = GradientPlanner(Push(), ReachRegion(regions, [1.0, 2.0]), config)
        together = whole.plan(frames(*places))
        for row, place in enumerate(places):
            alone = GradientPlanner(Push(), ReachRegion(regions[row], [1.0, 2.0]))
            plan = alone.plan(frames(place))
            for name in ("action", "score", "belief", "ticks"):
                assert torch.equal(getattr(together, name)[row], getattr(plan, name)[0])


def test_rollouts_at_once_bounds_every_rollout() -> None:
    model = Push()
    config = PlannerConfig(candidates=8, refined=4, perturbations=4, rollouts_at_once=32)
    GradientPlanner(model, right_below(), config).plan(frames(*[(0.5, 0.5)] * 9))
    assert max(len(actions) for actions in model.asked) <= 32
    # 8 finalists of 4 rollouts fill them with one episode; so each is planned by itself.
    assert {len(actions) for actions in model.asked} == {8, 4, 16, 1}


def test_actions_stay_in_bounds_and_the_optimum_may_lie_on_them() -> None:
    model = Push(gain=0.1)  # the optimum would be (3, -3)
    config = PlannerConfig(candidates=16, gradient_steps=60, learning_rate=0.1, action_noise=0.5)
    plan = GradientPlanner(model, right_below(), config).plan(frames((0.5, 0.5)))
    torch.testing.assert_close(plan.action, torch.tensor([[1.0, -1.0]]))
    asked = torch.cat(model.asked)
    assert float(asked.abs().max()) == 1.0
    assert float(plan.score) < 0 and float(plan.belief) == 0.0


def test_belief_is_the_fraction_of_perturbed_shots_that_succeed() -> None:
    sure = GradientPlanner(Push(), right_below()).plan(frames((0.5, 0.5)))
    assert float(sure.belief) == 1.0
    config = PlannerConfig(perturbations=64, action_noise=0.1)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5)))
    # The middle lies one standard deviation from each edge: 0.683 on an axis, squared on two.
    assert float(plan.belief) == pytest.approx(0.466, abs=0.12)
    others = plan.action + 0.1 * normal_spread(64, 2, seed=1)
    inside = (others - torch.tensor([0.3, -0.3])).abs().amax(dim=1) < 0.1
    assert float(plan.belief) == pytest.approx(float(inside.float().mean()), abs=1e-6)


def test_without_a_stress_test_belief_is_yes_or_no() -> None:
    config = PlannerConfig(finalists=0)
    plan = GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5), (0.5, 9.0)))
    assert plan.belief.tolist() == [1.0, 0.0]


def test_stress_test_prefers_the_robust_optimum() -> None:
    settings: dict[str, Any] = {"candidates": 1024, "refined": 1024, "gradient_steps": 0}
    bold = GradientPlanner(Push(), TwoPeaks(), PlannerConfig(**settings, finalists=0))
    assert float(bold.plan(frames((0.5, 0.5))).action[0, 0]) == pytest.approx(-0.5, abs=0.004)
    careful = PlannerConfig(**settings, finalists=256, action_noise=0.02)
    plan = GradientPlanner(Push(), TwoPeaks(), careful).plan(frames((0.5, 0.5)))
    assert float(plan.action[0, 0]) == pytest.approx(0.5, abs=0.1)
    assert float(plan.belief) == 1.0 and float(plan.score) < 0.25


def test_rollouts_that_are_not_numbers_are_never_chosen() -> None:
    region = ReachRegion((0.1, 0.3, 0.4, 0.6), [1.0])
    for config in PROTOCOLS.values():
        planner = GradientPlanner(Exploding(), region, config)
        plan = planner.plan(frames((0.5, 0.5), (0.6, 0.4)))
        assert bool(plan.action.isfinite().all())
        if config.candidates > 1:
            assert bool((plan.action[:, 0] < 0).all()) and plan.belief.tolist() == [1.0, 1.0]


def test_ticks_are_those_of_the_chosen_rollout() -> None:
    plan = GradientPlanner(Push(), right_below((1.0, 7.0))).plan(frames((0.5, 0.5)))
    assert plan.ticks.tolist() == [7]


def test_predict_has_the_signature_of_stable_baselines() -> None:
    planner = GradientPlanner(Push(), right_below())
    batch = frames((0.5, 0.5), (0.4, 0.6))
    actions, state = planner.predict(batch, None, np.ones(2, dtype=bool), deterministic=True)
    assert actions.shape == (2, 2) and actions.dtype == np.float32 and state is None
    single, _ = planner.predict(batch[1])
    np.testing.assert_array_equal(single, actions[1])


def test_a_given_state_takes_the_place_of_the_frames() -> None:
    planner = GradientPlanner(Push(), right_below())
    told = planner.model.observe(torch.from_numpy(frames((0.9, 0.9))))
    actions, _ = planner.predict(frames((0.5, 0.5)), told)
    expected, _ = planner.predict(frames((0.9, 0.9)))
    np.testing.assert_array_equal(actions, expected)
    with pytest.raises(ValueError, match=r"one row for each of the 2 episodes, got 1"):
        planner.predict(frames((0.5, 0.5), (0.5, 0.5)), told)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros((2, 3, 4)), r"shape \(B, 4, 4\) or \(4, 4\).*got \(2, 3, 4\)"),
        (np.zeros((2, 4, 6)), r"got \(2, 4, 6\)"),
        (np.zeros((0, 4, 4)), r"got \(0, 4, 4\)"),
        (np.zeros(4), r"got \(4,\)"),
        (np.where(np.arange(32).reshape(2, 4, 4) == 20, np.nan, 0.5), r"finite.*rows \[1\]"),
    ],
)
def test_wrong_observations_are_refused(observation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPlanner(Push(), right_below()).predict(observation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"refined": 0}, "refined must be at least 1, got 0"),
        ({"rollouts_at_once": 0}, "rollouts_at_once must be at least 1, got 0"),
        ({"gradient_steps": -1}, "gradient_steps must not be negative, got -1"),
        ({"action_noise": float("nan")}, "action_noise must not be negative, got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"perturbations": 0}, "set finalists=0 for no stress test"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**settings)


def test_a_model_without_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with actions, got Push"):
        GradientPlanner(Push(action_size=0), right_below())


def test_no_stress_test_needs_no_perturbations() -> None:
    config = PlannerConfig(finalists=0, perturbations=0)
    assert float(GradientPlanner(Push(), right_below(), config).plan(frames((0.5, 0.5))).score) > 0


def test_protocols() -> None:
    assert set(PROTOCOLS) == {"default", "paper"}
    paper, default = PROTOCOLS["paper"], PROTOCOLS["default"]
    assert (paper.candidates, paper.refined, paper.gradient_steps) == (1, 1, 20)
    assert paper.finalists == 0
    assert default.candidates > 1 and default.gradient_steps > 0 and default.finalists > 0


def test_spread_covers_the_space_evenly() -> None:
    points = spread(64, 2, seed=0)
    assert points.shape == (64, 2) and float(points.abs().max()) <= 1.0
    quadrants = (points > 0).long() @ torch.tensor([1, 2])
    assert torch.bincount(quadrants, minlength=4).tolist() == [16, 16, 16, 16]
    assert torch.equal(points, spread(64, 2, seed=0))
    assert not torch.equal(points, spread(64, 2, seed=1))
    assert spread(0, 2, seed=0).shape == (0, 2)


def test_normal_spread_is_standard_normal() -> None:
    points = normal_spread(512, 2, seed=0)
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(points.std(dim=0), torch.ones(2), atol=0.03, rtol=0)
    assert float(points.prod(dim=1).mean()) == pytest.approx(0.0, abs=0.05)
    assert bool(normal_spread(16, 2, seed=5).isfinite().all())
