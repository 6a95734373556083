"""Writing files so that no half-written one ever stands under its final name."""

from __future__ import annotations

import contextlib
import hashlib
import json
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


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes `content` as indented JSON with sorted keys, atomically.

    Raises:
        ValueError: for NaN or infinite numbers, which JSON does not have.
        TypeError: for values that JSON cannot hold.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
