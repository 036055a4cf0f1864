from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias, final

__version__: str

_Hear: TypeAlias = Callable[[str], object] | None
_AnyPath: TypeAlias = str | PathLike[str]

@final
class Resolved:
    @property
    def folder(self) -> Path: ...
    def written(self) -> str: ...
    def toml(self) -> str: ...
    def values(self) -> str: ...

@final
class KeyPair:
    def __new__(cls, stored: bytes | None = None) -> KeyPair: ...
    def public(self) -> bytes: ...
    def stored(self) -> bytes: ...

@final
class Seat:
    def __new__(
        cls,
        config: Resolved,
        round: int,
        weights: list[float],
        place: int,
        public: list[bytes],
        context: bytes,
        keys: KeyPair,
        update: bytes,
    ) -> Seat: ...
    def shares(self) -> dict[int, bytes]: ...
    def sum(self, shares: dict[int, bytes]) -> tuple[bytes | None, list[tuple[int, str]]]: ...

@final
class Decoder:
    def __new__(cls, config: Resolved, round: int, weights: list[float], coordinates: int) -> Decoder: ...
    def admit(self, place: int, sum: bytes) -> None: ...
    def decode(self) -> tuple[tuple[list[int], bytes] | None, str | None]: ...

@final
class Links:
    def __new__(cls, config: Resolved) -> Links: ...
    def delivers(self, round: int, sender: int, receiver: int | None, bytes: int) -> bool: ...

@final
class Vector:
    def __new__(cls, length: int) -> Vector: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Aggregator:
    def __new__(cls, config: Resolved) -> Aggregator: ...
    def aggregate(self, round: int, updates: list[Vector], weights: list[float]) -> dict[str, Any]: ...
    def code(self) -> list[list[int]] | None: ...
    def scheme_of(self) -> dict[str, Any]: ...

def cli(args: list[str]) -> int: ...
def config(
    source: Resolved | Mapping[str, Any] | _AnyPath, folder: _AnyPath, sets: list[str], values: dict[str, Any]
) -> Resolved: ...
def explain(section: str) -> str: ...
def schema() -> str: ...
def set_threads(threads: int) -> None: ...
def train(
    config: Resolved,
    learner: object | None,
    device: str,
    out: _AnyPath,
    resume: bool,
    progress: _Hear,
    stop: Event | None,
) -> None: ...
def compare(
    config: Resolved,
    learner: object | None,
    seeds: list[int] | None,
    device: str,
    out: _AnyPath,
    progress: _Hear,
    stop: Event | None,
) -> list[tuple[str, int, Path]]: ...
def serve(
    config: Resolved, learner: object, out: _AnyPath, resume: bool, progress: _Hear, stop: Event | None
) -> None: ...
def join(
    server: str,
    name: str,
    learner: object,
    pki: _AnyPath,
    listen: str | None,
    patience: float,
    policy: _AnyPath | None,
    ledger: _AnyPath | None,
    stop: Event | None,
) -> None: ...
def pki_init(folder: _AnyPath, hosts: list[str]) -> None: ...
def pki_issue(folder: _AnyPath, name: str, hosts: list[str], days: int | None) -> None: ...
def pki_revoke(folder: _AnyPath, name: str) -> None: ...
def weights(run: _AnyPath) -> tuple[list[tuple[str, list[int]]], Vector]: ...
def recover(
    title: str,
    key: str,
    columns: list[tuple[str, Resolved]],
    stragglers: list[int],
    rounds: int | None,
    parameters: int | None,
    out: _AnyPath,
    progress: _Hear,
    stop: Event | None,
) -> bytes: ...
def plan(
    config: Resolved,
    attempts: list[int],
    rounds: int,
    parameters: int | None,
    progress: _Hear,
    stop: Event | None,
) -> bytes: ...
def audit(
    config: Resolved,
    coalition: str | None,
    all_coalitions: int,
    erasures: str,
    progress: _Hear,
    stop: Event | None,
) -> tuple[bytes, list[str], list[str], list[str]]: ...
def calibrate(config: Resolved, coalition: str | None, all_coalitions: int, stop: Event | None) -> bytes: ...
def privacy(
    config: Resolved, seeds: list[int] | None, device: str, out: _AnyPath, progress: _Hear, stop: Event | None
) -> bytes: ...
def attack(
    config: Resolved, device: str, out: _AnyPath, resume: bool, progress: _Hear, stop: Event | None
) -> bytes: ...
def sweep(
    config: Resolved,
    name: str,
    device: str,
    out: _AnyPath,
    resume: bool,
    shard: tuple[int, int] | None,
    jobs: int | None,
    progress: _Hear,
    stop: Event | None,
) -> bool: ...

_Examples: TypeAlias = tuple[bytearray, tuple[int, int, int, int], bytearray, int]

def data(config: Resolved) -> tuple[_Examples, _Examples]: ...
def shards(config: Resolved) -> list[list[int]]: ...
def fetch(name: str, dir: _AnyPath | None, quiet: bool) -> str: ...
def draw(run: _AnyPath, title: str) -> None: ...
def export(run: _AnyPath, extension: str, best: bool) -> bytes: ...
