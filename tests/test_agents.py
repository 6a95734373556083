"""Agents by name: who plays what, with which model, and what is refused."""

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

from jumpy_mbrl import agents, models
from jumpy_mbrl.adapters.sb3 import make_vec_env
from jumpy_mbrl.agents import AGENTS, GradientPlanner, OtherGameError, PlannerConfig, load_agent
from jumpy_mbrl.agents.base import batch_of_frames
from jumpy_mbrl.agents.registry import AgentEntry
from jumpy_mbrl.envs.rules import line_task, plane_task
from jumpy_mbrl.evaluation import Variant, evaluate_agent, find_variant, make_tables
from jumpy_mbrl.models import RNN, EventJumpConfig, FoldJump, JumpyRNNConfig, RNNConfig
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.objectives import objective_of

LEARNED = [name for name, entry in AGENTS.items() if entry.checkpoint]
BALLS = ("none", "random", "jumpy-entities", "jumpy-space", "jumpy", "simulator")
"""Who plays with any number of balls."""
LINES = ("none", "random", "rnn", "jumpy-rnn", "jumpy", "simulator")
"""Who plays on a line."""
GAMES: dict[str, tuple[str, Any, int]] = {
    "table": ("Billiards2DShot-v0", plane_task, 8),
    "line": ("Billiards1DShot-v0", line_task, 4),
}
"""Environment, task, and numbers in a frame with the target."""

every_game = pytest.mark.parametrize("game", GAMES)


def load(name: str, search: tuple[int, ...] = (8, 1, 0, 0, 1), **options: Any) -> Any:
    """An agent with a small search: candidates, refined, steps, finalists, perturbations."""
    candidates, refined, steps, finalists, perturbations = search
    rest = {"finalists": finalists, "perturbations": perturbations}
    config = PlannerConfig(candidates, refined, steps, **rest)  # type: ignore[arg-type]
    return load_agent(name, **{"device": "cpu", "config": config, **options})


def shown(env_id: str, count: int, **arguments: Any) -> Any:
    """What an environment of whole shots shows of its first tables, (B, D)."""
    return make_vec_env(env_id, count, seed=0, **arguments).reset()


