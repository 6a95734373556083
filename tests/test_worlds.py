"""Worlds that are not the billiards table: their physics, pieces of recordings, and the study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.data import Recording, record
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import simulate
from jumpy_mbrl.lab.worlds import simb, study
from jumpy_mbrl.lab.worlds.balls import BallsConfig, BallsVectorEnv, advance
from jumpy_mbrl.lab.worlds.page import AGENTS
from jumpy_mbrl.lab.worlds.sac import ShotsVectorEnv
from jumpy_mbrl.lab.worlds.worlds import WORLDS

BUMPER = BallsConfig(num_balls=1, goal=0, bumpers=((0.5, 0.5, 0.1),))


def test_without_gravity_and_drag_it_is_the_billiards_table() -> None:
    env = BallsVectorEnv(200, BallsConfig(num_balls=3))
    env.reset(seed=0)
    still = np.zeros((200, 2))
    table = TableConfig(num_balls=3, num_frames=21)
    truth = simulate(env.places, env.velocities, still, table)
    seen = np.stack([env.step(still)[0] for _ in range(20)], axis=1)
    np.testing.assert_allclose(seen, truth[:, 1:], atol=1e-6)


def test_a_ball_falls_and_rises_again() -> None:
    config = BallsConfig(num_balls=1, goal=0, gravity=2.0)
    place, velocity = np.array([[[0.5, 0.35]]]), np.zeros((1, 1, 2))
    heights = []
    for _ in range(20):
        place, velocity = advance(place, velocity, config)
        heights.append(place[0, 0, 1])
    t = 0.05 * np.arange(1, 21)  # It takes half a time unit to the floor, and as long back.
    expected = np.where(t <= 0.5, 0.35 - t**2, 0.35 - (1.0 - t) ** 2)
    np.testing.assert_allclose(heights, expected, atol=1e-12)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-7)


def test_a_ceiling_stops_a_rise() -> None:
    config = BallsConfig(num_balls=1, goal=0, gravity=1.0, dt=0.2)
    place, velocity = advance(np.array([[[0.5, 0.8]]]), np.array([[[0.0, 1.0]]]), config)
    meets = 1.0 - np.sqrt(1.0 - 0.2)
    speed, rest = 1.0 - meets, 0.2 - meets
    np.testing.assert_allclose(place[0, 0], [0.5, 0.9 - speed * rest - 0.5 * rest**2])
    np.testing.assert_allclose(velocity[0, 0], [0.0, -speed - rest])


@pytest.mark.parametrize(
    "config", [BallsConfig(gravity=1.0), BallsConfig(drag=0.3), BUMPER, BallsConfig(num_balls=4)]
)
def test_balls_stay_apart_in_their_room(config: BallsConfig) -> None:
    env = BallsVectorEnv(300, config)
    env.reset(seed=1)
    energy = _energy(env)
    for frame in range(44):
        env.step(np.zeros((300, 2)))
        assert env.places.min() >= config.radius - 1e-9
        assert env.places.max() <= 1.0 - config.radius + 1e-9
        between = np.linalg.norm(env.places[:, :, None] - env.places[:, None], axis=3)
        apart = between[:, ~np.eye(config.num_balls, dtype=bool)]
        assert apart.min(initial=1.0) >= 2.0 * config.radius - 1e-9
        kept = np.exp(-2.0 * config.drag * 0.05 * (frame + 1))
        np.testing.assert_allclose(_energy(env), energy * kept, rtol=1e-9)


def _energy(env: BallsVectorEnv) -> Any:
    kinetic = 0.5 * np.square(env.velocities).sum(axis=(1, 2))
    return kinetic + env.config.gravity * env.places[..., 1].sum(axis=1)


def test_the_shot_is_played_once_and_the_goal_pays_once() -> None:
    env = BallsVectorEnv(500)
    first = record(env, 500, 45, hold=41, context_frames=4, seed=5)
    won = first.reward.sum(axis=1)
    assert set(won) == {0.0, 1.0}
    x, y = first.obs[:, 4:, 2], first.obs[:, 4:, 3]
    np.testing.assert_array_equal(won > 0, ((x >= 0.8) & (y <= 0.2)).any(axis=1))


def test_an_episode_ends_and_another_one_begins() -> None:
    env = BallsVectorEnv(2, BallsConfig(num_frames=6))
    env.reset(seed=0)
    ended = [env.step(np.zeros((2, 2)))[3].tolist() for _ in range(6)]
    assert ended == [[False] * 2] * 4 + [[True] * 2, [False] * 2]


def test_what_is_not_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="gravity without drag"):
        BallsConfig(gravity=1.0, drag=0.1)
    with pytest.raises(ValueError, match="gravity without drag"):
        BallsConfig(gravity=1.0, bumpers=((0.5, 0.5, 0.1),))
    wrong: dict[str, Any] = {"gravity": -1.0, "drag": -0.1, "radius": 0.0, "num_balls": 1}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            BallsConfig(**{name: value})
    env = BallsVectorEnv(2, BallsConfig(lead_in=0))
    env.reset(seed=0)
    for shot in (np.full((2, 2), np.nan), np.zeros(2)):
        with pytest.raises(ValueError, match=r"finite actions \(2, 2\)"):
            env.step(shot)


# -- pieces of recordings ------------------------------------------------------------------------


def _counted(n: int = 3, T: int = 13, lengths: Any = None) -> Recording:
    obs = np.arange(n * T, dtype=np.float32).reshape(n, T, 1)
    action, reward = obs + 1.0, obs[:, :-1, 0].astype(np.float64)
    for row, length in enumerate(lengths or ()):
        action[row, length:], reward[row, length - 1 :] = 0.0, 0.0
    return Recording(obs, action, reward, 3, lengths and np.array(lengths))


def test_pieces_overlap_by_the_context_frames() -> None:
    pieces = _counted(1).cut(7)
    assert pieces.context_frames == 3
    assert pieces.length.tolist() == [7, 7, 5]
    assert pieces.obs[..., 0].tolist()[:2] == [list(range(7)), list(range(4, 11))]
    assert pieces.obs[2, :, 0].tolist() == [8, 9, 10, 11, 12, 12, 12]
    assert pieces.action[2, :, 0].tolist() == [9, 10, 11, 12, 13, 0, 0]
    assert pieces.reward[2].tolist() == [8, 9, 10, 11, 0, 0]


def test_pieces_of_episodes_that_end_early() -> None:
    pieces = _counted(3, 13, [13, 8, 3]).cut(7)
    # The second episode's rest, of four frames, is one too; the third is nothing but context.
    assert sorted(pieces.length.tolist()) == [4, 5, 7, 7, 7]
    assert len(_counted().cut(13)) == 3


def test_pieces_that_predict_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="frames"):
        _counted().cut(3)


def test_recordings_one_after_the_other(tmp_path: Path) -> None:
    both = Recording.cat([_counted(1), _counted(2, lengths=[13, 8])])
    assert both.length.tolist() == [13, 13, 8] and both.context_frames == 3
    np.testing.assert_array_equal(both.obs[1:], _counted(2).obs)
    both.save(tmp_path / "both.npz")
    np.testing.assert_array_equal(Recording.load(tmp_path / "both.npz").action, both.action)
    for other in ([], [_counted(), _counted(T=12)]):
        with pytest.raises(ValueError, match="recordings of the same frames"):
            Recording.cat(other)


# -- the study -----------------------------------------------------------------------------------


def test_a_study_of_a_shot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--out={tmp_path / 'out'}", f"--runs-dir={tmp_path / 'runs'}", "--share=0.002"]
    assert study.main([*options, "--worlds", "bumpers"]) == 0
    found = json.loads((tmp_path / "out/worlds.json").read_text())["worlds"]["bumpers"]
    assert set(found) == set(AGENTS)
    assert found["tried"]["mean_return"] >= found["random"]["mean_return"]
    assert found["rnn"]["planned_ticks"] == 41.0 > found["jump"]["planned_ticks"]
    assert all(found[agent]["frames"] == 40 * 45 for agent in ("jump", "rnn", "sac"))
    # What is trained is not trained again, and other results stay.
    assert study.main([*options, "--worlds", "bumpers", "--agents", "jump", "sac"]) == 0
    again = json.loads((tmp_path / "out/worlds.json").read_text())["worlds"]["bumpers"]
    for agent in ("jump", "sac"):
        assert again[agent]["mean_return"] == found[agent]["mean_return"]
    page = (tmp_path / "out/worlds.md").read_text()
    assert page in capsys.readouterr().out + "\n"
    assert page.count("| bumpers |") == 5


def test_a_shot_as_one_step() -> None:
    env = ShotsVectorEnv(WORLDS["bumpers"], 3)
    seen, _ = env.reset(seed=[7, 8, 9])
    assert seen.shape == (3, 8)
    played = record(WORLDS["bumpers"].make(3), 3, 45, hold=41, context_frames=4, seed=7)
    np.testing.assert_array_equal(seen, played.obs[:, :4].reshape(3, 8))
    new, reward, terminated, truncated, infos = env.step(played.action[:, 3])
    np.testing.assert_array_equal(reward, played.reward.sum(axis=1))
    assert terminated.all() and not truncated.any()
    np.testing.assert_array_equal(infos["final_obs"], seen)
    assert not np.array_equal(new, seen)


def test_what_plans_see_is_learned_from_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = WORLDS["pendulum"]
    few: dict[str, Any] = {
        "episodes": 10,
        "planned": 9,
        "plays": 8,
        "steps": 4,
        "piece": 13,
        "frames": 23,
    }
    small = replace(world, **few, jump=replace(world.jump, hidden_size=8, event_size=8))
    monkeypatch.setitem(WORLDS, "pendulum", small)
    options = [f"--out={tmp_path / 'out'}", f"--runs-dir={tmp_path}"]
    assert study.main([*options, "--worlds", "pendulum", "--agents", "jump"]) == 0
    first, both = (Recording.load(tmp_path / f"pendulum/{n}.npz") for n in ("train", "jump-0"))
    assert (len(first.obs), len(both.obs)) == (20, 38)
    np.testing.assert_array_equal(both.obs[:20], first.obs)
    assert not np.isin(both.action[20:], first.action[first.action != 0.0]).any()
    found = json.loads((tmp_path / "out/worlds.json").read_text())["worlds"]["pendulum"]["jump"]
    assert found["frames"] == 19 * 23


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worlds", "moon"], "moon"),
        (["--agents", "me"], "me"),
        (["--share", "0"], "--share"),
    ],
)
def test_a_study_of_nothing_is_refused(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        study.main(options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_can_be_recorded(name: str) -> None:
    world = WORLDS[name]
    if world.needs is not None:
        pytest.importorskip(world.needs)
    env = world.make(4)
    timing: dict[str, Any] = {"hold": world.hold, "context_frames": world.context_frames}
    seen = record(env, 4, world.context_frames + world.horizon, seed=0, **timing)
    env.close()
    jump = world.jump
    assert seen.obs.shape[2] == jump.num_bodies * jump.body_size
    assert seen.action.shape[2] == jump.action_size
    assert abs(seen.obs).max() <= 1.5
    assert world.objective.times[-1] == world.horizon


# -- SimB ----------------------------------------------------------------------------------------


def test_simb_exchanges_what_is_along_the_line_between_two_balls() -> None:
    """The first ball goes right, one pixel a step; overlap begins after it has gone 7 of 10."""
    place = np.array([[[10.0, 30.0], [20.5, 30.0], [40.0, 50.0]]])
    velocity = np.array([[[5.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    film = simb.films_of(place, velocity)[0]
    np.testing.assert_allclose(film[1, :2, 0], [15.0, 20.5])
    np.testing.assert_allclose(film[2, :2, 0], [17.0, 23.5])
    # A wall is at 63; at 61.5 the ball is beyond it, and turns round.
    np.testing.assert_allclose(film[9:13, 1, 0], [58.5, 59.5, 54.5, 49.5])
    np.testing.assert_array_equal(film[:, 2], np.broadcast_to([40.0, 50.0], (100, 2)))


def test_simb_lets_a_pair_meet_once_a_frame() -> None:
    """Two balls that overlap all the time turn at the first of five steps, and so each frame."""
    place = np.array([[[30.0, 30.0], [32.0, 30.0], [50.0, 50.0]]])
    velocity = np.array([[[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]]])
    film = simb.films_of(place, velocity)[0]
    np.testing.assert_allclose(film[:3, :2, 0], [[30.0, 32.0], [29.7, 32.3], [30.0, 32.0]])


def test_films_of_simb() -> None:
    films = simb.make_films(300, [0, 0]) * simb.SIDE
    assert films.shape == (300, 100, 3, 2) and films.dtype == np.float32
    np.testing.assert_array_equal(films, simb.make_films(300, [0, 0]) * simb.SIDE)
    first = np.linalg.norm(np.diff(films[:, :2], axis=1)[:, 0], axis=2)
    assert (first > 0).sum(axis=1).min() == 1
    assert 0.75 < films.min() < 2.0 and 61.0 < films.max() < 62.25  # 63 - 2, and 1.2 beyond.
    moving = np.linalg.norm(np.diff(films, axis=1), axis=3) > 1e-3
    # The published program: 0.52 of balls move, of 40 films.
    assert abs(moving.mean() - 0.52) < 0.03


def test_errors_of_simb_count_squared_distances_in_both_halves() -> None:
    films = simb.make_films(3, [0, 1])

    def imagine(shown: Any) -> Any:
        assert shown.shape == (171, 4, 3, 2)
        windows = np.lib.stride_tricks.sliding_window_view(films, 44, axis=1)
        later = np.moveaxis(windows, -1, 2).reshape(171, 44, 3, 2)[:, 4:].copy()
        later[:, :20, :, 0] += 0.1
        later[:, 20:, 2] += 0.3
        return later

    found = simb.errors(imagine, films)
    assert found["first"] == pytest.approx(10.0, rel=1e-4)
    assert found["second"] == pytest.approx(60.0, rel=1e-4)
    assert found["first_se"] == pytest.approx(0.0, abs=1e-4)


def test_a_study_of_simb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--out={tmp_path / 'out'}", f"--runs-dir={tmp_path / 'runs'}", "--share=0.003"]
    assert simb.main(options) == 0
    found = json.loads((tmp_path / "out/simb.json").read_text())["models"]
    assert set(found) == {"straight lines", "RelationalJump", "RNN"}
    assert all(0.0 < row["first"] < row["second"] for row in found.values())
    page = (tmp_path / "out/simb.md").read_text()
    assert (
        page in capsys.readouterr().out + "\n"
        and "| RPIN | pictures and boxes | 1,000 | 2.55 |" in page
    )
    # Results of a model that is not asked for stay.
    assert simb.main([*options, "--models", "RNN"]) == 0
    assert json.loads((tmp_path / "out/simb.json").read_text())["models"] == found
    for wrong in (["--models", "me"], ["--share", "2"]):
        with pytest.raises(ValueError, match=wrong[1]):
            simb.main(wrong)
