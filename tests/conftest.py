"""Shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
# The tests run in several processes side by side; threads of their own would only fight.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Imports a file of scripts/ by its name without the suffix, anew each time."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


ODD: tuple[Any, ...] = (None, True, -1, 0.5, 10**400, float("inf"), "x", [], ["x"], {}, {"x": 1})


@pytest.fixture(scope="session")
def mutants() -> Callable[[Any], Iterator[Any]]:
    """Gives what JSON holds with each entry in turn left out, and replaced by what it is not."""

    def each(content: Any) -> Iterator[Any]:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))[:2]
        for key in keys:
            rest = dict(content) if isinstance(content, dict) else list(content)
            del rest[key]
            yield rest
            values = list(ODD)
            if isinstance(content[key], dict | list):
                values += each(content[key])
            for value in values:
                changed = content.copy()
                changed[key] = value
                yield changed

    return each


@pytest.fixture
def closed_stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """stdout as `program | true` leaves it: nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    yield
    monkeypatch.undo()
    try:
        stream.close()
    except BrokenPipeError:
        os.close(writer)
