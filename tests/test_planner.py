"""What holds for every planner, on worlds whose best action is known."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import devices
from jumpy_mbrl.agents import (
    CEMConfig,
    CEMPlanner,
    FunctionObjective,
    GradientPlanner,
    Objective,
    Plan,
    Planner,
    PlannerConfig,
    ReachRegion,
    SearchConfig,
)
from jumpy_mbrl.agents.planning.points import normal_spread
from jumpy_mbrl.models import RNN, RNNConfig
from jumpy_mbrl.models.base import Imagined, State, WorldModel
from jumpy_mbrl.models.bodies.event_driven import EventState
from jumpy_mbrl.models.bodies.simulator import SimulatorModel

CONFIGS: list[SearchConfig] = [PlannerConfig(), CEMConfig()]

every_planner = pytest.mark.parametrize("config", CONFIGS, ids=["gradient", "cem"])


def planner_of(config: SearchConfig, model: WorldModel, objective: Objective, **more: Any) -> Any:
    """The planner that a config is for."""
    kind: Any = CEMPlanner if isinstance(config, CEMConfig) else GradientPlanner
    return kind(model, objective, config, **more)


class Push(WorldModel):
    """The object ball moves by ``gain * action`` a frame; ticks at every whole frame."""

    def __init__(self, gain: float = 1.0, action_size: int = 2, obs_size: int = 4) -> None:
        super().__init__()
        self.obs_size, self.action_size = obs_size, action_size
        self.gain = gain
        self.asked: list[Tensor] = []

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.full((batch_size, 1, 4), 0.5))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.zeros_like(last[:, 0]), last)

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        way = self.gain * action.unsqueeze(1) * times.view(1, -1, 1)
        cue = state.obs[:, None, :2].expand(-1, len(times), -1)
        return torch.cat([cue, state.obs[:, None, 2:] + way], dim=-1)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
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


class Mirage(Push):
    """Believes that every push to the left arrives exactly in the middle of the region."""

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        left = (action[:, :1] < 0).unsqueeze(1)
        middle = torch.tensor([0.5, 0.5, 0.8, 0.2]).expand(len(action), len(times), -1)
        return torch.where(left, middle, super().moved(state, times, action))


class Delicate(Push):
    """A push to the left ends far off, unless the latent is exactly what was observed."""

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        left = (action[:, :1] < 0).to(action)
        error = 100.0 * left * (state.hidden - state.obs)
        return super().moved(state, times, action) + error.unsqueeze(1)


class Clocked(Push):
    """Every rollout takes a tenth of a millisecond, four with its gradient."""

    now = 0.0

    def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
        self.now += 1e-4 * len(action) * (4.0 if action.requires_grad else 1.0)
        return super().moved(state, times, action)

    def clock(self) -> float:
        return self.now


class TwoPeaks:
    """Scores the first action: a narrow high peak at -0.5, a broad low one at 0.5."""

    times = torch.tensor([1.0])

    def __call__(self, obs: Tensor) -> Tensor:
        action = obs[..., -1, 2] - 0.5
        narrow = 1.0 - (action + 0.5).abs() / 0.004
        broad = 0.2 - (action - 0.5).abs() / 2.0
        return torch.maximum(narrow, broad)

    def select(self, rows: slice | Tensor) -> TwoPeaks:
        return self


def frames(*places: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Lead-in frames (B, 4, 4) of resting balls with the object ball at each place."""
    obs = np.full((len(places), 4, 4), 0.5, dtype=np.float32)
    obs[:, :, 2:] = np.array(places, dtype=np.float32)[:, None]
    return obs


def right_below(times: tuple[float, ...] = (1.0,)) -> ReachRegion:
    """From (0.5, 0.5), the action to its middle in one frame is (0.3, -0.3)."""
    return ReachRegion((0.7, 0.9, 0.1, 0.3), times)


