"""Playing with the mouse: made-up events in a window that is none."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pygame
import pytest

from jumpy_mbrl.agents import NoShot
from jumpy_mbrl.envs.rendering import Window, draw_view
from jumpy_mbrl.play.game import FULL_PULL, TARGETS, Game, Phase

SCRIPT = Path(__file__).parent.parent / "scripts" / "play.py"

TICK = 1 / 60


class Player:
    """Moves the mouse and presses keys, and lets the program run."""

    def __init__(self, play: ModuleType, size: tuple[int, int] | None = None) -> None:
        self.hint: str = play.HINT
        self.game = Game(NoShot, seed=0)
        self.app = play.App(self.game, Window(fps=0))
        self.turn()
        if size is not None:
            pygame.display.set_mode(size, pygame.RESIZABLE)
            self.turn()

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.app.turn(TICK)

    def until(self, phase: Phase) -> None:
        end = time.monotonic() + 30
        while self.game.phase is not phase:
            assert time.monotonic() < end
            self.turn()

    def mouse(self, kind: int, x: float, y: float, button: int = 1) -> None:
        layout = self.app.window.layout(self.game.view(self.hint))
        column, row = layout.to_picture(x, y)
        details: dict[str, Any] = {"pos": (round(column), round(row))}
        if kind != pygame.MOUSEMOTION:
            details["button"] = button
        pygame.event.post(pygame.event.Event(kind, details))
        self.turn()

    def pull(self, start: tuple[float, float], end: tuple[float, float], button: int = 1) -> None:
        self.mouse(pygame.MOUSEBUTTONDOWN, *start, button)
        self.mouse(pygame.MOUSEMOTION, *((np.array(start) + end) / 2))
        self.mouse(pygame.MOUSEMOTION, *end)
        self.mouse(pygame.MOUSEBUTTONUP, *end, button)

    def key(self, key: int) -> None:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, {"key": key}))
        self.turn()


@pytest.fixture(scope="module")
def play(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("play")


@pytest.fixture(params=[None, (400, 700), (1000, 640)], ids=["natural", "tall", "wide"])
def player(play: ModuleType, request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Player]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    player = Player(play, request.param)
    yield player
    player.app.window.close()
    player.game.close()


def test_a_drag_is_a_shot_and_is_scored(player: Player) -> None:
    player.until(Phase.AIM)
    player.pull((0.5, 0.5), (0.5 - 0.5 * FULL_PULL, 0.5 + 0.25 * FULL_PULL))
    assert player.game.phase is Phase.ROLL
    np.testing.assert_allclose(player.game._action, [0.5, -0.25], atol=0.02)  # whole pixels
    player.until(Phase.OVER)
    assert player.game.scores["you"].played == 1
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    height, width = screen.shape[:2]
    np.testing.assert_array_equal(screen, draw_view(player.game.view(player.hint), width, height))


def test_while_pulling_the_cue_and_the_arrow_are_drawn(player: Player) -> None:
    player.until(Phase.AIM)
    still = pygame.surfarray.array3d(pygame.display.get_surface())
    player.mouse(pygame.MOUSEBUTTONDOWN, 0.5, 0.5)
    player.mouse(pygame.MOUSEMOTION, 0.3, 0.4)
    pulled = pygame.surfarray.array3d(pygame.display.get_surface())
    assert (still != pulled).any(axis=2).sum() > 300
    player.key(pygame.K_ESCAPE)
    np.testing.assert_array_equal(pygame.surfarray.array3d(pygame.display.get_surface()), still)


def test_a_right_drag_draws_the_target(player: Player) -> None:
    player.until(Phase.AIM)
    player.pull((0.2, 0.3), (0.5, 0.8), button=3)
    assert player.game.target == pytest.approx((0.2, 0.5, 0.3, 0.8), abs=0.005)


def test_keys(player: Player) -> None:
    start = player.game.view().positions
    player.key(pygame.K_t)
    assert player.game.target == TARGETS[1]
    player.key(pygame.K_a)
    player.until(Phase.OVER)
    assert player.game.scores["agent"].played == 1
    player.key(pygame.K_r)
    assert player.game.phase is Phase.WATCH
    np.testing.assert_allclose(player.game.view().positions, start, atol=0.05)
    player.key(pygame.K_n)
    assert np.abs(player.game.view().positions - start).max() > 0.05
    player.key(pygame.K_F12)  # does nothing
    assert player.app.window.is_open
    player.key(pygame.K_q)
    assert not player.app.window.is_open


def test_run_plays_until_the_window_is_closed(
    play: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    app = play.App(Game(seed=0), Window(fps=200))
    turn = app.turn
    turns = []

    def count(seconds: float) -> float:
        turns.append(seconds)
        if len(turns) == 30:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return float(turn(seconds))

    monkeypatch.setattr(app, "turn", count)
    app.run()
    assert len(turns) == 30
    assert turns[0] == 0.0
    assert all(seconds >= 0.004 for seconds in turns[2:])
    assert app.game.frame >= 1
    assert not pygame.display.get_init()


def test_main_prints_the_score(
    play: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play.App, "run", lambda self: self.game.close())
    play.play(play.Args(seed=1))
    assert capsys.readouterr().out == "you: 0 of 0\nagent: 0 of 0\n"


def test_the_command_line_helps_and_refuses() -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    helped = run("--help")
    assert helped.returncode == 0
    assert "right drag" in helped.stdout
    assert "--num-balls" in helped.stdout
    refused = run("--num-balls", "1")
    assert refused.returncode == 1
    assert refused.stderr.strip().startswith("error: expected num_balls to be at least 2")
