"""What holds for every planner, on worlds whose best action is known."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl import agents, devices
from jumpy_mbrl.agents import CEMConfig, GradientPlanner, PlannerConfig, ReachRegion
from jumpy_mbrl.agents.planning.optimizers import normal_points
from jumpy_mbrl.models import RNN, RNNConfig
from jumpy_mbrl.models.base import Imagined, State, WorldModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel

Config = PlannerConfig | CEMConfig

every_planner = pytest.mark.parametrize(
    "config", [PlannerConfig(), CEMConfig()], ids=["gradient", "cem"]
)


def planner_of(config: Any, model: WorldModel, objective: Any = None, **more: Any) -> Any:
    """The planner that a config is for."""
    kind: Any = agents.CEMPlanner if isinstance(config, CEMConfig) else GradientPlanner
    return kind(model, objective or right_below(), config, **more)


def clocked(config: Any, model: Push | Table, objective: Any = None) -> Any:
    return planner_of(config, model, objective, clock=lambda: model.now)


class Push(WorldModel):
    """The object ball moves by ``gain * action`` a frame; ticks at every whole frame.

    ``moved`` changes where it is, (B, K, 2), by its way (B, K, 2) and the action (B, 2). A rollout
    takes a tenth of a millisecond, four with its gradient.
    """

    now = 0.0

    def __init__(
        self,
        gain: float = 1.0,
        action_size: int = 2,
        obs_size: int = 4,
        moved: Callable[[Tensor, Tensor], Tensor] = lambda place, action: place,
    ) -> None:
        super().__init__()
        self.obs_size, self.action_size = obs_size, action_size
        self.gain, self.moved = gain, moved
        self.asked: list[Tensor] = []
        self.with_gradient: list[bool] = []

    def initial_state(self, batch_size: int) -> State:
        return self.observe(torch.full((batch_size, 1, 4), 0.5))

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        last = obs[:, -1]
        return State(last, torch.zeros_like(last), torch.zeros_like(last[:, 0]), last)

    def rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        assert action is not None
        self.asked.append(action.detach().clone())
        self.with_gradient.append(action.requires_grad)
        self.now += 1e-4 * len(action) * (4.0 if action.requires_grad else 1.0)
        place = state.obs[:, None, 2:] + self.gain * action.unsqueeze(1) * times.view(1, -1, 1)
        cue = state.obs[:, None, :2].expand(-1, len(times), -1)
        obs = torch.cat([cue, self.moved(place, action)], dim=-1)
        return Imagined(obs, torch.arange(0.0, end).expand(state.batch_size, -1), state)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Table(SimulatorModel):
    """A table on which every rollout takes a tenth of a millisecond."""

    now = 0.0
    observed = 0.0

    def imagine(self, state: State, *args: Any) -> Imagined:
        self.now += 1e-4 * state.batch_size
        return super().imagine(state, *args)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> Any:
        before = self.now
        state = super().observe(obs, action)
        self.observed = self.now - before
        return state


def frames(*places: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Context frames (B, 4, 4) of resting balls, the object ball at each of these places."""
    obs = np.full((len(places) or 1, 4, 4), 0.5, dtype=np.float32)
    if places:
        obs[:, :, 2:] = np.array(places, dtype=np.float32)[:, None]
    return obs


def spread_frames(count: int) -> Any:
    """Frames (count, 4, 4) that no way of the balls explains."""
    spread = np.random.default_rng(0).standard_normal((count, 4, 4)).clip(-1, 1)
    return (0.5 + 0.2 * spread).astype(np.float32)


def right_below(times: tuple[float, ...] = (1.0,)) -> ReachRegion:
    """From (0.5, 0.5), the action to its middle in one frame is (0.3, -0.3)."""
    return ReachRegion((0.7, 0.9, 0.1, 0.3), times)


