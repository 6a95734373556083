"""The adapter for torchrl: its own checker, its own planner, gradients through rollouts."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import torch

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.adapters.mpc import CostModel
from jumpy_mbrl.evaluation import make_tables, play
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, RNNConfig, WorldModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.objectives import FunctionObjective, ReachRegion

pytest.importorskip("torchrl")

from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl import envs
from torchrl.envs import ParallelEnv, SerialEnv, check_env_specs
from torchrl.modules import CEMPlanner, MPPIPlanner

from jumpy_mbrl.adapters.torchrl import WorldModelEnv

TABLES = torch.tensor([[0.3, 0.5, 0.65, 0.58], [0.2, 0.2, 0.5, 0.4], [0.7, 0.2, 0.4, 0.6]])
FRAMES = TABLES.unsqueeze(1).expand(-1, 4, -1)  # three tables at rest
FRAME = ReachRegion((0.8, 1.0, 0.0, 0.2), [1.0])
CORNER = ReachRegion((0.8, 1.0, 0.0, 0.2), range(1, 42))
SHOT = ReachRegion((0.8, 1.0, 0.4, 1.0), range(1, 21))


@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("model", [SimulatorModel(), RNN(RNNConfig()), JumpyRNN(JumpyRNNConfig())])
def test_torchrl_accepts_it(model: WorldModel, batch: tuple[int, ...]) -> None:
    env = WorldModelEnv(model, FRAME, FRAMES, batch_size=batch)
    check_env_specs(env, seed=0)
    assert env.rollout(5, break_when_any_done=False).batch_size == (*batch, 5)
    assert WorldModelEnv(model, FRAME, FRAMES, batch_size=4).batch_size == (4,)


def test_steps_are_what_the_model_imagines() -> None:
    model = SimulatorModel()
    env = WorldModelEnv(model, FRAME, FRAMES)
    step = env.observe(FRAMES)
    actions = torch.tensor([[[0.5, 0.1], [0.0, -0.2], [-0.3, 0.9]]]).expand(3, -1, -1)
    imagined = model.imagine(
        model.observe(FRAMES), [1.0, 2.0, 3.0], actions, action_times=(0.0, 1.0, 2.0)
    )
    for frame in range(3):
        step["action"] = actions[:, frame]
        step = env.step(step)
        torch.testing.assert_close(step["next", "observation"], imagined.obs[:, frame])
        reward = FRAME(imagined.obs[:, frame].view(3, 1, 1, 4))
        torch.testing.assert_close(step["next", "reward"], reward)
        step = step["next"]


def test_a_believed_success_ends_the_episode() -> None:
    env = envs.TransformedEnv(
        WorldModelEnv(SimulatorModel(), SHOT, FRAMES), envs.StepCounter(max_steps=2)
    )
    start = env.reset(TensorDict(batch_size=[200]))
    rollout = env.rollout(2, tensordict=start, auto_reset=False, break_when_any_done=False)
    after = rollout["next"]
    assert bool((after["terminated"] == (after["reward"] > 0.0)).all())
    assert 0.0 < float(after["terminated"][:, 0].float().mean()) < 1.0
    assert not bool(after["truncated"][:, 0].any())
    assert torch.equal(after["truncated"][:, 1], ~after["terminated"][:, 0])


def test_gradients_flow_through_a_rollout() -> None:
    env = WorldModelEnv(RNN(RNNConfig()), FRAME, FRAMES)
    action = torch.zeros(3, 2, requires_grad=True)
    total = torch.zeros(())
    step = env.observe(FRAMES)
    for _ in range(3):
        step["action"] = action
        step = env.step(step)["next"]
        total = total + step["reward"].sum()
    (gradient,) = torch.autograd.grad(total, action)
    assert bool((gradient != 0.0).all())


def test_the_cross_entropy_planner_of_torchrl_plans_with_it() -> None:
    torch.manual_seed(0)
    env = WorldModelEnv(SimulatorModel(), SHOT, FRAMES)
    planner = CEMPlanner(env, planning_horizon=1, optim_steps=4, num_candidates=64, top_k=8)
    with torch.no_grad():
        planned = env.step(planner(env.observe(FRAMES[:1].expand(4, -1, -1))))
    assert planned["action"].shape == (4, 2)
    assert bool(planned["next", "terminated"].all())


@pytest.mark.parametrize("planner", ["CEM", "MPPI"])
def test_few_elites_and_many_iterations_win(planner: str) -> None:
    """As the documentation says; wide elites that all win have a mean that does not."""
    tables = make_tables(30, split="validation")
    seen = torch.from_numpy(tables.frames)
    env = WorldModelEnv(from_pretrained("fold-billiards2d"), CORNER, seen)
    gain = TensorDictModule(
        lambda reward: reward - reward.amax(dim=1, keepdim=True),
        [("next", "reward")],
        ["advantage"],
    )

    def won(optim_steps: int, num_candidates: int, top_k: int) -> int:
        torch.manual_seed(0)
        search = {"optim_steps": optim_steps, "num_candidates": num_candidates, "top_k": top_k}
        search["planning_horizon"] = 1
        make = (
            partial(MPPIPlanner, env, gain, 10.0) if planner == "MPPI" else partial(CEMPlanner, env)
        )
        with torch.no_grad():
            action = make(**search)(env.observe(seen))["action"]
        return int(play(tables, action.numpy()).is_success.sum())

    assert won(5, 100, 16) < 25 <= won(20, 50, 3)


def test_starts_are_drawn_from_the_frames_alike_on_all_devices() -> None:
    env = WorldModelEnv(SimulatorModel(), FRAME, FRAMES)
    env.set_seed(5)
    first = env.reset(TensorDict(batch_size=[50]))["observation"]
    assert {tuple(row) for row in first.tolist()} == {tuple(row) for row in TABLES.tolist()}
    for device in ("cpu", "meta"):  # where new tensors go, as a program may set it to "cuda"
        env.set_seed(5)
        with torch.device(device):
            assert torch.equal(first, env.reset(TensorDict(batch_size=[50]))["observation"])


def test_without_a_seed_starts_come_from_the_global_one() -> None:
    def starts(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        env = SerialEnv(3, lambda: WorldModelEnv(SimulatorModel(), FRAME, FRAMES, batch_size=(20,)))
        observation: torch.Tensor = env.reset()["observation"]
        return observation

    first = starts(0)
    assert torch.equal(first, starts(0))
    assert not torch.equal(first, starts(1))
    assert not torch.equal(first[0], first[1])


def test_the_frames_move_with_the_environment() -> None:
    env = WorldModelEnv(RNN(RNNConfig()), FRAME, FRAMES).to("meta")
    assert env.device == env.frames.device == torch.device("meta")
    assert all(weight.device == env.device for weight in env.world_model.parameters())
    assert "frames" not in env.state_dict()


def test_actions_are_clipped_as_in_the_environment() -> None:
    actions = torch.tensor([[5.0, 0.1], [0.3, -4.0], [-0.2, 0.4]], requires_grad=True)
    model = SimulatorModel()
    env = WorldModelEnv(model, SHOT, FRAMES)
    reward = env.step(env.observe(FRAMES).set("action", actions))["next", "reward"]
    cost = CostModel(model, SHOT).get_cost({"frames": FRAMES}, actions.unsqueeze(1))
    torch.testing.assert_close(reward, -cost)
    (gradient,) = torch.autograd.grad(reward.sum(), actions)
    outside = actions.abs() > 1.0
    assert bool((gradient[outside] == 0.0).all())
    assert bool((gradient[:2][~outside[:2]] != 0.0).all())


def test_actions_of_other_environments_have_other_bounds() -> None:
    model = RNN(RNNConfig())
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 4.0])
    bounds: dict[str, Any] = {"action_low": (-2.0, 0.0), "action_high": (2.0, 4.0)}
    env = WorldModelEnv(model, SHOT, FRAMES, batch_size=(3,), **bounds)
    check_env_specs(env, seed=0)
    space = env.action_spec.space
    assert torch.equal(space.low, low.expand(3, 2)) and torch.equal(space.high, high.expand(3, 2))
    actions = torch.tensor([[5.0, 1.5], [1.5, -4.0], [-1.5, 9.0]])
    reward = env.step(env.observe(FRAMES).set("action", actions))["next", "reward"]
    imagined = model.imagine(model.observe(FRAMES), SHOT.times, actions.clamp(low, high))
    torch.testing.assert_close(reward, SHOT(imagined.obs.unsqueeze(1)))
    cost = CostModel(model, SHOT, **bounds).get_cost({"frames": FRAMES}, actions.unsqueeze(1))
    torch.testing.assert_close(reward, -cost)


@pytest.mark.parametrize(
    ("model", "frames", "bounds", "message"),
    [
        (RNN(RNNConfig(action_size=0)), FRAMES, {}, "with actions, got RNN with action_size=0"),
        (SimulatorModel(), FRAMES[..., :2], {}, r"obs must have shape \(B, T, 4\)"),
        (SimulatorModel(), FRAMES[:0], {}, r"expected context frames .* got frames \(0, 4, 4\)"),
        (SimulatorModel(), FRAMES, {"action_low": 1.0}, "must lie below action_high, got 1"),
    ],
)
def test_bad_arguments_are_refused(
    model: WorldModel, frames: torch.Tensor, bounds: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        WorldModelEnv(model, FRAME, frames, **bounds)


def test_scores_of_another_shape_are_refused() -> None:
    env = WorldModelEnv(SimulatorModel(), FunctionObjective(lambda obs: obs[..., 0], [1.0]), FRAMES)
    with pytest.raises(ValueError, match=r"into scores \(B, S\), here \(3, 1\), got \(3, 1, 1\)"):
        env.step(env.observe(FRAMES).set("action", torch.zeros(3, 2)))


@pytest.mark.parametrize("kind", [SerialEnv, ParallelEnv])
def test_several_environments_with_a_learned_model(kind: type[SerialEnv | ParallelEnv]) -> None:
    env = kind(2, learned)
    env.set_seed(0)
    try:
        rollout = env.rollout(3, break_when_any_done=False)
    finally:
        env.close()
    assert rollout.batch_size == (2, 3)
    assert not rollout["next", "reward"].requires_grad


def learned() -> WorldModelEnv:
    torch.manual_seed(0)
    return WorldModelEnv(RNN(RNNConfig()), FRAME, FRAMES)


def test_a_graph_is_built_for_what_asks_for_gradients() -> None:
    env = learned()
    still = env.step(env.reset(TensorDict(batch_size=[3])).set("action", torch.zeros(3, 2)))
    assert not any(value.requires_grad for value in still.values(True, True))
    asked = env.observe(FRAMES.clone().requires_grad_()).set("action", torch.zeros(3, 2))
    assert env.step(asked)["next", "reward"].requires_grad


@pytest.mark.parametrize("name", ["Billiards2D-v0", "Billiards1DShot-v0"])
@pytest.mark.parametrize("kind", ["single", "batched", "native"])
def test_torchrl_carries_the_infos_of_the_real_environments(name: str, kind: str) -> None:
    if kind == "native":
        env = envs.GymWrapper(gym.make_vec(name, 2, autoreset_mode="SameStep"))
    elif kind == "batched":
        env = envs.GymEnv(f"jumpy_mbrl:{name}", num_envs=2)
    else:
        env = envs.GymEnv(name).auto_register_info_dict()
    try:
        seen = env.rollout(60, break_when_any_done=False)
    finally:
        env.close()
    lead = () if kind == "single" else (2,)
    assert seen["next", "positions"].shape[: len(lead) + 1] == (*lead, 60)
    for part in (seen, seen["next"]):
        for key, dtype in [("time", torch.float64), ("is_success", torch.bool)]:
            assert part[key].dtype == dtype
        for key in ("wall_hits", "ball_hits", *(["frames_played"] if "Shot" in name else [])):
            assert part[key].dtype == torch.int64
    assert bool((seen["time"] > 0.0).any())
    assert not bool((seen["next", "terminated"] & seen["next", "truncated"]).any())
