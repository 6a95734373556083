"""What scripts print."""

from __future__ import annotations

import io
import sys


def escape_output() -> None:
    """Lets this program print what its terminal's encoding lacks as Python escapes it.

    Otherwise a sign such as "±", or a folder's name, ends it where the locale is ASCII. Errors are
    printed so anyway.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