def first_action(score: Callable[[Tensor], Tensor]) -> agents.FunctionObjective:
    """By the first entry of the action, if the ball lies in the middle."""
    return agents.FunctionObjective(lambda obs: score(obs[..., -1, 2] - 0.5), [1.0])


def assert_equal(first: agents.Plan, second: agents.Plan) -> None:
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name


def row(plan: agents.Plan, number: int) -> agents.Plan:
    return agents.Plan(*(part[number : number + 1] for part in vars(plan).values()))


# -- the search --------------------------------------------------------------------------------


@every_planner
def test_the_best_action_is_found(config: Config) -> None:
    planner = planner_of(config, Push(), right_below((1.0, 7.0)))
    plan = planner.plan(frames((0.5, 0.5), (0.6, 0.4)))
    assert bool((plan.score > 0.05).all()) and plan.belief.tolist() == [1.0, 1.0]
    assert plan.ticks.tolist() == [7, 7] and not plan.action.requires_grad
    plan = planner_of(config, Push()).plan(frames((0.5, 0.5), (0.6, 0.4)))
    best = torch.tensor([[0.3, -0.3], [0.2, -0.2]])
    torch.testing.assert_close(plan.action, best, atol=0.05, rtol=0)


@every_planner
def test_same_input_same_plan_and_no_global_randomness(config: Config) -> None:
    state, batch = torch.get_rng_state(), frames((0.5, 0.5), (0.4, 0.6))
    first = planner_of(config, Push()).plan(batch)
    assert torch.equal(torch.get_rng_state(), state)
    planner = planner_of(config, Push())
    planner.plan(frames((0.1, 0.9)))
    torch.rand(5)
    assert_equal(first, planner.plan(batch))
    torch.set_rng_state(state)


@pytest.mark.parametrize("at_once", [32_768, 256, 1])
@pytest.mark.parametrize("config", [PlannerConfig(), CEMConfig(), PlannerConfig(skip_certain=True)])
def test_plan_does_not_depend_on_the_rest_of_the_batch(config: Config, at_once: int) -> None:
    config = replace(config, action_noise=0.03)
    places = ((0.5, 0.5), (0.1, 0.9), (0.9, 0.9), (0.3, 0.2), (0.8, 0.2))
    regions = torch.tensor([(0.7, 0.9, 0.1, 0.3), (0.0, 0.2, 0.0, 0.2)])[[0, 1, 0, 1, 0]]
    parts = replace(config, rollouts_at_once=at_once)
    whole = planner_of(parts, Push(), ReachRegion(regions, [1.0, 2.0])).plan(frames(*places))
    for number, place in enumerate(places):
        alone = planner_of(config, Push(), ReachRegion(regions[number], [1.0, 2.0]))
        assert_equal(row(whole, number), alone.plan(frames(place)))


def test_rollouts_at_once_bounds_every_rollout() -> None:
    model = Push()
    config = PlannerConfig(candidates=8, refined=4, perturbations=4, rollouts_at_once=32)
    planner_of(config, model).plan(frames(*[(0.5, 0.5)] * 9))
    # 8 finalists of 4 rollouts fill them with one episode; so each is planned by itself.
    assert {len(actions) for actions in model.asked} == {8, 4, 16, 1}


@every_planner
def test_rollouts_that_are_not_numbers_are_never_chosen(config: Config) -> None:
    exploding = Push(moved=lambda at, action: at.where((action[:, :1] < 0)[:, None], torch.nan))
    planner = planner_of(config, exploding, ReachRegion((0.1, 0.3, 0.4, 0.6), [1.0]))
    plan = planner.plan(frames((0.5, 0.5), (0.6, 0.4)))
    assert bool((plan.action[:, 0] < 0).all()) and plan.belief.tolist() == [1.0, 1.0]
    plan = planner_of(config, Push(), first_action(lambda x: x * torch.nan)).plan(frames())
    assert bool((plan.action.abs() <= 1).all()) and float(plan.belief) == 0.0


