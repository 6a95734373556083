"""Where torch computes, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jumpy_mbrl.envs.config import unknown_name
from jumpy_mbrl.processes import check_at_once


def resolve_device(name: str) -> torch.device:
    """The device that ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` stands for.

    Raises:
        ValueError: for an unknown device, or a CUDA one that this machine does not have.
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
    """``resolve_device`` for all devices of torch, also ``"mps"`` or ``"meta"``.

    Raises:
        ValueError: for an unknown device, or one that this machine does not have.
    """
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
    """Lets torch use so many CPU threads within a block; 0 leaves them as they are.

    Raises:
        ValueError: for a negative number, or far more than this machine has CPUs.
    """
    check_at_once("threads", count)
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
