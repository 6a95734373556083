"""Pieces of time: what holds for a while in each of many rows, and which piece holds at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Pieces:
    """Records the pieces of B rows; a piece lasts until the row's next one begins.

    Args:
        starts: when the rows' first pieces begin, (B,).
        content: what holds in them, of which row b belongs to row b.

    Attributes:
        contents: what was recorded, in the order in which pieces are numbered.
    """

    def __init__(self, starts: Tensor, content: Any) -> None:
        self.contents = [content]
        self.last_start = starts
        self._starts = [starts]
        self._numbers = [torch.arange(len(starts), device=starts.device)]
        self._count = len(starts)

    def add(self, rows: Tensor, starts: Tensor, content: Any) -> int:
        """Records a piece for each of the rows numbered ``rows`` (b,), no earlier than their last.

        Returns the column of these pieces in ``starts``.
        """
        numbers = torch.arange(self._count, self._count + len(rows), device=rows.device)
        self.contents.append(content)
        self._count += len(rows)
        column = starts
        if len(rows) < len(self.last_start):
            column = torch.full_like(self.last_start, torch.inf).index_copy(0, rows, starts)
            starts = self.last_start.index_copy(0, rows, starts)
            numbers = self._numbers[-1].index_copy(0, rows, numbers)
        self.last_start = starts
        self._starts.append(column)
        self._numbers.append(numbers)
        return len(self._starts) - 1

    @property
    def starts(self) -> Tensor:
        """When pieces begin, (B, M); ``inf`` where a row has fewer."""
        return torch.stack(self._starts, dim=1)

    @property
    def numbers(self) -> Tensor:
        """The numbers (B, M) of the pieces; where a row has fewer, that of its last one."""
        return torch.stack(self._numbers, dim=1)

    @property
    def last(self) -> Tensor:
        """The numbers (B,) of the last pieces."""
        return self._numbers[-1]

    def find(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers (B, K) of the pieces that hold at ``times`` (K,), and the times since they
        began. At its very start a piece does not hold yet, unless it is the first."""
        starts = self.starts
        asked = times.expand(len(starts), -1).contiguous()
        place = (torch.searchsorted(starts.detach(), asked.detach()) - 1).clamp_min(0)
        return self.numbers.gather(1, place), asked - starts.gather(1, place)
