"""Whole rounds and memory of seccogc beside Flower's simulation, in turns: python3 experiments/performance/flower.py

Needs a Python with PyTorch and flwr[simulation], and `seccogc data fetch mnist`. Ten clients of the CNN of McMahan et al. (1,663,370
parameters) with 6000 MNIST-sized images each, on two cores: one local epoch, or rounds of a single step of 32 images, which leaves
little but aggregation. Memory is the peak of the proportional set size, summed over all processes. Writes flower.csv and prints the table.
"""

import argparse
import csv
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading

import flwr

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default=str(ROOT / "target/release/seccogc"), help="a release build of seccogc")
parser.add_argument("--repetitions", type=int, default=3, help="runs of each kind")


def proportional(root):
    """Bytes of the proportional set size of a process and all that it has started."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    family, size = {root}, 0
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    for process in family:
        try:
            lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            size += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            pass
    return size


def watched(command, folder):
    """What a program prints, and the peak of its memory."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, ended = 0, threading.Event()

    def watch():
        nonlocal peak
        while not ended.wait(0.1):
            peak = max(peak, proportional(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        out, error = process.communicate()
    finally:
        process.kill()
        ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{command}: {error}")
    return out, peak


def flower(scheme, steps, rounds):
    """Seconds of a warm round (the median without the first; of a single one, its own), and peak bytes."""
    # As a module, which Flower's workers find again.
    out, peak = watched([sys.executable, "-m", "flower_app", scheme, str(steps), str(rounds)], HERE)
    times = [float(line.split()[1]) for line in out.splitlines() if line.startswith("round ")]
    assert len(times) == rounds + 1, out
    seconds = [end - start for start, end in zip(times, times[1:])]
    return statistics.median(seconds[1:] or seconds), peak


def ours(program, protocol, steps, rounds):
    """The same of `seccogc train`."""
    work = f"steps={steps}" if steps else "epochs=1"
    settings = [
        f"rounds={rounds}", "clients=10", "data={name='mnist'}", "partition={kind='iid'}", "model={kind='cnn'}",
        f"solver={{kind='sgd',learning_rate=0.05,batch_size=32,{work}}}", f"evaluation={{every={rounds}}}",
        "network={client_client={kind='bernoulli',erasure=0.0},client_server={kind='bernoulli',erasure=0.0}}", f"protocol={protocol}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        command = [program, "train", str(ROOT / "configs/mnist.toml"), "--threads", "2", "--quiet", "--out", str(out)]
        for setting in settings:
            command += ["--set", setting]
        _, peak = watched(command, ROOT)
        with open(out / "rounds.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    assert len(rows) == rounds and all(row["outcome"] == "recovered" for row in rows)
    seconds = [float(row["seconds_local"]) + float(row["seconds_coding"]) for row in rows]
    return statistics.median(seconds[1:] or seconds), peak


PROTOCOLS = {
    "fedavg": ("plain", "{kind='fedavg',arithmetic='f32'}"),
    "Fair-SecCoGC, s = 3, f32": ("secure", "{kind='sec-cogc',stragglers=3,arithmetic='f32'}"),
    "Fair-SecCoGC, s = 3, f64": ("secure", "{kind='sec-cogc',stragglers=3}"),
    "sec-agg-plus, k = 8, t = 4, 61 bits": ("secure", "{kind='sec-agg-plus',neighbours=8,threshold=4}"),
    "sec-agg-plus, k = 8, t = 4, 31 bits": ("secure", "{kind='sec-agg-plus',neighbours=8,threshold=4,quantisation={modulus='2^31-1'}}"),
}
# Steps (0 for an epoch), rounds, and the schemes that are measured.
WORK = {
    "one epoch": (0, 1, ["fedavg", "Fair-SecCoGC, s = 3, f64", "sec-agg-plus, k = 8, t = 4, 61 bits"]),
    "one step": (1, 4, list(PROTOCOLS)),
}


def main():
    arguments = parser.parse_args()
    lines = []
    for repetition in range(arguments.repetitions):
        for work, (steps, rounds, schemes) in WORK.items():
            for name in schemes:
                scheme, protocol = PROTOCOLS[name]
                theirs, their_peak = flower(scheme, steps, rounds)
                mine, peak = ours(arguments.program, protocol, steps, rounds)
                lines.append({
                    "work": work, "scheme": name, "repetition": repetition + 1, "flwr": flwr.__version__, "flower": scheme,
                    "ours_s": f"{mine:.3f}", "flower_s": f"{theirs:.3f}", "ours_mb": f"{peak / 1e6:.0f}",
                    "flower_mb": f"{their_peak / 1e6:.0f}",
                })
                print(lines[-1], file=sys.stderr)
    with open(HERE / "flower.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    table(lines)


def table(lines):
    """Medians and, of one step, what a round takes beyond the plain round of the same program."""
    print("| work | scheme | s a round | Flower, s | ratio | s more than plain | Flower, s | ratio | MB | Flower, MB | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for work, (steps, _, schemes) in WORK.items():
        def numbers(name, column):
            of = [line for line in lines if (line["work"], line["scheme"]) == (work, name)]
            return [float(line[column]) for line in of]

        def more(name, column):
            return [secure - plain for secure, plain in zip(numbers(name, column), numbers("fedavg", column))]

        for name in schemes:
            cells = compared(numbers(name, "ours_s"), numbers(name, "flower_s"), ".3g")
            secure = steps and name != "fedavg"
            cells += compared(more(name, "ours_s"), more(name, "flower_s"), ".2g") if secure else ["", "", ""]
            cells += compared(numbers(name, "ours_mb"), numbers(name, "flower_mb"), ".0f")
            print(f"| {work} | {name} | " + " | ".join(cells) + " |")


def compared(mine, theirs, digits):
    """Both medians, and that of their ratio."""
    ratios = [other / own for own, other in zip(mine, theirs)]
    return [format(statistics.median(mine), digits), format(statistics.median(theirs), digits), f"{statistics.median(ratios):.1f}"]


if __name__ == "__main__":
    main()
