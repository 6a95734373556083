"""Writing files so that no half-written one ever stands under its final name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` if the block succeeds.

    The temporary file lies in the same folder (made if missing) and keeps the suffix, so that
    writers which look at it still work. If the block raises, it is removed and `path` is left as
    it was. A process killed inside the block may leave a `*.tmp-*` file, never a half `path`.

    Args:
        path: the final name; an existing file is replaced.

    Yields:
        The temporary path. The block has to create it.

    Raises:
        FileNotFoundError: if the block wrote nothing to the temporary path.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.stem}.tmp-{uuid.uuid4().hex[:12]}{final.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files that belong together: the old ones stay unless all new ones can be written."""
    with contextlib.ExitStack() as renamed_at_the_end:
        for name, content in contents.items():
            renamed_at_the_end.enter_context(atomic_write(folder / name)).write_bytes(content)


def to_json(content: Mapping[str, Any]) -> bytes:
    """`content` as indented JSON with sorted keys, in UTF-8.

    Single numbers of NumPy and torch become Python's, and keys that are whole numbers text.

    Raises:
        ValueError: for an entry that JSON cannot hold, such as NaN or a path; it says which.
    """
    plain = {key: _plain(value, key) for key, value in content.items()}
    return (json.dumps(plain, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON, atomically; see `to_json`."""
    write_together(Path(path).parent, {Path(path).name: to_json(content)})


def read_json(
    path: str | os.PathLike[str],
    form: str,
    version: int,
    fields: Mapping[str, type],
    remedy: str = "use the version of jumpy_mbrl that wrote it",
) -> dict[str, Any]:
    """Reads a JSON file of ours, which says in `format` what it is.

    Args:
        path: the file.
        form: what it has to be.
        version: its `format_version`.
        fields: further entries that it needs, with their types.
        remedy: what to do about another version.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, something else, of another version, or lacks an entry.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, got something else: {error}") from None
    if not isinstance(content, dict) or content.get("format") != form:
        raise ValueError(f"expected {path} to hold format {form!r}, so it is not ours")
    if content.get("format_version") != version:
        raise ValueError(
            f"expected format_version {version} in {path}, got "
            f"{content.get('format_version')!r}; {remedy}"
        )
    for name, kind in fields.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"expected {name!r} in {path}, got {content.get(name)!r}")
    found: dict[str, Any] = content
    return found


def _plain(value: Any, entry: str) -> Any:
    """What JSON has for the value of an entry."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        return {str(key): _plain(part, f"{entry}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{entry}[{index}]") for index, part in enumerate(value)]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(
        f"expected {entry} to be something that JSON can hold (text, a finite number, True, False, "
        f"None, or a list or mapping of such), got {value!r} ({type(value).__name__}); convert it "
        "or leave it out"
    )


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