def some_frames(count: int = 5) -> Any:
    return np.random.default_rng(0).uniform(0.1, 0.9, (count, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(RNNConfig(hidden_size=4, mlp_size=4), tmp_path_factory.mktemp("models") / "tiny")


def save(config: Any, folder: Path | str, **record: Any) -> Path:
    torch.manual_seed(0)
    return models.save_pretrained(models.make_model(config), folder, **record)


def test_table_of_agents() -> None:
    assert all(getattr(agents, name) is not None for name in agents.__all__)
    assert list(AGENTS) == ["none", "random", "ppo", "sac", *LEARNED, "simulator"]
    tiers = ["jumpy-flat", "jumpy-entities", "jumpy-space"]
    assert ["rnn", "ode-rnn", "jump-4", "jumpy-rnn", *tiers, "jumpy"] == LEARNED
    for name in LEARNED:
        own = name.removeprefix("jumpy-") if name in tiers else "fold" if name == "jumpy" else name
        assert AGENTS[name].checkpoint == f"{own}-billiards2d" in models.shipped_models()
    lines = {name: entry.line_checkpoint for name, entry in AGENTS.items()}
    assert lines["jumpy"] == "jumpy-billiards1d-task" and lines["rnn"] == "rnn-billiards1d"
    assert lines["jumpy-rnn"] == "jumpy-rnn-billiards1d"
    assert all(e.description and "\n" not in e.description for e in AGENTS.values())


# -- those without a model ---------------------------------------------------------------------


def test_no_shot_is_zero() -> None:
    actions, state = agents.NoShot().predict(some_frames(), state="kept")
    assert actions.shape == (5, 2) and actions.dtype == np.float32 and state == "kept"
    assert not actions.any()
    assert agents.NoShot().predict(some_frames()[0])[0].shape == (2,)


def test_random_shots_are_uniform_and_follow_the_seed_alone() -> None:
    def shots(seed: int, *parts: Any) -> Any:
        agent = agents.RandomShot(seed)
        return np.concatenate([agent.predict(part)[0] for part in parts])

    frames = np.repeat(some_frames(1), 4000, axis=0)
    actions = shots(1, frames)
    assert actions.shape == (4000, 2) and actions.dtype == np.float32
    assert -1.0 <= actions.min() < -0.99 and 0.99 < actions.max() <= 1.0
    counts = np.histogram2d(actions[:, 0], actions[:, 1], bins=4, range=[[-1, 1], [-1, 1]])[0]
    assert counts.min() > 180 and counts.max() < 320  # 250 each
    np.random.seed(0)  # noqa: NPY002
    np.testing.assert_array_equal(shots(1, frames[:1000], frames[1000:]), actions)
    assert not np.array_equal(shots(2, frames), actions)
    assert agents.RandomShot().predict(frames[0])[0].shape == (2,)


# -- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size", "likely", "batch"),
    [
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
    ],
)
def test_flattened_frames_are_told_by_their_numbers(
    shape: Any, size: Any, likely: Any, batch: Any
) -> None:
    given = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    frames, single = batch_of_frames(given, size, likely)
    assert single == (len(batch) == 2)
    np.testing.assert_array_equal(frames[0] if single else frames, given.reshape(batch))


@pytest.mark.parametrize("shape", [(5, 24), (24,), (4, 24), (5, 4), (4,), (0, 16), (5, 18)])
def test_flattened_frames_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    message = rf"flattened, \(B, 16\) or \(16,\); got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        batch_of_frames(np.zeros(shape), 4)


def test_frames_of_other_tables_and_other_observations_are_refused() -> None:
    three = models.make_model(EventJumpConfig(num_balls=3))
    planner = GradientPlanner(three, objective_of(plane_task()))
    with pytest.raises(ValueError, match=r"shape \(B, 4, 6\) or \(4, 6\).*got \(5, 4, 4\)"):
        planner.predict(some_frames())
    for obs_type in ("state", "pixels", "dict"):
        seen, _ = gym.make("Billiards2DShot-v0", obs_type=obs_type).reset(seed=0)
        for name in ("ppo", "simulator"):
            with pytest.raises(ValueError, match="obs_type='coords'"):
                load(name).predict(seen)


# -- who plays what ----------------------------------------------------------------------------


@pytest.mark.parametrize("balls", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_plays_with_any_number_of_balls_or_refuses_by_name(
    name: str, balls: int
) -> None:
    line = balls == 0
    task = line_task() if line else plane_task(num_balls=balls)
    if name not in (LINES if line else BALLS) and balls != 2:
        expected = r"\['rnn', 'jumpy-rnn', 'jumpy'\] have|take an agent .*'jumpy',? or 'simulator'"
        with pytest.raises(OtherGameError, match=expected) as refused:
            load(name, task=task)
        got = "line" if line else f"expected .*2 balls, .*got {balls}"
        assert re.search(got, str(refused.value))
        return
    agent = load(name, task=task, seed=1)
    arguments = {} if line else {"num_balls": balls}
    seen = shown(f"Billiards{1 if line else 2}DShot-v0", 2, **arguments)
    flat, _ = agent.predict(seen)
    assert flat.shape == (2, 2) and flat.dtype == np.float32 and np.abs(flat).max() <= 1.0
    if balls in (0, 2):
        assert isinstance(agent, agents.Agent) and agent.predict(seen[0])[0].shape == (2,)
        again = load(name, task=task, seed=1).predict(seen.reshape(2, 4, -1))[0]
        np.testing.assert_array_equal(flat, again)


def test_without_a_config_a_protocol_says_how_much(saved: Path) -> None:
    for name in LEARNED:
        agent = load(name, config=None, protocol="paper", seed=3, checkpoint=saved)
        assert isinstance(agent, GradientPlanner) and isinstance(agent.model, RNN)
        assert not agent.oracle and not agent.model.training and agent.checkpoint == str(saved)
        assert agent.config == replace(agents.PROTOCOLS["paper"], seed=3)
    config = PlannerConfig(candidates=5, refined=2)
    agent = load("rnn", config=config, checkpoint=saved, seed=7)
    assert agent.config == replace(config, seed=7)


def test_a_folder_called_as_a_shipped_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "fold-billiards2d"
    data = {"num_trajectories": 10, "table": {"num_frames": 45}}
    save(RNNConfig(hidden_size=4, mlp_size=4), name, data=data)
    for checkpoint, kind, record, frames in (
        (Path(name), RNN, f"./{name}", 450),
        (f"./{name}", RNN, f"./{name}", 450),
        (name, FoldJump, name, 4_500_000),
    ):
        agent = load("jumpy", checkpoint=checkpoint)
        assert isinstance(agent.model, kind)
        result = evaluate_agent(agent, make_tables(2))
        assert (result.checkpoint, result.training_frames) == (record, frames)


def test_further_models_join_the_robust_selection(saved: Path) -> None:
    agent = load("rnn", config=None, checkpoint=saved, ensemble=(saved, "rnn-billiards2d"))
    assert agent.checkpoint == str(saved)
    assert [model.record for model in agent.ensemble] == [
        {name: models.pretrained_info(source)[name] for name in ("data", "training", "metrics")}
        for source in (saved, "rnn-billiards2d")
    ]


def test_a_model_is_carried_over_to_other_numbers_of_balls(saved: Path, tmp_path: Path) -> None:
    folder, task = save(EventJumpConfig(hidden_size=4), tmp_path / "tiny"), plane_task(num_balls=4)
    jumpy, oracle = load("jumpy", task=task, checkpoint=folder), load("simulator", task=task)
    assert jumpy.model.obs_size == oracle.model.obs_size == 8
    assert jumpy.checkpoint == str(folder)
    assert isinstance(oracle.model, SimulatorModel)
    assert oracle.oracle and oracle.checkpoint is None
    with pytest.raises(ValueError, match=r"expected 2 balls, which the RNN.*got 3.*'jumpy'"):
        load("rnn", task=plane_task(num_balls=3), checkpoint=saved)


def test_a_model_that_has_only_watched_a_line_is_given_the_action() -> None:
    oracle, jumpy = (load(name, task=line_task()) for name in ("simulator", "jumpy"))
    assert isinstance(oracle.model, PlacementModel) and oracle.oracle
    assert isinstance(oracle.model.model, LineSimulator)
    assert isinstance(jumpy.model, PlacementModel) and not jumpy.oracle
    assert jumpy.checkpoint == "jumpy-billiards1d-task" and jumpy.model.obs_size == 2


@pytest.mark.parametrize("kind", [RNNConfig, JumpyRNNConfig])
def test_models_that_learned_the_shots_plan_on_a_line(kind: Any, tmp_path: Path) -> None:
    folder = save(kind(obs_size=2, hidden_size=8, mlp_size=8), tmp_path / "tiny")
    variant = find_variant(env_id="Billiards1D-v0")
    lines = make_tables(5, 901, variant)
    agent = load("rnn", (16, 4, 6, 2, 2), task=variant.task, checkpoint=folder)
    assert not isinstance(agent.model, PlacementModel)
    found = evaluate_agent(agent, lines)
    assert len(found.is_success) == 5 and found.ticks is not None and 1.0 <= found.ticks <= 17.0
    plan = agent.plan(lines.observations)
    assert plan.action.shape == (5, 2) and float(plan.action.abs().max()) <= 1.0


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
    config: Any, message: str, tmp_path: Path
) -> None:
    folder = save(config, tmp_path / "tiny")
    with pytest.raises(ValueError, match=rf"two balls on a line.*{message}.*preset 'line-rnn'"):
        load("rnn", task=line_task(), checkpoint=folder)


def test_models_of_the_other_game_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "rnn", AgentEntry("of tables alone", "rnn-billiards2d"))
    able = r"\['jumpy-rnn', 'jumpy'\]"
    with pytest.raises(OtherGameError, match=f"'rnn' has no model of balls on a line.*{able} have"):
        load("rnn", task=line_task())
    with pytest.raises(OtherGameError, match="balls on a table, got RNN, which learned balls on"):
        load("rnn", task=plane_task(num_balls=1), checkpoint="rnn-billiards1d")


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
        load(name, **options)