@every_planner
def test_what_has_no_gradient_can_be_searched(config: Config) -> None:
    if isinstance(config, PlannerConfig):
        config = replace(config, gradient_steps=0)
    model, steps = Push(), first_action(lambda x: (x > 0.4).float() - 0.5)
    for budget_ms in (None, 40.0):
        plan = clocked(replace(config, budget_ms=budget_ms), model, steps).plan(frames())
        assert float(plan.action[0, 0]) > 0.4 and not any(model.with_gradient)


@every_planner
def test_gradients_are_followed_within_a_callers_no_grad(config: Config) -> None:
    outside = planner_of(config, Push()).plan(frames())
    with torch.no_grad():
        assert_equal(planner_of(config, model := Push()).plan(frames()), outside)
    assert sum(model.with_gradient) == (8 if isinstance(config, PlannerConfig) else 0)


def test_only_uncertain_episodes_are_refined() -> None:
    # From the second place a coarse search finds nothing that stands the noise.
    region = ReachRegion(torch.tensor([(0.5, 0.9, 0.1, 0.5), (0.79, 0.81, 0.2, 0.22)]), [1.0])
    settings = PlannerConfig(candidates=64, gradient_steps=20, action_noise=0.003)
    tables, model = frames((0.5, 0.5), (0.5, 0.5)), Push()
    skipping = planner_of(replace(settings, skip_certain=True), model, region).plan(tables)
    steps = zip(model.asked, model.with_gradient, strict=True)
    assert [len(actions) for actions, gradient in steps if gradient] == [8] * 20
    screened = planner_of(replace(settings, gradient_steps=0), Push(), region).plan(tables)
    refined = planner_of(settings, Push(), region).plan(tables)
    assert_equal(row(skipping, 0), row(screened, 0))
    assert_equal(row(skipping, 1), row(refined, 1))
    assert float(screened.belief[1]) < float(skipping.belief[1])
    model = Push()
    plan = planner_of(PlannerConfig(skip_certain=True), model).plan(frames())
    assert float(plan.belief) == 1.0 and not any(model.with_gradient)


# -- bounds ------------------------------------------------------------------------------------


@every_planner
def test_actions_stay_in_bounds_and_the_optimum_may_lie_on_them(config: Config) -> None:
    bounds: dict[str, Any] = {"action_low": (0.5, -0.7), "action_high": (0.7, 0.0)}
    config, model = replace(config, action_noise=1.0, **bounds), Push()
    plan = planner_of(config, model, ReachRegion((1.3, 1.5, 0.1, 0.3), [1.0])).plan(frames())
    low, high = torch.tensor((0.5, -0.7)), torch.tensor((0.7, 0.0))
    assert float(plan.action[0, 0]) == pytest.approx(0.7, abs=0.01)
    assert bool((plan.action >= low).all()) and bool((plan.action <= high).all())
    asked = torch.cat(model.asked)
    torch.testing.assert_close(asked.amin(dim=0), low, atol=1e-3, rtol=0)
    torch.testing.assert_close(asked.amax(dim=0), high, atol=1e-3, rtol=0)
    assert bool((asked >= low - 1e-6).all()) and bool((asked <= high + 1e-6).all())
    assert float(plan.score) < 0 and float(plan.belief) == 0.0


@every_planner
def test_all_steps_and_noises_are_in_units_of_the_bounds(config: Config) -> None:
    config = replace(config, action_noise=0.2)
    near = planner_of(config, Push()).plan(frames())
    wide = replace(config, action_low=-4.0, action_high=(4.0, 4.0))
    far = planner_of(wide, Push(gain=0.25)).plan(frames())
    assert 0 < float(near.belief) < 1
    assert_equal(replace(far, action=far.action / 4.0), near)


# -- robust selection --------------------------------------------------------------------------


