"""Worker processes, on this machine and on a Ray cluster, and how this program was called."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

Item = TypeVar("Item")
LOCAL = "local"
"""The address that starts a Ray cluster on this machine."""


def check_at_once(name: str, count: int, least: int = 0) -> None:
    """`ValueError` for a number of threads or processes that can only be a mistake."""
    if count < least:
        wrong = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"{name} must {wrong}, got {count}")
    cpus = os.cpu_count() or 1
    most = max(256, 4 * cpus)
    if count > most:
        raise ValueError(
            f"{name} must be at most {most}, got {count}; more than one for each CPU of this "
            f"machine, which has {cpus}, is of no use"
        )


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that end when this one does, even if it is killed.

    Spawned, as a forked process inherits the threads of torch in an unknown state.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=end_with, initargs=(os.getpid(),))


def end_with(parent: int) -> None:
    """Ends this process as soon as its parent is another one than `parent`, as that has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def map_on_ray(
    function: Callable[[Item], Any],
    items: Iterable[Item],
    address: str,
    cpus: int = 1,
    gpus: float = 0.0,
    workers: int = 1,
) -> Generator[tuple[Item, Callable[[], Any]], None, None]:
    """Calls a function on every item, on a Ray cluster whose machines all have this package.

    Each call takes `cpus` and `gpus`, or the share of one. On a cluster that is started here
    (`LOCAL`, ended with the generator) `workers` calls run at a time. Yields each item as its call
    ends, and a function that gives the result or raises the error. `ImportError` without Ray,
    `ConnectionError` if there is no cluster at `address`.
    """
    try:
        ray: Any = importlib.import_module("ray")
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


def called_as(command: str, script: str, *words: str, **settings: Any) -> str:
    """How to call a command again: with `jumpy-mbrl`, or as the script of a checkout.

    What calls it so tells in `sys.argv[0]`. Settings become options.
    """
    as_command = f"jumpy-mbrl {command}"
    found = [as_command if sys.argv[0] == as_command else f"python scripts/{script}.py", *words]
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        found += [f"--{name.replace('_', '-')}", *map(str, values)]
    return " ".join(found)
