"""`jumpy-mbrl COMMAND`, and what `scripts/` run from a checkout."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

COMMANDS = {
    "plan-eval": ("commands.plan_eval", "how many shots of each agent succeed, and at what cost"),
    "train": ("commands.train", "train a world model"),
    "train-policy": ("commands.train_policy", "train PPO or SAC of Stable-Baselines3"),
    "make-dataset": ("commands.make_dataset", "simulate trajectories into a file"),
    "play": ("play.app", "play against an agent"),
    "demo": ("lab.demo", "a page in the browser: set up a table, and let models imagine it"),
    "reproduce": ("lab.reproduce.command", "the papers' tasks, measured again"),
    "study-learning": ("lab.learning.study", "success against experience"),
    "study-dreamer": ("lab.dreamer", "DreamerV3 of sheeprl on the environments"),
    "study-planner": ("lab.planner.study", "what the parts of planning are worth"),
    "study-worlds": ("lab.worlds.study", "the general model in worlds that are not billiards"),
    "study-simb": ("lab.worlds.simb", "the general model predicts RPIN's simulated billiards"),
    "study-pixels": ("lab.pixel_study", "what is won and seen from pictures"),
    "study-clearing": ("lab.clearing", "tables cleared with several shots"),
    "bench": ("lab.bench.command", "speed, beside what it is compared with"),
    "compare-tables": ("lab.compare_tables", "one picture of several results of plan-eval"),
    "make-pictures": ("lab.pictures", "the pictures of the documentation"),
    "make-videos": ("lab.make_videos", "films of what models imagine"),
    "score-shipped": ("lab.shipped", "validation figures of the shipped models"),
    "soak": ("lab.soak", "random tables for as long as asked"),
    "try-programs": ("lab.programs", "other programs with the environments and models"),
    "update-docs": ("lab.docs", "the documentation's tables from results"),
}
"""The module of each command, within the package, and what it does."""
_OLDER_NAMES = {"train": "train_world_model", "train-policy": "train_sb3"}
"""Of scripts that are not called as their commands are."""
_MANY_THREADS = (
    "plan-eval",
    "play",
    "demo",
    "reproduce",
    "study-learning",
    "study-planner",
    "study-worlds",
    "study-simb",
    "study-pixels",
    "study-clearing",
    "make-videos",
)
"""What plans or trains while other programs may want the cores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `jumpy-mbrl`; returns its exit code (2 after a one-line error)."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: jumpy-mbrl COMMAND ...\n\ncommands:")
        print("\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()))
        print("\nWhat a command takes: jumpy-mbrl COMMAND --help")
        return 0 if words else 2
    if words[0] not in COMMANDS:
        print(f"jumpy-mbrl: expected {', '.join(COMMANDS)}, got {words[0]!r}", file=sys.stderr)
        return 2
    sys.argv[0] = f"jumpy-mbrl {words[0]}"
    return run(words[0], words[1:])


def script(command: str) -> None:
    """Runs a command as the program that it is, and ends."""
    sys.exit(run(command, sys.argv[1:]))


def run(command: str, argv: Sequence[str] = ()) -> int:
    """Runs one command; what it raises for bad input is a line on stderr, and exit code 2.

    A module's own `ERRORS` are such too. What the terminal's encoding lacks is printed as Python
    escapes it, and a command whose output nobody reads any more (`... | head -1`) does its work.
    """
    if command in _MANY_THREADS:  # Read when torch is loaded: threads that wait sleep.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if (stream := getattr(sys, name)) is not None:
                output: Any = _Output(stream)
                stack.callback(output.flush)
                stack.enter_context(getattr(contextlib, f"redirect_{name}")(output))
        module = importlib.import_module(f"jumpy_mbrl.{COMMANDS[command][0]}")
        errors = (ValueError, OSError, ImportError, *getattr(module, "ERRORS", ()))
        try:
            code: int = module.main(argv)
        except errors as error:
            name = _OLDER_NAMES.get(command, command.replace("-", "_"))
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return 2
    return code


class _Output:
    """A stream that falls silent, where its own would raise, when its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._heedless():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._heedless():
            self._stream.flush()

    @contextlib.contextmanager
    def _heedless(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is still to be flushed, at the end of the process too, has to go somewhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
