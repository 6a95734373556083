"""Predicts SimB, the simulated billiards of RPIN, with our general model.

    python scripts/study_simb.py                    # about half an hour on one thread

Qi et al., "Learning Long-term Visual Dynamics with Region Proposal Interaction Networks" (ICLR
2021; the program is github.com/HaozhiQi/RPIN). Three balls, radius 2, lie in a square of side 64
and are seen in 100 frames. One of them is shot at the first frame, in one of twelve directions at
2 to 6 pixels a frame. A frame is five steps: all balls move, those beyond a wall turn round, and
pairs that overlap exchange what is along the line between them, each pair once a frame. So a wall
is at 63, and balls enter walls and one another by up to a step. 1,000 films are for learning and
1,000 for scoring, each in windows of 4 frames that are shown and 40 that follow. The error is the
squared distance from the true centre, in sides of the square, times 1,000: over frames 1 to 20,
and over 21 to 40.

RPIN reads pictures, and the boxes of the balls in the frames shown; our models read the balls'
centres in those. All learn from films that are flipped both ways. "straight lines" goes on as the
last two frames do.

Written to --out: simb.json and simb.md. Results of other models that are there stay. What was
trained stays in --runs-dir.

Letters: n films, B windows, T frames, N balls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from jumpy_mbrl import from_pretrained
from jumpy_mbrl.checks import check_names, check_number
from jumpy_mbrl.data import Recording
from jumpy_mbrl.devices import cpu_threads
from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab import store
from jumpy_mbrl.lab.worlds.worlds import RECIPE
from jumpy_mbrl.models import RNNConfig
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.relational_jump import RelationalJumpConfig
from jumpy_mbrl.training import TrainingConfig, train, training_seconds

SIDE, RADIUS, BALLS, FRAMES, STEPS = 64.0, 2.0, 3, 100, 5
SHOWN, AHEAD = 4, 40
_WALLS = RADIUS, SIDE - 1.0 - RADIUS
_PAIRS = (1, 0), (2, 0), (2, 1)
_SPEEDS, _DIRECTIONS = (2.0, 3.0, 4.0, 5.0, 6.0), 12
_PLAIN = "straight lines"
_PUBLISHED = {"RPIN": (2.55, 25.77)}
"""The paper's, from pictures and boxes."""
_MODELS: dict[str, dict[str, Any]] = {
    "RelationalJump": {
        "model": RelationalJumpConfig(num_bodies=BALLS, action_size=0, passes=2),
        "steps": 4000,
        "batch_size": 512,
    },
    "RNN": {
        "model": RNNConfig(obs_size=2 * BALLS, action_size=0, burn_in=SHOWN),
        "steps": 2000,
        "batch_size": 256,
        "precision": "bfloat16",
    },
}


@dataclass(frozen=True)
class Args:
    """What to learn, and where to keep it."""

    models: tuple[str, ...] = tuple(_MODELS)
    """Any of RelationalJump, RNN."""
    out: Path = Path("results/worlds")
    """Folder for the results."""
    runs_dir: Path = Path("runs/simb")
    """Folder for films and what was trained."""
    seed: int = 0
    """Of films and trainings."""
    threads: int = 1
    """CPU threads of torch."""
    share: float = 1.0
    """Of all that is made and trained, to try the whole path."""


def main(argv: Sequence[str]) -> int:
    """Learns, scores, and writes the table."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    check_names("model", args.models, _MODELS)
    check_number("--share", args.share, 0.0, 1.0, open_low=True)
    count = max(8, round(1000 * args.share))
    report = store.Report(args.out / "simb.json", {"version": 1, "models": {}}, lambda _: None)
    report.read()
    check_writable(report.path, args.out / "simb.md")
    rows: dict[str, Any] = {}
    with cpu_threads(args.threads):
        films, unseen = (make_films(count, [args.seed, part]) for part in range(2))
        rows[_PLAIN] = errors(_straight, unseen)
        for name in args.models:
            model, seconds = _learned(name, films, args)
            rows[name] = {"training_seconds": seconds, "built_in": list(model.built_in)}
            rows[name] |= errors(imagination(model), unseen)
            print(name, rows[name], flush=True)
    with report.update() as content:
        content["models"] |= rows
        lines = ["# SimB", "", *table(content["models"])]
    store.write_text(args.out / "simb.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


def make_films(count: int, seed: Sequence[int]) -> NDArray[np.float32]:
    """Centres of balls (n, T, N, 2) in sides of the square."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(*_WALLS, (count, BALLS, 2))
    while (wrong := _overlap(place)).any():
        place[wrong] = rng.uniform(*_WALLS, (int(wrong.sum()), BALLS, 2))
    angle = 2.0 * math.pi / _DIRECTIONS * rng.integers(_DIRECTIONS, size=count)
    velocity = np.zeros_like(place)
    way = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    speed = rng.choice(_SPEEDS, (count, 1))
    velocity[np.arange(count), rng.integers(BALLS, size=count)] = speed * way
    return (films_of(place, velocity) / SIDE).astype(np.float32)


