"""Locks between processes; those of one process exclude one another in the same way."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.locks import RUN_LOCK, own, take_turns

HOLD = """
import os, sys, time
from jumpy_mbrl.locks import own

with own(sys.argv[1]):
    if sys.argv[2] == "fork" and os.fork():
        os._exit(0)
    print("holding", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, how: str) -> subprocess.Popen[str]:
    """A process that is in a block of `own`, or, with "fork", a child of one that has ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "holding\n"
    return process


def test_a_folder_has_one_owner_who_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with own(folder):
        busy = f"run is in use by process {os.getpid()} on {socket.gethostname()}; wait until"
        with pytest.raises(BlockingIOError, match=busy), own(folder):
            pass
        with own(tmp_path), take_turns(folder / "file"):
            (folder / "file").write_text("made by the run")
    assert [path.name for path in folder.iterdir()] == ["file"]
    with own(folder):
        pass


def test_nothing_is_left_of_a_folder_that_nothing_was_written_to(tmp_path: Path) -> None:
    for block in (own(tmp_path / "new"), take_turns(tmp_path / "new" / "file")):
        with block:
            assert (tmp_path / "new").is_dir()
        assert not (tmp_path / "new").exists()
    with own(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file"
    with pytest.raises(ValueError, match=r"a folder for the run, but .*file is a file"), own(path):
        pass


def test_a_lock_ends_with_its_process_even_if_that_is_killed(tmp_path: Path) -> None:
    with hold(tmp_path, "alone") as process:
        busy = f"in use by process {process.pid} on "
        with pytest.raises(BlockingIOError, match=busy), own(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / RUN_LOCK).exists()
    with own(tmp_path):
        pass
    assert not (tmp_path / RUN_LOCK).exists()


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    with hold(tmp_path, "fork") as parent:
        assert parent.wait() == 0
        with own(tmp_path):
            assert (tmp_path / RUN_LOCK).exists()


def test_who_leaves_a_block_as_a_forked_child_takes_no_lock_away(tmp_path: Path) -> None:
    program = """
import os, sys
from jumpy_mbrl.locks import RUN_LOCK, own

with own(sys.argv[1]):
    if not os.fork():
        sys.exit()
    os.wait()
    print(os.path.exists(os.path.join(sys.argv[1], RUN_LOCK)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_who_takes_turns_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")

    def add(_: int) -> None:
        with take_turns(path):
            count = int(path.read_text())
            path.write_text("")  # What nobody else may see.
            path.write_text(str(count + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(200)))
    assert path.read_text() == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_who_takes_turns_waits_for_other_processes(tmp_path: Path) -> None:
    program = """
import sys
from jumpy_mbrl.locks import take_turns

with take_turns(sys.argv[1]):
    print("holding", flush=True)
    sys.stdin.readline()
    open(sys.argv[1], "a").write("first ")
"""
    path = tmp_path / "file"
    with (
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "holding\n"

        def follow() -> None:
            with take_turns(path), path.open("a") as file:
                file.write("second")

        waiting = pool.submit(follow)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        process.stdin.write("\n")
        process.stdin.flush()
        waiting.result(timeout=30)
    assert path.read_text() == "first second"


def test_links_and_their_files_are_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there" / "file")
    with take_turns(tmp_path / "here"):
        assert [path.name for path in (tmp_path / "there").iterdir()] == [".file.lock"]


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = r"cannot be locked \(No locks available\); let no other"
    with pytest.warns(UserWarning, match=told), own(tmp_path):
        (tmp_path / "file").write_text("written all the same")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
