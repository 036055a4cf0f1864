"""What both sides say of a round: its clients, its configuration, and who signed what."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Array, Context

from seccogc._config import Config
from seccogc._errors import ConfigError, Error

#: The record of a message or a context that is ours.
KEY = "seccogc"
#: The record with the sealed shares for a client.
SHARES = "seccogc.shares"
#: The record with a client's sum.
SUM = "seccogc.sum"
#: Bytes that sealing adds to a share: links carry shares without them, as in a simulation.
SEAL = 16
#: The version of the conversation; others are refused.
VERSION = 1
#: Fewest clients of a round, unless a node says otherwise: of two, each knows the other's update.
LEAST = 3

# Flower shows what its own logger and those below it say.
logger = logging.getLogger("flwr.seccogc")


def raw(data: bytes, of: str) -> Array:
    """Bytes as they are: Flower neither parses nor compresses them, and cuts long ones."""
    return Array(dtype="uint8", shape=(len(data),), stype=f"{KEY}.{of}", data=data)


def configured(protocol: Mapping[str, Any], clients: int, seed: int, **sections: Any) -> Config:
    """The configuration of a round; leakage is a matter of simulations."""
    unmeasured = {"measure": False}
    return Config(clients=clients, seed=seed, protocol=dict(protocol), privacy=unmeasured, **sections)


@dataclass(frozen=True)
class Member:
    """A client of a cohort, as it said itself."""

    entry: str
    signer: str
    signature: str
    run: int
    round: int
    public: bytes
    examples: float
    coordinates: int
    partition: int
    partitions: int

    @classmethod
    def read(cls, said: Sequence[Any]) -> Member:
        """From its entry, who signed it, and the signature."""
        try:
            entry, signer, signature = map(str, said)
            values = json.loads(entry)
            member = cls(
                entry=entry,
                signer=signer,
                signature=signature,
                run=int(values["run"]),
                round=int(values["round"]),
                public=bytes.fromhex(values["public"]),
                examples=float(values["examples"]),
                coordinates=int(values["coordinates"]),
                partition=int(values["partition"]),
                partitions=int(values["partitions"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            raise Error("an entry that is malformed") from None
        if values.get("version") != VERSION:
            raise Error(f"an entry of version {values.get('version')}; this is version {VERSION}")
        if not (member.examples > 0 and math.isfinite(member.examples)):
            raise Error(f"a client with {member.examples} examples; the number must be above 0")
        if len(member.public) != 32 or member.coordinates < 1:
            raise Error("an entry that is malformed")
        return member


def weights(cohort: Sequence[Member]) -> list[float]:
    """n_k M / N."""
    total = sum(member.examples for member in cohort)
    return [member.examples * len(cohort) / total for member in cohort]


def masked(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol section with what can only be so."""
    section = {"kind": "sec-cogc", "keys": "pairwise", **protocol}
    if section["kind"] != "sec-cogc":
        rule = f"{section['kind']} is not played over Flower's relay; leave kind away or take sec-cogc"
        raise ConfigError(f"protocol.kind: {rule}", "protocol.kind", rule)
    return section


def _signed(entry: str) -> bytes:
    return f"seccogc flower {VERSION} entry\0{entry}".encode()


def _paths(ctxt: Context) -> tuple[Path, Path] | None:
    key, roster = ctxt.node_config.get("seccogc-key"), ctxt.node_config.get("seccogc-roster")
    if key is None and roster is None:
        return None
    if key is None or roster is None:
        rule = "go together: give both in the node's configuration, or none"
        raise Error(f"seccogc-key and seccogc-roster {rule}")
    return Path(str(key)), Path(str(roster))


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise Error(f"{key}: {path}: cannot read: {problem.strerror}") from None


_warned = False


def sign(ctxt: Context, entry: str) -> tuple[str, str]:
    """The raw public key and the signature of the node, in hexadecimal; empty where it has no key."""
    paths = _paths(ctxt)
    if paths is None:
        global _warned
        if not _warned:
            remedy = "give seccogc-key and seccogc-roster in the node's configuration"
            logger.warning("rosters are not signed, and the server could replace public keys; %s", remedy)
        _warned = True
        return "", ""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    data = _read(paths[0], "seccogc-key")
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        remedy = "`ssh-keygen -t ed25519 -N ''` makes one"
        raise Error(f"seccogc-key: {paths[0]}: no Ed25519 key without a passphrase; {remedy}")
    return key.public_key().public_bytes_raw().hex(), key.sign(_signed(entry)).hex()


def verify(ctxt: Context, cohort: Sequence[Member]) -> None:
    """Checks who signed the entries, where the node knows the others."""
    paths = _paths(ctxt)
    if paths is None:
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    known = _known(paths[1])
    seen = set()
    for place, member in enumerate(cohort, 1):
        if member.signer not in known:
            raise Error(f"client {place} of the roster is not in {paths[1]}")
        if member.signer in seen:
            raise Error(f"{known[member.signer]} is in the roster twice")
        seen.add(member.signer)
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(member.signer))
            key.verify(bytes.fromhex(member.signature), _signed(member.entry))
        except (InvalidSignature, ValueError):
            raise Error(f"the entry of client {place} was not signed by {known[member.signer]}") from None


def _known(path: Path) -> dict[str, str]:
    """The names of the nodes of a roster file, by their raw public keys."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    known = {}
    for number, line in enumerate(_read(path, "seccogc-roster").decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = load_ssh_public_key(line.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise Error(f"seccogc-roster: {path}: line {number}: no public key `ssh-ed25519 …`")
        _, _, *name = line.split(maxsplit=2)
        known[key.public_bytes_raw().hex()] = name[0].strip() if name else f"line {number}"
    return known
