"""World models: filter real frames, then imagine the future at any real times."""

from jumpy_mbrl.models.action_sequence import ActionSequence
from jumpy_mbrl.models.base import Imagined, State, WorldModel
from jumpy_mbrl.models.bodies.event_jump import EventJump, EventJumpConfig
from jumpy_mbrl.models.bodies.fold_jump import FoldJump, FoldJumpConfig
from jumpy_mbrl.models.bodies.sprite_jump import SpriteJump, SpriteJumpConfig
from jumpy_mbrl.models.jumpy_rnn import JumpyRNN, JumpyRNNConfig
from jumpy_mbrl.models.keypoint_jump import KeypointJump, KeypointJumpConfig
from jumpy_mbrl.models.latent_jump import LatentJump, LatentJumpConfig
from jumpy_mbrl.models.ode_rnn import ODERNN, ODERNNConfig
from jumpy_mbrl.models.pretrained import (
    from_pretrained,
    pretrained_info,
    save_pretrained,
    shipped_models,
)
from jumpy_mbrl.models.recurrent import LossConfig
from jumpy_mbrl.models.registry import MODELS, make_model
from jumpy_mbrl.models.relational_jump import RelationalJump, RelationalJumpConfig
from jumpy_mbrl.models.rnn import RNN, RNNConfig

__all__ = [
    "MODELS",
    "ODERNN",
    "RNN",
    "ActionSequence",
    "EventJump",
    "EventJumpConfig",
    "FoldJump",
    "FoldJumpConfig",
    "Imagined",
    "JumpyRNN",
    "JumpyRNNConfig",
    "KeypointJump",
    "KeypointJumpConfig",
    "LatentJump",
    "LatentJumpConfig",
    "LossConfig",
    "ODERNNConfig",
    "RNNConfig",
    "RelationalJump",
    "RelationalJumpConfig",
    "SpriteJump",
    "SpriteJumpConfig",
    "State",
    "WorldModel",
    "from_pretrained",
    "make_model",
    "pretrained_info",
    "save_pretrained",
    "shipped_models",
]
