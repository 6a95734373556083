"""Makes the videos of docs/world_models.md: one shot, in the simulator and as models imagine it.

    python scripts/make_videos.py
    python scripts/make_videos.py three_panels.mp4 --models rnn-billiards2d fold-billiards2d
    python scripts/make_videos.py interpolation.gif --rate 20 --frames 41 --out runs/videos

A video's name says what it shows, and its ending (.gif or .mp4) how it is written. "interpolation"
is the last of --models, asked --rate times a frame, beside the simulator at its own frames.
"three_panels" is the simulator beside all of --models, each with its ticks. "keypoints" are the
pictures that the environment shows beside those that the shipped model of keypoints imagines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jumpy_mbrl.agents import AGENTS, load_agent
from jumpy_mbrl.checks import check_choice
from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab import films, rollouts
from jumpy_mbrl.models import WorldModel, from_pretrained

SEED = 23
INTERPOLATION, PANELS, KEYPOINTS = "interpolation", "three_panels", "keypoints"
FRAMES = {INTERPOLATION: 20, PANELS: 41, KEYPOINTS: 41}
"""How many frames after the shot each video shows, by its name."""


@dataclass(frozen=True)
class Args:
    """What to show, and where to write it."""

    videos: tyro.conf.Positional[tuple[str, ...]] = tuple(f"{name}.gif" for name in FRAMES)
    """Names of the files: interpolation, three_panels or keypoints, ending in .gif or .mp4."""
    out: Path = Path("docs/videos")
    """The folder to write to; it is made if need be."""
    seed: int = SEED
    """Of the table and of the shot. The default was fixed before anything was drawn."""
    agent: str = "random"
    """Who shoots: random, none, ppo, sac, rnn, ode-rnn, jump-4, jumpy-rnn, jumpy or simulator."""
    models: tuple[str, ...] = ("rnn-billiards2d", "jumpy-billiards2d")
    """One to three models: shipped ones by name, or folders."""
    rate: int = 10
    """Pictures a frame of "interpolation"; a .gif can have at most 20."""
    size: int = films.SIZE
    """Width of a table, in pixels, at least 160."""
    frames: int | None = None
    """Frames after the shot; by default 20 for "interpolation" and 41 for the others."""

    def check(self) -> None:
        """`ValueError` for settings that no video can have."""
        if not self.videos:
            known = f"{list(FRAMES)}, each with one of {list(films.FORMATS)}"
            raise ValueError(f"expected one of {known}")
        for video in map(Path, self.videos):
            check_choice("video", video.stem, FRAMES)
            check_choice("ending", video.suffix, films.FORMATS)
            if video.name != str(video):
                raise ValueError(f"expected names without folders, got {str(video)!r}; use --out")
            fast = self.rate > films.MAX_GIF_RATE
            if video.stem == INTERPOLATION and video.suffix == ".gif" and fast:
                raise ValueError(
                    f"--rate must be at most {films.MAX_GIF_RATE} for a .gif, got {self.rate}; "
                    "write an .mp4 instead"
                )
        rollouts.check_reset_seed(self.seed)
        check_choice("agent", self.agent, AGENTS)
        most = films.MAX_MODELS
        if not 1 <= len(self.models) <= most:
            raise ValueError(f"--models must be from 1 to {most}, got {len(self.models)}")


def main(argv: Sequence[str]) -> int:
    """Makes the videos."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    args.check()
    check_writable(*(args.out / video for video in args.videos))
    models = load_models(args.models)
    shot = rollouts.watch_shot(args.seed, load_agent(args.agent, device="cpu", seed=args.seed))
    made = {video: make_film(Path(video).stem, args, models, shot) for video in args.videos}
    for video, film in made.items():
        path = args.out / video
        film.save(path)
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def load_models(names: Sequence[str]) -> dict[str, WorldModel]:
    """The models by a short name: what comes before "-billiards2d" in the name of the folder."""
    models: dict[str, WorldModel] = {}
    for name in names:
        short = Path(name).name.removesuffix("-billiards2d")
        if short in models:
            raise ValueError(f"--models must have different names, got two of {short!r}")
        models[short] = from_pretrained(name)
    return models


def make_film(
    video: str, args: Args, models: Mapping[str, WorldModel], shot: rollouts.Shot
) -> films.Film:
    """The film with the name `video`, one of `FRAMES`."""
    frames = FRAMES[video] if args.frames is None else args.frames
    if video == PANELS:
        return films.film_panels(models, shot, frames, size=args.size)
    if video == KEYPOINTS:
        seeing: Any = from_pretrained("keypoints-billiards2d", device="cpu")
        return films.film_keypoints(seeing, shot, frames, size=args.size)
    name, model = list(models.items())[-1]
    return films.film_interpolation(model, shot, name, frames, args.rate, args.size)
