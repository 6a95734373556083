"""Policies as agents: saved, shipped and loaded.

A folder holds ``policy.zip``, as SB3's own ``save`` writes it, and ``config.json``: what it was
trained on and how, its figures, and the checksum of the zip. Such a zip holds pickles, which can
run anything when they are read; so it is read only if it is, byte for byte, one that is shipped
with the package, or if the caller trusts it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import operator
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from jumpy_mbrl import files
from jumpy_mbrl.agents import base
from jumpy_mbrl.agents.baselines.features import FRAME_SIZE, check_frame_size
from jumpy_mbrl.agents.baselines.presets import ALGORITHMS
from jumpy_mbrl.arrays import as_array
from jumpy_mbrl.devices import any_device, plain_defaults
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.rules import Task, plane_task
from jumpy_mbrl.models import world
from jumpy_mbrl.models.pretrained import versions
from jumpy_mbrl.shipped import CONFIG, ShippedFolders

FORMAT = "jumpy-mbrl policy"
FORMAT_VERSION = 1


def algorithm_of(name: str) -> Any:
    """The class of an algorithm of ``presets.ALGORITHMS``; `ImportError` where it is missing."""
    if name != "tqc":
        return getattr(stable_baselines3, name.upper())
    try:
        from sb3_contrib import TQC  # an extra
    except ImportError as error:
        raise ImportError(
            f"TQC needs sb3-contrib: pip install 'jumpy-mbrl[contrib]' ({error})"
        ) from error
    return TQC


_POLICY = "policy.zip"
_SHIPPED = ShippedFolders("policies", "policy", "save_policy")
_OF_THE_RUN = (
    *("tensorboard_log", "_last_obs", "_last_original_obs", "_last_episode_starts"),
    *("ep_info_buffer", "ep_success_buffer"),
)
_BUILT_IN = {"motion": "changes between frames", "relative": "places relative to the target"}


class PolicyAgent:
    """Plays the shot that a policy of Stable-Baselines3 chooses at the frame of the shot.

    A policy that was not shown targets, as numbers or in pictures, goes on aiming at the one that
    it was trained on, wherever the target of the game is.

    `ValueError` for a policy that is told velocities, which agents are not, or of pixels that are
    not four stacked pictures; `OtherGameError` for another game than that of the policy; an
    `OtherWorldWarning` for a table with other physics, faster starts or, for a policy that was not
    shown targets, a target elsewhere than it learned.

    Args:
        policy: anything with SB3's ``predict``, and its ``observation_space`` if it sees pixels.
        training: what it was trained on: ``obs_type`` and ``random_target``, and, if known,
            ``start`` and ``table``, settings of a `TableConfig`.
        task: what it is to play; by default `Billiards2D-v0` as it is.
        checkpoint: name or folder of the policy, for the record.
        training_frames: frames of experience that it learned from, likewise.
        training_seconds: how long it learned, likewise.

    Attributes:
        picture: height, width and channels of the pictures it is shown; None if it is shown none.
        reads_targets: whether it is shown the target in numbers.
    """

    def __init__(
        self,
        policy: Any,
        training: Mapping[str, Any],
        task: Task | None = None,
        checkpoint: str | None = None,
        training_frames: int | None = None,
        training_seconds: float | None = None,
    ) -> None:
        task = task or plane_task()
        shown, balls = training["obs_type"], task.config.num_balls
        if shown not in ("coords", "pixels"):
            raise ValueError(
                f"expected a policy that sees 'coords' or 'pixels', got one that is shown "
                f"{shown!r}, which agents are not"
            )
        if task.line or balls != 2:
            raise base.OtherGameError(
                f"expected a table with 2 balls, which the policy was trained on, got "
                f"{'a line' if task.line else f'{balls} ball' + 's' * (balls > 1)}; take an agent "
                f"that plans, such as 'jumpy' or 'simulator'"
            )
        if task.config.context_frames != base.CONTEXT_FRAMES:
            raise base.OtherGameError(
                f"expected a shot after {base.CONTEXT_FRAMES} frames, which the policy was trained "
                f"on, got lead_in={task.config.lead_in}"
            )
        _warn_of_other_world(training, task, checkpoint or type(policy).__name__)
        self.checkpoint = checkpoint
        self.training_frames = training_frames
        self.training_seconds = training_seconds
        network = getattr(policy, "policy", None)
        self.weights = None
        if isinstance(network, nn.Module):
            self.weights = sum(part.numel() for part in network.parameters())
        self.built_in = tuple(word for name, word in _BUILT_IN.items() if training.get(name))
        self._policy = policy
        self._target = None if task.random_target else np.array(task.config.target, np.float32)
        self.picture = _picture_of(policy) if shown == "pixels" else None
        self.reads_targets = bool(training["random_target"]) and self.picture is None

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``; frames may be flat, and hold the target in four numbers more.

        A policy of pixels takes pictures (B, 4, h, w, C) or (4, h, w, C), bytes or numbers from 0
        to 1. `ValueError` for observations of another shape, range or type, NaN or infinity, or
        without the target where the policy is shown targets and each episode has its own.
        """
        if self.picture is None:
            sizes = (FRAME_SIZE, FRAME_SIZE + 4)
            frames, single = base.batch_of_frames(observation, likely_sizes=sizes)
            shown = self._as_trained(frames)
        else:
            pictures, single = base.batch_of_pictures(observation, self.picture)
            shown = _stacked(pictures)
        with plain_defaults():
            answer = self._policy.predict(shown, deterministic=deterministic)
        actions = np.clip(as_array(answer[0]), -1.0, 1.0).astype(np.float32)
        return (actions[0] if single else actions), state

    def _as_trained(self, frames: NDArray[np.float32]) -> NDArray[Any]:
        """Context frames (B, 4, D) as the observations that the policy was trained on."""
        B, T, D = frames.shape
        check_frame_size(D)
        balls, targets = frames[..., :FRAME_SIZE], frames[..., FRAME_SIZE:]
        if not self.reads_targets:
            return balls.reshape(B, -1)
        if D == FRAME_SIZE:
            if self._target is None:
                raise ValueError(
                    f"each episode has a target of its own, and none was shown: give frames with "
                    f"the target, {FRAME_SIZE} + 4 numbers each, as random_target=True shows them"
                )
            targets = np.broadcast_to(self._target, (B, T, 4))
        return np.concatenate([balls, targets], axis=-1).reshape(B, -1)


