"""`seccogc account` beside two other libraries: python3 experiments/accounting/accounting.py OUT

Needs a Python with dp-accounting and prv-accountant, and the program (--program). Prints ε of every setting with the bounds of the others from
below and from above, and fails where the program is below a lower one or, less its stated error, above an upper one.
"""

import argparse
import csv
import importlib.metadata
import math
import pathlib
import subprocess
import sys
import warnings

from dp_accounting import GaussianDpEvent, NeighboringRelation, SampledWithoutReplacementDpEvent
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from prv_accountant import PoissonSubsampledGaussianMechanism, PRVAccountant

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# What is rounded away where bounds are compared.
ROUNDING = 1e-9

# Noise multiplier, sampling rate, rounds, δ.
POISSON = [
    (0.5, 1.0, 1, 1e-3), (1.0, 1.0, 1, 1e-5), (2.0, 1.0, 30, 1e-12), (5.0, 1.0, 100, 1e-6), (50.0, 1.0, 10_000, 1e-9), (300.0, 1.0, 100_000, 1e-12),
    (0.3, 0.001, 10, 1e-5), (0.5, 0.001, 1000, 1e-6), (0.7, 0.001, 100_000, 1e-5), (1.0, 0.001, 1, 1e-6), (1.0, 0.001, 10_000, 1e-6),
    (1.0, 0.001, 100_000, 1e-5), (2.0, 0.001, 100_000, 1e-6), (4.0, 0.004, 100_000, 1e-9), (0.6, 0.01, 100, 1e-8), (0.8, 0.01, 1000, 1e-5),
    (1.0, 0.01, 1, 1e-5), (1.1, 0.01, 1000, 1e-5), (1.1, 0.01, 10_000, 1e-7), (2.0, 0.01, 50_000, 1e-6), (10.0, 0.01, 100_000, 1e-12),
    (0.7, 0.05, 50, 1e-4), (1.0, 0.05, 200, 1e-10), (3.0, 0.05, 5000, 1e-5), (1.0, 0.1, 10, 1e-3), (1.5, 0.1, 150, 1e-12), (8.0, 0.1, 20_000, 1e-6),
    (2.0, 0.2, 100, 1e-5), (20.0, 0.2, 100_000, 1e-5), (1.0, 0.5, 10, 1e-5), (5.0, 0.5, 500, 1e-8), (30.0, 0.9, 2000, 1e-5), (4.0, 0.99, 20, 1e-6),
]  # fmt: skip
# Noise multiplier over the clipping norm, cohort, clients, rounds, δ.
FIXED = [(4.0, 10, 1000, 1000, 1e-5), (8.0, 10, 100, 100, 1e-6), (2.0, 1, 1000, 10_000, 1e-6), (20.0, 50, 100, 200, 1e-9)]


def seccogc(*flags):
    command = [arguments.program, "account", "--csv", *map(str, flags)]
    table = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    row = next(csv.DictReader(table.splitlines()))
    return {key: float(value) if value else None for key, value in row.items()}


def by_dp_accounting(z, q, rounds, delta):
    """Lower and upper bound; the lattice is a fiftieth of what a round tells, so that it neither costs much nor errs much."""
    step = min(1e-3, max(2e-6, q / z / 50))

    def bound(pessimistic):
        # Only pessimistic bounds connect the dots.
        one = pld.from_gaussian_mechanism(
            z, sampling_prob=q, pessimistic_estimate=pessimistic, value_discretization_interval=step, use_connect_dots=pessimistic)
        return one.self_compose(rounds).get_epsilon_for_delta(delta)

    return bound(False), bound(True)


def by_prv_accountant(z, q, rounds, delta, error):
    """Lower and upper bound; nothing where it gives up."""
    try:
        one = PoissonSubsampledGaussianMechanism(noise_multiplier=z, sampling_probability=q)
        accountant = PRVAccountant(prvs=[one], max_self_compositions=[rounds], eps_error=error, delta_error=delta / 1000)
        lower, _, upper = accountant.compute_epsilon(delta, [rounds])
        return lower, upper
    except (RuntimeError, ValueError, MemoryError):
        return None, None


