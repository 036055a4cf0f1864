"""Figures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from seccogc._folder import Folder


class Figure:
    """A figure that lies beside its results as SVG and PNG; a notebook shows it."""

    def __init__(self, svg: str | os.PathLike[str], folder: Folder) -> None:
        self._svg = Path(svg)
        # Which may live no longer than those who know it.
        self._folder = folder

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return self._svg.read_text(encoding="utf-8")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file whose name ends with .svg or .png."""
        suffix = Path(path).suffix.lower()
        if suffix not in (".svg", ".png"):
            raise ValueError(f"{os.fspath(path)}: a figure is an .svg or a .png; name one of them")
        shutil.copyfile(self._svg.with_suffix(suffix), path)

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Figure {self._svg}>"
