"""The same in Flower's own processes: minutes, and Ray."""

from __future__ import annotations

import csv
import json
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
from seccogc.flower import KEY, SecCoGc, seccogc_mod

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

run_simulation(server, app(mods=[fails]), num_supernodes={nodes},
    backend_config={{"client_resources": {{"num_cpus": 1, "num_gpus": 0.0}}, "init_args": {{"num_cpus": 2}}}})
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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
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
    rows = simulate(tmp_path, links=links, rounds=6)
    outcomes = {row["outcome"] for row in rows}
    assert outcomes == {"recovered", "outage"}, rows
    assert all(int(row["arrivals"]) >= 3 for row in rows if row["outcome"] == "recovered")


@pytest.mark.parametrize(
    ("stage", "want"),
    [("train", ("recovered", "3")), ("share", ("outage", "4")), ("sum", ("recovered", "4"))],
)
def test_nodes_whose_process_dies(tmp_path: Path, stage: str, want: tuple[str, str]) -> None:
    """A worker is killed as by the system; Flower answers for it with an error, or not at all."""
    fail = f"if at == {json.dumps(stage)} and place == 2: os._exit(1)"
    rows = simulate(tmp_path, fail, rounds=1, protocol={"stragglers": 1, "code": "cyclic-random"})
    assert [(row["outcome"], row["cohort"]) for row in rows] == [want]


def test_the_example_app(tmp_path: Path) -> None:
    """`flwr run` of the app as users have it, in a home of its own."""
    source = Path(os.environ.get("SECCOGC_SOURCE", HERE.parents[2]))
    root = source / "examples" / "python" / "flower_app"
    env = {**os.environ, "FLWR_HOME": str(tmp_path / "home"), "PYTHONPATH": str(root)}
    flwr = Path(sys.executable).with_name("flwr")
    out = tmp_path / "run"
    config = f'rounds=3 out="{out}"'
    done = subprocess.run(
        [str(flwr), "run", str(root), "--stream", "--run-config", config],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        cwd=tmp_path,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    with (out / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and any(row["outcome"] == "recovered" for row in rows), said[-3000:]