def _picture_of(policy: Any) -> tuple[int, int, int]:
    """Height, width and channels of each of the pictures that a policy sees stacked."""
    space = policy.observation_space
    shape = space.shape
    if len(shape) == 3 and is_image_space_channels_first(space):
        shape = *shape[1:], shape[0]
    if len(shape) != 3 or shape[2] % base.CONTEXT_FRAMES:
        raise ValueError(
            f"expected a policy of {base.CONTEXT_FRAMES} pictures, stacked channel after channel, "
            f"got the observation space {space}"
        )
    height, width, channels = shape
    return height, width, channels // base.CONTEXT_FRAMES


def _stacked(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures (B, 4, h, w, C) as the environment stacks them, bytes (B, h, w, 4 * C)."""
    if pictures.dtype != np.uint8:
        pictures = np.rint(255.0 * pictures).astype(np.uint8)
    return np.concatenate([*pictures.swapaxes(0, 1)], axis=-1)


def _warn_of_other_world(training: Mapping[str, Any], task: Task, name: str) -> None:
    table = training.get("table", {} if "form" in training else None)
    start = training.get("start", "moving")
    learned = None if table is None else world.learned_world({"table": table, "start": start})
    if learned is None:
        return
    found = world.differences(learned, task)
    mine, its = learned.table.target, task.config.target
    inside = (np.subtract(its, mine) * (1, -1, 1, -1) >= -world.ROUNDING).all()
    if not (inside or training["random_target"] or task.random_target):
        found["target"] = mine, its
    if found:
        default = TableConfig().to_dict()
        config = {name: its for name, its in task.config.to_dict().items() if its != default[name]}
        warnings.warn(
            f"the policy {name!r} knows another world than it is to play in ({world.told(found)}), "
            f"so it may play nonsense; train one with Stable-Baselines3 in make_vec_env("
            f"'Billiards2DShot-v0', config={config}, start={task.start!r}), as train_sb3.py has "
            f"the default table alone",
            world.OtherWorldWarning,
            stacklevel=3,
        )


def load_policy(
    path_or_name: str | os.PathLike[str],
    *,
    trust: bool = False,
    device: torch.device | str = "cpu",
    env: VecEnv | None = None,
) -> BaseAlgorithm:
    """Loads a policy, ready for ``predict``, and with an environment for ``learn``.

    `ValueError` if there is no such policy, its files are damaged or do not belong together, or it
    is not shipped and not trusted; or for a device that is unknown or that this machine does not
    have; or for an environment with other spaces than it learned in.

    Args:
        path_or_name: a folder that ``save_policy`` wrote, or the name of a shipped policy.
        trust: read a policy that is not shipped, whose pickles can run anything. Say so only for
            your own, or where you trust whoever made it.
        device: "auto" (CUDA if there is one) or any device of torch.
        env: to train on in, of any number of tables (``make_vec_env``).
    """
    place = any_device(device)
    folder = _SHIPPED.find(path_or_name)
    path, content = folder / _POLICY, policy_info(folder)
    name, wanted = content["algorithm"], content["policy_sha256"]
    try:
        data = path.read_bytes()  # Once: what is checked is what is loaded.
    except OSError as error:
        raise ValueError(f"expected {_POLICY} in {folder}: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise ValueError(
            f"expected {path} to have the SHA-256 {wanted} of its {CONFIG}, got {found}; the two "
            "do not belong together"
        )
    shipped = shipped_policies()
    if not trust and found not in [policy_info(one)["policy_sha256"] for one in shipped]:
        raise ValueError(
            f"expected one of the policies that are shipped, {shipped}, got {path}, whose pickles "
            "could run anything; pass trust=True (--trust) if you trust it"
        )
    kind = algorithm_of(name)
    try:
        with plain_defaults():
            model: BaseAlgorithm = kind.load(io.BytesIO(data), env=env, device=place)
        if type(model.policy) not in kind.policy_aliases.values():  # SB3 asks for no match
            raise TypeError(f"it holds a {type(model.policy).__name__}")
    except Exception as error:  # SB3 raises whatever it stumbles over
        raise ValueError(
            f"expected a policy of {name!r} in {path}, as its {CONFIG} says, but SB3 cannot load "
            f"it as one: {error}"
        ) from error
    return model


def save_policy(
    model: BaseAlgorithm,
    path: str | os.PathLike[str],
    *,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the folder ``path`` and returns it; an older policy there stays if this fails.

    The zip is one that SB3's ``load`` takes. What the optimizers have gathered is left out, which
    makes it a third as large: it plays the same, and trains on as after a fresh start. So is what
    SB3 writes about the machine. NumPy 2 and 1.26 load what either saved.

    `ValueError` for another algorithm, an entry that JSON cannot hold, such as NaN or a path, or a
    ``config.json`` there that is not of a policy of ours.

    Args:
        model: PPO, SAC or TQC.
        path: the folder, made if missing.
        training: what it was trained on and how; ``obs_type`` and ``random_target`` among it.
        metrics: what it reached; ``frames`` are those of experience.
    """
    name = type(model).__name__.lower()
    if name not in ALGORITHMS or type(model) is not algorithm_of(name):
        raise ValueError(f"expected PPO, SAC or TQC, got {type(model).__name__}")
    policy = _zipped(model)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "algorithm": name,
        "training": dict(training),
        "metrics": dict(metrics or {}),
        "versions": {**versions(), "stable_baselines3": stable_baselines3.__version__},
        "policy_sha256": hashlib.sha256(policy).hexdigest(),
    }
    folder = Path(path)
    files.check_ours(folder / CONFIG, FORMAT)
    files.write_together(folder, {_POLICY: policy, CONFIG: files.to_json(content)})
    return folder


