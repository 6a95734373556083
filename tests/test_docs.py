"""The documentation: examples run, commands are understood, and links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import torch
import tyro

from jumpy_mbrl.agents import AGENTS, PIXEL_AGENTS
from jumpy_mbrl.agents.baselines.presets import POLICY_PRESETS
from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.envs import BILLIARDS_2D
from jumpy_mbrl.evaluation import VARIANTS
from jumpy_mbrl.models import MODELS, JumpyRNN, JumpyRNNConfig, State, WorldModel
from jumpy_mbrl.models.piecewise import PiecewiseLinearModel
from jumpy_mbrl.training.presets import PRESETS, TASK_MODELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_EXAMPLES = (
    "../README.md",
    "index.md",
    "other_programs.md",
    "planning.md",
    "plugging_in.md",
    "world_models.md",
    "your_own_environment.md",
)  # environments.md has a test of its own


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page without its programs."""
    return re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """The Python examples, and where they stand, but for those that try_programs.py runs."""
    for page in WITH_EXAMPLES:
        for found in re.finditer(r"(?<! -->\n)```python\n(.*?)```", read(page), re.DOTALL):
            line = read(page).count("\n", 0, found.start()) + 1
            yield f"{page}:{line}", found[1]


def commands() -> list[tuple[str, list[str]]]:
    """Scripts and the options that the pages give them."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", read(page), re.DOTALL):
            lines = block.replace("\\\n", " ")
            for script, options in re.findall(r"scripts/(\w+)\.py([^\n]*)", lines):
                found.append((script, shlex.split(options, comments=True)))
    return found


def anchors(page: str) -> set[str]:
    """The names by which the headings of a page are linked to, on GitHub as in MkDocs."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


# -- what is shown -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # of other packages
@pytest.mark.parametrize(
    ("place", "example"), [pytest.param(*case, id=case[0]) for case in examples()]
)
def test_examples_run_and_print(
    place: str,
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, package in (("adapters.hub ", "huggingface_hub"), ("torchrl", "torchrl")):
        if name in example:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # for what they write
    exec(compile(example, place, "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_pages_have_examples(page: str) -> None:
    assert any(place.startswith(page) for place, _ in examples())


def test_commands_are_understood(load_script: Callable[[str], ModuleType]) -> None:
    given = commands()
    assert len({name for name, _ in given}) > 5
    for name, options in given:
        script = load_script(name)
        if name in ("train_sb3", "train_world_model"):
            script.parse(options)
        else:
            tyro.cli(script.Args, args=options)


def rows(page: str, first: str) -> dict[str, str]:
    """What a table says of each name, by the heading of its first column."""
    _, _, rest = read(page).partition(f"| {first} |")
    table = rest.partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE))


def test_world_models_names_what_every_model_gives() -> None:
    methods = rows("world_models.md", "method")
    assert {"initial_state", "observe", "imagine", "loss", "tick", "decode"} == set(methods)
    for name in methods:
        assert hasattr(PiecewiseLinearModel, name)
        assert hasattr(WorldModel, name) == (name not in ("tick", "decode"))
    without = {name for name, entry in MODELS.items() if not hasattr(entry.model, "tick")}
    assert without == {"rnn", "ode-rnn"}


def test_world_models_compares_all_models() -> None:
    table = read("world_models.md").partition("| model |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert sorted(named) == sorted(entry.model.__name__ for entry in MODELS.values())


def test_world_models_tells_the_shapes() -> None:
    torch.manual_seed(0)
    model = JumpyRNN(JumpyRNNConfig(hidden_size=64))
    state = model.initial_state(5)
    imagined = model.imagine(state, [1.0, 2.0, 25.5])
    M = imagined.tick_times.shape[1]
    letters = {5: "B", 3: "K", 4: "D", state.hidden.shape[1]: "H", M: "M", M - 1: "M - 1"}
    assert len(letters) == 6

    def told(value: object) -> str:
        sizes = [letters[size] for size in getattr(value, "shape", ())]
        return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})" if sizes else ""

    assert rows("world_models.md", "of a `State`").keys() == {field.name for field in fields(State)}
    for first, known in (("of a `State`", state), ("of an `Imagined`", imagined)):
        for name, said in rows("world_models.md", first).items():
            assert said.partition("|")[0].strip() == told(getattr(known, name)), name


def test_planning_names_every_agent_and_table() -> None:
    text = read("planning.md")
    for name, agent in AGENTS.items():
        assert f"| `{name}` | {agent.description} |" in text
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    for name, agent in PIXEL_AGENTS.items():
        assert f"| `{name}` | {agent.description} |" in plain
    assert set(VARIANTS[BILLIARDS_2D]) <= set(re.findall(r"`(\w+)`", text))


def test_reproducing_names_every_task_model_preset_and_policy() -> None:
    named = set(re.findall(r"`([\w-]+)`", read("reproducing.md")))
    presets = {name for name in PRESETS if not name.endswith("-tiny")}
    assert {*TASKS, *TASK_MODELS, *POLICY_PRESETS, *presets} <= named


def test_the_moved_target_is_told_as_it_was_measured() -> None:
    report = json.loads((ROOT / "results/tables/random_target/results.json").read_text())
    text = " ".join(read("../README.md").split())
    for name, told in (
        ("jumpy", "{:.1f} % ({:.1f} to {:.1f})"),
        ("ppo", "{:.1f} % (PPO; {:.1f} to {:.1f})"),
        ("sac", "{:.1f} % (SAC; {:.1f} to {:.1f})"),
        ("none", "doing nothing wins {:.1f} % ({:.1f} to {:.1f})"),
    ):
        figures = report["agents"][name]
        assert told.format(*(100.0 * x for x in (figures["success"], *figures["ci95"]))) in text
    assert f"`random_target` with `--agents {' '.join(report['agents'])}`" in text


# -- how it hangs together -----------------------------------------------------------------------


def test_every_page_is_in_the_navigation_once() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.findall(r"^ +- (?:[^\n:]+: )?([\w/]+\.md)$", settings, re.MULTILINE)
    assert sorted(nav) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_links_and_images_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (DOCS / page).parent / name if name else DOCS / page
        assert target.is_file(), f"{page} links to {link}"
        # The site holds nothing that lies elsewhere.
        inside = target.resolve().relative_to(DOCS.resolve()).as_posix()
        assert not anchor or anchor in anchors(inside), f"{page} links to {link}"


def test_the_reference_shows_modules_that_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"^::: ([\w.]+)$", read(page), re.MULTILINE):
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
