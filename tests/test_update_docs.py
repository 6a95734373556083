"""The pages tell what the results in the repository say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from jumpy_mbrl.agents import AGENTS
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.lab import docs

ROOT = Path(__file__).parents[1]
NONE = AGENTS["none"].description


def test_every_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("update-docs", ["--root", str(ROOT), "--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in docs.TABLES:
        for name in (entry.page, entry.results):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "docs" / "performance.md"
    right = page.read_text()
    page.write_text(right.replace("CartPole-v1, unwrapped", "something else"))
    assert run("update-docs", ["--root", str(tmp_path), "--check"]) == 1
    assert "docs/performance.md: 'bench' is not what results/bench" in capsys.readouterr().out
    assert run("update-docs", ["--root", str(tmp_path)]) == 0
    assert page.read_text() == right


def test_a_table_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n"
    wanted = "before\n<!-- x:begin -->\nnew\nlines\n<!-- x:end -->\nafter\n"
    assert docs.with_table(page, "x", ["new", "lines"]) == wanted
    for wrong in ("nothing here", "<!-- x:end -->\n<!-- x:begin -->\n"):
        with pytest.raises(ValueError, match="expected the markers"):
            docs.with_table(wrong, "x", [])


def test_what_no_stored_result_has_is_told_too() -> None:
    report = json.loads((ROOT / "results/plan_eval/results.json").read_text())
    report |= {"ensemble": {"rnn": ["a", "b"]}, "planner": {"search_ensemble": True}}
    report["agents"]["rnn"]["given"]["models"] = 3
    del report["agents"]["none"]["contested"], report["agents"]["none"]["given"]  # as of old
    text = "\n".join(docs.plan_table(report, "results/x/results.json"))
    assert "--ensemble rnn a rnn b --search-ensemble --out results/x`" in text
    assert "| `rnn` (3 models) |" in text and f"| `none` | {NONE} | - | - | - | - | - |" in text
    assert re.search(r"\| `none` \| [\d.]+ % \| [\d.]+ to [\d.]+ \| - \| - \| - \| - \|", text)
    bench = json.loads((ROOT / "results/bench_envs.json").read_text())
    bench["rows"][0] |= {"target": "at least 20", "ok": False}
    assert "| at least 20: missed |" in docs.bench_table(bench, "bench_envs.json")[4]
