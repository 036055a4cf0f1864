"""Local training of seccogc beside a plain PyTorch loop, interleaved: python3 experiments/performance/run.py

Needs a Python with PyTorch. Appends a line per model and setting to history.csv and prints the table.
"""

import argparse
import csv
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch")
parser.add_argument("--program", help="a build of benches/epoch.rs, to be measured instead of a fresh one")
parser.add_argument("--repetitions", type=int, default=7)


def model_images(text):
    model, _, images = text.partition("=")
    if not images.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give MODEL=IMAGES, for example cnn=640")
    return model, int(images)


parser.add_argument(
    "--models", nargs="+", type=model_images, default=[("cnn", 640), ("mlp", 16000), ("lenet5", 3200), ("cifar-cnn", 320), ("resnet20", 160)],
    help="MODEL=IMAGES of one epoch",
)
SETTINGS = ["1 thread", "2 threads", "2 processes"]
parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="what PyTorch runs on")
arguments = parser.parse_args()


class Peer:
    """A program that answers MODEL IMAGES with images per second, or several at the same time."""

    def __init__(self, command, copies=1):
        pipe = subprocess.PIPE
        self.copies = [
            subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(copies)
        ]
        self.version = [copy.stdout.readline().strip() for copy in self.copies][0]

    def measure(self, model, images):
        for copy in self.copies:
            print(model, images, file=copy.stdin, flush=True)
        return sum(float(copy.stdout.readline()) for copy in self.copies)


def text(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


program = arguments.program
if program is None:
    build = ["cargo", "bench", "--locked", "--no-run", "--bench", "epoch", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in built.splitlines()]
    program = next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "epoch")
loop = [arguments.python, str(HERE / "pytorch_loop.py")]
# Ours against theirs on one thread, and on two: one process with two threads, two processes with one each.
ours = {threads: Peer([program, str(threads)]) for threads in (1, 2)}
peers = {"1 thread": (1, "1", 1), "2 threads": (2, "2", 1), "2 processes": (2, "1", 2)}
theirs = {
    setting: (threads, Peer([*loop, own], copies))
    for setting, (threads, own, copies) in peers.items()
    if setting in arguments.settings
}

processor = next(
    (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
    platform.processor(),
)
identity = {
    "date": datetime.date.today().isoformat(),
    "commit": text("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
    "processor": processor,
    "rust": text("rustc", "--version").split()[1],
    "ours": ours[1].version,
    "theirs": next(iter(theirs.values()))[1].version,
}
history = HERE / "history.csv"
print("| model | PyTorch on | ours, images/s | PyTorch, images/s | ratio | least – greatest |\n|---|---|---:|---:|---:|---:|")
for model, images in arguments.models:
    measured = {setting: [] for setting in theirs}
    for _ in range(arguments.repetitions):
        for setting, (threads, peer) in theirs.items():
            measured[setting].append((ours[threads].measure(model, images), peer.measure(model, images)))
    for setting, pairs in measured.items():
        ratios = sorted(mine / other for mine, other in pairs)
        mine, other = (statistics.median(rate) for rate in zip(*pairs))
        row = identity | {
            "model": model, "setting": setting, "images": images, "repetitions": len(pairs),
            "ours_images_per_s": round(mine), "theirs_images_per_s": round(other),
            "ratio": f"{statistics.median(ratios):.2f}", "least": f"{ratios[0]:.2f}", "greatest": f"{ratios[-1]:.2f}",
        }
        new = not history.exists()
        with open(history, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(f"| {model} | {setting} | {mine:.0f} | {other:.0f} | {row['ratio']} | {row['least']} – {row['greatest']} |",
              flush=True)
