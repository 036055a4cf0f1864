"""Which code suits a network: how often rounds are recovered, what that costs, and a figure."""

import pandas as pd

import seccogc

# Ten clients whose uploads are lost with 0.05 to 0.95; the links between clients get worse.
config = seccogc.Config(seccogc.configs / "mnist.toml")
grid = seccogc.recover(
    config, vary=("network.client_client.erasure", [0, 0.05, 0.1, 0.2, 0.4]), rounds=20_000
)
table = pd.DataFrame(grid).pivot(index="stragglers", columns="value", values="probability")
print(table.round(3))
grid.figure.save("recovery.png")

# The candidates that no other beats in outage, bytes, conditioning and leakage at once.
plan = pd.DataFrame(seccogc.plan(config))
print(plan[plan["pareto"]][["code", "stragglers", "outage", "bytes", "leakage_server"]].head(10))
