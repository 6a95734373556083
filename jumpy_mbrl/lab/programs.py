"""Runs what docs/other_programs.md says of other programs, each in an environment of its own.

python scripts/try_programs.py                  # all; downloads what they need
python scripts/try_programs.py --only skrl      # one

The results go to results/programs/programs.json, from which update_docs.py writes the
page's tables.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tyro

from jumpy_mbrl.files import check_writable
from jumpy_mbrl.lab.store import Report

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^## (?P<name>[^\n]+)\n(?:(?!^## ).)*?<!-- needs: (?P<needs>[^\n]+) -->\n"
    r"```(?P<language>python|bash)\n(?P<code>.*?)```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Args:
    """What to run."""

    only: tuple[str, ...] = ()
    """Programs by the headings of the page; all by default."""
    page: Path = ROOT / "docs" / "other_programs.md"
    """The page."""
    out: Path = ROOT / "results" / "programs" / "programs.json"
    """Where the results are kept; those of programs that are not run stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 1 if a program failed."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    programs = read_page(args.page.read_text(encoding="utf-8"))
    unknown = sorted(set(args.only) - programs.keys())
    if unknown:
        raise ValueError(f"no such program: {unknown}; there are {[*programs]}")
    report = Report(args.out, {}, lambda content: [result["works"] for result in content.values()])
    check_writable(args.out)
    report.read()
    works = True
    for name, program in programs.items():
        if args.only and name not in args.only:
            continue
        result = run(program)
        print(f"{name}: {result['version']} {'works' if result['works'] else 'FAILS'}")
        with report.update() as results:
            results[name] = result
        works &= result["works"]
    return int(not works)


def read_page(page: str) -> dict[str, dict[str, str]]:
    """Of each section the block below ``<!-- needs: ... -->``: name, needs, language and code."""
    return {found["name"]: found.groupdict() for found in _BLOCK.finditer(page)}


def run(program: Mapping[str, str]) -> dict[str, Any]:
    """Installs a program beside everything that is installed here, and runs its code.

    Returns its version, or the last line that was printed by one that is no package, versions of
    what else counts, the date, whether the code ran to its end, and the lines of the table.md that
    it wrote, if any.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = make_environment(Path(folder) / "venv", program["needs"])
        code = program["code"]
        done = subprocess.run(
            ["bash", "-e", "-c", code] if program["language"] == "bash" else [python, "-c", code],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
                "MPLBACKEND": "Agg",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        ask = f"from importlib.metadata import version; print(version({program['name']!r}))"
        found = subprocess.run([python, "-c", ask], capture_output=True, text=True)
        table = Path(folder) / "table.md"
        lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    if done.returncode:
        print(done.stdout)
    return {
        "version": (found.stdout.split() or done.stdout.strip().splitlines() or ["?"])[-1],
        "tried_with": {name: version(name) for name in ("gymnasium", "torch", "numpy")},
        "date": datetime.date.today().isoformat(),
        "works": done.returncode == 0,
        **({"table": lines} if lines else {}),
    }


def make_environment(folder: Path, needs: str) -> Path:
    """Makes a virtual environment that sees what is installed here; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    here = sysconfig.get_path("purelib")
    # Not the path alone, so that an editable install is found too.
    Path(own.stdout.strip(), "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    constraint = folder / "constraints.txt"
    constraint.write_text(f"torch=={version('torch').partition('+')[0]}\n")
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(constraint), *needs.split()], check=True)
    return python
