"""Samplers: batches for a model's loss. A model says by its method ``sampler`` which it needs.

Every sampler is stateless: what it draws depends on the generator alone, so a run that restores
its generator draws what the uninterrupted run would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.data.augmentation import spoilt
from jumpy_mbrl.data.events import EventSampler
from jumpy_mbrl.data.loading import Batch, SequenceData, as_frames, lengths

_PLAIN: Any = {"dtype": torch.float32, "device": "cpu"}

_ROUNDING = 1e-4
"""Second differences below this are none."""
_PIXELS = 512
"""Of each picture that are painted while keypoints are learned."""
_READ_AT_ONCE = 100
"""Sequences of pictures that are read together."""


class Sampler(Protocol):
    """Draws batches."""

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """A batch for ``WorldModel.loss``; all randomness comes from ``generator`` (a CPU one).

        ``step`` counts the updates so far, for models that learn one thing after the other.
        """
        ...


class SequenceSampler:
    """Draws whole sequences, uniformly and with replacement; those that end early are padded."""

    def __init__(self, dataset: SequenceData, device: torch.device | None = None) -> None:
        self._obs = torch.from_numpy(dataset.obs).to(device)
        self._action = torch.from_numpy(dataset.action).to(device)
        self._length = torch.from_numpy(lengths(dataset)).to(device)
        self._is_padded = bool((self._length < self._obs.shape[1]).any())
        self._device = device

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``obs`` (B, T, D), ``action`` (B, T, A) and uniform numbers ``u`` (B, T) in [0, 1); of
        data with sequences that end early also their ``length`` (B,) in frames."""
        n, T = self._obs.shape[:2]
        rows = torch.randint(n, (batch_size,), generator=generator, device="cpu").to(self._device)
        u = torch.rand(batch_size, T, generator=generator, **_PLAIN).to(self._device)
        batch = {"obs": as_frames(self._obs[rows]), "action": self._action[rows], "u": u}
        return {**batch, "length": self._length[rows]} if self._is_padded else batch


