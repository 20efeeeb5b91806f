"""The ServerApp: Flower's FedAvg, which notes when each round ended and how many examples were trained on."""

import json
import time
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from bench_app.task import build

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds, and write the result."""
    config = context.run_config
    model = build(config["model"], config["folder"], config["classes"])
    stamps: list[float] = []
    samples: list[int] = []

    def total(replies: list[RecordDict], key: str) -> MetricRecord:
        samples.append(sum(int(reply["metrics"][key]) for reply in replies))
        return MetricRecord({key: samples[-1]})

    def stamp(server_round: int, arrays: ArrayRecord) -> None:
        if server_round:
            stamps.append(time.monotonic())

    strategy = FedAvg(
        fraction_train=config["cohort"] / config["clients"],
        fraction_evaluate=0.0,
        min_train_nodes=config["cohort"],
        min_available_nodes=config["clients"],  # else the first rounds begin before all nodes are there
        train_metrics_aggr_fn=total,
    )
    arrays = ArrayRecord(model.state_dict())
    strategy.start(grid, arrays, num_rounds=config["num-server-rounds"], evaluate_fn=stamp)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    told = {"stamps": stamps, "samples": samples, "parameters": parameters}
    Path(config["result"]).write_text(json.dumps(told))
