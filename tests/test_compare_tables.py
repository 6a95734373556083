"""The picture of several tables, from the files to the points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.commands import main
from jumpy_mbrl.evaluation import wilson_interval
from jumpy_mbrl.lab import compare_tables


def figures(successes: int, n: int = 200) -> dict[str, Any]:
    return {"n": n, "success": successes / n, "ci95": list(wilson_interval(successes, n))}


OURS, TRUTH = figures(190), figures(199)


def write(folder: Path, table: str, env: str = "Billiards2D-v0", **agents: Any) -> Path:
    path = folder / f"{env}-{table}.json"
    path.write_text(json.dumps({"env": env, "table": table, "agents": agents}))
    return path


def test_rows_stand_in_the_order_of_the_tables(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "default", "Billiards1D-v0", simulator=TRUTH),
        write(tmp_path, "three_balls", jumpy=OURS, simulator=TRUTH),
        write(tmp_path, "default", jumpy=OURS),
    ]
    tables = compare_tables.collect(paths)
    assert list(tables) == ["default", "three_balls", "Billiards1D-v0"]
    assert tables["three_balls"] == {"jumpy": OURS, "simulator": TRUTH}


def test_agents_that_missed_a_table_are_left_out() -> None:
    tables = {"default": {"rnn": figures(90), "jumpy": OURS}, "rest": {"jumpy": TRUTH}}
    found = compare_tables.in_common(tables)
    assert found == {"default": {"jumpy": OURS}, "rest": {"jumpy": TRUTH}}


def test_the_picture_grows_with_the_tables(tmp_path: Path) -> None:
    from matplotlib.image import imread

    names = ["default", "rest", "long", "five_balls"]
    paths = [write(tmp_path, name, jumpy=OURS, simulator=TRUTH) for name in names]
    heights = []
    for count in (1, 4):
        out = tmp_path / f"{count}.png"
        assert main.run("compare-tables", [*map(str, paths[:count]), "--out", str(out)]) == 0
        picture = imread(out)
        assert len(np.unique(picture.reshape(-1, picture.shape[2])[::7], axis=0)) > 20
        heights.append(picture.shape[0])
    assert heights[1] > 1.4 * heights[0]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (['{"agents": {}}'], "expected results.json of plan_eval.py, which"),
        (['{"env": "Billiards2D-v0", "table": "round"'], "as it was written, but"),
        ([None], "No such file"),
        (['{"env": "Billiards2D-v0", "table": "rest", "agents": {}}'], "expected an agent that"),
        (['{"env": "Billiards2D-v0", "table": "rest", "agents": {}}'] * 2, "one file for each"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    contents: list[str | None],
    message: str,
) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        if content is not None:
            path.write_text(content)
    out = tmp_path / "tables.png"
    assert main.run("compare-tables", [*map(str, paths), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("compare_tables: ") and message in error and error.count("\n") == 1
    assert not out.exists()


def test_entries_that_cannot_be_are_named(tmp_path: Path, refusals: Callable[..., int]) -> None:
    path = write(tmp_path, "rest", jumpy=figures(3))
    assert refusals(path, lambda: compare_tables.collect([path])) > 80
