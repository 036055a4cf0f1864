"""A linear classifier of scikit-learn, trained by ten clients that hold one digit each.

pip install seccogc scikit-learn
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, recall_score
from sklearn.model_selection import train_test_split

import seccogc

x, y = load_digits(return_X_y=True)
x, test_x, y, test_y = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
digits = np.arange(10)

model = SGDClassifier(loss="log_loss", learning_rate="constant")
# The first call fixes shapes and classes: a client alone never sees the other nine.
model.partial_fit(x[:1], y[:1], classes=digits)


def put(params):
    # scikit-learn updates its own arrays in place and wants double precision.
    model.coef_ = np.array(params["coef"], dtype=np.float64)
    model.intercept_ = np.array(params["intercept"], dtype=np.float64)


def train(job):
    put(job.tree())
    model.set_params(eta0=job.learning_rate, random_state=job.seed)
    own = y == job.client
    model.partial_fit(x[own], y[own])
    return seccogc.Trained({"coef": model.coef_, "intercept": model.intercept_})


def evaluate(params):
    put(params)
    # A class that only a badly connected client holds is what plain averaging forgets.
    recall = recall_score(test_y, model.predict(test_x), average=None)
    return {
        "loss": log_loss(test_y, model.predict_proba(test_x)),
        "accuracy": model.score(test_x, test_y),
        "worst_recall": recall.min(),
    }


learner = seccogc.Learner(
    start={"coef": np.zeros((10, x.shape[1])), "intercept": np.zeros(10)},
    examples=[int(np.sum(y == digit)) for digit in digits],
    train=train,
    evaluate=evaluate,
)
config = seccogc.Config(
    rounds=60,
    clients=10,
    solver={"learning_rate": 0.02},
    network={
        "client_client": {"erasure": 0.05},
        "client_server": {"erasure": [0.05, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95]},
    },
    compare=[
        {"name": "no losses", "protocol": {"kind": "ideal"}},
        {"name": "SecCoGC", "protocol": {"kind": "sec-cogc", "stragglers": 7}},
        {"name": "FedAvg", "protocol": {"kind": "fedavg"}},
    ],
)
result = seccogc.compare(config, learner)
for (name, _), run in result.runs.items():
    last = {key: run.rounds[key][-1] for key in ("test_loss", "test_accuracy", "test_worst_recall")}
    print(f"{name:10}", f"recovered {run.recovered:4.0%} ", *(f"{k} {v:.3f} " for k, v in last.items()))
result.figure.save("sklearn.png")
