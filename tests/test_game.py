"""The game without a window: pulling and letting go, targets, the agent, time, scores."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.agents import NoShot, PlannerConfig, load_agent
from jumpy_mbrl.envs.rendering import draw_view
from jumpy_mbrl.play.game import FULL_PULL, TARGETS, Game, Phase, Score

TICK = 1 / 60


class Shooter:
    """An agent that always plays the same shot."""

    def __init__(self, action: tuple[float, float]) -> None:
        self.action = np.array(action, dtype=np.float32)
        self.seen: list[Any] = []

    def predict(self, observation: Any, *rest: Any, **options: Any) -> tuple[Any, None]:
        self.seen.append(observation)
        return self.action, None


def until(game: Game, *phases: Phase, limit: float = 60.0) -> None:
    """Lets time pass until the game is in one of the phases."""
    end = time.monotonic() + limit
    while game.phase not in phases:
        assert time.monotonic() < end, f"still {game.phase}"
        game.pass_time(TICK)
        if game.phase is Phase.THINK:
            time.sleep(0.001)


def shoot(game: Game, action: tuple[float, float]) -> None:
    """Pulls and lets go such that the action comes out."""
    until(game, Phase.AIM)
    game.press(0.5, 0.5)
    game.release(0.5 - FULL_PULL * action[0], 0.5 - FULL_PULL * action[1])


def positions(game: Game) -> Any:
    return game.view().positions


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_environment_that_is_played(seed: int) -> None:
    game = Game(seed=seed, num_balls=3)
    start = positions(game)
    until(game, Phase.AIM)
    velocities = game._first[1]
    shoot(game, (0.6, -0.8))
    until(game, Phase.OVER)

    env = gym.make("Billiards2D-v0", num_balls=3)
    env.reset(options={"positions": start, "velocities": velocities})
    ended = False
    frames = 0
    while not ended:
        action = np.array([0.6, -0.8], dtype=np.float32)
        _, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        frames += 1
    assert game.frame == frames
    np.testing.assert_allclose(positions(game), info["positions"], atol=1e-6)
    assert game.success is bool(info["is_success"])
    assert game.scores["you"] == Score(int(game.success), 1)
    game.close()


def test_time_stands_still_for_the_shot_and_moves_smoothly_before_and_after() -> None:
    game = Game(seed=0)
    assert game.phase is Phase.WATCH
    places = [positions(game)]
    for _ in range(6):
        game.pass_time(TICK)
        places.append(positions(game))
    steps = np.abs(np.diff(places, axis=0)).max(axis=(1, 2))
    assert (steps > 0).all()  # three pictures for each frame, and each is another
    until(game, Phase.AIM)
    assert game.frame == 3
    still = positions(game)
    game.pass_time(10.0)
    np.testing.assert_array_equal(positions(game), still)
    shoot(game, (1.0, 0.0))
    game.pass_time(0.0)
    np.testing.assert_array_equal(positions(game), still)
    game.pass_time(TICK)
    assert 0 < np.abs(positions(game) - still).max() < 0.05
    game.close()


def test_the_same_seed_gives_the_same_tables() -> None:
    tables = []
    for _ in range(2):
        game = Game(seed=5)
        first = positions(game)
        game.new_table()
        tables.append((first, positions(game)))
        game.close()
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0][0], tables[0][1])


@pytest.mark.parametrize(
    ("pull", "action"),
    [
        ((-0.2, 0.0), (0.5, 0.0)),
        ((0.1, 0.3), (-0.25, -0.75)),
        ((0.0, -0.4), (0.0, 1.0)),
        ((0.0, -4.0), (0.0, 1.0)),
        ((-0.8, 0.4), (1.0, -0.5)),  # too strong: the direction stays
    ],
)
def test_a_pull_is_a_shot_in_the_other_direction(
    pull: tuple[float, float], action: tuple[float, float]
) -> None:
    game = Game(seed=0)
    until(game, Phase.AIM)
    game.press(0.3, 0.7)
    assert game.aim is None
    game.drag(0.3 + pull[0] / 2, 0.7 + pull[1] / 2)
    game.drag(0.3 + pull[0], 0.7 + pull[1])
    assert game.aim == pytest.approx(action)
    arrow = game.view().arrow
    assert arrow is not None
    assert arrow.impulse == pytest.approx(action)
    assert arrow.centre == pytest.approx(positions(game)[0])
    game.release(0.3 + pull[0], 0.7 + pull[1])
    assert game.phase is Phase.ROLL
    np.testing.assert_allclose(game._action, action, atol=1e-6)
    game.close()


def test_a_slip_or_second_thoughts_are_no_shot() -> None:
    game = Game(seed=0)
    game.press(0.5, 0.5)  # too early: the balls still roll
    game.release(0.1, 0.5)
    until(game, Phase.AIM)
    game.release(0.1, 0.5)
    game.press(0.5, 0.5)
    game.release(0.51, 0.5)
    assert game.phase is Phase.AIM
    game.press(0.5, 0.5)
    game.drag(0.1, 0.5)
    game.cancel()
    assert game.aim is None
    game.release(0.1, 0.5)
    assert game.phase is Phase.AIM
    assert game.scores["you"] == Score()
    game.close()


def test_the_guide_shows_the_way_to_the_first_contact() -> None:
    game = Game(seed=0, start="rest")
    until(game, Phase.AIM)
    game.press(0.5, 0.5)
    game.drag(0.9, 0.5)  # the shot goes left
    guide = np.array(game.view().paths[0].points)
    np.testing.assert_allclose(guide[0], positions(game)[0])
    np.testing.assert_allclose(guide[:, 1], guide[0, 1])
    shown = []
    game.release(0.9, 0.5)
    for _ in range(60):
        game.pass_time(TICK / 4)
        shown.append(positions(game)[0])
    on_the_line = [x for x, y in shown if abs(y - guide[0, 1]) < 1e-9]
    assert min(on_the_line) == pytest.approx(guide[-1, 0], abs=0.02)
    game.close()


def test_after_a_shot_a_press_goes_on_to_the_next_table() -> None:
    game = Game(seed=0)
    start = positions(game)
    shoot(game, (0.5, 0.5))
    until(game, Phase.OVER)
    end = positions(game)
    game.pass_time(1.0)
    np.testing.assert_array_equal(positions(game), end)
    game.press(0.5, 0.5)
    assert game.phase is Phase.WATCH
    assert not np.array_equal(positions(game), start)
    assert game.scores["you"].played == 1
    game.release(0.1, 0.1)
    assert game.phase is Phase.WATCH
    game.close()


def test_again_is_the_same_table_from_its_start() -> None:
    game = Game(seed=0)
    start = positions(game)
    shoot(game, (0.5, 0.5))
    until(game, Phase.OVER)
    first_end = positions(game)
    game.again()
    np.testing.assert_array_equal(positions(game), start)
    shoot(game, (0.5, 0.5))
    until(game, Phase.OVER)
    np.testing.assert_allclose(positions(game), first_end, atol=1e-9)
    assert game.scores["you"].played == 2
    game.close()


def test_the_target_goes_round_and_can_be_drawn() -> None:
    game = Game(seed=0)
    start = positions(game)
    for target in [*TARGETS[1:], TARGETS[0]]:
        game.next_target()
        assert game.target == target
        assert game.view().target == target
        np.testing.assert_array_equal(positions(game), start)
    until(game, Phase.AIM)
    game.press_target(0.9, 0.7)
    game.drag(0.5, 0.74)
    assert game.view().target == TARGETS[0]  # too flat
    game.drag(0.5, 1.3)
    assert game.view().target == pytest.approx((0.5, 0.9, 0.7, 1.0))  # shown while it is drawn
    assert game.target == TARGETS[0]
    game.release_target(0.5, 1.3)
    assert game.target == pytest.approx((0.5, 0.9, 0.7, 1.0))
    assert game.phase is Phase.WATCH
    game.next_target()
    assert game.target == TARGETS[0]
    game.press_target(0.2, 0.2)
    game.release_target(0.21, 0.6)
    assert game.target == TARGETS[0]
    with pytest.raises(ValueError, match="expected target"):
        game.set_target((0.5, 0.4, 0.0, 1.0))
    game.close()


def test_the_environment_plays_for_the_new_target() -> None:
    game = Game(seed=0, start="rest")
    x, y = positions(game)[1]
    game.set_target((max(x - 0.1, 0.0), min(x + 0.1, 1.0), max(y - 0.1, 0.0), min(y + 0.1, 1.0)))
    until(game, Phase.AIM)
    game.shoot(np.zeros(2, dtype=np.float32))
    until(game, Phase.OVER)
    assert game.success
    assert game.frame == 4
    assert game.message == "in!"
    assert game.view().is_success
    game.close()


def test_the_agent_shoots_and_has_its_own_score() -> None:
    agent = Shooter((0.25, -0.5))
    loads = []

    def load() -> Any:
        loads.append(1)
        return agent

    game = Game(load, seed=0)
    game.ask_agent()  # too early: it waits until the shot is due
    assert game.phase is Phase.WATCH
    until(game, Phase.THINK)
    assert game.view().middle == "the agent thinks"
    game.press(0.5, 0.5)  # not the player's turn
    assert game.aim is None
    until(game, Phase.ROLL)
    np.testing.assert_allclose(game._action, agent.action)
    until(game, Phase.OVER)
    assert game.scores["agent"].played == 1
    assert game.scores["you"] == Score()
    (seen,) = agent.seen
    assert seen.shape == (4, 4)
    np.testing.assert_allclose(seen[0], game._first[0].ravel(), atol=1e-6)

    game.ask_agent()  # after a shot: the same table again
    until(game, Phase.OVER)
    assert game.scores["agent"].played == 2
    np.testing.assert_array_equal(agent.seen[1], seen)
    assert len(loads) == 1
    view = game.view()
    assert (view.left, view.right) == ("you 0 of 0", f"agent {game.scores['agent']}")
    game.close()
    game.close()


def test_a_new_table_makes_the_agent_forget_the_old_one() -> None:
    release: list[bool] = []

    def load() -> Any:
        while not release:
            time.sleep(0.001)
        return Shooter((0.5, 0.5))

    game = Game(load, seed=0)
    game.ask_agent()
    until(game, Phase.THINK)
    game.new_table()
    release.append(True)
    until(game, Phase.AIM)
    time.sleep(0.05)
    game.pass_time(TICK)
    assert game.phase is Phase.AIM
    game.ask_agent()
    until(game, Phase.OVER)
    assert game.scores["agent"].played == 1
    game.close()


def test_an_agent_that_cannot_play_says_why() -> None:
    def load() -> Any:
        raise ValueError("no such weights\nand more")

    game = Game(load, seed=0)
    game.ask_agent()
    until(game, Phase.THINK)
    end = time.monotonic() + 10
    while not game.problem:
        assert time.monotonic() < end
        game.pass_time(TICK)
    assert game.phase is Phase.AIM
    assert game.view("help").hint == "no such weights"
    shoot(game, (0.5, 0.5))  # the player still can
    until(game, Phase.OVER)
    game.again()
    assert game.view("help").hint == "help"
    game.close()
    alone = Game(seed=0)
    alone.ask_agent()
    assert alone.view().hint == "no agent plays here"
    assert alone.view().right == ""
    alone.close()


def test_what_the_jumpy_agent_imagines_is_shown_beside_what_happens() -> None:
    quick = PlannerConfig(candidates=64, refined=4, gradient_steps=4, finalists=4, perturbations=4)
    game = Game(lambda: load_agent("jumpy", config=quick, device="cpu"), seed=3)
    game.ask_agent()
    until(game, Phase.THINK)
    start = positions(game)
    until(game, Phase.ROLL)
    assert "% sure" in game.message
    dashed = [path for path in game.view().paths if path.dash > 0]
    dots = [path for path in game.view().paths if path.dots]
    assert len(dashed) == len(dots) == 2
    for ball in range(2):
        np.testing.assert_allclose(np.array(dashed[ball].points)[0], start[ball], atol=1e-5)
    until(game, Phase.OVER)
    real = [path for path in game.view().paths if path.dash == 0 and not path.dots]
    assert len(real) == 2
    for ball in range(2):
        way = np.array(real[ball].points)
        np.testing.assert_allclose(way[0], start[ball], atol=1e-6)
        np.testing.assert_allclose(way[-1], positions(game)[ball])
        imagined = np.array(dashed[ball].points)
        for point in imagined[::8]:
            assert np.hypot(*(way - point).T).min() < 0.05
    assert game.success
    assert draw_view(game.view("help")).shape == (632, 560, 3)
    game.close()


def test_the_players_own_way_is_shown_at_the_end_only() -> None:
    game = Game(seed=0)
    shoot(game, (0.5, 0.5))
    game.pass_time(TICK)
    assert game.view().paths == []
    until(game, Phase.OVER)
    assert len(game.view().paths) == 2
    assert game.view().arrow is None
    game.close()


def test_a_stall_does_not_make_the_balls_leap() -> None:
    game = Game(seed=0)
    shoot(game, (1.0, 1.0))
    before = game.frame
    game.pass_time(1000.0)
    assert game.frame - before <= 5
    game.close()


@pytest.mark.parametrize("speed", [5.0, 20.0, 1000.0])
def test_speed_changes_how_long_it_takes_and_nothing_else(speed: float) -> None:
    game = Game(seed=0, frames_per_second=speed)
    shoot(game, (0.5, 0.5))
    seconds = 0.0
    while game.phase is not Phase.OVER:
        game.pass_time(TICK)
        seconds += TICK
    assert seconds == pytest.approx((game.frame - 3) / speed, abs=2 * TICK)
    reference = Game(seed=0)
    shoot(reference, (0.5, 0.5))
    until(reference, Phase.OVER)
    np.testing.assert_allclose(positions(game), positions(reference), atol=1e-9)
    game.close()
    reference.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_balls": 1}, "num_balls to be at least 2 for a game, got 1"),
        ({"frames_per_second": 0.0}, "frames_per_second above 0, got 0"),
        ({"frames_per_second": float("nan")}, "frames_per_second above 0"),
        ({"start": "there"}, "unknown start 'there'"),
        ({"target": (0, 0, 0, 0)}, "expected target"),
    ],
)
def test_nonsense_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Game(lambda: NoShot(), **settings)
