"""The billiards tables: environments, their configuration and their physics.

`import jumpy_mbrl` registers the environments. Importing this package loads neither torch nor
pygame.
"""

from typing import TYPE_CHECKING, Any

from jumpy_mbrl.envs.config import TableConfig

if TYPE_CHECKING:
    from jumpy_mbrl.envs.billiards import Billiards2DEnv

BILLIARDS_2D = "Billiards2D-v0"

ENV_IDS = (BILLIARDS_2D,)
"""Ids of all registered environments."""

__all__ = ["BILLIARDS_2D", "ENV_IDS", "Billiards2DEnv", "TableConfig", "register_envs"]


def register_envs() -> None:
    """Registers the environments with Gymnasium. Calling it again changes nothing."""
    import gymnasium as gym

    if BILLIARDS_2D not in gym.registry:
        gym.register(
            BILLIARDS_2D,
            entry_point="jumpy_mbrl.envs.billiards:Billiards2DEnv",
            max_episode_steps=TableConfig().num_frames - 1,
        )


def __getattr__(name: str) -> Any:
    if name == "Billiards2DEnv":
        from jumpy_mbrl.envs.billiards import Billiards2DEnv

        return Billiards2DEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
