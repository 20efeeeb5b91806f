"""The work that every system does: sizes, examples on disk, and the model, the same for all of them."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedjourney import plugins
from fedjourney.data import Dataset, Examples, Source
from fedjourney.data.huggingface import huggingface
from fedjourney.data.python_topics import python_topics
from fedjourney.errors import ConfigError
from fedjourney.storage import cache_dir, data_dir
from fedjourney.tasks import Signature

MODELS: dict[str, dict[str, Any]] = {
    "lenet": {"model": {"name": "lenet"}, "clients": 1000, "examples": 60, "cohort": 100},
    "mlp": {"model": {"name": "mlp"}, "clients": 1000, "examples": 60, "cohort": 100},
    "cnn": {"model": {"name": "cnn"}, "clients": 100, "examples": 60, "cohort": 10},
    "lstm": {"model": {"name": "lstm"}, "clients": 100, "examples": 60, "cohort": 10},
    "cifar": {"model": {"name": "work:pfl_cnn"}, "clients": 1000, "examples": 50, "cohort": 50},
    "noop": {"model": {"name": "mlp", "hidden": []}, "clients": 10_000, "examples": 1, "cohort": 100, "epochs": 0},
}
"""What is measured; `noop` is ten numbers that go to clients and come back as they are.

`cifar` is the CIFAR-10 benchmark of pfl-research (its users, cohort and network, without the dropout), meant for a GPU.
"""


@dataclass(frozen=True)
class Work:
    """One model's work.

    Attributes:
        model: of `MODELS`.
        clients: N in all.
        examples: that each holds.
        cohort: K clients a round.
        batch: examples a step.
        epochs: passes over a client's examples; 0 = clients do nothing.
        learning_rate: of plain SGD.
        rounds: that count.
        warmup: rounds before them that do not.
        workers: processes, one a core.
        classes: of the examples.
        device: that clients compute on.
        folder: holds `x.npy`, `y.npy` and this as `work.json`.
    """

    model: str
    clients: int
    examples: int
    cohort: int
    batch: int
    epochs: int
    learning_rate: float
    rounds: int
    warmup: int
    workers: int
    classes: int
    device: str
    folder: str

    @property
    def samples(self) -> int:
        """Examples that all clients of a round see together; of clients that do nothing, those that they hold."""
        return self.cohort * self.examples * max(self.epochs, 1)

    @property
    def total_rounds(self) -> int:
        """Rounds that are run."""
        return self.warmup + self.rounds

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all clients' x [N * examples, …] and y, mapped; client i holds the i-th slice."""
        folder = Path(self.folder)
        return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


def prepare(model: str, folder: Path, **sizes: Any) -> Work:
    """Write the examples into a folder, and return the work; `sizes` replace those of `MODELS` where not None."""
    said = {"epochs": 1, "device": "cpu", **{key: value for key, value in MODELS[model].items() if key != "model"}}
    said |= {key: value for key, value in sizes.items() if value is not None}
    if model == "noop":
        said["epochs"] = 0
    if said["cohort"] > said["clients"]:
        raise ConfigError(f"{model}: expected a cohort of at most the {said['clients']} clients, got {said['cohort']}.")
    x, y, classes = _examples(model, said["clients"] * said["examples"])
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    work = Work(model=model, classes=classes, folder=str(folder), **said)
    (folder / "work.json").write_text(json.dumps(asdict(work)))
    return work


def read(path: str) -> Work:
    """Return the work that a `work.json` describes."""
    return Work(**json.loads(Path(path).read_text()))


def _examples(model: str, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return x [count, …], y and the number of classes; a set that is too small begins again."""
    if model == "noop":
        return np.zeros((count, 1), np.float32), np.arange(count) % 5, 5
    source = Source(data_dir(), cache_dir(), 0, Path.cwd())
    if model == "lstm":
        found = python_topics(source, sequence_length=80, validation=0.0, test=0.0)
    else:
        name = "uoft-cs/cifar10" if model == "cifar" else "ylecun/mnist"
        found = huggingface(source, set=name, validation=0.0)
    x, y = next(iter(found.train.x.values())), next(iter(found.train.y.values()))
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(x))[np.arange(count) % len(x)])
    return x[rows].numpy(), y[rows].numpy(), found.classes


def prepared(source: Source, /, *, path: str) -> Dataset:
    """The examples of `make bench` as fedjourney's [data] "work:prepared"; nothing is held back from training."""
    work = read(os.path.join(path, "work.json"))
    x, y = (np.array(array) for array in work.arrays())
    inputs, targets = names(work)
    train = Examples({inputs: torch.from_numpy(x)}, {targets: torch.from_numpy(y)})
    none = train.cut(slice(0, 0))
    columns = {targets: y} if y.ndim == 1 else {}
    return Dataset(work.model, train, none, none, columns, work.classes, hashlib.sha256(x.data).hexdigest())


def names(work: Work) -> tuple[str, str]:
    """Return the names of input and target."""
    return ("tokens", "next") if work.model == "lstm" else ("image", "label")


def pfl_cnn(signature: Signature, /) -> nn.Module:
    """Two 3x3 convolutions (32, 64), 2x2 pooling, 128 units: the network of pfl-research's CIFAR-10 benchmark."""
    channels, height, width = next(iter(signature.inputs.values()))
    features = 64 * ((height - 4) // 2) * ((width - 4) // 2)
    convolutions = [nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *convolutions, nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, signature.classes)
    )


def build(work: Work) -> nn.Module:
    """Return fedjourney's model, for whoever trains it."""
    x, y = work.arrays()
    inputs, targets = names(work)
    signature = Signature({inputs: x.shape[1:]}, {targets: y.shape[1:]}, work.classes)
    return plugins.build("model", plugins.resolve("model", MODELS[work.model]["model"], ""), signature)


def flower_config(work: Work, result: Path) -> dict[str, Any]:
    """Return the run config of `flower_app/`."""
    sizes = ("clients", "cohort", "examples", "batch", "epochs", "classes", "folder")
    said: dict[str, Any] = {key: getattr(work, key) for key in sizes}
    said |= {"learning-rate": work.learning_rate, "num-server-rounds": work.total_rounds}
    return said | {"model": work.model, "result": str(result)}
