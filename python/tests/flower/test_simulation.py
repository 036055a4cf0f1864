"""The same in Flower's own processes: minutes, and Ray."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs pip install 'flwr[simulation]'")

pytestmark = [pytest.mark.flower, pytest.mark.slow]

HERE = Path(__file__).parent

#: Flower keeps one simulation a process.
SCRIPT = """
import json, os, sys
sys.path.insert(0, {here!r})
import numpy as np
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp, strategy as strategies
from flwr.simulation import run_simulation
from helpers import app, model, record, step
from seccogc.flower import SecCoGc, seccogc_mod
from seccogc.flower._roster import KEY

def fails(msg, ctxt, call_next):
    ours = msg.content.config_records.get(KEY)
    at = "" if ours is None else str(ours["stage"])
    place = ctxt.node_config["partition-id"]
    {fail}
    return seccogc_mod(msg, ctxt, call_next)

server = ServerApp()

@server.main()
def main(grid: Grid, context: Context) -> None:
    start = {{name: array for name, array in model().items() if array.dtype == np.float32 and array.ndim}}
    result = SecCoGc({strategy}, {protocol!r}, out={out!r}, timeout=30.0, links={links!r}).start(
        grid, record(start), num_rounds={rounds}, timeout=60.0)
    np.savez({out!r} + "/model.npz", **{{name: array.numpy() for name, array in result.arrays.items()}})

backend = {{"client_resources": {{"num_cpus": 1, "num_gpus": 0.0}}, "init_args": {{"num_cpus": {nodes}}}}}
run_simulation(server, app(mods=[fails]), num_supernodes={nodes}, backend_config=backend)
"""


def simulate(tmp_path: Path, fail: str = "", **given: object) -> list[dict[str, str]]:
    values = {
        "strategy": "strategies.FedAvg(fraction_evaluate=0.0)",
        "protocol": {"stragglers": 1},
        "links": None,
        "rounds": 2,
        "nodes": 4,
        **given,
    }
    text = SCRIPT.format(here=str(HERE), out=str(tmp_path), fail=fail or "pass", **values)
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    env = {**os.environ, "PYTHONPATH": apps(HERE)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


def test_sums_are_the_weighted_mean_in_other_processes(tmp_path: Path) -> None:
    import numpy as np
    from helpers import model
    from test_rounds import near, plain

    rows = simulate(tmp_path)
    assert [(row["outcome"], row["arrivals"]) for row in rows] == [("recovered", "4")] * 2
    start = {name: array for name, array in model().items() if array.dtype == np.float32 and array.ndim}
    with np.load(tmp_path / "model.npz") as got:
        near(dict(got), plain(2, 4, start))


def test_fedadam_inside(tmp_path: Path) -> None:
    rows = simulate(tmp_path, strategy="strategies.FedAdam(fraction_evaluate=0.0)")
    assert [row["outcome"] for row in rows] == ["recovered"] * 2


def test_lost_shares_and_an_outage(tmp_path: Path) -> None:
    links = {"client_client": {"erasure": 0.2}, "client_server": {"erasure": 0.2}}
    rows = simulate(tmp_path, links=links, rounds=6, protocol={"stragglers": 1, "code": "cyclic-random"})
    outcomes = {row["outcome"] for row in rows}
    assert outcomes == {"recovered", "outage"}, rows
    assert all(int(row["arrivals"]) >= 3 for row in rows if row["outcome"] == "recovered")


@pytest.mark.parametrize(
    ("stage", "want"),
    [
        # Flower's simulation hands a worker that died further messages, and so loses some of them, too.
        ("train", {("recovered", "3"), ("outage", "3")}),
        ("share", {("outage", "4")}),
        ("sum", {("recovered", "4")}),
    ],
)
def test_nodes_whose_process_dies(tmp_path: Path, stage: str, want: set[tuple[str, str]]) -> None:
    """A worker is killed once, as by the system; Flower answers for it with errors, and the run goes on."""
    once = f"os.close(os.open({str(tmp_path / 'died')!r}, os.O_CREAT | os.O_EXCL)); os._exit(1)"
    fail = f"""if at == {stage!r} and place == 2:
        try: {once}
        except FileExistsError: pass"""
    rows = simulate(tmp_path, fail, rounds=4, protocol={"stragglers": 1, "code": "cyclic-random"})
    assert (rows[0]["outcome"], rows[0]["cohort"]) in want, rows
    # Ray may go on without a node or two; fewer than three are no cohort.
    assert len(rows) == 4
    later = [(row["outcome"], row["reason"], int(row["cohort"])) for row in rows[1:]]
    assert all(
        outcome == "recovered" or (reason == "too-few" and cohort < 3) for outcome, reason, cohort in later
    ), rows


def apps(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_the_example_app(tmp_path: Path) -> None:
    """`flwr run` of the app as users have it, in a home of its own."""
    source = Path(os.environ.get("SECCOGC_SOURCE", HERE.parents[2]))
    root = source / "examples" / "python" / "flower_app"
    programs = Path(sys.executable).parent
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    env = {**os.environ, "FLWR_HOME": str(tmp_path / "home"), "PYTHONPATH": apps(root), "PATH": path}
    out = tmp_path / "run"
    command = ["run", str(root), "--stream", "--federation-config", "num-supernodes=10"]
    command += ["--run-config", f'rounds=3 out="{out}"']
    # One of its own, which `flwr` finds, and which ends with the test.
    address = ["--control-api-address", "127.0.0.1:39093", "--host", "127.0.0.1", "--port", "39091"]
    link = [str(programs / "flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    link += ["--disable-runtime-dependency-installation"]
    with (tmp_path / "link.log").open("w") as log:
        superlink = subprocess.Popen([*link, *address], env=env, stdout=log, stderr=log, cwd=tmp_path)
        try:
            flwr = [str(programs / "flwr"), *command]
            done = subprocess.run(flwr, env=env, capture_output=True, text=True, timeout=500, cwd=tmp_path)
        finally:
            superlink.terminate()
            superlink.wait(60)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and (out / "rounds.csv").exists(), said[-3000:]
    with (out / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and any(row["outcome"] == "recovered" for row in rows), said[-3000:]
