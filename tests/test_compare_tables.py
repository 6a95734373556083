"""The picture of several tables, from the files to the points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab.tables_figure import save_tables_figure


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compare_tables")


def figures(successes: int, n: int = 200) -> dict[str, Any]:
    low, high = wilson_interval(successes, n)
    return {"n": n, "success": successes / n, "ci95": [low, high]}


def write(folder: Path, table: str, env: str = "Billiards2D-v0", **agents: Any) -> Path:
    path = folder / f"{env}-{table}.json"
    path.write_text(json.dumps({"env": env, "table": table, "agents": agents}))
    return path


def test_rows_stand_in_the_order_of_the_tables(script: ModuleType, tmp_path: Path) -> None:
    ours, truth = figures(190), figures(199)
    paths = [
        write(tmp_path, "default", "Billiards1D-v0", simulator=truth),
        write(tmp_path, "three_balls", jumpy=ours, simulator=truth),
        write(tmp_path, "default", jumpy=ours),
    ]
    tables = script.collect(paths)
    assert list(tables) == ["default", "three_balls", "Billiards1D-v0"]
    assert tables["three_balls"] == {"jumpy": ours, "simulator": truth}


def test_the_picture_grows_with_the_tables(script: ModuleType, tmp_path: Path) -> None:
    from matplotlib.image import imread

    names = ["default", "rest", "long", "five_balls"]
    paths = [write(tmp_path, name, jumpy=figures(180), simulator=figures(200)) for name in names]
    heights = []
    for count in (1, 4):
        out = tmp_path / f"{count}.png"
        assert script.main([*map(str, paths[:count]), "--out", str(out)]) == 0
        picture = imread(out)
        assert len(np.unique(picture.reshape(-1, picture.shape[2])[::7], axis=0)) > 20
        heights.append(picture.shape[0])
    assert heights[1] > 1.4 * heights[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"agents": {}}', "expected results.json of plan_eval.py, which"),
        ("[]", "expected results.json of plan_eval.py, which"),
        ('{"env": "Billiards2D-v0", "table": "round"', "compare_tables: "),
        ('{"env": "Billiards2D-v0", "table": "rest", "agents": {}}', "expected an agent that"),
    ],
)
def test_other_files_are_refused(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    assert script.main([str(path), "--out", str(tmp_path / "tables.png")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("compare_tables: ") and message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "tables.png").exists()


def test_two_files_of_one_table_are_refused(script: ModuleType, tmp_path: Path) -> None:
    path = write(tmp_path, "rest", jumpy=figures(3))
    with pytest.raises(ValueError, match=r"one file for each table, got .* again"):
        script.collect([path, path])


def test_entries_that_cannot_be_are_named(
    script: ModuleType, tmp_path: Path, refusals: Callable[..., int]
) -> None:
    path = write(tmp_path, "rest", jumpy=figures(3))
    assert refusals(path, lambda: script.collect([path])) > 80


def test_a_missing_file_is_one_line(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(tmp_path / "nowhere.json")]) == 2
    assert capsys.readouterr().err.startswith("compare_tables: ")


def test_agents_may_differ_from_table_to_table(tmp_path: Path) -> None:
    results = {
        "one": {"jumpy": figures(5, 10), "none": figures(0, 10)},
        "two": {"simulator": figures(40, 40)},
    }
    save_tables_figure(results, tmp_path / "tables.svg")
    drawn = (tmp_path / "tables.svg").read_text()
    for text in ("10 to 40 held-out tables", "simulator", "none", "one", "two", "50.0", "100.0"):
        assert f"<!-- {text}" in drawn


def test_agents_that_missed_a_table_are_left_out(script: ModuleType) -> None:
    ours, truth = figures(190), figures(199)
    tables = {"default": {"rnn": figures(90), "jumpy": ours}, "rest": {"jumpy": truth}}
    assert script.in_common(tables) == {"default": {"jumpy": ours}, "rest": {"jumpy": truth}}
    with pytest.raises(ValueError, match="played all of the tables, got none"):
        script.in_common({"default": {"rnn": ours}, "rest": {"jumpy": truth}})
