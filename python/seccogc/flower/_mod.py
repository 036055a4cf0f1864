"""The mod of a `ClientApp`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.app import Error as ErrorReply

from seccogc import _native
from seccogc._config import Config
from seccogc._errors import Error
from seccogc.flower._roster import (
    KEY,
    LEAST,
    SHARES,
    SUM,
    VERSION,
    Member,
    configured,
    logger,
    masked,
    raw,
    sign,
    verify,
    weights,
)

ClientAppCallable: TypeAlias = Callable[[Message, Context], Message]

#: The update of a client between the exchanges.
UPDATE = "seccogc.update"
#: The code of an error with which a node refuses: Flower's own for what is not its own.
REFUSED = 0


def seccogc_mod(msg: Message, ctxt: Context, call_next: ClientAppCallable) -> Message:
    """The mod of a `ClientApp` for a server with `SecCoGc`: `ClientApp(mods=[seccogc_mod])`.

    It stands before mods that change the update. Messages that are not for training pass; a training message
    of a server without `SecCoGc` is refused, lest the update leave the node in the clear. Whatever is refused
    is answered with an error of one line.
    """
    if KEY not in msg.content.config_records:
        if msg.metadata.message_type.partition(".")[0] != "train":
            return call_next(msg, ctxt)
        rule = "the strategy of the server is not in SecCoGc, and this node sends no update in the clear"
        return _refuse(msg, rule)
    order = msg.content.config_records.pop(KEY)
    try:
        match order.get("stage"):
            case "train":
                return _train(msg, ctxt, call_next, order)
            case "share":
                return _share(msg, ctxt, order)
            case "sum":
                return _sum(msg, ctxt)
            case other:
                raise Error(f"an exchange {other!r} that does not exist")
    except Error as error:
        _forget(ctxt)
        return _refuse(msg, str(error))


def _refuse(msg: Message, rule: str) -> Message:
    logger.warning("%s", rule)
    return Message(ErrorReply(REFUSED, rule), reply_to=msg)


def _forget(ctxt: Context) -> None:
    for key in (KEY, UPDATE):
        if key in ctxt.state:
            del ctxt.state[key]


def _train(msg: Message, ctxt: Context, call_next: ClientAppCallable, order: ConfigRecord) -> Message:
    _forget(ctxt)
    weighted_by, round = str(order["weighted-by"]), _whole(order["round"])
    _, record = _only(msg.content.array_records, "ArrayRecord", "the server's message")
    before = dict(record.items())
    model = _digest(before)
    # Mods and the training function see what they see without this one.
    reply = call_next(msg, ctxt)
    if reply.has_error():
        return reply
    training = "the reply of the training function"
    _, after = _only(reply.content.array_records, "ArrayRecord", training)
    metrics_key, metrics = _only(reply.content.metric_records, "MetricRecord", training)
    if weighted_by not in metrics:
        raise Error(f"{training} has no `{weighted_by}` in its MetricRecord")
    update = _difference(before, after)
    keys = _native.KeyPair()
    entry = json.dumps(
        {
            "version": VERSION,
            "run": msg.metadata.run_id,
            "round": round,
            "public": keys.public().hex(),
            "examples": metrics[weighted_by],
            "coordinates": update.size,
            "partition": ctxt.node_config.get("partition-id", -1),
            "partitions": ctxt.node_config.get("num-partitions", 0),
        }
    )
    Member.read([entry, "", ""])
    signer, signature = sign(ctxt, entry)
    ctxt.state[KEY] = ConfigRecord({"stage": "train", "keys": keys.stored(), "model": model, "entry": entry})
    ctxt.state[UPDATE] = ArrayRecord({"update": raw(update.tobytes(), "update")})
    content = RecordDict({KEY: ConfigRecord({"entry": entry, "signer": signer, "signature": signature})})
    if order["metrics"] == "mean":
        content[metrics_key] = metrics
    reply.content = content
    return reply


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise Error(f"{value!r} is no whole number")
    return value


def _digest(model: Mapping[str, Array]) -> bytes:
    """Of a model's names, types, shapes and numbers, in order: all of a cohort train from the same one."""
    digest = hashlib.sha256()
    for name, array in model.items():
        form = [name, array.dtype, list(array.shape), array.stype, len(array.data)]
        digest.update(json.dumps(form).encode())
        digest.update(array.data)
    return digest.digest()


