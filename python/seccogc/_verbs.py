"""The verbs of the command line beside training: the same rules, errors and tables."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seccogc import _native
from seccogc._config import Config, ConfigLike, PathLike, name_of, seeds_of
from seccogc._figure import Figure
from seccogc._folder import Folder
from seccogc._progress import Progress, Reporter
from seccogc._table import Table

Array = np.ndarray[Any, np.dtype[Any]]


def _config(config: ConfigLike | None) -> Config:
    return config if isinstance(config, Config) else Config(config)


def _texts(values: Sequence[Any]) -> list[str]:
    """Values as `--sweep` spells them."""
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


class Recovery(Table):
    """How often rounds are recovered (`recover.csv`), with a `figure`, in the folder `path`."""

    _folder: Folder

    @property
    def path(self) -> Path:
        """The folder of the table and the figure."""
        return self._folder.path

    @property
    def figure(self) -> Figure:
        """The probability of a recovered round over the grid."""
        return Figure(self._folder / "recovery.svg", self._folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return _recovery, (self.to_csv(), self._folder)


def _recovery(content: bytes, folder: Folder) -> Recovery:
    table = Recovery.from_csv(content)
    table._folder = folder
    return table


def recover(
    config: ConfigLike | None = None,
    *,
    vary: tuple[str, Sequence[Any]] | None = None,
    stragglers: Sequence[int] = (),
    rounds: int | None = None,
    parameters: int | None = None,
    out: PathLike | None = None,
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Recovery:
    """How often rounds are recovered over the configured links, and at what cost, without learning.

    `vary`: a key of the configuration and its values, the columns of the grid; `stragglers`: its rows, by
    default all tolerances for which the configured code exists. `rounds` are played at every point (100,000,
    fewer among more than 32 clients). `parameters`: coordinates of an update, those of the configured model
    by default.
    """
    base = _config(config)
    key, values = ("", [""]) if vary is None else (vary[0], _texts(vary[1]))
    if not values:
        raise ValueError(f"vary: give {key} at least one value")
    columns = [(value, (base.replace(f"{key}={value}") if key else base)._resolved) for value in values]
    folder, name = Folder(out), name_of(base)
    with Reporter(progress, "recover") as reporter:
        content = _native.recover(
            name, key, columns, list(stragglers), rounds, parameters, folder.path, reporter.hear, stop
        )
    return _recovery(content, folder)


def plan(
    config: ConfigLike | None = None,
    *,
    attempts: Sequence[int] = (),
    rounds: int = 20_000,
    parameters: int | None = None,
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Table:
    """Codes and straggler tolerances for the configured links, by ascending bytes, the Pareto front marked.

    `attempts` of a round to consider, by default those of the configuration; `rounds` are played where there
    is no closed form. `parameters`: coordinates of an update, those of the configured model by default.
    """
    resolved = _config(config)._resolved
    with Reporter(progress, "plan") as reporter:
        return Table.from_csv(_native.plan(resolved, list(attempts), rounds, parameters, reporter.hear, stop))


class Audit:
    """What every party can learn. `str(audit)` is the table of the command line.

    `entries`: one row an adversary and client. `findings`: what is wrong, a line each; `exceeded`: bounds of
    `[privacy]` that do not hold, a line each.
    """

    def __init__(self, entries: Table, texts: list[str], findings: list[str], exceeded: list[str]) -> None:
        self.entries = entries
        self.findings = findings
        self.exceeded = exceeded
        self._texts = texts

    @property
    def assumptions(self) -> str:
        """What is assumed, for each protocol."""
        return "\n".join(text.split("\nadversary", 1)[0] for text in self._texts)

    def __str__(self) -> str:
        return "\n".join(self._texts)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def audit(
    config: ConfigLike | None = None,
    *,
    coalition: str | None = None,
    all_coalitions: int = 1,
    erasures: PathLike = "worst",
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Audit:
    """What every party, link and coalition can learn about a client's update, for each protocol of the
    configuration.

    `coalition`: one more adversary, parties and eavesdropped links joined by +, such as `"server+2"`;
    `all_coalitions`: of up to so many clients. `erasures`: lost messages, `"worst"`, `"actual"` or a CSV
    file.
    """
    with Reporter(progress, "audit") as reporter:
        content, texts, findings, exceeded = _native.audit(
            _config(config)._resolved, coalition, all_coalitions, str(erasures), reporter.hear, stop
        )
    return Audit(Table.from_csv(content), texts, findings, exceeded)


def calibrate(
    config: ConfigLike | None = None,
    *,
    coalition: str | None = None,
    all_coalitions: int = 1,
    stop: threading.Event | None = None,
) -> Table:
    """The smallest keys that keep the bounds of `[privacy]`, for every construction (`audit --calibrate`)."""
    return Table.from_csv(_native.calibrate(_config(config)._resolved, coalition, all_coalitions, stop))


class Results:
    """The folder of a verb: `path`, its tables by name, and its figures.

    `results["membership"]` is `membership.csv`; `figures` are those that lie there, by name.
    """

    def __init__(self, folder: Folder, main: str) -> None:
        self._folder = folder
        self._main = main

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def table(self) -> Table:
        """The main table."""
        return self[self._main]

    def __getitem__(self, name: str) -> Table:
        path = self._folder / f"{name}.csv"
        if not path.exists():
            raise KeyError(name)
        return Table.from_csv(path)

    def keys(self) -> list[str]:
        """The names of the tables."""
        return sorted(path.stem for path in self.path.glob("*.csv"))

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        return {path.stem: Figure(path, self._folder) for path in sorted(self.path.glob("*.svg"))}

    def __repr__(self) -> str:
        return f"<Results {self.path}: {', '.join(self.keys())}>"

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + "".join(figure.svg for figure in self.figures.values())


def _to_go_on(
    config: ConfigLike | None, resume: PathLike | None, out: PathLike | None
) -> tuple[Config, Folder]:
    """What is to be done where: something new, or in the folder to go on with."""
    if resume is None:
        if config is None:
            raise TypeError("give a configuration, or resume with a folder")
        return _config(config), Folder(out)
    if config is not None or out is not None:
        raise TypeError(
            "resume goes on with the configuration and in the folder that it names; leave config and out away"
        )
    return Config(Path(resume) / "config.toml"), Folder(resume)


def privacy(
    config: ConfigLike | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    device: str = "cpu",
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Results:
    """Accuracy, leakage and recovery error against the strength of the keys: the tables `accuracy_privacy`,
    `leakage_per_client` and `recovery_error`, and a figure of each.

    `config` has `[[compare]]` sections; `[study]` lists the strengths. `resume=folder` goes on with an
    interrupted study.
    """
    of, folder = _to_go_on(config, resume, out)
    if not of.to_dict().get("compare"):
        raise _nothing_to_compare(of)
    with Reporter(progress, "privacy") as reporter:
        given = None if resume is not None else seeds_of(of, seeds)
        _native.privacy(of._resolved, given, device, folder.path, reporter.hear, stop)
    return Results(folder, "accuracy_privacy")


def _nothing_to_compare(config: Config) -> Exception:
    from seccogc._errors import ConfigError

    rule = "nothing to compare; add [[compare]] sections, each with a name and a protocol"
    return ConfigError(f"{config.path or 'compare'}: {rule}", "compare", rule)


def attack(
    config: ConfigLike | None = None,
    *,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    device: str = "cpu",
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Results:
    """Gradient inversion and membership inference on what a neighbour and the server receive: the tables
    `inversion`, `membership` and `roc`, with figures.

    `[attack]` says what is tried. `resume=folder` goes on with an interrupted attack.
    """
    of, folder = _to_go_on(config, resume, out)
    with Reporter(progress, "attack") as reporter:
        _native.attack(of._resolved, device, folder.path, resume is not None, reporter.hear, stop)
    return Results(folder, "membership")


def sweep(
    config: ConfigLike,
    *,
    out: PathLike | None = None,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    jobs: int | None = None,
    device: str = "cpu",
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Results:
    """Every combination of the values in `[sweep]`, with several seeds: the tables `runs` (one row a run) and
    `sweep` (one row a run and round), figures, and a run folder per run.

    `resume`: go on in `out`. `shard`: part I of N alone, from 1; its tables come with the last part. `jobs`:
    runs that go on at a time.
    """
    from seccogc._errors import ConfigError

    of = _config(config)
    if "sweep" not in of.to_dict():
        rule = "nothing to sweep; add a [sweep] section with seeds, grid or variants"
        raise ConfigError(f"{of.path or 'sweep'}: {rule}", "sweep", rule)
    if out is None and (resume or shard is not None):
        raise TypeError("resume and shard need the folder that is shared; give out")
    folder, name = Folder(out), name_of(of)
    with Reporter(progress, "sweep") as reporter:
        _native.sweep(of._resolved, name, device, folder.path, resume, shard, jobs, reporter.hear, stop)
    return Results(folder, "runs")


class Data(NamedTuple):
    """Examples and classes: float32 of n × channels × height × width, or n × features, and int64 of n."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array


