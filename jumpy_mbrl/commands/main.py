"""``jumpy-mbrl COMMAND``, and what ``scripts/`` run from a checkout."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from jumpy_mbrl.commands.console import escape_output

COMMANDS = {
    "plan-eval": ("commands.plan_eval", "how many shots of each agent succeed, and at what cost"),
    "train": ("commands.train", "train a world model"),
    "train-policy": ("commands.train_policy", "train PPO or SAC of Stable-Baselines3"),
    "make-dataset": ("commands.make_dataset", "simulate trajectories into a file"),
    "play": ("play.app", "play against an agent"),
    "reproduce": ("lab.reproduce.command", "the papers' tasks, measured again"),
    "study-learning": ("lab.learning.study", "success against experience"),
    "study-planner": ("lab.planner.command", "what the parts of planning are worth"),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``jumpy-mbrl``; returns its exit code (2 after a one-line error)."""
    words = sys.argv[1:] if argv is None else list(argv)
    escape_output()
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


def run(command: str, argv: Sequence[str] | None = None) -> int:
    """Runs one command, with the program's own arguments by default."""
    module = importlib.import_module(f"jumpy_mbrl.{COMMANDS[command][0]}")
    code: int = module.main(argv)
    return code


def script(command: str) -> None:
    """Runs a command as the program that it is, and ends."""
    escape_output()
    sys.exit(run(command))
