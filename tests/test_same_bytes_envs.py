"""What the tables give for a seed, byte for byte, as it was when the pins were written.

`python tests/test_same_bytes_envs.py --write` writes them anew: only for a change that is meant to
be seen, which belongs into the changelog.
"""

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import jumpy_mbrl  # noqa: F401  (registers the environments)
from jumpy_mbrl.envs import ENV_IDS, draw_pixels, physics, torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.pixels import PRESETS
from jumpy_mbrl.envs.rendering import draw_table, draw_view
from jumpy_mbrl.envs.scene import Arrow, View
from jumpy_mbrl.envs.scene import Path as Line
from jumpy_mbrl.envs.starts import sample_tables

PINS = Path(__file__).parent / "pins" / "envs.json"
PLANE, LINE, SHOT, LINE_SHOT = ENV_IDS
SEEDS = 0, 1, 2
FORMS = ("single", "python", "numba")

COMMON: dict[str, dict[str, Any]] = {
    **{kind: {"obs_type": kind} for kind in ("coords", "state", "pixels", "dict")},
    "dense": {"reward": "dense", "obs_type": "state"},
    "random target": {"random_target": True, "obs_type": "dict", "size": 24, "channels": 1},
    "dense random target": {"reward": "dense", "random_target": True},
    "no lead-in": {"config": {"lead_in": 0}, "obs_type": "state"},
    "lossy": {"config": {"restitution": 0.8, "lead_in": 1}, "obs_type": "state"},
    "old keys": {"legacy_info": True, "pixels": "paper", "obs_type": "pixels"},
}
ON_A_TABLE: dict[str, dict[str, Any]] = {
    "last": {"success": "last", "reward": "dense"},
    "rest": {"start": "rest", "obs_type": "state"},
    "one ball": {"num_balls": 1, "obs_type": "state"},
    "five balls": {"num_balls": 5, "random_target": True, "obs_type": "state", "reward": "dense"},
    "seven balls, long frames": {"num_balls": 7, "config": {"dt": 0.1}, "obs_type": "dict"},
}
SHOTS: dict[str, dict[str, Any]] = {
    f"{shots} shots": {"max_shots": shots, "obs_type": "state", "reward": "dense"}
    for shots in (3, None)
}


def variants(name: str) -> dict[str, dict[str, Any]]:
    table = {} if name in (LINE, LINE_SHOT) else ON_A_TABLE
    return {**COMMON, **table, **(SHOTS if name == PLANE else {})}


CASES = [(name, variant) for name in ENV_IDS for variant in variants(name)]


