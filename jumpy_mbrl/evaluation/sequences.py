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
from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data.loading import SequenceData, actions_ahead, as_frames, lengths
from jumpy_mbrl.models.base import Imagined, WorldModel, check_times, like_of
from jumpy_mbrl.training.validation import open_loop

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
    context_frames: int,
    times: Tensor | Sequence[float],
) -> Imagined:
    """Predicts sequences auto-regressively, after frames that are shown.

    Args:
        model: the model.
        obs: (B, T, D) frames, of which only the first ``context_frames`` are read; uint8 for
            pictures.
        action: (B, T, A), or None. That of the last frame shown and all later ones are taken.
        context_frames: how many frames are shown, from 1 to T, and as many as the model needs.
        times: (K,) real times in frames of the sequence, ascending; the last frame shown is at
            ``context_frames - 1`` and no time may lie before it.

    Returns the prediction, whose tick times are in frames of the sequence too. `ValueError` for
    another number of frames or other times, wrong shapes, or NaN.
    """
    if obs.ndim != 3:
        raise ValueError(f"obs must have shape (B, T, D), got {tuple(obs.shape)}")
    T = obs.shape[1]
    now = check_count("context_frames", context_frames) - 1
    if now >= T:
        raise ValueError(
            f"context_frames must be from 1 to {T}, the number of frames of the sequences, got "
            f"{context_frames}"
        )
    if action is not None and action.shape[:2] != obs.shape[:2]:
        raise ValueError(
            f"action must have shape {(*obs.shape[:2], model.action_size)} (B, T, A), one for each "
            f"frame of obs, got {tuple(action.shape)}"
        )
    like = like_of(model)
    ahead = as_tensor(times).to(like) - now
    if bool((ahead < 0).any()):
        raise ValueError(
            f"times must not lie before the last frame shown, which is {now}, got "
            f"{float(ahead.min()) + now:g}"
        )
    check_times(ahead)
    shown = as_frames(obs[:, : now + 1]).to(like)
    if action is None:
        imagined = model.imagine(model.observe(shown), ahead)
    else:
        taken = action.to(like)
        state = model.observe(shown, taken[:, : now + 1])
        imagined = model.imagine(state, ahead, *actions_ahead(taken, now))
    return replace(imagined, tick_times=imagined.tick_times + now)


@torch.no_grad()
def score(model: WorldModel, data: SequenceData, batch_size: int = BATCH_SIZE) -> TaskScore:
    """Scores a model on n sequences of T frames, more than are shown, ``batch_size`` at once.

    `ValueError` for a batch size below 1, or no frame to predict.
    """
    n, T = data.obs.shape[:2]
    shown, length = data.context_frames, torch.from_numpy(lengths(data))
    check_count("batch_size", batch_size)
    if shown >= T:
        raise ValueError(f"expected more frames than the {shown} that are shown, got {T}")
    moments = one_step_moments(shown, T)
    errors, one_step, ticks, lines = [], [], 0, 0
    for part in open_loop(model, data, batch_size):
        errors.append(_per_sequence(part.missed))
        ticks += int(part.ticks.sum())
        lines += int(part.lines.sum())
        near = []
        for t in moments:
            # An action of zeros is none: it should not make a model tick.
            taken = part.action if bool(part.action[:, t - 1].any()) else None
            missed = sample(model, part.obs, taken, t, [float(t)]).obs - part.obs[:, t : t + 1]
            near.append(_per_sequence(missed.where((part.ahead + shown > t)[:, None, None], 0.0)))
        one_step.append(torch.stack(near).mean(dim=0))
    # Means over all frames, of which those beyond an end count as no error and must not be counted.
    ahead = (length - shown).clamp_min(0)
    error, share = torch.cat(errors), ahead.double() / (T - shown)
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


def one_step_moments(context_frames: int, frames: int) -> list[int]:
    """The frames that ``one_step_mse`` is about, after the context frames and up to the last."""
    even = np.linspace(context_frames, frames - 1, ONE_STEP_FRAMES).round().astype(int)
    return sorted(set(even.tolist()))


def _per_sequence(missed: Tensor) -> Tensor:
    """Squared error of each sequence, (B,): the mean over frames and coordinates."""
    return missed.square().mean(dim=(1, 2)).double().cpu()
