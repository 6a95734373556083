"""Time budgets: a search asks its budget whether the next piece of work still fits.

Sizes are rollouts of an episode; what they cost is learned by timing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

_KEPT = 0.2
"""Largest share of the time that is kept for the end."""

_STEP_COST = 4.0
"""Rollouts for whose price one is had with its gradient, until some have been timed."""


class Budget:
    """No limit: everything is done as it was planned."""

    def rounds(
        self, planned: Iterable[int], endless: Iterable[int], share: float = 1.0
    ) -> Iterator[int]:
        """Sizes of the rounds to make: those ``planned``, or ``endless`` while time lasts."""
        yield from planned

    def steps(self, count: int, size: int) -> Iterator[bool]:
        """True for every step to make, then False to score where the last one led."""
        yield from [True] * count
        yield False

    def affordable(self, count: int, each: int) -> int:
        """How many of ``count`` things of ``each`` rollouts there is time for, and for one more."""
        return count

    def may_play(self, share: float) -> Callable[[int], bool]:
        """Says, before each turn of so many rollouts of all episodes, whether to make it.

        What is done from a question to the next is taken for the turn.
        """
        return lambda rollouts: True


class Deadline(Budget):
    """A limit: what fits between now and ``end``, which may have passed already.

    Args:
        end: in seconds of ``clock``.
        clock: the time in seconds.
        episodes: that are planned at once.
        reserve: rollouts of an episode, for which a search leaves time. At most a fifth is left.
    """

    def __init__(
        self, end: float, clock: Callable[[], float], episodes: int = 1, reserve: int = 0
    ) -> None:
        self._clock = clock
        self._episodes = episodes
        self._reserve = reserve * episodes
        self._cost = _Cost()
        self._begin = clock()
        self._whole = end - self._begin

    def rounds(
        self, planned: Iterable[int], endless: Iterable[int], share: float = 1.0
    ) -> Iterator[int]:
        # The first is always made; a later one for which there is no time is halved until there is.
        for number, size in enumerate(endless):
            while number and not self._fits(
                self._cost(size * self._episodes), share, self._cost(self._reserve)
            ):
                size //= 2
                if not size:
                    return
            started = self._clock()
            yield size
            self._cost.learn(size * self._episodes, self._clock() - started)

    def steps(self, count: int, size: int) -> Iterator[bool]:
        rollouts = size * self._episodes
        forward = self._cost(rollouts)
        cost = _Cost(_STEP_COST * forward / rollouts)
        keep = forward + self._cost(self._reserve)
        stepped = False
        while self._fits(cost(rollouts), keep=keep):
            started = self._clock()
            yield True
            cost.learn(rollouts, self._clock() - started)
            stepped = True
        if stepped:
            yield False

    def affordable(self, count: int, each: int) -> int:
        while count and not self._fits(self._cost((count * each + 1) * self._episodes)):
            count -= 1
        return count

    def may_play(self, share: float) -> Callable[[int], bool]:
        cost = _Cost()
        turn: list[tuple[int, float]] = []

        def may_play(rollouts: int) -> bool:
            now = self._clock()
            if turn:
                before, started = turn.pop()
                cost.learn(before, now - started)
            goes_on = self._fits(cost(rollouts), share)
            if goes_on:
                turn.append((rollouts, now))
            return goes_on

        return may_play

    def _fits(self, seconds: float, share: float = 1.0, keep: float = 0.0) -> bool:
        """Whether so much work ends within a share of the time, less what is kept for the end."""
        usable = self._whole - min(keep, _KEPT * self._whole)
        return self._clock() + seconds <= self._begin + share * usable


class _Cost:
    """Seconds for so many rollouts at once, after the last that were timed."""

    def __init__(self, each: float = 0.0) -> None:
        self._each = each
        self._least: float | None = None

    def __call__(self, rollouts: int) -> float:
        # A few are not cheaper than the shortest turn so far: some of the cost is not theirs.
        return max(self._least or 0.0, self._each * rollouts)

    def learn(self, rollouts: int, seconds: float) -> None:
        self._each = seconds / rollouts
        self._least = seconds if self._least is None else min(self._least, seconds)
