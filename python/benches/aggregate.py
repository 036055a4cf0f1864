"""What `Aggregator.aggregate` takes beside the crate's own work.

python python/benches/aggregate.py [REPEATS]

Medians of the whole call and of the native call in it, which is the crate's `aggregate` and nothing else of
this package, for updates that are arrays and for state_dicts of many.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np

import seccogc


class Timed:
    """The native aggregator with a watch."""

    def __init__(self, native: Any) -> None:
        self.native, self.seconds = native, 0.0

    def aggregate(self, *args: Any) -> Any:
        begun = time.perf_counter()
        found = self.native.aggregate(*args)
        self.seconds = time.perf_counter() - begun
        return found


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for clients, size in [(10, 1_000), (10, 1_663_370)]:
        flat = [np.random.default_rng(k).normal(size=size).astype(np.float32) for k in range(clients)]
        dicts = [{str(i): part for i, part in enumerate(np.array_split(one, 20))} for one in flat]
        for form, updates in [("one array", flat), ("20 arrays", dicts)]:
            scheme = seccogc.Aggregator(
                {"kind": "sec-cogc", "stragglers": 3}, clients=clients, rounds=repeats + 1
            )
            watch = scheme._native = Timed(scheme._native)  # type: ignore[assignment]
            whole, native = [], []
            for number in range(1, repeats + 2):
                begun = time.perf_counter()
                scheme.aggregate(updates, round=number)
                whole.append(time.perf_counter() - begun)
                native.append(watch.seconds)
            own, inner = statistics.median(whole[1:]), statistics.median(native[1:])
            print(
                f"{clients} clients, d = {size:,}, {form}: {1e3 * own:.3f} ms, "
                f"native {1e3 * inner:.3f} ms, ratio {own / inner:.3f}"
            )


if __name__ == "__main__":
    main()
