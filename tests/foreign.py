"""Plug-ins as somebody else may write them, named in configs as `"foreign:name"`."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fedjourney.data import Examples
from fedjourney.data.digits import digits
from fedjourney.strategies import Ask
from fedjourney.strategies.fedavg import FedAvg
from fedjourney.tasks.classification import classification


def overlapping(columns, num_examples, seed, /):
    return [np.arange(3), np.arange(2, 5)]


def beyond(columns, num_examples, seed, /):
    return [np.arange(num_examples + 1)]


def fractions(columns, num_examples, seed, /):
    return [np.array([0.5, 1.5])]


def nobody(columns, num_examples, seed, /):
    return []


def not_shards(columns, num_examples, seed, /):
    return 7


def no_data(source, /):
    return None


def optional(columns, num_examples, seed, /, *, most: int | None = None, anything=3):
    return [np.arange(num_examples)[:most]]


def unknown_annotation(columns, num_examples, seed, /, *, x: "NoSuchType" = 1):  # noqa: F821
    return [np.arange(num_examples)]


def two_dimensional(columns, num_examples, seed, /):
    return np.zeros((2, 3), dtype=np.int64)


def unlike_lengths(source, /):
    found = digits(source)
    return replace(found, train=Examples(found.train.x, {"label": found.train.y["label"][1:]}))


def no_tensors(source, /):
    found = digits(source)
    return replace(found, train=Examples({"image": found.train.x["image"].numpy()}, found.train.y))


def says_nothing(make_model, signature, dtype, /):
    task = classification(make_model, signature, dtype)
    task.summary = lambda sums: None
    return task


class NoHalves(FedAvg):
    """Has nothing for clients to do."""

    def halves(self, task, update):
        return {}


class ForgetsParameters(FedAvg):
    """Steps to fewer parameters."""

    def tell(self, round, params, cohort):
        return dict(list(super().tell(round, params, cohort).items())[1:])


class AsksTwice(FedAvg):
    """Asks a client twice."""

    def ask(self, round, params, clients):
        return Ask(params, [clients[0], clients[0]])


class Seeks(FedAvg):
    """Says that it is moved by scores, and that all count the same."""

    evolution, weighted = True, False


class Counts(FedAvg):
    """Remembers plain values beside tensors."""

    def tell(self, round, params, cohort):
        self.state = {
            "rounds": self.state.get("rounds", 0) + 1,
            "seen": [*self.state.get("seen", []), cohort.clients],
            "said": "so far",
            "last": torch.tensor(round),
        }
        return super().tell(round, params, cohort)


def huge(signature, /):
    return nn.Sequential(nn.Flatten(), nn.Linear(signature.features, 10**13))
