"""Epsilon curves of composed Gaussian mechanisms by Google's dp-accounting, as known answers for src/privacy/ldp.rs.

Two independent routes: the library's closed form for one Gaussian mechanism of the composed strength, and its discretised
privacy-loss distributions, composed numerically `rounds` times, once rounded pessimistically and once optimistically: the true
epsilon lies between them.
"""
import csv
import math
import sys

from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld import privacy_loss_mechanism as mechanism

CASES = [
    # (mu of one round, rounds, delta)
    (0.05, 1, 1e-3), (0.1, 1, 1e-3), (0.5, 1, 1e-5), (1.0, 1, 1e-5), (1.0, 1, 1e-10), (2.0, 1, 1e-5), (5.0, 1, 1e-5),
    (0.05, 100, 1e-5), (0.1, 100, 1e-5), (0.2, 150, 1e-5), (0.01, 1000, 1e-6), (0.5, 20, 1e-8),
]


def main() -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["mu", "rounds", "delta", "epsilon_closed", "epsilon_pld_low", "epsilon_pld_high"])
    for mu, rounds, delta in CASES:
        closed = mechanism.GaussianPrivacyLoss(1 / (mu * math.sqrt(rounds))).get_delta_for_epsilon
        low, high = 0.0, 200.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if closed(middle) > delta else (low, middle)
        bounds = []
        for pessimistic in (False, True):
            loss = pld.from_gaussian_mechanism(
                1 / mu, value_discretization_interval=1e-5 if rounds > 1 else 1e-4,
                pessimistic_estimate=pessimistic, use_connect_dots=pessimistic)
            bounds.append(loss.self_compose(rounds).get_epsilon_for_delta(delta))
        out.writerow([mu, rounds, delta, f"{high:.12g}", f"{bounds[0]:.8g}", f"{bounds[1]:.8g}"])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
