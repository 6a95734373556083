"""The shot protocol: games, tables, play, figures; against the physics and worked-out values."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jumpy_mbrl import evaluation
from jumpy_mbrl.agents import GradientPlanner, NoShot, Plan, PlannerConfig, RandomShot, ReachRegion
from jumpy_mbrl.data.seeds import evaluation_table_seeds
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance, shoot, simulate
from jumpy_mbrl.envs.rules import plane_task
from jumpy_mbrl.evaluation import HeldOut, evaluate_agent, find_variant, make_tables, play, scoring
from jumpy_mbrl.models import RNN, RNNConfig, save_pretrained
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.objectives import objective_of

QUICK = PlannerConfig(candidates=16, refined=2, gradient_steps=1, finalists=2, perturbations=4)
TINY = RNNConfig(hidden_size=4, mlp_size=4)


@pytest.fixture(scope="module")
def tables() -> HeldOut:
    return make_tables(40, seed=902)


def random_shots(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32)


def planner(checkpoint: Path | None = None, oracle: bool = False) -> GradientPlanner:
    model = SimulatorModel() if oracle else RNN(TINY)
    source, config = (None if checkpoint is None else str(checkpoint)), None if oracle else QUICK
    objective = objective_of(plane_task())
    return GradientPlanner(model, objective, config, checkpoint=source, oracle=oracle)


# -- the games by name ---------------------------------------------------------------------------


GAMES = [(env_id, table) for env_id, tables in evaluation.VARIANTS.items() for table in tables]


@pytest.mark.parametrize(("env_id", "table"), GAMES)
def test_a_variant_plays_what_its_environment_plays(env_id: str, table: str) -> None:
    variant = find_variant(table, env_id)
    assert variant.env_id == env_id
    assert variant.description and "\n" not in variant.description
    env = gym.make(env_id, **variant.arguments)
    assert env.get_wrapper_attr("task") == variant.task


def test_the_small_target_has_half_the_side_also_where_a_ball_can_be() -> None:
    radius = TableConfig().radius

    def sides(variant: evaluation.Variant) -> list[float]:
        target = variant.task.config.target
        whole = [target[1] - target[0], target[3] - target[2]]
        x_low, x_high, y_low, y_high = (min(max(t, radius), 1.0 - radius) for t in target)
        return [*whole, x_high - x_low, y_high - y_low]

    usual, small = sides(find_variant()), sides(find_variant("small_target"))
    assert small == pytest.approx([0.5 * side for side in usual])


@pytest.mark.parametrize(
    ("table", "env_id", "message"),
    [
        ("rests", "Billiards2D-v0", r"unknown table of Billiards2D-v0 'rests'.*mean 'rest'\?"),
        ("rest", "Billiards1D-v0", r"unknown table of Billiards1D-v0 'rest'.*\['default'\]"),
        ("rest", "Billiards3D-v0", r"unknown environment 'Billiards3D-v0'.*mean 'Billiards"),
    ],
)
def test_unknown_names_are_refused(table: str, env_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_variant(table, env_id)


# -- tables and play -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "size", "frames"),
    [
        *(("default", 4, 45), ("random_target", 4, 45), ("rest", 4, 45), ("long", 4, 90)),
        ("five_balls", 10, 45),
    ],
)
def test_tables_are_what_the_environment_shows(table: str, size: int, frames: int) -> None:
    variant = find_variant(table)
    tables = make_tables(3, 902, variant)
    assert tables.observations.dtype == np.float32 and tables.observations.shape[:2] == (3, 4)
    assert list(tables.reset_seeds) == list(evaluation_table_seeds(902, 3))
    env = gym.make(variant.env_id, disable_env_checker=True, **variant.arguments)
    for row in range(3):
        obs, info = env.reset(seed=tables.reset_seeds[row])
        for frame in range(4):
            np.testing.assert_array_equal(tables.observations[row, frame], obs)
            np.testing.assert_array_equal(tables.frames[row, frame], obs[:size])
            if frame < 3:
                obs, _, _, _, info = env.step(env.action_space.sample())  # ignored
        np.testing.assert_array_equal(tables.positions[row], info["positions"].ravel())
        np.testing.assert_array_equal(tables.velocities[row], info["velocities"].ravel())
        assert tuple(tables.targets[row]) == env.get_wrapper_attr("target")
    paths = play(tables, np.zeros((3, 2))).paths
    assert paths.shape == (3, frames - 3, size)
    np.testing.assert_array_equal(paths[:, 0], tables.frames[:, -1])


def test_fewer_tables_are_the_first_and_other_seeds_are_others(tables: HeldOut) -> None:
    np.testing.assert_array_equal(make_tables(5, 902).observations, tables.observations[:5])
    assert not set(make_tables(5, 903).reset_seeds) & set(tables.reset_seeds)
    part = tables[10:12]
    assert len(part) == 2 and list(part.reset_seeds) == list(tables.reset_seeds)[10:12]
    np.testing.assert_array_equal(part.velocities, tables.velocities[10:12])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "expected a number of evaluation tables in .* got 0"),
        ((-3, 0), "expected a number of evaluation tables in .* got -3"),
        ((5, -1), "expected the evaluation seed in .* got -1"),
        ((5, 0, find_variant(), "train"), "unknown split of tables 'train'"),
    ],
)
def test_impossible_tables_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tables(*arguments)


def test_play_agrees_with_the_physics(tables: HeldOut) -> None:
    actions = random_shots(40)
    outcomes = play(tables, actions)
    env = gym.make("Billiards2D-v0")
    starts = [env.reset(seed=seed)[1] for seed in tables.reset_seeds]
    frames = simulate(
        np.stack([info["positions"] for info in starts]),
        np.stack([info["velocities"] for info in starts]),
        actions.astype(np.float64),
        TableConfig(),
        backend="python",
    )
    inside = (frames[:, 4:, 2] >= 0.8) & (frames[:, 4:, 3] <= 0.2)
    np.testing.assert_array_equal(outcomes.is_success, inside.any(axis=1))
    assert 0 < outcomes.is_success.sum() < 40
    assert outcomes.paths.shape == (40, 42, 4)
    for row in range(40):
        length = 2 + int(inside[row].argmax()) if inside[row].any() else 42
        np.testing.assert_array_equal(outcomes.paths[row, :length], frames[row, 3 : 3 + length])
        assert np.isnan(outcomes.paths[row, length:]).all()
        # Contacts after the shot alone are counted.
        x, v = tables.positions[row].tolist(), tables.velocities[row].tolist()
        shoot(v, float(actions[row, 0]), float(actions[row, 1]), 1.2, 1.8)
        counts = np.sum([advance(x, v, 0.05, 0.1) for _ in range(length - 1)], axis=0)
        assert (outcomes.wall_hits[row], outcomes.ball_hits[row]) == tuple(counts)
    assert outcomes.ball_hits.any()


@pytest.mark.parametrize("shape", [(39, 2), (40, 3), (40,)])
def test_play_refuses_other_shapes(tables: HeldOut, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"actions of shape \(40, 2\), got"):
        play(tables, np.zeros(shape))


# -- evaluation ----------------------------------------------------------------------------------


class Watched:
    """Plays given shots, and keeps what it was asked."""

    def __init__(self, actions: NDArray[np.float32], seconds: float = 0.0) -> None:
        self.actions, self.seconds = actions, seconds
        self.asked: list[NDArray[np.float32]] = []

    def predict(
        self, observation: NDArray[np.float32], state: Any = None, *args: Any, **options: Any
    ) -> tuple[NDArray[np.float32], Any]:
        assert state is None
        first = sum(map(len, self.asked))
        self.asked.append(observation.copy())
        time.sleep(self.seconds * len(observation))
        observation[:] = np.nan  # what an agent does to its input is its own affair
        return self.actions[first : first + len(observation)], state


class Believer:
    """A planner that shoots nowhere and believes what it is told; its plans have a graph."""

    def __init__(self, oracle: bool = False) -> None:
        self.oracle, self.device = oracle, torch.device("cpu")
        self.model = SimulatorModel()
        self.asked: list[tuple[Any, Any, Any]] = []

    def plan(self, frames: Any, state: Any = None, objective: Any = None) -> Plan:
        self.asked.append((frames, state, objective))
        size = len(frames)
        belief = torch.linspace(0.0, 1.0, size).requires_grad_()
        shots = torch.zeros(size, 2, requires_grad=True)
        return Plan(shots, belief, belief, torch.full((size,), 3))

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        raise AssertionError("plan tells more")


def test_an_agent_sees_four_frames_and_nothing_else(tables: HeldOut) -> None:
    actions, before = random_shots(40), tables.observations.copy()
    agent, done = Watched(actions), list[int]()
    result = evaluate_agent(agent, tables, batch_size=15, progress=done.append)
    assert [frames.shape for frames in agent.asked] == [(15, 4, 4), (15, 4, 4), (10, 4, 4)]
    np.testing.assert_array_equal(np.concatenate(agent.asked), before)
    np.testing.assert_array_equal(tables.observations, before)
    assert done == [15, 15, 10]
    outcomes = play(tables, actions)
    np.testing.assert_array_equal(result.is_success, outcomes.is_success)
    np.testing.assert_array_equal(result.actions, actions)
    assert (result.n, result.successes) == (40, int(outcomes.is_success.sum()))
    assert result.success == result.successes / 40
    assert result.ci95 == evaluation.wilson_interval(result.successes, 40)
    assert result.wall_hits == outcomes.wall_hits.mean()
    assert result.ball_hits == outcomes.ball_hits.mean()
    assert result.by_ball_hits == evaluation.by_count(outcomes.ball_hits, outcomes.is_success)
    contacts = outcomes.wall_hits + outcomes.ball_hits
    assert result.by_contacts == evaluation.by_count(contacts, outcomes.is_success)
    assert result.ticks is None and result.belief is None
    assert result.calibration is None and result.training_frames is None


def test_time_is_that_of_the_choice_alone(tables: HeldOut, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_play(*args: Any) -> evaluation.Outcomes:
        time.sleep(0.2)
        return play(*args)

    monkeypatch.setattr(scoring, "play", slow_play)
    assert evaluate_agent(NoShot(), tables).ms_per_shot < 2.0  # the play took 5 ms a table
    slow = Watched(random_shots(40), seconds=0.004)
    assert evaluate_agent(slow, tables, batch_size=20).ms_per_shot >= 4.0


def test_planners_are_warmed_up_and_report_beliefs_and_ticks(tables: HeldOut) -> None:
    agent = Believer()
    result = evaluate_agent(agent, tables, batch_size=20)
    assert [asked[1:] for asked in agent.asked] == [(None, None)] * 3
    assert result.ticks == 3.0 and result.belief == pytest.approx(0.5)
    assert result.beliefs is not None and result.beliefs.shape == (40,)
    assert result.calibration is not None and sum(entry.n for entry in result.calibration) == 40
    assert np.isfinite(result.actions).all()


def test_the_oracle_alone_is_told_the_true_state(tables: HeldOut) -> None:
    agent = Believer(oracle=True)
    evaluate_agent(agent, tables, batch_size=40)
    expected = np.concatenate([tables.positions, tables.velocities * 0.05], axis=1)
    np.testing.assert_allclose(agent.asked[-1][1].hidden.numpy(), expected, atol=1e-6)


class Answering(NoShot):
    """Answers what it was made with, or what that makes of a number of tables."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, observation: Any, *args: Any, **options: Any) -> Any:
        return self.answer(len(observation)) if callable(self.answer) else self.answer


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_actions_may_be_tensors_with_a_graph(tables: HeldOut, kind: torch.dtype) -> None:
    weight = torch.full((2,), 0.25, dtype=kind, requires_grad=True)
    result = evaluate_agent(Answering(lambda n: (weight.expand(n, 2) * 2.0, None)), tables)
    assert result.actions.dtype == np.float32 and bool((result.actions == 0.5).all())


