"""The aggregation layer alone: exact or nothing, whatever the structure, pure."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import seccogc

LINKS = {
    "client_client": {"kind": "bernoulli", "erasure": 0.1},
    "client_server": {"kind": "bernoulli", "erasure": 0.4},
}


def updates(clients: int = 10, size: int = 1000) -> list[Any]:
    return [np.random.default_rng(k).normal(size=size).astype(np.float32) for k in range(clients)]


def test_the_sum_or_an_outage() -> None:
    own = updates()
    want = np.sum(np.array(own, np.float64), axis=0)
    scheme = seccogc.Aggregator(
        {"kind": "sec-cogc", "stragglers": 5, "key_std": 1e3}, clients=10, links=LINKS, rounds=40
    )
    recovered = 0
    for number in range(1, 41):
        match scheme.aggregate(own, round=number):
            case seccogc.Sum(sum=total, included=included, exact=True):
                recovered += 1
                assert included == tuple(range(10))
                assert np.linalg.norm(total - want) < 1e-5 * np.linalg.norm(want)
            case seccogc.Outage(reason=reason, arrivals=count) as outage:
                assert reason == "links" and count < 5 and not outage
    assert 0 < recovered < 40
    assert scheme.code is not None and scheme.code.shape == (10, 10)
    assert scheme.scheme["stragglers"] == 5 and scheme.scheme["key_std"] == 1e3


def test_weights_structures_and_strides() -> None:
    def update(k: int) -> dict[str, Any]:
        return {"w": np.arange(12.0).reshape(3, 4).T[::2] * k, "b": [np.float16(k), 2 * k]}

    weights = [1.0, 2.5, 0.5, 4.0]
    found = seccogc.Aggregator("sec-cogc", clients=4).aggregate(
        [update(k) for k in range(4)], round=1, weights=weights
    )
    assert isinstance(found, seccogc.Sum)
    total = sum(weight * k for k, weight in enumerate(weights))
    assert np.allclose(found.sum["w"], update(1)["w"] * total, atol=1e-6)
    assert np.allclose(found.mean["w"], update(1)["w"] * total / 8, atol=1e-6)
    assert isinstance(found.sum["b"], list) and abs(found.sum["b"][1][()] - 2 * total) < 1e-6
    assert found.weight == 8.0


def test_pure_picklable_and_callable_by_several_threads() -> None:
    scheme = seccogc.Aggregator("sec-cogc", clients=10, links=LINKS, rounds=20, seed=3, attempts=2)
    again = pickle.loads(pickle.dumps(scheme))
    own = updates(size=200)

    def play(scheme: seccogc.Aggregator, number: int) -> Any:
        found = scheme.aggregate(own, round=number)
        return (
            found.sum.tolist()
            if isinstance(found, seccogc.Sum)
            else (found.reason, found.arrivals, found.attempts)
        )

    alone = [play(scheme, number) for number in range(1, 21)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda number: play(again, number), range(1, 21))) == alone
    other = seccogc.Aggregator("sec-cogc", clients=10, links=LINKS, rounds=20, seed=4, attempts=2)
    assert [play(other, number) for number in range(1, 21)] != alone


def test_the_links_are_those_of_a_run() -> None:
    """Rounds recovered by the aggregator are those of `train` over the same links."""
    protocol = {"kind": "sec-cogc", "stragglers": 5}
    sections = {"clients": 10, "rounds": 30, "seed": 7, "protocol": protocol, "network": LINKS}
    learner = seccogc.Learner(np.zeros(50, np.float32), [1] * 10, lambda job: None)
    run = seccogc.train(seccogc.Config(sections), learner)
    scheme = seccogc.Aggregator(protocol, clients=10, links=LINKS, rounds=30, seed=7)
    found = [scheme.aggregate(updates(size=50), round=number) for number in range(1, 31)]
    assert [bool(one) for one in found] == (run.rounds["outcome"] == "recovered").tolist()
    assert [one.bytes["client_server"] for one in found] == run.rounds["bytes_client_server"].tolist()


@pytest.mark.parametrize(
    "kind", ["ideal", "fedavg", "cogc", "sec-cogc", "zhao-sun", "light-sec-agg", "sec-agg"]
)
def test_every_kind_sums(kind: str) -> None:
    own = [0.1 * update.clip(-3, 3) for update in updates(6, 64)]
    found = seccogc.Aggregator(kind, clients=6).aggregate(own, round=1)
    assert isinstance(found, seccogc.Sum) and found.exact
    assert np.abs(found.sum - np.sum(np.array(own, np.float64), axis=0)).max() < 1e-3


def test_what_a_field_cuts_is_told(caplog: pytest.LogCaptureFixture) -> None:
    found = seccogc.Aggregator("sec-agg", clients=5).aggregate([np.array([0.5, 7.0])] * 5, round=1)
    assert isinstance(found, seccogc.Sum) and found.saturated == 0.5 and found.underflowed == 0
    assert "50 % of the updates' coordinates exceed quantisation.clip; raise it" in caplog.text


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda s: s.aggregate(updates(3), round=1), "3 updates for 4 clients; give one of each"),
        (lambda s: s.aggregate(updates(4), round=0), "round: 0 is too small; rounds begin with 1"),
        (
            lambda s: s.aggregate(updates(4), round=1, weights=[1, 1, 0, 1]),
            "the weight 0 of client 2 must be a finite number above 0",
        ),
        (
            lambda s: s.aggregate([np.array([1.0, np.nan if k == 3 else 0.0]) for k in range(4)], round=1),
            "the update of client 3 is not finite at coordinate 1; nothing was sent",
        ),
        (
            lambda s: s.aggregate([np.zeros(2 + (k == 1)) for k in range(4)], round=1),
            "params has the shape (3,), and (2,) at the start; keep it",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(call: Any, line: str) -> None:
    with pytest.raises(seccogc.Error) as raised:
        call(seccogc.Aggregator("sec-cogc", clients=4))
    assert str(raised.value) == line


def test_a_protocol_that_breaks_a_rule_is_refused_at_once() -> None:
    with pytest.raises(seccogc.ConfigError, match="protocol"):
        seccogc.Aggregator({"kind": "sec-cogc", "stragglers": 9}, clients=4)
    with pytest.raises(seccogc.ConfigError, match="replicates"):
        seccogc.Aggregator("secure-gc", clients=8).aggregate(updates(8), round=1)
