"""The aggregation layer alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from seccogc import _native
from seccogc._config import Config
from seccogc._errors import Error
from seccogc._params import Layout, Params, single


@dataclass(frozen=True)
class _Round:
    #: Attempts used, at least 1.
    attempts: int
    #: Messages that reached the server, over all attempts.
    arrivals: int
    #: Bytes sent by way (`client_client`, `client_server`, …), lost messages included.
    bytes: Mapping[str, int]
    #: Simulated seconds on the links; None where they know no time.
    seconds: float | None


@dataclass(frozen=True)
class Sum(_Round):
    """The server decoded a sum. It is true."""

    #: Σ of the weighted updates of `included`, in the structure of the updates, of float64.
    sum: Params
    #: Whose updates it holds, ascending from 0.
    included: tuple[int, ...]
    #: The weights of `included` together.
    weight: float
    #: Whether it is the sum of what the clients sent, up to `outage.recovery_tolerance`; an estimate is not.
    exact: bool
    #: Over a field the fraction of coordinates that `quantisation.clip` cut, else None.
    saturated: float | None
    #: Over a field the fraction of coordinates that are not 0 and were rounded to 0, else None.
    underflowed: float | None

    @property
    def mean(self) -> Params:
        """The weighted mean of the updates."""
        return _scaled(self.sum, 1.0 / self.weight)


@dataclass(frozen=True)
class Outage(_Round):
    """The server learned nothing. It is false."""

    #: Why: "links", "too-few" or "precision".
    reason: str

    def __bool__(self) -> Literal[False]:
        return False


class Aggregator:
    """A protocol among `clients` clients, alone: updates in, the exact sum or an outage out.

    Pure: the same seed, round and updates give the same answer. It can be pickled, and called by several
    threads.
    """

    def __init__(
        self,
        protocol: Mapping[str, Any] | str = "sec-cogc",
        *,
        clients: int,
        links: Mapping[str, Any] | None = None,
        rounds: int = 1,
        attempts: int = 1,
        seed: int = 1,
    ) -> None:
        sections: dict[str, Any] = {
            "clients": clients,
            "rounds": rounds,
            "seed": seed,
            "protocol": {"kind": protocol} if isinstance(protocol, str) else dict(protocol),
            "cohort": {"least": 1},
        }
        if links is not None:
            sections["network"] = dict(links)
        if attempts != 1:
            sections["outage"] = {"policy": "retry", "attempts": attempts}
        #: Protocol and links as a configuration.
        self.config = Config(sections)
        self._native = _native.Aggregator(self.config._resolved)
        self._args = (protocol, clients, links, rounds, attempts, seed)

    def aggregate(
        self, updates: Sequence[Params], *, round: int, weights: Sequence[float] | None = None
    ) -> Sum | Outage:
        """Plays a round (from 1) with an update of each client, of one structure; all weigh 1 by default."""
        if round < 1:
            raise Error(f"round: {round} is too small; rounds begin with 1")
        if weights is not None and len(weights) != len(updates):
            raise Error(f"weights: {len(weights)} for {len(updates)} updates; give one of each")
        if not len(updates):
            raise Error("updates: none; give one of each client")
        layout = Layout(updates[0])
        vectors = []
        for update in updates:
            vector = _native.Vector(layout.size)
            layout.write(update, single(vector))
            vectors.append(vector)
        own = [1.0] * len(updates) if weights is None else [float(weight) for weight in weights]
        found = self._native.aggregate(round, vectors, own)
        about = (found["attempts"], found["arrivals"], found["bytes"], found["seconds"])
        if "sum" not in found:
            return Outage(*about, reason=found["reason"])
        included = tuple(found["included"])
        total = layout.views(np.frombuffer(memoryview(found["sum"]), dtype=np.float64))
        weight = sum(own[client] for client in included) if found["exact"] else sum(own)
        lost = {key: found[key] for key in ("saturated", "underflowed")}
        return Sum(*about, sum=total, included=included, weight=weight, exact=found["exact"], **lost)

    @cached_property
    def code(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Whose updates each sum of the code holds, a row a sum; None where the protocol has no code."""
        rows = self._native.code()
        if rows is None:
            return None
        held = np.zeros((len(rows), len(rows)), np.bool_)
        for row, clients in enumerate(rows):
            held[row, clients] = True
        return held

    @cached_property
    def scheme(self) -> dict[str, Any]:
        """What was built: kind, keys, code, stragglers, key_std, least_included."""
        return dict(self._native.scheme_of())

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._args

    def __repr__(self) -> str:
        about = ", ".join(f"{key}={value!r}" for key, value in self.scheme.items() if value not in (None, ""))
        return f"<Aggregator of {self.config['clients']} clients: {about}>"


def _again(
    protocol: Mapping[str, Any] | str,
    clients: int,
    links: Mapping[str, Any] | None,
    rounds: int,
    attempts: int,
    seed: int,
) -> Aggregator:
    return Aggregator(protocol, clients=clients, links=links, rounds=rounds, attempts=attempts, seed=seed)


def _scaled(params: Params, factor: float) -> Params:
    if isinstance(params, dict):
        return {key: _scaled(value, factor) for key, value in params.items()}
    if isinstance(params, (list, tuple)):
        inner = [_scaled(value, factor) for value in params]
        return inner if isinstance(params, list) else tuple(inner)
    return params * factor
