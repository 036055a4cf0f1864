"""The strategy around a strategy."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import Result, Strategy

from seccogc import _native
from seccogc._config import Config, PathLike
from seccogc._errors import Error
from seccogc.flower._roster import KEY, LEAST, SEAL, SHARES, SUM, Member, configured, logger, masked, weights

#: Strategies that look at the updates of single clients, and so cannot be inside.
_SINGLE = (
    strategies.Bulyan,
    strategies.DifferentialPrivacyServerSideAdaptiveClipping,
    strategies.DifferentialPrivacyServerSideFixedClipping,
    strategies.FedMedian,
    strategies.FedTrimmedAvg,
    strategies.FedXgbBagging,
    strategies.FedXgbCyclic,
    strategies.Krum,
    strategies.MultiKrum,
    strategies.QFedAvg,
)

#: Strategies that count clients, and so go around.
_AROUND = (
    strategies.DifferentialPrivacyClientSideAdaptiveClipping,
    strategies.DifferentialPrivacyClientSideFixedClipping,
)

_COLUMNS = (
    "round",
    "outcome",
    "reason",
    "cohort",
    "arrivals",
    "bytes_client_client",
    "bytes_client_server",
    "seconds_coding",
)


@dataclass
class _Round:
    """What came of the exchanges of a round; a row of `rounds.csv`."""

    arrivals: int = 0
    bytes_shares: int = 0
    bytes_sums: int = 0
    reason: str | None = None


class SecCoGc(Strategy):
    """A strategy whose clients' updates the server never sees: it gets the exact weighted mean, or an outage.

    `strategy` is any that needs the weighted mean of the updates only; it gets one reply a round, as if one
    client had trained, and in an outage none, so that the model stays. `protocol` is the section `[protocol]`
    of a configuration, sec-cogc with pairwise keys: `{"stragglers": 2, "key_std": 10.0}`;
    `"arithmetic": "f32"` halves what is sent, `"field"` makes keys uniform. For cohorts of fewer clients the
    tolerance is lowered as far as it must be.

    `links` is the section `[network]`: shares and sums are lost as in a run with the same `seed`, client for
    client by `partition-id` of the nodes; by default only Flower's own failures happen. `timeout` is the time
    for each of the exchanges after training, in seconds; that for training is the `timeout` of `start`.
    `metrics` says whether clients' metrics reach the server (`"mean"`: it hands their mean to `strategy`) or
    stay on the nodes (`"none"`). `out` is a folder for `rounds.csv`.

    Raises `Error` of one line for a strategy that needs single updates, and `ConfigError` for a wrong
    configuration, when the first round begins.
    """

    def __init__(
        self,
        strategy: Strategy,
        protocol: Mapping[str, Any] | None = None,
        *,
        links: Mapping[str, Any] | None = None,
        seed: int = 1,
        timeout: float = 600.0,
        metrics: Literal["mean", "none"] = "mean",
        out: PathLike | None = None,
    ) -> None:
        name = type(strategy).__name__
        if isinstance(strategy, _SINGLE):
            rule = "needs the updates of single clients, and SecCoGc gives their weighted mean only"
            raise Error(f"{name} {rule}")
        if isinstance(strategy, _AROUND):
            raise Error(f"{name} goes around SecCoGc, not into it: {name}(SecCoGc(…), …)")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise Error(f"timeout = {timeout} must be a finite number of seconds above 0")
        if metrics not in ("mean", "none"):
            raise Error(f'metrics = {metrics!r} is neither "mean" nor "none"')
        self.strategy = strategy
        self._protocol = masked(protocol or {})
        self._network = None if links is None else dict(links)
        self._seed = seed
        self._timeout = timeout
        self._metrics = metrics
        self._out = None if out is None else _table(Path(out))
        self._weighted_by = str(getattr(strategy, "weighted_by_key", "num-examples"))
        self._rounds = 0
        self._train_timeout: float | None = None
        self._links: _native.Links | None = None
        self._grid: Grid | None = None
        self._arrays: ArrayRecord | None = None
        self._asked = 0
        self._clients = 0
        self._types: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"SecCoGc({self.strategy!r}, {self._protocol!r})"

    def summary(self) -> None:
        """Logs the protocol, then the summary of the strategy inside."""
        section = ", ".join(f"{key} = {value}" for key, value in self._protocol.items())
        logger.info("\t├──> SecCoGC: %s", section)
        self.strategy.summary()

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """As `Strategy.start`; a node that gets a training message later than `timeout` ignores it."""
        self._rounds, self._train_timeout = num_rounds, timeout
        return super().start(
            grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of the strategy inside, each with the order to train for a secure round."""
        self._grid, self._arrays = grid, arrays
        order: dict[str, str | int] = {
            "stage": "train",
            "round": server_round,
            "weighted-by": self._weighted_by,
            "metrics": self._metrics,
        }
        contents: dict[int, RecordDict] = {}
        messages = []
        self._types = {}
        for message in self.strategy.configure_train(server_round, arrays, config, grid):
            # Strategies send one content to all: it stays one, and is encoded once.
            if id(message.content) not in contents:
                content = RecordDict(dict(message.content.items()))
                content[KEY] = ConfigRecord({**order})
                contents[id(message.content)] = content
            to = message.metadata
            self._types[to.dst_node_id] = to.message_type
            messages.append(
                Message(
                    contents[id(message.content)],
                    to.dst_node_id,
                    to.message_type,
                    ttl=self._train_timeout or to.ttl,
                    group_id=to.group_id,
                )
            )
        self._asked = len(messages)
        if self._asked >= LEAST:
            # A configuration that cannot work is found before anybody trains.
            whole = self._config(self._asked, server_round)
            _native.Decoder(whole._resolved, server_round, [1.0] * self._asked, 1)
            if self._network is not None:
                _native.Links(whole._resolved)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Shares and sums among the clients that have trained; then the strategy inside, on their mean."""
        began = time.perf_counter()
        played = _Round()
        cohort = self._cohort(server_round, list(replies))
        mean = self._play(server_round, cohort, played)
        self._note(server_round, mean is not None, played, len(cohort), time.perf_counter() - began)
        if mean is None:
            return None, None
        return self.strategy.aggregate_train(server_round, [self._reply(cohort, mean)])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Those of the strategy inside."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """That of the strategy inside."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def _config(self, clients: int, server_round: int) -> Config:
        sections: dict[str, Any] = {"rounds": max(self._rounds, server_round, 1)}
        if self._network is not None:
            sections["network"] = self._network
        return configured(self._protocol, clients, self._seed, **sections)

    def _cohort(self, server_round: int, replies: list[Message]) -> list[tuple[Member, Message]]:
        """Who has trained, by partition where nodes have them, else by node."""
        coordinates = sum(math.prod(array.shape) for array in self._model().values())
        cohort = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                why = _told(reply.error.reason)
                logger.warning("round %s: node %s has not trained: %s", server_round, node, why)
                continue
            said = reply.content.config_records.get(KEY)
            if said is None:
                remedy = "its app needs ClientApp(mods=[seccogc_mod])"
                raise Error(f"node {node} sent its update in the clear; {remedy}")
            try:
                member = Member.read([said.get("entry"), said.get("signer"), said.get("signature")])
                about = (member.run, member.round, member.coordinates)
                if about != (reply.metadata.run_id, server_round, coordinates):
                    raise Error("an entry for another round or model")
            except Error as error:
                logger.warning("round %s: node %s is refused: %s", server_round, node, _told(str(error)))
                continue
            cohort.append((member, reply))
        members = [member for member, _ in cohort]
        partitions = {member.partitions for member in members}
        placed = len(partitions) == 1 and all(0 <= member.partition < member.partitions for member in members)
        placed = placed and len({member.partition for member in members}) == len(members)
        if members and self._network is not None and not placed:
            rule = "every node needs num-partitions and a partition-id of its own, to know its links by"
            raise Error(f"links: {rule}")
        self._clients = partitions.pop() if placed else max(self._asked, len(members))
        cohort.sort(key=lambda one: one[0].partition if placed else one[1].metadata.src_node_id)
        return cohort

    def _play(
        self, server_round: int, cohort: list[tuple[Member, Message]], played: _Round
    ) -> np.ndarray[Any, Any] | None:
        """The weighted mean over the cohort, if its sum was decoded."""
        members = [member for member, _ in cohort]
        played.reason = "too-few"
        if len(members) < LEAST:
            return None
        config = self._config(self._clients, server_round)
        size = members[0].coordinates
        try:
            decoder = _native.Decoder(config._resolved, server_round, weights(members), size)
        except Error as error:
            if len(members) == self._clients:
                raise
            logger.warning("round %s: no scheme for a cohort of %s: %s", server_round, len(members), error)
            return None
        roster = json.dumps(
            {
                "protocol": config["protocol"],
                "clients": self._clients,
                "seed": self._seed,
                "members": [[member.entry, member.signer, member.signature] for member in members],
            }
        ).encode()
        nodes = [reply.metadata.src_node_id for _, reply in cohort]
        places = {node: place for place, node in enumerate(nodes)}
        boxes: list[dict[str, Array]] = [{} for _ in nodes]

        order = RecordDict({KEY: ConfigRecord({"stage": "share", "roster": roster})})
        shared = []
        for reply in self._ask({node: order for node in nodes}, "share", server_round):
            place = places[reply.metadata.src_node_id]
            shared.append(place)
            for to, array in reply.content.array_records.get(KEY, {}).items():
                if not (to.isascii() and to.isdigit() and int(to) < len(nodes)):
                    logger.warning("round %s: client %s shares with a stranger", server_round, place + 1)
                    continue
                size = len(array.data)
                played.bytes_shares += size
                if self._delivers(config, server_round, members[place], members[int(to)], size - SEAL):
                    boxes[int(to)][str(place)] = array

        orders = {}
        for place in shared:
            content = RecordDict({KEY: ConfigRecord({"stage": "sum"})})
            content[SHARES] = ArrayRecord(boxes[place])
            orders[nodes[place]] = content
        boxes.clear()
        for reply in self._ask(orders, "sum", server_round):
            place = places[reply.metadata.src_node_id]
            refused = reply.content.config_records.get(KEY, ConfigRecord()).get("refused")
            for line in refused if isinstance(refused, list) else []:
                told = _told(str(line))
                logger.warning("round %s: client %s refused a share %s", server_round, place + 1, told)
            sums = reply.content.array_records.get(SUM)
            if sums is None:
                logger.info("round %s: client %s misses shares for its sum", server_round, place + 1)
                continue
            data = sums["sum"].data if "sum" in sums else b""
            played.bytes_sums += len(data)
            if not self._delivers(config, server_round, members[place], None, len(data)):
                continue
            try:
                decoder.admit(place, data)
                played.arrivals += 1
            except Error as error:
                logger.warning("round %s: refused from client %s: %s", server_round, place + 1, error)
        decoded, played.reason = decoder.decode()
        if decoded is None:
            return None
        # The weights of a cohort add up to its size, and a decoded sum is over all of it.
        return np.frombuffer(decoded[1], dtype="<f8") / len(members)

    def _ask(self, contents: Mapping[int, RecordDict], stage: str, server_round: int) -> list[Message]:
        """One exchange with these nodes: what they answered in time, errors logged."""
        assert self._grid is not None
        messages = [
            Message(content, node, self._types[node], ttl=self._timeout, group_id=str(server_round))
            for node, content in contents.items()
        ]
        answers: dict[int, Message] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._timeout):
            node = reply.metadata.src_node_id
            if reply.has_error():
                why = _told(reply.error.reason)
                logger.warning("round %s: no %s of node %s: %s", server_round, stage, node, why)
            elif node in contents:
                answers.setdefault(node, reply)
        return list(answers.values())

    def _delivers(
        self, config: Config, server_round: int, sender: Member, to: Member | None, size: int
    ) -> bool:
        if self._network is None:
            return True
        if self._links is None:
            self._links = _native.Links(config._resolved)
        receiver = None if to is None else to.partition
        return self._links.delivers(server_round, sender.partition, receiver, max(size, 0))

    def _reply(self, cohort: list[tuple[Member, Message]], mean: np.ndarray[Any, Any]) -> Message:
        """What the strategy inside sees: one client with all examples, which trained to the mean."""
        metrics = self._mean([(member.examples, reply) for member, reply in cohort])
        reply = cohort[0][1]
        arrays = str(getattr(self.strategy, "arrayrecord_key", "arrays"))
        reply.content = RecordDict({arrays: self._moved(mean), "metrics": metrics})
        return reply

    def _moved(self, mean: np.ndarray[Any, Any]) -> ArrayRecord:
        """The model after a step of `mean`."""
        arrays = {}
        start = 0
        for name, array in self._model().items():
            old = array.numpy()
            new = old + mean[start : start + old.size].reshape(old.shape)
            start += old.size
            # The mean of whole numbers is none, in Flower too.
            arrays[name] = Array(np.asarray(new, dtype=old.dtype if old.dtype.kind == "f" else np.float64))
        return ArrayRecord(arrays)

    def _mean(self, replies: list[tuple[float, Message]]) -> MetricRecord:
        """The mean of the metrics, weighted by examples, and the number of these."""
        examples = sum(count for count, _ in replies)
        means: dict[str, Any] = {}
        records = [(count, reply.content.metric_records) for count, reply in replies]
        for count, found in records:
            for key, value in (item for record in found.values() for item in record.items()):
                if key != self._weighted_by:
                    part = np.asarray(value, dtype=np.float64) * (count / examples)
                    means[key] = means[key] + part if key in means else part
        mean = MetricRecord({key: value.tolist() for key, value in means.items()})
        mean[self._weighted_by] = int(examples) if float(examples).is_integer() else examples
        return mean

    def _model(self) -> ArrayRecord:
        assert self._arrays is not None, "Strategy.start calls configure_train before aggregate_train"
        return self._arrays

    def _note(self, server_round: int, decoded: bool, played: _Round, cohort: int, seconds: float) -> None:
        outcome = "recovered" if decoded else f"outage ({played.reason})"
        logger.info("round %s: %s, %s sums of %s clients", server_round, outcome, played.arrivals, cohort)
        if self._out is not None:
            row = (
                server_round,
                "recovered" if decoded else "outage",
                played.reason or "",
                cohort,
                played.arrivals,
                played.bytes_shares,
                played.bytes_sums,
                f"{seconds:.6f}",
            )
            with self._out.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)


def _table(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "rounds.csv"
    try:
        with table.open("x", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(_COLUMNS)
    except FileExistsError:
        raise Error(f"out: {table} is there already; give another folder") from None
    return table


def _told(text: str | None) -> str:
    """What a node says, as it may stand in a line of a log."""
    last = (text or "no reason given").strip().splitlines()[-1]
    return "".join(c if c.isprintable() else "?" for c in last)[:200]