class WindowSampler:
    """Draws moments: one frame of one sequence, with what came before and what followed.

    ``window`` is W, frames before and including the moment's own. Of sequences that end early as
    many moments are drawn as they have, in proportion: none of those with W frames or fewer.
    """

    def __init__(
        self, dataset: SequenceData, device: torch.device | None = None, window: int = 4
    ) -> None:
        length = _lengths_beyond(window, dataset)
        self._moments = (length - window).clamp_min(0)
        self._is_padded = bool((length < dataset.obs.shape[1]).any())
        self._obs = torch.from_numpy(dataset.obs).to(device)
        self._action = torch.from_numpy(dataset.action).to(device)
        self._end = _next_action(self._action, length.to(device) - 1)
        self._device = device
        self._window = window

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``window`` (B, W, D), now first, then one frame ago, ...; ``action`` (B, A) taken now;
        ``future`` (B, T - W, D), of which ``length`` (B,) frames are known: those up to the end or
        to the next action, after which things no longer follow from now; normal ``noise``."""
        n, T, D = self._obs.shape
        W = self._window
        if self._is_padded:
            weights = self._moments.double()
            rows = weights.multinomial(batch_size, replacement=True, generator=generator)[:, None]
        else:
            rows = torch.randint(n, (batch_size, 1), generator=generator, device="cpu")
        # Early moments more often: only they have a long future to learn from.
        early = torch.rand(batch_size, 1, generator=generator, **_PLAIN).square()
        now = W - 1 + (early * self._moments[rows]).long()
        noise = torch.randn(batch_size, W, D, generator=generator, **_PLAIN)
        rows, now, noise = (part.to(self._device) for part in (rows, now, noise))
        ahead = (now + torch.arange(1, T - W + 1, device=now.device)).clamp_max(T - 1)
        return {
            "window": as_frames(self._obs[rows, now - torch.arange(W, device=now.device)]),
            "action": self._action[rows[:, 0], now[:, 0]],
            "future": as_frames(self._obs[rows, ahead]),
            "length": (self._end[rows, now] - now)[:, 0],
            "noise": noise,
        }


class StartSampler:
    """Draws sequences, each with a frame to start from; two in three soon before something happens.

    Something happens where a body's second difference is large: ten times its typical one. Of those
    frames a half are such where it happens to several bodies at once, if there are any.

    ``window`` is W, frames that must be there before and including the start; ``bodies`` is N, of
    which an observation is made; ``draws`` is how many random numbers a row is given; ``noisy``
    whether it is given noise too.
    """

    def __init__(
        self,
        dataset: SequenceData,
        device: torch.device | None = None,
        window: int = 4,
        bodies: int = 1,
        draws: int = 1,
        noisy: bool = False,
    ) -> None:
        self._length = _lengths_beyond(window, dataset)
        self._rows = (self._length > window).nonzero().squeeze(1)
        self._obs = torch.from_numpy(dataset.obs).to(device)
        self._action = torch.from_numpy(dataset.action).to(device)
        self._first, self._draws, self._device = window - 1, draws, device
        self._noisy = noisy
        self._groups = self._find(bodies)

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``obs`` (B, T, D), ``action`` (B, T, A), ``length`` (B,) real frames, ``start`` (B,), and
        uniform numbers ``u`` (B, draws) in [0, 1). Where it is noisy, also normal ``noise``
        (B, W, D) for the frames up to the start, of a standard deviation of its own in each row,
        from 0 to 1, more often small."""

        def below(high: Tensor | int, count: int) -> Tensor:
            return (torch.rand(count, generator=generator, **_PLAIN) * high).long()

        parts = []
        for group in self._groups:
            row, frame = group[below(len(group), batch_size // 3)].unbind(dim=1)
            frame = frame + 1 - below(5, len(frame))
            last = self._length[row] - 2
            parts.append(torch.stack([row, frame.clamp_min(self._first).minimum(last)], dim=1))
        count = batch_size - sum(map(len, parts))
        row = self._rows[below(len(self._rows), count)]
        frame = self._first + below(self._length[row] - 1 - self._first, count)
        shown = below(2, count) == 0  # Often where use begins.
        parts.append(torch.stack([row, torch.where(shown, self._first, frame)], dim=1))
        row, start = torch.cat(parts).unbind(dim=1)
        u = torch.rand(batch_size, self._draws, generator=generator, **_PLAIN)
        place = row.to(self._device)
        batch = {
            "obs": as_frames(self._obs[place]),
            "action": self._action[place],
            "length": self._length[row].to(self._device),
            "start": start.to(self._device),
            "u": u.to(self._device),
        }
        if self._noisy:
            size = batch_size, self._first + 1, self._obs.shape[2]
            level = torch.rand(batch_size, 1, 1, generator=generator, **_PLAIN).square()
            noise = level * torch.randn(size, generator=generator, **_PLAIN)
            batch["noise"] = noise.to(self._device)
        return batch

    def _find(self, bodies: int) -> list[Tensor]:
        """Frames (n, 2), as row and frame, before which something happens: to one body, to more."""
        obs = as_frames(self._obs.cpu()).unflatten(2, (bodies, -1))
        kink = obs.diff(n=2, dim=1).abs().amax(dim=3)
        T = obs.shape[1]
        real = torch.arange(2, T) < self._length.unsqueeze(1)
        bent = kink[real].flatten()[:1_000_000]
        bent = bent[bent > 0.0]  # What lies still does not say what is usual.
        usual = float(bent.median()) if len(bent) else 0.0
        large = (kink > max(10.0 * usual, _ROUNDING)) & real.unsqueeze(2)
        large &= (self._length > self._first + 1)[:, None, None]
        large[:, : self._first - 1] = False
        count = large.sum(dim=2)
        groups = [(count == 1).nonzero(), (count > 1).nonzero()]
        return [group + torch.tensor([0, 1]) for group in groups if len(group)]


class PictureEventSampler:
    """Draws single pictures while a model learns to see, then events among the places it sees; or
    the true places, where the data tell them.

    ``read`` gives the places (..., D) of what is in pictures (..., D), ``looking_steps`` is for how
    many updates the model learns to see, ``on_line`` whether it sees balls on a line, ``told``
    whether true places are taken.
    """

    def __init__(
        self,
        dataset: SequenceData,
        device: torch.device | None = None,
        *,
        read: Callable[[Tensor], Tensor],
        looking_steps: int,
        on_line: bool,
        told: bool = True,
    ) -> None:
        self._data, self._device, self._on_line, self._told = dataset, device, on_line, told
        self._read, self._looking_steps = read, looking_steps
        self._events: EventSampler | None = None

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``pictures`` (B / 8, D), of which each teaches more than an event, with the true
        ``places`` in them if the data say so; or what `EventSampler` draws."""
        if step < self._looking_steps:
            return self._pictures(max(batch_size // 8, 1), generator)
        if self._events is None:
            self._events = EventSampler(self._seen(), self._device, self._on_line)
        return self._events.sample(batch_size, generator)

    def _pictures(self, batch_size: int, generator: torch.Generator) -> Batch:
        n, T = self._data.obs.shape[:2]
        rows = torch.randint(n, (batch_size,), generator=generator, device="cpu").numpy()
        frames = torch.randint(T, (batch_size,), generator=generator, device="cpu").numpy()
        frames = frames * lengths(self._data)[rows] // T
        drawn = {"pictures": self._data.obs, "places": self._places}
        return {
            name: as_frames(torch.from_numpy(array[rows, frames]).to(self._device))
            for name, array in drawn.items()
            if array is not None
        }

    @property
    def _places(self) -> Any:
        return getattr(self._data, "places", None) if self._told else None

    @torch.no_grad()
    def _seen(self) -> Seen:
        data, n = self._data, len(self._data.obs)
        if self._places is not None:
            return Seen(self._places, data.action, data.context_frames, lengths(data))
        places = [
            self._read(as_frames(torch.from_numpy(data.obs[part]).to(self._device))).cpu().numpy()
            for part in np.array_split(np.arange(n), max(n // _READ_AT_ONCE, 1))
        ]
        return Seen(np.concatenate(places), data.action, data.context_frames, lengths(data))


class KeypointSampler(PictureEventSampler):
    """Draws single pictures while a model learns to see, then starts in sequences of what it sees.

    ``size`` is the pictures' height and width, in pixels; ``spoils`` says whether they are given
    spoilt too. ``settle`` is given what is seen in all sequences, once, and says from what is
    drawn then. True places are not looked at.
    """

    def __init__(
        self,
        dataset: SequenceData,
        device: torch.device | None = None,
        *,
        read: Callable[[Tensor], Tensor],
        size: int,
        looking_steps: int,
        settle: Callable[[Seen], StartSampler],
        spoils: bool = True,
    ) -> None:
        super().__init__(
            dataset, device, read=read, looking_steps=looking_steps, on_line=False, told=False
        )
        self._size, self._settle, self._spoils = size, settle, spoils
        self._starts: StartSampler | None = None

    def sample(self, batch_size: int, generator: torch.Generator, step: int = 0) -> Batch:
        """``pictures`` (B / 8, D), perhaps the same ``spoilt``, the numbers of some ``pixels`` of
        each, and how much of looking is over, ``looked`` (B / 8,) from 0 to 1; or what
        `StartSampler` draws.
        """
        if step < self._looking_steps:
            batch = self._pictures(max(batch_size // 8, 1), generator)
            rows, most = len(batch["pictures"]), self._size**2
            pixels = torch.randint(most, (rows, _PIXELS), generator=generator, device="cpu")
            looked = torch.full((rows,), step / self._looking_steps)
            if self._spoils:
                batch["spoilt"] = spoilt(batch["pictures"], self._size, generator)
            return {**batch, "pixels": pixels.to(self._device), "looked": looked.to(self._device)}
        if self._starts is None:
            self._starts = self._settle(self._seen())
        return self._starts.sample(batch_size, generator)


class Seen(NamedTuple):
    """Sequences of places, as `SequenceData`."""

    obs: NDArray[np.float32]
    action: NDArray[np.float32]
    context_frames: int
    length: NDArray[np.int64]


def _lengths_beyond(window: int, dataset: SequenceData) -> Tensor:
    """The lengths (n,) of sequences; `ValueError` if all end within the window."""
    length = torch.from_numpy(lengths(dataset))
    if int(length.max()) <= window:
        raise ValueError(
            f"expected sequences of more than {window} frames, the model's window, got "
            f"{int(length.max())}; take a smaller window"
        )
    return length


def _next_action(action: Tensor, last: Tensor) -> Tensor:
    """For every frame of (n, T, A), the next one with an action, or the last one (n,): (n, T)."""
    last = last.unsqueeze(1)
    frames = torch.arange(action.shape[1], device=action.device)
    acted = torch.where((action != 0.0).any(dim=-1), frames, last)
    later = torch.cat([acted[:, 1:], last], dim=1)
    return later.flip(1).cummin(dim=1).values.flip(1)
