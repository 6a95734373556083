"""The page on other programs is read and its lines are run, each where its program is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PAGE = """
## numpy

<!-- needs: numpy -->
```python
import numpy
print("sum", numpy.ones(3).sum())
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


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("try_programs")


@pytest.fixture
def page(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    asked: list[str] = []

    def make_environment(folder: Path, needs: str) -> Path:
        asked.append(needs)
        return Path(sys.executable)

    monkeypatch.setattr(script, "make_environment", make_environment)
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "page.md"


def test_the_page_tells_how_to_use_each_program(script: ModuleType) -> None:
    programs = script.read_page(script.Args().page.read_text(encoding="utf-8"))
    assert [program.name for program in programs] == [
        "rl_zoo3",
        "skrl",
        "tianshou",
        "cleanrl",
        "Minari",
    ]
    assert {program.language for program in programs} == {"python", "bash"}


def test_what_works_and_what_fails(
    script: ModuleType, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = page.parent / "programs.json"
    assert script.main(["--page", str(page), "--out", str(out)]) == 1
    results = json.loads(out.read_text())
    assert {name: result["works"] for name, result in results.items()} == {
        "numpy": True,
        "not a package": True,
        "broken": False,
    }
    import numpy

    assert results["numpy"]["version"] == numpy.__version__
    assert results["not a package"]["version"] == "revision 7"
    assert results["numpy"]["tried_with"].keys() == {"gymnasium", "torch", "numpy"}
    assert "broken: ? FAILS" in capsys.readouterr().out


def test_one_program_leaves_the_results_of_the_others(
    script: ModuleType, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = page.parent / "programs.json"
    out.write_text('{"other": {"works": true}}')
    assert script.main(["--page", str(page), "--out", str(out), "--only", "numpy"]) == 0
    assert json.loads(out.read_text()).keys() == {"numpy", "other"}
    assert script.main(["--page", str(page), "--only", "skrl"]) == 2
    assert "no such program: ['skrl']; there are ['numpy', " in capsys.readouterr().out
