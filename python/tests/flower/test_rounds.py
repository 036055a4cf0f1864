"""Rounds over a relay in this process: sums, losses, outages, and what every party refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", minversion="1.42", reason="needs pip install 'seccogc[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import strategy as strategies
from helpers import Relay, app, examples, model, record, step

import seccogc
from seccogc.flower import SecCoGc, seccogc_mod
from seccogc.flower._roster import KEY

pytestmark = pytest.mark.flower

LINKS = {"client_client": {"erasure": 0.15}, "client_server": {"erasure": 0.3}}


def play(relay: Relay, strategy: Any, rounds: int, start: dict[str, np.ndarray] | None = None) -> Any:
    return strategy.start(relay, record(model() if start is None else start), num_rounds=rounds)


def plain(rounds: int, clients: int, of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """FedAvg with 64-bit floats, of models that are kept in their own types."""
    total = sum(examples(k) for k in range(clients))
    for round in range(1, rounds + 1):
        news = [step(k, round, of) for k in range(clients)]
        mean = {
            name: old
            + sum(
                examples(k)
                / total
                * (new[name].astype(np.float64) - old.astype(np.float64)).astype(np.float32)
                for k, new in enumerate(news)
            )
            for name, old in of.items()
        }
        of = {
            name: value.astype(of[name].dtype if of[name].dtype.kind == "f" else np.float64)
            for name, value in mean.items()
        }
    return of


def arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in record.items()}


def near(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        # The grid of the keys has steps below 10⁻⁸; types are rounded to once.
        tolerance = {2: 1e-3, 4: 3e-7, 8: 1e-7}.get(value.dtype.itemsize, 0) if value.dtype.kind == "f" else 0
        np.testing.assert_allclose(got[name], value, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    "protocol", [None, {"stragglers": 1, "arithmetic": "f32"}, {"stragglers": 2, "decoder": "gc-plus"}]
)
def test_the_mean_is_that_of_plain_fedavg(protocol: Any) -> None:
    relay = Relay(4, app())
    result = play(relay, SecCoGc(strategies.FedAvg(), protocol), 3)
    got, want = arrays(result.arrays), plain(3, 4, model())
    if protocol and protocol.get("arithmetic") == "f32":
        # Single precision behind keys of σ = 1: exact to their grid of 2⁻¹⁹.
        for name in ("weight", "bias"):
            np.testing.assert_allclose(got[name], want[name], atol=1e-4)
    else:
        near(got, want)
    metrics = result.train_metrics_clientapp[3]
    weights = np.array([examples(k) for k in range(4)]) / sum(examples(k) for k in range(4))
    assert metrics["loss"] == pytest.approx(float(weights @ np.arange(4)))
    assert metrics["pair"] == pytest.approx([1.0, float(weights @ np.arange(4))])
    assert result.evaluate_metrics_clientapp[3]["accuracy"] == 0.5


def test_sums_over_the_field_are_exact_to_their_quantisation() -> None:
    quantisation = {"clip": 2.0, "bits": 26}
    protocol = {"stragglers": 2, "arithmetic": "field", "quantisation": quantisation}
    got = arrays(play(Relay(4, app()), SecCoGc(strategies.FedAvg(), protocol), 1).arrays)
    want = plain(1, 4, model())
    np.testing.assert_allclose(got["weight"], want["weight"], atol=4 * 2.0 / 2**25)


STRATEGIES: list[Callable[[], Any]] = [
    lambda: strategies.FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
    lambda: strategies.FedAdam(eta=0.1),
    lambda: strategies.FedAdagrad(eta=0.1),
    lambda: strategies.FedYogi(eta=0.1),
    lambda: strategies.FedProx(proximal_mu=0.1),
]


@pytest.mark.parametrize("make", STRATEGIES, ids=lambda make: type(make()).__name__)
def test_strategies_inside_do_what_they_do_in_the_clear(make: Callable[[], Any]) -> None:
    floats = {name: array for name, array in model().items() if array.dtype == np.float32 and array.ndim}
    inside = play(Relay(4, app()), SecCoGc(make()), 3, floats)
    clear = play(Relay(4, app(mods=[])), make(), 3, floats)
    # Adaptive rules divide by the size of the mean: what was rounded before is as much larger.
    for name, want in arrays(clear.arrays).items():
        np.testing.assert_allclose(arrays(inside.arrays)[name], want, rtol=1e-4, atol=1e-5, err_msg=name)
    assert inside.train_metrics_clientapp[3]["loss"] == pytest.approx(
        clear.train_metrics_clientapp[3]["loss"]
    )


REFUSED = [
    strategies.Krum,
    strategies.MultiKrum,
    strategies.Bulyan,
    strategies.FedMedian,
    strategies.FedTrimmedAvg,
    strategies.QFedAvg,
    strategies.FedXgbBagging,
    strategies.FedXgbCyclic,
]


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_strategies_that_need_single_updates_are_refused(kind: Any) -> None:
    own = kind.__new__(kind)
    line = (
        f"^{kind.__name__} needs the updates of single clients, and SecCoGc gives their weighted mean only$"
    )
    with pytest.raises(seccogc.Error, match=line):
        SecCoGc(own)


def test_privacy_with_clipping_by_clients_goes_around() -> None:
    from flwr.clientapp.mod import fixedclipping_mod

    around = strategies.DifferentialPrivacyClientSideFixedClipping
    with pytest.raises(seccogc.Error, match="goes around SecCoGc, not into it"):
        SecCoGc(around(strategies.FedAvg(), 1.0, 1.0, 4))
    floats = {"weight": model()["weight"]}
    relay = Relay(4, app(mods=[seccogc_mod, fixedclipping_mod]))
    result = play(relay, around(SecCoGc(strategies.FedAvg()), 0.0, 0.5, 4), 1, floats)
    moved = arrays(result.arrays)["weight"] - floats["weight"]
    # Each of them was longer, so that the mean of the clipped is shorter.
    assert 0 < np.linalg.norm(moved) <= 0.5 + 1e-6
    assert all(np.linalg.norm(step(k, 1, floats)["weight"] - floats["weight"]) > 0.5 for k in range(4))


def outcomes(folder: Path) -> list[tuple[str, int, int]]:
    import csv

    with (folder / "rounds.csv").open() as file:
        return [(row["outcome"], int(row["cohort"]), int(row["arrivals"])) for row in csv.DictReader(file)]


def test_losses_are_those_of_the_links(tmp_path: Path) -> None:
    """Round for round what the links of the same seed deliver, by the counting rule of the code."""
    clients, stragglers, rounds = 5, 2, 30
    protocol = {"stragglers": stragglers, "code": "cyclic-random"}
    floats = {"weight": model()["weight"]}
    moves: list[dict[str, np.ndarray]] = [floats]
    relay = Relay(clients, app())
    strategy = SecCoGc(strategies.FedAvg(), protocol, links=LINKS, seed=3, out=tmp_path)
    strategy.start(
        relay,
        record(floats),
        num_rounds=rounds,
        evaluate_fn=lambda round, now: moves.append(arrays(now)) if round else None,  # type: ignore[func-returns-value]
    )
    config = seccogc.Config(clients=clients, seed=3, rounds=rounds, network=LINKS)
    from seccogc import _native

    links = _native.Links(config._resolved)
    size = 24 + 8 * floats["weight"].size
    for round, (outcome, cohort, arrivals) in enumerate(outcomes(tmp_path), 1):
        complete = [
            k
            for k in range(clients)
            # Client m adds up what the s that come after it send, in a cyclic code.
            if all(links.delivers(round, (k + i) % clients, k, size) for i in range(1, stragglers + 1))
        ]
        arrived = [k for k in complete if links.delivers(round, k, None, size)]
        assert (cohort, arrivals) == (clients, len(arrived)), round
        recovered = len(arrived) >= clients - stragglers
        assert outcome == ("recovered" if recovered else "outage"), round
        changed = bool((moves[round]["weight"] != moves[round - 1]["weight"]).any())
        assert changed == recovered, "an outage leaves the model as it is"
    assert {outcome for outcome, _, _ in outcomes(tmp_path)} == {"recovered", "outage"}


def killed(stage: str, who: set[int]) -> Callable[[str, int, int], bool]:
    return lambda at, partition, round: at == stage and partition in who and round == 2


@pytest.mark.parametrize(
    ("stage", "who", "want"),
    [
        # Who dies in training is not in the cohort, and costs nothing.
        ("train", {1, 4}, ("recovered", 4, 4)),
        # Who dies before it shares leaves its neighbours' sums incomplete.
        ("share", {3}, ("outage", 6, 3)),
        # Who dies after it has shared does no harm, up to the tolerance.
        ("sum", {0, 5}, ("recovered", 6, 4)),
        ("sum", {0, 2, 5}, ("outage", 6, 3)),
        ("train", {0, 1, 2, 3}, ("outage", 2, 0)),
    ],
)
def test_nodes_are_killed_in_every_exchange(
    tmp_path: Path, stage: str, who: set[int], want: tuple[str, int, int]
) -> None:
    relay = Relay(6, app(), killed(stage, who))
    strategy = SecCoGc(strategies.FedAvg(), {"stragglers": 2, "code": "cyclic-random"}, out=tmp_path)
    start = {"weight": model()["weight"]}
    result = play(relay, strategy, 3, start)
    assert outcomes(tmp_path)[0][0] == outcomes(tmp_path)[2][0] == "recovered"
    assert outcomes(tmp_path)[1] == want
    if stage == "sum" and want[0] == "recovered":
        near(arrays(result.arrays), plain(3, 6, start))
    for context in relay.contexts.values():
        if relay.partition(context.node_id) not in who:
            assert not context.state, "nothing of a round is left"


def test_what_the_relay_carries_tells_nothing() -> None:
    """Shares open for their receivers only, and what the server gets has no correlation with updates."""
    clients = 5
    start = {"weight": np.zeros((1000, 1000), dtype=np.float32)}
    relay = Relay(clients, app())
    # Keys a thousand times as strong as the updates; chance leaves a correlation of 0.001.
    play(relay, SecCoGc(strategies.FedAvg(), {"stragglers": 2, "key_std": 100.0}), 1, start)
    updates = [step(k, 1, start)["weight"].ravel().astype(np.float64) for k in range(clients)]

    def correlation(data: bytes) -> float:
        # As 64-bit floats from the end, where the vector is, whatever stands before it.
        vector = np.frombuffer(data[-8 * updates[0].size :], dtype="<f8")
        vector = np.where(np.isfinite(vector) & (abs(vector) < 1e12), vector, 0.0)
        return max(abs(np.corrcoef(vector, update)[0, 1]) for update in updates)

    sealed = {
        (relay.partition(node), int(to)): array.data
        for stage, node, inbound, content in relay.seen
        if stage == "share" and not inbound
        for to, array in content.array_records[KEY].items()
    }
    assert len(sealed) == clients * 2
    sums = [
        content.array_records[f"{KEY}.sum"]["sum"].data
        for stage, _, inbound, content in relay.seen
        if stage == "sum" and not inbound
    ]
    assert len(sums) == clients
    assert max(correlation(data[:-16]) for data in sealed.values()) < 0.01
    assert max(correlation(data) for data in sums) < 0.01
    # Nothing else that left a node is as long as an update.
    for stage, _, inbound, content in relay.seen:
        if not inbound:
            assert stage != "train" or not content.array_records
    # The bytes of an update, or of a part of it, are in nothing.
    needle = step(2, 1, start)["weight"].tobytes()[:16]
    for _, _, inbound, content in relay.seen:
        for found in content.array_records.values():
            assert all(needle not in array.data for array in found.values()) or inbound


def test_shares_that_are_changed_or_swapped_open_for_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relay = Relay(4, app())

    def meddle(stage: str, message: Message) -> Message:
        if stage == "sum" and relay.partition(message.metadata.dst_node_id) == 1:
            shares = message.content.array_records[f"{KEY}.shares"]
            (one, first), (two, second) = list(shares.items())[:2]
            message.content[f"{KEY}.shares"] = ArrayRecord({**shares, one: second, two: first})
        return message

    relay.meddle = meddle
    strategy = SecCoGc(strategies.FedAvg(), {"stragglers": 2, "code": "cyclic-random"}, out=tmp_path)
    play(relay, strategy, 1)
    assert outcomes(tmp_path) == [("recovered", 4, 3)]
    assert "a share that was not sealed by this client for us, or was changed" in caplog.text


def reply_of(relay: Relay, partition: int, stage: str, content: RecordDict) -> Any:
    node = 1000 - partition
    message = Message(content, node, "train")
    message.metadata.__dict__["_message_id"] = "late"
    return relay.ask(stage, node, message)


def rule(reply: Any) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def orders(relay: Relay, partition: int) -> dict[str, RecordDict]:
    node = 1000 - partition
    return {stage: content for stage, to, inbound, content in relay.seen if to == node and inbound}


def test_replays_are_refused(tmp_path: Path) -> None:
    relay = Relay(4, app(), node_config=lambda partition: {"seccogc-dir": str(tmp_path)})
    play(relay, SecCoGc(strategies.FedAvg()), 1)
    asked = orders(relay, 2)
    for stage in ("share", "sum"):
        again = reply_of(relay, 2, stage, asked[stage])
        assert rule(again) == f"this node has nothing to answer a `{stage}` with, or has answered it"
    # A process that crashed after its answer left, and has its state of before.
    relay = Relay(4, app(), node_config=lambda partition: {"seccogc-dir": str(tmp_path)})
    states: dict[str, RecordDict] = {}

    def remember(stage: str, message: Message) -> Message:
        if message.metadata.dst_node_id == 998:
            states[stage] = RecordDict(
                {key: value.copy() for key, value in relay.contexts[998].state.items()}
            )
        return message

    relay.meddle = remember
    play(relay, SecCoGc(strategies.FedAvg()), 1)
    for stage in ("share", "sum"):
        relay.contexts[998].state = states[stage]
        again = reply_of(relay, 2, stage, orders(relay, 2)[stage])
        assert rule(again).endswith(f"this node has answered a `{stage}` with this key")


def test_rosters_that_are_wrong_are_refused() -> None:
    def refusal(change: Callable[[dict[str, Any]], None], **node_config: Any) -> str:
        relay = Relay(4, app(), node_config=lambda partition: node_config)
        seen = []

        def meddle(stage: str, message: Message) -> Message:
            if stage == "share" and relay.partition(message.metadata.dst_node_id) == 2:
                order = message.content.config_records[KEY]
                roster = json.loads(bytes(order["roster"]))  # type: ignore[arg-type]
                change(roster)
                message.content[KEY] = ConfigRecord({"stage": "share", "roster": json.dumps(roster).encode()})
            return message

        relay.meddle = meddle
        ask = relay.ask

        def watch(stage: str, node: int, message: Message) -> Message:
            reply = ask(stage, node, message)
            if stage == "share" and node == 998:
                seen.append(reply)
            return reply

        relay.ask = watch  # type: ignore[method-assign]
        play(relay, SecCoGc(strategies.FedAvg()), 1)
        assert not relay.contexts[998].state
        return rule(seen[0])

    def entry(place: int, **values: Any) -> Callable[[dict[str, Any]], None]:
        def change(roster: dict[str, Any]) -> None:
            member = roster["members"][place]
            member[0] = json.dumps({**json.loads(member[0]), **values})

        return change

    assert refusal(entry(0, round=5)) == "the entry of another round in the roster of round 1"
    assert refusal(entry(0, run=5)) == "the entry of another round in the roster of round 1"
    assert refusal(entry(2, examples=99)) == "a roster without this node's own entry"
    assert refusal(entry(0, examples=-1)) == "a client with -1.0 examples; the number must be above 0"
    assert refusal(entry(0, coordinates=3)).startswith("an update of 3 coordinates, and this node's has ")
    assert refusal(entry(0, version=2)) == "an entry of version 2; this is version 1"
    assert refusal(entry(0, public="00" * 32)) == "the public key of client 1 is of small order"
    assert (
        refusal(lambda roster: roster["members"].append(roster["members"][0]))
        == "a client that is in the roster twice"
    )
    assert refusal(lambda roster: roster["members"].pop(0) and roster["members"].pop(0)) == (
        "a round of 2 clients, and this node takes part in one of 3 or more"
    )
    assert refusal(lambda roster: None, **{"seccogc-least": 5}) == (
        "a round of 4 clients, and this node takes part in one of 5 or more"
    )
    assert refusal(lambda roster: roster["protocol"].update(key_std=0.0)) == (
        "keys of key_std = 0.0, and this node wants more than 0"
    )
    assert refusal(lambda roster: None, **{"seccogc-key-std": 10.0}) == (
        "keys of key_std = 1.0, and this node wants 10.0 or more"
    )
    assert refusal(lambda roster: roster.update(protocol={"kind": "fedavg"})).startswith(
        "protocol.kind: fedavg is not"
    )
    assert refusal(lambda roster: roster["protocol"].update(keys="fair")).startswith(
        "protocol.keys: without a dealer"
    )
    assert refusal(lambda roster: roster.pop("members")) == "a roster that is malformed"
    assert refusal(lambda roster: roster.update(clients=3)) == "clients: 3 is too small for a cohort of 4"


def test_a_server_in_the_clear_gets_no_update(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay(4, app())
    play(relay, strategies.FedAvg(), 1)
    assert not any(content.array_records for _, _, inbound, content in relay.seen if not inbound)
    assert "is not in SecCoGc, and this node sends no update in the clear" in caplog.text
    # And a client without the mod is found out at once.
    with pytest.raises(seccogc.Error, match=r"sent its update in the clear; its app needs ClientApp\(mods="):
        play(Relay(4, app(mods=[])), SecCoGc(strategies.FedAvg()), 1)


def test_updates_that_cannot_be_summed_stay_on_their_nodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(partition: int, round: int, old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        new = step(partition, round, old)
        if partition == 1:
            new["weight"][0, 0] = np.nan
        if partition == 3:
            new["weight"] = new["weight"].T
        if partition == 4:
            del new["bias"]
        if partition == 5:
            new["bias"] = new["bias"] * 1j
        return new

    relay = Relay(8, app(train))
    play(relay, SecCoGc(strategies.FedAvg(), {"stragglers": 1}, out=tmp_path), 1)
    assert outcomes(tmp_path) == [("recovered", 4, 4)]
    for line in (
        "the update is not finite at coordinate 0; nothing is sent",
        "the array `weight` has the shape (13, 7) in the model and (7, 13) in the reply",
        "the array `bias` is not in both the model and the reply of the training function",
        "the array `bias` has the type complex128; floats, whole numbers and bools have a mean",
    ):
        assert line in caplog.text


def test_configurations_that_cannot_work_say_so_before_anybody_trains() -> None:
    for protocol, line in [
        ({"kind": "fedavg"}, "^protocol.kind: fedavg is not played over Flower's relay; leave kind away"),
        ({"kind": "sec-agg"}, "^protocol.kind: sec-agg is not played over"),
    ]:
        with pytest.raises(seccogc.ConfigError, match=line):
            SecCoGc(strategies.FedAvg(), protocol)
    relay = Relay(4, app())
    for protocol, links, line in [
        ({"stragglers": 4}, None, "protocol.stragglers"),
        ({"straglers": 1}, None, "straglers"),
        ({"keys": "fair"}, None, "protocol.keys: without a dealer"),
        ({}, {"client_server": {"erasure": 2.0}}, "network.client_server"),
    ]:
        with pytest.raises(seccogc.ConfigError, match=line):
            play(relay, SecCoGc(strategies.FedAvg(), protocol, links=links), 1)
    assert not relay.seen
    with pytest.raises(seccogc.Error, match="timeout = 0 must be"):
        SecCoGc(strategies.FedAvg(), timeout=0)
    with pytest.raises(seccogc.Error, match="neither"):
        SecCoGc(strategies.FedAvg(), metrics="all")  # type: ignore[arg-type]


def test_metrics_stay_on_the_nodes_if_they_should() -> None:
    relay = Relay(4, app())
    result = play(relay, SecCoGc(strategies.FedAvg(), metrics="none"), 1)
    replies = [content for stage, _, inbound, content in relay.seen if stage == "train" and not inbound]
    assert len(replies) == 4 and not any(content.metric_records for content in replies)
    assert not result.train_metrics_clientapp.get(1)
    near(arrays(result.arrays), plain(1, 4, model()))


def test_a_folder_that_is_taken_is_refused(tmp_path: Path) -> None:
    SecCoGc(strategies.FedAvg(), out=tmp_path)
    with pytest.raises(seccogc.Error, match=r"rounds\.csv is there already; give another folder"):
        SecCoGc(strategies.FedAvg(), out=tmp_path)


def ssh_key(folder: Path, name: str) -> str:
    """A key pair as ssh-keygen writes it; returns the public line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    (folder / name).write_bytes(key.private_bytes(private, form, serialization.NoEncryption()))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {name}\n"


