"""The billiards tables: environments, their configuration and their physics.

`import jumpy_mbrl` registers the environments. Importing this package loads neither torch nor
pygame.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jumpy_mbrl.envs.config import LINE_CONFIG, TableConfig

if TYPE_CHECKING:
    from jumpy_mbrl.envs.billiards import (
        Billiards1DEnv,
        Billiards1DShotEnv,
        Billiards2DEnv,
        Billiards2DShotEnv,
    )
    from jumpy_mbrl.envs.pixels import PixelConfig, draw_pixels
    from jumpy_mbrl.envs.video import RecordShots, save_gif

BILLIARDS_2D = "Billiards2D-v0"
BILLIARDS_1D = "Billiards1D-v0"
BILLIARDS_2D_SHOT = "Billiards2DShot-v0"
BILLIARDS_1D_SHOT = "Billiards1DShot-v0"

ENV_IDS = (BILLIARDS_2D, BILLIARDS_1D, BILLIARDS_2D_SHOT, BILLIARDS_1D_SHOT)
"""Ids of all registered environments."""

__all__ = [
    "BILLIARDS_1D",
    "BILLIARDS_1D_SHOT",
    "BILLIARDS_2D",
    "BILLIARDS_2D_SHOT",
    "ENV_IDS",
    "LINE_CONFIG",
    "Billiards1DEnv",
    "Billiards1DShotEnv",
    "Billiards2DEnv",
    "Billiards2DShotEnv",
    "PixelConfig",
    "RecordShots",
    "TableConfig",
    "draw_pixels",
    "register_envs",
    "save_gif",
]

_LIMITS = {BILLIARDS_2D: 44, BILLIARDS_1D: 20, BILLIARDS_2D_SHOT: 1, BILLIARDS_1D_SHOT: 1}
_LAZY = {
    "Billiards1DEnv": "billiards",
    "Billiards1DShotEnv": "billiards",
    "Billiards2DEnv": "billiards",
    "Billiards2DShotEnv": "billiards",
    "PixelConfig": "pixels",
    "RecordShots": "video",
    "draw_pixels": "pixels",
    "save_gif": "video",
}


def register_envs() -> None:
    """Registers the environments with Gymnasium. Calling it again changes nothing."""
    import gymnasium as gym

    from jumpy_mbrl.envs.limit import OneEnd, SingleOnly

    for name in ENV_IDS:
        if name not in gym.registry:
            kind = name.removesuffix("-v0")
            gym.register(
                name,
                entry_point=f"jumpy_mbrl.envs.billiards:{kind}Env",
                vector_entry_point=f"jumpy_mbrl.envs.vector:{kind}VectorEnv",
                max_episode_steps=_LIMITS[name],
                additional_wrappers=SingleOnly([OneEnd.wrapper_spec()]),
            )


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"jumpy_mbrl.envs.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
