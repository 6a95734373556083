"""Writing files so that no half-written one ever stands under its final name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_LONGEST_WRITE = 86_400.0
"""Seconds after which a temporary file is nobody's, whoever wrote it."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` if the block succeeds.

    The temporary file lies in the same folder (made if missing) and keeps the suffix. A process
    killed inside the block may leave it there; the next write of `path` removes it. A link stays,
    and the file that it leads to is replaced. What is no file, such as a pipe, and the file that
    stdout or stderr goes to, stay too, and are given the bytes when the block has succeeded.
    `IsADirectoryError` for a folder, `ValueError` for a disk or a socket, `FileNotFoundError` if
    the block wrote nothing.
    """
    path = Path(path)
    final = _file_behind(path)
    if final is None:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            yield temporary
            _pour(temporary, path)
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final, path.suffix)
    temporary = _temporary(final, path.suffix)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(final)
        with contextlib.suppress(OSError):  # Some file systems cannot.
            _sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(*paths: str | os.PathLike[str]) -> None:
    """Checks before long work that `atomic_write` can write files after it, and leaves nothing.

    `OSError`, or `ValueError` for a disk or a socket, names the one that cannot be written.
    """
    for path in map(Path, paths):
        try:
            final = _file_behind(path)
            if final is None:
                if not os.access(path, os.W_OK):
                    raise PermissionError(13, "Permission denied")
                continue
            folder = next(folder for folder in final.parents if folder.exists())
            probe = _temporary(folder / final.name, path.suffix)
            try:
                probe.touch()
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            if error.strerror is None:
                raise
            raise type(error)(f"expected to be able to write {path}: {error.strerror}") from None


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files that belong together: the old ones stay unless all new ones can be written.

    They get their names in the order given: the last one should tell whether they are all there.
    """
    with contextlib.ExitStack() as renamed_at_the_end:
        for name, content in reversed([*contents.items()]):  # The stack is left from its top.
            renamed_at_the_end.enter_context(atomic_write(folder / name)).write_bytes(content)


def _file_behind(path: Path) -> Path | None:
    """The file that a path leads to, there or not; None for what is written into as it stands."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"expected a file to write, got the folder {path}")
    if _output_to(found) is not None:
        return None
    if stat.S_ISREG(found.st_mode):
        return Path(os.path.realpath(path))
    if stat.S_ISBLK(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        kind = "disk" if stat.S_ISBLK(found.st_mode) else "socket"
        raise ValueError(
            f"expected a file to write, or a pipe or a terminal, got the {kind} {path}"
        )
    return None


def _output_to(found: os.stat_result) -> int | None:
    """That of stdout and stderr (1 or 2) which goes to a file, or None."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), found):
                return descriptor
    return None


def _pour(source: Path, target: Path) -> None:
    """Writes the bytes of a file into a pipe or a device."""
    descriptor = _output_to(target.stat())
    if descriptor is not None:  # Opened anew, a file would be written from its start.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    with (
        source.open("rb") as given,
        target.open("wb") if descriptor is None else os.fdopen(os.dup(descriptor), "wb") as taken,
    ):
        shutil.copyfileobj(given, taken)


def _temporary(final: Path, suffix: str) -> Path:
    """A new name beside a file, which tells whose it is."""
    owner = f"{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    return final.with_name(f".{final.stem}.tmp-{owner}{suffix}")


def _remove_leftovers(final: Path, suffix: str) -> None:
    """Removes temporary files of `final` whose processes have ended, or that are a day old."""
    whose = r"(?:([0-9a-f]{8})-([0-9]{1,9})-)?[0-9a-f]{12}"
    ours = re.compile(re.escape(f".{final.stem}.tmp-") + whose + re.escape(suffix))
    # One may not be allowed to look; and somebody else may be removing them too.
    with contextlib.suppress(OSError), os.scandir(final.parent) as entries:
        for entry in entries:
            name = ours.fullmatch(entry.name)
            if name is None or not entry.is_file(follow_symlinks=False):
                continue
            old = time.time() - entry.stat().st_mtime > _LONGEST_WRITE
            if old or (name[1] == _HOST and not _is_running(int(name[2]))):
                os.unlink(entry.path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # It is somebody else's.
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(content: Mapping[str, Any]) -> bytes:
    """`content` as indented JSON with sorted keys, in UTF-8.

    Single numbers of NumPy and torch become Python's, and keys that are whole numbers text.
    `ValueError` for an entry that JSON cannot hold, such as NaN or a path, by its name.
    """
    plain = {key: _plain(value, key) for key, value in content.items()}
    return (json.dumps(plain, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON, atomically; see `to_json`."""
    write_together(Path(path).parent, {Path(path).name: to_json(content)})


def _plain(value: Any, entry: str) -> Any:
    """The value of an entry as JSON can hold it."""
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


def read_json(
    path: str | os.PathLike[str],
    form: str,
    version: int,
    fields: Mapping[str, type],
    remedy: str = "use the version of jumpy_mbrl that wrote it",
) -> dict[str, Any]:
    """Reads a JSON file of ours, which says in `format` what it is.

    `ValueError` if it is damaged, of another `form` or `format_version`, or lacks one of `fields`
    (of a type each); `remedy` says what to do about another version.
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


@contextlib.contextmanager
def entries_of(path: str | os.PathLike[str], remedy: str) -> Iterator[None]:
    """Within it errors mean that entries of a file of ours are missing or of another kind.

    `ValueError` in place of any such error, with the path and what to do about it.
    """
    wrong = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
    try:
        yield
    except wrong as error:  # RecursionError is a RuntimeError.
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        what = " ".join(what.split())
        raise ValueError(f"expected {path} as it was written, but {what}; {remedy}") from error


def check_ours(path: str | os.PathLike[str], form: str) -> None:
    """`ValueError` before a JSON file is replaced that is whole and of another format than `form`.

    A damaged file, and one of another version, may be replaced.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(content, dict) or content.get("format") != form:
        raise ValueError(
            f"expected {path} to be free or to hold format {form!r}, so it is not ours and is not "
            "replaced; choose another folder"
        )


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_sha256(path: str | os.PathLike[str], checksum: object) -> bool:
    """Whether there is a file with a checksum."""
    return os.path.isfile(path) and sha256_of(path) == checksum
