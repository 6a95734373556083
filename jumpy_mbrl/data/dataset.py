"""Trajectories: made by the exact physics, saved with a manifest, loaded with every doubt checked.

A dataset is a pure function of its `DatasetConfig`: the same bytes whatever the backend, the number
of workers or the order of the work. It is made in blocks of `BLOCK` trajectories, each from its own
random stream (see `seeds`), so the first k trajectories do not depend on how many follow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import warnings
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl import __version__, files
from jumpy_mbrl.checks import check_choice, check_count, check_names, differences
from jumpy_mbrl.data.seeds import Split, check_seed, check_split, data_rng
from jumpy_mbrl.envs.config import Start, TableConfig, check_start
from jumpy_mbrl.envs.physics import Backend, resolve_backend, simulate
from jumpy_mbrl.envs.pixels import PRESETS, draw_pixels
from jumpy_mbrl.envs.rules import line_task
from jumpy_mbrl.envs.starts import sample_tables
from jumpy_mbrl.envs.vector import Tables
from jumpy_mbrl.processes import check_at_once, process_pool

Shot = Literal["uniform", "none", "place"]

SHOTS: tuple[Shot, ...] = ("uniform", "none", "place")
BLOCK = 1000
FORMAT = "jumpy-mbrl trajectories"
FORMAT_VERSION = 1

_ARRAYS = ("obs", "action")
_REMEDY = "make the dataset again"
_HEADER_READERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MOST_INFLATED = 1032
"""Bytes that one byte can stand for in a .zip file's usual compression."""


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that defines a dataset; `ValueError` for an impossible value, by its field.

    Attributes:
        table: the table that the trajectories are played on.
        num_trajectories: how many, at least 1.
        seed: of the random streams, in [0, 2**63).
        split: "train", "validation" or "evaluation"; splits never share a random stream.
        start: "moving" (random velocities) or "rest".
        shot: "uniform", an action uniform in [-1, 1]^2 at frame `lead_in`, or "none": the action is
            zero, which is what `Billiards2D-v0` does with a zero action (the cue ball's velocity is
            still clipped to `max_speed`, seldom felt). "place" is the game of `Billiards1D-v0`,
            dealt and played as there: two balls on a line, and an action uniform in [-1, 1]^2 at
            frame `lead_in` that puts ball A somewhere. Its table is `jumpy_mbrl.envs.LINE_CONFIG`.
        pixels: a preset of `jumpy_mbrl.envs.pixels`, "default" or "paper": models that are trained
            see pictures, drawn when they are needed; what is made and kept are positions.
    """

    table: TableConfig = field(default_factory=TableConfig)
    num_trajectories: int = 10_000
    seed: int = 0
    split: Split = "train"
    start: Start = "moving"
    shot: Shot = "uniform"
    pixels: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.table, TableConfig):
            raise ValueError(f"expected table to be a TableConfig, got {self.table!r}")
        count = check_count("num_trajectories", self.num_trajectories)
        object.__setattr__(self, "num_trajectories", count)
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_split(self.split)
        check_start(self.start)
        check_choice("shot", self.shot, SHOTS)
        if self.pixels is not None:
            check_choice("pixels", self.pixels, PRESETS)
        if self.on_line:
            line_task(config=self.table)
            if self.start != "moving":
                raise ValueError(
                    f"expected start to be 'moving' with shot='place', as balls on a line never "
                    f"rest, got {self.start!r}"
                )

    @property
    def on_line(self) -> bool:
        """Whether the balls are on a line, and y alone is observed."""
        return self.shot == "place"

    @property
    def obs_size(self) -> int:
        """D: x and y of every ball, or y alone on a line."""
        return self.table.num_balls * (1 if self.on_line else 2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetConfig:
        """Builds a config from what `to_dict` gave; `ValueError` for unknown fields too."""
        check_names("dataset setting", values, [entry.name for entry in dataclasses.fields(cls)])
        return cls(**{**values, "table": TableConfig.from_dict(values.get("table", {}))})

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        values = {**dataclasses.asdict(self), "table": self.table.to_dict()}
        if self.pixels is None:  # As before there were any.
            del values["pixels"]
        return values

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that stand for this config, for file names."""
        text = json.dumps({**self.to_dict(), "version": FORMAT_VERSION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class TrajectoryDataset:
    """Trajectories as a model may see them: positions and actions, no velocities.

    Attributes:
        obs: (n, T, 2N) float32, [x0, y0, x1, y1, ...], cue ball first, in table sides; on a line
            (n, T, N), y alone.
        action: (n, T, 2) float32 in [-1, 1]: zero but at frame `lead_in`, where the shot is played
            between that frame and the next.
        config: what made them.
    """

    obs: NDArray[np.float32]
    action: NDArray[np.float32]
    config: DatasetConfig

    def __post_init__(self) -> None:
        _check_arrays(vars(self), self.config)

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def context_frames(self) -> int:
        """How many frames are shown before the shot, its own included."""
        return self.config.table.context_frames

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `path` (.npz, or `ValueError`) and the manifest `path`.json, each atomically."""
        path = check_npz_name(path)
        with files.atomic_write(path) as temporary:
            np.savez(temporary, obs=self.obs, action=self.action)
            checksum = files.sha256_of(temporary)
        versions = {"jumpy_mbrl": __version__, "numpy": np.__version__}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "config": self.config.to_dict(),
            "sha256": checksum,
            "versions": {**versions, "python": platform.python_version()},
        }
        files.write_json(manifest_path(path), manifest)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], expect: DatasetConfig | None = None
    ) -> TrajectoryDataset:
        """Reads what `save` wrote.

        `FileNotFoundError` if the file or its manifest is missing; `ValueError` if it is truncated
        or changed, not ours, or made by another config than `expect` (None is any).
        """
        path = check_npz_name(path)
        manifest = manifest_path(path)
        for needed in (path, manifest):
            if not needed.is_file():
                raise FileNotFoundError(
                    f"expected a dataset as {path.name} with its manifest {manifest.name}, but "
                    f"there is no {needed}; make it with scripts/make_dataset.py"
                )
        entries = {"config": dict, "sha256": str}
        content = files.read_json(manifest, FORMAT, FORMAT_VERSION, entries, _REMEDY)
        with files.entries_of(manifest, _REMEDY):
            config = DatasetConfig.from_dict(content["config"])
        if expect is not None and config != expect:
            changed = ", ".join(differences(expect.to_dict(), config.to_dict()))
            raise ValueError(
                f"expected {path} to be made by the given config, but it has {changed}"
            )
        found = files.sha256_of(path)
        if found != content["sha256"]:
            raise ValueError(
                f"expected {path} to have the SHA-256 {content['sha256']} of its manifest, got "
                f"{found}; the file is truncated or was changed, make it again"
            )
        check = partial(_check_arrays, config=config)
        return cls(**read_arrays(path, _ARRAYS, check), config=config)


class DrawnFrames:
    """Pictures (n, T, D) uint8 of positions (n, T, 2N), which are drawn when they are taken."""

    dtype = np.dtype(np.uint8)

    def __init__(self, places: NDArray[np.float32], config: DatasetConfig) -> None:
        self._places, self._table = places, config.table
        self._format = PRESETS[str(config.pixels)]
        self.shape = (*places.shape[:2], math.prod(self._format.shape))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Those at ``key``, which chooses sequences and perhaps frames."""
        places, table = self._places[key], self._table
        balls = places.reshape(-1, table.num_balls, 2)
        drawn = draw_pixels(balls, table.target, self._format, table.radius)
        return drawn.reshape(*places.shape[:-1], self.shape[2])


@dataclass(frozen=True, eq=False)
class DrawnDataset:
    """Trajectories as pictures; see `TrajectoryDataset`.

    Attributes:
        trajectories: the positions.
        config: the table, and the format of the pictures.
    """

    trajectories: TrajectoryDataset
    config: DatasetConfig

    @cached_property
    def obs(self) -> Any:
        """(n, T, D) uint8, `DrawnFrames`."""
        return DrawnFrames(self.places, self.config)

    @property
    def places(self) -> NDArray[np.float32]:
        """Positions (n, T, 2N)."""
        return self.trajectories.obs

    @property
    def action(self) -> NDArray[np.float32]:
        """(n, T, 2)."""
        return self.trajectories.action

    @property
    def context_frames(self) -> int:
        """How many frames are shown before the shot, its own included."""
        return self.trajectories.context_frames


def make_dataset(
    config: DatasetConfig,
    *,
    backend: Backend = "auto",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> TrajectoryDataset:
    """Plays the trajectories that `config` defines.

    Args:
        config: what to make.
        backend: "python", "numba", or "auto": numba where it is installed. All give the same bytes.
        workers: threads for numba, processes for plain Python (started by "spawn": a script that
            asks for more than one needs the usual `if __name__ == "__main__"`).
        progress: called with the number of trajectories that just became ready.

    `ValueError` for an unknown backend, fewer than one worker, or a table without room for random
    starts; `ImportError` for "numba" where it is not installed; `RuntimeError` if some trajectory
    has far too many collisions (see `physics.advance`).
    """
    check_at_once("workers", check_count("workers", workers))
    chosen = resolve_backend(backend)
    shape = (config.num_trajectories, config.table.num_frames)
    obs = np.empty((*shape, config.obs_size), dtype=np.float32)
    action = np.zeros((*shape, 2), dtype=np.float32)
    begins = range(0, config.num_trajectories, BLOCK)
    workers = min(workers, len(begins))
    make = partial(_make_block, config, chosen)
    with ExitStack() as stack:
        run: Any = map
        if workers > 1:
            threads = chosen == "numba"
            pool: Executor = ThreadPoolExecutor(workers) if threads else process_pool(workers)
            run = stack.enter_context(pool).map
        for begin, (frames, shots) in zip(begins, run(make, range(len(begins))), strict=True):
            rows = slice(begin, begin + len(frames))
            obs[rows] = frames
            action[rows, config.table.lead_in] = shots
            if progress is not None:
                progress(len(frames))
    return TrajectoryDataset(obs, action, config)


def load_or_make(
    config: DatasetConfig,
    folder: str | os.PathLike[str],
    *,
    backend: Backend = "auto",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> TrajectoryDataset:
    """Loads the dataset of `config` from `folder`, or makes it and saves it there.

    The file's name holds a digest of the config. A damaged file is made again, with a warning.
    Arguments and errors are those of `make_dataset`.
    """
    path = Path(folder) / dataset_name(config)
    try:
        return TrajectoryDataset.load(path, expect=config)
    except FileNotFoundError:
        pass
    except ValueError as error:
        warnings.warn(f"made {path} again, because: {error}", stacklevel=2)
    files.check_writable(path, manifest_path(path))
    dataset = make_dataset(config, backend=backend, workers=workers, progress=progress)
    dataset.save(path)
    return dataset


def dataset_name(config: DatasetConfig) -> str:
    """Returns the file name that `load_or_make` uses for a config."""
    game = "billiards1d" if config.on_line else "billiards2d"
    return f"{game}-{config.split}-{config.num_trajectories}-{config.digest()}.npz"


def manifest_path(path: str | os.PathLike[str]) -> Path:
    """Returns where the manifest of a dataset file lies: `path`.json."""
    return Path(f"{os.fspath(path)}.json")


def _make_block(
    config: DatasetConfig, backend: Backend, block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Plays one block: frames (b, T, D) and shots (b, 2)."""
    rng = data_rng(config.seed, config.split, block)
    table, keep = config.table, slice(config.num_trajectories - block * BLOCK)
    # Always a whole block is drawn, so that its first rows do not depend on how many are kept.
    if config.on_line:
        lines = Tables(line_task(config=table), BLOCK, backend)
        lines.start(np.arange(BLOCK), [rng] * BLOCK)
    else:
        positions, velocities = sample_tables(table, rng, BLOCK, config.start)
    shots = np.zeros((BLOCK, 2), dtype=np.float32)
    if config.shot != "none":
        shots = rng.uniform(-1.0, 1.0, (BLOCK, 2)).astype(np.float32)
    actions = shots.astype(np.float64)
    if not config.on_line:
        return simulate(positions[keep], velocities[keep], actions[keep], table, backend), shots[
            keep
        ]
    rows = np.arange(BLOCK)[keep]
    frames = [lines.observe(rows)]
    for _ in range(table.num_frames - 1):
        lines.play(actions, rows)
        frames.append(lines.observe(rows))
    return np.stack(frames, axis=1), shots[keep]


class _Header(NamedTuple):
    """The header of an array: its shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _check_arrays(arrays: Mapping[str, Any], config: DatasetConfig) -> None:
    """Raises `ValueError` unless arrays, or their headers, are those of a config."""
    for name, size in {"obs": config.obs_size, "action": 2}.items():
        found, shape = arrays[name], (config.num_trajectories, config.table.num_frames, size)
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(
                f"expected {name} of shape {shape} and type float32, got {found.shape} and "
                f"{found.dtype}"
            )


def check_npz_name(path: str | os.PathLike[str]) -> Path:
    """Returns `path`; raises `ValueError` unless the name ends in .npz."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"expected the name of a dataset to end in .npz, got {str(path)!r}")
    return path


def read_arrays(
    path: Path,
    names: tuple[str, ...],
    check: Callable[[Mapping[str, _Header]], None] = lambda headers: None,
    optional: tuple[str, ...] = (),
) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an .npz file, and those `optional` ones that it has.

    `check` is given their headers, before there is memory for any. `ValueError` if the file does
    not have `names`, or is too small for what they say of themselves.
    """
    try:
        # Opened here, because np.load leaves a broken archive open.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with archive:
                size = os.fstat(stream.fileno()).st_size
                entries: Any = archive.zip
                found = (*names, *(name for name in optional if name in archive))
                check({name: _read_header(entries, name, size) for name in found})
                return {name: archive[f"{name}.npy"] for name in found}
    except Exception as error:  # Of damaged files NumPy, zipfile and what they call raise any.
        raise ValueError(
            f"expected an .npz file with the arrays {names} in {path}, got something else: {error}"
        ) from None


def _read_header(archive: zipfile.ZipFile, name: str, size: int) -> _Header:
    """The header of an array, if the archive, of so many bytes, can hold what it promises."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"{name} in version {version} of NumPy's format")
        shape, _, dtype = _HEADER_READERS[version](stream)
        promised = stream.tell() + math.prod(shape) * dtype.itemsize
    most = size if entry.compress_type == zipfile.ZIP_STORED else _MOST_INFLATED * size
    if dtype.kind not in "biuf" or promised != entry.file_size or promised > most:
        raise ValueError(
            f"{name} of shape {shape} and type {dtype}, {promised:,} bytes, of which the file of "
            f"{size:,} bytes has {entry.file_size:,}"
        )
    return _Header(shape, dtype)
