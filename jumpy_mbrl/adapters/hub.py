"""World models on the Hugging Face Hub; needs the extra `hub`.

```python
from jumpy_mbrl.adapters.hub import HubModel

hub = HubModel.from_pretrained("runs/best")  # a folder that save_pretrained wrote
hub.push_to_hub("you/billiards")  # after `hf auth login`
model = HubModel.from_pretrained("you/billiards").model
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from jumpy_mbrl.files import to_json
from jumpy_mbrl.models import pretrained
from jumpy_mbrl.models.base import WorldModel
from jumpy_mbrl.models.registry import model_name
from jumpy_mbrl.shipped import CONFIG

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
except ModuleNotFoundError as error:
    raise ImportError(
        "jumpy_mbrl.adapters.hub needs huggingface_hub, which is not installed; "
        "pip install 'jumpy-mbrl[hub]'"
    ) from error

MODEL_CARD = """
---
{{ card_data }}
---

# A world model: {{ kind }}

Made with jumpy-mbrl. Observations of {{ seen }} numbers, {{ acts }}.

## What is built in

{% for line in built_in or ["nothing of its world"] %}- {{ line }}
{% endfor %}
## How to use it

With the extra `hub` installed:

```python
import torch
from jumpy_mbrl.adapters.hub import HubModel

model = HubModel.from_pretrained("this/repository").model
seen = torch.rand(1, {{ frames }}, {{ seen }})  # (B, T, D): what was observed, a frame apart
future = model.imagine(model.observe(seen), times=[0.5, 2.0, 3.25]{{ action }})
print(future.obs, future.tick_times)  # (B, K, D) at any times, in frames
```

Loading runs no code from here: `model.safetensors` holds numbers alone, and has to have the
checksum in `config.json`.

## What it reached

{% for name, value in metrics.items() %}- `{{ name }}`: {{ value }}
{% else %}Nothing was recorded.
{% endfor %}
## What it learned from

```json
{{ data }}
```

{% if command %}Training, whose other settings stand in `config.json`:

```bash
{{ command }}
```
{% endif %}"""
"""The `README.md` of a new folder or repository, filled in by `huggingface_hub`."""


class HubModel(  # type: ignore[call-arg]  # mypy skips huggingface_hub
    ModelHubMixin,  # type: ignore[misc]
    library_name="jumpy-mbrl",
    model_card_template=MODEL_CARD,
    tags=["world-model"],
):
    """A world model, `model`, and its record, with the methods of `huggingface_hub.ModelHubMixin`.

    `save_pretrained(folder)` and `push_to_hub("user/name")` write the two files of
    `jumpy_mbrl.save_pretrained`, and a `README.md` where there is none. Either side reads what the
    other wrote. `ValueError` if the model is of no registered kind.

    Args:
        model: one of the kinds in `jumpy_mbrl.models.registry.MODELS`.
        data: what it was trained on; by default what the model's own `record` says.
        training: how, the command included.
        metrics: what it reached.
        licence: of the weights, for the card, as the Hub spells it; that of shipped models is
            "mit", and by default the card names none.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        data: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        licence: str | None = None,
    ) -> None:
        model_name(getattr(model, "config", None))  # or a push would leave an empty repository
        self.model = model
        self.data = dict(model.record.get("data", {}) if data is None else data)
        self.training = dict(training or {})
        self.metrics = dict(metrics or {})
        self.licence = licence

    # The mixin's own would first do as a config.json says that nobody has checked.
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        revision: str | None = None,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Loads what `jumpy_mbrl.from_pretrained` does, or two files of a repository of the Hub.

        Nothing in them is executed. `ValueError` if there is no such model, or its files are
        damaged, foreign, or do not fit each other.

        Args:
            pretrained_model_name_or_path: a shipped model, a folder, or else a repository, in this
                order; a folder before a shipped model if it is a ``Path``.
            device: where the weights go, as for the package's own `from_pretrained`.
            revision: branch, tag or commit of the repository; by default the newest of `main`.
            force_download: whether to fetch what is in the cache already.
            token: of an account that may read the repository; by default that of `hf auth login`.
            cache_dir: where repositories are kept; by default the Hub's own cache.
            local_files_only: whether to make do with the cache, without a network.
        """
        source = pretrained_model_name_or_path
        name = os.fspath(source)
        shipped = name in pretrained.shipped_models()
        if not shipped and not os.path.isdir(name):
            options: dict[str, Any] = {"force_download": force_download, "token": token}
            options |= {"cache_dir": cache_dir, "local_files_only": local_files_only}
            source = _download(name, revision, **options)
        info = pretrained.pretrained_info(source)
        record = {name: info[name] for name in ("data", "training", "metrics")}
        own = isinstance(pretrained_model_name_or_path, Path) and os.path.isdir(name)
        licence = "mit" if shipped and not own else None
        return cls(pretrained.from_pretrained(source, device), **record, licence=licence)

    # That of the mixin begins by deleting the config.json that is there, whosever it is.
    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str | None:
        """Writes the folder; an older model there is replaced, or stays if this fails.

        Returns the URL of the commit, if it was pushed. `ValueError` as from
        `jumpy_mbrl.save_pretrained`.

        Args:
            save_directory: the folder, made if missing.
            repo_id: of the repository to push to; by default the folder's name.
            push_to_hub: whether to push it as well.
            model_card_kwargs: for the template of the `README.md`.
            options: further ones of `push_to_hub`.
        """
        folder = Path(save_directory)
        self._save_pretrained(folder)
        card, about = folder / "README.md", model_card_kwargs or {}
        if not card.exists():
            self.generate_model_card(**about).save(card)
        if not push_to_hub:
            return None
        name = repo_id or folder.name
        url: str = self.push_to_hub(name, model_card_kwargs=about, **options)
        return url

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """The `README.md`: how to load the model, what is built in, data, training and figures."""
        model = self.model
        told = {
            "kind": type(model).__name__,
            "seen": model.obs_size,
            "acts": f"actions of {model.action_size}" if model.action_size else "no actions",
            "frames": max(4, model.min_frames),
            "action": f", action=torch.zeros(1, {model.action_size})" * bool(model.action_size),
            "built_in": model.built_in,
            "metrics": self.metrics,
            "data": to_json(self.data).decode().strip(),
            "command": self.training.get("command"),
        }
        card = super().generate_model_card(*args, **{**told, **kwargs})
        card.data.license = self.licence
        return card

    def _save_pretrained(self, save_directory: Path) -> None:
        record = {"data": self.data, "training": self.training, "metrics": self.metrics}
        pretrained.save_pretrained(self.model, save_directory, **record)


def _download(repository: str, revision: str | None, **options: Any) -> str:
    """The folder in the cache with both files, of one commit."""
    try:
        config = hf_hub_download(repository, CONFIG, revision=revision, **options)
        folder = Path(config).parent  # .../snapshots/COMMIT
        pretrained.pretrained_info(folder)  # The weights are fetched after this check alone.
        hf_hub_download(repository, pretrained.WEIGHTS, revision=folder.name, **options)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"expected a shipped model, a folder, or a repository of the Hub with {CONFIG} and "
            f"{pretrained.WEIGHTS}, got {repository!r}; check the name, the network and, for a "
            f"private repository, the token: {error}"
        ) from error
    return str(folder)
