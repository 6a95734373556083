"""All commands: their help, their errors, their outputs, and how they record themselves."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jumpy_mbrl.commands import main, train, train_policy
from jumpy_mbrl.commands.main import COMMANDS, run

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path.read_text() for path in (ROOT / "scripts").glob("*.py")}
SCRIPTS = {re.findall(r'script\("(.+)"\)', text)[0]: stem for stem, text in FILES.items()}
HELP_OF_ALL = """
import json, runpy, sys, traceback
from jumpy_mbrl.commands import main

def end(call, *args):
    try:
        return call(*args)
    except SystemExit as end:
        return end.code
    except Exception:
        return traceback.format_exc()

def script(name, option):
    sys.argv = [name, option]
    runpy.run_path(f"scripts/{name}.py", run_name="__main__")

commands = dict(pair.split("=") for pair in sys.argv[1:])
ends = {}
for command, name in commands.items():
    ends[command] = [end(script, name, "--help"), end(script, name, "--nonsense")]
    ends[command] += [end(main.main, [command, "--help"])]
print(json.dumps(ends))
"""


def in_ascii(*words: str) -> subprocess.CompletedProcess[str]:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ascii_only},
        capture_output=True,
        text=True,
        timeout=240,
    )


def does(work: Callable[..., int], monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    """Lets commands do something else."""
    for command in commands:
        module = importlib.import_module(f"jumpy_mbrl.{COMMANDS[command][0]}")
        monkeypatch.setattr(module, "main", work)


@pytest.fixture(scope="module")
def ends() -> dict[str, list[object]]:
    """How each command ends when asked for help and for nonsense, all by one process."""
    done = in_ascii("-c", HELP_OF_ALL, *(f"{name}={stem}" for name, stem in SCRIPTS.items()))
    assert done.returncode == 0, done.stderr
    found: dict[str, list[object]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_given_in_any_locale_and_nonsense_refused(
    command: str, ends: dict[str, list[object]]
) -> None:
    assert ends[command] == [0, 2, 0]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_one_line_and_a_bug_is_none(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (ValueError("wrong"), FileNotFoundError("wrong"), ImportError("wrong")):

        def fail(_: object, error: Exception = error) -> int:
            raise error

        does(fail, monkeypatch, command)
        assert run(command) == 2
        assert capsys.readouterr() == ("", f"{SCRIPTS[command]}: wrong\n")
    does(lambda _: COMMANDS["a bug"][0].count(""), monkeypatch, command)
    with pytest.raises(KeyError, match="a bug"):
        run(command)


def test_all_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPTS.keys() == COMMANDS.keys()
    assert [main.main(words) for words in ([], ["-h"], ["--help"])] == [2, 0, 0]
    listed = re.findall(r"^  (\S+) +\S", capsys.readouterr().out, re.MULTILINE)
    assert listed == [*COMMANDS] * 3
    assert main.main(["plan-evil"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jumpy-mbrl: expected plan-eval, train, ") and error.count("\n") == 1


def test_the_list_needs_no_torch() -> None:
    program = "import sys; from jumpy_mbrl.commands.main import main; main([]); "
    done = in_ascii("-c", f"{program} print('torch' in sys.modules)")
    assert done.stdout.splitlines()[-1] == "False"


def test_a_script_and_the_command_say_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_ascii("scripts/plan_eval.py", "--episodes", "0")
    monkeypatch.setattr(sys, "argv", ["jumpy-mbrl", "plan-eval", "--episodes", "0"])
    assert main.main() == done.returncode == 2
    assert capsys.readouterr() == (done.stdout, done.stderr)
    assert done.stderr.startswith("plan_eval: expected --episodes to be an integer of at least 1")


@pytest.mark.parametrize(
    ("called", "alone", "together"),
    [
        ("scripts/NAME.py", "python scripts/NAME.py", "scripts/NAME.py"),
        ("jumpy-mbrl COMMAND", "jumpy-mbrl COMMAND", "--no-python jumpy-mbrl COMMAND"),
    ],
)
def test_commands_record_how_they_were_called(
    called: str, alone: str, together: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, rest = ["--run_dir=/home/me/x", "--seed", "1", "--resume"], "--seed 1 --run-dir x"
    modules: Any = {"train": train, "train-policy": train_policy}
    for command, module in modules.items():

        def filled(text: str, command: str = command) -> str:
            return text.replace("NAME", SCRIPTS[command]).replace("COMMAND", command)

        monkeypatch.setattr(sys, "argv", [filled(called)])
        assert module.record(words) == f"{filled(alone)} {rest}"
        if module is train:
            start = f"torchrun --nproc-per-node 2 {filled(together)}"
            assert module.record(words, workers=2) == f"{start} {rest}"


def test_threads_that_wait_sleep_where_others_want_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def look(_: object) -> int:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        return 0

    does(look, monkeypatch, "plan-eval", "train")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert run("train") == run("plan-eval") == 0
    assert seen == [None, "PASSIVE"]
    monkeypatch.delenv("OMP_WAIT_POLICY")


# -- outputs -------------------------------------------------------------------------------------


WORKS = """
import pathlib, sys
from jumpy_mbrl.commands import main, make_dataset
def work(argv):
    for _ in range(3000):
        print("a line that fills the buffer of the pipe", flush=True)
        print("another", file=sys.stderr)
    pathlib.Path(argv[0]).write_text("done")
    return 0
make_dataset.main = work
sys.exit(main.run("make-dataset", sys.argv[1:]))
"""


def test_a_program_whose_output_closes_does_its_work(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{WORKS}' {tmp_path / 'file'} 2>&1 | head -1; "
    command += "exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "done"


def test_what_cannot_be_printed_is_escaped() -> None:
    program = """
from jumpy_mbrl.commands import main, make_dataset
make_dataset.main = lambda argv: print('1 \\xb1 0.1')
main.run("make-dataset")
"""
    done = in_ascii("-c", program)
    assert (done.stdout, done.stderr) == ("1 \\xb1 0.1\n", "")


def test_other_errors_of_an_output_are_told(
    closed_stdout: Callable[[], contextlib.AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    def work(_: Any) -> int:
        print("1 ± 0.1")
        return 0

    does(work, monkeypatch, *COMMANDS)
    assert run("play") == 0 and capsys.readouterr().out == "1 ± 0.1\n"
    with closed_stdout(), pytest.raises(BrokenPipeError):
        print("nobody reads this")
    for command in COMMANDS:
        with closed_stdout():
            assert run(command) == 0
    with contextlib.redirect_stdout(Full()):
        assert run("soak") == 2
    assert capsys.readouterr().err == "soak: [Errno 28] No space left on device\n"
