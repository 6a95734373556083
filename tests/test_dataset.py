"""Datasets: what is in them, the same bytes however made, and files that cannot be trusted."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

import jumpy_mbrl
from jumpy_mbrl.commands import main
from jumpy_mbrl.data import (
    DatasetConfig,
    TrajectoryDataset,
    dataset,
    load_or_make,
    make_dataset,
    seeds,
)
from jumpy_mbrl.data.dataset import BLOCK, dataset_name, manifest_path
from jumpy_mbrl.data.seeds import SPLITS, data_rng, evaluation_table_seeds
from jumpy_mbrl.envs import LINE_CONFIG
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import Backend
from jumpy_mbrl.envs.rules import line_task
from jumpy_mbrl.files import atomic_write, sha256_of, write_json

SMALL = DatasetConfig(num_trajectories=30, seed=7)
LINES = DatasetConfig(LINE_CONFIG, num_trajectories=30, seed=7, shot="place")
HAS_NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba (the extra 'fast') is missing")
BACKENDS = ["python", pytest.param("numba", marks=needs_numba)]


@pytest.fixture(scope="module")
def small() -> TrajectoryDataset:
    return make_dataset(SMALL, backend="python")


@pytest.fixture
def saved(small: TrajectoryDataset, tmp_path: Path) -> Path:
    """The path of a good file; tests damage it."""
    path = tmp_path / "small.npz"
    small.save(path)
    return path


# -- what is in a dataset ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "frames", "size"), [(SMALL, 45, 4), (LINES, 21, 2)])
def test_arrays_hold_positions_and_one_shot(kind: DatasetConfig, frames: int, size: int) -> None:
    made = make_dataset(kind, backend="python")
    assert len(made) == 30 and made.context_frames == 4
    assert made.obs.shape == (30, frames, size) and made.action.shape == (30, frames, 2)
    assert made.obs.dtype == made.action.dtype == np.float32
    assert np.float32(0.1) <= made.obs.min() and made.obs.max() <= np.float32(0.9)
    shots = made.action[:, 3]
    assert (np.abs(shots) <= 1).all() and shots.all()
    assert shots.std() == pytest.approx(1 / np.sqrt(3), rel=0.2)
    assert not np.delete(made.action, 3, axis=1).any()
    if kind.on_line:
        assert np.abs(made.obs[..., 0] - made.obs[..., 1]).min() >= 0.2 - 1e-6


def test_without_shots_and_from_rest() -> None:
    assert not make_dataset(replace(SMALL, shot="none"), backend="python").action.any()
    rest = make_dataset(replace(SMALL, start="rest"), backend="python")
    assert (rest.obs[:, :4] == rest.obs[:, :1]).all()
    assert (rest.obs[:, 4, :2] != rest.obs[:, 3, :2]).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "table", [LINE_CONFIG, LINE_CONFIG.replace(radius=0.2, lead_in=0, num_frames=33)]
)
def test_lines_go_on_as_in_the_environment(table: TableConfig, backend: Backend) -> None:
    made = make_dataset(replace(LINES, table=table), backend=backend)
    env = gym.make("Billiards1D-v0", config=table, max_episode_steps=table.num_frames - 1)
    deal = [data_rng(LINES.seed, "train", 0)] * BLOCK
    positions, velocities, _ = line_task(config=table).start_tables(deal)
    met = 0
    for row in range(len(made)):
        starts = {"positions": positions[row, 1::2], "velocities": velocities[row, 1::2]}
        shown = [env.reset(options=starts)[0]]
        for action in made.action[row, :-1]:
            obs, _, over, _, info = env.step(action)
            shown.append(obs)
        assert over
        met += info["ball_hits"]
        np.testing.assert_array_equal(made.obs[row], shown, strict=True)
    assert met > 20


# -- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SMALL, LINES], ids=["tables", "lines"])
def test_workers_backend_and_number_do_not_change_a_byte(kind: DatasetConfig) -> None:
    config = replace(kind, num_trajectories=2100)
    seen: list[int] = []
    alone = make_dataset(config, backend="python", progress=seen.append)
    assert seen == [1000, 1000, 100]
    others = [make_dataset(config, backend="python", workers=2)]
    if HAS_NUMBA:
        others += [make_dataset(config, backend="numba", workers=n) for n in (1, 3)]
    for other in [*others, make_dataset(kind)]:
        assert other.obs.tobytes() == alone.obs[: len(other)].tobytes()
        assert other.action.tobytes() == alone.action[: len(other)].tobytes()
    assert len(np.unique(alone.obs[:, 0], axis=0)) == 2100


def test_seed_and_split_change_the_tables(small: TrajectoryDataset) -> None:
    for change in ({"seed": 8}, {"split": "validation"}, {"split": "evaluation"}):
        other = make_dataset(replace(SMALL, **cast(Any, change)), backend="python")
        assert not np.isin(other.obs[:, 0, 0], small.obs[:, 0, 0]).any()


# -- seeds and configs ---------------------------------------------------------------------------


def test_streams_of_splits_seeds_and_blocks_all_differ() -> None:
    keys = [(s, split, b) for s in (0, 1, 5, 2**40) for split in SPLITS for b in (0, 1, 2)]
    draws = {tuple(data_rng(*key).integers(0, 2**63, 2)) for key in keys}
    resets = {tuple(np.random.default_rng(seed).integers(0, 2**63, 2)) for seed in range(50)}
    assert len(draws) == len(keys) and not draws & resets
    assert data_rng(3, "train").random() == data_rng(3, "train", 0).random()


def test_evaluation_seeds_are_reserved_and_never_shared() -> None:
    first, second = evaluation_table_seeds(0, 1000), evaluation_table_seeds(1, 1000)
    assert len(first) == 1000 and not set(first) & set(second)
    assert min(first) == seeds.EVALUATION_SEEDS_FROM > 2**32
    assert list(evaluation_table_seeds(1, 10)) == list(second)[:10]
    assert max(evaluation_table_seeds(2**31 - 1, 2**20)) < 2**53  # exact in JSON
    np.random.default_rng(first[0])


UNKNOWN: Any = "training"
NO_INTEGER: Any = 1.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data_rng(-1, "train"), r"seed to be an integer in \[0, 2\*\*63\), got -1"),
        (lambda: data_rng(0, UNKNOWN), "unknown split 'training'.*did you mean 'train'"),
        (lambda: data_rng(0, "train", 2**32), r"block in \[0, 4294967295\], got 4294967296"),
        (lambda: evaluation_table_seeds(-1, 5), "evaluation seed in .* got -1"),
        (lambda: evaluation_table_seeds(NO_INTEGER, 5), "evaluation seed in .* got 1.5"),
        (lambda: evaluation_table_seeds(0, 0), r"evaluation tables in \[1, 1048576\], got 0"),
        (lambda: evaluation_table_seeds(0, 2**20 + 1), "got 1048577"),
        (lambda: make_dataset(SMALL, workers=0), "workers to be an integer of at least 1, got 0"),
        (lambda: make_dataset(SMALL, workers=100_000), "workers must be at most"),
    ],
)
def test_numbers_out_of_range_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": True}, "seed.*got True"),
        ({"shot": "random"}, r"unknown shot 'random', .* \['uniform', 'none', 'place'\]"),
        ({"table": {"radius": 0.1}}, "table to be a TableConfig"),
        ({"table": LINE_CONFIG, "shot": "place", "start": "rest"}, "'moving' with .*got 'rest'"),
        ({"table": LINE_CONFIG.replace(num_balls=3), "shot": "place"}, "num_balls to be 2 .*got 3"),
        ({"shot": "place"}, r"target to be \(0, 1, y_low, y_high\) on a line, got \(0.8"),
    ],
)
def test_impossible_configs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetConfig(**values)


def test_equal_configs_have_equal_names_which_stay_what_they_are() -> None:
    config = DatasetConfig(
        TableConfig(num_balls=np.int64(3), restitution=1, target=[0, 1, 0, 1]),  # type: ignore
        num_trajectories=np.int64(5),  # type: ignore
    )
    plain = DatasetConfig(TableConfig(num_balls=3, target=(0.0, 1.0, 0.0, 1.0)), 5)
    assert config == plain and dataset_name(config) == dataset_name(plain)
    assert dataset_name(config) != dataset_name(replace(plain, seed=1))
    for one in (config, LINES):
        assert DatasetConfig.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    rest = DatasetConfig(num_trajectories=5, start="rest", shot="none")
    assert dataset_name(DatasetConfig()) == "billiards2d-train-10000-ed5ce8ef7c7a.npz"
    assert dataset_name(rest) == "billiards2d-train-5-f0c384a663e9.npz"
    assert dataset_name(LINES).startswith("billiards1d-train-30-")


# -- files ---------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(small: TrajectoryDataset, saved: Path) -> None:
    loaded = TrajectoryDataset.load(saved, expect=SMALL)
    assert loaded.config == SMALL
    np.testing.assert_array_equal(loaded.obs, small.obs, strict=True)
    np.testing.assert_array_equal(loaded.action, small.action, strict=True)
    manifest = json.loads(manifest_path(saved).read_text())
    assert manifest["sha256"] == sha256_of(saved)
    assert manifest["versions"]["jumpy_mbrl"] == jumpy_mbrl.__version__
    assert manifest["config"]["table"]["target"] == [0.8, 1.0, 0.0, 0.2]


def test_a_missing_file_or_manifest(saved: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .*other.npz"):
        TrajectoryDataset.load(saved.with_name("other.npz"))
    manifest_path(saved).unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*small.npz.json"):
        TrajectoryDataset.load(saved)


@pytest.mark.parametrize("keep", [0, 10, 5000, -1, None])
def test_a_truncated_file_or_a_changed_byte(saved: Path, keep: int | None) -> None:
    content = bytearray(saved.read_bytes()[:keep])
    if keep is None:
        content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 .* truncated or was changed"):
        TrajectoryDataset.load(saved)


def change_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps({**manifest, **changes}))


def written(write: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    write(stream, *arrays, **named)
    return stream.getvalue()


OBS, ACTION = np.zeros((30, 45, 4), np.float32), np.zeros((30, 45, 2), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"not a zip file", b"PK\x03\x04 broken", b"\x93NUMPY", b"\x80\x04K\x01."),
        written(np.save, OBS),
        written(np.savez, obs=OBS),
        written(np.savez, obs=np.array([{}], dtype=object), action=ACTION),
    ],
)
def test_a_foreign_file_under_a_manifest_that_fits_it(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    change_manifest(saved, sha256=sha256_of(saved))
    with pytest.raises(ValueError, match=r"expected an .npz file with the arrays"):
        TrajectoryDataset.load(saved)


def promise(path: Path, shape: tuple[int, ...], method: int, file_size: int) -> None:
    """Writes an archive whose array ``obs`` says that it is larger than it is."""
    header = io.BytesIO()
    about: Any = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("action.npy", written(np.save, ACTION))
        archive.writestr("obs.npy", header.getvalue() + bytes(2**16))
        if file_size:
            archive.getinfo("obs.npy").file_size = file_size  # as the directory will tell
    change_manifest(path, sha256=sha256_of(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("told", [False, True])
def test_promised_sizes_are_checked_before_there_is_memory_for_them(
    saved: Path, method: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("read"))
    shape = (16, 45, 4 * 10**6)  # 11.5 GB
    promise(saved, shape, method, 128 + 4 * math.prod(shape) if told else 0)
    assert saved.stat().st_size < 10**6
    message = r"obs of shape \(16, 45, 4000000\) and type float32, 11,520,000,128 bytes"
    with pytest.raises(ValueError, match=message):
        TrajectoryDataset.load(saved)
    promise(saved, (128, 32, 4), method, 0)  # which it holds, but the manifest says otherwise
    with pytest.raises(ValueError, match=r"expected obs of shape .* got \(128, 32, 4\)"):
        TrajectoryDataset.load(saved)


def test_compressed_arrays_are_read_too(saved: Path, small: TrajectoryDataset) -> None:
    np.savez_compressed(saved, obs=small.obs, action=small.action)
    change_manifest(saved, sha256=sha256_of(saved))
    np.testing.assert_array_equal(TrajectoryDataset.load(saved).obs, small.obs)


def test_entries_of_a_manifest_that_cannot_be_are_named(
    saved: Path, refusals: Callable[..., int]
) -> None:
    assert refusals(manifest_path(saved), lambda: TrajectoryDataset.load(saved)) > 200
    for text in ("", "{", "[]", "\x00"):
        manifest_path(saved).write_text(text)
        with pytest.raises(ValueError, match=re.escape(str(manifest_path(saved)))):
            TrajectoryDataset.load(saved)


def test_a_file_of_another_config(saved: Path) -> None:
    other = replace(SMALL, seed=8, table=TableConfig(radius=0.05))
    with pytest.raises(ValueError, match=r"table.radius=0.1 instead of 0.05, seed=7 instead of 8"):
        TrajectoryDataset.load(saved, expect=other)


def test_load_or_make_makes_once_and_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    made = load_or_make(SMALL, folder)
    path = folder / dataset_name(SMALL)
    assert path.is_file()
    other = load_or_make(replace(SMALL, seed=8), folder)
    assert len(list(folder.glob("*.npz"))) == 2
    assert not np.array_equal(other.obs, made.obs)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"again, because: .*truncated"):
        load_or_make(SMALL, folder)
    monkeypatch.setattr(dataset, "make_dataset", lambda *args, **kwargs: pytest.fail("made again"))
    np.testing.assert_array_equal(load_or_make(SMALL, folder).obs, made.obs)
    # A folder that cannot be written to is noticed before a dataset is made.
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"to write .*/file/billiards2d-.*\.npz: Not a directory"):
        load_or_make(SMALL, tmp_path / "file")


# -- writes that are interrupted -----------------------------------------------------------------


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_text("old")
    for words, error in ((["half"], KeyboardInterrupt), ([], FileNotFoundError)):
        with pytest.raises(error), atomic_write(path) as temporary:
            for word in words:
                temporary.write_text(word)
                raise KeyboardInterrupt
    with pytest.raises(ValueError, match=r"expected loss to be .* got nan"):
        write_json(tmp_path / "y.json", {"loss": float("nan")})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".bin"
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("make_dataset")


@pytest.mark.parametrize(
    ("options", "expect"),
    [
        (
            "--num-trajectories 12 --split validation --seed 3 --table.num-balls 3",
            DatasetConfig(TableConfig(num_balls=3), 12, seed=3, split="validation"),
        ),
        (
            "--num-trajectories 5 --shot place --table.num-frames 21 --table.target 0 1 0.23 0.43",
            DatasetConfig(LINE_CONFIG, 5, shot="place"),
        ),
    ],
)
def test_the_script_makes_a_dataset(
    options: str, expect: DatasetConfig, script: ModuleType, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "sub" / "data.npz"
    places = ["--path", str(path), "--backend", "python", "--workers", "1"]
    assert script.main([*places, *options.split()]) == 0
    made, printed = TrajectoryDataset.load(path, expect=expect), capsys.readouterr()
    assert str(made.obs.shape) in printed.out
    assert "playing: 100%" in printed.err  # the progress bar


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--path x.npy", "make_dataset: expected --path to end in .npz, got 'x.npy'"),
        ("--path x.npz --num-trajectories 0", "at least 1, got 0"),
        ("--path x.npz --workers 0", "workers to be an integer of at least 1, got 0"),
        ("--path x.npz --shot place", "expected target to be (0, 1, y_low, y_high)"),
    ],
)
def test_the_script_refuses_nonsense_without_a_traceback(
    options: str, message: str, script: ModuleType, capsys: Any
) -> None:
    try:
        assert main.run("make-dataset", options.split()) == 2
    except SystemExit as stop:
        assert stop.code == 2
    printed = "".join(capsys.readouterr())
    assert message in re.sub(r"[\u2500-\u257f\s]+", " ", printed) and "Traceback" not in printed