def test_belief_is_the_fraction_of_perturbed_actions_that_succeed() -> None:
    assert float(planner_of(PlannerConfig(), Push()).plan(frames()).belief) == 1.0
    config = PlannerConfig(perturbations=64, action_noise=0.1)
    plan = planner_of(config, Push()).plan(frames())
    # The middle lies one standard deviation from each edge: 0.683 on an axis, squared on two.
    assert float(plan.belief) == pytest.approx(0.466, abs=0.12)
    others = plan.action + 0.1 * normal_points(64, 2, seed=1)
    inside = (others - torch.tensor([0.3, -0.3])).abs().amax(dim=1) < 0.1
    assert float(plan.belief) == pytest.approx(float(inside.float().mean()), abs=1e-6)


@every_planner
def test_without_a_selection_belief_is_yes_or_no(config: Config) -> None:
    config = replace(config, finalists=0, perturbations=0)
    plan = planner_of(config, Push()).plan(frames((0.5, 0.5), (0.5, 9.0)))
    assert plan.belief.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("width", [0.004, 0.03])
@pytest.mark.parametrize("search", [PlannerConfig(1024, 1024, 0), CEMConfig(1024, iterations=1)])
def test_perturbed_actions_find_the_robust_optimum(search: Config, width: float) -> None:
    def two_peaks(action: Tensor) -> Tensor:
        """A narrow high peak at -0.5, a broad low one at 0.5."""
        narrow = 1.0 - (action + 0.5).abs() / width
        return torch.maximum(narrow, 0.2 - (action - 0.5).abs() / 2.0)

    objective = first_action(two_peaks)
    bold = planner_of(replace(search, finalists=0), Push(), objective).plan(frames())
    assert float(bold.action[0, 0]) == pytest.approx(-0.5, abs=0.004)
    careful = replace(search, finalists=256, action_noise=0.02)
    plan = planner_of(careful, Push(), objective).plan(frames())
    assert float(plan.action[0, 0]) == pytest.approx(0.5, abs=0.1)
    assert float(plan.belief) == 1.0 and float(plan.score) < 0.25


def test_an_ensemble_rejects_what_only_one_model_believes() -> None:
    def mirage(place: Tensor, action: Tensor) -> Tensor:
        """Every push to the left arrives exactly in the middle of the region."""
        left = (action[:, :1] < 0).unsqueeze(1)
        return torch.where(left, torch.tensor([0.8, 0.2]), place)

    everything = PlannerConfig(candidates=256, refined=256, finalists=256, gradient_steps=0)
    alone = planner_of(everything, Push(moved=mirage)).plan(frames())
    assert float(alone.action[0, 0]) < 0 and float(alone.belief) == 1.0
    others = [Push(), Push(gain=1.001)]
    plan = planner_of(everything, Push(moved=mirage), ensemble=others).plan(frames())
    torch.testing.assert_close(plan.action, torch.tensor([[0.3, -0.3]]), atol=0.1, rtol=0)
    assert float(plan.belief) == 1.0
    assert [sum(map(len, model.asked)) for model in others] == [256 * 5, 256 * 5]


@every_planner
def test_belief_of_an_ensemble_is_over_all_its_models(config: Config) -> None:
    plan = planner_of(config, Push(), ensemble=[Push(gain=-1.0)] * 3).plan(frames())
    assert plan.belief.tolist() == [0.25]


@every_planner
def test_a_search_by_all_models_goes_where_their_mean_is_best(config: Config) -> None:
    """One model reaches twice as far as the other: the mean is best between their actions."""
    config, models = replace(config, finalists=0), (Push(), Push(gain=2.0))
    alone = planner_of(config, models[0]).plan(frames()).action
    together = replace(config, search_ensemble=True)
    plan = planner_of(together, models[0], ensemble=models[1:]).plan(frames())
    assert bool((plan.action.abs() < 0.8 * alone.abs()).all())
    ends = [
        model.imagine(model.observe(torch.from_numpy(frames())), [1.0], plan.action)
        for model in models
    ]
    mean = torch.stack([right_below()(end.obs.unsqueeze(1))[0, 0] for end in ends]).mean()
    torch.testing.assert_close(plan.score[0], mean)


