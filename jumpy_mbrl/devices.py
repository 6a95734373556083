"""Where torch computes, and with how many threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from jumpy_mbrl.checks import unknown_name
from jumpy_mbrl.processes import check_at_once


def resolve_device(name: str) -> torch.device:
    """The device that `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"` stands for.

    `ValueError` for an unknown device, or a CUDA one that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ValueError(unknown_name("device", name, ("auto", "cpu", "cuda")))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA "
            "devices here; use 'cpu' or 'auto'"
        )
    return torch.device(name)


def any_device(device: torch.device | str) -> torch.device:
    """`resolve_device` for all devices of torch, also `"mps"` or `"meta"`."""
    if not isinstance(device, torch.device | str):
        raise ValueError(
            f"expected a device as text or a torch.device, got {device!r}; use 'cpu' or 'auto'"
        )
    kind = str(device).partition(":")[0]
    if kind in ("auto", "cpu", "cuda"):
        return resolve_device(str(device))
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ValueError(unknown_name("device", device, ("auto", "cpu", "cuda", "mps"))) from None
    try:
        torch.empty(0, device=place)
    except (AssertionError, RuntimeError) as error:  # Each backend has its own way to be missing.
        raise ValueError(
            f"device {str(device)!r} was asked for, but torch cannot use it here; use 'cpu' or "
            "'auto'"
        ) from error
    return place


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Lets torch use so many CPU threads within a block; 0 leaves them as they are."""
    check_at_once("threads", count)
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_BUSY = 1.5
"""Programs that want to run, for each core, from which on threads that wait cost more than help."""

_told: list[str] = []


def warn_of_fighting_threads() -> None:
    """Warns, once, where torch's threads would take the cores from those that they wait for."""
    if _told or torch.get_num_threads() == 1 or not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    chosen = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if chosen or "GOMP_SPINCOUNT" in os.environ or load < _BUSY * cores:
        return
    _told.append("told")
    warnings.warn(
        f"{load:.0f} programs want to run on {cores} cores, and the {torch.get_num_threads()} "
        "threads of torch spin while they wait for each other, which can make planning ten times "
        "slower; start Python with OMP_WAIT_POLICY=PASSIVE, or plan in one thread: threads=1 in "
        "the planner's config",
        RuntimeWarning,
        stacklevel=2,
    )


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Lets what is made within a block, in this thread, be of float32 and on the CPU.

    So it is for those who leave torch's defaults as they are; for all others the same is made. For
    code that cannot be told: layers that are to be filled, and other people's.
    """
    if torch.get_default_dtype() == torch.float32 and torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"), _Float32():
            yield


class _Float32(TorchFunctionMode):
    _MAKERS = (torch.empty, torch.linspace, torch.ones, torch.rand, torch.randn, torch.zeros)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._MAKERS and kwargs.get("dtype") is None:
            kwargs["dtype"] = torch.float32
        return func(*args, **kwargs)