def assert_equal(first: Plan, second: Plan) -> None:
    for name in ("action", "score", "belief", "ticks"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


# -- the search --------------------------------------------------------------------------------


@every_planner
def test_the_best_action_is_found(config: SearchConfig) -> None:
    plan = planner_of(config, Push(), right_below()).plan(frames((0.5, 0.5), (0.6, 0.4)))
    best = torch.tensor([[0.3, -0.3], [0.2, -0.2]])
    torch.testing.assert_close(plan.action, best, atol=0.05, rtol=0)
    assert bool((plan.score > 0.05).all()) and plan.belief.tolist() == [1.0, 1.0]


@every_planner
def test_same_input_same_plan_and_no_global_randomness(config: SearchConfig) -> None:
    config = replace(config, state_noise=0.01)
    state = torch.get_rng_state()
    first = planner_of(config, Push(), right_below()).plan(frames((0.5, 0.5), (0.4, 0.6)))
    assert torch.equal(torch.get_rng_state(), state)
    planner = planner_of(config, Push(), right_below())
    planner.plan(frames((0.1, 0.9)))
    torch.rand(5)
    assert_equal(first, planner.plan(frames((0.5, 0.5), (0.4, 0.6))))
    torch.set_rng_state(state)


@pytest.mark.parametrize("at_once", [32_768, 256, 1])
@pytest.mark.parametrize("config", [*CONFIGS, PlannerConfig(skip_certain=True)])
def test_plan_does_not_depend_on_the_rest_of_the_batch(config: SearchConfig, at_once: int) -> None:
    config = replace(config, state_noise=0.02, action_noise=0.03)
    places = ((0.5, 0.5), (0.1, 0.9), (0.9, 0.9), (0.3, 0.2), (0.8, 0.2))
    regions = torch.tensor([(0.7, 0.9, 0.1, 0.3), (0.0, 0.2, 0.0, 0.2)])[[0, 1, 0, 1, 0]]
    parts = replace(config, rollouts_at_once=at_once)
    whole = planner_of(parts, Push(), ReachRegion(regions, [1.0, 2.0])).plan(frames(*places))
    for row, place in enumerate(places):
        alone = planner_of(config, Push(), ReachRegion(regions[row], [1.0, 2.0]))
        plan = alone.plan(frames(place))
        for name in ("action", "score", "belief", "ticks"):
            assert torch.equal(getattr(whole, name)[row], getattr(plan, name)[0])


@every_planner
def test_rollouts_that_are_not_numbers_are_never_chosen(config: SearchConfig) -> None:
    planner = planner_of(config, Exploding(), ReachRegion((0.1, 0.3, 0.4, 0.6), [1.0]))
    plan = planner.plan(frames((0.5, 0.5), (0.6, 0.4)))
    assert bool((plan.action[:, 0] < 0).all()) and plan.belief.tolist() == [1.0, 1.0]


def test_where_everything_blows_up_there_still_is_a_shot() -> None:
    nowhere = FunctionObjective(lambda obs: obs[..., -1, 2] * torch.nan, [1.0])
    for config in CONFIGS:
        plan = planner_of(config, Push(), nowhere).plan(frames((0.5, 0.5)))
        assert bool((plan.action.abs() <= 1).all()) and float(plan.belief) == 0.0


@every_planner
def test_ticks_are_those_of_the_chosen_rollout(config: SearchConfig) -> None:
    plan = planner_of(config, Push(), right_below((1.0, 7.0))).plan(frames((0.5, 0.5)))
    assert plan.ticks.tolist() == [7]


# -- bounds ------------------------------------------------------------------------------------


@every_planner
def test_actions_stay_in_bounds_and_the_optimum_may_lie_on_them(config: SearchConfig) -> None:
    bounds: dict[str, Any] = {"action_low": (0.1, -0.7), "action_high": (0.2, 0.0)}
    config = replace(config, action_noise=0.5, **bounds)
    model = Push()
    planner = planner_of(config, model, ReachRegion((1.3, 1.5, 0.1, 0.3), [1.0]))
    plan = planner.plan(frames((0.5, 0.5)))
    low, high = torch.tensor((0.1, -0.7)), torch.tensor((0.2, 0.0))
    assert float(plan.action[0, 0]) == pytest.approx(0.2, abs=0.01)
    assert bool((plan.action >= low).all()) and bool((plan.action <= high).all())
    asked = torch.cat(model.asked)
    torch.testing.assert_close(asked.amin(dim=0), low, atol=1e-3, rtol=0)
    torch.testing.assert_close(asked.amax(dim=0), high, atol=1e-3, rtol=0)
    assert bool((asked >= low - 1e-6).all()) and bool((asked <= high + 1e-6).all())
    assert float(plan.score) < 0 and float(plan.belief) == 0.0


@every_planner
def test_all_steps_and_noises_are_in_units_of_the_bounds(config: SearchConfig) -> None:
    config = replace(config, action_noise=0.2)
    near = planner_of(config, Push(), right_below()).plan(frames((0.5, 0.5)))
    wide = replace(config, action_low=-4.0, action_high=(4.0, 4.0))
    far = planner_of(wide, Push(gain=0.25), right_below()).plan(frames((0.5, 0.5)))
    assert 0 < float(near.belief) < 1
    assert_equal(replace(far, action=far.action / 4.0), near)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"action_low": 1.0}, "action_low must lie below action_high, got 1.0 and 1.0"),
        ({"action_high": (1.0, -2.0)}, r"must lie below action_high, got -1.0 and \(1.0, -2.0\)"),
        ({"action_low": (0.0, 0.0, 0.0)}, r"action_low .* each of the 2 entries .*, got \(0.0, 0"),
        ({"action_high": float("inf")}, "action_high must be a finite number.*, got inf"),
        ({"action_low": (float("nan"), 0.0)}, r"action_low must be a finite .*, got \(nan"),
    ],
)
def test_impossible_bounds_are_refused(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPlanner(Push(), right_below(), PlannerConfig(**bounds))


# -- the stress test ---------------------------------------------------------------------------


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


@every_planner
def test_without_a_stress_test_belief_is_yes_or_no(config: SearchConfig) -> None:
    config = replace(config, finalists=0, perturbations=0)
    plan = planner_of(config, Push(), right_below()).plan(frames((0.5, 0.5), (0.5, 9.0)))
    assert plan.belief.tolist() == [1.0, 0.0]


def test_perturbed_shots_find_the_robust_optimum() -> None:
    everything = PlannerConfig(candidates=1024, refined=1024, gradient_steps=0, finalists=0)
    bold = GradientPlanner(Push(), TwoPeaks(), everything).plan(frames((0.5, 0.5)))
    assert float(bold.action[0, 0]) == pytest.approx(-0.5, abs=0.004)
    careful = replace(everything, finalists=256, action_noise=0.02)
    plan = GradientPlanner(Push(), TwoPeaks(), careful).plan(frames((0.5, 0.5)))
    assert float(plan.action[0, 0]) == pytest.approx(0.5, abs=0.1)
    assert float(plan.belief) == 1.0 and float(plan.score) < 0.25


def test_perturbed_states_find_the_shot_that_forgives_errors() -> None:
    def either_side(obs: Tensor) -> Tensor:
        """Best at x = 0.2, and nearly as good at 0.8."""
        x = obs[..., -1, 2]
        return torch.where(x < 0.5, 0.2, 0.19) - ((x - 0.5).abs() - 0.3).abs()

    objective = FunctionObjective(either_side, [1.0])
    exact = PlannerConfig(candidates=512, refined=512, finalists=512, gradient_steps=0)
    plan = GradientPlanner(Delicate(), objective, exact).plan(frames((0.5, 0.5)))
    assert float(plan.action[0, 0]) == pytest.approx(-0.3, abs=0.02)
    unsure = replace(exact, state_noise=0.02)
    plan = GradientPlanner(Delicate(), objective, unsure).plan(frames((0.5, 0.5)))
    assert float(plan.action[0, 0]) == pytest.approx(0.3, abs=0.05)
    assert float(plan.belief) == 1.0


def test_an_ensemble_rejects_what_only_one_model_believes() -> None:
    everything = PlannerConfig(candidates=256, refined=256, finalists=256, gradient_steps=0)
    alone = GradientPlanner(Mirage(), right_below(), everything).plan(frames((0.5, 0.5)))
    assert float(alone.action[0, 0]) < 0 and float(alone.belief) == 1.0
    others = [Push(), Push(gain=1.001)]
    planner = GradientPlanner(Mirage(), right_below(), everything, ensemble=others)
    plan = planner.plan(frames((0.5, 0.5)))
    torch.testing.assert_close(plan.action, torch.tensor([[0.3, -0.3]]), atol=0.1, rtol=0)
    assert float(plan.belief) == 1.0
    assert [sum(map(len, model.asked)) for model in others] == [256 * 5, 256 * 5]


@every_planner
def test_belief_of_an_ensemble_is_over_all_its_models(config: SearchConfig) -> None:
    planner = planner_of(config, Push(), right_below(), ensemble=[Push(gain=-1.0)] * 3)
    plan = planner.plan(frames((0.5, 0.5), (0.5, 0.5)))
    assert plan.belief.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("member", "settings", "message"),
    [
        (Push(action_size=1), {}, r"obs_size and action_size .* \(4, 2\), got \(4, 1\) in.*\[1\]"),
        (Push(obs_size=6), {}, r"first, \(4, 2\), got \(6, 2\) in ensemble\[1\]"),
        (Push(), {"finalists": 0}, "set finalists > 0, or leave the ensemble out, or set search_"),
        (Push(), {"perturbations": 2}, "perturbations must be at least 3, .* got 2"),
    ],
)
def test_impossible_ensembles_are_refused(
    member: Push, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPlanner(Push(), right_below(), PlannerConfig(**settings), ensemble=(Push(), member))


@every_planner
def test_a_search_by_all_models_goes_where_their_mean_is_best(config: SearchConfig) -> None:
    """One model reaches twice as far as the other: the mean is best between their shots."""
    config = replace(config, finalists=0)
    models = (Push(), Push(gain=2.0))
    shots = []
    for together in (False, True):
        planner = planner_of(
            replace(config, search_ensemble=together),
            models[0],
            right_below(),
            ensemble=models[1:] if together else (),
        )
        plan = planner.plan(frames((0.5, 0.5)))
        shots.append(plan.action[0])
    torch.testing.assert_close(shots[0], torch.tensor([0.3, -0.3]), atol=0.1, rtol=0)
    assert bool((shots[1].abs() < 0.8 * shots[0].abs()).all())
    ends = [
        model.imagine(model.observe(torch.from_numpy(frames((0.5, 0.5)))), [1.0], shots[1][None])
        for model in models
    ]
    mean = torch.stack([right_below()(end.obs.unsqueeze(1))[0, 0] for end in ends]).mean()
    torch.testing.assert_close(plan.score[0], mean)


def test_an_ensemble_cannot_start_from_one_models_state() -> None:
    planner = GradientPlanner(Push(), right_below(), ensemble=[Push()])
    state = planner.model.observe(torch.from_numpy(frames((0.5, 0.5))))
    with pytest.raises(ValueError, match=r"a state belongs to one model, .* an ensemble of 2"):
        planner.plan(frames((0.5, 0.5)), state)


# -- what is given -----------------------------------------------------------------------------


@every_planner
def test_predict_has_the_signature_of_stable_baselines(config: SearchConfig) -> None:
    planner = planner_of(config, Push(), right_below())
    batch = frames((0.5, 0.5), (0.4, 0.6))
    actions, state = planner.predict(batch, None, np.ones(2, dtype=bool), deterministic=True)
    assert actions.shape == (2, 2) and actions.dtype == np.float32 and state is None
    single, _ = planner.predict(batch[1])
    np.testing.assert_array_equal(single, actions[1])


@every_planner
def test_a_given_state_takes_the_place_of_the_frames(config: SearchConfig) -> None:
    planner = planner_of(config, Push(), right_below())
    told = planner.model.observe(torch.from_numpy(frames((0.9, 0.9))))
    actions, _ = planner.predict(frames((0.5, 0.5)), told)
    expected, _ = planner.predict(frames((0.9, 0.9)))
    np.testing.assert_array_equal(actions, expected)
    with pytest.raises(ValueError, match=r"one row for each of the 2 episodes, got 1"):
        planner.predict(frames((0.5, 0.5), (0.5, 0.5)), told)


@every_planner
def test_an_objective_may_be_given_with_each_call(config: SearchConfig) -> None:
    config = replace(config, rollouts_at_once=300)
    regions = torch.tensor([(0.7, 0.9, 0.1, 0.3), (0.0, 0.2, 0.0, 0.2), (0.4, 0.6, 0.7, 0.9)])
    planner = planner_of(config, Push(), right_below())
    batch = frames(*[(0.5, 0.5)] * 3)
    told = planner.plan(batch, objective=ReachRegion(regions, [1.0]))
    assert_equal(told, planner_of(config, Push(), ReachRegion(regions, [1.0])).plan(batch))
    best = torch.tensor([[0.3, -0.3], [-0.4, -0.4], [0.0, 0.3]])
    torch.testing.assert_close(told.action, best, atol=0.06, rtol=0)
    assert_equal(planner.plan(batch[:1]), planner_of(config, Push(), right_below()).plan(batch[:1]))


@every_planner
def test_an_objective_with_scores_of_a_wrong_shape_is_refused(config: SearchConfig) -> None:
    objective = FunctionObjective(lambda obs: obs[..., 2], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"into scores \(B, S\), here \(1, \d+\), got \(1, \d+, 2"):
        planner_of(config, Push(), objective).plan(frames((0.5, 0.5)))


@pytest.fixture(scope="module")
def learned() -> RNN:
    torch.manual_seed(0)
    return RNN(RNNConfig(hidden_size=8, mlp_size=8))


def quick(config: SearchConfig) -> SearchConfig:
    size = "population" if isinstance(config, CEMConfig) else "candidates"
    more: dict[str, Any] = {size: 16, "finalists": 2, "perturbations": 4, "state_noise": 0.01}
    return replace(config, **more)


@every_planner
def test_frames_of_any_type_are_read_as_the_model_reads_them(
    config: SearchConfig, learned: RNN
) -> None:
    batch = frames((0.5, 0.5), (0.25, 0.75))
    planner = planner_of(quick(config), learned, right_below())
    arrays = (batch.astype(float), batch[::-1].copy()[::-1], batch.astype("O"))
    for same in (*arrays, torch.from_numpy(batch).double()):
        assert_equal(planner.plan(same), planner.plan(batch))
    pictures = (255 * batch).astype(np.uint8)
    read = pictures.astype(np.float32) / 255
    whole = (batch > 0.4).astype(np.int64)
    for given, meant in ((pictures, read), (whole, whole.astype(np.float32))):
        plan = planner.plan(meant)
        assert_equal(planner.plan(given), plan)
        for same in (given, given.reshape(2, 16), torch.from_numpy(given)):
            np.testing.assert_array_equal(planner.predict(same)[0], plan.action)
    double = copy.deepcopy(learned).double()
    exact = batch + np.pi * 1e-9
    actions, _ = planner_of(quick(config), double, right_below()).predict(exact)
    plan = planner_of(quick(config), double, right_below()).plan(exact)
    np.testing.assert_array_equal(actions, plan.action.float())
    plan = planner_of(quick(config), double, right_below()).plan(batch)
    assert plan.action.dtype == torch.float64
    torch.testing.assert_close(plan.score.float(), planner.plan(batch).score, atol=1e-3, rtol=0)
    told = double.observe(torch.from_numpy(batch).double())
    assert_equal(planner_of(quick(config), double, right_below()).plan(batch, told), plan)


@every_planner
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_search_keeps_its_precision_where_the_model_has_none(
    config: SearchConfig, kind: torch.dtype, learned: RNN
) -> None:
    half = copy.deepcopy(learned).to(kind)
    planner = planner_of(quick(config), half, right_below())
    batch = frames((0.5, 0.5), (0.25, 0.75))
    plan = planner.plan(batch)
    assert plan.action.dtype == plan.score.dtype == torch.float32
    assert bool((plan.action.abs() <= 1.0).all()) and bool(plan.score.isfinite().all())
    assert not torch.equal(plan.action, plan.action.to(kind).float())
    np.testing.assert_array_equal(planner.predict(batch)[0], plan.action)
    assert planner.observe(batch.astype(np.uint8)).hidden.dtype == kind


@every_planner
def test_a_device_may_be_text(config: SearchConfig, learned: RNN) -> None:
    config = replace(quick(config), budget_ms=20.0)
    planner = planner_of(config, learned, right_below(), device="cpu")
    assert planner.device == torch.device("cpu")
    assert planner.plan(frames((0.5, 0.5))).action.shape == (1, 2)


@every_planner
def test_devices_where_the_model_is_not_are_refused(config: SearchConfig, learned: RNN) -> None:
    there = copy.deepcopy(learned).to("meta")
    for model, more in ((learned, {"device": "meta"}), (there, {"device": torch.device("cpu")})):
        with pytest.raises(ValueError, match=r"weights of the RNN must be on .*move it with model"):
            planner_of(config, model, right_below(), **more)
    with pytest.raises(ValueError, match=r"must be on cpu, where .* to plan, got meta"):
        planner_of(config, learned, right_below(), ensemble=[there])
    with pytest.raises(ValueError, match=r"first, torch\.float32, got torch\.float64 in ensemble"):
        planner_of(config, learned, right_below(), ensemble=[copy.deepcopy(learned).double()])
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        planner_of(config, learned, right_below(), device="gpu")


@every_planner
def test_plans_within_inference_mode(config: SearchConfig, learned: RNN) -> None:
    batch = frames((0.5, 0.5), (0.4, 0.6))
    outside = planner_of(quick(config), learned, right_below(), ensemble=[Push()]).plan(batch)
    told = learned.observe(torch.from_numpy(batch))
    from_state = planner_of(quick(config), learned, right_below()).plan(batch, told)
    with torch.inference_mode():
        planner = planner_of(quick(config), learned, right_below(), ensemble=[Push()])
        assert_equal(planner.plan(torch.from_numpy(batch).clone()), outside)
        np.testing.assert_array_equal(planner.predict(batch)[0], outside.action.numpy())
        told = learned.observe(torch.from_numpy(batch))
        assert told.hidden.is_inference()
        alone = planner_of(quick(config), learned, right_below())
        assert_equal(alone.plan(batch, told), from_state)
    assert_equal(planner.plan(batch), outside)


def test_a_model_made_in_inference_mode_cannot_be_climbed() -> None:
    with torch.inference_mode():
        model = RNN(RNNConfig(hidden_size=8, mlp_size=8))
    with pytest.raises(ValueError, match=r"torch\.inference_mode; load the model outside"):
        GradientPlanner(model, right_below()).plan(frames((0.5, 0.5)))
    flat = PlannerConfig(gradient_steps=0)
    for planner in (CEMPlanner(model, right_below()), GradientPlanner(model, right_below(), flat)):
        assert planner.plan(frames((0.5, 0.5))).action.shape == (1, 2)


@every_planner
def test_no_episode_is_refused(config: SearchConfig) -> None:
    batch = frames((0.5, 0.5))[:0]
    for given in (batch, torch.from_numpy(batch)):
        with pytest.raises(ValueError, match=r"at least one episode, got shape \(0, 4, 4\)"):
            planner_of(config, Push(), right_below()).plan(given)


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


@every_planner
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollouts_at_once": 0}, "rollouts_at_once must be at least 1, got 0"),
        ({"finalists": -1}, "finalists must not be negative, got -1"),
        ({"action_noise": float("nan")}, "action_noise must not be negative, got nan"),
        ({"threads": -1}, "threads must not be negative, got -1"),
        ({"threads": 100_000}, "threads must be at most .*, got 100000"),
        ({"state_noise": -0.1}, "state_noise must not be negative, got -0.1"),
        ({"perturbations": 0}, "set finalists=0 for no stress test"),
        ({"budget_ms": 0.0}, "budget_ms must be positive and finite, .* got 0.0"),
        ({"budget_ms": float("inf")}, "None for no bound, got inf"),
    ],
)
def test_impossible_settings_are_refused(
    config: SearchConfig, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, **settings)


