"""Sprites: what is drawn at a place is found there again, and looks are learned from pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.envs.pixels import PRESETS, draw_pixels
from jumpy_mbrl.models.bodies.sprites import Sprites

SIZE = 28


def discs(num_bodies: int = 2, channels: int = 1, axes: int = 2) -> Sprites:
    """Sprites that look like balls of radius 0.1 with soft edges."""
    torch.manual_seed(0)
    sprites = Sprites(num_bodies, SIZE, channels, axes)
    distance = torch.linspace(0.0, 0.25, 51)[1:-1]
    with torch.no_grad():
        sprites.profile.copy_(((0.12 - distance) / 0.04).clamp(0.0, 1.0).expand_as(sprites.profile))
    return sprites


def apart(count: int, seed: int = 0) -> Tensor:
    """Places (count, 4) of two balls that do not overlap; in some they touch."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.1, 0.9, (20 * count, 2))
    angle = rng.uniform(0.0, 2.0 * np.pi, 20 * count)
    gap = np.maximum(rng.uniform(0.15, 0.6, 20 * count), 0.2)
    second = first + gap[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inside = ((second > 0.1) & (second < 0.9)).all(axis=1)
    places = np.concatenate([first, second], axis=1)[inside][:count]
    return torch.from_numpy(places).float()


def test_what_is_drawn_is_read_again() -> None:
    sprites, places = discs(), apart(300)
    with torch.no_grad():
        pictures = sprites.draw(places)
        assert pictures.shape == (300, SIZE * SIZE)
        torch.testing.assert_close(sprites.read(pictures), places, rtol=0, atol=2e-4)


def test_pictures_of_many_times_are_drawn_at_once() -> None:
    sprites, places = discs(), apart(6).view(2, 3, 4)
    with torch.no_grad():
        pictures = sprites.draw(places)
        assert pictures.shape == (2, 3, SIZE * SIZE)
        torch.testing.assert_close(pictures[1, 2], sprites.draw(places[1, 2]))


def test_a_shift_by_a_pixel_shifts_the_picture() -> None:
    sprites = discs(num_bodies=1)
    places = torch.tensor([[0.4, 0.6], [0.4 + 1 / SIZE, 0.6 + 2 / SIZE]])
    with torch.no_grad():
        first, second = sprites.draw(places).view(2, SIZE, SIZE)
    torch.testing.assert_close(first.roll((-2, 1), (0, 1)), second, rtol=0, atol=1e-5)


def test_the_first_row_is_the_top() -> None:
    sprites = discs(num_bodies=1)
    with torch.no_grad():
        picture = sprites.draw(torch.tensor([[0.5, 0.9]])).view(SIZE, SIZE)
    assert picture[:6].mean() > picture[-6:].mean() + 0.05


def test_drawing_is_differentiable_in_the_places() -> None:
    sprites = discs().double()
    # Within one piece of the cover, which is a polygon, differences are exact enough.
    places = apart(1).double().requires_grad_()
    weights = torch.randn(SIZE * SIZE, dtype=torch.float64, generator=torch.Generator())
    (sprites.draw(places) @ weights).sum().backward()
    assert places.grad is not None
    for k in range(4):
        nudge = 1e-7 * torch.eye(4, dtype=torch.float64)[k]
        with torch.no_grad():
            rise = (sprites.draw(places + nudge) - sprites.draw(places - nudge)) @ weights
        assert float(rise) / 2e-7 == pytest.approx(float(places.grad[0, k]), rel=1e-3, abs=1e-3)


def test_reading_is_differentiable_in_the_pictures() -> None:
    sprites, places = discs(), apart(1)
    pictures = sprites.draw(places).detach().requires_grad_()
    read = sprites.read(pictures)
    read[0, 0].backward()
    assert pictures.grad is not None
    # Light to the right of the first ball pulls it to the right, light to the left to the left.
    x = (torch.arange(SIZE) + 0.5) / SIZE
    near = (x - places[0, 0]).abs() < 0.12
    gradient = pictures.grad.view(SIZE, SIZE).sum(dim=0)
    assert gradient[near & (x > places[0, 0])].sum() > 0 > gradient[near & (x < places[0, 0])].sum()


def test_bodies_on_a_line_have_one_coordinate() -> None:
    sprites = discs(axes=1)
    with torch.no_grad():
        assert sprites.line is not None
        sprites.line.fill_(0.37)
        places = torch.tensor([[0.2, 0.7], [0.55, 0.31], [0.4, 0.6]])
        pictures = sprites.draw(places)
        columns = pictures.view(3, SIZE, SIZE).mean(dim=1).argmax(dim=1)
        torch.testing.assert_close(sprites.read(pictures), places, rtol=0, atol=2e-4)
    assert ((columns + 0.5) / SIZE - 0.37).abs().max() < 1.5 / SIZE


def test_colours_tell_bodies_of_one_brightness_apart() -> None:
    sprites = discs(channels=3)
    with torch.no_grad():
        sprites.color.copy_(torch.tensor([[0.9, 0.3, 0.3], [0.3, 0.3, 0.9]]))
        places = apart(50)
        torch.testing.assert_close(sprites.read(sprites.draw(places)), places, rtol=0, atol=2e-4)


def test_looks_are_learned_from_pictures_alone() -> None:
    torch.manual_seed(0)
    sprites, places = Sprites(2, SIZE), apart(400)
    drawn = draw_pixels(places.view(-1, 2, 2).numpy(), None, PRESETS["paper"])
    pictures = torch.from_numpy(drawn).view(400, -1) / 255.0
    optimizer = torch.optim.Adam(sprites.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        batch = pictures[torch.randint(400, (48,), generator=generator)]
        loss = (sprites.draw(sprites.read(batch).detach()) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        read = sprites.read(pictures)
    error = (read - places).abs()
    assert error.max() < 0.2 / SIZE, "every ball is found, to a fraction of a pixel"
    assert error.mean() < 0.02 / SIZE