def by_rdp(z, cohort, clients, rounds, delta):
    """Upper bound: its reach is that of one update in place of another, twice the clipping norm."""
    orders = [1 + x / 100 for x in range(1, 100, 5)] + list(range(2, 65)) + [128, 256, 512]
    accountant = RdpAccountant(orders, neighboring_relation=NeighboringRelation.REPLACE_ONE)
    accountant.compose(SampledWithoutReplacementDpEvent(clients, cohort, GaussianDpEvent(z / 2)), rounds)
    return accountant.get_epsilon(delta)


def main():
    rows = []
    for z, q, rounds, delta in POISSON:
        own = seccogc("--noise-multiplier", z, "--sample-rate", q, "--rounds", rounds, "--delta", delta)
        low, high = by_dp_accounting(z, q, rounds, delta)
        prv = by_prv_accountant(z, q, rounds, delta, max(0.01, 0.005 * own["epsilon"])) if q < 1 else (None, None)
        rows.append(["poisson", z, q, "", "", rounds, delta, own, low, high, *prv])
    for z, cohort, clients, rounds, delta in FIXED:
        own = seccogc("--noise-multiplier", z, "--cohort", cohort, "--clients", clients, "--rounds", rounds, "--delta", delta)
        rows.append(["fixed", z, "", cohort, clients, rounds, delta, own, None, by_rdp(z, cohort, clients, rounds, delta), None, None])
    write(rows)


def write(rows):
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = "sampling,noise_multiplier,rate,cohort,clients,rounds,delta,epsilon,error,renyi,dp_lower,dp_upper,prv_lower,prv_upper".split(",")
    shown, failed, apart = [], [], []
    with open(arguments.out / "accounting.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for sampling, z, q, cohort, clients, rounds, delta, own, *bounds in rows:
            epsilon, error = own["epsilon"], own["composed_error"] or 0.0
            table.writerow([sampling, z, q, cohort, clients, rounds, delta, epsilon, error, own["renyi"]] + ["" if x is None else x for x in bounds])
            lower = max([x for x in bounds[::2] if x is not None and math.isfinite(x)], default=0.0)
            upper = min(x for x in bounds[1::2] if x is not None)
            name = f"{sampling} {z} {q or f'{cohort}/{clients}'} {rounds} {delta}"
            if epsilon < lower * (1 - ROUNDING) or epsilon - error > upper * (1 + ROUNDING):
                failed.append(f"{name}: {epsilon} ± {error} beside {lower} to {upper}")
            if sampling == "poisson":
                apart.append(epsilon / upper - 1)
            number = lambda x: "–" if x is None else f"{x:.5f}"
            shown.append([sampling, f"{z:g}", f"{q:g}" if q else f"{cohort}/{clients}", f"{rounds:,}", f"{delta:g}", number(epsilon), f"{error:.0e}" if error else "exact", number(own["renyi"]), *map(number, bounds)])
    header = ["sampling", "z", "rate", "rounds", "δ", "ε", "stated error", "ε, Rényi", "dp-accounting, lower", "upper", "prv-accountant, lower", "upper"]
    widths = [max(len(line[i]) for line in [header, *shown]) for i in range(len(header))]
    line = lambda cells: "|" + "".join(f" {x:>{w}} |" if i else f" {x:<{w}} |" for i, (x, w) in enumerate(zip(cells, widths)))
    rule = "|" + "".join("-" * (w + 1) + ":|" if i else ":" + "-" * (w + 1) + "|" for i, w in enumerate(widths))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ["dp-accounting", "prv-accountant", "numpy", "scipy"])
    page = "\n".join([line(header), rule, *map(line, shown)])
    page += f"\n\n{len(shown)} settings, {len(failed)} outside. With Poisson sampling ε is {min(apart):+.1e} to {max(apart):+.1e} beside the least upper bound of the others. {versions}.\n"
    (arguments.out / "accounting.md").write_text(page)
    print(page, end="")
    if failed:
        sys.exit("\n".join(failed))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--program", default=ROOT / "target" / "release" / "seccogc")
arguments = parser.parse_args()
warnings.filterwarnings("ignore")
main()
