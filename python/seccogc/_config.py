"""Configurations."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

from seccogc import _native

PathLike: TypeAlias = Union[str, "os.PathLike[str]"]
ConfigLike: TypeAlias = Union["Config", str, "os.PathLike[str]", Mapping[str, Any]]

#: The folder of the configurations that come with the package, such as `mnist_compare.toml`.
configs = Path(__file__).parent / "configs"


class Config:
    """A configuration, immutable and checked.

    `source` is a TOML file (paths in it are relative to it), a mapping, another configuration, or None for
    the defaults. `sets` are `"key.path=value"` as `--set` of the command line, with a TOML value, where a
    bare word is a string. Keywords are sections and keys: `protocol={"kind": "sec-cogc", "stragglers": 7}`;
    what they do not say stays as it is. Where one of them chooses another kind of a section, the keys that
    both kinds have stay, and the others fall away with a warning.

    Equal by content, picklable; `config["protocol.stragglers"]` is the value at a key.

    Raises `ConfigError` with the one line of the command line.
    """

    __slots__ = ("_path", "_resolved", "_toml")

    _path: str | None
    _resolved: _native.Resolved
    _toml: str

    def __init__(self, source: ConfigLike | None = None, /, *sets: str, **sections: Any) -> None:
        path, folder = None, Path.cwd()
        of: Any = {} if source is None else source
        if isinstance(source, Config):
            path, of, folder = source._path, source._resolved, source._resolved.folder
        elif not isinstance(of, Mapping):
            path = of = os.fspath(of)
            folder = Path(os.path.abspath(path)).parent
        self._set(_native.config(of, folder, list(sets), sections), path)

    def _set(self, resolved: _native.Resolved, path: str | None) -> None:
        put = object.__setattr__
        put(self, "_resolved", resolved)
        put(self, "_toml", resolved.toml())
        put(self, "_path", path)

    def replace(self, *sets: str, **sections: Any) -> Config:
        """This configuration with other values, given as to `Config`."""
        return Config(self, *sets, **sections)

    def to_toml(self) -> str:
        """As the file of a run: every default written out, paths that hold anywhere; a sweep as written."""
        return self._toml

    def to_dict(self) -> dict[str, Any]:
        """As nested dictionaries with every default written out, and with paths that hold anywhere."""
        return tomllib.loads(self._resolved.values())

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema of all keys."""
        import json

        schema: dict[str, Any] = json.loads(_native.schema())
        return schema

    @staticmethod
    def explain(section: str = "") -> str:
        """Every key with its default, type, range and meaning, or those of a section, or one of them."""
        return _native.explain(section)

    @property
    def path(self) -> Path | None:
        """The file that it was read from."""
        return None if self._path is None else Path(self._path)

    def __getitem__(self, key: str) -> Any:
        value: Any = self.to_dict()
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise KeyError(key)
            value = value[part]
        return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Config never changes; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Config never changes; use replace()")

    def __eq__(self, other: object) -> bool:
        return self._toml == other._toml if isinstance(other, Config) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._toml)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._resolved.written(), self._resolved.folder, self._path)

    def __repr__(self) -> str:
        source = "" if self._path is None else f"{self._path}: "
        values = self.to_dict()
        kind = values.get("protocol", {}).get("kind", "")
        numbers = ", ".join(f"{key} {values[key]}" for key in ("clients", "rounds", "seed") if key in values)
        return f"<Config {source}{kind}, {numbers}>"


def _restore(written: str, folder: Path, path: str | None) -> Config:
    config = object.__new__(Config)
    config._set(_native.config(tomllib.loads(written), folder, [], {}), path)
    return config


def name_of(config: Config) -> str:
    """What results of a configuration are called."""
    return "run" if config.path is None else config.path.stem


def seeds_of(config: Config, seeds: int | Sequence[int]) -> list[int]:
    """As many seeds from the configuration's own on, or these."""
    if isinstance(seeds, int):
        first = int(config["seed"])
        return [(first + n) % 2**64 for n in range(seeds)]
    return [int(seed) for seed in seeds]
