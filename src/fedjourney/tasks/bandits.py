"""Bandits, by a policy that remembers."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch.func import vmap

from fedjourney import bandits as known
from fedjourney.batching import Batch
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for, uniform
from fedjourney.stateless import Stateless
from fedjourney.tasks import MakeModel, Signature, Task, refuse_buffers
from fedjourney.tasks._episodes import Rollout, advantages
from fedjourney.tasks._policy_gradient import STEPS, Algorithm, Learning, PolicyGradient, learning
from fedjourney.tensors import Tensors

Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Maps inputs [n, K + 2] and a state to outputs [n, K + 1] and the state after."""


class _Bandits(PolicyGradient):
    """Trials of T pulls of K arms: an input is which arm was pulled last, what it paid, whether the trial begins."""

    def __init__(
        self, make_model: MakeModel, signature: Signature, dtype: torch.dtype, learning: Learning, trials: int
    ) -> None:
        super().__init__(make_model, dtype, learning)
        self.signature, self.trials, self.arms = signature, trials, signature.classes - 1
        with torch.device("meta"):
            self._model = make_model()
        refuse_buffers(self._model)
        self._call = Stateless(self._model)
        self.rollouts = 1

    def _step(self, params: Tensors) -> Step:
        return lambda seen, state: self._call(params, seen, state)

    def _play(
        self, step: Step, state: torch.Tensor, rewards: np.ndarray, pick: Callable[[torch.Tensor, int], torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """Play all trials [n, T, K] side by side; return inputs [n, K + 2], outputs, arms and rewards [n] by pull."""
        count, pulls, arms = rewards.shape
        every, kept = np.arange(count), list[list[torch.Tensor]]()
        seen = torch.zeros(count, arms + 2, dtype=self.dtype)
        seen[:, -1] = 1
        for pull in range(pulls):
            outputs, state = step(seen.to(state.device), state)
            outputs = outputs.cpu()
            arm = pick(outputs[:, :arms], pull)
            paid = torch.from_numpy(rewards[every, pull, arm.numpy()]).to(self.dtype)
            kept.append([seen, outputs, arm, paid])
            seen = torch.cat([torch.nn.functional.one_hot(arm, arms), paid[:, None], torch.zeros(count, 1)], 1)
            seen = seen.to(self.dtype)
        return kept

    def _greedy(self, step: Step, state: torch.Tensor, rewards: np.ndarray) -> np.ndarray:
        """Return what is earned [n] by always pulling the arm with the largest logit."""
        with torch.no_grad():
            kept = self._play(step, state, rewards, lambda logits, pull: logits.argmax(-1))
        return torch.stack([paid for *_, paid in kept]).double().sum(0).numpy()

    def _begun(self, params: Tensors, count: int) -> torch.Tensor:
        """Return the state before anything was seen."""
        begin: Callable[[torch.Tensor], torch.Tensor] = self._model.begin  # type: ignore[assignment]  # a method of it
        like = torch.empty(count, self.arms + 2, device="meta")
        return torch.zeros(begin(like).shape, dtype=self.dtype, device=next(iter(params.values())).device)

    def fitness(
        self, population: Tensors, shard: Examples, seed: int, build: Callable[[Tensors], Tensors] | None = None
    ) -> torch.Tensor:
        """Return the mean greedy reward [M] of every candidate over the same trials, of a seeded draw."""
        members, count = len(next(iter(population.values()))), self.trials
        rows = permutation(seed, len(shard))[np.arange(count) % len(shard)]
        rewards = np.tile(_rewards(shard)[rows], (members, 1, 1))
        state = self._begun(population, count)
        state = state.expand(members, *state.shape)

        def one(candidate: Tensors, seen: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self._step(candidate if build is None else build(candidate))(seen, state)

        def every(seen: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            outputs, state = vmap(one)(population, seen.unflatten(0, (members, count)), state)
            return outputs.flatten(0, 1), state

        earned = self._greedy(every, state, rewards)
        self.spent[STEPS] += float(rewards.shape[0] * rewards.shape[1])
        return torch.from_numpy(earned.reshape(members, count).mean(1)).to(self.dtype)

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return float64 sums over a greedy trial for each row, and of what could be expected of them."""
        earned = self._greedy(self._step(params), self._begun(params, len(shard)), _rewards(shard))
        prior = shard.y["prior"].cpu().double()
        pulls = shard.y["rewards"].shape[1]
        sums = {
            "reward": float(earned.sum()),
            "optimum": float(shard.y["optimum"].double().sum()),
            "random": float((pulls * prior[:, 0] / prior.sum(1)).sum()),
            "trials": len(shard),
        }
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in sums.items()}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `bayes_share`, `reward` of a trial, the exact optimum and a random arm's expectation, its share."""
        count, best = float(sums["trials"]), float(sums["optimum"])
        if count == 0:
            return {}
        return {
            "bayes_share": float(sums["reward"]) / best,
            "reward": float(sums["reward"]) / count,
            "optimum": best / count,
            "random_share": float(sums["random"]) / best,
        }

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return what each rule earns in each family, on the same trials, beside the exact optimum."""
        prior, rewards = examples.y["prior"].numpy(), _rewards(examples)
        draws = uniform(torch.tensor(seed_for(0, "thompson")), rewards.size).double().numpy().reshape(rewards.shape)
        earned = {
            "learned": self._greedy(self._step(params), self._begun(params, len(examples)), rewards),
            "greedy": known.play(known.greedy(prior), rewards),
            "thompson": known.play(known.thompson(prior, draws * (1 - 2**-23) + 2**-24), rewards),
            "ucb1": known.play(known.upper_confidence, rewards),
            "one arm": rewards[:, :, 0].sum(1),
        }
        best = examples.y["optimum"].numpy()
        unlike, place = np.unique(prior, axis=0, return_inverse=True)
        rows = [(*pair, place.reshape(-1) == number) for number, pair in enumerate(unlike)]
        lines = ["   prior a         b   optimum" + "".join(f"{name:>10}" for name in earned)]
        for a, b, here in rows:
            lines.append(
                f"{a:10.3f}{b:10.3f}{best[here].mean():10.3f}"
                + "".join(f"{one[here].mean():10.3f}" for one in earned.values())
            )
        lines.append(
            f"{'share of the optimum':>20}{1:10.2%}"
            + "".join(f"{one.sum() / best.sum():10.2%}" for one in earned.values())
        )
        return {"reward of a trial in each family, by rule": "\n".join(lines)}

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Play trials once with these parameters, drawing arms, and yield them in `epochs` passes of minibatches."""
        order = permutation(seed_for(seed, "rollout"), len(shard))[np.arange(self.rollouts) % len(shard)]
        rewards = _rewards(shard)[order]
        count, pulls, arms = rewards.shape
        draws = uniform(torch.tensor(seed_for(seed, "actions")), pulls * count).view(pulls, count, 1)

        def drawn(logits: torch.Tensor, pull: int) -> torch.Tensor:
            return (draws[pull] >= torch.softmax(logits, -1).cumsum(-1)[:, :-1]).sum(-1)

        with torch.no_grad():
            kept = self._play(self._step(params), self._begun(params, count), rewards, drawn)
            seen, outputs, arm, paid = (torch.stack(some) for some in zip(*kept, strict=True))  # [T, n, …]
            values, over = outputs[..., arms], torch.zeros(pulls, count, dtype=torch.bool)
            over[-1] = True
            following = torch.cat([values[1:], values[:1]])  # after the last pull nothing follows
            found = advantages(
                Rollout(seen, seen, arm, paid, over, over),
                values,
                following,
                self.learning.discount,
                self.learning.mixing,
            )
            y = self.learned_from(outputs[..., :arms], arm, found)
        y = {name: tensor.transpose(0, 1) for name, tensor in y.items()}
        device = next(iter(shard.x.values())).device
        yield from self.passes({"history": seen.transpose(0, 1)}, y, device, seed)

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean [] over trials of the mean loss of their pulls."""
        outputs = self._call(params, batch.x["history"].to(self.dtype))
        losses = self.losses(outputs[..., : self.arms], outputs[..., self.arms], batch.y).mean(-1)
        mask = batch.mask.to(losses.dtype)
        return (losses * mask).sum() / mask.sum().clamp(min=1)


def _rewards(shard: Examples) -> np.ndarray:
    return shard.y["rewards"].cpu().numpy()


def bandits(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    algorithm: Algorithm = "ppo",
    trials: Annotated[int, Ge(1), Le(100_000)] = 100,
    discount: Annotated[float, Ge(0), Le(1)] = 1.0,
    mixing: Annotated[float, Ge(0), Le(1)] | None = None,
    clip: Annotated[float, Gt(0)] | None = None,
    epochs: Annotated[int, Ge(1), Le(10_000)] | None = None,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] | None = None,
    entropy: Annotated[float, Ge(0)] = 0.0,
    value_weight: Annotated[float, Ge(0)] = 0.5,
    episodes: Annotated[int, Ge(1), Le(100_000)] = 100,
) -> Task:
    """RL²: a recurrent policy that learns within a trial of a bandit (data `bandits`); its share of the Bayes optimum.

    The policy sees which arm it pulled last and what that paid, and whether a trial begins. Its hidden state is kept
    through the trial and forgotten after it: it is where the trial is learned, weights are where learning is learned.
    A pass of an update is one rollout of `trials` trials with arms drawn at random; evaluation and fitness pull the arm
    with the largest logit. Advantages are normalised over the client's rollout.

    Args:
        make_model: builds a model that answers after every input: a logit for each arm and a value.
        signature: an arm for each class, tables of rewards [pulls, arms] among the targets.
        dtype: of parameters.
        algorithm: "reinforce" takes the reward to the trial's end and the value as baseline, "a2c" and "ppo" mix n-step
            estimates; "ppo" clips, the others take one gradient step.
        trials: of a rollout, side by side.
        discount: γ.
        mixing: λ of generalised advantage estimation; default 0.3, of "reinforce" always 1.
        clip: of "ppo", how far the probability ratio may move; default 0.2.
        epochs: of "ppo", passes over one rollout; default 4.
        batch_size: of "ppo", trials in a minibatch; default 50.
        entropy: weight of the policy's entropy.
        value_weight: weight of the value's squared error.
        episodes: trials by which a strategy of evolution scores each candidate.

    Reference: Duan et al. 2016, RL²: Fast Reinforcement Learning via Slow Reinforcement Learning,
    https://arxiv.org/abs/1611.02779 (λ = 0.3); Wang et al. 2016, https://arxiv.org/abs/1611.05763.
    """
    shape = signature.outputs.get("rewards", ())
    if len(shape) != 2 or shape[1] != signature.classes or "optimum" not in signature.outputs:
        raise ConfigError(
            f"[task] bandits expects tables of rewards [pulls, arms], got targets {', '.join(signature.outputs)}. "
            'Take [data] name = "bandits".'
        )
    pulls, arms = shape
    whole = replace(signature, inputs={"history": (pulls, arms + 2)}, classes=arms + 1)
    with torch.device("meta"):
        remembers = hasattr(make_model(whole), "begin")
    if not remembers:
        raise ConfigError(
            "[model] bandits expects a model that answers after every pull, from a state that it keeps, got another. "
            'Take [model] name = "gru" with answers = "every".'
        )
    how = learning(
        algorithm, discount, mixing, clip, epochs, batch_size, entropy, value_weight,
        usual_mixing=0.3, usual_batch=50, rollout=trials,
    )  # fmt: skip
    task = _Bandits(partial(make_model, whole), whole, dtype, how, episodes)
    task.rollouts = trials
    return task