class TestSigned:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Callable[[int], dict[str, Any]]:
        (tmp_path / "roster").write_text(
            "# the nodes\n" + "".join(ssh_key(tmp_path, f"node-{k}") for k in range(4))
        )
        return lambda k: {
            "seccogc-key": str(tmp_path / f"node-{k}"),
            "seccogc-roster": str(tmp_path / "roster"),
        }

    def test_signed_rosters_are_played(self, tmp_path: Path, keys: Callable[[int], dict[str, Any]]) -> None:
        strategy = SecCoGc(strategies.FedAvg(), out=tmp_path / "out")
        result = play(Relay(4, app(), node_config=keys), strategy, 2)
        assert [outcome for outcome, _, _ in outcomes(tmp_path / "out")] == ["recovered"] * 2
        near(arrays(result.arrays), plain(2, 4, model()))

    @pytest.mark.parametrize("how", ["key", "stranger", "twice", "unsigned"])
    def test_what_others_did_not_sign_is_refused(
        self,
        tmp_path: Path,
        keys: Callable[[int], dict[str, Any]],
        how: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        from seccogc import _native

        ssh_key(tmp_path, "node-9")

        def config(partition: int) -> dict[str, Any]:
            if how == "stranger" and partition == 3:
                return {**keys(3), "seccogc-key": str(tmp_path / "node-9")}
            if how == "twice" and partition == 3:
                return {**keys(3), "seccogc-key": str(tmp_path / "node-2")}
            return {} if how == "unsigned" and partition == 3 else keys(partition)

        relay = Relay(4, app(), node_config=config)

        def meddle(stage: str, message: Message) -> Message:
            if how == "key" and stage == "share":
                roster = json.loads(bytes(message.content.config_records[KEY]["roster"]))  # type: ignore[arg-type]
                member = roster["members"][3]
                own = {**json.loads(member[0]), "public": _native.KeyPair().public().hex()}
                if relay.partition(message.metadata.dst_node_id) != 3:
                    member[0] = json.dumps(own)
                message.content[KEY] = ConfigRecord({"stage": "share", "roster": json.dumps(roster).encode()})
            return message

        relay.meddle = meddle
        play(relay, SecCoGc(strategies.FedAvg(), out=tmp_path / "out"), 1)
        assert outcomes(tmp_path / "out")[0][0] == "outage"
        roster = tmp_path / "roster"
        line = {
            "key": "the entry of client 4 was not signed by node-3",
            "stranger": f"client 4 of the roster is not in {roster}",
            "twice": "node-2 is in the roster twice",
            "unsigned": f"client 4 of the roster is not in {roster}",
        }[how]
        assert line in caplog.text

    def test_keys_that_cannot_be_used_say_so(
        self, tmp_path: Path, keys: Callable[[int], dict[str, Any]]
    ) -> None:
        def refusal(config: dict[str, Any]) -> str:
            relay = Relay(4, app(), node_config=lambda partition: config)
            play(relay, SecCoGc(strategies.FedAvg()), 1)
            content = orders(relay, 0)["train"]
            return rule(reply_of(relay, 0, "train", content))

        bad = tmp_path / "bad"
        bad.write_text("no key")
        together = (
            "seccogc-key and seccogc-roster go together: give both in the node's configuration, or none"
        )
        assert refusal({"seccogc-key": str(bad)}) == together
        assert refusal({"seccogc-roster": str(bad)}) == together
        both = {**keys(0), "seccogc-key": str(bad)}
        assert refusal(both).startswith(f"seccogc-key: {bad}: no Ed25519 key without a passphrase")
        assert refusal({**both, "seccogc-key": str(tmp_path / "none")}).endswith(
            "cannot read: No such file or directory"
        )


def test_members_who_are_shown_different_models_have_nothing_in_common(tmp_path: Path) -> None:
    relay = Relay(4, app())

    def meddle(stage: str, message: Message) -> Message:
        if stage == "train" and relay.partition(message.metadata.dst_node_id) == 0:
            other = {name: array.numpy() for name, array in message.content["arrays"].items()}  # type: ignore[union-attr]
            other["weight"] = other["weight"] + 1
            message.content["arrays"] = ArrayRecord({name: Array(np.asarray(a)) for name, a in other.items()})
        return message

    relay.meddle = meddle
    play(relay, SecCoGc(strategies.FedAvg(), {"stragglers": 2}, out=tmp_path), 1)
    assert outcomes(tmp_path)[0][0] == "outage"
