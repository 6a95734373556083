"""The game, with and without its window: pulling, targets, the agent, time, scores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pygame
import pytest

from jumpy_mbrl.agents import AGENTS, PIXEL_AGENTS, NoShot, PlannerConfig, load_agent
from jumpy_mbrl.commands import main
from jumpy_mbrl.envs.rendering import Window, draw_view
from jumpy_mbrl.play import app
from jumpy_mbrl.play.game import FULL_PULL, TARGETS, Game, Phase, Score

TICK = 1 / 60
SHOT = (0.5, 0.5)


class Shooter:
    """An agent that always plays the same shot."""

    def __init__(self, action: tuple[float, float]) -> None:
        self.action = np.array(action, dtype=np.float32)
        self.seen: list[Any] = []

    def predict(self, observation: Any, *rest: Any, **options: Any) -> tuple[Any, None]:
        self.seen.append(observation)
        return self.action, None


@pytest.fixture
def game() -> Iterator[Game]:
    with closing(Game(seed=0)) as game:
        yield game


def until(game: Game, *phases: Phase) -> None:
    """Lets time pass until the game is in one of the phases."""
    end = time.monotonic() + 60
    while game.phase not in phases:
        assert time.monotonic() < end, f"still {game.phase}"
        game.pass_time(TICK)
        if game.phase is Phase.THINK:
            time.sleep(0.001)


def shoot(game: Game, action: tuple[float, float] = SHOT) -> None:
    """Pulls and lets go such that the action comes out."""
    until(game, Phase.AIM)
    game.press(0.5, 0.5)
    game.release(0.5 - FULL_PULL * action[0], 0.5 - FULL_PULL * action[1])


def positions(game: Game) -> Any:
    return game.view().positions


def test_it_is_the_environment_that_is_played() -> None:
    for seed in range(4):
        game = Game(seed=seed, num_balls=3)
        env = gym.make("Billiards2D-v0", num_balls=3)
        options = {"positions": game._first[0], "velocities": game._first[1]}
        env.reset(options=options)
        shoot(game, (0.6, -0.8))
        until(game, Phase.OVER)
        frames, over = 0, False
        while not over:
            _, _, terminated, truncated, info = env.step(np.array([0.6, -0.8], dtype=np.float32))
            frames, over = frames + 1, terminated or truncated
        assert game.frame == frames and game.success is bool(info["is_success"])
        np.testing.assert_allclose(positions(game), info["positions"], atol=1e-6)
        assert game.scores["you"] == Score(int(game.success), 1)
        game.close()


def test_time_stands_still_for_the_shot_and_moves_smoothly_before_and_after(game: Game) -> None:
    assert game.phase is Phase.WATCH
    places = [positions(game)]
    for _ in range(6):
        game.pass_time(TICK)
        places.append(positions(game))
    steps = np.abs(np.diff(places, axis=0)).max(axis=(1, 2))
    assert (steps > 0).all(), "three pictures for each frame, and each is another"
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
    game.pass_time(1000.0)
    assert game.frame <= 3 + 5, "a stall does not make the balls leap"


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
def test_a_pull_is_a_shot_in_the_other_direction(pull: Any, action: Any, game: Game) -> None:
    until(game, Phase.AIM)
    game.press(0.3, 0.7)
    assert game.aim is None
    game.drag(0.3 + pull[0] / 2, 0.7 + pull[1] / 2)
    game.drag(0.3 + pull[0], 0.7 + pull[1])
    assert game.aim == pytest.approx(action)
    arrow = game.view().arrow
    assert arrow is not None and arrow.impulse == pytest.approx(action)
    assert arrow.centre == pytest.approx(positions(game)[0])
    start = positions(game)[0]
    game.release(0.3 + pull[0], 0.7 + pull[1])
    assert game.phase is Phase.ROLL
    np.testing.assert_allclose(game._action, action, atol=1e-6)
    game.pass_time(TICK)
    arrow = game.view().arrow
    assert arrow is not None and arrow.centre == pytest.approx(start) and arrow.opacity < 1.0


def test_a_slip_or_second_thoughts_are_no_shot(game: Game) -> None:
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
    assert game.phase is Phase.AIM and game.scores["you"] == Score()


def test_the_guide_shows_the_way_to_the_first_contact() -> None:
    with closing(Game(seed=0, start="rest")) as game:
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


def test_the_same_table_again_and_the_next_one(game: Game) -> None:
    start = positions(game)
    shoot(game)
    game.pass_time(TICK)
    assert game.view().paths == [], "the player's own way is shown at the end only"
    until(game, Phase.OVER)
    end, view = positions(game), game.view()
    assert len(view.paths) == 2 and view.arrow is None
    game.pass_time(1.0)
    np.testing.assert_array_equal(positions(game), end)
    game.again()
    np.testing.assert_array_equal(positions(game), start)
    shoot(game)
    until(game, Phase.OVER)
    np.testing.assert_allclose(positions(game), end, atol=1e-9)
    assert game.scores["you"].played == 2
    game.press(0.5, 0.5)  # after a shot: the next table
    game.release(0.1, 0.1)
    assert game.phase is Phase.WATCH and not np.array_equal(positions(game), start)
    seconds = []
    for _ in range(2):
        with closing(Game(seed=0)) as twin:
            np.testing.assert_array_equal(positions(twin), start)
            twin.new_table()
            seconds.append(positions(twin))
    np.testing.assert_array_equal(*seconds)


def test_the_target_goes_round_and_can_be_drawn(game: Game) -> None:
    start = positions(game)
    for target in [*TARGETS[1:], TARGETS[0]]:
        game.next_target()
        assert game.target == game.view().target == target
        np.testing.assert_array_equal(positions(game), start)
    until(game, Phase.AIM)
    game.press_target(0.9, 0.7)
    game.drag(0.5, 0.74)
    assert game.view().target == TARGETS[0], "too flat"
    game.drag(0.5, 1.3)
    assert game.view().target == pytest.approx((0.5, 0.9, 0.7, 1.0)), "shown while it is drawn"
    assert game.target == TARGETS[0]
    game.release_target(0.5, 1.3)
    assert game.target == pytest.approx((0.5, 0.9, 0.7, 1.0)) and game.phase is Phase.WATCH
    game.next_target()
    assert game.target == TARGETS[0]
    game.press_target(0.2, 0.2)
    game.release_target(0.21, 0.6)
    assert game.target == TARGETS[0]
    with pytest.raises(ValueError, match="expected target"):
        game.set_target((0.5, 0.4, 0.0, 1.0))


def test_the_environment_plays_for_the_new_target() -> None:
    with closing(Game(seed=0, start="rest")) as game:
        x, y = positions(game)[1]
        low_high = (max(x - 0.1, 0.0), min(x + 0.1, 1.0), max(y - 0.1, 0.0), min(y + 0.1, 1.0))
        game.set_target(low_high)
        until(game, Phase.AIM)
        game.shoot(np.zeros(2, dtype=np.float32))
        until(game, Phase.OVER)
        assert game.success and game.frame == 4 and game.message == "in!"
        assert game.view().is_success


def test_the_agent_shoots_and_has_its_own_score() -> None:
    agent, loads = Shooter((0.25, -0.5)), []

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
    assert game.scores["agent"].played == 1 and game.scores["you"] == Score()
    (seen,) = agent.seen
    assert seen.shape == (4, 4)
    np.testing.assert_allclose(seen[0], game._first[0].ravel(), atol=1e-6)
    game.ask_agent()  # after a shot: the same table again
    until(game, Phase.OVER)
    assert game.scores["agent"].played == 2 and len(loads) == 1
    np.testing.assert_array_equal(agent.seen[1], seen)
    view = game.view()
    assert (view.left, view.right) == ("you 0 of 0", f"agent {game.scores['agent']}")
    game.close()
    game.close()


def test_a_new_table_makes_the_agent_forget_the_old_one() -> None:
    release: list[bool] = []

    def load() -> Any:
        while not release:
            time.sleep(0.001)
        return Shooter(SHOT)

    with closing(Game(load, seed=0)) as game:
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


def test_an_agent_that_cannot_play_says_why(game: Game) -> None:
    def load() -> Any:
        raise ValueError("no such weights\nand more")

    game.ask_agent()
    assert game.view().hint == "no agent plays here" and game.view().right == ""
    with closing(Game(load, seed=0)) as other:
        other.ask_agent()
        until(other, Phase.THINK)
        until(other, Phase.AIM)
        assert other.view("help").hint == "no such weights"
        shoot(other)  # the player still can
        until(other, Phase.OVER)
        other.again()
        assert other.view("help").hint == "help"


def test_what_the_jumpy_agent_imagines_is_shown_beside_what_happens() -> None:
    quick = PlannerConfig(candidates=64, refined=4, gradient_steps=4, finalists=4, perturbations=4)
    with closing(Game(lambda: load_agent("jumpy", config=quick, device="cpu"), seed=3)) as game:
        game.ask_agent()
        until(game, Phase.THINK)
        start = positions(game)
        until(game, Phase.ROLL)
        assert "% sure" in game.message
        until(game, Phase.OVER)
        paths = game.view().paths
        dashed, dots = [p for p in paths if p.dash > 0], [p for p in paths if p.dots]
        real = [p for p in paths if p.dash == 0 and not p.dots]
        assert len(dashed) == len(dots) == len(real) == 2
        for ball in range(2):
            way, imagined = np.array(real[ball].points), np.array(dashed[ball].points)
            np.testing.assert_allclose(imagined[0], start[ball], atol=1e-5)
            np.testing.assert_allclose(way[0], start[ball], atol=1e-6)
            np.testing.assert_allclose(way[-1], positions(game)[ball])
            for point in imagined[::8]:
                assert np.hypot(*(way - point).T).min() < 0.05
        assert game.success and draw_view(game.view("help")).shape == (632, 560, 3)


@pytest.mark.parametrize("name", PIXEL_AGENTS)
def test_agents_that_see_pictures_shoot_from_what_is_on_the_screen(name: str) -> None:
    quick = PlannerConfig(candidates=4, refined=1, gradient_steps=1, finalists=1, perturbations=1)
    with closing(Game(lambda: load_agent(name, config=quick, device="cpu"), seed=3)) as game:
        game.next_target()
        game.ask_agent()
        until(game, Phase.THINK)
        start = positions(game)
        until(game, Phase.AIM, Phase.ROLL)
        assert (game.phase, game.problem) == (Phase.ROLL, "")
        assert game._trace is not None
        for point in game._trace.imagined[:1]:
            np.testing.assert_allclose(point, start, atol=0.03)  # It reads them beside this target.


def test_every_agent_can_be_played_against() -> None:
    assert {*get_args(app.Opponent)} == {*AGENTS, *PIXEL_AGENTS}


@pytest.mark.parametrize("speed", [5.0, 1000.0])
def test_speed_changes_how_long_it_takes_and_nothing_else(speed: float, game: Game) -> None:
    with closing(Game(seed=0, frames_per_second=speed)) as other:
        shoot(other)
        seconds = 0.0
        while other.phase is not Phase.OVER:
            other.pass_time(TICK)
            seconds += TICK
        assert seconds == pytest.approx((other.frame - 3) / speed, abs=2 * TICK)
        shoot(game)
        until(game, Phase.OVER)
        np.testing.assert_allclose(positions(other), positions(game), atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_balls": 1}, "num_balls to be at least 2 for a game, got 1"),
        ({"frames_per_second": 0.0}, "frames_per_second above 0, got 0"),
        ({"frames_per_second": float("nan")}, "frames_per_second above 0"),
        ({"start": "there"}, "unknown start 'there'"),
        ({"target": (0, 0, 0, 0)}, "expected target"),
    ],
)
def test_nonsense_is_refused(settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Game(lambda: NoShot(), **settings)


# -- the window --------------------------------------------------------------------------------


class Player:
    """Moves the mouse and presses keys, and lets the program run."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self.game = Game(NoShot, seed=0)
        self.app = app.App(self.game, Window(fps=0))
        self.app.turn(TICK)
        if size is not None:
            pygame.display.set_mode(size, pygame.RESIZABLE)
            self.app.turn(TICK)

    def until(self, phase: Phase) -> None:
        end = time.monotonic() + 30
        while self.game.phase is not phase:
            assert time.monotonic() < end
            self.app.turn(TICK)

    def do(self, kind: int, **details: Any) -> None:
        pygame.event.post(pygame.event.Event(kind, details))
        self.app.turn(TICK)

    def mouse(self, kind: int, place: Any, **button: int) -> None:
        column, row = self.app.window.layout(self.game.view(app.HINT)).to_picture(*place)
        self.do(kind, pos=(round(column), round(row)), **button)

    def pull(self, start: tuple[float, float], end: tuple[float, float], button: int = 1) -> None:
        self.mouse(pygame.MOUSEBUTTONDOWN, start, button=button)
        self.mouse(pygame.MOUSEMOTION, (np.array(start) + end) / 2)
        self.mouse(pygame.MOUSEMOTION, end)
        self.mouse(pygame.MOUSEBUTTONUP, end, button=button)


