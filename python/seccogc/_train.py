"""The verbs `train` and `compare`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path

from seccogc import _native
from seccogc._config import Config, ConfigLike, PathLike, name_of, seeds_of
from seccogc._errors import DivergedError, Error
from seccogc._figure import Figure
from seccogc._folder import Folder
from seccogc._learner import Learner, Work
from seccogc._progress import Progress, Reporter
from seccogc._run import Run
from seccogc._table import Table


def _again(verb: str, folder: Folder, error: BaseException, learner: Learner | None) -> None:
    """Says how to go on, where something is left that can."""
    # What diverged would do so again.
    diverged = isinstance(error, DivergedError)
    if not diverged and (folder / "config.toml").exists() and folder.keep():
        own = ", learner=…" if learner is not None else ""
        error.add_note(f"go on with seccogc.{verb}(resume={str(folder.path)!r}{own})")


def _place(config: ConfigLike | None, out: PathLike | None, resume: PathLike | None) -> tuple[Config, Folder]:
    """The configuration, and the folder that is new or to go on in."""
    if resume is None:
        config = Config(config)
        return config, Folder(out, name_of(config))
    if out is not None:
        raise Error("out: a run goes on in its own folder; give out or resume")
    folder = Folder(resume)
    return Config(folder / "config.toml") if config is None else Config(config), folder


def _work(learner: Learner | None, executor: Executor | None, stop: threading.Event | None) -> Work | None:
    """A learner as the native side calls it; None for the built-in models."""
    if learner is not None:
        return Work(learner, executor, stop)
    if executor is not None:
        raise Error("executor: the built-in models train on threads of their own; give it with a learner")
    return None


def train(
    config: ConfigLike | None = None,
    learner: Learner | None = None,
    *,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    seed: int | None = None,
    device: str = "cpu",
    progress: Progress = None,
    executor: Executor | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """One model, one protocol; without `learner` the built-in models on `config["data"]`.

    `out=None`: a temporary folder that lives as long as the `Run`, and stays where something ends the run
    after its first round. `resume=folder`: on after the last whole
    round, with the same result as without the interruption. `progress=function` sees the row of every round,
    and may raise to stop. `executor` trains the clients of a round together, in threads or processes of its
    own; tables do not depend on it. `stop.set()`, Ctrl-C and exceptions of the learner leave a run that can
    be resumed.
    """
    config, folder = _place(config, out, resume)
    if seed is not None:
        config = config.replace(f"seed={seed}")
    work = _work(learner, executor, stop)
    with Reporter(progress, "train") as reporter:
        try:
            resumes = resume is not None
            _native.train(config._resolved, work, device, folder.path, resumes, reporter.hear, stop)
        except BaseException as error:
            _again("train", folder, error, learner)
            raise
    return Run(folder, None if work is None else work.layout)


class Comparison:
    """What a comparison found."""

    def __init__(self, folder: Folder, runs: dict[tuple[str, int], Run]) -> None:
        self._folder = folder
        #: Its runs by name and seed.
        self.runs = runs

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @cached_property
    def summary(self) -> Table:
        """One row a protocol and seed (`summary.csv`): `protocol` is the `name` of the other tables, and
        `recovered` counts rounds.
        """
        return Table.from_csv(self.path / "summary.csv")

    @cached_property
    def rounds(self) -> Table:
        """The rounds of all runs, with columns `name` and `seed` before them."""
        return Table.stacked(("name", "seed"), {key: run.rounds for key, run in self.runs.items()})

    @cached_property
    def clients(self) -> Table:
        """The clients of all rounds of all runs, with columns `name` and `seed` before them."""
        return Table.stacked(("name", "seed"), {key: run.clients for key, run in self.runs.items()})

    @property
    def figure(self) -> Figure:
        """Accuracy over rounds."""
        return Figure(self.path / "comparison.svg", self._folder)

    def __repr__(self) -> str:
        return f"<Comparison {self.path}: {len(self.runs)} runs>"

    def _repr_html_(self) -> str:
        return f"{self.summary._repr_html_()}{self.figure.svg}"


def compare(
    config: ConfigLike | None = None,
    learner: Learner | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    device: str = "cpu",
    progress: Progress = None,
    executor: Executor | None = None,
    stop: threading.Event | None = None,
) -> Comparison:
    """The protocols of `config["compare"]` on the same data, batches, start and link failures.

    `seeds`: how many, from the configured one on, or which. A run that diverges is told in a warning, and
    raises `DivergedError` where all do. The rest is that of `train`.
    """
    config, folder = _place(config, out, resume)
    own = seeds_of(config, seeds)
    if not own:
        raise Error("seeds: give at least one")
    work = _work(learner, executor, stop)
    with Reporter(progress, "compare") as reporter:
        try:
            seeded = None if resume is not None else own
            found = _native.compare(config._resolved, work, seeded, device, folder.path, reporter.hear, stop)
        except BaseException as error:
            _again("compare", folder, error, learner)
            raise
    layout = None if work is None else work.layout
    runs = {(name, seed): Run(folder.inner(path), layout) for name, seed, path in found}
    _tell_diverged(runs)
    return Comparison(folder, runs)


def _tell_diverged(runs: dict[tuple[str, int], Run]) -> None:
    """Warns of runs that ended because something was not finite."""
    for (name, seed), run in runs.items():
        if run.diverged:
            end = run.info["end"]["diverged"]
            line = f"diverged in round {end['round']}: the {end['what'].replace('-', ' ')} is not finite"
            logging.getLogger("seccogc").warning("%s, seed %s: %s; its tables end there", name, seed, line)
