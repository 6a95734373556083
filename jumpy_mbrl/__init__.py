"""Billiards environments, jumpy world models that predict them, and planners that use the models.

Importing this package registers the environments with Gymnasium (`gym.make("Billiards2D-v0")`) and
stays light: what needs torch is loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.envs import register_envs

if TYPE_CHECKING:
    from jumpy_mbrl.models import Imagined, State, WorldModel, from_pretrained, save_pretrained

__version__ = "0.1.0"

__all__ = [
    "Imagined",
    "State",
    "WorldModel",
    "__version__",
    "from_pretrained",
    "save_pretrained",
]

_FROM_MODELS = ("Imagined", "State", "WorldModel", "from_pretrained", "save_pretrained")
_SUBPACKAGES = ("agents", "data", "envs", "evaluation", "models", "training")

register_envs()


def __getattr__(name: str) -> Any:
    if name in _FROM_MODELS:
        return getattr(importlib.import_module("jumpy_mbrl.models"), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"jumpy_mbrl.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_MODELS, *_SUBPACKAGES})
