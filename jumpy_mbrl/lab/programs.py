"""Runs what docs/other_programs.md says of other programs, each in an environment of its own.

python scripts/try_programs.py                  # all; downloads what they need
python scripts/try_programs.py --only skrl      # one

The results go to results/programs/programs.json, from which update_docs.py writes the page's table.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import tyro

from jumpy_mbrl.files import check_writable, write_json

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


@dataclass(frozen=True)
class Program:
    """A program, and a block of code that uses it.

    Attributes:
        name: the heading above it.
        needs: what pip installs.
        language: "python" or "bash".
        code: what is run.
    """

    name: str
    needs: str
    language: str
    code: str


@dataclass(frozen=True)
class Result:
    """How a program fared.

    Attributes:
        version: of the program; of one that is no package, the last line that was printed.
        tried_with: versions of what else counts.
        date: of the trial.
        works: whether the code ran to its end.
    """

    version: str
    tried_with: dict[str, str]
    date: str
    works: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 1 if a program failed."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    programs = read_page(args.page.read_text(encoding="utf-8"))
    unknown = set(args.only) - {program.name for program in programs}
    if unknown:
        known = [program.name for program in programs]
        print(f"try_programs: no such program: {sorted(unknown)}; there are {known}")
        return 2
    check_writable(args.out)
    results = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    works = True
    for program in programs:
        if args.only and program.name not in args.only:
            continue
        result = run(program)
        print(f"{program.name}: {result.version} {'works' if result.works else 'FAILS'}")
        results[program.name] = asdict(result)
        works &= result.works
        write_json(args.out, results)
    return int(not works)


def read_page(page: str) -> list[Program]:
    """The programs of a page, in order: of each section the block below ``<!-- needs: ... -->``."""
    return [
        Program(*found.group("name", "needs", "language", "code"))
        for found in _BLOCK.finditer(page)
    ]


def run(program: Program) -> Result:
    """Installs a program beside everything that is installed here, and runs its code."""
    with tempfile.TemporaryDirectory() as folder:
        python = make_environment(Path(folder) / "venv", program.needs)
        command = [str(python), "-c", program.code]
        if program.language == "bash":
            command = ["bash", "-e", "-c", program.code]
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, "MPLBACKEND": "Agg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        ask = f"from importlib.metadata import version; print(version({program.name!r}))"
        found = subprocess.run([str(python), "-c", ask], capture_output=True, text=True)
    works = done.returncode == 0
    if not works:
        print(done.stdout)
    return Result(
        version=(found.stdout.split() or done.stdout.strip().splitlines() or ["?"])[-1],
        tried_with={name: version(name) for name in ("gymnasium", "torch", "numpy")},
        date=datetime.date.today().isoformat(),
        works=works,
    )


def make_environment(folder: Path, needs: str) -> Path:
    """Makes a virtual environment that sees what is installed here; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True)
    here = sysconfig.get_path("purelib")
    # Not the path alone, so that an editable install is found too.
    Path(own.stdout.strip(), "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    constraint = folder / "constraints.txt"
    constraint.write_text(f"torch=={version('torch').partition('+')[0]}\n")
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(constraint), needs], check=True)
    return python
