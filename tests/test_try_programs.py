"""The page on other programs is read and its lines are run, each where its program is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jumpy_mbrl.commands.main import run
from jumpy_mbrl.lab import programs

PAGE = """
## numpy

<!-- needs: numpy -->
```python
import numpy
print("sum", numpy.ones(3).sum())
open("table.md", "w").write("| sum |\\n| 3 |")
```

## not a package

Words, and what is not run:

```python
import nothing
```

<!-- needs: numpy[extra] -->
```bash
echo some words
false || echo revision 7
```

## broken

<!-- needs: numpy -->
```bash
false
echo not reached
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(programs, "make_environment", lambda folder, needs: Path(sys.executable))
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "page.md"


def test_the_page_tells_how_to_use_each_program() -> None:
    found = programs.read_page(programs.Args().page.read_text(encoding="utf-8"))
    assert list(found) == [
        *("torchrl", "stable-worldmodel", "sheeprl", "rl_zoo3", "skrl", "tianshou", "cleanrl"),
        "Minari",
    ]
    assert {program["language"] for program in found.values()} == {"python", "bash"}


def test_what_works_and_what_fails(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = page.parent / "programs.json"
    assert run("try-programs", ["--page", str(page), "--out", str(out)]) == 1
    results = json.loads(out.read_text())
    works = {name: result["works"] for name, result in results.items()}
    assert works == {"numpy": True, "not a package": True, "broken": False}
    assert results["numpy"]["version"] == np.__version__
    assert results["not a package"]["version"] == "revision 7"
    tables = {name: result.get("table") for name, result in results.items()}
    assert tables == {"numpy": ["| sum |", "| 3 |"], "not a package": None, "broken": None}
    assert results["numpy"]["tried_with"].keys() == {"gymnasium", "torch", "numpy"}
    assert "broken: ? FAILS" in capsys.readouterr().out


def test_one_program_leaves_the_results_of_the_others(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = page.parent / "programs.json"
    out.write_text('{"other": {"works": true}}')
    options = ["--page", str(page), "--out", str(out), "--only"]
    assert run("try-programs", [*options, "numpy"]) == 0
    assert json.loads(out.read_text()).keys() == {"numpy", "other"}
    assert run("try-programs", [*options, "skrl"]) == 2
    assert "no such program: ['skrl']; there are ['numpy', " in capsys.readouterr().err
    out.write_text('{"other": {}}')
    assert run("try-programs", [*options, "numpy"]) == 2
    assert "programs.json as it was written, but there is no 'works'" in capsys.readouterr().err
