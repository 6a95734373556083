"""What there is to see of an episode: layout, trails, the shot, the score line."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.scene import TRAIL_FRAMES, Layout, Scene, Trail


def play(scene_frames: int, action: tuple[float, float] = (0.0, 0.0), **reset: Any) -> Any:
    """Plays some frames and returns the view of them."""
    options = dict(reset)
    config = options.pop("config", None)
    env: Any = gym.make("Billiards2D-v0", render_mode="rgb_array", config=config).unwrapped
    env.reset(seed=0, options=options)
    for _ in range(scene_frames):
        env.step(np.array(action, dtype=np.float32))
    return env._scene.view()


def test_the_natural_layout_has_a_felt_of_512_pixels() -> None:
    layout = Layout.natural()
    assert (layout.width, layout.height) == (560, 608)
    assert (layout.left, layout.top, layout.side, layout.rail) == (24, 24, 512, 24)
    assert Layout.natural(has_hint=True).height == 632


@pytest.mark.parametrize("size", [(560, 608), (1120, 1216), (300, 900), (901, 303), (57, 64)])
@pytest.mark.parametrize("has_hint", [False, True])
def test_everything_lies_inside_the_picture_and_back(size: tuple[int, int], has_hint: bool) -> None:
    layout = Layout(*size, has_hint)
    for x, y in ((0.0, 0.0), (0.3, 0.8), (1.0, 1.0)):
        column, row = layout.to_picture(x, y)
        assert 0 <= column <= size[0]
        assert 0 <= row <= size[1]
        assert layout.to_table(column, row) == pytest.approx((x, y))
    assert layout.left - layout.rail >= -1
    assert layout.top - layout.rail >= 0
    assert layout.top + layout.side + layout.rail <= layout.score_row < size[1]
    if has_hint:
        assert layout.score_row < layout.hint_row < size[1]


def test_a_trail_forgets_what_is_too_old() -> None:
    trail = Trail(duration=2.0)
    assert trail.lines() == []
    for time in range(5):
        trail.add(time, [0.1 * time, 0.0, 0.0, 0.2 * time])
    first, second = trail.lines()
    np.testing.assert_allclose(first, [[0.2, 0.0], [0.3, 0.0], [0.4, 0.0]])
    np.testing.assert_allclose(second, [[0.0, 0.4], [0.0, 0.6], [0.0, 0.8]])
    trail.clear()
    assert trail.lines() == []


def test_a_trail_reaches_the_wall_that_the_ball_met_between_two_frames() -> None:
    view = play(3, positions=[[0.8, 0.5], [0.3, 0.2]], velocities=[[1.5, 0.0], [0.0, 0.0]])
    # 0.1 sides to the wall and 0.125 back: no frame shows the ball at the wall.
    assert view.positions[0, 0] == pytest.approx(0.775)
    assert view.trails[0][:, 0].max() > 0.88
    np.testing.assert_allclose(view.trails[0][0], [0.8, 0.5])
    np.testing.assert_allclose(view.trails[0][-1], view.positions[0])
    np.testing.assert_allclose(view.trails[1], np.tile([0.3, 0.2], (len(view.trails[1]), 1)))


def test_a_trail_is_as_old_as_it_may_be() -> None:
    still = [[0.0, 0.0], [0.0, 0.0]]
    view = play(20, (1.0, 0.0), positions=[[0.1, 0.5], [0.5, 0.9]], velocities=still)
    length = np.hypot(*np.diff(view.trails[0], axis=0).T).sum()
    assert length == pytest.approx(TRAIL_FRAMES * 0.05 * 1.2, rel=0.02)


def test_inelastic_tables_have_trails_from_frame_to_frame() -> None:
    view = play(20, (1.0, 0.3), config={"restitution": 0.5})
    assert len(view.trails[0]) == TRAIL_FRAMES + 1


def test_a_ball_that_was_put_elsewhere_leaves_no_trail_across_the_table() -> None:
    scene = Scene(TableConfig(num_balls=1))
    scene.start([0.2, 0.2], (0.8, 1.0, 0.0, 0.2))
    scene.step([0.25, 0.2], [1.0, 0.0])
    scene.step([0.75, 0.7], [1.0, 0.0])  # from (0.7, 0.7), not from (0.25, 0.2)
    trail = scene.view().trails[0]
    assert trail[:, 0].min() > 0.7
    np.testing.assert_allclose(trail[:, 1], 0.7)


def test_the_arrow_shows_the_shot_where_it_was_played_and_fades() -> None:
    assert play(3, (0.5, -0.5)).arrow is None
    still = {"positions": [[0.3, 0.5], [0.3, 0.85]], "velocities": [[0.0, 0.0], [0.0, 0.0]]}
    opacities = []
    for frames in range(4, 12):
        arrow = play(frames, (0.5, -0.5), **still).arrow
        assert arrow.centre == (0.3, 0.5)
        assert arrow.impulse == (0.5, -0.5)
        opacities.append(arrow.opacity)
    assert opacities == sorted(opacities, reverse=True)
    assert opacities[0] == 1.0
    assert play(12, (0.5, -0.5), **still).arrow is None


def test_the_score_line() -> None:
    still: Any = {"positions": [[0.3, 0.5], [0.3, 0.85]], "velocities": [[0.0, 0.0], [0.0, 0.0]]}
    texts = {n: play(n, (-1.0, 0.0), **still) for n in (0, 2, 3, 4, 44)}
    rights = {n: view.right for n, view in texts.items()}
    assert rights == {0: "watch", 2: "watch", 3: "shoot", 4: "rolling", 44: "missed"}
    assert texts[4].left == "frame 4 of 44"
    assert texts[44].middle == "walls 3   balls 0"
    still["positions"] = [[0.3, 0.5], [0.9, 0.1]]
    view = play(4, **still)
    assert view.right == "in!"
    assert view.is_success


def test_an_environment_without_pictures_follows_nothing() -> None:
    env: Any = gym.make("Billiards2D-v0").unwrapped
    assert env._scene is None
