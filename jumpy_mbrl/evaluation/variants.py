"""The games that agents are compared at, by name: the default table, and what lies beyond it.

Whatever the game, an agent is shown the four frames before its shot, and the target where every
table has its own; the real environment plays the shot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.envs import BILLIARDS_1D, BILLIARDS_2D
from jumpy_mbrl.envs.rules import Task, line_task, plane_task


@dataclass(frozen=True)
class Variant:
    """A game.

    Attributes:
        description: what is played, in a line.
        env_id: `Billiards2D-v0` or `Billiards1D-v0`.
        arguments: those of the environment.
    """

    description: str
    env_id: str = BILLIARDS_2D
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """What the environment plays."""
        make = line_task if self.env_id == BILLIARDS_1D else plane_task
        return make(**self.arguments)


def _table(description: str, **arguments: Any) -> Variant:
    return Variant(description, BILLIARDS_2D, arguments)


VARIANTS: dict[str, dict[str, Variant]] = {
    BILLIARDS_2D: {
        "default": _table("two moving balls, and one target in the corner"),
        "random_target": _table("every table has its own target", random_target=True),
        "rest": _table("all balls lie still", start="rest"),
        "long": _table("90 frames", config={"num_frames": 90}),
        # In the middle of the default one: its outer half is out of reach for a ball's centre.
        "small_target": _table(
            "a target of half the side", config={"target": (0.85, 0.95, 0.05, 0.15)}
        ),
        "last_frame": _table("the object ball must be inside at the last frame", success="last"),
        "three_balls": _table("three balls", num_balls=3),
        "four_balls": _table("four balls", num_balls=4),
        "five_balls": _table("five balls", num_balls=5),
    },
    BILLIARDS_1D: {
        "default": Variant("two balls on a line, and the choice of where one begins", BILLIARDS_1D)
    },
}
"""Every game, by the id of its environment and its name."""

DEFAULT = VARIANTS[BILLIARDS_2D]["default"]


def find_variant(table: str = "default", env_id: str = BILLIARDS_2D) -> Variant:
    """The game of this name.

    Raises:
        ValueError: for an environment or a name that is not in ``VARIANTS``.
    """
    if env_id not in VARIANTS:
        raise ValueError(unknown_name("environment", env_id, VARIANTS))
    if table not in VARIANTS[env_id]:
        raise ValueError(unknown_name(f"table of {env_id}", table, VARIANTS[env_id]))
    return VARIANTS[env_id][table]
