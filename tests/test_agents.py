"""Agents by name, and those that do not think."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

import jumpy_mbrl.agents as agents
from jumpy_mbrl.adapters.sb3 import make_vec_env
from jumpy_mbrl.agents import (
    AGENTS,
    PROTOCOLS,
    Agent,
    GradientPlanner,
    NoShot,
    OtherGameError,
    PlannerConfig,
    RandomShot,
    ReachPointAtTime,
    ReachRegion,
    load_agent,
)
from jumpy_mbrl.agents.base import batch_of_frames
from jumpy_mbrl.agents.registry import AgentEntry
from jumpy_mbrl.envs.rules import line_task, plane_task
from jumpy_mbrl.evaluation import Variant, evaluate_agent, find_variant, make_tables
from jumpy_mbrl.models import (
    RNN,
    EventJump,
    EventJumpConfig,
    FoldJump,
    JumpyRNNConfig,
    RNNConfig,
    make_model,
    pretrained_info,
    save_pretrained,
    shipped_models,
)
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.registry import ModelConfig
from jumpy_mbrl.objectives import objective_of

LEARNED = [name for name, entry in AGENTS.items() if entry.checkpoint]


def some_frames(count: int = 5) -> Any:
    return np.random.default_rng(0).uniform(0.1, 0.9, (count, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = RNN(RNNConfig(hidden_size=4, mlp_size=4))
    return save_pretrained(model, tmp_path_factory.mktemp("models") / "tiny")


def test_public_names() -> None:
    for name in agents.__all__:
        assert getattr(agents, name) is not None
    expected = {"load_agent", "AGENTS", "GradientPlanner", "PlannerConfig", "PROTOCOLS", "Agent"}
    assert expected | {"ReachRegion", "ReachPointAtTime", "RandomShot", "NoShot"} <= set(
        agents.__all__
    )


def test_table_of_agents() -> None:
    assert list(AGENTS) == ["none", "random", "ppo", "sac", *LEARNED, "simulator"]
    assert LEARNED == ["rnn", "ode-rnn", "jump-4", "jumpy-rnn", "jumpy"]
    assert AGENTS["jumpy"].checkpoint == "fold-billiards2d"
    rivals = [name for name in LEARNED if name != "jumpy"]
    assert [AGENTS[name].checkpoint for name in rivals] == [
        f"{name}-billiards2d" for name in rivals
    ]
    assert {AGENTS[name].checkpoint for name in LEARNED} <= set(shipped_models())
    assert AGENTS["jumpy"].line_checkpoint == "jumpy-billiards1d-task"
    assert AGENTS["rnn"].line_checkpoint == "rnn-billiards1d"
    assert AGENTS["jumpy-rnn"].line_checkpoint == "jumpy-rnn-billiards1d"
    for entry in AGENTS.values():
        assert entry.description and "\n" not in entry.description


def test_no_shot_is_zero() -> None:
    actions, state = NoShot().predict(some_frames(), state="kept")
    assert actions.shape == (5, 2) and actions.dtype == np.float32 and state == "kept"
    assert not actions.any()
    assert NoShot().predict(some_frames()[0])[0].shape == (2,)


def test_random_shots_are_uniform_and_follow_the_seed_alone() -> None:
    frames = np.repeat(some_frames(1), 4000, axis=0)
    shots, _ = RandomShot(seed=1).predict(frames)
    assert shots.shape == (4000, 2) and shots.dtype == np.float32
    assert -1.0 <= shots.min() < -0.99 and 0.99 < shots.max() <= 1.0
    counts = np.histogram2d(shots[:, 0], shots[:, 1], bins=4, range=[[-1, 1], [-1, 1]])[0]
    assert counts.min() > 180 and counts.max() < 320  # 250 each
    np.random.seed(0)  # noqa: NPY002
    np.testing.assert_array_equal(RandomShot(seed=1).predict(frames)[0], shots)
    assert not np.array_equal(RandomShot(seed=2).predict(frames)[0], shots)
    agent = RandomShot(seed=1)
    parts = [agent.predict(frames[:1000])[0], agent.predict(frames[1000:])[0]]
    np.testing.assert_array_equal(np.concatenate(parts), shots)
    assert RandomShot().predict(frames[0])[0].shape == (2,)


@pytest.mark.parametrize("agent", [NoShot(), RandomShot()])
def test_agents_that_do_not_think_check_their_input(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"shape \(B, 4, 4\).*got \(5, 3, 4\)"):
        agent.predict(some_frames()[:, :3])
    with pytest.raises(ValueError, match=r"finite, got NaN or infinity in rows \[2\]"):
        agent.predict(np.where(np.arange(5).reshape(5, 1, 1) == 2, np.nan, some_frames()))


def test_flattened_frames_are_told_by_their_numbers() -> None:
    for shape, size, likely, batch in (
        ((5, 16), None, (), (5, 4, 4)),
        ((16,), None, (), (4, 4)),
        ((4, 16), 4, (), (4, 4, 4)),  # four tables of two balls
        ((4, 16), None, (4, 8), (4, 4, 4)),
        ((4, 16), None, (), (4, 16)),  # or four frames of eight
        ((4, 16), 16, (4,), (4, 16)),
        ((4, 8), None, (4, 8), (4, 8)),
        ((4, 8), None, (2,), (4, 4, 2)),
        ((5, 4, 4), 4, (), (5, 4, 4)),
        ((4, 4), 4, (), (4, 4)),
    ):
        given = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
        frames, single = batch_of_frames(given, size, likely)
        assert single == (len(batch) == 2), (shape, size, likely)
        np.testing.assert_array_equal(frames[0] if single else frames, given.reshape(batch))


@pytest.mark.parametrize("shape", [(5, 24), (24,), (4, 24), (5, 4), (4,), (0, 16), (5, 18)])
def test_flattened_frames_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    message = rf"flattened, \(B, 16\) or \(16,\); got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        batch_of_frames(np.zeros(shape), 4)


@pytest.mark.parametrize("name", ["none", "random", "ppo", "simulator"])
def test_agents_play_the_environments_of_whole_shots(name: str) -> None:
    search = PlannerConfig(candidates=8, gradient_steps=0, finalists=0)
    agent: Any = load_agent(name, device="cpu", config=search, seed=1)
    env = make_vec_env("Billiards2DShot-v0", 4, seed=0)
    seen = env.reset()
    assert isinstance(seen, np.ndarray) and seen.shape == (4, 16)
    flat, _ = agent.predict(seen)
    again: Any = load_agent(name, device="cpu", config=search, seed=1)
    np.testing.assert_array_equal(flat, again.predict(seen.reshape(4, 4, 4))[0])
    assert agent.predict(seen[0])[0].shape == (2,)
    mean, _ = evaluate_policy(agent, make_vec_env("Billiards2DShot-v0", 4, seed=0), 8)
    assert 0.0 <= float(mean) <= 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "random", "simulator"])
def test_agents_play_the_environment_of_shots_on_a_line(name: str) -> None:
    search = PlannerConfig(candidates=8, gradient_steps=0, finalists=0)
    agent: Any = load_agent(name, task=line_task(), device="cpu", config=search)
    assert agent.predict(make_vec_env("Billiards1DShot-v0", 4, seed=0).reset())[0].shape == (4, 2)


def test_every_agent_predicts(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "default", PlannerConfig(8, 2, 1, finalists=2, perturbations=2))
    frames = make_tables(3).observations
    for name, entry in AGENTS.items():
        agent = load_agent(name, device="cpu", checkpoint=saved if entry.checkpoint else None)
        assert isinstance(agent, Agent)
        actions, _ = agent.predict(frames)
        assert actions.shape == (3, 2) and actions.dtype == np.float32
        assert np.abs(actions).max() <= 1.0
        assert agent.predict(frames[0])[0].shape == (2,)


def test_learned_agents_plan_with_their_checkpoint(saved: Path) -> None:
    for name in LEARNED:
        agent = load_agent(name, protocol="paper", device="cpu", seed=3, checkpoint=saved)
        assert isinstance(agent, GradientPlanner) and isinstance(agent.model, RNN)
        assert not agent.oracle and not agent.model.training
        assert agent.checkpoint == str(saved)
        assert agent.config.gradient_steps == 20 and agent.config.seed == 3


def test_a_folder_called_as_a_shipped_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "fold-billiards2d"
    data = {"num_trajectories": 10, "table": {"num_frames": 45}}
    save_pretrained(RNN(RNNConfig(hidden_size=4, mlp_size=4)), name, data=data)
    search = PlannerConfig(2, 1, 0, finalists=0)
    for checkpoint, kind, record, frames in (
        (Path(name), RNN, f"./{name}", 450),
        (f"./{name}", RNN, f"./{name}", 450),
        (name, FoldJump, name, 4_500_000),
    ):
        agent = load_agent("jumpy", checkpoint=checkpoint, device="cpu", config=search)
        assert isinstance(agent, GradientPlanner) and isinstance(agent.model, kind)
        result = evaluate_agent(agent, make_tables(2))
        assert (result.checkpoint, result.training_frames) == (record, frames)


def test_further_models_join_the_stress_test(saved: Path) -> None:
    agent = load_agent("rnn", device="cpu", checkpoint=saved, ensemble=(saved, "rnn-billiards2d"))
    assert isinstance(agent, GradientPlanner) and agent.checkpoint == str(saved)
    assert [model.record for model in agent.ensemble] == [
        {name: pretrained_info(source)[name] for name in ("data", "training", "metrics")}
        for source in (saved, "rnn-billiards2d")
    ]


def test_search_settings_can_be_given(saved: Path) -> None:
    config = PlannerConfig(candidates=5, refined=2)
    agent = load_agent("rnn", device="cpu", config=config, checkpoint=saved, seed=7)
    assert isinstance(agent, GradientPlanner)
    assert agent.config == PlannerConfig(candidates=5, refined=2, seed=7)


def test_simulator_is_the_oracle() -> None:
    agent = load_agent("simulator", device="cpu")
    assert isinstance(agent, GradientPlanner) and isinstance(agent.model, SimulatorModel)
    assert agent.oracle and agent.checkpoint is None


def test_objective_is_the_environments() -> None:
    config = {"target": (0.1, 0.2, 0.3, 0.4), "num_frames": 10}
    objective = objective_of(plane_task(config=config))
    assert isinstance(objective, ReachRegion) and objective.ball == 1
    torch.testing.assert_close(objective.region, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert objective.times.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # frames 4 to 9
    assert objective_of(plane_task()).times.tolist() == list(range(1, 42))  # frames 4 to 44


def test_objectives_of_other_tasks() -> None:
    long = objective_of(plane_task(config={"num_frames": 90}))
    assert long.times.tolist() == list(range(1, 87))
    assert objective_of(plane_task(success="last")).times.tolist() == [41.0]
    targets = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    drawn = objective_of(plane_task(random_target=True), targets)
    assert isinstance(drawn, ReachRegion) and drawn.times.tolist() == list(range(1, 42))
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


def test_a_model_is_carried_over_to_other_numbers_of_balls(tmp_path: Path) -> None:
    folder = save_pretrained(EventJump(EventJumpConfig(hidden_size=4)), tmp_path / "tiny")
    task = plane_task(num_balls=4)
    for name in ("jumpy", "simulator"):
        source = folder if name == "jumpy" else None
        agent = load_agent(name, task=task, device="cpu", checkpoint=source)
        assert isinstance(agent, GradientPlanner) and agent.model.obs_size == 8
    assert load_agent("jumpy", task=task, checkpoint=folder).checkpoint == str(folder)  # type: ignore[attr-defined]


def test_models_that_cannot_be_carried_over_are_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 2 balls, which the RNN.*got 3.*'jumpy'"):
        load_agent("rnn", task=plane_task(num_balls=3), device="cpu", checkpoint=saved)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RNNConfig(obs_size=4), "got RNN with obs_size=4 and action_size=2"),
        (RNNConfig(obs_size=2, action_size=0), "got RNN with obs_size=2 and action_size=0"),
        (RNNConfig(obs_size=2, action_size=1), "got RNN with obs_size=2 and action_size=1"),
        (EventJumpConfig(action_size=0), "got EventJump with obs_size=4 and action_size=0"),
    ],
)
def test_models_that_cannot_play_on_a_line_are_refused(
    config: ModelConfig, message: str, tmp_path: Path
) -> None:
    folder = save_pretrained(make_model(config), tmp_path / "tiny")
    with pytest.raises(ValueError, match=rf"two balls on a line.*{message}.*preset 'line-rnn'"):
        load_agent("rnn", task=line_task(), device="cpu", checkpoint=folder)


def test_an_agent_without_a_model_of_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "rnn", AgentEntry("of tables alone", "rnn-billiards2d"))
    able = r"\['jumpy-rnn', 'jumpy'\]"
    with pytest.raises(ValueError, match=f"'rnn' has no model of balls on a line.*{able} have"):
        load_agent("rnn", task=line_task(), device="cpu")


def test_agents_on_a_line() -> None:
    oracle = load_agent("simulator", task=line_task(), device="cpu")
    assert isinstance(oracle, GradientPlanner) and oracle.oracle
    assert isinstance(oracle.model, PlacementModel)
    assert isinstance(oracle.model.passive, LineSimulator)
    agent = load_agent("jumpy", task=line_task(), device="cpu")
    assert isinstance(agent, GradientPlanner) and agent.checkpoint == "jumpy-billiards1d-task"
    assert not agent.oracle and agent.model.obs_size == 2
    assert isinstance(agent.model, PlacementModel)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("rnn", RNNConfig(obs_size=2, hidden_size=8, mlp_size=8)),
        ("jumpy-rnn", JumpyRNNConfig(obs_size=2, hidden_size=8, mlp_size=8)),
    ],
)
def test_models_that_learned_the_shots_plan_on_a_line(
    name: str, config: ModelConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder = save_pretrained(make_model(config), tmp_path / "tiny")
    variant = find_variant(env_id="Billiards1D-v0")
    lines = make_tables(5, 901, variant)
    search = PlannerConfig(16, 4, 6, finalists=2, perturbations=2)
    agent = load_agent(name, task=variant.task, config=search, device="cpu", checkpoint=folder)
    assert isinstance(agent, GradientPlanner)
    assert type(agent.model) is type(make_model(config)), "it needs no placing"
    found = evaluate_agent(agent, lines)
    assert len(found.is_success) == 5 and found.ticks is not None and 1.0 <= found.ticks <= 17.0
    plan = agent.plan(lines.observations)
    assert plan.action.shape == (5, 2) and float(plan.action.abs().max()) <= 1.0
    # Both entries are climbed, and the best start becomes better by that.
    shots = torch.zeros(5, 2, requires_grad=True)
    state = agent.model.observe(torch.from_numpy(lines.observations))
    ends = agent.model.imagine(state, agent.objective.times, shots).obs
    (gradient,) = torch.autograd.grad(agent.objective(ends.unsqueeze(1)).sum(), shots)
    assert bool(gradient.isfinite().all()) and bool((gradient != 0).all())
    screened = GradientPlanner(
        agent.model, agent.objective, replace(search, gradient_steps=0, finalists=0)
    )
    climbed = GradientPlanner(agent.model, agent.objective, replace(search, finalists=0))
    before, after = (planner.plan(lines.observations).score for planner in (screened, climbed))
    assert bool((after >= before).all()) and bool((after > before).any())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jumpi", {}, r"unknown agent 'jumpi', expected one of .*did you mean 'jumpy'\?"),
        ("simulater", {}, r"did you mean 'simulator'\?"),
        ("none", {"protocol": "papers"}, r"unknown protocol 'papers'.*did you mean 'paper'\?"),
        ("none", {"device": "gpu"}, r"unknown device 'gpu'.*'auto', 'cpu', 'cuda'"),
        ("random", {"checkpoint": "somewhere"}, "'random' has no learned model"),
        ("rnn", {"checkpoint": "nowhere/at-all"}, "there is no folder 'nowhere/at-all'"),
        ("rnn", {"ensemble": ["nowhere/at-all"]}, "there is no folder 'nowhere/at-all'"),
        ("sac", {"ensemble": ["x", "y"]}, "'sac' does not plan with a learned.* of 2 more; leave"),
        ("simulator", {"ensemble": ["x"]}, "'simulator' does not plan with a learned model"),
        ("jumpy", {"ensemble": ["rnn-billiards1d"]}, "expected a model of balls on a table"),
    ],
)
def test_bad_requests_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_agent(name, **{"device": "cpu", **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'cuda' was asked for, but torch sees 0 CUDA devices"):
        load_agent("none", device="cuda")


def test_an_agent_for_other_tables_refuses_these() -> None:
    agent = GradientPlanner(EventJump(EventJumpConfig(num_balls=3)), objective_of(plane_task()))
    with pytest.raises(ValueError, match=r"shape \(B, 4, 6\) or \(4, 6\).*got \(5, 4, 4\)"):
        agent.predict(some_frames())


def test_simulator_planner_wins() -> None:
    result = evaluate_agent(load_agent("simulator", device="cpu"), make_tables(150, seed=901))
    assert result.success >= 0.98
    assert result.belief is not None and result.belief > 0.9


def test_our_best_jumpy_planner_wins() -> None:
    result = evaluate_agent(load_agent("jumpy", device="cpu"), make_tables(60, seed=901))
    assert result.success >= 0.9
    assert result.ticks is not None and result.ticks < 20.0
    assert result.training_frames is not None and result.training_frames > 0


def test_our_best_jumpy_planner_wins_with_three_balls() -> None:
    variant = find_variant("three_balls")
    agent = load_agent("jumpy", task=variant.task, device="cpu")
    result = evaluate_agent(agent, make_tables(12, 901, variant))
    assert result.success >= 0.85


def test_on_lines_our_best_jumpy_planner_is_as_good_as_the_truth() -> None:
    variant = find_variant(env_id="Billiards1D-v0")
    lines = make_tables(60, 901, variant)
    ours, truth = (
        evaluate_agent(load_agent(name, task=variant.task, device="cpu"), lines)
        for name in ("jumpy", "simulator")
    )
    assert truth.success >= 0.5 and abs(ours.successes - truth.successes) <= 3
    assert truth.beliefs is not None
    np.testing.assert_array_equal(truth.beliefs > 0.5, truth.is_success)  # it knows what it can do


BALLS = ("none", "random", "jumpy", "simulator")
"""Who plays with any number of balls."""
LINES = ("none", "random", "rnn", "jumpy-rnn", "jumpy", "simulator")
"""Who plays on a line."""


def shown(env_id: str, count: int, **arguments: Any) -> Any:
    """What an environment of whole shots shows of its first tables, (B, D)."""
    seen = make_vec_env(env_id, count, seed=0, **arguments).reset()
    assert isinstance(seen, np.ndarray)
    return seen


@pytest.mark.parametrize("balls", range(9))
@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_plays_with_any_number_of_balls_or_refuses_by_name(
    name: str, balls: int
) -> None:
    line = balls == 0
    task = line_task() if line else plane_task(num_balls=balls)
    search = PlannerConfig(candidates=2, gradient_steps=0, finalists=0)
    if name not in (LINES if line else BALLS) and balls != 2:
        expected = r"\['rnn', 'jumpy-rnn', 'jumpy'\] have|take an agent .*'jumpy',? or 'simulator'"
        with pytest.raises(OtherGameError, match=expected) as refused:
            load_agent(name, task=task, device="cpu", config=search)
        got = "line" if line else f"expected .*2 balls, .*got {balls}"
        assert re.search(got, str(refused.value))
        return
    agent = load_agent(name, task=task, device="cpu", config=search)
    arguments = {} if line else {"num_balls": balls}
    seen = shown(f"Billiards{1 if line else 2}DShot-v0", 2, **arguments)
    shots, _ = agent.predict(seen)
    assert shots.shape == (2, 2) and np.abs(shots).max() <= 1.0


@pytest.mark.parametrize("name", ["jumpy", "simulator"])
def test_a_single_ball_is_the_one_that_must_arrive(name: str) -> None:
    one = Variant("one ball", arguments={"num_balls": 1})
    search = PlannerConfig(candidates=32, gradient_steps=2, finalists=2, perturbations=4)
    agent: Any = load_agent(name, task=one.task, device="cpu", config=search)
    result = evaluate_agent(agent, make_tables(20, variant=one))
    assert result.success >= 0.95 and result.belief is not None and result.belief >= 0.95
    still = evaluate_agent(NoShot(), make_tables(20, variant=one))
    assert still.success <= 0.5


def test_a_model_of_lines_is_not_taken_for_one_of_a_single_ball() -> None:
    with pytest.raises(OtherGameError, match="balls on a table, got RNN, which learned balls on"):
        load_agent("rnn", task=plane_task(num_balls=1), checkpoint="rnn-billiards1d", device="cpu")


GAMES: dict[str, tuple[str, Any, int]] = {
    "table": ("Billiards2DShot-v0", plane_task, 8),
    "line": ("Billiards1DShot-v0", line_task, 4),
}
"""Environment, task, and numbers in a frame with the target."""


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("random_target", [True, False])
@pytest.mark.parametrize("name", ["jumpy", "simulator"])
def test_planners_read_the_target_that_each_episode_shows(
    name: str, random_target: bool, game: str
) -> None:
    env_id, make, size = GAMES[game]
    search = PlannerConfig(candidates=16, gradient_steps=2, finalists=2, perturbations=2)
    # One that was not told of random targets reads those that it is shown as well.
    task = make(random_target=random_target)
    agent: Any = load_agent(name, task=task, device="cpu", config=search)
    seen = shown(env_id, 5, random_target=True)
    frames = seen.reshape(5, 4, size)
    balls, targets = frames[..., : size // 2], frames[:, -1, size // 2 :]
    expected = agent.plan(balls, objective=objective_of(task, targets)).action.numpy()
    for given in (seen, frames):
        np.testing.assert_array_equal(agent.predict(given)[0], expected)
        np.testing.assert_array_equal(agent.plan(frames).action.numpy(), expected)
        assert agent.predict(given[0])[0].shape == (2,)
    others = frames.copy()
    others[..., size // 2 :] = frames[::-1, :, size // 2 :]
    assert np.abs(agent.predict(others)[0] - expected).max() > 0.01
    moving = frames.copy()
    moving[2, 0, -1] += 0.01
    with pytest.raises(ValueError, match="a target that stays where it is, got one that changes"):
        agent.predict(moving)
    objective = objective_of(make())
    plans = [agent.plan(given, objective=objective) for given in (frames, balls)]
    np.testing.assert_array_equal(plans[0].action, plans[1].action)


@pytest.mark.parametrize("game", GAMES)
def test_coordinates_alone_do_not_tell_a_random_target(game: str) -> None:
    env_id, make, size = GAMES[game]
    search = PlannerConfig(candidates=2, gradient_steps=1, finalists=0)
    agent: Any = load_agent("jumpy", task=make(random_target=True), device="cpu", config=search)
    message = rf"none was shown: give frames with the target, {size // 2} \+ {size // 2} numbers"
    with pytest.raises(ValueError, match=message):
        agent.predict(shown(env_id, 2))
    with pytest.raises(ValueError, match=r"plan\(frames, objective=...\)"):
        agent.plan(shown(env_id, 2).reshape(2, 4, -1))


@pytest.mark.parametrize("game", GAMES)
def test_stable_baselines_evaluates_planners_on_random_targets(game: str) -> None:
    env_id, make, _ = GAMES[game]
    search = PlannerConfig(candidates=32, gradient_steps=2, finalists=2, perturbations=4)
    task = make(random_target=True)
    agent: Any = load_agent("jumpy", task=task, device="cpu", config=search)
    least = 0.8 if game == "table" else 0.5  # The oracle reaches two in three targets of lines.
    won, _ = evaluate_policy(agent, make_vec_env(env_id, 20, seed=3, random_target=True), 20)
    assert won >= least  # type: ignore[operator]
    variant = Variant("random", env_id.replace("Shot", ""), {"random_target": True})
    tables = make_tables(10, variant=variant)
    result = evaluate_agent(agent, tables)
    assert result.success >= least and result.belief is not None
    assert abs(result.success - result.belief) <= 0.2
    np.testing.assert_array_equal(agent.predict(tables.observations)[0], result.actions)


@pytest.mark.parametrize("obs_type", ["state", "pixels", "dict"])
@pytest.mark.parametrize("name", ["ppo", "simulator"])
def test_other_observations_are_refused_by_name(name: str, obs_type: str) -> None:
    seen, _ = gym.make("Billiards2DShot-v0", obs_type=obs_type).reset(seed=0)
    with pytest.raises(ValueError, match="obs_type='coords'"):
        load_agent(name, device="cpu").predict(seen)
