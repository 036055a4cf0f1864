"""Progress: a bar on a terminal or in a notebook, or a function of the user's."""

from __future__ import annotations

import html
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

#: True: a bar. False: nothing. None: a bar on a terminal and in a notebook. A function: is called with what
#: is known, and ends the work by raising.
Progress: TypeAlias = bool | Callable[[dict[str, Any]], object] | None

#: Seconds between two pictures of a bar.
PERIOD = 0.1


class Reporter:
    """What hears of the work, as long as it lasts.

    `hear` is for the native side: it takes a message as JSON, or is None where nobody listens. A message has
    `place`, `total` and `text`; where it has a `row` as well, that is what the user's function is called
    with.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self._function = progress if callable(progress) else None
        self._bar: _Bar | None = None
        if self._function is None and progress is not False:
            notebook = _is_notebook()
            if progress or notebook or sys.stderr.isatty():
                self._bar = (_Notebook if notebook else _Terminal)(label)
        listens = self._function is not None or self._bar is not None
        self.hear: Callable[[str], object] | None = self._hear if listens else None

    def _hear(self, message: str) -> object:
        known: dict[str, Any] = json.loads(message)
        if self._function is not None:
            return self._function(known.get("row", known))
        if self._bar is not None:
            self._bar.show(known.get("place", 0), known.get("total", 0), known.get("text", ""))
        return None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Bar:
    def __init__(self, label: str) -> None:
        self._label = label
        self._start = time.monotonic()
        self._shown = 0.0

    def show(self, place: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self._shown >= PERIOD or (total and place >= total):
            self._shown = now
            self._draw(place, total, text, now - self._start)

    def close(self) -> None:
        raise NotImplementedError

    def _draw(self, place: int, total: int, text: str, seconds: float) -> None:
        raise NotImplementedError


class _Terminal(_Bar):
    WIDTH = 24

    def _draw(self, place: int, total: int, text: str, seconds: float) -> None:
        import shutil

        columns = shutil.get_terminal_size().columns - 1
        counted = ""
        if total:
            done = self.WIDTH * place // total
            counted = f" {'━' * done}{'─' * (self.WIDTH - done)} {place}/{total}"
        line = f"{self._label}{counted} {seconds:.0f} s {text}"
        sys.stderr.write("\r\x1b[K" + line[:columns])
        sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _Notebook(_Bar):
    _handle: Any = None

    def _draw(self, place: int, total: int, text: str, seconds: float) -> None:
        bar = f'<progress value="{place}" max="{total}"></progress> {place}/{total} ' if total else ""
        self._update(f"<div>{html.escape(self._label)} {bar}{seconds:.0f} s {html.escape(text)}</div>")

    def close(self) -> None:
        if self._handle is not None:
            self._update("")

    def _update(self, content: str) -> None:
        # It is there where a notebook is.
        ipython: Any = import_module("IPython.display")
        picture = ipython.HTML(content)
        if self._handle is None:
            self._handle = ipython.display(picture, display_id=True)
        else:
            self._handle.update(picture)
