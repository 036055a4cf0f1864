"""What a run left behind."""

from __future__ import annotations

import html
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seccogc import _native
from seccogc._config import Config, PathLike
from seccogc._figure import Figure
from seccogc._folder import Folder
from seccogc._params import Layout, Params, single
from seccogc._table import Table


class Run:
    """A run directory. `Run.open(path)` reads one, of the command line too; `seccogc.train` returns one.

    Its tables are read when they are first asked for.
    """

    def __init__(self, folder: Folder, layout: Layout | None = None) -> None:
        self._folder = folder
        self._layout = layout

    @classmethod
    def open(cls, path: PathLike) -> Run:
        """The run in a folder.

        Raises `OSError` where there is none.
        """
        run = cls(Folder(os.path.abspath(path)))
        run.info  # noqa: B018
        return run

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @cached_property
    def info(self) -> dict[str, Any]:
        """What is known of it beside its tables (`run.json`): version, device, start, how it ended."""
        known: dict[str, Any] = json.loads((self.path / "run.json").read_bytes())
        return known

    @cached_property
    def config(self) -> Config:
        """Its configuration, with every default."""
        return Config(self.path / "config.toml")

    @cached_property
    def rounds(self) -> Table:
        """One row a round (`rounds.csv`)."""
        return Table.from_csv(self.path / "rounds.csv")

    @cached_property
    def clients(self) -> Table:
        """One row a round and client (`clients.csv`)."""
        return Table.from_csv(self.path / "clients.csv")

    @cached_property
    def leakage(self) -> Table:
        """What leaks to every adversary when nothing is lost (`leakage.csv`), one row each and client."""
        path = self.path / "leakage.csv"
        return Table.from_csv(path) if path.exists() else Table()

    @property
    def recovered(self) -> float:
        """The fraction of its rounds in which the sum over all clients was decoded."""
        outcomes = self.rounds.get("outcome")
        return float(np.mean(outcomes == "recovered")) if outcomes is not None and len(outcomes) else 0.0

    @property
    def reached(self) -> int | None:
        """The round whose test first saw `evaluation.target`; None without a target, or where none saw it."""
        target = (self.info.get("end") or {}).get("target") or {}
        reached: dict[str, int] | None = target.get("reached")
        return None if reached is None else reached["round"]

    @property
    def diverged(self) -> bool:
        """Whether it ended because something was not finite."""
        return (self.info.get("end") or {}).get("diverged") is not None

    @cached_property
    def params(self) -> Params:
        """The last global model: in the structure of the learner that trained it, else its tensors by name,
        with the layouts of a PyTorch module.
        """
        shapes, vector = _native.weights(self.path)
        flat = single(vector)
        if self._layout is not None:
            return self._layout.read(flat)
        ends = np.cumsum([int(np.prod(shape)) for _, shape in shapes])
        parts = zip(shapes, np.split(flat, ends[:-1]), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}

    def export(self, path: PathLike, *, best: bool = False) -> None:
        """Writes the last model, or that of the highest test accuracy, to a file `.safetensors`, `.npz`,
        `.onnx` or `.csv`.
        """
        Path(path).write_bytes(_native.export(self.path, Path(path).suffix.removeprefix("."), best))

    @property
    def figure(self) -> Figure:
        """Accuracy over rounds."""
        svg = self.path / "accuracy.svg"
        if not svg.exists():
            _native.draw(self.path, self.path.name)
        return Figure(svg, self._folder)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self._words()}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._words())}</p>{self.figure.svg}"

    def _words(self) -> str:
        rounds = self.rounds
        known = [f"{rounds.height} rounds", f"recovered {100 * self.recovered:.1f} %"]
        accuracies = rounds.get("test_accuracy", np.array([]))
        tested = accuracies[~np.isnan(accuracies)] if accuracies.dtype.kind == "f" else accuracies
        if len(tested):
            known.append(f"accuracy {100 * float(tested[-1]):.2f} %")
        return ", ".join(
            [str(self.info.get("protocol", "")), *known, *(["diverged"] if self.diverged else [])]
        )
