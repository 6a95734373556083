"""What scripts print where the locale is ASCII."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    program = "from jumpy_mbrl.console import escape_output; escape_output(); print('1 \\xb1 0.1')"
    done = run_in_ascii(program)
    assert (done.stdout, done.stderr) == ("1 \\xb1 0.1\n", "")


def test_a_stream_of_another_kind_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from jumpy_mbrl.console import escape_output

    escape_output()
    print("1 ± 0.1")
    assert capsys.readouterr().out == "1 ± 0.1\n"