def screen() -> Any:
    return pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)


@pytest.fixture(params=[None, (400, 700), (1000, 640)], ids=["natural", "tall", "wide"])
def player(request: Any) -> Iterator[Player]:
    player = Player(request.param)
    yield player
    player.app.window.close()
    player.game.close()


def test_a_drag_is_a_shot_and_is_scored(player: Player) -> None:
    player.until(Phase.AIM)
    still = screen()
    player.mouse(pygame.MOUSEBUTTONDOWN, (0.5, 0.5), button=1)
    player.mouse(pygame.MOUSEMOTION, (0.3, 0.4))
    assert (still != screen()).any(axis=2).sum() > 300, "the cue and the arrow are drawn"
    player.do(pygame.KEYDOWN, key=pygame.K_ESCAPE)
    np.testing.assert_array_equal(screen(), still)
    player.pull((0.5, 0.5), (0.5 - 0.5 * FULL_PULL, 0.5 + 0.25 * FULL_PULL))
    assert player.game.phase is Phase.ROLL
    np.testing.assert_allclose(player.game._action, [0.5, -0.25], atol=0.02)  # whole pixels
    player.until(Phase.OVER)
    assert player.game.scores["you"].played == 1
    height, width = screen().shape[:2]
    shown = draw_view(player.game.view(app.HINT), width, height)
    np.testing.assert_array_equal(screen(), shown)


