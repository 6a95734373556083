"""Scoring world models on sequences: some frames are shown, the rest is predicted by jumps.

Letters: B batch, n sequences, T frames, K query times, D observation size, A action size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jumpy_mbrl.arrays import as_tensor
from jumpy_mbrl.data.loading import SequenceData, actions_ahead, as_frames, lengths
from jumpy_mbrl.models.base import Imagined, WorldModel, check_times, like_of

BATCH_SIZE = 1000
"""Sequences imagined at once."""
ONE_STEP_FRAMES = 4
"""How many frames of a sequence are predicted from all frames before them."""


@dataclass(frozen=True)
class TaskScore:
    """How well a model predicts sequences, and in how many ticks.

    Errors are squared and averaged over coordinates (pictures range from 0 to 1). Of sequences that
    end early real frames alone count, and ticks before the end.

    Attributes:
        n: number of sequences.
        sample_mse: of all frames after those that are shown, imagined in one go: what
            ``jumpy_mbrl.training.validate`` calls ``mse``.
        sample_se: standard error of ``sample_mse`` over sequences; None for a single sequence.
        one_step_mse: of frames that are predicted from all frames before them, at
            ``ONE_STEP_FRAMES`` moments spread evenly over the frames that are not shown.
        mean_jump: predicted frames per line. A tick begins a line; where none is made at the last
            frame shown, the line that was filtered from the frames shown counts too.
        ticks: per sequence.
        all_frames_mse: as the papers' programs average, over all frames. Those that are shown count
            too, as no error, since every model is handed them.
    """

    n: int
    sample_mse: float
    sample_se: float | None
    one_step_mse: float
    mean_jump: float
    ticks: float
    all_frames_mse: float

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, in which what is not finite is None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def sample(
    model: WorldModel,
    obs: Tensor,
    action: Tensor | None,
    warm_up: int,
    times: Tensor | Sequence[float],
) -> Imagined:
    """Predicts sequences auto-regressively, after frames that are shown.

    Args:
        model: the model.
        obs: (B, T, D) frames, of which only the first ``warm_up`` are read; uint8 for pictures.
        action: (B, T, A), or None. That of the last frame shown and all later ones are taken.
        warm_up: how many frames are shown, from 1 to T, and as many as the model needs.
        times: (K,) real times in frames of the sequence, ascending; the last frame shown is at
            ``warm_up - 1`` and no time may lie before it.

    Returns:
        The prediction, whose tick times are in frames of the sequence too.

    Raises:
        ValueError: for another number of frames or other times, wrong shapes, or NaN.
    """
    if obs.ndim != 3:
        raise ValueError(f"obs must have shape (B, T, D), got {tuple(obs.shape)}")
    T = obs.shape[1]
    if isinstance(warm_up, bool) or not isinstance(warm_up, (int, np.integer)):
        raise ValueError(f"warm_up must be an integer, got {warm_up!r}")
    if not 1 <= warm_up <= T:
        raise ValueError(
            f"warm_up must be from 1 to {T}, the number of frames of the sequences, got {warm_up}"
        )
    if action is not None and action.shape[:2] != obs.shape[:2]:
        raise ValueError(
            f"action must have shape {(*obs.shape[:2], model.action_size)} (B, T, A), one for each "
            f"frame of obs, got {tuple(action.shape)}"
        )
    like = like_of(model)
    now = int(warm_up) - 1
    ahead = as_tensor(times).to(like) - now
    if bool((ahead < 0).any()):
        raise ValueError(
            f"times must not lie before the last frame shown, which is {now}, got "
            f"{float(ahead.min()) + now:g}"
        )
    check_times(ahead)
    shown = as_frames(obs[:, :warm_up]).to(like)
    if action is None:
        imagined = model.imagine(model.observe(shown), ahead)
    else:
        taken = action.to(like)
        state = model.observe(shown, taken[:, :warm_up])
        imagined = model.imagine(state, ahead, *actions_ahead(taken, now))
    return replace(imagined, tick_times=imagined.tick_times + now)


@torch.no_grad()
def score(model: WorldModel, data: SequenceData, batch_size: int = BATCH_SIZE) -> TaskScore:
    """Scores a model on sequences.

    Args:
        model: the model.
        data: n sequences of T frames, more than are shown.
        batch_size: how many sequences are imagined at once.

    Raises:
        ValueError: for a batch size below 1, or no frame to predict.
    """
    n, T = data.obs.shape[:2]
    length = torch.from_numpy(lengths(data))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if data.warm_up >= T:
        raise ValueError(f"expected more frames than the {data.warm_up} that are shown, got {T}")
    later = [float(t) for t in range(data.warm_up, T)]
    ahead = (length - data.warm_up).clamp_min(0)
    moments = one_step_moments(data.warm_up, T)
    errors, one_step, ticks, lines = [], [], 0, 0
    for start in range(0, n, batch_size):
        obs = torch.from_numpy(data.obs[start : start + batch_size])
        action = torch.from_numpy(data.action[start : start + batch_size])
        ends = length[start : start + batch_size]
        imagined = sample(model, obs, action, data.warm_up, later)
        imagined = imagined.until(ends.to(imagined.tick_times) - 1.0)
        errors.append(_error(imagined.obs, obs[:, data.warm_up :], ends - data.warm_up))
        ticks += int(imagined.ticks.sum())
        begun = imagined.lines(data.warm_up - 1).cpu()
        lines += int(begun[ends > data.warm_up].sum())
        one_step.append(_one_step(model, obs, action, moments, ends))
    # Means over all frames, of which those beyond an end count as no error and must not be counted.
    error, share = torch.cat(errors), ahead.double() / len(later)
    mse = float(error.mean() / share.mean())
    spread = error - mse * (share - 1.0)
    known = float(np.mean(np.array(moments) < lengths(data)[:, None]))
    return TaskScore(
        n=n,
        sample_mse=mse,
        sample_se=float(spread.std() / share.mean()) / math.sqrt(n) if n > 1 else None,
        one_step_mse=float(torch.cat(one_step).mean() / known),
        mean_jump=int(ahead.sum()) / lines,
        ticks=ticks / n,
        all_frames_mse=mse * int(ahead.sum()) / int(length.sum()),
    )


def one_step_moments(warm_up: int, frames: int) -> list[int]:
    """The frames that ``one_step_mse`` is about, from ``warm_up`` to the last of ``frames``."""
    even = np.linspace(warm_up, frames - 1, ONE_STEP_FRAMES).round().astype(int)
    return sorted(set(even.tolist()))


def _one_step(
    model: WorldModel, obs: Tensor, action: Tensor, moments: list[int], ends: Tensor
) -> Tensor:
    """Squared error of each sequence, (B,), none where it has ended."""
    errors = []
    for t in moments:
        # An action of zeros is none: it should not make a model tick.
        taken = action if bool(action[:, t - 1].any()) else None
        predicted = sample(model, obs, taken, t, [float(t)])
        errors.append(_error(predicted.obs, obs[:, t : t + 1], ends - t))
    return torch.stack(errors).mean(dim=0)


def _error(predicted: Tensor, real: Tensor, known: Tensor) -> Tensor:
    """Squared error of each sequence, (B,): the mean over frames and coordinates.

    Frames after the first ``known`` (B,) count as no error.
    """
    frames = torch.arange(real.shape[1], device=known.device) < known.unsqueeze(1)
    missed = predicted - as_frames(real).to(predicted)
    missed = missed.where(frames.unsqueeze(2).to(missed.device), 0.0)
    return missed.square().mean(dim=(1, 2)).double().cpu()
