"""What a node does. For SecCoGC: the mod, and nothing else."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flower_app import task
from seccogc.flower import seccogc_mod

app = ClientApp(mods=[seccogc_mod])


def arrays(record: ArrayRecord) -> dict:
    return {name: array.numpy().copy() for name, array in record.items()}


@app.train()
def train(msg: Message, context: Context) -> Message:
    model = arrays(msg.content["arrays"])
    x, y = task.shard(int(context.node_config["partition-id"]))
    run = context.run_config
    loss = task.train(model, x, y, int(run["local-steps"]), float(run["learning-rate"]))
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in model.items()}),
            "metrics": MetricRecord({"num-examples": len(y), "train-loss": loss}),
        }
    )
    return Message(content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    x, y = task.shard(int(context.node_config["partition-id"]))
    correct = task.accuracy(arrays(msg.content["arrays"]), x, y)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": correct})
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)
