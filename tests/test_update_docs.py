"""The pages tell what the results in the repository say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jumpy_mbrl.agents import AGENTS
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.lab import docs

ROOT = Path(__file__).parents[1]
NONE, RNN = AGENTS["none"].description, AGENTS["rnn"].description


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