def digest(content: Any) -> str:
    """A hash of nested results: of their structure, dtypes, shapes and bytes."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                found.update(f"{key}:".encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            found.update(f"[{len(value)}]".encode())
            for part in value:
                add(part)
        elif isinstance(value, np.ndarray) and value.dtype == object:
            add(value.tolist())
        elif value is None:
            found.update(b"None")
        else:
            array = np.asarray(value)
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(array.tobytes())

    add(content)
    return found.hexdigest()[:16]


def actions_of(name: str, count: int) -> Any:
    steps = 60 if name in (PLANE, LINE) else 12
    return np.random.default_rng(7).uniform(-1.2, 1.2, (steps, count, 2)).astype(np.float32)


def make(name: str, **arguments: Any) -> Any:
    return gym.make(name, disable_env_checker=True, **arguments)


def make_many(name: str, count: int, **arguments: Any) -> Any:
    return gym.make_vec(name, count, vectorization_mode="vector_entry_point", **arguments)


def single(name: str, **arguments: Any) -> list[list[Any]]:
    """All that tables say, one by one, each beginning anew in the step after an end."""
    actions, stories = actions_of(name, len(SEEDS)), []
    for row, seed in enumerate(SEEDS):
        env = make(name, **arguments)
        story, over = [env.reset(seed=seed)], False
        for action in actions[:, row]:
            if over:
                obs, info = env.reset()
                story.append((obs, 0.0, False, False, info))
                over = False
            else:
                story.append(env.step(action))
                over = story[-1][2] or story[-1][3]
        stories.append(story)
    return stories


def part(value: Any, row: int) -> Any:
    """What belongs to one of many tables."""
    if isinstance(value, dict):
        return {key: part(each, row) for key, each in value.items() if not key.startswith("_")}
    return value[row]


def many(name: str, backend: str, **arguments: Any) -> list[list[Any]]:
    """The same of the vector form."""
    env = make_many(name, len(SEEDS), backend=backend, **arguments)
    told = [env.reset(seed=list(SEEDS)), *map(env.step, actions_of(name, len(SEEDS)))]
    return [[[part(each, row) for each in result] for result in told] for row in range(len(SEEDS))]


def episodes(form: str, name: str, variant: str) -> str:
    arguments = variants(name)[variant]
    return digest(single(name, **arguments) if form == "single" else many(name, form, **arguments))


# What stands beside episodes: each entry is pinned by its name.


def given_starts(form: str) -> Iterator[Any]:
    """Starts with options, and what the generator draws after them."""
    x, v, target = [[0.2, 0.3], [0.7, 0.5]], [[0.5, -1.0], [0.0, 0.25]], [0.25, 0.5, 0.0, 0.125]
    for name in ENV_IDS:
        flat = name in (LINE, LINE_SHOT)
        y, w, low = ([0.3, 0.7], [1.0, -1.0], [0.5, 0.75]) if flat else (x, v, target)
        for options in (
            {"positions": y},
            {"velocities": w},
            {"target": low},
            {"positions": y, "velocities": w, "target": low},
        ):
            more = {"random_target": True, "obs_type": "state"}
            if form == "single":
                env = make(name, **more)
                told = env.reset(seed=5, options=options), env.step([0.3, -0.4])
                yield told, env.reset(), env.unwrapped.np_random.random()
            else:
                env = make_many(name, 1, backend=form, **more)
                told = env.reset(seed=[5], options=options), env.step(np.array([[0.3, -0.4]]))
                first = [[part(each, 0) for each in result] for result in (*told, env.reset())]
                yield first[:2], first[2], env.np_random[0].random()


def masks_and_finals(backend: str) -> Iterator[Any]:
    """Partial resets, options for each table, and the ends told in mode SAME_STEP."""
    for name in ENV_IDS:
        for kind in ("coords", "dict"):
            same = {"autoreset_mode": "SameStep", "obs_type": kind, "backend": backend}
            env = make_many(name, 4, **same, **({"max_episode_steps": 9} if name == PLANE else {}))
            yield env.reset(seed=3)
            for step, actions in enumerate(actions_of(name, 4)[:30]):
                yield env.step(actions)
                if step % 7 == 2:
                    mask = np.array([True, False, step % 2 == 0, False])
                    yield env.reset(seed=step, options={"reset_mask": mask})
        targets = np.array([[0.5, 1.0], [0.0, 0.25], [0.25, 0.5], [0.0, 1.0]])
        if name in (PLANE, SHOT):
            targets = np.concatenate([targets, targets[::-1]], axis=1)
        yield env.reset(options={"target": targets})


def trajectories(backend: Any) -> Iterator[Any]:
    for balls, restitution in ((1, 1.0), (2, 1.0), (5, 0.7), (8, 1.0)):
        config = TableConfig(num_balls=balls, restitution=restitution)
        rng = np.random.default_rng(balls)
        for start in ("moving", "rest"):
            x, v = sample_tables(config, rng, 12, start)
            shots = rng.uniform(-1, 1, (12, 2))
            yield x, v, physics.simulate(x, v, shots, config, backend), rng.random()


def pictures() -> Iterator[Any]:
    """Pictures for people: of environments, and of all that a view may hold."""
    for name in ENV_IDS:
        for mode in ("rgb_array", "rgb_array_list"):
            env = make(name, render_mode=mode)
            env.reset(seed=1)
            shown = [env.render()]
            over = False
            for _ in range(7):
                over = over or env.step(np.array([0.7, -0.4], dtype=np.float32))[2]
                shown.append(env.render())
            yield shown
        env = make_many(name, 2, render_mode="rgb_array")
        env.reset(seed=1)
        yield env.render()
    places = np.array([[0.2, 0.3], [0.5, 0.8], [0.75, 0.55]])
    way = [[0.1, 0.5], [0.3, 0.4], [0.9, 0.9]]
    lines = (
        Line(way, (250, 0, 250), 0.02, fade=True),
        Line(way[::-1], width=0.01, dash=0.05, opacity=0.7),
        Line(way, width=0, dots=True, dot_radius=0.02),
    )
    yield draw_table(places, (0.8, 1.0, 0.0, 0.2), 200, lines, 0.08)
    for size in ((None, None), (300, 420), (97, 64)):
        for impulse in ((0.5, -1.0), (0.0, 1e-4)):
            arrow = Arrow((0.2, 0.3), impulse, 0.6)
            told: dict[str, Any] = {word: word for word in ("left", "middle", "right", "hint")}
            view = View(places, (0.1, 0.3, 0.2, 0.7), 0.07, (np.array(way),), lines, arrow, **told)
            yield draw_view(view, *size)
    yield draw_view(View(places, None, is_success=True), 40, 40)
    yield draw_view(View(places, (0.0, 1.0, 0.2, 0.4), is_success=True))


def small_pictures() -> Iterator[Any]:
    tables = np.random.default_rng(2).uniform(-0.3, 1.3, (20, 3, 2))
    for config in (*PRESETS.values(), None):
        for radius in (0.03, 0.1, 0.5):
            yield draw_pixels(tables, (0.1, 0.33, 0.2, 0.71), config, radius)
            yield draw_pixels(tables[0], None, config, radius)


def on_tensors() -> Iterator[Any]:
    """The batched engine, with its gradients."""
    for balls, restitution in ((1, 1.0), (2, 1.0), (4, 0.8)):
        config = TableConfig(num_balls=balls)
        x, v = map(torch.tensor, sample_tables(config, np.random.default_rng(balls), 16))
        v.requires_grad_()
        times = torch.tensor([0.7, 0.0, 0.33], dtype=torch.float64)
        ends = torch_physics.advance(x, v, 0.8, 0.1, restitution)
        told = [*ends, *torch_physics.simulate(x, v, times, 0.1, restitution)]
        time, event = torch_physics.next_event(x, v, 0.1)
        told += [time, event, torch_physics.resolve(x, v, event, restitution)]
        (slope,) = torch.autograd.grad(torch.cat([each.flatten() for each in told[:4]]).sum(), v)
        yield [each.detach().numpy() for each in (*told, slope)]
        yield [
            each.numpy() for each in torch_physics.advance(x.float(), v.detach().float(), 1, 0.1)
        ]


EXTRAS: dict[str, Callable[[], Iterator[Any]]] = {
    **{f"given starts, {form}": lambda form=form: given_starts(form) for form in FORMS},  # type: ignore[misc]
    **{f"masks, {form}": lambda form=form: masks_and_finals(form) for form in FORMS[1:]},  # type: ignore[misc]
    **{f"trajectories, {form}": lambda form=form: trajectories(form) for form in FORMS[1:]},  # type: ignore[misc]
    "small pictures": small_pictures,
    "pictures": pictures,
    "tensors": on_tensors,
}
DEPENDS = {"pictures": "pygame", "tensors": "torch"}
"""What draws or computes otherwise in another version, or on another processor."""


def made_with(what: str) -> str:
    flags = torch.backends.cpu.get_cpu_capability()
    return f"{importlib.metadata.version(what)}, {flags}"


@pytest.fixture(scope="module")
def pins() -> Any:
    return json.loads(PINS.read_text())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_episodes(form: str, name: str, variant: str, pins: Any) -> None:
    if form == "numba":
        pytest.importorskip("numba")
    assert episodes(form, name, variant) == pins["episodes"][f"{name}, {variant}"]


@pytest.mark.parametrize("name", EXTRAS)
def test_the_rest(name: str, pins: Any) -> None:
    if name.endswith("numba"):
        pytest.importorskip("numba")
    depends = DEPENDS.get(name)
    if depends and made_with(depends) != pins["made with"][depends]:
        pytest.skip(f"drawn or computed with another {depends}, or on another processor")
    key = name.partition(",")[0]  # one for all forms
    assert digest([digest(each) for each in EXTRAS[name]()]) == pins["rest"][key]


def write() -> None:
    content = {
        "made with": {what: made_with(what) for what in DEPENDS.values()},
        "episodes": {f"{name}, {case}": episodes("single", name, case) for name, case in CASES},
        "rest": {
            name.partition(",")[0]: digest([digest(each) for each in make_all()])
            for name, make_all in EXTRAS.items()
        },
    }
    PINS.parent.mkdir(exist_ok=True)
    PINS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
