"""Model, data and training loop of the app; models and arrays are kept for the next client of the same process."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedjourney import plugins
from fedjourney.tasks import Signature


@lru_cache
def arrays(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all clients' examples, mapped."""
    return np.load(Path(folder) / "x.npy", mmap_mode="r"), np.load(Path(folder) / "y.npy", mmap_mode="r")


@lru_cache
def build(name: str, folder: str, classes: int) -> nn.Module:
    """Return the model; `noop` is ten numbers."""
    if name == "noop":
        return nn.Linear(1, 5)
    x, y = arrays(folder)
    signature = Signature({"x": x.shape[1:]}, {"y": y.shape[1:]}, classes)
    return plugins.build("model", plugins.resolve("model", {"name": name}, ""), signature)


def shard(folder: str, client: int, examples: int) -> tuple[Tensor, Tensor]:
    """Return one client's examples, in a new order."""
    x, y = arrays(folder)
    rows = client * examples + torch.randperm(examples).numpy()
    return torch.from_numpy(x[rows]), torch.from_numpy(y[rows])


def train(model: nn.Module, x: Tensor, y: Tensor, batch: int, learning_rate: float) -> None:
    """Do one epoch of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for inputs, targets in zip(x.split(batch), y.split(batch), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten()).backward()
        optimizer.step()
