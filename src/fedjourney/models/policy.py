"""Policy and value networks."""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from fedjourney.tasks import Signature


class _ActorCritic(nn.Module):
    def __init__(self, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Map observations [B, …] to logits and a value, [B, actions + 1]."""
        return torch.cat([self.actor(observations), self.critic(observations)], -1)


def policy(
    signature: Signature,
    /,
    *,
    hidden: list[Annotated[int, Ge(1)]] = [64, 64],  # noqa: B006
    critic: bool = True,
) -> nn.Module:
    """Tanh network for `control`: a logit for each action and, from a network of its own, a value in the last place.

    Weights start orthogonal, √2 wide in hidden layers, 0.01 for the logits and 1 for the value; biases at 0.

    Args:
        signature: one input of any shape, flattened; a class for each action.
        hidden: widths of the hidden layers; none is a linear policy.
        critic: whether there is a value: a2c and ppo need it, evolution does not.

    Reference: Huang et al. 2022, The 37 Implementation Details of Proximal Policy Optimization, details 2 and 3.
    """
    actor = _layers([signature.features, *hidden, signature.classes], last=0.01)
    return _ActorCritic(actor, _layers([signature.features, *hidden, 1], last=1.0)) if critic else actor


def _layers(widths: list[int], last: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for place, (inputs, outputs) in enumerate(pairwise(widths), start=2):
        linear = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(linear.weight, last if place == len(widths) else 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
