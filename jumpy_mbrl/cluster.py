"""Work shared out to the machines of a Ray cluster (extra ``ray``)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

Item = TypeVar("Item")
LOCAL = "local"
"""The address that starts a cluster on this machine."""


def map_on_ray(
    function: Callable[[Item], Any],
    items: Iterable[Item],
    address: str,
    cpus: int = 1,
    gpus: float = 0.0,
    workers: int = 1,
) -> Generator[tuple[Item, Callable[[], Any]], None, None]:
    """Calls a function on every item, on a Ray cluster.

    Every machine needs this package. The cluster is left, or ended if it was started here, when
    the generator is.

    Args:
        function: what to call; it, the items and the results must be picklable.
        items: its arguments.
        address: of the cluster, "auto", or `LOCAL`.
        cpus: that each call takes.
        gpus: or the share of one, that each call takes.
        workers: calls at a time on a cluster that is started here.

    Yields:
        Each item as its call ends, and a function that gives the result or raises the error.

    Raises:
        ImportError: if Ray is not installed.
        ConnectionError: if there is no cluster at ``address``.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise ImportError(
            "--ray needs Ray, which is not installed; pip install 'jumpy-mbrl[ray]'"
        ) from None

    def call(item: Item) -> Any:  # Ray takes plain functions alone.
        return function(item)

    here = {"num_cpus": workers * cpus, "include_dashboard": False}
    ray.init(**(here if address == LOCAL else {"address": address}), log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(call)
        waiting = {remote.remote(item): item for item in items}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), partial(ray.get, done)
    finally:
        ray.shutdown()
