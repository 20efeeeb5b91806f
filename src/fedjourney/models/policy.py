"""Policy and value networks."""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import nn

from fedjourney.tasks import Signature


class _Linear(nn.Module):
    """A dense layer whose parameters may carry further axes in front, as its inputs then do."""

    def __init__(self, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
        nn.init.orthogonal_(self.weight, gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., B, inputs] to [..., B, outputs]."""
        return x @ self.weight.mT + self.bias.unsqueeze(-2)


class _Actor(nn.Sequential):
    populations = True  # a whole population's parameters [M, …] work on observations [M, B, …] at once


class _ActorCritic(nn.Module):
    populations = True

    def __init__(self, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Map observations [..., B, O] to logits and a value, [..., B, actions + 1]."""
        return torch.cat([self.actor(observations), self.critic(observations)], -1)


def policy(
    signature: Signature,
    /,
    *,
    hidden: list[Annotated[int, Ge(1), Le(65_536)]] = [64, 64],  # noqa: B006
    critic: bool = True,
) -> nn.Module:
    """Tanh network for `control`: a logit for each action and, from a network of its own, a value in the last place.

    Weights start orthogonal, √2 wide in hidden layers, 0.01 for the logits and 1 for the value; biases at 0.

    Args:
        signature: observations of one axis; a class for each action.
        hidden: widths of the hidden layers; none is a linear policy.
        critic: whether there is a value: a2c and ppo need it, evolution does not.

    Reference: Huang et al. 2022, The 37 Implementation Details of Proximal Policy Optimization, details 2 and 3.
    """
    actor = _layers([signature.features, *hidden, signature.classes], last=0.01)
    return _ActorCritic(actor, _layers([signature.features, *hidden, 1], last=1.0)) if critic else actor


def _layers(widths: list[int], last: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(widths), start=2):
        layers += [_Linear(inputs, outputs, last if place == len(widths) else 2**0.5), nn.Tanh()]
    return _Actor(*layers[:-1])
