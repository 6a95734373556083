"""Trained models and policies that come with the package, as folders by name."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path

from jumpy_mbrl.checks import unknown_name

CONFIG = "config.json"
"""The file that says what a folder holds."""


@dataclass(frozen=True)
class ShippedFolders:
    """Shipped folders of one kind.

    Attributes:
        folder: where they lie, inside the package.
        what: one of them, in a word.
        writer: the function that writes such folders.
    """

    folder: str
    what: str
    writer: str

    def names(self) -> list[str]:
        """All that are shipped."""
        return sorted(file.parent.name for file in self._path().glob(f"*/{CONFIG}"))

    def find(self, path_or_name: str | os.PathLike[str]) -> Path:
        """A shipped folder by its name, or any by its path; `ValueError` if there is none.

        Where both are there, text is the name and a ``Path`` the path.
        """
        names, name = self.names(), os.fspath(path_or_name)
        folder = Path(name)
        if name in names and (isinstance(path_or_name, str) or not folder.is_dir()):
            return self._path() / name
        if folder.is_dir():
            return folder
        raise ValueError(
            f"there is no folder {name!r}; give one written by {self.writer}, or a shipped "
            f"{self.what}: {unknown_name(self.what, name, names)}"
        )

    def text_of(self, path_or_name: str | os.PathLike[str]) -> str:
        """Text by which ``find`` gives the same folder, for records."""
        name = os.fspath(path_or_name)
        is_own = name in self.names() and self.find(path_or_name) != self._path() / name
        return os.path.join(os.curdir, name) if is_own else name

    def _path(self) -> Path:
        return Path(str(importlib.resources.files("jumpy_mbrl"))) / self.folder