# -- what is given -----------------------------------------------------------------------------


@every_planner
def test_predict_has_the_signature_of_stable_baselines(config: Config) -> None:
    planner, batch = planner_of(config, Push()), frames((0.5, 0.5), (0.4, 0.6))
    actions, state = planner.predict(batch, None, np.ones(2, dtype=bool), deterministic=True)
    assert actions.shape == (2, 2) and actions.dtype == np.float32 and state is None
    np.testing.assert_array_equal(planner.predict(batch[1])[0], actions[1])


@every_planner
def test_a_given_state_takes_the_place_of_the_frames(config: Config) -> None:
    planner = planner_of(config, Push())
    given = planner.model.observe(torch.from_numpy(frames((0.9, 0.9))))
    expected, _ = planner.predict(frames((0.9, 0.9)))
    np.testing.assert_array_equal(planner.predict(frames(), given)[0], expected)
    with pytest.raises(ValueError, match=r"one row for each of the 2 episodes, got 1"):
        planner.predict(frames((0.5, 0.5), (0.5, 0.5)), given)
    with pytest.raises(ValueError, match=r"a state belongs to one model, .* an ensemble of 2"):
        planner_of(config, Push(), ensemble=[Push()]).plan(frames(), given)


@every_planner
def test_an_objective_may_be_given_with_each_call(config: Config) -> None:
    config = replace(config, rollouts_at_once=300)
    regions = torch.tensor([(0.7, 0.9, 0.1, 0.3), (0.0, 0.2, 0.0, 0.2), (0.4, 0.6, 0.7, 0.9)])
    planner, batch = planner_of(config, Push()), frames(*[(0.5, 0.5)] * 3)
    plan = planner.plan(batch, objective=ReachRegion(regions, [1.0]))
    assert_equal(plan, planner_of(config, Push(), ReachRegion(regions, [1.0])).plan(batch))
    best = torch.tensor([[0.3, -0.3], [-0.4, -0.4], [0.0, 0.3]])
    torch.testing.assert_close(plan.action, best, atol=0.06, rtol=0)
    assert_equal(planner.plan(batch[:1]), planner_of(config, Push()).plan(batch[:1]))


@pytest.fixture(scope="module")
def learned() -> RNN:
    torch.manual_seed(0)
    return RNN(RNNConfig(hidden_size=8, mlp_size=8))


def quick(config: Any) -> Any:
    size = "population" if isinstance(config, CEMConfig) else "candidates"
    return replace(config, **{size: 16, "finalists": 2, "perturbations": 4})


@every_planner
def test_frames_of_any_type_are_read_as_the_model_reads_them(config: Config, learned: RNN) -> None:
    config, batch = quick(config), frames((0.5, 0.5), (0.25, 0.75))
    planner = planner_of(config, learned)
    arrays = (batch.astype(float), batch[::-1].copy()[::-1], batch.astype("O"))
    for same in (*arrays, torch.from_numpy(batch).double()):
        assert_equal(planner.plan(same), planner.plan(batch))
    pictures = (255 * batch).astype(np.uint8)
    whole = (batch > 0.4).astype(np.int64)
    for given, meant in ((pictures, pictures.astype(np.float32) / 255), (whole, whole * 1.0)):
        plan = planner.plan(meant)
        assert_equal(planner.plan(given), plan)
        for same in (given, given.reshape(2, 16), torch.from_numpy(given)):
            np.testing.assert_array_equal(planner.predict(same)[0], plan.action)
    double = planner_of(config, copy.deepcopy(learned).double())
    exact = batch + np.pi * 1e-9
    np.testing.assert_array_equal(double.predict(exact)[0], double.plan(exact).action.float())
    plan = double.plan(batch)
    assert plan.action.dtype == torch.float64
    torch.testing.assert_close(plan.score.float(), planner.plan(batch).score, atol=1e-3, rtol=0)
    assert_equal(double.plan(batch, double.model.observe(torch.from_numpy(batch).double())), plan)


