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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_names, unknown_name
from jumpy_mbrl.data.seeds import Split, check_seed, check_split, data_rng
from jumpy_mbrl.envs.config import Start, TableConfig, check_start
from jumpy_mbrl.envs.physics import Backend, resolve_backend, simulate
from jumpy_mbrl.envs.rules import line_task
from jumpy_mbrl.envs.starts import sample_tables
from jumpy_mbrl.envs.vector import Tables
from jumpy_mbrl.files import (
    atomic_write,
    check_writable,
    entries_of,
    read_json,
    sha256_of,
    write_json,
)
from jumpy_mbrl.processes import check_at_once, process_pool

Shot = Literal["uniform", "none", "place"]

SHOTS: tuple[Shot, ...] = ("uniform", "none", "place")
BLOCK = 1000
FORMAT = "jumpy-mbrl trajectories"
FORMAT_VERSION = 1

_ARRAYS = ("obs", "action")
_HEADER_READERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MOST_INFLATED = 1032
"""Bytes that one byte can stand for in a .zip file's usual compression."""


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that defines a dataset.

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

    Raises:
        ValueError: if a value is impossible, naming the field, what was expected and the value.
    """

    table: TableConfig = field(default_factory=TableConfig)
    num_trajectories: int = 10_000
    seed: int = 0
    split: Split = "train"
    start: Start = "moving"
    shot: Shot = "uniform"

    def __post_init__(self) -> None:
        if not isinstance(self.table, TableConfig):
            raise ValueError(f"expected table to be a TableConfig, got {self.table!r}")
        number = self.num_trajectories
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
            raise ValueError(
                f"expected num_trajectories to be an integer of at least 1, got {number!r}"
            )
        check_seed(self.seed)
        object.__setattr__(self, "num_trajectories", int(number))
        object.__setattr__(self, "seed", int(self.seed))
        check_split(self.split)
        check_start(self.start)
        if self.shot not in SHOTS:
            raise ValueError(unknown_name("shot", self.shot, SHOTS))
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
        """Builds a config from what `to_dict` gave.

        Raises:
            ValueError: for unknown fields or impossible values.
        """
        check_names("dataset setting", values, [entry.name for entry in dataclasses.fields(cls)])
        rest = {name: value for name, value in values.items() if name != "table"}
        return cls(table=TableConfig.from_dict(values.get("table", {})), **rest)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return {**dataclasses.asdict(self), "table": self.table.to_dict()}

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
        _check_arrays({"obs": self.obs, "action": self.action}, self.config)

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def warm_up(self) -> int:
        """How many frames are shown before the shot: the lead-in, and the frame of the shot."""
        return self.config.table.lead_in + 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `path` (an .npz file) and the manifest `path`.json, each atomically.

        Raises:
            ValueError: unless the name ends in .npz.
        """
        path = check_npz_name(path)
        with atomic_write(path) as temporary:
            np.savez(temporary, obs=self.obs, action=self.action)
            checksum = sha256_of(temporary)
        write_json(manifest_path(path), _manifest(self.config, checksum))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], expect: DatasetConfig | None = None
    ) -> TrajectoryDataset:
        """Reads what `save` wrote.

        Args:
            path: the .npz file; its manifest lies beside it.
            expect: the config that the file has to have been made by, or None for any.

        Raises:
            FileNotFoundError: if the file or its manifest is missing.
            ValueError: if it is truncated or changed, not ours, or made by another config.
        """
        path = check_npz_name(path)
        manifest = _read_manifest(path)
        with entries_of(manifest_path(path), "make the dataset again"):
            config = DatasetConfig.from_dict(manifest["config"])
        if expect is not None and config != expect:
            raise ValueError(_difference(path, expect, config))
        found = sha256_of(path)
        if found != manifest["sha256"]:
            raise ValueError(
                f"expected {path} to have the SHA-256 {manifest['sha256']} of its manifest, got "
                f"{found}; the file is truncated or was changed, make it again"
            )
        check = partial(_check_arrays, config=config)
        return cls(**read_arrays(path, _ARRAYS, check), config=config)


