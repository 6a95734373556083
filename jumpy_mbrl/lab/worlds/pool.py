"""Somebody else's billiards: pooltool's physics, and the game *sum to three* on its small table.

Balls slide, roll and spin; cushions take speed and give spin, which is not observed. A table of
0.61 by 1.22 metres without pockets, a cue ball (ball 0) and an object ball (ball 1). A shot scores
if the balls touch, and the contacts of both with cushions, also those before, are three in all,
until they lie still. (Rule, table and balls are those of pooltool's ``GameType.SUMTOTHREE``.)

``opendilab/LightZero`` plays the same game otherwise: ten shots from where the balls have come to
lie, the first from fixed places, seen when at rest; an action there is the cue's speed and the
angle at which the object ball is cut, so that nearly all shots hit it (``aimed=True`` here).

Letters: n tables, T frames, B episodes, S candidates, K times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.checks import check_count, check_flag, check_number

Floats = NDArray[np.float64]
LENGTH, WIDTH, RADIUS = 1.22, 0.61, 0.03048
"""Of the table and of a ball, in metres."""
_BALLS = "cue", "object"
_WANTED = 3
_SLOWEST, _FASTEST, _WIDEST_CUT = 0.5, 3.0, 70.0
"""LightZero's bounds: of the cue's speed, in metres per second, and of the cut, in degrees."""
_MOST_EVENTS = 200
_TURN = 1e-4
"""Degrees."""
_SHORT = 0.9
"""A ball that is shot slows down: if it moves less than this share of its next move, it was turned.
"""
_STIRRED = 0.01
"""Longer sides that the object ball moves if it was touched; imagined balls drift."""


def _pooltool() -> ModuleType:
    try:
        import pooltool
    except ImportError:
        raise ImportError(
            "this world needs pooltool, which is not installed; pip install 'jumpy-mbrl[pool]'"
        ) from None
    return pooltool  # type: ignore[no-any-return, unused-ignore]


@dataclass(frozen=True)
class PoolConfig:
    """A shot, and how it is seen. `ValueError` for settings that are none.

    Attributes:
        max_speed: of the cue, in metres per second, that an action of 1 has along each axis. The
            ball is faster by 1.46, as the cue is heavier; above 1.5 few shots have so few contacts.
        aimed: an action is the cue's speed and the cut, as in LightZero, and not its velocity.
        dt: seconds between two frames; a ball then moves by at most a tenth of the longer side.
        lead_in: frames before the shot; the balls lie still.
        num_frames: of an episode. All but a few shots that score are over in 5.4 seconds; the rest
            is counted too, and not seen.
    """

    max_speed: float = 1.5
    aimed: bool = False
    dt: float = 0.05
    lead_in: int = 3
    num_frames: int = 112

    def __post_init__(self) -> None:
        check_number("max_speed", self.max_speed, 0.0, open_low=True)
        check_flag("aimed", self.aimed)
        check_number("dt", self.dt, 0.0, open_low=True)
        check_count("num_frames", self.num_frames, check_count("lead_in", self.lead_in, 0) + 2)


class PoolVectorEnv(VectorEnv[Floats, Floats, NDArray[Any]]):
    """n tables with one shot each, played at frame ``lead_in``; other actions count for nothing.

    Observations are the centres, (n, 4), in units of the longer side (0 to 0.5, and 0 to 1).
    Actions, (n, 2), are from -1 to 1; one of zeros is no shot, unless ``aimed``. Episodes go on to
    their last frame, and there are truncated; the step to it has the reward, 1 if the shot scored.
    `ValueError` for actions of another shape, or that are not finite; those beyond are clipped.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # type: ignore[misc]

    def __init__(self, num_envs: int, config: PoolConfig | None = None) -> None:
        _pooltool()
        self.num_envs = check_count("num_envs", num_envs)
        self.config = PoolConfig() if config is None else config
        self.single_observation_space = Box(0.0, 1.0, (4,), np.float64)
        self.single_action_space = Box(-1.0, 1.0, (2,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._frame = 0

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Places balls at random, apart from each other."""
        super().reset(seed=seed)
        self._frame = 0
        places = np.zeros((self.num_envs, 2, 2))
        waiting = np.arange(self.num_envs)
        while len(waiting):
            high = np.array([WIDTH, LENGTH]) - RADIUS
            places[waiting] = self.np_random.uniform(RADIUS, high, (len(waiting), 2, 2))
            gap = np.linalg.norm(places[:, 0] - places[:, 1], axis=1) - 2.0 * RADIUS
            waiting = np.flatnonzero(gap <= 0.0)
        self._film = np.repeat(places[:, None], self.config.num_frames, axis=1)
        self._scores = np.zeros(self.num_envs)
        return self._observe(), {}

    def step(
        self, actions: Floats
    ) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays a frame; after the last one it begins new episodes, whatever the actions."""
        config, none = self.config, np.zeros(self.num_envs, dtype=bool)
        if self._frame == config.num_frames - 1:
            return self.reset()[0], np.zeros(self.num_envs), none, none.copy(), {}
        if self._frame == config.lead_in:
            self._play(np.asarray(actions, dtype=np.float64))
        self._frame += 1
        is_last = self._frame == config.num_frames - 1
        reward = self._scores if is_last else np.zeros(self.num_envs)
        return self._observe(), reward.copy(), none, np.full(self.num_envs, is_last), {}

    def _play(self, actions: Floats) -> None:
        if actions.shape != self.action_space.shape or not np.isfinite(actions).all():
            raise ValueError(
                f"expected finite actions of shape {self.action_space.shape}, got {actions}"
            )
        for row, action in enumerate(actions.clip(-1.0, 1.0)):
            after = self._film[row, self.config.lead_in :]
            after[:], cushions, touches = shoot(after[0], action, self.config, len(after))
            self._scores[row] = float(touches > 0 and cushions == _WANTED)

    def _observe(self) -> Floats:
        return self._film[:, self._frame].reshape(self.num_envs, 4) / LENGTH


def shoot(
    places: Floats, action: Floats, config: PoolConfig, frames: int
) -> tuple[Floats, int, int]:
    """Simulates a shot from places (2, 2) in metres: where the balls are at so many frames, of
    which the first is that of the shot, (T, 2, 2), and how often they touch cushions, each other.
    """
    pt = _pooltool()
    if config.aimed:
        speed = _SLOWEST + 0.5 * (action[0] + 1.0) * (_FASTEST - _SLOWEST)
        angle = pt.aim.at_ball(_system(places), _BALLS[1], cut=float(_WIDEST_CUT * action[1]))
    else:
        speed = config.max_speed * np.hypot(*action)
        angle = np.degrees(np.arctan2(action[1], action[0]))
    if speed == 0.0:
        return np.repeat(places[None], frames, axis=0), 0, 0
    try:
        system = _simulated(places, speed, angle, config.dt)
    except ValueError:  # It cannot tell when balls meet that slow down in just the same way.
        system = _simulated(places, speed, angle + _TURN, config.dt)
    film = np.stack([_path(system.balls[name].history_cts, frames) for name in _BALLS], axis=1)
    film[0] = places  # pooltool moves touching balls apart by a hair, in its past too
    kinds = [event.event_type for event in system.events]
    cushions, touches = pt.EventType.BALL_LINEAR_CUSHION, pt.EventType.BALL_BALL
    return film, kinds.count(cushions), kinds.count(touches)


def _system(places: Floats) -> Any:
    """Pooltool's table with balls at rest at places (2, 2)."""
    pt = _pooltool()
    table = pt.Table.from_game_type(pt.GameType.SUMTOTHREE)
    balls = pt.get_rack(pt.GameType.SUMTOTHREE, table)
    for name, place in zip(_BALLS, places, strict=True):
        balls[name].state.rvw[0, :2] = place
    return pt.System(cue=pt.Cue(cue_ball_id=_BALLS[0]), table=table, balls=balls)


def _simulated(places: Floats, speed: float, angle: float, dt: float) -> Any:
    """The same after a shot, its history known every dt seconds."""
    pt, system = _pooltool(), _system(places)
    system.cue.set_state(V0=float(speed), phi=float(angle))
    with np.errstate(divide="ignore", invalid="ignore"):  # in pooltool, of balls that meet head-on
        pt.simulate(system, inplace=True, max_events=_MOST_EVENTS)
        pt.continuize(system, dt=dt, inplace=True)
    return system


def _path(history: Any, frames: int) -> Floats:
    """Places (T, 2) at all frames; the last in the history is where the ball lies at the end."""
    path = np.stack([state.rvw[0, :2] for state in history])
    at_end = np.minimum(np.arange(frames), len(path) - 1)
    return path[at_end]


def sum_to_three(obs: Tensor) -> Tensor:
    """Scores imagined frames (B, S, K, 4), the first of them at the shot, by the rule: (B, S).

    The count of contacts is read off frames. It has no gradient, but how close it is to another
    has: a shot that scores is the better, the further from all cushions the balls come to lie, in
    longer sides; one that does not is the better, the nearer. Each contact too many or too few
    costs 1, and a miss 3 and the gap between the balls.
    """
    film = obs.unflatten(3, (2, 2))  # (B, S, K, ball, axis)
    wrong = (_cushions(film.detach()) - _WANTED).abs().to(obs)
    nearest = _gaps(film[:, :, -1]).amin(dim=(2, 3))
    scores = torch.where(wrong > 0.0, -nearest - wrong, nearest)
    cue, ball = film.unbind(dim=3)
    touches = (ball - ball[:, :, :1]).detach().norm(dim=3).amax(dim=2) > _STIRRED
    apart = (cue - ball).square().sum(dim=3).amin(dim=2)
    return torch.where(touches, scores, -3.0 - wrong - (apart + 1e-12).sqrt())


def _cushions(film: Tensor) -> Tensor:
    """How often balls touch cushions in films (B, S, K, ball, axis), as seen in them: (B, S).

    Where a ball's way across turns round, no further from a cushion than it moves in a frame. The
    cue ball may touch one before the first frame after the shot: then it moves less up to that
    frame than to the next, and away from a cushion that was near.
    """
    moves, gap = film.diff(dim=2), _gaps(film)
    outwards = film - _far(film) / 2.0
    before, after = moves[:, :, :-1], moves[:, :, 1:]
    turns = (before * after < 0.0) & (before * outwards[:, :, 1:-1] > 0.0)
    turns &= gap[:, :, 1:-1] <= torch.maximum(before.abs(), after.abs())
    first, second = moves[:, :, 0, 0], moves[:, :, 1, 0]
    at_once = (first * second > 0.0) & (first.abs() < _SHORT * second.abs())
    at_once &= (second * outwards[:, :, 0, 0] < 0.0) & (gap[:, :, 0, 0] <= second.abs())
    return turns.sum(dim=(2, 3, 4)) + at_once.sum(dim=2)


def _gaps(places: Tensor) -> Tensor:
    """Between balls and the nearest cushion of each axis, in longer sides; at least 0."""
    return (torch.minimum(places, _far(places) - places) - RADIUS / LENGTH).clamp_min(0.0)


def _far(places: Tensor) -> Tensor:
    return places.new_tensor([WIDTH, LENGTH]) / LENGTH


def times_of(config: PoolConfig) -> Sequence[float]:
    """When the objective sees a shot: from its frame to the last one."""
    return range(config.num_frames - config.lead_in)
