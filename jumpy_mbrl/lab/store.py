"""What the laboratory keeps: results in JSON files, and tables of them in Markdown."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jumpy_mbrl.files import atomic_write, entries_of, write_json
from jumpy_mbrl.locks import take_turns


@dataclass(frozen=True)
class Report:
    """A JSON file of results that several processes may add to.

    ``empty`` is what it holds before there are any; its format and version are those of every such
    file. ``check`` is given what was read, and raises for entries that are not as they were
    written; ``remedy`` says what to do then.
    """

    path: Path
    empty: Mapping[str, Any]
    check: Callable[[dict[str, Any]], object]
    remedy: str = "choose another --out"
    write: Callable[[Path, Mapping[str, Any]], None] = write_json

    def read(self) -> dict[str, Any]:
        """What the file holds, or ``empty``. `ValueError` for one that is damaged or not ours."""
        if not self.path.is_file():
            return copy.deepcopy(dict(self.empty))
        with entries_of(self.path, self.remedy):
            text = self.path.read_text(encoding="utf-8")
            content = json.loads(text, parse_constant=_refuse)
            if not isinstance(content, dict):
                raise TypeError(f"it holds a {type(content).__name__}")
            for name in ("format", "format_version", "version"):
                wanted, found = self.empty.get(name), content.get(name)
                if found != wanted:
                    raise ValueError(f"{name} is {found!r} instead of {wanted!r}")
            self.check(content)
        return content

    @contextmanager
    def update(self) -> Iterator[dict[str, Any]]:
        """Yields what the file holds, to be changed in place; it is written if the block succeeds.

        No other process is in such a block of the same file meanwhile.
        """
        with take_turns(self.path):
            content = self.read()
            yield content
            self.write(self.path, content)


def _refuse(number: str) -> None:
    raise ValueError(f"it holds {number}, which is not in JSON")


def write_text(path: Path, text: str) -> None:
    """Writes a text file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def markdown(
    header: Sequence[str], rows: Iterable[Sequence[str]], names: int | None = None
) -> list[str]:
    """A table as lines; with ``names`` only so many of the first columns are on the left."""
    rule = "|" + "---|" * len(header)
    if names is not None:
        rule = "| --- " * names + "| ---: " * (len(header) - names) + "|"
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return [first, rule, *others]


def span(numbers: Iterable[int]) -> str:
    """(300, 1000, 700) as "300 to 1,000", and numbers that are all alike as one."""
    ends = sorted(set(numbers))
    return " to ".join(f"{number:,}" for number in dict.fromkeys((ends[0], ends[-1])))


def percent(share: float) -> str:
    """0.5 as "50.0 %"."""
    return f"{100.0 * share:.1f} %"


def percents(ends: Iterable[float]) -> str:
    """(0.4, 0.6) as "40.0 to 60.0", in percent."""
    return " to ".join(f"{100.0 * end:.1f}" for end in ends)
