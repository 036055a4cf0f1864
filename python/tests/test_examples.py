"""The examples run."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

SOURCE = os.environ.get("SECCOGC_SOURCE")


@pytest.mark.skipif(SOURCE is None, reason="away from the source")
@pytest.mark.parametrize("name", ["audit", "network"])
def test_an_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(Path(SOURCE or "") / "examples" / "python" / f"{name}.py"))
    assert "server" in capsys.readouterr().out
