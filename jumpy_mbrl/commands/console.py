"""What scripts print."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


def escape_output() -> None:
    """Lets this program print what its terminal's encoding lacks as Python escapes it.

    Otherwise a sign such as "±", or a folder's name, ends it where the locale is ASCII. Errors are
    printed so anyway.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def output_may_close() -> Iterator[None]:
    """Within it a program whose output nobody reads any more (`... | head -1`) does its work."""
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None:
                output: Any = _Output(stream)
                redirected = getattr(contextlib, f"redirect_{name}")
                stack.callback(output.flush)
                stack.enter_context(redirected(output))
        yield


class _Output:
    """A stream that falls silent, where its own would raise, when its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._heedless():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._heedless():
            self._stream.flush()

    @contextlib.contextmanager
    def _heedless(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is still to be flushed, at the end of the process too, has to go somewhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
