"""Control: reinforcement learning in worlds."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.environments import environment_named
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._control import Control
from fedjourney.tasks._policy_gradient import Algorithm, learning


def control(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    algorithm: Algorithm = "ppo",
    environments: Annotated[int, Ge(1), Le(100_000)] = 8,
    steps: Annotated[int, Ge(1), Le(1_000_000)] = 250,
    discount: Annotated[float, Ge(0), Le(1)] = 0.99,
    mixing: Annotated[float, Ge(0), Le(1)] | None = None,
    clip: Annotated[float, Gt(0)] | None = None,
    epochs: Annotated[int, Ge(1), Le(10_000)] | None = None,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] | None = None,
    entropy: Annotated[float, Ge(0)] = 0.0,
    value_weight: Annotated[float, Ge(0)] = 0.5,
    reward_scale: Annotated[float, Gt(0)] = 1.0,
    episodes: Annotated[int, Ge(1), Le(100_000)] = 2,
) -> Task:
    """Control an environment (data `worlds`): the return of greedy episodes; REINFORCE, A2C or PPO to learn by.

    A pass of an update is one rollout with the parameters as they are then: `environments` episodes side by side for
    `steps` steps, the next beginning where one ends. "reinforce" and "a2c" take one gradient step on it, "ppo" several.
    Advantages are normalised over the client's rollout. Evolution needs none of it: fitness is the greedy return.

    Args:
        make_model: builds the policy; without a critic only "reinforce" can be learned by.
        signature: one observation, a class for each action, and among the targets the environment's world.
        dtype: of parameters; the environment computes in float64.
        algorithm: "reinforce" sums rewards to the end and takes the value as baseline, "a2c" and "ppo" mix n-step
            estimates; "ppo" clips.
        environments: episodes side by side.
        steps: of each of them in a rollout; where it ends, the value stands for the rest of the episode.
        discount: γ.
        mixing: λ of generalised advantage estimation; default 0.95, of "reinforce" always 1.
        clip: of "ppo", how far the probability ratio may move; default 0.2.
        epochs: of "ppo", passes over one rollout; default 4.
        batch_size: of "ppo", steps in a minibatch; default 500.
        entropy: weight of the policy's entropy.
        value_weight: weight of the value's squared error.
        reward_scale: what rewards are multiplied by before they are learned from, so that values are of the size of 1;
            returns that are told, and fitness, are not.
        episodes: episodes by which a strategy of evolution scores each candidate.

    References: Williams 1992, Simple statistical gradient-following algorithms (REINFORCE); Mnih et al. 2016,
    https://arxiv.org/abs/1602.01783 (A2C, without its asynchrony); Schulman et al. 2017,
    https://arxiv.org/abs/1707.06347 (PPO).
    """
    names = [name for name in signature.outputs if name != "state"]
    if "state" not in signature.outputs or len(names) != 1:
        raise ConfigError(
            f"[task] control expects episodes of an environment, got targets {', '.join(signature.outputs)}. "
            'Take [data] name = "worlds".'
        )
    how = learning(
        algorithm, discount, mixing, clip, epochs, batch_size, entropy, value_weight,
        usual_mixing=0.95, usual_batch=500, rollout=environments * steps,
    )  # fmt: skip
    task = Control(
        make_model, signature, dtype, environment_named(names[0]), how, environments, steps, episodes, reward_scale
    )
    if algorithm != "reinforce" and not task.has_value:
        raise ConfigError(
            f'[task] algorithm: "{algorithm}" expects a model with a value besides the logits, got none. '
            'Take [model] name = "policy" with critic = true, or algorithm = "reinforce" (evolution reads neither).'
        )
    return task
