"""Saving and loading models as folders, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from jumpy_mbrl import models
from jumpy_mbrl.files import sha256_of
from jumpy_mbrl.models import (
    RNN,
    JumpyRNNConfig,
    RNNConfig,
    from_pretrained,
    pretrained_info,
    registry,
    save_pretrained,
)
from jumpy_mbrl.models.pretrained import is_whole

SHIPPED = Path(models.__file__).parents[1] / "pretrained"
CONFIG = RNNConfig(hidden_size=6, mlp_size=5)
JUMPY = JumpyRNNConfig(hidden_size=6, mlp_size=5, epsilon=0.25)


def make(config: registry.ModelConfig = CONFIG, seed: int = 0) -> models.WorldModel:
    torch.manual_seed(seed)
    return models.make_model(config)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_pretrained(make(), tmp_path / "model")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


# -- round trips -----------------------------------------------------------------------------


def test_info_holds_what_was_given_and_the_versions(tmp_path: Path) -> None:
    folder = save_pretrained(
        make(),
        tmp_path / "model",
        data={"trajectories": 5},
        training={"command": "python train.py"},
        metrics={"mse": 0.5},
    )
    info = pretrained_info(folder)
    assert info["data"] == {"trajectories": 5}
    assert info["training"] == {"command": "python train.py"}
    assert info["metrics"] == {"mse": 0.5}
    assert info["versions"]["torch"] == torch.__version__
    settings = {**vars(CONFIG), "scale": [1.0]}
    assert info["model"] == {"name": "rnn", "config": settings}
    assert info["weights_sha256"] == sha256_of(folder / "model.safetensors")


def test_saving_again_replaces_the_model(saved: Path) -> None:
    other = make(JUMPY, seed=1)
    save_pretrained(other, saved)
    loaded = from_pretrained(str(saved))
    assert loaded.config == JUMPY
    assert sorted(entry.name for entry in saved.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"metrics": {"won": float("nan")}}, r"metrics\['won'\] .* got nan \(float\)"),
        ({"metrics": {"won": np.float32("inf")}}, r"metrics\['won'\] .* got inf"),
        ({"metrics": {"at": [0.5, torch.tensor([1.0])]}}, r"metrics\['at'\]\[1\] .*\(Tensor\)"),
        ({"data": {"of": {"x": {1, 2}}}}, r"data\['of'\]\['x'\] .* got \{1, 2\} \(set\)"),
        ({"data": {"of": {None: 1}}}, r"data\['of'\] .* mapping"),
        ({"training": {"in": Path("runs")}}, r"training\['in'\] .*; convert it or leave it out"),
    ],
)
def test_an_entry_that_json_cannot_hold_leaves_the_old_model(
    saved: Path, entries: Any, message: str
) -> None:
    before = {file: file.read_bytes() for file in saved.iterdir()}
    for path in (saved, saved / "new"):
        with pytest.raises(ValueError, match=f"expected {message}"):
            save_pretrained(make(seed=1), path, **entries)
    assert {file: file.read_bytes() for file in saved.iterdir()} == before
    assert from_pretrained(saved).config == CONFIG


def test_numbers_of_numpy_and_torch_are_written_as_numbers(tmp_path: Path) -> None:
    metrics: dict[str, Any] = {
        "won": np.float32(0.5),
        "shots": np.int64(7),
        "loss": torch.tensor(0.25),
    }
    metrics |= {"seconds": np.array(2.0), "fair": np.True_, "by": {1: (np.float64(0.5), None)}}
    folder = save_pretrained(make(), tmp_path / "model", metrics=metrics)
    assert json.dumps(pretrained_info(folder)["metrics"]) == (
        '{"by": {"1": [0.5, null]}, "fair": true, "loss": 0.25, "seconds": 2.0, "shots": 7, '
        '"won": 0.5}'
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_model_is_saved_as_itself(tmp_path: Path) -> None:
    model: Any = make(JUMPY)
    plain = save_pretrained(model, tmp_path / "plain")
    compiled: Any = torch.compile(model)
    whole = save_pretrained(compiled, tmp_path / "whole")
    model.encoder = torch.compile(model.encoder)
    part = save_pretrained(model, tmp_path / "part")
    for folder in (whole, part):
        assert (folder / "model.safetensors").read_bytes() == (
            plain / "model.safetensors"
        ).read_bytes()
        assert from_pretrained(folder).config == JUMPY


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_distributed_model_is_saved_as_itself(tmp_path: Path) -> None:
    meeting = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", meeting, rank=0, world_size=1)
    try:
        shared: Any = nn.parallel.DistributedDataParallel(make(JUMPY))
        both: Any = torch.compile(shared)
        for index, model in enumerate((shared, both)):
            folder = save_pretrained(model, tmp_path / str(index))
            assert from_pretrained(folder).config == JUMPY
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "other", [nn.Linear(2, 2), nn.Sequential(RNN(RNNConfig())), RNNConfig(), None]
)
def test_what_is_no_world_model_is_not_saved(other: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected a world model.*, got {type(other).__name__}"):
        save_pretrained(other, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", models.shipped_models())
def test_shipped_models_are_small_and_say_how_they_were_made(name: str) -> None:
    folder = SHIPPED / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000
    info = pretrained_info(name)
    assert info["training"]["command"].startswith(
        ("python scripts/train_world_model.py", "python scripts/reproduce.py")
    )
    assert info["metrics"]["validation_mse"] < 0.1 and is_whole(folder)


@pytest.mark.parametrize("name", models.shipped_models())
def test_shipped_models_are_as_good_as_they_say(
    name: str, load_script: Callable[[str], ModuleType]
) -> None:
    """Where balls meet, another processor's rounding grows: a few sequences decide the error."""
    told = pretrained_info(name)["metrics"]
    found = load_script("score_shipped").figures_of(name)
    assert set(found) == {"validation_mse", "validation_mean_jump"}
    assert found["validation_mse"] == pytest.approx(told["validation_mse"], rel=0.2)
    assert found["validation_mean_jump"] == pytest.approx(told["validation_mean_jump"], rel=0.01)


