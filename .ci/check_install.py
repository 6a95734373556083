"""Checks an installed wheel: python check_install.py SITE_PACKAGES SOURCE_TREE."""

import importlib
import sys
import tempfile
import tomllib
from pathlib import Path

import gymnasium

import agents
import envs
import jumpy_mbrl
from jumpy_mbrl.agents.model_free import load_policy, shipped_policies
from jumpy_mbrl.commands.main import main as jumpy_mbrl_command
from jumpy_mbrl.models import from_pretrained, shipped_models


def main(site: Path, source: Path) -> None:
    assert envs.HOST and agents.HOST, "the host project's own folders are hidden"

    config = tomllib.loads((source / "pyproject.toml").read_text())
    for name in config["tool"]["setuptools"]["packages"]:
        module = importlib.import_module(name)
        place = Path(module.__file__ or "missing").resolve()
        assert place.is_relative_to(site), f"{name} was imported from {place}, not from {site}"

    folders = {
        "jumpy_mbrl": "jumpy_mbrl",
        "agents": "jumpy_mbrl/agents",
        "envs": "jumpy_mbrl/envs",
    }
    for folder, installed in folders.items():
        for path in sorted((source / folder).rglob("*")):
            inside = site / installed / path.relative_to(source / folder)
            if path.is_file():
                assert inside.is_file(), f"{path.relative_to(source)} is missing from the wheel"
    tops = {path.name for path in site.iterdir()} - {"first.pth", "bin"}
    extra = {name for name in tops if not name.startswith("jumpy_mbrl")}
    assert not extra, f"the wheel installs {sorted(extra)} beside jumpy_mbrl"
    commands = [path.name for path in (site / "bin").iterdir()]
    assert commands == ["jumpy-mbrl"], f"the wheel installs the commands {commands}"
    with tempfile.TemporaryDirectory() as out:
        words = ["plan-eval", "--episodes", "5", "--agents", "none", "jumpy", "--out", out]
        assert jumpy_mbrl_command(words) == 0

    for env_id in ("Billiards2D-v0", "jumpy_mbrl:Billiards2D-v0"):
        env = gymnasium.make(env_id)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    models = shipped_models()
    assert models, "the wheel has no pretrained models"
    for name in models:
        from_pretrained(name)
    policies = shipped_policies()
    assert policies, "the wheel has no policies"
    for name in policies:
        load_policy(name)
    shipped = ", ".join([*models, *policies])
    print(f"jumpy-mbrl {jumpy_mbrl.__version__} works from {site} with {shipped}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
