"""The model and its data: a linear classifier in NumPy, and points of which every client has two classes."""

import numpy as np

CLASSES = 10
FEATURES = 20
EXAMPLES = 300


def centres() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(CLASSES, FEATURES))


def points(labels: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(labels), FEATURES))
    return centres()[labels] + noise


def shard(partition: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples of one client, and their labels."""
    rng = np.random.default_rng([2, partition])
    labels = (partition + rng.integers(0, 2, size=EXAMPLES + 20 * partition)) % CLASSES
    return points(labels, 100 + partition), labels


def held_out() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(2000) % CLASSES
    return points(labels, 3), labels


def start() -> dict[str, np.ndarray]:
    return {"weight": np.zeros((FEATURES, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}


def probabilities(model: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    scores = x @ model["weight"] + model["bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, steps: int, rate: float) -> float:
    """Gradient steps in place; returns the loss before the last of them."""
    loss = 0.0
    for _ in range(steps):
        p = probabilities(model, x)
        loss = float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean())
        p[np.arange(len(y)), y] -= 1
        model["weight"] -= (rate / len(y) * x.T @ p).astype(np.float32)
        model["bias"] -= (rate * p.mean(axis=0)).astype(np.float32)
    return loss


def accuracy(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    return float((probabilities(model, x).argmax(axis=1) == y).mean())
