"""FedAvg written a second time, as plain PyTorch: modules, torch.optim, own shuffling; shards and rates are shared.

python benchmarks/plain_fedavg.py configs/mnist-2nn-fedavg.toml [ROUNDS]     prints test accuracy after every round
"""

import copy
import sys

import numpy as np
import torch
from torch import nn

from fedjourney import config, plugins
from fedjourney.plan import plan
from fedjourney.tasks import signature_of


def main(path: str, rounds: int | None) -> None:
    experiment = config.load(path)
    built = plan(experiment)
    chance = np.random.default_rng(experiment.seed)
    torch.manual_seed(experiment.seed)
    model = plugins.build("model", experiment["model"], signature_of(built.dataset))
    update, size = experiment["update"], experiment["task"]["batch_size"]
    images, labels = built.dataset.train.x["image"], built.dataset.train.y["label"]
    for number in range(1, (rounds or experiment.rounds) + 1):
        total, weight = {name: torch.zeros_like(p) for name, p in model.state_dict().items()}, 0
        for client in chance.choice(len(built.shards), built.setting.cohort, replace=False):
            local, rows = copy.deepcopy(model), built.shards[client]
            optimizer = torch.optim.SGD(local.parameters(), lr=update["learning_rate"])
            for _ in range(update["epochs"]):
                for batch in torch.from_numpy(chance.permutation(rows)).split(size):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(local(images[batch]), labels[batch]).backward()
                    optimizer.step()
            for name, tensor in local.state_dict().items():
                total[name] += len(rows) * tensor
            weight += len(rows)
        model.load_state_dict({name: tensor / weight for name, tensor in total.items()})
        with torch.no_grad():
            test = built.dataset.test
            right = sum(
                int((model(x).argmax(1) == y).sum())
                for x, y in zip(test.x["image"].split(1000), test.y["label"].split(1000), strict=True)
            )
        print(f"{number} {right / len(test):.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
