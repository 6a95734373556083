"""Work on a Ray cluster; the scripts that use it have tests of their own."""

from __future__ import annotations

import sys
from functools import partial
from operator import truediv
from typing import Any

import pytest

from jumpy_mbrl.cluster import LOCAL, map_on_ray


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has warnings of its own
def test_every_item_comes_back_with_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ray: Any = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    results, failed = {}, []
    for item, get in map_on_ray(partial(truediv, 12.0), [1.0, 2.0, 0.0, 4.0], LOCAL, workers=2):
        try:
            results[item] = get()
        except ZeroDivisionError:
            failed.append(item)
    assert results == {1.0: 12.0, 2.0: 6.0, 4.0: 3.0}
    assert failed == [0.0]
    assert not ray.is_initialized()


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[ray\]'"):
        next(map_on_ray(abs, [1], LOCAL))
