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

import jumpy_mbrl
from jumpy_mbrl.files import sha256_of
from jumpy_mbrl.models import (
    MODELS,
    RNN,
    EventJumpConfig,
    JumpyRNNConfig,
    RNNConfig,
    SpriteJump,
    SpriteJumpConfig,
    WorldModel,
    from_pretrained,
    make_model,
    pretrained_info,
    save_pretrained,
    shipped_models,
)
from jumpy_mbrl.models.action_sequence import ActionSequence
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.pretrained import is_whole, pretrained_text
from jumpy_mbrl.models.registry import ModelConfig, describe_model, model_config_from

CONFIGS: list[ModelConfig] = [
    RNNConfig(hidden_size=6, mlp_size=5),
    JumpyRNNConfig(hidden_size=6, mlp_size=5, epsilon=0.25),
    JumpyRNNConfig(hidden_size=6, mlp_size=5, residual=False),
    EventJumpConfig(hidden_size=8),
    SpriteJumpConfig(hidden_size=8, size=8, action_size=0),
]


def make(config: ModelConfig, seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    return make_model(config)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_pretrained(make(CONFIGS[0]), tmp_path / "model")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_answer_in_half_precision(name: str, kind: torch.dtype) -> None:
    exact, half = from_pretrained(name), from_pretrained(name).to(kind)
    start = torch.linspace(0.3, 0.7, exact.obs_size)
    frames = start + 0.02 * torch.arange(4.0).view(1, 4, 1)
    found = half.imagine(half.observe(frames.to(kind)), [1.0, 2.0])
    assert found.obs.dtype == kind and bool(found.obs.isfinite().all())
    wanted = exact.imagine(exact.observe(frames), [1.0, 2.0])
    assert float((found.obs.float() - wanted.obs).detach().abs().median()) < 0.03


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


# -- round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_loaded_model_has_the_config_and_the_weights(config: ModelConfig, tmp_path: Path) -> None:
    model = make(config)
    loaded = from_pretrained(save_pretrained(model, tmp_path / "model"))
    assert type(loaded) is type(model)
    assert loaded.config == config
    assert not loaded.training
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_loaded_model_predicts_the_same(tmp_path: Path) -> None:
    model = make(CONFIGS[1])
    loaded = from_pretrained(save_pretrained(model, tmp_path / "model"))
    obs, action = torch.rand(3, 4, 4), torch.rand(3, 4, 2)
    with torch.no_grad():
        before = model.imagine(model.observe(obs, action), [1.0, 2.5], action[:, 3])
        after = loaded.imagine(loaded.observe(obs, action), [1.0, 2.5], action[:, 3])
    assert torch.equal(before.obs, after.obs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_of_weights_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    model = make(CONFIGS[0]).to(dtype)
    loaded = from_pretrained(save_pretrained(model, tmp_path / "model"))
    for name, weight in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == weight.dtype
        assert loaded.state_dict()[name].equal(weight)


def test_info_holds_what_was_given_and_the_versions(tmp_path: Path) -> None:
    folder = save_pretrained(
        make(CONFIGS[0]),
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
    settings = {**vars(CONFIGS[0]), "scale": [1.0]}
    assert info["model"] == {"name": "rnn", "config": settings}
    assert info["weights_sha256"] == sha256_of(folder / "model.safetensors")


def test_saving_again_replaces_the_model(saved: Path) -> None:
    other = make(CONFIGS[1], seed=1)
    save_pretrained(other, saved)
    loaded = from_pretrained(str(saved))
    assert loaded.config == CONFIGS[1]
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
            save_pretrained(make(CONFIGS[0], seed=1), path, **entries)
    assert {file: file.read_bytes() for file in saved.iterdir()} == before
    assert from_pretrained(saved).config == CONFIGS[0]


def test_a_full_disk_leaves_the_old_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.read_bytes() for file in saved.iterdir()}
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "config" in path.name:
            raise OSError("No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(make(CONFIGS[0], seed=1), saved)
    assert {file: file.read_bytes() for file in saved.iterdir()} == before


def test_numbers_of_numpy_and_torch_are_written_as_numbers(tmp_path: Path) -> None:
    metrics = {
        "won": np.float32(0.5),
        "shots": np.int64(7),
        "loss": torch.tensor(0.25),
        "seconds": np.array(2.0),
        "fair": np.True_,
        "by_contacts": {1: (np.float64(0.5), None)},
    }
    folder = save_pretrained(make(CONFIGS[0]), tmp_path / "model", metrics=metrics)
    assert json.dumps(pretrained_info(folder)["metrics"]) == (
        '{"by_contacts": {"1": [0.5, null]}, "fair": true, "loss": 0.25, "seconds": 2.0, '
        '"shots": 7, "won": 0.5}'
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_model_is_saved_as_itself(tmp_path: Path) -> None:
    model: Any = make(CONFIGS[1])
    plain = save_pretrained(model, tmp_path / "plain")
    compiled: Any = torch.compile(model)
    whole = save_pretrained(compiled, tmp_path / "whole")
    model.encoder = torch.compile(model.encoder)
    part = save_pretrained(model, tmp_path / "part")
    for folder in (whole, part):
        assert (folder / "model.safetensors").read_bytes() == (
            plain / "model.safetensors"
        ).read_bytes()
        assert from_pretrained(folder).config == CONFIGS[1]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_distributed_model_is_saved_as_itself(tmp_path: Path) -> None:
    meeting = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", meeting, rank=0, world_size=1)
    try:
        shared: Any = nn.parallel.DistributedDataParallel(make(CONFIGS[1]))
        both: Any = torch.compile(shared)
        for index, model in enumerate((shared, both)):
            folder = save_pretrained(model, tmp_path / str(index))
            assert from_pretrained(folder).config == CONFIGS[1]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "other", [nn.Linear(2, 2), nn.Sequential(RNN(RNNConfig())), RNNConfig(), None]
)
def test_what_is_no_world_model_is_not_saved(other: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected a world model.*, got {type(other).__name__}"):
        save_pretrained(other, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_pretrained(make(CONFIGS[0]), tmp_path / name) for name in "ab")
    for name in ("config.json", "model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_gradients_reach_the_action_through_a_loaded_model(saved: Path) -> None:
    model = from_pretrained(saved)
    action = torch.zeros(1, 2, requires_grad=True)
    state = model.observe(torch.rand(1, 4, 4))
    model.imagine(state, [3.0], action).obs.sum().backward()
    assert action.grad is not None and bool((action.grad != 0).all())


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_load_and_say_how_they_were_made(name: str) -> None:
    model = from_pretrained(name)
    frame = torch.tensor([0.2, 0.2, 0.7, 0.7])[: model.obs_size]
    if isinstance(model, SpriteJump):
        frame = model.initial_state(1).obs[0].detach()
    state = model.observe(frame.expand(1, 4, -1))
    action = torch.zeros(1, 2) if model.action_size else None
    assert bool(model.imagine(state, [1.0, 10.0], action).obs.isfinite().all())
    info = pretrained_info(name)
    assert info["training"]["command"].startswith(
        ("python scripts/train_world_model.py", "python scripts/reproduce.py")
    )
    assert info["metrics"]["validation_mse"] < 0.1


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_are_as_good_as_they_say(
    name: str, load_script: Callable[[str], ModuleType]
) -> None:
    """Where balls meet, another processor's rounding grows: a few sequences decide the error."""
    told = pretrained_info(name)["metrics"]
    found = load_script("score_shipped").figures_of(name)
    assert set(found) == {"validation_mse", "validation_mean_jump"}
    assert found["validation_mse"] == pytest.approx(told["validation_mse"], rel=0.2)
    assert found["validation_mean_jump"] == pytest.approx(told["validation_mean_jump"], rel=0.01)


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_are_small(name: str) -> None:
    folder = Path(jumpy_mbrl.__file__).parent / "pretrained" / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000


def test_figures_of_shipped_models_are_updated(
    tmp_path: Path,
    load_script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "jumpy-circles-task"
    shipped = Path(jumpy_mbrl.__file__).parent / "pretrained" / name
    monkeypatch.setattr("jumpy_mbrl.shipped.Shelf._path", lambda self: tmp_path)
    shutil.copytree(shipped, tmp_path / name)
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
    monkeypatch.setattr("jumpy_mbrl.shipped.Shelf._path", lambda self: tmp_path)
    shutil.copytree(saved, tmp_path / "jumpy-billiards2d")
    assert shipped_models() == ["jumpy-billiards2d", "model"]
    assert isinstance(from_pretrained("jumpy-billiards2d"), RNN)
    with pytest.raises(
        ValueError, match=r"no folder 'jumpy-biliards'.*did you mean 'jumpy-billiards2d'\?"
    ):
        from_pretrained("jumpy-biliards")
    with pytest.raises(ValueError, match=r"one of \['jumpy-billiards2d', 'model'\]"):
        from_pretrained(tmp_path / "nowhere")


def test_a_path_may_be_the_name_of_a_shipped_model(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "fold-billiards2d"
    assert pretrained_info(Path(name)) == pretrained_info(name)
    shutil.copytree(saved, name)  # Now there is such a path, but the name stays a name.
    assert isinstance(from_pretrained(Path(name)), RNN)
    assert not isinstance(from_pretrained(name), RNN)
    assert isinstance(from_pretrained(pretrained_text(Path(name))), RNN)
    assert pretrained_text(name) == name and pretrained_text(saved) == str(saved)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no config\.json; save models with"):
        from_pretrained(tmp_path)


def test_a_folder_in_place_of_the_config_is_refused(saved: Path) -> None:
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


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
@pytest.mark.parametrize("device", ["mps", torch.device("mps:0")])
def test_known_devices_that_torch_cannot_use_here(saved: Path, device: str | torch.device) -> None:
    with pytest.raises(ValueError, match=r"device 'mps.*' was asked for, but torch cannot use it"):
        from_pretrained(saved, device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "meta", torch.device("cpu")])
def test_any_device_of_torch_will_do(saved: Path, device: str | torch.device) -> None:
    found = next(from_pretrained(saved, device).parameters()).device
    assert found.type == torch.device(device).type


def test_missing_weights_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"expected the weights model\.safetensors"):
        from_pretrained(saved)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_truncated_weights_are_refused(saved: Path, size: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors, but the file is damaged or trunc"):
        from_pretrained(saved)


def test_a_pickle_is_not_opened(saved: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or truncated"):
        from_pretrained(saved)


def test_changed_weights_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 .* got .*; the two do not belong together"):
        from_pretrained(saved)


def test_a_config_that_does_not_fit_the_weights_is_refused(saved: Path) -> None:
    edit(saved, model=describe_model(RNNConfig(hidden_size=7, mlp_size=5)))
    with pytest.raises(
        ValueError,
        match=r"does not fit the weights.*decoder\.first\.weight: expected \(5, 7\), got \(5, 6\)",
    ):
        from_pretrained(saved)


def test_weights_of_another_kind_of_model_are_refused(saved: Path) -> None:
    edit(saved, model=describe_model(CONFIGS[1]))
    with pytest.raises(ValueError, match=r"cell\.bias_hh: expected \(18,\), got none"):
        from_pretrained(saved)


def test_a_missing_tensor_is_refused(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    del weights["decoder.last.bias"]
    save_file(weights, saved / "model.safetensors")
    edit(saved, weights_sha256=sha256_of(saved / "model.safetensors"))
    with pytest.raises(ValueError, match=r"decoder\.last\.bias: expected \(4,\), got none"):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "a cake"}, "to hold format 'jumpy-mbrl world model', so it is not ours"),
        ({"format_version": 99}, "expected format_version 1 in .*, got 99"),
        ({"model": None}, "expected 'model' in .*, got None"),
        ({"training": "long"}, "expected 'training' in .*, got 'long'"),
        ({"weights_sha256": 5}, "expected 'weights_sha256' in .*, got 5"),
        ({"model": {"name": "rmn", "config": {}}}, "unknown kind of model 'rmn'.*mean 'rnn'"),
        ({"model": {"name": ["rnn"]}}, "describes no model of this version: unknown kind of model"),
        (
            {"model": {"name": "rnn", "config": {"action_size": 1.5}}},
            "no model of this version: expected action_size to be a whole number, got 1.5",
        ),
        *(
            (
                {"model": {"name": kind, "config": {setting: value}}},
                f"expected {setting} to be {wanted}",
            )
            for kind, setting, value, wanted in (
                ("fold-jump", "max_folds", float("nan"), "a whole number"),
                ("fold-jump", "max_folds", True, "a whole number"),
                ("fold-jump", "velocity_scale", float("inf"), "a finite number"),
                ("fold-jump", "velocity_scale", None, "a finite number"),
                ("rnn", "residual", "no", "true or false"),
                ("rnn", "residual", 1, "true or false"),
                ("rnn", "scale", 2.0, "a list of numbers"),
                ("rnn", "scale", ["2"], "a finite number"),
                ("ode-rnn", "solver", 4, "text"),
            )
        ),
        (
            {"model": {"name": "rnn", "config": {"hidden_size": 10**18}}},
            "describes no model of this version",
        ),
        ({"model": {"name": "rnn"}}, "settings of the rnn as a mapping, got None"),
        (
            {"model": {"name": "rnn", "config": {"hiden_size": 4}}},
            "unknown rnn setting 'hiden_size'.*did you mean 'hidden_size'",
        ),
        (
            {"model": {"name": "rnn", "config": {"hidden_size": 0}}},
            "hidden_size must be an integer of at least 1, got 0",
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


def test_a_model_of_no_registered_kind_cannot_be_saved(tmp_path: Path) -> None:
    class Other(RNN):
        def __init__(self) -> None:
            super().__init__(RNNConfig())
            self.config = None  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"expected a model config, one of .*, got NoneType"):
        save_pretrained(Other(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


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
    save_pretrained(make(CONFIGS[0]), saved)
    assert is_whole(saved) and from_pretrained(saved).config == CONFIGS[0]


# -- the registry ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_is_made_described_and_read_back(name: str) -> None:
    config = MODELS[name].config()
    description = json.loads(json.dumps(describe_model(config)))
    assert description["name"] == name
    assert model_config_from(description) == config
    assert type(make_model(config)) is MODELS[name].model


def test_settings_that_an_earlier_version_did_not_have_mean_what_it_did() -> None:
    described = {"name": "jumpy-rnn", "config": {"hidden_size": 8, "split": "halves"}}
    assert model_config_from(described) == JumpyRNNConfig(hidden_size=8, residual=False)
    described["config"] = {"hidden_size": 8, "residual": True}
    assert model_config_from(described) == JumpyRNNConfig(hidden_size=8)
    fallen = {"hidden_size": 8, "residual": True, "first_epsilon": 1.0, "annealing": 0.8}
    assert model_config_from({**described, "config": fallen}) == JumpyRNNConfig(hidden_size=8)
    with pytest.raises(ValueError, match="unknown rnn setting 'annealing'"):
        model_config_from({"name": "rnn", "config": {"annealing": 0.8}})
    described["config"] = {"split": "heads"}
    with pytest.raises(ValueError, match="unknown jumpy-rnn setting 'split'"):
        model_config_from(described)


def test_models_say_what_they_know_unlearned() -> None:
    known = {name: entry.model.built_in for name, entry in MODELS.items()}
    flat = ("rnn", "ode-rnn", "jumpy-rnn", "latent-jump")
    assert all(known[name] == () for name in flat)
    assert set(known["event-jump"]) < set(known["fold-jump"]) < set(known["sprite-jump"])
    simulator = SimulatorModel()
    assert simulator.built_in
    assert ActionSequence(simulator, [0.0, 4.0]).built_in == simulator.built_in
