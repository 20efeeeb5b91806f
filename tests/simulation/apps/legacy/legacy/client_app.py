import os
import time
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    def __init__(self, partition: int) -> None:
        self.target = np.random.Generator(np.random.Philox(partition)).standard_normal(1000)

    def get_parameters(self, config):
        return [np.zeros(1000), np.zeros(())]

    def fit(self, parameters, config):
        w, count = parameters
        step = 0.5 * (self.target - w) + 0.01 * np.random.standard_normal(1000)
        return [w + step, count + 1], 10 + int(abs(self.target[0]) * 10), {"size": float(np.abs(step).sum())}

    def evaluate(self, parameters, config):
        return float(((self.target - parameters[0]) ** 2).mean()), 10, {"accuracy": 0.5}


def client_fn(context: Context):
    if context.run_config["hang"]:
        Path(context.run_config["hang"], f"pid-{os.getpid()}").touch()
        time.sleep(60)
    return Client(context.node_config["partition-id"]).to_client()


app = ClientApp(client_fn=client_fn)
