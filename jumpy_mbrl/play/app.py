"""Billiards with the mouse, against an agent that plans in its imagination.

    python scripts/play.py

The balls roll for a moment; then time stands still for your shot. Press anywhere, pull back like a
cue and let go: the longer the pull, the harder the shot. It is added to the motion that the cue
ball (tan) already has; the dots show where it will go first. Bring the object ball (blue) into the
black target.

    click        the next table, after a shot      A   the agent shoots, on this same table
    right drag   draw another target               R   this table again
    T            the next target                   N   a new table
    Esc          take back a pull                  Q   quit

What the agent imagined is drawn dashed, with a dot wherever its model ticked; what really happens
beside it in full.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# Read when pygame is imported: no greeting; when torch is: waiting threads leave the cores alone.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pygame
import tyro

from jumpy_mbrl.envs.config import Start
from jumpy_mbrl.envs.rendering import Window
from jumpy_mbrl.play.game import Game

ERRORS = (pygame.error,)
HINT = "pull back and let go   A agent   R again   N new   T target (or right drag)   Q quit"
LEFT, RIGHT = 1, 3
Opponent = Literal[
    "jumpy",
    "jumpy-space",
    "jumpy-entities",
    "jumpy-flat",
    "jumpy-pixels",
    "jumpy-keypoints",
    "jumpy-rnn-pixels",
    "rnn-pixels",
    "jumpy-rnn",
    "jump-4",
    "ode-rnn",
    "rnn",
    "simulator",
    "sac",
    "ppo",
    "ppo-pixels",
    "random",
    "none",
]


@dataclass(frozen=True)
class Args:
    """How to play."""

    agent: Opponent = "jumpy"
    """Your opponent, who shoots when you press A."""
    num_balls: int = 2
    """Number of balls, at least 2."""
    start: Start = "moving"
    """Whether the balls move at first."""
    seed: int | None = None
    """Of the tables: the same seed gives the same ones."""
    speed: float = 1.0
    """How fast time passes; 1 is 20 frames of the environment a second."""
    fps: float = 60.0
    """Pictures a second."""


class App:
    """A game in a window."""

    def __init__(self, game: Game, window: Window) -> None:
        self.game = game
        self.window = window
        self._keys = {
            pygame.K_a: game.ask_agent,
            pygame.K_r: game.again,
            pygame.K_n: game.new_table,
            pygame.K_SPACE: game.new_table,
            pygame.K_t: game.next_target,
            pygame.K_ESCAPE: game.cancel,
            pygame.K_q: window.close,
        }
        self._mouse = {
            (pygame.MOUSEBUTTONDOWN, LEFT): game.press,
            (pygame.MOUSEBUTTONUP, LEFT): game.release,
            (pygame.MOUSEBUTTONDOWN, RIGHT): game.press_target,
            (pygame.MOUSEBUTTONUP, RIGHT): game.release_target,
            (pygame.MOUSEMOTION, None): game.drag,
        }

    def turn(self, seconds: float) -> float:
        """Does what the player did, lets time pass, and shows it; the seconds that this took."""
        for event in self.window.events():
            if event.type == pygame.KEYDOWN and event.key in self._keys:
                self._keys[event.key]()
            do = self._mouse.get((event.type, getattr(event, "button", None)))
            if do is not None:
                do(*self.window.layout(self.game.view(HINT)).to_table(*event.pos))
        self.game.pass_time(seconds)
        return self.window.show(self.game.view(HINT))

    def run(self) -> None:
        """Plays until the window is closed."""
        seconds = 0.0
        try:
            while self.window.is_open:
                seconds = self.turn(seconds)
        finally:
            self.window.close()
            self.game.close()


def play(args: Args) -> None:
    """Opens the window and plays."""

    def load_agent() -> Any:
        from jumpy_mbrl import agents  # Only when asked for: torch takes some seconds.

        return agents.load_agent(args.agent)

    game = Game(
        load_agent, args.seed, args.num_balls, args.start, frames_per_second=20 * args.speed
    )
    App(game, Window(args.fps, title="jumpy billiards")).run()
    for who, score in game.scores.items():
        print(f"{who}: {score}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    play(tyro.cli(Args, args=argv, description=__doc__))
    return 0
