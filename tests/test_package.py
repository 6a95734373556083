"""The package as a whole: importing it is light, quiet and idempotent."""

import importlib
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import jumpy_mbrl
from jumpy_mbrl import envs

ROOT = Path(__file__).parents[1]


def run(program: str) -> str:
    """Runs a program in a fresh interpreter with warnings as errors; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_making_playing_and_drawing_loads_nothing_heavy() -> None:
    printed = run(
        "import sys, gymnasium as gym\n"
        "before = set(sys.modules)\n"
        "import jumpy_mbrl\n"
        "env = gym.make('Billiards2D-v0', obs_type='dict')\n"
        "env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
        "heavy = {'torch', 'pygame', 'numba', 'stable_baselines3', 'matplotlib', 'scipy', 'PIL'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))\n"
    )
    assert printed == "[]"


def test_the_data_maker_needs_no_torch() -> None:
    printed = run(
        "import sys, jumpy_mbrl.data as data\n"
        "data.make_dataset(data.DatasetConfig(num_trajectories=2), backend='python')\n"
        "print('torch' in sys.modules)\n"
    )
    assert printed == "False"


def test_registration_is_idempotent_and_keeps_what_a_user_registered() -> None:
    spec = gym.spec("Billiards2D-v0")
    assert spec.entry_point == "jumpy_mbrl.envs.billiards:Billiards2DEnv"
    assert spec.max_episode_steps == 44
    run("import jumpy_mbrl, importlib; importlib.reload(jumpy_mbrl)")
    envs.register_envs()
    assert gym.spec("Billiards2D-v0") is spec
    assert all(name in gym.registry for name in envs.ENV_IDS)


def test_public_names_exist() -> None:
    for module in (jumpy_mbrl, envs, importlib.import_module("jumpy_mbrl.data")):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert jumpy_mbrl.WorldModel is importlib.import_module("jumpy_mbrl.models").WorldModel
    assert set(jumpy_mbrl.__all__) <= set(dir(jumpy_mbrl))


def test_subpackages_come_when_asked_for() -> None:
    assert run("import jumpy_mbrl; print(jumpy_mbrl.data.DatasetConfig().seed)") == "0"


@pytest.mark.parametrize("module", [jumpy_mbrl, envs])
def test_unknown_names_are_attribute_errors(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def test_the_adapter_for_torchrl_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jumpy_mbrl.adapters.torchrl", raising=False)
    monkeypatch.setitem(sys.modules, "torchrl", None)
    monkeypatch.setitem(sys.modules, "tensordict", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[torchrl\]'"):
        importlib.import_module("jumpy_mbrl.adapters.torchrl")


def test_the_version_is_the_installed_one() -> None:
    metadata = importlib.import_module("importlib.metadata")
    try:
        installed = metadata.version("jumpy-mbrl")
    except metadata.PackageNotFoundError:
        pytest.skip("jumpy-mbrl is not installed, only found")
    assert jumpy_mbrl.__version__ == installed


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [jumpy_mbrl.__version__]


def test_contributors_are_told_commands_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rules = re.findall(
        r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    assert told and set(told) <= set(rules)
    for path in re.findall(r"\w+/\w+\.py|(?<=\]\()[\w/.]+", text):
        assert (ROOT / path).is_file(), path


def pinned(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(str(pin.specifier)[2:]) for pin in pins}


def test_lower_bounds_are_the_versions_that_are_run() -> None:
    """Those of tools in the versions that all is tested with, torch as there is only one here."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    texts = [
        *content["build-system"]["requires"],
        *content["project"]["dependencies"],
        *itertools.chain(*extras.values()),
    ]
    tools = {Requirement(text).name for text in extras["docs"]} | {"build", "mypy", "ruff"}
    tested, lowest = pinned("constraints.txt"), pinned("constraints-lowest.txt")
    bounds: dict[str, Version] = {}
    expected: dict[str, Version] = {}
    for text in texts:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            (bound,) = (each for each in requirement.specifier if each.operator == ">=")
            name = canonicalize_name(requirement.name)
            bounds[name] = Version(bound.version)
            expected[name] = (tested if requirement.name in tools else lowest)[name]
    assert lowest["torch"] == tested["torch"] == expected.pop("torch") >= bounds.pop("torch")
    assert bounds == expected


def test_the_tests_for_the_lowest_versions_exist() -> None:
    for line in (ROOT / "tests" / "lowest.txt").read_text().split():
        name, _, test = line.removeprefix("--deselect=").partition("::")
        text = (ROOT / name).read_text()
        assert not test or f"def {test.partition('[')[0]}(" in text, line