def _difference(
    before: Mapping[str, Array], after: Mapping[str, Array]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    if set(before) != set(after):
        odd = sorted(set(before) ^ set(after))[0]
        raise Error(f"the array `{odd}` is not in both the model and the reply of the training function")
    arrays = {name: (_numbers(name, old), _numbers(name, after[name])) for name, old in before.items()}
    update = np.empty(sum(old.size for old, _ in arrays.values()), dtype="<f4")
    start = 0
    for name, (old, new) in arrays.items():
        if old.shape != new.shape:
            shapes = f"{old.shape} in the model and {new.shape} in the reply"
            raise Error(f"the array `{name}` has the shape {shapes}")
        part = update[start : start + old.size].reshape(old.shape)
        # Whole numbers and bools have no difference of their own kind, and small floats too coarse a one.
        kind = old.dtype if old.dtype in (np.float32, np.float64) else np.float64
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(new, old, out=part, dtype=kind, casting="unsafe")
        start += old.size
    if not np.isfinite(update).all():
        place = int(np.flatnonzero(~np.isfinite(update))[0])
        raise Error(f"the update is not finite at coordinate {place}; nothing is sent")
    return update


def _numbers(name: str, array: Array) -> np.ndarray[Any, Any]:
    try:
        numbers = array.numpy()
    except (TypeError, ValueError):
        raise Error(f"the array `{name}` is not in NumPy's format") from None
    if numbers.dtype.kind not in "fiub":
        rule = f"has the type {numbers.dtype}; floats, whole numbers and bools have a mean"
        raise Error(f"the array `{name}` {rule}")
    return numbers


def _share(msg: Message, ctxt: Context, order: ConfigRecord) -> Message:
    seat = _seat(msg, ctxt, _bytes(order.get("roster")))
    shares = {str(place): raw(sealed, "sealed") for place, sealed in seat.shares().items()}
    return Message(RecordDict({KEY: ArrayRecord(shares)}), reply_to=msg)


def _sum(msg: Message, ctxt: Context) -> Message:
    seat = _seat(msg, ctxt, None)
    boxes = msg.content.array_records.get(SHARES, ArrayRecord())
    try:
        arrived = {int(place): array.data for place, array in boxes.items()}
        total, refused = seat.sum(arrived)
    except (ValueError, OverflowError) as problem:
        raise problem if isinstance(problem, Error) else Error("shares that are malformed") from None
    _forget(ctxt)
    said = [f"of client {place + 1}: {rule}" for place, rule in refused]
    for line in said:
        logger.warning("a share was refused %s", line)
    content = RecordDict({KEY: ConfigRecord({"refused": said})})
    if total is not None:
        content[SUM] = ArrayRecord({"sum": raw(total, "sum")})
    return Message(content, reply_to=msg)


def _seat(msg: Message, ctxt: Context, roster: Any) -> _native.Seat:
    """The client in the round of a roster, at `share` the server's, later the one that it was shown then."""
    state = ctxt.state.config_records.get(KEY)
    stage = "sum" if roster is None else "share"
    if state is None or state["stage"] != ("share" if roster is None else "train"):
        raise Error(f"this node has nothing to answer a `{stage}` with, or has answered it")
    # Before anything else: a roster that is refused has had its answer too.
    state["stage"] = stage
    entry = str(state["entry"])
    own = Member.read([entry, "", ""])
    _once(ctxt, own, stage)
    roster = _bytes(state["roster"] if roster is None else roster)
    state["roster"] = roster
    try:
        told = json.loads(roster)
        config = _allowed(ctxt, told["protocol"], _whole(told["clients"]), _whole(told["seed"]))
        cohort = [Member.read(said) for said in told["members"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise problem if isinstance(problem, Error) else Error("a roster that is malformed") from None
    least = _whole(ctxt.node_config.get("seccogc-least", LEAST))
    if len(cohort) < least:
        raise Error(f"a round of {len(cohort)} clients, and this node takes part in one of {least} or more")
    if msg.metadata.run_id != own.run:
        raise Error(f"a message of run {msg.metadata.run_id} about run {own.run}")
    for member in cohort:
        if (member.run, member.round) != (own.run, own.round):
            raise Error(f"the entry of another round in the roster of round {own.round}")
        if member.coordinates != own.coordinates:
            rule = f"an update of {member.coordinates} coordinates, and this node's has {own.coordinates}"
            raise Error(rule)
    if len({member.public for member in cohort}) < len(cohort):
        raise Error("a client that is in the roster twice")
    place = next((place for place, member in enumerate(cohort) if member.entry == entry), None)
    if place is None:
        raise Error("a roster without this node's own entry")
    verify(ctxt, cohort)
    model, keys = _bytes(state["model"]), _bytes(state["keys"])
    return _native.Seat(
        config._resolved,
        own.round,
        weights(cohort),
        place,
        [member.public for member in cohort],
        hashlib.sha256(b"seccogc flower\0" + model + roster).digest(),
        _native.KeyPair(keys),
        ctxt.state.array_records[UPDATE]["update"].data,
    )


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise Error("a value that is no bytes")
    return value


def _allowed(ctxt: Context, protocol: Any, clients: int, seed: int) -> Config:
    """The configuration of a round, if the node lets itself in for it."""
    config = configured(masked(protocol), clients, seed)
    section = config["protocol"]
    least = float(ctxt.node_config.get("seccogc-key-std", 0.0))
    std = section["key_std"]
    # Keys of a field are uniform.
    if section["arithmetic"] != "field" and not (std > 0 and std >= least):
        wanted = "more than 0" if least == 0 else f"{least} or more"
        raise Error(f"keys of key_std = {std}, and this node wants {wanted}")
    return config


def _once(ctxt: Context, own: Member, stage: str) -> None:
    """Notes durably that this exchange is answered, where the node has a place for it."""
    folder = ctxt.node_config.get("seccogc-dir")
    if folder is None:
        return
    note = Path(str(folder)) / f"{own.public.hex()}.{stage}"
    try:
        file = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.fsync(file)
        os.close(file)
    except FileExistsError:
        raise Error(f"{note}: this node has answered a `{stage}` with this key") from None
    except OSError as problem:
        raise Error(f"seccogc-dir: {note}: cannot write: {problem.strerror}") from None


def _only(records: Mapping[str, Any], what: str, who: str) -> tuple[str, Any]:
    if len(records) != 1:
        raise Error(f"{who} has {len(records)} {what}s where one is expected")
    return next(iter(records.items()))
