"""Batches of an evaluation on other machines: they come back in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.agents import OtherWorldWarning, PlannerConfig, load_agent
from jumpy_mbrl.evaluation import Variant, evaluate_agent, make_tables
from jumpy_mbrl.lab import sharding

NAMES = ("random", "jumpy")
SEARCH = PlannerConfig(candidates=8, refined=2, gradient_steps=1, finalists=2, perturbations=2)


def backwards(
    function: Callable[[Any], Any], items: Sequence[Any], *args: Any, **kwargs: Any
) -> Iterator[tuple[Any, Callable[[], Any]]]:
    """A cluster that finishes the last item first."""
    for item in reversed(items):
        yield item, partial(function, item)


def test_one_warning_of_another_world_and_not_one_for_each_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharding, "map_on_ray", backwards)
    dealt = Variant("slow motion", arguments={"config": {"dt": 0.02}})
    load = {"rnn": partial(load_agent, "rnn", task=dealt.task, config=SEARCH)}
    with pytest.warns(OtherWorldWarning, match=r"dt 0\.05, here 0\.02") as caught:
        sharding.evaluate_on_ray(load, make_tables(2, variant=dealt), "local", batch_size=1)
    assert len(caught) == 1


def test_batches_are_put_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "map_on_ray", backwards)
    tables = make_tables(7, seed=5)
    load = {name: partial(load_agent, name, config=SEARCH) for name in NAMES}
    done: list[int] = []
    shared = sharding.evaluate_on_ray(load, tables, "local", batch_size=3, progress=done.append)
    assert list(shared) == list(NAMES) and sum(done) == 2 * len(tables)
    for name, result in shared.items():
        alone = evaluate_agent(load[name](), tables, batch_size=3)
        assert np.array_equal(result.actions, alone.actions)
        assert np.array_equal(result.is_success, alone.is_success)
        no_time = {"ms_per_shot": 0.0}
        assert result.to_dict() | no_time == alone.to_dict() | no_time
