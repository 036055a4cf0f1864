"""The errors of the package: each is one line, as the command line prints it."""

from __future__ import annotations

from typing import Any


class Error(ValueError):
    """What was asked for cannot be had; the line says what, where, which rule and what to do."""


class ConfigError(Error):
    """A configuration value breaks a rule.

    `key` is its dotted path, empty where there is none; `rule` is the broken rule and what to do.
    """

    def __init__(self, line: str, key: str = "", rule: str = "") -> None:
        super().__init__(line)
        self.key = key
        self.rule = rule

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.key, self.rule)


class FileError(Error):
    """A data, configuration or run file is damaged or of the wrong kind. `path` is the file."""

    def __init__(self, line: str, path: Any = "") -> None:
        super().__init__(line)
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.path)


class DivergedError(Error):
    """A run met what is not finite, in `round` (from 1); `what` is not finite."""

    def __init__(self, line: str, round: int = 0, what: str = "") -> None:
        super().__init__(line)
        self.round = round
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.round, self.what)
