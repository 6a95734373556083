"""Trains PPO, SAC or TQC of Stable-Baselines3: on the environment itself, or inside a world model.

python scripts/train_sb3.py --preset sac-shot-coords --run-dir runs/sac-shot-coords
python scripts/train_sb3.py --preset ppo-rest-coords --inside fold-billiards2d --run-dir runs/inside

Every setting of the preset can be changed by an option. A run that was interrupted goes on from its
last validation with --resume and the options it was started with, or more --timesteps. Success on
held-out tables against steps, frames of experience and seconds is in RUN_DIR/curve.csv, the best
policy in RUN_DIR/best.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jumpy_mbrl.agents.baselines.policies import policy_info
from jumpy_mbrl.agents.baselines.presets import (
    POLICY_PRESETS,
    PolicyConfig,
    folder_name,
    policy_preset,
)
from jumpy_mbrl.agents.baselines.train import train_policy
from jumpy_mbrl.commands.train import parse_changes, split
from jumpy_mbrl.processes import called_as

_DEFAULT_PRESET = "sac-shot-coords"


@dataclass(frozen=True)
class Arguments:
    """See the module; ``config`` starts from the preset."""

    run_dir: Path
    """Folder for all that is written. A new run needs a new one."""
    config: Annotated[PolicyConfig, tyro.conf.arg(name="")]
    preset: str = _DEFAULT_PRESET
    """The run that the settings below start from."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --run-dir, which has to be your own: it holds pickles."""


def main(argv: Sequence[str]) -> int:
    """Trains the policy."""
    arguments = parse(argv)
    best = train_policy(
        arguments.config, arguments.run_dir, resume=arguments.resume, command=record(argv)
    )
    figures = policy_info(best)["metrics"]
    print(
        f"best policy: {best}, which won {100 * figures['success']:.1f} % of {figures['n']} "
        f"validation tables after {figures['frames']:,} frames"
    )
    return 0


def parse(argv: Sequence[str]) -> Arguments:
    """Reads the command line: the preset first, then what changes it."""
    name = split(argv, preset=_DEFAULT_PRESET)[0].preset
    usual = Arguments(run_dir=tyro.MISSING, config=policy_preset(name), preset=name)
    return parse_changes(usual, argv, f"{__doc__}\n\nPresets: {', '.join(POLICY_PRESETS)}.")


def record(argv: Sequence[str]) -> str:
    """The command that repeats the run anywhere: without this machine's folders and --resume."""
    found, rest = split(argv, run_dir="", inside=None, resume=False)
    rest += [] if found.inside is None else ["--inside", folder_name(found.inside)]
    rest += ["--run-dir", folder_name(found.run_dir)]
    return f"{called_as('train-policy', 'train_sb3')} {shlex.join(rest)}"
