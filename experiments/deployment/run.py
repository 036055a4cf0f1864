#!/usr/bin/env python3
"""Server and eight clients in network namespaces of their own: 10 % packet loss, 20 Mbit/s, one direction cut, one slow uplink.

python3 experiments/deployment/run.py OUT, as root, from anywhere. Needs ip, tc and iptables, and the program with
--features deploy (--program); without them, or without the right to make namespaces, it says so and ends with code 77.
Leaves deployment.csv in OUT, and a folder a run below OUT/runs; table.py makes the README's table of them.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=Path, help="folder for the runs and the tables")
parser.add_argument("--program", default=str(ROOT / "target/release/seccogc"), help="the program")
parser.add_argument("--quick", action="store_true", help="five rounds of each run")
parser.add_argument("--run", action="append", metavar="NAME", help="only the run of this name; may be repeated")
arguments = parser.parse_args()
SECCOGC = str(Path(arguments.program).resolve())
QUICK = arguments.quick

CLIENTS = [f"c{k}" for k in range(1, 9)]
LOSS = 0.1
RATE = "20mbit"
SLOW = "100kbit"  # from c8 to the server only
ROUNDS = 5 if QUICK else 40
SECURE = 'kind = "sec-cogc"\nkeys = "pairwise"\nkey_std = 1.0\nstragglers = 3\n'
FIELD = 'kind = "sec-cogc"\nkeys = "pairwise"\narithmetic = "field"\nstragglers = 3\n'
# Name, protocol, and the seconds after the start between which c6 and c7 reach nobody.
RUNS = [
    ("sec-cogc", SECURE, None),
    ("sec-cogc over a field", FIELD, None),
    ("fedavg", 'kind = "fedavg"\n', None),
    ("sec-cogc, healed partition", SECURE, (10, 20) if QUICK else (40, 70)),
    ("light-sec-agg", 'kind = "light-sec-agg"\nsurvivors = 5\ncolluders = 2\n', None),
    ("groupwise", 'kind = "groupwise"\nsurvivors = 5\ngroup_size = 2\n', None),
    ("sec-agg", 'kind = "sec-agg"\nthreshold = 5\n', None),
    ("sec-agg-plus", 'kind = "sec-agg-plus"\nneighbours = 6\nthreshold = 4\n', None),
]
CUT_OFF = ["c6", "c7"]


def sh(command, **more):
    return subprocess.run(command, shell=True, check=True, text=True, capture_output=True, **more).stdout


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def address(name):
    return "10.77.0.1" if name == "server" else f"10.77.0.{10 + int(name[1:])}"


def clean():
    for name in ["server", "bridge", *CLIENTS]:
        subprocess.run(f"ip netns del sg-{name}", shell=True, capture_output=True)


def network():
    """A bridge, and a link from it to every party, shaped in both directions; every party loses incoming packets."""
    sh("ip netns add sg-bridge && ip -n sg-bridge link add br0 type bridge && ip -n sg-bridge link set br0 up")
    for name in ["server", *CLIENTS]:
        ns, port = f"sg-{name}", f"p-{name}"
        sh(f"ip netns add {ns} && ip -n {ns} link set lo up")
        sh(f"ip link add eth0 netns {ns} type veth peer name {port} netns sg-bridge")
        sh(f"ip -n sg-bridge link set {port} master br0 up")
        sh(f"ip -n {ns} addr add {address(name)}/24 dev eth0 && ip -n {ns} link set eth0 up")
        sh(f"tc -n sg-bridge qdisc add dev {port} root tbf rate {RATE} burst 32kbit latency 200ms")
        if name == "c8":
            sh(f"tc -n {ns} qdisc add dev eth0 root handle 1: htb default 1")
            sh(f"tc -n {ns} class add dev eth0 parent 1: classid 1:1 htb rate {RATE}")
            sh(f"tc -n {ns} class add dev eth0 parent 1: classid 1:2 htb rate {SLOW}")
            match = f"match ip dst {address('server')}/32"
            sh(f"tc -n {ns} filter add dev eth0 parent 1: protocol ip u32 {match} flowid 1:2")
        else:
            sh(f"tc -n {ns} qdisc add dev eth0 root tbf rate {RATE} burst 32kbit latency 200ms")
        drop = "-m statistic --mode random --probability"
        sh(f"ip netns exec {ns} iptables -A INPUT -i eth0 {drop} {LOSS} -j DROP")
    # Nothing from c1 reaches c2; the other direction works.
    sh(f"ip netns exec sg-c2 iptables -I INPUT -s {address('c1')} -j DROP")


def config(folder, protocol):
    names = ", ".join(f'"{name}"' for name in CLIENTS)
    # A client plays most of these protocols only if it is told to, and these updates are not clipped.
    kind = protocol.split('"')[1]
    trusts = {"groupwise": "colluders = 0\n", "sec-agg-plus": "trusted_seed = true\n"}.get(kind, "")
    if "key_std" in protocol:
        trusts += "least_key_ratio = 0.0\n"
    (folder / "policy.toml").write_text(f'protocols = ["{kind}"]\n{trusts}')
    (folder / "run.toml").write_text(
        f"""seed = 1
