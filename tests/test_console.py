"""What scripts print where the locale is ASCII, and where nobody reads it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jumpy_mbrl.commands.console import escape_output, output_may_close

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
HELP_OF_ALL = """
import json, runpy, sys, traceback

ends = {}
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(f"scripts/{name}", run_name="__main__")
    except SystemExit as end:
        ends[name] = end.code
    except Exception:
        ends[name] = traceback.format_exc()
print(json.dumps(ends))
"""


def run_in_ascii(*command: str) -> subprocess.CompletedProcess[str]:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        [sys.executable, "-c", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ascii_only},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def ends() -> dict[str, object]:
    """How each script ends that is asked for help, all by one process."""
    done = run_in_ascii(HELP_OF_ALL, *SCRIPTS)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_given_in_any_locale(name: str, ends: dict[str, object]) -> None:
    assert ends[name] == 0


def test_what_cannot_be_printed_is_escaped() -> None:
    program = (
        "from jumpy_mbrl.commands.console import escape_output; "
        "escape_output(); print('1 \\xb1 0.1')"
    )
    done = run_in_ascii(program)
    assert (done.stdout, done.stderr) == ("1 \\xb1 0.1\n", "")


def test_a_stream_of_another_kind_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    escape_output()
    print("1 ± 0.1")
    assert capsys.readouterr().out == "1 ± 0.1\n"


WORKS = """
import pathlib, sys
from jumpy_mbrl.commands.console import output_may_close
@output_may_close()
def main():
    for _ in range(3000):
        print("a line that fills the buffer of the pipe", flush=True)
        print("another", file=sys.stderr)
    pathlib.Path(sys.argv[1]).write_text("done")
main()
"""


def test_a_program_whose_output_closes_does_its_work(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{WORKS}' {tmp_path / 'file'} 2>&1 | head -1; "
    command += "exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "done"


def test_other_errors_of_an_output_are_told(
    closed_stdout: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with closed_stdout(), pytest.raises(BrokenPipeError):
        print("nobody reads this")
    with closed_stdout(), output_may_close():
        print("nor this")
    with (
        contextlib.redirect_stdout(Full()),
        pytest.raises(OSError, match="No space left"),
        output_may_close(),
    ):
        print("there is no room for this")
