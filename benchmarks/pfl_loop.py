"""pfl-research (PyPI: pfl): its SimulatedBackend and FederatedAveraging, in one process of some threads.

python benchmarks/pfl_loop.py WORK.json THREADS     prints one measurement as JSON
"""

import json
import sys
import time
from typing import Any

import torch
from bare_loop import loss_of
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from work import Work, build, read


class Model(nn.Module):
    """Our model with the two methods that pfl asks of one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(self.model(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        return {"loss": Weighted(float(self.loss(x, y)) * len(x), len(x))}


class Stamps(TrainingProcessCallback):
    """Notes when each central iteration has ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def after_central_iteration(self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int) -> Any:
        self.stamps.append(time.monotonic())
        return False, Metrics()


def measure(work: Work, threads: int) -> dict[str, Any]:
    """Run it without evaluation (but in its first iteration, which it insists on and which does not count)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, y = (torch.from_numpy(array.copy()) for array in work.arrays())
    users = list(zip(x.split(work.examples), y.split(work.examples), strict=True))
    seen = [0]

    def dataset(user: int) -> PyTorchTensorDataset:
        seen[0] += work.examples * work.epochs
        return PyTorchTensorDataset(users[user], user_id=str(user))

    module = Model(build(work))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    data = FederatedDataset(dataset, get_user_sampler("random", range(work.clients)))
    stamps = Stamps()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=work.total_rounds,
            evaluation_frequency=work.total_rounds,
            train_cohort_size=work.cohort,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_num_epochs=work.epochs, local_learning_rate=work.learning_rate, local_batch_size=work.batch
        ),
        NNEvalHyperParams(local_batch_size=work.batch),
        callbacks=[stamps],
        send_metrics_to_platform=False,
    )
    parameters = sum(tensor.numel() for tensor in module.parameters())
    samples = seen[0] // work.total_rounds
    return {"tracks": [{"stamps": stamps.stamps, "samples": samples}], "parameters": parameters}


if __name__ == "__main__":
    print(json.dumps(measure(read(sys.argv[1]), int(sys.argv[2]))))
