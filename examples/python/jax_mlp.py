"""Regression with JAX: eight stations, each with one stretch of a curve, and a pytree as the model.

pip install seccogc jax
"""

import jax
import jax.numpy as jnp
import numpy as np

import seccogc

STATIONS = 8


def curve(x):
    return np.sin(2 * x) + 0.3 * x


# Station k has measured between k and k + 1 only: the model needs them all.
draws = np.random.default_rng(0)
places = [draws.uniform(k, k + 1, size=(100 + 20 * k, 1)).astype(np.float32) for k in range(STATIONS)]
values = [(curve(x) + draws.normal(0, 0.05, size=x.shape)).astype(np.float32) for x in places]
test_x = np.linspace(0, STATIONS, 400, dtype=np.float32)[:, None]


def start(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    sizes = [(1, 64), (64, 64), (64, 1)]
    layers = [
        {"w": jax.random.normal(key, size) / np.sqrt(size[0]), "b": jnp.zeros(size[1])}
        for key, size in zip(keys, sizes, strict=True)
    ]
    # The bends of the first layer are spread over all stations.
    layers[0] = {"w": 1.5 * layers[0]["w"], "b": jnp.linspace(-6, 6, 64)}
    return layers


def predict(params, x):
    x = x - STATIONS / 2
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


@jax.jit
def step(params, x, y, rate):
    loss, slope = jax.value_and_grad(lambda p: jnp.mean((predict(p, x) - y) ** 2))(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, slope), loss


def train(job):
    # JAX copies what it is given, so that views of job.params may go in.
    params = job.tree()
    batches = np.random.default_rng(job.seed)
    for _ in range(10):
        batch = batches.choice(len(places[job.client]), 50, replace=False)
        params, loss = step(params, places[job.client][batch], values[job.client][batch], job.learning_rate)
    return seccogc.Trained(params, loss=loss)


def evaluate(params):
    wrong = np.asarray(predict(params, test_x)) - curve(test_x)
    # Names of one's own become columns: test_rmse and test_worst.
    return {"rmse": np.sqrt(np.mean(wrong**2)), "worst": np.abs(wrong).max()}


learner = seccogc.Learner(start, [len(x) for x in places], train, evaluate)
config = seccogc.Config(
    rounds=200,
    clients=STATIONS,
    solver={"learning_rate": 0.01},
    server={"kind": "fedavgm"},
    evaluation={"every": 40},
    network={
        "client_client": {"erasure": 0.05},
        # The further out a station is, the worse is its link to the server.
        "client_server": {"erasure": [0.1, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9]},
    },
    compare=[
        {"name": "SecCoGC", "protocol": {"kind": "sec-cogc", "stragglers": 5}},
        {"name": "FedAvg", "protocol": {"kind": "fedavg"}},
    ],
)
result = seccogc.compare(config, learner)
print("rmse after  ", *(f"{name:>9}" for name, _ in result.runs))
rmse = [run.rounds["test_rmse"] for run in result.runs.values()]
for number in range(39, 200, 40):
    print(f"{number + 1:5} rounds", *(f"{column[number]:9.3f}" for column in rmse))
