import sys

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    print("nodes", len(list(grid.get_node_ids())))
    least = config["min-available-nodes"]
    strategy = FedAvg(fraction_train=config["fraction"], fraction_evaluate=1.0, min_available_nodes=least)
    result = strategy.start(grid, ArrayRecord([np.zeros(3000)]), num_rounds=config["rounds"])
    (w,) = result.arrays.to_numpy_ndarrays()
    print("parameters", w[:4].tolist(), float(np.abs(w).sum()))
    print("name", config["name"], "torch imported:", "torch" in sys.modules)
    if config["result"]:
        np.save(config["result"], w)
