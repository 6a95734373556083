"""The adapter for the Hugging Face Hub, without a network: folders, a cache, what is pushed."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jumpy_mbrl import models
from jumpy_mbrl.files import sha256_of
from jumpy_mbrl.models import RNN, JumpyRNN, JumpyRNNConfig, WorldModel

pytest.importorskip("huggingface_hub")

from huggingface_hub import HfApi, ModelCard, ModelHubMixin
from huggingface_hub.errors import RepositoryNotFoundError

from jumpy_mbrl.adapters.hub import HubModel

load = HubModel.from_pretrained
FILES = ["config.json", "model.safetensors"]
RECORD: dict[str, Any] = {
    "data": {"trajectories": 5},
    "training": {"command": "python train.py"},
    "metrics": {"mse": 0.5},
}
COMMIT, OLD_COMMIT = 40 * "a", 40 * "b"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return RNN(models.RNNConfig(hidden_size=6, mlp_size=5))


@pytest.fixture
def saved(model: WorldModel, tmp_path: Path) -> Path:
    return models.save_pretrained(model, tmp_path / "model", **RECORD)


def cached(
    folder: Path, cache_dir: Path, commit: str = COMMIT, ref: str = "main", files: Any = FILES
) -> Path:
    """Lays `folder` out as the Hub's cache keeps the repository "me/billiards"; the snapshot."""
    repository = cache_dir / "models--me--billiards"
    snapshot = repository / "snapshots" / commit
    for place in (repository / "blobs", repository / "refs", snapshot):
        place.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    for name in files:
        blob = repository / "blobs" / sha256_of(folder / name)
        shutil.copy(folder / name, blob)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def assert_same(loaded: WorldModel, model: WorldModel) -> None:
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


# Folders


def test_the_files_are_those_of_save_pretrained(
    model: WorldModel, saved: Path, tmp_path: Path
) -> None:
    hub = HubModel(model, **RECORD)
    assert isinstance(hub, ModelHubMixin)
    hub.save_pretrained(tmp_path / "hub")
    assert sorted(os.listdir(tmp_path / "hub")) == ["README.md", *FILES]
    for name in FILES:
        assert (tmp_path / "hub" / name).read_bytes() == (saved / name).read_bytes()
    assert_same(models.from_pretrained(tmp_path / "hub"), model)


def test_a_folder_is_loaded_with_its_record(model: WorldModel, saved: Path, tmp_path: Path) -> None:
    hub = load(saved)
    assert_same(hub.model, model)
    assert not hub.model.training
    assert {"data": hub.data, "training": hub.training, "metrics": hub.metrics} == RECORD
    hub.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == (saved / "config.json").read_text()
    elsewhere = load(saved, device=torch.device("meta")).model
    assert {value.device.type for value in elsewhere.parameters()} == {"meta"}


def test_shipped_models_are_found_by_name() -> None:
    hub = load("rnn-billiards2d")
    assert isinstance(hub.model, RNN)
    assert hub.training == models.pretrained_info("rnn-billiards2d")["training"]
    assert HubModel(hub.model).data == hub.data == models.pretrained_info("rnn-billiards2d")["data"]


def test_the_card_tells_how_to_load_and_is_not_written_over(
    model: WorldModel, tmp_path: Path
) -> None:
    HubModel(model).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "jumpy-mbrl"
    assert "world-model" in card.data.tags
    assert "HubModel.from_pretrained(" in card.text
    assert card.data.license is None and "Nothing was recorded." in card.text
    (tmp_path / "README.md").write_text("mine")
    HubModel(model).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", models.shipped_models())
def test_the_card_of_a_shipped_model_tells_all_and_its_example_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub, info = load(name), models.pretrained_info(name)
    hub.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit" and load(tmp_path).licence is None
    for line in hub.model.built_in or ["nothing of its world"]:
        assert f"- {line}\n" in card.text
    for metric, value in info["metrics"].items():
        assert f"- `{metric}`: {value}\n" in card.text
    assert f"```bash\n{info['training']['command']}\n```" in card.text
    example, data = re.findall(r"```(?:python|json)\n(.*?)```", card.text, re.DOTALL)
    assert json.loads(data) == info["data"]
    exec(example.replace("this/repository", name), {})
    assert "tensor(" in capsys.readouterr().out


def test_a_folder_stays_as_it_was_unless_all_can_be_written(
    model: WorldModel, saved: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(ValueError, match="got nan"):
        HubModel(model, metrics={"mse": float("nan")}).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    with pytest.raises(ValueError, match=r"to be free or to hold format 'jumpy-mbrl world model'"):
        HubModel(model).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"architectures": ["Other"]}'


