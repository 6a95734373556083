"""Writing files: what is no file, links, what a killed writer leaves, and outputs that close."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl import files
from jumpy_mbrl.commands import main
from jumpy_mbrl.files import (
    atomic_write,
    check_ours,
    check_writable,
    entries_of,
    write_json,
    write_together,
)


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        assert temporary.suffix == path.suffix
        temporary.write_text(text)


# -- what is no file ------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into(linked: bool, tmp_path: Path) -> None:
    pipe, target = tmp_path / "pipe.json", tmp_path / "link.json"
    os.mkfifo(pipe)
    target.symlink_to(pipe)
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_json(target if linked else pipe, {"a": 1})
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and target.is_symlink()
    reader.join(timeout=10)
    assert [json.loads(content) for content in taken] == [{"a": 1}]
    assert set(tmp_path.iterdir()) == {pipe, target}


PRINTS = """
import sys
from jumpy_mbrl.files import atomic_write, check_writable
print("before")
check_writable(sys.argv[1])
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("between\\n")
print("after")
"""


@pytest.mark.parametrize("kind", ["pipe", "file", "file by its name"])
def test_stdout_is_written_into(kind: str, tmp_path: Path) -> None:
    link, out = tmp_path / "stdout", tmp_path / "out.txt"
    link.symlink_to("/proc/self/fd/1")  # which is what /dev/stdout is
    name = out if kind == "file by its name" else link
    with out.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS, str(name)],
            stdout=subprocess.PIPE if kind == "pipe" else stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (done.stdout or out.read_text()) == "before\nbetween\nafter\n"
    assert os.readlink(link) == "/proc/self/fd/1"
    assert set(tmp_path.iterdir()) == {link, out}


def test_folders_sockets_and_disks_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for check in (check_writable, lambda path: write(path, "")):
            with pytest.raises(IsADirectoryError, match=r"expected a file to write, got .*/folder"):
                check(tmp_path / "folder")
            with pytest.raises(ValueError, match=r"a pipe or a terminal, got the socket .*/socket"):
                check(tmp_path / "socket")
    found: Any = os.stat_result((stat.S_IFBLK | 0o600, *[0] * 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", lambda path, **_: found)
        with pytest.raises(ValueError, match=r"got the disk .*/sda"):
            check_writable(tmp_path / "sda")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "socket"}


# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_replaced(there: bool, tmp_path: Path) -> None:
    real, link, second = (tmp_path / name for name in ("store/a.txt", "link.txt", "second.txt"))
    link.symlink_to("store/a.txt")  # from where it lies
    second.symlink_to(link)
    if there:
        real.parent.mkdir()
        real.write_text("old")
    check_writable(second)
    assert real.exists() == there
    write(second, "new")
    assert real.read_text() == "new" and not real.is_symlink()
    assert os.readlink(link) == "store/a.txt" and os.readlink(second) == str(link)
    assert list(real.parent.iterdir()) == [real]


def test_the_suffix_is_that_of_the_name_given(tmp_path: Path) -> None:
    (tmp_path / "data.npz").symlink_to("blob")
    write(tmp_path / "data.npz", "new")
    assert (tmp_path / "blob").read_text() == "new"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for check in (check_writable, lambda path: write(path, "")):
        with pytest.raises(OSError, match="symbolic links"):
            check(tmp_path / "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (None, True),
        ('{"format": "a"}', True),
        ("{", True),
        ('{"format": "b"}', False),
        ("3", False),
    ],
)
def test_what_is_not_ours_is_not_replaced(text: str | None, ours: bool, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    expected = pytest.raises(ValueError, match=r"config\.json to be free or to hold format 'a'")
    with contextlib.nullcontext() if ours else expected:
        check_ours(path, "a")


# -- what a killed writer leaves ------------------------------------------------------------------

KILLED = """
import sys, time
from jumpy_mbrl.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with contextlib.ExitStack() as processes:
        killed, alive = (
            processes.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(2)
        )
        try:
            for process in (killed, alive):
                assert process.stdout is not None and process.stdout.readline() == "writing\n"
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            assert len(list(tmp_path.iterdir())) == 2
            write(tmp_path / "data.json", "another file's leftovers are not its own")
            write(tmp_path / "data2.npz", "nor are these")
            assert len(list(tmp_path.iterdir())) == 4
            write(path, "whole")
            (left,) = tmp_path.glob(".data.tmp-*")
            assert f"-{alive.pid}-" in left.name  # It may still be written to.
        finally:
            alive.kill()
    write(path, "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz", "data.json", "data2.npz"}


