"""Deployment: a server and clients on machines of their own, whose model and training are yours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NoReturn

from seccogc import _native
from seccogc._config import ConfigLike, PathLike
from seccogc._errors import Error
from seccogc._learner import Job, Learner, Trained, Work
from seccogc._params import Params
from seccogc._progress import Progress, Reporter
from seccogc._run import Run
from seccogc._train import _again, _place


def _nobody(_: Job) -> NoReturn:
    raise Error("the clients of a deployment train themselves")


def check_built() -> None:
    """Refuses a build without deployment."""
    if not hasattr(_native, "join"):
        raise Error("this build has no deployment; install the wheel, or build it with its default features")


def serve(
    config: ConfigLike,
    *,
    start: Params | Callable[[int], Params],
    evaluate: Callable[[Params], Mapping[str, float]] | None = None,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    progress: Progress = None,
    stop: threading.Event | None = None,
) -> Run:
    """Serves a run to clients that `join`, until its last round.

    `config["deploy"]` says where it listens, who may take part and where its certificate lies. `start` and
    `evaluate` are those of a `Learner`, `out`, `resume` and `progress` those of `train`. Progress, `stop` and
    Ctrl-C act after the round under way; the run then goes on with `resume`.
    """
    check_built()
    config, folder = _place(config, out, resume)
    work = Work(Learner(start, [1] * config["clients"], _nobody, evaluate), None, stop)
    with Reporter(progress, "serve") as reporter:
        try:
            resumes = resume is not None
            _native.serve(config._resolved, work, folder.path, resumes, reporter.hear, stop)
        except BaseException as error:
            _again("serve", folder, error, None)
            raise
    return Run(folder, work.layout)


def join(
    server: str,
    name: str,
    *,
    train: Callable[[Job], Mapping[str, float] | Trained | None],
    examples: int,
    start: Params,
    pki: PathLike = "pki",
    listen: str | None = None,
    patience: float = 120.0,
    policy: PathLike | None = None,
    ledger: PathLike | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Takes part in a run that `serve` serves at `server` (HOST:PORT), until it is over; the data stays here.

    `train` is that of a `Learner`, called on this thread; `job.client` is the place of `name` among the
    clients. `start` tells the structure of the model alone. `policy`, `ledger`, `listen`, `pki` and
    `patience` are those of `seccogc join`: keys, seals, deadlines, signed rosters and everything that the
    policy checks are the same code. What `train` raises ends the client, after it has told the others that it
    cannot take part. `stop` and Ctrl-C act after the round under way.
    """
    check_built()
    work = Work(Learner(start, [examples], train), None, stop)
    _native.join(server, name, work, pki, listen, patience, policy, ledger, stop)
