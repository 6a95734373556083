"""Shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
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
    """Imports a file of scripts/ by its name without the suffix, anew each time."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load