def policy_info(path_or_name: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``config.json`` of a saved policy; `ValueError` if there is none, or it is damaged."""
    path = _SHIPPED.find(path_or_name) / CONFIG
    fields = {"algorithm": str, "training": dict, "metrics": dict, "policy_sha256": str}
    try:
        content = files.read_json(path, FORMAT, FORMAT_VERSION, fields)
    except OSError as error:
        raise ValueError(f"expected {path} to describe a policy: {error}") from None
    name = content["algorithm"]
    if name not in ALGORITHMS:
        raise ValueError(f"expected one of {list(ALGORITHMS)} in {path}, got {name!r}")
    missing = [name for name in ("obs_type", "random_target") if name not in content["training"]]
    if missing:
        raise ValueError(f"expected {path} to say what the policy was trained on, lacks {missing}")
    return content


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a folder has a whole policy: two files that belong together;
    `ValueError` if its config is damaged or foreign."""
    zipped, config = Path(path) / _POLICY, Path(path) / CONFIG
    return config.is_file() and files.has_sha256(zipped, policy_info(Path(path))["policy_sha256"])


def policy_agent(
    path_or_name: str | os.PathLike[str], task: Task | None = None, *, trust: bool = False
) -> PolicyAgent:
    """A saved policy as an agent; see `load_policy` and `PolicyAgent`."""
    info = policy_info(path_or_name)
    with files.entries_of(f"the frames in {CONFIG} of {path_or_name}", "save the policy again"):
        frames, seconds = (info["metrics"].get(name) for name in ("frames", "seconds"))
        frames = None if frames is None else operator.index(frames)
        seconds = None if seconds is None else float(seconds)
    policy, name = load_policy(path_or_name, trust=trust), _SHIPPED.text_of(path_or_name)
    return PolicyAgent(policy, info["training"], task, name, frames, seconds)


def shipped_policies() -> list[str]:
    """The names of the policies that come with the package."""
    return _SHIPPED.names()


class _PlainPickler(pickle.Pickler):
    """Leaves out what NumPy's versions name differently: arrays' insides, random generators."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            return np.array, (obj.tolist(), obj.dtype.str)
        if isinstance(obj, np.generic):
            return operator.getitem, (np.asarray(obj), ())
        if isinstance(obj, np.random.Generator):
            return type(None), ()  # a space makes itself a new one
        return NotImplemented


def _zipped(model: BaseAlgorithm) -> bytes:
    """SB3's zip for all machines: spaces that any NumPy reads, no moments of the optimizers."""
    whole, rest = io.BytesIO(), io.BytesIO()
    model.save(whole, exclude=_OF_THE_RUN)
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(rest, "w", zipfile.ZIP_DEFLATED) as kept:
        for name in given.namelist():
            content = io.BytesIO(given.read(name))
            if name == "system_info.txt":
                continue
            if name == "data":
                data = json.load(content)
                for space in ("observation_space", "action_space"):
                    pickled = io.BytesIO()
                    _PlainPickler(pickled).dump(getattr(model, space))
                    data[space][":serialized:"] = base64.b64encode(pickled.getvalue()).decode()
                content = io.BytesIO(json.dumps(data, indent=4).encode())
            elif name.endswith("optimizer.pth"):
                saved = torch.load(content, map_location="cpu", weights_only=True)
                content = io.BytesIO()
                torch.save({**saved, "state": {}}, content)
            kept.writestr(name, content.getvalue())
    return rest.getvalue()
