"""The ClientApp: local SGD from the parameters that came, no evaluation."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bench_app.task import build, shard
from bench_app.task import train as sgd

torch.set_num_threads(1)
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this node's examples; with no epochs, send back what came."""
    config, arrays = context.run_config, message.content["arrays"]
    if config["epochs"]:
        model = build(config["model"], config["folder"], config["classes"])
        model.load_state_dict(arrays.to_torch_state_dict())
        for _ in range(config["epochs"]):
            x, y = shard(config["folder"], context.node_config["partition-id"], config["examples"])
            sgd(model, x, y, config["batch"], config["learning-rate"])
        arrays = ArrayRecord(model.state_dict())
    metrics = MetricRecord({"num-examples": config["examples"] * max(config["epochs"], 1)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
