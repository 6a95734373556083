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


BAD_INPUT: list[tuple[str, ...]] = [
    ("plan-eval --episodes 0", "--episodes to be an integer of at least 1, got 0"),
    ("plan-eval --batch-size 0", "--batch-size to be an integer of at least 1, got 0"),
    ("plan-eval --threads -1", "--threads must not be negative, got -1"),
    ("plan-eval --threads 100000", "--threads must be at most"),
    ("plan-eval --workers 100000 --ray local", "--workers must be at most"),
    ("plan-eval --seed -1", "evaluation seed in [0, 2147483647], got -1"),
    ("plan-eval --agents jumpi", "unknown agent 'jumpi', expected one of", "did you mean 'jumpy'?"),
    ("plan-eval --protocol papers", "did you mean 'paper'?"),
    ("plan-eval --env Billiards2D", "unknown environment 'Billiards2D'"),
    ("plan-eval --table long_table", "unknown table of Billiards2D-v0 'long_table'"),
    ("plan-eval --table small_targets", "did you mean 'small_target'?"),
    ("plan-eval --env Billiards1D-v0 --table long", "'long', expected one of ['default']"),
    ("plan-eval --device gpu", "unknown device 'gpu', expected one of ['auto', 'cpu', 'cuda']"),
    ("plan-eval --device cuda:99", "torch sees"),
    ("plan-eval --workers 2", "--workers must be at least 1, and needs --ray, got 2"),
    ("plan-eval --workers 0 --ray local", "--workers must be at least 1"),
    ("plan-eval --budget-ms 0", "budget_ms must be positive"),
    ("plan-eval --weights jumpi runs/jumpy", "did you mean 'jumpy'?"),
    ("plan-eval --agents none --weights jumpy runs", "unknown agent 'jumpy', expected one"),
    ("plan-eval --ensemble jumpi runs/jumpy", "did you mean 'jumpy'?"),
    (
        "plan-eval --agents none --ensemble none runs",
        "agent 'none' does not plan with a learned model, got an ensemble of 1 more",
    ),
    (
        "plan-eval --agents rnn --protocol paper --ensemble rnn rnn-billiards2d",
        "leave the ensemble out, or set search_ensemble=True",
    ),
    (
        "plan-eval --agents none --weights none runs",
        "agent 'none' has no learned model, got checkpoint='runs'",
    ),
    (
        "plan-eval --agents none jumpy rnn --weights jumpy atlantis rnn eldorado",
        "agent 'jumpy' cannot play: there is no folder 'atlantis'",
        "agent 'rnn' cannot play: there is no folder 'eldorado'",
        "Without them: --agents none",
    ),
    (
        "plan-eval --agents random rnn jumpy --table four_balls",
        "expected 2 balls, which the RNN was made for, got 4",
        "--agents random jumpy",
    ),
    ("plan-eval --out FILE/out", "expected to be able to write"),
    ("study-planner --studies ablations", "did you mean 'ablation'?"),
    ("study-planner --agents none", "--agents must be such that plan, got ['none']"),
    ("study-planner --agents jumpi", "unknown agent 'jumpi'"),
    ("study-planner --budgets 0", "--budgets must be positive"),
    ("study-planner --episodes 0", "--episodes to be an integer of at least 1, got 0"),
    ("study-planner --threads -1", "--threads must not be negative"),
    ("study-planner --threads 100000", "--threads must be at most"),
    ("demo --port 70000", "--port to be a number in [1, 65535], got 70000"),
    ("make-videos panels.gif", "unknown video 'panels'"),
    ("make-videos three_panels.png", "unknown ending '.png', expected one of"),
    ("make-videos three_panels", "unknown ending ''"),
    ("make-videos somewhere/three_panels.gif", "names without folders"),
    ("make-videos --rate 21", "--rate must be at most 20 for a .gif, got 21"),
    ("make-videos --rate 0", "rate to be an integer of at least 1, got 0"),
    ("make-videos --frames 0", "frames to be an integer of at least 1, got 0"),
    ("make-videos --size 159", "size to be an integer of at least 160, got 159"),
    ("make-videos --seed -1", "expected a seed in [0,"),
    ("make-videos --seed 2251799813685248", "kept for evaluation"),
    ("make-videos --agent jumpi", "did you mean 'jumpy'?"),
    ("make-videos --models", "--models must be from 1 to 3, got 0"),
    ("make-videos --models a b c d", "--models must be from 1 to 3, got 4"),
    ("make-videos --models rnn-billiards2d rnn-billiards2d", "different names, got two of 'rnn'"),
    ("make-videos --models rnn", "there is no folder 'rnn'"),
    ("make-videos --models jumpy-lines-task", "a model of 4 coordinates and 2 numbers for a shot"),
    ("make-videos --out FILE/out", "expected to be able to write"),
    ("compare-tables nowhere.json", "No such file"),
    ("make-dataset --path data.txt", "expected --path to end in .npz, got 'data.txt'"),
    ("make-pictures --out FILE", "Not a directory"),
]


@pytest.mark.parametrize("bad", BAD_INPUT, ids=lambda bad: bad[0])
def test_bad_input_is_one_line_and_leaves_nothing(
    bad: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    line, *messages = bad
    command, *options = line.replace("FILE", "file").split()
    assert run(command, options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"{SCRIPTS[command]}: ")
    assert [message for message in messages if message not in printed.err] == []
    assert os.listdir() == ["file"]


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
