"""What the tests share: the program that came with the package, and small configurations."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import seccogc

#: The console script of the same environment.
PROGRAM = shutil.which("seccogc", path=str(Path(sys.executable).parent)) or "seccogc"

#: Three rounds of a small model, in which links fail.
SMALL = """
rounds = 3
clients = 6

[data]
name = "mnist-subset"

[partition]
kind = "iid"

[model]
kind = "softmax"

[solver]
steps = 2
batch_size = 16

[network.client_client]
erasure = 0.1

[network.client_server]
erasure = 0.3

[protocol]
kind = "sec-cogc"
stragglers = 2
"""


def program(*args: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """What the command line answers."""
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=timeout)


def refusal(*args: str | Path) -> str:
    """The one line with which the command line refuses."""
    answer = program(*args)
    assert answer.returncode == 2, answer
    lines = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, answer.stderr
    return lines[0].removeprefix("error: ")


def without_times(csv: bytes | Path) -> list[list[str]]:
    """The cells of a table but for those that are wall-clock times."""
    text = (csv if isinstance(csv, bytes) else csv.read_bytes()).decode()
    header, *rows = [line.split(",") for line in text.splitlines()]
    times = {"seconds", "seconds_local", "seconds_coding", "seconds_evaluation"}
    kept = [i for i, name in enumerate(header) if name not in times]
    return [[line[i] for i in kept] for line in [header, *rows]]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders, which stay where a run ends early, among those of the tests."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The small configuration as a file."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> seccogc.Run:
    """A run of the small configuration by the command line."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "small.toml").write_text(SMALL)
    answer = program("train", folder / "small.toml", "--out", folder / "run", "--quiet")
    assert answer.returncode == 0, answer.stderr
    return seccogc.Run.open(folder / "run")
