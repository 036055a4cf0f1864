"""One server and its clients as processes of their own, with models of Python."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import seccogc
from seccogc import _native, pki

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(_native, "join"), reason="a build without deployment"),
]

NAMES = ["ann", "bob", "cleo", "dan"]

SERVER = """
    import sys, numpy as np, seccogc
    folder, out, how = sys.argv[1:4]

    def evaluate(params):
        return {"accuracy": 0.5, "first": float(params["w"][0])}

    place = {"out": out} if how == "new" else {"resume": out}
    start = {"w": np.full(6, 8, np.float32)}
    run = seccogc.serve(f"{folder}/run.toml", start=start, evaluate=evaluate, **place)
    print("served", run.rounds.height, flush=True)
"""

CLIENT = """
    import logging, sys, time, numpy as np, seccogc
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    folder, port, name, fails, shape = sys.argv[1:6]

    def train(job):
        if job.round == int(fails):
            raise RuntimeError("no batch")
        time.sleep(0.1)
        job.params += (job.client - job.params) / 2
        return {"loss": 1.0}

    start = {"w": np.zeros(int(shape), np.float32)}
    seccogc.join(f"localhost:{port}", name, train=train, examples=1 + (name == "dan"), start=start,
                 pki=f"{folder}/pki", policy=f"{folder}/policy.toml", patience=30)
    print("over", flush=True)
"""


class Trial:
    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        with socket.socket() as own:
            own.bind(("localhost", 0))
            self.port = own.getsockname()[1]
        pki.init(folder / "pki", hosts=["localhost"])
        for name in NAMES:
            pki.issue(name, folder / "pki")
        (folder / "run.toml").write_text(
            textwrap.dedent(f"""
            rounds = {rounds}
            clients = 4
            [protocol]
            kind = "sec-cogc"
            keys = "pairwise"
            stragglers = 1
            [evaluation]
            every = 1
            [deploy]
            listen = "localhost:{self.port}"
            names = {NAMES}
            share_deadline = 5
            upload_deadline = 8
            gather = 2
            """)
        )
        (folder / "policy.toml").write_text("least_key_ratio = 0\nleast_cohort = 3\n")
        for name, text in [("server", SERVER), ("client", CLIENT)]:
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, script: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.folder / f"{script}.py"), str(self.folder), *map(str, args)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.processes.append(process)
        return process

    def client(self, name: str, fails: int = 0, shape: int = 6) -> subprocess.Popen[str]:
        return self.start("client", self.port, name, fails, shape)


@pytest.fixture
def trial(tmp_path: Path, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    own = Trial(tmp_path, request.param)
    yield own
    for process in own.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("trial", [4], indirect=True)
def test_three_rounds_with_models_of_python(trial: Trial) -> None:
    server = trial.start("server", trial.folder / "out", "new")
    clients = [trial.client(name) for name in NAMES]
    output, _ = server.communicate(timeout=90)
    assert server.returncode == 0 and "served 4" in output, output
    for client in clients:
        said, _ = client.communicate(timeout=30)
        assert client.returncode == 0 and "over" in said, said
    run = seccogc.Run.open(trial.folder / "out")
    assert run.rounds["outcome"].tolist() == ["recovered"] * 4
    # Targets 0, 1, 2 and twice 3: half of the way to 9/5 in every round, from 8.
    want = [8.0]
    for _ in range(4):
        want.append((want[-1] + 9 / 5) / 2)
    assert np.abs(run.rounds["test_first"] - want[1:]).max() < 1e-5
    assert np.abs(run.params["w"] - want[-1]).max() < 1e-5


@pytest.mark.parametrize("trial", [8], indirect=True)
def test_a_client_is_killed_one_fails_and_the_server_goes_on(trial: Trial) -> None:
    server = trial.start("server", trial.folder / "out", "new")
    clients = {name: trial.client(name, fails=3 if name == "bob" else 0) for name in NAMES}
    said, _ = clients["bob"].communicate(timeout=60)
    assert (
        clients["bob"].returncode == 1 and "RuntimeError: no batch" in said and "in round 3, client 1" in said
    )
    clients["dan"].send_signal(signal.SIGKILL)
    clients["dan"].wait()
    clients["again"] = trial.client("dan")
    output, _ = server.communicate(timeout=180)
    assert server.returncode == 0 and "served 8" in output, output
    outcomes = seccogc.Run.open(trial.folder / "out").rounds["outcome"].tolist()
    assert outcomes[:2] == ["recovered"] * 2 and outcomes.count("recovered") >= 3, outcomes


@pytest.mark.parametrize("trial", [2], indirect=True)
def test_another_model_is_refused_in_one_line(trial: Trial) -> None:
    trial.start("server", trial.folder / "out", "new")
    client = trial.client("ann", shape=7)
    said, _ = client.communicate(timeout=60)
    line = "tensor 1 of its model is w [6], and w [7] here; begin with the server's model"
    assert client.returncode == 1 and f"the run of localhost:{trial.port}: {line}" in said, said


@pytest.mark.parametrize("trial", [2], indirect=True)
def test_an_interrupt_ends_a_client_that_waits(trial: Trial) -> None:
    client = trial.client("ann")
    time.sleep(3)
    client.send_signal(signal.SIGINT)
    said, _ = client.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
