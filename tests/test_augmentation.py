"""Pictures that are spoilt while a model learns to see."""

from __future__ import annotations

import pytest
import torch

from jumpy_mbrl.data import augmentation


def pictures() -> torch.Tensor:
    """400 pictures (400, 8 * 8 * 3) of a bright square on plain ground, not always at one place."""
    seen = torch.full((400, 8, 8, 3), 0.4)
    for row, each in enumerate(seen):
        each[row % 5 : row % 5 + 3, row // 5 % 5 : row // 5 % 5 + 3] = 0.95
    return seen.flatten(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_picture_is_spoilt_in_its_own_way_and_the_same_for_the_same_seed() -> None:
    clean = pictures()
    kept = clean.clone()
    seen = augmentation.spoilt(clean, 8, generator())
    assert torch.equal(clean, kept)
    assert seen.shape == clean.shape and seen.min() >= 0.0 and seen.max() <= 1.0
    assert torch.equal(seen, augmentation.spoilt(clean, 8, generator()))
    assert not torch.equal(seen, augmentation.spoilt(clean, 8, generator(1)))
    untouched = (seen == clean).all(dim=1).float().mean()
    assert 0.02 < untouched < 0.09, "0.5 x 0.3 x 0.8 x 0.4 of them"


def test_ground_is_tinted_and_what_moves_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        augmentation, "_SHARES", {"ground": 1.0, "light": 0.0, "blur": 0.0, "noise": 0.0}
    )
    clean = pictures().view(400, 64, 3)
    seen = augmentation.spoilt(clean.flatten(1), 8, generator()).view_as(clean)
    moving = clean == 0.95
    torch.testing.assert_close(seen[moving], clean[moving])
    tints = (seen - clean)[:, -1]
    assert tints.std(dim=0).min() > 0.15 and tints.abs().max() <= 0.3


def test_light_and_blur_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, none = pictures(), dict.fromkeys(augmentation._SHARES, 0.0)
    found = {}
    for what in ("light", "blur", "noise"):
        monkeypatch.setattr(augmentation, "_SHARES", {**none, what: 1.0})
        found[what] = augmentation.spoilt(clean, 8, generator())
    light = found["light"][:, -1] / clean[:, -1]
    assert 0.55 <= light.min() < 0.65 and 1.35 < light.max() <= 1.45
    square = found["blur"].view(400, 4, 2, 4, 2, 3)
    torch.testing.assert_close(square, square.mean(dim=(2, 4), keepdim=True).expand_as(square))
    torch.testing.assert_close(found["blur"].mean(dim=1), clean.mean(dim=1))
    noise = (found["noise"] - clean)[clean < 0.5].std()
    assert 0.025 < noise < 0.04, "0.06 times what is uniform: 0.035"