def test_only_what_is_nobodys_any_more_is_removed(tmp_path: Path) -> None:
    stays = [
        ".a.tmp-0123456789ab.txt",  # of an earlier version, which did not say whose it was
        ".a.tmp-00000000-1-0123456789ab.txt",  # of another machine
        f".a.tmp-{files._HOST}-{os.getppid()}-0123456789ab.txt",  # of a process that runs
        ".a.tmp-x.txt",
        ".a.tmp-0123456789ab.txt~",
        "a.tmp-0123456789ab.txt",
    ]
    goes = [stay.replace("0123456789ab", "fedcba987654") for stay in stays[:3]]
    for name in (*stays, *goes):
        (tmp_path / name).write_text("")
    for name in (*goes, *stays[3:]):
        os.utime(tmp_path / name, (0.0, 0.0))
    (tmp_path / ".a.tmp-00000000000f.txt").mkdir()
    (tmp_path / ".a.tmp-00000000001f.txt").symlink_to("a.txt")
    write(tmp_path / "a.txt", "new")
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*stays, "a.txt", ".a.tmp-00000000000f.txt", ".a.tmp-00000000001f.txt"}


# -- files that belong together -------------------------------------------------------------------


def test_files_get_their_names_in_the_order_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, sync = Path.replace, os.fsync

    def replacing(path: Path, target: Path) -> Path:
        done.append(target.name)
        if target.name == "config.json" and "old" in done:
            raise OSError(5, "the machine stops")
        return replace(path, target)

    def syncing(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(Path, "replace", replacing)
    monkeypatch.setattr(os, "fsync", syncing)
    write_together(tmp_path, {"weights": b"1", "config.json": b"1"})
    assert done == ["file", "weights", "folder", "file", "config.json", "folder"]
    done.append("old")
    with pytest.raises(OSError, match="the machine stops"):
        write_together(tmp_path, {"weights": b"2", "config.json": b"2"})
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"weights": b"2", "config.json": b"1"}


# -- before long work -----------------------------------------------------------------------------


def test_outputs_are_tried_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / "old.json", tmp_path / "a" / "b" / "new.json", str(tmp_path / "c"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"
    for path in (tmp_path / "old.json" / "x.json", Path("/proc/jumpy/x.json")):
        with pytest.raises(OSError, match=rf"^expected to be able to write {path}: "):
            check_writable(tmp_path / "new.json", path)


def test_a_pipe_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")  # without waiting for whom will read it
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"to write .*/pipe: Permission denied"):
        check_writable(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("command", "work", "options", "blocked"),
    [
        ("plan-eval", "commands.plan_eval.load_agents", "--agents none --out o", "o/success.png"),
        ("plan-eval", "commands.plan_eval.load_agents", "--agents none --json o", "o"),
        ("bench", None, "envs --json o", "o"),
        (
            "study-planner",
            "lab.planner.study.make_tables",
            "--agents simulator --out o",
            "o/studies.md",
        ),
        ("study-learning", "lab.learning.study.make_tables", "planner --run-dir runs --out o", "o"),
        ("reproduce", None, "--tasks lines --out o", "o/table1.md"),
        ("make-videos", "lab.make_videos.load_models", "--out o", "o/interpolation.gif"),
    ],
)
def test_commands_notice_before_their_work_what_they_cannot_write(
    command: str,
    work: str | None,
    options: str,
    blocked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(blocked).mkdir(parents=True)
    before = list(tmp_path.rglob("*"))
    if work is not None:
        fail = lambda *_, **__: pytest.fail("worked before it looked")  # noqa: E731
        monkeypatch.setattr(f"jumpy_mbrl.{work}", fail)
    assert main.run(command, options.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"{command.replace('-', '_')}: ")
    assert f"expected a file to write, got the folder {blocked}" in printed.err
    assert list(tmp_path.rglob("*")) == before


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda content: content["seconds"], "there is no 'seconds'"),
        (lambda content: content["a"]["b"], "'int' object is not subscriptable"),
        (lambda content: float(10**400 * content["a"]), "int too large to convert to float"),
        (lambda content: content.value, "'dict' object has no attribute 'value'"),
    ],
)
def test_entries_that_are_not_there_are_named(read: Callable[[Any], Any], what: str) -> None:
    expected = rf"^expected run/x\.json as it was written, but {what}; make it again$"
    with pytest.raises(ValueError, match=expected), entries_of("run/x.json", "make it again"):
        read({"a": 1})
