"""What candidates cost: shapes, gradients, and that the least cost is the best plan."""

from __future__ import annotations

from inspect import signature
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.models import RNN, Imagined, RNNConfig, WorldModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.objectives import FunctionObjective, ReachRegion

TABLES = torch.tensor([[0.3, 0.5, 0.65, 0.58], [0.2, 0.2, 0.5, 0.4]])
FRAMES = TABLES.unsqueeze(1).expand(-1, 4, -1)  # two tables at rest
RIGHT = ReachRegion((0.8, 1.0, 0.4, 1.0), [10.0, 20.0])


def candidates(*shape: int) -> Tensor:
    return torch.rand(*shape, 2, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


@pytest.mark.parametrize("times", [(0.0,), (0.0, 4.0)])
def test_costs_are_minus_the_scores_of_each_candidate(times: tuple[float, ...]) -> None:
    model, actions = SimulatorModel(), candidates(2, 5, 2)[:, :, : len(times)]
    costs = CostModel(model, RIGHT, action_times=times)
    cost = costs.get_cost({"frames": FRAMES, "goal": None}, actions)
    assert cost.shape == (2, 5) and not cost.requires_grad
    for b, s in product(range(2), range(5)):
        state = model.observe(FRAMES[b : b + 1])
        imagined = model.imagine(state, RIGHT.times, actions[b, s].unsqueeze(0), times)
        torch.testing.assert_close(-cost[b, s], RIGHT(imagined.obs.unsqueeze(1))[0, 0])
    repeated = FRAMES.unsqueeze(1).expand(-1, 5, -1, -1).numpy()
    for info in ({"frames": repeated}, {"state": model.observe(FRAMES)}):
        torch.testing.assert_close(costs.get_cost(info, actions), cost)
    if len(times) == 1:
        assert torch.equal(costs.get_cost({"frames": FRAMES}, actions[:, :, 0]), cost)


def test_costs_of_what_stable_worldmodel_hands_on() -> None:
    """As its World and solvers of 0.1.1 do; docs/other_programs.md runs the real ones."""
    costs, actions = CostModel(SimulatorModel(), RIGHT), candidates(2, 5, 1)
    seen = FRAMES[:, None, None].expand(2, 5, 1, 4, 4)  # candidates, and a row of World's
    info = {
        "positions": torch.zeros(2, 5, 1, 2, 2),
        "frames_played": torch.full((2, 5, 1), 3),
        "observation": seen,
        "action": torch.full((2, 5, 1, 2), torch.nan),
        "label": [["a"], ["b"]],
    }
    wanted = costs.get_cost({"frames": FRAMES}, actions)
    with torch.inference_mode():
        assert torch.equal(costs.get_cost(info, actions), wanted)
    assert torch.equal(costs.criterion(info, actions), wanted)
    for method in (costs.get_cost, costs.criterion):
        assert [*signature(method).parameters] == ["info_dict", "action_candidates"]
    other = costs.get_cost(info | {"frames": FRAMES.flip(0)}, actions)
    assert torch.equal(other, costs.get_cost({"frames": FRAMES.flip(0)}, actions))


@pytest.mark.filterwarnings("error")
def test_frames_and_candidates_may_be_arrays_of_any_kind() -> None:
    costs, actions = CostModel(SimulatorModel(), RIGHT), candidates(2, 3)
    wanted = costs.get_cost({"frames": FRAMES}, actions)
    backwards = FRAMES.flip(0).numpy()[::-1], actions.flip(0, 1).numpy()[::-1, ::-1]
    fixed = FRAMES.numpy().copy(), actions.numpy().copy()
    for array in fixed:
        array.setflags(write=False)
    for frames, given in ((FRAMES.numpy(), actions.numpy()), backwards, fixed):
        assert torch.equal(costs.get_cost({"frames": frames}, given), wanted)
    pictures = (255 * FRAMES.numpy()).astype(np.uint8)
    wanted = costs.get_cost({"frames": pictures.astype(np.float32) / 255}, actions)
    assert torch.equal(costs.get_cost({"frames": pictures}, actions), wanted)


def test_gradients_when_asked_for() -> None:
    costs = CostModel(RNN(RNNConfig()), RIGHT)
    actions = candidates(2, 3)
    assert not costs.get_cost({"frames": FRAMES}, actions).requires_grad
    asked = actions.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(costs.get_cost({"frames": FRAMES}, asked).sum(), asked)
    assert bool((gradient != 0.0).any(dim=2).all())
    with torch.no_grad():
        assert not costs.get_cost({"frames": FRAMES}, asked).requires_grad


def test_actions_of_other_environments_have_other_bounds() -> None:
    model = RNN(RNNConfig())
    wide = 5.0 * candidates(2, 16)
    for low, high in ((-1.0, 1.0), (-2.0, 2.0), ((-3.0, 0.0), (0.5, 4.0))):
        bounds: dict[str, Any] = {"action_low": low, "action_high": high}
        costs = CostModel(model, RIGHT, **({} if low == -1.0 else bounds))
        actions = wide.clamp(torch.tensor(low), torch.tensor(high))
        imagined = model.imagine(
            model.observe(FRAMES).repeat(16), RIGHT.times, actions.flatten(0, 1)
        )
        score = RIGHT(imagined.obs.unflatten(0, (2, 16)))
        torch.testing.assert_close(costs.get_cost({"frames": FRAMES}, wide), -score)
        asked = wide.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(costs.get_cost({"frames": FRAMES}, asked).sum(), asked)
        assert torch.equal(gradient == 0.0, wide != actions)


INF, NAN = float("inf"), float("nan")
BAD_TIMES = [(), (0.0, 4.0, 2.0), (0.0, 0.0), (-1.0, 0.0), (0.0, INF), (NAN,), (0.0, NAN, 2.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action_low": 1.0}, "action_low must lie below action_high, got 1.0 and 1.0"),
        ({"action_high": INF}, "action_high must be a finite number.*, got inf"),
        ({"action_low": (0.0,) * 3}, r"action_low .* each of the 2 entries .*, got \(0.0, 0"),
        ({"model": RNN(RNNConfig(action_size=0))}, "with actions, got RNN with action_size=0"),
        *(
            ({"action_times": times}, r"action_times to be ascending .* before 20\.0")
            for times in (*BAD_TIMES, (20.0,), (0.0, 50.0))
        ),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CostModel(**{"model": SimulatorModel(), "objective": RIGHT, **arguments})


class BlownUp(RNN):
    def rollout(self, *arguments: Any) -> Imagined:
        imagined = super().rollout(*arguments)
        imagined.obs[0] = torch.nan
        return imagined


def test_a_rollout_that_blew_up_is_never_the_best() -> None:
    cost = CostModel(BlownUp(RNNConfig()), RIGHT).get_cost({"frames": FRAMES}, candidates(2, 3))
    assert cost[0, 0] == torch.inf
    assert int(cost.isinf().sum()) == 1


@pytest.mark.parametrize("model", [SimulatorModel(), RNN(RNNConfig())])
def test_candidates_that_are_no_numbers_are_refused(model: WorldModel) -> None:
    bad = candidates(2, 3)
    bad[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="of numbers, got NaN in 1 of 6"):
        CostModel(model, RIGHT).get_cost({"frames": FRAMES}, bad)


@pytest.mark.parametrize(
    ("info", "actions", "message"),
    [
        *(
            ({"frames": FRAMES}, bad, r"shape \(B, S, 1, 2\)")
            for bad in (candidates(2), candidates(2, 3, 2), torch.zeros(2, 3, 4))
        ),
        ({"frames": FRAMES}, candidates(2, 0), "expected at least one candidate for each"),
        ({"frames": FRAMES}, candidates(0, 3), "expected at least one candidate for each"),
        ({"pixels": FRAMES}, candidates(2, 3), r"'frames'.*or 'state'.*got \['pixels'\]"),
        ({"frames": FRAMES}, candidates(3, 3), "each of 2 episodes, got 3"),
        ({"frames": FRAMES[..., :2]}, candidates(2, 3), r"obs must have shape \(B, T, 4\)"),
        ({"frames": torch.zeros(2, 5, 4, 4)}, candidates(2, 3), r"S = 3 cand.*\(2, 5, 4, 4\)"),
        (
            {"observation": torch.zeros(2, 5, 1, 16)},
            candidates(2, 5),
            r"\(B, T, 4\), got \(2, 1, 16",
        ),
    ],
)
def test_bad_input_is_refused(info: dict[str, Any], actions: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CostModel(SimulatorModel(), RIGHT).get_cost(info, actions)


@pytest.mark.parametrize("other", [RNN(RNNConfig()), SimulatorModel()])
def test_states_of_other_models_are_refused(other: WorldModel) -> None:
    costs = CostModel(RNN(RNNConfig(hidden_size=8)), RIGHT)
    with pytest.raises(ValueError, match=r"a state of this RNN, State with .*, got .*State with"):
        costs.get_cost({"state": other.observe(FRAMES)}, candidates(2, 3))


def test_scores_of_another_shape_are_refused() -> None:
    for function in (lambda obs: obs[..., 0], lambda obs: obs.sum()):
        costs = CostModel(SimulatorModel(), FunctionObjective(function, [1.0, 2.0]))
        with pytest.raises(ValueError, match=r"into scores \(B, S\), here \(2, 3\), got"):
            costs.get_cost({"frames": FRAMES}, candidates(2, 3))
