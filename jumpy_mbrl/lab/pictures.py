"""Draws the pictures of docs/environments.md and docs/architecture.md from the code itself.

python scripts/make_pictures.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.envs import ENV_IDS, rendering
from jumpy_mbrl.files import atomic_write
from jumpy_mbrl.lab import architecture
from jumpy_mbrl.play.game import Game, Phase

Picture = NDArray[np.uint8]

KINDS: dict[str, dict[str, Any]] = {
    "render": {"render_mode": "rgb_array"},
    "coords": {"obs_type": "coords"},
    "state": {"obs_type": "state"},
    "pixels": {"obs_type": "pixels"},
    "paper": {"obs_type": "pixels", "pixels": "paper"},
    "dict": {"obs_type": "dict"},
}
"""What is shown of every environment, and the arguments of `gym.make` for it."""

SEED = 23
PANEL = 256
RENDERED = 400
TRIES = 200
PATIENCE = 120.0  # seconds
GAP = 8
VIEW = 0.15  # Time units that an arrow looks ahead.


@dataclass(frozen=True)
class Args:
    """Where the pictures go."""

    out: Path = Path("docs/images")
    """The folder to write to; it is made if need be."""


def main(argv: Sequence[str]) -> int:
    """Draws the pictures."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    for env_id in ENV_IDS:
        for kind in KINDS:
            name = f"{env_id.removesuffix('-v0').lower()}_{kind}"
            save(args.out / f"{name}.png", draw(env_id, kind))
    save(args.out / "play.png", play())
    architecture.draw(args.out / "architecture.png")
    return 0


def save(path: Path, picture: Picture) -> None:
    """Writes a picture, and says so."""
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)
    height, width = picture.shape[:2]
    print(f"{path}: {width} x {height}, {path.stat().st_size:,} bytes")


def play() -> Picture:
    """The window of scripts/play.py while a person aims, and after the agent has shot."""
    game = Game(partial(load_agent, "jumpy"), seed=5)

    def wait(phase: Phase) -> None:
        end = time.monotonic() + PATIENCE
        while game.phase is not phase:
            if time.monotonic() > end:
                raise RuntimeError(f"the game is still at {game.phase.value!r}: {game.problem}")
            game.pass_time(1 / 60)
            time.sleep(0.001)  # leave the core to the agent's thread

    wait(Phase.AIM)
    game.press(0.5, 0.6)
    game.drag(0.68, 0.45)
    aiming = rendering.draw_view(game.view())
    game.cancel()
    game.ask_agent()
    wait(Phase.OVER)
    after = rendering.draw_view(game.view())
    game.close()
    return beside([enlarge(aiming, RENDERED), enlarge(after, RENDERED)])


def draw(env_id: str, kind: str) -> Picture:
    """The picture of an environment: one of `KINDS`."""
    env = gym.make(env_id, **KINDS[kind])
    obs, _ = env.reset(seed=SEED)
    picture = before_and_after(env) if kind == "render" else show(env, obs)
    env.close()
    return picture


def before_and_after(env: gym.Env[Any, Any]) -> Picture:
    """The table at the first frame and at the last, after a shot that wins."""
    before: Any = env.render()
    env.action_space.seed(SEED)
    for _ in range(TRIES):
        env.reset(seed=SEED)
        action, over = env.action_space.sample(), False
        while not over:
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        if info["is_success"]:
            after: Any = env.render()
            return beside([enlarge(before, RENDERED), enlarge(after, RENDERED)])
    raise RuntimeError(f"no shot of {TRIES} wins table {SEED}: choose another seed")


def show(env: gym.Env[Any, Any], obs: Any) -> Picture:
    """An observation: its frames beside each other, coordinates above pixels."""
    if isinstance(obs, dict):
        parts = [show(env, obs[name]).swapaxes(0, 1) for name in ("coords", "pixels")]
        return beside(parts).swapaxes(0, 1)
    task: Any = env.unwrapped
    frames = task.config.context_frames if "Shot" in task.spec.id else 1
    if obs.ndim == 3:
        return beside([enlarge(part, PANEL) for part in np.split(obs, frames, axis=-1)])
    return beside([plot(task, part) for part in obs.reshape(frames, -1)])


def plot(env: Any, numbers: NDArray[np.float32]) -> Picture:
    """The table that the numbers of "coords" or "state" tell of, with arrows for velocities."""
    balls, axes = env.config.num_balls, 1 if env.task.line else 2

    def points(values: NDArray[np.float32], x: float) -> NDArray[np.float32]:
        pairs = values.reshape(balls, axes)
        return pairs if axes == 2 else np.hstack([np.full_like(pairs, x), pairs])

    positions = points(numbers[: balls * axes], 0.5)
    paths = [rendering.Path(positions, width=0.0, dots=True, dot_radius=0.02)]
    if len(numbers) > balls * axes:
        ways = VIEW * points(numbers[balls * axes : 2 * balls * axes], 0.0)
        for start, way in zip(positions, ways, strict=True):  # an arrow in one line
            tip, along = start + way, 0.05 * way / max(float(np.linalg.norm(way)), 1e-9)
            across = 0.6 * np.array([-along[1], along[0]])
            barbs = [tip - along + across, tip, tip - along - across]
            paths.append(rendering.Path(np.stack([start, tip, *barbs]), width=0.012))
    radius = env.config.radius
    return rendering.draw_table(positions, env.target, size=PANEL, paths=paths, radius=radius)


def enlarge(picture: Picture, size: int) -> Picture:
    """An RGB or grey picture at about `size` pixels height: whole pixels where it has fewer."""
    height, width = picture.shape[:2]
    if height > size:
        shape = round(size * width / height), size
        return np.asarray(Image.fromarray(picture).resize(shape, Image.Resampling.BOX))
    factor = size // picture.shape[0]
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return np.broadcast_to(large, (*large.shape[:2], 3))


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height in a row, with white gaps."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    row = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(row[1:], axis=1)
