"""Sum to three, in pooltool's physics."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jumpy_mbrl.data import record
from jumpy_mbrl.lab.worlds import pool
from jumpy_mbrl.lab.worlds.pool import (
    LENGTH,
    RADIUS,
    WIDTH,
    Floats,
    PoolConfig,
    PoolVectorEnv,
    shoot,
)
from jumpy_mbrl.lab.worlds.worlds import WORLDS, installed

pytest.importorskip("pooltool", reason="pooltool (the extra 'pool') is missing")

SHORT = PoolConfig(num_frames=60)
ALONE, CUT = [[0.1, 0.9], [0.5, 0.6]], [[WIDTH / 2.0, 0.3], [WIDTH / 2.0 + 0.03, 0.7]]


def score_of(film: Floats) -> float:
    return float(pool.sum_to_three(torch.from_numpy(film.reshape(1, 1, -1, 4) / LENGTH)))


@pytest.mark.parametrize(
    "places, speed, cushions, touches",
    [
        (ALONE, 0.0, 0, 0),
        (ALONE, 0.4, 1, 0),
        (ALONE, 1.0, 2, 0),
        (ALONE, 2.0, 3, 0),  # three, but the balls never touch
        (CUT, 0.4, 0, 1),
        (CUT, 0.6, 3, 1),  # the one that scores
        (CUT, 0.8, 4, 1),
    ],
)
def test_contacts_of_shots_straight_ahead(
    places: list[list[float]], speed: float, cushions: int, touches: int
) -> None:
    config = PoolConfig(max_speed=2.0)
    film, *counts = shoot(np.array(places), np.array([0.0, speed / 2.0]), config, 112)
    assert counts == [cushions, touches]
    assert film.shape == (112, 2, 2)
    np.testing.assert_array_equal(film[0], places)
    assert (film >= RADIUS - 1e-9).all()
    assert (film <= np.array([WIDTH, LENGTH]) - RADIUS + 1e-9).all()
    assert (score_of(film) > 0.0) == (cushions == 3 and touches > 0)


def test_a_shot_scores_by_the_rule_alone() -> None:
    """Three contacts with cushions, and one of the balls at least."""
    env = PoolVectorEnv(400)
    counts: list[tuple[int, int]] = []
    plain: Callable[..., tuple[Floats, int, int]] = pool.shoot
    with pytest.MonkeyPatch.context() as patch:

        def counted(*args: object) -> tuple[Floats, int, int]:
            film, cushions, touches = plain(*args)
            counts.append((cushions, touches))
            return film, cushions, touches

        patch.setattr(pool, "shoot", counted)
        played = record(env, 400, 112, hold=108, context_frames=4, seed=5)
    cushions, touches = np.array(counts).T
    won = (cushions == 3) & (touches > 0)
    np.testing.assert_array_equal(played.reward[:, -1], won)
    assert not played.reward[:, :-1].any() and 0.03 < won.mean() < 0.2
    # Frames up to the shot are the same, and after it the objective reads the count off them.
    assert (played.obs[:, :4] == played.obs[:, :1]).all()
    film = torch.from_numpy(played.obs[:, 3:].reshape(400, 109, 2, 2))[None]
    assert (pool._cushions(film)[0].numpy() == cushions).mean() > 0.95
    scores = pool.sum_to_three(film.flatten(3))[0].numpy()
    assert won[scores > 0.0].mean() > 0.9 and (scores[won] > 0.0).mean() > 0.8


def test_the_same_seed_is_the_same_game() -> None:
    one, two, other = (
        record(PoolVectorEnv(3, SHORT), 6, 60, hold=56, context_frames=4, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.obs, two.obs)
    assert not (one.obs[:, 0] == other.obs[:, 0]).any()
    assert (one.obs[:3, 0] != one.obs[3:, 0]).all()  # the second round is another


def test_balls_lie_apart_and_within() -> None:
    obs = PoolVectorEnv(2000).reset(seed=0)[0].reshape(-1, 2, 2) * LENGTH
    assert (np.linalg.norm(obs[:, 0] - obs[:, 1], axis=1) > 2.0 * RADIUS).all()
    assert (obs >= RADIUS).all() and (obs <= np.array([WIDTH, LENGTH]) - RADIUS).all()


def test_lengths_are_those_of_pooltool() -> None:
    import pooltool as pt

    table = pt.Table.from_game_type(pt.GameType.SUMTOTHREE)
    balls = pt.get_rack(pt.GameType.SUMTOTHREE, table)
    assert (table.w, table.l) == pytest.approx((WIDTH, LENGTH))
    assert [ball.params.R for ball in balls.values()] == pytest.approx([RADIUS, RADIUS])


def test_an_aimed_shot_hits_the_object_ball() -> None:
    places = np.array([[0.2, 0.3], [0.4, 0.7]])
    for cut in (-1.0, 0.0, 1.0):
        _, _, touches = shoot(places, np.array([0.0, cut]), PoolConfig(aimed=True), 60)
        assert touches


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"num_frames": 4}, "num_frames"),
        ({"aimed": 1}, "aimed"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PoolConfig(**settings)  # type: ignore[arg-type]
    env = PoolVectorEnv(1, PoolConfig(lead_in=0))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected finite actions of shape"):
        env.step(np.full((1, 2), np.nan))


def test_scores_have_gradients_and_rank_by_the_rule() -> None:
    """Along a side: a ball that the shot moves, or not, and cushions that are touched by hand."""

    def line(*stops: float) -> Floats:
        return np.concatenate([np.linspace(a, b, 9)[:-1] for a, b in itertools.pairwise(stops)])

    low, high = RADIUS + 1e-3, LENGTH - RADIUS - 1e-3
    ways = [
        line(0.3, low, high, low, 0.5),  # 3 contacts
        line(0.3, 0.4, high, low, 0.5),  # 2
        line(0.3, low, high, low, high),  # 3, and at the next cushion when it ends
    ]
    films = np.full((3, 32, 2, 2), 0.3)
    films[:, :, 0, 1] = ways
    films[:, 16:, 1, 0] += 0.1  # the object ball was moved
    obs = torch.from_numpy(films.reshape(1, 3, 32, 4) / LENGTH).requires_grad_()
    scores = pool.sum_to_three(obs)[0]
    assert scores[0] > scores[2] > 0.0 > scores[1] > -2.0
    (gradient,) = torch.autograd.grad(scores.sum(), obs)
    assert gradient.isfinite().all() and (gradient[0].abs().sum(dim=(1, 2)) > 0.0).all()
    films[:, :, 1, 0] = 0.3
    assert score_of(films[0]) < -3.0  # It was not touched.


def test_without_pooltool_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooltool", None)
    with pytest.raises(ImportError, match=r"jumpy-mbrl\[pool\]"):
        PoolVectorEnv(1)


def test_worlds_without_their_package_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"pooltool", "pooltool-aimed"} <= set(installed())
    monkeypatch.setattr("jumpy_mbrl.lab.worlds.worlds.find_spec", lambda _: None)
    assert set(WORLDS) - set(installed()) == {"pooltool", "pooltool-aimed"}
