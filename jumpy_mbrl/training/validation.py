"""How wrong a world model is, open loop: some frames are shown, and all later ones imagined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jumpy_mbrl.data.loading import SequenceData, actions_ahead, as_frames, lengths
from jumpy_mbrl.models.base import WorldModel, like_of


class OpenLoop(NamedTuple):
    """A batch of sequences, and what was imagined after the context frames."""

    obs: Tensor  # (B, T, D) real frames
    action: Tensor  # (B, T, A)
    ahead: Tensor  # (B,) how many frames after those shown are real, not above 0 for none
    missed: Tensor  # (B, T - shown, D) imagined less real frames, 0 beyond the end
    ticks: Tensor  # (B,) of each prediction up to its end
    lines: Tensor  # (B,) likewise (see Imagined.lines), 0 where no frame is real


def open_loop(model: WorldModel, data: SequenceData, batch_size: int) -> Iterator[OpenLoop]:
    """Imagines all frames after the context frames, given the actions from the last of them on."""
    like, shown = like_of(model), data.context_frames
    n, T = data.obs.shape[:2]
    times = torch.arange(1, T - shown + 1, device=like.device)
    remaining = torch.from_numpy(lengths(data)).to(like.device) - shown
    for start in range(0, n, batch_size):
        rows = slice(start, start + batch_size)
        obs = as_frames(torch.from_numpy(data.obs[rows])).to(like)
        action = torch.from_numpy(data.action[rows]).to(like)
        state = model.observe(obs[:, :shown], action[:, :shown])
        imagined = model.imagine(state, times, *actions_ahead(action, shown - 1))
        ahead = remaining[rows]
        imagined = imagined.until(ahead)
        known = (times <= ahead.unsqueeze(1)).unsqueeze(2)
        missed = torch.where(known, imagined.obs - obs[:, shown:], 0.0)
        lines = imagined.lines().where(ahead > 0, 0)
        yield OpenLoop(obs, action, ahead, missed, imagined.ticks, lines)


@torch.no_grad()
def validate(model: WorldModel, dataset: SequenceData, batch_size: int = 1000) -> dict[str, float]:
    """Open-loop error after the context frames, and how far the model jumps.

    The model observes the context frames of every sequence and imagines all later ones, given the
    actions from the last frame shown (that of the shot) on, ``batch_size`` sequences at once. Of
    those that end early real frames alone are compared, and lines that began before their
    ends are counted. Returns ``mse``, the mean squared error of the observations, and
    ``mean_jump``, predicted frames per line (see ``Imagined.lines``).
    """
    n, T = dataset.obs.shape[:2]
    later = T - dataset.context_frames
    error, lines, frames = 0.0, 0, 0
    for part in open_loop(model, dataset, batch_size):
        error += float(part.missed.square().mean()) * len(part.missed) / n
        lines += int(part.lines.sum())
        frames += int(part.ahead.clamp_min(0).sum())
    return {"mse": error * (n * later / frames), "mean_jump": frames / lines}
