import random

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
print("client module imported")


def shard(partition):
    generator = np.random.Generator(np.random.Philox(partition))
    x = generator.standard_normal((20 + partition, 3000))
    return x, x[:, :4] @ np.array([1.0, -2.0, 3.0, 0.5])


@app.train()
def train(message: Message, context: Context) -> Message:
    partition, config = context.node_config["partition-id"], context.run_config
    assert context.node_config["num-partitions"] > partition
    x, y = shard(partition)
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    for _ in range(config["train.steps"]):
        w = w - config["learning-rate"] * x.T @ (x @ w - y) / len(y)
    w = w + config["noise"] * (np.random.standard_normal(w.shape) + random.random())
    loss = float(np.mean((x @ w - y) ** 2))
    print(f"partition {partition} loss {loss:.6f}")
    metrics = MetricRecord({"loss": loss, "num-examples": len(y)})
    return Message(RecordDict({"arrays": ArrayRecord([w]), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    x, y = shard(context.node_config["partition-id"])
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    metrics = MetricRecord({"error": float(np.mean((x @ w - y) ** 2)), "num-examples": len(y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
