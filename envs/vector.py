"""Native vector environments: many tables in one, made by `gym.make_vec`.

They return, bit for bit, what `gym.vector.SyncVectorEnv` returns for as many single environments
with the same seeds and actions, and are a great deal faster, most of all with the `fast` extra.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.checks import check_choice, check_count
from jumpy_mbrl.envs import physics, rules
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.limit import check_limit
from jumpy_mbrl.envs.pixels import Frame
from jumpy_mbrl.envs.rules import Floats, Observation, Task
from jumpy_mbrl.envs.variation import FACTOR_OPTIONS

GymVectorEnv = VectorEnv[Observation, Floats, NDArray[Any]]
"""Named by all classes here: skrl knows Gymnasium's environments by their direct bases."""

Rows = NDArray[np.intp]
Result = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]

_MUTABLE = (np.ndarray, list)


class Tables:
    """B tables in play. (`billiards.BilliardsEnv` plays one, by the same rules.)

    Attributes:
        task: what is played.
        x: (B, 2N) positions.
        v: (B, 2N) velocities.
        target: (B, 4).
        frame: (B,) numbers of the frames.
        walls: (B,) contacts with walls so far.
        hits: (B,) contacts between balls so far.
    """

    def __init__(self, task: Task, count: int, backend: physics.Backend = "auto") -> None:
        self.task = task
        self.backend: physics.Backend = backend
        self.x, self.v = np.zeros((2, count, 2 * task.config.num_balls))
        self.target = np.tile(np.array(task.config.target), (count, 1))
        self.frame, self.walls, self.hits = np.zeros((3, count), dtype=np.int64)
        self._background: Frame = np.empty((0, 0, 0), dtype=np.uint8)
        if task.has_pixels:
            self._background = task.painter.background(task.config.target)
        self._backgrounds = [self._background] * count

    def start(
        self,
        rows: Rows,
        rngs: Sequence[np.random.Generator],
        options: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Starts episodes on the tables with the numbers `rows`, with one generator, and one set of
        options if any, for each; errors are those of `Task.start_table`, and leave all alone."""
        started: tuple[Any, ...]
        if options is None:
            started = self.task.start_tables(rngs)
        else:
            pairs = zip(rngs, options, strict=True)
            started = tuple(zip(*(self.task.start_table(*pair) for pair in pairs), strict=True))
        self.x[rows], self.v[rows], self.target[rows] = started
        for counter in (self.frame, self.walls, self.hits):
            counter[rows] = 0
        if self.task.has_pixels:
            for row in rows.tolist():
                shown = tuple(self.target[row].tolist())
                if shown == self.task.config.target:
                    self._backgrounds[row] = self._background
                else:
                    self._backgrounds[row] = self.task.painter.background(shown)

    def play(self, actions: NDArray[np.float64], rows: Rows | None = None) -> Result:
        """Plays one frame on the tables with the numbers `rows`, all by default, with actions
        (B, 2) in [-1, 1]: of all tables, (B,) each, the reward, whether the object ball reached the
        target, and whether the game is over; zero and False for those not played on.
        `RuntimeError` as by `advance_many`: then shots have been played, and tables have moved."""
        task, config = self.task, self.task.config
        shot = self.frame >= config.lead_in
        played = np.ones_like(shot)
        if rows is not None:
            played[:] = False
            played[rows] = True
            shot &= played
        before = self._distance() if task.dense else None
        due = shot & (self.frame < task.shots_end)
        if due.any():
            pushed = np.flatnonzero(due)
            if task.line:
                physics.place_many(self.x, self.v, actions, config, pushed, self.backend)
            else:
                physics.shoot_many(self.v, actions, config, pushed)
        physics.advance_many(self.x, self.v, self.walls, self.hits, config, rows, self.backend)
        self.frame += played
        inside = rules.on_target(*self._object_ball, self.target.T)
        success, over = task.judge(shot, self.frame, inside)
        reward = success.astype(np.float64)
        if before is not None:
            reward[shot] += (before - self._distance())[shot]
        return reward, success, over & played

    def observe(self, rows: Rows | None = None) -> Observation:
        """Returns the observations of the tables with the numbers `rows`, of all by default."""
        if rows is None:
            state = (self.x, self.v, self.target, self.frame)
            return self.task.observe(*state, self._backgrounds)
        return self.observe_at(self.x[rows], self.v[rows], self.frame[rows], rows)

    def observe_at(
        self, x: NDArray[np.float64], v: NDArray[np.float64], frame: NDArray[np.int64], rows: Rows
    ) -> Observation:
        """Returns the observations of other frames of the episodes on the tables `rows`."""
        backgrounds = [self._backgrounds[row] for row in rows.tolist()]
        return self.task.observe(x, v, self.target[rows], frame, backgrounds)

    def info(
        self,
        success: NDArray[np.bool_],
        rows: Rows | None = None,
        played: NDArray[np.int64] | None = None,
    ) -> dict[str, Any]:
        """Returns what environments tell beside the observations, copies of shape (B, ...), or only
        of the tables with the numbers `rows`; see `Task.info`."""
        some: Any = slice(None) if rows is None else rows
        walls, hits = self.walls[some].copy(), self.hits[some].copy()
        steps = None if played is None else played[some].copy()
        moment = (self.x[some], self.v[some], self.frame[some])
        return self.task.info(*moment, success[some], walls, hits, steps)

    @property
    def _object_ball(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ball = self.task.object_ball
        return self.x[:, ball], self.x[:, ball + 1]

    def _distance(self) -> NDArray[np.float64]:
        far: NDArray[np.float64] = rules.distance(*self._object_ball, self.target.T, np.sqrt)
        return far


class BilliardsVectorEnv(GymVectorEnv):
    """Many tables, played frame by frame or by whole shots.

    Args:
        num_envs: number of tables B.
        max_episode_steps: truncates episodes after as many steps, but not those that terminate;
            None or -1, as in `gym.make`, for never. `gym.make_vec` gives the registered limit by
            default.
        autoreset_mode: `AutoresetMode.NEXT_STEP` (default), `SAME_STEP` or `DISABLED`, or its value
            ("NextStep", ...). In `SAME_STEP`, `infos` holds `final_obs` and `final_info` of the
            episodes that ended.
        render_mode: None or "rgb_array": `render` returns one picture for each table.
        backend: what moves the balls: "numba", "python", or "auto": numba where it is installed.
        arguments: those of the single environment.

    `reset(seed=...)` takes one seed, for tables with seed, seed + 1, ..., or a list of them;
    `reset(options=...)` takes the options of the single environment, for all tables, or with one
    axis more in front, for each; and `reset_mask`, (B,) bool, to reset some tables only.

    `reset` and `step` are all or nothing: an error leaves every table, counter and generator as it
    was. A bad argument is a `ValueError`, by name, and `backend="numba"` where it is not installed
    an `ImportError`.

    Attributes:
        by_shots: whether one step is a whole shot; see `BilliardsEnv`.
        on_line: whether the game is that on a line.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # an instance attribute in gym
        "render_modes": ["rgb_array"],
        "render_fps": 20,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    by_shots: ClassVar[bool] = False
    on_line: ClassVar[bool] = False

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        backend: physics.Backend = "auto",
        **arguments: Any,
    ) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.task = task = self._make_task(arguments)
        self.num_envs = check_count("num_envs", num_envs)
        self.max_episode_steps = max_episode_steps
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}  # type: ignore[misc]
        self.render_mode = render_mode
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.single_observation_space = task.observation_space(self._depth)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

        count, size = self.num_envs, 2 * task.config.num_balls
        self._tables = Tables(task, count, physics.resolve_backend(backend))
        self._rngs: list[np.random.Generator | None] = [None] * count
        self._seeds: list[int] = [-1] * count
        self._elapsed, self._played = np.zeros((2, count), dtype=np.int64)
        self._started, self._ended = np.zeros((2, count), dtype=bool)
        # The last frames of each table, of which frame k lies at k modulo their number.
        self._recent = np.zeros((2, self._depth, count, size) if self.by_shots else 0)

    @property
    def config(self) -> TableConfig:
        """The table."""
        return self.task.config

    @property
    def max_episode_steps(self) -> int | None:
        """After how many steps episodes are truncated; None for never."""
        return self._max_episode_steps

    @max_episode_steps.setter
    def max_episode_steps(self, limit: int | None) -> None:
        limit = None if limit == -1 else limit
        if limit is not None:
            check_count("max_episode_steps", limit)
        check_limit(limit, self._steps_to_win())
        self._max_episode_steps = limit

    @property  # type: ignore[misc]  # that of gym can be set
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the tables, as in `SyncVectorEnv`."""
        return tuple(self._rng(row) for row in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the tables, as in `SyncVectorEnv`."""
        _ = self.np_random
        return tuple(self._seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts episodes: see the class for `seed` and `options`; `ValueError` for a list of
        another number of seeds, an unknown option, or an impossible table or target."""
        given = dict(options or {})
        mask = self._read_mask(given.pop("reset_mask", None))
        if not (self._started | mask).all():
            raise ResetNeeded("call reset() of all environments before one with a reset_mask")
        rows = np.flatnonzero(mask)
        seeds = self._read_seeds(seed)
        split = self._split_options(given, rows) if given else None
        with self._all_or_nothing():
            for row in rows.tolist():
                if seeds[row] is not None:
                    self._rngs[row], self._seeds[row] = seeding.np_random(seeds[row])
            self._begin(rows, split)
        self._started |= mask
        infos = self._infos(np.zeros(self.num_envs, dtype=bool))
        if len(rows) < self.num_envs:
            infos = _only(infos, rows)
        return self._observe(), _with_masks(infos, mask.copy())

    def step(
        self, actions: Floats
    ) -> tuple[
        Observation,
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Plays one step on every table, or starts the next episode where `autoreset_mode` says.

        `ValueError` unless the actions are finite numbers of shape (B, 2); `ResetNeeded` before the
        first `reset`, or, in mode `DISABLED`, on an ended episode; `RuntimeError`, naming the
        tables, where more contacts follow than one frame may have.
        """
        if not self._started.all():
            raise ResetNeeded("call reset() before step(): no episode is running")
        waiting = np.flatnonzero(self._ended)
        if len(waiting) and self.autoreset_mode == AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"call reset(options={{'reset_mask': ...}}) before step(): the episodes of the "
                f"environments {waiting.tolist()} have ended"
            )
        rows = np.flatnonzero(~self._ended) if len(waiting) else None
        checked = _read_actions(actions, self.num_envs, rows)
        with self._all_or_nothing():
            rewards, successes, terminations = self._play(checked, rows)
            self._elapsed += 1
            if len(waiting):
                self._begin(waiting)
            truncations = terminations & ~successes & self.task.truncate_lost
            terminations = terminations & ~truncations
            if self.max_episode_steps is not None:
                truncations |= (self._elapsed >= self.max_episode_steps) & ~terminations
            self._ended = terminations | truncations
            observations = self._observe()
            infos = self._infos(successes)
            finals: dict[str, Any] = {}
            if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
                finals = self._restart(observations, infos)
        infos = _with_masks(infos, np.ones(self.num_envs, dtype=bool)) | finals
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Returns one picture, (512, 512, 3) uint8, for each table; None without a render mode.
        `ResetNeeded` before the first `reset`."""
        if self.render_mode is None:
            return None
        if not self._started.all():
            raise ResetNeeded("call reset() before render(): there is no table to show")
        from jumpy_mbrl.envs import rendering

        tables = self._tables
        return tuple(
            rendering.draw_table(
                x.reshape(-1, 2), tuple(target.tolist()), radius=self.config.radius
            )
            for x, target in zip(tables.x, tables.target, strict=True)
        )

    def _restart(self, observations: Observation, infos: dict[str, Any]) -> dict[str, Any]:
        """Starts the next episode where one ended, writes how it begins over how the old one ended,
        and returns the latter as infos."""
        ended, rows = self._ended.copy(), np.flatnonzero(self._ended)
        final_obs = np.full(self.num_envs, None, dtype=object)
        last = _map(itemgetter(rows), observations)
        for k, row in enumerate(rows.tolist()):
            final_obs[row] = _map(itemgetter(k), last)
        final_info = _with_masks(_only(infos, rows), ended)
        self._begin(rows)
        _overwrite(observations, rows, self._observe(rows))
        _overwrite(infos, rows, self._infos(np.zeros_like(ended), rows))
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended,
        }

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Puts all arrays and lists back as they were if what is done inside fails."""
        owners = (vars(self), vars(self._tables))
        kept = [
            {name: value.copy() for name, value in owner.items() if isinstance(value, _MUTABLE)}
            for owner in owners
        ]
        try:
            yield
        except BaseException:
            for owner, values in zip(owners, kept, strict=True):
                owner.update(values)
            raise

    def _begin(self, rows: Rows, options: list[dict[str, Any]] | None = None) -> None:
        """Starts episodes on some tables. Generators are put back if that fails."""
        rngs = [self._rng(row) for row in rows.tolist()]
        # To look at a state takes as long as to draw a table.
        sure = self.task.roomy and options is None and not self.by_shots
        states = [] if sure else [rng.bit_generator.state for rng in rngs]
        try:
            self._deal(rows, rngs, options)
        except BaseException:
            for rng, state in zip(rngs, states, strict=False):
                rng.bit_generator.state = state
            raise

    # What a subclass may do otherwise

    def _make_task(self, arguments: dict[str, Any]) -> Task:
        if self.by_shots and "max_shots" in arguments:
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument 'max_shots'")
        return rules.line_task(**arguments) if self.on_line else rules.plane_task(**arguments)

    def _steps_to_win(self) -> int:
        """How many steps an episode has to have for one of them to win it."""
        return 1 if self.by_shots else self.task.steps_to_win

    @property
    def _depth(self) -> int:
        """Number of frames in an observation."""
        return self.config.context_frames if self.by_shots else 1

    def _deal(
        self, rows: Rows, rngs: list[np.random.Generator], options: list[dict[str, Any]] | None
    ) -> None:
        """Starts episodes on some tables, with a generator for each."""
        self._tables.start(rows, rngs, options)
        self._elapsed[rows] = 0
        self._ended[rows] = False
        if self.by_shots:
            self._watch(rows)
            for _ in range(self.config.lead_in):
                self._tables.play(np.zeros((self.num_envs, 2)), rows)
                self._watch(rows)
            self._played[rows] = self.config.lead_in

    def _play(self, actions: NDArray[np.float64], rows: Rows | None) -> Result:
        """Plays a step on some tables, or all: rewards, successes and terminations of all."""
        if not self.by_shots:
            return self._tables.play(actions, rows)
        tables = self._tables
        rows = np.arange(self.num_envs) if rows is None else rows
        rewards = np.zeros(self.num_envs)
        successes, terminations = np.zeros((2, self.num_envs), dtype=bool)
        terminations[rows] = True
        running = rows
        for _ in range(self.config.lead_in, self.task.last_frame):
            reward, success, over = tables.play(actions, running)
            rewards += reward
            successes |= success
            self._watch(running)
            running = running[~over[running]]
            if not len(running):
                break
        self._played[rows] = tables.frame[rows] - self.config.lead_in
        return rewards, successes, terminations

    def _observe(self, rows: Rows | None = None) -> Observation:
        if not self.by_shots:
            return self._tables.observe(rows)
        rows = np.arange(self.num_envs) if rows is None else rows
        parts = []
        for back in reversed(range(self._depth)):
            frame = self._tables.frame[rows] - back
            x, v = self._recent[:, frame % self._depth, rows]
            parts.append(self._tables.observe_at(x, v, frame, rows))
        return self.task.stack(parts)

    def _infos(self, successes: NDArray[np.bool_], rows: Rows | None = None) -> dict[str, Any]:
        return self._tables.info(successes, rows, self._played if self.by_shots else None)

    def _watch(self, rows: Rows) -> None:
        """Keeps what observations need of this frame of some tables."""
        tables = self._tables
        if len(rows):
            slots = tables.frame[rows] % self._depth
            self._recent[0, slots, rows] = tables.x[rows]
            self._recent[1, slots, rows] = tables.v[rows]

    # Input

    def _rng(self, row: int) -> np.random.Generator:
        rng = self._rngs[row]
        if rng is None:
            rng, self._seeds[row] = seeding.np_random()
            self._rngs[row] = rng
        return rng

    def _read_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return range(int(seed), int(seed) + self.num_envs)
        if len(seed) != self.num_envs:
            raise ValueError(
                f"expected one seed, or a list of num_envs={self.num_envs}, got {len(seed)}"
            )
        return seed

    def _read_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        if (
            not isinstance(mask, np.ndarray)
            or mask.shape != (self.num_envs,)
            or mask.dtype != np.bool_
            or not mask.any()
        ):
            raise ValueError(
                f"expected options['reset_mask'] to be an array of bool of shape "
                f"({self.num_envs},), at least one of them True, got {mask!r}"
            )
        return mask

    def _split_options(self, options: dict[str, Any], rows: Rows) -> list[dict[str, Any]]:
        """Returns the options of each table: an axis in front belongs to the tables."""
        for name in FACTOR_OPTIONS:
            if name in options:
                raise ValueError(
                    f"expected no reset option {name!r} of many tables in one, whose factors do "
                    "not vary; pass vectorization_mode='sync' or 'async' to make_vec"
                )
        usual = {"positions": 2 - self.task.line, "velocities": 2 - self.task.line, "target": 1}
        each = set()
        for name, value in options.items():
            try:
                axes = np.ndim(value)
            except ValueError:  # ragged; the single table will say so
                continue
            if axes == usual.get(name, axes) + 1:
                if len(value) != self.num_envs:
                    raise ValueError(
                        f"expected {name} for all {self.num_envs} environments, or one for each, "
                        f"got {len(value)}"
                    )
                each.add(name)
        return [
            {name: value[row] if name in each else value for name, value in options.items()}
            for row in rows.tolist()
        ]


