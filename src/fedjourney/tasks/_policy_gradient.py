"""What policies are learned by: REINFORCE, A2C and PPO on actions whose advantage is known."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import torch

from fedjourney.batching import Batch, minibatches
from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for
from fedjourney.tasks import MakeModel, initial_parameters
from fedjourney.tensors import Tensors, placed

Algorithm: TypeAlias = Literal["reinforce", "a2c", "ppo"]
STEPS = "environment-steps"


@dataclass(frozen=True)
class Learning:
    """How a policy is learned from rollouts; see `control` for what each number means."""

    algorithm: Algorithm
    discount: float
    mixing: float
    clip: float
    epochs: int
    batch_size: int
    entropy: float
    value_weight: float


def learning(
    algorithm: Algorithm,
    discount: float,
    mixing: float | None,
    clip: float | None,
    epochs: int | None,
    batch_size: int | None,
    entropy: float,
    value_weight: float,
    *,
    usual_mixing: float,
    usual_batch: int,
    rollout: int,
) -> Learning:
    """Return it from a task's options; None is what `algorithm` usually takes.

    That is λ = `usual_mixing` (REINFORCE: always 1), and for PPO minibatches of `usual_batch` of a rollout's examples.

    Raises:
        ConfigError: an option is given that the algorithm does not read.
    """
    of_ppo = {"clip": clip, "epochs": epochs, "batch_size": batch_size}
    unread = [name for name, value in of_ppo.items() if value is not None and algorithm != "ppo"]
    unread += ["mixing"] if mixing is not None and algorithm == "reinforce" else []
    if unread:
        raise ConfigError(
            f'[task] {unread[0]} is set, but algorithm "{algorithm}" does not use it. Remove it; on the command line '
            f"`{' '.join(f'--set task.{name}=' for name in unread)}` does."
        )
    ppo = algorithm == "ppo"
    return Learning(
        algorithm,
        discount,
        mixing=1.0 if algorithm == "reinforce" else usual_mixing if mixing is None else mixing,
        clip=clip or 0.2,
        epochs=epochs or (4 if ppo else 1),
        batch_size=batch_size or (min(usual_batch, rollout) if ppo else rollout),
        entropy=entropy,
        value_weight=value_weight,
    )


class PolicyGradient:
    """What tasks share whose policy is learned from rollouts.

    Attributes:
        batch_size: examples in a minibatch.
        spent: `environment-steps` taken to train, since `metered`.
    """

    def __init__(self, make_model: MakeModel, dtype: torch.dtype, learning: Learning) -> None:
        self.dtype, self.learning, self.batch_size = dtype, learning, learning.batch_size
        self._make_model = make_model
        self.spent = {STEPS: 0.0}

    def metered(self) -> Self:
        """Return this task with a meter of its own: `spent` counts the environment's steps in training."""
        other = copy.copy(self)
        other.spent = {STEPS: 0.0}
        return other

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""
        return initial_parameters(self._make_model, seed, self.dtype)

    def passes(self, x: Tensors, y: Tensors, device: torch.device, seed: int) -> Iterable[Batch]:
        """Yield one rollout in `epochs` passes of minibatches, and count its actions.

        Environments are computed on the CPU, steps wherever clients are.
        """
        self.spent[STEPS] += float(y["action"].numel())
        x, y = placed(x, device), placed(y, device)
        for epoch in range(self.learning.epochs):
            yield from minibatches(x, y, self.batch_size, seed_for(seed, "epoch", epoch))

    def learned_from(self, logits: torch.Tensor, action: torch.Tensor, found: Tensors) -> Tensors:
        """Return the targets of a rollout: actions, advantages (normalised over all of it), returns, log-probabilities.

        The advantage of a single action stays as it is: one number has no spread.

        Args:
            logits: when it was acted [..., A].
            action: what was done [...].
            found: `advantage` and `return` [...].
        """
        advantage = found["advantage"]
        if advantage.numel() > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return {
            "action": action,
            "advantage": advantage,
            "return": found["return"],
            "log_probability": torch.log_softmax(logits, -1).gather(-1, action[..., None]).squeeze(-1),
        }

    def losses(self, logits: torch.Tensor, values: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return -(gain + entropy H) + value_weight (V - R)² [...] of logits [..., A] and values [...]."""
        logs = torch.log_softmax(logits, -1)
        taken = logs.gather(-1, y["action"][..., None]).squeeze(-1)
        if self.learning.algorithm == "ppo":  # Schulman et al. 2017, equation 7
            ratio = (taken - y["log_probability"]).exp()
            gain = torch.minimum(
                ratio * y["advantage"], ratio.clamp(1 - self.learning.clip, 1 + self.learning.clip) * y["advantage"]
            )
        else:
            gain = taken * y["advantage"]
        spread, error = -(logs.exp() * logs).sum(-1), values - y["return"]
        return -gain - (self.learning.entropy * spread) + (self.learning.value_weight * (error * error))