def test_figures_of_shipped_models_are_updated(
    tmp_path: Path,
    load_script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "jumpy-circles-task"
    monkeypatch.setattr("jumpy_mbrl.shipped.ShippedFolders._path", lambda self: tmp_path)
    shutil.copytree(SHIPPED / name, tmp_path / name)
    told = pretrained_info(name)
    edit(tmp_path / name, metrics={**told["metrics"], "validation_mse": 7.0})
    script = load_script("score_shipped")
    script.score(script.Args())
    assert pretrained_info(name)["metrics"]["validation_mse"] == 7.0
    script.score(script.Args(models=(name,), update=True))
    assert pretrained_info(name)["metrics"] == pytest.approx(told["metrics"], rel=0.2)
    assert f"{name}: validation_mse 7 now " in capsys.readouterr().out


# -- wrong folders ---------------------------------------------------------------------------


def test_a_missing_folder_lists_the_shipped_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    monkeypatch.setattr("jumpy_mbrl.shipped.ShippedFolders._path", lambda self: tmp_path)
    shutil.copytree(saved, tmp_path / "jumpy-billiards2d")
    assert models.shipped_models() == ["jumpy-billiards2d", "model"]
    assert isinstance(from_pretrained("jumpy-billiards2d"), RNN)
    with pytest.raises(
        ValueError, match=r"no folder 'jumpy-biliards'.*did you mean 'jumpy-billiards2d'\?"
    ):
        from_pretrained("jumpy-biliards")
    with pytest.raises(ValueError, match=r"one of \['jumpy-billiards2d', 'model'\]"):
        from_pretrained(tmp_path / "nowhere")


def test_folders_that_hold_no_model_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no config\.json; save models with"):
        from_pretrained(tmp_path)
    (saved / "config.json").unlink()
    (saved / "config.json").mkdir()
    with pytest.raises(ValueError, match=r"config\.json to describe a model: .*directory"):
        from_pretrained(saved)


def test_devices_that_are_not_there_are_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for device in ("cuda", torch.device("cuda")):
        with pytest.raises(ValueError, match="device 'cuda' was asked for, but torch sees 0 CUDA"):
            from_pretrained(saved, device=device)
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        from_pretrained(saved, device="tpu")
    nothing: Any = None
    with pytest.raises(ValueError, match=r"expected a device as text .*, got None; use 'cpu' or"):
        from_pretrained(saved, device=nothing)

    if not torch.backends.mps.is_available():
        for other in ("mps", torch.device("mps:0")):
            with pytest.raises(ValueError, match=r"'mps.*' was asked for, but torch cannot use it"):
                from_pretrained(saved, other)
    for good in ("cpu", "cpu:0", "meta", torch.device("cpu")):
        found = next(from_pretrained(saved, good).parameters()).device
        assert found.type == torch.device(good).type


def without_the_last_tensor(path: Path) -> None:
    weights = load_file(path)
    del weights["decoder.last.bias"]
    save_file(weights, path)
    edit(path.parent, weights_sha256=sha256_of(path))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, r"expected the weights model\.safetensors"),
        *(
            (
                lambda path, size=size: path.write_bytes(path.read_bytes()[:size]),
                r"model\.safetensors, but the file is damaged or truncated",
            )
            for size in (0, 5, 200, -1)
        ),
        # A pickle is not opened.
        (lambda path: torch.save({"weights": torch.zeros(2)}, path), "damaged or truncated"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
            r"SHA-256 .* got .*; the two do not belong together",
        ),
        (without_the_last_tensor, r"decoder\.last\.bias: expected \(4,\), got none"),
        (
            lambda path: edit(
                path.parent, model=registry.describe_model(RNNConfig(hidden_size=7, mlp_size=5))
            ),
            r"not fit the weights.*decoder\.first\.weight: expected \(5, 7\), got \(5, 6\)",
        ),
        (
            lambda path: edit(path.parent, model=registry.describe_model(JUMPY)),
            r"cell\.bias_hh: expected \(18,\), got none",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_refused(
    saved: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(saved / "model.safetensors")
    with pytest.raises(ValueError, match=words):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "a cake"}, "to hold format 'jumpy-mbrl world model', so it is not ours"),
        ({"format_version": 99}, "expected format_version 1 in .*, got 99"),
        ({"model": None}, "expected 'model' in .*, got None"),
        ({"training": "long"}, "expected 'training' in .*, got 'long'"),
        ({"weights_sha256": 5}, "expected 'weights_sha256' in .*, got 5"),
        ({"model": {"name": "rnn"}}, "settings of the rnn as a mapping, got None"),
        *(
            ({"model": {"name": kind, "config": settings}}, words)
            for kind, settings, words in (
                ("rmn", {}, "unknown kind of model 'rmn'.*mean 'rnn'"),
                (["rnn"], {}, "describes no model of this version: unknown kind of model"),
                ("rnn", {"action_size": 1.5}, "version: expected action_size to be a whole number"),
                ("rnn", {"hidden_size": 10**18}, "describes no model of this version"),
                ("rnn", {"hiden_size": 4}, "unknown rnn setting 'hiden_size'.*mean 'hidden_size'"),
                ("rnn", {"hidden_size": 0}, "hidden_size to be an integer of at least 1, got 0"),
                ("rnn", {"residual": "no"}, "expected residual to be true or false"),
                ("rnn", {"residual": 1}, "expected residual to be true or false"),
                ("rnn", {"scale": 2.0}, "expected scale to be a list of numbers"),
                ("rnn", {"scale": ["2"]}, "expected scale to be a finite number"),
                ("ode-rnn", {"solver": 4}, "expected solver to be text"),
                ("fold-jump", {"max_folds": float("nan")}, "max_folds to be a whole number"),
                ("fold-jump", {"max_folds": True}, "max_folds to be a whole number"),
                ("fold-jump", {"velocity_scale": float("inf")}, "scale to be a finite number"),
                ("fold-jump", {"velocity_scale": None}, "velocity_scale to be a finite number"),
            )
        ),
    ],
)
def test_foreign_configs_are_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"mlp_layers": 10**9}, "expected mlp_layers to fit [0-9]+ tensors in .*, got 1000000000"),
        ({"mlp_size": 10**6}, "does not fit the weights"),
    ],
)
def test_vast_models_are_refused_before_they_are_made(
    saved: Path, size: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    fill = nn.Linear.reset_parameters

    def watched(layer: nn.Linear) -> None:
        places.append(layer.weight.device.type)
        fill(layer)

    monkeypatch.setattr(nn.Linear, "reset_parameters", watched)
    settings = pretrained_info(saved)["model"]["config"]
    edit(saved, model={"name": "rnn", "config": {**settings, **size}})
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)
    assert set(places) <= {"meta"}  # not a number of it was in memory


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "not json", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"expected (JSON in|.* to hold format)"):
        from_pretrained(saved)


