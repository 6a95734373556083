"""The benchmark's rows, and that it runs."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_clock_counts_work_and_takes_the_best_round(bench: ModuleType) -> None:
    pauses = iter([0.0, 0.05, 0.01, 0.05])

    def work() -> int:
        time.sleep(next(pauses))
        return 7

    (rate,) = bench._Clock(rounds=3, seconds=1e-6).rates(work)
    assert 7 / 0.05 < rate <= 7 / 0.01


def test_rows_say_whether_the_target_is_met(bench: ModuleType) -> None:
    row = bench._row("speed", 90.0, "steps/s", anchor=("other", 60.0), at_least=100.0)
    assert (row.ratio, row.anchor, row.ok) == (1.5, "other", False)
    assert bench.format_row(row).endswith("1.50x other        at least 100: NO")
    assert bench._row("speed", 100.0, "steps/s", at_least=100.0).ok is True
    assert bench._row("speed", 1.0, "steps/s").ok is None


@pytest.mark.slow
def test_envs_prints_and_writes_every_row(
    bench: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "VECTOR_SIZES", (1, 8))
    monkeypatch.setattr(bench, "TORCH_TABLES", 64)
    path = tmp_path / "bench.json"
    assert bench.main(["envs", "--rounds", "1", "--seconds", "1e-4", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert set(rows[0]) == {"name", "value", "unit", "anchor", "ratio", "target", "ok"}
    assert all(row["value"] > 0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) >= 12


def test_bad_settings_are_refused(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["envs", "--rounds", "0"]) == 2
    assert "--rounds must be at least 1" in capsys.readouterr().err
