"""The README's table of what run.py left: python3 experiments/deployment/table.py OUT"""

import csv
import sys
from pathlib import Path

CLIENTS = 8
HEAD = [
    "run",
    "rounds over all 8",
    "over 7 or fewer, all who were asked",
    "over some of these",
    "outages",
    "test accuracy",
    "s a round",
    "MB a round, counted",
    "on the wire",
    "server, MB",
    "client, MB",
]


def number(value, digits):
    return f"{float(value):,.{digits}f}" if value else ""


def cells(row, rounds):
    recovered = [one for one in rounds if one["outcome"] == "recovered"]
    whole = sum(int(one["cohort"]) == CLIENTS for one in recovered)
    counts = [whole, len(recovered) - whole, *(int(row[key] or 0) for key in ["partial", "outages"])]
    numbers = [("seconds_per_round", 2), ("counted_mb_per_round", 2), ("wire_mb_per_round", 2)]
    numbers += [("server_memory_mb", 0), ("client_memory_mb", 0)]
    numbers = [number(row[key], digits) for key, digits in numbers]
    return [row["protocol"], *counts, f"{100 * float(row['test_accuracy']):.2f} %", *numbers]


def main():
    out = Path(sys.argv[1])
    lines = [HEAD, [":--"] + ["--:"] * (len(HEAD) - 1)]
    with open(out / "deployment.csv", newline="") as file:
        for row in csv.DictReader(file):
            folder = out / "runs" / row["protocol"].replace(", ", "-").replace(" ", "-")
            with open(folder / "out/rounds.csv", newline="") as rounds:
                lines.append(cells(row, list(csv.DictReader(rounds))))
    text = "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
    (out / "deployment.md").write_text(text)


if __name__ == "__main__":
    main()
