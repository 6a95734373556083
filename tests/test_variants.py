"""The games by name."""

from __future__ import annotations

import gymnasium as gym
import pytest

from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.evaluation import VARIANTS, Variant, find_variant

ALL = [(env, table) for env, tables in VARIANTS.items() for table in tables]


@pytest.mark.parametrize(("env_id", "table"), ALL)
def test_a_variant_plays_what_its_environment_plays(env_id: str, table: str) -> None:
    variant = find_variant(table, env_id)
    assert variant.env_id == env_id
    assert variant.description and "\n" not in variant.description
    env = gym.make(env_id, **variant.arguments)
    assert env.get_wrapper_attr("task") == variant.task


def test_the_names_and_what_they_change() -> None:
    tables = VARIANTS["Billiards2D-v0"]
    assert tables["default"].task.config == TableConfig() and find_variant() is tables["default"]
    assert tables["random_target"].task.random_target
    assert tables["rest"].task.start == "rest"
    assert tables["long"].task.config.num_frames == 90
    assert tables["last_frame"].task.success == "last"
    balls = [tables[f"{word}_balls"].task.config.num_balls for word in ("three", "four", "five")]
    assert balls == [3, 4, 5]
    assert list(VARIANTS["Billiards1D-v0"]) == ["default"]
    assert VARIANTS["Billiards1D-v0"]["default"].task.line


def test_the_small_target_has_half_the_side_also_where_a_ball_can_be() -> None:
    radius = TableConfig().radius

    def sides(variant: Variant) -> list[float]:
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
