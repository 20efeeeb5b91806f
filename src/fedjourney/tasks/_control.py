"""A policy that is learned from rollouts and judged by greedy episodes."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch.func import vmap

from fedjourney.batching import Batch, minibatches
from fedjourney.data import Examples
from fedjourney.environments import Environment
from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for
from fedjourney.stateless import Stateless
from fedjourney.tasks import MakeModel, Signature, initial_parameters, refuse_buffers
from fedjourney.tasks._episodes import advantages, hidden, play, rollout
from fedjourney.tensors import Tensors, placed

Algorithm: TypeAlias = Literal["reinforce", "a2c", "ppo"]
STEPS = "environment-steps"


@dataclass(frozen=True)
class Learning:
    """How a policy is learned from rollouts; see `control` for what each number means."""

    algorithm: Algorithm
    environments: int
    steps: int
    discount: float
    mixing: float
    clip: float
    epochs: int
    batch_size: int
    entropy: float
    value_weight: float


class Control:
    """Greedy returns, rollouts and the loss of a policy: logits and, where it has one, a value in the last place.

    Attributes:
        has_value: whether it has one.
        batch_size: steps in a minibatch.
        spent: `environment-steps` taken to train, since `metered`.
    """

    def __init__(
        self,
        make_model: MakeModel,
        signature: Signature,
        dtype: torch.dtype,
        environment: Environment,
        learning: Learning,
        episodes: int,
    ) -> None:
        self.signature, self.dtype, self.environment = signature, dtype, environment
        self.learning, self.batch_size, self.episodes = learning, learning.batch_size, episodes
        self._make_model = make_model
        with torch.device("meta"):
            self._model = make_model()
            refuse_buffers(self._model)
            self._call = Stateless(self._model)
            width = self._model(torch.empty(2, signature.features)).shape[-1]
        if width not in (signature.classes, signature.classes + 1):
            raise ConfigError(
                f"[model] control expects a logit for each of {signature.classes} actions, and at most a value "
                f"besides, got {width} outputs. Take policy or mlp."
            )
        self.has_value = width > signature.classes
        self.spent = {STEPS: 0.0}

    def metered(self) -> "Control":
        """Return this task with a meter of its own: `spent` counts the environment's steps in training."""
        other = copy.copy(self)
        other.spent = {STEPS: 0.0}
        return other

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""
        return initial_parameters(self._make_model, seed, self.dtype)

    def outputs(self, params: Tensors, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits [B, A] and values [B] (0 without a critic) of observations [B, O]."""
        found = self._call(params, observations.to(next(iter(params.values())).device, self.dtype))
        actions = self.signature.classes
        return found[..., :actions], found[..., actions] if self.has_value else torch.zeros_like(found[..., 0])

    def _logits(self, params: Tensors, observations: torch.Tensor) -> torch.Tensor:
        return self.outputs(params, observations)[0]

    def fitness(
        self, population: Tensors, shard: Examples, seed: int, build: Callable[[Tensors], Tensors] | None = None
    ) -> torch.Tensor:
        """Return the mean greedy return [M] of every candidate over the same episodes, of a seeded draw of starts."""
        members, count = len(next(iter(population.values()))), self.episodes
        rows = permutation(seed, len(shard))[np.arange(count) % len(shard)]
        state, world = (np.tile(numbers[rows], (members, 1)) for numbers in hidden(self.environment, shard))

        def one(candidate: Tensors, observations: torch.Tensor) -> torch.Tensor:
            return self._logits(candidate if build is None else build(candidate), observations)

        at_once = build is None and getattr(self._model, "populations", False)  # saves vmap's own time, most of it
        every = self._logits if at_once else vmap(one)

        def act(observations: torch.Tensor) -> torch.Tensor:
            return every(population, observations.view(members, count, -1)).argmax(-1).flatten()

        with torch.no_grad():
            earned, steps = play(act, self.environment, state, world)
        self.spent[STEPS] += float(steps.sum())
        return torch.from_numpy(earned.reshape(members, count).mean(1)).to(self.dtype)

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return float64 sums over one greedy episode a row; `returns` counts them by size [horizon + 1]."""
        with torch.no_grad():
            earned, steps = play(
                lambda seen: self.outputs(params, seen)[0].argmax(-1),
                self.environment,
                *hidden(self.environment, shard),
            )
        counted = np.bincount(np.abs(earned).astype(np.int64), minlength=self.environment.horizon + 1)
        good = earned >= self.environment.threshold
        sums = {"return": earned.sum(), "steps": steps.sum(), "solved": good.sum(), "episodes": len(shard)}
        found = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in sums.items()}
        return found | {"returns": torch.from_numpy(counted.astype(np.float64))}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `return` (the mean), `interquartile_mean`, `solved_share` and `steps` of an episode."""
        count, sign = float(sums["episodes"]), 1 if self.environment.threshold > 0 else -1
        if count == 0:
            return {}
        below = sums["returns"].cumsum(0).clamp(count / 4, 3 * count / 4)
        inner = below.diff(prepend=below.new_tensor([count / 4])) * torch.arange(len(below))
        return {
            "return": float(sums["return"]) / count,
            "interquartile_mean": sign * float(inner.sum()) / (count / 2),
            "solved_share": float(sums["solved"]) / count,
            "steps": float(sums["steps"]) / count,
        }

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return the greedy return in every world beside the world's numbers, the worst first."""
        _, numbers = hidden(self.environment, examples)
        unlike, place = np.unique(numbers, axis=0, return_inverse=True)
        lines = []
        for world, row in enumerate(unlike):
            some = torch.from_numpy(np.flatnonzero(place.reshape(-1) == world))
            told = self.summary(self.evaluate(params, examples.take(some)))
            lines.append((told["return"], f"{told['return']:9.2f}" + "".join(f"{number:10.3f}" for number in row)))
        heads = "".join(f"{name:>10}" for name in self.environment.standard)
        return {"greedy return in each world": "\n".join(["   return" + heads, *(line for _, line in sorted(lines))])}

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Act once with these parameters, and yield that rollout in `epochs` passes of minibatches."""
        with torch.no_grad():
            found = rollout(
                lambda seen: self.outputs(params, seen)[0],
                self.environment,
                shard,
                self.learning.environments,
                self.learning.steps,
                seed_for(seed, "rollout"),
            )
            logits, values = (t.cpu() for t in self.outputs(params, found.observation.flatten(0, 1)))
            following = self.outputs(params, found.following.flatten(0, 1))[1].cpu()
            shape, action = found.action.shape, found.action.flatten()
            learned = advantages(
                found, values.view(shape), following.view(shape), self.learning.discount, self.learning.mixing
            )
            advantage = learned["advantage"].flatten()
            y = {
                "action": action,
                "advantage": (advantage - advantage.mean()) / (advantage.std() + 1e-8),
                "return": learned["return"].flatten(),
                "log_probability": torch.log_softmax(logits, -1).gather(-1, action[:, None]).squeeze(-1),
            }
        self.spent[STEPS] += float(action.numel())
        device = next(iter(shard.x.values())).device  # worlds are computed on the CPU, steps wherever clients are
        x, y = placed({"observation": found.observation.flatten(0, 1)}, device), placed(y, device)
        for epoch in range(self.learning.epochs):
            yield from minibatches(x, y, self.batch_size, seed_for(seed, "epoch", epoch))

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean [] of -(gain + entropy H) + value_weight (V - R)²."""
        logits, values = self.outputs(params, batch.x["observation"])
        logs, y = torch.log_softmax(logits, -1), batch.y
        taken = logs.gather(-1, y["action"][:, None]).squeeze(-1)
        if self.learning.algorithm == "ppo":  # Schulman et al. 2017, equation 7
            ratio = (taken - y["log_probability"]).exp()
            gain = torch.minimum(
                ratio * y["advantage"], ratio.clamp(1 - self.learning.clip, 1 + self.learning.clip) * y["advantage"]
            )
        else:
            gain = taken * y["advantage"]
        spread, error = -(logs.exp() * logs).sum(-1), values - y["return"]
        losses = -gain - (self.learning.entropy * spread) + (self.learning.value_weight * (error * error))
        mask = batch.mask.to(losses.dtype)
        return (losses * mask).sum() / mask.sum().clamp(min=1)
