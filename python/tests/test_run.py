"""Run directories of the command line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import seccogc
from seccogc import Run, Table


def test_a_run_is_read(played: Run, tmp_path: Path) -> None:
    assert played.rounds["round"].tolist() == [1, 2, 3]
    assert played.rounds.to_csv() == (played.path / "rounds.csv").read_bytes()
    assert played.clients.height == 18
    assert played.config["clients"] == 6
    assert 0 <= played.recovered <= 1
    assert played.recovered == np.mean(played.rounds["outcome"] == "recovered")
    assert played.reached is None and not played.diverged
    assert played.leakage.height > 0
    assert "</svg>" in played.figure.svg and "</svg>" in played._repr_html_()
    assert {value.shape for value in played.params.values()} == {(10, 784), (10,)}
    played.export(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 1000
    with pytest.raises(seccogc.Error, match="no kind of model file `pt`"):
        played.export(tmp_path / "model.pt")
    again = pickle.loads(pickle.dumps(played))
    assert again.path == played.path and again.rounds.to_csv() == played.rounds.to_csv()
    assert "sec-cogc" in repr(played)


def test_there_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Run.open(tmp_path)


def test_a_target_is_reached_in_a_round(tmp_path: Path, small: Path) -> None:
    from conftest import program

    answer = program("train", small, "--set", "evaluation.target=0.1", "--set", "evaluation.every=1",
                     "--out", tmp_path / "run", "--quiet")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    run = Run.open(tmp_path / "run")
    rows = run.rounds
    assert run.reached == rows["round"][np.argmax(rows["test_accuracy"] >= 0.1)]
    assert isinstance(rows, Table)
