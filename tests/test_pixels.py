"""The rasteriser, and pixel observations."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from jumpy_mbrl import envs
from jumpy_mbrl.envs import pixels
from jumpy_mbrl.envs.pixels import PRESETS, PixelConfig, draw_pixels, rasterizer

ID = envs.BILLIARDS_2D
FORMATS = [
    (PixelConfig(), 0.1),
    (PRESETS["paper"], 0.1),
    (PixelConfig(size=64, channels=1), 0.1),
    (PixelConfig(size=96), 0.15),
    (PixelConfig(size=36), 0.05),
    (PixelConfig(size=256), 0.1),
]
each_format = pytest.mark.parametrize(("config", "radius"), FORMATS, ids=str)


@each_format
def test_pixels_are_as_full_as_covered(config: PixelConfig, radius: float) -> None:
    """The area of the disc is that of a disc, and each pixel agrees with many samples of it."""
    place = np.array([0.4712, 0.3951])
    empty = draw_pixels(np.zeros((0, 2)), None, config, radius)[..., 0].astype(float)
    full = draw_pixels([place], None, PixelConfig(config.size, config.channels), radius)[..., 0]
    share = (full - empty) / ((pixels.TAN[0] if config.channels == 3 else 255) - empty)
    size = config.size
    assert share.sum() == pytest.approx(np.pi * (radius * size) ** 2, rel=5e-3)
    fine = (np.arange(20 * size) + 0.5) / (20 * size)
    inside = np.hypot(fine[None] - place[0], 1.0 - fine[:, None] - place[1]) < radius
    sampled = inside.reshape(size, 20, size, 20).mean((1, 3))
    np.testing.assert_allclose(share, sampled, atol=0.06)


def test_colours_and_places() -> None:
    centres = [[0.2, 0.8], [0.8, 0.8], [0.2, 0.3], [0.5, 0.5]]
    picture = draw_pixels(centres, (0.75, 1.0, 0.0, 0.25))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    for (x, y), color in zip(
        centres, [pixels.TAN, pixels.BLUE, pixels.GREY, pixels.GREY], strict=True
    ):
        assert tuple(picture[round((1 - y) * 64), round(x * 64)]) == color
    assert (picture[48:, 48:] == pixels.TARGET).all()
    assert (picture[47, 48:] == pixels.FELT).all()
    assert (picture[48:, 47] == pixels.FELT).all()
    grey = draw_pixels(centres, (0.75, 1.0, 0.0, 0.25), PRESETS["paper"])[..., 0]
    assert [grey[round((1 - y) * 28), round(x * 28)] for x, y in centres] == [255, 192, 128, 128]
    assert set(grey[21:, 21:].ravel()) == {0}
    assert grey[0, 0] == 64


def test_the_edge_of_the_target_is_as_full_as_covered() -> None:
    grey = draw_pixels(np.zeros((0, 2)), (0.125, 0.5 + 0.25 / 8, 0.5, 1.0), PixelConfig(8, 1))
    np.testing.assert_array_equal(grey[:4, :5, 0], [[64, 0, 0, 0, 48]] * 4)
    assert (grey[4:] == 64).all()


def test_many_tables_are_drawn_as_each_alone() -> None:
    rng = np.random.default_rng(2)
    tables = rng.uniform(-0.3, 1.3, (40, 3, 2))  # also in part or whole outside the picture
    batch = draw_pixels(tables, (0.1, 0.3, 0.2, 0.7))
    assert batch.shape == (40, 64, 64, 3)
    for table, picture in zip(tables, batch, strict=True):
        np.testing.assert_array_equal(picture, draw_pixels(table, (0.1, 0.3, 0.2, 0.7)))


@pytest.mark.parametrize("obs_type", ["pixels", "dict"])
@pytest.mark.parametrize("random_target", [False, True])
def test_the_environment_shows_the_table_and_its_target(obs_type: str, random_target: bool) -> None:
    env: Any = gym.make(ID, obs_type=obs_type, random_target=random_target, size=40).unwrapped
    given = {"target": (0.0, 0.5, 0.5, 1.0)}
    seen = []
    for seed, options in (*((seed, None) for seed in range(5)), (9, given), (9, None)):
        seen.append((env.reset(seed=seed, options=options), env.target))
    assert seen[5][1] == given["target"]
    for (obs, info), target in seen:
        picture = obs["pixels"] if obs_type == "dict" else obs
        expected = draw_pixels(info["positions"], target, PixelConfig(40))
        np.testing.assert_array_equal(picture, expected, strict=True)
        if obs_type == "dict":
            shown = [*info["positions"].ravel(), *(target if random_target else ())]
            np.testing.assert_array_equal(obs["coords"], np.array(shown, dtype=np.float32))


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (64, 64, 3)),
        ({"pixels": "paper"}, (28, 28, 1)),
        ({"pixels": "paper", "channels": 3}, (28, 28, 3)),
        ({"size": 28, "channels": 1}, (28, 28, 1)),
        ({"pixels": PixelConfig(32)}, (32, 32, 3)),
        ({"pixels": {"channels": 1}, "size": 50}, (50, 50, 1)),
    ],
)
def test_formats(arguments: Any, shape: tuple[int, ...]) -> None:
    env: Any = gym.make(ID, obs_type="pixels", **arguments)
    obs, _ = env.reset(seed=0)
    assert obs.shape == shape == env.observation_space.shape
    assert obs.dtype == np.uint8


@pytest.mark.parametrize(
    ("positions", "radius", "message"),
    [
        ([0.5, 0.5], 0.1, r"shape \(N, 2\) or \(B, N, 2\), got \(2,\)"),
        (np.zeros((2, 3)), 0.1, r"got \(2, 3\)"),
        ([[np.nan, 0.5]], 0.1, "finite positions"),
        ([[0.5, 0.5]], 0.0, r"radius to be a number in \(0, 0.5\], got 0.0"),
        ([[0.5, 0.5]], 0.6, "radius.*got 0.6"),
    ],
)
def test_bad_positions_are_refused(positions: Any, radius: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_pixels(positions, radius=radius)


def test_copies_share_the_discs() -> None:
    painter = rasterizer(PixelConfig(), 0.1, pixels.USUAL)
    assert copy.deepcopy(painter) is painter
    assert pickle.loads(pickle.dumps(painter)) is painter
    assert len(pickle.dumps(painter)) < 1000
    assert pixels.make_pixel_config() == PixelConfig()


def test_all_that_sb3_says_of_the_papers_format_is_that_it_is_small() -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with pytest.warns(UserWarning, match="36x36") as warned:
        env_checker.check_env(gym.make(ID, obs_type="pixels", pixels="paper"), warn=True)
    assert len(warned) == 1


def test_sb3_cnn_policy_trains_on_the_default_format() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("CnnPolicy", gym.make(ID, obs_type="pixels"), n_steps=16, batch_size=16, seed=0)
    model.learn(16)
    assert model.num_timesteps == 16
    assert type(model.policy.features_extractor).__name__ == "NatureCNN"
