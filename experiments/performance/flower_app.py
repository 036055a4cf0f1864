"""A simulation of Flower for flower.py: python3 -m flower_app plain|secure STEPS ROUNDS, STEPS = 0 for an epoch.

Prints when each round began, and the end, as seconds of the clock.
"""

import functools
import sys
import time

import numpy
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.simulation import run_simulation
from torch import nn
from torch.nn import functional as F

CLIENTS, IMAGES, BATCH, SHARES, THRESHOLD = 10, 6000, 32, 9, 4


def network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, 10),
    )


@functools.cache
def data():
    rng = numpy.random.default_rng(1)
    pixels = rng.integers(0, 256, (CLIENTS * IMAGES, 1, 28, 28), dtype=numpy.uint8)
    return torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, CLIENTS * IMAGES))


class Client(NumPyClient):
    def __init__(self, partition, steps):
        self.partition, self.steps = partition, steps

    def fit(self, parameters, config):
        torch.set_num_threads(1)
        model, (pixels, labels) = network(), data()
        with torch.no_grad():
            for weight, value in zip(model.parameters(), parameters):
                weight.copy_(torch.from_numpy(numpy.array(value)))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        order = torch.randperm(IMAGES) + self.partition * IMAGES
        for batch in order.split(BATCH)[: self.steps or None]:
            optimiser.zero_grad()
            F.cross_entropy(model(pixels[batch].float() / 255), labels[batch]).backward()
            optimiser.step()
        # SecAgg+ takes weights up to 1000.
        return [weight.detach().numpy() for weight in model.parameters()], IMAGES // 10, {}


class Timed(FedAvg):
    def configure_fit(self, server_round, parameters, client_manager):
        print("round", time.time(), flush=True)
        return super().configure_fit(server_round, parameters, client_manager)


def simulate(secure, steps, rounds):
    server = ServerApp()

    @server.main()
    def main(grid, context):
        torch.manual_seed(0)
        start = ndarrays_to_parameters([weight.detach().numpy() for weight in network().parameters()])
        strategy = Timed(
            fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=CLIENTS, min_available_clients=CLIENTS,
            initial_parameters=start,
        )
        context = LegacyContext(context=context, config=ServerConfig(num_rounds=rounds), strategy=strategy)
        DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(SHARES, THRESHOLD) if secure else None)(grid, context)
        print("round", time.time(), flush=True)

    client = ClientApp(
        lambda context: Client(context.node_config["partition-id"], steps).to_client(),
        mods=[secaggplus_mod] if secure else [],
    )
    run_simulation(server, client, CLIENTS, backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}})


if __name__ == "__main__":
    import flower_app

    scheme, steps, rounds = sys.argv[1:]
    flower_app.simulate(scheme == "secure", int(steps), int(rounds))
