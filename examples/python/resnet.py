"""A ResNet of PyTorch over failing links: SecCoGC beside FedAvg, and beside links that never fail.

pip install seccogc[torch] pandas
"""

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

import seccogc
from seccogc.torch import dump, load, start


class Block(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        # Group norm: statistics of a batch that holds two digits are not those of all ten.
        self.first = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False), nn.GroupNorm(4, outer), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outer, outer, 3, padding=1, bias=False), nn.GroupNorm(4, outer))
        same = stride == 1 and inner == outer
        self.skip = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.second(self.first(x)) + self.skip(x))


torch.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(1, 8, 3, 2, padding=1, bias=False),
    nn.GroupNorm(4, 8),
    nn.ReLU(),
    Block(8, 8, 1),
    Block(8, 16, 2),
    Block(16, 32, 2),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)

# The package's comparison: ten clients, of two digits each here, whose uploads are lost with 0.05 to 0.95.
config = seccogc.Config(
    seccogc.configs / "mnist_compare.toml",
    "rounds=50",
    partition={"classes": 2},
    solver={"learning_rate": 0.1},
    compare=[
        {"name": "ideal", "protocol": {"kind": "ideal"}},
        {"name": "SecCoGC", "protocol": {"kind": "sec-cogc", "stragglers": 9}},
        {"name": "FedAvg", "protocol": {"kind": "fedavg"}},
    ],
)
x, y, test_x, test_y = (torch.from_numpy(array) for array in seccogc.data(config))
shards = [torch.from_numpy(places) for places in seccogc.shards(config)]


def train(job):
    load(net, job.params)
    torch.manual_seed(job.seed)  # the same batches under every protocol
    optimiser = torch.optim.SGD(net.parameters(), lr=job.learning_rate)
    own = shards[job.client]
    for batch in own[torch.randperm(len(own))].split(32)[:5]:
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x[batch]), y[batch])
        loss.backward()
        optimiser.step()
    dump(net, job.params)
    return {"loss": loss.item()}


@torch.no_grad()
def evaluate(params):
    load(net, params)
    logits = net(test_x)
    right = (logits.argmax(1) == test_y).float()
    recalls = torch.stack([right[test_y == digit].mean() for digit in range(10)])
    return {
        "loss": F.cross_entropy(logits, test_y).item(),
        "accuracy": right.mean().item(),
        "worst_recall": recalls.min().item(),
    }


learner = seccogc.Learner(start(net), [len(own) for own in shards], train, evaluate)
result = seccogc.compare(config, learner)
columns = ["name", "round", "test_loss", "test_accuracy", "test_worst_recall"]
print(pd.DataFrame(result.rounds)[columns].dropna().groupby("name", sort=False).last())
result.figure.save("resnet.png")
