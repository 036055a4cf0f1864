"""Errors of the models at the last ten tests (mean ± deviation) beside least squares: python3 experiments/regression/table.py OUT"""

import csv
import pathlib
import statistics
import sys

out = pathlib.Path(sys.argv[1])
with open(out / "run" / "summary.csv", newline="") as file:
    summaries = {row["protocol"]: row for row in csv.DictReader(file)}
rows = []
for folder in sorted((out / "run").glob("*/seed-*")):
    with open(folder / "rounds.csv", newline="") as file:
        last = [row for row in csv.DictReader(file) if row["test_mse"]][-10:]
    names = [name for name in summaries if name.lower().replace(" ", "-") == folder.parent.name]
    recovered = 100 * int(summaries[names[0]]["recovered"]) / int(summaries[names[0]]["rounds"])
    values = {key: [float(row[f"test_{key}"]) for row in last] for key in ("mse", "mae", "r2")}
    numbers = [
        f"{statistics.mean(values[key]):.{digits}f} ± {statistics.stdev(values[key]):.{digits}f}"
        for key, digits in (("mse", 1), ("mae", 2), ("r2", 4))
    ]
    rows.append([names[0], f"{recovered:.1f}", *numbers])
rows.sort(key=lambda row: list(summaries).index(row[0]))
with open(out / "data" / "least_squares.csv", newline="") as file:
    best = next(csv.DictReader(file))
rows.append(["least squares of all data", "", f"{float(best['mse']):.1f}", f"{float(best['mae']):.2f}", best["r2"]])
header = ["model", "recovered (%)", "mse", "mae", "r2"]
with open(out / "errors.csv", "w", newline="") as file:
    csv.writer(file).writerows([header, *rows])
widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
with open(out / "errors.md", "w") as file:
    cells = lambda line: [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
    rule = [":" + "-" * (widths[0] + 1)] + ["-" * (width + 1) + ":" for width in widths[1:]]
    file.write("| " + " | ".join(cells(header)) + " |\n|" + "|".join(rule) + "|\n")
    file.writelines("| " + " | ".join(cells(row)) + " |\n" for row in rows)
