"""The README's Python examples run as they stand, and its figures are those of the results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs_and_prints(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {})
    assert capsys.readouterr().out


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def test_the_moved_target_is_told_as_it_was_measured() -> None:
    root = README.parent
    report = json.loads((root / "results/tables/random_target/results.json").read_text())
    text = " ".join(README.read_text(encoding="utf-8").split())
    for name, told in (
        ("jumpy", "{:.1f} % ({:.1f} to {:.1f})"),
        ("ppo", "{:.1f} % (PPO; {:.1f} to {:.1f})"),
        ("sac", "{:.1f} % (SAC; {:.1f} to {:.1f})"),
        ("none", "doing nothing wins {:.1f} % ({:.1f} to {:.1f})"),
    ):
        figures = report["agents"][name]
        assert told.format(*(100.0 * x for x in (figures["success"], *figures["ci95"]))) in text
    assert f"`random_target` with `--agents {' '.join(report['agents'])}`" in text
