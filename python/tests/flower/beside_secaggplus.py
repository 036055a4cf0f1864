"""SecCoGC beside Flower's own SecAgg+ and plain FedAvg, each in `run_simulation` in a process of its own.

    python python/tests/flower/beside_secaggplus.py [--nodes 10] [--coordinates 1663370] [--rounds 4]

Clients train for no time: their update is noise. For each it prints the median time from the start of a round
to the start of the next, the peak memory of all processes together (proportional set size), and the largest
distance of a coordinate of the last model from the weighted mean. SecAgg+ is there for the older API alone.
Both survive three lost clients of ten: SecAgg+ with seven shares of which four suffice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

KINDS = ("fedavg", "seccogc-f32", "seccogc-f64", "secagg+")


def noise(partition: int, coordinates: int) -> np.ndarray:
    return 0.01 * np.random.default_rng(partition).standard_normal(coordinates, dtype=np.float32)


def examples(partition: int) -> int:
    return 10 + partition


def play(kind: str, nodes: int, coordinates: int, rounds: int, out: Path) -> None:
    """One run; writes when each round began, and the last model's largest error."""
    from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    began: list[float] = []
    models: list[np.ndarray] = []
    cpus = os.cpu_count() or 1
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": cpus}}

    if kind == "secagg+":
        from flwr.client import NumPyClient
        from flwr.client.mod import secaggplus_mod
        from flwr.common import Context as OlderContext
        from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
        from flwr.server import LegacyContext, ServerConfig
        from flwr.server.strategy import FedAvg as OlderFedAvg
        from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

        class Client(NumPyClient):
            def __init__(self, partition: int) -> None:
                self.partition = partition

            def fit(self, parameters, config):  # type: ignore[no-untyped-def]
                return [parameters[0] + noise(self.partition, coordinates)], examples(self.partition), {}

        def client_fn(context: OlderContext):  # type: ignore[no-untyped-def]
            return Client(int(context.node_config["partition-id"])).to_client()

        class Timed(OlderFedAvg):
            def configure_fit(self, *given):  # type: ignore[no-untyped-def]
                began.append(time.perf_counter())
                return super().configure_fit(*given)

            def aggregate_fit(self, *given):  # type: ignore[no-untyped-def]
                parameters, metrics = super().aggregate_fit(*given)
                if parameters is not None:
                    models.append(parameters_to_ndarrays(parameters)[0])
                return parameters, metrics

        client_app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
        server_app = ServerApp()

        @server_app.main()
        def older(grid: Grid, context: Context) -> None:
            start = ndarrays_to_parameters([np.zeros(coordinates, dtype=np.float32)])
            legacy = LegacyContext(
                context=context,
                config=ServerConfig(num_rounds=rounds),
                strategy=Timed(
                    fraction_fit=1.0,
                    fraction_evaluate=0.0,
                    min_fit_clients=nodes,
                    min_available_clients=nodes,
                    initial_parameters=start,
                ),
            )
            secure = SecAggPlusWorkflow(
                num_shares=7, reconstruction_threshold=4, clipping_range=1.0, max_weight=100.0
            )
            DefaultWorkflow(fit_workflow=secure)(grid, legacy)
            began.append(time.perf_counter())
    else:
        from flwr.serverapp.strategy import FedAvg

        mods = []
        if kind != "fedavg":
            from seccogc.flower import SecCoGc, seccogc_mod

            mods = [seccogc_mod]

        class TimedNow(FedAvg):
            def configure_train(self, *given):  # type: ignore[no-untyped-def]
                began.append(time.perf_counter())
                return super().configure_train(*given)

        client_app = ClientApp(mods=mods)

        @client_app.train()
        def train(msg: Message, context: Context) -> Message:
            partition = int(context.node_config["partition-id"])
            model = msg.content["arrays"]["model"].numpy() + noise(partition, coordinates)  # type: ignore[index]
            content = RecordDict(
                {
                    "arrays": ArrayRecord({"model": Array(model)}),
                    "metrics": MetricRecord({"num-examples": examples(partition)}),
                }
            )
            return Message(content, reply_to=msg)

        server_app = ServerApp()

        @server_app.main()
        def main(grid: Grid, context: Context) -> None:
            strategy = TimedNow(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
            if kind != "fedavg":
                strategy = SecCoGc(strategy, {"stragglers": 3, "arithmetic": kind.rpartition("-")[2]})  # type: ignore[assignment]
            start = ArrayRecord({"model": Array(np.zeros(coordinates, dtype=np.float32))})
            result = strategy.start(grid, start, num_rounds=rounds)
            began.append(time.perf_counter())
            models.append(result.arrays["model"].numpy())

    run_simulation(server_app, client_app, num_supernodes=nodes, backend_config=backend)
    counts = np.array([examples(k) for k in range(nodes)], dtype=np.float64)
    mean = sum(
        count / counts.sum() * noise(k, coordinates).astype(np.float64) for k, count in enumerate(counts)
    )
    error = float(abs(models[-1] - rounds * mean).max())
    seconds = [later - earlier for earlier, later in pairwise(began)]
    out.write_text(json.dumps({"seconds": seconds, "error": error}))


def memory(root: int) -> int:
    """Proportional set size of a process and all below it, in bytes."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        except (OSError, IndexError, ValueError):
            continue
    found, total = [root], 0
    while found:
        process = found.pop()
        found += children.get(process, [])
        try:
            rolled = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += 1024 * int(re.search(r"^Pss:\s+(\d+)", rolled, re.M)[1])  # type: ignore[index]
        except (OSError, TypeError):
            continue
    return total


def measured(kind: str, nodes: int, coordinates: int, rounds: int) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        given = [
            "--nodes",
            nodes,
            "--coordinates",
            coordinates,
            "--rounds",
            rounds,
            "--play",
            kind,
            "--out",
            out,
        ]
        command = [sys.executable, __file__, *map(str, given)]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            peak, over = 0, threading.Event()

            def watch() -> None:
                nonlocal peak
                while not over.wait(0.2):
                    peak = max(peak, memory(process.pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            code = process.wait()
            over.set()
            watcher.join()
            if code != 0 or not out.exists():
                log.seek(0)
                raise SystemExit(f"{kind}: {log.read()[-3000:]}")
        result = json.loads(out.read_text())
        # The first round waits for the workers.
        return statistics.median(result["seconds"][1:]), peak / 1e6, result["error"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--coordinates", type=int, default=1_663_370)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--play", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play:
        play(given.play, given.nodes, given.coordinates, given.rounds, given.out)
        return
    print(
        f"{given.nodes} nodes, {given.coordinates} coordinates, {given.rounds} rounds, {os.cpu_count()} cores"
    )
    print("| | seconds a round | peak memory, MB | largest error of a coordinate |")
    print("|---|--:|--:|--:|")
    for kind in KINDS:
        seconds, peak, error = measured(kind, given.nodes, given.coordinates, given.rounds)
        print(f"| {kind} | {seconds:.2f} | {peak:.0f} | {error:.1e} |", flush=True)


if __name__ == "__main__":
    main()
