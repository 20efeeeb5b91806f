"""PennyLane's layers, made to use the parameters that they are given."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


class _Registered(Mapping[str, torch.Tensor]):
    """A module's own parameters by name, as they are now."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        self._parameters, self._names = module._parameters, names

    def __getitem__(self, name: str) -> Any:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def with_live_weights(model: nn.Module) -> nn.Module:
    """Let every `TorchLayer` in a model read its weights where PyTorch keeps them.

    A TorchLayer registers its parameters, but computes with a dict of its own, `qnode_weights`; whoever calls it with
    other parameters (`fedjourney.stateless`, as all tasks do) would be answered with the old ones.
    """
    for module in model.modules():
        weights = module.__dict__.get("qnode_weights")
        if isinstance(weights, dict) and set(weights) <= set(module._parameters):
            module.__dict__["qnode_weights"] = _Registered(module, list(weights))
    return model