class Billiards2DVectorEnv(BilliardsVectorEnv, GymVectorEnv):
    """`Billiards2D-v0`, many at once."""


class Billiards1DVectorEnv(BilliardsVectorEnv, GymVectorEnv):
    """`Billiards1D-v0`, many at once."""

    on_line = True


class Billiards2DShotVectorEnv(BilliardsVectorEnv, GymVectorEnv):
    """`Billiards2DShot-v0`, many at once."""

    by_shots = True


class Billiards1DShotVectorEnv(BilliardsVectorEnv, GymVectorEnv):
    """`Billiards1DShot-v0`, many at once."""

    by_shots = on_line = True


def _read_actions(actions: Any, count: int, rows: Rows | None) -> NDArray[np.float64]:
    """Returns the actions, clipped to [-1, 1], or refuses them; only those of `rows` matter."""
    try:
        array = np.asarray(as_array(actions), dtype=np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != (count, 2):
        shape = "" if array is None else f" of shape {array.shape}"
        raise ValueError(f"expected actions of shape ({count}, 2), got {actions!r}{shape}")
    if array.min() >= -1.0 and array.max() <= 1.0:
        return array
    bad: NDArray[np.bool_] = np.any(~np.isfinite(array), axis=1)
    numbers = np.flatnonzero(bad if rows is None else bad[rows])
    if len(numbers):
        first = numbers[0] if rows is None else rows[numbers[0]]
        raise ValueError(
            f"expected actions of two finite numbers, got {array[first].tolist()} for "
            f"environment {first}"
        )
    return np.clip(array, -1.0, 1.0)


def _with_masks(infos: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Returns infos in Gymnasium's vector form: beside each entry, who has it."""
    result: dict[str, Any] = {}
    for name, value in infos.items():
        result[name] = _with_masks(value, mask) if isinstance(value, dict) else value
        result[f"_{name}"] = mask
    return result


def _map(change: Callable[[Any], Any], content: Any) -> Any:
    """What `change` makes of an array, or of each in nested dictionaries."""
    if isinstance(content, dict):
        return {name: _map(change, value) for name, value in content.items()}
    return change(content)


def _only(infos: dict[str, Any], rows: Rows) -> Any:
    """Returns a copy of infos with zeros for all but some tables."""

    def kept(value: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros_like(value)
        result[rows] = value[rows]
        return result

    return _map(kept, infos)


def _overwrite(arrays: Any, rows: Rows, new: Any) -> None:
    """Puts new values in the place of some rows, in arrays or nested dictionaries of them."""
    if isinstance(arrays, dict):
        for name, value in arrays.items():
            _overwrite(value, rows, new[name])
    else:
        arrays[rows] = new