rounds = {ROUNDS}
clients = {len(CLIENTS)}
[partition]
kind = "classes-per-client"
classes = 2
[model]
kind = "mlp"
hidden = 64
[solver]
kind = "sgd"
learning_rate = 0.05
steps = 5
batch_size = 64
[network.client_client]
kind = "bernoulli"
erasure = 0.0
[network.client_server]
kind = "bernoulli"
erasure = 0.0
[evaluation]
every = 1
[deploy]
listen = "{address('server')}:7447"
names = [{names}]
pki = "pki"
page = ""
share_deadline = 8.0
upload_deadline = 12.0
[protocol]
{protocol}"""
    )


def received(name):
    text = sh(f"ip netns exec sg-{name} cat /sys/class/net/eth0/statistics/rx_bytes")
    return int(text)


def sent(name):
    return int(sh(f"ip netns exec sg-{name} cat /sys/class/net/eth0/statistics/tx_bytes"))


def peak(process):
    """Peak resident memory in MB."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def start(name, arguments, folder):
    log = open(folder / f"{name}.log", "w")
    command = ["ip", "netns", "exec", f"sg-{name}", SECCOGC, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def isolate(apart):
    """Cuts the parties of CUT_OFF off from everybody, or heals the network."""
    verb = "-I" if apart else "-D"
    for name in CUT_OFF:
        for chain in ["INPUT", "OUTPUT"]:
            sh(f"ip netns exec sg-{name} iptables {verb} {chain} -j DROP")


def play(label, protocol, partition, work):
    folder = work / label.replace(", ", "-").replace(" ", "-")
    folder.mkdir(parents=True)
    cut = list(partition or [])
    shutil.copytree(work / "pki", folder / "pki")
    config(folder, protocol)
    clean()
    network()
    before = {name: (received(name), sent(name)) for name in ["server", *CLIENTS]}
    clock = time.time()
    server = start("server", ["serve", "run.toml", "--out", "out"], folder)
    time.sleep(2)
    clients = []
    for name in CLIENTS:
        arguments = ["join", "--server", f"{address('server')}:7447", "--name", name, "--data", "mnist-subset"]
        arguments += ["--policy", "policy.toml"]
        clients.append(start(name, [*arguments, "--listen", f"{address(name)}:7448"], folder))
    memory = {"server": 0.0, "client": 0.0}
    try:
        while server.poll() is None and time.time() - clock < 30 * ROUNDS:
            if cut and time.time() - clock > cut[0]:
                isolate(len(cut) == 2)
                cut.pop(0)
            memory["server"] = max(memory["server"], peak(server))
            memory["client"] = max([memory["client"], *map(peak, clients)])
            time.sleep(0.5)
    finally:
        wire = {name: (received(name) - rx, sent(name) - tx) for name, (rx, tx) in before.items()}
        for process in [server, *clients]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in [server, *clients]:
            process.wait()
        clean()
    rows = list(csv.DictReader(open(folder / "out/rounds.csv")))
    count = lambda outcome: sum(row["outcome"] == outcome for row in rows)
    counted = sum(int(row["bytes_client_client"]) + int(row["bytes_client_server"]) for row in rows)
    models = 4 * 50_890 * sum(int(row["cohort"]) for row in rows)
    return {
        "protocol": label,
        "rounds": len(rows),
        "recovered": count("recovered"),
        "partial": count("partial"),
        "outages": count("outage"),
        "smallest_cohort": min(int(row["cohort"]) for row in rows),
        "largest_cohort": max(int(row["cohort"]) for row in rows),
        "mean_arrivals": round(sum(int(row["arrivals"]) for row in rows) / len(rows), 2),
        "test_accuracy": rows[-1]["test_accuracy"],
        "seconds_per_round": round((time.time() - clock) / len(rows), 2),
        "counted_mb_per_round": round((counted + models) / len(rows) / 1e6, 3),
        "wire_mb_per_round": round(sum(tx for _, tx in wire.values()) / len(rows) / 1e6, 3),
        "server_memory_mb": round(memory["server"], 1),
        "client_memory_mb": round(memory["client"], 1),
    }


def alone(label, protocol, work):
    folder = work / label.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    config(folder, protocol)
    sh(f"{SECCOGC} train run.toml --quiet --out out", cwd=folder)
    rows = list(csv.DictReader(open(folder / "out/rounds.csv")))
    recovered = sum(row["outcome"] == "recovered" for row in rows)
    return {
        "protocol": label,
        "rounds": len(rows),
        "recovered": recovered,
        "test_accuracy": rows[-1]["test_accuracy"],
    }


def main():
    chosen = arguments.run or []
    unknown = set(chosen) - {label for label, _, _ in RUNS}
    if unknown:
        labels = ", ".join(label for label, _, _ in RUNS)
        sys.exit(f"no run is called {', '.join(sorted(unknown))}; take some of {labels}")
    if not Path(SECCOGC).is_file():
        skip(f"there is no {SECCOGC}; cargo build --release --features deploy makes it")
    if os.geteuid() != 0:
        skip("network namespaces need root")
    for tool in ["ip", "tc", "iptables"]:
        if shutil.which(tool) is None:
            skip(f"{tool} is missing")
    try:
        clean()
        network()
    except subprocess.CalledProcessError as error:
        skip(f"{error.cmd}: {error.stderr.strip()}")
    finally:
        clean()
    work = arguments.out.resolve() / "runs"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    sh(f"{SECCOGC} pki init --pki {work}/pki --host {address('server')}")
    for name in CLIENTS:
        sh(f"{SECCOGC} pki issue {name} --pki {work}/pki --host {address(name)}")
    apart = [("sec-cogc, one process", SECURE), ("sec-cogc over a field, one process", FIELD)]
    results = [alone(*run, work) for run in apart]
    for run in RUNS:
        if chosen and run[0] not in chosen:
            continue
        results.append(play(*run, work))
        print(results[-1], flush=True)
    with open(arguments.out / "deployment.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(results[-1]))
        writer.writeheader()
        writer.writerows(results)


if __name__ == "__main__":
    main()