def test_a_model_of_no_registered_kind_is_refused_before_anything_is_pushed() -> None:
    with pytest.raises(ValueError, match=r"expected a model config, one of .*, got NoneType"):
        HubModel(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


# Repositories


def test_repositories_are_loaded_from_the_cache_by_revision(
    model: WorldModel, saved: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cached(saved, cache)
    hub = load("me/billiards", cache_dir=cache, local_files_only=True)
    assert_same(hub.model, model)
    assert hub.metrics == RECORD["metrics"]
    other = JumpyRNN(JumpyRNNConfig(hidden_size=6, mlp_size=5))
    old = models.save_pretrained(other, tmp_path / "old")
    cached(old, cache, commit=OLD_COMMIT, ref="v1")
    for revision in ("v1", OLD_COMMIT):
        assert_same(load("me/billiards", revision=revision, cache_dir=cache).model, other)


def test_a_download_is_of_one_commit_and_with_the_options_given(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = cached(saved, tmp_path)
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, name: str, revision: str | None, **options: Any) -> str:
        asked.append((repository, name, revision, options))
        return str(snapshot / name)

    monkeypatch.setattr("jumpy_mbrl.adapters.hub.hf_hub_download", download)
    options: dict[str, Any] = {"force_download": True, "token": "secret"}
    options |= {"cache_dir": tmp_path, "local_files_only": False}
    load("me/billiards", revision="main", **options)
    assert asked == [
        ("me/billiards", "config.json", "main", options),
        ("me/billiards", "model.safetensors", COMMIT, options),
    ]


def test_a_push_sends_the_two_files_and_the_card(
    model: WorldModel, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, Any] = {}

    def create_repo(self: HfApi, repo_id: str, **options: Any) -> SimpleNamespace:
        calls["create"] = {"repo_id": repo_id, "token": self.token, **options}
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self: HfApi, folder_path: Path, **options: Any) -> str:
        calls["upload"] = options
        shutil.copytree(folder_path, tmp_path / "sent")
        return "https://huggingface.co/me/billiards/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    url = load(saved).push_to_hub("me/billiards", private=True, token="secret", branch="v2")
    assert url.endswith("commit/1")
    wanted = {"repo_id": "me/billiards", "token": "secret", "private": True, "exist_ok": True}
    assert calls["create"] == wanted
    assert (calls["upload"]["repo_id"], calls["upload"]["revision"]) == ("me/billiards", "v2")
    assert sorted(os.listdir(tmp_path / "sent")) == ["README.md", *FILES]
    for name in FILES:
        assert (tmp_path / "sent" / name).read_bytes() == (saved / name).read_bytes()
    assert_same(load(tmp_path / "sent").model, model)


# What is refused


@pytest.mark.parametrize("local_files_only", [True, False])
@pytest.mark.parametrize(
    "name", ["me/nothing", "fold-biliards2d", "/nowhere/at/all", Path("runs/a/best")]
)
def test_a_missing_repository_is_refused(
    name: str | Path, local_files_only: bool, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError,
        match=r"expected a shipped model, a folder, or a repository of the Hub with config\.json "
        rf"and model\.safetensors, got '{name}'; check the name, the network and",
    ):
        load(name, cache_dir=tmp_path, local_files_only=local_files_only)


def test_what_the_hub_answers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        answer: Any = SimpleNamespace(headers={}, request=None)
        raise RepositoryNotFoundError("404: no such repository", response=answer)

    monkeypatch.setattr("jumpy_mbrl.adapters.hub.hf_hub_download", download)
    with pytest.raises(ValueError, match=r"got 'me/nothing'.*the token: 404: no such repository"):
        load("me/nothing", cache_dir=tmp_path)


def test_a_repository_that_lacks_a_file_is_refused(saved: Path, tmp_path: Path) -> None:
    for missing, other in (FILES, FILES[::-1]):
        cached(saved, tmp_path / missing, files=[other])
        with pytest.raises(ValueError, match=r"with config\.json and model\.safetensors, got 'me/"):
            load("me/billiards", cache_dir=tmp_path / missing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"expected JSON in .*config\.json"),
        ("[]", "to hold format 'jumpy-mbrl world model', so it is not ours"),
        (json.dumps({"model_type": "llama", "auto_map": {"AutoModel": "code.py"}}), "not ours"),
    ],
)
def test_a_foreign_config_is_refused_before_weights_are_fetched(
    saved: Path, tmp_path: Path, text: str, message: str
) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(saved)
    cached(saved, tmp_path / "cache", files=["config.json"])
    with pytest.raises(ValueError, match=message):
        load("me/billiards", cache_dir=tmp_path / "cache")


def test_the_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jumpy_mbrl.adapters.hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'jumpy-mbrl\[hub\]'"):
        importlib.import_module("jumpy_mbrl.adapters.hub")
