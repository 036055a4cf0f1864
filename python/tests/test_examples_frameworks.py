"""The examples with PyTorch, JAX, scikit-learn and Jupyter run, and show what they say."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

SOURCE = os.environ.get("SECCOGC_SOURCE")
EXAMPLES = Path(SOURCE or "") / "examples" / "python"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(SOURCE is None, reason="away from the source")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last(found: dict[str, Any], name: str, column: str) -> float:
    """The last value of a column of rounds.csv in a contender's run."""
    return float(found["result"].runs[name, 1].rounds[column][-1])


def test_sklearn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    found = runpy.run_path(str(EXAMPLES / "sklearn_sgd.py"))
    # Plain averaging never learns the digit of the worst uplink, and exact sums do.
    assert last(found, "SecCoGC", "test_worst_recall") > 0.5 > last(found, "FedAvg", "test_worst_recall")
    assert capsys.readouterr().out.count("recovered") == 3
    assert (here / "sklearn.png").read_bytes().startswith(b"\x89PNG")


def test_jax(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jax")
    found = runpy.run_path(str(EXAMPLES / "jax_mlp.py"))
    assert last(found, "SecCoGC", "test_rmse") < 0.06
    assert "200 rounds" in capsys.readouterr().out


def test_resnet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("pandas")
    found = runpy.run_path(str(EXAMPLES / "resnet.py"))
    assert last(found, "SecCoGC", "test_accuracy") > last(found, "FedAvg", "test_accuracy")
    assert "test_worst_recall" in capsys.readouterr().out
    assert (here / "resnet.png").read_bytes().startswith(b"\x89PNG")


def test_lora(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    found = runpy.run_path(str(EXAMPLES / "lora.py"))
    before, after = found["before"], found["run"].rounds["test_perplexity"][-1]
    assert after < 0.9 * before
    adapters = sum(value.size for value in found["start"](found["adapters"]).values())
    assert found["run"].info["parameters"] == adapters
    assert sum(value.size for value in found["whole"].values()) > 20 * adapters
    assert "whole model" in capsys.readouterr().out


def test_the_notebook(here: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    path = EXAMPLES / "comparison.ipynb"
    kept = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 200_000, "its outputs are kept small"
    again = nbformat.from_dict(kept)
    client.NotebookClient(again, timeout=600).execute()
    for own, new in zip(kept.cells, again.cells, strict=True):
        kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in (own, new)]
        assert kinds[0] == kinds[1], own.source
