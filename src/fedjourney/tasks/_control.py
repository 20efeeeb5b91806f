"""A policy that is learned from rollouts and judged by greedy episodes."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch.func import vmap

from fedjourney.batching import Batch
from fedjourney.data import Examples
from fedjourney.environments import Environment
from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for
from fedjourney.stateless import Stateless
from fedjourney.tasks import MakeModel, Signature, refuse_buffers
from fedjourney.tasks._episodes import advantages, hidden, play, rollout
from fedjourney.tasks._policy_gradient import STEPS, Learning, PolicyGradient
from fedjourney.tensors import Tensors


class Control(PolicyGradient):
    """Greedy returns, rollouts and the loss of a policy: logits and, where it has one, a value in the last place.

    Attributes:
        has_value: whether it has one.
    """

    def __init__(
        self,
        make_model: MakeModel,
        signature: Signature,
        dtype: torch.dtype,
        environment: Environment,
        learning: Learning,
        environments: int,
        steps: int,
        episodes: int,
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__(make_model, dtype, learning)
        self.signature, self.environment = signature, environment
        self.environments, self.steps, self.episodes = environments, steps, episodes
        self.reward_scale = reward_scale
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
        """Return float64 sums over one greedy episode a row; `returns` counts them, rounded, over their span [R]."""
        with torch.no_grad():
            earned, steps = play(
                lambda seen: self.outputs(params, seen)[0].argmax(-1),
                self.environment,
                *hidden(self.environment, shard),
            )
        low, high = self.environment.span
        places = np.clip(np.rint(earned), low, high).astype(np.int64) - low
        counted = np.bincount(places, minlength=high - low + 1)
        good = earned >= self.environment.threshold
        sums = {"return": earned.sum(), "steps": steps.sum(), "solved": good.sum(), "episodes": len(shard)}
        found = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in sums.items()}
        return found | {"returns": torch.from_numpy(counted.astype(np.float64))}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `return` (the mean), `interquartile_mean`, `solved_share` and `steps` of an episode."""
        count, low = float(sums["episodes"]), self.environment.span[0]
        if count == 0:
            return {}
        below = sums["returns"].cumsum(0).clamp(count / 4, 3 * count / 4)
        inner = below.diff(prepend=below.new_tensor([count / 4])) * (low + torch.arange(len(below)))
        return {
            "return": float(sums["return"]) / count,
            "interquartile_mean": float(inner.sum()) / (count / 2),
            "solved_share": float(sums["solved"]) / count,
            "steps": float(sums["steps"]) / count,
        }

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return the greedy return in every world beside the world's numbers, the worst first."""
        _, numbers = hidden(self.environment, examples)
        unlike, place = np.unique(numbers, axis=0, return_inverse=True)
        lines = []
        names = list(self.environment.standard)
        wide = [max(10, len(name) + 2) for name in names]
        for world, row in enumerate(unlike):
            some = torch.from_numpy(np.flatnonzero(place.reshape(-1) == world))
            told = self.summary(self.evaluate(params, examples.take(some)))
            lines.append(
                (
                    told["return"],
                    f"{told['return']:9.2f}" + "".join(f"{number:{w}.3f}" for number, w in zip(row, wide, strict=True)),
                )
            )
        heads = "".join(f"{name:>{w}}" for name, w in zip(names, wide, strict=True))
        return {"greedy return in each world": "\n".join(["   return" + heads, *(line for _, line in sorted(lines))])}

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Act once with these parameters, and yield that rollout in `epochs` passes of minibatches."""
        with torch.no_grad():
            found = rollout(
                lambda seen: self.outputs(params, seen)[0],
                self.environment,
                shard,
                self.environments,
                self.steps,
                seed_for(seed, "rollout"),
            )
            found = replace(found, reward=self.reward_scale * found.reward)
            logits, values = (t.cpu() for t in self.outputs(params, found.observation.flatten(0, 1)))
            following = self.outputs(params, found.following.flatten(0, 1))[1].cpu()
            shape, action = found.action.shape, found.action.flatten()
            learned = advantages(
                found, values.view(shape), following.view(shape), self.learning.discount, self.learning.mixing
            )
            y = self.learned_from(logits, action, {name: tensor.flatten() for name, tensor in learned.items()})
        device = next(iter(shard.x.values())).device
        yield from self.passes({"observation": found.observation.flatten(0, 1)}, y, device, seed)

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean [] of the loss of each step."""
        losses = self.losses(*self.outputs(params, batch.x["observation"]), batch.y)
        mask = batch.mask.to(losses.dtype)
        return (losses * mask).sum() / mask.sum().clamp(min=1)
