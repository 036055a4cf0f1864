"""A relay in this process, and apps to play over it: what is tested is our code, not Flower's processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.app import Error as ErrorReply
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from seccogc.flower import seccogc_mod
from seccogc.flower._roster import KEY

RUN = 7


def model(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.normal(size=(13, 7)).astype(np.float32),
        "bias": rng.normal(size=7).astype(np.float64),
        "half": rng.normal(size=5).astype(np.float16),
        "scale": np.float32(rng.normal()),
        "batches": np.int64(100),
        "on": np.array([True, False]),
    }


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    from flwr.app import Array

    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def step(partition: int, round: int, old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What client `partition` makes of a model."""
    rng = np.random.default_rng([partition, round])
    new = {}
    for name, array in old.items():
        if array.dtype.kind == "f":
            new[name] = (array + 0.1 * rng.normal(size=array.shape)).astype(array.dtype)
        elif array.dtype.kind == "i":
            new[name] = array + partition
        else:
            new[name] = array
    return new


def examples(partition: int) -> int:
    return 10 * (partition + 1)


def app(
    train: Callable[[int, int, dict[str, np.ndarray]], dict[str, np.ndarray]] = step, mods: Any = None
) -> ClientApp:
    made = ClientApp(mods=[seccogc_mod] if mods is None else mods)

    @made.train()
    def trained(msg: Message, ctxt: Context) -> Message:
        config = msg.content["config"]
        partition = int(ctxt.node_config["partition-id"])
        old = {name: array.numpy() for name, array in msg.content["arrays"].items()}
        new = train(partition, int(config["server-round"]), old)
        metrics = MetricRecord(
            {"num-examples": examples(partition), "loss": float(partition), "pair": [1.0, float(partition)]}
        )
        return Message(RecordDict({"arrays": record(new), "metrics": metrics}), reply_to=msg)

    @made.evaluate()
    def evaluated(msg: Message, ctxt: Context) -> Message:
        return Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 1, "accuracy": 0.5})}), reply_to=msg
        )

    return made


class Relay(Grid):
    """`nodes` contexts with an app; `lost(stage, partition)` says when a node is killed before it answers."""

    def __init__(
        self,
        nodes: int,
        app: ClientApp,
        lost: Callable[[str, int, int], bool] = lambda stage, partition, round: False,
        node_config: Callable[[int], dict[str, Any]] = lambda partition: {},
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 1, 1
        self.app, self.lost = app, lost
        self.contexts = {
            # Node ids are in another order than partitions.
            1000 - partition: Context(
                run_id=RUN,
                node_id=1000 - partition,
                node_config={"partition-id": partition, "num-partitions": nodes, **node_config(partition)},
                state=RecordDict(),
                run_config={},
            )
            for partition in range(nodes)
        }
        #: Every message of either direction: (stage, node, to the node, content).
        self.seen: list[tuple[str, int, bool, RecordDict]] = []
        #: What is done to a message before the node gets it, and to a reply.
        self.meddle: Callable[[str, Message], Message] = lambda stage, message: message
        self.round = 0
        self.count = 0

    def partition(self, node: int) -> int:
        return int(self.contexts[node].node_config["partition-id"])

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            ours = message.content.config_records.get(KEY)
            stage = str(ours["stage"]) if ours is not None else "other"
            if ours is not None and "round" in ours:
                self.round = int(ours["round"])
            # Every node has messages of its own, as over a wire.
            content = RecordDict({key: value.copy() for key, value in message.content.items()})
            self.seen.append((stage, node, True, RecordDict(dict(content.items()))))
            self.count += 1
            own = Message(content, node, message.metadata.message_type, group_id=message.metadata.group_id)
            own.metadata.__dict__["_message_id"] = str(self.count)
            own = self.meddle(stage, own)
            if self.lost(stage, self.partition(node), self.round):
                continue
            replies.append(self.ask(stage, node, own))
        return replies

    def ask(self, stage: str, node: int, message: Message) -> Message:
        try:
            reply = self.app(message, self.contexts[node])
        except Exception as error:  # as a ClientApp's process does
            reply = Message(ErrorReply(2, repr(error)), reply_to=message)
        if reply.has_content():
            self.seen.append((stage, node, False, reply.content))
        return reply