@every_planner
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_search_keeps_its_precision_where_the_model_has_none(
    config: Config, kind: torch.dtype, learned: RNN
) -> None:
    planner = planner_of(quick(config), copy.deepcopy(learned).to(kind))
    batch = frames((0.5, 0.5), (0.25, 0.75))
    plan = planner.plan(batch)
    assert plan.action.dtype == plan.score.dtype == torch.float32
    assert bool((plan.action.abs() <= 1.0).all()) and bool(plan.score.isfinite().all())
    assert not torch.equal(plan.action, plan.action.to(kind).float())
    np.testing.assert_array_equal(planner.predict(batch)[0], plan.action)
    assert planner.observe(batch.astype(np.uint8)).hidden.dtype == kind


@every_planner
def test_plans_within_inference_mode(config: Config, learned: RNN) -> None:
    config, batch = quick(config), frames((0.5, 0.5), (0.4, 0.6))
    outside = planner_of(config, learned, ensemble=[Push()]).plan(batch)
    from_state = planner_of(config, learned).plan(batch, learned.observe(torch.from_numpy(batch)))
    with torch.inference_mode():
        planner = planner_of(config, learned, ensemble=[Push()])
        assert_equal(planner.plan(torch.from_numpy(batch).clone()), outside)
        np.testing.assert_array_equal(planner.predict(batch)[0], outside.action.numpy())
        state = learned.observe(torch.from_numpy(batch))
        assert state.hidden.is_inference()
        assert_equal(planner_of(config, learned).plan(batch, state), from_state)
        made_inside = RNN(RNNConfig(hidden_size=8, mlp_size=8))
    assert_equal(planner.plan(batch), outside)
    if isinstance(config, PlannerConfig):
        with pytest.raises(ValueError, match=r"torch\.inference_mode; load the model outside"):
            planner_of(config, made_inside).plan(frames())
        config = replace(config, gradient_steps=0)
    assert planner_of(config, made_inside).plan(frames()).action.shape == (1, 2)


@every_planner
def test_a_device_may_be_text_and_must_be_that_of_the_weights(config: Any, learned: RNN) -> None:
    planner = planner_of(replace(quick(config), budget_ms=20.0), learned, device="cpu")
    assert planner.device == torch.device("cpu")
    assert planner.plan(frames()).action.shape == (1, 2)
    there = copy.deepcopy(learned).to("meta")
    for model, more in ((learned, {"device": "meta"}), (there, {"device": torch.device("cpu")})):
        with pytest.raises(ValueError, match=r"weights of the RNN must be on .*move it with model"):
            planner_of(config, model, **more)
    with pytest.raises(ValueError, match=r"must be on cpu, where .* to plan, got meta"):
        planner_of(config, learned, ensemble=[there])
    with pytest.raises(ValueError, match=r"first, .*torch\.float32\), got .*float64\) in ensemble"):
        planner_of(config, learned, ensemble=[copy.deepcopy(learned).double()])
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        planner_of(config, learned, device="gpu")


@every_planner
def test_what_cannot_be_planned_is_refused(config: Config) -> None:
    planner, broken = planner_of(config, Push()), frames((0.5, 0.5), (np.nan, 0.5))
    for given, words in (
        (np.zeros((2, 3, 4)), r"shape \(B, 4, 4\) or \(4, 4\).*got \(2, 3, 4\)"),
        (np.zeros((2, 4, 6)), r"got \(2, 4, 6\)"),
        (broken, r"finite.*rows \[1\]"),
    ):
        with pytest.raises(ValueError, match=words):
            planner.predict(given)
    for empty in (frames()[:0], torch.from_numpy(frames()[:0])):
        with pytest.raises(ValueError, match=r"at least one episode, got shape \(0, 4, 4\)"):
            planner.plan(empty)
    each = agents.FunctionObjective(lambda obs: obs[..., 2], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"into scores \(B, S\), here \(1, \d+\), got \(1, \d+, 2"):
        planner_of(config, Push(), each).plan(frames())
    with pytest.raises(ValueError, match="needs a model with actions, got Push"):
        planner_of(config, Push(action_size=0))


