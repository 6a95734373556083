"""Time to plan in: what is left of it, and what rollouts have been found to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_KEPT = 0.2
"""Largest share of the time that is kept for the end."""


class Cost:
    """What rollouts cost, learned by timing some.

    Args:
        clock: the time in seconds.
        each: seconds for one rollout, as long as none has been timed.
    """

    def __init__(self, clock: Callable[[], float], each: float = 0.0) -> None:
        self._clock = clock
        self._each = each
        self._least: float | None = None

    def __call__(self, rollouts: int) -> float:
        """Seconds for so many rollouts at once, after the last that were timed.

        A few are not cheaper than the shortest turn so far: some of the cost is not theirs.
        """
        return max(self._least or 0.0, self._each * rollouts)

    @contextmanager
    def timing(self, rollouts: int) -> Iterator[None]:
        """Learns from what is done inside, which is to be so many rollouts."""
        started = self._clock()
        yield
        self.learn(rollouts, self._clock() - started)

    def learn(self, rollouts: int, seconds: float) -> None:
        """Learns from so many rollouts that took so long."""
        self._each = seconds / rollouts
        self._least = seconds if self._least is None else min(self._least, seconds)


class Budget:
    """The time from now until ``end``.

    Args:
        end: in seconds of ``clock``; may have passed already.
        clock: the time in seconds.

    Attributes:
        cost: of rollouts without gradients.
    """

    def __init__(self, end: float, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.cost = Cost(clock)
        self._begin = clock()
        self._whole = end - self._begin

    def fits(self, seconds: float, share: float = 1.0, keep: float = 0.0) -> bool:
        """Whether something can be done in time.

        Args:
            seconds: that it takes.
            share: of the time, counted from its beginning, in which it must be over.
            keep: seconds to keep free at the end; no more than a share of the time is.
        """
        usable = self._whole - min(keep, _KEPT * self._whole)
        return self.clock() + seconds <= self._begin + share * usable


class Turns:
    """Says whether there is time for one more turn, to what asks before each.

    What is done from a question to the next is taken for the turn.

    Args:
        budget: the time.
        share: of it that may be used.
    """

    def __init__(self, budget: Budget, share: float) -> None:
        self._budget = budget
        self._share = share
        self._cost = Cost(budget.clock)
        self._turn: tuple[int, float] | None = None

    def __call__(self, rollouts: int) -> bool:
        """Whether there is time for a turn of so many rollouts."""
        now = self._budget.clock()
        if self._turn is not None:
            before, started = self._turn
            self._cost.learn(before, now - started)
        goes_on = self._budget.fits(self._cost(rollouts), self._share)
        self._turn = (rollouts, now) if goes_on else None
        return goes_on
