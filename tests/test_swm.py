"""stable-worldmodel's own World, policy and solvers, where it is installed: CI does not have it."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.objectives import ReachRegion

try:
    import torchvision  # type: ignore[import-not-found]  # noqa: F401
except ImportError:
    pass
except RuntimeError:  # built for CUDA, but torch is not
    missing = torch.library.Library("torchvision", "FRAGMENT")
    for op in ("nms", "qnms"):
        missing.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

pytestmark = pytest.mark.filterwarnings("ignore")
swm: Any = pytest.importorskip("stable_worldmodel")
SEARCH = {"num_samples": 64, "batch_size": 8}
ADAM = {"optimizer_cls": torch.optim.Adam, "optimizer_kwargs": {"lr": 0.02}}
COSTS = CostModel(SimulatorModel(), ReachRegion((0.8, 1.0, 0.0, 0.2), range(1, 42)))


@pytest.mark.parametrize("name", ["criterion", "get_cost"])
def test_costs_fit_the_protocol(name: str) -> None:
    asked = getattr(swm.protocols.Costable, name)
    assert [*signature(asked).parameters] == [*signature(getattr(CostModel, name)).parameters]


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("CEMSolver", {"n_steps": 3, "topk": 8, "var_scale": 3.0}),
        ("MPPISolver", {"n_steps": 3, "topk": 8, "temperature": 0.001}),
        ("PredictiveSamplingSolver", {}),
        ("GradientSolver", {"n_steps": 3, **ADAM}),
        ("LagrangianSolver", {"n_steps": 3, "n_outer_steps": 1, **ADAM}),
    ],
)
def test_its_solvers_win_in_its_world(solver: str, options: dict[str, Any]) -> None:
    world = swm.World(
        "jumpy_mbrl:Billiards2DShot-v0",
        num_envs=8,
        add_pixels=False,
        truncate_lost=True,
        pre_wrappers=[partial(gym.wrappers.ReshapeObservation, shape=(4, 4))],
    )
    planner = getattr(swm.solver, solver)(COSTS, **SEARCH, **options)
    plans = swm.PlanConfig(horizon=1, receding_horizon=1)
    world.set_policy(swm.policy.WorldModelPolicy(planner, plans))
    result = world.evaluate(episodes=8, seed=0, reset_mode="wait")
    told = world.infos["is_success"][:, 0]
    assert result["success_rate"] == 100 * told.mean() > 60
    # Plans may leave the box: what is played is what the model was asked for, the nearest in it.
    actions = world.infos["action"][:, 0]
    assert solver != "CEMSolver" or (np.abs(actions) > 1).any()
    env = gym.make_vec("Billiards2DShot-v0", 8, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    assert np.array_equal(env.step(actions.clip(-1, 1))[4]["is_success"], told)


def test_its_world_samples_our_factors() -> None:
    world = swm.World("jumpy_mbrl:Billiards2D-v0", num_envs=2, image_shape=(64, 64))
    for names, drawn in ((["all"], True), (["radius"], False)):
        world.reset(seed=0, options={"variation": names})
        radii, felt = world.infos["variation.radius"], world.infos["pixels"][:, 0, 30, 2]
        assert (radii != 0.1).all() and radii[0] != radii[1]
        assert (felt[0] != felt[1]).any() == drawn
