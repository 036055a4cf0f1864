"""LoRA: a small transformer that knows prose learns code, and only its adapters go through SecCoGC.

pip install seccogc[torch]
"""

import inspect
from importlib import import_module
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

import seccogc
from seccogc.torch import dump, load, start

CONTEXT, WIDTH, RANK = 64, 96, 4


def tokens(text):
    return torch.tensor([min(ord(letter), 127) for letter in text])


# The server has Python's manual; every client has a module's source of its own, and tests on its end.
manual = tokens("".join(topics.values()))
names = ["argparse", "difflib", "inspect", "statistics", "subprocess", "tarfile", "typing", "zipfile"]
sources = [tokens(inspect.getsource(import_module(name))) for name in names]
own = [source[: -len(source) // 10] for source in sources]
held_out = torch.cat([source[-len(source) // 10 :][: CONTEXT * 8 + 1] for source in sources])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters, self.places = nn.Embedding(128, WIDTH), nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, 128)

    def forward(self, x):
        past = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        return self.out(self.layers(self.letters(x) + self.places, past, is_causal=True))


class Adapter(nn.Module):
    """W + B A, where A stays as drawn: then the mean of the clients' B A is that of their B."""

    def __init__(self, outer, inner):
        super().__init__()
        self.register_buffer("a", torch.randn(RANK, inner) / inner**0.5)
        self.b = nn.Parameter(torch.zeros(outer, RANK))

    def forward(self, weight):
        return weight + self.b @ self.a


def loss_on(text, begin):
    at = begin + torch.arange(CONTEXT + 1)
    return F.cross_entropy(net(text[at[:, :-1]]).flatten(0, 1), text[at[:, 1:]].flatten())


def learn(parameters, text, steps, rate):
    optimiser = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = loss_on(text, torch.randint(len(text) - CONTEXT, (16, 1)))
        loss.backward()
        optimiser.step()
    return loss.item()


torch.manual_seed(1)
net = Transformer()
learn(net.parameters(), manual, 400, 2e-3)
whole = start(net)
net.requires_grad_(False)
adapters = nn.ParameterList()
for layer in net.layers.layers:
    attention = layer.self_attn
    matrices = [(attention, "in_proj_weight"), (attention.out_proj, "weight")]
    for module, name in [*matrices, (layer.linear1, "weight"), (layer.linear2, "weight")]:
        adapter = Adapter(*getattr(module, name).shape)
        register_parametrization(module, name, adapter)
        adapters.append(adapter.b)


def train(job):
    # A list of parameters is a module, too, and what it holds is all that travels.
    load(adapters, job.params)
    torch.manual_seed(job.seed)
    loss = learn(adapters.parameters(), own[job.client], 4, job.learning_rate)
    dump(adapters, job.params)
    return {"loss": loss}


@torch.no_grad()
def evaluate(params):
    load(adapters, params)
    loss = loss_on(held_out, torch.arange(0, len(held_out) - CONTEXT, CONTEXT)[:, None])
    return {"loss": loss.item(), "perplexity": loss.exp().item()}


protocol = {"kind": "sec-cogc", "stragglers": 4}
config = seccogc.Config(
    rounds=20,
    clients=8,
    protocol=protocol,
    solver={"learning_rate": 5e-3},
    network={"client_client": {"erasure": 0.05}, "client_server": {"erasure": 0.3}},
)
before = evaluate(start(adapters))["perplexity"]
print(f"perplexity before: {before:.2f}")
run = seccogc.train(config, seccogc.Learner(start(adapters), [len(text) for text in own], train, evaluate))
print("after every fifth round:", *run.rounds["test_perplexity"][4::5].round(2))
print(f"{run.recovered:.0%} of the rounds recovered")
for what, model in [("adapters", start(adapters)), ("whole model", whole)]:
    one = seccogc.Aggregator(protocol, clients=8).aggregate([model] * 8, round=1)
    print(f"{what}: {sum(one.bytes.values()) / 2**20:.2f} MiB a round through SecCoGC")