def test_entries_of_a_model_that_cannot_be_are_named(
    saved: Path, refusals: Callable[..., int]
) -> None:
    assert refusals(saved / "config.json", lambda: from_pretrained(saved)) > 100


def test_what_is_not_a_model_of_ours_is_not_replaced(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text('{"architectures": ["Other"]}')
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        with pytest.raises(ValueError, match=r"to be free or to hold format 'jumpy-mbrl world mo"):
            save_pretrained(from_pretrained(saved), path)
    assert (folder / "model.safetensors").read_text() == '{"architectures": ["Other"]}'


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "{", "other weights"])
def test_half_a_model_is_not_whole_and_is_replaced(damage: str, saved: Path) -> None:
    assert is_whole(saved)
    if damage == "{":
        (saved / "config.json").write_text(damage)
    elif damage == "other weights":
        (saved / "model.safetensors").write_bytes(b"of another validation")
    else:
        (saved / damage).unlink()
    assert not is_whole(saved)
    save_pretrained(make(), saved)
    assert is_whole(saved) and from_pretrained(saved).config == CONFIG


# -- settings --------------------------------------------------------------------------------


def test_settings_that_an_earlier_version_did_not_have_mean_what_it_did() -> None:
    described: Any = {"name": "jumpy-rnn"}
    for settings, residual in (
        ({"split": "halves"}, False),
        ({"residual": True}, True),
        ({"residual": True, "first_epsilon": 1.0, "annealing": 0.8}, True),
    ):
        described["config"] = {"hidden_size": 8, **settings}
        wanted = JumpyRNNConfig(hidden_size=8, residual=residual)
        assert registry.model_config_from(described) == wanted
    described["config"] = {"residual": True, "priming": 7}
    assert registry.model_config_from(described) == JumpyRNNConfig(context_frames=7)
    adjoint = {"name": "ode-rnn", "config": {"adjoint": True, "solver": "dopri5"}}
    assert registry.model_config_from(adjoint) == models.ODERNNConfig(solver="dopri5")
    with pytest.raises(ValueError, match=r"unknown solver 'bosh3', expected one of \['euler', "):
        registry.model_config_from({"name": "ode-rnn", "config": {"solver": "bosh3"}})
    with pytest.raises(ValueError, match="unknown rnn setting 'annealing'"):
        registry.model_config_from({"name": "rnn", "config": {"annealing": 0.8}})
    described["config"] = {"split": "heads"}
    with pytest.raises(ValueError, match="unknown jumpy-rnn setting 'split'"):
        registry.model_config_from(described)
