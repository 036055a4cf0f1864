"""Bars and functions that hear of the work."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from seccogc._progress import Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def message(place: int, **more: Any) -> str:
    return json.dumps({"place": place, "total": 4, "text": "what it is", **more})


def test_a_terminal_has_a_bar_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Reporter(None, "plan") as reporter:
        assert reporter.hear is not None
        reporter.hear(message(2))
        reporter.hear(message(4))
    shown = terminal.getvalue()
    assert "plan ━━━━━━━━━━━━──────────── 2/4" in shown and "━ 4/4" in shown and shown.endswith("\r\x1b[K")


def test_a_pipe_has_none_but_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert Reporter(None, "plan").hear is None
    assert Reporter(False, "plan").hear is None
    assert Reporter(True, "plan").hear is not None


def test_a_function_hears_rows_or_messages() -> None:
    heard: list[dict[str, Any]] = []
    with Reporter(heard.append, "train") as reporter:
        assert reporter.hear is not None
        reporter.hear(message(1, row={"round": 1}))
        reporter.hear(message(2))
    assert heard == [{"round": 1}, {"place": 2, "total": 4, "text": "what it is"}]


def test_a_notebook_has_one_picture_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    pictures: list[str] = []

    class Handle:
        def update(self, content: str) -> None:
            pictures.append(content)

    def display(content: str, display_id: bool) -> Handle:
        pictures.append(content)
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    shown = types.ModuleType("IPython.display")
    shown.HTML, shown.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    with Reporter(None, "plan") as reporter:
        assert reporter.hear is not None
        reporter.hear(message(1, text="<b>"))
        reporter.hear(message(4))
    assert 'value="1" max="4"' in pictures[0] and "&lt;b&gt;" in pictures[0]
    assert len(pictures) == 3 and pictures[-1] == ""