#: The names of published datasets; everything else that is text is a configuration's file.
_PUBLISHED = ("mnist-subset", "mnist", "fashion-mnist", "cifar10")


def data(source: ConfigLike = "mnist-subset", *, flat: bool = False, dir: PathLike | None = None) -> Data:
    """Training and test examples as the built-in models see them, standardised unless `[data]` says
    otherwise.

    `source`: the name of a published dataset (`seccogc.fetch` brings the large ones into `dir`), or a
    configuration, whose section `[data]` is read. `flat`: n × features. Labels are classes, or n × quantities
    or labels where `data.response` says so.
    """
    named = isinstance(source, str) and source in _PUBLISHED
    config = Config(None, data={"name": source}) if named else _config(source)
    if dir is not None:
        config = config.replace(data={"dir": dir})

    def arrays(
        values: bytearray, shape: tuple[int, ...], labels: bytearray, each: int
    ) -> tuple[Array, Array]:
        table = tuple(shape[1:3]) == (1, 1)
        shape = (shape[0], -1) if flat or table else shape
        told: Array
        if each:
            told = np.frombuffer(labels, np.float64).reshape(-1, each)
        else:
            told = np.frombuffer(labels, np.uint16).astype(np.int64)
        return np.frombuffer(values, np.float32).reshape(shape), told

    train, test = _native.data(config._resolved)
    return Data(*arrays(*train), *arrays(*test))


def shards(config: ConfigLike | None = None) -> list[Array]:
    """The training examples of every client under `[partition]`, by their places in `data(config)`."""
    return [np.array(shard, dtype=np.int64) for shard in _native.shards(_config(config)._resolved)]


def fetch(name: str, *, dir: PathLike | None = None, progress: bool = True) -> str:
    """Brings a published dataset, checked and whole, into `dir`, by default the platform's cache folder; says
    where it is.
    """
    return _native.fetch(name, dir, not progress)
