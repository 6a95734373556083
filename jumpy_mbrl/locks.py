"""Locks between processes, on folders and files that several of them may want to write.

A lock is a file that the kernel frees when the process that holds it ends, however that happens. A
file that a killed process left behind locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

RUN_LOCK = ".run.lock"

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_held: set[int] = set()


@contextlib.contextmanager
def own(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other runs out of a folder, which is made if missing, within a block.

    `ValueError` if it is a file; `BlockingIOError` names the process and machine that is in it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the run, but {folder} is a file")
    with _locked(folder / RUN_LOCK, wait=False):
        yield


@contextlib.contextmanager
def take_turns(path: str | os.PathLike[str]) -> Iterator[None]:
    """Waits until no other process is in such a block for a file: to read it, add to it, write it.

    The folder is made if missing. A block must not contain another one for the same file. Nobody
    waits for what is no regular file, such as a device.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        yield
        return
    with _locked(path.with_name(f".{path.name}.lock"), wait=True):
        yield


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, wait)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # Not so in a forked process that leaves the block too.
            _held.remove(descriptor)
            if _is_at(path, descriptor):
                path.unlink()
            os.close(descriptor)
            if is_new:
                with contextlib.suppress(OSError):  # Something was written to it.
                    path.parent.rmdir()


def _acquire(path: Path, wait: bool) -> int:
    """Opens and locks the file, and writes into it who did."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(path, descriptor):  # The holder before may have removed it meanwhile.
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise BlockingIOError(
                f"{path.parent} is in use by {holder}; wait until that has ended, or choose "
                "another folder"
            ) from None
        except OSError as error:
            if error.errno in _NO_LOCKS_HERE:
                warnings.warn(
                    f"{path.parent} cannot be locked ({error.strerror}); let no other process "
                    "write to it",
                    stacklevel=2,
                )
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _leave_to_parent() -> None:
    """In a forked process: only the one that took a lock keeps it, so that it ends with that."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)
