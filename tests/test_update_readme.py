"""The README tells what the results in the repository say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "update_readme", ROOT / "scripts" / "update_readme.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_readme"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_up_to_date(script: ModuleType) -> None:
    report = json.loads((ROOT / "results" / "plan_eval" / "results.json").read_text())
    page = (ROOT / "README.md").read_text()
    assert script.with_results(page, report) == page


def test_figures_are_replaced_and_nothing_else(script: ModuleType) -> None:
    page = "before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n"
    figures = {"success": 0.5, "ci95": [0.4, 0.6], "ms_per_shot": 12.345, "ticks": None}
    report = {
        "episodes": 10,
        "seed": 3,
        "protocol": "default",
        "device": "cpu",
        "agents": {"none": figures},
    }
    changed = script.with_results(page, report)
    assert changed.startswith("before\n<!-- results:begin -->\n")
    assert changed.endswith("<!-- results:end -->\nafter\n")
    assert "| 50.0 % | 40.0 to 60.0 | - | - |" in changed
    assert "old" not in changed


def test_a_page_without_markers_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected the markers"):
        script.with_results("nothing here", {"agents": {}})
