"""Episodes: rollouts to learn from, and greedy ones to be judged by.

n episodes go side by side, T steps one after the other; O numbers are observed, of A actions one is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fedjourney.data import Examples
from fedjourney.environments import Environment
from fedjourney.seeds import permutation, seed_for, uniform
from fedjourney.tensors import Tensors

Act = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Rollout:
    """T steps of n episodes side by side; when one ends the next begins in its place.

    Attributes:
        observation: before each step [T, n, O] float32.
        following: after it, and before the next episode begins [T, n, O] float32.
        action: what was done [T, n] int64.
        reward: what it gave [T, n] float64.
        terminated: whether the episode is over for good, so that nothing more can be earned [T, n].
        ended: whether another episode begins with the next step: terminated, or the time limit [T, n].
    """

    observation: torch.Tensor
    following: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    ended: torch.Tensor


def hidden(environment: Environment, shard: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return states [n, S] and worlds [n, W] of a shard's rows."""
    return shard.y["state"].cpu().numpy(), shard.y[environment.name].cpu().numpy()


def rollout(logits: Act, environment: Environment, shard: Examples, count: int, steps: int, seed: int) -> Rollout:
    """Act by drawing from softmax(logits) for `steps` steps in `count` episodes; starts are the shard's, in turn."""
    starts, worlds = hidden(environment, shard)
    order = permutation(seed_for(seed, "starts"), len(shard))
    rows, begun = order[np.arange(count) % len(order)], count
    world, age = worlds[rows], np.zeros(count, dtype=np.int64)
    state = environment.begin(starts[rows], world)
    draws = uniform(torch.tensor(seed_for(seed, "actions")), steps * count).view(steps, count, 1)
    kept: list[list[np.ndarray]] = [[] for _ in range(6)]
    for draw in draws:
        seen = environment.observe(state)
        bounds = torch.softmax(logits(torch.from_numpy(seen)).cpu(), -1).cumsum(-1)[:, :-1]
        action = (draw >= bounds).sum(-1).numpy()
        state, reward, terminated = environment.step(state, action, world)
        age += 1
        ended = terminated | (age >= environment.horizon)
        for place, one in enumerate((seen, environment.observe(state), action, reward, terminated, ended)):
            kept[place].append(one)
        if ended.any():
            rows = order[(begun + np.arange(ended.sum())) % len(order)]
            world[ended], age[ended] = worlds[rows], 0
            state[ended] = environment.begin(starts[rows], world[ended])
            begun += len(rows)
    return Rollout(*(torch.from_numpy(np.stack(some)) for some in kept))


def advantages(
    found: Rollout, values: torch.Tensor, following: torch.Tensor, discount: float, mixing: float
) -> Tensors:
    """Return `advantage` and `return` [T, n] by generalised advantage estimation.

    δ_t = r_t + γ V(s_{t+1}) (1 - terminated) - V(s_t), A_t = δ_t + γ λ A_{t+1} within an episode, R_t = A_t + V(s_t).
    Where the time limit or the rollout's end cuts an episode, the value of its last observation stands for the rest.

    Args:
        found: the rollout.
        values: V(s_t) [T, n].
        following: V(s_{t+1}) of what followed before a next episode began [T, n].
        discount: γ.
        mixing: λ; 1 gives the discounted sum of rewards.

    Reference: Schulman et al. 2016, https://arxiv.org/abs/1506.02438, equations 11 to 16.
    """
    going, within = (~found.terminated).to(values.dtype), (~found.ended).to(values.dtype)
    errors = found.reward.to(values.dtype) + (discount * going * following) - values
    total, kept = torch.zeros_like(values[0]), []
    for error, inside in zip(errors.flip(0), within.flip(0), strict=True):
        total = error + (discount * mixing) * inside * total
        kept.append(total)
    advantage = torch.stack(kept[::-1])
    return {"advantage": advantage, "return": advantage + values}


def play(act: Act, environment: Environment, state: np.ndarray, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Play n episodes from start to end; return what each earned [n] and how many steps it took [n], float64.

    `act` maps observations [n, O] to actions [n].
    """
    state, earned, steps = environment.begin(state, world), np.zeros(len(state)), np.zeros(len(state))
    going = np.ones(len(state), dtype=bool)
    for _ in range(environment.horizon):
        action = act(torch.from_numpy(environment.observe(state))).cpu().numpy()
        after, reward, terminated = environment.step(state, action, world)
        state = np.where(going[:, None], after, state)
        earned, steps = earned + reward * going, steps + going
        going = going & ~terminated
        if not going.any():
            break
    return earned, steps
