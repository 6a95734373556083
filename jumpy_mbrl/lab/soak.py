"""Plays random tables with random settings for as long as asked, and checks every frame.

    python scripts/soak.py                   # two million frames
    python scripts/soak.py --seconds 60      # what CI runs

No ball may overlap another or a wall, nothing may be NaN or outside its space, between shots energy
may drift by at most 1e-9 of itself, and memory must stay flat. Each violation is printed with what
repeats it, and the exit code is then 1.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from jumpy_mbrl import checks
from jumpy_mbrl.envs.billiards import Billiards2DEnv
from jumpy_mbrl.envs.config import STARTS, TableConfig
from jumpy_mbrl.envs.rules import OBS_TYPES, REWARDS

Doubles = NDArray[np.float64]

OVERLAP_TOLERANCE = 1e-12
"""In table sides: what is left of rounding."""
ENERGY_TOLERANCE = 1e-9
"""Relative, between two shots."""
MEMORY_TOLERANCE = 16.0
"""In MiB: pictures of many sizes come and go."""
_WARM_UP = 0.25
_REPORTED = 20
_PER_EPISODE = 4


@dataclass(frozen=True)
class Args:
    """How long, and where to begin."""

    frames: int = 2_000_000
    """Stop after this many frames."""
    seconds: float | None = None
    """Stop after this time, if that is earlier."""
    seed: int = 0
    """Of the first episode; the next one has the next seed."""


@dataclass
class Report:
    """What was seen: the deepest overlap in table sides, the largest relative change of energy
    between shots, the MiB by which the process grew after the warm-up, and a line a violation."""

    episodes: int = 0
    frames: int = 0
    contacts: int = 0
    overlap: float = -math.inf
    drift: float = 0.0
    memory: float = 0.0
    violations: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    report = soak(tyro.cli(Args, args=argv, description=__doc__))
    lines = report.violations[:_REPORTED]
    if len(report.violations) > _REPORTED:
        lines.append(f"... and {len(report.violations) - _REPORTED} more")
    lines.append(
        f"{report.episodes:,} episodes, {report.frames:,} frames, {report.contacts:,} contacts: "
        f"deepest overlap {report.overlap:.2g} sides, largest energy drift {report.drift:.2g}, "
        f"memory {report.memory:+.1f} MiB, {len(report.violations)} violations"
    )
    print(*lines, sep="\n")
    return 1 if report.violations else 0


def soak(args: Args) -> Report:
    """Plays and checks episodes until time is up. `ValueError` for no frames or no time."""
    checks.check_count("--frames", args.frames)
    seconds = math.inf
    if args.seconds is not None:
        seconds = checks.check_number("--seconds", args.seconds, 0.0, open_low=True)
    report, began = Report(), time.monotonic()
    warm: float | None = None
    with tqdm(total=args.frames, unit=" frames", unit_scale=True, disable=None) as bar:
        done = 0.0
        while done < 1.0 or not report.episodes:
            if warm is None and done >= _WARM_UP:
                warm = peak_memory()
            seed, before = args.seed + report.episodes, report.frames
            try:
                play(seed, report)
            except Exception as error:
                report.violations.append(f"seed {seed}: {type(error).__name__}: {error}")
                report.frames += 1
            report.episodes += 1
            bar.update(report.frames - before)
            done = max(report.frames / args.frames, (time.monotonic() - began) / seconds)
    report.memory = 0.0 if warm is None else peak_memory() - warm
    if report.memory > MEMORY_TOLERANCE:
        report.violations.append(
            f"memory grew by {report.memory:.1f} MiB after the warm-up, "
            f"expected at most {MEMORY_TOLERANCE:g}"
        )
    return report


def play(seed: int, report: Report) -> None:
    """Plays an episode, with everything about it drawn from the seed, and reports what was seen."""
    rng = np.random.default_rng(seed)
    config = draw_config(rng)
    max_shots = [1, None, int(rng.integers(1, 6))][rng.integers(3)]
    env = Billiards2DEnv(
        obs_type=OBS_TYPES[rng.integers(len(OBS_TYPES))],
        start=STARTS[rng.integers(len(STARTS))],
        max_shots=max_shots,
        random_target=bool(rng.integers(2)),
        reward=REWARDS[rng.integers(len(REWARDS))],
        config=config,
    )
    options = {"positions": packed(config, rng)} if rng.random() < 0.2 else None
    obs, info = env.reset(seed=seed, options=options)
    problems = [] if obs in env.observation_space else ["first observation outside its space"]
    last_shot = config.num_frames if max_shots is None else config.lead_in + max_shots
    energy = float((info["velocities"] ** 2).sum())
    moments = [(info["positions"], info["velocities"], energy)]
    for frame in range(config.num_frames - 1):
        action = draw_action(rng)
        if config.lead_in <= frame < last_shot:
            energy = struck_energy(info["velocities"], action, config)
        obs, reward, terminated, truncated, info = env.step(action)
        moments.append((info["positions"], info["velocities"], energy))
        if obs not in env.observation_space:
            problems.append(f"frame {frame + 1}: observation outside its space: {obs!r}")
        if not math.isfinite(reward):
            problems.append(f"frame {frame + 1}: reward {reward}")
        if terminated or truncated:
            break
    env.close()
    problems = [*check(moments, config.radius, report), *problems]
    report.violations += [f"seed {seed}: {problem}" for problem in problems[:_PER_EPISODE]]
    report.frames += len(moments)
    report.contacts += int(info["wall_hits"] + info["ball_hits"])


def check(
    moments: Sequence[tuple[Doubles, Doubles, float]], radius: float, report: Report
) -> list[str]:
    """What is wrong with positions, velocities and twice the energy that there should be."""
    positions, velocities, energies = (np.array(part) for part in zip(*moments, strict=True))
    if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
        return ["positions or velocities are not finite"]
    depth = overlaps(positions, radius)
    change = np.abs((velocities**2).sum(axis=(1, 2)) - energies)
    drift = change / np.where(energies > 0.0, energies, 1.0)
    report.overlap = max(report.overlap, float(depth.max()))
    report.drift = max(report.drift, float(drift.max()))
    deep = np.flatnonzero(~(depth <= OVERLAP_TOLERANCE))
    off = np.flatnonzero(~(drift <= ENERGY_TOLERANCE))
    return [
        *(f"frame {frame}: overlap of {depth[frame]:.3g} sides" for frame in deep),
        *(f"frame {frame}: energy drifted by {drift[frame]:.3g} of itself" for frame in off),
    ]


def draw_config(rng: np.random.Generator) -> TableConfig:
    """Draws a table: 1 to 8 balls, small ones or ones that fill it."""
    num_balls = int(rng.integers(1, 9))
    most = min(0.3, math.sqrt(0.35 / (num_balls * math.pi)))
    return TableConfig(
        num_balls=num_balls,
        radius=rng.uniform(0.01, most),
        dt=float(10.0 ** rng.uniform(-3.0, -0.3)),
        initial_speed_std=rng.uniform(0.0, 2.0),
        max_impulse=rng.uniform(0.0, 2.0),
        lead_in=int(rng.integers(0, 6)),
        num_frames=int(rng.integers(8, 120)),
        target=(0.9, 1.0, 0.9, 1.0),
    )


def packed(config: TableConfig, rng: np.random.Generator) -> Doubles:
    """Positions in the densest square block in the corner: balls touch each other and the walls."""
    radius = config.radius
    per_side = math.floor(0.5 / radius + 1e-9)
    cells = rng.permutation(min(per_side, math.ceil(math.sqrt(config.num_balls))) ** 2)
    columns = math.isqrt(len(cells))
    chosen = np.sort(cells[: config.num_balls])
    block = np.stack([chosen % columns, chosen // columns], axis=1)
    return np.asarray(radius + 2.0 * radius * block, dtype=np.float64)


def draw_action(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws an action: mostly inside the box, sometimes beyond it, at a corner, or none."""
    kind = rng.random()
    if kind < 0.05:
        return np.zeros(2, dtype=np.float32)
    if kind < 0.1:
        return rng.choice([-1.0, 1.0], 2).astype(np.float32)
    return rng.uniform(-1.2, 1.2, 2).astype(np.float32)


def overlaps(positions: Doubles, radius: float) -> Doubles:
    """The deepest overlap of each frame (T,) of two balls, or of a ball and a wall."""
    depth = (radius - np.minimum(positions, 1.0 - positions)).max(axis=(1, 2))
    first, second = np.triu_indices(positions.shape[1], k=1)
    if len(first):
        gaps = positions[:, first] - positions[:, second]
        depth = np.maximum(depth, (2.0 * radius - np.hypot(gaps[..., 0], gaps[..., 1])).max(axis=1))
    return np.asarray(depth, dtype=np.float64)


def struck_energy(velocities: Doubles, action: NDArray[np.float32], config: TableConfig) -> float:
    """Twice the energy right after a shot."""
    after = velocities.copy()
    after[0] += config.max_impulse * np.clip(action.astype(np.float64), -1.0, 1.0)
    after[0] = np.clip(after[0], -config.max_speed, config.max_speed)
    return float((after**2).sum())


def peak_memory() -> float:
    """The most memory that the process has had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