@pytest.mark.parametrize("kind", [GradientPlanner, CEMPlanner])
def test_a_model_without_actions_is_refused(kind: Callable[..., Planner[Any]]) -> None:
    with pytest.raises(ValueError, match="needs a model with actions, got Push"):
        kind(Push(action_size=0), right_below())


# -- threads -----------------------------------------------------------------------------------


@every_planner
def test_threads_are_those_asked_for_and_then_as_before(config: SearchConfig) -> None:
    seen = []

    class Counted(Push):
        def moved(self, state: State, times: Tensor, action: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return super().moved(state, times, action)

    before = torch.get_num_threads()
    for threads, wanted in ((2, 2), (0, before)):
        seen.clear()
        planner = planner_of(replace(config, threads=threads), Counted(), right_below())
        planner.plan(frames((0.5, 0.5)))
        assert set(seen) == {wanted} and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("load", "threads", "environment", "told"),
    [
        (7.0, 2, {}, True),
        (7.0, 2, {"OMP_WAIT_POLICY": "active"}, True),
        (7.0, 2, {"OMP_WAIT_POLICY": "passive"}, False),
        (7.0, 2, {"GOMP_SPINCOUNT": "0"}, False),
        (7.0, 1, {}, False),
        (5.9, 2, {}, False),
    ],
)
def test_threads_that_will_fight_are_warned_of_once(
    load: float,
    threads: int,
    environment: dict[str, str],
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_told", [])
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    planner = CEMPlanner(Push(), right_below(), CEMConfig(threads=threads))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            planner.plan(frames((0.5, 0.5)))
    assert len(caught) == told
    if told:
        message = str(caught[0].message)
        assert "7 programs want to run on 4 cores, and the 2 threads of torch" in message
        assert "start Python with OMP_WAIT_POLICY=PASSIVE, or plan in one thread" in message


# -- time --------------------------------------------------------------------------------------


@every_planner
@pytest.mark.parametrize("at_once", [32_768, 300])
@pytest.mark.parametrize("budget_ms", [8.0, 20.0, 100.0, 500.0])
def test_a_budget_is_kept_and_used(config: SearchConfig, at_once: int, budget_ms: float) -> None:
    config = replace(config, budget_ms=budget_ms, rollouts_at_once=at_once)
    model = Clocked()
    planner = planner_of(config, model, right_below(), clock=model.clock)
    planner.plan(frames((0.5, 0.5), (0.4, 0.6), (0.6, 0.6)))
    assert 0.6 * 3 * budget_ms <= 1e3 * model.now <= 3 * budget_ms + 1e-6


@every_planner
def test_more_time_finds_better_shots(config: SearchConfig) -> None:
    scores = []
    for budget_ms in (8.0, 40.0, 200.0):
        model = Clocked()
        config = replace(config, budget_ms=budget_ms)
        planner = planner_of(config, model, right_below(), clock=model.clock)
        plan = planner.plan(frames(*np.random.default_rng(0).uniform(0.2, 0.8, (20, 2))))
        scores.append(float(plan.score.mean()))
    assert scores[0] < scores[1] < scores[2]


@every_planner
def test_there_is_a_shot_however_little_the_time(config: SearchConfig) -> None:
    model = Clocked()
    config = replace(config, budget_ms=1e-6)
    planner = planner_of(config, model, right_below(), clock=model.clock)
    plan = planner.plan(frames((0.5, 0.5), (0.4, 0.6)))
    assert bool((plan.action.abs() <= 1).all()) and bool(plan.score.isfinite().all())
    assert len(model.asked) == 2  # one round, and the ticks of the shot


class ClockedTable(SimulatorModel):
    """A table on which every rollout takes a tenth of a millisecond."""

    now = 0.0
    observed = 0.0

    def imagine(self, state: State, *args: Any) -> Imagined:
        self.now += 1e-4 * state.batch_size
        return super().imagine(state, *args)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> EventState:
        before = self.now
        state = super().observe(obs, action)
        self.observed = self.now - before
        return state

    def clock(self) -> float:
        return self.now


@every_planner
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("budget_ms", [10.0, 20.0, 100.0])
def test_what_is_searched_for_in_the_frames_is_in_the_budget(
    config: SearchConfig, count: int, budget_ms: float
) -> None:
    model = ClockedTable()
    seen = 0.5 + 0.2 * np.random.default_rng(0).standard_normal((count, 4, 4)).clip(-1, 1)
    model.observe(torch.from_numpy(seen).float())
    assert model.observed > 3 * count * 20e-3, "too easy"
    model.now = 0.0
    config = replace(config, budget_ms=budget_ms)
    planner = planner_of(config, model, right_below((1.0, 2.0)), clock=model.clock)
    plan = planner.plan(seen.astype(np.float32))
    assert bool((plan.action.abs() <= 1).all()) and bool(plan.score.isfinite().all())
    assert 1e3 * model.observed <= 0.5 * count * budget_ms + 0.1 * count
    assert 0.6 * count * budget_ms <= 1e3 * model.now <= count * budget_ms + 1e-6


def test_models_of_an_ensemble_share_the_time_to_look() -> None:
    models = [ClockedTable() for _ in range(3)]
    seen = 0.5 + 0.2 * np.random.default_rng(0).standard_normal((1, 4, 4)).clip(-1, 1)
    config = PlannerConfig(budget_ms=60.0, gradient_steps=0)
    planner = GradientPlanner(
        models[0],
        right_below(),
        config,
        ensemble=models[1:],
        clock=lambda: sum(model.now for model in models),
    )
    planner.plan(seen.astype(np.float32))
    assert sum(model.observed for model in models) <= 30e-3 + 3e-4
    assert all(model.observed >= 5e-3 for model in models)


def test_frames_that_nothing_explains_leave_the_first_turn_however_little_the_time() -> None:
    model = ClockedTable()
    config = PlannerConfig(budget_ms=1e-6)
    planner = GradientPlanner(model, right_below(), config, clock=model.clock)
    planner.plan(torch.from_numpy(np.random.default_rng(0).uniform(0.2, 0.8, (1, 4, 4))))
    assert model.observed == pytest.approx(1e-4)


@every_planner
def test_the_stress_test_keeps_its_time(config: SearchConfig) -> None:
    model = Clocked()
    config = replace(config, budget_ms=100.0, action_noise=0.1)
    planner = planner_of(config, model, right_below(), clock=model.clock)
    plan = planner.plan(frames((0.5, 0.5)))
    assert 0 < float(plan.belief) < 1
    assert len(model.asked[-2]) == 8 * 16


@every_planner
def test_a_budget_in_real_time(config: SearchConfig) -> None:
    planner = planner_of(replace(config, budget_ms=50.0), Push(), right_below())
    planner.plan(frames((0.5, 0.5)))
    started = time.perf_counter()
    planner.plan(frames(*[(0.5, 0.5)] * 4))
    assert 0.05 < time.perf_counter() - started < 1.0


@every_planner
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plans_on_a_gpu(config: SearchConfig) -> None:
    here = planner_of(config, Push(), right_below()).plan(frames((0.5, 0.5)))
    cuda = torch.device("cuda")
    there = planner_of(config, Push(), right_below(), device=cuda).plan(frames((0.5, 0.5)))
    torch.testing.assert_close(there.action.cpu(), here.action)
    hurried = replace(config, budget_ms=50.0)
    plan = planner_of(hurried, Push(), right_below(), device=cuda).plan(frames((0.5, 0.5)))
    assert plan.action.is_cuda and float(plan.belief) == 1.0
