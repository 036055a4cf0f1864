"""Models of PyTorch: what travels, and a run beside a plain loop of FederatedAveraging."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import seccogc

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from seccogc.torch import dump, load, start  # noqa: E402

pytestmark = pytest.mark.slow


class Odd(nn.Module):
    """Tied weights, running statistics, a counter, half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.into.weight
        self.scale = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))


def test_what_travels() -> None:
    net = Odd()
    began = start(net)
    assert "out.weight" not in began and "norm.num_batches_tracked" in began
    flat = np.zeros(sum(array.size for array in began.values()), np.float32)
    dump(net, flat)
    with torch.no_grad():
        other = Odd()
        other.norm.num_batches_tracked += 9
        load(other, flat)
    for (name, own), (_, theirs) in zip(net.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(own, theirs), name
    assert other.out.weight is other.into.weight
    load(other, began)
    with pytest.raises(seccogc.Error, match="the module has 30 numbers, and the vector 29"):
        load(other, flat[:-1])
    with pytest.raises(seccogc.Error, match="the module has 30 numbers, and the vector 31"):
        dump(other, np.zeros(31, np.float32))


def net_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def steps(net: nn.Module, x: Any, y: Any, seed: int) -> float:
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    loss = torch.zeros(())
    for batch in torch.randperm(len(x)).split(64)[:5]:
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x[batch]), y[batch])
        loss.backward()
        optimiser.step()
    return loss.item()


def data() -> tuple[Any, Any, Any, Any, list[Any]]:
    x, y, test_x, test_y = (torch.from_numpy(a) for a in seccogc.data("mnist-subset", flat=True))
    shards = [torch.nonzero(y == digit).flatten() for digit in range(10)]
    return x, y, test_x, test_y, shards


def test_ideal_is_federated_averaging() -> None:
    x, y, _, _, shards = data()
    seeds: dict[tuple[int, int], int] = {}
    net = net_of(0)
    began = start(net)

    def train(job: seccogc.Job) -> dict[str, float]:
        seeds[job.round, job.client] = job.seed
        load(net, job.params)
        own = shards[job.client]
        loss = steps(net, x[own], y[own], job.seed)
        dump(net, job.params)
        return {"loss": loss}

    learner = seccogc.Learner(began, [len(own) for own in shards], train)
    run = seccogc.train({"rounds": 4, "protocol": {"kind": "ideal"}}, learner)

    model = net_of(0)
    total = sum(len(own) for own in shards)
    for number in range(1, 5):
        locals_ = []
        for client, own in enumerate(shards):
            local = copy.deepcopy(model)
            steps(local, x[own], y[own], seeds[number, client])
            locals_.append((len(own) / total, local.state_dict()))
        mean = {name: sum(w * state[name].double() for w, state in locals_) for name in model.state_dict()}
        model.load_state_dict({name: value.float() for name, value in mean.items()})
    for name, value in model.state_dict().items():
        assert np.abs(run.params[name] - value.numpy()).max() < 1e-6, name


def test_a_model_learns_over_failing_links_with_workers_for_its_data() -> None:
    x, y, test_x, test_y, shards = data()
    net = net_of(1)

    def train(job: seccogc.Job) -> None:
        load(net, job.params)
        own = torch.utils.data.TensorDataset(x[shards[job.client]], y[shards[job.client]])
        torch.manual_seed(job.seed)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        workers = 2 if job.round == 1 and job.client < 2 else 0
        for place, (images, labels) in enumerate(
            torch.utils.data.DataLoader(own, 64, shuffle=True, num_workers=workers)
        ):
            if place == 5:
                break
            optimiser.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimiser.step()
        dump(net, job.params)

    def evaluate(params: Any) -> dict[str, float]:
        load(net, params)
        with torch.no_grad():
            return {"accuracy": (net(test_x).argmax(1) == test_y).float().mean().item()}

    config = seccogc.Config(
        seccogc.configs / "mnist_compare.toml", "rounds=15", protocol={"kind": "sec-cogc", "stragglers": 7}
    )
    run = seccogc.train(config, seccogc.Learner(start(net), [len(own) for own in shards], train, evaluate))
    assert run.rounds["test_accuracy"][-1] > 0.5
