import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    arrays = ArrayRecord([np.zeros((10, 64)), np.zeros(10)])
    strategy = FedAvg(fraction_evaluate=0.0)
    result = strategy.start(grid, arrays, num_rounds=context.run_config["rounds"])
    print("sum", sum(float(np.abs(w).sum()) for w in result.arrays.to_numpy_ndarrays()).hex())