def films_of(place: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """What follows from places and velocities (n, N, 2), in pixels (and a frame): (n, T, N, 2)."""
    place, velocity, seen = place.copy(), velocity.copy(), []
    for _ in range(FRAMES):
        seen.append(place.copy())
        met = np.zeros((len(_PAIRS), len(place)), dtype=bool)
        for _ in range(STEPS):
            place += velocity / STEPS
            velocity = np.where(place < _WALLS[0], np.abs(velocity), velocity)
            velocity = np.where(place > _WALLS[1], -np.abs(velocity), velocity)
            for number, (i, j) in enumerate(_PAIRS):
                between = place[:, i] - place[:, j]
                distance = np.linalg.norm(between, axis=1)
                meet = (distance < 2.0 * RADIUS) & ~met[number]
                normal = between / np.maximum(distance, 1e-12)[:, None]
                change = ((velocity[:, i] - velocity[:, j]) * normal).sum(axis=1) * meet
                velocity[:, i] -= change[:, None] * normal
                velocity[:, j] += change[:, None] * normal
                met[number] |= meet
    return np.stack(seen, axis=1)


def _overlap(place: NDArray[np.float64]) -> NDArray[np.bool_]:
    first, second = np.transpose(_PAIRS)
    distance = np.linalg.norm(place[:, first] - place[:, second], axis=2)
    found: NDArray[np.bool_] = (distance < 2.0 * RADIUS).any(axis=1)
    return found


def errors(
    imagine: Callable[[NDArray[np.float32]], NDArray[Any]], films: NDArray[np.float32]
) -> dict[str, float]:
    """Of all windows of films: mean errors, and their standard errors over films.

    ``imagine``: of frames (B, 4, N, 2) the 40 that follow, (B, 40, N, 2).
    """
    parts = []
    for film in np.array_split(films, math.ceil(len(films) / 20)):
        windows = np.lib.stride_tricks.sliding_window_view(film, SHOWN + AHEAD, axis=1)
        windows = np.moveaxis(windows, -1, 2)  # (n, windows, frames, N, 2)
        flat = windows.reshape(-1, *windows.shape[2:])
        missed = np.square(imagine(flat[:, :SHOWN]) - flat[:, SHOWN:]).sum(axis=3).mean(axis=2)
        parts.append(missed.reshape(*windows.shape[:2], 2, -1).mean(axis=(1, 3)))
    of_film = 1000.0 * np.concatenate(parts)
    mean, spread = of_film.mean(axis=0), of_film.std(axis=0, ddof=1) / math.sqrt(len(of_film))
    names = "first", "second", "first_se", "second_se"
    return {"n": len(of_film)} | dict(zip(names, map(float, (*mean, *spread)), strict=True))


def _straight(shown: NDArray[np.float32]) -> NDArray[Any]:
    ahead = np.arange(1, AHEAD + 1)[:, None, None]
    return shown[:, -1:] + ahead * (shown[:, -1:] - shown[:, -2:-1])


def imagination(model: WorldModel) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """What a model makes of the frames shown."""

    @torch.no_grad()
    def imagine(shown: NDArray[np.float32]) -> NDArray[Any]:
        state = model.observe(torch.from_numpy(np.ascontiguousarray(shown)).flatten(2))
        obs = model.imagine(state, [float(k) for k in range(1, AHEAD + 1)]).obs
        found: NDArray[Any] = obs.unflatten(2, (BALLS, 2)).numpy()
        return found

    return imagine


def _learned(name: str, films: NDArray[np.float32], args: Args) -> tuple[WorldModel, float]:
    """A model that learned from films, of which one in twenty chooses its weights."""
    args.runs_dir.mkdir(parents=True, exist_ok=True)
    some = math.ceil(len(films) / 20)
    flipped = np.concatenate([films[some:] * sign + (1.0 - sign) * _MIDDLE for sign in _FLIPS])
    train_data, validation_data = (
        _recording(part).save(args.runs_dir / f"{kind}-{args.seed}.npz")
        for kind, part in {"train": flipped, "validation": films[:some]}.items()
    )
    settings = dict(_MODELS[name])
    settings["steps"] = max(8, round(args.share * settings["steps"]))
    config = TrainingConfig(
        **settings,
        train_data=train_data,
        validation_data=validation_data,
        **RECIPE,
        seed=args.seed,
        threads=args.threads,
    )
    run = args.runs_dir / f"{name}-{args.seed}"
    best = train(config, run, resume=run.exists(), progress=False)
    return from_pretrained(best), training_seconds(run)


_FLIPS = [np.array(sign, dtype=np.float32) for sign in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
_MIDDLE = np.float32(0.5 * (SIDE - 1.0) / SIDE)
"""Between the walls, in sides of the square."""


def _recording(films: NDArray[np.float32]) -> Recording:
    """Pieces as long as the windows."""
    n, T = films.shape[:2]
    nothing = np.zeros((n, T, 0), dtype=np.float32)
    whole = Recording(films.reshape(n, T, -1), nothing, np.zeros((n, T - 1)), SHOWN)
    return whole.cut(SHOWN + AHEAD)


def table(rows: Mapping[str, Any]) -> list[str]:
    """The results in Markdown."""
    header = "model", "reads", "films", "error of frames 1 to 20", "21 to 40", "training, s"
    cells = []
    for name in (name for name in (_PLAIN, *_MODELS) if name in rows):
        row = rows[name]
        ends = (f"{row[part]:.3g} ± {row[f'{part}_se']:.2g}" for part in ("first", "second"))
        seconds = f"{row['training_seconds']:,.0f}" if "training_seconds" in row else "-"
        cells.append([name, "centres", f"{row['n']:,}", *ends, seconds])
    published = (
        [k, "pictures and boxes", "1,000", *map(str, v), "-"] for k, v in _PUBLISHED.items()
    )
    return [
        *store.markdown(header, [*cells, *published], 2),
        "",
        "Squared distance in sides of the square, times 1,000, of windows of 4 frames shown; ± one "
        "standard error over films. RPIN's figures are those of its paper.",
    ]