@pytest.mark.parametrize(
    ("member", "settings", "words"),
    [
        (Push(), {"action_low": 1.0}, "must lie below action_high, got 1.0 and 1.0"),
        (Push(), {"action_high": (1.0, -2.0)}, r"below action_high, got -1.0 and \(1.0, -2.0\)"),
        (Push(), {"action_low": (0.0,) * 3}, r"action_low .* each of the 2 entries .*, got \(0.0"),
        (Push(), {"action_high": float("inf")}, "action_high must be a finite number.*, got inf"),
        (Push(), {"action_low": (float("nan"), 0.0)}, r"action_low must be a finite .*, got \(nan"),
        (Push(), {"finalists": 0}, "set finalists > 0, or leave the ensemble out, or set search_"),
        (Push(), {"perturbations": 2}, "perturbations must be at least 3, .* got 2"),
        (Push(action_size=1), {}, r"first, \(4, 2, .*got \(4, 1, .*in ensemble\[1\]"),
        (Push(obs_size=6), {}, r"first, \(4, 2, .*got \(6, 2, .*in ensemble\[1\]"),
    ],
)
def test_what_models_cannot_play_is_refused(member: Push, settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planner_of(PlannerConfig(**settings), Push(), ensemble=[Push(), member])


EVERY: tuple[Any, ...] = (PlannerConfig(), CEMConfig())


@pytest.mark.parametrize(
    ("configs", "settings", "words"),
    [
        (EVERY, {"threads": -1}, "threads must not be negative, got -1"),
        (EVERY, {"threads": 100_000}, "threads must be at most .*, got 100000"),
        (EVERY, {"perturbations": 0}, "set finalists=0 for no robust selection"),
        (EVERY, {"budget_ms": 0.0}, "budget_ms must be positive and finite, .* got 0.0"),
        (EVERY, {"budget_ms": float("inf")}, "None for no bound, got inf"),
        (EVERY[:1], {"skip_certain": True, "finalists": 0}, "skip_certain needs a robust selec"),
        (EVERY[:1], {"skip_certain": True, "budget_ms": 5.0}, "set one of .* budget_ms=5.0"),
        (EVERY[1:], {"elites": 65}, "elites must not exceed the population of 64, got 65"),
        (EVERY[1:], {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_settings_are_refused(configs: Any, settings: Any, words: str) -> None:
    for config in configs:
        with pytest.raises(ValueError, match=words):
            replace(config, **settings)


def test_protocols() -> None:
    assert set(agents.PROTOCOLS) == {"default", "paper"}
    assert agents.PROTOCOLS["default"] == PlannerConfig()
    assert agents.PROTOCOLS["paper"] == PlannerConfig(1, 1, 20, 0.1, finalists=0)


# -- threads -----------------------------------------------------------------------------------


@every_planner
def test_threads_are_those_asked_for_and_then_as_before(config: Config) -> None:
    seen = []
    counted = Push(moved=lambda place, _: seen.append(torch.get_num_threads()) or place)  # type: ignore[func-returns-value]
    before = torch.get_num_threads()
    for threads, wanted in ((2, 2), (0, before)):
        seen.clear()
        planner_of(replace(config, threads=threads), counted).plan(frames())
        assert set(seen) == {wanted} and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("load", "threads", "environment", "warned"),
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
    load: float, threads: int, environment: Any, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_told", [])
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    planner = planner_of(CEMConfig(threads=threads), Push())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            planner.plan(frames())
    assert len(caught) == warned
    if warned:
        message = str(caught[0].message)
        assert "7 programs want to run on 4 cores, and the 2 threads of torch" in message
        assert "start Python with OMP_WAIT_POLICY=PASSIVE, or plan in one thread" in message


# -- time --------------------------------------------------------------------------------------


@every_planner
@pytest.mark.parametrize("at_once", [32_768, 300])
@pytest.mark.parametrize("budget_ms", [8.0, 20.0, 100.0, 500.0])
def test_a_budget_is_kept_and_used(config: Config, at_once: int, budget_ms: float) -> None:
    config, model = replace(config, budget_ms=budget_ms, rollouts_at_once=at_once), Push()
    clocked(config, model).plan(frames((0.5, 0.5), (0.4, 0.6), (0.6, 0.6)))
    assert 0.6 * 3 * budget_ms <= 1e3 * model.now <= 3 * budget_ms + 1e-6


@every_planner
def test_more_time_finds_better_actions(config: Config) -> None:
    scores, places = [], np.random.default_rng(0).uniform(0.2, 0.8, (20, 2))
    for budget_ms in (8.0, 40.0, 200.0):
        planner = clocked(replace(config, budget_ms=budget_ms), Push())
        scores.append(float(planner.plan(frames(*places)).score.mean()))
    assert scores[0] < scores[1] < scores[2]


@every_planner
def test_there_is_an_action_however_little_the_time(config: Config) -> None:
    model = Push()
    planner = clocked(replace(config, budget_ms=1e-6), model)
    plan = planner.plan(frames((0.5, 0.5), (0.4, 0.6)))
    assert bool((plan.action.abs() <= 1).all()) and bool(plan.score.isfinite().all())
    assert len(model.asked) == 2, "one round, and the ticks of the action"


@every_planner
def test_the_robust_selection_keeps_its_time(config: Config) -> None:
    model = Push()
    plan = clocked(replace(config, budget_ms=100.0, action_noise=0.1), model).plan(frames())
    assert 0 < float(plan.belief) < 1
    assert len(model.asked[-2]) == 8 * 16


@every_planner
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("budget_ms", [15.0, 20.0, 100.0])
def test_state_estimation_is_in_the_budget(config: Config, count: int, budget_ms: float) -> None:
    model, seen = Table(), spread_frames(count)
    model.observe(torch.from_numpy(seen))
    assert model.observed > 3 * count * 20e-3, "too easy"
    model.now = 0.0
    planner = clocked(replace(config, budget_ms=budget_ms), model, right_below((1.0, 2.0)))
    plan = planner.plan(seen)
    assert bool((plan.action.abs() <= 1).all()) and bool(plan.score.isfinite().all())
    assert 1e3 * model.observed <= 0.5 * count * budget_ms + 0.1 * count
    assert 0.6 * count * budget_ms <= 1e3 * model.now <= count * budget_ms + 1e-6


def test_models_of_an_ensemble_share_the_time_to_look() -> None:
    models, seen = [Table() for _ in range(3)], spread_frames(1)
    config = PlannerConfig(budget_ms=60.0, gradient_steps=0)
    now: Any = {"clock": lambda: sum(model.now for model in models)}
    planner_of(config, models[0], ensemble=models[1:], **now).plan(seen)
    assert sum(model.observed for model in models) <= 30e-3 + 3e-4
    assert all(model.observed >= 5e-3 for model in models)
    clocked(replace(config, budget_ms=1e-6), model := Table()).plan(seen)
    assert model.observed == pytest.approx(1e-4), "the first turn, however little the time"


@every_planner
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plans_on_a_gpu(config: Config) -> None:
    here = planner_of(config, Push()).plan(frames())
    there = planner_of(config, Push(), device=torch.device("cuda")).plan(frames())
    torch.testing.assert_close(there.action.cpu(), here.action)
    hurried = replace(config, budget_ms=50.0)
    plan = planner_of(hurried, Push(), device=torch.device("cuda")).plan(frames())
    assert plan.action.is_cuda and float(plan.belief) == 1.0
