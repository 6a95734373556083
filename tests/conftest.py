"""Shared by all tests."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from jumpy_mbrl.commands.main import COMMANDS

SCRIPTS = Path(__file__).parents[1] / "scripts"

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
# The tests run in several processes side by side; threads of their own would only fight.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def read_board() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """The steps and values that TensorBoard shows of a folder, by tag."""
    events: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        board = events.EventAccumulator(str(folder)).Reload()
        tags = board.Tags()["scalars"]
        return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in tags}

    return read


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Imports the module that a file of scripts/ runs, by the file's name without the suffix."""

    def load(name: str) -> ModuleType:
        (command,) = re.findall(r'script\("(.+)"\)', (SCRIPTS / f"{name}.py").read_text())
        return importlib.import_module(f"jumpy_mbrl.{COMMANDS[command][0]}")

    return load


ODD: tuple[Any, ...] = (None, True, -1, 0.5, 10**400, float("inf"), "x", [], ["x"], {}, {"x": 1})


def mutants(content: Any) -> Iterator[Any]:
    """What JSON holds, with each entry in turn left out, and replaced by what it is not."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))[:2]
    for key in keys:
        rest = content.copy()
        del rest[key]
        yield rest
        values = list(ODD)
        if isinstance(content[key], dict | list):
            values += mutants(content[key])
        for value in values:
            changed = content.copy()
            changed[key] = value
            yield changed


@pytest.fixture(scope="session")
def refusals() -> Callable[..., int]:
    """Counts how many mutants of a JSON file a reader refuses, by a `ValueError` that names it."""

    def count(
        path: Path,
        read: Callable[[], object],
        write: Callable[[Any], object] | None = None,
        every: int = 1,
    ) -> int:
        whole, refused = path.read_bytes(), 0
        for content in islice(mutants(json.loads(whole)), 0, None, every):
            path.write_text(json.dumps(content)) if write is None else write(content)
            try:
                read()
            except ValueError as error:
                assert path.stem in str(error), (content, error)
                refused += 1
        path.write_bytes(whole)
        return refused

    return count


@pytest.fixture(scope="session")
def has_color() -> Callable[[Path, str], bool]:
    """Whether a picture has a pixel of a colour."""
    colors, image = map(pytest.importorskip, ("matplotlib.colors", "matplotlib.image"))

    def has(path: Path, color: str) -> bool:
        off = abs(image.imread(path)[..., :3] - colors.to_rgb(color))
        return bool((off < 0.02).all(axis=-1).any())

    return has


@pytest.fixture(scope="session")
def closed_stdout() -> Callable[[], AbstractContextManager[None]]:
    """Within it stdout is as `program | true` leaves it: nobody reads."""

    @contextmanager
    def closed() -> Iterator[None]:
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w", buffering=1)
        with redirect_stdout(stream):
            yield
        with suppress(BrokenPipeError):
            stream.close()

    return closed
