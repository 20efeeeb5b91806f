from flwr.app import Context
from flwr.common import parameters_to_ndarrays
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp


class Strategy(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        aggregated = super().aggregate_fit(server_round, results, failures)
        arrays = parameters_to_ndarrays(aggregated[0])
        print("round", server_round, len(results), len(failures), float(arrays[0].sum()).hex(), float(arrays[1]))
        return aggregated


def server_fn(context: Context):
    return ServerAppComponents(strategy=Strategy(), config=ServerConfig(num_rounds=context.run_config["rounds"]))


app = ServerApp(server_fn=server_fn)
