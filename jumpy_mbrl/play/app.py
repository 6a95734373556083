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

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

# Read when pygame is imported: no greeting; when torch is: waiting threads leave the cores alone.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pygame
import tyro

from jumpy_mbrl.envs.config import Start
from jumpy_mbrl.envs.rendering import Window
from jumpy_mbrl.play.game import Game

if TYPE_CHECKING:
    from jumpy_mbrl.agents import Agent

HINT = "pull back and let go   A agent   R again   N new   T target (or right drag)   Q quit"
LEFT, RIGHT = 1, 3


@dataclass(frozen=True)
class Args:
    """How to play."""

    agent: Literal[
        "jumpy",
        "jumpy-rnn",
        "jump-4",
        "ode-rnn",
        "rnn",
        "simulator",
        "sac",
        "ppo",
        "random",
        "none",
    ] = "jumpy"
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
    """A game in a window.

    Args:
        game: the game.
        window: where it is shown.
    """

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

    def turn(self, seconds: float) -> float:
        """Handles what the player did, lets time pass, and shows a picture.

        Returns:
            The seconds since the last picture.
        """
        for event in self.window.events():
            self.handle(event)
        self.game.pass_time(seconds)
        return self.window.show(self.game.view(HINT))

    def handle(self, event: pygame.event.Event) -> None:
        """Passes one event of the window on to the game."""
        if event.type == pygame.KEYDOWN:
            self._keys.get(event.key, lambda: None)()
        elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP, pygame.MOUSEMOTION):
            x, y = self.window.layout(self.game.view(HINT)).to_table(*event.pos)
            if event.type == pygame.MOUSEMOTION:
                self.game.drag(x, y)
            elif event.button == LEFT:
                down = event.type == pygame.MOUSEBUTTONDOWN
                (self.game.press if down else self.game.release)(x, y)
            elif event.button == RIGHT:
                down = event.type == pygame.MOUSEBUTTONDOWN
                (self.game.press_target if down else self.game.release_target)(x, y)

    def run(self) -> None:
        """Plays until the window is closed."""
        seconds = 0.0
        try:
            while self.window.is_open:
                seconds = self.turn(seconds)
        finally:
            self.window.close()
            self.game.close()


def load_agent(name: str) -> Agent:
    """Loads the agent; torch comes with it, so this takes some seconds."""
    from jumpy_mbrl import agents

    return agents.load_agent(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (2 after a one-line error)."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        play(args)
    except (ValueError, pygame.error) as error:
        print(f"play: {error}", file=sys.stderr)
        return 2
    return 0


def play(args: Args) -> None:
    """Opens the window and plays."""
    game = Game(
        functools.partial(load_agent, args.agent),
        seed=args.seed,
        num_balls=args.num_balls,
        start=args.start,
        frames_per_second=20.0 * args.speed,
    )
    App(game, Window(args.fps, title="jumpy billiards")).run()
    for who, score in game.scores.items():
        print(f"{who}: {score}")
