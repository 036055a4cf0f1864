"""Training of one's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from seccogc import _native
from seccogc._errors import Error
from seccogc._params import Flat, Layout, Params, single


@dataclass
class Job:
    """The work of one client in one round."""

    #: The round, from 1 as in tables.
    round: int
    #: The client, from 0.
    client: int
    #: Below 2³²: of this round and client and the configured seed, and of nothing else.
    seed: int
    #: The factor of `[schedule]` on the learning rate.
    rate: float
    #: `solver.learning_rate` times this.
    learning_rate: float
    #: The model as one writable vector of float32. It is the global one at first, and what it is when `train`
    #: returns is the client's; then it is handed over.
    params: Flat
    _layout: Layout = field(repr=False)

    def tree(self) -> Params:
        """`params` in the structure of `Learner.start`: views of it, of float32."""
        return self._layout.views(self.params)


@dataclass(frozen=True)
class Trained:
    """What `train` may return instead of changing `job.params`: the client's model, as the start is."""

    params: Params
    loss: float | None = None
    #: Whatever else was measured, by name: columns `train_NAME` of `rounds.csv`.
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Learner:
    """Training of your own, of which Rust plays the rounds.

    Sections `[data]`, `[partition]` and `[model]` of a configuration say nothing then, and of `[solver]` only
    `learning_rate` and `clip_norm` do.
    """

    #: The first model, or a function of the seed that makes it. Its structure, shapes and types are those of
    #: the run.
    start: Params | Callable[[int], Params]
    #: Training examples n_k of every client, which weigh its update.
    examples: Sequence[int]
    #: Changes `job.params` in place, or returns `Trained`. A mapping that it returns may hold `loss`, and
    #: metrics.
    train: Callable[[Job], Mapping[str, float] | Trained | None]
    #: Tests the global model every `evaluation.every` rounds and after the last, NaN in the rows between:
    #: `loss` and `accuracy` are the columns `test_loss` and `test_accuracy`, other names `test_NAME`.
    evaluate: Callable[[Params], Mapping[str, float]] | None = None
    #: The accuracy of the global model for one client.
    test: Callable[[int, Params], float] | None = None


Told = tuple[float | None, list[tuple[str, float]]]


class Work:
    """A learner as the native side calls it, always on the thread that called the verb."""

    def __init__(self, learner: Learner, executor: Executor | None, stop: threading.Event | None) -> None:
        self._learner = learner
        self._executor = executor
        self._stop = stop
        self._layout: Layout | None = None
        self.examples = [int(count) for count in learner.examples]

    @property
    def layout(self) -> Layout:
        assert self._layout is not None
        return self._layout

    @property
    def layers(self) -> list[tuple[str, tuple[int, ...]]]:
        return self.layout.layers

    def start(self, seed: int) -> _native.Vector:
        start = self._learner.start
        params = start(seed) if callable(start) else start
        layout = Layout(params)
        if self._layout is not None and layout != self._layout:
            raise Error(
                f"the start of seed {seed} has another structure than that of the seed before; keep it"
            )
        self._layout = layout
        vector = _native.Vector(layout.size)
        layout.write(params, single(vector))
        return vector

    def train(
        self,
        round: int,
        clients: Sequence[int],
        seeds: Sequence[int],
        rate: float,
        learning_rate: float,
        vectors: Sequence[_native.Vector],
    ) -> list[Told]:
        jobs = (
            Job(round, client, seed, rate, learning_rate, single(vector), self.layout)
            for client, seed, vector in zip(clients, seeds, vectors, strict=True)
        )
        if self._executor is None:
            return [self._told(job, partial(_one, self._learner.train, job)) for job in jobs]
        return list(self._together(self._executor, list(jobs)))

    def train_one(
        self, round: int, client: int, seed: int, rate: float, learning_rate: float, vector: _native.Vector
    ) -> float | None:
        """A client of a deployment, whose loss nobody else learns."""
        [(loss, _)] = self.train(round, [client], [seed], rate, learning_rate, [vector])
        return loss

    def _together(self, executor: Executor, jobs: Sequence[Job]) -> Iterator[Told]:
        futures = [executor.submit(_one, self._learner.train, job) for job in jobs]
        try:
            for job, future in zip(jobs, futures, strict=True):
                yield self._told(job, future.result)
        finally:
            for future in futures:
                future.cancel()

    def _told(self, job: Job, result: Callable[[], tuple[Any, Any]]) -> Told:
        """Takes the result of one client into its vector."""
        if self._stop is not None and self._stop.is_set():
            raise KeyboardInterrupt("stopped")
        try:
            params, told = result()
            if isinstance(told, Trained):
                self.layout.write(told.params, job.params)
                told = {**told.metrics, **({} if told.loss is None else {"loss": told.loss})}
            elif params is not job.params:
                job.params[:] = params
            metrics = _numbers(told or {}, "train")
        except BaseException as error:
            error.add_note(f"in round {job.round}, client {job.client}")
            raise
        loss = metrics.pop("loss", None)
        return loss, list(metrics.items())

    def test(self, round: int, vector: _native.Vector) -> tuple[list[tuple[str, float]], list[float]]:
        flat = single(vector)
        try:
            evaluate, test = self._learner.evaluate, self._learner.test
            found = {} if evaluate is None else evaluate(self.layout.read(flat))
            metrics = list(_numbers(found, "evaluate").items())
            clients = range(len(self.examples)) if test is not None else ()
            return metrics, [
                float(test(client, self.layout.read(flat))) for client in clients if test is not None
            ]
        except BaseException as error:
            error.add_note(f"in the test after round {round}")
            raise


def _one(train: Callable[[Job], Any], job: Job) -> tuple[Flat, Any]:
    return job.params, train(job)


def _numbers(told: object, who: str) -> dict[str, float]:
    if not isinstance(told, Mapping):
        kinds = "a mapping, seccogc.Trained or nothing" if who == "train" else "a mapping of names to numbers"
        raise TypeError(f"{who} returned {type(told).__name__}; return {kinds}")
    return {str(name): float(value) for name, value in told.items()}
