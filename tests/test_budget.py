"""What is left of the time to plan in, and what rollouts are found to cost."""

from __future__ import annotations

from jumpy_mbrl.agents.planning.budget import Budget, Cost, Turns


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_cost_is_that_of_the_last_turn_and_never_less_than_the_shortest() -> None:
    clock = Clock()
    cost = Cost(clock, each=0.5)
    assert cost(4) == 2.0  # a guess, as long as nothing is known
    for rollouts, seconds in ((10, 4.0), (20, 6.0), (10, 5.0)):
        with cost.timing(rollouts):
            clock.now += seconds
    assert cost(100) == 50.0  # half a second each
    assert cost(2) == 4.0
    assert Cost(clock)(1000) == 0.0


def test_what_fits_into_a_budget() -> None:
    clock = Clock()
    budget = Budget(110.0, clock)
    assert budget.fits(10.0) and not budget.fits(10.1)
    assert budget.fits(5.0, share=0.5) and not budget.fits(5.1, share=0.5)
    assert budget.fits(9.0, keep=1.0) and not budget.fits(9.1, keep=1.0)
    assert budget.fits(4.5, share=0.5, keep=1.0) and not budget.fits(4.6, share=0.5, keep=1.0)
    clock.now += 4.0
    assert budget.fits(6.0) and not budget.fits(6.1)
    assert budget.fits(1.0, share=0.5) and not budget.fits(1.1, share=0.5)


def test_not_the_whole_time_is_kept_for_the_end() -> None:
    assert Budget(110.0, Clock()).fits(5.0, keep=1e9)


def test_nothing_fits_when_the_time_is_over() -> None:
    budget = Budget(99.0, Clock())
    assert not budget.fits(0.0) and not budget.fits(0.0, share=0.5, keep=1.0)


def test_turns_go_on_for_as_long_as_the_next_one_fits() -> None:
    clock = Clock()
    may_go_on = Turns(Budget(120.0, clock), share=0.5)
    assert may_go_on(10)  # nothing is known of its cost
    clock.now += 2.0
    assert not may_go_on(50) and may_go_on(40)
    clock.now += 4.0
    assert not may_go_on(41) and may_go_on(1)  # a tenth of a second each, but two at least
    clock.now += 3.0
    assert not may_go_on(1)
