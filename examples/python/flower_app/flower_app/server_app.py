"""What the server does. For SecCoGC: the strategy in `SecCoGc`, and nothing else."""

from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from flower_app import task
from seccogc.flower import SecCoGc

app = ServerApp()


def evaluate(round: int, arrays: ArrayRecord) -> MetricRecord:
    model = {name: array.numpy() for name, array in arrays.items()}
    return MetricRecord({"accuracy": task.accuracy(model, *task.held_out())})


@app.main()
def main(grid: Grid, context: Context) -> None:
    run = context.run_config
    erasure = float(run["erasure"])
    strategy = SecCoGc(
        FedAvg(fraction_evaluate=0.0),
        {"stragglers": int(run["stragglers"]), "key_std": float(run["key-std"])},
        links={"client_server": {"erasure": erasure}} if erasure > 0 else None,
        out=str(run["out"]) or None,
    )
    arrays = ArrayRecord({name: Array(array) for name, array in task.start().items()})
    result = strategy.start(grid, arrays, num_rounds=int(run["rounds"]), evaluate_fn=evaluate)
    print("accuracy:", result.evaluate_metrics_serverapp[int(run["rounds"])]["accuracy"])
