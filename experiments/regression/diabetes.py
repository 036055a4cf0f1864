"""The diabetes study as tables, and its least squares: python3 experiments/regression/diabetes.py OUT

442 patients, ten measurements, and how far the disease went a year later (Efron, Hastie, Johnstone, Tibshirani 2004), from the
package `scikit-learn` 1.7.2 of PyPI, which pip brings (--package names a copy). Every fifth patient is for testing: train.csv,
test.csv, whose last column but one is a practice: patients of training, by age, go to ten practices of like size. least_squares.csv is what the linear model with the least squared error on the training table does on the test table,
by Gaussian elimination in double precision.
"""

import argparse
import csv
import gzip
import hashlib
import pathlib
import subprocess
import sys
import zipfile

FILES = {
    "diabetes_data_raw.csv.gz": "a3e94cc7cea00f8a84fa5f6345203913a68efa42df18f87ddf9bead721bfd503",
    "diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
}
COLUMNS = ["age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu", "practice", "progression"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=pathlib.Path, help="folder for the tables")
parser.add_argument("--package", type=pathlib.Path, help="a wheel of scikit-learn 1.7.2, where it is there already")
arguments = parser.parse_args()


def package():
    if arguments.package:
        return arguments.package
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(arguments.out), "scikit-learn==1.7.2"], check=True)
    return next(arguments.out.glob("scikit_learn-1.7.2-*.whl"))


def numbers(wheel, name):
    data = wheel.read(f"sklearn/datasets/data/{name}")
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        sys.exit(f"{name}: not the file that was expected; remove the package and try again")
    return [[float(cell) for cell in line.split()] for line in gzip.decompress(data).decode().splitlines()]


def solve(matrix, right):
    """x with matrix · x = right, both of which are changed."""
    size = len(right)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        right[column], right[pivot] = right[pivot], right[column]
        for row in range(size):
            if row != column:
                factor = matrix[row][column] / matrix[column][column]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[column])]
                right[row] -= factor * right[column]
    return [right[i] / matrix[i][i] for i in range(size)]


arguments.out.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(package()) as wheel:
    features, targets = (numbers(wheel, name) for name in FILES)
rows = [measured + target for measured, target in zip(features, targets)]
parts = {"train": [row for i, row in enumerate(rows) if i % 5], "test": rows[::5]}
train, test = (sorted(part) for part in parts.values())  # by age, which comes first


def practices(part):
    return [10 * i // len(part) + 1 for i in range(len(part))]


for name, part in {"train": train, "test": test}.items():
    lines = [[*row[:-1], practice, row[-1]] for row, practice in zip(part, practices(part))]
    with open(arguments.out / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])

# Measurements less their mean, lest the normal equations lose digits.
means = [sum(column) / len(train) for column in zip(*train)]
inputs = [[1.0] + [x - mean for x, mean in zip(row[:-1], means)] for row in train]
normal = [[sum(row[i] * row[j] for row in inputs) for j in range(11)] for i in range(11)]
weights = solve(normal, [sum(row[i] * own[-1] for row, own in zip(inputs, train)) for i in range(11)])


def told(row):
    return weights[0] + sum(w * (x - mean) for w, x, mean in zip(weights[1:], row[:-1], means))


apart = [told(row) - row[-1] for row in test]
mse, mae = sum(x * x for x in apart) / len(test), sum(map(abs, apart)) / len(test)
mean = sum(row[-1] for row in test) / len(test)
r2 = 1 - mse * len(test) / sum((row[-1] - mean) ** 2 for row in test)
with open(arguments.out / "least_squares.csv", "w", newline="") as file:
    csv.writer(file).writerows([["mse", "mae", "r2"], [f"{x:.4f}" for x in (mse, mae, r2)]])
