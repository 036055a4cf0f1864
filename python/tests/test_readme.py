"""The README's examples run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

SOURCE = os.environ.get("SECCOGC_SOURCE")


@pytest.mark.skipif(SOURCE is None, reason="away from the source")
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    text = (Path(SOURCE or "") / "python" / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    blocks += re.findall(r'^python -c "(.*)"$', text, re.M)
    assert len(blocks) > 2
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "recovery.png").read_bytes().startswith(b"\x89PNG")
    assert not re.search(r"\]\((?!https://)", text), "an index page has absolute links only"
