"""A secure round of seccogc beside one of Flower's SecAgg+, in turns: python3 experiments/round_cost/flower.py

Needs a Python with flwr. Flower's own server workflow and client mod play the round with ten clients of 1,663,370 parameters, divided
over two processes; clients have their updates already, and what the processes say to each other is not counted. Of seccogc it is the
column seconds_coding of `seccogc train`, on two threads. Prints the table and writes flower.csv.
"""

import argparse
import csv
import logging
import multiprocessing
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import time

import flwr
import numpy
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLIENTS, PARAMETERS, SHARES, THRESHOLD = 10, 1_663_370, 9, 4

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default=str(ROOT / "target/release/seccogc"), help="a release build of seccogc")
parser.add_argument("--repetitions", type=int, default=5)


TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 0


def update(client):
    return [numpy.random.default_rng(client).uniform(-0.005, 0.005, PARAMETERS).astype(numpy.float32)]


def work(pipe, clients):
    """Plays some clients: answers each list of messages with the replies and the seconds that they took."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    contexts = {client: Context(0, client, {}, RecordDict(), {}) for client in clients}
    updates = {client: ndarrays_to_parameters(update(client)) for client in clients}

    def train(message, context):
        result = FitRes(Status(Code.OK, ""), updates[context.node_id], 600, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)

    while True:
        messages = [pickle.loads(message) for message in pipe.recv()]
        clock = time.perf_counter()
        replies = [secaggplus_mod(message, contexts[message.metadata.dst_node_id], train) for message in messages]
        pipe.send((replies, time.perf_counter() - clock))


class Workers:
    """What the workflow knows as the grid."""

    def __init__(self, count):
        self.pipes, self.computed, self.away = [], 0.0, 0.0
        for worker in range(count):
            ours, theirs = multiprocessing.Pipe()
            clients = [client for client in range(1, CLIENTS + 1) if client % count == worker]
            multiprocessing.Process(target=work, args=(theirs, clients), daemon=True).start()
            self.pipes.append(ours)

    def send_and_receive(self, messages, *, timeout=None):
        clock = time.perf_counter()
        messages = list(messages)
        for worker, pipe in enumerate(self.pipes):
            mine = [m for m in messages if m.metadata.dst_node_id % len(self.pipes) == worker]
            pipe.send([pickle.dumps(message) for message in mine])  # Each with its own copy of what they share.
        answers = [pipe.recv() for pipe in self.pipes]
        self.computed += max(seconds for _, seconds in answers)
        self.away += time.perf_counter() - clock
        return [reply for replies, _ in answers for reply in replies]


class Proxy(ClientProxy):
    def __init__(self, client):
        super().__init__(str(client))
        self.node_id = client

    get_properties = get_parameters = fit = evaluate = reconnect = None


def flower(workers):
    """Seconds of a round, and the sum's largest error."""
    manager = SimpleClientManager()
    for client in range(1, CLIENTS + 1):
        manager.register(Proxy(client))
    strategy = FedAvg(fraction_fit=1.0, min_fit_clients=CLIENTS, min_available_clients=CLIENTS)
    context = LegacyContext(Context(0, 0, {}, RecordDict(), {}), ServerConfig(num_rounds=1), strategy, manager)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    start = ndarrays_to_parameters([numpy.zeros(PARAMETERS, numpy.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, True)
    workflow = SecAggPlusWorkflow(SHARES, THRESHOLD)
    workers.computed = workers.away = 0.0
    clock = time.perf_counter()
    workflow(workers, context)
    seconds = time.perf_counter() - clock - workers.away + workers.computed
    mean = parameters_to_ndarrays(compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], True))
    want = sum(update(client)[0].astype(float) for client in range(1, CLIENTS + 1)) / CLIENTS
    return seconds, float(abs(mean[0] - want).max())


SCHEMES = {
    "sec-agg-plus, k = 8, t = 4, 61 bits": ["protocol={kind='sec-agg-plus',neighbours=8,threshold=4}"],
    "sec-agg-plus, k = 8, t = 4, 31 bits": [
        "protocol={kind='sec-agg-plus',neighbours=8,threshold=4,quantisation={modulus='2^31-1'}}"
    ],
    "Fair-SecCoGC, s = 3, f32": ["protocol={kind='sec-cogc',stragglers=3,arithmetic='f32'}"],
    "Fair-SecCoGC, s = 3, f64": ["protocol={kind='sec-cogc',stragglers=3}"],
}


def ours(program, settings, folder):
    """Median seconds of three rounds."""
    out = folder / str(time.monotonic_ns())
    command = [program, "train", str(HERE / "flower.toml"), "--threads", "2", "--quiet", "--out", str(out)]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, cwd=ROOT)
    with open(out / "rounds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["outcome"] == "recovered" for row in rows)
    return statistics.median(float(row["seconds_coding"]) for row in rows)


def main():
    arguments = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    workers = Workers(2)
    flower(workers)  # Starts the workers.
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(arguments.repetitions):
            for scheme, settings in SCHEMES.items():
                theirs, error = flower(workers)
                mine = ours(arguments.program, settings, pathlib.Path(folder))
                lines.append({
                    "scheme": scheme, "repetition": repetition + 1, "flwr": flwr.__version__,
                    "flower_s": f"{theirs:.3f}", "flower_error": f"{error:.1e}", "ours_s": f"{mine:.3f}",
                    "ratio": f"{theirs / mine:.2f}",
                })
                print(lines[-1], file=sys.stderr)
    with open(HERE / "flower.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    print("| scheme | ms | Flower's SecAgg+, ms | ratio | least – greatest |\n|---|---:|---:|---:|---:|")
    for scheme in SCHEMES:
        of = [line for line in lines if line["scheme"] == scheme]
        column = lambda name: sorted(float(line[name]) for line in of)
        mine, theirs, ratios = column("ours_s"), column("flower_s"), column("ratio")
        median = statistics.median
        print(f"| {scheme} | {1e3 * median(mine):.0f} | {1e3 * median(theirs):.0f} | {median(ratios):.1f} "
              f"| {ratios[0]:.1f} – {ratios[-1]:.1f} |")


if __name__ == "__main__":
    main()
