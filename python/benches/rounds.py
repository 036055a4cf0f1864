"""A round with a learner of PyTorch beside the same loop of FederatedAveraging in plain PyTorch.

python python/benches/rounds.py [REPEATS]

Both train the same clients on the same batches, one after the other, and take turns; printed are the medians
of their seconds a round, the ratio of the medians, and how far the resident memory rose above that of the
start.
"""

from __future__ import annotations

import copy
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import seccogc
from seccogc.torch import dump, load, start

CLIENTS = 4


def cnn() -> nn.Module:
    """The convolutional network of McMahan et al. (2017), 1,663,370 parameters."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


class Case:
    def __init__(self, name: str, make: Callable[[], nn.Module], steps: int | None, rounds: int) -> None:
        self.name, self.steps, self.rounds = name, steps, rounds
        torch.manual_seed(1)
        self.net = make()
        images, labels, *_ = (torch.from_numpy(a) for a in seccogc.data("mnist-subset"))
        self.x, self.y = images.reshape(-1, 28, 28), labels
        self.shards = torch.arange(len(labels)).chunk(CLIENTS)

    def work(self, net: nn.Module, client: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        own = self.shards[client]
        for batch in own[torch.randperm(len(own), generator=generator)].split(32)[: self.steps]:
            optimiser.zero_grad()
            F.cross_entropy(net(self.x[batch]), self.y[batch]).backward()
            optimiser.step()

    def plain(self) -> None:
        """FederatedAveraging as one writes it by hand."""
        model = copy.deepcopy(self.net)
        local = copy.deepcopy(model)
        for number in range(self.rounds):
            mean = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
            for client in range(CLIENTS):
                local.load_state_dict(model.state_dict())
                self.work(local, client, number * CLIENTS + client)
                for name, value in local.state_dict().items():
                    mean[name] += value / CLIENTS
            model.load_state_dict(mean)

    def learner(self, protocol: dict[str, Any]) -> Callable[[], None]:
        net = copy.deepcopy(self.net)
        began = start(net)

        def train(job: seccogc.Job) -> None:
            load(net, job.params)
            self.work(net, job.client, (job.round - 1) * CLIENTS + job.client)
            dump(net, job.params)

        learner = seccogc.Learner(began, [len(own) for own in self.shards], train)
        sections = {"clients": CLIENTS, "rounds": self.rounds, "protocol": protocol}
        config = seccogc.Config(sections, "record.checkpoint_every=1000000")
        return lambda: drop(seccogc.train(config, learner, progress=False))


def drop(_: object) -> None:
    pass


def seconds(play: Callable[[], None]) -> float:
    begun = time.perf_counter()
    play()
    return time.perf_counter() - begun


def memory(case: str, who: str) -> float:
    """Peak of a process of its own that plays one of them, MB."""
    lines = [
        "import resource",
        "from rounds import *",
        f"play(CASES[{case!r}](), {who!r})()",
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)",
    ]
    code = "\n".join(lines)
    from pathlib import Path

    output = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return float(output.stdout)


def play(case: Case, who: str) -> Callable[[], None]:
    if who == "plain":
        return case.plain
    return case.learner({"kind": "ideal"} if who == "ideal" else {"kind": "sec-cogc", "stragglers": 1})


CASES: dict[str, Callable[[], Case]] = {
    "cnn, one epoch": lambda: Case("cnn, one epoch", cnn, None, 1),
    "mlp, ten steps": lambda: Case("mlp, ten steps", mlp, 10, 10),
}


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    for name, make in CASES.items():
        case = make()
        plays = {who: play(case, who) for who in ("plain", "ideal", "sec-cogc")}
        times: dict[str, list[float]] = {who: [] for who in plays}
        for _ in range(repeats + 1):
            for who, own in plays.items():
                times[who].append(seconds(own) / case.rounds)
        medians = {who: statistics.median(own[1:]) for who, own in times.items()}
        size = sum(value.numel() for value in case.net.parameters())
        print(f"{name}, d = {size:,}, {CLIENTS} clients")
        for who, median in medians.items():
            peak = memory(name, who)
            print(
                f"  {who:9} {1e3 * median:9.2f} ms a round, {median / medians['plain']:.3f} × plain, "
                f"peak {peak:.0f} MB"
            )
        print(f"  three vectors a client: {3 * CLIENTS * size * 4 / 2**20:.0f} MB")


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
