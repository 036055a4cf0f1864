"""Folders of results."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


class Folder:
    """Where results lie: a folder of the user's, or a temporary one that lives as long as this object."""

    def __init__(self, path: str | os.PathLike[str] | None = None, name: str = "run") -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="seccogc-")
            # Figures have the name as their title.
            path = Path(self._temporary.name) / name
        self.path = Path(path)

    def inner(self, path: str | os.PathLike[str]) -> Folder:
        """A folder in this one, which lives as long as the other."""
        inner = Folder(path)
        inner._temporary = self._temporary
        return inner

    def keep(self) -> bool:
        """Makes a temporary folder stay where there is something to go on with; whether it stays."""
        if self._temporary is None:
            return True
        if any(self.path.rglob("checkpoint.bin")):
            # Hours of work are in it, and nobody was told that it would go.
            self._temporary._finalizer.detach()  # type: ignore[attr-defined]
            self._temporary = None
        return self._temporary is None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __reduce__(self) -> tuple[Any, ...]:
        # The temporary folder stays its maker's.
        return Folder, (self.path,)