def test_a_right_drag_draws_the_target(player: Player) -> None:
    player.until(Phase.AIM)
    player.pull((0.2, 0.3), (0.5, 0.8), button=3)
    assert player.game.target == pytest.approx((0.2, 0.5, 0.3, 0.8), abs=0.005)
    player.pull((0.2, 0.3), (0.5, 0.8), button=2)  # does nothing
    assert player.game.phase is Phase.WATCH


def test_keys(player: Player) -> None:
    start = positions(player.game)
    player.do(pygame.KEYDOWN, key=pygame.K_t)
    assert player.game.target == TARGETS[1]
    player.do(pygame.KEYDOWN, key=pygame.K_a)
    player.until(Phase.OVER)
    assert player.game.scores["agent"].played == 1
    player.do(pygame.KEYDOWN, key=pygame.K_r)
    assert player.game.phase is Phase.WATCH
    np.testing.assert_allclose(positions(player.game), start, atol=0.05)
    for key in (pygame.K_n, pygame.K_SPACE, pygame.K_F12):  # the last does nothing
        player.do(pygame.KEYDOWN, key=key)
        assert np.abs(positions(player.game) - start).max() > 0.05
    assert player.app.window.is_open
    player.do(pygame.KEYDOWN, key=pygame.K_q)
    assert not player.app.window.is_open


def test_it_runs_until_the_window_is_closed_and_prints_the_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns, turn = [], app.App.turn

    def count(self: app.App, seconds: float) -> float:
        turns.append(seconds)
        if len(turns) == 30:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
            assert self.game.frame >= 1
        return turn(self, seconds)

    monkeypatch.setattr(app.App, "turn", count)
    app.play(app.Args(seed=1, fps=200))
    assert len(turns) == 30 and turns[0] == 0.0
    assert all(seconds >= 0.004 for seconds in turns[2:])
    assert not pygame.display.get_init()
    assert capsys.readouterr().out == "you: 0 of 0\nagent: 0 of 0\n"


def test_a_missing_display_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "none such")
    assert main.run("play", []) == 2
    error = capsys.readouterr().err
    assert error.startswith("play: ") and error.count("\n") == 1