# -- how well they play ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "table", "count", "least"),
    [
        ("simulator", "default", 150, 0.98),
        ("jumpy", "default", 60, 0.9),
        ("jumpy", "three_balls", 12, 0.85),
    ],
)
def test_planners_win(name: str, table: str, count: int, least: float) -> None:
    variant = find_variant(table)
    agent = load_agent(name, task=variant.task, device="cpu")
    result = evaluate_agent(agent, make_tables(count, 901, variant))
    assert result.success >= least
    assert result.belief is not None and result.belief > 0.85
    if name == "jumpy":
        assert result.ticks is not None and result.ticks < 20.0
        assert result.training_frames is not None and result.training_frames > 0


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


@pytest.mark.parametrize("name", ["jumpy", "simulator"])
def test_a_single_ball_is_the_one_that_must_arrive(name: str) -> None:
    one = Variant("one ball", arguments={"num_balls": 1})
    tables = make_tables(20, variant=one)
    result = evaluate_agent(load(name, (32, 8, 2, 2, 4), task=one.task), tables)
    assert result.success >= 0.95 and result.belief is not None and result.belief >= 0.95
    assert evaluate_agent(agents.NoShot(), tables).success <= 0.5


@every_game
@pytest.mark.parametrize("random_target", [True, False])
@pytest.mark.parametrize("name", ["jumpy", "simulator"])
def test_planners_read_the_target_that_each_episode_shows(
    name: str, random_target: bool, game: str
) -> None:
    env_id, make, size = GAMES[game]
    # One that was not told of random targets reads those that it is shown as well.
    task = make(random_target=random_target)
    agent = load(name, (16, 8, 2, 2, 2), task=task)
    seen = shown(env_id, 5, random_target=True)
    frames = seen.reshape(5, 4, size)
    balls, targets = frames[..., : size // 2], frames[:, -1, size // 2 :]
    expected = agent.plan(balls, objective=objective_of(task, targets)).action.numpy()
    for given in (seen, frames):
        np.testing.assert_array_equal(agent.predict(given)[0], expected)
        np.testing.assert_array_equal(agent.plan(frames).action.numpy(), expected)
        assert agent.predict(given[0])[0].shape == (2,)
    others, moving = frames.copy(), frames.copy()
    others[..., size // 2 :] = frames[::-1, :, size // 2 :]
    assert np.abs(agent.predict(others)[0] - expected).max() > 0.01
    moving[2, 0, -1] += 0.01
    with pytest.raises(ValueError, match="a target that stays where it is, got one that changes"):
        agent.predict(moving)
    objective = objective_of(make())
    plans = [agent.plan(given, objective=objective) for given in (frames, balls)]
    np.testing.assert_array_equal(plans[0].action, plans[1].action)
    if random_target:
        message = rf"none was shown: .* {size // 2} \+ {size // 2} numbers.*plan\(frames, objectiv"
        with pytest.raises(ValueError, match=message):
            agent.predict(balls)


@every_game
def test_stable_baselines_evaluates_planners_on_random_targets(game: str) -> None:
    env_id, make, _ = GAMES[game]
    agent = load("jumpy", (32, 8, 2, 2, 4), task=make(random_target=True))
    least = 0.8 if game == "table" else 0.5  # The oracle reaches two in three targets of lines.
    won, _ = evaluate_policy(agent, make_vec_env(env_id, 20, seed=3, random_target=True), 20)
    assert won >= least  # type: ignore[operator]
    variant = Variant("random", env_id.replace("Shot", ""), {"random_target": True})
    tables = make_tables(10, variant=variant)
    result = evaluate_agent(agent, tables)
    assert result.success >= least and result.belief is not None
    assert abs(result.success - result.belief) <= 0.2
    np.testing.assert_array_equal(agent.predict(tables.observations)[0], result.actions)