_Job = tuple[DatasetConfig, int, Backend]


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

    Raises:
        ValueError: for an unknown backend, fewer than one worker, or a table without room for
            random starts.
        ImportError: for "numba" where it is not installed.
        RuntimeError: if some trajectory has far too many collisions (see `physics.advance`).
    """
    if isinstance(workers, bool) or workers < 1:
        raise ValueError(f"expected workers to be at least 1, got {workers!r}")
    check_at_once("workers", workers)
    chosen = resolve_backend(backend)
    shape = (config.num_trajectories, config.table.num_frames)
    obs = np.empty((*shape, config.obs_size), dtype=np.float32)
    action = np.zeros((*shape, 2), dtype=np.float32)
    starts = range(0, config.num_trajectories, BLOCK)
    jobs: list[_Job] = [(config, block, chosen) for block in range(len(starts))]
    for begin, (frames, shots) in zip(starts, _run(jobs, chosen, workers), strict=True):
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
    check_writable(path, manifest_path(path))
    dataset = make_dataset(config, backend=backend, workers=workers, progress=progress)
    dataset.save(path)
    return dataset


def dataset_name(config: DatasetConfig) -> str:
    """Returns the file name that `load_or_make` uses for a config."""
    game = "billiards1d" if config.on_line else "billiards2d"
    return f"{game}-{config.split}-{config.num_trajectories}-{config.digest()}.npz"


def manifest_path(path: str | os.PathLike[str]) -> Path:
    """Returns where the manifest of a dataset file lies: `path`.json."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def _make_block(
    job: _Job,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Plays one block: frames (b, T, D) and shots (b, 2)."""
    config, block, backend = job
    rng = data_rng(config.seed, config.split, block)
    count = min(BLOCK, config.num_trajectories - block * BLOCK)
    # Always a whole block is drawn, so that its first rows do not depend on how many are kept.
    if config.on_line:
        return _play_lines(config.table, rng, count, backend)
    positions, velocities = sample_tables(config.table, rng, BLOCK, config.start)
    shots = np.zeros((BLOCK, 2), dtype=np.float32)
    if config.shot == "uniform":
        shots = _draw_shots(rng)
    keep = slice(0, count)
    frames = simulate(
        positions[keep],
        velocities[keep],
        shots[keep].astype(np.float64),
        config.table,
        backend,
    )
    return frames, shots[keep]


def _play_lines(
    table: TableConfig, rng: np.random.Generator, count: int, backend: Backend
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Plays the first `count` lines of a block, by the environment's own deal and rules."""
    lines = Tables(line_task(config=table), BLOCK, backend)
    lines.start(np.arange(BLOCK), [rng] * BLOCK)
    shots = _draw_shots(rng)
    actions, rows = shots.astype(np.float64), np.arange(count)
    frames = np.empty((count, table.num_frames, table.num_balls), dtype=np.float32)
    for frame in range(table.num_frames):
        if frame > 0:
            lines.play(actions, rows)
        frames[:, frame] = lines.observe(rows)
    return frames, shots[:count]


def _draw_shots(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.uniform(-1.0, 1.0, (BLOCK, 2)).astype(np.float32)


def _run(
    jobs: list[_Job], backend: Backend, workers: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yields the blocks in order, made by as many workers as asked for and useful."""
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(_make_block, jobs)
        return
    pool: Executor = ThreadPoolExecutor(workers) if backend == "numba" else process_pool(workers)
    with pool:
        yield from pool.map(_make_block, jobs)


class _Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _check_arrays(
    arrays: Mapping[str, NDArray[Any]] | Mapping[str, _Header], config: DatasetConfig
) -> None:
    lead = (config.num_trajectories, config.table.num_frames)
    expected = {"obs": (*lead, config.obs_size), "action": (*lead, 2)}
    for name, shape in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(
                f"expected {name} of shape {shape} and type float32, got {array.shape} and "
                f"{array.dtype}"
            )


def check_npz_name(path: str | os.PathLike[str]) -> Path:
    """Returns `path`; raises `ValueError` unless the name ends in .npz."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"expected the name of a dataset to end in .npz, got {str(path)!r}")
    return path


def _manifest(config: DatasetConfig, checksum: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "sha256": checksum,
        "versions": {
            "jumpy_mbrl": _version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _version() -> str:
    from jumpy_mbrl import __version__

    return __version__


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = manifest_path(path)
    for needed in (path, manifest):
        if not needed.is_file():
            raise FileNotFoundError(
                f"expected a dataset as {path.name} with its manifest {manifest.name}, but there "
                f"is no {needed}; make it with scripts/make_dataset.py"
            )
    fields = {"config": dict, "sha256": str}
    return read_json(manifest, FORMAT, FORMAT_VERSION, fields, "make the dataset again")


def read_arrays(
    path: Path,
    names: tuple[str, ...],
    check: Callable[[Mapping[str, _Header]], None] = lambda headers: None,
    optional: tuple[str, ...] = (),
) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an .npz file.

    Args:
        path: the file.
        names: of the arrays.
        check: is given their headers, before there is memory for any.
        optional: names of arrays that the file may have.

    Raises:
        ValueError: if the file does not have `names`, or is too small for what they say of
            themselves.
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


def _difference(path: Path, expect: DatasetConfig, found: DatasetConfig) -> str:
    wanted, given = _flat(expect.to_dict()), _flat(found.to_dict())
    lines = [
        f"{name}={given[name]!r} instead of {wanted[name]!r}"
        for name in wanted
        if wanted[name] != given[name]
    ]
    return f"expected {path} to be made by the given config, but it has {', '.join(lines)}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    items: Iterable[tuple[str, Any]] = values.items()
    flat: dict[str, Any] = {}
    for name, value in items:
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