STATELESS = r"to return \(actions, state\) as that of Stable-Baselines3 does, got"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((40, 2)), rf"{STATELESS} ndarray of shape \(40, 2\) from Answering"),
        ([np.zeros((40, 2)), None], f"{STATELESS} list"),
        ((np.zeros((40, 2)),), f"{STATELESS} a tuple of 1"),
        (None, f"{STATELESS} NoneType"),
        *(
            ((np.zeros(shape), None), r"actions of shape \(40, 2\), got .* from Answering")
            for shape in ((40, 3), (39, 2), (2,))
        ),
        ((np.full((40, 2), np.nan), None), "two finite numbers"),
    ],
)
def test_agents_that_answer_otherwise_are_told_so(
    tables: HeldOut, answer: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_agent(Answering(answer), tables)


def test_batches_of_nothing_are_refused(tables: HeldOut) -> None:
    with pytest.raises(ValueError, match="batch_size to be an integer of at least 1, got 0"):
        evaluate_agent(NoShot(), tables, batch_size=0)


def test_a_planner_is_given_the_target_where_every_table_has_its_own() -> None:
    tables = make_tables(20, 902, find_variant("random_target"))
    agent = Believer(oracle=True)
    evaluate_agent(agent, tables, batch_size=8)
    shapes = [asked[0].shape for asked in agent.asked]
    assert shapes == [(8, 4, 4), (8, 4, 4), (8, 4, 4), (4, 4, 4)]
    objective = agent.asked[-1][2]
    assert isinstance(objective, ReachRegion) and objective.region is not None
    np.testing.assert_allclose(objective.region.numpy(), tables.targets[16:], atol=1e-7)
    assert objective.times.tolist() == list(range(1, 42))
    assert len(np.unique(tables.targets, axis=0)) == 20
    watched = Watched(random_shots(20))
    evaluate_agent(watched, tables)
    shown = watched.asked[0][..., 4:]  # by the environment, to agents without an objective
    np.testing.assert_allclose(shown, tables.targets[:, None].repeat(4, axis=1), atol=1e-7)
    # The truth reaches these targets and no others.
    true = planner(oracle=True)
    result = evaluate_agent(true, tables)
    assert result.success >= 0.9
    x, y = play(tables, result.actions).paths[:, :, 2:].transpose(2, 0, 1)
    low_x, high_x, low_y, high_y = tables.targets[:, :, None].transpose(1, 0, 2)
    inside = (low_x <= x) & (x <= high_x) & (low_y <= y) & (y <= high_y)
    np.testing.assert_array_equal(inside.any(axis=1), result.is_success)
    shot = evaluation.record_shot(true, tables[3:4], result.actions[3])
    assert shot.config.target == tuple(tables.targets[3]) and shot.is_success
    np.testing.assert_allclose(shot.imagined, shot.real, atol=2e-3)


def test_a_line_is_played_like_a_table() -> None:
    tables = make_tables(30, 902, find_variant(env_id="Billiards1D-v0"))
    assert tables.frames.shape == (30, 4, 2) and tables.positions.shape == (30, 2)
    result = evaluate_agent(RandomShot(0), tables)
    outcomes = play(tables, result.actions)
    assert outcomes.paths.shape == (30, 18, 2)
    end = outcomes.paths[:, -1, 1]
    np.testing.assert_array_equal(result.is_success, np.abs(end - 0.33) <= 0.1)
    assert 0 < result.successes < 30
    with pytest.raises(ValueError, match="expected a table, got a line"):
        evaluation.record_shot(Believer(), tables[:1], result.actions[0])  # type: ignore[arg-type]


# -- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(
    successes: int, n: int, low: float, high: float
) -> None:
    assert evaluation.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    opposite = evaluation.wilson_interval(n - successes, n)
    assert opposite == pytest.approx((1 - high, 1 - low), abs=5e-5)
    assert successes or (evaluation.wilson_interval(0, n)[0] == 0.0 and opposite[1] == 1.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        evaluation.wilson_interval(successes, n)


def test_calibration_bins() -> None:
    beliefs = np.array([0.0, 0.2, 0.25, 0.75, 0.9, 1.0, 1.0, 1.0])
    success = np.array([0, 1, 1, 0, 0, 1, 1, 1], dtype=np.bool_)
    bins = [tuple(vars(entry).values()) for entry in evaluation.calibration(beliefs, success)]
    expected = [(0.0, 0.25, 2, 0.1, 0.5), (0.25, 0.5, 1, 0.25, 1.0), (0.75, 1.0, 5, 0.93, 0.6)]
    assert bins == [pytest.approx(entry) for entry in expected]


def test_success_by_the_number_of_contacts() -> None:
    contacts = np.array([3, 0, 3, 1, 3, 0])
    success = np.array([1, 0, 0, 1, 1, 0], dtype=np.bool_)
    counts = [tuple(vars(entry).values()) for entry in evaluation.by_count(contacts, success)]
    assert counts == [(0, 2, 0, 0.0), (1, 1, 1, 1.0), (3, 3, 2, 2 / 3)]


def test_tables_that_doing_nothing_wins_are_told_apart(tables: HeldOut) -> None:
    idle = play(tables, np.zeros((40, 2), np.float32)).is_success
    assert 3 < idle.sum() < 20
    np.testing.assert_array_equal(tables.idle_wins, idle)
    np.testing.assert_array_equal(tables[5:9].idle_wins, idle[5:9])
    result = evaluate_agent(RandomShot(0), tables)
    assert result.contested is not None
    assert result.contested.n == 40 - idle.sum()
    assert result.contested.successes == (result.is_success & ~idle).sum()
    assert result.contested.ci95 == evaluation.wilson_interval(
        result.contested.successes, result.contested.n
    )
    won = np.array([True, False, True])
    assert evaluation.Contested.of(won, ~won) == evaluation.Contested(
        2, 2, 1.0, evaluation.wilson_interval(2, 2)
    )
    assert evaluation.Contested.of(won, np.ones(3, np.bool_)) is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"seconds": -1.0}, "its seconds are -1.0; save the model again"),
        ({"seconds": "long"}, "must be real number, not str"),
        ({"config": {"batch_size": 2.5, "steps": 3}}, "'float' object cannot be interpreted as an"),
    ],
)
def test_trainings_that_cannot_be_are_named(
    record: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_pretrained(RNN(TINY), tmp_path, training=record)
    with pytest.raises(ValueError, match=f"expected the training in config.json of .*{message}"):
        evaluation.given_to(planner(tmp_path))


# -- one shot, for the picture -------------------------------------------------------------------


def test_the_truth_imagines_what_happens(tables: HeldOut) -> None:
    agent = planner(oracle=True)
    result = evaluate_agent(agent, tables[:10])
    for row in range(10):
        shot = evaluation.record_shot(agent, tables[row : row + 1], result.actions[row], 0.5)
        np.testing.assert_allclose(shot.start, tables.positions[row].reshape(2, 2))
        assert shot.real.shape == shot.imagined.shape and shot.real.shape[1:] == (2, 2)
        np.testing.assert_allclose(shot.imagined, shot.real, atol=2e-3)
        np.testing.assert_allclose(shot.real[0], shot.start)
        assert shot.is_success == result.is_success[row] and shot.belief == 0.5
        assert shot.config == TableConfig()
        if shot.is_success:
            x, y = shot.real[-1, 1]
            assert x >= 0.8 - 2e-3 and y <= 0.2 + 2e-3
        np.testing.assert_allclose(shot.ticks[0], shot.start, atol=1e-6)  # the shot itself
    with pytest.raises(ValueError, match="expected a single table, got 2"):
        evaluation.record_shot(agent, tables[:2], np.zeros(2, dtype=np.float32))


def test_a_shot_without_hope_is_shown_to_the_end(tables: HeldOut) -> None:
    nowhere = ReachRegion((2e6, 3e6, 2e6, 3e6), range(1, 42))  # no untrained model drifts there
    agent = GradientPlanner(RNN(TINY), nowhere, QUICK)
    row = int(np.argmin(tables.idle_wins))
    shot = evaluation.record_shot(agent, tables[row : row + 1], np.zeros(2, dtype=np.float32))
    assert shot.real.shape == shot.imagined.shape == (41 * 8 + 1, 2, 2)
    assert shot.ticks.shape == (41, 2, 2) and shot.belief is None and not shot.is_success
